/*
 * most-specific: keys are asked in order, the first that speaks decides and its own operation is
 * asked; inside a key a deny wins, else the grants of all its rows together.
 *
 * Rows on ALL are the least specific: what they grant is asked after every key was silent; what
 * they deny holds at every key.
 *
 * An id that only a look-up would tell (PST_ID_UNKNOWN) branches: it may be one without a row of
 * its own, or one of those with. Both branches are followed as a set of possible outcomes. An allow
 * is certain only when no row on a single id could matter; a refusal, when no branch allows.
 */
#include "judge.h"

#define OPERATIONS                                                                                 \
    (PST_A_LIST | PST_A_DETAIL | PST_A_CREATE | PST_A_UPDATE | PST_A_DELETE |                      \
     PST_A_OPERATION_ALL | PST_A_USE | PST_A_MANAGE | PST_A_ALL | PST_A_OWNER)

/* What the rows of one key say of one operation. */
struct spoken {
    bool speaks, denied, ids;
    uint64_t grants;    /* of rows on the key */
    uint64_t below;     /* of rows on ALL */
    uint64_t id_access; /* UNKNOWN: everything that rows on single ids say */
    bool below_speaks;
    struct pst_eval_detail grant, deny, below_grant; /* whom to name */
};

static uint64_t denying_bits(enum pst_op op)
{
    if (op == PST_OP_NOT_DENIED) /* stands for the create and the reads of what lies below */
        return PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_LIST | PST_A_DISABLE_DETAIL |
               PST_A_DISABLE_CREATE;
    return PST_A_DISABLE_OPERATION_ALL | pst_deny_bit(op);
}

static bool is_allowed(uint64_t grants, enum pst_op op)
{
    if (op == PST_OP_NOT_DENIED)
        return true;
    return pst_grant_bits(op) != 0 &&
           (grants & (pst_grant_bits(op) | PST_A_ALL | PST_A_OWNER)) != 0;
}

/* Positive results are raised to the default permission; silence and NO_PERMISSIONS are not. */
static uint64_t raised(const struct pst_question *q, uint64_t grants)
{
    return (grants & OPERATIONS) == 0 ? grants : grants | q->settings->default_permission;
}

static void hear_row(struct spoken *s, const struct pst_question *q, const struct pst_range *range,
                     const struct pst_rule *rule, enum pst_op op, bool counts)
{
    uint64_t b = pst_row_bits(q, rule), deny = b & denying_bits(op);
    bool below = range->all && range->kind == PST_RANGE_PLAIN;
    uint64_t grants = counts && (b & PST_A_ATTRIBUTES_ONLY) == 0 ? b & OPERATIONS : 0;

    if (deny != 0 && !s->denied) {
        s->denied = s->speaks = true;
        pst_blame(&s->deny, range, rule, pst_lowest_bit(deny));
    }
    if (grants == 0 && (!counts || (b & PST_A_SPEAKS) == 0))
        return;
    /* Name the row that grants what is asked; else any that speaks. */
    struct pst_eval_detail *named = below ? &s->below_grant : &s->grant;
    if (named->permission == 0 || (is_allowed(grants, op) && !is_allowed(named->bit, op)))
        pst_blame(named, range, rule,
                  pst_lowest_bit(is_allowed(grants, op) && op != PST_OP_NOT_DENIED
                                     ? grants & (pst_grant_bits(op) | PST_A_ALL | PST_A_OWNER)
                                     : b & (OPERATIONS | PST_A_SPEAKS)));
    if (below) {
        s->below |= grants;
        s->below_speaks = true;
    } else {
        s->grants |= grants;
        s->speaks = true;
    }
}

static void hear_key(struct spoken *s, const struct pst_question *q,
                     const struct pst_requirement *r, const struct pst_key *key,
                     struct pst_bytes entity)
{
    struct pst_range ranges[PST_WALK_RANGES];
    struct pst_walk walk;
    bool more = true;

    *s = (struct spoken){0};
    pst_walk_init(&walk, q, key, entity);
    while (more) {
        uint32_t n = pst_walk_next(&walk, ranges, &more);
        for (uint32_t i = 0; i < n; i++) {
            if (ranges[i].kind == PST_RANGE_WIDE) {
                s->ids |= key->id_state == PST_ID_UNKNOWN;
                s->id_access |= ranges[i].entity->id_access;
                continue;
            }
            for (uint32_t k = 0; k < ranges[i].count; k++) {
                const struct pst_rule *rule = &ranges[i].rules[k];
                hear_row(s, q, &ranges[i], rule, key->op,
                         pst_row_conditions_ok(q, key, entity, rule->word) &&
                             pst_rule_type_ok(ranges[i].role, rule, r->subtype));
            }
        }
    }
}

/* What can come of the requirement, over all ids that are not known. */
struct outcomes {
    bool allow, refuse;
    bool unsure; /* a row on a single id could matter */
};

static void branch_ids(struct outcomes *o, const struct pst_question *q, const struct spoken *s,
                       enum pst_op op)
{
    if (!s->ids)
        return;
    o->unsure =
        true; /* so no allow is certain any more, and a refusal only if nothing could allow */
    o->allow |= is_allowed(raised(q, s->grants | (pst_expand(s->id_access) & OPERATIONS)), op);
}

static void name(struct pst_eval_detail *d, const struct pst_eval_detail *named, uint32_t key,
                 enum pst_op op)
{
    d->key = key;
    d->op = op;
    d->role = named->role;
    d->binding = named->binding;
    d->permission = named->permission;
    d->bit = named->bit;
}

/* All keys were silent: rows on ALL, then the default permission where it applies. */
static void decide_silent(struct outcomes *o, const struct pst_question *q,
                          const struct spoken *last, uint32_t key, enum pst_op op,
                          struct pst_eval_detail *d)
{
    const struct pst_policy_settings *s = q->settings;
    bool given = !s->workspaces || (s->grant_default_workspace_access && q->workspace != 0 &&
                                    q->workspace == q->policy->default_workspace);
    uint64_t grants = last->below_speaks ? raised(q, last->below)
                      : given            ? s->default_permission
                                         : 0;
    bool allowed = is_allowed(grants, op);

    name(d, &last->below_grant, key, op);
    o->allow |= allowed;
    o->refuse |= !allowed;
}

static enum pst_verdict settle(const struct outcomes *o, const struct pst_requirement *r,
                               bool denied, struct pst_eval_detail *d)
{
    if (o->allow && !o->refuse && !o->unsure) {
        d->reason = PST_R_GRANTED;
        return PST_ALLOW;
    }
    if (o->allow) {
        d->reason = r->closed == PST_R_INTERNAL ? PST_R_NEEDS_LOOKUP : r->closed;
        return PST_DENY;
    }
    d->reason = denied ? PST_R_DENIED : PST_R_NOT_GRANTED;
    if (!denied)
        d->missing = pst_grant_bits(d->op);
    return PST_DENY;
}

enum pst_verdict pst_judge_specific(const struct pst_question *q, const struct pst_requirement *r,
                                    struct pst_bytes entity, struct pst_eval_detail *d)
{
    struct outcomes o = {0};
    struct spoken s = {0};

    for (uint32_t k = 0; k < r->key_count; k++) {
        const struct pst_key *key = &r->keys[k];
        hear_key(&s, q, r, key, k == 0 ? entity : key->entity);
        if (s.denied) {
            o.refuse = true;
            name(d, &s.deny, k, key->op);
            return settle(&o, r, true, d);
        }
        branch_ids(&o, q, &s, key->op);
        if (s.speaks) {
            bool allowed = is_allowed(raised(q, s.grants), key->op);
            o.allow |= allowed;
            o.refuse |= !allowed;
            name(d, &s.grant, k, key->op);
            return settle(&o, r, false, d);
        }
    }
    decide_silent(&o, q, &s, r->key_count - 1, r->keys[r->key_count - 1].op, d);
    return settle(&o, r, false, d);
}
