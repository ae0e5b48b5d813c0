/* Reading the change log: keys, proofs, and every way in which a proof must fail. */
#include "../test.h"

#include "kinds.h"

static struct pst_log_page read_log(struct pst_store *s, const struct pst_log_mark *mark)
{
    struct pst_log_page page;
    MUST(pst_store_log(s, mark, PST_LIT(""), &page, &why));
    return page;
}

static struct pst_log_mark head_of(struct pst_store *s)
{
    struct pst_log_mark none = {0};
    struct pst_log_page page = read_log(s, &none);
    struct pst_log_mark mark = page.head;

    assert_false(page.proved);
    assert_true(page.all);
    pst_log_page_fini(&page);
    return mark;
}

static void test_keys_since(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_log_mark mark = head_of(s);

    struct pst_log_page page = read_log(s, &mark);
    assert_true(page.proved);
    assert_false(page.all);
    assert_int_equal(page.key_count, 0);
    assert_int_equal(page.max_staleness_s, 5);
    pst_log_page_fini(&page);

    struct pst_change *c = begin(s);
    uint64_t alice = add_user(c, "alice");
    uint32_t role = add_role(c, "r", 0), blue = add_workspace(c, "blue");
    add_permission(c, role, "x", 1);
    (void)commit(c);
    c = begin(s);
    (void)bind_role(c, alice, role, 0);
    (void)commit(c);

    page = read_log(s, &mark);
    assert_true(page.proved);
    assert_false(page.all);
    assert_int_equal(page.head.revision.n, 2);
    assert_int_equal(page.key_count, 4);
    static const enum pst_log_key_kind KINDS[] = {PST_LOG_USER, PST_LOG_ROLE, PST_LOG_WORKSPACE,
                                                  PST_LOG_USER};
    const uint64_t ids[] = {alice, role, blue, alice}, ns[] = {1, 1, 1, 2};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(page.keys[i].kind, KINDS[i]);
        assert_int_equal(page.keys[i].id, ids[i]);
        assert_int_equal(page.keys[i].n, ns[i]);
    }
    mark = page.head;
    pst_log_page_fini(&page);
    page = read_log(s, &mark);
    assert_true(page.proved);
    assert_int_equal(page.key_count, 0);
    pst_log_page_fini(&page);
    pst_store_close(s);
}

/* An address finds a user while it is his alone. */
static void test_an_address_that_is_shared_touches_both(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_row_user a = {.name = PST_LIT("a"), .email = PST_LIT("x@x.test")},
                        b = {.name = PST_LIT("b"), .email = PST_LIT("y@x.test")},
                        c = {.name = PST_LIT("c"), .email = PST_LIT("x@x.test")};
    struct pst_change *change = begin(s);

    MUST(pst_change_put_user(change, &a, &why));
    MUST(pst_change_put_user(change, &b, &why));
    (void)commit(change);
    for (unsigned i = 0; i < 2; i++) {
        struct pst_row_user *put = i == 0 ? &b : &c;
        struct pst_log_mark mark = head_of(s);
        b.email = PST_LIT("x@x.test");
        change = begin(s);
        MUST(pst_change_put_user(change, put, &why));
        (void)commit(change);
        struct pst_log_page page = read_log(s, &mark);
        assert_int_equal(page.key_count, i == 0 ? 2 : 1); /* of two it found none already */
        assert_int_equal(page.keys[0].id, put->id);
        if (i == 0)
            assert_int_equal(page.keys[1].id, a.id);
        pst_log_page_fini(&page);
    }
    pst_store_close(s);
}

static void test_deletions_touch_all_they_take_along(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t blue = add_workspace(c, "blue"), mine = add_role(c, "mine", blue),
             common = add_role(c, "c", 0);
    uint64_t a = add_user(c, "a"), b = add_user(c, "b");
    (void)bind_role(c, a, common, blue);
    (void)bind_role(c, b, mine, blue);
    add_permission(c, mine, "x", 1);
    (void)commit(c);
    struct pst_log_mark mark = head_of(s);

    c = begin(s);
    MUST(pst_change_delete_workspace(c, blue, &why));
    (void)commit(c);
    struct pst_log_page page = read_log(s, &mark);
    unsigned seen = 0;
    for (size_t i = 0; i < page.key_count; i++) {
        const struct pst_log_key *k = &page.keys[i];
        seen |= k->kind == PST_LOG_USER && k->id == a ? 1u : 0;
        seen |= k->kind == PST_LOG_USER && k->id == b ? 2u : 0;
        seen |= k->kind == PST_LOG_ROLE && k->id == mine ? 4u : 0;
        seen |= k->kind == PST_LOG_WORKSPACE && k->id == blue ? 8u : 0;
    }
    assert_int_equal(seen, 15);
    pst_log_page_fini(&page);
    struct pst_facts *f = facts_of(s, "a");
    assert_int_equal(f->binding_count, 0);
    pst_facts_free(f);
    c = begin(s);
    assert_int_equal(pst_change_delete_role(c, mine, NULL), PST_E_ABSENT);
    pst_change_abort(c);
    pst_store_close(s);
}

static void test_many_keys_become_all(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_log_mark mark = head_of(s);
    static const unsigned COUNTS[] = {1000, 1001};

    for (unsigned k = 0; k < 2; k++) {
        struct pst_change *c = begin(s);
        for (unsigned i = 0; i < COUNTS[k]; i++) {
            char name[32];
            (void)snprintf(name, sizeof(name), "u-%u-%u", k, i);
            (void)add_user(c, name);
        }
        (void)commit(c);
        struct pst_log_page page = read_log(s, &mark);
        assert_true(page.proved);
        assert_int_equal(page.all, k == 1);
        if (k == 0)
            assert_int_equal(page.key_count, 1000);
        mark = page.head;
        pst_log_page_fini(&page);
    }
    pst_store_close(s);
}

static void test_too_far_behind(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_log_mark mark = head_of(s), newest;

    for (unsigned i = 0; i < PST_LOG_ROWS_MAX + 2; i++) {
        struct pst_change *c = begin(s);
        char name[32];
        (void)snprintf(name, sizeof(name), "r-%u", i);
        (void)add_role(c, name, 0);
        (void)commit(c);
        if (i == PST_LOG_ROWS_MAX - 1) {
            struct pst_log_page page = read_log(s, &mark);
            assert_true(page.proved && !page.all);
            assert_int_equal(page.key_count, PST_LOG_ROWS_MAX);
            pst_log_page_fini(&page);
        }
    }
    newest = head_of(s);
    struct pst_log_page page = read_log(s, &mark);
    assert_true(page.proved);
    assert_true(page.all);
    assert_int_equal(page.head.revision.n, PST_LOG_ROWS_MAX + 2);
    assert_memory_equal(&page.head, &newest, sizeof(newest));
    pst_log_page_fini(&page);

    /* Retention: from the old end only, and who is behind it starts anew. */
    assert_int_equal(raw(*state, "DELETE FROM change_log WHERE n BETWEEN 2 AND 9"), RAW_REFUSED);
    MUST(pst_store_retain(s, PST_LOG_ROWS_MAX + 2 - 500, &why));
    assert_int_equal(raw_number(*state, "SELECT min(n) FROM change_log"), 501);
    assert_int_equal(pst_store_retain(s, 0, NULL), PST_E_INVALID);
    page = read_log(s, &mark);
    assert_true(page.all);
    pst_log_page_fini(&page);
    struct pst_log_mark behind = {.revision = {mark.revision.epoch, 400}, .stamp = {1, 2}};
    page = read_log(s, &behind);
    assert_false(page.proved);
    pst_log_page_fini(&page);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);
}

static void test_broken_proofs(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    for (unsigned i = 0; i < 3; i++) {
        struct pst_change *c = begin(s);
        char name[8];
        (void)snprintf(name, sizeof(name), "r%u", i);
        (void)add_role(c, name, 0);
        (void)commit(c);
    }
    struct pst_log_mark good = head_of(s), bad[4] = {good, good, good, good};
    bad[0].revision.epoch ^= 1; /* another epoch */
    bad[1].stamp.lo ^= 1;       /* the same number, another change */
    bad[2].stamp.hi ^= 1;
    bad[3].revision.n += 5; /* the log went back */
    for (size_t i = 0; i < 4; i++) {
        struct pst_log_page page = read_log(s, &bad[i]);
        assert_false(page.proved);
        assert_true(page.all);
        assert_memory_equal(&page.head, &good, sizeof(good));
        pst_log_page_fini(&page);
    }
    struct pst_log_page page = read_log(s, &good);
    assert_true(page.proved && !page.all);
    pst_log_page_fini(&page);
    pst_store_close(s);
}

static void test_unreadable_keys_mean_all(void **state)
{
    static const char *const KEYS[] = {
        "", "[]x", "[\"user:1\"", "[\"user:x\"]", "[\"team:1\"]", "[\"user:-1\"]", "{}", "[1]"};
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);

    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++) {
        struct pst_log_mark mark = head_of(s);
        assert_int_equal(raw_change(*state, "SELECT 1", KEYS[i]), RAW_DONE);
        struct pst_log_page page = read_log(s, &mark);
        assert_true(page.proved);
        if (!page.all)
            fail_msg("taken as keys: %s", KEYS[i]);
        pst_log_page_fini(&page);
    }
    pst_store_close(s);
}

/* A cheap look, where the database has one: else the log is read. */
static void test_hint(void **state)
{
    const struct place *p = *state;
    struct pst_store *a = place_open(p, PST_STORE_CREATE), *b = place_open(p, PST_STORE_READ);
    uint64_t before, same, after;

    if (p->kind != PLACE_SQLITE) {
        assert_int_equal(pst_store_hint(b, &before, NULL), PST_E_ABSENT);
    } else {
        MUST(pst_store_hint(b, &before, &why));
        MUST(pst_store_hint(b, &same, &why));
        assert_int_equal(before, same);
        struct pst_change *c = begin(a);
        (void)add_role(c, "r", 0);
        (void)commit(c);
        MUST(pst_store_hint(b, &after, &why));
        assert_int_not_equal(before, after);
    }
    pst_store_close(b);
    pst_store_close(a);
}

/* A database that wants newer programs proves nothing to this one; a newer one that does not is
 * read as before. */
static void test_schema_range(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_log_mark mark = head_of(s);
    struct pst_log_page page;
    struct pst_error error = {0};

    assert_int_equal(raw(p, "UPDATE meta SET schema_version = 99"), RAW_DONE);
    page = read_log(s, &mark);
    assert_true(page.proved);
    pst_log_page_fini(&page);
    pst_store_close(place_open(p, PST_STORE_READ));
    assert_int_equal(raw(p, "UPDATE meta SET schema_oldest_reader = 99"), RAW_DONE);
    assert_int_equal(pst_store_log(s, &mark, PST_LIT(""), &page, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "newer Postern"));
    pst_store_close(s);
}

static void test_restored_is_another_history(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_store *other = place_open(*state, PST_STORE_WRITE);
    struct pst_change *c = begin(s);
    (void)add_role(c, "r", 0);
    struct pst_revision before, after;
    /* Not in the middle of a change, which names the epoch that it was committed in. */
    assert_int_equal(pst_store_restored(other, &after, NULL), PST_E_BUSY);
    pst_store_close(other);
    before = commit(c);
    struct pst_log_mark mark = head_of(s);

    MUST(pst_store_restored(s, &after, &why));
    assert_int_equal(after.n, before.n);
    assert_int_not_equal(after.epoch, before.epoch);
    assert_int_equal(raw_number(*state, "SELECT restores FROM state"), 1);
    struct pst_log_page page = read_log(s, &mark);
    assert_false(page.proved);
    assert_int_equal(page.head.revision.epoch, after.epoch);
    pst_log_page_fini(&page);
    pst_store_close(s);
}

#define TESTS(make)                                                                                \
    cmocka_unit_test_setup_teardown(test_keys_since, make, drop),                                  \
        cmocka_unit_test_setup_teardown(test_an_address_that_is_shared_touches_both, make, drop),  \
        cmocka_unit_test_setup_teardown(test_deletions_touch_all_they_take_along, make, drop),     \
        cmocka_unit_test_setup_teardown(test_many_keys_become_all, make, drop),                    \
        cmocka_unit_test_setup_teardown(test_too_far_behind, make, drop),                          \
        cmocka_unit_test_setup_teardown(test_broken_proofs, make, drop),                           \
        cmocka_unit_test_setup_teardown(test_unreadable_keys_mean_all, make, drop),                \
        cmocka_unit_test_setup_teardown(test_schema_range, make, drop),                            \
        cmocka_unit_test_setup_teardown(test_restored_is_another_history, make, drop),             \
        cmocka_unit_test_setup_teardown(test_hint, make, drop)

int main(void)
{
    const struct CMUnitTest sqlite[] = {TESTS(make_sqlite)}, postgres[] = {TESTS(make_postgres)},
                            pgbouncer[] = {TESTS(make_pgbouncer)};

    return cmocka_run_group_tests_name("log on sqlite", sqlite, NULL, NULL) +
           cmocka_run_group_tests_name("log on postgresql", postgres, NULL, NULL) +
           cmocka_run_group_tests_name("log on pgbouncer", pgbouncer, NULL, NULL);
}
