/*
 * token.h - is this token good, and what does it say?
 *
 * Purpose  Verifies a JWT in compact form (RFC 7515, 7519): size, three parts, canonical base64url,
 *          header, allow-list, key, signature, and only then the claims.  `iss` is peeked from the
 *          unverified payload to choose among configured issuers; nothing else of it is read before
 *          the signature holds.  Members that point at keys (jku, x5u, x5c, jwk) are never looked
 * at.
 *
 * Threads  A pst_verifier is immutable and shared.  Each thread has a pst_checker of its own, which
 *          keeps the current key sets, OpenSSL contexts and scratch memory.
 *
 * Memory   Claims are copied into the caller's arena; issuer_name lives as long as the verifier.
 *
 * Failure  A status other than PST_OK means that nothing was found out (memory is short): 503.
 *          PST_OK with accepted false is a refusal with its reason.
 *
 * Cost     Dominated by the signature: RS256 17 us, ES256 60 us.  A refused token costs no more.
 */
#ifndef POSTERN_IDENTITY_TOKEN_H
#define POSTERN_IDENTITY_TOKEN_H

#include "postern/base/arena.h"
#include "postern/base/error.h"
#include "postern/identity/config.h"
#include "postern/identity/keyset.h"

struct pst_verifier; /* opaque, immutable, one per configuration */
struct pst_checker;  /* opaque, one per thread and verifier */

#define PST_TIME_ABSENT INT64_MIN
#define PST_NO_ISSUER   UINT32_MAX

struct pst_claims {
    uint32_t issuer; /* index in the configuration */
    struct pst_bytes issuer_name;
    struct pst_bytes subject;
    struct pst_bytes user; /* sub, email or preferred_username, as the issuer is configured */
    struct pst_bytes jti;  /* empty when there is none */
    const struct pst_bytes *groups;
    uint32_t groups_count;
    int64_t exp_s;        /* rounded down */
    int64_t nbf_s, iat_s; /* rounded up; PST_TIME_ABSENT when not there */
    enum pst_alg alg;
    struct pst_bytes kid; /* of the key that verified it */
    unsigned char thumbprint[PST_THUMBPRINT_BYTES];
    uint64_t keys_generation; /* of the slot when it was verified */
};

struct pst_token_outcome {
    bool accepted;
    enum pst_identity_reason reason; /* when not accepted */
    /* The issuer whose key set did not know the token's kid (ask pst_jwks_want for a refresh, and
     * try again when it has come), or PST_NO_ISSUER. */
    uint32_t refresh_issuer;
    struct pst_bytes wanted_kid; /* with refresh_issuer: the kid that was not there */
    /* The issuer whose key the signature was tried with and did not hold (worth remembering until
     * its keys change), or PST_NO_ISSUER; and the generation of the keys that were tried. */
    uint32_t tried_issuer;
    uint64_t tried_generation;
    struct pst_claims claims; /* when accepted */
};

/* slots: one per issuer, in their order; borrowed, must outlive the verifier. */
PST_MUST_USE enum pst_status pst_verifier_create(const struct pst_identity_config *config,
                                                 struct pst_keyslot *const *slots,
                                                 struct pst_verifier **out,
                                                 struct pst_error *error);
/* All checkers must be destroyed. Accepts NULL. */
void pst_verifier_destroy(struct pst_verifier *verifier);
/* Differs between any two verifiers of the process: caches are tagged with it. */
uint64_t pst_verifier_generation(const struct pst_verifier *verifier);
uint32_t pst_verifier_issuers(const struct pst_verifier *verifier);
struct pst_bytes pst_verifier_issuer_name(const struct pst_verifier *verifier, uint32_t issuer);
uint32_t pst_verifier_leeway_s(const struct pst_verifier *verifier);
uint32_t pst_verifier_max_lifetime_s(const struct pst_verifier *verifier);
uint32_t pst_verifier_max_token_bytes(const struct pst_verifier *verifier);

PST_MUST_USE enum pst_status pst_checker_create(const struct pst_verifier *verifier,
                                                struct pst_checker **out);
void pst_checker_destroy(struct pst_checker *checker);
const struct pst_verifier *pst_checker_verifier(const struct pst_checker *checker);
/* Generation of the issuer's slot now; 0 for an issuer that there is not. */
uint64_t pst_checker_generation(const struct pst_checker *checker, uint32_t issuer);

/* now_s: wall clock, seconds since the epoch. *out is filled on every path. */
PST_MUST_USE enum pst_status pst_token_verify(struct pst_checker *checker, struct pst_bytes token,
                                              int64_t now_s, struct pst_arena *arena,
                                              struct pst_token_outcome *out);

/* Whether claims that were good at some time still are by the clock. */
bool pst_claims_in_time(const struct pst_claims *claims, uint32_t leeway_s, uint32_t max_lifetime_s,
                        int64_t now_s);

/* Whether the key that verified these claims is still there and still allowed; looks at the key set
 * only when its generation has changed, and then brings *claims up to it. */
bool pst_checker_key_stands(struct pst_checker *checker, struct pst_claims *claims);

#endif
