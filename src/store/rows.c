/*
 * Look-ups and lists: rows of the tables for those who manage them.
 */
#include "internal.h"

struct each {
    void *ctx;
    union {
        pst_each_workspace_fn *workspace;
        pst_each_user_fn *user;
        pst_each_role_fn *role;
        pst_each_identity_fn *identity;
        pst_each_permission_fn *permission;
        pst_each_binding_fn *binding;
        pst_each_named_binding_fn *named_binding;
    } fn;
};

void pst_row_to_workspace(const struct pst_sql_value *row, struct pst_row_workspace *out)
{
    *out = (struct pst_row_workspace){.id = pst_sql_u32(&row[0]),
                                      .name = row[1].text,
                                      .kind = row[2].text,
                                      .organization = row[3].text};
}

static struct pst_row_user to_user(const struct pst_sql_value *row)
{
    return (struct pst_row_user){.id = pst_sql_u64(&row[0]),
                                 .name = row[1].text,
                                 .email = row[2].text,
                                 .disabled = pst_sql_u64(&row[3]) != 0,
                                 .legacy_level = pst_sql_u32(&row[4]),
                                 .sessions_from = pst_sql_u64(&row[5])};
}

void pst_row_to_role(const struct pst_sql_value *row, struct pst_row_role *out)
{
    *out = (struct pst_row_role){.id = pst_sql_u32(&row[0]),
                                 .name = row[1].text,
                                 .workspace = pst_sql_u32(&row[2]),
                                 .builtin = pst_sql_u64(&row[3]) != 0};
}

void pst_row_to_permission(const struct pst_sql_value *row, struct pst_row_permission *out)
{
    *out = (struct pst_row_permission){
        .id = pst_sql_u64(&row[0]),
        .role = pst_sql_u32(&row[1]),
        .direct = pst_sql_u64(&row[2]) != 0,
        .scope = row[3].text,
        .entity = row[4].text,
        .has_entity_id = row[5].kind != PST_SQL_NULL,
        .entity_id = row[5].text,
        .entity_type = row[6].text,
        .conditions = row[7].text,
        .has_access = row[8].kind != PST_SQL_NULL,
        .access = pst_sql_u64(&row[8]),
        .query_attributes = row[9].text,
        .read_attributes = row[10].text,
        .write_attributes = row[11].text,
    };
}

static enum pst_status on_workspace(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_workspace w;
    pst_row_to_workspace(row, &w);
    return e->fn.workspace(e->ctx, &w);
}

static enum pst_status on_user(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_user u = to_user(row);
    return e->fn.user(e->ctx, &u);
}

static enum pst_status on_role(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_role r;
    pst_row_to_role(row, &r);
    return e->fn.role(e->ctx, &r);
}

static enum pst_status on_identity(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_identity i = {
        .issuer = row[0].text, .subject = row[1].text, .user = pst_sql_u64(&row[2])};
    return e->fn.identity(e->ctx, &i);
}

static enum pst_status on_permission(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_permission p;
    pst_row_to_permission(row, &p);
    return e->fn.permission(e->ctx, &p);
}

static enum pst_status on_binding(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_binding b = {.id = pst_sql_u64(&row[0]),
                                .user = pst_sql_u64(&row[1]),
                                .role = pst_sql_u32(&row[2]),
                                .workspace = pst_sql_u32(&row[3])};
    return e->fn.binding(e->ctx, &b);
}

static enum pst_status on_named_binding(void *ctx, const struct pst_sql_value *row)
{
    const struct each *e = ctx;
    struct pst_row_named_binding b = {.id = pst_sql_u64(&row[0]),
                                      .user_id = pst_sql_u64(&row[1]),
                                      .user = row[2].text,
                                      .role = row[3].text,
                                      .role_workspace = row[4].text,
                                      .workspace = row[5].text,
                                      .shadowed = pst_sql_u64(&row[6]) != 0};
    return e->fn.named_binding(e->ctx, &b);
}

enum pst_status pst_store_each_workspace(struct pst_store *store, pst_each_workspace_fn *each,
                                         void *ctx, struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.workspace = each};
    return store->ops->run(store->backend, PST_SQL_WORKSPACES, NULL, 0, on_workspace, &e, error);
}

enum pst_status pst_store_each_user(struct pst_store *store, pst_each_user_fn *each, void *ctx,
                                    struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.user = each};
    return store->ops->run(store->backend, PST_SQL_USERS, NULL, 0, on_user, &e, error);
}

enum pst_status pst_store_each_role(struct pst_store *store, pst_each_role_fn *each, void *ctx,
                                    struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.role = each};
    return store->ops->run(store->backend, PST_SQL_ROLES, NULL, 0, on_role, &e, error);
}

enum pst_status pst_store_each_identity(struct pst_store *store, uint64_t user,
                                        pst_each_identity_fn *each, void *ctx,
                                        struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.identity = each};

    if (user != 0)
        return PST_RUN(store, PST_SQL_IDENTITIES_OF, on_identity, &e, error, pst_sql_int(user));
    return store->ops->run(store->backend, PST_SQL_IDENTITIES, NULL, 0, on_identity, &e, error);
}

enum pst_status pst_store_each_binding(struct pst_store *store, uint64_t user,
                                       pst_each_binding_fn *each, void *ctx,
                                       struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.binding = each};

    if (user != 0)
        return PST_RUN(store, PST_SQL_BINDINGS_OF, on_binding, &e, error, pst_sql_int(user));
    return store->ops->run(store->backend, PST_SQL_BINDINGS, NULL, 0, on_binding, &e, error);
}

enum pst_status pst_store_each_named_binding(struct pst_store *store,
                                             pst_each_named_binding_fn *each, void *ctx,
                                             struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.named_binding = each};
    return store->ops->run(store->backend, PST_SQL_BINDINGS_NAMED, NULL, 0, on_named_binding, &e,
                           error);
}

enum pst_status pst_store_each_permission(struct pst_store *store, uint32_t role,
                                          pst_each_permission_fn *each, void *ctx,
                                          struct pst_error *error)
{
    struct each e = {.ctx = ctx, .fn.permission = each};

    if (role != 0)
        return PST_RUN(store, PST_SQL_PERMISSIONS_OF, on_permission, &e, error, pst_sql_int(role));
    return store->ops->run(store->backend, PST_SQL_PERMISSIONS, NULL, 0, on_permission, &e, error);
}

/* ---- look-ups: the texts go to the store's scratch ---- */

struct found {
    struct pst_store *store;
    size_t used;
    bool any, full;
    union {
        struct pst_row_workspace *workspace;
        struct pst_row_user *user;
        struct pst_row_role *role;
    } out;
};

static struct pst_bytes keep(struct found *f, struct pst_bytes text)
{
    if (text.len >= sizeof(f->store->scratch) - f->used) {
        f->full = true;
        return (struct pst_bytes){.ptr = "", .len = 0};
    }
    char *to = f->store->scratch + f->used;
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
    f->used += text.len + 1;
    return pst_bytes_of(to, text.len);
}

static enum pst_status found_workspace(void *ctx, const struct pst_sql_value *row)
{
    struct found *f = ctx;

    f->any = true;
    pst_row_to_workspace(row, f->out.workspace);
    f->out.workspace->name = keep(f, row[1].text);
    f->out.workspace->kind = keep(f, row[2].text);
    f->out.workspace->organization = keep(f, row[3].text);
    return f->full ? PST_E_LIMIT : PST_OK;
}

static enum pst_status found_user(void *ctx, const struct pst_sql_value *row)
{
    struct found *f = ctx;

    f->any = true;
    *f->out.user = to_user(row);
    f->out.user->name = keep(f, row[1].text);
    f->out.user->email = keep(f, row[2].text);
    return f->full ? PST_E_LIMIT : PST_OK;
}

static enum pst_status found_role(void *ctx, const struct pst_sql_value *row)
{
    struct found *f = ctx;

    f->any = true;
    pst_row_to_role(row, f->out.role);
    f->out.role->name = keep(f, row[1].text);
    return f->full ? PST_E_LIMIT : PST_OK;
}

static enum pst_status found_or_absent(const struct found *f, enum pst_status status,
                                       const char *what, struct pst_bytes name,
                                       struct pst_error *error)
{
    if (status != PST_OK || f->any)
        return status;
    return pst_error_set(error, PST_E_ABSENT, NULL, "there is no %s \"%.*s\"", what,
                         (int)(name.len > 200 ? 200 : name.len), name.len == 0 ? "" : name.ptr);
}

enum pst_status pst_store_find_workspace(struct pst_store *store, struct pst_bytes name,
                                         struct pst_row_workspace *out, struct pst_error *error)
{
    struct found f = {.store = store, .out.workspace = out};

    *out = (struct pst_row_workspace){0};
    enum pst_status status =
        PST_RUN(store, PST_SQL_WORKSPACE_FIND, found_workspace, &f, error, pst_sql_text(name));
    return found_or_absent(&f, status, "workspace", name, error);
}

enum pst_status pst_store_find_user(struct pst_store *store, struct pst_bytes name,
                                    struct pst_row_user *out, struct pst_error *error)
{
    struct found f = {.store = store, .out.user = out};

    *out = (struct pst_row_user){0};
    enum pst_status status =
        PST_RUN(store, PST_SQL_USER_FIND, found_user, &f, error, pst_sql_text(name));
    return found_or_absent(&f, status, "user", name, error);
}

enum pst_status pst_store_find_role(struct pst_store *store, struct pst_bytes name,
                                    uint32_t workspace, struct pst_row_role *out,
                                    struct pst_error *error)
{
    struct found f = {.store = store, .out.role = out};
    enum pst_status status;

    *out = (struct pst_row_role){0};
    if (workspace == 0)
        status =
            PST_RUN(store, PST_SQL_ROLE_FIND_GLOBAL, found_role, &f, error, pst_sql_text(name));
    else
        status = PST_RUN(store, PST_SQL_ROLE_FIND, found_role, &f, error, pst_sql_text(name),
                         pst_sql_int(workspace));
    return found_or_absent(&f, status, "role", name, error);
}
