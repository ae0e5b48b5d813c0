/*
 * judge.h - what the two combining rules share: walking the rows that speak of a key, and small facts
 *           about bits. Private to this layer.
 */
#ifndef POSTERN_POLICY_JUDGE_H
#define POSTERN_POLICY_JUDGE_H

#include "postern/policy/eval.h"
#include "postern/policy/level.h"
#include "rules.h"

enum pst_range_kind {
    PST_RANGE_PLAIN = 0, /* rows without an id */
    PST_RANGE_ID,        /* rows on the very id that is asked for */
    PST_RANGE_WIDE,      /* what id rows deny when no single object is asked for */
};

/* Rows of one role that match one key. */
struct pst_range {
    const struct pst_rule *rules;
    uint32_t count;
    uint32_t role_id;
    uint64_t binding;
    const struct pst_role_rules *role;
    const struct pst_entity_rules *entity;
    enum pst_range_kind kind;
    bool all; /* of ALL or ALL_EXCEPT_RESERVED */
};

struct pst_walk {
    const struct pst_question *question;
    struct pst_bytes entity, id;
    /* Once they are needed: small roles are found without, and many roles speak of no ids. */
    uint64_t entity_hash, id_hash;
    uint32_t next;
    bool object; /* one object is asked for */
    bool entity_hashed, id_hashed;
};

#define PST_WALK_BINDINGS 8
#define PST_WALK_RANGES   (PST_WALK_BINDINGS * 6)

/* A role of the caller that counts in the question's workspace. */
struct pst_held {
    const struct pst_policy_role *role; /* NULL: does not count */
    uint64_t binding;
    bool everywhere; /* a global role, bound everywhere */
};

static inline uint32_t pst_held_count(const struct pst_question *q)
{
    uint32_t bound = q->caller.facts == NULL ? 0 : q->caller.facts->binding_count;

    return bound + q->caller.extra_role_count;
}

/* The role behind a binding; binding->workspace 0: it is bound everywhere. */
static inline struct pst_held pst_held_by(const struct pst_question *q, const struct pst_binding *binding,
                                          uint32_t workspace)
{
    if (binding->workspace != 0 && binding->workspace != workspace)
        return (struct pst_held){0};
    const struct pst_policy_role *role = pst_policy_find_role(q->policy, binding->role);
    if (role == NULL || (role->workspace != 0 && role->workspace != workspace))
        return (struct pst_held){0};
    return (struct pst_held){.role = role,
                             .binding = binding->id,
                             .everywhere = binding->workspace == 0 && role->workspace == 0};
}

/* index < pst_held_count */
static inline struct pst_held pst_held_at(const struct pst_question *q, uint32_t index,
                                          uint32_t workspace)
{
    const struct pst_facts *facts = q->caller.facts;
    uint32_t bound = facts == NULL ? 0 : facts->binding_count;

    if (index < bound)
        return pst_held_by(q, &facts->bindings[index], workspace);
    struct pst_binding group = {.role = q->caller.extra_roles[index - bound]};
    return pst_held_by(q, &group, workspace);
}

void pst_walk_init(struct pst_walk *walk, const struct pst_question *question, const struct pst_key *key,
                   struct pst_bytes entity);
/* The next ranges; 0 at the end. A batch may be empty before the end: hence *more. */
uint32_t pst_walk_next(struct pst_walk *walk, struct pst_range ranges[PST_WALK_RANGES], bool *more);

/* A row's access with the sets of its group bits. */
static inline uint64_t pst_expand(uint64_t word)
{
    uint64_t b = word & PST_RULE_ACCESS;

    if ((b & (PST_A_ADMIN | PST_A_EDITOR | PST_A_VIEWER)) == 0)
        return b;
    if ((b & PST_A_ADMIN) != 0)
        b |= PST_A_EDITOR;
    if ((b & (PST_A_ADMIN | PST_A_EDITOR)) != 0)
        b |= PST_A_VIEWER | PST_A_CREATE | PST_A_UPDATE | PST_A_DELETE | PST_A_QUERY | PST_A_WRITE;
    if ((b & PST_A_VIEWER) != 0)
        b |= PST_A_LIST | PST_A_DETAIL | PST_A_READ;
    return b;
}

/* Bits of which any grants the operation (ALL and OWNER are decided apart); 0: none does. */
static inline uint64_t pst_grant_bits(enum pst_op op)
{
    static const uint64_t BITS[PST_OPS] = {
        [PST_OP_LIST] = PST_A_LIST | PST_A_OPERATION_ALL,
        [PST_OP_DETAIL] = PST_A_DETAIL | PST_A_OPERATION_ALL,
        [PST_OP_CREATE] = PST_A_CREATE | PST_A_OPERATION_ALL,
        [PST_OP_UPDATE] = PST_A_UPDATE | PST_A_OPERATION_ALL,
        [PST_OP_DELETE] = PST_A_DELETE | PST_A_OPERATION_ALL,
        [PST_OP_USE] = PST_A_USE,
        [PST_OP_MANAGE] = PST_A_MANAGE,
    };

    return (unsigned)op < PST_OPS ? BITS[op] : 0;
}

/* The bit that denies this operation alone; 0: none does. */
static inline uint64_t pst_deny_bit(enum pst_op op)
{
    static const uint64_t BITS[PST_OPS] = {
        [PST_OP_LIST] = PST_A_DISABLE_LIST,     [PST_OP_DETAIL] = PST_A_DISABLE_DETAIL,
        [PST_OP_CREATE] = PST_A_DISABLE_CREATE, [PST_OP_UPDATE] = PST_A_DISABLE_UPDATE,
        [PST_OP_DELETE] = PST_A_DISABLE_DELETE, [PST_OP_USE] = PST_A_DISABLE_USE,
        [PST_OP_MANAGE] = PST_A_DISABLE_MANAGE,
    };

    return (unsigned)op < PST_OPS ? BITS[op] : 0;
}

/* A row's access with the sets of its group bits, without what is lifted. */
static inline uint64_t pst_row_bits(const struct pst_question *q, const struct pst_rule *rule)
{
    uint64_t b = pst_expand(rule->word);

    for (uint32_t i = 0; i < q->lift_count; i++)
        if (q->lifts[i].permission == rule->permission)
            b &= ~q->lifts[i].bit;
    return b;
}

static inline bool pst_is_edit(enum pst_op op)
{
    return op == PST_OP_CREATE || op == PST_OP_UPDATE || op == PST_OP_DELETE;
}

static inline uint64_t pst_lowest_bit(uint64_t bits)
{
    return bits & (~bits + 1);
}

static inline const struct pst_rule_extra *pst_rule_extra(const struct pst_role_rules *role,
                                                          const struct pst_rule *rule)
{
    return rule->extra == 0 ? NULL : &role->extras[rule->extra - 1];
}

/* A grant bound to a subtype counts only where the object's subtype is known to be that one. */
static inline bool pst_rule_type_ok(const struct pst_role_rules *role, const struct pst_rule *rule,
                                    struct pst_bytes subtype)
{
    const struct pst_rule_extra *x = pst_rule_extra(role, rule);

    return x == NULL || x->type.len == 0 ||
           pst_bytes_equal(pst_rules_text(role, x->type.at, x->type.len), subtype);
}

/* True when `id` names the caller's own User object. */
bool pst_is_own(const struct pst_question *question, const struct pst_key *key);
/* Which PST_COND_* hold for this key. */
uint32_t pst_conditions_held(const struct pst_question *question, const struct pst_key *key,
                             struct pst_bytes entity);

static inline void pst_blame(struct pst_eval_detail *d, const struct pst_range *range,
                             const struct pst_rule *rule, uint64_t bit)
{
    d->role = range->role_id;
    d->binding = range->binding;
    d->permission = rule->permission;
    d->bit = bit;
}

/* Whether this attribute is asked under that operation at all. */
bool pst_attribute_is_asked(enum pst_op op, enum pst_attribute_kind kind, struct pst_bytes name);

/* Few rows have conditions: which hold is asked when one does. */
static inline bool pst_row_conditions_ok(const struct pst_question *question, const struct pst_key *key,
                                         struct pst_bytes entity, uint64_t word)
{
    uint32_t asked = (uint32_t)(word >> PST_RULE_CONDITIONS) & 7u;

    return asked == 0 || (asked & ~pst_conditions_held(question, key, entity)) == 0;
}

/* The two rules: `detail->reason` is set on every path, and the rest as far as it applies. */
enum pst_verdict pst_judge_overrides(const struct pst_question *question,
                                     const struct pst_requirement *requirement, struct pst_bytes entity,
                                     struct pst_eval_detail *detail);
enum pst_verdict pst_judge_specific(const struct pst_question *question,
                                    const struct pst_requirement *requirement, struct pst_bytes entity,
                                    struct pst_eval_detail *detail);

/* The caller manages that workspace ((workspace, *, MANAGE), or OWNER on ALL); *detail says by what. */
bool pst_manages_workspace(const struct pst_question *question, uint32_t workspace,
                           struct pst_eval_detail *detail);

#endif
