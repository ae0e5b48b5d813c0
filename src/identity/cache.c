/*
 * An entry is one block:  struct entry | groups[] | texts ... | token
 * Its claims point into the block. A hit copies the block's head (not the token) to the arena and
 * moves the pointers by the distance.
 */
#include "postern/identity/cache.h"

#include <stdlib.h>

#include "postern/base/secret.h"
#include "postern/cache/lru.h"

#define NEGATIVE_CAPACITY 1024

struct entry {
    struct pst_claims claims;
    size_t head_len;        /* bytes of the block before the token */
    size_t token_len;
};

struct negative {
    uint64_t keys_generation;
    uint32_t issuer;
};

struct pst_token_cache {
    struct pst_lru *positive; /* hash -> struct entry * */
    struct pst_lru *negative; /* two hashes -> struct negative */
    struct pst_hash_key keys[2];
    struct pst_token_cache_stats stats;
};

static void drop_entry(void *value)
{
    struct entry *entry;

    memcpy(&entry, value, sizeof(entry));
    free(entry);
}

enum pst_status pst_token_cache_create(uint32_t capacity, struct pst_token_cache **out)
{
    struct pst_token_cache *cache = *out = calloc(1, sizeof(*cache));
    if (cache == NULL)
        return PST_E_NOMEM;
    cache->keys[0] = pst_random_hash_key();
    cache->keys[1] = pst_random_hash_key();
    if (capacity == 0)
        return PST_OK;

    struct pst_lru_config positive = {
        .capacity = capacity,
        .key_max = sizeof(uint64_t),
        .value_size = sizeof(struct entry *),
        .hash_key = pst_random_hash_key(),
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
    size_t head = aligned(sizeof(struct entry)) + aligned(c->groups_count * sizeof(struct pst_bytes));
    size_t texts = c->subject.len + c->user.len + c->jti.len + c->kid.len;

    for (uint32_t i = 0; i < c->groups_count; i++)
        texts += c->groups[i].len; /* all of them together fit in the token, whose length is bounded */
    head = aligned(head + texts);
    struct entry *entry = malloc(head + token.len);
    if (entry == NULL)
        return NULL;

    *entry = (struct entry){.claims = *c, .head_len = head, .token_len = token.len};
    struct pst_bytes *groups = (struct pst_bytes *)(void *)((char *)entry + aligned(sizeof(*entry)));
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
static enum pst_status give_claims(const struct entry *entry, struct pst_arena *arena, struct pst_claims *out)
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

static struct entry *find(struct pst_token_cache *cache, struct pst_checker *checker, struct pst_bytes key,
                          struct pst_bytes token, int64_t now_s)
{
    const struct pst_verifier *verifier = pst_checker_verifier(checker);
    struct entry *entry;

    if (!pst_lru_get(cache->positive, key, pst_verifier_generation(verifier), 0, &entry))
        return NULL;
    if (entry->token_len != token.len || memcmp((const char *)entry + entry->head_len, token.ptr, token.len) != 0)
        return NULL; /* another token of the same hash: it stays, this one is verified */
    if (pst_claims_in_time(&entry->claims, pst_verifier_leeway_s(verifier), pst_verifier_max_lifetime_s(verifier),
                           now_s) &&
        pst_checker_key_stands(checker, &entry->claims))
        return entry;
    (void)pst_lru_remove(cache->positive, key);
    return NULL;
}

static bool is_known_bad(struct pst_token_cache *cache, struct pst_checker *checker, struct pst_bytes key)
{
    struct negative n;
    const struct pst_verifier *verifier = pst_checker_verifier(checker);

    return pst_lru_get(cache->negative, key, pst_verifier_generation(verifier), 0, &n) &&
           n.keys_generation == pst_checker_generation(checker, n.issuer);
}

static void remember_bad(struct pst_token_cache *cache, struct pst_checker *checker, struct pst_bytes key,
                         const struct pst_token_outcome *out)
{
    struct negative n = {.keys_generation = out->tried_generation, .issuer = out->tried_issuer};
    uint64_t configuration = pst_verifier_generation(pst_checker_verifier(checker));

    enum pst_status status = pst_lru_put(cache->negative, key, configuration, 0, &n);
    (void)status; /* what is not remembered is verified again */
}

static void remember_good(struct pst_token_cache *cache, struct pst_checker *checker, struct pst_bytes key,
                          struct pst_bytes token, const struct pst_claims *claims)
{
    uint64_t configuration = pst_verifier_generation(pst_checker_verifier(checker));
    struct entry *entry = make_entry(claims, token);

    if (entry != NULL && pst_lru_put(cache->positive, key, configuration, 0, &entry) != PST_OK)
        free(entry);
}

static enum pst_status verify_anew(struct pst_token_cache *cache, struct pst_checker *checker, struct pst_bytes key,
                                   struct pst_bytes token, int64_t now_s, struct pst_arena *arena,
                                   struct pst_token_outcome *out)
{
    uint64_t pair[2] = {0, pst_hash(&cache->keys[1], token)};
    struct pst_bytes pair_key = pst_bytes_of(pair, sizeof(pair));

    memcpy(&pair[0], key.ptr, sizeof(pair[0]));

    if (is_known_bad(cache, checker, pair_key)) {
        cache->stats.negative_hits++;
        *out = (struct pst_token_outcome){
            .reason = PST_ID_BAD_SIGNATURE, .refresh_issuer = PST_NO_ISSUER, .tried_issuer = PST_NO_ISSUER};
        return PST_OK;
    }
    enum pst_status status = pst_token_verify(checker, token, now_s, arena, out);
    if (status != PST_OK)
        return status;
    if (out->accepted)
        remember_good(cache, checker, key, token, &out->claims);
    else if (out->tried_issuer != PST_NO_ISSUER)
        remember_bad(cache, checker, pair_key, out);
    return PST_OK;
}

enum pst_status pst_token_cache_verify(struct pst_token_cache *cache, struct pst_checker *checker,
                                       struct pst_bytes token, int64_t now_s, struct pst_arena *arena,
                                       struct pst_token_outcome *out)
{
    /* Without a cache; and what is too large or empty is not worth a hash. */
    if (cache->positive == NULL || token.len == 0 ||
        token.len > pst_verifier_max_token_bytes(pst_checker_verifier(checker)))
        return pst_token_verify(checker, token, now_s, arena, out);

    uint64_t hash = pst_hash(&cache->keys[0], token);
    struct pst_bytes key = pst_bytes_of(&hash, sizeof(hash));
    struct entry *entry = find(cache, checker, key, token, now_s);
    if (entry == NULL) {
        cache->stats.misses++;
        return verify_anew(cache, checker, key, token, now_s, arena, out);
    }
    *out = (struct pst_token_outcome){.refresh_issuer = PST_NO_ISSUER, .tried_issuer = PST_NO_ISSUER};
    enum pst_status status = give_claims(entry, arena, &out->claims);
    out->accepted = status == PST_OK;
    cache->stats.hits += out->accepted;
    return status;
}
