/*
 * With a million rows the tables do not fit the caches, and a caller holds several roles: the slots
 * of a batch of roles are fetched at once, so that their misses overlap instead of adding up.
 */
#include "judge.h"

/* A probe into the id slots of one role, between its phases. */
struct probe {
    const struct pst_role_rules *rules;
    const struct pst_entity_rules *entity;
    uint64_t hash, binding;
    uint32_t at, role_id;
    bool all; /* as in the range that it may become */
};

void pst_walk_init(struct pst_walk *w, const struct pst_question *q, const struct pst_key *key,
                   struct pst_bytes entity)
{
    *w = (struct pst_walk){.question = q, .entity = entity};
    /* An empty id equals no id: then the plain rows are all that can match. */
    w->object = key->id_state == PST_ID_KNOWN;
    if (w->object)
        w->id = key->id;
}

#define FEW_ENTITIES 4u /* are compared sooner than hashed */

static const struct pst_entity_rules *find_entity(struct pst_walk *w,
                                                  const struct pst_role_rules *r)
{
    if (r->entity_count > FEW_ENTITIES) {
        if (!w->entity_hashed)
            w->entity_hash = pst_text_hash(&w->question->policy->key, w->entity);
        w->entity_hashed = true;
        return pst_rules_entity(r, w->entity_hash, w->entity);
    }
    for (uint32_t i = 0; i < r->entity_count; i++) {
        const struct pst_entity_rules *e = &r->entities[i];
        if (pst_short_equal(pst_rules_text(r, e->name.at, e->name.len), w->entity))
            return e;
    }
    return NULL;
}

static void put_range(struct pst_range *to, const struct pst_held *held,
                      const struct pst_entity_rules *e, bool all, enum pst_range_kind kind,
                      uint32_t first, uint32_t count)
{
    to->rules = &held->role->rules->rules[first];
    to->count = count;
    to->role_id = held->role->id;
    to->binding = held->binding;
    to->role = held->role->rules;
    to->entity = e;
    to->kind = kind;
    to->all = all;
}

static void start_probe(struct pst_walk *w, const struct pst_held *held,
                        const struct pst_entity_rules *e, bool all, struct probe *probe)
{
    const struct pst_role_rules *r = held->role->rules;

    if (!w->id_hashed)
        w->id_hash = pst_text_hash(&w->question->policy->key, w->id);
    w->id_hashed = true;
    probe->rules = r;
    probe->entity = e;
    probe->hash = pst_slot_hash(e->hash, w->id_hash);
    probe->binding = held->binding;
    probe->at = (uint32_t)probe->hash & r->slot_mask;
    probe->role_id = held->role->id;
    probe->all = all;
    __builtin_prefetch(&r->slots[probe->at]);
}

/* The row and, at its likely place, the text of its id: two misses that need not wait for each
 * other. */
static inline __attribute__((always_inline)) void fetch_early(const struct probe *p)
{
    const struct pst_role_rules *r = p->rules;
    const struct pst_entity_rules *e = p->entity;
    uint32_t index = (r->slots[p->at] & PST_RULE_INDEX) - 1;
    uint64_t text = e->id_text + (uint64_t)(index - e->ids) * e->id_stride;

    __builtin_prefetch(&r->rules[index]);
    if (index >= e->ids && text < r->text_len)
        __builtin_prefetch(&r->text[text]);
}

/* Moves to the next slot with the right tag; false when there is none. */
static bool find_tag(struct probe *p)
{
    const struct pst_role_rules *r = p->rules;
    uint32_t tag = (uint32_t)(p->hash >> 56), slot;

    for (;; p->at = (p->at + 1) & r->slot_mask) {
        slot = r->slots[p->at];
        if (slot == 0)
            return false;
        if (slot >> 24 == tag)
            return true;
    }
}

static bool is_hit(const struct pst_walk *w, const struct probe *p, const struct pst_rule *rule)
{
    const struct pst_role_rules *r = p->rules;

    return &r->entities[rule->entity] == p->entity && rule->id_len > 0 &&
           pst_long_equal(pst_rules_text(r, rule->id_at, rule->id_len), w->id);
}

/* The rows on the id that row `first` names: neighbours. */
static uint32_t count_rows(const struct pst_role_rules *r, const struct pst_entity_rules *e,
                           uint32_t first)
{
    const struct pst_rule *rules = &r->rules[first];
    uint32_t left = e->ids + e->id_count - first, count = 1;

    while (count < left && rules[count].id_at == rules->id_at &&
           rules[count].id_len == rules->id_len)
        count++;
    return count;
}

static bool finish_probe(const struct pst_walk *w, struct probe *p, struct pst_range *out)
{
    const struct pst_role_rules *r = p->rules;

    do {
        uint32_t index = (r->slots[p->at] & PST_RULE_INDEX) - 1;
        if (is_hit(w, p, &r->rules[index])) {
            *out = (struct pst_range){.rules = &r->rules[index],
                                      .count = count_rows(r, p->entity, index),
                                      .role_id = p->role_id,
                                      .binding = p->binding,
                                      .role = r,
                                      .entity = p->entity,
                                      .kind = PST_RANGE_ID,
                                      .all = p->all};
            return true;
        }
        p->at = (p->at + 1) & r->slot_mask;
    } while (find_tag(p));
    return false;
}

/* Returns the end of the ranges. Not inlined, nor is what follows: both need all registers. */
static __attribute__((noinline)) struct pst_range *finish_probes(const struct pst_walk *w,
                                                                 struct probe *probes,
                                                                 const struct probe *end,
                                                                 struct pst_range *ranges)
{
    struct probe *found = probes;

    for (struct probe *p = probes; p < end; p++) {
        if (!find_tag(p))
            continue;
        fetch_early(p);
        if (found != p)
            *found = *p;
        found++;
    }
    for (struct probe *p = probes; p < found; p++)
        ranges += finish_probe(w, p, ranges);
    return ranges;
}

uint32_t pst_walk_next(struct pst_walk *w, struct pst_range ranges[PST_WALK_RANGES], bool *more)
{
    struct probe probes[PST_WALK_BINDINGS * 3], *probe = probes;
    struct pst_range *range = ranges;
    uint32_t held_count = pst_held_count(w->question), next = w->next;

    for (uint32_t taken = 0; taken < PST_WALK_BINDINGS && next < held_count; next++) {
        struct pst_held held = pst_held_at(w->question, next, w->question->workspace);
        if (held.role == NULL)
            continue;
        taken++;
        const struct pst_role_rules *r = held.role->rules;
        const struct pst_entity_rules *e = find_entity(w, r);
        for (unsigned which = 0;; which++) {
            if (which == 1)
                e = r->all;
            else if (which == 2)
                e = pst_entity_reserved(w->entity) ? NULL : r->all_except;
            if (e != NULL && e->plain_count > 0)
                put_range(range++, &held, e, which != 0, PST_RANGE_PLAIN, e->plain, e->plain_count);
            if (e != NULL && e->id_count > 0 && w->object)
                start_probe(w, &held, e, which != 0, probe++);
            else if (e != NULL && e->id_count > 0)
                put_range(range++, &held, e, which != 0, PST_RANGE_WIDE, e->wide, e->wide_count);
            if (!r->broad || which == 2)
                break;
        }
    }
    w->next = next;
    *more = next < held_count;
    if (probe != probes)
        range = finish_probes(w, probes, probe, range);
    return (uint32_t)(range - ranges);
}

bool pst_is_own(const struct pst_question *q, const struct pst_key *key)
{
    char digits[20];
    size_t at = sizeof(digits);

    if (q->caller.facts == NULL || key->id_state != PST_ID_KNOWN || key->id.len == 0)
        return false;
    if (q->caller.own_id.len > 0)
        return pst_bytes_equal(q->caller.own_id, key->id);
    for (uint64_t v = q->caller.facts->user_id; v > 0; v /= 10)
        digits[--at] = (char)('0' + v % 10);
    return pst_bytes_equal(pst_bytes_of(digits + at, sizeof(digits) - at), key->id);
}

uint32_t pst_conditions_held(const struct pst_question *q, const struct pst_key *key,
                             struct pst_bytes entity)
{
    uint32_t held = 0;

    if (q->settings->notebook_edit != 1)
        held |= PST_COND_NOTEBOOK_EDIT;
    if (q->settings->notebook_edit == 0)
        held |= PST_COND_PIPELINE_EDIT;
    if (!pst_bytes_equal(entity, PST_LIT("User")) || pst_is_own(q, key))
        held |= PST_COND_OWNS_ENTITY;
    return held;
}
