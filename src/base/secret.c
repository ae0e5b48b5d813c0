#include "postern/base/secret.h"

#include <openssl/crypto.h>
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
