/*
 * Pruning: what the files do not declare goes, of the kinds that they contain.
 */
#include <stdlib.h>

#include "declare_internal.h"

struct doomed {
    struct doomed *next;
    uint64_t id, user;
    const char *name;
};

struct pruning {
    struct applying *a;
    uint64_t *keep; /* sorted ids of what is declared */
    size_t keep_count;
    struct doomed *first, **end;
};

static int order_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
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
    return row->builtin ? PST_OK : doom(p, row->id, 0, pst_declare_text(p->a, row->name));
}

static enum pst_status doom_binding(void *ctx, const struct pst_row_named_binding *row)
{
    struct pruning *p = ctx;
    return doom(
        p, row->id, row->user_id,
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

static enum pst_status prune_users(struct applying *a)
{
    struct pruning p;

    if (!start_pruning(&p, a, a->d->user_count))
        return pst_declare_nomem(a->error);
    for (const struct declared_user *u = a->d->users; u != NULL; u = u->next)
        p.keep[p.keep_count++] = u->id;
    sort_kept(&p);
    enum pst_status status = pst_store_each_user(a->store, doom_user, &p, a->error);
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
    enum pst_status status = pst_store_each_role(a->store, doom_role, &p, a->error);
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
