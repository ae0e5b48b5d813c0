/*
 * The schema on PostgreSQL: its version, its migrations, and what must be true of it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "postern/base/clock.h"
#include "postgres_internal.h"

extern const char pst_migration_0001_postgres[], pst_migration_0001_postgres_end[];
extern const char pst_migration_0002_postgres[], pst_migration_0002_postgres_end[];
extern const char pst_migration_0003_postgres[], pst_migration_0003_postgres_end[];
extern const char pst_migration_0004_postgres[], pst_migration_0004_postgres_end[];

/* What extensions brought is nobody's table. */
static const char FIND_SCHEMA[] =
    "SELECT (SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
    " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM pg_depend d"
    " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),"
    " CASE WHEN to_regclass('public.meta') IS NULL OR to_regclass('public.log_head') IS NULL"
    " THEN 0 ELSE 1 END";

/* One row for everything that is wrong. */
static const char FIND_PROBLEMS[] =
    "SELECT 'synchronous_commit is off: a change that was acknowledged may be lost'"
    " WHERE current_setting('synchronous_commit') = 'off'"
    " UNION ALL SELECT 'synchronous_commit is off for ' || coalesce('the role ' || r.rolname, 'a "
    "database')"
    " || ': what was acknowledged, or that a node decides, may be lost'"
    " FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole"
    " WHERE 'synchronous_commit=off' = ANY (s.setconfig) AND s.setdatabase IN"
    " (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
    " AND (s.setrole = 0 OR has_table_privilege(s.setrole, 'public.log_head', 'SELECT'))"
    " UNION ALL SELECT 'the database is not encoded in UTF8'"
    " WHERE current_setting('server_encoding') <> 'UTF8'"
    " UNION ALL SELECT 'the trigger ' || t.name || ' is missing or not ENABLE ALWAYS'"
    " FROM (VALUES ('log_head.log_head_update'), ('log_head.log_head_rows'),"
    " ('log_head.log_head_commit'), ('change_log.change_log_write'),"
    " ('change_log.change_log_commit'), ('change_log.change_log_delete'),"
    " ('change_log.change_log_truncate'), ('audit.audit_stays'), ('meta.meta_rows'),"
    " ('meta.meta_policy'), ('organizations.organizations_policy'),"
    " ('workspaces.workspaces_policy'), ('users.users_policy'), ('identities.identities_policy'),"
    " ('roles.roles_policy'), ('permissions.permissions_policy'), ('permissions.permissions_stay'),"
    " ('bindings.bindings_policy'))"
    " t (name) WHERE NOT EXISTS (SELECT FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relname || '.' || g.tgname = t.name"
    " AND g.tgenabled = 'A')"
    " UNION ALL SELECT 'the foreign key ' || conname || ' is missing or not valid'"
    " FROM (VALUES ('workspaces_organization_id_fkey'), ('identities_user_id_fkey'),"
    " ('roles_workspace_id_fkey'), ('permissions_role_id_fkey'), ('bindings_user_id_fkey'),"
    " ('bindings_role_id_fkey'), ('bindings_workspace_id_fkey')) k (conname)"
    " WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = k.conname"
    " AND c.connamespace = 'public'::regnamespace AND c.convalidated)"
    " UNION ALL SELECT 'a workspace names an organization that is not there' FROM workspaces w"
    " WHERE NOT EXISTS (SELECT FROM organizations o WHERE o.id = w.organization_id)"
    " UNION ALL SELECT 'an identity names a user that is not there' FROM identities i"
    " WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = i.user_id)"
    " UNION ALL SELECT 'a role names a workspace that is not there' FROM roles r"
    " WHERE r.workspace_id IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM workspaces w WHERE w.id = r.workspace_id)"
    " UNION ALL SELECT 'a permission names a role that is not there' FROM permissions p"
    " WHERE NOT EXISTS (SELECT FROM roles r WHERE r.id = p.role_id)"
    " UNION ALL SELECT 'a binding names a row that is not there' FROM bindings b"
    " WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = b.user_id)"
    " OR NOT EXISTS (SELECT FROM roles r WHERE r.id = b.role_id)"
    " OR (b.workspace_id IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM workspaces w WHERE w.id = b.workspace_id))";

/* Everybody who writes or waits has the lock of the log's table; who waits for nobody has its
 * row's, or holds up the writer that has: by a lock on another table, or on rows of one. */
static const char FIND_HOLDER[] =
    "SELECT format('pid %s, %s%s', a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'),"
    " coalesce(' at ' || host(a.client_addr), ''))"
    " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = "
    "l.relation"
    " WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND c.relnamespace = 'public'::regnamespace AND l.mode <> 'AccessShareLock' AND l.granted"
    " AND l.pid <> pg_backend_pid() AND cardinality(pg_blocking_pids(l.pid)) = 0"
    " ORDER BY CASE WHEN c.relname = 'log_head' AND l.mode = 'RowExclusiveLock' THEN 0 ELSE 1 END,"
    " a.xact_start LIMIT 1";

struct pair {
    uint64_t a, b;
};

static enum pst_status on_pair(void *ctx, const struct pst_sql_value *row)
{
    *(struct pair *)ctx = (struct pair){.a = row[0].i > 0 ? (uint64_t)row[0].i : 0,
                                        .b = row[1].i > 0 ? (uint64_t)row[1].i : 0};
    return PST_OK;
}

enum pst_status pst_pg_schema(struct pst_backend *b, uint32_t *version, uint32_t *oldest,
                              struct pst_error *error)
{
    struct pair p = {0};
    struct pst_pg_want want = {.name = "schema", .columns = "ii", .row = on_pair, .ctx = &p};

    *version = *oldest = 0;
    enum pst_status status = pst_pg_query(b, FIND_SCHEMA, &want, error);
    if (status != PST_OK || p.a == 0)
        return status;
    if (p.b == 0)
        return pst_error_set(error, PST_E_INVALID, NULL, "this is a database of another program");
    p = (struct pair){0};
    status = pst_pg_query(b, "SELECT schema_version, schema_oldest_reader FROM public.meta", &want,
                          error);
    if (status == PST_OK && p.a == 0) /* there are tables, and no row says which */
        status = pst_error_set(error, PST_E_INVALID, NULL, "this is a database of another program");
    if (status == PST_OK && p.a <= UINT32_MAX && p.b <= UINT32_MAX) {
        *version = (uint32_t)p.a;
        *oldest = (uint32_t)p.b;
    }
    return status;
}

/* Two labels of one assembler file; as numbers, because to C they are two objects. */
static struct pst_bytes between(const char *from, const char *to)
{
    return pst_bytes_of(from, (uintptr_t)to - (uintptr_t)from);
}

struct pst_bytes pst_pg_migration(uint32_t version)
{
    if (version == 1)
        return between(pst_migration_0001_postgres, pst_migration_0001_postgres_end);
    if (version == 2)
        return between(pst_migration_0002_postgres, pst_migration_0002_postgres_end);
    if (version == 3)
        return between(pst_migration_0003_postgres, pst_migration_0003_postgres_end);
    if (version == 4)
        return between(pst_migration_0004_postgres, pst_migration_0004_postgres_end);
    return (struct pst_bytes){0};
}

/* Several statements in one text are the simple protocol's, which no pipeline takes. */
enum pst_status pst_pg_script(struct pst_backend *b, struct pst_bytes sql, struct pst_error *error)
{
    enum pst_status status = pst_pg_open_transaction(b, error);
    PGresult *r;

    if (status != PST_OK)
        return status;
    char *text = malloc(sql.len + 1);
    if (text == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    memcpy(text, sql.ptr, sql.len);
    text[sql.len] = '\0';
    bool sent = PQexitPipelineMode(b->conn) == 1 && PQsendQuery(b->conn, text) == 1;
    free(text);
    if (!sent)
        return pst_pg_lost(b, error);
    for (;;) {
        enum pst_status got = pst_pg_next(b, &r, status == PST_OK ? error : NULL);
        if (got != PST_OK)
            return got;
        if (r == NULL)
            break;
        ExecStatusType kind = PQresultStatus(r);
        if (status == PST_OK && kind != PGRES_COMMAND_OK && kind != PGRES_TUPLES_OK &&
            kind != PGRES_EMPTY_QUERY)
            status = pst_pg_failed(r, "migration", error);
        PQclear(r);
    }
    return PQenterPipelineMode(b->conn) == 1 ? status : pst_pg_lost(b, error);
}

struct problem {
    struct pst_error *error;
};

static enum pst_status on_problem(void *ctx, const struct pst_sql_value *row)
{
    const struct problem *p = ctx;

    return pst_error_set(p->error, PST_E_INVALID, NULL, "%.*s", (int)row[0].text.len,
                         row[0].text.ptr);
}

enum pst_status pst_pg_check(struct pst_backend *b, struct pst_error *error)
{
    struct problem p = {.error = error};
    const struct pst_pg_want want = {.name = "check", .columns = "t", .row = on_problem, .ctx = &p};

    return pst_pg_query(b, FIND_PROBLEMS, &want, error);
}

static enum pst_status on_holder(void *ctx, const struct pst_sql_value *row)
{
    struct pst_error *error = ctx;
    size_t at = strlen(error->message);

    (void)snprintf(error->message + at, sizeof(error->message) - at, " (%.*s)",
                   (int)row[0].text.len, row[0].text.len == 0 ? "" : row[0].text.ptr);
    return PST_OK;
}

void pst_pg_name_holder(struct pst_backend *b, struct pst_error *error)
{
    static const struct pst_pg_want ROLLBACK = {.name = "rollback", .columns = ""};
    const struct pst_pg_want want = {
        .name = "holder", .columns = "t", .row = on_holder, .ctx = error};
    bool inside = b->transaction == PST_PG_OPEN;
    struct pst_error own;

    if (error == NULL)
        return;
    b->transaction = PST_PG_NONE;
    if (!inside || pst_pg_query(b, "ROLLBACK", &ROLLBACK, &own) == PST_OK)
        (void)pst_pg_query(b, FIND_HOLDER, &want, &own);
    b->transaction = inside ? PST_PG_DEAD : PST_PG_NONE;
}
