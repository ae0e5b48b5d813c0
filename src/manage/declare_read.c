/*
 * Reading declarations: from trees to lists, everything checked that needs no store.
 */
#include <stdlib.h>

#include "declare_internal.h"

enum pst_status pst_declare_nomem(struct pst_error *error)
{
    return pst_error_set(error, PST_E_NOMEM, NULL,
                         "out of memory, or more than fits into %zu bytes", PST_DECLARED_MAX);
}

static enum pst_status required(const struct pst_tree *tree, const struct pst_node *node,
                                const char *key, struct pst_bytes *out, struct pst_error *error)
{
    enum pst_status status = pst_node_text(tree, node, key, out, error);

    if (status == PST_OK && out->len == 0)
        return pst_node_fail(tree, node, error, "%s is missing", key);
    return status;
}

/* A name that apps are told in a field of the head, where blanks at the ends are lost and a comma
 * ends the name of a role. */
static enum pst_status shown_name(const struct pst_tree *tree, const struct pst_node *node,
                                  bool in_list, struct pst_bytes *out, struct pst_error *error)
{
    enum pst_status status = required(tree, node, "name", out, error);
    bool good = status == PST_OK && pst_bytes_trim(*out).len == out->len;

    if (good && in_list)
        good = pst_bytes_find(*out, ',') == out->len;
    if (status != PST_OK || good)
        return status;
    return pst_node_fail(tree, pst_node_get(node, "name"), error,
                         "a name has no blank at its ends%s", in_list ? " and no comma" : "");
}

static enum pst_status list_of(const struct pst_tree *tree, const struct pst_node *map,
                               const char *key, const struct pst_node **out, bool *says,
                               struct pst_error *error)
{
    *out = pst_node_get(map, key);
    if (*out == NULL)
        return PST_OK;
    *says = true;
    if ((*out)->kind == PST_NODE_NULL) {
        *out = NULL;
        return PST_OK;
    }
    return (*out)->kind == PST_NODE_LIST ? PST_OK
                                         : pst_node_fail(tree, *out, error, "expected a list");
}

static bool is_dns_label(struct pst_bytes name)
{
    if (name.len == 0 || name.len > 63 || name.ptr[0] == '-' || name.ptr[name.len - 1] == '-')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return true;
}

static enum pst_status read_workspace(struct declared *d, const struct pst_tree *tree,
                                      const struct pst_node *node, struct pst_error *error)
{
    static const char *const KEYS[] = {"name", "kind", "organization", NULL};
    static const char *const KINDS[] = {"default", "project", "environment", NULL};
    struct declared_workspace *w = pst_arena_zalloc(&d->arena, sizeof(*w));
    unsigned kind = 3;

    if (w == NULL)
        return pst_declare_nomem(error);
    w->place = (struct place){tree, node};
    enum pst_status status = pst_node_only(tree, node, KEYS, error);
    if (status == PST_OK)
        status = required(tree, node, "name", &w->name, error);
    if (status == PST_OK && !is_dns_label(w->name))
        return pst_node_fail(
            tree, pst_node_get(node, "name"), error,
            "a workspace's name is 1 to 63 of a-z, 0-9 and '-', with no '-' at the ends");
    if (status == PST_OK)
        status = pst_node_enum(tree, node, "kind", KINDS, &kind, error);
    if (status == PST_OK)
        status = pst_node_text(tree, node, "organization", &w->organization, error);
    if (status != PST_OK)
        return status;
    if (kind < 3)
        w->kind = pst_bytes_of(KINDS[kind], strlen(KINDS[kind]));
    *d->workspaces_end = w;
    d->workspaces_end = &w->next;
    d->workspace_count++;
    return PST_OK;
}

static enum pst_status read_permissions(struct declared *d, const struct pst_tree *tree,
                                        const struct pst_node *node, struct declared_role *role,
                                        struct pst_error *error)
{
    const struct pst_node *list;
    struct declared_permission **end = &role->permissions;

    enum pst_status status =
        list_of(tree, node, "permissions", &list, &role->says_permissions, error);
    if (status != PST_OK || list == NULL)
        return status;
    for (const struct pst_node *n = list->first; n != NULL && status == PST_OK; n = n->next) {
        status = pst_declared_permission(d, tree, n, role, end, error);
        if (status != PST_OK)
            break;
        end = &(*end)->next;
        role->permission_count++;
    }
    return status;
}

static enum pst_status read_role(struct declared *d, const struct pst_tree *tree,
                                 const struct pst_node *node, struct pst_error *error)
{
    static const char *const KEYS[] = {"name", "workspace", "builtin", "permissions", NULL};
    struct declared_role *r = pst_arena_zalloc(&d->arena, sizeof(*r));

    if (r == NULL)
        return pst_declare_nomem(error);
    r->place = (struct place){tree, node};
    enum pst_status status = pst_node_only(tree, node, KEYS, error);
    if (status == PST_OK)
        status = shown_name(tree, node, true, &r->name, error);
    if (status == PST_OK)
        status = pst_node_text(tree, node, "workspace", &r->workspace, error);
    r->says_builtin = pst_node_get(node, "builtin") != NULL;
    if (status == PST_OK)
        status = pst_node_bool(tree, node, "builtin", &r->builtin, error);
    if (status == PST_OK)
        status = read_permissions(d, tree, node, r, error);
    if (status != PST_OK)
        return status;
    *d->roles_end = r;
    d->roles_end = &r->next;
    d->role_count++;
    return PST_OK;
}

static enum pst_status read_identities(struct declared *d, const struct pst_tree *tree,
                                       const struct pst_node *node, struct declared_user *user,
                                       struct pst_error *error)
{
    static const char *const KEYS[] = {"issuer", "subject", NULL};
    const struct pst_node *list;
    struct declared_identity **end = &user->identities;

    enum pst_status status =
        list_of(tree, node, "identities", &list, &user->says_identities, error);
    if (status != PST_OK || list == NULL)
        return status;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        struct declared_identity *i = pst_arena_zalloc(&d->arena, sizeof(*i));
        if (i == NULL)
            return pst_declare_nomem(error);
        i->place = (struct place){tree, n};
        status = pst_node_only(tree, n, KEYS, error);
        if (status == PST_OK)
            status = required(tree, n, "issuer", &i->issuer, error);
        if (status == PST_OK)
            status = required(tree, n, "subject", &i->subject, error);
        if (status != PST_OK)
            return status;
        *end = i;
        end = &i->next;
    }
    return PST_OK;
}

static enum pst_status read_user(struct declared *d, const struct pst_tree *tree,
                                 const struct pst_node *node, struct pst_error *error)
{
    static const char *const KEYS[] = {"name",          "email",      "disabled", "legacy_level",
                                       "sessions_from", "identities", NULL};
    struct declared_user *u = pst_arena_zalloc(&d->arena, sizeof(*u));

    if (u == NULL)
        return pst_declare_nomem(error);
    u->place = (struct place){tree, node};
    enum pst_status status = pst_node_only(tree, node, KEYS, error);
    if (status == PST_OK)
        status = shown_name(tree, node, false, &u->name, error);
    u->says_email = pst_node_get(node, "email") != NULL;
    u->says_disabled = pst_node_get(node, "disabled") != NULL;
    u->says_level = pst_node_get(node, "legacy_level") != NULL;
    u->says_sessions = pst_node_get(node, "sessions_from") != NULL;
    if (status == PST_OK)
        status = pst_node_text(tree, node, "email", &u->email, error);
    if (status == PST_OK)
        status = pst_node_bool(tree, node, "disabled", &u->disabled, error);
    if (status == PST_OK)
        status = pst_node_u64(tree, node, "legacy_level", 0, UINT32_MAX, &u->legacy_level, error);
    if (status == PST_OK)
        status = pst_node_u64(tree, node, "sessions_from", 0, INT64_MAX, &u->sessions_from, error);
    if (status == PST_OK)
        status = read_identities(d, tree, node, u, error);
    if (status != PST_OK)
        return status;
    *d->users_end = u;
    d->users_end = &u->next;
    d->user_count++;
    return PST_OK;
}

static enum pst_status read_binding(struct declared *d, const struct pst_tree *tree,
                                    const struct pst_node *node, struct pst_error *error)
{
    static const char *const KEYS[] = {"user", "role", "role_workspace", "workspace", NULL};
    struct declared_binding *b = pst_arena_zalloc(&d->arena, sizeof(*b));

    if (b == NULL)
        return pst_declare_nomem(error);
    b->place = (struct place){tree, node};
    enum pst_status status = pst_node_only(tree, node, KEYS, error);
    if (status == PST_OK)
        status = required(tree, node, "user", &b->user, error);
    if (status == PST_OK)
        status = required(tree, node, "role", &b->role, error);
    b->says_role_workspace = pst_node_get(node, "role_workspace") != NULL;
    if (status == PST_OK)
        status = pst_node_text(tree, node, "role_workspace", &b->role_workspace, error);
    if (status == PST_OK)
        status = pst_node_text(tree, node, "workspace", &b->workspace, error);
    /* Left out it means everywhere; empty is more likely a variable that was not set. */
    if (status == PST_OK && pst_node_get(node, "workspace") != NULL && b->workspace.len == 0)
        status = pst_node_fail(tree, pst_node_get(node, "workspace"), error,
                               "empty; leave it out to bind the role everywhere");
    if (status != PST_OK)
        return status;
    *d->bindings_end = b;
    d->bindings_end = &b->next;
    d->binding_count++;
    return PST_OK;
}

typedef enum pst_status read_fn(struct declared *d, const struct pst_tree *tree,
                                const struct pst_node *node, struct pst_error *error);

static enum pst_status read_section(struct declared *d, const struct pst_tree *tree,
                                    const char *key, bool *says, read_fn *read,
                                    struct pst_error *error)
{
    const struct pst_node *list;
    enum pst_status status = list_of(tree, tree->root, key, &list, says, error);

    if (status != PST_OK || list == NULL)
        return status;
    for (const struct pst_node *n = list->first; n != NULL && status == PST_OK; n = n->next)
        status = read(d, tree, n, error);
    return status;
}

static enum pst_status read_tree(struct declared *d, const struct pst_tree *tree,
                                 struct pst_error *error)
{
    static const char *const KEYS[] = {"max_staleness_s", "workspaces", "roles",
                                       "users",           "bindings",   NULL};

    if (tree->root == NULL || tree->root->kind == PST_NODE_NULL)
        return PST_OK;
    enum pst_status status = pst_node_only(tree, tree->root, KEYS, error);
    const struct pst_node *bound = pst_node_get(tree->root, "max_staleness_s");
    if (status == PST_OK && bound != NULL && d->max_staleness_s != 0)
        return pst_node_fail(tree, bound, error, "declared twice");
    if (status == PST_OK)
        status =
            pst_node_u64(tree, tree->root, "max_staleness_s", 1, 60, &d->max_staleness_s, error);
    if (status == PST_OK)
        status = read_section(d, tree, "workspaces", &d->says_workspaces, read_workspace, error);
    if (status == PST_OK)
        status = read_section(d, tree, "roles", &d->says_roles, read_role, error);
    if (status == PST_OK)
        status = read_section(d, tree, "users", &d->says_users, read_user, error);
    if (status == PST_OK)
        status = read_section(d, tree, "bindings", &d->says_bindings, read_binding, error);
    return status;
}

/* ---- nothing may be declared twice ---- */

struct named {
    struct pst_bytes a, b; /* what must be unique */
    struct place place;
};

static int order_bytes(struct pst_bytes a, struct pst_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int order_named(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    int order = order_bytes(a->a, b->a);

    return order != 0 ? order : order_bytes(a->b, b->b);
}

static enum pst_status refuse_twice(struct named *all, size_t count, const char *what,
                                    struct pst_error *error)
{
    if (count > 1)
        qsort(all, count, sizeof(*all), order_named);
    for (size_t i = 1; i < count; i++)
        if (order_named(&all[i - 1], &all[i]) == 0) {
            /* qsort is not stable: tell the later of the two, as a reader would see it. */
            const struct named *late =
                all[i].place.node->line >= all[i - 1].place.node->line ? &all[i] : &all[i - 1];
            return pst_node_fail(late->place.tree, late->place.node, error,
                                 "%s \"%s\" is declared twice", what, late->a.ptr);
        }
    return PST_OK;
}

static enum pst_status check_twice(const struct declared *d, struct pst_error *error)
{
    size_t most = d->workspace_count > d->role_count ? d->workspace_count : d->role_count;
    size_t n = 0;

    most = most > d->user_count ? most : d->user_count;
    if (most == 0)
        return PST_OK;
    struct named *all = calloc(most, sizeof(*all));
    if (all == NULL)
        return pst_declare_nomem(error);
    for (const struct declared_workspace *w = d->workspaces; w != NULL; w = w->next)
        all[n++] = (struct named){.a = w->name, .place = w->place};
    enum pst_status status = refuse_twice(all, n, "workspace", error);
    n = 0;
    for (const struct declared_role *r = d->roles; r != NULL && status == PST_OK; r = r->next)
        all[n++] = (struct named){.a = r->name, .b = r->workspace, .place = r->place};
    if (status == PST_OK)
        status = refuse_twice(all, n, "role", error);
    n = 0;
    for (const struct declared_user *u = d->users; u != NULL && status == PST_OK; u = u->next)
        all[n++] = (struct named){.a = u->name, .place = u->place};
    if (status == PST_OK)
        status = refuse_twice(all, n, "user", error);
    free(all);
    return status;
}

enum pst_status pst_declared_read(struct declared *d, const struct pst_tree *const *trees,
                                  size_t tree_count, struct pst_error *error)
{
    enum pst_status status = PST_OK;

    d->workspaces_end = &d->workspaces;
    d->roles_end = &d->roles;
    d->users_end = &d->users;
    d->bindings_end = &d->bindings;
    for (size_t i = 0; i < tree_count && status == PST_OK; i++)
        status = read_tree(d, trees[i], error);
    return status == PST_OK ? check_twice(d, error) : status;
}
