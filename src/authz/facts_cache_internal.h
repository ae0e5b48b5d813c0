/*
 * facts_cache_internal.h - the users that a worker knows, and how long what it knows may be used.
 *
 * Purpose    Facts are loaded on first use and kept, bounded, until a change touches their user or
 * the room is needed. What is kept is bindings, never verdicts.
 *
 * Freshness  Facts read at revision r are used at `applied` only when r <= applied and no change in
 *            (r, applied] touched their user (fill guard, rule C4). The last change of each user
 * stands in a bounded table; what falls out of it is taken as touched. A user that was not found
 * may have been made by any later change of users.
 *
 * Ownership  Entries are counted: a decision keeps the one it began with.
 *
 * Threads    None: each worker owns its own.
 */
#ifndef POSTERN_AUTHZ_FACTS_CACHE_INTERNAL_H
#define POSTERN_AUTHZ_FACTS_CACHE_INTERNAL_H

#include "postern/cache/lru.h"
#include "postern/policy/facts.h"
#include "postern/store/store.h"

struct pst_fact_entry {
    uint32_t refs;
    uint32_t history; /* the cache's, when they were put in */
    struct pst_facts *facts; /* owned; user_id 0: nobody of that name */
    uint64_t n;              /* revision that they were read at */
    struct pst_who who;      /* its texts behind the struct */
};

struct pst_facts_cache;

PST_MUST_USE enum pst_status pst_facts_cache_create(uint32_t capacity,
                                                    struct pst_facts_cache **out);
void pst_facts_cache_destroy(struct pst_facts_cache *cache); /* accepts NULL */

/* A counted entry that may be used now, or NULL. */
struct pst_fact_entry *pst_facts_cache_get(struct pst_facts_cache *cache,
                                           const struct pst_who *who);
/* Whether facts read at n may be used now; false also when n is ahead of what was applied. */
bool pst_facts_cache_usable(const struct pst_facts_cache *cache, const struct pst_facts *facts,
                            uint64_t n);
/* Takes `facts` over and keeps them; a counted entry for the caller, or NULL (facts are freed
 * then). */
struct pst_fact_entry *pst_facts_cache_put(struct pst_facts_cache *cache, const struct pst_who *who,
                                           struct pst_facts *facts, uint64_t n);
void pst_fact_entry_release(struct pst_fact_entry *entry); /* accepts NULL */

/* Change n touched this user. */
void pst_facts_cache_touch(struct pst_facts_cache *cache, uint64_t user, uint64_t n);
/* Everything up to n may be outdated. */
void pst_facts_cache_touch_all(struct pst_facts_cache *cache, uint64_t n);
/* All changes up to n are known now. */
void pst_facts_cache_advance(struct pst_facts_cache *cache, uint64_t n);
/* Another history: nothing that was known counts. */
void pst_facts_cache_forget(struct pst_facts_cache *cache, uint64_t n);
uint64_t pst_facts_cache_applied(const struct pst_facts_cache *cache);

#endif
