/* Roles whose rows the reader knows, on every kind of database: what is read of them, and what
 * comes of it. */
#include "../test.h"

#include "kinds.h"

#define MANY 300u /* rows: enough not to be read again */

/* `count` rows of a role, beginning at `from`, in one change; each stands twice, some decide
 * nothing. */
static void grow(struct pst_store *s, uint32_t role, unsigned from, unsigned count)
{
    struct pst_change *c = begin(s);

    for (unsigned at = from; at < from + count;) {
        struct pst_row_permission rows[100], *list[100];
        char ids[100][16];
        size_t n = 0, failed;
        for (; at < from + count && n < 100; at++, n++) {
            int len = snprintf(ids[n], sizeof(ids[n]), "id-%u", at / 2);
            rows[n] = (struct pst_row_permission){.role = role,
                                                  .scope = PST_LIT("global"),
                                                  .entity = PST_LIT("things"),
                                                  .has_entity_id = true,
                                                  .entity_id = pst_bytes_of(ids[n], (size_t)len),
                                                  .has_access = at % 7 != 0,
                                                  .access = PST_A_LIST};
            list[n] = &rows[n];
        }
        MUST(pst_change_add_permissions(c, list, n, &failed, &why));
    }
    (void)commit(c);
}

static struct pst_policy *whole_policy(struct pst_store *s)
{
    struct pst_model *m;
    struct pst_policy *policy;
    struct pst_revision at;

    MUST(pst_store_load_model(s, &m, &at, &why));
    MUST(pst_policy_compile(m, &policy, &why));
    pst_store_free_model(m);
    return policy;
}

struct reading {
    uint32_t rows, gone, total;
    bool partial;
};

/* Reads the roles as who holds *policy does, patches it, and compares it with all that there is. */
static struct reading follow(struct pst_store *s, struct pst_policy **policy, const uint32_t *ids,
                             size_t count)
{
    const struct pst_log_mark none = {0};
    const struct pst_log_roles which = {
        .since = &none, .node = PST_LIT(""), .ids = ids, .count = count, .base = *policy};
    struct pst_log_page page;
    struct pst_model *m;
    struct pst_policy *next, *whole = whole_policy(s);

    MUST(pst_store_log_roles(s, &which, &page, &m, &why));
    pst_log_page_fini(&page);
    struct reading r = {.rows = m->permission_count, .gone = m->gone_count};
    if (m->role_count > 0) {
        r.partial = m->roles[0].partial;
        r.total = m->roles[0].total;
    }
    const struct pst_policy_patch patch = {
        .model = m, .touched = ids, .touched_count = (uint32_t)count};
    MUST(pst_policy_patch(*policy, &patch, &next, &why));
    pst_store_free_model(m);
    struct pst_policy_stats a, b;
    pst_policy_stats(next, &a);
    pst_policy_stats(whole, &b);
    assert_memory_equal(&a, &b, sizeof(a));
    for (size_t i = 0; i < count; i++) {
        uint32_t n, m_count, *have = pst_policy_permissions(next, ids[i], &n),
                             *want = pst_policy_permissions(whole, ids[i], &m_count);
        assert_int_equal(n, m_count);
        if (n > 0)
            assert_memory_equal(have, want, n * sizeof(*have));
        free(have);
        free(want);
    }
    pst_policy_destroy(whole);
    pst_policy_destroy(*policy);
    *policy = next;
    return r;
}

static void expect(struct reading r, bool partial, uint32_t rows, uint32_t gone, uint32_t total)
{
    assert_int_equal(r.partial, partial);
    assert_int_equal(r.rows, rows);
    assert_int_equal(r.gone, gone);
    assert_int_equal(r.total, total);
}

static uint32_t new_role(struct pst_store *s, const char *name)
{
    struct pst_change *c = begin(s);
    uint32_t id = add_role(c, name, 0);

    (void)commit(c);
    return id;
}

static void delete_rows(const struct place *p, uint32_t role, const char *which)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "DELETE FROM permissions WHERE role_id = %u AND %s", role,
                   which);
    assert_int_equal(raw_change(p, sql, "all"), RAW_DONE);
}

static void test_only_what_is_not_known_is_read(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    uint32_t role = new_role(s, "large"), other = new_role(s, "small");

    grow(s, role, 0, MANY);
    grow(s, other, 0, 4);
    struct pst_policy *policy = whole_policy(s);
    expect(follow(s, &policy, &role, 1), true, 0, 0, MANY);
    grow(s, role, MANY, 5);
    expect(follow(s, &policy, &role, 1), true, 5, 0, MANY + 5);
    delete_rows(*state, role, "entity_id IN ('id-3', 'id-50')");
    expect(follow(s, &policy, &role, 1), true, 0, 4, MANY + 1);
    delete_rows(*state, role, "entity_id = 'id-7'");
    grow(s, role, 14, 1);
    grow(s, other, 4, 2);
    /* named twice, and beside one that is small */
    const uint32_t both[] = {role, other, role};
    expect(follow(s, &policy, both, 3), true, 1 + 6, 2, MANY);
    expect(follow(s, &policy, &other, 1), false, 6, 0, 0);
    pst_policy_destroy(policy);
    pst_store_close(s);
}

static void test_a_role_that_loses_all_its_rows(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    uint32_t role = new_role(s, "large");
    struct pst_change *c;

    grow(s, role, 0, MANY);
    struct pst_policy *policy = whole_policy(s);
    delete_rows(*state, role, "1 = 1");
    expect(follow(s, &policy, &role, 1), true, 0, MANY, 0);
    grow(s, role, 0, MANY);
    expect(follow(s, &policy, &role, 1), false, MANY, 0, 0);
    c = begin(s);
    MUST(pst_change_delete_role(c, role, &why));
    (void)commit(c);
    struct reading gone = follow(s, &policy, &role, 1);
    assert_int_equal(gone.rows, 0);
    pst_policy_destroy(policy);
    pst_store_close(s);
}

/* What costs more to ask for one by one is read whole. */
static void test_too_many_new_rows_are_not_asked_for_by_id(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    uint32_t role = new_role(s, "large"), second = new_role(s, "second");

    grow(s, role, 0, MANY);
    grow(s, second, 0, MANY);
    struct pst_policy *policy = whole_policy(s);
    grow(s, role, MANY, 2500);
    grow(s, second, MANY, 3);
    const uint32_t both[] = {role, second};
    expect(follow(s, &policy, both, 2), false, MANY + 2500 + 3, 0, 0);
    grow(s, role, 0, 1500);
    grow(s, second, 0, 1500); /* each of them few enough, together too many */
    struct reading r = follow(s, &policy, both, 2);
    assert_int_equal(r.rows, 1500 + MANY + 3 + 1500);
    pst_policy_destroy(policy);
    pst_store_close(s);
}

/* What a node has read once need not be read again because it cannot become another. */
static void test_a_row_does_not_change(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    uint32_t role = new_role(s, "r");

    grow(s, role, 0, 3);
    assert_int_equal(raw_change(*state, "UPDATE permissions SET access = 2", "all"), RAW_REFUSED);
    assert_int_equal(raw_change(*state, "UPDATE permissions SET entity = 'x'", "all"), RAW_REFUSED);
    assert_int_equal(raw_number(*state, "SELECT count(*) FROM permissions WHERE access = 2"), 0);
    pst_store_close(s);
}

#define TESTS(make)                                                                                \
    cmocka_unit_test_setup_teardown(test_only_what_is_not_known_is_read, make, drop),              \
        cmocka_unit_test_setup_teardown(test_a_role_that_loses_all_its_rows, make, drop),          \
        cmocka_unit_test_setup_teardown(test_too_many_new_rows_are_not_asked_for_by_id, make,      \
                                        drop),                                                     \
        cmocka_unit_test_setup_teardown(test_a_row_does_not_change, make, drop)

int main(void)
{
    const struct CMUnitTest sqlite[] = {TESTS(make_sqlite)}, postgres[] = {TESTS(make_postgres)},
                            pgbouncer[] = {TESTS(make_pgbouncer)};

    return cmocka_run_group_tests_name("loading from sqlite", sqlite, NULL, NULL) +
           cmocka_run_group_tests_name("loading from postgresql", postgres, NULL, NULL) +
           cmocka_run_group_tests_name("loading from pgbouncer", pgbouncer, NULL, NULL);
}
