/*
 * The order of a decision: switches, who asks, then one group of alternatives after the other. All
 * groups must hold. A refusal that is certain is told before one that a look-up could lift.
 */
#include "postern/policy/eval.h"

#include "judge.h"

/* Apart from what most requests pay for. */
#define RARE __attribute__((noinline))

static enum pst_verdict say(struct pst_eval_detail *d, enum pst_verdict verdict,
                            enum pst_reason reason)
{
    d->reason = reason;
    return verdict;
}

/* The first row with one of `bits` that is bound to nothing: what the summaries of a role are made
 * of. */
static void name_row(struct pst_eval_detail *d, const struct pst_held *by,
                     const struct pst_entity_rules *entity, uint64_t bits)
{
    const struct pst_role_rules *r = by->role->rules;

    d->role = by->role->id;
    d->binding = by->binding;
    for (uint32_t i = 0; entity != NULL && i < entity->plain_count; i++) {
        const struct pst_rule *rule = &r->rules[entity->plain + i];
        uint64_t found = rule->word & bits;
        if (found == 0 || rule->extra != 0 || (rule->word & PST_A_ATTRIBUTES_ONLY) != 0 ||
            (rule->word >> PST_RULE_CONDITIONS & 7) != 0)
            continue;
        d->permission = rule->permission;
        d->bit = pst_lowest_bit(found);
        return;
    }
}

static void name_owner(struct pst_eval_detail *d, const struct pst_held *by)
{
    const struct pst_role_rules *r = by->role->rules;

    d->bit = PST_A_OWNER;
    name_row(d, by, r->all, PST_A_OWNER);
    for (uint32_t i = 0; i < r->direct_count && d->permission == 0; i++)
        if ((r->rules[i].word & PST_A_OWNER) != 0)
            d->permission = r->rules[i].permission;
}

static bool find_admin(const struct pst_question *q, struct pst_eval_detail *d)
{
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, q->workspace);
        if (held.role == NULL || !held.everywhere ||
            !(held.role->rules->owner_all || held.role->rules->owner_direct))
            continue;
        name_owner(d, &held);
        return true;
    }
    return false;
}

static bool is_known(const struct pst_question *q)
{
    return q->caller.facts != NULL && q->caller.facts->user_id != 0 && !q->caller.facts->disabled;
}

bool pst_eval_is_admin(const struct pst_question *q)
{
    struct pst_eval_detail d = {0};

    return is_known(q) && find_admin(q, &d);
}

#define FULL (PST_A_OWNER | PST_A_ALL)

/* A deny on (workspace, *) of any role wins, but not over OWNER on ALL. */
static bool holds_workspace(const struct pst_question *q, uint32_t workspace, uint64_t grant,
                            uint64_t deny, struct pst_eval_detail *d)
{
    struct pst_held by = {0};
    bool denied = false;

    if (workspace == 0)
        return false;
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, workspace);
        if (held.role == NULL)
            continue;
        const struct pst_role_rules *r = held.role->rules;
        if (r->owner_all) {
            name_owner(d, &held);
            return true;
        }
        denied = denied || (r->workspace_denies & deny) != 0;
        if (by.role == NULL && (r->workspace_grants & (grant | FULL)) != 0)
            by = held;
    }
    if (by.role == NULL || denied)
        return false;
    name_row(d, &by, by.role->rules->workspace, grant | FULL);
    return true;
}

bool pst_manages_workspace(const struct pst_question *q, uint32_t workspace,
                           struct pst_eval_detail *d)
{
    return holds_workspace(q, workspace, PST_A_MANAGE, PST_A_DISABLE_MANAGE, d);
}

/* Somewhere at all: the workspaces of the caller's bindings, or a binding everywhere. */
static bool manages_any(const struct pst_question *q, struct pst_eval_detail *d)
{
    const struct pst_facts *facts = q->caller.facts;

    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        bool group = i >= facts->binding_count; /* a role of the token's groups */
        if (!group && facts->bindings[i].workspace != 0) {
            if (pst_manages_workspace(q, facts->bindings[i].workspace, d))
                return true;
            continue;
        }
        uint32_t id =
            group ? q->caller.extra_roles[i - facts->binding_count] : facts->bindings[i].role;
        const struct pst_policy_role *role = pst_policy_find_role(q->policy, id);
        if (role == NULL)
            continue;
        bool here = role->workspace == 0 &&
                    (role->rules->workspace_grants & (PST_A_MANAGE | FULL)) != 0 &&
                    (role->rules->workspace_denies & PST_A_DISABLE_MANAGE) == 0;
        if (here || (role->workspace != 0 && pst_manages_workspace(q, role->workspace, d))) {
            const struct pst_held by = {.role = role, .binding = group ? 0 : facts->bindings[i].id};
            if (here)
                name_row(d, &by, role->rules->workspace, PST_A_MANAGE | FULL);
            return true;
        }
    }
    return false;
}

/* Roles that hold grants on single objects only (`__user_<id>__`) do not make a workspace visible.
 */
static bool shows_workspace(const struct pst_policy_role *role)
{
    return !pst_bytes_starts(role->name, PST_LIT("__user_")) || role->rules->workspace_grants != 0;
}

bool pst_eval_workspace_visible(const struct pst_question *q, uint32_t workspace)
{
    struct pst_eval_detail d = {0};

    if (!is_known(q) || workspace == 0 || pst_policy_workspace_name(q->policy, workspace).len == 0)
        return false;
    if (find_admin(q, &d))
        return true;
    if (q->settings->grant_default_workspace_access && workspace == q->policy->default_workspace)
        return true;
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, workspace);
        if (held.role != NULL && shows_workspace(held.role))
            return true;
    }
    return false;
}

/* `self` of a requirement names a workspace; empty: the request's own. */
static uint32_t named_workspace(const struct pst_question *q, const struct pst_requirement *r)
{
    return r->self.len == 0 ? q->workspace : pst_policy_workspace(q->policy, r->self);
}

/* A row on (workspace, *) speaks for the caller, also where it grants nothing or denies. */
static bool has_workspace_row(const struct pst_question *q)
{
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, q->workspace);
        if (held.role != NULL &&
            (held.role->rules->workspace_grants | held.role->rules->workspace_denies) != 0)
            return true;
    }
    return false;
}

/* create_in_workspace: USE, or what the default permission gives where it applies. */
static bool may_use(const struct pst_question *q, struct pst_eval_detail *d)
{
    const struct pst_policy_settings *s = q->settings;

    d->op = PST_OP_USE;
    if (!s->workspaces ||
        holds_workspace(q, q->workspace, PST_A_USE | PST_A_MANAGE, PST_A_DISABLE_USE, d))
        return true;
    return s->grant_default_workspace_access && q->workspace != 0 &&
           q->workspace == q->policy->default_workspace &&
           (s->default_permission & (PST_A_USE | FULL)) != 0 && !has_workspace_row(q);
}

static enum pst_verdict refuse_workspace(struct pst_eval_detail *d, uint64_t missing)
{
    d->missing = missing;
    return say(d, PST_DENY, PST_R_NOT_GRANTED);
}

static inline enum pst_verdict judge_keys(const struct pst_question *q,
                                          const struct pst_requirement *r, struct pst_bytes entity,
                                          struct pst_eval_detail *d)
{
    if (q->combining == PST_MOST_SPECIFIC)
        return pst_judge_specific(q, r, entity, d);
    return pst_judge_overrides(q, r, entity, d);
}

/* An object of this entity or of that: decided when both answers are equal. */
static RARE enum pst_verdict judge_either(const struct pst_question *q,
                                          const struct pst_requirement *r,
                                          struct pst_eval_detail *d)
{
    struct pst_eval_detail blank = *d, other = *d;
    enum pst_verdict verdict = judge_keys(q, r, r->keys[0].entity, d);
    if (judge_keys(q, r, r->or_entity, &other) == verdict)
        return verdict;
    *d = blank;
    d->key = 0;
    d->op = r->keys[0].op;
    return say(d, PST_DENY, r->closed == PST_R_INTERNAL ? PST_R_NEEDS_LOOKUP : r->closed);
}

static inline enum pst_verdict judge_grant(const struct pst_question *q,
                                           const struct pst_requirement *r,
                                           struct pst_eval_detail *d)
{
    return r->or_entity.len == 0 ? judge_keys(q, r, r->keys[0].entity, d) : judge_either(q, r, d);
}

/* A need that keys do not decide, or that a manager of the workspace has without them. */
static RARE enum pst_verdict judge_need(const struct pst_question *q,
                                        const struct pst_requirement *r, struct pst_eval_detail *d)
{
    switch (r->need) {
    case PST_NEED_GRANT:
        if (pst_manages_workspace(q, q->workspace, d))
            return say(d, PST_ALLOW, PST_R_OWNER);
        return judge_grant(q, r, d);
    case PST_NEED_AUTHENTICATED:
        return say(d, PST_ALLOW, PST_R_GRANTED);
    case PST_NEED_ADMIN:
        return say(d, PST_DENY, PST_R_ADMIN_ONLY); /* an administrator does not come here */
    case PST_NEED_SELF:
        if (r->self.len > 0 && pst_bytes_equal(r->self, q->caller.facts->name))
            return say(d, PST_ALLOW, PST_R_GRANTED);
        return say(d, PST_DENY, PST_R_OTHERS_ONLY);
    case PST_NEED_WORKSPACE_ADMIN:
        return manages_any(q, d) ? say(d, PST_ALLOW, PST_R_OWNER)
                                 : refuse_workspace(d, PST_A_MANAGE);
    case PST_NEED_WORKSPACE_USE:
        return may_use(q, d) ? say(d, PST_ALLOW, PST_R_GRANTED) : refuse_workspace(d, PST_A_USE);
    case PST_NEED_WORKSPACE_MANAGE:
        return pst_manages_workspace(q, named_workspace(q, r), d)
                   ? say(d, PST_ALLOW, PST_R_OWNER)
                   : refuse_workspace(d, PST_A_MANAGE);
    case PST_NEED_WORKSPACE_VIEW:
        return pst_eval_workspace_visible(q, named_workspace(q, r))
                   ? say(d, PST_ALLOW, PST_R_GRANTED)
                   : refuse_workspace(d, PST_A_USE);
    case PST_NEED_CLOSED:
        break;
    }
    return say(d, PST_DENY, r->closed == PST_R_INTERNAL ? PST_R_ROUTE_CLOSED : r->closed);
}

/* A profile that forgot what to ask grants nothing, not even to an owner. */
static bool is_askable(const struct pst_question *q, const struct pst_requirement *r)
{
    if (r->need != PST_NEED_GRANT)
        return true;
    if (r->key_count == 0 || r->key_count > PST_KEYS_MAX)
        return false;
    for (uint32_t k = 0; k < r->key_count; k++)
        if (r->keys[k].op == PST_OP_NONE || r->keys[k].op >= PST_OPS ||
            (r->keys[k].op == PST_OP_NOT_DENIED && q->combining == PST_DENY_OVERRIDES))
            return false;
    return true;
}

/* What no rows of a key are asked about. */
static RARE enum pst_verdict judge_without_rows(const struct pst_question *q,
                                                const struct pst_requirement *r,
                                                struct pst_eval_detail *d)
{
    const struct pst_facts *facts = q->caller.facts;

    if (r->need == PST_NEED_CLOSED)
        return judge_need(q, r, d);
    if (q->settings->authentication_off)
        return say(d, PST_ALLOW, PST_R_AUTH_OFF);
    if (facts == NULL)
        return say(d, PST_DENY, PST_R_NO_CREDENTIAL);
    if (facts->user_id == 0)
        return say(d, PST_DENY, PST_R_UNKNOWN_USER);
    if (facts->disabled)
        return say(d, PST_DENY, PST_R_USER_DISABLED);
    return find_admin(q, d) ? say(d, PST_ALLOW, PST_R_OWNER) : judge_need(q, r, d);
}

/* Under deny-overrides the rows themselves say what an owner may (and what nobody may), and the
 * levels what somebody may whom nobody knows. */
static inline enum pst_verdict judge(const struct pst_question *q, const struct pst_requirement *r,
                                     struct pst_eval_detail *d)
{
    if (!is_askable(q, r))
        return say(d, PST_DENY, PST_R_INTERNAL);
    if (r->need == PST_NEED_GRANT && q->combining == PST_DENY_OVERRIDES &&
        (is_known(q) || q->settings->authentication_off || q->caller.facts == NULL))
        return judge_grant(q, r, d);
    return judge_without_rows(q, r, d);
}

static struct pst_eval_detail blank_detail(uint32_t requirement)
{
    return (struct pst_eval_detail){.requirement = requirement, .key = PST_NOWHERE};
}

/* requirements[from..to] are alternatives to one that does not hold; whose refusal stands. */
static RARE enum pst_verdict judge_others(const struct pst_question *q, uint32_t from, uint32_t to,
                                          struct pst_eval_detail *d)
{
    for (uint32_t i = from; i <= to; i++) {
        struct pst_eval_detail one = blank_detail(i);
        if (judge(q, &q->requirements[i], &one) == PST_ALLOW) {
            *d = one;
            return PST_ALLOW;
        }
    }
    return PST_DENY;
}

/* One of requirements[from..to] must hold. */
static inline enum pst_verdict judge_group(const struct pst_question *q, uint32_t from, uint32_t to,
                                           struct pst_eval_detail *d)
{
    *d = blank_detail(from);
    enum pst_verdict verdict = judge(q, &q->requirements[from], d);
    return verdict == PST_ALLOW || from == to ? verdict : judge_others(q, from + 1, to, d);
}

static bool is_liftable(enum pst_reason reason)
{
    return reason == PST_R_NEEDS_LOOKUP || reason == PST_R_NEEDS_FILTER;
}

enum pst_verdict pst_eval(const struct pst_question *q, struct pst_eval_detail *detail)
{
    enum pst_verdict verdict = PST_ALLOW;

    if (q->requirement_count == 0) {
        *detail = blank_detail(PST_NOWHERE);
        return say(detail, PST_DENY, PST_R_NOT_GRANTED);
    }
    for (uint32_t from = 0, to; from < q->requirement_count; from = to + 1) {
        struct pst_eval_detail later, *d = from == 0 ? detail : &later;

        for (to = from; q->requirements[to].or_next && to + 1 < q->requirement_count; to++)
            ;
        if (judge_group(q, from, to, d) == PST_ALLOW)
            continue;
        enum pst_reason reason = d->reason;
        if (d != detail && (verdict == PST_ALLOW || is_liftable(detail->reason)))
            *detail = later;
        verdict = PST_DENY;
        if (!is_liftable(reason))
            return PST_DENY;
    }
    return verdict;
}
