/*
 * COPY (query) TO STDOUT, binary: many rows without a result object for each.  At 10^6 permissions
 * it takes half of the node's CPU time of single-row mode.
 *
 *   stream   signature (11), flags (4), length of an extension (4), the extension,
 *            then rows: count (2), and for each column length (4, -1: NULL) and bytes;
 *            at the end a count of -1.  The server sends whole rows in each message.
 */
#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "postern/base/clock.h"
#include "postgres_internal.h"

#define NAP_NS 100000

struct copy {
    struct pst_pg_want want;
    bool begun; /* the head is behind us */
    enum pst_status status;
};

/* Takes `len` bytes off the front of *at; false when there are fewer. */
static bool take(struct pst_bytes *at, size_t len, struct pst_bytes *out)
{
    if (len > at->len)
        return false;
    *out = pst_bytes_of(at->ptr, len);
    *at = pst_bytes_from(*at, len);
    return true;
}

static bool take_number(struct pst_bytes *at, size_t width, int64_t *out)
{
    struct pst_bytes bytes;

    return take(at, width, &bytes) && pst_pg_number(bytes, out);
}

static bool take_head(struct pst_bytes *at)
{
    struct pst_bytes signature, extension;
    int64_t flags, len;

    return take(at, 11, &signature) &&
           pst_bytes_equal(signature, pst_bytes_of("PGCOPY\n\377\r\n\0", 11)) &&
           take_number(at, 4, &flags) && flags == 0 && take_number(at, 4, &len) && len >= 0 &&
           take(at, (size_t)len, &extension);
}

/* COPY says nothing of types: a number is known by its width. */
static bool take_value(struct pst_bytes *at, char column, struct pst_sql_value *out)
{
    struct pst_bytes bytes;
    int64_t len;

    *out = (struct pst_sql_value){.kind = PST_SQL_NULL};
    if (!take_number(at, 4, &len))
        return false;
    if (len < 0)
        return len == -1;
    if (!take(at, (size_t)len, &bytes))
        return false;
    out->kind = column == 'i' ? PST_SQL_INT : PST_SQL_TEXT;
    if (column == 'i')
        return pst_pg_number(bytes, &out->i);
    out->text = bytes;
    return true;
}

static enum pst_status give_rows(struct copy *c, struct pst_bytes message, struct pst_error *error)
{
    struct pst_sql_value row[PST_SQL_COLUMNS_MAX];
    size_t columns = strlen(c->want.columns);
    enum pst_status status = PST_OK;
    bool good = c->begun || take_head(&message);

    c->begun = true;
    while (good && message.len > 0 && status == PST_OK) {
        int64_t count;
        good = take_number(&message, 2, &count) &&
               (count == (int64_t)columns || (count == -1 && message.len == 0));
        for (size_t i = 0; good && count > 0 && i < columns; i++)
            good = take_value(&message, c->want.columns[i], &row[i]);
        if (good && count > 0)
            status = pst_pg_give(&c->want, row, error);
    }
    return good ? status
                : pst_error_set(error, PST_E_IO, NULL, "%s: rows of an unknown form", c->want.name);
}

/* Waking a reader for every few rows costs the server more than the rows: one that has read all
 * there is lets some gather (10^4 rows: a tenth of the time, half of the reader's). */
static enum pst_status wait_rows(struct pst_backend *b, uint64_t *until, struct pst_error *error)
{
    static const struct timespec NAP = {.tv_nsec = NAP_NS};
    struct pollfd p = {.fd = PQsocket(b->conn), .events = POLLIN};

    if (poll(&p, 1, 0) == 0)
        (void)nanosleep(&NAP, NULL);
    return pst_pg_wait(b, until, false, error);
}

/* Reads the stream to its end, also when nobody wants the rest. */
static enum pst_status read_stream(struct pst_backend *b, struct copy *c, struct pst_error *error)
{
    for (;;) {
        char *bytes = NULL;
        uint64_t until = 0;
        int len;
        enum pst_status status = PST_OK;
        while ((len = PQgetCopyData(b->conn, &bytes, 1)) == 0 && status == PST_OK)
            status = wait_rows(b, &until, c->status == PST_OK ? error : NULL);
        if (status != PST_OK)
            return status;
        if (len == -1)
            return PST_OK;
        if (len < 0)
            return pst_pg_lost(b, c->status == PST_OK ? error : NULL);
        if (c->status == PST_OK)
            c->status = give_rows(c, pst_bytes_of(bytes, (size_t)len), error);
        PQfreemem(bytes);
    }
}

static enum pst_status read_results(struct pst_backend *b, struct copy *c, struct pst_error *error)
{
    PGresult *r;

    for (;;) {
        enum pst_status status = pst_pg_next(b, &r, c->status == PST_OK ? error : NULL);
        if (status != PST_OK || r == NULL)
            return status;
        ExecStatusType kind = PQresultStatus(r);
        if (kind != PGRES_COPY_OUT && kind != PGRES_COMMAND_OK && c->status == PST_OK)
            c->status = pst_pg_failed(r, c->want.name, error);
        PQclear(r);
        if (kind == PGRES_COPY_OUT)
            status = read_stream(b, c, error);
        if (status != PST_OK)
            return status;
    }
}

enum pst_status pst_pg_copy(struct pst_backend *b, unsigned id, pst_sql_row_fn *row, void *ctx,
                            struct pst_error *error)
{
    const struct pst_sql *sql = &pst_statements[id];
    struct copy c = {.want = {.name = sql->name, .columns = sql->columns, .row = row, .ctx = ctx}};
    char text[1024];
    enum pst_status status = pst_pg_open_transaction(b, error);

    if (status != PST_OK)
        return status;
    (void)snprintf(text, sizeof(text), "COPY (%s) TO STDOUT (FORMAT binary)", sql->postgres);
    if (PQexitPipelineMode(b->conn) != 1 || PQsendQuery(b->conn, text) != 1)
        return pst_pg_lost(b, error);
    status = read_results(b, &c, error);
    if (status != PST_OK)
        return status;
    return PQenterPipelineMode(b->conn) == 1 ? c.status : pst_pg_lost(b, error);
}
