/*
 * Layout
 *
 *   lru      8-byte keyed hash of (kind, issuer, value, id) -> entry*, which holds all of them and
 * is compared in full: two users never share an entry hints    where the name stands in memory ->
 * entry*, counted: claims of a known token stay where they are, so their user is found without a
 * hash (350 of a check's 15,000 instructions). What is found is compared and judged as any entry;
 * each 64th look goes through the lru, so that it knows what is in use changed  open addressing,
 * user id -> n of the last change; when three quarters are full it is emptied and `floor` rises to
 * what was applied: older facts then count as touched
 */
#include "facts_cache_internal.h"

#include <stdlib.h>

#include "postern/base/secret.h"

#define HINTS         256u
#define CHANGED_SLOTS 8192u /* power of two */
#define CHANGED_MAX   (CHANGED_SLOTS / 4 * 3)

struct changed {
    uint64_t user; /* 0: empty */
    uint64_t n;
};

struct pst_facts_cache {
    struct pst_lru *lru;
    struct pst_hash_key key;
    uint64_t applied, floor, last_user_change;
    uint32_t changed_count, looks, history;
    struct pst_fact_entry *hints[HINTS];
    struct changed changed[CHANGED_SLOTS];
};

static void drop_entry(void *value)
{
    struct pst_fact_entry *entry;

    memcpy(&entry, value, sizeof(entry));
    pst_fact_entry_release(entry);
}

enum pst_status pst_facts_cache_create(uint32_t capacity, struct pst_facts_cache **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return PST_E_NOMEM;
    (*out)->key = pst_random_hash_key();
    struct pst_lru_config config = {.capacity = capacity,
                                    .key_max = sizeof(uint64_t),
                                    .value_size = sizeof(struct pst_fact_entry *),
                                    .keys_are_hashes = true,
                                    .drop = drop_entry};
    enum pst_status status = pst_lru_create(&config, &(*out)->lru);
    if (status != PST_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

static void drop_hints(struct pst_facts_cache *cache)
{
    for (uint32_t i = 0; i < HINTS; i++) {
        pst_fact_entry_release(cache->hints[i]);
        cache->hints[i] = NULL;
    }
}

void pst_facts_cache_destroy(struct pst_facts_cache *cache)
{
    if (cache == NULL)
        return;
    drop_hints(cache);
    pst_lru_destroy(cache->lru);
    free(cache);
}

void pst_fact_entry_release(struct pst_fact_entry *entry)
{
    if (entry == NULL || --entry->refs > 0)
        return;
    pst_facts_free(entry->facts);
    free(entry);
}

#define KEY_MAX                                                                                    \
    2048u /* bytes of issuer and value; who has a longer name is read anew each time               \
           */

static bool is_kept(const struct pst_who *who)
{
    return who->issuer.len <= KEY_MAX && who->value.len <= KEY_MAX - who->issuer.len;
}

/* Only the value is a caller's choice and needs the keyed hash; issuers are configured. */
static uint64_t hash_of(const struct pst_facts_cache *cache, const struct pst_who *who)
{
    uint64_t rest = (uint64_t)who->kind ^ who->id ^ (uint64_t)who->issuer.len << 32, word;

    for (size_t at = 0; at < who->issuer.len; at += sizeof(word)) {
        size_t left = who->issuer.len - at;
        word = 0;
        if (left >= sizeof(word))
            memcpy(&word, who->issuer.ptr + at, sizeof(word));
        else
            memcpy(&word, who->issuer.ptr + at, left);
        rest = (rest ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        rest ^= rest >> 29;
    }
    return pst_hash(&cache->key, who->value) ^ rest;
}

static bool is_same(const struct pst_who *a, const struct pst_who *b)
{
    return a->kind == b->kind && a->id == b->id && pst_bytes_equal(a->value, b->value) &&
           pst_bytes_equal(a->issuer, b->issuer);
}

static inline bool may_be_used(const struct pst_facts_cache *cache, const struct pst_facts *facts,
                               uint64_t n)
{
    if (n > cache->applied || n < cache->floor)
        return false;
    if (facts->user_id == 0)
        return n >= cache->last_user_change;

    uint64_t hash = facts->user_id * UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t at = (uint32_t)(hash >> 32) & (CHANGED_SLOTS - 1);;
         at = (at + 1) & (CHANGED_SLOTS - 1)) {
        const struct changed *c = &cache->changed[at];
        if (c->user == 0)
            return true;
        if (c->user == facts->user_id)
            return n >= c->n;
    }
}

bool pst_facts_cache_usable(const struct pst_facts_cache *cache, const struct pst_facts *facts,
                            uint64_t n)
{
    return may_be_used(cache, facts, n);
}

/* What is of another history stays where it is until somebody asks for it or its place is needed:
 * to free all of it at once would hold the worker up. */
static bool is_usable(const struct pst_facts_cache *cache, const struct pst_fact_entry *entry)
{
    return entry->history == cache->history && may_be_used(cache, entry->facts, entry->n);
}

static struct pst_fact_entry **hint_of(struct pst_facts_cache *cache, const struct pst_who *who)
{
    return &cache
                ->hints[((uint64_t)(uintptr_t)who->value.ptr * UINT64_C(0x9e3779b97f4a7c15)) >> 32 &
                        (HINTS - 1)];
}

/* Through the lru, which then knows that the entry is in use. */
static __attribute__((noinline)) struct pst_fact_entry *
look_up(struct pst_facts_cache *cache, const struct pst_who *who, struct pst_fact_entry **hint)
{
    struct pst_fact_entry *entry;

    if (!is_kept(who))
        return NULL;
    uint64_t hash = hash_of(cache, who);
    struct pst_bytes key = pst_bytes_of(&hash, sizeof(hash));
    if (!pst_lru_get(cache->lru, key, 0, 0, &entry) || !is_same(&entry->who, who))
        return NULL;
    if (!is_usable(cache, entry)) {
        pst_lru_remove(cache->lru, key);
        return NULL;
    }
    pst_fact_entry_release(*hint);
    *hint = entry;
    entry->refs += 2; /* the hint's and the caller's */
    return entry;
}

struct pst_fact_entry *pst_facts_cache_get(struct pst_facts_cache *cache, const struct pst_who *who)
{
    struct pst_fact_entry **hint = hint_of(cache, who), *entry = *hint;

    if (entry == NULL || ++cache->looks % 64 == 0 || !is_same(&entry->who, who) ||
        !is_usable(cache, entry))
        return look_up(cache, who, hint);
    entry->refs++;
    return entry;
}

/* Copies `text` to `to` and returns its view. */
static struct pst_bytes copy_to(char *to, struct pst_bytes text)
{
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    return pst_bytes_of(to, text.len);
}

struct pst_fact_entry *pst_facts_cache_put(struct pst_facts_cache *cache, const struct pst_who *who,
                                           struct pst_facts *facts, uint64_t n)
{
    size_t texts = is_kept(who) ? who->issuer.len + who->value.len : 0;
    struct pst_fact_entry *entry = malloc(sizeof(*entry) + texts);

    if (entry == NULL) {
        pst_facts_free(facts);
        return NULL;
    }
    *entry = (struct pst_fact_entry){.refs = 1, .history = cache->history, .facts = facts, .n = n};
    if (!is_kept(who))
        return entry;
    char *room = (char *)(entry + 1);
    entry->who = (struct pst_who){.kind = who->kind,
                                  .id = who->id,
                                  .issuer = copy_to(room, who->issuer),
                                  .value = copy_to(room + who->issuer.len, who->value)};

    uint64_t hash = hash_of(cache, who);
    if (pst_lru_put(cache->lru, pst_bytes_of(&hash, sizeof(hash)), 0, 0, &entry) == PST_OK)
        entry->refs++;
    return entry;
}

static void empty_changed(struct pst_facts_cache *cache, uint64_t floor)
{
    cache->floor = floor;
    cache->changed_count = 0;
    memset(cache->changed, 0, sizeof(cache->changed));
}

void pst_facts_cache_touch(struct pst_facts_cache *cache, uint64_t user, uint64_t n)
{
    if (n > cache->last_user_change)
        cache->last_user_change = n;
    if (user == 0)
        return;
    if (cache->changed_count >= CHANGED_MAX)
        empty_changed(cache, n);

    uint64_t hash = user * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t at = (uint32_t)(hash >> 32) & (CHANGED_SLOTS - 1);
    while (cache->changed[at].user != 0 && cache->changed[at].user != user)
        at = (at + 1) & (CHANGED_SLOTS - 1);
    if (cache->changed[at].user == 0)
        cache->changed_count++;
    cache->changed[at].user = user;
    if (n > cache->changed[at].n)
        cache->changed[at].n = n;
}

void pst_facts_cache_touch_all(struct pst_facts_cache *cache, uint64_t n)
{
    if (n > cache->last_user_change)
        cache->last_user_change = n;
    empty_changed(cache, n);
}

void pst_facts_cache_advance(struct pst_facts_cache *cache, uint64_t n)
{
    if (n > cache->applied)
        cache->applied = n;
}

void pst_facts_cache_forget(struct pst_facts_cache *cache, uint64_t n)
{
    cache->history++;
    empty_changed(cache, 0);
    cache->last_user_change = 0;
    cache->applied = n;
}

uint64_t pst_facts_cache_applied(const struct pst_facts_cache *cache)
{
    return cache->applied;
}
