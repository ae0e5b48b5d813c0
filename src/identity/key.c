/*
 * What a public key must be before it may verify anything, whichever file or document it came from.
 */
#include "keyset_internal.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "postern/base/buf.h"
#include "postern/identity/base64url.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
#define RSA_E_MIN    3  /* small ones are in use, and sound where padding is checked exactly */
#define RSA_E_BITS   32 /* a longer one only costs time */

struct pst_keyset *pst_keyset_new(uint32_t count)
{
    struct pst_keyset *set = calloc(1, sizeof(*set) + count * sizeof(set->keys[0]));

    if (set != NULL) {
        atomic_init(&set->refs, 1);
        set->count = count;
    }
    return set;
}

enum pst_status pst_key_set_kid(struct pst_key *key, struct pst_bytes kid)
{
    if (kid.len == 0)
        return PST_OK;
    char *copy = malloc(kid.len);
    if (copy == NULL)
        return PST_E_NOMEM;
    memcpy(copy, kid.ptr, kid.len);
    key->kid = pst_bytes_of(copy, kid.len);
    return PST_OK;
}

void pst_key_refuse(struct pst_key *key, enum pst_identity_reason reason)
{
    EVP_PKEY_free(key->pkey);
    key->pkey = NULL;
    key->type_algs = key->algs = 0;
    key->refused = true;
    key->reason = reason;
    ERR_clear_error();
}

/* Keys of the library behind CVE-2017-15361 have primes of the form k*M + (65537^a mod M): modulo
 * each small prime their modulus lies in the group that 65537 generates. A random modulus does so
 * for all of these with a chance far below one in a million. */
static bool has_roca_fingerprint(const BIGNUM *n)
{
    static const unsigned char primes[] = {
        3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};

    for (size_t i = 0; i < sizeof(primes); i++) {
        unsigned p = primes[i], x = 1;
        unsigned want = (unsigned)BN_mod_word(n, p);
        do {
            x = x * 65537u % p;
        } while (x != want && x != 1);
        if (x != want)
            return false;
    }
    return true;
}

/* One member of the JWK in its canonical form; -1 pads nothing. */
static void put_number(struct pst_buf *b, const BIGNUM *n, int bytes)
{
    unsigned char raw[RSA_BITS_MAX / 8];

    if (bytes < 0)
        bytes = BN_num_bytes(n);
    if (bytes > (int)sizeof(raw) || BN_bn2binpad(n, raw, bytes) != bytes) {
        b->full = true;
        return;
    }
    pst_base64url_put(b, pst_bytes_of(raw, (size_t)bytes));
}

static bool digest(struct pst_key *key, const struct pst_buf *b)
{
    unsigned len = 0;

    return !b->full && EVP_Digest(b->data, b->len, key->thumbprint, &len, EVP_sha256(), NULL) == 1;
}

static bool adopt_rsa(struct pst_key *key, EVP_PKEY *pkey)
{
    BIGNUM *n = NULL, *e = NULL;
    char text[1024];
    struct pst_buf b = pst_buf_of(text, sizeof(text));
    bool good = false;

    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) != 1 ||
        EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) != 1) {
        key->reason = PST_ID_BAD_KEY;
    } else if (BN_num_bits(n) > RSA_BITS_MAX || !BN_is_odd(n) || !BN_is_odd(e) ||
               BN_num_bits(e) > RSA_E_BITS || BN_get_word(e) < RSA_E_MIN) {
        key->reason = PST_ID_BAD_KEY;
    } else if (BN_num_bits(n) < RSA_BITS_MIN || has_roca_fingerprint(n)) {
        key->reason = PST_ID_WEAK_KEY;
    } else {
        pst_buf_lit(&b, "{\"e\":\"");
        put_number(&b, e, -1);
        pst_buf_lit(&b, "\",\"kty\":\"RSA\",\"n\":\"");
        put_number(&b, n, -1);
        pst_buf_lit(&b, "\"}");
        key->type_algs = PST_ALGS_RSA;
        key->bytes = (uint32_t)BN_num_bytes(n);
        good = digest(key, &b);
    }
    BN_free(n);
    BN_free(e);
    return good;
}

struct curve {
    const char *group, *crv;
    uint32_t bytes;
    enum pst_alg alg;
};

static const struct curve curves[] = {
    {"prime256v1", "P-256", 32, PST_ALG_ES256},
    {"secp384r1", "P-384", 48, PST_ALG_ES384},
    {"secp521r1", "P-521", 66, PST_ALG_ES512},
};

static bool thumb_ec(struct pst_key *key, EVP_PKEY *pkey, const struct curve *curve)
{
    BIGNUM *x = NULL, *y = NULL;
    char text[320];
    struct pst_buf b = pst_buf_of(text, sizeof(text));
    bool good = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
                EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1;

    if (good) {
        pst_buf_lit(&b, "{\"crv\":\"");
        pst_buf_put(&b, pst_bytes_of(curve->crv, 5));
        pst_buf_lit(&b, "\",\"kty\":\"EC\",\"x\":\"");
        put_number(&b, x, (int)curve->bytes);
        pst_buf_lit(&b, "\",\"y\":\"");
        put_number(&b, y, (int)curve->bytes);
        pst_buf_lit(&b, "\"}");
        good = digest(key, &b);
    }
    BN_free(x);
    BN_free(y);
    return good;
}

static bool adopt_ec(struct pst_key *key, EVP_PKEY *pkey)
{
    char group[32];
    size_t len = 0;
    EVP_PKEY_CTX *ctx = NULL;
    const struct curve *curve = NULL;

    key->reason = PST_ID_BAD_KEY;
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1)
        return false;
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
        if (pst_bytes_equal(pst_bytes_of(group, len),
                            pst_bytes_of(curves[i].group, strlen(curves[i].group))))
            curve = &curves[i];
    if (curve == NULL || (ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL)) == NULL)
        return false;

    bool good = EVP_PKEY_public_check(ctx) == 1; /* on the curve, not infinity, right order */
    EVP_PKEY_CTX_free(ctx);
    key->type_algs = PST_ALG_BIT(curve->alg);
    key->bytes = curve->bytes;
    return good && thumb_ec(key, pkey, curve);
}

/* Points whose order divides 8 verify what nobody signed; an encoding of y >= p has a twin. */
static bool is_weak_point(const unsigned char raw[32])
{
    static const unsigned char small[3][32] = {
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
         0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
         0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
         0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
         0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    };
    unsigned char y[32];
    unsigned middle_and = 0xff, middle_or = 0;

    memcpy(y, raw, sizeof(y));
    y[31] &= 0x7f; /* the sign of x */
    for (size_t i = 0; i < 3; i++)
        if (memcmp(y, small[i], sizeof(y)) == 0)
            return true;
    for (size_t i = 1; i < 31; i++) {
        middle_and &= y[i];
        middle_or |= y[i];
    }
    if (middle_or == 0 && y[31] == 0 && y[0] <= 1)
        return true;                                            /* y = 0 and y = 1 */
    return middle_and == 0xff && y[31] == 0x7f && y[0] >= 0xed; /* y >= p */
}

static bool adopt_ed25519(struct pst_key *key, EVP_PKEY *pkey)
{
    unsigned char raw[32];
    size_t len = sizeof(raw);
    char text[128];
    struct pst_buf b = pst_buf_of(text, sizeof(text));

    key->reason = PST_ID_BAD_KEY;
    if (EVP_PKEY_get_raw_public_key(pkey, raw, &len) != 1 || len != sizeof(raw) ||
        is_weak_point(raw))
        return false;
    pst_buf_lit(&b, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
    pst_base64url_put(&b, pst_bytes_of(raw, sizeof(raw)));
    pst_buf_lit(&b, "\"}");
    key->type_algs = PST_ALG_BIT(PST_ALG_EDDSA);
    return digest(key, &b);
}

void pst_key_adopt(struct pst_key *key, EVP_PKEY *pkey)
{
    bool good = false;

    key->pkey = pkey;
    key->reason = PST_ID_BAD_KEY;
    if (EVP_PKEY_is_a(pkey, "RSA"))
        good = adopt_rsa(key, pkey);
    else if (EVP_PKEY_is_a(pkey, "EC"))
        good = adopt_ec(key, pkey);
    else if (EVP_PKEY_is_a(pkey, "ED25519"))
        good = adopt_ed25519(key, pkey);
    key->algs = key->type_algs;
    if (!good)
        pst_key_refuse(key, key->reason);
}
