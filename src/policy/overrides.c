/*
 * deny-overrides: owner > any deny > any grant > nothing, asked of all rows that match the one key;
 * and the level table that decides when permissions are switched off.
 *
 * One walk over the rows answers the operation and up to 64 attributes of each kind: a bit per
 * attribute in `granted` and `denied`. More attributes take further walks.
 *
 * Inside a row: DISABLE_<op> > ALL > DISABLE_OPERATION_ALL > DISABLE_<kind>_ALL > DISABLE_<kind>
 * list > operation and kind bits > conditions.
 */
#include "judge.h"

#define BLOCK 64

static const struct {
    uint64_t some, all, deny, deny_all;
} KINDS[PST_ATTR_KINDS] = {
    [PST_ATTR_QUERY] = {PST_A_QUERY, PST_A_QUERY_ALL, PST_A_DISABLE_QUERY, PST_A_DISABLE_QUERY_ALL},
    [PST_ATTR_WRITE] = {PST_A_WRITE, PST_A_WRITE_ALL, PST_A_DISABLE_WRITE, PST_A_DISABLE_WRITE_ALL},
    [PST_ATTR_READ] = {PST_A_READ, PST_A_READ_ALL, PST_A_DISABLE_READ, PST_A_DISABLE_READ_ALL},
};

/* A row that was remembered because it decides. */
struct cause {
    const struct pst_rule *rule; /* NULL: none */
    uint64_t bit, binding;
    uint32_t role;
};

struct tally {
    const struct pst_requirement *requirement;
    const struct pst_key *key;
    uint32_t first[PST_ATTR_KINDS], count[PST_ATTR_KINDS]; /* the block of attributes */
    uint64_t grant_bits, deny_bit;
    struct pst_bytes entity;

    struct cause owner, granted_by, denied_by, condition, wide_deny;
    uint64_t granted[PST_ATTR_KINDS], denied[PST_ATTR_KINDS];
    struct cause attribute_denied_by; /* the first one */
    bool ids;   /* rows on single ids exist that could grant: matters when the id is unknown */
    bool plain; /* no attributes are asked */
};

static void remember(struct cause *cause, const struct pst_range *range,
                     const struct pst_rule *rule, uint64_t bit)
{
    if (cause->rule == NULL)
        *cause = (struct cause){rule, bit, range->binding, range->role_id};
}

static uint64_t block_mask(uint32_t count)
{
    return count >= BLOCK ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

/* Which attributes of the block the row's list of that kind names. */
static uint64_t listed_in(const struct tally *t, const struct pst_range *range,
                          const struct pst_rule *rule, unsigned kind)
{
    const struct pst_rule_extra *x = pst_rule_extra(range->role, rule);
    uint64_t mask = 0;

    if (x == NULL || x->list[kind] == 0)
        return 0;
    const struct pst_rule_list *list = &range->role->lists[x->list[kind] - 1];
    const struct pst_bytes *names = t->requirement->attributes[kind] + t->first[kind];
    /* The wildcard is a word of query keys only (G25). */
    if (list->every && kind == PST_ATTR_QUERY)
        return block_mask(t->count[kind]);
    for (uint32_t i = 0; i < t->count[kind]; i++)
        if (pst_rules_listed(range->role, list, names[i]))
            mask |= UINT64_C(1) << i;
    return mask;
}

static void tally_kind(struct tally *t, const struct pst_range *range, const struct pst_rule *rule,
                       unsigned kind, uint64_t b, bool grants)
{
    uint64_t before = t->denied[kind];

    if (t->count[kind] == 0)
        return;
    if ((b & KINDS[kind].deny_all) != 0) {
        t->denied[kind] = block_mask(t->count[kind]);
        if (before != t->denied[kind])
            remember(&t->attribute_denied_by, range, rule, KINDS[kind].deny_all);
        return;
    }
    if ((b & KINDS[kind].deny) != 0) {
        t->denied[kind] |= listed_in(t, range, rule, kind);
        if (before != t->denied[kind])
            remember(&t->attribute_denied_by, range, rule, KINDS[kind].deny);
    }
    if (!grants)
        return;
    if ((b & KINDS[kind].all) != 0)
        t->granted[kind] = block_mask(t->count[kind]);
    else if ((b & KINDS[kind].some) != 0)
        t->granted[kind] |= listed_in(t, range, rule, kind);
}

static void tally_all(struct tally *t)
{
    for (unsigned kind = 0; kind < PST_ATTR_KINDS && !t->plain; kind++)
        t->granted[kind] = block_mask(t->count[kind]);
}

static void tally_deny(struct tally *t, const struct pst_range *range, const struct pst_rule *rule,
                       uint64_t bit)
{
    remember(range->kind == PST_RANGE_WIDE ? &t->wide_deny : &t->denied_by, range, rule, bit);
}

/* What decides the row before its grants are looked at; false: they are. */
static __attribute__((noinline)) bool tally_first(struct tally *t, const struct pst_range *range,
                                                  const struct pst_rule *rule, uint64_t b,
                                                  bool usable)
{
    if ((b & PST_A_OWNER) != 0 && usable) {
        remember(&t->owner, range, rule, PST_A_OWNER);
    } else if ((b & t->deny_bit) != 0) {
        tally_deny(t, range, rule, t->deny_bit);
    } else if ((b & PST_A_ALL) != 0) {
        if (usable && (b & PST_A_ATTRIBUTES_ONLY) == 0)
            remember(&t->granted_by, range, rule, PST_A_ALL);
        if (usable)
            tally_all(t);
    } else if ((b & PST_A_DISABLE_OPERATION_ALL) != 0) {
        tally_deny(t, range, rule, PST_A_DISABLE_OPERATION_ALL);
    } else {
        return false;
    }
    return true;
}

static void tally_row(struct tally *t, const struct pst_question *q, const struct pst_range *range,
                      const struct pst_rule *rule)
{
    uint64_t b = pst_row_bits(q, rule);
    bool usable = range->kind != PST_RANGE_WIDE &&
                  pst_rule_type_ok(range->role, rule, t->requirement->subtype);

    if ((b & (PST_A_OWNER | PST_A_ALL | PST_A_DISABLE_OPERATION_ALL | t->deny_bit)) != 0 &&
        tally_first(t, range, rule, b, usable))
        return;
    uint64_t bit = pst_lowest_bit(b & t->grant_bits);
    bool holds = pst_row_conditions_ok(q, t->key, t->entity, rule->word);
    if (bit != 0 && usable && (b & PST_A_ATTRIBUTES_ONLY) == 0)
        remember(holds ? &t->granted_by : &t->condition, range, rule, bit);
    for (unsigned kind = 0; kind < PST_ATTR_KINDS && !t->plain; kind++)
        tally_kind(t, range, rule, kind, b, bit != 0 && usable && holds);
}

/* True when row id grants of this entity could matter for an id that is not known. */
static bool could_grant(const struct tally *t, const struct pst_range *range)
{
    if (range->kind != PST_RANGE_WIDE)
        return false;
    uint64_t b = pst_expand(range->entity->id_access);
    return (b & (t->grant_bits | PST_A_ALL | PST_A_OWNER)) != 0;
}

static void tally_walk(struct tally *t, const struct pst_question *q)
{
    struct pst_range ranges[PST_WALK_RANGES];
    struct pst_walk walk;
    bool more = true;

    pst_walk_init(&walk, q, t->key, t->entity);
    while (more && t->owner.rule == NULL) {
        uint32_t n = pst_walk_next(&walk, ranges, &more);
        for (uint32_t i = 0; i < n; i++) {
            t->ids |= could_grant(t, &ranges[i]);
            for (uint32_t k = 0; k < ranges[i].count; k++)
                tally_row(t, q, &ranges[i], &ranges[i].rules[k]);
        }
    }
}

static enum pst_verdict conclude(struct pst_eval_detail *d, enum pst_verdict verdict,
                                 enum pst_reason reason, const struct cause *cause)
{
    d->reason = reason;
    if (cause != NULL && cause->rule != NULL) {
        d->role = cause->role;
        d->binding = cause->binding;
        d->permission = cause->rule->permission;
        d->bit = cause->bit;
    }
    return verdict;
}

static enum pst_reason unknown_reason(const struct pst_requirement *r)
{
    return r->closed == PST_R_INTERNAL ? PST_R_NEEDS_LOOKUP : r->closed;
}

static enum pst_verdict judge_operation(const struct tally *t, struct pst_eval_detail *d)
{
    bool unknown = t->key->id_state == PST_ID_UNKNOWN;

    if (t->denied_by.rule != NULL)
        return conclude(d, PST_DENY, PST_R_DENIED, &t->denied_by);
    if (t->wide_deny.rule != NULL)
        return conclude(d, PST_DENY,
                        unknown && t->granted_by.rule != NULL ? unknown_reason(t->requirement)
                                                              : PST_R_DENIED,
                        &t->wide_deny);
    if (t->granted_by.rule != NULL)
        return conclude(d, PST_ALLOW, PST_R_GRANTED, &t->granted_by);
    d->missing = t->grant_bits == 0 ? 0 : t->grant_bits | PST_A_ALL;
    if (t->condition.rule != NULL)
        return conclude(d, PST_DENY, PST_R_CONDITION, &t->condition);
    if (unknown && t->ids)
        return conclude(d, PST_DENY, unknown_reason(t->requirement), NULL);
    return conclude(d, PST_DENY, PST_R_NOT_GRANTED, NULL);
}

/* Query keys are not asked on CREATE and DELETE; api_key and keys that start with `_` never. */
bool pst_attribute_is_asked(enum pst_op op, enum pst_attribute_kind kind, struct pst_bytes name)
{
    if (kind != PST_ATTR_QUERY)
        return true;
    return op != PST_OP_CREATE && op != PST_OP_DELETE && !pst_bytes_starts(name, PST_LIT("_")) &&
           !pst_bytes_equal(name, PST_LIT("api_key"));
}

static enum pst_verdict judge_attributes(const struct tally *t, struct pst_eval_detail *d)
{
    for (unsigned kind = 0; kind < PST_ATTR_KINDS && !t->plain; kind++) {
        for (uint32_t i = 0; i < t->count[kind]; i++) {
            struct pst_bytes name = t->requirement->attributes[kind][t->first[kind] + i];
            bool granted = (t->granted[kind] >> i & 1) != 0,
                 denied = (t->denied[kind] >> i & 1) != 0;
            if ((granted && !denied) ||
                !pst_attribute_is_asked(t->key->op, (enum pst_attribute_kind)kind, name))
                continue;
            d->attribute = name;
            d->attribute_kind = (enum pst_attribute_kind)kind;
            d->role = 0;
            d->binding = d->permission = d->bit = 0;
            if (denied)
                return conclude(d, PST_DENY, PST_R_ATTRIBUTE, &t->attribute_denied_by);
            d->missing = KINDS[kind].some | KINDS[kind].all;
            return conclude(d, PST_DENY, PST_R_ATTRIBUTE, NULL);
        }
    }
    return PST_ALLOW;
}

/* Sets the next block of attributes; false when there is none. */
static bool next_block(struct tally *t, bool first)
{
    bool any = first;

    t->attribute_denied_by.rule = NULL;
    if (t->plain)
        return first;
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        uint32_t total = t->requirement->attribute_count[kind];
        uint32_t from = first ? 0 : t->first[kind] + t->count[kind];
        t->first[kind] = from;
        t->count[kind] = total - from > BLOCK ? BLOCK : total - from;
        t->granted[kind] = t->denied[kind] = 0;
        any = any || t->count[kind] > 0;
    }
    return any;
}

/* Field by field: what else a cause holds is read only once it has a row, and what is kept of
 * attributes only where some are asked. */
static void tally_init(struct tally *t, const struct pst_requirement *r, struct pst_bytes entity)
{
    t->requirement = r;
    t->key = &r->keys[0];
    t->entity = entity;
    t->owner.rule = t->granted_by.rule = t->denied_by.rule = t->condition.rule = NULL;
    t->wide_deny.rule = t->attribute_denied_by.rule = NULL;
    t->ids = false;
    t->grant_bits = pst_grant_bits(t->key->op);
    t->deny_bit = pst_deny_bit(t->key->op);
    t->plain = (r->attribute_count[PST_ATTR_QUERY] | r->attribute_count[PST_ATTR_WRITE] |
                r->attribute_count[PST_ATTR_READ]) == 0;
}

/* ---- levels ---- */

#define LEGACY_OWNER (UINT32_C(1) << 31)

static bool direct_row_counts(const struct pst_question *q, enum pst_level_question asked,
                              struct pst_bytes pipeline, const struct pst_role_rules *r,
                              const struct pst_rule *rule)
{
    enum pst_scope scope = (enum pst_scope)(rule->word >> PST_RULE_SCOPE & 3);
    struct pst_bytes id = pst_rules_text(r, rule->id_at, rule->id_len);

    if (scope == PST_SCOPE_GLOBAL || asked == PST_ASK_ANY)
        return true;
    if (id.len == 0)
        return false;
    if (scope == PST_SCOPE_PROJECT)
        return pst_bytes_equal(id, q->settings->project_uuid);
    return asked == PST_ASK_PIPELINE && pst_bytes_equal(id, pipeline);
}

/* Whose pipeline-scoped rows count: the object's own pipeline, never what a query key says (G19).
 */
static struct pst_bytes pipeline_of(const struct pst_requirement *r, struct pst_bytes entity)
{
    if (r->pipeline.len == 0 && r->keys[0].id_state == PST_ID_KNOWN &&
        pst_bytes_equal(entity, PST_LIT("Pipeline")))
        return r->keys[0].id;
    return r->pipeline;
}

#define SCOPES 4u /* as many as the bits of a row tell apart */

/* What the built-in rows of one role say, by scope. */
struct scoped {
    uint64_t bits[SCOPES];
    const struct pst_rule *by[SCOPES]; /* a row that has such bits */
    bool any[SCOPES];                  /* a row counts, whatever its bits */
};

static struct scoped scoped_rows(const struct pst_question *q, const struct pst_requirement *r,
                                 struct pst_bytes entity, enum pst_level_question asked,
                                 const struct pst_role_rules *rules, uint64_t wanted)
{
    struct pst_bytes pipeline = pipeline_of(r, entity);
    struct scoped s = {0};

    for (uint32_t k = 0; k < rules->direct_count; k++) {
        const struct pst_rule *rule = &rules->rules[k];
        unsigned scope = rule->word >> PST_RULE_SCOPE & 3;
        if (!direct_row_counts(q, asked, pipeline, rules, rule))
            continue;
        s.any[scope] = true;
        s.bits[scope] |= rule->word & wanted;
        if (s.by[scope] == NULL && (rule->word & wanted) != 0)
            s.by[scope] = rule;
    }
    return s;
}

static uint64_t take_scope(const struct scoped *s, unsigned scope, uint64_t wanted, uint64_t level,
                           const struct pst_held *held, struct pst_eval_detail *d)
{
    struct pst_range range = {.role_id = held->role->id, .binding = held->binding};
    uint64_t bits = s->bits[scope] & wanted;

    if (bits != 0 && level == 0)
        pst_blame(d, &range, s->by[scope], pst_lowest_bit(bits));
    return level | bits;
}

/* Those of one role. In the narrowest scope that has a row this row decides, as in Mage: a role
 * that makes a viewer of one pipeline and an editor of the rest is no editor there. Who owns the
 * project owns its pipelines all the same. */
static uint64_t role_level(const struct pst_question *q, const struct pst_requirement *r,
                           struct pst_bytes entity, const struct pst_held *held, uint64_t wanted,
                           uint64_t level, struct pst_eval_detail *d)
{
    enum pst_level_question asked = pst_levels_question(q->settings->levels, entity);
    struct scoped s = scoped_rows(q, r, entity, asked, held->role->rules, wanted);

    for (unsigned scope = 0; scope < SCOPES && asked == PST_ASK_ANY; scope++)
        level = take_scope(&s, scope, wanted, level, held, d);
    if (asked == PST_ASK_ANY)
        return level;
    unsigned project = s.any[PST_SCOPE_PROJECT] ? PST_SCOPE_PROJECT : PST_SCOPE_GLOBAL;
    unsigned narrowest = s.any[PST_SCOPE_PIPELINE] ? PST_SCOPE_PIPELINE : project;
    level = take_scope(&s, narrowest, wanted, level, held, d);
    return take_scope(&s, project, wanted & PST_A_OWNER, level, held, d);
}

/* The level bits of built-in rows for the question that the entity asks. Few roles have such rows.
 */
static uint64_t direct_level(const struct pst_question *q, const struct pst_requirement *r,
                             struct pst_bytes entity, uint64_t wanted, struct pst_eval_detail *d)
{
    uint64_t level = 0;

    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, q->workspace);
        if (held.role != NULL && held.role->rules->direct_count != 0)
            level = role_level(q, r, entity, &held, wanted, level, d);
    }
    return level;
}

#define LEVEL_BITS (PST_A_OWNER | PST_A_ADMIN | PST_A_EDITOR | PST_A_VIEWER)

/* The level bits of grants: they count for the entity and id that their row names (G7). */
static uint64_t granted_level(const struct pst_question *q, const struct pst_requirement *r,
                              struct pst_bytes entity)
{
    struct pst_range ranges[PST_WALK_RANGES];
    struct pst_walk walk;
    uint64_t level = 0;
    bool more = true;

    pst_walk_init(&walk, q, &r->keys[0], entity);
    while (more) {
        uint32_t n = pst_walk_next(&walk, ranges, &more);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < ranges[i].count && ranges[i].kind != PST_RANGE_WIDE; k++)
                if (pst_rule_type_ok(ranges[i].role, &ranges[i].rules[k], r->subtype))
                    level |= ranges[i].rules[k].word & LEVEL_BITS;
    }
    return level;
}

struct standing {
    const struct pst_question *question;
    bool nobody, owner, admin, editor, viewer, self;
};

static struct standing standing_of(const struct pst_question *q, const struct pst_requirement *r,
                                   struct pst_bytes entity, struct pst_eval_detail *d)
{
    struct standing s = {.question = q, .nobody = q->caller.facts == NULL};
    uint32_t legacy = s.nobody ? 0 : q->caller.facts->legacy_level;
    uint64_t level = direct_level(q, r, entity, LEVEL_BITS, d) | granted_level(q, r, entity);

    s.owner = q->settings->authentication_off || (level & PST_A_OWNER) != 0 ||
              (legacy & LEGACY_OWNER) != 0;
    s.admin = s.owner || s.nobody || (level & PST_A_ADMIN) != 0 || (legacy & 1) != 0;
    s.editor = s.admin || (level & PST_A_EDITOR) != 0 || (legacy & 2) != 0;
    s.viewer = s.editor || (level & PST_A_VIEWER) != 0 || (legacy & 4) != 0;
    s.self = pst_is_own(q, &r->keys[0]);
    return s;
}

static bool has_level(const struct standing *s, enum pst_level level)
{
    uint8_t nb = s->question->settings->notebook_edit;

    switch (level) {
    case PST_LEVEL_NONE:
        return true;
    case PST_LEVEL_VIEWER:
        return s->viewer;
    case PST_LEVEL_EDITOR:
        return s->editor;
    case PST_LEVEL_EDITOR_NOTEBOOK:
        return s->editor && nb != 1;
    case PST_LEVEL_EDITOR_PIPELINE:
        return s->editor && nb == 0;
    case PST_LEVEL_ADMIN:
        return s->admin;
    case PST_LEVEL_OWNER:
        return s->owner;
    case PST_LEVEL_SELF_OR_ADMIN:
        return s->self || s->admin;
    case PST_LEVELS:
        break;
    }
    return false;
}

static bool meets(const struct standing *s, struct pst_level_rule rule)
{
    /* With authentication off a rule for the signed in is as good as one for everybody. */
    unsigned mask =
        s->nobody && !s->question->settings->authentication_off ? rule.signed_out : rule.signed_in;

    if (s->question->settings->authentication_off)
        mask |= rule.signed_out;
    for (unsigned level = 0; level < PST_LEVELS; level++)
        if ((mask >> level & 1) != 0 && has_level(s, (enum pst_level)level))
            return true;
    return false;
}

static enum pst_verdict too_low(const struct standing *s, struct pst_eval_detail *d)
{
    d->role = 0;
    d->binding = d->permission = d->bit = 0;
    d->reason = s->nobody && !s->question->settings->authentication_off ? PST_R_NO_CREDENTIAL
                                                                        : PST_R_LEVEL_TOO_LOW;
    return PST_DENY;
}

/* Attributes are not asked of an owner; query keys are, while editing is switched off. */
static bool skips_kind(const struct standing *s, unsigned kind)
{
    return s->owner && (kind != PST_ATTR_QUERY || s->question->settings->notebook_edit == 0);
}

static enum pst_verdict judge_levels(const struct pst_question *q, const struct pst_requirement *r,
                                     struct pst_bytes entity, struct pst_eval_detail *d)
{
    const struct pst_levels *levels = q->settings->levels;
    enum pst_op op = r->keys[0].op;
    struct standing s = standing_of(q, r, entity, d);

    if (!meets(&s, pst_levels_operation(levels, entity, op)))
        return too_low(&s, d);
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        if (skips_kind(&s, kind))
            continue;
        for (uint32_t i = 0; i < r->attribute_count[kind]; i++) {
            struct pst_bytes name = r->attributes[kind][i];
            if (!pst_attribute_is_asked(op, (enum pst_attribute_kind)kind, name) ||
                meets(&s, pst_levels_attribute(levels, entity, op, (enum pst_attribute_kind)kind,
                                               name)))
                continue;
            d->attribute = name;
            d->attribute_kind = (enum pst_attribute_kind)kind;
            return too_low(&s, d);
        }
    }
    d->reason = PST_R_LEVEL;
    return PST_ALLOW;
}

static enum pst_verdict judge_authentication_off(const struct pst_question *q,
                                                 const struct pst_requirement *r,
                                                 struct pst_bytes entity, struct pst_eval_detail *d)
{
    d->reason = PST_R_AUTH_OFF;
    if (q->settings->notebook_edit == 0)
        return PST_ALLOW;
    if (q->settings->levels == NULL) {
        d->reason = pst_is_edit(r->keys[0].op) ? PST_R_LEVEL_TOO_LOW : PST_R_AUTH_OFF;
        return pst_is_edit(r->keys[0].op) ? PST_DENY : PST_ALLOW;
    }
    enum pst_verdict verdict = judge_levels(q, r, entity, d);
    if (verdict == PST_ALLOW)
        d->reason = PST_R_AUTH_OFF;
    return verdict;
}

/* ---- permissions ---- */

static bool is_direct_owner(const struct pst_question *q, const struct pst_requirement *r,
                            struct pst_bytes entity, struct pst_eval_detail *d)
{
    if ((q->caller.facts->legacy_level & LEGACY_OWNER) != 0)
        return true;
    return q->policy->direct && direct_level(q, r, entity, PST_A_OWNER, d) != 0;
}

static enum pst_verdict judge_permissions(const struct pst_question *q,
                                          const struct pst_requirement *r, struct pst_bytes entity,
                                          struct pst_eval_detail *d)
{
    struct tally t;

    tally_init(&t, r, entity);
    if (is_direct_owner(q, r, entity, d))
        return conclude(d, PST_ALLOW, PST_R_OWNER, NULL);
    for (bool first = true; next_block(&t, first); first = false) {
        tally_walk(&t, q);
        if (t.owner.rule != NULL)
            return conclude(d, PST_ALLOW, PST_R_OWNER, &t.owner);
        if (judge_operation(&t, d) != PST_ALLOW || judge_attributes(&t, d) != PST_ALLOW)
            return PST_DENY;
    }
    return PST_ALLOW;
}

/* What asks nobody is open for the attributes that the table names, and for no others. */
static enum pst_verdict judge_open(const struct pst_question *q, const struct pst_requirement *r,
                                   struct pst_bytes entity, struct pst_eval_detail *d)
{
    enum pst_op op = r->keys[0].op;

    d->reason = PST_R_PUBLIC;
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        for (uint32_t i = 0; i < r->attribute_count[kind]; i++) {
            struct pst_bytes name = r->attributes[kind][i];
            struct pst_level_rule rule = pst_levels_attribute(q->settings->levels, entity, op,
                                                              (enum pst_attribute_kind)kind, name);
            if (!pst_attribute_is_asked(op, (enum pst_attribute_kind)kind, name) ||
                (q->caller.facts == NULL ? rule.signed_out : rule.signed_in) != 0)
                continue;
            d->attribute = name;
            d->attribute_kind = (enum pst_attribute_kind)kind;
            d->reason = PST_R_ATTRIBUTE;
            return PST_DENY;
        }
    }
    return PST_ALLOW;
}

/* Where a level table has a say, or nobody is signed in. Apart, as an app without a table is asked
 * about most. */
static __attribute__((noinline)) enum pst_verdict judge_with_table(const struct pst_question *q,
                                                                   const struct pst_requirement *r,
                                                                   struct pst_bytes entity,
                                                                   struct pst_eval_detail *d)
{
    const struct pst_policy_settings *s = q->settings;
    bool signed_in = q->caller.facts != NULL;
    enum pst_op op = r->keys[0].op;

    if (s->authentication_off)
        return judge_authentication_off(q, r, entity, d);
    if (s->permissions_off && s->levels != NULL)
        return judge_levels(q, r, entity, d);
    if (s->levels != NULL && pst_levels_open(s->levels, entity, op, signed_in))
        return judge_open(q, r, entity, d);
    d->reason = signed_in ? PST_R_ROUTE_CLOSED : PST_R_NO_CREDENTIAL;
    if (!signed_in || (s->levels != NULL && pst_levels_closed(s->levels, entity, op)))
        return PST_DENY;
    return judge_permissions(q, r, entity, d);
}

enum pst_verdict pst_judge_overrides(const struct pst_question *q, const struct pst_requirement *r,
                                     struct pst_bytes entity, struct pst_eval_detail *d)
{
    d->key = 0;
    d->op = r->keys[0].op;
    if (r->key_count != 1) { /* a profile that says more than this rule can answer */
        d->reason = PST_R_INTERNAL;
        return PST_DENY;
    }
    if (q->settings->authentication_off || q->settings->levels != NULL || q->caller.facts == NULL)
        return judge_with_table(q, r, entity, d);
    return judge_permissions(q, r, entity, d);
}
