/* authz/facts_cache: what may be used, and until when (rule C4). */
#include "../test.h"

#include <stdlib.h>

#include "../../../src/authz/facts_cache_internal.h"

static struct pst_facts *facts_of(uint64_t user)
{
    struct pst_facts *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->user_id = user;
    return f;
}

static struct pst_who who_of(const char *name)
{
    return (struct pst_who){.kind = PST_WHO_SUBJECT,
                            .issuer = PST_LIT("https://idp/"),
                            .value = pst_bytes_of(name, strlen(name))};
}

static struct pst_facts_cache *cache_at(uint64_t n)
{
    struct pst_facts_cache *cache;

    assert_int_equal(pst_facts_cache_create(16, &cache), PST_OK);
    pst_facts_cache_forget(cache, n);
    return cache;
}

static void keep(struct pst_facts_cache *cache, const char *name, uint64_t user, uint64_t n)
{
    struct pst_who who = who_of(name);
    struct pst_fact_entry *e = pst_facts_cache_put(cache, &who, facts_of(user), n);

    assert_non_null(e);
    pst_fact_entry_release(e);
}

static uint64_t user_of(struct pst_facts_cache *cache, const char *name)
{
    struct pst_who who = who_of(name);
    struct pst_fact_entry *e = pst_facts_cache_get(cache, &who);
    uint64_t user = e == NULL ? UINT64_MAX : e->facts->user_id;

    pst_fact_entry_release(e);
    return user;
}

static void what_was_kept_is_found_by_its_whole_name(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);

    keep(cache, "alice", 7, 5);
    assert_int_equal(user_of(cache, "alice"), 7);
    assert_int_equal(user_of(cache, "alic"), UINT64_MAX);
    struct pst_who other = who_of("alice");
    other.issuer = PST_LIT("https://other/");
    assert_null(pst_facts_cache_get(cache, &other));
    pst_facts_cache_destroy(cache);
}

static void a_touched_user_is_read_again_and_others_stay(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);

    keep(cache, "alice", 7, 5);
    keep(cache, "bob", 8, 5);
    pst_facts_cache_touch(cache, 7, 6);
    pst_facts_cache_advance(cache, 6);
    assert_int_equal(user_of(cache, "alice"), UINT64_MAX);
    assert_int_equal(user_of(cache, "bob"), 8);
    keep(cache, "alice", 7, 6);
    assert_int_equal(user_of(cache, "alice"), 7);
    pst_facts_cache_destroy(cache);
}

/* The race that a lease alone does not stop: rows read before a change arrive after it. */
static void a_fill_that_raced_a_change_is_not_used(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);

    pst_facts_cache_touch(cache, 7, 6);
    pst_facts_cache_advance(cache, 6);
    keep(cache, "alice", 7, 5);
    assert_int_equal(user_of(cache, "alice"), UINT64_MAX);
    pst_facts_cache_destroy(cache);
}

static void facts_ahead_of_the_log_wait_for_it(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);
    struct pst_facts *f = facts_of(7);

    assert_false(pst_facts_cache_usable(cache, f, 6));
    pst_facts_cache_advance(cache, 6);
    assert_true(pst_facts_cache_usable(cache, f, 6));
    pst_facts_free(f);
    pst_facts_cache_destroy(cache);
}

static void nobody_is_only_nobody_until_users_change(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);

    keep(cache, "carol", 0, 5);
    assert_int_equal(user_of(cache, "carol"), 0);
    pst_facts_cache_touch(cache, 99, 6);
    pst_facts_cache_advance(cache, 6);
    assert_int_equal(user_of(cache, "carol"), UINT64_MAX);
    pst_facts_cache_destroy(cache);
}

static void a_full_table_of_changes_forgets_towards_refusal(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);

    keep(cache, "alice", 1, 5);
    for (uint64_t user = 100; user < 20000; user++)
        pst_facts_cache_touch(cache, user, 6);
    pst_facts_cache_advance(cache, 6);
    assert_int_equal(user_of(cache, "alice"), UINT64_MAX); /* not touched, but who can tell */
    keep(cache, "alice", 1, 6);
    assert_int_equal(user_of(cache, "alice"), 1);
    pst_facts_cache_destroy(cache);
}

static void another_history_keeps_nothing(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(500);

    keep(cache, "alice", 7, 500);
    keep(cache, "bobby", 8, 2); /* a number that the other history knows, too */
    assert_int_equal(user_of(cache, "bobby"), 8);
    pst_facts_cache_forget(cache, 3);
    assert_int_equal(user_of(cache, "alice"), UINT64_MAX);
    assert_int_equal(user_of(cache, "bobby"), UINT64_MAX);
    keep(cache, "bobby", 9, 3);
    assert_int_equal(user_of(cache, "bobby"), 9);
    assert_int_equal(pst_facts_cache_applied(cache), 3);
    pst_facts_cache_destroy(cache);
}

static void a_decision_keeps_an_entry_that_left_the_cache(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);
    struct pst_who who = who_of("alice");
    struct pst_fact_entry *e = pst_facts_cache_put(cache, &who, facts_of(7), 5);
    char name[16];

    for (int i = 0; i < 64; i++) {
        name[0] = (char)('A' + i % 26);
        name[1] = (char)('a' + i / 26);
        name[2] = '\0';
        keep(cache, name, 1000 + (uint64_t)i, 5);
    }
    assert_int_equal(user_of(cache, "alice"), UINT64_MAX);
    assert_int_equal(e->facts->user_id, 7);
    pst_fact_entry_release(e);
    pst_facts_cache_destroy(cache);
}

/* Memory is used again: where one name stood, another one may stand now. */
static void another_name_at_the_same_place_is_somebody_else(void **state)
{
    (void)state;
    struct pst_facts_cache *cache = cache_at(5);
    char name[] = "alice";

    keep(cache, "alice", 7, 5);
    keep(cache, "bobby", 8, 5);
    for (int i = 0; i < 200; i++) {
        memcpy(name, i % 3 == 0 ? "bobby" : "alice", 5);
        assert_int_equal(user_of(cache, name), i % 3 == 0 ? 8 : 7);
    }
    memcpy(name, "carol", 5);
    assert_int_equal(user_of(cache, name), UINT64_MAX);
    memcpy(name, "alice", 5);
    pst_facts_cache_touch(cache, 7, 6);
    pst_facts_cache_advance(cache, 6);
    assert_int_equal(user_of(cache, name), UINT64_MAX);
    keep(cache, "alice", 9, 6);
    for (int i = 0; i < 200; i++)
        assert_int_equal(user_of(cache, name), 9);
    pst_facts_cache_forget(cache, 3);
    assert_int_equal(user_of(cache, name), UINT64_MAX);
    pst_facts_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_found_by_its_whole_name),
        cmocka_unit_test(a_touched_user_is_read_again_and_others_stay),
        cmocka_unit_test(a_fill_that_raced_a_change_is_not_used),
        cmocka_unit_test(facts_ahead_of_the_log_wait_for_it),
        cmocka_unit_test(nobody_is_only_nobody_until_users_change),
        cmocka_unit_test(a_full_table_of_changes_forgets_towards_refusal),
        cmocka_unit_test(another_history_keeps_nothing),
        cmocka_unit_test(another_name_at_the_same_place_is_somebody_else),
        cmocka_unit_test(a_decision_keeps_an_entry_that_left_the_cache),
    };
    return cmocka_run_group_tests_name("authz/facts_cache", tests, NULL, NULL);
}
