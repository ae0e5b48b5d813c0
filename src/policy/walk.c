/*
 * With a million rows the tables do not fit the caches, and a caller holds several roles: the slots
 * of a batch of roles are fetched at once, so that their misses overlap instead of adding up.
 */
#include "judge.h"

/* A probe into the id slots of one role, between its phases. */
struct probe {
    struct pst_held held;
    const struct pst_entity_rules *entity;
    uint64_t hash;
    uint32_t at;
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

static void fill_range(struct pst_range *out, const struct pst_held *held,
                       const struct pst_entity_rules *e, enum pst_range_kind kind, bool all,
                       uint32_t first, uint32_t count)
{
    const struct pst_role_rules *r = held->role->rules;

    *out = (struct pst_range){.rules = &r->rules[first],
                              .count = count,
                              .role_id = held->role->id,
                              .binding = held->binding,
                              .role = r,
                              .entity = e,
                              .kind = kind,
                              .all = all};
}

#define FEW_ENTITIES 4u /* are compared sooner than hashed */

static const struct pst_entity_rules *find_entity(struct pst_walk *w,
                                                  const struct pst_role_rules *r)
{
    if (r->entity_count > FEW_ENTITIES) {
        if (!w->entity_hashed)
            w->entity_hash = pst_hash(&w->question->policy->key, w->entity);
        w->entity_hashed = true;
        return pst_rules_entity(r, w->entity_hash, w->entity);
    }
    for (uint32_t i = 0; i < r->entity_count; i++) {
        const struct pst_entity_rules *e = &r->entities[i];
        if (pst_bytes_equal(pst_rules_text(r, e->name.at, e->name.len), w->entity))
            return e;
    }
    return NULL;
}

static void start_probe(struct pst_walk *w, const struct pst_held *held,
                        const struct pst_entity_rules *e, bool all, struct probe *probe)
{
    const struct pst_role_rules *r = held->role->rules;

    if (!w->id_hashed) {
        w->id_hash = pst_hash(&w->question->policy->key, w->id);
        w->id_hashed = true;
    }
    *probe = (struct probe){.held = *held, .entity = e, .all = all};
    probe->hash = pst_slot_hash(e->hash, w->id_hash);
    probe->at = (uint32_t)probe->hash & r->slot_mask;
    __builtin_prefetch(&r->slots[probe->at]);
}

/* What one role says of one entity: ranges at once, or a probe that may become one. */
static uint32_t start_entity(struct pst_walk *w, const struct pst_held *held,
                             const struct pst_entity_rules *e, bool all, struct pst_range *ranges,
                             struct probe *probes, uint32_t *probe_count)
{
    uint32_t n = 0;

    if (e->plain_count > 0)
        fill_range(&ranges[n++], held, e, PST_RANGE_PLAIN, all, e->plain, e->plain_count);
    if (e->id_count == 0)
        return n;
    if (w->object)
        start_probe(w, held, e, all, &probes[(*probe_count)++]);
    else
        fill_range(&ranges[n++], held, e, PST_RANGE_WIDE, all, e->wide, e->wide_count);
    return n;
}

/* The row and, at its likely place, the text of its id: two misses that need not wait for each
 * other. */
static void fetch_early(const struct probe *p)
{
    const struct pst_role_rules *r = p->held.role->rules;
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
    const struct pst_role_rules *r = p->held.role->rules;
    uint32_t tag = (uint32_t)(p->hash >> 56);

    for (;; p->at = (p->at + 1) & r->slot_mask) {
        if (r->slots[p->at] == 0)
            return false;
        if (r->slots[p->at] >> 24 == tag)
            return true;
    }
}

static bool is_hit(const struct pst_walk *w, const struct probe *p, const struct pst_rule *rule)
{
    const struct pst_role_rules *r = p->held.role->rules;

    return &r->entities[rule->entity] == p->entity && rule->id_len == w->id.len &&
           rule->id_len > 0 && pst_bytes_equal(pst_rules_text(r, rule->id_at, rule->id_len), w->id);
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
    const struct pst_role_rules *r = p->held.role->rules;

    do {
        uint32_t index = (r->slots[p->at] & PST_RULE_INDEX) - 1;
        if (is_hit(w, p, &r->rules[index])) {
            fill_range(out, &p->held, p->entity, PST_RANGE_ID, p->all, index,
                       count_rows(r, p->entity, index));
            return true;
        }
        p->at = (p->at + 1) & r->slot_mask;
    } while (find_tag(p));
    return false;
}

static uint32_t finish_probes(const struct pst_walk *w, struct probe *probes, uint32_t count,
                              struct pst_range *ranges)
{
    uint32_t found = 0, n = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!find_tag(&probes[i]))
            continue;
        fetch_early(&probes[i]);
        if (found != i)
            probes[found] = probes[i];
        found++;
    }
    for (uint32_t i = 0; i < found; i++)
        n += finish_probe(w, &probes[i], &ranges[n]);
    return n;
}

uint32_t pst_walk_next(struct pst_walk *w, struct pst_range ranges[PST_WALK_RANGES], bool *more)
{
    struct probe probes[PST_WALK_BINDINGS * 3];
    uint32_t probe_count = 0, n = 0, held_count = pst_held_count(w->question);

    for (uint32_t taken = 0; taken < PST_WALK_BINDINGS && w->next < held_count; w->next++) {
        struct pst_held held = pst_held_at(w->question, w->next, w->question->workspace);
        if (held.role == NULL)
            continue;
        taken++;
        const struct pst_role_rules *r = held.role->rules;
        const struct pst_entity_rules *own = find_entity(w, r);
        if (own != NULL)
            n += start_entity(w, &held, own, false, ranges + n, probes, &probe_count);
        if (r->all != NULL)
            n += start_entity(w, &held, r->all, true, ranges + n, probes, &probe_count);
        if (r->all_except != NULL && !pst_entity_reserved(w->entity))
            n += start_entity(w, &held, r->all_except, true, ranges + n, probes, &probe_count);
    }
    *more = w->next < held_count;
    return probe_count == 0 ? n : n + finish_probes(w, probes, probe_count, ranges + n);
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
