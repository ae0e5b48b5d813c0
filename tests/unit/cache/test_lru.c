/* cache/lru: one test per promise of the header, then a model check. */
/* wrap: calloc */
#include "../test.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "postern/cache/lru.h"

#define REV 7u /* the policy revision most tests run under */

static const struct pst_lru_config CONFIG = {
    .capacity = 3,
    .key_max = 16,
    .value_size = sizeof(int),
    .ttl_ns = 100,
    .hash_key = {.k0 = 1, .k1 = 2},
};

/* Allocation failure on demand: the linker sends calloc here (--wrap=calloc). */
static int callocs_before_failure = -1; /* -1: never fail */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    if (callocs_before_failure == 0)
        return NULL;
    if (callocs_before_failure > 0)
        callocs_before_failure--;
    return __real_calloc(n, size);
}

static int open_cache(void **state)
{
    struct pst_lru *lru;
    int failed = pst_lru_create(&CONFIG, &lru) != PST_OK;
    *state = lru;
    return failed;
}

static int close_cache(void **state)
{
    bool sound = pst_lru_check(*state); /* every test ends with a sound structure */
    pst_lru_destroy(*state);
    return sound ? 0 : -1;
}

static void put(struct pst_lru *lru, struct pst_bytes key, int value)
{
    assert_int_equal(pst_lru_put(lru, key, REV, 0, &value), PST_OK);
}

/* The value at time 0, or -1 for a miss. */
static int get(struct pst_lru *lru, struct pst_bytes key)
{
    int value = -1;
    return pst_lru_get(lru, key, REV, 0, &value) ? value : -1;
}

static void create_rejects_a_bad_config(void **state)
{
    (void)state;
    struct pst_lru_config bad = CONFIG;
    struct pst_lru *lru = (void *)&bad; /* anything but NULL */

    bad.capacity = 0;
    assert_int_equal(pst_lru_create(&bad, &lru), PST_E_INVALID);
    assert_null(lru);

    bad = CONFIG;
    bad.value_size = PST_LRU_ITEM_MAX + 1;
    assert_int_equal(pst_lru_create(&bad, &lru), PST_E_INVALID);
    assert_null(lru);
}

static void create_survives_every_allocation_failure(void **state)
{
    (void)state;
    struct pst_lru *lru;

    for (int n = 0; n < 3; n++) {
        callocs_before_failure = n;
        enum pst_status status = pst_lru_create(&CONFIG, &lru);
        callocs_before_failure = -1;
        assert_int_equal(status, PST_E_NOMEM);
        assert_null(lru);
    }
}

static void get_copies_the_value_of_the_last_put(void **state)
{
    put(*state, PST_LIT("alice"), 1);
    put(*state, PST_LIT("bob"), 2);
    put(*state, PST_LIT("alice"), 3);

    assert_int_equal(get(*state, PST_LIT("alice")), 3);
    assert_int_equal(get(*state, PST_LIT("bob")), 2);
    assert_int_equal(pst_lru_stats(*state).used, 2);
}

static void a_miss_leaves_the_value_as_it_was(void **state)
{
    int value = 42;

    assert_false(pst_lru_get(*state, PST_LIT("nobody"), REV, 0, &value));
    assert_int_equal(value, 42);
    assert_int_equal(pst_lru_stats(*state).misses, 1);
}

static void a_full_cache_evicts_the_least_recently_used(void **state)
{
    put(*state, PST_LIT("a"), 1);
    put(*state, PST_LIT("b"), 2);
    put(*state, PST_LIT("c"), 3);
    assert_int_equal(get(*state, PST_LIT("a")), 1); /* now b is the oldest */
    put(*state, PST_LIT("d"), 4);

    assert_int_equal(get(*state, PST_LIT("b")), -1);
    assert_int_equal(get(*state, PST_LIT("a")), 1);
    assert_int_equal(get(*state, PST_LIT("c")), 3);
    assert_int_equal(get(*state, PST_LIT("d")), 4);
    assert_int_equal(pst_lru_stats(*state).evicted, 1);
}

static void an_entry_dies_exactly_at_its_time_to_live(void **state)
{
    int value = 0;

    put(*state, PST_LIT("a"), 1); /* at time 0, lives for 100 */
    assert_true(pst_lru_get(*state, PST_LIT("a"), REV, 99, &value));
    assert_false(pst_lru_get(*state, PST_LIT("a"), REV, 100, &value));
    assert_int_equal(pst_lru_stats(*state).stale, 1);
    assert_int_equal(pst_lru_stats(*state).used, 0);
}

static void another_revision_never_sees_the_entry(void **state)
{
    int value = 0;

    put(*state, PST_LIT("a"), 1);
    assert_false(pst_lru_get(*state, PST_LIT("a"), REV + 1, 0, &value));
    assert_int_equal(get(*state, PST_LIT("a")), -1); /* and it is gone for good */
}

static void put_refuses_a_key_it_could_not_keep(void **state)
{
    int value = 1;

    assert_int_equal(pst_lru_put(*state, PST_LIT(""), REV, 0, &value), PST_E_LIMIT);
    assert_int_equal(pst_lru_put(*state, PST_LIT("seventeen bytes.."), REV, 0, &value),
                     PST_E_LIMIT);
    assert_int_equal(pst_lru_stats(*state).used, 0);
}

static void remove_reports_whether_it_removed(void **state)
{
    put(*state, PST_LIT("a"), 1);
    assert_true(pst_lru_remove(*state, PST_LIT("a")));
    assert_false(pst_lru_remove(*state, PST_LIT("a")));
    assert_int_equal(get(*state, PST_LIT("a")), -1);
}

/* The same cache written the obvious way: an array and a use counter. */
struct model {
    struct {
        bool live;
        int key, value;
        uint64_t used_at;
    } slot[3];
    uint64_t clock;
};

static int model_find(const struct model *m, int key)
{
    for (int i = 0; i < 3; i++)
        if (m->slot[i].live && m->slot[i].key == key)
            return i;
    return -1;
}

static int model_room(const struct model *m)
{
    int oldest = 0;
    for (int i = 0; i < 3; i++) {
        if (!m->slot[i].live)
            return i;
        if (m->slot[i].used_at < m->slot[oldest].used_at)
            oldest = i;
    }
    return oldest;
}

static void agrees_with_the_model(void **state)
{
    struct model m = {.clock = 0};
    uint32_t random = 12345; /* a fixed seed: a failure repeats */

    for (int step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        int key = (int)(random >> 16) % 7;
        int at = model_find(&m, key);
        char name[8];
        struct pst_bytes k = pst_bytes_of(name, (size_t)snprintf(name, sizeof(name), "k%d", key));

        switch (random >> 29) {
        case 0: /* remove */
            assert_int_equal(pst_lru_remove(*state, k), at >= 0);
            if (at >= 0)
                m.slot[at].live = false;
            break;
        case 1: /* put */
        case 2:
        case 3:
            put(*state, k, step);
            if (at < 0)
                at = model_room(&m);
            m.slot[at].live = true;
            m.slot[at].key = key;
            m.slot[at].value = step;
            m.slot[at].used_at = ++m.clock;
            break;
        default: /* get */
            assert_int_equal(get(*state, k), at >= 0 ? m.slot[at].value : -1);
            if (at >= 0)
                m.slot[at].used_at = ++m.clock;
            break;
        }
        assert_true(pst_lru_check(*state));
    }
}

static void keys_that_are_hashes_are_eight_bytes(void **state)
{
    (void)state;
    struct pst_lru_config config = {
        .capacity = 2, .key_max = 8, .value_size = sizeof(int), .keys_are_hashes = true};
    struct pst_lru *lru;
    int value = 0;

    assert_int_equal(pst_lru_create(&config, &lru), PST_OK);
    for (uint64_t hash = 1; hash <= 3; hash++) {
        value = (int)hash;
        assert_int_equal(pst_lru_put(lru, pst_bytes_of(&hash, 8), 0, 0, &value), PST_OK);
    }
    uint64_t gone = 1, kept = 3;
    assert_false(pst_lru_get(lru, pst_bytes_of(&gone, 8), 0, 0, &value));
    assert_true(pst_lru_get(lru, pst_bytes_of(&kept, 8), 0, 0, &value) && value == 3);
    assert_true(pst_lru_check(lru));
    pst_lru_destroy(lru);
    config.key_max = 16;
    assert_int_equal(pst_lru_create(&config, &lru), PST_E_INVALID);
}

int main(void)
{
#define CACHE_TEST(f) cmocka_unit_test_setup_teardown(f, open_cache, close_cache)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_rejects_a_bad_config),
        cmocka_unit_test(create_survives_every_allocation_failure),
        CACHE_TEST(get_copies_the_value_of_the_last_put),
        CACHE_TEST(a_miss_leaves_the_value_as_it_was),
        CACHE_TEST(a_full_cache_evicts_the_least_recently_used),
        CACHE_TEST(an_entry_dies_exactly_at_its_time_to_live),
        CACHE_TEST(another_revision_never_sees_the_entry),
        CACHE_TEST(put_refuses_a_key_it_could_not_keep),
        CACHE_TEST(remove_reports_whether_it_removed),
        cmocka_unit_test(keys_that_are_hashes_are_eight_bytes),
        CACHE_TEST(agrees_with_the_model),
    };
    return cmocka_run_group_tests_name("cache/lru", tests, NULL, NULL);
}
