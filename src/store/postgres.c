/*
 * PostgreSQL behind backend.h: one connection of libpq, which never waits by itself.
 *
 *   - Every statement goes out in a pipeline and is waited for with poll(2): a server that is there
 *     but silent costs a deadline, never a thread.  After one the connection is broken for good.
 *   - Long lists come row by row (single-row mode), so that they are never in memory twice.
 *     Permissions, of which there are most, and which a change waits for, come as a COPY
 *     (postgres_copy.c).
 *   - Statements are prepared at their first use, in the same round trip.  Through pgbouncer they
 *     are parameterised and unnamed, and nothing of a session is used: a server connection is
 *     somebody else's after each transaction.
 *   - BEGIN goes out with the first statement of its transaction.
 *   - A store that was opened to read makes its views READ ONLY, and runs no statement but SELECTs.
 *     default_transaction_read_only would be state of the session.  The data plane's role
 *     (deploy/postgres) is what keeps it from writing whatever it sends.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "postern/base/buf.h"
#include "postern/base/clock.h"
#include "postgres_internal.h"

#define BINARY 1

static const char *const BEGIN_READ[] = {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL};
/* READ COMMITTED: who waited for the log's row goes on from what it holds then. What was
 * acknowledged must not be gone after a crash, whatever role, database or pooler say. */
static const char *const BEGIN_WRITE[] = {"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                                          "SET LOCAL lock_timeout = '2s'",
                                          "SELECT set_config('synchronous_commit', 'on', true)"
                                          " WHERE current_setting('synchronous_commit') = 'off'",
                                          NULL};
/* "postern": who migrates. Statements of a migration wait less: behind one that waits for a table's
 * lock, readers would wait, too. */
static const char *const BEGIN_MIGRATE[] = {
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", "SET LOCAL lock_timeout = '8s'",
    "SELECT pg_advisory_xact_lock(31639595765691758)", "SET LOCAL lock_timeout = '1s'", NULL};

/* ---- failures ---- */

enum pst_status pst_pg_lost(struct pst_backend *b, struct pst_error *error)
{
    char line[256];

    b->broken = true;
    pst_pg_line(PQerrorMessage(b->conn), line, sizeof(line));
    return pst_error_set(error, PST_E_IO, NULL, "the connection to the database is lost%s%s",
                         line[0] == '\0' ? "" : ": ", line);
}

static enum pst_status status_of(const char *code)
{
    struct pst_bytes c = pst_bytes_of(code, strlen(code));

    if (pst_bytes_equal(c, PST_LIT("23505")))
        return PST_E_EXISTS;
    if (pst_bytes_equal(c, PST_LIT("55P03")) || pst_bytes_starts(c, PST_LIT("40")))
        return PST_E_BUSY;
    if (pst_bytes_starts(c, PST_LIT("23")) || pst_bytes_starts(c, PST_LIT("22")) ||
        pst_bytes_equal(c, PST_LIT("42501")) || pst_bytes_equal(c, PST_LIT("25P02")))
        return PST_E_INVALID;
    if (pst_bytes_starts(c, PST_LIT("54")))
        return PST_E_LIMIT;
    return PST_E_IO;
}

enum pst_status pst_pg_failed(const PGresult *result, const char *what, struct pst_error *error)
{
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    enum pst_status status = code == NULL ? PST_E_IO : status_of(code);
    struct pst_bytes c = code == NULL ? PST_LIT("") : pst_bytes_of(code, strlen(code));

    if (text == NULL)
        text = "no answer";
    if (pst_bytes_equal(c, PST_LIT("55P03")))
        return pst_error_set(error, status, NULL,
                             "%s: another process holds the write lock of the database", what);
    if (pst_bytes_equal(c, PST_LIT("42501")))
        return pst_error_set(
            error, status, NULL,
            "%s: the role of the store's url may not do this (%s); deploy/postgres/"
            "grants.sql gives roles what they may",
            what, text);
    if (pst_bytes_equal(c, PST_LIT("25006")))
        return pst_error_set(error, status, NULL,
                             "%s: the server is in recovery (a replica), or read-only (%s)", what,
                             text);
    if (pst_bytes_equal(c, PST_LIT("26000")) || pst_bytes_equal(c, PST_LIT("42P05")))
        return pst_error_set(error, status, NULL,
                             "%s: %s; a pooler needs pgbouncer=true in the store's url", what,
                             text);
    return pst_error_set(error, status, NULL, "%s: %s", what, text);
}

static enum pst_status usable(const struct pst_backend *b, struct pst_error *error)
{
    if (b->broken)
        return pst_error_set(error, PST_E_IO, NULL, "the connection to the database is lost");
    if (b->transaction == PST_PG_DEAD)
        return pst_error_set(error, PST_E_INVALID, NULL, "the transaction has failed");
    return PST_OK;
}

/* ---- waiting ---- */

static uint64_t limit_of(const struct pst_backend *b)
{
    return b->deadline_ns != 0 ? b->deadline_ns : pst_clock_boot_ns() + b->patience_ns;
}

enum pst_status pst_pg_wait(struct pst_backend *b, uint64_t *until, bool unsent,
                            struct pst_error *error)
{
    uint64_t now = pst_clock_boot_ns();

    if (*until == 0)
        *until = limit_of(b);
    if (now >= *until) {
        b->broken = true;
        return pst_error_set(error, PST_E_IO, NULL, "the database did not answer in time");
    }
    struct pollfd p = {.fd = PQsocket(b->conn),
                       .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)};
    int n = poll(&p, 1, (int)((*until - now) / PST_NS_PER_MS) + 1);
    if ((n < 0 && errno != EINTR) || (n > 0 && PQconsumeInput(b->conn) == 0))
        return pst_pg_lost(b, error);
    if (n > 0 && b->deadline_ns == 0)
        *until = 0;
    return PST_OK;
}

/* Until the next result can be taken; of most rows, without a look at the clock. */
static enum pst_status await(struct pst_backend *b, struct pst_error *error)
{
    uint64_t until = 0;
    enum pst_status status = PST_OK;

    while (status == PST_OK) {
        int unsent = PQflush(b->conn);
        if (unsent < 0)
            return pst_pg_lost(b, error);
        if (!PQisBusy(b->conn))
            return PST_OK;
        status = pst_pg_wait(b, &until, unsent > 0, error);
    }
    return status;
}

enum pst_status pst_pg_next(struct pst_backend *b, PGresult **out, struct pst_error *error)
{
    *out = NULL;
    enum pst_status status = await(b, error);
    if (status == PST_OK)
        *out = PQgetResult(b->conn);
    return status;
}

/* ---- rows ---- */

/* False when a column is neither NULL nor what the statement says it is. */
static bool read_row(const PGresult *r, int at, const char *columns, struct pst_sql_value *row)
{
    enum { INT8 = 20, INT2 = 21, INT4 = 23, TEXT = 25 };

    if ((size_t)PQnfields(r) != strlen(columns))
        return false;
    for (int i = 0; columns[i] != '\0'; i++) {
        Oid type = PQftype(r, i);
        row[i] = (struct pst_sql_value){.kind = PST_SQL_NULL};
        if (PQgetisnull(r, at, i))
            continue;
        const char *bytes = PQgetvalue(r, at, i);
        int len = PQgetlength(r, at, i);
        if (columns[i] == 'i' && (type == INT8 || type == INT4 || type == INT2)) {
            row[i].kind = PST_SQL_INT;
            if (!pst_pg_number(pst_bytes_of(bytes, (size_t)len), &row[i].i))
                return false;
        } else if (columns[i] == 't' && type == TEXT) {
            row[i].kind = PST_SQL_TEXT;
            row[i].text = pst_bytes_of(bytes, (size_t)len);
        } else {
            return false;
        }
    }
    return true;
}

enum pst_status pst_pg_give(const struct pst_pg_want *w, const struct pst_sql_value *row,
                            struct pst_error *error)
{
    if (error != NULL)
        error->status = PST_OK; /* tells below whether the function said what is wrong */
    enum pst_status status = w->row(w->ctx, row);
    if (status != PST_OK && error != NULL && error->status == PST_OK)
        pst_error_set(error, status, NULL, "%s: a row that cannot be taken (%s)", w->name,
                      pst_status_name(status));
    return status;
}

static enum pst_status give_rows(const struct pst_pg_want *w, const PGresult *r,
                                 struct pst_error *error)
{
    struct pst_sql_value row[PST_SQL_COLUMNS_MAX];
    enum pst_status status = PST_OK;

    for (int i = 0; i < PQntuples(r) && w->row != NULL && status == PST_OK; i++) {
        if (!read_row(r, i, w->columns, row))
            return pst_error_set(error, PST_E_IO, NULL, "%s: a column of the wrong type", w->name);
        status = pst_pg_give(w, row, error);
    }
    return status;
}

/* Takes all results of the statement that is next in the pipeline. */
static enum pst_status take(struct pst_backend *b, const struct pst_pg_want *w,
                            struct pst_error *error)
{
    enum pst_status status = PST_OK;
    PGresult *r;

    if (w->many) /* costs a microsecond a row */
        (void)PQsetSingleRowMode(b->conn);
    for (;;) {
        enum pst_status got = pst_pg_next(b, &r, status == PST_OK ? error : NULL);
        if (got != PST_OK)
            return got;
        if (r == NULL)
            return status;
        ExecStatusType kind = PQresultStatus(r);
        if (status != PST_OK)
            ; /* the rest of it only has to be read */
        else if (kind == PGRES_SINGLE_TUPLE || kind == PGRES_TUPLES_OK)
            status = give_rows(w, r, error);
        else if (kind == PGRES_PIPELINE_ABORTED)
            status = PST_E_INVALID; /* what failed before it has said why */
        else if (kind != PGRES_COMMAND_OK)
            status = pst_pg_failed(r, w->name, error);
        else if (w->tag != NULL && strcmp(PQcmdStatus(r), w->tag) != 0)
            status = pst_error_set(error, PST_E_INVALID, NULL, "%s: the transaction had failed",
                                   w->name);
        PQclear(r);
        if (PQstatus(b->conn) == CONNECTION_BAD) {
            b->broken = true;
            return status == PST_OK ? pst_pg_lost(b, error) : status;
        }
    }
}

static enum pst_status take_sync(struct pst_backend *b, struct pst_error *error)
{
    PGresult *r;
    enum pst_status status = pst_pg_next(b, &r, error);

    if (status == PST_OK && PQresultStatus(r) != PGRES_PIPELINE_SYNC)
        status = pst_pg_lost(b, error);
    PQclear(r);
    return status;
}

/* ---- sending ---- */

static int send_text(const struct pst_backend *b, const char *sql)
{
    return PQsendQueryParams(b->conn, sql, 0, NULL, NULL, NULL, NULL, BINARY);
}

/* Numbers go as text, so that the server takes them for whatever width it needs; texts as bytes. */
static int send_values(const struct pst_backend *b, unsigned id, const struct pst_sql_value *params,
                       unsigned count)
{
    const char *values[PST_SQL_COLUMNS_MAX];
    int lengths[PST_SQL_COLUMNS_MAX], formats[PST_SQL_COLUMNS_MAX];
    char numbers[PST_SQL_COLUMNS_MAX][24];

    for (unsigned i = 0; i < count; i++) {
        const struct pst_sql_value *v = &params[i];
        values[i] = NULL;
        formats[i] = v->kind == PST_SQL_TEXT ? BINARY : 0;
        lengths[i] = 0;
        if (v->kind == PST_SQL_TEXT) {
            values[i] = v->text.len == 0 ? "" : v->text.ptr;
            lengths[i] = (int)v->text.len;
        } else if (v->kind == PST_SQL_INT) {
            (void)snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)v->i);
            values[i] = numbers[i];
        }
    }
    return b->pgbouncer ? PQsendQueryParams(b->conn, pst_statements[id].postgres, (int)count, NULL,
                                            values, lengths, formats, BINARY)
                        : PQsendQueryPrepared(b->conn, pst_statements[id].name, (int)count, values,
                                              lengths, formats, BINARY);
}

/* What of a call is in the pipeline before its rows. */
struct sent {
    unsigned begins;
    bool prepare;
};

static bool send_call(struct pst_backend *b, unsigned id, const struct pst_sql_value *params,
                      unsigned count, struct sent *sent)
{
    const struct pst_sql *sql = &pst_statements[id];
    int good = count <= PST_SQL_COLUMNS_MAX;

    *sent = (struct sent){0};
    for (; good == 1 && b->transaction == PST_PG_WANTED && b->begin[sent->begins] != NULL;
         sent->begins++)
        good = send_text(b, b->begin[sent->begins]);
    if (sent->begins > 0) /* for the calls that go out behind this one */
        b->transaction = PST_PG_OPEN;
    if (good == 1 && !b->pgbouncer && !b->prepared[id]) {
        good = PQsendPrepare(b->conn, sql->name, sql->postgres, 0, NULL);
        sent->prepare = b->prepared[id] = true;
    }
    if (good == 1)
        good = send_values(b, id, params, count);
    if (good == 1)
        good = PQpipelineSync(b->conn);
    return good == 1;
}

/* Lists of all there is. */
static bool has_many(unsigned id)
{
    return id == PST_SQL_USERS || id == PST_SQL_IDENTITIES || id == PST_SQL_BINDINGS ||
           id == PST_SQL_BINDINGS_NAMED || id == PST_SQL_ROLES || id == PST_SQL_WORKSPACES ||
           id == PST_SQL_PERMISSIONS;
}

static enum pst_status take_call(struct pst_backend *b, unsigned id, const struct sent *sent,
                                 pst_sql_row_fn *row, void *ctx, struct pst_error *error)
{
    const struct pst_sql *sql = &pst_statements[id];
    const struct pst_pg_want rows = {
        .name = sql->name, .columns = sql->columns, .row = row, .ctx = ctx, .many = has_many(id)};
    const struct pst_pg_want plain = {.name = sql->name, .columns = ""};
    enum pst_status status = PST_OK;

    if (error != NULL)
        *error = (struct pst_error){0};
    for (unsigned i = 0; i < sent->begins + sent->prepare + 1u && !b->broken; i++) {
        bool last = i == sent->begins + sent->prepare;
        enum pst_status one = take(b, last ? &rows : &plain, status == PST_OK ? error : NULL);
        if (sent->prepare && i == sent->begins && one != PST_OK)
            b->prepared[id] = false;
        if (status == PST_OK)
            status = one;
    }
    if (!b->broken) {
        enum pst_status synced = take_sync(b, status == PST_OK ? error : NULL);
        if (status == PST_OK)
            status = synced;
    }
    return b->broken ? PST_E_IO : status;
}

/* ---- the seam ---- */

/* SQLite's words show it: what is a function call here may write there. */
static enum pst_status may_run(const struct pst_backend *b, unsigned id, struct pst_error *error)
{
    if (b->mode == PST_STORE_READ && pst_statements[id].text[0] != 'S')
        return pst_error_set(error, PST_E_INVALID, NULL, "the store was opened to read");
    return usable(b, error);
}

/* A COPY takes no parameters: its list is a setting of the transaction, made before it. */
static bool is_copied_list(unsigned id)
{
    return id == PST_SQL_PERMISSIONS_SOME;
}

/* Sends the calls up to one that is copied, which nothing can be behind in a pipeline. Returned is
 * how many; 0: the connection is lost. */
static unsigned send_calls(struct pst_backend *b, const struct pst_sql_call *calls, unsigned count,
                           struct sent *sent)
{
    unsigned i = 0;

    for (bool last = false; i < count && !last; i++) {
        last = is_copied_list(calls[i].id);
        if (!send_call(b, last ? PST_SQL_LIST_SET : calls[i].id, calls[i].params, calls[i].count,
                       &sent[i]))
            return 0;
    }
    return i;
}

static enum pst_status take_sent(struct pst_backend *b, const struct pst_sql_call *c,
                                 const struct sent *sent, struct pst_error *error)
{
    if (!is_copied_list(c->id))
        return take_call(b, c->id, sent, c->row, c->ctx, error);
    enum pst_status status = take_call(b, PST_SQL_LIST_SET, sent, NULL, NULL, error);
    return status == PST_OK ? pst_pg_copy(b, c->id, c->row, c->ctx, error) : status;
}

static enum pst_status pg_run_all(struct pst_backend *b, struct pst_sql_call *calls, unsigned count,
                                  struct pst_error *error)
{
    struct sent sent[64];
    bool told = false;
    unsigned at = 0;

    for (unsigned i = 0; i < count; i++)
        calls[i].status = PST_E_IO;
    enum pst_status status = usable(b, error);
    while (status == PST_OK && at < count) {
        unsigned n = send_calls(b, calls + at, count - at > 64 ? 64 : count - at, sent);
        if (n == 0)
            return pst_pg_lost(b, error);
        for (unsigned i = 0; i < n && !b->broken; i++, at++) {
            struct pst_sql_call *c = &calls[at];
            c->status = take_sent(b, c, &sent[i], told ? NULL : error);
            told = told || c->status != PST_OK;
        }
        if (b->broken)
            status = PST_E_IO;
    }
    return status;
}

static enum pst_status pg_run(struct pst_backend *b, unsigned id,
                              const struct pst_sql_value *params, unsigned count,
                              pst_sql_row_fn *each, void *ctx, struct pst_error *error)
{
    struct pst_sql_call c = {.id = id, .params = params, .count = count, .row = each, .ctx = ctx};
    struct sent sent;
    enum pst_status status = may_run(b, id, error);

    if (status != PST_OK)
        return status;
    if (id == PST_SQL_PERMISSIONS)
        return pst_pg_copy(b, id, each, ctx, error);
    if (send_calls(b, &c, 1, &sent) == 0)
        return pst_pg_lost(b, error);
    status = take_sent(b, &c, &sent, error);
    if (status == PST_E_BUSY && !b->broken)
        pst_pg_name_holder(b, error);
    return status;
}

static void pg_set_deadline(struct pst_backend *b, uint64_t at_ns, uint64_t silence_ns)
{
    b->deadline_ns = at_ns;
    b->patience_ns = silence_ns != 0 ? silence_ns : PST_PG_PATIENCE_NS;
}

enum pst_status pst_pg_query(struct pst_backend *b, const char *sql, const struct pst_pg_want *want,
                             struct pst_error *error)
{
    enum pst_status status = usable(b, error);

    if (status != PST_OK)
        return status;
    if (send_text(b, sql) != 1 || PQpipelineSync(b->conn) != 1)
        return pst_pg_lost(b, error);
    status = take(b, want, error);
    if (b->broken)
        return PST_E_IO;
    enum pst_status synced = take_sync(b, status == PST_OK ? error : NULL);
    return status == PST_OK ? synced : status;
}

enum pst_status pst_pg_open_transaction(struct pst_backend *b, struct pst_error *error)
{
    static const struct pst_pg_want WANT = {.name = "begin", .columns = ""};
    enum pst_status status = PST_OK;

    for (unsigned i = 0; b->transaction == PST_PG_WANTED && status == PST_OK; i++) {
        if (b->begin[i] == NULL)
            b->transaction = PST_PG_OPEN;
        else
            status = pst_pg_query(b, b->begin[i], &WANT, error);
    }
    return status;
}

static enum pst_status want(struct pst_backend *b, const char *const *begin,
                            struct pst_error *error)
{
    enum pst_status status = usable(b, error);

    if (status == PST_OK) {
        b->transaction = PST_PG_WANTED;
        b->begin = begin;
    }
    return status;
}

static enum pst_status pg_begin_read(struct pst_backend *b, struct pst_error *error)
{
    return want(b, BEGIN_READ, error);
}

static enum pst_status pg_begin_write(struct pst_backend *b, struct pst_error *error)
{
    if (b->mode == PST_STORE_READ)
        return pst_error_set(error, PST_E_INVALID, NULL, "the store was opened to read");
    return want(b, BEGIN_WRITE, error);
}

static enum pst_status pg_begin_migrate(struct pst_backend *b, struct pst_error *error)
{
    enum pst_status status = want(b, BEGIN_MIGRATE, error);
    return status == PST_OK ? pst_pg_open_transaction(b, error) : status;
}

static void pg_rollback(struct pst_backend *b)
{
    static const struct pst_pg_want WANT = {.name = "rollback", .columns = ""};

    /* Also after a BEGIN whose fate is unknown; without a transaction it is a warning. */
    bool sent = b->transaction == PST_PG_OPEN ||
                (!b->broken && PQtransactionStatus(b->conn) > PQTRANS_ACTIVE);
    b->transaction = PST_PG_NONE;
    if (sent && !b->broken && pst_pg_query(b, "ROLLBACK", &WANT, NULL) != PST_OK)
        b->broken = true;
}

static enum pst_status pg_commit(struct pst_backend *b, struct pst_error *error)
{
    /* COMMIT of a transaction that has failed is answered with ROLLBACK and no error. */
    static const struct pst_pg_want WANT = {.name = "commit", .columns = "", .tag = "COMMIT"};
    enum pst_status status = usable(b, error);

    if (status == PST_OK && b->transaction == PST_PG_OPEN)
        status = pst_pg_query(b, "COMMIT", &WANT, error);
    b->transaction = PST_PG_NONE;
    return status;
}

/* There is nothing cheaper than reading the log. */
static enum pst_status pg_hint(struct pst_backend *b, uint64_t *out, struct pst_error *error)
{
    *out = 0;
    return b->broken ? usable(b, error) : PST_E_ABSENT;
}

static enum pst_status pg_open(struct pst_bytes where, enum pst_store_mode mode,
                               struct pst_backend **out, struct pst_error *error)
{
    enum pst_status status = pst_pg_connect(where, mode, out, error);

    if (status != PST_OK) {
        pst_pg_close(*out);
        *out = NULL;
    }
    return status;
}

const struct pst_store_ops pst_store_postgres = {
    .far = true,
    .name = "postgresql",
    .open = pg_open,
    .close = pst_pg_close,
    .run = pg_run,
    .run_all = pg_run_all,
    .set_deadline = pg_set_deadline,
    .begin_read = pg_begin_read,
    .begin_write = pg_begin_write,
    .begin_migrate = pg_begin_migrate,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .script = pst_pg_script,
    .schema = pst_pg_schema,
    .migration = pst_pg_migration,
    .hint = pg_hint,
    .check = pst_pg_check,
};
