/*
 * place.h - a database of its own for a test, gone afterwards: a file, or one in the PostgreSQL of
 * the run, asked directly or through pgbouncer.
 */
#ifndef POSTERN_TESTS_UNIT_STORE_PLACE_H
#define POSTERN_TESTS_UNIT_STORE_PLACE_H

#include <dirent.h>
#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/store/change.h"
#include "postern/store/log.h"

enum place_kind { PLACE_SQLITE = 0, PLACE_POSTGRES, PLACE_PGBOUNCER };

struct place {
    enum place_kind kind;
    char dir[64];  /* SQLite */
    char path[96]; /* SQLite */
    char name[64]; /* PostgreSQL: of the database */
    char url[256];
};

static inline struct pst_bytes text_of(const char *s)
{
    return pst_bytes_of(s, strlen(s));
}

/* The url of the run's PostgreSQL, without a database. */
static inline const char *place_server(enum place_kind kind)
{
    const char *variable = kind == PLACE_PGBOUNCER ? "POSTERN_TEST_PGBOUNCER" : "POSTERN_TEST_PG";
    const char *url = getenv(variable);

    if (url == NULL) {
        fail_msg("%s is not set: run this test by tests/with_postgres.sh PROGRAM", variable);
        abort(); /* never reached, which fail_msg does not tell the compiler */
    }
    return url;
}

/* A connection beside the store's, as superuser. */
static inline PGconn *place_admin(const char *database)
{
    char url[256];
    (void)snprintf(url, sizeof(url), "%s/%s?options=-cclient_min_messages%%3Derror",
                   place_server(PLACE_POSTGRES), database);
    PGconn *conn = PQconnectdb(url);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

static inline void place_command(const char *database, const char *sql)
{
    PGconn *conn = place_admin(database);
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(r);
    PQfinish(conn);
}

static inline void place_drop_database(void)
{
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "DROP DATABASE t_%d WITH (FORCE)", (int)getpid());
    place_command("postgres", sql);
}

/* The process has one database, emptied for each test: making one takes half a second. */
static inline void place_make_database(struct place *p)
{
    static bool made;
    char sql[128];

    (void)snprintf(p->name, sizeof(p->name), "t_%d", (int)getpid());
    (void)snprintf(sql, sizeof(sql), "CREATE DATABASE %s TEMPLATE template0", p->name);
    if (!made)
        place_command("postgres", sql);
    if (!made)
        (void)atexit(place_drop_database);
    made = true;
    place_command(p->name,
                  "SET lock_timeout = '20s'; DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
                  " GRANT USAGE ON SCHEMA public TO PUBLIC");
    (void)snprintf(p->url, sizeof(p->url), "%s/%s%s", place_server(p->kind), p->name,
                   p->kind == PLACE_PGBOUNCER ? "?pgbouncer=true" : "");
}

static inline void place_make_kind(struct place *p, enum place_kind kind)
{
    p->kind = kind;
    if (kind != PLACE_SQLITE) {
        place_make_database(p);
        return;
    }
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/postern-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->path, sizeof(p->path), "%s/postern.db", p->dir);
    (void)snprintf(p->url, sizeof(p->url), "sqlite:///%s", p->path);
}

static inline void place_make(struct place *p)
{
    place_make_kind(p, PLACE_SQLITE);
}

static inline void place_drop(const struct place *p)
{
    if (p->kind != PLACE_SQLITE)
        return;
    DIR *d = opendir(p->dir);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, e->d_name);
        (void)unlink(path);
    }
    closedir(d);
    assert_int_equal(rmdir(p->dir), 0);
}

/* What a foreign tool can do. */
enum raw { RAW_DONE, RAW_REFUSED, RAW_FAILED };

static inline enum raw raw(const struct place *p, const char *sql)
{
    if (p->kind == PLACE_SQLITE) {
        sqlite3 *db;
        assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
        int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
        sqlite3_close(db);
        return code == SQLITE_OK ? RAW_DONE : code == SQLITE_CONSTRAINT ? RAW_REFUSED : RAW_FAILED;
    }
    PGconn *conn = place_admin(p->name);
    PGresult *r = PQexec(conn, sql);
    const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    enum raw how = code == NULL                                           ? RAW_DONE
                   : code[0] == '2' && (code[1] == '3' || code[1] == '8') ? RAW_REFUSED
                                                                          : RAW_FAILED;
    if (how == RAW_FAILED)
        print_message("%s: %s", sql, PQerrorMessage(conn));
    PQclear(r);
    PQfinish(conn);
    return how;
}

static inline int64_t raw_number(const struct place *p, const char *sql)
{
    int64_t value;

    if (p->kind == PLACE_SQLITE) {
        sqlite3 *db;
        sqlite3_stmt *s;
        assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        value = sqlite3_column_int64(s, 0);
        sqlite3_finalize(s);
        sqlite3_close(db);
        return value;
    }
    PGconn *conn = place_admin(p->name);
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    uint64_t number;
    assert_true(pst_bytes_u63(text_of(PQgetvalue(r, 0, 0)), &number));
    PQclear(r);
    PQfinish(conn);
    return (int64_t)number;
}

/* A complete change by a foreign tool: `sql` in the middle, `keys` as they are to be written. */
static inline enum raw raw_change(const struct place *p, const char *sql, const char *keys)
{
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "%s UPDATE log_head SET n = n + 1, open = 1;"
                   " INSERT INTO change_log (n, stamp, at, actor)"
                   " SELECT n, '0123456789abcdef0123456789abcdef', 0, 'x' FROM log_head; %s;"
                   " UPDATE change_log SET keys = '%s' WHERE n = (SELECT n FROM log_head);"
                   " UPDATE log_head SET open = 0; COMMIT",
                   p->kind == PLACE_SQLITE ? "PRAGMA foreign_keys = ON; BEGIN IMMEDIATE;"
                                           : "BEGIN;",
                   sql, keys);
    return raw(p, text);
}

static inline struct pst_store *place_open(const struct place *p, enum pst_store_mode mode)
{
    struct pst_store *store;
    struct pst_error error = {0};

    if (pst_store_open(text_of(p->url), mode, &store, &error) != PST_OK)
        fail_msg("open: %s %s", error.where, error.message);
    return store;
}

/* fails the test with the error's text */
#define MUST(call)                                                                                 \
    do {                                                                                           \
        struct pst_error why = {0};                                                                \
        enum pst_status must_ = (call);                                                            \
        if (must_ != PST_OK)                                                                       \
            fail_msg("%s: %s: %s", #call, pst_status_name(must_), why.message);                    \
    } while (0)

/* A user "name" with the identity (https://idp.test/, name). */
static inline uint64_t add_user(struct pst_change *c, const char *name)
{
    struct pst_row_user u = {.name = text_of(name)};
    MUST(pst_change_put_user(c, &u, &why));
    struct pst_row_identity i = {
        .user = u.id, .issuer = PST_LIT("https://idp.test/"), .subject = text_of(name)};
    MUST(pst_change_add_identity(c, &i, &why));
    return u.id;
}

static inline uint32_t add_workspace(struct pst_change *c, const char *name)
{
    struct pst_row_workspace w = {.name = text_of(name), .kind = PST_LIT("project")};
    MUST(pst_change_put_workspace(c, &w, &why));
    return w.id;
}

static inline uint32_t add_role(struct pst_change *c, const char *name, uint32_t workspace)
{
    struct pst_row_role r = {.name = text_of(name), .workspace = workspace};
    MUST(pst_change_put_role(c, &r, &why));
    return r.id;
}

static inline void add_permission(struct pst_change *c, uint32_t role, const char *entity,
                                  uint64_t access)
{
    struct pst_row_permission p = {.role = role,
                                   .scope = PST_LIT("global"),
                                   .entity = text_of(entity),
                                   .has_access = true,
                                   .access = access};
    MUST(pst_change_add_permission(c, &p, &why));
}

static inline uint64_t bind_role(struct pst_change *c, uint64_t user, uint32_t role,
                                 uint32_t workspace)
{
    struct pst_row_binding b = {.user = user, .role = role, .workspace = workspace};
    MUST(pst_change_add_binding(c, &b, &why));
    return b.id;
}

static inline struct pst_change *begin(struct pst_store *s)
{
    struct pst_change *c;
    MUST(pst_change_begin(s, PST_LIT("test"), &c, &why));
    return c;
}

static inline struct pst_revision commit(struct pst_change *c)
{
    struct pst_revision r;
    MUST(pst_change_commit(c, &r, &why));
    return r;
}

static inline struct pst_facts *facts_of(struct pst_store *s, const char *subject)
{
    struct pst_facts *facts;
    struct pst_revision r;
    struct pst_who who = {
        .kind = PST_WHO_SUBJECT, .issuer = PST_LIT("https://idp.test/"), .value = text_of(subject)};
    MUST(pst_store_load_facts(s, &who, &facts, &r, &why));
    return facts;
}

#endif
