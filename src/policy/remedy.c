/*
 * The smallest change that would allow a request.
 *
 * It is found by asking the evaluator itself, one requirement after the other: what refuses is
 * taken as changed (a deny as lifted, a grant as given) and the question is asked again, until
 * nothing refuses any more. What is offered in its stead (another role, one binding less) is tried
 * out on the whole question. So it cannot promise what the next decision would not keep.
 */
#include "postern/policy/explain.h"

#include "words.h"

#define STEPS_MAX   32
#define ROLES_NAMED 3  /* in a remedy */
#define BOUND_TRIED 64 /* bindings of the caller that a trial takes along */
#define NAMES_MAX   64 /* attributes of a kind */

/* What has to change, all of it. */
struct plan {
    struct pst_eval_detail steps[STEPS_MAX];
    uint32_t count;
};

static bool is_deny(const struct pst_eval_detail *d)
{
    return d->permission != 0 && (d->reason == PST_R_DENIED || d->reason == PST_R_ATTRIBUTE);
}

static bool is_grant(const struct pst_eval_detail *d)
{
    return d->reason == PST_R_NOT_GRANTED || (d->reason == PST_R_ATTRIBUTE && d->permission == 0);
}

/* Whether an administrator can do anything about it in the policy. */
static bool is_curable(const struct pst_eval_detail *d)
{
    return is_deny(d) || (is_grant(d) && d->missing != 0) || d->reason == PST_R_CONDITION ||
           d->reason == PST_R_LEVEL_TOO_LOW || d->reason == PST_R_NEEDS_LOOKUP ||
           d->reason == PST_R_NEEDS_FILTER || d->reason == PST_R_ADMIN_ONLY;
}

/* ---- the plan ---- */

/* A requirement whose attributes can be taken away one by one. */
struct trial {
    struct pst_question question;
    struct pst_requirement requirement;
    struct pst_bytes names[PST_ATTR_KINDS][NAMES_MAX];
    struct pst_lift lifts[STEPS_MAX];
};

static bool start_trial(struct trial *t, const struct pst_question *q, uint32_t index)
{
    t->question = *q;
    t->requirement = q->requirements[index];
    t->requirement.or_next = false;
    t->question.requirements = &t->requirement;
    t->question.requirement_count = 1;
    t->question.lifts = t->lifts;
    t->question.lift_count = 0;
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        uint32_t count = t->requirement.attribute_count[kind];
        if (count > NAMES_MAX)
            return false;
        if (count > 0)
            memcpy(t->names[kind], t->requirement.attributes[kind], count * sizeof(*t->names[0]));
        t->requirement.attributes[kind] = t->names[kind];
    }
    return true;
}

static void drop_attribute(struct trial *t, const struct pst_eval_detail *d)
{
    struct pst_bytes *names = t->names[d->attribute_kind];
    uint32_t kept = 0, count = t->requirement.attribute_count[d->attribute_kind];

    for (uint32_t i = 0; i < count; i++)
        if (!pst_bytes_equal(names[i], d->attribute))
            names[kept++] = names[i];
    t->requirement.attribute_count[d->attribute_kind] = kept;
}

/* Takes the step as done; false when nothing is left to be asked. */
static bool take_step(struct trial *t, const struct pst_eval_detail *d)
{
    if (is_deny(d)) {
        t->lifts[t->question.lift_count++] = (struct pst_lift){d->permission, d->bit};
        return true;
    }
    if (d->reason != PST_R_ATTRIBUTE)
        return false;
    drop_attribute(t, d);
    return true;
}

static bool plan_requirement(const struct pst_question *q, uint32_t index, struct plan *plan)
{
    struct trial t;

    *plan = (struct plan){.count = 0};
    if (!start_trial(&t, q, index))
        return false;
    while (plan->count < STEPS_MAX) {
        struct pst_eval_detail *d = &plan->steps[plan->count];
        if (pst_eval(&t.question, d) == PST_ALLOW)
            return true;
        if (!is_curable(d))
            return false;
        d->requirement = index;
        plan->count++;
        if (!take_step(&t, d))
            return true;
    }
    return false;
}

static bool same_text(struct pst_bytes a, struct pst_bytes b)
{
    return a.len == b.len && (a.len == 0 || pst_bytes_equal(a, b));
}

static bool same_step(const struct pst_question *q, const struct pst_eval_detail *a,
                      const struct pst_eval_detail *b)
{
    const struct pst_key *x = pst_word_key(q, a), *y = pst_word_key(q, b);

    if (a->reason != b->reason || a->permission != b->permission || a->bit != b->bit ||
        a->missing != b->missing || !same_text(a->attribute, b->attribute))
        return false;
    if (is_deny(a) || x == NULL || y == NULL)
        return is_deny(a) || x == y;
    return same_text(x->entity, y->entity) && x->id_state == y->id_state && same_text(x->id, y->id);
}

static bool append(const struct pst_question *q, struct plan *plan, const struct plan *more)
{
    for (uint32_t i = 0; i < more->count; i++) {
        bool known = false;
        for (uint32_t k = 0; k < plan->count && !known; k++)
            known = same_step(q, &plan->steps[k], &more->steps[i]);
        if (known)
            continue;
        if (plan->count == STEPS_MAX)
            return false;
        plan->steps[plan->count++] = more->steps[i];
    }
    return true;
}

/* Of alternatives the one that takes the fewest steps. */
static bool plan_group(const struct pst_question *q, uint32_t from, uint32_t to, struct plan *plan)
{
    struct pst_question group = *q;
    struct pst_eval_detail d;
    struct plan best = {.count = STEPS_MAX + 1};

    group.requirements = q->requirements + from;
    group.requirement_count = to - from + 1;
    if (pst_eval(&group, &d) == PST_ALLOW)
        return true;
    for (uint32_t i = from; i <= to; i++) {
        struct plan one;
        if (plan_requirement(q, i, &one) && one.count < best.count)
            best = one;
    }
    return best.count <= STEPS_MAX && append(q, plan, &best);
}

/* False: no change of the policy would do, as far as can be told. */
static bool make_plan(const struct pst_question *q, struct plan *plan)
{
    bool possible = true;

    *plan = (struct plan){.count = 0};
    for (uint32_t from = 0, to; from < q->requirement_count && possible; from = to + 1) {
        for (to = from; q->requirements[to].or_next && to + 1 < q->requirement_count; to++)
            ;
        possible = plan_group(q, from, to, plan);
    }
    return possible && plan->count > 0;
}

/* ---- other ways ---- */

/* Would the whole request be allowed without this binding (0: none), and with this role bound in
 * the request's workspace (0: none)? */
static bool would_do(const struct pst_question *q, uint64_t without, uint32_t role)
{
    struct pst_binding bindings[BOUND_TRIED + 1];
    struct pst_question trial = *q;
    struct pst_eval_detail d;
    uint32_t n = 0;

    if (q->caller.facts == NULL || q->caller.facts->binding_count > BOUND_TRIED)
        return false;
    struct pst_facts facts = *q->caller.facts;
    for (uint32_t i = 0; i < facts.binding_count; i++)
        if (facts.bindings[i].id != without)
            bindings[n++] = facts.bindings[i];
    if (role != 0)
        bindings[n++] = (struct pst_binding){.role = role, .workspace = q->workspace};
    facts.bindings = bindings;
    facts.binding_count = n;
    trial.caller.facts = &facts;
    return pst_eval(&trial, &d) == PST_ALLOW;
}

static bool holds_role(const struct pst_question *q, uint32_t role)
{
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, q->workspace);
        if (held.role != NULL && held.role->id == role)
            return true;
    }
    return false;
}

/* ", or bind the caller to role "a" or role "b" in workspace blue"; nothing when no role would do.
 */
static void put_roles(struct pst_buf *out, const struct pst_question *q)
{
    uint32_t named = 0;

    /* An owner's role is the largest change there is: named only when no other would do. */
    for (int owners = 0; owners < 2 && named == 0; owners++) {
        for (uint32_t i = 0; i < q->policy->role_count && named < ROLES_NAMED; i++) {
            const struct pst_policy_role *role = &q->policy->roles[i];
            bool owns =
                role->rules != NULL && (role->rules->owner_all || role->rules->owner_direct);
            if (pst_bytes_starts(role->name, PST_LIT("__user_")) || owns != (owners == 1) ||
                holds_role(q, role->id) || !would_do(q, 0, role->id))
                continue;
            pst_word(out, named == 0 ? ", or bind the caller to " : " or ");
            pst_word_role(out, q, role->id);
            named++;
        }
    }
    if (named > 0)
        pst_word_place(out, q);
}

static void put_unbind(struct pst_buf *out, const struct pst_question *q, const struct plan *plan)
{
    uint64_t binding = plan->steps[0].binding;

    if (binding == 0 || !would_do(q, binding, 0))
        return;
    pst_buf_lit(out, ", or unbind that role (binding ");
    pst_buf_u64(out, binding);
    pst_buf_char(out, ')');
}

/* ---- the steps in words ---- */

static void step_deny(struct pst_buf *out, const struct pst_question *q,
                      const struct pst_eval_detail *d)
{
    const struct pst_key *key = pst_word_key(q, d);
    struct pst_named_row row;
    bool all = key != NULL && key->id_state != PST_ID_KNOWN && pst_word_row(q, d, &row) &&
               row.has_id; /* what no single object is asked of, every such row denies */

    pst_buf_lit(out, "remove ");
    pst_word_bits(out, d->bit, " or ");
    pst_buf_lit(out, " from ");
    if (all) {
        pst_buf_lit(out, "every permission on a single ");
        pst_buf_put(out, row.entity);
    } else {
        pst_word_permission(out, q, d);
    }
    pst_buf_lit(out, " of ");
    pst_word_role(out, q, d->role);
}

/* ", with WRITE for a, b": the attributes that the operation touches are asked of a grant too. */
static void put_attributes(struct pst_buf *out, const struct pst_requirement *r, enum pst_op op)
{
    static const char *const BITS[PST_ATTR_KINDS] = {"QUERY for ", "WRITE for ", "READ for "};
    bool any = false;

    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        bool first = true;
        for (uint32_t i = 0; i < r->attribute_count[kind]; i++) {
            struct pst_bytes name = r->attributes[kind][i];
            if (!pst_attribute_is_asked(op, (enum pst_attribute_kind)kind, name))
                continue;
            pst_word(out, !first ? ", " : any ? " and " : " with ");
            if (first)
                pst_word(out, BITS[kind]);
            pst_buf_put(out, name);
            first = false;
            any = true;
        }
    }
    if (any)
        pst_buf_lit(out, " (ALL needs none)");
}

static void put_lookup(struct pst_buf *out, const struct pst_question *q,
                       const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = pst_word_requirement(q, d);
    const struct pst_key *key = pst_word_key(q, d) != NULL ? pst_word_key(q, d) : &r->keys[0];

    pst_buf_lit(out, "grant ");
    pst_word_bits(out, pst_grant_bits(key->op), " or ");
    pst_buf_lit(out, " on every ");
    pst_buf_put(out, key->entity);
    pst_word_place(out, q);
    pst_buf_lit(out, " to a caller who holds no permission on a single one");
}

static void step_grant(struct pst_buf *out, const struct pst_question *q,
                       const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = pst_word_requirement(q, d);
    const struct pst_key *key = pst_word_key(q, d);

    if (key != NULL && key->id_state == PST_ID_UNKNOWN) {
        put_lookup(out, q, d);
        return;
    }
    pst_buf_lit(out, "grant ");
    if (d->attribute.len > 0) {
        pst_buf_put(out, d->attribute);
        pst_buf_lit(out, " with ");
        pst_word_bits(out, d->missing, " or ");
        pst_buf_lit(out, " beside ");
        pst_word(out, pst_op_name(d->op));
        pst_buf_lit(out, " in one permission");
    } else {
        pst_word_bits(out, d->missing, " or ");
        if (r != NULL)
            put_attributes(out, r, d->op);
    }
    pst_buf_lit(out, " on ");
    if (key != NULL)
        pst_word_object(out, key);
    else
        pst_buf_lit(out, "workspace");
    pst_word_place(out, q);
}

static void step_condition(struct pst_buf *out, const struct pst_question *q,
                           const struct pst_eval_detail *d)
{
    pst_buf_lit(out, "drop the condition of ");
    pst_word_permission(out, q, d);
    pst_buf_lit(out, " of ");
    pst_word_role(out, q, d->role);
    pst_buf_lit(out, " or meet it (editing is ");
    pst_word(out, q->settings->notebook_edit == 0 ? "on" : "switched off");
    pst_buf_char(out, ')');
}

static void step_level(struct pst_buf *out, const struct pst_question *q,
                       const struct pst_eval_detail *d)
{
    const struct pst_key *key = pst_word_key(q, d);
    struct pst_level_rule rule = {0};
    bool first = true;

    if (key != NULL && q->settings->levels != NULL)
        rule = d->attribute.len > 0 ? pst_levels_attribute(q->settings->levels, key->entity, d->op,
                                                           d->attribute_kind, d->attribute)
                                    : pst_levels_operation(q->settings->levels, key->entity, d->op);
    if (rule.signed_in == 0) {
        pst_buf_lit(out, "switch permissions on and grant it: no level allows it");
        return;
    }
    pst_buf_lit(out, "give the caller level ");
    for (unsigned level = 0; level < PST_LEVELS; level++) {
        if ((rule.signed_in >> level & 1) == 0)
            continue;
        if (!first)
            pst_buf_lit(out, " or ");
        pst_word(out, pst_level_name((enum pst_level)level));
        first = false;
    }
    pst_buf_lit(out, " by a built-in role");
}

static void put_step(struct pst_buf *out, const struct pst_question *q,
                     const struct pst_eval_detail *d)
{
    if (is_deny(d))
        step_deny(out, q, d);
    else if (is_grant(d))
        step_grant(out, q, d);
    else if (d->reason == PST_R_CONDITION)
        step_condition(out, q, d);
    else if (d->reason == PST_R_LEVEL_TOO_LOW)
        step_level(out, q, d);
    else if (d->reason == PST_R_ADMIN_ONLY)
        pst_buf_lit(out, "bind the caller everywhere to a role with OWNER on ALL");
    else if (pst_word_requirement(q, d) != NULL)
        put_lookup(out, q, d);
}

void pst_explain_remedy(const struct pst_question *q, const struct pst_eval_detail *detail,
                        struct pst_buf *out)
{
    struct plan plan;
    bool denies = true, grants = true;
    size_t start = out->len;

    if (!is_curable(detail) || !make_plan(q, &plan))
        return;
    for (uint32_t i = 0; i < plan.count; i++) {
        const struct pst_eval_detail *d = &plan.steps[i];
        if (i > 0)
            pst_buf_lit(out, ", and ");
        put_step(out, q, d);
        denies = denies && is_deny(d);
        grants = grants && !is_deny(d) && d->reason != PST_R_LEVEL_TOO_LOW;
    }
    if (denies)
        put_unbind(out, q, &plan);
    if (grants)
        put_roles(out, q);
    pst_buf_char(out, '.');
    if (!out->full && out->len > start)
        out->data[start] = (char)(out->data[start] - 'a' + 'A');
}
