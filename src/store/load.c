/*
 * Loads the model: all of it, or some roles.
 *
 * Of a large role that the caller knows, few rows are read: those of its permissions whose ids it
 * does not have. A row never changes, so one whose id is known is known; turning 10^4 rows into
 * bytes is most of what a change of one of them would cost, server and node, and their ids are a
 * third of it.
 */
#include <stdlib.h>

#include "internal.h"
#include "list.h"
#include "postern/base/buf.h"

#define MODEL_TEXT_MAX ((size_t)4 << 30)

struct loading {
    struct pst_model *model;
    struct pst_error *error;
    struct pst_bytes attributes[PST_ATTR_KINDS][PST_ATTRIBUTES_MAX];
};

static bool read_kind(struct pst_bytes text, enum pst_workspace_kind *out)
{
    if (pst_bytes_equal(text, PST_LIT("project")))
        *out = PST_WORKSPACE_PROJECT;
    else if (pst_bytes_equal(text, PST_LIT("default")))
        *out = PST_WORKSPACE_DEFAULT;
    else if (pst_bytes_equal(text, PST_LIT("environment")))
        *out = PST_WORKSPACE_ENVIRONMENT;
    else
        return false;
    return true;
}

static bool read_scope(struct pst_bytes text, enum pst_scope *out)
{
    if (pst_bytes_equal(text, PST_LIT("global")))
        *out = PST_SCOPE_GLOBAL;
    else if (pst_bytes_equal(text, PST_LIT("project")))
        *out = PST_SCOPE_PROJECT;
    else if (pst_bytes_equal(text, PST_LIT("pipeline")))
        *out = PST_SCOPE_PIPELINE;
    else
        return false;
    return true;
}

static bool read_conditions(struct pst_bytes text, uint32_t *out)
{
    struct pst_bytes names[32];
    uint32_t count;

    *out = 0;
    if (!pst_list_read(text, names, 32, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bit = pst_condition_of(names[i]);
        if (bit == 0)
            return false;
        *out |= bit;
    }
    return true;
}

static enum pst_status on_model_workspace(void *ctx, const struct pst_row_workspace *row)
{
    struct loading *l = ctx;
    struct pst_workspace_row w = {
        .id = row->id, .name = row->name, .organization = row->organization};

    if (!read_kind(row->kind, &w.kind))
        return pst_error_set(l->error, PST_E_IO, NULL, "workspace %u: unknown kind", row->id);
    enum pst_status status = pst_model_add_workspace(l->model, &w);
    return status == PST_OK
               ? status
               : pst_error_set(l->error, status, NULL, "workspace %u does not load", row->id);
}

static enum pst_status on_model_role(void *ctx, const struct pst_row_role *row)
{
    struct loading *l = ctx;
    struct pst_role_row r = {
        .id = row->id, .name = row->name, .workspace = row->workspace, .builtin = row->builtin};

    enum pst_status status = pst_model_add_role(l->model, &r);
    return status == PST_OK
               ? status
               : pst_error_set(l->error, status, NULL, "role %u does not load", row->id);
}

static enum pst_status on_model_permission(void *ctx, const struct pst_row_permission *row)
{
    struct loading *l = ctx;
    struct pst_permission_row p = {
        .id = row->id,
        .role = row->role,
        .direct = row->direct,
        .has_access = row->has_access,
        .access = row->access,
        .entity = row->entity,
        .has_entity_id = row->has_entity_id,
        .entity_id = row->entity_id,
        .entity_type = row->entity_type,
    };
    const struct pst_bytes lists[PST_ATTR_KINDS] = {
        [PST_ATTR_QUERY] = row->query_attributes,
        [PST_ATTR_WRITE] = row->write_attributes,
        [PST_ATTR_READ] = row->read_attributes,
    };

    bool good = read_scope(row->scope, &p.scope) &&
                (row->conditions.len == 0 || read_conditions(row->conditions, &p.conditions));
    for (unsigned k = 0; k < PST_ATTR_KINDS && good; k++) {
        if (lists[k].len == 0)
            continue;
        good = pst_list_read(lists[k], l->attributes[k], PST_ATTRIBUTES_MAX, &p.attribute_count[k]);
        p.attributes[k] = l->attributes[k];
    }
    if (!good)
        return pst_error_set(
            l->error, PST_E_IO, NULL,
            "permission %llu: a scope, condition or list that this program does not "
            "know",
            (unsigned long long)row->id);
    enum pst_status status = pst_model_add_permission(l->model, &p);
    return status == PST_OK ? status
                            : pst_error_set(l->error, status, NULL, "permission %llu does not load",
                                            (unsigned long long)row->id);
}

/* Which roles; and the log, to be read with them. */
struct some {
    const uint32_t *roles;
    size_t count;
    bool workspaces;
    const struct pst_policy *base;    /* whose rows need not be read again; NULL: none */
    const struct pst_log_mark *since; /* NULL: no log */
    struct pst_bytes node;
    struct pst_log_page *page;
};

static enum pst_status on_some_workspace(void *ctx, const struct pst_sql_value *row)
{
    struct pst_row_workspace w;

    pst_row_to_workspace(row, &w);
    return on_model_workspace(ctx, &w);
}

static enum pst_status on_some_role(void *ctx, const struct pst_sql_value *row)
{
    struct pst_row_role r;

    pst_row_to_role(row, &r);
    return on_model_role(ctx, &r);
}

static enum pst_status on_some_permission(void *ctx, const struct pst_sql_value *row)
{
    uint64_t key = (uint64_t)row[0].i; /* may have its top bit set */
    struct pst_row_permission p = {
        .id = key & UINT32_MAX,
        .role = (uint32_t)(key >> 32),
        .direct = row[1].kind != PST_SQL_NULL,
        .scope = row[1].kind != PST_SQL_NULL ? row[1].text : PST_LIT("global"),
        .entity = row[2].text,
        .has_entity_id = row[3].kind != PST_SQL_NULL,
        .entity_id = row[3].text,
        .entity_type = row[4].text,
        .conditions = row[5].text,
        .has_access = row[6].kind != PST_SQL_NULL,
        .access = pst_sql_u64(&row[6]),
        .query_attributes = row[7].text,
        .read_attributes = row[8].text,
        .write_attributes = row[9].text,
    };
    return on_model_permission(ctx, &p);
}

/* ---- roles whose rows are known ---- */

#define KNOWN_FROM  256  /* rows; of a smaller role all are read, which spares a second question */
#define KNOWN_ROLES 64   /* in one load; what is more is read whole */
#define FRESH_MAX   2000 /* rows that are asked for by their ids; who has more is read whole */

struct known_role {
    uint32_t id;
    uint32_t *rows, count; /* that are known, ascending */
    uint32_t total;        /* that there are */
    bool compared, whole;
};

struct known {
    struct loading *loading;
    struct known_role roles[KNOWN_ROLES];
    size_t count;
    uint32_t fresh[FRESH_MAX]; /* rows that are not known */
    size_t fresh_count;
};

static struct known_role *find_known(struct known *k, uint32_t role)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->roles[i].id == role)
            return &k->roles[i];
    return NULL;
}

/* Short memory only means that more is read. */
static void collect_known(struct known *k, const struct some *some)
{
    for (size_t i = 0; i < some->count && some->base != NULL && k->count < KNOWN_ROLES; i++) {
        struct known_role r = {.id = some->roles[i]};
        if (find_known(k, r.id) != NULL)
            continue;
        r.rows = pst_policy_permissions(some->base, r.id, &r.count);
        if (r.count >= KNOWN_FROM)
            k->roles[k->count++] = r;
        else
            free(r.rows);
    }
}

static void free_known(struct known *k)
{
    for (size_t i = 0; i < k->count; i++)
        free(k->roles[i].rows);
}

static void note_fresh(struct known *k, struct known_role *r, uint32_t row)
{
    r->whole = r->whole || k->fresh_count == FRESH_MAX;
    if (!r->whole)
        k->fresh[k->fresh_count++] = row;
}

/* What came and what went: both lists ascend. */
static enum pst_status compare_rows(struct known *k, struct known_role *r, const uint32_t *now,
                                    uint32_t count)
{
    enum pst_status status = PST_OK;
    size_t fresh = k->fresh_count;

    for (uint32_t i = 0, n = 0; (i < r->count || n < count) && status == PST_OK;) {
        bool gone = n == count || (i < r->count && r->rows[i] < now[n]);
        bool came = i == r->count || (n < count && now[n] < r->rows[i]);
        if (gone)
            status = pst_model_add_gone(k->loading->model, r->rows[i]);
        else if (came)
            note_fresh(k, r, now[n]);
        i += !came;
        n += !gone;
    }
    r->compared = true;
    r->total = count;
    if (r->whole)
        k->fresh_count = fresh;
    return status;
}

static int compare_ids(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

/* "17,4,25": their count, ascending in `out`, which has room for half as many as there are bytes,
 * and one. 0: that is no such list. */
static uint32_t read_ids(struct pst_bytes text, uint32_t *out)
{
    uint32_t count = 0;
    uint64_t id = 0;
    bool sorted = true;

    for (size_t i = 0; i <= text.len; i++) {
        char c = i < text.len ? text.ptr[i] : ',';
        if (c >= '0' && c <= '9') {
            id = id * 10 + (uint64_t)(c - '0');
            if (id > UINT32_MAX)
                return 0;
            continue;
        }
        if (c != ',' || id == 0)
            return 0;
        sorted = sorted && (count == 0 || out[count - 1] < id);
        out[count++] = (uint32_t)id;
        id = 0;
    }
    if (!sorted)
        qsort(out, count, sizeof(*out), compare_ids);
    return count;
}

static enum pst_status on_ids(void *ctx, const struct pst_sql_value *row)
{
    struct known *k = ctx;
    struct known_role *r = find_known(k, pst_sql_u32(&row[0]));
    uint32_t *ids = calloc(row[1].text.len / 2 + 1, sizeof(*ids));

    if (ids == NULL)
        return PST_E_NOMEM;
    uint32_t count = read_ids(row[1].text, ids);
    enum pst_status status = r == NULL || count == 0 ? PST_E_IO : compare_rows(k, r, ids, count);
    free(ids);
    return status;
}

/* ---- some roles ---- */

/* A JSON list of numbers, to be freed; NULL, and the error says so: no memory. */
static char *list_of(const uint32_t *ids, size_t count, struct pst_sql_value *out,
                     struct pst_error *error)
{
    size_t cap = count * 11 + 2;
    char *text = malloc(cap);

    if (text == NULL) {
        (void)pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
        return NULL;
    }
    struct pst_buf b = pst_buf_of(text, cap);
    pst_buf_char(&b, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            pst_buf_char(&b, ',');
        pst_buf_u64(&b, ids[i]);
    }
    pst_buf_char(&b, ']');
    *out = pst_sql_text(pst_bytes_of(text, b.len));
    return text;
}

/* One round trip, and the rows. */
static enum pst_status run_calls(struct pst_store *store, struct pst_sql_call *calls,
                                 unsigned count, struct pst_error *error)
{
    enum pst_status status = store->ops->run_all(store->backend, calls, count, error);

    for (unsigned i = 0; i < count && status == PST_OK; i++)
        status = calls[i].status;
    return status;
}

/* The lists of the first question: all roles, those with known rows, and the others. */
struct lists {
    char *text[3];
    struct pst_sql_value values[3];
    size_t others;
};

static enum pst_status make_lists(struct lists *lists, const struct some *some, struct known *k,
                                  struct pst_error *error)
{
    uint32_t ids[2][PST_LOAD_ROLES_MAX];
    size_t counts[2] = {0};

    for (size_t i = 0; i < some->count; i++) {
        bool known = find_known(k, some->roles[i]) != NULL;
        ids[!known][counts[!known]++] = some->roles[i];
    }
    lists->others = counts[1];
    lists->text[0] = list_of(some->roles, some->count, &lists->values[0], error);
    lists->text[1] = list_of(ids[0], counts[0], &lists->values[1], error);
    lists->text[2] = list_of(ids[1], counts[1], &lists->values[2], error);
    return lists->text[0] == NULL || lists->text[1] == NULL || lists->text[2] == NULL ? PST_E_NOMEM
                                                                                      : PST_OK;
}

static enum pst_status ask_first(struct pst_store *store, struct loading *l,
                                 const struct some *some, struct known *k,
                                 struct pst_revision *revision, struct pst_error *error)
{
    struct pst_sql_call calls[5];
    struct pst_log_reading log;
    struct lists lists = {0};
    unsigned n = 0;
    enum pst_status status = make_lists(&lists, some, k, error);

    calls[n++] =
        some->since == NULL
            ? (struct pst_sql_call){.id = PST_SQL_STATE, .row = pst_row_on_state, .ctx = revision}
            : pst_log_call(&log, some->since, some->node, some->page, error);
    if (some->workspaces)
        calls[n++] =
            (struct pst_sql_call){.id = PST_SQL_WORKSPACES, .row = on_some_workspace, .ctx = l};
    calls[n++] = (struct pst_sql_call){.id = PST_SQL_ROLES_SOME,
                                       .params = &lists.values[0],
                                       .count = 1,
                                       .row = on_some_role,
                                       .ctx = l};
    if (k->count > 0)
        calls[n++] = (struct pst_sql_call){.id = PST_SQL_PERMISSION_IDS,
                                           .params = &lists.values[1],
                                           .count = 1,
                                           .row = on_ids,
                                           .ctx = k};
    if (lists.others > 0)
        calls[n++] = (struct pst_sql_call){.id = PST_SQL_PERMISSIONS_SOME,
                                           .params = &lists.values[2],
                                           .count = 1,
                                           .row = on_some_permission,
                                           .ctx = l};
    if (status == PST_OK)
        status = run_calls(store, calls, n, error);
    for (unsigned i = 0; i < 3; i++)
        free(lists.text[i]);
    if (some->since == NULL)
        return status;
    status = pst_log_end(&log, status);
    *revision = some->page->head.revision;
    return status;
}

static enum pst_status ask_permissions(struct pst_store *store, struct loading *l,
                                       unsigned statement, const uint32_t *ids, size_t count)
{
    struct pst_sql_value list;
    char *text = list_of(ids, count, &list, l->error);

    if (text == NULL)
        return PST_E_NOMEM;
    struct pst_sql_call call = {
        .id = statement, .params = &list, .count = 1, .row = on_some_permission, .ctx = l};
    enum pst_status status = run_calls(store, &call, 1, l->error);
    free(text);
    return status;
}

/* The rows that are not known, and the roles that have too many of them. */
static enum pst_status ask_fresh(struct pst_store *store, struct loading *l, const struct known *k)
{
    uint32_t whole[KNOWN_ROLES] = {0};
    size_t count = 0;
    enum pst_status status = PST_OK;

    for (size_t i = 0; i < k->count; i++)
        if (k->roles[i].whole)
            whole[count++] = k->roles[i].id;
    if (k->fresh_count > 0)
        status = ask_permissions(store, l, PST_SQL_PERMISSIONS_FRESH, k->fresh, k->fresh_count);
    if (status == PST_OK && count > 0)
        status = ask_permissions(store, l, PST_SQL_PERMISSIONS_SOME, whole, count);
    return status;
}

static enum pst_status ask_known(struct pst_store *store, struct loading *l, struct known *k)
{
    enum pst_status status = PST_OK;

    for (size_t i = 0; i < k->count && status == PST_OK; i++)
        if (!k->roles[i].compared) /* it has none left */
            status = compare_rows(k, &k->roles[i], NULL, 0);
    if (status == PST_OK)
        status = ask_fresh(store, l, k);
    for (uint32_t i = 0; i < l->model->role_count; i++) {
        struct pst_role_row *role = &l->model->roles[i];
        const struct known_role *r = find_known(k, role->id);
        role->partial = r != NULL && !r->whole;
        role->total = role->partial ? r->total : 0;
    }
    return status;
}

static enum pst_status load_some(struct pst_store *store, struct loading *l,
                                 const struct some *some, struct pst_revision *revision,
                                 struct pst_error *error)
{
    struct known k = {.loading = l};

    collect_known(&k, some);
    enum pst_status status = ask_first(store, l, some, &k, revision, error);
    if (status == PST_OK)
        status = ask_known(store, l, &k);
    free_known(&k);
    return status;
}

/* `some` NULL: all. */
static enum pst_status load_rows(struct pst_store *store, struct loading *l,
                                 const struct some *some, struct pst_revision *revision,
                                 struct pst_error *error)
{
    if (some != NULL)
        return load_some(store, l, some, revision, error);
    enum pst_status status = pst_store_revision(store, revision, error);
    if (status == PST_OK)
        status = pst_store_each_workspace(store, on_model_workspace, l, error);
    if (status == PST_OK)
        status = pst_store_each_role(store, on_model_role, l, error);
    if (status == PST_OK)
        status = pst_store_each_permission(store, 0, on_model_permission, l, error);
    return status;
}

static enum pst_status load(struct pst_store *store, const struct some *some,
                            struct pst_model **out, struct pst_revision *revision,
                            struct pst_error *error)
{
    bool own_view = !store->viewing && store->change.store == NULL;
    enum pst_status status = own_view ? pst_store_view(store, error) : PST_OK;

    *out = NULL;
    *revision = (struct pst_revision){0};
    if (status != PST_OK)
        return status;

    struct pst_model *model = malloc(sizeof(*model));
    struct loading *l = malloc(sizeof(*l));
    if (model != NULL && l != NULL) {
        pst_model_init(model, MODEL_TEXT_MAX);
        l->model = model;
        l->error = error;
        status = load_rows(store, l, some, revision, error);
        if (status != PST_OK)
            pst_model_fini(model);
    } else {
        status = pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    if (own_view)
        pst_store_view_end(store);
    free(l);
    if (status != PST_OK)
        free(model);
    else
        *out = model;
    return status;
}

enum pst_status pst_store_load_model(struct pst_store *store, struct pst_model **out,
                                     struct pst_revision *revision, struct pst_error *error)
{
    return load(store, NULL, out, revision, error);
}

enum pst_status pst_store_load_roles(struct pst_store *store, const uint32_t *ids, size_t count,
                                     bool workspaces, struct pst_model **out,
                                     struct pst_revision *revision, struct pst_error *error)
{
    struct some some = {.roles = ids, .count = count, .workspaces = workspaces};

    *out = NULL;
    *revision = (struct pst_revision){0};
    if (count > PST_LOAD_ROLES_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "more than %d roles", PST_LOAD_ROLES_MAX);
    return load(store, &some, out, revision, error);
}

enum pst_status pst_store_log_roles(struct pst_store *store, const struct pst_log_roles *which,
                                    struct pst_log_page *page, struct pst_model **out,
                                    struct pst_error *error)
{
    struct some some = {.roles = which->ids,
                        .count = which->count,
                        .workspaces = which->workspaces,
                        .base = which->base,
                        .since = which->since,
                        .node = which->node,
                        .page = page};
    struct pst_revision revision;

    *out = NULL;
    *page = (struct pst_log_page){0};
    if (which->count > PST_LOAD_ROLES_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "more than %d roles", PST_LOAD_ROLES_MAX);
    enum pst_status status = load(store, &some, out, &revision, error);
    if (status != PST_OK)
        pst_log_page_fini(page);
    return status;
}

void pst_store_free_model(struct pst_model *model)
{
    if (model == NULL)
        return;
    pst_model_fini(model);
    free(model);
}
