#include "postern/identity/signature.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include "keyset_internal.h"
#include "postern/base/secret.h"

enum { SHA256, SHA384, SHA512, HASHES };

struct pst_signature {
    EVP_MD_CTX *ctx;    /* for hashing, and for Ed25519 */
    EVP_MD *md[HASHES]; /* fetched once: a fetch takes locks and costs as much as the hash */
};

enum pst_status pst_signature_create(struct pst_signature **out)
{
    static const char *const names[HASHES] = {"SHA256", "SHA384", "SHA512"};
    struct pst_signature *s = *out = calloc(1, sizeof(*s));
    bool good = s != NULL && (s->ctx = EVP_MD_CTX_new()) != NULL;

    for (unsigned i = 0; i < HASHES && good; i++)
        good = (s->md[i] = EVP_MD_fetch(NULL, names[i], NULL)) != NULL;
    if (!good) {
        pst_signature_destroy(s);
        *out = NULL;
        return PST_E_NOMEM;
    }
    return PST_OK;
}

void pst_signature_destroy(struct pst_signature *s)
{
    if (s == NULL)
        return;
    for (unsigned i = 0; i < HASHES; i++)
        EVP_MD_free(s->md[i]);
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void pst_key_use_fini(struct pst_key_use *use)
{
    EVP_PKEY_CTX_free(use->ctx_);
    *use = (struct pst_key_use){0};
}

static EVP_MD *md_of(const struct pst_signature *s, enum pst_alg alg)
{
    unsigned bytes = pst_alg_hash_bytes(alg);

    return s->md[bytes == 32 ? SHA256 : bytes == 48 ? SHA384 : SHA512];
}

/* The context of this key and algorithm, made on first use. A key without `alg` of its own may be
 * asked with two algorithms in turn; then it is made anew each time, which only costs time. */
static EVP_PKEY_CTX *context(const struct pst_key *key, struct pst_key_use *use, enum pst_alg alg,
                             const EVP_MD *md)
{
    if (use->ctx_ != NULL && use->alg_ == alg)
        return use->ctx_;
    pst_key_use_fini(use);

    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool good = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1;
    if (good && pst_alg_in(PST_ALGS_RSA, alg)) {
        bool pss = alg == PST_ALG_PS256 || alg == PST_ALG_PS384 || alg == PST_ALG_PS512;
        good =
            EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
        if (good && pss) /* the salt is exactly as long as the hash (RFC 7518 3.5) */
            good = EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1 &&
                   EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1;
    }
    if (!good || EVP_PKEY_CTX_set_signature_md(ctx, md) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }
    use->ctx_ = ctx;
    use->alg_ = alg;
    return ctx;
}

/* A DER INTEGER of n big-endian bytes; the number of bytes written (at most n + 3). */
static size_t put_integer(unsigned char *out, const unsigned char *in, size_t n)
{
    size_t at = 0;

    while (n > 1 && in[0] == 0) {
        in++;
        n--;
    }
    out[at++] = 0x02;
    out[at++] = (unsigned char)(n + (in[0] >> 7));
    if ((in[0] & 0x80) != 0)
        out[at++] = 0;
    memcpy(out + at, in, n);
    return at + n;
}

/* r || s as SEQUENCE { r, s }, which is what OpenSSL verifies. out: 3 + 2 * (width + 3) bytes. */
static size_t put_sequence(unsigned char *out, const unsigned char *raw, size_t width)
{
    unsigned char body[2 * (66 + 3)];
    size_t len = put_integer(body, raw, width), at = 0;

    len += put_integer(body + len, raw + width, width);
    out[at++] = 0x30;
    if (len >= 0x80)
        out[at++] = 0x81;
    out[at++] = (unsigned char)len;
    memcpy(out + at, body, len);
    return at + len;
}

static bool holds_pkey(struct pst_signature *s, const struct pst_key *key, struct pst_key_use *use,
                       enum pst_alg alg, struct pst_bytes message, struct pst_bytes sig)
{
    EVP_MD *md = md_of(s, alg);
    unsigned char hash[EVP_MAX_MD_SIZE], der[3 + 2 * (66 + 3)];
    const unsigned char *raw = (const unsigned char *)sig.ptr;
    size_t raw_len = sig.len;
    unsigned hash_len = 0;

    if (pst_alg_in(PST_ALGS_RSA, alg)) {
        if (sig.len != key->bytes)
            return false;
    } else {
        if (sig.len != 2 * (size_t)key->bytes)
            return false;
        raw_len = put_sequence(der, raw, key->bytes);
        raw = der;
    }
    EVP_PKEY_CTX *ctx = context(key, use, alg, md);
    return ctx != NULL && EVP_DigestInit_ex2(s->ctx, md, NULL) == 1 &&
           EVP_DigestUpdate(s->ctx, message.ptr, message.len) == 1 &&
           EVP_DigestFinal_ex(s->ctx, hash, &hash_len) == 1 &&
           EVP_PKEY_verify(ctx, raw, raw_len, hash, hash_len) == 1;
}

static bool holds_ed25519(struct pst_signature *s, const struct pst_key *key,
                          struct pst_bytes message, struct pst_bytes sig)
{
    bool holds = sig.len == 64 && EVP_DigestVerifyInit(s->ctx, NULL, NULL, NULL, key->pkey) == 1 &&
                 EVP_DigestVerify(s->ctx, (const unsigned char *)sig.ptr, sig.len,
                                  (const unsigned char *)message.ptr, message.len) == 1;

    (void)EVP_MD_CTX_reset(s->ctx); /* it is for hashing next */
    return holds;
}

static bool holds_hmac(struct pst_signature *s, const struct pst_key *key, enum pst_alg alg,
                       struct pst_bytes message, struct pst_bytes sig)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool holds = HMAC(md_of(s, alg), key->secret, (int)key->secret_len,
                      (const unsigned char *)message.ptr, message.len, mac, &len) != NULL &&
                 len == pst_alg_hash_bytes(alg) && pst_secret_equal(sig, pst_bytes_of(mac, len));

    pst_secret_wipe(mac, sizeof(mac));
    return holds;
}

bool pst_signature_holds(struct pst_signature *s, const struct pst_key *key,
                         struct pst_key_use *use, enum pst_alg alg, struct pst_bytes message,
                         struct pst_bytes sig)
{
    bool holds;

    if (!pst_alg_in(key->algs, alg))
        return false;
    if (pst_alg_in(PST_ALGS_HS, alg))
        return key->secret != NULL && holds_hmac(s, key, alg, message, sig);
    if (key->pkey == NULL)
        return false;
    if (alg == PST_ALG_EDDSA)
        holds = holds_ed25519(s, key, message, sig);
    else
        holds = holds_pkey(s, key, use, alg, message, sig);
    if (!holds)
        ERR_clear_error(); /* what OpenSSL said of this token is not for the next one */
    return holds;
}
