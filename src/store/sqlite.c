/*
 * SQLite behind backend.h: one connection, WAL, one thread.
 *
 *   - The file is made by open(2) with mode 0600 before SQLite sees it; -wal and -shm inherit it.
 *   - A write transaction is BEGIN IMMEDIATE: readers of a WAL database never wait for it.
 *   - A file that was replaced under the same name (a restore) would go on answering from the old
 *     inode, for ever and without an error.  So every transaction begins with one fstat-like look
 *     (SQLITE_FCNTL_HAS_MOVED); a moved file is PST_E_IO and the owner opens the store anew.
 */
#include "postern/store/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "statements.h"

#define BUSY_TIMEOUT_MS 2000
#define WAL_TRIES       50 /* times 20 ms: another process is switching the same new file to WAL */

struct pst_backend {
    sqlite3 *db;
    sqlite3_stmt *statements[PST_SQL_COUNT]; /* prepared on first use */
    sqlite3_stmt *data_version;
};

extern const char pst_migration_0001_sqlite[], pst_migration_0001_sqlite_end[];
extern const char pst_migration_0002_sqlite[], pst_migration_0002_sqlite_end[];
extern const char pst_migration_0003_sqlite[], pst_migration_0003_sqlite_end[];
extern const char pst_migration_0004_sqlite[], pst_migration_0004_sqlite_end[];

static enum pst_status status_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return PST_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return PST_E_BUSY;
    case SQLITE_NOMEM:
        return PST_E_NOMEM;
    case SQLITE_CONSTRAINT:
        return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY
                   ? PST_E_EXISTS
                   : PST_E_INVALID;
    case SQLITE_TOOBIG:
        return PST_E_LIMIT;
    default:
        return PST_E_IO;
    }
}

static enum pst_status fail(const struct pst_backend *b, int code, const char *what,
                            struct pst_error *error)
{
    enum pst_status status = status_of(code);

    if (status == PST_E_BUSY)
        return pst_error_set(error, status, NULL,
                             "%s: another process holds the write lock of the database", what);
    return pst_error_set(error, status, NULL, "%s: %s", what,
                         b->db == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(b->db));
}

static enum pst_status still_there(const struct pst_backend *b, struct pst_error *error)
{
    int moved = 0;

    if (sqlite3_file_control(b->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
        moved == 0)
        return PST_OK;
    return pst_error_set(error, PST_E_IO, NULL,
                         "the database file was moved, deleted or replaced while it was open");
}

static enum pst_status execute(const struct pst_backend *b, const char *sql,
                               struct pst_error *error)
{
    int code = sqlite3_exec(b->db, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? PST_OK : fail(b, sqlite3_extended_errcode(b->db), sql, error);
}

/* The file itself, so that its mode is right from its first instant. A file that is there is not
 * opened: closing any descriptor of it would drop the locks of this process's other connections
 * (POSIX), and the next process to close would take itself for the last one and delete the WAL
 * under us. */
static enum pst_status make_file(const char *path, enum pst_store_mode mode,
                                 struct pst_error *error)
{
    struct stat st;

    if (stat(path, &st) == 0)
        return PST_OK;
    int fd = mode == PST_STORE_CREATE && errno == ENOENT
                 ? open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600)
                 : -1;
    if (fd >= 0)
        (void)close(fd);
    if (fd >= 0 || errno == EEXIST)
        return PST_OK;
    if (errno != ENOENT)
        return pst_error_set(error, PST_E_IO, path, "cannot open the database: %s",
                             strerror(errno));
    return pst_error_set(
        error, PST_E_ABSENT, path,
        "there is no database%s (sqlite:///x is relative to the working directory, an "
        "absolute path takes four slashes: sqlite:////x)",
        mode == PST_STORE_CREATE ? " and no folder to make it in" : "");
}

static enum pst_status switch_to_wal(const struct pst_backend *b, struct pst_error *error)
{
    for (unsigned i = 0;; i++) {
        sqlite3_stmt *s = NULL;
        int code = sqlite3_prepare_v2(b->db, "PRAGMA journal_mode = WAL", -1, &s, NULL);
        if (code == SQLITE_OK)
            code = sqlite3_step(s);
        bool wal = code == SQLITE_ROW && sqlite3_column_bytes(s, 0) == 3 &&
                   memcmp(sqlite3_column_text(s, 0), "wal", 3) == 0;
        sqlite3_finalize(s);
        if (wal)
            return PST_OK;
        if ((code & 0xff) != SQLITE_BUSY || i == WAL_TRIES)
            return fail(b, code == SQLITE_ROW ? SQLITE_CANTOPEN : code, "switching to WAL", error);
        sqlite3_sleep(20);
    }
}

static enum pst_status set_up(const struct pst_backend *b, enum pst_store_mode mode,
                              struct pst_error *error)
{
    int on = 0;

    sqlite3_extended_result_codes(b->db, 1);
    sqlite3_busy_timeout(b->db, BUSY_TIMEOUT_MS);
    if (sqlite3_db_config(b->db, SQLITE_DBCONFIG_DEFENSIVE, 1, &on) != SQLITE_OK || on != 1 ||
        sqlite3_db_config(b->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, &on) != SQLITE_OK || on != 1 ||
        sqlite3_db_config(b->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, &on) != SQLITE_OK || on != 1)
        return pst_error_set(error, PST_E_IO, NULL, "this SQLite lacks foreign keys or triggers");

    enum pst_status status = switch_to_wal(b, error);
    if (status == PST_OK)
        status = execute(b, "PRAGMA synchronous = FULL", error);
    /* The planner builds an index of the whole table for one look-up rather than use one that does
     * not cover it: 30 ms in place of 10 us at 3 x 10^5 bindings. */
    if (status == PST_OK)
        status = execute(b, "PRAGMA automatic_index = OFF", error);
    if (status == PST_OK)
        status = execute(b, "PRAGMA cache_size = -16384", error); /* KiB; big changes spill less */
    if (status == PST_OK && mode == PST_STORE_READ)
        status = execute(b, "PRAGMA query_only = ON", error);
    return status;
}

static void sqlite_close(struct pst_backend *b)
{
    if (b == NULL)
        return;
    for (unsigned i = 0; i < PST_SQL_COUNT; i++)
        sqlite3_finalize(b->statements[i]);
    sqlite3_finalize(b->data_version);
    sqlite3_close(b->db);
    free(b);
}

static enum pst_status sqlite_open(struct pst_bytes where, enum pst_store_mode mode,
                                   struct pst_backend **out, struct pst_error *error)
{
    char path[PATH_MAX];

    *out = NULL;
    if (where.len < 2 || where.ptr[0] != '/' || where.len - 1 >= sizeof(path) ||
        memchr(where.ptr, '\0', where.len) != NULL || pst_bytes_find(where, '?') < where.len ||
        pst_bytes_equal(where, PST_LIT("/:memory:")))
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "a SQLite url is sqlite:///relative/path or sqlite:////absolute/path, "
                             "without options");
    memcpy(path, where.ptr + 1, where.len - 1);
    path[where.len - 1] = '\0';

    enum pst_status status = make_file(path, mode, error);
    if (status != PST_OK)
        return status;
    struct pst_backend *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");

    int code = sqlite3_open_v2(path, &b->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    status = code == SQLITE_OK ? set_up(b, mode, error) : fail(b, code, path, error);
    if (status != PST_OK) {
        sqlite_close(b);
        return status;
    }
    *out = b;
    return PST_OK;
}

/* Parameters are numbered by where they first appear; a text that names them out of order would
 * bind silently wrong. */
static bool in_order(sqlite3_stmt *s)
{
    for (int i = 1; i <= sqlite3_bind_parameter_count(s); i++) {
        const char *name = sqlite3_bind_parameter_name(s, i);
        uint64_t number;
        if (name == NULL || name[0] != '$' ||
            !pst_bytes_u63(pst_bytes_of(name + 1, strlen(name + 1)), &number) ||
            number != (uint64_t)i)
            return false;
    }
    return true;
}

static enum pst_status prepare(struct pst_backend *b, unsigned id, unsigned count,
                               sqlite3_stmt **out, struct pst_error *error)
{
    const struct pst_sql *sql = &pst_statements[id];

    *out = b->statements[id];
    if (*out == NULL) {
        int code = sqlite3_prepare_v3(b->db, sql->text, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
        if (code != SQLITE_OK)
            return fail(b, code, sql->name, error);
        b->statements[id] = *out;
    }
    if (!in_order(*out) || sqlite3_bind_parameter_count(*out) != (int)count ||
        (size_t)sqlite3_column_count(*out) != strlen(sql->columns))
        return pst_error_set(error, PST_E_INVALID, NULL, "%s: parameters or columns do not fit",
                             sql->name);
    return PST_OK;
}

static int bind(sqlite3_stmt *s, const struct pst_sql_value *params, unsigned count)
{
    int code = SQLITE_OK;

    for (unsigned i = 0; i < count && code == SQLITE_OK; i++) {
        const struct pst_sql_value *v = &params[i];
        switch (v->kind) {
        case PST_SQL_NULL:
            code = sqlite3_bind_null(s, (int)i + 1);
            break;
        case PST_SQL_INT:
            code = sqlite3_bind_int64(s, (int)i + 1, v->i);
            break;
        case PST_SQL_TEXT:
            code = sqlite3_bind_text64(s, (int)i + 1, v->text.len == 0 ? "" : v->text.ptr,
                                       v->text.len, SQLITE_STATIC, SQLITE_UTF8);
            break;
        }
    }
    return code;
}

/* False when a column is neither NULL nor what the statement says it is. */
static bool read_row(sqlite3_stmt *s, const char *columns, struct pst_sql_value *row)
{
    for (int i = 0; columns[i] != '\0'; i++) {
        int type = sqlite3_column_type(s, i);
        row[i] = (struct pst_sql_value){.kind = PST_SQL_NULL};
        if (type == SQLITE_NULL)
            continue;
        if (columns[i] == 'i' && type == SQLITE_INTEGER) {
            row[i].kind = PST_SQL_INT;
            row[i].i = sqlite3_column_int64(s, i);
        } else if (columns[i] == 't' && type == SQLITE_TEXT) {
            row[i].kind = PST_SQL_TEXT;
            row[i].text.ptr = (const char *)sqlite3_column_text(s, i);
            row[i].text.len = (size_t)sqlite3_column_bytes(s, i);
        } else {
            return false;
        }
    }
    return true;
}

static enum pst_status sqlite_run(struct pst_backend *b, unsigned id,
                                  const struct pst_sql_value *params, unsigned count,
                                  pst_sql_row_fn *each, void *ctx, struct pst_error *error)
{
    const struct pst_sql *sql = &pst_statements[id];
    struct pst_sql_value row[PST_SQL_COLUMNS_MAX];
    sqlite3_stmt *s;
    enum pst_status status = PST_OK;

    if (error != NULL)
        error->status = PST_OK; /* tells below whether `each` said what is wrong */
    if (sqlite3_get_autocommit(b->db) != 0)
        status = still_there(b, error);
    if (status == PST_OK)
        status = prepare(b, id, count, &s, error);
    if (status != PST_OK)
        return status;

    int code = bind(s, params, count);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(s);
        if (code != SQLITE_ROW || each == NULL)
            continue;
        if (!read_row(s, sql->columns, row))
            status =
                pst_error_set(error, PST_E_IO, NULL, "%s: a column of the wrong type", sql->name);
        else
            status = each(ctx, row);
        if (status != PST_OK)
            break;
    }
    if (status != PST_OK && error != NULL && error->status == PST_OK)
        pst_error_set(error, status, NULL, "%s: a row that cannot be taken (%s)", sql->name,
                      pst_status_name(status));
    if (status == PST_OK && code != SQLITE_DONE)
        status = fail(b, code, sql->name, error);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return status;
}

static enum pst_status sqlite_run_all(struct pst_backend *b, struct pst_sql_call *calls,
                                      unsigned count, struct pst_error *error)
{
    enum pst_status result = PST_OK;
    bool told = false;

    for (unsigned i = 0; i < count; i++) {
        struct pst_sql_call *c = &calls[i];
        c->status = sqlite_run(b, c->id, c->params, c->count, c->row, c->ctx, told ? NULL : error);
        if (c->status == PST_E_IO)
            result = PST_E_IO;
        told = told || c->status != PST_OK;
    }
    return result;
}

static void sqlite_set_deadline(struct pst_backend *b, uint64_t at_ns, uint64_t silence_ns)
{
    (void)b;
    (void)at_ns;
    (void)silence_ns;
}

static enum pst_status sqlite_begin_read(struct pst_backend *b, struct pst_error *error)
{
    enum pst_status status = still_there(b, error);

    /* BEGIN alone takes no snapshot: the first read does, and any later one shows the same. */
    return status == PST_OK ? execute(b, "BEGIN", error) : status;
}

static enum pst_status sqlite_begin_write(struct pst_backend *b, struct pst_error *error)
{
    enum pst_status status = still_there(b, error);

    return status == PST_OK ? execute(b, "BEGIN IMMEDIATE", error) : status;
}

static void sqlite_rollback(struct pst_backend *b)
{
    if (sqlite3_get_autocommit(b->db) == 0)
        (void)sqlite3_exec(b->db, "ROLLBACK", NULL, NULL, NULL);
}

static enum pst_status sqlite_commit(struct pst_backend *b, struct pst_error *error)
{
    enum pst_status status = execute(b, "COMMIT", error);

    if (status != PST_OK)
        sqlite_rollback(b);
    return status;
}

static enum pst_status sqlite_script(struct pst_backend *b, struct pst_bytes sql,
                                     struct pst_error *error)
{
    const char *at = sql.ptr;
    const char *end = sql.ptr + sql.len;

    while (at < end) {
        sqlite3_stmt *s = NULL;
        int code = sqlite3_prepare_v2(b->db, at, (int)(end - at), &s, &at);
        if (code == SQLITE_OK && s == NULL)
            continue; /* blanks and comments; `at` moved on */
        if (code == SQLITE_OK)
            do
                code = sqlite3_step(s);
            while (code == SQLITE_ROW);
        enum pst_status status = code == SQLITE_DONE ? PST_OK : fail(b, code, "migration", error);
        sqlite3_finalize(s);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

/* One number of a statement that is not in the table. Absent rows leave *out as it is. */
static enum pst_status number(const struct pst_backend *b, const char *sql, int64_t *out,
                              struct pst_error *error)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(b->db, sql, -1, &s, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    if (code == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    enum pst_status status =
        code == SQLITE_ROW || code == SQLITE_DONE ? PST_OK : fail(b, code, sql, error);
    sqlite3_finalize(s);
    return status;
}

static enum pst_status sqlite_schema(struct pst_backend *b, uint32_t *version, uint32_t *oldest,
                                     struct pst_error *error)
{
    int64_t tables = 0, ours = 0, value = 0, reader = 0;

    *version = *oldest = 0;
    enum pst_status status = number(b, "SELECT count(*) FROM sqlite_schema", &tables, error);
    if (status == PST_OK && tables > 0)
        status = number(b, "SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'log_head')",
                        &ours, error);
    if (status != PST_OK || tables == 0)
        return status;
    if (ours != 2)
        return pst_error_set(error, PST_E_INVALID, NULL, "this is a database of another program");
    status = number(b, "SELECT schema_version FROM meta", &value, error);
    if (status == PST_OK && value == 0) /* no row says which */
        status = pst_error_set(error, PST_E_INVALID, NULL, "this is a database of another program");
    if (status == PST_OK)
        status = number(b, "SELECT schema_oldest_reader FROM meta", &reader, error);
    if (status == PST_OK && value > 0 && value <= UINT32_MAX)
        *version = (uint32_t)value;
    if (status == PST_OK && reader > 0 && reader <= UINT32_MAX)
        *oldest = (uint32_t)reader;
    return status;
}

static struct pst_bytes sqlite_migration(uint32_t version)
{
    /* Two labels of one assembler file; as numbers, because to C they are two objects. */
    if (version == 1)
        return pst_bytes_of(pst_migration_0001_sqlite, (uintptr_t)pst_migration_0001_sqlite_end -
                                                           (uintptr_t)pst_migration_0001_sqlite);
    if (version == 2)
        return pst_bytes_of(pst_migration_0002_sqlite, (uintptr_t)pst_migration_0002_sqlite_end -
                                                           (uintptr_t)pst_migration_0002_sqlite);
    if (version == 3)
        return pst_bytes_of(pst_migration_0003_sqlite, (uintptr_t)pst_migration_0003_sqlite_end -
                                                           (uintptr_t)pst_migration_0003_sqlite);
    if (version == 4)
        return pst_bytes_of(pst_migration_0004_sqlite, (uintptr_t)pst_migration_0004_sqlite_end -
                                                           (uintptr_t)pst_migration_0004_sqlite);
    return (struct pst_bytes){0};
}

static enum pst_status sqlite_hint(struct pst_backend *b, uint64_t *out, struct pst_error *error)
{
    *out = 0;
    enum pst_status status = still_there(b, error);
    if (status != PST_OK)
        return status;

    int code = b->data_version != NULL
                   ? SQLITE_OK
                   : sqlite3_prepare_v3(b->db, "PRAGMA data_version", -1, SQLITE_PREPARE_PERSISTENT,
                                        &b->data_version, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(b->data_version);
    if (code == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(b->data_version, 0);
    status = code == SQLITE_ROW ? PST_OK : fail(b, code, "data_version", error);
    sqlite3_reset(b->data_version);
    return status;
}

static enum pst_status sqlite_check(struct pst_backend *b, struct pst_error *error)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(b->db, "PRAGMA integrity_check(1)", -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    enum pst_status status = PST_OK;
    if (code != SQLITE_ROW)
        status = fail(b, code, "integrity_check", error);
    else if (sqlite3_column_bytes(s, 0) != 2 || memcmp(sqlite3_column_text(s, 0), "ok", 2) != 0)
        status = pst_error_set(error, PST_E_INVALID, NULL, "integrity_check: %s",
                               (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);

    int64_t orphans = 0;
    if (status == PST_OK)
        status = number(b, "SELECT count(*) FROM pragma_foreign_key_check", &orphans, error);
    if (status == PST_OK && orphans > 0)
        status = pst_error_set(error, PST_E_INVALID, NULL, "%lld rows name rows that are not there",
                               (long long)orphans);
    return status;
}

const struct pst_store_ops pst_store_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .run = sqlite_run,
    .run_all = sqlite_run_all,
    .set_deadline = sqlite_set_deadline,
    .begin_read = sqlite_begin_read,
    .begin_write = sqlite_begin_write,
    .begin_migrate = sqlite_begin_write,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .script = sqlite_script,
    .schema = sqlite_schema,
    .migration = sqlite_migration,
    .hint = sqlite_hint,
    .check = sqlite_check,
};
