/*
 * An entry is one block:  struct entry | groups[] | texts ... | token
 * Its claims point into the block. It is counted: by the table, and by each holder of its claims.
 * pst_token_cache_verify copies the block's head (not the token) to the arena and moves the
 * pointers by the distance.
 *
 * The table is keyed by a hash of the token's last 16 bytes: 96 bits of its signature, which no two
 * good tokens share but by chance. Hashing 600 bytes was a twentieth of a check's instructions
 * (1,400 of 27,000). Only tokens that were verified are in the table, and nobody but their issuer
 * makes signatures, so a client cannot aim at a bucket: he sees neither the key nor which of the
 * tokens that he was given share one. Whoever sends another token with the end of a good one finds
 * that one's entry, is unequal to it, and is verified.
 */
#include "postern/identity/cache.h"

#include <stdlib.h>

#include "postern/base/secret.h"
#include "postern/cache/lru.h"

#define NEGATIVE_CAPACITY 1024
#define END_BYTES         16u

struct entry {
    struct pst_claims claims; /* first: pst_token_claims_release finds the entry by them */
    uint32_t refs;
    size_t head_len; /* bytes of the block before the token */
    size_t token_len;
};

struct negative {
    uint64_t keys_generation;
    uint32_t issuer;
};

struct pst_token_cache {
    struct pst_lru *positive; /* hash of the end -> struct entry * */
    struct pst_lru *negative; /* two hashes of the whole -> struct negative */
    struct pst_hash_key end_key, keys[2];
    struct pst_token_cache_stats stats;
};

static void release(struct entry *entry)
{
    if (--entry->refs == 0)
        free(entry);
}

static struct entry *entry_of(const struct pst_claims *claims)
{
    return (struct entry *)(uintptr_t)claims;
}

static void drop_entry(void *value)
{
    struct entry *entry;

    memcpy(&entry, value, sizeof(entry));
    release(entry);
}

enum pst_status pst_token_cache_create(uint32_t capacity, struct pst_token_cache **out)
{
    struct pst_token_cache *cache = *out = calloc(1, sizeof(*cache));
    if (cache == NULL)
        return PST_E_NOMEM;
    cache->end_key = pst_random_hash_key();
    cache->keys[0] = pst_random_hash_key();
    cache->keys[1] = pst_random_hash_key();
    if (capacity == 0)
        return PST_OK;

    struct pst_lru_config positive = {
        .capacity = capacity,
        .key_max = sizeof(uint64_t),
        .value_size = sizeof(struct entry *),
        .keys_are_hashes = true,
        .drop = drop_entry,
    };
    struct pst_lru_config negative = {
        .capacity = NEGATIVE_CAPACITY,
        .key_max = 2 * sizeof(uint64_t),
        .value_size = sizeof(struct negative),
        .hash_key = pst_random_hash_key(),
    };
    enum pst_status status = pst_lru_create(&positive, &cache->positive);
    if (status == PST_OK)
        status = pst_lru_create(&negative, &cache->negative);
    if (status != PST_OK) {
        pst_token_cache_destroy(cache); /* copes with a half-built one */
        *out = NULL;
    }
    return status;
}

void pst_token_cache_destroy(struct pst_token_cache *cache)
{
    if (cache == NULL)
        return;
    pst_lru_destroy(cache->positive);
    pst_lru_destroy(cache->negative);
    free(cache);
}

struct pst_token_cache_stats pst_token_cache_stats(const struct pst_token_cache *cache)
{
    struct pst_token_cache_stats stats = cache->stats;

    stats.used = cache->positive == NULL ? 0 : pst_lru_stats(cache->positive).used;
    return stats;
}

/* --- entries --- */

static size_t aligned(size_t len)
{
    return (len + 15) / 16 * 16;
}

/* Appends a copy of `text` at *at and returns its view. */
static struct pst_bytes append(char **at, struct pst_bytes text)
{
    struct pst_bytes copy = pst_bytes_of(*at, text.len);

    if (text.len > 0)
        memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

static struct entry *make_entry(const struct pst_claims *c, struct pst_bytes token)
{
    size_t head =
        aligned(sizeof(struct entry)) + aligned(c->groups_count * sizeof(struct pst_bytes));
    size_t texts = c->subject.len + c->user.len + c->jti.len + c->kid.len;

    for (uint32_t i = 0; i < c->groups_count; i++)
        texts +=
            c->groups[i].len; /* all of them together fit in the token, whose length is bounded */
    head = aligned(head + texts);
    struct entry *entry = malloc(head + token.len);
    if (entry == NULL)
        return NULL;

    *entry = (struct entry){.claims = *c, .refs = 1, .head_len = head, .token_len = token.len};
    struct pst_bytes *groups =
        (struct pst_bytes *)(void *)((char *)entry + aligned(sizeof(*entry)));
    char *at = (char *)groups + aligned(c->groups_count * sizeof(*groups));
    entry->claims.subject = append(&at, c->subject);
    entry->claims.user = append(&at, c->user);
    entry->claims.jti = append(&at, c->jti);
    entry->claims.kid = append(&at, c->kid);
    for (uint32_t i = 0; i < c->groups_count; i++)
        groups[i] = append(&at, c->groups[i]);
    entry->claims.groups = groups;
    memcpy((char *)entry + head, token.ptr, token.len);
    return entry;
}

static void move_view(struct pst_bytes *view, const char *from, char *to)
{
    view->ptr = to + (view->ptr - from);
}

/* The claims in memory of the caller. */
static enum pst_status give_claims(const struct entry *entry, struct pst_arena *arena,
                                   struct pst_claims *out)
{
    char *block = pst_arena_alloc(arena, entry->head_len);
    if (block == NULL)
        return PST_E_NOMEM;
    memcpy(block, entry, entry->head_len);

    const char *from = (const char *)entry;
    struct pst_bytes *groups = (struct pst_bytes *)(void *)(block + aligned(sizeof(*entry)));
    *out = entry->claims;
    move_view(&out->subject, from, block);
    move_view(&out->user, from, block);
    move_view(&out->jti, from, block);
    move_view(&out->kid, from, block);
    for (uint32_t i = 0; i < out->groups_count; i++)
        move_view(&groups[i], from, block);
    out->groups = groups;
    return PST_OK;
}

/* --- lookup --- */

static uint64_t hash_end(const struct pst_token_cache *cache, struct pst_bytes token)
{
    return pst_hash_random16(&cache->end_key, token.ptr + token.len - END_BYTES);
}

/* Without a cache; and what is too large, or shorter than any signature, is not worth a hash. */
static bool is_kept(const struct pst_token_cache *cache, const struct pst_checker *checker,
                    struct pst_bytes token)
{
    return cache->positive != NULL && token.len >= END_BYTES &&
           token.len <= pst_verifier_max_token_bytes(pst_checker_verifier(checker));
}

static struct entry *find(struct pst_token_cache *cache, struct pst_checker *checker, uint64_t hash,
                          struct pst_bytes token, int64_t now_s)
{
    const struct pst_verifier *verifier = pst_checker_verifier(checker);
    struct pst_bytes key = pst_bytes_of(&hash, sizeof(hash));
    struct entry *entry;

    if (!pst_lru_get(cache->positive, key, pst_verifier_generation(verifier), 0, &entry))
        return NULL;
    if (entry->token_len != token.len ||
        memcmp((const char *)entry + entry->head_len, token.ptr, token.len) != 0)
        return NULL; /* another token of the same hash: it stays, this one is verified */
    if (pst_claims_in_time(&entry->claims, pst_verifier_leeway_s(verifier),
                           pst_verifier_max_lifetime_s(verifier), now_s) &&
        pst_checker_key_stands(checker, &entry->claims))
        return entry;
    (void)pst_lru_remove(cache->positive, key);
    return NULL;
}

static bool is_known_bad(struct pst_token_cache *cache, struct pst_checker *checker,
                         struct pst_bytes key)
{
    struct negative n;
    const struct pst_verifier *verifier = pst_checker_verifier(checker);

    return pst_lru_get(cache->negative, key, pst_verifier_generation(verifier), 0, &n) &&
           n.keys_generation == pst_checker_generation(checker, n.issuer);
}

static void remember_bad(struct pst_token_cache *cache, struct pst_checker *checker,
                         struct pst_bytes key, const struct pst_token_outcome *out)
{
    struct negative n = {.keys_generation = out->tried_generation, .issuer = out->tried_issuer};
    uint64_t configuration = pst_verifier_generation(pst_checker_verifier(checker));

    enum pst_status status = pst_lru_put(cache->negative, key, configuration, 0, &n);
    (void)status; /* what is not remembered is verified again */
}

static void remember_good(struct pst_token_cache *cache, struct pst_checker *checker, uint64_t hash,
                          struct pst_bytes token, const struct pst_claims *claims)
{
    uint64_t configuration = pst_verifier_generation(pst_checker_verifier(checker));
    struct entry *entry = make_entry(claims, token);

    if (entry != NULL && pst_lru_put(cache->positive, pst_bytes_of(&hash, sizeof(hash)),
                                     configuration, 0, &entry) != PST_OK)
        release(entry);
}

static enum pst_status verify_anew(struct pst_token_cache *cache, struct pst_checker *checker,
                                   uint64_t hash, struct pst_bytes token, int64_t now_s,
                                   struct pst_arena *arena, struct pst_token_outcome *out)
{
    uint64_t pair[2] = {pst_hash(&cache->keys[0], token), pst_hash(&cache->keys[1], token)};
    struct pst_bytes pair_key = pst_bytes_of(pair, sizeof(pair));

    if (is_known_bad(cache, checker, pair_key)) {
        cache->stats.negative_hits++;
        *out = (struct pst_token_outcome){.reason = PST_ID_BAD_SIGNATURE,
                                          .refresh_issuer = PST_NO_ISSUER,
                                          .tried_issuer = PST_NO_ISSUER};
        return PST_OK;
    }
    enum pst_status status = pst_token_verify(checker, token, now_s, arena, out);
    if (status != PST_OK)
        return status;
    if (out->accepted)
        remember_good(cache, checker, hash, token, &out->claims);
    else if (out->tried_issuer != PST_NO_ISSUER)
        remember_bad(cache, checker, pair_key, out);
    return PST_OK;
}

const struct pst_claims *pst_token_cache_get(struct pst_token_cache *cache,
                                             struct pst_checker *checker, struct pst_bytes token,
                                             int64_t now_s)
{
    struct entry *entry = is_kept(cache, checker, token)
                              ? find(cache, checker, hash_end(cache, token), token, now_s)
                              : NULL;

    if (entry == NULL)
        return NULL;
    cache->stats.hits++;
    entry->refs++;
    return &entry->claims;
}

enum pst_status pst_token_cache_verify(struct pst_token_cache *cache, struct pst_checker *checker,
                                       struct pst_bytes token, int64_t now_s,
                                       struct pst_arena *arena, struct pst_token_outcome *out)
{
    const struct pst_claims *claims = pst_token_cache_get(cache, checker, token, now_s);

    if (claims == NULL && !is_kept(cache, checker, token))
        return pst_token_verify(checker, token, now_s, arena, out);
    if (claims == NULL) {
        cache->stats.misses++;
        return verify_anew(cache, checker, hash_end(cache, token), token, now_s, arena, out);
    }
    *out =
        (struct pst_token_outcome){.refresh_issuer = PST_NO_ISSUER, .tried_issuer = PST_NO_ISSUER};
    enum pst_status status = give_claims(entry_of(claims), arena, &out->claims);
    out->accepted = status == PST_OK;
    pst_token_claims_release(claims);
    return status;
}

void pst_token_claims_release(const struct pst_claims *claims)
{
    if (claims != NULL)
        release(entry_of(claims));
}
