/*
 * cache.h - tokens that were verified already.
 *
 * Purpose    Under steady load nearly every token has been seen before; a hit costs about 200 ns
 * where verifying costs 20 to 100 us.
 *
 * Identity   An entry is found by a keyed 64-bit hash of the token's end and taken only when the
 * whole token is equal, byte for byte.  Two tokens never share an entry.
 *
 * Freshness  At each hit the wall clock is held against exp, nbf, iat and the longest lifetime, and
 *            the key that verified the token must still be in its issuer's set with the same
 *            thumbprint.  An entry of another configuration is none.  What an operator or an issuer
 *            takes back is therefore gone at the next request.
 *
 * Negative   Signatures that did not hold are remembered in a small table of their own (128-bit
 * keyed hash), until the issuer's keys change: a flood of them never pushes out a good token. Other
 * refusals cost less than looking them up, or depend on the clock.
 *
 * Memory     `capacity` entries, each one allocation of token and claims. What pst_token_cache_get
 * gives out is counted and outlives its entry; pst_token_cache_verify copies into the caller's
 * arena.
 *
 * Threads    None: one per worker, beside its checker.
 */
#ifndef POSTERN_IDENTITY_CACHE_H
#define POSTERN_IDENTITY_CACHE_H

#include "postern/identity/token.h"

struct pst_token_cache; /* opaque */

struct pst_token_cache_stats {
    uint64_t hits, misses, negative_hits;
    uint32_t used;
};

/* capacity 0: nothing is kept, every token is verified. */
PST_MUST_USE enum pst_status pst_token_cache_create(uint32_t capacity,
                                                    struct pst_token_cache **out);
/* Accepts NULL. */
void pst_token_cache_destroy(struct pst_token_cache *cache);
struct pst_token_cache_stats pst_token_cache_stats(const struct pst_token_cache *cache);

/* pst_token_verify with memory. */
PST_MUST_USE enum pst_status pst_token_cache_verify(struct pst_token_cache *cache,
                                                    struct pst_checker *checker,
                                                    struct pst_bytes token, int64_t now_s,
                                                    struct pst_arena *arena,
                                                    struct pst_token_outcome *out);

/* The claims of a token that was verified before and still stands, without a copy; NULL: it has to
 * be verified. To be given back with pst_token_claims_release, on the same thread. */
const struct pst_claims *pst_token_cache_get(struct pst_token_cache *cache,
                                             struct pst_checker *checker, struct pst_bytes token,
                                             int64_t now_s);
void pst_token_claims_release(const struct pst_claims *claims); /* accepts NULL */

#endif
