/*
 * mint_world.h - one issuer with a key of its own and a verifier for it: what the tests of tokens and of
 * their cache start from.
 */
#ifndef POSTERN_TESTS_UNIT_IDENTITY_MINT_WORLD_H
#define POSTERN_TESTS_UNIT_IDENTITY_MINT_WORLD_H

#include "postern/identity/mint.h"
#include "postern/identity/token.h"

#define NOW_S INT64_C(1800000000)

struct mint_world {
    struct pst_arena keys, arena; /* what stays; what a call may throw away */
    struct pst_bytes pem, jwks, kid;
    struct pst_mint_key key;
    struct pst_mint_claims claims;
    struct pst_issuer_config issuer;
    struct pst_identity_config config;
    struct pst_keyslot *slot;
    struct pst_verifier *verifier;
    struct pst_checker *checker;
};

static const struct pst_bytes mint_audience = {.ptr = "postern", .len = 7};

/* The checker is made anew from w->issuer and w->config. */
static inline void mint_world_reopen(struct mint_world *w)
{
    pst_checker_destroy(w->checker);
    pst_verifier_destroy(w->verifier);
    assert_int_equal(pst_verifier_create(&w->config, &w->slot, &w->verifier, NULL), PST_OK);
    assert_int_equal(pst_checker_create(w->verifier, &w->checker), PST_OK);
}

static inline void mint_world_publish(struct mint_world *w, struct pst_bytes jwks)
{
    struct pst_keyset *set;

    assert_int_equal(pst_keyset_from_jwks(jwks, &set, NULL, NULL), PST_OK);
    pst_keyslot_publish(w->slot, set);
}

static inline void mint_world_open(struct mint_world *w, enum pst_alg alg)
{
    *w = (struct mint_world){0};
    pst_arena_init(&w->keys, 4096, 1u << 20);
    pst_arena_init(&w->arena, 4096, 1u << 20);
    assert_int_equal(pst_mint_key_new(alg, &w->keys, &w->pem, &w->jwks, &w->kid, NULL), PST_OK);
    w->key = (struct pst_mint_key){.alg = alg, .kid = w->kid, .pem = w->pem};
    w->issuer = (struct pst_issuer_config){
        .issuer = PST_LIT("https://idp.test/"),
        .audiences = &mint_audience,
        .audiences_count = 1,
        .algorithms = PST_ALG_BIT(alg),
        .groups_claim = PST_LIT("groups"),
    };
    w->claims = (struct pst_mint_claims){
        .issuer = PST_LIT("https://idp.test/"),
        .subject = PST_LIT("alice"),
        .audience = PST_LIT("postern"),
        .iat_s = NOW_S,
        .exp_s = NOW_S + 300,
        .jti = PST_LIT("j1"),
    };
    w->config = pst_identity_config_default();
    w->config.issuers = &w->issuer;
    w->config.issuers_count = 1;
    assert_int_equal(pst_keyslot_create(&w->slot), PST_OK);
    mint_world_publish(w, w->jwks);
    mint_world_reopen(w);
}

static inline void mint_world_close(struct mint_world *w)
{
    pst_checker_destroy(w->checker);
    pst_verifier_destroy(w->verifier);
    pst_keyslot_destroy(w->slot);
    pst_arena_fini(&w->keys);
    pst_arena_fini(&w->arena);
}

static inline struct pst_bytes mint(struct mint_world *w)
{
    struct pst_bytes token;

    assert_int_equal(pst_mint_token(&w->key, &w->claims, &w->keys, &token, NULL), PST_OK);
    return token;
}

static inline struct pst_token_outcome verify_at(struct mint_world *w, struct pst_bytes token, int64_t now_s)
{
    struct pst_token_outcome out;

    assert_int_equal(pst_token_verify(w->checker, token, now_s, &w->arena, &out), PST_OK);
    return out;
}

#endif
