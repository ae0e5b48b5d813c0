#include "keyset_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>

#include "postern/base/secret.h"

/* --- life --- */

const struct pst_keyset *pst_keyset_take(const struct pst_keyset *set)
{
    /* The count is the one thing in a set that changes. Relaxed: the caller holds a reference. */
    atomic_fetch_add_explicit((_Atomic uint32_t *)(uintptr_t)&set->refs, 1, memory_order_relaxed);
    return set;
}

static void destroy_key(struct pst_key *key)
{
    EVP_PKEY_free(key->pkey);
    pst_secret_wipe(key->secret, key->secret_len);
    free(key->secret);
    free((void *)(uintptr_t)key->kid.ptr);
}

void pst_keyset_release(const struct pst_keyset *set)
{
    if (set == NULL)
        return;
    struct pst_keyset *own = (struct pst_keyset *)(uintptr_t)set;

    /* acq_rel: the last one sees all that the others did with the set before they let go. */
    if (atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < own->count; i++)
        destroy_key(&own->keys[i]);
    free(own);
}

/* --- looking --- */

uint32_t pst_keyset_count(const struct pst_keyset *set)
{
    return set->count;
}

const struct pst_key *pst_keyset_at(const struct pst_keyset *set, uint32_t index)
{
    return index < set->count ? &set->keys[index] : NULL;
}

const struct pst_key *pst_keyset_find(const struct pst_keyset *set, struct pst_bytes kid)
{
    if (kid.len == 0)
        return NULL;
    for (uint32_t i = 0; i < set->count; i++) /* at most 100: 1 us at worst, and only on a miss */
        if (pst_bytes_equal(set->keys[i].kid, kid))
            return &set->keys[i];
    return NULL;
}

const struct pst_key *pst_keyset_single(const struct pst_keyset *set, enum pst_alg alg)
{
    const struct pst_key *found = NULL;

    for (uint32_t i = 0; i < set->count; i++) {
        if (!pst_alg_in(set->keys[i].algs, alg))
            continue;
        if (found != NULL)
            return NULL;
        found = &set->keys[i];
    }
    return found;
}

struct pst_bytes pst_key_kid(const struct pst_key *key)
{
    return key->kid;
}

uint32_t pst_key_type_algs(const struct pst_key *key)
{
    return key->type_algs;
}

uint32_t pst_key_algs(const struct pst_key *key)
{
    return key->algs;
}

bool pst_key_refused(const struct pst_key *key, enum pst_identity_reason *reason)
{
    *reason = key->reason;
    return key->refused;
}

const unsigned char *pst_key_thumbprint(const struct pst_key *key)
{
    return key->thumbprint;
}

uint32_t pst_key_index(const struct pst_keyset *set, const struct pst_key *key)
{
    return (uint32_t)(key - set->keys);
}

/* --- PEM --- */

static EVP_PKEY *read_pem(struct pst_bytes pem)
{
    EVP_PKEY *pkey = NULL;

    if (pem.len == 0 || pem.len > PST_KEYSET_BYTES_MAX)
        return NULL;
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (bio == NULL)
        return NULL;
    pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    if (pkey == NULL && BIO_reset(bio) == 1) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (certificate != NULL)
            pkey = X509_get_pubkey(certificate);
        X509_free(certificate);
    }
    BIO_free(bio);
    ERR_clear_error();
    return pkey;
}

enum pst_status pst_keyset_from_pem(struct pst_bytes pem, struct pst_bytes kid, enum pst_alg alg,
                                    struct pst_keyset **out, struct pst_error *error)
{
    *out = NULL;
    if (kid.len > PST_KEY_KID_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "the kid is longer than %d bytes",
                             PST_KEY_KID_MAX);
    EVP_PKEY *pkey = read_pem(pem);
    if (pkey == NULL)
        return pst_error_set(error, PST_E_INVALID, NULL, "no PEM public key or certificate in it");
    struct pst_keyset *set = pst_keyset_new(1);
    if (set == NULL || pst_key_set_kid(&set->keys[0], kid) != PST_OK) {
        EVP_PKEY_free(pkey);
        pst_keyset_release(set);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    struct pst_key *key = &set->keys[0];

    pst_key_adopt(key, pkey);
    if (alg != PST_ALG_UNKNOWN)
        key->algs &= PST_ALG_BIT(alg);
    if (key->algs == 0) {
        (void)pst_error_set(error, PST_E_INVALID, NULL, "the key is refused: %s",
                            key->refused ? pst_identity_reason_name(key->reason)
                                         : "its type does not fit the algorithm");
        pst_keyset_release(set);
        return PST_E_INVALID;
    }
    *out = set;
    return PST_OK;
}

/* --- secrets --- */

static enum pst_status check_secret(const struct pst_secret_key *from, struct pst_error *error)
{
    if (!pst_alg_in(PST_ALGS_HS, from->alg))
        return pst_error_set(error, PST_E_INVALID, NULL, "a secret takes HS256, HS384 or HS512");
    if (from->secret.len < PST_KEY_HS_MIN || from->secret.len < pst_alg_hash_bytes(from->alg))
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "weak_key: %s takes a secret of at least %u bytes",
                             pst_alg_name(from->alg), pst_alg_hash_bytes(from->alg));
    if (from->secret.len > PST_KEYSET_BYTES_MAX || from->kid.len > PST_KEY_KID_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "the secret or its kid is too long");
    return PST_OK;
}

static enum pst_status adopt_secret(struct pst_key *key, const struct pst_secret_key *from)
{
    unsigned len = 0;

    if (pst_key_set_kid(key, from->kid) != PST_OK ||
        (key->secret = malloc(from->secret.len)) == NULL)
        return PST_E_NOMEM;
    memcpy(key->secret, from->secret.ptr, from->secret.len);
    key->secret_len = from->secret.len;
    key->algs = key->type_algs = PST_ALG_BIT(from->alg);
    return EVP_Digest(key->secret, key->secret_len, key->thumbprint, &len, EVP_sha256(), NULL) == 1
               ? PST_OK
               : PST_E_NOMEM;
}

enum pst_status pst_keyset_from_secrets(const struct pst_secret_key *secrets, uint32_t count,
                                        struct pst_keyset **out, struct pst_error *error)
{
    enum pst_status status = PST_OK;

    *out = NULL;
    if (count == 0 || count > PST_KEYSET_KEYS_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "between 1 and %d secrets",
                             PST_KEYSET_KEYS_MAX);
    struct pst_keyset *set = pst_keyset_new(count);
    if (set == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    for (uint32_t i = 0; i < count && status == PST_OK; i++) {
        status = check_secret(&secrets[i], error);
        if (status == PST_OK && pst_keyset_find(set, secrets[i].kid) != NULL)
            status = pst_error_set(error, PST_E_INVALID, NULL, "two secrets of one kid");
        if (status == PST_OK && adopt_secret(&set->keys[i], &secrets[i]) != PST_OK)
            status = pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    if (status != PST_OK) {
        pst_keyset_release(set);
        return status;
    }
    *out = set;
    return PST_OK;
}

/* --- the slot --- */

struct pst_keyslot {
    /* Written under the lock, polled without it. It only says "look again": the lock orders what
     * the reader then sees, so relaxed access is enough. */
    _Atomic uint64_t generation;

    pthread_mutex_t lock;
    struct {
        const struct pst_keyset *current; /* the slot's own reference, or NULL */
    } locked;
};

/* Unique over all slots, so that a generation names a set of one issuer for good. */
static _Atomic uint64_t last_generation;

enum pst_status pst_keyslot_create(struct pst_keyslot **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return PST_E_NOMEM;
    if (pthread_mutex_init(&(*out)->lock, NULL) != 0) {
        free(*out);
        *out = NULL;
        return PST_E_NOMEM;
    }
    return PST_OK;
}

void pst_keyslot_destroy(struct pst_keyslot *slot)
{
    if (slot == NULL)
        return;
    pst_keyset_release(slot->locked.current);
    pthread_mutex_destroy(&slot->lock);
    free(slot);
}

void pst_keyslot_publish(struct pst_keyslot *slot, const struct pst_keyset *set)
{
    pthread_mutex_lock(&slot->lock);
    const struct pst_keyset *old = slot->locked.current;
    slot->locked.current = set;
    atomic_store_explicit(&slot->generation,
                          atomic_fetch_add_explicit(&last_generation, 1, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    pthread_mutex_unlock(&slot->lock);
    pst_keyset_release(old);
}

uint64_t pst_keyslot_generation(const struct pst_keyslot *slot)
{
    return atomic_load_explicit(&slot->generation, memory_order_relaxed);
}

const struct pst_keyset *pst_keyslot_take(struct pst_keyslot *slot, uint64_t *generation)
{
    pthread_mutex_lock(&slot->lock);
    const struct pst_keyset *set = slot->locked.current;
    if (set != NULL)
        (void)pst_keyset_take(set);
    *generation = atomic_load_explicit(&slot->generation, memory_order_relaxed);
    pthread_mutex_unlock(&slot->lock);
    return set;
}
