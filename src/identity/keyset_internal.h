/* keyset_internal.h - a key from the inside: for those who make sets and those who verify. */
#ifndef POSTERN_IDENTITY_KEYSET_INTERNAL_H
#define POSTERN_IDENTITY_KEYSET_INTERNAL_H

#include <openssl/evp.h>
#include <stdatomic.h>

#include "postern/identity/keyset.h"

struct pst_key {
    struct pst_bytes kid; /* owned */
    uint32_t type_algs, algs;
    bool refused;
    enum pst_identity_reason reason;
    EVP_PKEY *pkey;      /* public key; NULL for a secret and for a refused key */
    uint32_t bytes;      /* RSA: of the modulus; EC: of one coordinate */
    unsigned char *secret; /* of HS*: owned, wiped */
    size_t secret_len;
    unsigned char thumbprint[PST_THUMBPRINT_BYTES];
};

struct pst_keyset {
    _Atomic uint32_t refs;
    uint32_t count;
    struct pst_key keys[];
};

/* An empty set with room for `count` keys; reference 1. */
struct pst_keyset *pst_keyset_new(uint32_t count);
PST_MUST_USE enum pst_status pst_key_set_kid(struct pst_key *key, struct pst_bytes kid);
void pst_key_refuse(struct pst_key *key, enum pst_identity_reason reason);
/* Takes `pkey` and judges it: type, size, curve, known weaknesses; fills algs and thumbprint.
 * A key that fails is refused (and pkey freed). */
void pst_key_adopt(struct pst_key *key, EVP_PKEY *pkey);

#endif
