/*
 * What stands in the store and in no file goes.
 */
#include <stdlib.h>

#include "declare_internal.h"

struct doomed {
    struct doomed *next;
    uint64_t id, user;
    const char *name;
};

struct kept_name {
    uint32_t id;
    struct pst_bytes name;
};

struct pruning {
    struct applying *a;
    struct kept_name *names; /* of all workspaces, sorted by id: a role is told by both its names */
    size_t name_count;
    uint64_t *keep; /* sorted ids of what is declared */
    size_t keep_count;
    struct doomed *first, **end;
};

static int order_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static int order_kept_name(const void *x, const void *y)
{
    const struct kept_name *a = x, *b = y;
    return (a->id > b->id) - (a->id < b->id);
}

static enum pst_status doom(struct pruning *p, uint64_t id, uint64_t user, const char *name)
{
    if (p->keep_count > 0 && bsearch(&id, p->keep, p->keep_count, sizeof(id), order_u64) != NULL)
        return PST_OK;
    struct doomed *d = pst_arena_zalloc(ARENA(p->a), sizeof(*d));
    if (d == NULL || name == NULL)
        return pst_declare_nomem(p->a->error);
    *d = (struct doomed){.id = id, .user = user, .name = name};
    *p->end = d;
    p->end = &d->next;
    return PST_OK;
}

static enum pst_status doom_workspace(void *ctx, const struct pst_row_workspace *row)
{
    struct pruning *p = ctx;
    return doom(p, row->id, 0, pst_declare_text(p->a, row->name));
}

static enum pst_status doom_user(void *ctx, const struct pst_row_user *row)
{
    struct pruning *p = ctx;
    return doom(p, row->id, 0, pst_declare_text(p->a, row->name));
}

/* Built-in roles came from elsewhere than from files. */
static enum pst_status doom_role(void *ctx, const struct pst_row_role *row)
{
    struct pruning *p = ctx;
    const struct kept_name key = {.id = row->workspace};
    const struct kept_name *in =
        p->name_count == 0 ? NULL
                           : bsearch(&key, p->names, p->name_count, sizeof(key), order_kept_name);
    const struct declared_role r = {.name = row->name,
                                    .workspace = in == NULL ? (struct pst_bytes){0} : in->name};

    return row->builtin ? PST_OK : doom(p, row->id, 0, pst_declare_role_name(p->a, &r));
}

static enum pst_status count_workspace(void *ctx, const struct pst_row_workspace *row)
{
    struct pruning *p = ctx;

    (void)row;
    p->name_count++;
    return PST_OK;
}

static enum pst_status keep_name(void *ctx, const struct pst_row_workspace *row)
{
    struct pruning *p = ctx;
    struct kept_name *n = &p->names[p->name_count++];

    n->id = row->id;
    return pst_arena_copy(ARENA(p->a), row->name, &n->name) == PST_OK
               ? PST_OK
               : pst_declare_nomem(p->a->error);
}

static enum pst_status doom_binding(void *ctx, const struct pst_row_named_binding *row)
{
    struct pruning *p = ctx;
    return doom(p, row->id, row->user_id,
                pst_declare_binding_name(p->a, row->user, row->role_workspace, row->role, row->workspace));
}

static bool start_pruning(struct pruning *p, struct applying *a, size_t declared)
{
    *p = (struct pruning){.a = a, .end = &p->first};
    p->keep = pst_arena_array(ARENA(a), declared + 1, sizeof(*p->keep));
    return p->keep != NULL;
}

static void sort_kept(struct pruning *p)
{
    if (p->keep_count > 1)
        qsort(p->keep, p->keep_count, sizeof(*p->keep), order_u64);
}

static enum pst_status name_workspaces(struct pruning *p)
{
    enum pst_status status = pst_store_each_workspace(p->a->store, count_workspace, p, p->a->error);

    if (status != PST_OK || p->name_count == 0)
        return status;
    p->names = pst_arena_array(ARENA(p->a), p->name_count, sizeof(*p->names));
    if (p->names == NULL)
        return pst_declare_nomem(p->a->error);
    p->name_count = 0;
    status = pst_store_each_workspace(p->a->store, keep_name, p, p->a->error);
    if (status == PST_OK)
        qsort(p->names, p->name_count, sizeof(*p->names), order_kept_name);
    return status;
}

static enum pst_status prune_bindings(struct applying *a)
{
    struct pruning p;

    if (!start_pruning(&p, a, a->d->binding_count))
        return pst_declare_nomem(a->error);
    for (const struct declared_binding *b = a->d->bindings; b != NULL; b = b->next)
        p.keep[p.keep_count++] = b->id;
    sort_kept(&p);
    enum pst_status status = pst_store_each_named_binding(a->store, doom_binding, &p, a->error);
    if (p.first != NULL && pst_declare_only_looks(a))
        return status;
    for (const struct doomed *d = p.first; d != NULL && status == PST_OK; d = d->next) {
        struct pst_row_binding row = {.id = d->id, .user = d->user};
        status = pst_change_delete_binding(a->change, &row, a->error);
        if (status == PST_OK)
            status = pst_declare_report(a, PST_EDIT_REMOVE, "binding", d->name, "");
    }
    return status;
}

static enum pst_status doomed_users(struct applying *a, struct pruning *p)
{
    if (!start_pruning(p, a, a->d->user_count))
        return pst_declare_nomem(a->error);
    for (const struct declared_user *u = a->d->users; u != NULL; u = u->next)
        p->keep[p->keep_count++] = u->id;
    sort_kept(p);
    return pst_store_each_user(a->store, doom_user, p, a->error);
}

struct freeing {
    struct applying *a;
    struct declared_identity *first;
};

static enum pst_status keep_identity(void *ctx, const struct pst_row_identity *row)
{
    struct freeing *f = ctx;
    struct declared_identity *i = pst_arena_zalloc(ARENA(f->a), sizeof(*i));

    if (i == NULL || pst_arena_copy(ARENA(f->a), row->issuer, &i->issuer) != PST_OK ||
        pst_arena_copy(ARENA(f->a), row->subject, &i->subject) != PST_OK)
        return pst_declare_nomem(f->a->error);
    i->next = f->first;
    f->first = i;
    return PST_OK;
}

enum pst_status pst_declare_prune_identities(struct applying *a)
{
    struct pruning p;

    if (!a->d->says_users || a->change == NULL) /* a look finds the users themselves */
        return PST_OK;
    enum pst_status status = doomed_users(a, &p);
    for (const struct doomed *d = p.first; d != NULL && status == PST_OK; d = d->next) {
        struct freeing f = {.a = a};
        status = pst_store_each_identity(a->store, d->id, keep_identity, &f, a->error);
        for (const struct declared_identity *i = f.first; i != NULL && status == PST_OK;
             i = i->next) {
            struct pst_row_identity row = {
                .user = d->id, .issuer = i->issuer, .subject = i->subject};
            status = pst_change_delete_identity(a->change, &row, a->error);
        }
    }
    return status;
}

static enum pst_status prune_users(struct applying *a)
{
    struct pruning p;
    enum pst_status status = doomed_users(a, &p);

    if (p.first != NULL && pst_declare_only_looks(a))
        return status;
    for (const struct doomed *d = p.first; d != NULL && status == PST_OK; d = d->next) {
        status = pst_change_delete_user(a->change, d->id, a->error);
        if (status == PST_OK)
            status = pst_declare_report(a, PST_EDIT_REMOVE, "user", d->name, "");
    }
    return status;
}

static enum pst_status prune_roles(struct applying *a)
{
    struct pruning p;

    if (!start_pruning(&p, a, a->d->role_count))
        return pst_declare_nomem(a->error);
    for (const struct declared_role *r = a->d->roles; r != NULL; r = r->next)
        p.keep[p.keep_count++] = r->id;
    sort_kept(&p);
    enum pst_status status = name_workspaces(&p);
    if (status == PST_OK)
        status = pst_store_each_role(a->store, doom_role, &p, a->error);
    if (p.first != NULL && pst_declare_only_looks(a))
        return status;
    for (const struct doomed *d = p.first; d != NULL && status == PST_OK; d = d->next) {
        status = pst_change_delete_role(a->change, (uint32_t)d->id, a->error);
        if (status == PST_OK)
            status = pst_declare_report(a, PST_EDIT_REMOVE, "role", d->name, "");
    }
    return status;
}

static enum pst_status prune_workspaces(struct applying *a)
{
    struct pruning p;

    if (!start_pruning(&p, a, a->d->workspace_count))
        return pst_declare_nomem(a->error);
    for (const struct declared_workspace *w = a->d->workspaces; w != NULL; w = w->next)
        p.keep[p.keep_count++] = w->id;
    sort_kept(&p);
    enum pst_status status = pst_store_each_workspace(a->store, doom_workspace, &p, a->error);
    if (p.first != NULL && pst_declare_only_looks(a))
        return status;
    for (const struct doomed *d = p.first; d != NULL && status == PST_OK; d = d->next) {
        status = pst_change_delete_workspace(a->change, (uint32_t)d->id, a->error);
        if (status == PST_OK)
            status = pst_declare_report(a, PST_EDIT_REMOVE, "workspace", d->name, "");
    }
    return status;
}

/* What hangs on others goes first, so that each removal is told once. */
enum pst_status pst_declare_prune(struct applying *a)
{
    enum pst_status status = PST_OK;

    if (a->d->says_bindings)
        status = prune_bindings(a);
    if (status == PST_OK && a->d->says_users)
        status = prune_users(a);
    if (status == PST_OK && a->d->says_roles)
        status = prune_roles(a);
    if (status == PST_OK && a->d->says_workspaces)
        status = prune_workspaces(a);
    return status;
}
