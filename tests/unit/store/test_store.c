/* The store: schema, guards of the log, changes, reads, on every kind of database; and SQLite's
 * files. What only PostgreSQL has stands in test_postgres.c. */
#include "../test.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "kinds.h"
#include "postern/store/nodes.h"

static void test_urls(void **state)
{
    static const struct {
        const char *url;
        enum pst_status status;
        const char *says;
    } CASES[] = {
        {"mysql://h/db", PST_E_INVALID, "sqlite:///"},
        {"", PST_E_INVALID, "sqlite:///"},
        {"sqlite://", PST_E_INVALID, "sqlite:////"},
        {"sqlite:///", PST_E_INVALID, "sqlite:////"},
        {"sqlite://host/x", PST_E_INVALID, "sqlite:////"},
        {"sqlite:///:memory:", PST_E_INVALID, "sqlite:////"},
        {"sqlite:///x.db?mode=ro", PST_E_INVALID, "without options"},
        {"sqlite:////nowhere/at/all.db", PST_E_ABSENT, "no folder"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct pst_store *store = NULL;
        struct pst_error error = {0};
        assert_int_equal(pst_store_open(text_of(CASES[i].url), PST_STORE_CREATE, &store, &error),
                         CASES[i].status);
        assert_null(store);
        assert_non_null(strstr(error.message, CASES[i].says));
        assert_null(strstr(error.message, "hunter2"));
    }
}

static void test_relative_url(void **state)
{
    const struct place *p = *state;
    char cwd[512];
    struct pst_store *store;

    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(chdir(p->dir), 0);
    MUST(pst_store_open(PST_LIT("sqlite:///rel.db"), PST_STORE_CREATE, &store, &why));
    pst_store_close(store);
    assert_int_equal(access("rel.db", F_OK), 0);
    assert_int_equal(chdir(cwd), 0);
}

static void test_file_is_private(void **state)
{
    const struct place *p = *state;
    static const char *const SUFFIXES[] = {"", "-wal", "-shm"};

    mode_t before = umask(0);
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    (void)umask(before);
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        struct stat st;
        (void)snprintf(path, sizeof(path), "%s%s", p->path, SUFFIXES[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    pst_store_close(s);
}

static void test_migrates_once(void **state)
{
    const struct place *p = *state;
    struct pst_store *s;
    struct pst_error error = {0};
    struct pst_store_status st;
    uint32_t steps;

    if (p->kind == PLACE_SQLITE) {
        assert_int_equal(pst_store_open(text_of(p->url), PST_STORE_WRITE, &s, &error),
                         PST_E_ABSENT);
        assert_int_equal(raw(p, "PRAGMA user_version = 0; CREATE TABLE t (a); DROP TABLE t;"),
                         RAW_DONE);
    }
    assert_int_equal(pst_store_open(text_of(p->url), PST_STORE_WRITE, &s, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "migrate"));

    s = place_open(p, PST_STORE_ANY);
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.schema, 0);
    MUST(pst_store_migrate(s, &steps, &why));
    assert_int_equal(steps, 4);
    MUST(pst_store_migrate(s, &steps, &why));
    assert_int_equal(steps, 0);
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.schema, st.schema_newest);
    assert_int_equal(st.revision.n, 0);
    assert_int_not_equal(st.revision.epoch, 0);
    assert_int_equal(st.max_staleness_s, 5);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);

    s = place_open(p, PST_STORE_CREATE); /* again: nothing to do */
    uint64_t epoch = st.revision.epoch;
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.revision.epoch, epoch);
    pst_store_close(s);
}

extern const char pst_migration_0001_sqlite[], pst_migration_0001_postgres[];
extern const char pst_migration_0002_sqlite[], pst_migration_0002_postgres[];
extern const char pst_migration_0003_sqlite[], pst_migration_0003_postgres[];
extern const char pst_migration_0004_sqlite[], pst_migration_0004_postgres[];

static const char *migration(const struct place *p, unsigned version)
{
    const char *const texts[][2] = {{pst_migration_0001_sqlite, pst_migration_0001_postgres},
                                    {pst_migration_0002_sqlite, pst_migration_0002_postgres},
                                    {pst_migration_0003_sqlite, pst_migration_0003_postgres},
                                    {pst_migration_0004_sqlite, pst_migration_0004_postgres}};
    return texts[version - 1][p->kind == PLACE_SQLITE ? 0 : 1];
}

struct migrating {
    sqlite3 *db;
    PGconn *conn;
};

/* Has run a migration and not committed it. */
static struct migrating migrate_by_hand(const struct place *p, unsigned version)
{
    struct migrating m = {0};

    if (p->kind == PLACE_SQLITE) {
        assert_int_equal(sqlite3_open(p->path, &m.db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(m.db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(m.db, migration(p, version), NULL, NULL, NULL), SQLITE_OK);
        return m;
    }
    m.conn = place_admin(p->name);
    PQclear(PQexec(m.conn, "BEGIN"));
    PGresult *r = PQexec(m.conn, migration(p, version));
    assert_int_equal(PQresultStatus(r), PGRES_COMMAND_OK);
    PQclear(r);
    return m;
}

/* From an earlier version: what is there stays, its status can be asked, and a reader that knows
 * nothing of the new version goes on. */
static void migrates_from(void **state, unsigned version)
{
    static const char READ[] =
        "SELECT h.n FROM log_head h CROSS JOIN meta m"
        " LEFT JOIN change_log c ON c.n BETWEEN 0 AND 1000 OR c.n = h.n ORDER BY c.n";
    const struct place *p = *state;
    struct pst_store_status st;
    uint32_t steps;

    for (unsigned v = 1; v <= version; v++)
        assert_int_equal(raw(p, migration(p, v)), RAW_DONE);
    assert_int_equal(raw_change(p, "INSERT INTO users (name) VALUES ('old')", "[\"user:1\"]"),
                     RAW_DONE);
    struct pst_store *s = place_open(p, PST_STORE_ANY);
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.schema, version);
    assert_int_equal(st.revision.n, 1);
    uint64_t epoch = st.revision.epoch;
    sqlite3 *db = NULL;
    PGconn *conn = NULL;
    if (p->kind == PLACE_SQLITE)
        assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    else
        PQclear(PQprepare(conn = place_admin(p->name), "before", READ, 0, NULL));
    for (unsigned after = 0; after < 2; after++) { /* while somebody migrates, and afterwards */
        struct migrating m = {0};
        if (after == 0)
            m = migrate_by_hand(p, version + 1);
        else
            MUST(pst_store_migrate(s, &steps, &why));
        if (p->kind == PLACE_SQLITE) {
            assert_int_equal(sqlite3_exec(db, READ, NULL, NULL, NULL), SQLITE_OK);
        } else {
            PGresult *r = PQexecPrepared(conn, "before", 0, NULL, NULL, NULL, 0);
            assert_int_equal(PQntuples(r), 1);
            PQclear(r);
        }
        sqlite3_close(m.db); /* rolls back */
        PQfinish(m.conn);
    }
    assert_int_equal(steps, 4 - version);
    sqlite3_close(db);
    PQfinish(conn);
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.schema, st.schema_newest);
    assert_int_equal(st.users, 1);
    assert_int_equal(st.revision.epoch, epoch);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);
}

static void test_migrates_from_1(void **state)
{
    migrates_from(state, 1);
}

static void test_migrates_from_2(void **state)
{
    migrates_from(state, 2);
}

static void test_migrates_from_3(void **state)
{
    migrates_from(state, 3);
}

static void test_refuses_foreign_and_newer(void **state)
{
    const struct place *p = *state;
    struct pst_store *s;
    struct pst_error error = {0};

    assert_int_equal(raw(p, "CREATE TABLE experiments (a integer)"), RAW_DONE);
    assert_int_equal(pst_store_open(text_of(p->url), PST_STORE_CREATE, &s, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "another program"));
    assert_int_equal(raw(p, "DROP TABLE experiments; CREATE TABLE log_head (a integer);"
                            " CREATE TABLE meta (schema_version bigint,"
                            " schema_oldest_reader bigint)"),
                     RAW_DONE);
    assert_int_equal(pst_store_open(text_of(p->url), PST_STORE_CREATE, &s, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "another program"));
    assert_int_equal(raw(p, "DROP TABLE log_head; DROP TABLE meta"), RAW_DONE);

    pst_store_close(place_open(p, PST_STORE_CREATE));
    assert_int_equal(raw(p, "UPDATE meta SET schema_version = 99, schema_oldest_reader = 98"),
                     RAW_DONE);
    assert_int_equal(pst_store_open(text_of(p->url), PST_STORE_CREATE, &s, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "newer"));
}

static void test_two_processes_migrate(void **state)
{
    const struct place *p = *state;
    pid_t children[4];

    for (size_t i = 0; i < 4; i++)
        if ((children[i] = fork()) == 0) {
            struct pst_store *s;
            _exit(pst_store_open(text_of(p->url), PST_STORE_CREATE, &s, NULL) == PST_OK ? 0 : 1);
        }
    for (size_t i = 0; i < 4; i++) {
        int how;
        assert_int_equal(waitpid(children[i], &how, 0), children[i]);
        assert_int_equal(how, 0);
    }
    assert_int_equal(raw_number(p, "SELECT count(*) FROM meta"), 1);
}

static void test_change_is_numbered(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);

    struct pst_change *c = begin(s);
    assert_false(pst_change_dirty(c));
    uint64_t alice = add_user(c, "alice");
    assert_true(pst_change_dirty(c));
    pst_change_describe(c, "user.create", "alice");
    struct pst_revision r = commit(c);
    assert_int_equal(r.n, 1);

    c = begin(s);
    assert_int_equal(commit(c).n, 1); /* nothing written: no row, no gap */
    c = begin(s);
    (void)add_user(c, "bob");
    pst_change_abort(c);
    c = begin(s);
    uint32_t role = add_role(c, "r", 0);
    (void)bind_role(c, alice, role, 0);
    assert_int_equal(commit(c).n, 2);

    assert_int_equal(raw_number(p, "SELECT count(*) FROM change_log"), 2);
    assert_int_equal(raw_number(p, "SELECT max(n) FROM change_log"), 2);
    assert_int_equal(raw_number(p, "SELECT count(DISTINCT stamp) FROM change_log"), 2);
    assert_int_equal(raw_number(p, "SELECT count(*) FROM audit WHERE action = 'user.create'"), 1);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);
}

static void test_writers_make_no_gap(void **state)
{
    const struct place *p = *state;
    pid_t children[3];

    pst_store_close(place_open(p, PST_STORE_CREATE));
    for (size_t i = 0; i < 3; i++)
        if ((children[i] = fork()) == 0) {
            struct pst_store *s;
            if (pst_store_open(text_of(p->url), PST_STORE_WRITE, &s, NULL) != PST_OK)
                _exit(1);
            for (unsigned k = 0; k < 20; k++) {
                char name[32];
                struct pst_change *c;
                struct pst_revision r;
                (void)snprintf(name, sizeof(name), "u-%zu-%u", i, k);
                struct pst_row_user u = {.name = text_of(name)};
                if (pst_change_begin(s, PST_LIT("t"), &c, NULL) != PST_OK ||
                    pst_change_put_user(c, &u, NULL) != PST_OK)
                    _exit(2);
                if (k % 3 == 0)
                    pst_change_abort(c);
                else if (pst_change_commit(c, &r, NULL) != PST_OK)
                    _exit(3);
            }
            pst_store_close(s);
            _exit(0);
        }
    for (size_t i = 0; i < 3; i++) {
        int how;
        assert_int_equal(waitpid(children[i], &how, 0), children[i]);
        assert_int_equal(how, 0);
    }
    struct pst_store *s = place_open(p, PST_STORE_READ);
    struct pst_store_status st;
    MUST(pst_store_status(s, &st, &why));
    assert_int_equal(st.revision.n, 39);
    assert_int_equal(st.users, 39);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);
}

static void test_guards_refuse(void **state)
{
    const struct place *p = *state;
    static const char *const REFUSED[] = {
        "INSERT INTO users (name) VALUES ('eve')",
        "UPDATE users SET disabled = 0",
        "DELETE FROM bindings",
        "INSERT INTO permissions (role_id, access) VALUES (1, 1)",
        "UPDATE roles SET name = 'x'",
        "DELETE FROM workspaces",
        "INSERT OR REPLACE INTO users (id, name) VALUES (1, 'eve')",
        "UPDATE organizations SET name = 'x'",
        "UPDATE identities SET subject = 'eve'",
        "UPDATE meta SET max_staleness_s = 60",
        /* numbered, but no log row */
        "PRAGMA foreign_keys = ON; BEGIN; UPDATE log_head SET n = n + 1, open = 1;"
        " UPDATE users SET disabled = 1; COMMIT",
        "PRAGMA foreign_keys = ON; BEGIN; UPDATE log_head SET n = n + 1, open = 1; COMMIT",
        /* a log row that is never completed */
        "PRAGMA foreign_keys = ON; BEGIN; UPDATE log_head SET n = n + 1, open = 1;"
        " INSERT INTO change_log (n, stamp, at, actor) SELECT n, hex(randomblob(16)), 0, 'x' FROM "
        "log_head;"
        " UPDATE users SET disabled = 1; COMMIT",
        /* foreign keys off: the deferred reference would not be looked at */
        "PRAGMA foreign_keys = OFF; BEGIN; UPDATE log_head SET n = n + 1, open = 1; COMMIT",
        "PRAGMA foreign_keys = ON; UPDATE log_head SET n = n + 2, open = 1",
        "UPDATE log_head SET n = 0",
        "DELETE FROM log_head",
        "INSERT INTO log_closed VALUES (1)",
        "INSERT INTO change_log (n, stamp, at, actor, keys) VALUES (2, hex(randomblob(16)), 0, "
        "'x', '[]')",
        "UPDATE change_log SET keys = '[]'",
        "DELETE FROM change_log",
        "UPDATE audit SET actor = 'x'",
        "DELETE FROM audit",
    };

    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t w = add_workspace(c, "blue");
    uint32_t role = add_role(c, "r", w);
    add_permission(c, role, "Pipeline", 16);
    (void)bind_role(c, add_user(c, "alice"), role, w);
    (void)commit(c);
    for (size_t i = 0; i < sizeof(REFUSED) / sizeof(REFUSED[0]); i++)
        if (raw(p, REFUSED[i]) != RAW_REFUSED)
            fail_msg("not refused: %s", REFUSED[i]);
    assert_int_equal(raw_number(p, "SELECT count(*) FROM users WHERE disabled = 0"), 1);
    MUST(pst_store_check(s, &why));
    pst_store_close(s);

    /* The guards let a proper change pass, whoever makes it. */
    assert_int_equal(raw_change(p, "UPDATE users SET disabled = 1", "all"), RAW_DONE);
    assert_int_equal(raw_number(p, "SELECT n FROM log_head"), 2);
}

static void test_row_rules(void **state)
{
    const struct place *p = *state;
    static const char *const BAD[] = {
        "",         "-a",
        "a-",       "A",
        "a_b",      "a.b",
        "\xc3\xa9", "a234567890123456789012345678901234567890123456789012345678901234"};
    struct pst_store *s = place_open(p, PST_STORE_CREATE);

    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        struct pst_change *c = begin(s);
        struct pst_row_workspace w = {.name = text_of(BAD[i]), .kind = PST_LIT("project")};
        assert_int_equal(pst_change_put_workspace(c, &w, NULL), PST_E_INVALID);
        struct pst_revision r;
        assert_int_equal(pst_change_commit(c, &r, NULL),
                         PST_E_INVALID); /* failed: cannot be committed */
    }
    struct pst_change *c = begin(s);
    struct pst_row_workspace w = {.name = PST_LIT("a-1"), .kind = PST_LIT("galaxy")};
    assert_int_equal(pst_change_put_workspace(c, &w, NULL), PST_E_INVALID);
    pst_change_abort(c);

    c = begin(s);
    struct pst_row_user u = {.name = PST_LIT("a\nb")};
    assert_int_equal(pst_change_put_user(c, &u, NULL), PST_E_INVALID);
    pst_change_abort(c);

    c = begin(s);
    uint64_t alice = add_user(c, "alice");
    u.name = PST_LIT("alice");
    assert_int_equal(pst_change_put_user(c, &u, NULL), PST_E_EXISTS);
    pst_change_abort(c);

    c = begin(s);
    alice = add_user(c, "alice");
    uint32_t role = add_role(c, "r", 0), blue = add_workspace(c, "blue");
    (void)add_role(c, "r", blue); /* the same name in a workspace is another role */
    (void)bind_role(c, alice, role, 0);
    (void)bind_role(c, alice, role, blue);
    struct pst_row_binding b = {.user = alice, .role = role};
    assert_int_equal(pst_change_add_binding(c, &b, NULL), PST_E_EXISTS);
    pst_change_abort(c);

    c = begin(s);
    b.role = 77;
    b.user = add_user(c, "x");
    assert_int_equal(pst_change_add_binding(c, &b, NULL), PST_E_INVALID); /* no such role */
    pst_change_abort(c);
    pst_store_close(s);
}

static void test_reads_are_refused_writes(void **state)
{
    const struct place *p = *state;
    struct pst_change *c;

    pst_store_close(place_open(p, PST_STORE_CREATE));
    struct pst_store *s = place_open(p, PST_STORE_READ);
    assert_int_not_equal(pst_change_begin(s, PST_LIT("t"), &c, NULL), PST_OK);
    assert_null(c);
    struct pst_revision r;
    assert_int_not_equal(pst_store_restored(s, &r, NULL), PST_OK);
    assert_int_not_equal(pst_store_retain(s, 1, NULL), PST_OK);
    assert_int_not_equal(pst_store_node_unregister(s, PST_LIT("n"), NULL), PST_OK);
    MUST(pst_store_revision(s, &r, &why));
    pst_store_close(s);
}

static void test_facts(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t blue = add_workspace(c, "blue"), role = add_role(c, "r", 0),
             two = add_role(c, "two", 0);
    struct pst_row_user u = {.name = PST_LIT("carol"),
                             .email = PST_LIT("c@x.test"),
                             .disabled = true,
                             .legacy_level = UINT32_C(1) << 31 | 4,
                             .sessions_from = 1700000000};
    MUST(pst_change_put_user(c, &u, &why));
    uint64_t alice = add_user(c, "alice");
    (void)bind_role(c, alice, role, blue);
    (void)bind_role(c, alice, two, 0);
    struct pst_revision at = commit(c);

    struct pst_facts *f = facts_of(s, "alice");
    assert_int_equal(f->user_id, alice);
    assert_true(pst_bytes_equal(f->name, PST_LIT("alice")));
    assert_false(f->disabled);
    assert_int_equal(f->revision, at.n);
    assert_int_equal(f->binding_count, 2);
    assert_int_equal(f->bindings[0].role, role);
    assert_int_equal(f->bindings[0].workspace, blue);
    assert_int_equal(f->bindings[1].role, two);
    assert_int_equal(f->bindings[1].workspace, 0);
    pst_facts_free(f);

    f = facts_of(s, "nobody");
    assert_int_equal(f->user_id, 0);
    assert_int_equal(f->binding_count, 0);
    assert_int_equal(f->revision, at.n);
    pst_facts_free(f);

    static const struct {
        enum pst_who_kind kind;
        const char *value;
        bool known;
    } CASES[] = {{PST_WHO_NAME, "carol", true},     {PST_WHO_NAME, "Carol", false},
                 {PST_WHO_EMAIL, "c@x.test", true}, {PST_WHO_EMAIL, "", false},
                 {PST_WHO_ID, NULL, true},          {PST_WHO_NAME, "' OR 1=1 --", false}};
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct pst_revision r;
        struct pst_who who = {.kind = CASES[i].kind, .id = u.id};
        if (CASES[i].value != NULL)
            who.value = text_of(CASES[i].value);
        MUST(pst_store_load_facts(s, &who, &f, &r, &why));
        assert_int_equal(f->user_id, CASES[i].known ? u.id : 0);
        assert_int_equal(r.n, at.n);
        if (CASES[i].known) {
            assert_true(f->disabled);
            assert_int_equal(f->legacy_level, UINT32_C(1) << 31 | 4);
            assert_int_equal(f->sessions_from, 1700000000);
        }
        pst_facts_free(f);
    }

    /* Two users with one address: the address names nobody. */
    c = begin(s);
    u = (struct pst_row_user){.name = PST_LIT("carol2"), .email = PST_LIT("c@x.test")};
    MUST(pst_change_put_user(c, &u, &why));
    (void)commit(c);
    struct pst_revision r;
    struct pst_who who = {.kind = PST_WHO_EMAIL, .value = PST_LIT("c@x.test")};
    MUST(pst_store_load_facts(s, &who, &f, &r, &why));
    assert_int_equal(f->user_id, 0);
    pst_facts_free(f);
    pst_store_close(s);
}

static void test_ids_are_not_used_twice(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t first = add_role(c, "a", 0);
    uint64_t user = add_user(c, "alice");
    uint64_t binding = bind_role(c, user, first, 0);
    (void)commit(c);
    c = begin(s);
    MUST(pst_change_delete_role(c, first, &why));
    MUST(pst_change_delete_user(c, user, &why));
    (void)commit(c);
    c = begin(s);
    assert_true(add_role(c, "b", 0) > first);
    uint64_t again = add_user(c, "alice");
    assert_true(again > user);
    assert_true(bind_role(c, again, add_role(c, "c", 0), 0) > binding);
    (void)commit(c);
    pst_store_close(s);
}

static void test_model(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    struct pst_row_workspace w = {
        .name = PST_LIT("blue"), .kind = PST_LIT("environment"), .organization = PST_LIT("acme")};
    MUST(pst_change_put_workspace(c, &w, &why));
    uint32_t role = add_role(c, "r", w.id);
    struct pst_row_permission q = {
        .role = role,
        .direct = true,
        .scope = PST_LIT("pipeline"),
        .entity = PST_LIT("Pipeline"),
        .has_entity_id = true,
        .entity_id = PST_LIT("p1"),
        .entity_type = PST_LIT("streaming"),
        .conditions = PST_LIT("[\"HAS_NOTEBOOK_EDIT_ACCESS\",\"USER_OWNS_ENTITY\"]"),
        .query_attributes = PST_LIT("[\"a\",\"b\"]"),
        .read_attributes = PST_LIT("[\"c\"]")};
    MUST(pst_change_add_permission(c, &q, &why));
    add_permission(c, role, "*", PST_A_LIST | PST_A_ATTRIBUTES_ONLY);
    struct pst_revision at = commit(c), r;

    struct pst_model *m;
    MUST(pst_store_load_model(s, &m, &r, &why));
    assert_int_equal(r.n, at.n);
    assert_int_equal(r.epoch, at.epoch);
    assert_int_equal(m->workspace_count, 1);
    assert_int_equal(m->workspaces[0].kind, PST_WORKSPACE_ENVIRONMENT);
    assert_true(pst_bytes_equal(m->workspaces[0].organization, PST_LIT("acme")));
    assert_int_equal(m->role_count, 1);
    assert_int_equal(m->roles[0].workspace, w.id);
    assert_int_equal(m->permission_count, 2);
    const struct pst_permission_row *row = &m->permissions[0];
    assert_true(row->direct && row->has_entity_id && !row->has_access);
    assert_int_equal(row->scope, PST_SCOPE_PIPELINE);
    assert_int_equal(row->conditions, PST_COND_NOTEBOOK_EDIT | PST_COND_OWNS_ENTITY);
    assert_true(pst_bytes_equal(row->entity_id, PST_LIT("p1")));
    assert_true(pst_bytes_equal(row->entity_type, PST_LIT("streaming")));
    assert_int_equal(row->attribute_count[PST_ATTR_QUERY], 2);
    assert_true(pst_bytes_equal(row->attributes[PST_ATTR_QUERY][1], PST_LIT("b")));
    assert_int_equal(row->attribute_count[PST_ATTR_READ], 1);
    assert_int_equal(row->attribute_count[PST_ATTR_WRITE], 0);
    assert_false(m->permissions[1].has_entity_id);
    assert_int_equal(m->permissions[1].access, PST_A_LIST | PST_A_ATTRIBUTES_ONLY);
    pst_store_free_model(m);

    /* A row that this program does not understand is never half understood. */
    c = begin(s);
    q.conditions = PST_LIT("[\"FULL_MOON\"]");
    MUST(pst_change_add_permission(c, &q, &why));
    (void)commit(c);
    struct pst_error error = {0};
    assert_int_equal(pst_store_load_model(s, &m, &r, &error), PST_E_IO);
    assert_null(m);
    assert_non_null(strstr(error.message, "does not know"));
    pst_store_close(s);
}

static void test_view_is_one_moment(void **state)
{
    const struct place *p = *state;
    struct pst_store *a = place_open(p, PST_STORE_CREATE), *b = place_open(p, PST_STORE_READ);
    struct pst_log_mark none = {0};
    struct pst_log_page page;
    struct pst_model *m;
    struct pst_revision r;

    MUST(pst_store_view(b, &why));
    MUST(pst_store_log(b, &none, PST_LIT(""), &page, &why));
    struct pst_change *c = begin(a);
    (void)add_role(c, "later", 0);
    (void)commit(c);
    MUST(pst_store_load_model(b, &m, &r, &why));
    assert_int_equal(r.n, page.head.revision.n);
    assert_int_equal(m->role_count, 0);
    pst_store_free_model(m);
    pst_store_view_end(b);
    MUST(pst_store_load_model(b, &m, &r, &why));
    assert_int_equal(m->role_count, 1);
    pst_store_free_model(m);
    pst_log_page_fini(&page);
    pst_store_close(b);
    pst_store_close(a);
}

static void test_ensure_user(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t role = add_role(c, "viewer", 0);
    uint64_t alice = add_user(c, "alice");
    (void)commit(c);
    uint64_t id;

    struct pst_new_user u = {.issuer = PST_LIT("https://idp.test/"), .subject = PST_LIT("alice")};
    MUST(pst_store_ensure_user(s, &u, &id, &why));
    assert_int_equal(id, alice);
    assert_int_equal(raw_number(p, "SELECT n FROM log_head"), 1); /* known: nothing written */

    u = (struct pst_new_user){.issuer = PST_LIT("https://other.test/"),
                              .subject = PST_LIT("7"),
                              .name = PST_LIT("alice")};
    assert_int_equal(pst_store_ensure_user(s, &u, &id, NULL), PST_E_EXISTS);
    assert_int_equal(id, 0);
    u.name = PST_LIT("zoe");
    u.role = PST_LIT("no such role");
    assert_int_equal(pst_store_ensure_user(s, &u, &id, NULL), PST_E_ABSENT);
    assert_int_equal(raw_number(p, "SELECT count(*) FROM users"), 1);

    u.role = PST_LIT("viewer");
    MUST(pst_store_ensure_user(s, &u, &id, &why));
    struct pst_facts *f;
    struct pst_revision r;
    struct pst_who who = {.kind = PST_WHO_SUBJECT, .issuer = u.issuer, .value = u.subject};
    MUST(pst_store_load_facts(s, &who, &f, &r, &why));
    assert_int_equal(f->user_id, id);
    assert_true(pst_bytes_equal(f->name, PST_LIT("zoe")));
    assert_int_equal(f->binding_count, 1);
    assert_int_equal(f->bindings[0].role, role);
    pst_facts_free(f);
    pst_store_close(s);
}

static void test_busy_writer(void **state)
{
    const struct place *p = *state;
    struct pst_store *a = place_open(p, PST_STORE_CREATE), *b = place_open(p, PST_STORE_WRITE);
    struct pst_change *c = begin(a), *d;
    struct pst_error error = {0};

    assert_int_equal(pst_change_begin(b, PST_LIT("b"), &d, &error), PST_E_BUSY);
    assert_non_null(strstr(error.message, "write lock"));
    struct pst_facts *f = facts_of(b, "x"); /* readers do not wait */
    pst_facts_free(f);
    pst_change_abort(c);
    d = begin(b);
    pst_change_abort(d);
    pst_store_close(b);
    pst_store_close(a);
}

static void test_replaced_file_is_noticed(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_log_mark none = {0};
    struct pst_log_page page;
    uint64_t hint;
    char aside[160];

    MUST(pst_store_log(s, &none, PST_LIT(""), &page, &why));
    pst_log_page_fini(&page);
    (void)snprintf(aside, sizeof(aside), "%s.old", p->path);
    assert_int_equal(rename(p->path, aside), 0);
    assert_int_equal(pst_store_log(s, &none, PST_LIT(""), &page, NULL), PST_E_IO);
    assert_int_equal(pst_store_hint(s, &hint, NULL), PST_E_IO);
    struct pst_change *c;
    assert_int_equal(pst_change_begin(s, PST_LIT("t"), &c, NULL), PST_E_IO);
    pst_store_close(s);
}

#define TESTS(make)                                                                                \
    cmocka_unit_test_setup_teardown(test_migrates_once, make, drop),                               \
        cmocka_unit_test_setup_teardown(test_migrates_from_1, make, drop),                         \
        cmocka_unit_test_setup_teardown(test_migrates_from_2, make, drop),                         \
        cmocka_unit_test_setup_teardown(test_migrates_from_3, make, drop),                         \
        cmocka_unit_test_setup_teardown(test_refuses_foreign_and_newer, make, drop),               \
        cmocka_unit_test_setup_teardown(test_two_processes_migrate, make, drop),                   \
        cmocka_unit_test_setup_teardown(test_change_is_numbered, make, drop),                      \
        cmocka_unit_test_setup_teardown(test_writers_make_no_gap, make, drop),                     \
        cmocka_unit_test_setup_teardown(test_row_rules, make, drop),                               \
        cmocka_unit_test_setup_teardown(test_reads_are_refused_writes, make, drop),                \
        cmocka_unit_test_setup_teardown(test_facts, make, drop),                                   \
        cmocka_unit_test_setup_teardown(test_ids_are_not_used_twice, make, drop),                  \
        cmocka_unit_test_setup_teardown(test_model, make, drop),                                   \
        cmocka_unit_test_setup_teardown(test_view_is_one_moment, make, drop),                      \
        cmocka_unit_test_setup_teardown(test_ensure_user, make, drop),                             \
        cmocka_unit_test_setup_teardown(test_busy_writer, make, drop)

int main(void)
{
    const struct CMUnitTest files[] = {
        cmocka_unit_test_setup_teardown(test_urls, make_sqlite, drop),
        cmocka_unit_test_setup_teardown(test_relative_url, make_sqlite, drop),
        cmocka_unit_test_setup_teardown(test_file_is_private, make_sqlite, drop),
        cmocka_unit_test_setup_teardown(test_guards_refuse, make_sqlite, drop),
        cmocka_unit_test_setup_teardown(test_replaced_file_is_noticed, make_sqlite, drop),
    };
    const struct CMUnitTest sqlite[] = {TESTS(make_sqlite)}, postgres[] = {TESTS(make_postgres)},
                            pgbouncer[] = {TESTS(make_pgbouncer)};

    return cmocka_run_group_tests_name("store in files", files, NULL, NULL) +
           cmocka_run_group_tests_name("store on sqlite", sqlite, NULL, NULL) +
           cmocka_run_group_tests_name("store on postgresql", postgres, NULL, NULL) +
           cmocka_run_group_tests_name("store on pgbouncer", pgbouncer, NULL, NULL);
}
