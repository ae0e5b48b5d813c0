/*
 * What the evaluator is asked on behalf of a decision, and how that is told to people.
 */
#include "engine_internal.h"

/* Roles that the token's groups name, as ids of this policy. */
static const uint32_t *group_roles(const struct pst_decide *d, uint32_t *count)
{
    const struct pst_site *site = site_of(d);

    *count = 0;
    if (d->principal_ == NULL || site->group_role_count == 0)
        return NULL;
    uint32_t *ids = pst_arena_array(d->arena_, site->group_role_count, sizeof(*ids));
    for (uint32_t i = 0; ids != NULL && i < site->group_role_count; i++) {
        const struct pst_group_role *g = &site->group_roles[i];
        uint32_t id =
            g->issuer == d->principal_->issuer && pst_principal_in_group(d->principal_, g->group)
                ? pst_policy_role(policy_of(d), g->role, 0)
                : 0;
        if (id != 0)
            ids[(*count)++] = id;
    }
    return ids;
}

void pst_engine_question(const struct pst_decide *d, struct pst_question *q)
{
    uint32_t extra_count;
    const uint32_t *extra = group_roles(d, &extra_count);

    *q = (struct pst_question){
        .policy = policy_of(d),
        .settings = &d->profile_->settings,
        .caller = {.facts = d->facts_ == NULL ? NULL : d->facts_->facts,
                   .extra_roles = extra,
                   .extra_role_count = extra_count},
        .workspace = d->workspace_,
        .combining = pst_profile_combining(d->profile_->profile),
        .requirements = d->extracted_.requirements,
        .requirement_count = d->extracted_.requirement_count,
    };
}

/* A user who may ask for anything at all. */
bool pst_engine_user_stands(const struct pst_decide *d, enum pst_reason *why)
{
    const struct pst_facts *f = d->facts_->facts;

    if (f->user_id == 0)
        *why = PST_R_UNKNOWN_USER;
    else if (f->disabled)
        *why = PST_R_USER_DISABLED;
    else if (f->sessions_from > d->principal_->issued_at)
        *why = PST_R_BAD_CREDENTIAL;
    else
        return true;
    return false;
}

static void put_role(struct pst_buf *b, struct pst_bytes name)
{
    if (name.len == 0)
        return;
    if (b->len > 0)
        pst_buf_char(b, ',');
    pst_buf_put(b, name);
}

/* The names of the roles that count in the request's workspace; what does not fit is left out. */
void pst_engine_name_roles(struct pst_decide *d, const struct pst_question *q)
{
    enum { ROOM = 1024 };
    struct pst_buf b = pst_buf_of(pst_arena_alloc(d->arena_, ROOM), ROOM);
    const struct pst_facts *f = d->facts_->facts;

    if (b.data == NULL)
        return;
    for (uint32_t i = 0; i < f->binding_count; i++)
        if (f->bindings[i].workspace == 0 || f->bindings[i].workspace == d->workspace_)
            put_role(&b, pst_policy_role_name(policy_of(d), f->bindings[i].role));
    for (uint32_t i = 0; i < q->caller.extra_role_count; i++)
        put_role(&b, pst_policy_role_name(policy_of(d), q->caller.extra_roles[i]));
    d->decision.roles = pst_buf_bytes(&b);
}

/* The access log has the path, so an id that is a part of it is no news to a log. */
static bool is_in_path(struct pst_bytes path, struct pst_bytes id)
{
    while (path.len > id.len) {
        path = pst_bytes_from(path, 1); /* behind a slash */
        if (pst_bytes_starts(path, id) && (path.len == id.len || path.ptr[id.len] == '/'))
            return true;
        path = pst_bytes_from(path, pst_bytes_find(path, '/'));
    }
    return false;
}

/* `path` NULL: with every id; else only with one that stands in it. */
static struct pst_bytes describe(const struct pst_decide *d, const struct pst_eval_detail *detail,
                                 const struct pst_bytes *path)
{
    const struct pst_requirement *r = detail->requirement == PST_NOWHERE
                                          ? NULL
                                          : &d->extracted_.requirements[detail->requirement];
    struct pst_bytes ws = d->decision.workspace;

    if (r == NULL || r->key_count == 0)
        return (struct pst_bytes){0};
    const struct pst_key *k = &r->keys[detail->key < r->key_count ? detail->key : 0];
    struct pst_bytes id = k->id_state == PST_ID_KNOWN ? k->id : (struct pst_bytes){0};
    if (path != NULL && id.len > 0 &&
        !is_in_path(*path, id)) /* out of a query, a field or a body */
        id = PST_LIT("*");
    return pst_arena_printf(d->arena_, "%s %.*s%s%.*s%s%.*s%s%.*s", pst_op_name(k->op),
                            (int)k->entity.len, k->entity.ptr, id.len > 0 ? "/" : "", (int)id.len,
                            id.ptr, detail->attribute.len > 0 ? ", attribute " : "",
                            (int)detail->attribute.len, detail->attribute.ptr,
                            ws.len > 0 ? ", workspace " : "", (int)ws.len, ws.ptr);
}

/* As "update Pipeline/p1, workspace blue": the caller named all of it, and logs name no values. */
void pst_engine_describe(struct pst_decide *d, const struct pst_eval_detail *detail,
                         struct pst_bytes path)
{
    d->decision.detail = describe(d, detail, NULL);
    d->log_detail_ = describe(d, detail, &path);
}
