/*
 * Reads: the revision, the change log, one user's facts.
 *
 * Rows that this program could not have written (a list it cannot read, a condition it does not
 * know) fail the read.  A node then keeps what it has until its lease ends, and refuses; it never
 * decides from a row that it only half understands.
 */
#include <stdlib.h>

#include "internal.h"
#include "list.h"

/* ---- state ---- */

/* A promotion goes on with the same epoch on another timeline, and what the old one wrote last may
 * be missing there. 0 and 1 change nothing: a replica writes no WAL and has no timeline to tell. */
bool pst_revision_read(const struct pst_sql_value *n, const struct pst_sql_value *epoch,
                       const struct pst_sql_value *timeline, struct pst_revision *out)
{
    uint64_t line = pst_sql_u64(timeline);

    out->n = pst_sql_u64(n);
    if (!pst_bytes_hex(epoch->text, 16, &out->epoch))
        return false;
    if (line > 1)
        out->epoch ^= line * UINT64_C(0x9e3779b97f4a7c15);
    return true;
}

enum pst_status pst_row_on_state(void *ctx, const struct pst_sql_value *row)
{
    return pst_revision_read(&row[0], &row[1], &row[2], ctx) ? PST_OK : PST_E_IO;
}

enum pst_status pst_store_revision(struct pst_store *store, struct pst_revision *out,
                                   struct pst_error *error)
{
    *out = (struct pst_revision){0};
    return store->ops->run(store->backend, PST_SQL_STATE, NULL, 0, pst_row_on_state, out, error);
}

static enum pst_status on_fleet_key(void *ctx, const struct pst_sql_value *row)
{
    uint8_t *out = ctx;
    uint64_t byte;

    for (size_t i = 0; i < PST_FLEET_KEY_BYTES; i++) {
        if (row[4].text.len != 2 * PST_FLEET_KEY_BYTES ||
            !pst_bytes_hex(pst_bytes_of(row[4].text.ptr + 2 * i, 2), 2, &byte))
            return PST_E_IO;
        out[i] = (uint8_t)byte;
    }
    return PST_OK;
}

enum pst_status pst_store_fleet_key(struct pst_store *store, uint8_t out[PST_FLEET_KEY_BYTES],
                                    struct pst_error *error)
{
    return store->ops->run(store->backend, PST_SQL_STATE, NULL, 0, on_fleet_key, out, error);
}

/* ---- change log ---- */

static bool read_key(struct pst_bytes text, struct pst_log_key *out)
{
    static const struct {
        struct pst_bytes prefix;
        enum pst_log_key_kind kind;
    } KINDS[] = {{{"user:", 5}, PST_LOG_USER},
                 {{"role:", 5}, PST_LOG_ROLE},
                 {{"workspace:", 10}, PST_LOG_WORKSPACE}};

    for (size_t i = 0; i < 3; i++)
        if (pst_bytes_starts(text, KINDS[i].prefix)) {
            out->kind = KINDS[i].kind;
            return pst_bytes_u63(pst_bytes_from(text, KINDS[i].prefix.len), &out->id);
        }
    return false;
}

static enum pst_status add_key(struct pst_log_page *page, const struct pst_log_key *key)
{
    if (page->key_count == PST_LOG_KEYS_MAX) {
        page->all = true;
        return PST_OK;
    }
    if (page->key_count == page->key_cap_) {
        size_t cap = page->key_cap_ == 0 ? 64 : page->key_cap_ * 2;
        struct pst_log_key *more = realloc(page->keys, cap * sizeof(*more));
        if (more == NULL)
            return PST_E_NOMEM;
        page->keys = more;
        page->key_cap_ = cap;
    }
    page->keys[page->key_count++] = *key;
    return PST_OK;
}

/* Keys that cannot be read mean that anything may have changed. */
static enum pst_status read_keys(struct pst_log_page *page, struct pst_bytes text, uint64_t n)
{
    struct pst_bytes at = text, item;
    struct pst_log_key key = {.n = n};

    if (text.len == 0 || text.ptr[0] != '[') {
        page->all = true;
        return PST_OK;
    }
    while (at.len > 0) {
        if (!pst_text_list_next(&at, &item) || !read_key(item, &key)) {
            page->all = true;
            return PST_OK;
        }
        enum pst_status status = add_key(page, &key);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

/* Whether this database can prove anything to this program at all. */
static enum pst_status check_source(const struct pst_sql_value *row, struct pst_error *error)
{
    uint64_t oldest = pst_sql_u64(&row[5]);

    if (pst_sql_u64(&row[3]) != 0)
        return pst_error_set(error, PST_E_IO, NULL,
                             "the database is a replica in recovery: what it shows proves nothing");
    if (oldest > PST_SCHEMA_NEWEST)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the database wants a program that knows schema %llu; this one knows "
                             "%u: a newer Postern wrote it",
                             (unsigned long long)oldest, PST_SCHEMA_NEWEST);
    return PST_OK;
}

static enum pst_status on_log(void *ctx, const struct pst_sql_value *row)
{
    struct pst_log_reading *r = ctx;
    struct pst_log_page *page = r->page;
    struct pst_stamp stamp = {0};

    enum pst_status status = check_source(row, r->error);
    if (status != PST_OK)
        return status;
    page->max_staleness_s = pst_sql_u32(&row[4]);
    if (!pst_revision_read(&row[0], &row[1], &row[2], &page->head.revision))
        return PST_E_IO;
    page->oldest_n = pst_sql_u64(&row[9]);
    page->node_bound_ms = pst_sql_u64(&row[10]);
    if (row[6].kind == PST_SQL_NULL)
        return PST_OK; /* an empty log */

    uint64_t n = pst_sql_u64(&row[6]);
    struct pst_bytes text = row[7].text;
    if (text.len != 32 || !pst_bytes_hex(pst_bytes_of(text.ptr, 16), 16, &stamp.hi) ||
        !pst_bytes_hex(pst_bytes_from(text, 16), 16, &stamp.lo))
        return PST_E_IO;
    if (n == page->head.revision.n)
        page->head.stamp = stamp;
    if (n == r->since->revision.n)
        r->mark_seen = stamp.hi == r->since->stamp.hi && stamp.lo == r->since->stamp.lo;
    if (n <= r->since->revision.n)
        return PST_OK;
    if (n != r->last + 1)
        page->all = true; /* too far behind: rows in between were not asked for, or cut off */
    r->last = n;
    return page->all ? PST_OK : read_keys(page, row[8].text, n);
}

struct pst_sql_call pst_log_call(struct pst_log_reading *r, const struct pst_log_mark *since,
                                 struct pst_bytes node, struct pst_log_page *out,
                                 struct pst_error *error)
{
    uint64_t n = since->revision.n;

    *out = (struct pst_log_page){0};
    *r = (struct pst_log_reading){
        .since = since,
        .page = out,
        .error = error,
        .last = n,
        .mark_seen = n == 0,
        .params = {pst_sql_text(node), pst_sql_int(n), pst_sql_int(n + PST_LOG_ROWS_MAX)}};
    return (struct pst_sql_call){
        .id = PST_SQL_LOG_READ, .params = r->params, .count = 3, .row = on_log, .ctx = r};
}

enum pst_status pst_log_end(const struct pst_log_reading *r, enum pst_status status)
{
    struct pst_log_page *page = r->page;
    const struct pst_revision *since = &r->since->revision;

    if (status == PST_OK && (page->head.revision.epoch == 0 || page->max_staleness_s == 0))
        status = pst_error_set(r->error, PST_E_IO, NULL, "the database has no log head");
    if (status != PST_OK) {
        pst_log_page_fini(page);
        return status;
    }
    page->proved = since->epoch != 0 && since->epoch == page->head.revision.epoch && r->mark_seen &&
                   page->head.revision.n >= since->n;
    if (!page->proved || r->last != page->head.revision.n)
        page->all = true;
    return PST_OK;
}

enum pst_status pst_store_log(struct pst_store *store, const struct pst_log_mark *since,
                              struct pst_bytes node, struct pst_log_page *out,
                              struct pst_error *error)
{
    struct pst_log_reading r;
    struct pst_sql_call call = pst_log_call(&r, since, node, out, error);

    return pst_log_end(&r, store->ops->run(store->backend, call.id, call.params, call.count,
                                           call.row, call.ctx, error));
}

void pst_log_page_fini(struct pst_log_page *page)
{
    free(page->keys);
    *page = (struct pst_log_page){0};
}

/* ---- facts ---- */

struct fact_rows {
    struct pst_revision revision;
    struct pst_facts facts; /* without its texts and bindings */
    char name[PST_NAME_MAX + 1];
    size_t name_len;
    struct pst_binding *bindings;
    uint32_t count, cap;
};

static enum pst_status add_binding(struct fact_rows *f, const struct pst_sql_value *row)
{
    if (f->count == f->cap) {
        if (f->cap > UINT32_MAX / 4)
            return PST_E_LIMIT;
        uint32_t cap = f->cap == 0 ? 16 : f->cap * 2;
        struct pst_binding *more = realloc(f->bindings, cap * sizeof(*more));
        if (more == NULL)
            return PST_E_NOMEM;
        f->bindings = more;
        f->cap = cap;
    }
    /* A workspace that is there but does not fit 32 bits must not read as "everywhere". */
    if (row[2].kind == PST_SQL_INT && pst_sql_u32(&row[2]) == 0)
        return PST_E_IO;
    f->bindings[f->count++] = (struct pst_binding){.id = pst_sql_u64(&row[0]),
                                                   .role = pst_sql_u32(&row[1]),
                                                   .workspace = pst_sql_u32(&row[2])};
    return PST_OK;
}

static enum pst_status on_fact(void *ctx, const struct pst_sql_value *row)
{
    struct fact_rows *f = ctx;

    if (!pst_revision_read(&row[0], &row[1], &row[2], &f->revision) || pst_sql_u64(&row[3]) != 0)
        return PST_E_IO; /* a replica: its owner looks for the primary */
    f->facts.user_id = pst_sql_u64(&row[4]);
    if (f->facts.user_id == 0)
        return PST_OK;
    if (row[5].text.len > sizeof(f->name))
        return PST_E_LIMIT;
    if (row[5].text.len > 0)
        memcpy(f->name, row[5].text.ptr, row[5].text.len);
    f->name_len = row[5].text.len;
    f->facts.disabled = pst_sql_u64(&row[6]) != 0;
    f->facts.legacy_level = pst_sql_u32(&row[7]);
    f->facts.sessions_from = pst_sql_u64(&row[8]);
    return row[9].kind == PST_SQL_NULL ? PST_OK : add_binding(f, row + 9);
}

/* struct, bindings, name: one block. */
static struct pst_facts *pack_facts(const struct fact_rows *f)
{
    size_t bindings = f->count * sizeof(struct pst_binding);
    struct pst_facts *facts = malloc(sizeof(*facts) + bindings + f->name_len + 1);

    if (facts == NULL)
        return NULL;
    struct pst_binding *b = (struct pst_binding *)(void *)(facts + 1);
    char *name = (char *)(b + f->count);
    if (bindings > 0)
        memcpy(b, f->bindings, bindings);
    memcpy(name, f->name, f->name_len);
    name[f->name_len] = '\0';
    *facts = f->facts;
    facts->name = pst_bytes_of(name, f->name_len);
    facts->revision = f->revision.n;
    facts->binding_count = f->count;
    facts->bindings = b;
    return facts;
}

/* The statement that answers `who`, its parameters in params[2]. */
static unsigned facts_sql(const struct pst_who *who, struct pst_sql_value *params, unsigned *count)
{
    *count = 1;
    params[0] = pst_sql_text(who->value);
    switch (who->kind) {
    case PST_WHO_SUBJECT:
        *count = 2;
        params[0] = pst_sql_text(who->issuer);
        params[1] = pst_sql_text(who->value);
        return PST_SQL_FACTS_SUBJECT;
    case PST_WHO_NAME:
        return PST_SQL_FACTS_NAME;
    case PST_WHO_EMAIL:
        return PST_SQL_FACTS_EMAIL;
    case PST_WHO_ID:
        break;
    }
    params[0] = pst_sql_int(who->id);
    return PST_SQL_FACTS_ID;
}

/* Takes the rows of `f` into one block, and frees what they stand in. */
static enum pst_status take_facts(struct fact_rows *f, enum pst_status status,
                                  struct pst_facts **out, struct pst_error *error)
{
    *out = NULL;
    if (status == PST_OK && f->revision.epoch == 0 && f->revision.n == 0)
        status = pst_error_set(error, PST_E_IO, NULL, "the database has no log head");
    if (status == PST_OK && (*out = pack_facts(f)) == NULL)
        status = pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    free(f->bindings);
    return status;
}

enum pst_status pst_store_load_facts(struct pst_store *store, const struct pst_who *who,
                                     struct pst_facts **out, struct pst_revision *revision,
                                     struct pst_error *error)
{
    struct fact_rows f = {0};
    struct pst_sql_value params[2];
    unsigned count, sql = facts_sql(who, params, &count);
    enum pst_status status =
        store->ops->run(store->backend, sql, params, count, on_fact, &f, error);

    *revision = f.revision;
    return take_facts(&f, status, out, error);
}

enum pst_status pst_store_load_many_facts(struct pst_store *store,
                                          struct pst_facts_question *questions, unsigned count,
                                          struct pst_error *error)
{
    struct pst_sql_call calls[PST_FACTS_QUESTIONS_MAX];
    struct pst_sql_value params[PST_FACTS_QUESTIONS_MAX][2];
    struct fact_rows *rows = calloc(count, sizeof(*rows));

    for (unsigned i = 0; i < count; i++) {
        questions[i].status = PST_E_NOMEM;
        questions[i].facts = NULL;
    }
    if (rows == NULL || count > PST_FACTS_QUESTIONS_MAX) {
        free(rows);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        calls[i] = (struct pst_sql_call){.params = params[i], .row = on_fact, .ctx = &rows[i]};
        calls[i].id = facts_sql(questions[i].who, params[i], &calls[i].count);
    }
    enum pst_status status = store->ops->run_all(store->backend, calls, count, error);
    for (unsigned i = 0; i < count; i++) {
        questions[i].revision = rows[i].revision;
        questions[i].status = take_facts(&rows[i], calls[i].status, &questions[i].facts, error);
    }
    free(rows);
    return status;
}

void pst_facts_free(struct pst_facts *facts)
{
    free(facts);
}
