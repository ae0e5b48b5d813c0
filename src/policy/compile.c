/*
 * A policy is a block of roles and workspaces with two small tables; what is large, the rows,
 * belongs to the roles' indexes (rules.c), which policies share.
 */
#include "postern/policy/compile.h"

#include <stdlib.h>

#include "postern/base/secret.h"
#include "rules.h"

/* Permission rows of the model, grouped by role: rows[first[i]..first[i+1]) belong to
 * model->roles[i]. */
struct grouping {
    const struct pst_permission_row **rows;
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

static struct pst_policy *allocate(const struct pst_model *m)
{
    struct pst_policy *p = calloc(1, sizeof(*p));
    size_t text = 1;

    if (p == NULL)
        return NULL;
    for (uint32_t i = 0; i < m->role_count; i++)
        text += m->roles[i].name.len;
    for (uint32_t i = 0; i < m->workspace_count; i++)
        text += m->workspaces[i].name.len + m->workspaces[i].organization.len;
    p->role_mask = table_mask(m->role_count);
    p->workspace_mask = table_mask(m->workspace_count);
    p->roles = calloc((size_t)m->role_count + 1, sizeof(*p->roles));
    p->workspaces = calloc((size_t)m->workspace_count + 1, sizeof(*p->workspaces));
    p->role_slots = calloc((size_t)p->role_mask + 1, sizeof(*p->role_slots));
    p->workspace_slots = calloc((size_t)p->workspace_mask + 1, sizeof(*p->workspace_slots));
    p->workspace_ids = calloc((size_t)p->workspace_mask + 1, sizeof(*p->workspace_ids));
    p->text = malloc(text);
    if (p->roles == NULL || p->workspaces == NULL || p->role_slots == NULL ||
        p->workspace_slots == NULL || p->workspace_ids == NULL || p->text == NULL) {
        free_policy(p);
        return NULL;
    }
    p->snapshot.destroy = destroy_snapshot;
    return p;
}

static enum pst_status add_workspaces(struct pst_policy *p, const struct pst_model *m,
                                      struct pst_error *error)
{
    for (uint32_t i = 0; i < m->workspace_count; i++) {
        struct pst_workspace_row row = m->workspaces[i];
        uint32_t at = (uint32_t)pst_hash(&p->key, row.name) & p->workspace_mask;

        for (; p->workspace_slots[at] != 0; at = (at + 1) & p->workspace_mask)
            if (pst_bytes_equal(p->workspaces[p->workspace_slots[at] - 1].name, row.name))
                return pst_error_set(error, PST_E_INVALID, NULL, "workspace %.*s stands twice",
                                     (int)row.name.len, row.name.ptr);
        uint32_t id_at = pst_role_hash(row.id) & p->workspace_mask;
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
    }
    return PST_OK;
}

static enum pst_status add_roles(struct pst_policy *p, const struct pst_model *m,
                                 struct pst_error *error)
{
    for (uint32_t i = 0; i < m->role_count; i++) {
        const struct pst_role_row *row = &m->roles[i];
        uint32_t at = pst_role_hash(row->id) & p->role_mask;

        for (; p->role_slots[at] != 0; at = (at + 1) & p->role_mask)
            if (p->roles[p->role_slots[at] - 1].id == row->id)
                return pst_error_set(error, PST_E_INVALID, NULL, "role id %u stands twice",
                                     row->id);
        p->roles[p->role_count++] = (struct pst_policy_role){.name = keep(p, row->name),
                                                             .id = row->id,
                                                             .workspace = row->workspace,
                                                             .builtin = row->builtin};
        p->role_slots[at] = p->role_count;
    }
    return PST_OK;
}

static uint32_t role_index(const struct pst_policy *p, uint32_t id)
{
    const struct pst_policy_role *role = pst_policy_find_role(p, id);

    return role == NULL ? UINT32_MAX : (uint32_t)(role - p->roles);
}

/* Counting sort of the permission rows by role. */
static enum pst_status group_rows(const struct pst_policy *p, const struct pst_model *m,
                                  struct grouping *g, struct pst_error *error)
{
    g->rows = calloc((size_t)m->permission_count + 1, sizeof(*g->rows));
    g->first = calloc((size_t)p->role_count + 2, sizeof(*g->first));
    if (g->rows == NULL || g->first == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    for (uint32_t i = 0; i < m->permission_count; i++) {
        uint32_t role = role_index(p, m->permissions[i].role);
        if (role == UINT32_MAX)
            return pst_error_set(error, PST_E_INVALID, NULL,
                                 "permission %llu names role %u, which is not there",
                                 (unsigned long long)m->permissions[i].id, m->permissions[i].role);
        g->first[role + 2]++;
    }
    for (uint32_t i = 2; i < p->role_count + 2; i++)
        g->first[i] += g->first[i - 1];
    for (uint32_t i = 0; i < m->permission_count; i++)
        g->rows[g->first[role_index(p, m->permissions[i].role) + 1]++] = &m->permissions[i];
    return PST_OK;
}

static bool is_changed(const struct pst_policy *base, const uint32_t *changed, uint32_t count,
                       uint32_t id)
{
    if (base == NULL)
        return true;
    for (uint32_t i = 0; i < count; i++)
        if (changed[i] == id)
            return true;
    return false;
}

static enum pst_status share_rules(const struct pst_policy *base, struct pst_policy_role *role,
                                   struct pst_error *error)
{
    const struct pst_policy_role *old = pst_policy_find_role(base, role->id);

    if (old == NULL)
        return pst_error_set(error, PST_E_ABSENT, NULL, "role %u is new and not named as changed",
                             role->id);
    role->rules = old->rules;
    atomic_fetch_add_explicit(&role->rules->refs, 1, memory_order_relaxed);
    return PST_OK;
}

static enum pst_status build_roles(struct pst_policy *p, const struct pst_policy *base,
                                   const struct grouping *g, const uint32_t *changed,
                                   uint32_t count, struct pst_error *error)
{
    for (uint32_t i = 0; i < p->role_count; i++) {
        struct pst_policy_role *role = &p->roles[i];
        enum pst_status status =
            is_changed(base, changed, count, role->id)
                ? pst_rules_build(&p->key, g->rows + g->first[i], g->first[i + 1] - g->first[i],
                                  &role->rules, error)
                : share_rules(base, role, error);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

enum pst_status pst_policy_rebuild(const struct pst_policy *base, const struct pst_model *model,
                                   const uint32_t *changed, uint32_t changed_count,
                                   struct pst_policy **out, struct pst_error *error)
{
    struct pst_policy *p = allocate(model);
    struct grouping g = {0};
    enum pst_status status;

    *out = NULL;
    if (p == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    p->key = base == NULL ? pst_random_hash_key() : base->key;
    status = add_workspaces(p, model, error);
    if (status == PST_OK)
        status = add_roles(p, model, error);
    if (status == PST_OK)
        status = group_rows(p, model, &g, error);
    if (status == PST_OK)
        status = build_roles(p, base, &g, changed, changed_count, error);
    free(g.rows);
    free(g.first);
    if (status != PST_OK)
        free_policy(p);
    else
        *out = p;
    return status;
}

enum pst_status pst_policy_compile(const struct pst_model *model, struct pst_policy **out,
                                   struct pst_error *error)
{
    return pst_policy_rebuild(NULL, model, NULL, 0, out, error);
}

uint32_t pst_policy_workspace(const struct pst_policy *p, struct pst_bytes name)
{
    for (uint32_t at = (uint32_t)pst_hash(&p->key, name) & p->workspace_mask;;
         at = (at + 1) & p->workspace_mask) {
        if (p->workspace_slots[at] == 0)
            return 0;
        const struct pst_workspace_row *w = &p->workspaces[p->workspace_slots[at] - 1];
        if (pst_bytes_equal(w->name, name))
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
