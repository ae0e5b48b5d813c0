/* Nodes and the publisher, on every kind of database; and loading some roles. */
#include "../test.h"

#include <time.h>

#include "kinds.h"
#include "postern/store/nodes.h"

struct seen {
    unsigned count;
    char names[64], routes[64];
    struct pst_node_row last;
};

static enum pst_status see(void *ctx, const struct pst_node_row *row)
{
    struct seen *s = ctx;

    s->count++;
    s->last = *row;
    s->last.node = s->last.version = s->last.routes = PST_LIT("");
    (void)snprintf(s->routes, sizeof(s->routes), "%.*s", (int)row->routes.len, row->routes.ptr);
    size_t used = strlen(s->names);
    (void)snprintf(s->names + used, sizeof(s->names) - used, "%.*s(%.*s) ", (int)row->node.len,
                   row->node.ptr, (int)row->version.len, row->version.ptr);
    return PST_OK;
}

static struct seen list(struct pst_store *s)
{
    struct seen seen = {0};
    MUST(pst_store_each_node(s, see, &seen, &why));
    return seen;
}

/* What a read of the log says of a node's row. */
static uint64_t bound_in_log(struct pst_store *s, struct pst_bytes node)
{
    const struct pst_log_mark none = {0};
    struct pst_log_page page;

    MUST(pst_store_log(s, &none, node, &page, &why));
    uint64_t bound_ms = page.node_bound_ms;
    pst_log_page_fini(&page);
    return bound_ms;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&t, NULL);
}

static void test_life_of_a_node(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_node_row a = {.node = PST_LIT("node-a"),
                             .version = PST_LIT("1.0"),
                             .applied = {.epoch = UINT64_C(0xfedcba9876543210), .n = 7},
                             .lease_age_ms = 12,
                             .bound_ms = 5000,
                             .exempt = 3,
                             .routes = PST_LIT("x GET /a\nx GET /b\n")};
    struct pst_node_row b = {.node = PST_LIT("node-b"), .version = PST_LIT("1.1")};

    assert_int_equal(pst_store_node_report(s, &a, NULL), PST_E_ABSENT);
    MUST(pst_store_node_register(s, &b, &why));
    assert_int_equal(bound_in_log(s, a.node), 0);
    MUST(pst_store_node_register(s, &a, &why));
    assert_int_equal(bound_in_log(s, a.node), 5000);
    assert_int_equal(bound_in_log(s, b.node), 0); /* asleep */
    assert_int_equal(bound_in_log(s, PST_LIT("")), 0);
    struct seen seen = list(s);
    assert_string_equal(seen.names, "node-a(1.0) node-b(1.1) ");
    assert_string_equal(seen.routes, "");
    pause_ms(30);
    a.applied.n = 8;
    a.draining = true;
    a.routes = PST_LIT("x GET /c\n");
    MUST(pst_store_node_unregister(s, b.node, &why));
    MUST(pst_store_node_unregister(s, b.node, &why)); /* again: nothing to do */
    MUST(pst_store_node_report(s, &a, &why));
    seen = list(s);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.last.applied.epoch, a.applied.epoch);
    assert_int_equal(seen.last.applied.n, 8);
    assert_int_equal(seen.last.lease_age_ms, 12);
    assert_int_equal(seen.last.bound_ms, 5000);
    assert_int_equal(seen.last.exempt, 3);
    assert_string_equal(seen.routes, "x GET /c\n");
    assert_true(seen.last.draining);
    assert_true(seen.last.reported_ms >= seen.last.started_ms + 25);
    assert_true(seen.last.silent_ms < 20000);

    uint64_t started = seen.last.started_ms;
    a.version = PST_LIT("2.0");
    a.draining = false;
    MUST(pst_store_node_register(s, &a, &why));
    seen = list(s);
    assert_string_equal(seen.names, "node-a(2.0) ");
    assert_true(seen.last.started_ms > started);
    assert_false(seen.last.draining);
    a.node = PST_LIT("");
    assert_int_equal(pst_store_node_register(s, &a, NULL), PST_E_INVALID);
    pst_store_close(s);
}

static void test_names_of_routes(void **state)
{
    char room[24];
    struct pst_buf list = pst_buf_of(room, sizeof(room));
    struct pst_bytes rest, one;

    (void)state;
    pst_node_routes_add(&list, PST_LIT("GET /a"));
    pst_node_routes_add(&list, PST_LIT("GET /b"));
    pst_node_routes_add(&list, PST_LIT("GET /a")); /* once */
    assert_int_equal(list.len, 14);
    pst_node_routes_add(&list, PST_LIT("GET /c")); /* one too many: told, once */
    pst_node_routes_add(&list, PST_LIT("GET /d"));
    pst_node_routes_add(&list, PST_LIT("..."));
    assert_int_equal(list.len, 18);
    assert_memory_equal(room, "GET /a\nGET /b\n...\n", 18);
    assert_false(list.full);
    rest = PST_LIT("one\n\ntwo"); /* whatever stands in a row */
    assert_true(pst_node_routes_next(&rest, &one));
    assert_int_equal(one.len, 3);
    assert_true(pst_node_routes_next(&rest, &one));
    assert_int_equal(one.len, 0);
    assert_true(pst_node_routes_next(&rest, &one));
    assert_true(pst_bytes_equal(one, PST_LIT("two")));
    assert_false(pst_node_routes_next(&rest, &one));
}

static void test_one_publisher(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    (void)add_role(c, "r", 0);
    struct pst_revision at = commit(c), head;
    bool mine;

    MUST(pst_store_publisher_claim(s, PST_LIT("a"), 60000, &mine, &head, &why));
    assert_true(mine);
    assert_int_equal(head.n, at.n);
    assert_int_equal(head.epoch, at.epoch);
    MUST(pst_store_publisher_claim(s, PST_LIT("b"), 60000, &mine, &head, &why));
    assert_false(mine);
    assert_int_equal(head.n, at.n);
    MUST(pst_store_publisher_claim(s, PST_LIT("a"), 1, &mine, &head, &why)); /* keeps it: 1 ms */
    assert_true(mine);
    pause_ms(20);
    MUST(pst_store_publisher_claim(s, PST_LIT("b"), 60000, &mine, &head, &why));
    assert_true(mine);
    MUST(pst_store_publisher_claim(s, PST_LIT("a"), 60000, &mine, &head, &why));
    assert_false(mine);
    pst_store_close(s);
}

static void test_fleet_key(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    uint8_t key[PST_FLEET_KEY_BYTES] = {0}, again[PST_FLEET_KEY_BYTES] = {0},
            none[PST_FLEET_KEY_BYTES] = {0};

    MUST(pst_store_fleet_key(s, key, &why));
    MUST(pst_store_fleet_key(s, again, &why));
    assert_memory_equal(key, again, sizeof(key));
    assert_memory_not_equal(key, none, sizeof(key));
    pst_store_close(s);
}

static void test_some_roles(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t blue = add_workspace(c, "blue"), ids[4];
    for (unsigned i = 0; i < 4; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "r%u", i);
        ids[i] = add_role(c, name, i == 1 ? blue : 0);
        add_permission(c, ids[i], "x", 1);
        add_permission(c, ids[i], "y", 2);
    }
    struct pst_revision at = commit(c), r;
    uint32_t wanted[] = {ids[3], ids[1], 4000000000u};
    struct pst_model *m;

    MUST(pst_store_load_roles(s, wanted, 3, true, &m, &r, &why));
    assert_int_equal(r.n, at.n);
    assert_int_equal(r.epoch, at.epoch);
    assert_int_equal(m->workspace_count, 1);
    assert_int_equal(m->role_count, 2);
    assert_int_equal(m->roles[0].id, ids[1]);
    assert_int_equal(m->roles[0].workspace, blue);
    assert_int_equal(m->roles[1].id, ids[3]);
    assert_int_equal(m->permission_count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(m->permissions[i].role, ids[i < 2 ? 1 : 3]);
    pst_store_free_model(m);

    MUST(pst_store_view(s, &why)); /* inside a view, too */
    MUST(pst_store_load_roles(s, NULL, 0, false, &m, &r, &why));
    assert_int_equal(m->workspace_count + m->role_count + m->permission_count, 0);
    pst_store_free_model(m);
    pst_store_view_end(s);
    assert_int_equal(pst_store_load_roles(s, ids, PST_LOAD_ROLES_MAX + 1, false, &m, &r, NULL),
                     PST_E_LIMIT);
    assert_null(m);
    pst_store_close(s);
}

#define TESTS(make)                                                                                \
    cmocka_unit_test_setup_teardown(test_life_of_a_node, make, drop),                              \
        cmocka_unit_test(test_names_of_routes),                                                    \
        cmocka_unit_test_setup_teardown(test_one_publisher, make, drop),                           \
        cmocka_unit_test_setup_teardown(test_fleet_key, make, drop),                               \
        cmocka_unit_test_setup_teardown(test_some_roles, make, drop)

int main(void)
{
    const struct CMUnitTest sqlite[] = {TESTS(make_sqlite)}, postgres[] = {TESTS(make_postgres)},
                            pgbouncer[] = {TESTS(make_pgbouncer)};

    return cmocka_run_group_tests_name("nodes on sqlite", sqlite, NULL, NULL) +
           cmocka_run_group_tests_name("nodes on postgresql", postgres, NULL, NULL) +
           cmocka_run_group_tests_name("nodes on pgbouncer", pgbouncer, NULL, NULL);
}
