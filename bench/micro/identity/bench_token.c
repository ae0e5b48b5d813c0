/*
 * bench_token - ns per token: verified anew by each algorithm, and out of the cache.
 *
 * Prints "name ns" lines; the token has about 600 bytes, as in the goals.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/base/clock.h"
#include "postern/identity/cache.h"
#include "postern/identity/mint.h"

#define NOW_S 1800000000

static struct pst_arena keys_arena, arena;

static void must(enum pst_status status)
{
    if (status != PST_OK)
        abort();
}

struct setup {
    struct pst_keyslot *slot;
    struct pst_verifier *verifier;
    struct pst_checker *checker;
    struct pst_bytes token;
};

static struct setup set_up(enum pst_alg alg)
{
    static const struct pst_bytes audience = {.ptr = "postern", .len = 7};
    struct setup s;
    struct pst_bytes pem, jwks, kid, secret = PST_LIT("0123456789abcdef0123456789abcdef");
    struct pst_keyset *set;
    struct pst_issuer_config issuer = {
        .issuer = PST_LIT("https://idp.test/"),
        .audiences = &audience,
        .audiences_count = 1,
        .algorithms = PST_ALG_BIT(alg),
        .groups_claim = PST_LIT("groups"),
    };
    struct pst_identity_config config = pst_identity_config_default();
    struct pst_mint_key key = {.alg = alg, .kid = PST_LIT("k"), .secret = secret};
    char pad[512];
    struct pst_mint_claims claims = {
        .issuer = issuer.issuer,
        .subject = PST_LIT("alice"),
        .audience = audience,
        .iat_s = NOW_S,
        .exp_s = NOW_S + 300,
    };

    if (alg == PST_ALG_HS256) {
        must(
            pst_keyset_from_secrets(&(struct pst_secret_key){key.kid, alg, secret}, 1, &set, NULL));
    } else {
        must(pst_mint_key_new(alg, &keys_arena, &pem, &jwks, &kid, NULL));
        key.pem = pem;
        key.kid = kid;
        must(pst_keyset_from_jwks(jwks, &set, NULL, NULL));
    }
    must(pst_keyslot_create(&s.slot));
    pst_keyslot_publish(s.slot, set);
    config.issuers = &issuer;
    config.issuers_count = 1;
    must(pst_verifier_create(&config, &s.slot, &s.verifier, NULL));
    must(pst_checker_create(s.verifier, &s.checker));
    must(pst_mint_token(&key, &claims, &keys_arena, &s.token, NULL));
    if (s.token.len < 600) { /* filled up by a claim */
        int n = snprintf(pad, sizeof(pad), "{\"pad\":\"%0*d\"}",
                         (int)((600 - s.token.len) * 3 / 4 - 8), 0);
        claims.extra_json = pst_bytes_of(pad, (size_t)n);
        must(pst_mint_token(&key, &claims, &keys_arena, &s.token, NULL));
    }
    return s;
}

static void tear_down(struct setup *s)
{
    pst_checker_destroy(s->checker);
    pst_verifier_destroy(s->verifier);
    pst_keyslot_destroy(s->slot);
}

static void run(const char *name, struct setup *s, struct pst_token_cache *cache, unsigned rounds)
{
    struct pst_token_outcome out;
    uint64_t best = UINT64_MAX;

    for (int turn = 0; turn < 5; turn++) {
        uint64_t from = pst_clock_boot_ns();
        for (unsigned i = 0; i < rounds; i++) {
            pst_arena_reset(&arena);
            must(pst_token_cache_verify(cache, s->checker, s->token, NOW_S + 1, &arena, &out));
            if (!out.accepted)
                abort();
        }
        uint64_t ns = (pst_clock_boot_ns() - from) / rounds;
        best = ns < best ? ns : best;
    }
    printf("token_%s_ns %lu (%zu bytes)\n", name, (unsigned long)best, s->token.len);
}

int main(void)
{
    static const struct {
        enum pst_alg alg;
        unsigned rounds;
    } algs[] = {{PST_ALG_RS256, 3000},
                {PST_ALG_PS256, 3000},
                {PST_ALG_ES256, 2000},
                {PST_ALG_EDDSA, 1000},
                {PST_ALG_HS256, 20000}};
    struct pst_token_cache *cache, *none;

    pst_arena_init(&keys_arena, 65536, 16u << 20);
    pst_arena_init(&arena, 4096, 1u << 20);
    must(pst_token_cache_create(10000, &cache));
    must(pst_token_cache_create(0, &none));
    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct setup s = set_up(algs[i].alg);
        run(pst_alg_name(algs[i].alg), &s, none, algs[i].rounds);
        if (algs[i].alg == PST_ALG_RS256)
            run("cached", &s, cache, 1000000);
        tear_down(&s);
    }
    pst_token_cache_destroy(cache);
    pst_token_cache_destroy(none);
    pst_arena_fini(&arena);
    pst_arena_fini(&keys_arena);
    return 0;
}
