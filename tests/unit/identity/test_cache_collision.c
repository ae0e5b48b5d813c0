/* identity/cache: with every hash equal, a token still gets its own claims and no other's. */
/* wrap: pst_hash_random16 */
#include "../test.h"

#include "mint_world.h"
#include "postern/base/hash.h"
#include "postern/identity/cache.h"

uint64_t __wrap_pst_hash_random16(const struct pst_hash_key *key, const char bytes[16]);

uint64_t __wrap_pst_hash_random16(const struct pst_hash_key *key, const char bytes[16])
{
    (void)key;
    (void)bytes;
    return 42;
}

static void equal_hashes_do_not_make_tokens_equal(void **state)
{
    (void)state;
    struct mint_world w;
    struct pst_token_cache *cache;
    struct pst_token_outcome out;
    struct pst_bytes tokens[2];
    static const struct pst_bytes names[2] = {{.ptr = "alice", .len = 5},
                                              {.ptr = "malry", .len = 5}};

    mint_world_open(&w, PST_ALG_EDDSA);
    assert_int_equal(pst_token_cache_create(8, &cache), PST_OK);
    for (int i = 0; i < 2; i++) {
        w.claims.subject = names[i];
        tokens[i] = mint(&w);
    }
    assert_int_equal(tokens[0].len, tokens[1].len);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(
            pst_token_cache_verify(cache, w.checker, tokens[i / 2 % 2], NOW_S, &w.arena, &out),
            PST_OK);
        assert_true(out.accepted && pst_bytes_equal(out.claims.subject, names[i / 2 % 2]));
    }
    assert_int_equal(pst_token_cache_stats(cache).hits,
                     3); /* each second time: the other one had taken the place */
    pst_token_cache_destroy(cache);
    mint_world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_hashes_do_not_make_tokens_equal)};

    return cmocka_run_group_tests_name("identity/cache (collisions)", tests, NULL, NULL);
}
