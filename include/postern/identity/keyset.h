/*
 * keyset.h - the keys of one issuer, and how a worker holds them while they are replaced.
 *
 * Purpose    A key set is built once from a JWKS document, a PEM file or configured secrets and
 * never changes.  Each key knows the algorithms it may verify before any token is seen: kty and crv
 * give the widest set, the key's own alg, use and key_ops narrow it.  A verifier asks the key,
 * never the token's header, what to do.
 *
 * Refusals   A key that breaks a rule stays in the set as a refused entry (so that a token naming
 * it is told why) and verifies nothing: RSA below 2048 or above 4096 bits, exponents other than odd
 * ones from 3 to 2^32, the ROCA fingerprint, points off the curve, Ed25519 points of small order,
 * private members, symmetric keys in a document, an x5c of another key, a kid used twice.  The set
 * as a whole is refused when it is no JWKS document, has more than 100 keys or 1 MiB, or leaves no
 * key that can verify.
 *
 * Ownership  Counted: take and release from any thread; the last release frees.
 *
 * Slots      One per issuer.  The control thread publishes sets, workers look at the generation
 *            (one relaxed load) and take the set under a lock only when it changed.
 */
#ifndef POSTERN_IDENTITY_KEYSET_H
#define POSTERN_IDENTITY_KEYSET_H

#include "postern/base/error.h"
#include "postern/identity/alg.h"
#include "postern/identity/reason.h"

#define PST_KEYSET_KEYS_MAX  100
#define PST_KEYSET_BYTES_MAX (1u << 20)
#define PST_KEY_KID_MAX      1024 /* bytes */
#define PST_KEY_HS_MIN       32   /* bytes of a secret; at least the hash's size */
#define PST_THUMBPRINT_BYTES 32

struct pst_key;    /* opaque, lives as long as its set */
struct pst_keyset; /* opaque, immutable, counted */

struct pst_keyset_report {
    uint32_t usable, refused;
    bool private_published; /* a document held private members: somebody must be woken */
    char first_refusal[64]; /* "key 3: weak_key", or empty */
};

struct pst_secret_key {
    struct pst_bytes kid;
    enum pst_alg alg; /* one of HS* */
    struct pst_bytes secret;
};

/* From the public document as fetched or read from a file. report may be NULL. On failure *out is
 * NULL and *error (may be NULL) says why. */
PST_MUST_USE enum pst_status pst_keyset_from_jwks(struct pst_bytes text, struct pst_keyset **out,
                                                  struct pst_keyset_report *report,
                                                  struct pst_error *error);
/* From a PEM public key or certificate. kid may be empty; alg PST_ALG_UNKNOWN: all that fit. */
PST_MUST_USE enum pst_status pst_keyset_from_pem(struct pst_bytes pem, struct pst_bytes kid,
                                                 enum pst_alg alg, struct pst_keyset **out,
                                                 struct pst_error *error);
/* From configured secrets, which are copied and wiped in the end. Any bad one fails the set. */
PST_MUST_USE enum pst_status pst_keyset_from_secrets(const struct pst_secret_key *secrets,
                                                     uint32_t count, struct pst_keyset **out,
                                                     struct pst_error *error);

const struct pst_keyset *pst_keyset_take(const struct pst_keyset *set);
/* Accepts NULL. */
void pst_keyset_release(const struct pst_keyset *set);

uint32_t pst_keyset_count(const struct pst_keyset *set);
const struct pst_key *pst_keyset_at(const struct pst_keyset *set, uint32_t index);
/* By kid, refused entries included; the empty kid matches nothing. NULL when there is none. */
const struct pst_key *pst_keyset_find(const struct pst_keyset *set, struct pst_bytes kid);
/* The only key without refusal that verifies `alg`; NULL when there is none or more than one. */
const struct pst_key *pst_keyset_single(const struct pst_keyset *set, enum pst_alg alg);

struct pst_bytes pst_key_kid(const struct pst_key *key);
/* Algorithms that fit the key's type; 0 for a refused key. */
uint32_t pst_key_type_algs(const struct pst_key *key);
/* Those of them that its alg, use and key_ops leave. */
uint32_t pst_key_algs(const struct pst_key *key);
/* Whether the key was refused at load, and why (PST_ID_BAD_KEY or PST_ID_WEAK_KEY). */
bool pst_key_refused(const struct pst_key *key, enum pst_identity_reason *reason);
/* SHA-256 as in RFC 7638 (of secrets: keyed, never shown): two keys are one when it is equal. */
const unsigned char *pst_key_thumbprint(const struct pst_key *key);
uint32_t pst_key_index(const struct pst_keyset *set, const struct pst_key *key);

/* --- where workers find the current set --- */

struct pst_keyslot; /* opaque */

PST_MUST_USE enum pst_status pst_keyslot_create(struct pst_keyslot **out);
/* No reader may be left. Accepts NULL. */
void pst_keyslot_destroy(struct pst_keyslot *slot);
/* Takes over the caller's reference; NULL: the issuer has no keys any more. Any thread. */
void pst_keyslot_publish(struct pst_keyslot *slot, const struct pst_keyset *set);
/* Changes with each publication; unique in the process, 0 before the first. One relaxed load. */
uint64_t pst_keyslot_generation(const struct pst_keyslot *slot);
/* The current set with a reference for the caller (or NULL), and its generation. */
const struct pst_keyset *pst_keyslot_take(struct pst_keyslot *slot, uint64_t *generation);

#endif
