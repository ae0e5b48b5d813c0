#include "postern/base/secret.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <sys/random.h>

bool pst_secret_equal(struct pst_bytes a, struct pst_bytes b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

void pst_secret_wipe(void *ptr, size_t len)
{
    if (ptr != NULL)
        OPENSSL_cleanse(ptr, len);
}

void pst_random(void *out, size_t len)
{
    char *at = out;

    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n <= 0)
            abort();
        at += n;
        len -= (size_t)n;
    }
}

struct pst_hash_key pst_random_hash_key(void)
{
    struct pst_hash_key key;

    pst_random(&key, sizeof(key));
    return key;
}

struct pst_mac {
    EVP_MAC_CTX *context;
    bool failed; /* a step that failed must not end in a MAC of less */
};

static bool start_mac(struct pst_mac *mac, const unsigned char key[PST_MAC_KEY_LEN])
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    mac->context = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac); /* the context holds a reference */
    return mac->context != NULL && EVP_MAC_init(mac->context, key, PST_MAC_KEY_LEN, params) == 1;
}

struct pst_mac *pst_mac_create(const unsigned char key[PST_MAC_KEY_LEN])
{
    struct pst_mac *mac = calloc(1, sizeof(*mac));

    if (mac == NULL || start_mac(mac, key))
        return mac;
    pst_mac_destroy(mac);
    return NULL;
}

void pst_mac_destroy(struct pst_mac *mac)
{
    if (mac != NULL)
        EVP_MAC_CTX_free(mac->context);
    free(mac);
}

void pst_mac_add(struct pst_mac *mac, struct pst_bytes bytes)
{
    if (EVP_MAC_update(mac->context, (const unsigned char *)bytes.ptr, bytes.len) != 1)
        mac->failed = true;
}

bool pst_mac_end(struct pst_mac *mac, unsigned char out[PST_MAC_LEN])
{
    size_t len = 0;

    return !mac->failed && EVP_MAC_final(mac->context, out, &len, PST_MAC_LEN) == 1 &&
           len == PST_MAC_LEN;
}
