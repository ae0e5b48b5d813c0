/*
 * naive.h - a second evaluator, slow and direct: it reads the rows of the model one by one, as the rules
 *           are written down, without indexes, batches or masks. And a generator of random worlds.
 *
 * It knows nothing of level tables: those have vectors of their own.
 */
#ifndef POSTERN_TESTS_NAIVE_H
#define POSTERN_TESTS_NAIVE_H

#include <stdio.h>
#include <stdlib.h>

#include "postern/policy/eval.h"

/* ---- bytes to choices ---- */

struct chooser {
    const uint8_t *data;
    size_t len, at;
    uint64_t state; /* used when data is NULL */
};

static inline unsigned choose(struct chooser *c, unsigned below)
{
    if (c->data != NULL)
        return c->at < c->len ? c->data[c->at++] % below : 0;
    c->state = c->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(c->state >> 33) % below;
}

/* ---- a world ---- */

#define NV_ROLES      4
#define NV_ATTRIBUTES 80
#define NV_KEYS       3

struct world {
    struct pst_model model;
    struct pst_policy *policy;
    struct pst_policy_settings settings;
    struct pst_facts facts;
    struct pst_binding bindings[12];
    uint32_t extra_roles[2];
    struct pst_bytes attributes[PST_ATTR_KINDS][NV_ATTRIBUTES];
    struct pst_requirement requirement;
    struct pst_question question;
};

static const char *const NV_ENTITIES[] = {"Pipeline", "Block", "User", "Workspace", "postern:secret",
                                          "ALL", "ALL_EXCEPT_RESERVED", "workspace"};
static const char *const NV_IDS[] = {"p1", "p2", "7", "", "p1x"};
static const char *const NV_NAMES[] = {"name", "id", "user_id", "__*MAGE*__", "_limit", "api_key"};
static const char *const NV_TYPES[] = {"", "streaming", "python"};
static char nv_many[NV_ATTRIBUTES][8]; /* k0, k1, ...: more than one block of the evaluator */

static inline struct pst_bytes nv_text(const char *text)
{
    return pst_bytes_of(text, strlen(text));
}

static inline struct pst_bytes nv_name(struct chooser *c)
{
    unsigned pick = choose(c, 12);

    if (pick < 6)
        return nv_text(NV_NAMES[pick]);
    pick = choose(c, NV_ATTRIBUTES);
    snprintf(nv_many[pick], sizeof(nv_many[pick]), "k%u", pick);
    return nv_text(nv_many[pick]);
}

static inline uint64_t nv_access(struct chooser *c)
{
    static const uint64_t PRESETS[] = {PST_A_ALL,
                                       PST_A_LIST | PST_A_DETAIL,
                                       PST_A_LIST | PST_A_DETAIL | PST_A_USE | PST_A_UPDATE,
                                       PST_A_SPEAKS,
                                       PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_USE |
                                           PST_A_DISABLE_MANAGE,
                                       PST_A_OPERATION_ALL | PST_A_READ_ALL,
                                       PST_A_OPERATION_ALL | PST_A_READ | PST_A_WRITE | PST_A_QUERY};
    uint64_t access = 0;

    if (choose(c, 3) == 0)
        return PRESETS[choose(c, sizeof(PRESETS) / sizeof(PRESETS[0]))];
    for (unsigned n = 1 + choose(c, 4); n > 0; n--)
        access |= UINT64_C(1) << choose(c, 38);
    if (choose(c, 4) != 0) /* owners decide too much to be frequent */
        access &= ~(PST_A_OWNER | PST_A_ALL);
    return access;
}

static inline void nv_row(struct world *w, struct chooser *c)
{
    struct pst_bytes lists[PST_ATTR_KINDS][6];
    struct pst_permission_row row = {.id = w->model.permission_count + 1};

    row.role = 1 + choose(c, NV_ROLES);
    row.has_access = choose(c, 12) != 0;
    row.access = nv_access(c);
    row.direct = choose(c, 10) == 0;
    row.scope = (enum pst_scope)choose(c, 3);
    if (choose(c, 12) != 0)
        row.entity = nv_text(NV_ENTITIES[choose(c, 8)]);
    row.has_entity_id = choose(c, 3) == 0;
    if (row.has_entity_id)
        row.entity_id = nv_text(NV_IDS[choose(c, 5)]);
    if (choose(c, 8) == 0)
        row.entity_type = nv_text(NV_TYPES[choose(c, 3)]);
    if (choose(c, 4) == 0)
        row.conditions = choose(c, 8);
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        row.attribute_count[kind] = choose(c, 3) == 0 ? choose(c, 6) : 0;
        for (uint32_t i = 0; i < row.attribute_count[kind]; i++)
            lists[kind][i] = nv_name(c);
        row.attributes[kind] = lists[kind];
    }
    if (pst_model_add_permission(&w->model, &row) != PST_OK)
        abort();
}

static inline void nv_model(struct world *w, struct chooser *c)
{
    static const char *const NAMES[NV_ROLES] = {"r1", "r2", "__user_7__", "r4"};
    static const struct pst_workspace_row SPACES[] = {
        {.id = 1, .name = {"default", 7}, .kind = PST_WORKSPACE_DEFAULT}, {.id = 2, .name = {"b", 1}}};

    pst_model_init(&w->model, 1u << 20);
    for (unsigned i = 0; i < 2; i++)
        if (pst_model_add_workspace(&w->model, &SPACES[i]) != PST_OK)
            abort();
    for (uint32_t i = 0; i < NV_ROLES; i++) {
        struct pst_role_row row = {.id = i + 1, .name = nv_text(NAMES[i]),
                                   .workspace = choose(c, 4) == 0 ? 1 + choose(c, 2) : 0};
        if (pst_model_add_role(&w->model, &row) != PST_OK)
            abort();
    }
    for (unsigned n = choose(c, 14); n > 0; n--)
        nv_row(w, c);
}

static inline void nv_key(struct pst_key *key, struct chooser *c)
{
    key->entity = nv_text(NV_ENTITIES[choose(c, 5)]);
    key->id_state = (enum pst_id_state)choose(c, 3);
    if (key->id_state == PST_ID_KNOWN)
        key->id = nv_text(NV_IDS[choose(c, 5)]);
    key->op = (enum pst_op)choose(c, PST_OPS);
}

static inline void nv_requirement(struct world *w, struct chooser *c)
{
    struct pst_requirement *r = &w->requirement;

    *r = (struct pst_requirement){0};
    r->key_count = w->question.combining == PST_MOST_SPECIFIC ? 1 + choose(c, NV_KEYS) : 1;
    for (uint32_t k = 0; k < r->key_count; k++)
        nv_key(&r->keys[k], c);
    if (choose(c, 6) == 0)
        r->or_entity = nv_text(NV_ENTITIES[choose(c, 5)]);
    r->subtype = nv_text(NV_TYPES[choose(c, 3)]);
    r->pipeline = choose(c, 3) == 0 ? nv_text(NV_IDS[choose(c, 5)]) : (struct pst_bytes){0};
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        r->attribute_count[kind] = choose(c, 2) == 0 ? 0 : choose(c, choose(c, 5) == 0 ? NV_ATTRIBUTES : 4);
        for (uint32_t i = 0; i < r->attribute_count[kind]; i++)
            w->attributes[kind][i] = nv_name(c);
        r->attributes[kind] = w->attributes[kind];
    }
}

static inline void nv_make(struct world *w, struct chooser *c)
{
    struct pst_error error;

    *w = (struct world){0};
    nv_model(w, c);
    if (pst_policy_compile(&w->model, &w->policy, &error) != PST_OK)
        abort();
    w->settings.notebook_edit = (uint8_t)choose(c, 3);
    w->settings.project_uuid = nv_text(NV_IDS[choose(c, 3)]);
    w->settings.workspaces = choose(c, 3) != 0;
    w->settings.default_permission = choose(c, 2) == 0 ? 0 : PST_A_LIST | PST_A_DETAIL;
    w->settings.grant_default_workspace_access = choose(c, 3) == 0;
    w->facts = (struct pst_facts){.user_id = 7, .name = PST_LIT("u"), .bindings = w->bindings};
    w->facts.legacy_level = choose(c, 40) == 0 ? UINT32_C(1) << 31 : choose(c, 8);
    /* Now and then more bindings than one batch of the evaluator takes. */
    w->facts.binding_count = choose(c, choose(c, 4) == 0 ? 13 : 5);
    for (uint32_t i = 0; i < w->facts.binding_count; i++)
        w->bindings[i] = (struct pst_binding){.id = i + 1, .role = 1 + choose(c, NV_ROLES + 1),
                                              .workspace = choose(c, 3)};
    for (unsigned i = 0; i < 2; i++)
        w->extra_roles[i] = 1 + choose(c, NV_ROLES);
    w->question = (struct pst_question){
        .policy = w->policy, .settings = &w->settings, .workspace = choose(c, 3),
        .combining = (enum pst_combining)choose(c, 2), .requirements = &w->requirement,
        .requirement_count = 1};
    w->question.caller = (struct pst_caller){.facts = &w->facts, .extra_roles = w->extra_roles,
                                             .extra_role_count = choose(c, 5) == 0 ? 1 + choose(c, 2) : 0};
    if (choose(c, 4) == 0)
        w->question.caller.own_id = nv_text(NV_IDS[choose(c, 3)]);
    nv_requirement(w, c);
}

static inline void nv_free(struct world *w)
{
    pst_policy_destroy(w->policy);
    pst_model_fini(&w->model);
}

/* ---- who holds what ---- */

static inline const struct pst_role_row *nv_role(const struct world *w, uint32_t id)
{
    for (uint32_t i = 0; i < w->model.role_count; i++)
        if (w->model.roles[i].id == id)
            return &w->model.roles[i];
    return NULL;
}

/* A binding counts when it is global or of this workspace, and so does its role. */
static inline bool nv_holds(const struct world *w, uint32_t role_id, uint32_t workspace)
{
    const struct pst_role_row *role = nv_role(w, role_id);
    const struct pst_caller *caller = &w->question.caller;

    if (role == NULL || (role->workspace != 0 && role->workspace != workspace))
        return false;
    for (uint32_t i = 0; i < caller->extra_role_count; i++)
        if (caller->extra_roles[i] == role_id)
            return true;
    for (uint32_t i = 0; i < w->facts.binding_count; i++)
        if (w->bindings[i].role == role_id &&
            (w->bindings[i].workspace == 0 || w->bindings[i].workspace == workspace))
            return true;
    return false;
}

static inline bool nv_is(struct pst_bytes text, const char *word)
{
    return pst_bytes_equal(text, nv_text(word));
}

static inline bool nv_reserved(struct pst_bytes e)
{
    return nv_is(e, "Oauth") || nv_is(e, "OauthAccessToken") || nv_is(e, "OauthApplication") ||
           nv_is(e, "Workspace") || pst_bytes_starts(e, PST_LIT("postern:"));
}

static inline bool nv_all(const struct pst_permission_row *p)
{
    return nv_is(p->entity, "ALL") || nv_is(p->entity, "ALL_EXCEPT_RESERVED");
}

static inline bool nv_entity_matches(const struct pst_permission_row *p, struct pst_bytes entity)
{
    return p->entity.len > 0 &&
           (pst_bytes_equal(p->entity, entity) || nv_is(p->entity, "ALL") ||
            (nv_is(p->entity, "ALL_EXCEPT_RESERVED") && !nv_reserved(entity)));
}

static inline uint64_t nv_groups(uint64_t a)
{
    if (a & PST_A_VIEWER)
        a |= 8248;
    if (a & PST_A_EDITOR)
        a |= 43772;
    if (a & PST_A_ADMIN)
        a |= 43774;
    return a;
}

static inline bool nv_own(const struct world *w, const struct pst_key *key)
{
    struct pst_bytes own = w->question.caller.own_id;

    if (key->id_state != PST_ID_KNOWN || key->id.len == 0)
        return false;
    return own.len > 0 ? pst_bytes_equal(own, key->id) : nv_is(key->id, "7");
}

static inline bool nv_conditions(const struct world *w, const struct pst_permission_row *p,
                                 const struct pst_key *key, struct pst_bytes entity)
{
    if ((p->conditions & PST_COND_NOTEBOOK_EDIT) && w->settings.notebook_edit == 1)
        return false;
    if ((p->conditions & PST_COND_PIPELINE_EDIT) && w->settings.notebook_edit >= 1)
        return false;
    return !((p->conditions & PST_COND_OWNS_ENTITY) && nv_is(entity, "User") && !nv_own(w, key));
}

static inline bool nv_type(const struct world *w, const struct pst_permission_row *p)
{
    return p->entity_type.len == 0 || pst_bytes_equal(p->entity_type, w->requirement.subtype);
}

static inline uint64_t nv_op_bit(enum pst_op op, bool disable)
{
    switch (op) {
    case PST_OP_LIST:
        return disable ? PST_A_DISABLE_LIST : PST_A_LIST;
    case PST_OP_DETAIL:
        return disable ? PST_A_DISABLE_DETAIL : PST_A_DETAIL;
    case PST_OP_CREATE:
        return disable ? PST_A_DISABLE_CREATE : PST_A_CREATE;
    case PST_OP_UPDATE:
        return disable ? PST_A_DISABLE_UPDATE : PST_A_UPDATE;
    case PST_OP_DELETE:
        return disable ? PST_A_DISABLE_DELETE : PST_A_DELETE;
    case PST_OP_USE:
        return disable ? PST_A_DISABLE_USE : PST_A_USE;
    case PST_OP_MANAGE:
        return disable ? PST_A_DISABLE_MANAGE : PST_A_MANAGE;
    case PST_OP_NONE:
    case PST_OP_NOT_DENIED:
    case PST_OPS:
        break;
    }
    return 0;
}

static inline bool nv_five(enum pst_op op)
{
    return op >= PST_OP_LIST && op <= PST_OP_DELETE;
}

/* ---- deny-overrides ---- */

enum nv_answer { NV_NOTHING, NV_GRANT, NV_DENY };

static inline bool nv_listed(const struct pst_permission_row *p, unsigned kind, struct pst_bytes attr)
{
    for (uint32_t i = 0; i < p->attribute_count[kind]; i++)
        if (pst_bytes_equal(p->attributes[kind][i], attr) ||
            (kind == PST_ATTR_QUERY && nv_is(p->attributes[kind][i], "__*MAGE*__")))
            return true;
    return false;
}

#define NV_NO_KIND PST_ATTR_KINDS

static inline enum nv_answer nv_one(const struct world *w, const struct pst_permission_row *p,
                                    struct pst_bytes entity, unsigned kind, struct pst_bytes attr)
{
    static const uint64_t SOME[] = {PST_A_QUERY, PST_A_WRITE, PST_A_READ};
    static const uint64_t EVERY[] = {PST_A_QUERY_ALL, PST_A_WRITE_ALL, PST_A_READ_ALL};
    static const uint64_t NOT_SOME[] = {PST_A_DISABLE_QUERY, PST_A_DISABLE_WRITE, PST_A_DISABLE_READ};
    static const uint64_t NOT_ANY[] = {PST_A_DISABLE_QUERY_ALL, PST_A_DISABLE_WRITE_ALL,
                                       PST_A_DISABLE_READ_ALL};
    const struct pst_key *key = &w->requirement.keys[0];
    bool object = key->id_state == PST_ID_KNOWN;
    uint64_t a = p->access, b = nv_groups(a);

    if (!p->has_access || p->direct || !nv_entity_matches(p, entity))
        return NV_NOTHING;
    if (p->has_entity_id && object &&
        (p->entity_id.len == 0 || !pst_bytes_equal(p->entity_id, key->id)))
        return NV_NOTHING;
    bool usable = nv_type(w, p) && !(p->has_entity_id && !object) &&
                  (kind != NV_NO_KIND || !(a & PST_A_ATTRIBUTES_ONLY));
    if (a & nv_op_bit(key->op, true))
        return NV_DENY;
    if (b & PST_A_ALL)
        return usable ? NV_GRANT : NV_NOTHING;
    if (b & PST_A_DISABLE_OPERATION_ALL)
        return NV_DENY;
    bool ok = (nv_five(key->op) && (b & PST_A_OPERATION_ALL)) || (b & nv_op_bit(key->op, false));
    if (kind != NV_NO_KIND) {
        if (b & NOT_ANY[kind])
            return NV_DENY;
        bool all = (b & EVERY[kind]) != 0;
        ok = ok && ((b & SOME[kind]) || all);
        if ((a & NOT_SOME[kind]) && nv_listed(p, kind, attr))
            return NV_DENY;
        if (!all && ok)
            ok = nv_listed(p, kind, attr);
    }
    return ok && usable && nv_conditions(w, p, key, entity) ? NV_GRANT : NV_NOTHING;
}

static inline bool nv_check(const struct world *w, struct pst_bytes entity, unsigned kind,
                            struct pst_bytes attr)
{
    bool granted = false, denied = false;

    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        if (!nv_holds(w, p->role, w->question.workspace))
            continue;
        enum nv_answer answer = nv_one(w, p, entity, kind, attr);
        granted |= answer == NV_GRANT;
        denied |= answer == NV_DENY;
    }
    return granted && !denied;
}

static inline bool nv_project_row(const struct world *w, const struct pst_permission_row *p)
{
    return p->direct && p->has_access && (p->access & PST_A_KNOWN) != 0 &&
           p->scope == PST_SCOPE_PROJECT && p->has_entity_id && p->entity_id.len > 0 &&
           pst_bytes_equal(p->entity_id, w->settings.project_uuid);
}

/* Rows on the project hide the global ones of their role. */
static inline bool nv_has_project_row(const struct world *w, uint32_t role)
{
    for (uint32_t i = 0; i < w->model.permission_count; i++)
        if (w->model.permissions[i].role == role && nv_project_row(w, &w->model.permissions[i]))
            return true;
    return false;
}

static inline bool nv_owner_row(const struct world *w, const struct pst_permission_row *p,
                                struct pst_bytes entity)
{
    const struct pst_key *key = &w->requirement.keys[0];
    bool object = key->id_state == PST_ID_KNOWN;

    if (!p->has_access || !(p->access & PST_A_OWNER))
        return false;
    if (p->direct) /* without a table every entity asks for the project */
        return p->scope == PST_SCOPE_GLOBAL ? !nv_has_project_row(w, p->role) : nv_project_row(w, p);
    if (!nv_entity_matches(p, entity) || !nv_type(w, p))
        return false;
    return !p->has_entity_id ||
           (object && p->entity_id.len > 0 && pst_bytes_equal(p->entity_id, key->id));
}

static inline bool nv_overrides(const struct world *w, struct pst_bytes entity)
{
    const struct pst_requirement *r = &w->requirement;
    enum pst_op op = r->keys[0].op;

    if (w->facts.legacy_level & UINT32_C(1) << 31)
        return true;
    for (uint32_t i = 0; i < w->model.permission_count; i++)
        if (nv_holds(w, w->model.permissions[i].role, w->question.workspace) &&
            nv_owner_row(w, &w->model.permissions[i], entity))
            return true;
    if (!nv_check(w, entity, NV_NO_KIND, (struct pst_bytes){0}))
        return false;
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        for (uint32_t i = 0; i < r->attribute_count[kind]; i++) {
            struct pst_bytes name = r->attributes[kind][i];
            bool skipped = kind == PST_ATTR_QUERY &&
                           (op == PST_OP_CREATE || op == PST_OP_DELETE || nv_is(name, "api_key") ||
                            (name.len > 0 && name.ptr[0] == '_'));
            if (!skipped && !nv_check(w, entity, kind, name))
                return false;
        }
    }
    return true;
}

/* ---- most-specific ---- */

#define NV_OPS (PST_A_LIST | PST_A_DETAIL | PST_A_CREATE | PST_A_UPDATE | PST_A_DELETE |             \
                PST_A_OPERATION_ALL | PST_A_USE | PST_A_MANAGE | PST_A_ALL | PST_A_OWNER)

static inline uint64_t nv_denials(enum pst_op op)
{
    uint64_t all = PST_A_DISABLE_OPERATION_ALL;

    return op == PST_OP_NOT_DENIED
               ? all | PST_A_DISABLE_LIST | PST_A_DISABLE_DETAIL | PST_A_DISABLE_CREATE
               : all | nv_op_bit(op, true);
}

static inline bool nv_allows(uint64_t grants, enum pst_op op)
{
    if (op == PST_OP_NOT_DENIED)
        return true;
    if (nv_op_bit(op, false) == 0)
        return false;
    return (grants & (nv_op_bit(op, false) | PST_A_ALL | PST_A_OWNER)) != 0 ||
           (nv_five(op) && (grants & PST_A_OPERATION_ALL));
}

static inline uint64_t nv_raise(const struct world *w, uint64_t grants)
{
    return grants & NV_OPS ? grants | w->settings.default_permission : grants;
}

/* -1 denied, 0 silent, 1 speaks: with *grants. `least`: rows on ALL without an id, grants only. */
static inline int nv_key_says(const struct world *w, const struct pst_key *key, struct pst_bytes entity,
                              struct pst_bytes id, bool least, uint64_t *grants)
{
    int says = 0;

    *grants = 0;
    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        if (!p->has_access || p->direct || !nv_holds(w, p->role, w->question.workspace) ||
            !nv_entity_matches(p, entity))
            continue;
        if (p->has_entity_id && (id.len == 0 || !pst_bytes_equal(p->entity_id, id)))
            continue;
        bool on_all = nv_all(p) && !p->has_entity_id;
        uint64_t b = nv_groups(p->access);
        if (!least && (b & nv_denials(key->op)))
            return -1;
        if (on_all != least || !nv_type(w, p) || !nv_conditions(w, p, key, entity))
            continue;
        uint64_t g = b & PST_A_ATTRIBUTES_ONLY ? 0 : b & NV_OPS;
        if (g != 0 || (b & PST_A_SPEAKS))
            says = 1;
        *grants |= g;
    }
    return says;
}

/* ids[k]: what key k's id is taken to be. */
static inline bool nv_assigned(const struct world *w, struct pst_bytes entity, const struct pst_bytes *ids,
                               uint32_t *reached)
{
    const struct pst_requirement *r = &w->requirement;
    const struct pst_key *last = &r->keys[r->key_count - 1];
    uint64_t grants;

    for (uint32_t k = 0; k < r->key_count; k++) {
        *reached = k;
        int says = nv_key_says(w, &r->keys[k], k == 0 ? entity : r->keys[k].entity, ids[k], false, &grants);
        if (says != 0)
            return says > 0 && nv_allows(nv_raise(w, grants), r->keys[k].op);
    }
    if (nv_key_says(w, last, r->key_count == 1 ? entity : last->entity, ids[r->key_count - 1], true,
                    &grants) > 0)
        return nv_allows(nv_raise(w, grants), last->op);
    bool given = !w->settings.workspaces ||
                 (w->settings.grant_default_workspace_access && w->question.workspace == 1);
    return nv_allows(given ? w->settings.default_permission : 0, last->op);
}

static inline bool nv_holds_ids(const struct world *w, struct pst_bytes entity)
{
    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        if (p->has_access && (p->access & PST_A_KNOWN) != 0 && !p->direct && p->has_entity_id &&
            nv_holds(w, p->role, w->question.workspace) && nv_entity_matches(p, entity))
            return true;
    }
    return false;
}

static inline bool nv_manager(const struct world *w)
{
    uint64_t grants = 0;
    bool denied = false, owner = false;

    if (w->question.workspace == 0)
        return false;
    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        bool lists = p->attribute_count[0] + p->attribute_count[1] + p->attribute_count[2] > 0;
        if (!p->has_access || p->direct || p->has_entity_id ||
            !nv_holds(w, p->role, w->question.workspace))
            continue;
        owner |= nv_is(p->entity, "ALL") && p->entity_type.len == 0 && (p->access & PST_A_OWNER);
        if (!nv_is(p->entity, "workspace"))
            continue;
        denied |= (p->access & PST_A_DISABLE_MANAGE) != 0;
        if (p->conditions == 0 && p->entity_type.len == 0 && !lists &&
            !(p->access & PST_A_ATTRIBUTES_ONLY))
            grants |= p->access;
    }
    return owner || (!denied && (grants & (PST_A_MANAGE | PST_A_ALL | PST_A_OWNER)));
}

/* OWNER on ALL, or a direct OWNER of scope global, in a global role bound everywhere. */
static inline bool nv_admin(const struct world *w)
{
    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        bool owner = p->direct ? p->scope == PST_SCOPE_GLOBAL
                               : nv_is(p->entity, "ALL") && !p->has_entity_id && p->entity_type.len == 0;
        if (p->has_access && owner && (p->access & PST_A_OWNER) && nv_role(w, p->role)->workspace == 0 &&
            nv_holds(w, p->role, UINT32_MAX)) /* only bindings everywhere count there */
            return true;
    }
    return false;
}

struct nv_result {
    bool allow;
    bool possible; /* some id would allow */
};

static inline struct nv_result nv_specific(const struct world *w, struct pst_bytes entity)
{
    const struct pst_requirement *r = &w->requirement;
    const struct pst_bytes candidates[] = {PST_LIT("\1fresh"), PST_LIT("p1"), PST_LIT("p2"),
                                           PST_LIT("7"), PST_LIT("p1x")};
    struct nv_result out = {0};
    struct pst_bytes ids[PST_KEYS_MAX] = {{0}};
    uint32_t picks = 1, reached, ignored;

    if (nv_admin(w) || nv_manager(w))
        return (struct nv_result){true, true};
    for (uint32_t k = 0; k < r->key_count; k++)
        picks *= 5;
    for (uint32_t pick = picks; pick-- > 0;) { /* the last one is "fresh" everywhere */
        uint32_t rest = pick;
        for (uint32_t k = 0; k < r->key_count; k++, rest /= 5) {
            ids[k] = (struct pst_bytes){0};
            if (r->keys[k].id_state == PST_ID_KNOWN)
                ids[k] = r->keys[k].id;
            else if (r->keys[k].id_state == PST_ID_UNKNOWN)
                ids[k] = candidates[rest % 5];
        }
        out.allow = nv_assigned(w, entity, ids, pick == 0 ? &reached : &ignored);
        out.possible |= out.allow;
    }
    for (uint32_t k = 0; k <= reached; k++)
        if (r->keys[k].id_state == PST_ID_UNKNOWN &&
            nv_holds_ids(w, k == 0 ? entity : r->keys[k].entity))
            out.allow = false;
    return out;
}

/* ---- both ---- */

static inline struct nv_result nv_judge(const struct world *w, struct pst_bytes entity)
{
    for (uint32_t k = 0; k < w->requirement.key_count; k++) {
        enum pst_op op = w->requirement.keys[k].op;
        if (op == PST_OP_NONE ||
            (op == PST_OP_NOT_DENIED && w->question.combining == PST_DENY_OVERRIDES))
            return (struct nv_result){false, false};
    }
    if (w->question.combining == PST_MOST_SPECIFIC)
        return nv_specific(w, entity);
    bool allow = nv_overrides(w, entity);
    return (struct nv_result){allow, allow};
}

static inline void nv_dump(const struct world *w)
{
    const struct pst_requirement *r = &w->requirement;

    fprintf(stderr, "combining %d workspace %u nb %u default %llx workspaces %d grant_default %d\n",
            (int)w->question.combining, w->question.workspace, w->settings.notebook_edit,
            (unsigned long long)w->settings.default_permission, w->settings.workspaces,
            w->settings.grant_default_workspace_access);
    for (uint32_t k = 0; k < r->key_count; k++)
        fprintf(stderr, "key %.*s id %d \"%.*s\" op %s\n", (int)r->keys[k].entity.len,
                r->keys[k].entity.ptr, (int)r->keys[k].id_state, (int)r->keys[k].id.len,
                r->keys[k].id.len > 0 ? r->keys[k].id.ptr : "", pst_op_name(r->keys[k].op));
    fprintf(stderr, "or_entity %.*s\n", (int)r->or_entity.len, r->or_entity.len > 0 ? r->or_entity.ptr : "");
    for (uint32_t i = 0; i < w->facts.binding_count; i++)
        fprintf(stderr, "binding role %u workspace %u\n", w->bindings[i].role, w->bindings[i].workspace);
    for (uint32_t i = 0; i < w->model.permission_count; i++) {
        const struct pst_permission_row *p = &w->model.permissions[i];
        fprintf(stderr, "row %u role %u %s%.*s id %d \"%.*s\" type \"%.*s\" cond %x", i + 1, p->role,
                p->direct ? "direct " : "", (int)p->entity.len, p->entity.len > 0 ? p->entity.ptr : "",
                p->has_entity_id, (int)p->entity_id.len, p->entity_id.len > 0 ? p->entity_id.ptr : "",
                (int)p->entity_type.len, p->entity_type.len > 0 ? p->entity_type.ptr : "", p->conditions);
        for (uint64_t bits = p->has_access ? p->access : 0; bits != 0; bits &= bits - 1) {
            const char *name = pst_access_name(bits & (~bits + 1));
            fprintf(stderr, " %s", name == NULL ? "?" : name);
        }
        fprintf(stderr, "\n");
    }
}

static inline bool nv_is_certain(enum pst_reason reason)
{
    return reason != PST_R_NEEDS_LOOKUP && reason != PST_R_NEEDS_FILTER;
}

/* True when both evaluators agree; the world is printed when they do not. */
static inline bool nv_agree(const struct world *w, enum pst_verdict *verdict)
{
    const struct pst_requirement *r = &w->requirement;
    struct nv_result a = nv_judge(w, r->keys[0].entity), b = a;
    struct pst_eval_detail detail;

    *verdict = pst_eval(&w->question, &detail);
    if (r->or_entity.len > 0)
        b = nv_judge(w, r->or_entity);
    bool same = (*verdict == PST_ALLOW) == (a.allow && b.allow);
    /* A refusal that claims to be certain must hold for every id. */
    bool sound = *verdict == PST_ALLOW || !nv_is_certain(detail.reason) || !a.possible || !b.possible;
    if (same && sound)
        return true;
    fprintf(stderr, "engine %s (%s), naive %d/%d, possible %d/%d\n",
            *verdict == PST_ALLOW ? "allow" : "deny", pst_reason_name(detail.reason), a.allow, b.allow,
            a.possible, b.possible);
    nv_dump(w);
    return false;
}

#endif
