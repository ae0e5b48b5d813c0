/*
 * A policy is a block of roles and workspaces with two small tables; what is large, the rows,
 * belongs to the roles' indexes (rules.c), which policies share.
 */
#include "postern/policy/compile.h"

#include <stdlib.h>

#include "postern/base/secret.h"
#include "compile_internal.h"

/* Permission rows of the model, grouped by role: rows[first[i]..first[i+1]) belong to
 * model->roles[i]. */
struct grouping {
    const struct pst_permission_row **rows;
    const struct pst_permission_row **late; /* room for as many */
    uint32_t *first;
};

static uint32_t table_mask(uint32_t count)
{
    uint32_t size = 4;

    while (size / 2 < count && size < UINT32_C(1) << 31)
        size *= 2;
    return size - 1;
}

static void free_policy(struct pst_policy *p)
{
    if (p == NULL)
        return;
    for (uint32_t i = 0; i < p->role_count && p->roles != NULL; i++)
        pst_rules_release(p->roles[i].rules);
    free(p->roles);
    free(p->workspaces);
    free(p->role_slots);
    free(p->workspace_slots);
    free(p->workspace_ids);
    free(p->text);
    free(p);
}

static void destroy_snapshot(struct pst_snapshot *snapshot)
{
    free_policy((struct pst_policy *)snapshot);
}

void pst_policy_destroy(struct pst_policy *policy)
{
    free_policy(policy);
}

struct pst_snapshot *pst_policy_snapshot(struct pst_policy *policy)
{
    return &policy->snapshot;
}

const struct pst_policy *pst_policy_of(const struct pst_snapshot *snapshot)
{
    return (const struct pst_policy *)snapshot;
}

static struct pst_bytes keep(struct pst_policy *p, struct pst_bytes text)
{
    struct pst_bytes kept = pst_bytes_of(p->text + p->text_len, text.len);

    if (text.len > 0)
        memcpy(p->text + p->text_len, text.ptr, text.len);
    p->text_len += text.len;
    return kept;
}

static struct pst_policy *allocate(uint32_t roles, uint32_t workspaces, size_t text)
{
    struct pst_policy *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return NULL;
    p->role_mask = table_mask(roles);
    p->workspace_mask = table_mask(workspaces);
    p->roles = calloc((size_t)roles + 1, sizeof(*p->roles));
    p->workspaces = calloc((size_t)workspaces + 1, sizeof(*p->workspaces));
    p->role_slots = calloc((size_t)p->role_mask + 1, sizeof(*p->role_slots));
    p->workspace_slots = calloc((size_t)p->workspace_mask + 1, sizeof(*p->workspace_slots));
    p->workspace_ids = calloc((size_t)p->workspace_mask + 1, sizeof(*p->workspace_ids));
    p->text = malloc(text + 1);
    if (p->roles == NULL || p->workspaces == NULL || p->role_slots == NULL ||
        p->workspace_slots == NULL || p->workspace_ids == NULL || p->text == NULL) {
        free_policy(p);
        return NULL;
    }
    p->snapshot.destroy = destroy_snapshot;
    return p;
}

static enum pst_status add_workspace(struct pst_policy *p, struct pst_workspace_row row,
                                     struct pst_error *error)
{
    uint32_t at = (uint32_t)pst_text_hash(&p->key, row.name) & p->workspace_mask;
    uint32_t id_at = pst_role_hash(row.id) & p->workspace_mask;

    for (; p->workspace_slots[at] != 0; at = (at + 1) & p->workspace_mask)
        if (pst_bytes_equal(p->workspaces[p->workspace_slots[at] - 1].name, row.name))
            return pst_error_set(error, PST_E_INVALID, NULL, "workspace %.*s stands twice",
                                 (int)row.name.len, row.name.ptr);
    for (; p->workspace_ids[id_at] != 0; id_at = (id_at + 1) & p->workspace_mask)
        if (p->workspaces[p->workspace_ids[id_at] - 1].id == row.id)
            return pst_error_set(error, PST_E_INVALID, NULL, "workspace id %u stands twice",
                                 row.id);
    row.name = keep(p, row.name);
    row.organization = keep(p, row.organization);
    p->workspaces[p->workspace_count++] = row;
    p->workspace_slots[at] = p->workspace_ids[id_at] = p->workspace_count;
    if (row.kind == PST_WORKSPACE_DEFAULT && p->default_workspace == 0)
        p->default_workspace = row.id;
    return PST_OK;
}

enum pst_status pst_policy_add_role(struct pst_policy *p, const struct pst_role_row *row,
                                    struct pst_error *error)
{
    uint32_t at = pst_role_hash(row->id) & p->role_mask;

    for (; p->role_slots[at] != 0; at = (at + 1) & p->role_mask)
        if (p->roles[p->role_slots[at] - 1].id == row->id)
            return pst_error_set(error, PST_E_INVALID, NULL, "role id %u stands twice", row->id);
    p->roles[p->role_count++] = (struct pst_policy_role){.name = keep(p, row->name),
                                                         .id = row->id,
                                                         .workspace = row->workspace,
                                                         .builtin = row->builtin};
    p->role_slots[at] = p->role_count;
    return PST_OK;
}

static enum pst_status add_roles(struct pst_policy *p, const struct pst_model *m,
                                 struct pst_error *error)
{
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < m->role_count && status == PST_OK; i++)
        status = pst_policy_add_role(p, &m->roles[i], error);
    return status;
}

static uint32_t role_index(const struct pst_policy *p, uint32_t id)
{
    const struct pst_policy_role *role = pst_policy_find_role(p, id);

    return role == NULL ? UINT32_MAX : (uint32_t)(role - p->roles);
}

static int compare_rows(const void *x, const void *y)
{
    const struct pst_permission_row *a = *(const struct pst_permission_row *const *)x;
    const struct pst_permission_row *b = *(const struct pst_permission_row *const *)y;

    return (a->id > b->id) - (a->id < b->id);
}

/* By id, in whatever order they were read: a policy is the same on every node. Few are out of
 * order, those that were changed: they are put aside into `late`, and merged from the end. */
static void order_rows(const struct pst_permission_row **rows, uint32_t count,
                       const struct pst_permission_row **late)
{
    uint32_t kept = 0, aside = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (kept == 0 || rows[kept - 1]->id <= rows[i]->id)
            rows[kept++] = rows[i];
        else
            late[aside++] = rows[i];
    }
    if (aside > 1)
        qsort(late, aside, sizeof(*late), compare_rows);
    while (aside > 0) {
        uint32_t to = kept + aside - 1;
        if (kept > 0 && rows[kept - 1]->id > late[aside - 1]->id)
            rows[to] = rows[--kept];
        else
            rows[to] = late[--aside];
    }
}

/* Counting sort of the permission rows by role. */
static enum pst_status group_rows(const struct pst_policy *p, const struct pst_model *m,
                                  struct grouping *g, struct pst_error *error)
{
    g->rows = calloc((size_t)m->permission_count + 1, sizeof(*g->rows));
    g->late = calloc((size_t)m->permission_count + 1, sizeof(*g->late));
    g->first = calloc((size_t)p->role_count + 2, sizeof(*g->first));
    if (g->rows == NULL || g->late == NULL || g->first == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    for (uint32_t i = 0; i < m->permission_count; i++) {
        uint32_t role = role_index(p, m->permissions[i].role);
        if (role == UINT32_MAX || p->roles[role].rules != NULL)
            return pst_error_set(error, PST_E_INVALID, NULL,
                                 "permission %llu names role %u, which is not %s",
                                 (unsigned long long)m->permissions[i].id, m->permissions[i].role,
                                 role == UINT32_MAX ? "there" : "named as changed");
        g->first[role + 2]++;
    }
    for (uint32_t i = 2; i < p->role_count + 2; i++)
        g->first[i] += g->first[i - 1];
    for (uint32_t i = 0; i < m->permission_count; i++)
        g->rows[g->first[role_index(p, m->permissions[i].role) + 1]++] = &m->permissions[i];
    return PST_OK;
}

static void share_rules(struct pst_policy_role *role, const struct pst_policy_role *old)
{
    role->rules = old->rules;
    atomic_fetch_add_explicit(&role->rules->refs, 1, memory_order_relaxed);
}

/* marks[index] of those of the ids that the policy has. */
static bool *mark_roles(const struct pst_policy *p, const uint32_t *ids, uint32_t count)
{
    bool *marks = calloc((size_t)p->role_count + 1, sizeof(*marks));

    for (uint32_t i = 0; marks != NULL && i < count; i++) {
        uint32_t index = role_index(p, ids[i]);
        if (index != UINT32_MAX)
            marks[index] = true;
    }
    return marks;
}

static int compare_ids(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

static uint32_t *sorted_gone(const struct pst_model *m)
{
    uint32_t *gone = calloc((size_t)m->gone_count + 1, sizeof(*gone));

    if (gone == NULL || m->gone_count == 0)
        return gone;
    memcpy(gone, m->gone, m->gone_count * sizeof(*gone));
    qsort(gone, m->gone_count, sizeof(*gone), compare_ids);
    return gone;
}

/* base NULL: there is none. */
static enum pst_status build_role(struct pst_policy *p, struct pst_policy_role *role,
                                  const struct pst_role_row *row, const struct pst_policy *base,
                                  struct pst_rules_change *c, struct pst_error *error)
{
    const struct pst_policy_role *old = base == NULL ? NULL : pst_policy_find_role(base, row->id);

    if (!row->partial)
        return pst_rules_build(&p->key, c->rows, c->count, &role->rules, error);
    if (old == NULL)
        return pst_error_set(error, PST_E_INVALID, NULL, "a part of role %u without the rest",
                             row->id);
    c->base = old->rules;
    c->total = row->total;
    return pst_rules_change(&p->key, c, &role->rules, error);
}

/* Those of the model, which are the policy's last; what is before them has its rules. */
static enum pst_status build_roles(struct pst_policy *p, const struct pst_model *m,
                                   const struct pst_policy *base, struct pst_error *error)
{
    uint32_t shared = p->role_count - m->role_count, *gone = sorted_gone(m);
    struct grouping g = {0};
    enum pst_status status = group_rows(p, m, &g, error);

    if (status == PST_OK && gone == NULL)
        status = pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    for (uint32_t i = shared; i < p->role_count && status == PST_OK; i++) {
        struct pst_rules_change c = {.gone = gone,
                                     .gone_count = m->gone_count,
                                     .rows = g.rows + g.first[i],
                                     .count = g.first[i + 1] - g.first[i]};
        order_rows(g.rows + g.first[i], c.count, g.late);
        status = build_role(p, &p->roles[i], &m->roles[i - shared], base, &c, error);
    }
    free(g.rows);
    free(g.late);
    free(g.first);
    free(gone);
    return status;
}

enum pst_status pst_policy_start(struct pst_hash_key key,
                                 const struct pst_workspace_row *workspaces,
                                 uint32_t workspace_count, uint32_t roles, size_t role_text,
                                 struct pst_policy **out, struct pst_error *error)
{
    enum pst_status status = PST_OK;
    size_t text = role_text;

    for (uint32_t i = 0; i < workspace_count; i++)
        text += workspaces[i].name.len + workspaces[i].organization.len;
    *out = allocate(roles, workspace_count, text);
    if (*out == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    (*out)->key = key;
    for (uint32_t i = 0; i < workspace_count && status == PST_OK; i++)
        status = add_workspace(*out, workspaces[i], error);
    return status;
}

static size_t role_text(const struct pst_model *m)
{
    size_t text = 0;

    for (uint32_t i = 0; i < m->role_count; i++)
        text += m->roles[i].name.len;
    return text;
}

enum pst_status pst_policy_finish(struct pst_policy *p, enum pst_status status,
                                  struct pst_policy **out)
{
    if (status != PST_OK)
        free_policy(p);
    *out = status == PST_OK ? p : NULL;
    for (uint32_t i = 0; status == PST_OK && i < p->role_count; i++)
        p->direct = p->direct || p->roles[i].rules->direct_count != 0;
    return status;
}

enum pst_status pst_policy_compile(const struct pst_model *m, struct pst_policy **out,
                                   struct pst_error *error)
{
    struct pst_policy *p;
    enum pst_status status =
        pst_policy_start(pst_random_hash_key(), m->workspaces, m->workspace_count, m->role_count,
                         role_text(m), &p, error);

    if (status == PST_OK)
        status = add_roles(p, m, error);
    if (status == PST_OK)
        status = build_roles(p, m, NULL, error);
    return pst_policy_finish(p, status, out);
}

/* Takes over what is not marked. */
static enum pst_status keep_roles(struct pst_policy *p, const struct pst_policy *base,
                                  const bool *marks, struct pst_error *error)
{
    for (uint32_t i = 0; i < base->role_count; i++) {
        const struct pst_policy_role *old = &base->roles[i];
        struct pst_role_row row = {
            .id = old->id, .name = old->name, .workspace = old->workspace, .builtin = old->builtin};
        if (marks[i])
            continue;
        enum pst_status status = pst_policy_add_role(p, &row, error);
        if (status != PST_OK)
            return status;
        share_rules(&p->roles[p->role_count - 1], old);
    }
    return PST_OK;
}

static enum pst_status patch_marked(const struct pst_policy *base, const struct pst_policy_patch *c,
                                    const bool *marks, struct pst_policy **out,
                                    struct pst_error *error)
{
    const struct pst_model *m = c->model;
    uint32_t roles = m->role_count;
    size_t text = role_text(m);
    struct pst_policy *p;

    for (uint32_t i = 0; i < base->role_count; i++) {
        roles += !marks[i];
        text += marks[i] ? 0 : base->roles[i].name.len;
    }
    enum pst_status status =
        c->workspaces
            ? pst_policy_start(base->key, m->workspaces, m->workspace_count, roles, text, &p, error)
            : pst_policy_start(base->key, base->workspaces, base->workspace_count, roles, text, &p,
                               error);
    if (status == PST_OK)
        status = keep_roles(p, base, marks, error);
    if (status == PST_OK)
        status = add_roles(p, m, error);
    if (status == PST_OK)
        status = build_roles(p, m, base, error);
    return pst_policy_finish(p, status, out);
}

enum pst_status pst_policy_patch(const struct pst_policy *base,
                                 const struct pst_policy_patch *patch, struct pst_policy **out,
                                 struct pst_error *error)
{
    bool *marks = mark_roles(base, patch->touched, patch->touched_count);

    *out = NULL;
    if (marks == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    enum pst_status status = patch_marked(base, patch, marks, out, error);
    free(marks);
    return status;
}

uint32_t *pst_policy_permissions(const struct pst_policy *p, uint32_t role, uint32_t *count)
{
    const struct pst_policy_role *found = pst_policy_find_role(p, role);
    uint32_t *ids = found == NULL ? NULL : pst_rules_permissions(found->rules);

    *count = ids == NULL ? 0 : (uint32_t)found->rules->permissions;
    return ids;
}

#define FEW_WORKSPACES 4u /* are compared sooner than hashed */

uint32_t pst_policy_workspace(const struct pst_policy *p, struct pst_bytes name)
{
    if (p->workspace_count <= FEW_WORKSPACES) {
        for (uint32_t i = 0; i < p->workspace_count; i++)
            if (pst_short_equal(p->workspaces[i].name, name))
                return p->workspaces[i].id;
        return 0;
    }
    for (uint32_t at = (uint32_t)pst_text_hash(&p->key, name) & p->workspace_mask;;
         at = (at + 1) & p->workspace_mask) {
        if (p->workspace_slots[at] == 0)
            return 0;
        const struct pst_workspace_row *w = &p->workspaces[p->workspace_slots[at] - 1];
        if (pst_short_equal(w->name, name))
            return w->id;
    }
}

struct pst_bytes pst_policy_workspace_name(const struct pst_policy *p, uint32_t id)
{
    for (uint32_t at = pst_role_hash(id) & p->workspace_mask;; at = (at + 1) & p->workspace_mask) {
        if (p->workspace_ids[at] == 0)
            return (struct pst_bytes){0};
        if (p->workspaces[p->workspace_ids[at] - 1].id == id)
            return p->workspaces[p->workspace_ids[at] - 1].name;
    }
}

uint32_t pst_policy_role(const struct pst_policy *p, struct pst_bytes name, uint32_t workspace)
{
    uint32_t global = 0;

    for (uint32_t i = 0; i < p->role_count; i++) {
        if (!pst_bytes_equal(p->roles[i].name, name))
            continue;
        if (p->roles[i].workspace == workspace)
            return p->roles[i].id;
        if (p->roles[i].workspace == 0)
            global = p->roles[i].id;
    }
    return global;
}

struct pst_bytes pst_policy_role_name(const struct pst_policy *p, uint32_t id)
{
    const struct pst_policy_role *role = pst_policy_find_role(p, id);

    return role == NULL ? (struct pst_bytes){0} : role->name;
}

void pst_policy_stats(const struct pst_policy *p, struct pst_policy_stats *out)
{
    *out = (struct pst_policy_stats){.workspaces = p->workspace_count, .roles = p->role_count};
    out->bytes =
        sizeof(*p) + p->text_len + p->role_count * sizeof(*p->roles) +
        p->workspace_count * sizeof(*p->workspaces) +
        ((size_t)p->role_mask + 1 + 2 * ((size_t)p->workspace_mask + 1)) * sizeof(uint32_t);
    for (uint32_t i = 0; i < p->role_count; i++) {
        out->permissions += p->roles[i].rules->permissions;
        out->rows += p->roles[i].rules->rule_count;
        out->bytes += p->roles[i].rules->bytes;
    }
}
