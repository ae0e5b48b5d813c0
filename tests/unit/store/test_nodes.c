/* Nodes and the publisher, on every kind of database; and loading some roles. */
#include "../test.h"

#include <time.h>

#include "kinds.h"
#include "postern/store/nodes.h"

struct seen {
    unsigned count;
    char names[128], routes[64];
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
                             .bound_ms = 7000,
                             .exempt = 3,
                             .routes = PST_LIT("x GET /a\nx GET /b\n")};
    struct pst_node_row b = {.node = PST_LIT("node-b"), .version = PST_LIT("1.1")};

    assert_int_equal(pst_store_node_report(s, &a, NULL), PST_E_ABSENT);
    MUST(pst_store_node_register(s, &b, &why));
    assert_int_equal(bound_in_log(s, a.node), 0);
    MUST(pst_store_node_register(s, &a, &why));
    assert_int_equal(bound_in_log(s, a.node), 7000);
    assert_int_equal(bound_in_log(s, b.node), 5000); /* the database's: it knew none */
    MUST(pst_store_node_report(s, &b, &why));
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
    assert_int_equal(seen.last.bound_ms, 7000);
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

/* Who took the place before the clock was set back. */
static void test_a_publisher_of_the_future(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_revision head;
    bool mine;

    MUST(pst_store_publisher_claim(s, PST_LIT("a"), 1500, &mine, &head, &why));
    assert_true(mine);
    assert_int_equal(raw(*state, "UPDATE publisher SET until = until + 36000000"), RAW_DONE);
    MUST(pst_store_publisher_claim(s, PST_LIT("b"), 1500, &mine, &head, &why));
    assert_true(mine);
    MUST(pst_store_publisher_claim(s, PST_LIT("a"), 1500, &mine, &head, &why));
    assert_false(mine);
    pst_store_close(s);
}

static void register_as(struct pst_store *s, const char *name)
{
    const struct pst_node_row row = {.node = text_of(name), .version = PST_LIT("1")};

    MUST(pst_store_node_register(s, &row, &why));
}

/* Rows of one name are silent by the clock of who looks, never by the database's. */
static void test_what_is_left_behind_goes(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    const struct pst_bytes own = PST_LIT("n.00000001");
    const uint64_t t = PST_NODE_SILENCE_NS;
    struct pst_node_watch watch = {0};
    bool gone;

    register_as(s, "n.00000001");
    register_as(s, "n.00000002");
    register_as(s, "n.00000003");
    register_as(s, "o.00000004");
    register_as(s, "n.x.00000005");
    assert_int_equal(raw(*state, "UPDATE nodes SET reported = reported - 36000000"), RAW_DONE);
    register_as(s, "n.00000001");
    assert_int_equal(list(s).count, 5);
    MUST(pst_store_node_tidy(s, own, 5, &watch)); /* the first look */
    MUST(pst_store_node_tidy(s, own, t + 4, &watch));
    assert_int_equal(list(s).count, 5);
    assert_int_equal(
        raw(*state, "UPDATE nodes SET reported = reported - 7 WHERE node = 'n.00000003'"),
        RAW_DONE);
    MUST(pst_store_node_tidy(s, own, t + 5, &watch));
    assert_string_equal(list(s).names,
                        "n.00000001(1) n.00000003(1) n.x.00000005(1) o.00000004(1) ");
    MUST(pst_store_node_tidy(s, own, 2 * t + 4, &watch));
    assert_int_equal(list(s).count, 4);
    MUST(pst_store_node_tidy(s, own, 2 * t + 5, &watch));
    assert_string_equal(list(s).names, "n.00000001(1) n.x.00000005(1) o.00000004(1) ");
    /* one that was written in the meantime stays */
    MUST(pst_store_node_forget(s, PST_LIT("o.00000004"), 1, &gone, &why));
    assert_false(gone);
    uint64_t reported = list(s).last.reported_ms;
    MUST(pst_store_node_forget(s, PST_LIT("o.00000004"), reported, &gone, &why));
    assert_true(gone);
    assert_int_equal(list(s).count, 2);
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
    unsigned of_first = 0;
    for (unsigned i = 0; i < 4; i++) {
        assert_true(m->permissions[i].role == ids[1] || m->permissions[i].role == ids[3]);
        of_first += m->permissions[i].role == ids[1];
    }
    assert_int_equal(of_first, 2);
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

/* Rows of every kind, some of them of a role whose id has the top bit of 32. */
static void add_all_kinds(const struct place *p, struct pst_store *s, uint32_t ids[2])
{
    struct pst_row_permission rows[] = {
        {.scope = PST_LIT("global"), .entity = PST_LIT("x"), .has_access = true, .access = 7},
        {.scope = PST_LIT("global"), .entity = PST_LIT("x"), .has_access = false},
        {.scope = PST_LIT("global"), .entity = PST_LIT("x"), .has_access = true, .access = 0},
        {.scope = PST_LIT("global"),
         .entity = PST_LIT("x"),
         .has_entity_id = true,
         .entity_id = PST_LIT(""),
         .has_access = true,
         .access = UINT64_C(1) << 37},
        {.scope = PST_LIT("project"),
         .entity = PST_LIT("x"),
         .has_entity_id = true,
         .entity_id = PST_LIT("p1"),
         .direct = true,
         .has_access = true,
         .access = 2},
        {.scope = PST_LIT("global"), .direct = true, .has_access = true, .access = 1},
        {.scope = PST_LIT("global"),
         .entity = PST_LIT("x"),
         .entity_type = PST_LIT("y"),
         .has_access = true,
         .access = 3,
         .conditions = PST_LIT("[\"HAS_NOTEBOOK_EDIT_ACCESS\"]"),
         .query_attributes = PST_LIT("[\"a\"]"),
         .read_attributes = PST_LIT("[\"b\",\"c\"]"),
         .write_attributes = PST_LIT("[\"d\"]")},
    };
    struct pst_change *c = begin(s);

    ids[0] = add_role(c, "low", 0);
    (void)commit(c);
    if (p->kind != PLACE_SQLITE)
        assert_int_equal(raw(p, "ALTER TABLE roles ALTER id RESTART WITH 4294967295"), RAW_DONE);
    c = begin(s);
    ids[1] = add_role(c, "high", 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        for (unsigned k = 0; k < 2; k++) {
            rows[i].role = ids[k];
            MUST(pst_change_add_permission(c, &rows[i], &why));
        }
    (void)commit(c);
}

static void expect_same_row(const struct pst_permission_row *a, const struct pst_permission_row *b)
{
    assert_int_equal(a->role, b->role);
    assert_int_equal(a->direct, b->direct);
    if (a->direct)
        assert_int_equal(a->scope, b->scope);
    assert_int_equal(a->has_access, b->has_access);
    assert_int_equal(a->access, b->access);
    assert_true(pst_bytes_equal(a->entity, b->entity));
    assert_int_equal(a->has_entity_id, b->has_entity_id);
    assert_true(pst_bytes_equal(a->entity_id, b->entity_id));
    assert_true(pst_bytes_equal(a->entity_type, b->entity_type));
    assert_int_equal(a->conditions, b->conditions);
    for (unsigned k = 0; k < PST_ATTR_KINDS; k++) {
        assert_int_equal(a->attribute_count[k], b->attribute_count[k]);
        for (uint32_t i = 0; i < a->attribute_count[k]; i++)
            assert_true(pst_bytes_equal(a->attributes[k][i], b->attributes[k][i]));
    }
}

/* What comes for some roles is what comes for all. */
static void test_some_rows_are_all_there_is_of_them(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_model *some, *whole;
    struct pst_revision r;
    uint32_t ids[2];

    add_all_kinds(*state, s, ids);
    if (((struct place *)*state)->kind != PLACE_SQLITE)
        assert_int_equal(ids[1], UINT32_MAX);
    MUST(pst_store_load_model(s, &whole, &r, &why));
    MUST(pst_store_load_roles(s, ids, 2, false, &some, &r, &why));
    assert_int_equal(some->permission_count, 14);
    assert_int_equal(whole->permission_count, 14);
    for (uint32_t i = 0; i < 14; i++) {
        uint32_t k = 0;
        while (k < 14 && some->permissions[k].id != whole->permissions[i].id)
            k++;
        assert_true(k < 14);
        expect_same_row(&some->permissions[k], &whole->permissions[i]);
    }
    pst_store_free_model(whole);
    pst_store_free_model(some);
    pst_store_close(s);
}

static void test_log_with_roles(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t blue = add_workspace(c, "blue"), id = add_role(c, "r", blue);
    add_permission(c, id, "x", 1);
    struct pst_revision at = commit(c);
    struct pst_log_mark none = {0}, mark;
    struct pst_log_page page;
    struct pst_model *m;

    struct pst_log_roles which = {.since = &none, .ids = &id, .count = 1, .workspaces = true};
    MUST(pst_store_log_roles(s, &which, &page, &m, &why));
    assert_false(page.proved);
    assert_int_equal(page.head.revision.n, at.n);
    assert_int_equal(m->role_count, 1);
    assert_int_equal(m->permission_count, 1);
    assert_int_equal(m->workspace_count, 1);
    mark = page.head;
    pst_store_free_model(m);
    pst_log_page_fini(&page);

    c = begin(s);
    add_permission(c, id, "y", 1);
    (void)commit(c);
    MUST(pst_store_view(s, &why));
    which.since = &mark;
    which.workspaces = false;
    MUST(pst_store_log_roles(s, &which, &page, &m, &why));
    assert_true(page.proved);
    assert_int_equal(page.key_count, 1);
    assert_int_equal(m->permission_count, 2);
    assert_int_equal(m->workspace_count, 0);
    pst_store_free_model(m);
    pst_log_page_fini(&page);
    pst_store_view_end(s);

    which.count = PST_LOAD_ROLES_MAX + 1;
    assert_int_equal(pst_store_log_roles(s, &which, &page, &m, NULL), PST_E_LIMIT);
    assert_null(m);
    assert_int_equal(page.key_count, 0);
    pst_store_close(s);
}

/* A row that cannot be taken fails the read, says which, and leaves the connection of use. */
static void test_a_row_that_nobody_knows(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t id = add_role(c, "r", 0);
    add_permission(c, id, "x", 1);
    (void)commit(c);
    const struct pst_log_mark none = {0};
    const struct pst_log_roles which = {.since = &none, .ids = &id, .count = 1};
    struct pst_log_page page;
    struct pst_model *m;
    struct pst_error error = {0};

    assert_int_equal(raw_change(*state,
                                "INSERT INTO permissions (role_id, entity, access, conditions)"
                                " SELECT id, 'x', 1, '[\"WHO\"]' FROM roles",
                                "all"),
                     RAW_DONE);
    assert_int_equal(pst_store_log_roles(s, &which, &page, &m, &error), PST_E_IO);
    assert_non_null(strstr(error.message, "that this program does not know"));
    assert_null(m);
    assert_int_equal(
        raw_change(*state, "DELETE FROM permissions WHERE conditions IS NOT NULL", "all"),
        RAW_DONE);
    MUST(pst_store_log_roles(s, &which, &page, &m, &why));
    assert_int_equal(m->permission_count, 1);
    pst_store_free_model(m);
    pst_log_page_fini(&page);
    pst_store_close(s);
}

#define TESTS(make)                                                                                \
    cmocka_unit_test_setup_teardown(test_life_of_a_node, make, drop),                              \
        cmocka_unit_test(test_names_of_routes),                                                    \
        cmocka_unit_test_setup_teardown(test_one_publisher, make, drop),                           \
        cmocka_unit_test_setup_teardown(test_a_publisher_of_the_future, make, drop),               \
        cmocka_unit_test_setup_teardown(test_what_is_left_behind_goes, make, drop),                \
        cmocka_unit_test_setup_teardown(test_fleet_key, make, drop),                               \
        cmocka_unit_test_setup_teardown(test_some_roles, make, drop),                              \
        cmocka_unit_test_setup_teardown(test_some_rows_are_all_there_is_of_them, make, drop),      \
        cmocka_unit_test_setup_teardown(test_log_with_roles, make, drop),                          \
        cmocka_unit_test_setup_teardown(test_a_row_that_nobody_knows, make, drop)

int main(void)
{
    const struct CMUnitTest sqlite[] = {TESTS(make_sqlite)}, postgres[] = {TESTS(make_postgres)},
                            pgbouncer[] = {TESTS(make_pgbouncer)};

    return cmocka_run_group_tests_name("nodes on sqlite", sqlite, NULL, NULL) +
           cmocka_run_group_tests_name("nodes on postgresql", postgres, NULL, NULL) +
           cmocka_run_group_tests_name("nodes on pgbouncer", pgbouncer, NULL, NULL);
}
