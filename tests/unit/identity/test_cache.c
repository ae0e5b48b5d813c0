/* identity/cache: a hit says what verifying would say, and never more. */
#include "../test.h"

#include <stdio.h>
#include <string.h>

#include "mint_world.h"
#include "postern/identity/cache.h"

struct cache_world {
    struct mint_world w;
    struct pst_token_cache *cache;
};

static void open_world(struct cache_world *c, uint32_t capacity)
{
    mint_world_open(&c->w, PST_ALG_ES256);
    assert_int_equal(pst_token_cache_create(capacity, &c->cache), PST_OK);
}

static void close_world(struct cache_world *c)
{
    pst_token_cache_destroy(c->cache);
    mint_world_close(&c->w);
}

static struct pst_token_outcome ask_at(struct cache_world *c, struct pst_bytes token, int64_t now_s)
{
    struct pst_token_outcome out;

    assert_int_equal(
        pst_token_cache_verify(c->cache, c->w.checker, token, now_s, &c->w.arena, &out), PST_OK);
    return out;
}

static uint64_t hits(const struct cache_world *c)
{
    return pst_token_cache_stats(c->cache).hits;
}

static void a_hit_gives_the_same_claims(void **state)
{
    (void)state;
    static const struct pst_bytes groups[] = {{.ptr = "data-team", .len = 9},
                                              {.ptr = "ops", .len = 3}};
    struct cache_world c;

    open_world(&c, 16);
    c.w.claims.groups = groups;
    c.w.claims.groups_count = 2;
    struct pst_bytes token = mint(&c.w);
    struct pst_token_outcome a = ask_at(&c, token, NOW_S), b = ask_at(&c, token, NOW_S + 1);
    assert_int_equal(hits(&c), 1);
    assert_true(a.accepted && b.accepted);
    assert_true(pst_bytes_equal(a.claims.subject, b.claims.subject));
    assert_true(pst_bytes_equal(a.claims.user, b.claims.user));
    assert_true(pst_bytes_equal(a.claims.jti, b.claims.jti));
    assert_true(pst_bytes_equal(a.claims.kid, b.claims.kid));
    assert_int_equal(b.claims.groups_count, 2);
    assert_true(pst_bytes_equal(b.claims.groups[0], groups[0]) &&
                pst_bytes_equal(b.claims.groups[1], groups[1]));
    assert_int_equal(a.claims.exp_s, b.claims.exp_s);

    /* what was given out stays when the entry goes */
    pst_token_cache_destroy(c.cache);
    c.cache = NULL;
    assert_true(pst_bytes_equal(b.claims.groups[0], groups[0]));
    assert_true(pst_bytes_equal(b.claims.user, PST_LIT("alice")));
    close_world(&c);
}

static void the_clock_is_asked_at_each_hit(void **state)
{
    (void)state;
    struct cache_world c;

    open_world(&c, 16);
    struct pst_bytes token = mint(&c.w); /* until NOW_S + 300, leeway 30 */
    assert_true(ask_at(&c, token, NOW_S).accepted);
    assert_true(ask_at(&c, token, NOW_S + 329).accepted);
    assert_int_equal(hits(&c), 1);
    assert_int_equal(ask_at(&c, token, NOW_S + 330).reason, PST_ID_TIME);
    assert_true(ask_at(&c, token, NOW_S).accepted);
    assert_int_equal(ask_at(&c, token, NOW_S - 31).reason, PST_ID_TIME); /* not yet */
    assert_int_equal(hits(&c), 1);
    close_world(&c);
}

static void a_key_that_is_gone_takes_its_tokens_along(void **state)
{
    (void)state;
    struct cache_world c;
    struct pst_bytes pem, other, kid;

    open_world(&c, 16);
    struct pst_bytes token = mint(&c.w);
    assert_true(ask_at(&c, token, NOW_S).accepted);

    mint_world_publish(&c.w, c.w.jwks); /* another generation, the same key */
    assert_true(ask_at(&c, token, NOW_S).accepted);
    assert_int_equal(hits(&c), 1);

    assert_int_equal(pst_mint_key_new(PST_ALG_ES256, &c.w.keys, &pem, &other, &kid, NULL), PST_OK);
    mint_world_publish(&c.w, other);
    assert_int_equal(ask_at(&c, token, NOW_S).reason, PST_ID_UNKNOWN_KID);

    /* the same kid, another key */
    struct pst_bytes renamed;
    assert_int_equal(pst_mint_jwks(pem, PST_ALG_ES256, c.w.kid, &c.w.keys, &renamed, &kid, NULL),
                     PST_OK);
    mint_world_publish(&c.w, c.w.jwks);
    assert_true(ask_at(&c, token, NOW_S).accepted);
    mint_world_publish(&c.w, renamed);
    assert_int_equal(ask_at(&c, token, NOW_S).reason, PST_ID_BAD_SIGNATURE);

    pst_keyslot_publish(c.w.slot, NULL);
    assert_int_equal(ask_at(&c, token, NOW_S).reason, PST_ID_KEYS_UNAVAILABLE);
    close_world(&c);
}

static void another_configuration_believes_nothing_of_this_one(void **state)
{
    (void)state;
    struct cache_world c;

    open_world(&c, 16);
    struct pst_bytes token = mint(&c.w);
    assert_true(ask_at(&c, token, NOW_S).accepted);
    c.w.issuer.algorithms = PST_ALG_BIT(PST_ALG_RS256);
    mint_world_reopen(&c.w);
    assert_int_equal(ask_at(&c, token, NOW_S).reason, PST_ID_ALG_NOT_ALLOWED);
    assert_int_equal(hits(&c), 0);
    close_world(&c);
}

/* The last signature character replaced in its high bits: another signature, rightly encoded. */
static struct pst_bytes spoil(struct cache_world *c, struct pst_bytes token, unsigned n)
{
    struct pst_bytes copy;

    assert_int_equal(pst_arena_copy(&c->w.keys, token, &copy), PST_OK);
    char *text = (char *)(uintptr_t)copy.ptr;
    for (unsigned i = 0; i < 4; i++) {
        char *at = text + copy.len - 40 + i;
        *at = (char)('A' + (*at + (int)(n >> (4 * i) & 15)) % 26);
    }
    return copy;
}

static void a_bad_signature_is_remembered_until_the_keys_change(void **state)
{
    (void)state;
    struct cache_world c;
    struct pst_bytes pem, other, kid;

    open_world(&c, 16);
    struct pst_bytes good = mint(&c.w);
    assert_int_equal(pst_mint_key_new(PST_ALG_ES256, &c.w.keys, &pem, &other, &kid, NULL), PST_OK);
    struct pst_bytes renamed;
    assert_int_equal(pst_mint_jwks(pem, PST_ALG_ES256, c.w.kid, &c.w.keys, &renamed, &kid, NULL),
                     PST_OK);
    mint_world_publish(&c.w, renamed);

    assert_int_equal(ask_at(&c, good, NOW_S).reason, PST_ID_BAD_SIGNATURE);
    assert_int_equal(ask_at(&c, good, NOW_S).reason, PST_ID_BAD_SIGNATURE);
    assert_int_equal(pst_token_cache_stats(c.cache).negative_hits, 1);
    mint_world_publish(&c.w, c.w.jwks);
    assert_true(ask_at(&c, good, NOW_S).accepted);
    close_world(&c);
}

static void bad_tokens_never_push_out_good_ones(void **state)
{
    (void)state;
    struct cache_world c;

    open_world(&c, 2);
    struct pst_bytes good = mint(&c.w);
    assert_true(ask_at(&c, good, NOW_S).accepted);
    for (unsigned i = 0; i < 2000; i++)
        assert_false(ask_at(&c, spoil(&c, good, i), NOW_S).accepted);
    assert_true(ask_at(&c, good, NOW_S).accepted);
    assert_int_equal(hits(&c), 1);
    assert_int_equal(pst_token_cache_stats(c.cache).used, 1);
    close_world(&c);
}

static void it_is_bounded_and_can_be_off(void **state)
{
    (void)state;
    struct cache_world c;
    char jti[16];

    open_world(&c, 8);
    for (int i = 0; i < 30; i++) {
        int n = snprintf(jti, sizeof(jti), "j%d", i);
        c.w.claims.jti = pst_bytes_of(jti, (size_t)n);
        assert_true(ask_at(&c, mint(&c.w), NOW_S).accepted);
    }
    assert_int_equal(pst_token_cache_stats(c.cache).used, 8);
    close_world(&c);

    open_world(&c, 0);
    struct pst_bytes token = mint(&c.w);
    assert_true(ask_at(&c, token, NOW_S).accepted);
    assert_true(ask_at(&c, token, NOW_S).accepted);
    assert_int_equal(hits(&c), 0);
    close_world(&c);
}

static void claims_are_lent_and_outlive_their_entry(void **state)
{
    (void)state;
    struct cache_world c;

    open_world(&c, 16);
    struct pst_bytes token = mint(&c.w);
    assert_null(pst_token_cache_get(c.cache, c.w.checker, token, NOW_S));
    struct pst_token_outcome verified = ask_at(&c, token, NOW_S);
    const struct pst_claims *lent = pst_token_cache_get(c.cache, c.w.checker, token, NOW_S);
    assert_true(lent != NULL && pst_bytes_equal(lent->user, verified.claims.user));
    assert_int_equal(hits(&c), 1);

    /* another token with the same end is another token */
    char *twin = pst_arena_alloc(&c.w.arena, token.len);
    memcpy(twin, token.ptr, token.len);
    twin[token.len - 90] = (char)(twin[token.len - 90] == 'A' ? 'B' : 'A');
    assert_null(pst_token_cache_get(c.cache, c.w.checker, pst_bytes_of(twin, token.len), NOW_S));
    assert_false(ask_at(&c, pst_bytes_of(twin, token.len), NOW_S).accepted);
    const struct pst_claims *again = pst_token_cache_get(c.cache, c.w.checker, token, NOW_S);
    assert_ptr_equal(again, lent);
    pst_token_claims_release(again);

    assert_null(pst_token_cache_get(c.cache, c.w.checker, token, verified.claims.exp_s + 1000));
    assert_null(pst_token_cache_get(c.cache, c.w.checker, token, NOW_S)); /* it was dropped, yet: */
    assert_true(pst_bytes_equal(lent->user, verified.claims.user));
    pst_token_claims_release(lent);
    close_world(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_gives_the_same_claims),
        cmocka_unit_test(the_clock_is_asked_at_each_hit),
        cmocka_unit_test(a_key_that_is_gone_takes_its_tokens_along),
        cmocka_unit_test(another_configuration_believes_nothing_of_this_one),
        cmocka_unit_test(a_bad_signature_is_remembered_until_the_keys_change),
        cmocka_unit_test(bad_tokens_never_push_out_good_ones),
        cmocka_unit_test(claims_are_lent_and_outlive_their_entry),
        cmocka_unit_test(it_is_bounded_and_can_be_off),
    };
    return cmocka_run_group_tests_name("identity/cache", tests, NULL, NULL);
}
