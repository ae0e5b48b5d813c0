/*
 * The block of one role: one allocation, carved into its arrays. What follows from the rows, names
 * and ranges (hashes, tables, summaries) is worked out here, whoever filled them in.
 */
#include "rules.h"

#include <stdlib.h>

static uint32_t mask_for(uint32_t count, uint32_t percent)
{
    uint32_t size = 4;

    while ((uint64_t)size * percent / 100 <= count)
        size *= 2;
    return size - 1;
}

static size_t aligned(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static void *carve(char **at, size_t size)
{
    void *here = *at;

    *at += aligned(size);
    return here;
}

struct pst_role_rules *pst_rules_new(const struct pst_rules_size *size, struct pst_rules_parts *to)
{
    size_t slots = (size_t)mask_for(size->ids, 75) + 1;
    size_t entity_slots = (size_t)mask_for(size->entities, 50) + 1;
    size_t bytes =
        aligned(sizeof(struct pst_role_rules)) + aligned(size->rules * sizeof(*to->rules)) +
        aligned(size->entities * sizeof(*to->entities)) + aligned(slots * sizeof(*to->slots)) +
        aligned(entity_slots * sizeof(*to->entity_slots)) +
        aligned(size->lists * sizeof(*to->lists)) + aligned(size->names * sizeof(*to->names)) +
        aligned(size->lists * sizeof(*to->extras)) + aligned(size->others * sizeof(*to->others)) +
        aligned(size->text);
    char *at = calloc(1, bytes);
    if (at == NULL)
        return NULL;
    struct pst_role_rules *r = carve(&at, sizeof(*r));
    /* What every decision reads of a role is next to it, mostly on one page: names of entities are
     * among the first texts. */
    to->entities = carve(&at, size->entities * sizeof(*to->entities));
    to->entity_slots = carve(&at, entity_slots * sizeof(*to->entity_slots));
    to->text = carve(&at, size->text);
    to->slots = carve(&at, slots * sizeof(*to->slots));
    to->rules = carve(&at, size->rules * sizeof(*to->rules));
    to->lists = carve(&at, size->lists * sizeof(*to->lists));
    to->names = carve(&at, size->names * sizeof(*to->names));
    to->extras = carve(&at, size->lists * sizeof(*to->extras));
    to->others = carve(&at, size->others * sizeof(*to->others));

    atomic_init(&r->refs, 1);
    r->bytes = bytes;
    r->slot_mask = (uint32_t)slots - 1;
    r->entity_mask = (uint32_t)entity_slots - 1;
    r->rule_count = size->rules;
    r->entity_count = size->entities;
    r->id_count = size->ids;
    r->list_count = size->lists;
    r->name_count = size->names;
    r->other_count = size->others;
    r->text_len = size->text;
    r->rules = to->rules;
    r->entities = to->entities;
    r->slots = to->slots;
    r->entity_slots = to->entity_slots;
    r->lists = to->lists;
    r->names = to->names;
    r->extras = to->extras;
    r->others = to->others;
    r->text = to->text;
    return r;
}

static void seal_lists(const struct pst_role_rules *r, struct pst_rule_list *lists)
{
    for (uint32_t i = 0; i < r->list_count; i++) {
        for (uint32_t k = 0; k < lists[i].count; k++) {
            const struct pst_rule_name *name = &r->names[lists[i].first + k];
            struct pst_bytes text = pst_rules_text(r, name->at, name->len);
            lists[i].bloom |= pst_name_bit(text);
            lists[i].every |= pst_bytes_equal(text, PST_LIT("__*MAGE*__"));
        }
    }
}

static bool seal_entity(const struct pst_hash_key *key, const struct pst_role_rules *r,
                        const struct pst_rules_parts *to, uint32_t index)
{
    struct pst_entity_rules *e = &to->entities[index];
    struct pst_bytes name = pst_rules_text(r, e->name.at, e->name.len);
    const struct pst_rule *ids = &r->rules[e->ids];

    e->hash = pst_text_hash(key, name);
    if (pst_rules_entity(r, e->hash, name) != NULL)
        return false;
    uint32_t at = (uint32_t)e->hash & r->entity_mask;
    while (to->entity_slots[at] != 0)
        at = (at + 1) & r->entity_mask;
    to->entity_slots[at] = (uint16_t)(index + 1);
    for (uint32_t i = 0; i < e->id_count; i++)
        e->id_access |= ids[i].word & PST_RULE_ACCESS;
    if (e->id_count > 0) {
        e->id_text = ids->id_at;
        e->id_stride = ids->id_len;
    }
    return true;
}

static void seal_summary(const struct pst_hash_key *key, struct pst_role_rules *r)
{
    const struct pst_entity_rules *w;

    r->all = pst_rules_entity(r, pst_text_hash(key, PST_LIT("ALL")), PST_LIT("ALL"));
    r->all_except = pst_rules_entity(r, pst_text_hash(key, PST_LIT("ALL_EXCEPT_RESERVED")),
                                     PST_LIT("ALL_EXCEPT_RESERVED"));
    r->broad = r->all != NULL || r->all_except != NULL;
    for (uint32_t i = 0; r->all != NULL && i < r->all->plain_count; i++) {
        const struct pst_rule *rule = &r->rules[r->all->plain + i];
        bool typed = rule->extra != 0 && r->extras[rule->extra - 1].type.len > 0;
        if ((rule->word & PST_A_OWNER) != 0 && !typed)
            r->owner_all = true;
    }
    for (uint32_t i = 0; i < r->direct_count; i++)
        if ((r->rules[i].word & PST_A_OWNER) != 0 &&
            (r->rules[i].word >> PST_RULE_SCOPE & 3) == PST_SCOPE_GLOBAL)
            r->owner_direct = true;
    w = pst_rules_entity(r, pst_text_hash(key, PST_LIT("workspace")), PST_LIT("workspace"));
    r->workspace = w;
    for (uint32_t i = 0; w != NULL && i < w->plain_count; i++) {
        uint64_t word = r->rules[w->plain + i].word;
        bool bound = word >> PST_RULE_CONDITIONS & 7 || r->rules[w->plain + i].extra != 0;
        r->workspace_denies |= word & (PST_A_DISABLE_USE | PST_A_DISABLE_MANAGE);
        if (!bound && (word & PST_A_ATTRIBUTES_ONLY) == 0)
            r->workspace_grants |= word & PST_RULE_ACCESS;
    }
}

bool pst_rules_seal(const struct pst_hash_key *key, struct pst_role_rules *r,
                    const struct pst_rules_parts *to)
{
    for (uint32_t i = 0; i < r->entity_count; i++)
        if (!seal_entity(key, r, to, i))
            return false;
    seal_lists(r, to->lists);
    seal_summary(key, r);
    return true;
}

uint64_t pst_rules_rows(const struct pst_role_rules *r)
{
    uint64_t rows = (uint64_t)r->rule_count + r->other_count;

    for (uint32_t i = 0; i < r->entity_count; i++)
        rows -= r->entities[i].wide_count;
    return rows;
}

void pst_rules_release(struct pst_role_rules *rules)
{
    if (rules != NULL && atomic_fetch_sub_explicit(&rules->refs, 1, memory_order_acq_rel) == 1)
        free(rules);
}
