/*
 * A JWKS document (RFC 7517 5) becomes a key set. Unknown members, kty and crv are passed over, as
 * the RFC wants; whatever says of itself that it is ours and is not right is refused by name.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "json_internal.h"
#include "keyset_internal.h"
#include "postern/identity/base64url.h"

#define DEPTH_MAX  16
#define NUMBER_MAX 4096 /* bytes of one decoded member; RSA is held to 512 later */

static struct pst_bytes text_of(const json_t *jwk, const char *name)
{
    const json_t *value = json_object_get(jwk, name);

    return json_is_string(value) ? pst_json_text(value) : (struct pst_bytes){0};
}

static bool is_text(const json_t *jwk, const char *name, struct pst_bytes want)
{
    return pst_bytes_equal(text_of(jwk, name), want);
}

static bool decode(const json_t *jwk, const char *name, unsigned char *out, size_t *len)
{
    struct pst_bytes text = text_of(jwk, name);

    return text.len > 0 && pst_base64url_decode(text, out, NUMBER_MAX, len);
}

/* Takes the builder; NULL when OpenSSL finds the parameters wrong (a point off the curve). */
static EVP_PKEY *from_params(OSSL_PARAM_BLD *builder, const char *type)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);

    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

static EVP_PKEY *read_rsa(const json_t *jwk)
{
    unsigned char n_raw[NUMBER_MAX], e_raw[NUMBER_MAX];
    size_t n_len, e_len;
    EVP_PKEY *pkey = NULL;

    if (!decode(jwk, "n", n_raw, &n_len) || !decode(jwk, "e", e_raw, &e_len))
        return NULL;
    BIGNUM *n = BN_bin2bn(n_raw, (int)n_len, NULL), *e = BN_bin2bn(e_raw, (int)e_len, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (n != NULL && e != NULL && builder != NULL && !BN_is_zero(n) && !BN_is_zero(e) &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        pkey = from_params(builder, "RSA");
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static EVP_PKEY *read_ec(const json_t *jwk)
{
    static const struct {
        const char *crv, *group;
        size_t bytes;
    } curves[] = {
        {"P-256", "prime256v1", 32}, {"P-384", "secp384r1", 48}, {"P-521", "secp521r1", 66}};
    unsigned char point[1 + 2 * NUMBER_MAX];
    size_t x_len, y_len, at = 0;
    struct pst_bytes crv = text_of(jwk, "crv");
    EVP_PKEY *pkey = NULL;

    while (at < 3 && !pst_bytes_equal(crv, pst_bytes_of(curves[at].crv, 5)))
        at++;
    if (at == 3 || !decode(jwk, "x", point + 1, &x_len) || x_len != curves[at].bytes ||
        !decode(jwk, "y", point + 1 + x_len, &y_len) || y_len != x_len)
        return NULL;
    point[0] = POINT_CONVERSION_UNCOMPRESSED;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (builder != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curves[at].group, 0) ==
            1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * x_len) ==
            1)
        pkey = from_params(builder, "EC");
    OSSL_PARAM_BLD_free(builder);
    return pkey;
}

static EVP_PKEY *read_okp(const json_t *jwk)
{
    unsigned char x[NUMBER_MAX];
    size_t len;

    if (!is_text(jwk, "crv", PST_LIT("Ed25519")) || !decode(jwk, "x", x, &len) || len != 32)
        return NULL;
    return EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, x, len);
}

/* Whether the first certificate, when there is one, holds this very key (RFC 7517 4.7). */
static bool certificate_fits(const json_t *jwk, const EVP_PKEY *pkey)
{
    const json_t *chain = json_object_get(jwk, "x5c");
    if (chain == NULL)
        return true;
    const json_t *first = json_is_array(chain) ? json_array_get(chain, 0) : NULL;
    if (!json_is_string(first) || json_string_length(first) > NUMBER_MAX * 2)
        return false;

    unsigned char der[NUMBER_MAX * 2];
    struct pst_bytes text = pst_json_text(first);
    int len = text.len == 0 || text.len % 4 != 0
                  ? -1
                  : EVP_DecodeBlock(der, (const unsigned char *)text.ptr, (int)text.len);
    const unsigned char *at = der;
    X509 *certificate =
        len <= 0 ? NULL : d2i_X509(NULL, &at, len); /* padding decodes to zeros behind it */
    const EVP_PKEY *own = certificate == NULL ? NULL : X509_get0_pubkey(certificate);
    bool fits = own != NULL && EVP_PKEY_eq(pkey, own) == 1;

    X509_free(certificate);
    return fits;
}

static bool has_private_members(const json_t *jwk)
{
    static const char *const names[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (json_object_get(jwk, names[i]) != NULL)
            return true;
    return false;
}

/* What the key says of itself leaves of the algorithms of its type. */
static uint32_t narrow(const json_t *jwk, uint32_t algs)
{
    const json_t *alg = json_object_get(jwk, "alg"), *use = json_object_get(jwk, "use");
    const json_t *ops = json_object_get(jwk, "key_ops"), *op;
    bool may_verify = ops == NULL;
    size_t i;

    if (use != NULL && !is_text(jwk, "use", PST_LIT("sig")))
        return 0;
    json_array_foreach(ops, i, op) may_verify =
        may_verify || (json_is_string(op) && pst_bytes_equal(pst_json_text(op), PST_LIT("verify")));
    if (!may_verify)
        return 0;
    if (alg == NULL)
        return algs;
    /* RFC 7520's keys, and some servers after it, call ES512 by the size of its curve. */
    if (is_text(jwk, "alg", PST_LIT("ES521")))
        return algs & PST_ALG_BIT(PST_ALG_ES512);
    return algs & PST_ALG_BIT(pst_alg_find(text_of(jwk, "alg"))) & ~PST_ALG_BIT(PST_ALG_UNKNOWN);
}

static EVP_PKEY *read_key(const json_t *jwk)
{
    if (is_text(jwk, "kty", PST_LIT("RSA")))
        return read_rsa(jwk);
    if (is_text(jwk, "kty", PST_LIT("EC")))
        return read_ec(jwk);
    if (is_text(jwk, "kty", PST_LIT("OKP")))
        return read_okp(jwk);
    return NULL; /* oct among them: a secret in a public document is none */
}

static enum pst_status load_key(struct pst_key *key, const json_t *jwk,
                                struct pst_keyset_report *report)
{
    const json_t *kid = json_object_get(jwk, "kid");

    if (json_is_string(kid) && json_string_length(kid) <= PST_KEY_KID_MAX) {
        if (pst_key_set_kid(key, pst_json_text(kid)) != PST_OK)
            return PST_E_NOMEM;
    } else if (kid != NULL || !json_is_object(jwk)) {
        pst_key_refuse(key, PST_ID_BAD_KEY);
        return PST_OK;
    }
    if (has_private_members(jwk)) {
        report->private_published = true;
        pst_key_refuse(key, PST_ID_BAD_KEY);
        return PST_OK;
    }
    EVP_PKEY *pkey = read_key(jwk);
    if (pkey == NULL) {
        pst_key_refuse(key, PST_ID_BAD_KEY);
        return PST_OK;
    }
    pst_key_adopt(key, pkey);
    if (!key->refused && !certificate_fits(jwk, key->pkey))
        pst_key_refuse(key, PST_ID_BAD_KEY);
    key->algs = narrow(jwk, key->algs);
    return PST_OK;
}

/* Which of two keys a token means must not depend on their order: neither. */
static void refuse_twins(struct pst_keyset *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        for (uint32_t k = i + 1; k < set->count; k++)
            if (set->keys[i].kid.len > 0 && pst_bytes_equal(set->keys[i].kid, set->keys[k].kid)) {
                pst_key_refuse(&set->keys[i], PST_ID_BAD_KEY);
                pst_key_refuse(&set->keys[k], PST_ID_BAD_KEY);
            }
}

static void count_keys(const struct pst_keyset *set, struct pst_keyset_report *report)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct pst_key *key = &set->keys[i];
        if (key->algs != 0)
            report->usable++;
        if (!key->refused)
            continue;
        if (report->refused++ == 0)
            (void)snprintf(report->first_refusal, sizeof(report->first_refusal), "key %u: %s", i,
                           pst_identity_reason_name(key->reason));
    }
}

static enum pst_status load_keys(const json_t *keys, struct pst_keyset **out,
                                 struct pst_keyset_report *report, struct pst_error *error)
{
    size_t count = json_array_size(keys);

    if (count > PST_KEYSET_KEYS_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "more than %d keys", PST_KEYSET_KEYS_MAX);
    struct pst_keyset *set = pst_keyset_new((uint32_t)count);
    if (set == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    for (uint32_t i = 0; i < set->count; i++)
        if (load_key(&set->keys[i], json_array_get(keys, i), report) != PST_OK) {
            pst_keyset_release(set);
            return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
        }
    refuse_twins(set);
    count_keys(set, report);
    if (report->usable == 0) {
        pst_keyset_release(set);
        return pst_error_set(error, PST_E_INVALID, NULL, "no key in it can verify anything%s%s",
                             report->refused > 0 ? "; " : "", report->first_refusal);
    }
    *out = set;
    return PST_OK;
}

enum pst_status pst_keyset_from_jwks(struct pst_bytes text, struct pst_keyset **out,
                                     struct pst_keyset_report *report, struct pst_error *error)
{
    struct pst_keyset_report own = {0};
    enum pst_status status;

    *out = NULL;
    if (text.len > PST_KEYSET_BYTES_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "more than %u bytes", PST_KEYSET_BYTES_MAX);
    json_t *document = pst_json_object(text, DEPTH_MAX);
    const json_t *keys = document == NULL ? NULL : json_object_get(document, "keys");
    if (json_is_array(keys))
        status = load_keys(keys, out, &own, error);
    else
        status = pst_error_set(error, PST_E_INVALID, NULL, "no JSON object with an array `keys`");
    json_decref(document);
    ERR_clear_error();
    if (report != NULL)
        *report = own;
    return status;
}
