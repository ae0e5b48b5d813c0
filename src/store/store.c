/*
 * Opening, migrating and looking after a store. Reads are in read.c and load.c, writes in
 * change.c.
 */
#include "postern/store/store.h"

#include <stdlib.h>

#include "internal.h"
#include "postern/base/buf.h"
#include "postern/base/secret.h"

#define SCHEMA_NEWEST PST_SCHEMA_NEWEST

struct scheme {
    struct pst_bytes prefix;
    const struct pst_store_ops *ops;
};

static const struct scheme SCHEMES[] = {
    {{"sqlite://", 9}, &pst_store_sqlite},
    {{"postgresql://", 13}, &pst_store_postgres},
    {{"postgresql+psycopg2://", 22}, &pst_store_postgres}, /* SQLAlchemy's */
    {{"postgres://", 11}, &pst_store_postgres},
};

/* Messages name the scheme only: the rest of a url may hold a password. */
static enum pst_status find_scheme(struct pst_bytes url, const struct pst_store_ops **ops,
                                   struct pst_bytes *where, struct pst_error *error)
{
    *ops = NULL;
    for (size_t i = 0; i < sizeof(SCHEMES) / sizeof(SCHEMES[0]); i++) {
        if (!pst_bytes_starts(url, SCHEMES[i].prefix))
            continue;
        *ops = SCHEMES[i].ops;
        *where = pst_bytes_from(url, SCHEMES[i].prefix.len);
        return PST_OK;
    }
    return pst_error_set(
        error, PST_E_INVALID, NULL,
        "the store's url must begin with postgresql://, sqlite:/// (relative path) or "
        "sqlite://// (absolute path)");
}

/* Newer than this program is good, as long as its migration does not name a newer program as the
 * oldest that may use it: nodes of two versions run side by side during an upgrade. */
static enum pst_status check_schema(struct pst_store *store, struct pst_error *error)
{
    uint32_t version, oldest;
    enum pst_status status = store->ops->schema(store->backend, &version, &oldest, error);

    if (status != PST_OK)
        return status;
    if (oldest > SCHEMA_NEWEST)
        return pst_error_set(
            error, PST_E_INVALID, NULL,
            "the database has schema %u and wants a program that knows schema %u; this one knows "
            "%u: a newer Postern wrote it",
            version, oldest, SCHEMA_NEWEST);
    if (version >= SCHEMA_NEWEST)
        return PST_OK;
    return pst_error_set(error, PST_E_INVALID, NULL,
                         "the database has schema %u, this program needs %u: migrate it first",
                         version, SCHEMA_NEWEST);
}

/* What went wrong went wrong with this store. (Not of a url that may hold a password.) */
static void name_store(struct pst_error *error, struct pst_bytes url)
{
    if (error != NULL && error->where[0] == '\0' && url.len < sizeof(error->where)) {
        memcpy(error->where, url.ptr, url.len);
        error->where[url.len] = '\0';
    }
}

enum pst_status pst_store_open(struct pst_bytes url, enum pst_store_mode mode,
                               struct pst_store **out, struct pst_error *error)
{
    const struct pst_store_ops *ops;
    struct pst_bytes where = {0};
    uint32_t steps;

    *out = NULL;
    enum pst_status status = find_scheme(url, &ops, &where, error);
    if (status != PST_OK || ops == NULL)
        return status;
    struct pst_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");

    store->ops = ops;
    status = ops->open(where, mode, &store->backend, error);
    if (status == PST_OK && (mode == PST_STORE_READ || mode == PST_STORE_WRITE))
        status = check_schema(store, error);
    if (status == PST_OK)
        pst_store_set_deadline(store, 0); /* what was left of making the connection is done */
    if (status == PST_OK && mode == PST_STORE_CREATE)
        status = pst_store_migrate(store, &steps, error);
    if (status == PST_OK && mode == PST_STORE_CREATE)
        status = check_schema(store, error);
    if (status != PST_OK) {
        pst_store_close(store);
        if (ops == &pst_store_sqlite)
            name_store(error, url);
        return status;
    }
    *out = store;
    return PST_OK;
}

void pst_store_close(struct pst_store *store)
{
    if (store == NULL)
        return;
    if (store->backend != NULL) {
        store->ops->rollback(store->backend);
        store->ops->close(store->backend);
    }
    free(store);
}

const char *pst_store_backend(const struct pst_store *store)
{
    return store->ops->name;
}

void pst_store_set_deadline(struct pst_store *store, uint64_t at_ns)
{
    store->ops->set_deadline(store->backend, at_ns, 0);
}

void pst_store_set_patience(struct pst_store *store, uint64_t silence_ns)
{
    store->ops->set_deadline(store->backend, 0, silence_ns);
}

/* Under the write lock: two processes that start together migrate once. */
static enum pst_status migrate_locked(struct pst_store *store, uint32_t *steps,
                                      struct pst_error *error)
{
    uint32_t version, oldest;
    enum pst_status status = store->ops->schema(store->backend, &version, &oldest, error);

    while (status == PST_OK && version < SCHEMA_NEWEST) {
        status = store->ops->script(store->backend, store->ops->migration(version + 1), error);
        version++;
        if (status == PST_OK)
            (*steps)++;
    }
    return status;
}

enum pst_status pst_store_migrate(struct pst_store *store, uint32_t *steps, struct pst_error *error)
{
    uint32_t version, oldest;

    *steps = 0;
    enum pst_status status = store->ops->schema(store->backend, &version, &oldest, error);
    if (status != PST_OK || version >= SCHEMA_NEWEST)
        return status;
    status = store->ops->begin_migrate(store->backend, error);
    if (status == PST_OK)
        status = migrate_locked(store, steps, error);
    if (status == PST_OK)
        return store->ops->commit(store->backend, error);
    store->ops->rollback(store->backend);
    *steps = 0;
    return status;
}

static enum pst_status on_status(void *ctx, const struct pst_sql_value *row)
{
    struct pst_store_status *out = ctx;

    out->revision.n = pst_sql_u64(&row[0]);
    if (!pst_bytes_hex(row[1].text, 16, &out->revision.epoch))
        return PST_E_IO;
    out->max_staleness_s = pst_sql_u32(&row[2]);
    out->schema = pst_sql_u32(&row[3]);
    out->log_oldest = pst_sql_u64(&row[4]);
    out->workspaces = pst_sql_u64(&row[5]);
    out->users = pst_sql_u64(&row[6]);
    out->roles = pst_sql_u64(&row[7]);
    out->permissions = pst_sql_u64(&row[8]);
    out->bindings = pst_sql_u64(&row[9]);
    return PST_OK;
}

enum pst_status pst_store_status(struct pst_store *store, struct pst_store_status *out,
                                 struct pst_error *error)
{
    struct pst_revision revision;
    uint32_t version, oldest;

    *out = (struct pst_store_status){.schema_newest = SCHEMA_NEWEST};
    enum pst_status status = store->ops->schema(store->backend, &version, &oldest, error);
    if (status != PST_OK || version == 0)
        return status;
    status = store->ops->run(store->backend, PST_SQL_STATUS, NULL, 0, on_status, out, error);
    if (status != PST_OK || version < PST_SCHEMA_WITH_STATE)
        return status;
    status = pst_store_revision(store, &revision, error); /* its epoch is that of the timeline */
    out->revision.epoch = revision.epoch;
    return status;
}

struct shape {
    uint64_t n, open, rows, oldest, newest, incomplete;
};

static enum pst_status on_shape(void *ctx, const struct pst_sql_value *row)
{
    *(struct shape *)ctx = (struct shape){
        .n = pst_sql_u64(&row[0]),
        .open = pst_sql_u64(&row[1]),
        .rows = pst_sql_u64(&row[2]),
        .oldest = pst_sql_u64(&row[3]),
        .newest = pst_sql_u64(&row[4]),
        .incomplete = pst_sql_u64(&row[5]),
    };
    return PST_OK;
}

enum pst_status pst_store_check(struct pst_store *store, struct pst_error *error)
{
    struct shape s = {0};

    enum pst_status status = check_schema(store, error);
    if (status == PST_OK)
        status = store->ops->check(store->backend, error);
    if (status == PST_OK)
        status = store->ops->run(store->backend, PST_SQL_LOG_SHAPE, NULL, 0, on_shape, &s, error);
    if (status != PST_OK)
        return status;
    if (s.open != 0 || s.incomplete != 0)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the change log was left open: something wrote past its guards");
    if (s.newest != s.n || (s.rows != 0 && s.newest - s.oldest + 1 != s.rows) ||
        (s.rows == 0 && s.n != 0))
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the change log has gaps: head %llu, %llu rows from %llu to %llu",
                             (unsigned long long)s.n, (unsigned long long)s.rows,
                             (unsigned long long)s.oldest, (unsigned long long)s.newest);
    return PST_OK;
}

static enum pst_status on_number(void *ctx, const struct pst_sql_value *row)
{
    *(uint64_t *)ctx = pst_sql_u64(&row[0]);
    return PST_OK;
}

enum pst_status pst_store_view(struct pst_store *store, struct pst_error *error)
{
    if (store->viewing || store->change.store != NULL)
        return pst_error_set(error, PST_E_EXISTS, NULL, "the store has a view or a change already");
    enum pst_status status = store->ops->begin_read(store->backend, error);
    store->viewing = status == PST_OK;
    return status;
}

void pst_store_view_end(struct pst_store *store)
{
    if (!store->viewing)
        return;
    store->ops->rollback(store->backend);
    store->viewing = false;
}

enum pst_status pst_store_hint(struct pst_store *store, uint64_t *out, struct pst_error *error)
{
    return store->ops->hint(store->backend, out, error);
}

static enum pst_status renew_history(struct pst_store *store, struct pst_error *error)
{
    uint64_t random, n, restores = 0;
    char text[16];
    struct pst_buf b = pst_buf_of(text, sizeof(text));

    pst_random(&random, sizeof(random));
    pst_buf_hex(&b, random, 16);
    /* A change that is under way would name the epoch of before for what stands in the new one. */
    enum pst_status status =
        store->ops->run(store->backend, PST_SQL_HEAD_LOCK, NULL, 0, on_number, &n, error);
    if (status == PST_OK)
        status =
            PST_RUN(store, PST_SQL_EPOCH_NEW, NULL, NULL, error, pst_sql_text(pst_buf_bytes(&b)));
    return status != PST_OK ? status
                            : store->ops->run(store->backend, PST_SQL_RESTORES_UP, NULL, 0,
                                              on_number, &restores, error);
}

enum pst_status pst_store_restored(struct pst_store *store, struct pst_revision *out,
                                   struct pst_error *error)
{
    *out = (struct pst_revision){0};
    enum pst_status status = check_schema(store, error);
    if (status == PST_OK)
        status = store->ops->begin_write(store->backend, error);
    if (status != PST_OK)
        return status;
    status = renew_history(store, error);
    if (status == PST_OK)
        status = store->ops->commit(store->backend, error);
    store->ops->rollback(store->backend);
    return status == PST_OK ? pst_store_revision(store, out, error) : status;
}

enum pst_status pst_store_retain(struct pst_store *store, uint64_t keep_rows,
                                 struct pst_error *error)
{
    if (keep_rows < 1 || keep_rows > INT64_MAX)
        return pst_error_set(error, PST_E_INVALID, NULL, "the log keeps at least one row");
    return PST_RUN(store, PST_SQL_LOG_CUT, NULL, NULL, error, pst_sql_int(keep_rows));
}
