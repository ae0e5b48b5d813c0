/*
 * lru.h - a bounded map from byte keys to fixed-size values that forgets the
 *         least recently used entry first.
 *
 * Purpose    Remembers answers that are dear to compute and safe to forget:
 *            decisions, verified tokens, role lookups.  A miss is never an
 *            error; losing an entry costs time, never correctness.
 *
 * Freshness  An entry is tagged with the policy revision it was computed under
 *            and expires after the configured time to live.  A lookup under
 *            another revision, or too late, misses and drops the entry, so a
 *            policy change needs no flush and cannot serve an old answer.
 *
 * Memory     All of it is taken at creation; no later call allocates.  Keys and
 *            values are copied in, values are copied out: no caller ever holds a
 *            pointer into the cache.  A value may own something outside: `drop`
 *            is told when it leaves.
 *
 * Threads    None: each worker owns its own.  Time is a parameter, so the cache
 *            needs no clock and tests need no sleep.
 *
 * Cost       get, put and remove are O(1) expected; nothing is ever rehashed.
 */
#ifndef POSTERN_CACHE_LRU_H
#define POSTERN_CACHE_LRU_H

#include <stdbool.h>
#include <stdint.h>

#include "postern/base/bytes.h"
#include "postern/base/hash.h"
#include "postern/base/status.h"

#define PST_LRU_CAPACITY_MAX (1u << 24) /* entries */
#define PST_LRU_ITEM_MAX     (1u << 16) /* bytes of one key, or of one value */

struct pst_lru; /* opaque */

struct pst_lru_config {
    uint32_t capacity;            /* entries kept, 1 to PST_LRU_CAPACITY_MAX */
    uint32_t key_max;             /* longest key, 1 to PST_LRU_ITEM_MAX */
    uint32_t value_size;          /* size of every value, 1 to PST_LRU_ITEM_MAX */
    uint64_t ttl_ns;              /* time to live; 0 for no expiry */
    struct pst_hash_key hash_key; /* secret and random: clients choose the keys */
    /* Keys are 8 bytes (key_max 8) that a keyed hash made: they are not hashed again. */
    bool keys_are_hashes;
    /* Called with a value that is leaving (evicted, replaced, outdated, removed, destroyed), for
     * values that own something; NULL for plain ones. It must not call back into the cache. */
    void (*drop)(void *value);
};

struct pst_lru_stats {
    uint64_t hits;
    uint64_t misses;  /* every get that returned false */
    uint64_t stale;   /* of those, the ones that found an outdated entry */
    uint64_t evicted; /* entries pushed out to make room */
    uint32_t used;    /* entries held now */
};

/* On success stores a new cache in *out, to be given to pst_lru_destroy.
 * Otherwise stores NULL and returns PST_E_INVALID or PST_E_NOMEM. */
PST_MUST_USE enum pst_status pst_lru_create(const struct pst_lru_config *config,
                                            struct pst_lru **out);

/* Accepts NULL. */
void pst_lru_destroy(struct pst_lru *lru);

/* Copies the value of `key` to `value_out` and returns true, or returns false
 * and leaves `value_out` as it was. */
PST_MUST_USE bool pst_lru_get(struct pst_lru *lru, struct pst_bytes key, uint64_t revision,
                              uint64_t now_ns, void *value_out);

/* Adds or replaces an entry, evicting the least recently used one when full.
 * Returns PST_E_LIMIT, changing nothing, for an empty or an overlong key. */
PST_MUST_USE enum pst_status pst_lru_put(struct pst_lru *lru, struct pst_bytes key,
                                         uint64_t revision, uint64_t now_ns, const void *value);

/* Forgets everything. */
void pst_lru_clear(struct pst_lru *lru);

/* Returns whether there was such an entry, fresh or not. */
bool pst_lru_remove(struct pst_lru *lru, struct pst_bytes key);

struct pst_lru_stats pst_lru_stats(const struct pst_lru *lru);

/* Walks the whole structure and returns whether its invariants hold.  O(n): for
 * tests, fuzzers and assertions in debug builds. */
bool pst_lru_check(const struct pst_lru *lru);

#endif
