/*
 * Applying declarations: compare with the store, write the difference, in one change.
 *
 *   workspaces -> roles and their permissions -> users -> identities -> bindings -> prune
 *
 * A change holds up every other one, and most of a large file is in the store already.  So a look
 * at the store comes first, in a view: it marks what is there as it is declared.  The change then
 * passes over that, as long as nothing was committed between the two; else there is another look,
 * and in the end one inside the change.  What differs is compared again there, so what is compared
 * is what is written over; a dry run is the same work, rolled back.  Identities are removed before
 * any is added, so that one may move from one user to another; and those of users that prune is about
 * to delete, so that a user may be given another name.
 */
#include "postern/manage/declare.h"

#include <stdlib.h>

#include "declare_internal.h"

#define LOOKS 3 /* before the change */

/* What the store refuses is the fault of a place in a file; what it cannot do is not. */
static enum pst_status at(struct applying *a, struct place place, enum pst_status status)
{
    if (status != PST_E_INVALID && status != PST_E_LIMIT && status != PST_E_EXISTS &&
        status != PST_E_ABSENT)
        return status;
    if (status == PST_E_ABSENT && a->change == NULL) /* the change may make it */
        return status;
    struct pst_error why = *a->error;
    return pst_node_fail(place.tree, place.node, a->error, "%s", why.message);
}

/* There is something to write; only a change goes on to do it. */
bool pst_declare_only_looks(struct applying *a)
{
    a->differs = true;
    return a->change == NULL;
}

/* What a look does not find may be made by then. */
static bool may_come(struct applying *a, enum pst_status status)
{
    return status == PST_E_ABSENT && pst_declare_only_looks(a);
}

/* Of what was just compared. */
static unsigned mark(struct applying *a)
{
    unsigned same = a->differs ? 0 : a->look;

    a->any = a->any || a->differs;
    a->differs = false;
    return same;
}

enum pst_status pst_declare_report(struct applying *a, enum pst_edit_action action,
                                   const char *kind, const char *name, const char *detail)
{
    return pst_report_add(a->report, action, kind, name, detail) == PST_OK
               ? PST_OK
               : pst_declare_nomem(a->error);
}

const char *pst_declare_text(struct applying *a, struct pst_bytes b)
{
    struct pst_bytes copy;

    return pst_arena_copy(ARENA(a), b, &copy) == PST_OK ? copy.ptr : NULL;
}

static const char *joined(struct applying *a, struct pst_bytes first, const char *between,
                          struct pst_bytes second)
{
    return pst_arena_printf(ARENA(a), "%.*s%s%.*s", (int)first.len, first.len == 0 ? "" : first.ptr,
                            between, (int)second.len, second.len == 0 ? "" : second.ptr)
        .ptr;
}

/* ---- workspaces ---- */

static enum pst_status apply_bound(struct applying *a)
{
    uint64_t wanted = a->d->max_staleness_s;
    enum pst_status status = pst_store_bound(a->store, &a->report->bound_before_s, a->error);
    uint32_t now = a->report->bound_before_s;

    if (wanted == 0 || status != PST_OK || now == wanted || pst_declare_only_looks(a))
        return status;
    status = pst_change_set_bound(a->change, (uint32_t)wanted, a->error);
    const char *detail =
        pst_arena_printf(ARENA(a), "%u to %llu seconds", now, (unsigned long long)wanted).ptr;
    return status != PST_OK
               ? status
               : pst_declare_report(a, PST_EDIT_CHANGE, "setting", "max_staleness_s", detail);
}

static enum pst_status apply_workspace(struct applying *a, struct declared_workspace *w)
{
    struct pst_row_workspace row;
    enum pst_status status = pst_store_find_workspace(a->store, w->name, &row, a->error);
    bool is_new = status == PST_E_ABSENT;

    if (status != PST_OK && !is_new)
        return status;
    if (is_new)
        row = (struct pst_row_workspace){
            .name = w->name, .kind = PST_LIT("project"), .organization = PST_LIT("default")};
    bool kind = w->kind.len > 0 && !pst_bytes_equal(w->kind, row.kind);
    bool organization =
        w->organization.len > 0 && !pst_bytes_equal(w->organization, row.organization);
    w->id = row.id;
    if ((!is_new && !kind && !organization) || pst_declare_only_looks(a))
        return PST_OK;
    const char *detail = organization ? joined(a, PST_LIT("organization "), "", w->organization)
                         : kind       ? joined(a, PST_LIT("kind "), "", w->kind)
                                      : "";
    if (kind)
        row.kind = w->kind;
    if (organization)
        row.organization = w->organization;
    status = at(a, w->place, pst_change_put_workspace(a->change, &row, a->error));
    w->id = row.id;
    if (status != PST_OK)
        return status;
    return pst_declare_report(a, is_new ? PST_EDIT_ADD : PST_EDIT_CHANGE, "workspace",
                              pst_declare_text(a, w->name), detail);
}

/* *id is 0 for an empty name. */
static enum pst_status workspace_id(struct applying *a, struct place place, struct pst_bytes name,
                                    uint32_t *id)
{
    struct pst_row_workspace row = {0};
    enum pst_status status = PST_OK;

    if (name.len > 0)
        status = at(a, place, pst_store_find_workspace(a->store, name, &row, a->error));
    *id = row.id;
    return status;
}

/* ---- roles and permissions ---- */

const char *pst_declare_role_name(struct applying *a, const struct declared_role *r)
{
    return joined(a, r->workspace, r->workspace.len > 0 ? "/" : "", r->name);
}

struct collecting {
    struct applying *a;
    struct declared_permission *first, **end;
    size_t count;
};

static enum pst_status collect_permission(void *ctx, const struct pst_row_permission *row)
{
    struct collecting *c = ctx;
    struct declared_permission *p = pst_arena_zalloc(ARENA(c->a), sizeof(*p));

    if (p == NULL || pst_permission_copy(ARENA(c->a), row, &p->row) != PST_OK)
        return pst_declare_nomem(c->a->error);
    p->key = pst_permission_key(ARENA(c->a), &p->row);
    if (p->key.ptr == NULL)
        return pst_declare_nomem(c->a->error);
    *c->end = p;
    c->end = &p->next;
    c->count++;
    return PST_OK;
}

static struct declared_permission **sorted(struct applying *a, struct declared_permission *first,
                                           size_t count)
{
    struct declared_permission **all = pst_arena_array(ARENA(a), count + 1, sizeof(*all));
    size_t n = 0;

    if (all == NULL)
        return NULL;
    for (; first != NULL; first = first->next)
        all[n++] = first;
    if (count > 1)
        qsort(all, count, sizeof(*all), pst_permission_order);
    return all;
}

static enum pst_status remove_permission(struct applying *a, const struct declared_role *r,
                                         const struct declared_permission *p)
{
    enum pst_status status = pst_change_delete_permission(a->change, p->row.id, r->id, a->error);

    if (status != PST_OK)
        return status;
    return pst_declare_report(a, PST_EDIT_REMOVE, "permission", pst_declare_role_name(a, r),
                              pst_permission_text(ARENA(a), &p->row));
}

/* What is to be added, until there is enough of it for a round trip. */
struct adding {
    struct declared_permission *all[PST_CHANGE_ROWS_MAX];
    size_t count;
};

static enum pst_status add_permissions(struct applying *a, const struct declared_role *r,
                                       struct adding *adding, bool quiet)
{
    struct pst_row_permission *rows[PST_CHANGE_ROWS_MAX] = {NULL};
    size_t failed, count = adding->count;

    for (size_t i = 0; i < count; i++) {
        adding->all[i]->row.role = r->id;
        rows[i] = &adding->all[i]->row;
    }
    adding->count = 0;
    enum pst_status status = pst_change_add_permissions(a->change, rows, count, &failed, a->error);
    if (status != PST_OK)
        return at(a, adding->all[failed]->place, status);
    for (size_t i = 0; i < count && !quiet && status == PST_OK; i++)
        status = pst_declare_report(a, PST_EDIT_ADD, "permission", pst_declare_role_name(a, r),
                                    pst_permission_text(ARENA(a), rows[i]));
    return status;
}

/* Both sides in the order of their keys; what stands on one side only is the difference. */
static enum pst_status apply_permissions(struct applying *a, struct declared_role *r, bool is_new)
{
    struct collecting c = {.a = a, .end = &c.first};
    enum pst_status status = PST_OK;

    if (!is_new)
        status = pst_store_each_permission(a->store, r->id, collect_permission, &c, a->error);
    if (status != PST_OK)
        return status;
    struct declared_permission **have = sorted(a, c.first, c.count);
    struct declared_permission **want = sorted(a, r->permissions, r->permission_count);
    if (have == NULL || want == NULL)
        return pst_declare_nomem(a->error);
    struct adding adding = {.count = 0};
    size_t h = 0, w = 0;
    while ((h < c.count || w < r->permission_count) && status == PST_OK) {
        int order = h == c.count               ? 1
                    : w == r->permission_count ? -1
                                               : pst_permission_order(&have[h], &want[w]);
        if (order != 0 && pst_declare_only_looks(a))
            return PST_OK;
        if (order > 0)
            adding.all[adding.count++] = want[w++];
        if (adding.count > 0 && (order < 0 || adding.count == PST_CHANGE_ROWS_MAX))
            status = add_permissions(a, r, &adding, is_new);
        if (order < 0 && status == PST_OK)
            status = remove_permission(a, r, have[h++]);
        if (order == 0) {
            h++;
            w++;
        }
    }
    return status == PST_OK && adding.count > 0 ? add_permissions(a, r, &adding, is_new) : status;
}

static enum pst_status apply_role(struct applying *a, struct declared_role *r)
{
    uint32_t workspace;
    struct pst_row_role row;

    enum pst_status status = workspace_id(a, r->place, r->workspace, &workspace);
    if (status != PST_OK)
        return may_come(a, status) ? PST_OK : status;
    status = pst_store_find_role(a->store, r->name, workspace, &row, a->error);
    bool is_new = status == PST_E_ABSENT;
    if (status != PST_OK && !is_new)
        return status;
    if (is_new)
        row = (struct pst_row_role){.name = r->name, .workspace = workspace};
    bool changed = r->says_builtin && r->builtin != row.builtin;
    if (changed)
        row.builtin = r->builtin;
    if ((is_new || changed) && pst_declare_only_looks(a))
        return PST_OK;
    status = PST_OK;
    if (is_new || changed)
        status = at(a, r->place, pst_change_put_role(a->change, &row, a->error));
    r->id = row.id;
    if (status != PST_OK)
        return status;
    const char *name = pst_declare_role_name(a, r);
    if (is_new)
        status = pst_declare_report(
            a, PST_EDIT_ADD, "role", name,
            pst_arena_printf(ARENA(a), "%zu permissions", r->permission_count).ptr);
    else if (changed)
        status = pst_declare_report(a, PST_EDIT_CHANGE, "role", name,
                                    r->builtin ? "builtin" : "not builtin");
    if (status == PST_OK && r->says_permissions)
        status = apply_permissions(a, r, is_new);
    return status;
}

/* ---- users and identities ---- */

static enum pst_status apply_user(struct applying *a, struct declared_user *u)
{
    struct pst_row_user row;
    enum pst_status status = pst_store_find_user(a->store, u->name, &row, a->error);
    bool is_new = status == PST_E_ABSENT;
    const char *detail = "";

    if (status != PST_OK && !is_new)
        return status;
    if (is_new)
        row = (struct pst_row_user){.name = u->name};
    struct pst_row_user next = row;
    if (u->says_email)
        next.email = u->email;
    if (u->says_disabled)
        next.disabled = u->disabled;
    if (u->says_level)
        next.legacy_level = (uint32_t)u->legacy_level;
    if (u->says_sessions)
        next.sessions_from = u->sessions_from;
    if (!pst_bytes_equal(next.email, row.email))
        detail = "e-mail";
    if (next.legacy_level != row.legacy_level)
        detail = "legacy level";
    if (next.sessions_from != row.sessions_from)
        detail = "sessions_from";
    if (next.disabled != row.disabled)
        detail = next.disabled ? "disabled" : "enabled";
    u->id = row.id;
    if ((!is_new && detail[0] == '\0') || pst_declare_only_looks(a))
        return PST_OK;
    status = at(a, u->place, pst_change_put_user(a->change, &next, a->error));
    u->id = next.id;
    if (status != PST_OK)
        return status;
    return pst_declare_report(a, is_new ? PST_EDIT_ADD : PST_EDIT_CHANGE, "user",
                              pst_declare_text(a, u->name), detail);
}

struct identities {
    struct applying *a;
    const struct declared_user *user;
    struct declared_identity *gone; /* in the store, not declared */
};

static bool declares_identity(const struct declared_user *u, struct pst_bytes issuer,
                              struct pst_bytes subject)
{
    for (const struct declared_identity *i = u->identities; i != NULL; i = i->next)
        if (pst_bytes_equal(i->issuer, issuer) && pst_bytes_equal(i->subject, subject))
            return true;
    return false;
}

static enum pst_status collect_gone(void *ctx, const struct pst_row_identity *row)
{
    struct identities *c = ctx;

    if (declares_identity(c->user, row->issuer, row->subject))
        return PST_OK;
    struct declared_identity *i = pst_arena_zalloc(ARENA(c->a), sizeof(*i));
    if (i == NULL || pst_arena_copy(ARENA(c->a), row->issuer, &i->issuer) != PST_OK ||
        pst_arena_copy(ARENA(c->a), row->subject, &i->subject) != PST_OK)
        return pst_declare_nomem(c->a->error);
    i->next = c->gone;
    c->gone = i;
    return PST_OK;
}

static enum pst_status remove_identities(struct applying *a, const struct declared_user *u)
{
    struct identities c = {.a = a, .user = u};

    if (!u->says_identities || (u->id == 0 && pst_declare_only_looks(a)))
        return PST_OK;
    enum pst_status status = pst_store_each_identity(a->store, u->id, collect_gone, &c, a->error);
    if (c.gone != NULL && pst_declare_only_looks(a))
        return status;
    for (const struct declared_identity *i = c.gone; i != NULL && status == PST_OK; i = i->next) {
        struct pst_row_identity row = {.user = u->id, .issuer = i->issuer, .subject = i->subject};
        status = pst_change_delete_identity(a->change, &row, a->error);
        if (status == PST_OK)
            status =
                pst_declare_report(a, PST_EDIT_REMOVE, "identity", pst_declare_text(a, u->name),
                                   joined(a, i->issuer, " ", i->subject));
    }
    return status;
}

struct identity_search {
    struct pst_bytes issuer, subject;
    bool found;
};

static enum pst_status find_identity(void *ctx, const struct pst_row_identity *row)
{
    struct identity_search *s = ctx;

    s->found |=
        pst_bytes_equal(row->issuer, s->issuer) && pst_bytes_equal(row->subject, s->subject);
    return PST_OK;
}

static enum pst_status add_identities(struct applying *a, const struct declared_user *u)
{
    enum pst_status status = PST_OK;

    if (u->identities != NULL && u->id == 0 && pst_declare_only_looks(a))
        return PST_OK;
    for (const struct declared_identity *i = u->identities; i != NULL && status == PST_OK;
         i = i->next) {
        struct identity_search s = {.issuer = i->issuer, .subject = i->subject};
        status = pst_store_each_identity(a->store, u->id, find_identity, &s, a->error);
        if (status != PST_OK || s.found || pst_declare_only_looks(a))
            continue;
        struct pst_row_identity row = {.user = u->id, .issuer = i->issuer, .subject = i->subject};
        status = pst_change_add_identity(a->change, &row, a->error);
        if (status == PST_E_EXISTS)
            return pst_node_fail(i->place.tree, i->place.node, a->error,
                                 "the identity %s %s belongs to another user", i->issuer.ptr,
                                 i->subject.ptr);
        status = at(a, i->place, status);
        if (status == PST_OK)
            status = pst_declare_report(a, PST_EDIT_ADD, "identity", pst_declare_text(a, u->name),
                                        joined(a, i->issuer, " ", i->subject));
    }
    return status;
}

/* ---- bindings ---- */

/* The role that a binding means: role_workspace says which; else the workspace's own, else the
 * global. */
static enum pst_status binding_role(struct applying *a, struct declared_binding *b,
                                    uint32_t workspace, uint32_t *role)
{
    struct pst_row_role row;
    uint32_t in = workspace;
    enum pst_status status = PST_OK;

    if (b->says_role_workspace)
        status = workspace_id(a, b->place, b->role_workspace, &in);
    if (status != PST_OK)
        return status;
    status = pst_store_find_role(a->store, b->role, in, &row, a->error);
    if (status == PST_E_ABSENT && in != 0 && !b->says_role_workspace) {
        a->differs = a->any; /* the workspace's own may come */
        status = pst_store_find_role(a->store, b->role, 0, &row, a->error);
    }
    *role = row.id;
    if (!b->says_role_workspace) /* for who reads of it */
        b->role_workspace =
            status == PST_OK && row.workspace != 0 ? b->workspace : (struct pst_bytes){0};
    return at(a, b->place, status);
}

struct binding_search {
    struct pst_row_binding wanted;
    uint64_t found;
};

static enum pst_status find_binding(void *ctx, const struct pst_row_binding *row)
{
    struct binding_search *s = ctx;

    if (row->role == s->wanted.role && row->workspace == s->wanted.workspace)
        s->found = row->id;
    return PST_OK;
}

const char *pst_declare_binding_name(struct applying *a, struct pst_bytes user,
                                     struct pst_bytes role_workspace, struct pst_bytes role,
                                     struct pst_bytes workspace)
{
    const char *who = joined(a, user, " ", role_workspace);
    const char *what = joined(a, role_workspace.len > 0 ? PST_LIT("/") : PST_LIT(""), "", role);

    if (who == NULL || what == NULL)
        return NULL;
    return pst_arena_printf(ARENA(a), "%s%s %s%.*s", who, what,
                            workspace.len > 0 ? "in " : "everywhere", (int)workspace.len,
                            workspace.len == 0 ? "" : workspace.ptr)
        .ptr;
}

static enum pst_status apply_binding(struct applying *a, struct declared_binding *b)
{
    struct pst_row_user user;
    struct binding_search s = {0};

    enum pst_status status =
        at(a, b->place, pst_store_find_user(a->store, b->user, &user, a->error));
    if (status != PST_OK)
        return may_come(a, status) ? PST_OK : status;
    s.wanted.user = user.id;
    status = workspace_id(a, b->place, b->workspace, &s.wanted.workspace);
    if (status == PST_OK)
        status = binding_role(a, b, s.wanted.workspace, &s.wanted.role);
    if (status == PST_OK)
        status = pst_store_each_binding(a->store, user.id, find_binding, &s, a->error);
    b->id = s.found;
    if (may_come(a, status))
        return PST_OK;
    if (status != PST_OK || s.found != 0 || pst_declare_only_looks(a))
        return status;
    status = at(a, b->place, pst_change_add_binding(a->change, &s.wanted, a->error));
    b->id = s.wanted.id;
    if (status != PST_OK)
        return status;
    return pst_declare_report(
        a, PST_EDIT_ADD, "binding",
        pst_declare_binding_name(a, b->user, b->role_workspace, b->role, b->workspace), "");
}

/* ---- all of it ---- */

static enum pst_status apply_users(struct applying *a)
{
    enum pst_status status = PST_OK;

    for (struct declared_user *u = a->d->users; u != NULL && status == PST_OK; u = u->next)
        if (u->same != a->look) {
            status = apply_user(a, u);
            u->same = mark(a);
        }
    for (struct declared_user *u = a->d->users; u != NULL && status == PST_OK; u = u->next)
        if (u->none_gone != a->look) {
            status = remove_identities(a, u);
            u->none_gone = mark(a);
        }
    if (status == PST_OK && a->options->prune)
        status = pst_declare_prune_identities(a);
    for (struct declared_user *u = a->d->users; u != NULL && status == PST_OK; u = u->next)
        if (u->none_new != a->look) {
            status = add_identities(a, u);
            u->none_new = mark(a);
        }
    return status;
}

static enum pst_status apply_all(struct applying *a)
{
    a->any = false;
    enum pst_status status = apply_bound(a);
    (void)mark(a);
    for (struct declared_workspace *w = a->d->workspaces; w != NULL && status == PST_OK;
         w = w->next)
        if (w->same != a->look) {
            status = apply_workspace(a, w);
            w->same = mark(a);
        }
    for (struct declared_role *r = a->d->roles; r != NULL && status == PST_OK; r = r->next)
        if (r->same != a->look) {
            status = apply_role(a, r);
            r->same = mark(a);
        }
    if (status == PST_OK)
        status = apply_users(a);
    for (struct declared_binding *b = a->d->bindings; b != NULL && status == PST_OK; b = b->next)
        if (b->same != a->look) {
            status = apply_binding(a, b);
            b->same = mark(a);
        }
    if (status == PST_OK && a->options->prune && a->nothing_to_prune != a->look) {
        status = pst_declare_prune(a);
        a->nothing_to_prune = mark(a);
    }
    return status;
}

static enum pst_status finish(struct applying *a)
{
    char detail[96];

    if (a->options->dry_run) {
        pst_change_abort(a->change);
        return pst_store_revision(a->store, &a->report->revision, a->error);
    }
    (void)snprintf(detail, sizeof(detail), "%zu added, %zu changed, %zu removed", a->report->added,
                   a->report->changed, a->report->removed);
    pst_change_describe(a->change, "apply", detail);
    return pst_change_commit(a->change, &a->report->revision, a->error);
}

/* Marks what is in the store as it is declared; *seen is the revision that was looked at. */
static enum pst_status look(struct applying *a, struct pst_revision *seen)
{
    enum pst_status status = pst_store_view(a->store, a->error);

    a->look++;
    if (status == PST_OK)
        status = pst_store_revision(a->store, seen, a->error);
    if (status == PST_OK)
        status = apply_all(a);
    pst_store_view_end(a->store);
    pst_arena_reset(ARENA(a));
    return status;
}

/* *again: something was committed since the look, nothing was done. */
static enum pst_status write(struct applying *a, const struct pst_revision *seen, bool *again)
{
    struct pst_revision now;
    enum pst_status status = pst_change_begin(a->store, a->options->actor, &a->change, a->error);

    *again = false;
    if (status == PST_OK)
        status = pst_store_revision(a->store, &now, a->error);
    if (status == PST_OK && (now.epoch != seen->epoch || now.n != seen->n + 1)) {
        *again = a->look < LOOKS;
        a->look += !*again; /* no mark is good */
    }
    if (status == PST_OK && !*again)
        status = apply_all(a);
    if (status == PST_OK && !*again)
        status = finish(a);
    else
        pst_change_abort(a->change);
    a->change = NULL;
    return status;
}

enum pst_status pst_apply(struct pst_store *store, const struct pst_tree *const *trees,
                          size_t tree_count, const struct pst_apply_options *options,
                          struct pst_error *error, struct pst_apply_report *report_out)
{
    struct pst_error unheard = {0};
    struct declared d = {.presets = options->presets, .report = report_out};
    struct applying a = {.d = &d,
                         .options = options,
                         .store = store,
                         .report = report_out,
                         .error = error != NULL ? error : &unheard};

    *report_out = (struct pst_apply_report){0};
    pst_arena_init(&report_out->arena_, 16384, PST_DECLARED_MAX);
    pst_arena_init(&d.arena, 65536, PST_DECLARED_MAX);
    pst_arena_init(ARENA(&a), 65536, PST_DECLARED_MAX);
    enum pst_status status = pst_declared_read(&d, trees, tree_count, a.error);
    for (bool again = status == PST_OK; again;) {
        again = false;
        status = look(&a, &report_out->revision);
        if (status == PST_OK && a.any)
            status = write(&a, &report_out->revision, &again);
    }
    pst_arena_fini(ARENA(&a));
    pst_arena_fini(&d.arena);
    return status;
}

enum pst_status pst_diff(struct pst_store *store, const struct pst_tree *const *trees,
                         size_t tree_count, const struct pst_apply_options *options,
                         struct pst_error *error, struct pst_apply_report *report_out)
{
    struct pst_apply_options all = *options;

    all.dry_run = all.prune = true;
    return pst_apply(store, trees, tree_count, &all, error, report_out);
}
