/*
 * backend.h - what a database must be able to do to hold the store.
 *
 * Purpose  The store (store.h, change.h) is written once, in SQL that every backend understands,
 * over this narrow seam: run one prepared statement, open and close a transaction.  A backend is
 *          one connection.
 *
 * SQL      Statements are named by number and stand in one table (statements.c).  Parameters are
 *          written $1, $2, ... and appear in that order; values never stand in the text.  A
 * statement says what its columns are, so that a backend whose wire carries text can convert.
 *
 * Memory   A row and its texts are borrowed for the row callback.
 *
 * Threads  A backend is used by one thread at a time; separate ones are independent.
 *
 * Failure  PST_E_BUSY: somebody else holds the write lock, nothing happened.  PST_E_EXISTS: a
 * unique key is taken.  PST_E_INVALID: a constraint or a guard of the schema refuses.  PST_E_IO:
 *          the database failed.  All fill the error when there is one.
 */
#ifndef POSTERN_STORE_BACKEND_H
#define POSTERN_STORE_BACKEND_H

#include "postern/base/bytes.h"
#include "postern/base/error.h"

enum pst_sql_kind { PST_SQL_NULL = 0, PST_SQL_INT, PST_SQL_TEXT };

struct pst_sql_value {
    enum pst_sql_kind kind;
    int64_t i;
    struct pst_bytes text;
};

#define PST_SQL_COLUMNS_MAX 16

struct pst_sql {
    const char *name;    /* unique; also what a prepared statement may be called */
    const char *columns; /* one letter a column: i whole number, t text; "" for none */
    const char *text;
    const char *postgres; /* PostgreSQL's words for it; often the same */
};

/* Anything but PST_OK ends the statement and is what run returns. */
typedef enum pst_status pst_sql_row_fn(void *ctx, const struct pst_sql_value *row);

/* One of several statements that go out together. */
struct pst_sql_call {
    unsigned id;
    const struct pst_sql_value *params;
    unsigned count;
    pst_sql_row_fn *row; /* NULL: no columns */
    void *ctx;
    enum pst_status status; /* out: its own */
};

enum pst_store_mode {
    PST_STORE_READ, /* every write is refused by the connection */
    PST_STORE_WRITE,
    PST_STORE_CREATE, /* write, make the database when there is none, bring its schema up to date */
    PST_STORE_ANY,    /* write, whatever version the schema has: for migrate, status and check */
};

struct pst_backend; /* one connection; each backend defines its own */

struct pst_store_ops {
    const char *name; /* "sqlite", "postgresql" */
    bool far;         /* a statement costs a round trip: many rows go into one */
    /* `where` is the url without its scheme and "://". */
    enum pst_status (*open)(struct pst_bytes where, enum pst_store_mode mode,
                            struct pst_backend **out, struct pst_error *error);
    void (*close)(struct pst_backend *backend); /* accepts NULL */
    /* `id` indexes the table of statements; `row` may be NULL when there are no columns. */
    enum pst_status (*run)(struct pst_backend *backend, unsigned id,
                           const struct pst_sql_value *params, unsigned count, pst_sql_row_fn *row,
                           void *ctx, struct pst_error *error);
    /* Runs each call as `run` does, in their order; over a network all of them cost one round trip.
     * Outside of a transaction a failed call does not stop the others (inside, PostgreSQL's do),
     * and `error` is the first one's; returned is PST_E_IO when the connection failed (a call that
     * was not answered has it as its status), else PST_OK. */
    enum pst_status (*run_all)(struct pst_backend *backend, struct pst_sql_call *calls,
                               unsigned count, struct pst_error *error);
    /* From now on a statement that is not answered at this instant of the boot clock is given up:
     * PST_E_IO, and the connection is of no use any more. 0: when nothing of its answer comes for
     * silence_ns, or 10 s if that is 0. A connection just opened has a short deadline already: who
     * is silent at its first statement is as one who is silent while it is made. A local database,
     * which answers or fails by itself, takes no notice. */
    void (*set_deadline)(struct pst_backend *backend, uint64_t at_ns, uint64_t silence_ns);
    /* One consistent view until the transaction ends. */
    enum pst_status (*begin_read)(struct pst_backend *backend, struct pst_error *error);
    /* The same for writing. The one write lock of the database is held from here on, or from the
     * statement that numbers the change. */
    enum pst_status (*begin_write)(struct pst_backend *backend, struct pst_error *error);
    enum pst_status (*commit)(struct pst_backend *backend, struct pst_error *error);
    void (*rollback)(
        struct pst_backend *backend); /* also ends a read; without a transaction: nothing */
    /* begin_write for changing the schema: those who want the same wait for each other. */
    enum pst_status (*begin_migrate)(struct pst_backend *backend, struct pst_error *error);
    /* Several statements of the program's own (migrations), inside a transaction. */
    enum pst_status (*script)(struct pst_backend *backend, struct pst_bytes sql,
                              struct pst_error *error);
    /* The version of the schema (0: an empty database), and of the oldest program that may use it.
     */
    enum pst_status (*schema)(struct pst_backend *backend, uint32_t *version, uint32_t *oldest,
                              struct pst_error *error);
    /* The migration that leads to `version`; empty when there is none. */
    struct pst_bytes (*migration)(uint32_t version);
    /* A number that differs from the last one when another connection may have committed something;
     * costs far less than a read. PST_E_ABSENT: the backend has no such thing. PST_E_IO: the
     * database is not the one that was opened any more. */
    enum pst_status (*hint)(struct pst_backend *backend, uint64_t *out, struct pst_error *error);
    /* The database's own look at its health. */
    enum pst_status (*check)(struct pst_backend *backend, struct pst_error *error);
};

extern const struct pst_store_ops pst_store_sqlite;
extern const struct pst_store_ops pst_store_postgres;

#endif
