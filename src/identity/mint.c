#include "postern/identity/mint.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include "json_internal.h"
#include "keyset_internal.h"
#include "postern/identity/base64url.h"

#define SIGNATURE_MAX 1024
#define TOKEN_MAX     65536

static enum pst_status no_memory(struct pst_error *error)
{
    return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
}

static const EVP_MD *md_of(enum pst_alg alg)
{
    unsigned bytes = pst_alg_hash_bytes(alg);

    return bytes == 32 ? EVP_sha256() : bytes == 48 ? EVP_sha384() : EVP_sha512();
}

static EVP_PKEY *read_private(struct pst_bytes pem)
{
    BIO *bio = pem.len == 0 || pem.len > PST_KEYSET_BYTES_MAX
                   ? NULL
                   : BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *pkey = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

    BIO_free(bio);
    ERR_clear_error();
    return pkey;
}

/* --- signing --- */

/* DER SEQUENCE { r, s } as r || s of the curve's width. */
static bool to_raw(const unsigned char *der, size_t der_len, int width, unsigned char *out,
                   size_t *len)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    bool good = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, width) == width &&
                BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + width, width) == width;

    *len = 2 * (size_t)width;
    ECDSA_SIG_free(sig);
    return good;
}

static bool set_padding(EVP_PKEY_CTX *ctx, enum pst_alg alg)
{
    bool pss = alg == PST_ALG_PS256 || alg == PST_ALG_PS384 || alg == PST_ALG_PS512;

    if (!pst_alg_in(PST_ALGS_RSA, alg))
        return true;
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) != 1)
        return false;
    return !pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static bool sign_with(EVP_PKEY *pkey, enum pst_alg alg, struct pst_bytes message,
                      unsigned char *out, size_t *len)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL; /* md's */
    unsigned char der[SIGNATURE_MAX];
    size_t der_len = sizeof(der);
    int width = alg == PST_ALG_ES256   ? 32
                : alg == PST_ALG_ES384 ? 48
                : alg == PST_ALG_ES512 ? 66
                                       : 0;
    bool good =
        md != NULL &&
        EVP_DigestSignInit(md, &ctx, alg == PST_ALG_EDDSA ? NULL : md_of(alg), NULL, pkey) == 1 &&
        set_padding(ctx, alg) &&
        EVP_DigestSign(md, der, &der_len, (const unsigned char *)message.ptr, message.len) == 1;

    EVP_MD_CTX_free(md);
    if (!good)
        return false;
    if (width > 0)
        return to_raw(der, der_len, width, out, len);
    memcpy(out, der, der_len);
    *len = der_len;
    return true;
}

/* Whether the private key is of the algorithm's type: the same judgement as of a public key. */
static bool fits(EVP_PKEY *pkey, enum pst_alg alg)
{
    struct pst_key key = {0};

    if (EVP_PKEY_up_ref(pkey) != 1)
        return false;
    pst_key_adopt(&key, pkey);
    bool good = pst_alg_in(key.algs, alg);
    EVP_PKEY_free(key.pkey);
    return good;
}

static bool sign(const struct pst_mint_key *key, struct pst_bytes message, unsigned char *out,
                 size_t *len)
{
    if (pst_alg_in(PST_ALGS_HS, key->alg)) {
        unsigned n = 0;
        if (key->secret.len < pst_alg_hash_bytes(key->alg) ||
            key->secret.len > PST_KEYSET_BYTES_MAX ||
            HMAC(md_of(key->alg), key->secret.ptr, (int)key->secret.len,
                 (const unsigned char *)message.ptr, message.len, out, &n) == NULL)
            return false;
        *len = n;
        return true;
    }
    EVP_PKEY *pkey = read_private(key->pem);
    bool good =
        pkey != NULL && fits(pkey, key->alg) && sign_with(pkey, key->alg, message, out, len);

    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return good;
}

enum pst_status pst_mint_raw(const struct pst_mint_key *key, struct pst_bytes header,
                             struct pst_bytes payload, struct pst_arena *arena,
                             struct pst_bytes *token)
{
    unsigned char signature[SIGNATURE_MAX];
    size_t len = 0;

    *token = (struct pst_bytes){0};
    if (header.len > TOKEN_MAX || payload.len > TOKEN_MAX)
        return PST_E_LIMIT;
    size_t cap = (header.len + payload.len + SIGNATURE_MAX) / 3 * 4 + 16;
    char *text = pst_arena_alloc(arena, cap);
    if (text == NULL)
        return PST_E_NOMEM;
    struct pst_buf b = pst_buf_of(text, cap);
    pst_base64url_put(&b, header);
    pst_buf_char(&b, '.');
    pst_base64url_put(&b, payload);
    if (!sign(key, pst_buf_bytes(&b), signature, &len))
        return PST_E_INVALID;
    pst_buf_char(&b, '.');
    pst_base64url_put(&b, pst_bytes_of(signature, len));
    if (b.full)
        return PST_E_LIMIT;
    *token = pst_buf_bytes(&b);
    return PST_OK;
}

/* --- claims --- */

static bool set_text(json_t *object, const char *name, struct pst_bytes text)
{
    return text.len == 0 ||
           json_object_set_new(object, name, json_stringn(text.ptr, text.len)) == 0;
}

static bool set_groups(json_t *claims, const struct pst_mint_claims *c)
{
    if (c->groups_count == 0)
        return true;
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->groups_count; i++)
        if (json_array_append_new(list, json_stringn(c->groups[i].ptr, c->groups[i].len)) != 0) {
            json_decref(list);
            return false;
        }
    return json_object_set_new(claims, "groups", list) == 0;
}

/* Members of the extra object; PST_E_EXISTS when one is set already. */
static enum pst_status add_extra(json_t *claims, struct pst_bytes text)
{
    const char *name;
    json_t *value;

    if (text.len == 0)
        return PST_OK;
    json_t *extra = pst_json_object(text, 32);
    if (extra == NULL)
        return PST_E_INVALID;
    enum pst_status status = PST_OK;
    json_object_foreach(extra, name, value)
    {
        if (json_object_get(claims, name) != NULL)
            status = PST_E_EXISTS;
        else if (json_object_set(claims, name, value) != 0)
            status = PST_E_NOMEM;
        if (status != PST_OK)
            break;
    }
    json_decref(extra);
    return status;
}

static json_t *build_claims(const struct pst_mint_claims *c, enum pst_status *status)
{
    json_t *claims = json_object();
    bool good =
        set_text(claims, "iss", c->issuer) && set_text(claims, "sub", c->subject) &&
        set_text(claims, "aud", c->audience) && set_text(claims, "jti", c->jti) &&
        set_text(claims, "email", c->email) && set_groups(claims, c) &&
        json_object_set_new(claims, "iat", json_integer(c->iat_s)) == 0 &&
        json_object_set_new(claims, "nbf", json_integer(c->iat_s)) == 0 &&
        json_object_set_new(claims, "exp", json_integer(c->exp_s)) == 0 &&
        (c->email.len == 0 || json_object_set_new(claims, "email_verified", json_true()) == 0);

    *status = good ? add_extra(claims, c->extra_json) : PST_E_INVALID; /* a text that is no UTF-8 */
    return claims;
}

/* JSON text in the arena. */
static enum pst_status dump(const json_t *value, size_t flags, struct pst_arena *arena,
                            struct pst_bytes *out)
{
    char *text = json_dumps(value, flags);
    if (text == NULL)
        return PST_E_NOMEM;
    enum pst_status status = pst_arena_copy(arena, pst_bytes_of(text, strlen(text)), out);
    free(text);
    return status;
}

static enum pst_status refuse_claims(struct pst_error *error, enum pst_status status)
{
    return pst_error_set(error, status, NULL,
                         status == PST_E_EXISTS ? "an extra claim names one that is set already"
                                                : "the claims are no JSON that can be written");
}

enum pst_status pst_mint_check(const struct pst_mint_claims *claims, struct pst_error *error)
{
    enum pst_status status;

    json_decref(build_claims(claims, &status));
    return status == PST_OK ? PST_OK : refuse_claims(error, status);
}

enum pst_status pst_mint_token(const struct pst_mint_key *key, const struct pst_mint_claims *claims,
                               struct pst_arena *arena, struct pst_bytes *token,
                               struct pst_error *error)
{
    struct pst_bytes header_text, payload_text;
    enum pst_status status;
    json_t *payload = build_claims(claims, &status);
    json_t *header = json_pack("{s:s,s:s}", "alg", pst_alg_name(key->alg), "typ", "JWT");

    *token = (struct pst_bytes){0};
    if (status == PST_OK && (header == NULL || !set_text(header, "kid", key->kid)))
        status = PST_E_INVALID;
    if (status == PST_OK)
        status = dump(header, JSON_COMPACT, arena, &header_text);
    if (status == PST_OK)
        status = dump(payload, JSON_COMPACT, arena, &payload_text);
    json_decref(header);
    json_decref(payload);
    if (status != PST_OK)
        return refuse_claims(error, status);
    status = pst_mint_raw(key, header_text, payload_text, arena, token);
    if (status == PST_E_INVALID)
        return pst_error_set(error, status, NULL,
                             "%s: the key does not fit it, or is no private key in PEM",
                             pst_alg_name(key->alg));
    return status == PST_OK ? PST_OK
                            : pst_error_set(error, status, NULL, "%s", pst_status_name(status));
}

/* --- keys --- */

static EVP_PKEY *generate(enum pst_alg alg)
{
    if (pst_alg_in(PST_ALGS_RSA, alg))
        return EVP_RSA_gen(2048);
    switch (alg) {
    case PST_ALG_ES256:
        return EVP_EC_gen("prime256v1");
    case PST_ALG_ES384:
        return EVP_EC_gen("secp384r1");
    case PST_ALG_ES512:
        return EVP_EC_gen("secp521r1");
    case PST_ALG_EDDSA:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case PST_ALG_UNKNOWN:
    case PST_ALG_RS256:
    case PST_ALG_RS384:
    case PST_ALG_RS512:
    case PST_ALG_PS256:
    case PST_ALG_PS384:
    case PST_ALG_PS512:
    case PST_ALG_HS256:
    case PST_ALG_HS384:
    case PST_ALG_HS512:
        break;
    }
    return NULL;
}

static void put_bn(struct pst_buf *b, EVP_PKEY *pkey, const char *param, int width)
{
    unsigned char raw[PST_KEY_KID_MAX];
    BIGNUM *n = NULL;

    if (EVP_PKEY_get_bn_param(pkey, param, &n) != 1) {
        b->full = true;
        return;
    }
    if (width == 0)
        width = BN_num_bytes(n);
    if (width > (int)sizeof(raw) || BN_bn2binpad(n, raw, width) != width)
        b->full = true;
    else
        pst_base64url_put(b, pst_bytes_of(raw, (size_t)width));
    BN_free(n);
}

/* The members of the public key, from "kty" on. */
static void put_public(struct pst_buf *b, EVP_PKEY *pkey, enum pst_alg alg)
{
    unsigned char raw[32];
    size_t len = sizeof(raw);
    int width = alg == PST_ALG_ES256 ? 32 : alg == PST_ALG_ES384 ? 48 : 66;

    if (pst_alg_in(PST_ALGS_RSA, alg)) {
        pst_buf_lit(b, "\"kty\":\"RSA\",\"n\":\"");
        put_bn(b, pkey, OSSL_PKEY_PARAM_RSA_N, 0);
        pst_buf_lit(b, "\",\"e\":\"");
        put_bn(b, pkey, OSSL_PKEY_PARAM_RSA_E, 0);
    } else if (alg == PST_ALG_EDDSA) {
        pst_buf_lit(b, "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"");
        if (EVP_PKEY_get_raw_public_key(pkey, raw, &len) == 1)
            pst_base64url_put(b, pst_bytes_of(raw, len));
        else
            b->full = true;
    } else {
        pst_buf_lit(b, "\"kty\":\"EC\",\"crv\":\"P-");
        pst_buf_u64(b, alg == PST_ALG_ES512 ? 521 : (uint64_t)width * 8);
        pst_buf_lit(b, "\",\"x\":\"");
        put_bn(b, pkey, OSSL_PKEY_PARAM_EC_PUB_X, width);
        pst_buf_lit(b, "\",\"y\":\"");
        put_bn(b, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, width);
    }
    pst_buf_lit(b, "\"");
}

static enum pst_status name_key(EVP_PKEY *pkey, struct pst_bytes given, struct pst_arena *arena,
                                struct pst_bytes *kid)
{
    char text[64];
    struct pst_buf b = pst_buf_of(text, sizeof(text));
    struct pst_key key = {0};

    if (given.len > 0)
        return pst_arena_copy(arena, given, kid);
    if (EVP_PKEY_up_ref(pkey) != 1)
        return PST_E_NOMEM;
    pst_key_adopt(&key, pkey);
    pst_base64url_put(&b, pst_bytes_of(key.thumbprint, 12)); /* 96 bits name it well enough */
    bool refused = key.refused;
    EVP_PKEY_free(key.pkey);
    return refused ? PST_E_INVALID : pst_arena_copy(arena, pst_buf_bytes(&b), kid);
}

static enum pst_status document(EVP_PKEY *pkey, enum pst_alg alg, struct pst_bytes kid_in,
                                struct pst_arena *arena, struct pst_bytes *jwks,
                                struct pst_bytes *kid, struct pst_error *error)
{
    size_t cap = 2048 + kid_in.len * 6;
    char *text = pst_arena_alloc(arena, cap);

    if (text == NULL)
        return no_memory(error);
    if (!fits(pkey, alg))
        return pst_error_set(error, PST_E_INVALID, NULL, "%s: the key does not fit it",
                             pst_alg_name(alg));
    enum pst_status status = name_key(pkey, kid_in, arena, kid);
    if (status != PST_OK)
        return pst_error_set(error, status, NULL, "the key cannot be used");
    struct pst_buf b = pst_buf_of(text, cap);
    pst_buf_lit(&b, "{\"keys\":[{");
    put_public(&b, pkey, alg);
    pst_buf_lit(&b, ",\"alg\":\"");
    pst_buf_put(&b, pst_bytes_of(pst_alg_name(alg), 5));
    pst_buf_lit(&b, "\",\"use\":\"sig\",\"kid\":");
    pst_buf_json(&b, *kid);
    pst_buf_lit(&b, "}]}\n");
    *jwks = pst_buf_bytes(&b);
    return b.full ? pst_error_set(error, PST_E_INVALID, NULL, "the key cannot be written") : PST_OK;
}

enum pst_status pst_mint_jwks(struct pst_bytes pem, enum pst_alg alg, struct pst_bytes kid_in,
                              struct pst_arena *arena, struct pst_bytes *jwks,
                              struct pst_bytes *kid, struct pst_error *error)
{
    *jwks = *kid = (struct pst_bytes){0};
    EVP_PKEY *pkey = read_private(pem);
    if (pkey == NULL)
        return pst_error_set(error, PST_E_INVALID, NULL, "no PEM private key in it");
    enum pst_status status = document(pkey, alg, kid_in, arena, jwks, kid, error);
    EVP_PKEY_free(pkey);
    return status;
}

static enum pst_status write_private(EVP_PKEY *pkey, struct pst_arena *arena, struct pst_bytes *pem,
                                     struct pst_error *error)
{
    BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    char *text = NULL;
    enum pst_status status = PST_E_NOMEM;

    if (bio != NULL && PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
        long len = BIO_get_mem_data(bio, &text);
        status = pst_arena_copy(arena, pst_bytes_of(text, (size_t)len), pem);
    }
    BIO_free(bio);
    return status == PST_OK ? PST_OK : no_memory(error);
}

enum pst_status pst_mint_key_new(enum pst_alg alg, struct pst_arena *arena, struct pst_bytes *pem,
                                 struct pst_bytes *jwks, struct pst_bytes *kid,
                                 struct pst_error *error)
{
    *pem = *jwks = *kid = (struct pst_bytes){0};
    EVP_PKEY *pkey = generate(alg);
    if (pkey == NULL)
        return pst_error_set(error, PST_E_INVALID, NULL, "%s has no key pair", pst_alg_name(alg));
    enum pst_status status = document(pkey, alg, (struct pst_bytes){0}, arena, jwks, kid, error);
    if (status == PST_OK)
        status = write_private(pkey, arena, pem, error);
    EVP_PKEY_free(pkey);
    return status;
}

/* --- looking --- */

static enum pst_status show(struct pst_bytes part, struct pst_arena *arena, struct pst_bytes *out,
                            struct pst_error *error)
{
    size_t cap = pst_base64url_bytes(part.len), len;
    char *raw = pst_arena_alloc(arena, cap);

    if (raw == NULL)
        return no_memory(error);
    if (!pst_base64url_decode(part, raw, cap, &len))
        return pst_error_set(error, PST_E_INVALID, NULL, "a part is no base64url");
    json_t *object = pst_json_object(pst_bytes_of(raw, len), 32);
    if (object == NULL)
        return pst_error_set(error, PST_E_INVALID, NULL, "a part is no JSON object");
    enum pst_status status = dump(object, JSON_INDENT(2) | JSON_ENSURE_ASCII, arena, out);
    json_decref(object);
    return status;
}

enum pst_status pst_mint_inspect(struct pst_bytes token, struct pst_arena *arena,
                                 struct pst_bytes *header, struct pst_bytes *payload,
                                 struct pst_error *error)
{
    size_t first = pst_bytes_find(token, '.');

    *header = *payload = (struct pst_bytes){0};
    if (token.len > TOKEN_MAX || first == token.len)
        return pst_error_set(error, PST_E_INVALID, NULL, "no token in compact form");
    struct pst_bytes rest = pst_bytes_from(token, first + 1);
    enum pst_status status = show(pst_bytes_of(token.ptr, first), arena, header, error);
    return status == PST_OK
               ? show(pst_bytes_of(rest.ptr, pst_bytes_find(rest, '.')), arena, payload, error)
               : status;
}
