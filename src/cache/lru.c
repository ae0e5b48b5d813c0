/*
 * Layout
 *
 *   buckets[]  ->  entry -> entry -> NIL            chain: same bucket
 *   newest <-> entry <-> entry <-> ... <-> oldest   newer/older: recency
 *   free       ->  entry -> entry -> NIL            chain: used before, now free
 *   fresh..    ->  the rest of the slab               never used
 *
 * Entries live in one slab and name each other by index, not by pointer.
 *
 * Invariants (pst_lru_check)
 *   I1  every entry below fresh is on the recency list and in one bucket chain, or
 *       on the free list; never on both, never on neither
 *   I2  stats.used is the length of the recency list
 *   I3  an entry sits in the bucket its hash selects
 */
#include "postern/cache/lru.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

#define NIL UINT32_MAX

struct entry {
    uint64_t hash;
    uint64_t revision;
    uint64_t expires_ns;  /* UINT64_MAX: never */
    uint32_t chain;       /* next in the bucket, or next free */
    uint32_t newer;       /* NIL for the newest */
    uint32_t older;       /* NIL for the oldest */
    uint32_t key_len;     /* at most config.key_max */
    unsigned char data[]; /* value_size bytes of value, then the key */
};

struct pst_lru {
    struct pst_lru_config config;
    struct pst_lru_stats stats;
    uint32_t newest, oldest, free;
    uint32_t fresh;       /* entries from here on were never used, and are on no list */
    uint32_t bucket_mask; /* number of buckets - 1; a power of two - 1 */
    uint32_t *buckets;
    size_t stride; /* bytes from one entry to the next */
    unsigned char *slab;
};

static struct entry *entry_at(const struct pst_lru *lru, uint32_t at)
{
    assert(at < lru->config.capacity);
    return (struct entry *)(void *)(lru->slab + at * lru->stride);
}

static struct pst_bytes entry_key(const struct pst_lru *lru, const struct entry *e)
{
    return pst_bytes_of(e->data + lru->config.value_size, e->key_len);
}

static uint64_t hash_of(const struct pst_lru *lru, struct pst_bytes key)
{
    uint64_t hash;

    if (!lru->config.keys_are_hashes)
        return pst_hash(&lru->config.hash_key, key);
    assert(key.len == sizeof(hash));
    memcpy(&hash, key.ptr, sizeof(hash));
    return hash;
}

/* The link that names the entry with this key, or the NIL link that ends its
 * chain.  Unlinking through it needs no special case for the first entry. */
static inline __attribute__((always_inline)) uint32_t *
seek_link(const struct pst_lru *lru, uint64_t hash, struct pst_bytes key)
{
    uint32_t *link = &lru->buckets[hash & lru->bucket_mask];

    while (*link != NIL) {
        struct entry *e = entry_at(lru, *link);
        if (e->hash == hash &&
            (lru->config.keys_are_hashes || pst_bytes_equal(entry_key(lru, e), key)))
            break;
        link = &e->chain;
    }
    return link;
}

static uint32_t *find_link(const struct pst_lru *lru, uint64_t hash, struct pst_bytes key)
{
    return seek_link(lru, hash, key);
}

static void recency_push(struct pst_lru *lru, uint32_t at)
{
    struct entry *e = entry_at(lru, at);

    e->newer = NIL;
    e->older = lru->newest;
    if (lru->newest != NIL)
        entry_at(lru, lru->newest)->newer = at;
    else
        lru->oldest = at;
    lru->newest = at;
}

static void recency_unlink(struct pst_lru *lru, const struct entry *e)
{
    if (e->newer != NIL)
        entry_at(lru, e->newer)->older = e->older;
    else
        lru->newest = e->older;

    if (e->older != NIL)
        entry_at(lru, e->older)->newer = e->newer;
    else
        lru->oldest = e->newer;
}

/* Moves the entry named by `link` to the free list. */
static void release(struct pst_lru *lru, uint32_t *link)
{
    uint32_t at = *link;
    struct entry *e = entry_at(lru, at);

    if (lru->config.drop != NULL)
        lru->config.drop(e->data);
    recency_unlink(lru, e);
    *link = e->chain;
    e->chain = lru->free;
    lru->free = at;
    lru->stats.used--;
}

static void evict_oldest(struct pst_lru *lru)
{
    const struct entry *e = entry_at(lru, lru->oldest);

    release(lru, find_link(lru, e->hash, entry_key(lru, e)));
    lru->stats.evicted++;
}

static uint64_t expiry(const struct pst_lru *lru, uint64_t now_ns)
{
    uint64_t ttl_ns = lru->config.ttl_ns;

    if (ttl_ns == 0 || now_ns > UINT64_MAX - ttl_ns)
        return UINT64_MAX;
    return now_ns + ttl_ns;
}

static void empty(struct pst_lru *lru)
{
    lru->newest = lru->oldest = lru->free = NIL;
    lru->fresh = 0;
    for (uint32_t b = 0; b <= lru->bucket_mask; b++)
        lru->buckets[b] = NIL;
}

/* An unused entry, off every list. Memory is touched only as it is needed. */
static uint32_t take_unused(struct pst_lru *lru)
{
    if (lru->free == NIL && lru->fresh == lru->config.capacity)
        evict_oldest(lru);
    if (lru->free == NIL)
        return lru->fresh++;

    uint32_t at = lru->free;
    lru->free = entry_at(lru, at)->chain;
    return at;
}

static bool config_is_valid(const struct pst_lru_config *c)
{
    return c->capacity >= 1 && c->capacity <= PST_LRU_CAPACITY_MAX && c->key_max >= 1 &&
           c->key_max <= PST_LRU_ITEM_MAX &&
           (!c->keys_are_hashes || c->key_max == sizeof(uint64_t)) && c->value_size >= 1 &&
           c->value_size <= PST_LRU_ITEM_MAX;
}

enum pst_status pst_lru_create(const struct pst_lru_config *config, struct pst_lru **out)
{
    *out = NULL;
    if (!config_is_valid(config))
        return PST_E_INVALID;

    struct pst_lru *lru = calloc(1, sizeof(*lru));
    if (lru == NULL)
        return PST_E_NOMEM;

    uint32_t n_buckets = 1;
    while (n_buckets < config->capacity)
        n_buckets *= 2;

    size_t bare = sizeof(struct entry) + config->value_size + config->key_max;
    size_t align = alignof(struct entry);

    lru->config = *config;
    lru->bucket_mask = n_buckets - 1;
    lru->stride = (bare + align - 1) / align * align;
    lru->buckets = calloc(n_buckets, sizeof(*lru->buckets));
    lru->slab = calloc(config->capacity, lru->stride);
    if (lru->buckets == NULL || lru->slab == NULL) {
        pst_lru_destroy(lru); /* copes with a half-built cache */
        return PST_E_NOMEM;
    }

    empty(lru);
    *out = lru;
    return PST_OK;
}

void pst_lru_destroy(struct pst_lru *lru)
{
    if (lru == NULL)
        return;
    if (lru->buckets != NULL && lru->slab != NULL)
        pst_lru_clear(lru);
    free(lru->slab);
    free(lru->buckets);
    free(lru);
}

bool pst_lru_get(struct pst_lru *lru, struct pst_bytes key, uint64_t revision, uint64_t now_ns,
                 void *value_out)
{
    uint32_t *link = seek_link(lru, hash_of(lru, key), key);

    if (*link == NIL) {
        lru->stats.misses++;
        return false;
    }

    struct entry *e = entry_at(lru, *link);
    if (e->revision != revision || now_ns >= e->expires_ns) {
        release(lru, link);
        lru->stats.misses++;
        lru->stats.stale++;
        return false;
    }

    if (*link != lru->newest) {
        recency_unlink(lru, e);
        recency_push(lru, *link);
    }
    if (lru->config.value_size == sizeof(void *)) /* most are pointers: no call for them */
        memcpy(value_out, e->data, sizeof(void *));
    else
        memcpy(value_out, e->data, lru->config.value_size);
    lru->stats.hits++;
    return true;
}

enum pst_status pst_lru_put(struct pst_lru *lru, struct pst_bytes key, uint64_t revision,
                            uint64_t now_ns, const void *value)
{
    if (key.len == 0 || key.len > lru->config.key_max)
        return PST_E_LIMIT;

    uint64_t hash = hash_of(lru, key);
    uint32_t *link = find_link(lru, hash, key);
    if (*link != NIL)
        release(lru, link);

    uint32_t at = take_unused(lru);
    struct entry *e = entry_at(lru, at);
    uint32_t *bucket = &lru->buckets[hash & lru->bucket_mask];

    e->hash = hash;
    e->revision = revision;
    e->expires_ns = expiry(lru, now_ns);
    e->key_len = (uint32_t)key.len;
    memcpy(e->data, value, lru->config.value_size);
    memcpy(e->data + lru->config.value_size, key.ptr, key.len);

    e->chain = *bucket;
    *bucket = at;
    recency_push(lru, at);
    lru->stats.used++;
    return PST_OK;
}

void pst_lru_clear(struct pst_lru *lru)
{
    while (lru->oldest != NIL) {
        const struct entry *e = entry_at(lru, lru->oldest);
        release(lru, find_link(lru, e->hash, entry_key(lru, e)));
    }
}

bool pst_lru_remove(struct pst_lru *lru, struct pst_bytes key)
{
    uint32_t *link = find_link(lru, hash_of(lru, key), key);

    if (*link == NIL)
        return false;
    release(lru, link);
    return true;
}

struct pst_lru_stats pst_lru_stats(const struct pst_lru *lru)
{
    return lru->stats;
}

bool pst_lru_check(const struct pst_lru *lru)
{
    uint32_t capacity = lru->config.capacity;
    uint32_t listed = 0, chained = 0, unused = 0, newer = NIL;

    for (uint32_t at = lru->newest; at != NIL; at = entry_at(lru, at)->older) {
        if (entry_at(lru, at)->newer != newer || ++listed > capacity)
            return false;
        newer = at;
    }
    if (newer != lru->oldest)
        return false;

    for (uint32_t b = 0; b <= lru->bucket_mask; b++)
        for (uint32_t at = lru->buckets[b]; at != NIL; at = entry_at(lru, at)->chain)
            if ((entry_at(lru, at)->hash & lru->bucket_mask) != b || ++chained > capacity)
                return false; /* I3 */

    for (uint32_t at = lru->free; at != NIL; at = entry_at(lru, at)->chain)
        if (++unused > capacity)
            return false;

    return listed == lru->stats.used && listed == chained && listed + unused == lru->fresh;
}
