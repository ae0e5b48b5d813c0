/* postgres_internal.h - what the files of the PostgreSQL backend share. */
#ifndef POSTERN_STORE_POSTGRES_INTERNAL_H
#define POSTERN_STORE_POSTGRES_INTERNAL_H

#include <endian.h>
#include <libpq-fe.h>

#include "postern/store/backend.h"
#include "statements.h"

#define PST_PG_PATIENCE_NS (10 * PST_NS_PER_S) /* of a statement without a deadline, in silence */

enum pst_pg_transaction {
    PST_PG_NONE = 0,
    PST_PG_WANTED, /* begun, but nothing was sent: its first statement takes BEGIN along */
    PST_PG_OPEN,
    PST_PG_DEAD, /* rolled back after an error, and its owner does not know yet */
};

struct pst_backend {
    PGconn *conn; /* always in pipeline mode, but for scripts */
    enum pst_store_mode mode;
    bool pgbouncer; /* nothing of a session may be used */
    bool broken;    /* no answer in time, or the connection is lost: for good */
    enum pst_pg_transaction transaction;
    const char *const *begin;          /* what opens the wanted transaction; ends with NULL */
    uint64_t deadline_ns, patience_ns; /* as of set_deadline */
    bool prepared[PST_SQL_COUNT];
};

/* What one statement of a pipeline gives. */
struct pst_pg_want {
    const char *name;
    const char *columns; /* as in struct pst_sql */
    pst_sql_row_fn *row;
    void *ctx;
    const char *tag; /* the command tag that it must end with; NULL: any */
    bool many;       /* may have more rows than should stand in memory at once */
};

/* As texts, which libpq takes as hostaddr. */
#define PST_PG_ADDRESSES_MAX 8
struct pst_pg_addresses {
    unsigned count;
    char text[PST_PG_ADDRESSES_MAX][64];
};
/* The addresses of a host, at least one. PST_E_IO: there are none, or nobody said so in time. */
enum pst_status pst_pg_resolve(const char *name, uint64_t patience_ns, struct pst_pg_addresses *out,
                               struct pst_error *error);

/* Connects; *out is set also on failure, for pst_pg_close. */
enum pst_status pst_pg_connect(struct pst_bytes where, enum pst_store_mode mode,
                               struct pst_backend **out, struct pst_error *error);
void pst_pg_close(struct pst_backend *backend);

/* One statement that is not in the table, without parameters. */
enum pst_status pst_pg_query(struct pst_backend *backend, const char *sql,
                             const struct pst_pg_want *want, struct pst_error *error);
/* Sends what opens a wanted transaction now, alone. */
enum pst_status pst_pg_open_transaction(struct pst_backend *backend, struct pst_error *error);
/* All rows of a statement without parameters, as a COPY: for those with many. Nothing may be in the
 * pipeline. */
enum pst_status pst_pg_copy(struct pst_backend *backend, unsigned id, pst_sql_row_fn *row,
                            void *ctx, struct pst_error *error);
/* Waits until something came. *until: 0 at first. PST_E_IO: the connection is broken. */
enum pst_status pst_pg_wait(struct pst_backend *backend, uint64_t *until, bool unsent,
                            struct pst_error *error);
/* Hands one row to the function that wants it. */
enum pst_status pst_pg_give(const struct pst_pg_want *want, const struct pst_sql_value *row,
                            struct pst_error *error);
/* A whole number in network order, of the width of int2, int4 or int8. Inlined, one load each: a
 * million rows have thirteen million of these. */
static inline bool pst_pg_number(struct pst_bytes bytes, int64_t *out)
{
    uint64_t eight;
    uint32_t four;
    uint16_t two;

    switch (bytes.len) {
    case 8:
        memcpy(&eight, bytes.ptr, sizeof(eight));
        *out = (int64_t)be64toh(eight);
        return true;
    case 4:
        memcpy(&four, bytes.ptr, sizeof(four));
        *out = (int32_t)be32toh(four);
        return true;
    case 2:
        memcpy(&two, bytes.ptr, sizeof(two));
        *out = (int16_t)be16toh(two);
        return true;
    default:
        return false;
    }
}
/* The next result, NULL at the end of a statement. PST_E_IO: the connection is broken. */
enum pst_status pst_pg_next(struct pst_backend *backend, PGresult **out, struct pst_error *error);
/* Marks the connection as broken and says so. */
enum pst_status pst_pg_lost(struct pst_backend *backend, struct pst_error *error);
/* The status of a result that is an error. */
enum pst_status pst_pg_failed(const PGresult *result, const char *what, struct pst_error *error);
/* Copies the first line of a message of libpq, which may have several. */
void pst_pg_line(const char *message, char *out, size_t cap);

enum pst_status pst_pg_schema(struct pst_backend *backend, uint32_t *version, uint32_t *oldest,
                              struct pst_error *error);
enum pst_status pst_pg_script(struct pst_backend *backend, struct pst_bytes sql,
                              struct pst_error *error);
struct pst_bytes pst_pg_migration(uint32_t version);
enum pst_status pst_pg_check(struct pst_backend *backend, struct pst_error *error);
/* Adds who holds the log's row to the message, when that can be found out. */
void pst_pg_name_holder(struct pst_backend *backend, struct pst_error *error);

#endif
