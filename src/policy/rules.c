/*
 * Builds the index of one role (rules.h) from its rows. Everything is collected in a builder of
 * temporary arrays and copied into one block (rules_block.c) at the end.
 *
 * Texts and lists are interned (intern.h). A list is interned as the
 * bytes of its sorted text numbers, lists and subtype of a row as the bytes of their numbers, so
 * that equal rows are rows whose five numbers are equal.
 */
#include "rules.h"

#include <stdlib.h>

#include "intern.h"
#include "postern/policy/model.h"

/* What a row becomes before it is sorted. */
struct draft {
    uint64_t word;
    uint32_t permission, entity, id, extra;
};

struct builder {
    const struct pst_hash_key *key;
    struct pst_interner texts, lists;
    uint32_t *entity_of_text; /* entity number + 1, by text number */
    size_t entity_of_cap;
    struct draft *drafts;
    uint32_t draft_count;
    uint32_t entity_texts[UINT16_MAX];
    uint32_t entity_count;
    struct pst_bytes last_entity; /* of the row before: mostly the same bytes at the same place */
    uint32_t last_number;
    struct draft *wide;
    uint32_t wide_count, wide_cap;
    struct pst_rule_other *others;
    uint32_t other_count;
};

static void builder_free(struct builder *b)
{
    if (b == NULL)
        return;
    pst_interner_fini(&b->texts);
    pst_interner_fini(&b->lists);
    free(b->entity_of_text);
    free(b->drafts);
    free(b->others);
    free(b->wide);
    free(b);
}

static struct builder *builder_new(const struct pst_hash_key *key, uint32_t rows)
{
    struct builder *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return NULL;
    b->key = key;
    b->drafts = calloc(rows == 0 ? 1 : rows, sizeof(*b->drafts));
    b->others = calloc(rows == 0 ? 1 : rows, sizeof(*b->others));
    if (!pst_interner_init(&b->texts, rows) || !pst_interner_init(&b->lists, 0) ||
        b->drafts == NULL || b->others == NULL) {
        builder_free(b);
        return NULL;
    }
    return b;
}

static int compare_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

/* The number + 1 of a sorted set of text numbers; `numbers` is sorted in place. */
static bool intern_set(struct builder *b, uint32_t *numbers, uint32_t count, uint32_t *list)
{
    uint32_t kept = 0;

    *list = 0;
    if (count == 0)
        return true;
    qsort(numbers, count, sizeof(*numbers), compare_u32);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || numbers[i] != numbers[i - 1])
            numbers[kept++] = numbers[i];
    if (!pst_intern(&b->lists, b->key, pst_bytes_of(numbers, kept * sizeof(*numbers)), list))
        return false;
    (*list)++;
    return true;
}

/* extra[0..2]: lists + 1, extra[3]: subtype + 1; interned when any is set. */
static bool intern_extra(struct builder *b, const uint32_t extra[PST_ATTR_KINDS + 1],
                         uint32_t *number)
{
    *number = 0;
    if ((extra[0] | extra[1] | extra[2] | extra[3]) == 0)
        return true;
    if (!pst_intern(&b->lists, b->key, pst_bytes_of(extra, (PST_ATTR_KINDS + 1) * sizeof(*extra)),
                    number))
        return false;
    (*number)++;
    return true;
}

static bool has_extra(const struct pst_permission_row *row)
{
    uint32_t names = 0;

    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++)
        names |= row->attribute_count[kind];
    return names != 0 || row->entity_type.len > 0;
}

static bool draft_extra(struct builder *b, const struct pst_permission_row *row, uint32_t *number)
{
    uint32_t extra[PST_ATTR_KINDS + 1] = {0};
    uint32_t numbers[PST_ATTRIBUTES_MAX];

    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        for (uint32_t i = 0; i < row->attribute_count[kind]; i++)
            if (!pst_intern(&b->texts, b->key, row->attributes[kind][i], &numbers[i]))
                return false;
        if (!intern_set(b, numbers, row->attribute_count[kind], &extra[kind]))
            return false;
    }
    if (row->entity_type.len > 0) {
        if (!pst_intern(&b->texts, b->key, row->entity_type, &extra[PST_ATTR_KINDS]))
            return false;
        extra[PST_ATTR_KINDS]++;
    }
    return intern_extra(b, extra, number);
}

static enum pst_status entity_number(struct builder *b, struct pst_bytes name, uint32_t *number)
{
    uint32_t text;

    *number = b->last_number;
    if (name.len > 0 && name.len == b->last_entity.len && name.ptr == b->last_entity.ptr)
        return PST_OK;
    if (!pst_intern(&b->texts, b->key, name, &text))
        return PST_E_NOMEM;
    if (text >= b->entity_of_cap) {
        size_t cap = (size_t)text * 2 + 64;
        uint32_t *moved = reallocarray(b->entity_of_text, cap, sizeof(*moved));
        if (moved == NULL)
            return PST_E_NOMEM;
        memset(moved + b->entity_of_cap, 0, (cap - b->entity_of_cap) * sizeof(*moved));
        b->entity_of_text = moved;
        b->entity_of_cap = cap;
    }
    if (b->entity_of_text[text] == 0) {
        if (b->entity_count == UINT16_MAX - 1)
            return PST_E_LIMIT;
        b->entity_texts[b->entity_count++] = text;
        b->entity_of_text[text] = b->entity_count;
    }
    *number = b->last_number = b->entity_of_text[text] - 1;
    b->last_entity = name;
    return PST_OK;
}

#define DIRECT UINT32_MAX /* the entity of a direct row, until it is sorted to the front */

static void add_other(struct builder *b, uint32_t permission, uint32_t same)
{
    b->others[b->other_count++] = (struct pst_rule_other){permission, same};
}

static enum pst_status add_draft(struct builder *b, const struct pst_permission_row *row)
{
    uint64_t access = row->access & PST_A_KNOWN;
    struct draft d = {.permission = (uint32_t)row->id, .entity = DIRECT};

    if (!row->has_access || access == 0 || (row->entity.len == 0 && !row->direct)) {
        add_other(b, d.permission, 0);
        return PST_OK;
    }
    d.word = access | (uint64_t)(row->conditions & 7u) << PST_RULE_CONDITIONS;
    if (row->direct)
        d.word |= (uint64_t)row->scope << PST_RULE_SCOPE;
    if (row->has_entity_id) {
        d.word |= PST_RULE_HAS_ID;
        if (!pst_intern(&b->texts, b->key, row->entity_id, &d.id))
            return PST_E_NOMEM;
    }
    if (has_extra(row) && !draft_extra(b, row, &d.extra))
        return PST_E_NOMEM;
    enum pst_status status = row->direct ? PST_OK : entity_number(b, row->entity, &d.entity);
    if (status == PST_OK)
        b->drafts[b->draft_count++] = d;
    return status;
}

/* Direct rows first, then by entity, plain before id rows, by id, by content, lowest permission. */
static int compare_drafts(const void *x, const void *y)
{
    const struct draft *a = x, *b = y;
    uint32_t ea = a->entity + 1, eb = b->entity + 1; /* DIRECT wraps to 0 */
    bool ia = (a->word & PST_RULE_HAS_ID) != 0, ib = (b->word & PST_RULE_HAS_ID) != 0;

    if (ea != eb)
        return ea < eb ? -1 : 1;
    if (ia != ib)
        return ia ? 1 : -1;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    if (a->word != b->word)
        return a->word < b->word ? -1 : 1;
    if (a->extra != b->extra)
        return a->extra < b->extra ? -1 : 1;
    return (a->permission > b->permission) - (a->permission < b->permission);
}

static bool same_draft(const struct draft *a, const struct draft *b)
{
    return a->entity == b->entity && a->word == b->word && a->id == b->id && a->extra == b->extra;
}

/* Rows mostly come in the order of their ids, and ids are numbered as they come: rows of one entity
 * are in order already. */
static void sort_drafts(struct builder *b)
{
    uint32_t kept = 0, sorted = 1;

    while (sorted < b->draft_count &&
           compare_drafts(&b->drafts[sorted - 1], &b->drafts[sorted]) <= 0)
        sorted++;
    if (sorted < b->draft_count)
        qsort(b->drafts, b->draft_count, sizeof(*b->drafts), compare_drafts);
    for (uint32_t i = 0; i < b->draft_count; i++)
        if (kept == 0 || !same_draft(&b->drafts[i], &b->drafts[kept - 1]))
            b->drafts[kept++] = b->drafts[i];
        else
            add_other(b, b->drafts[i].permission, b->drafts[kept - 1].permission);
    b->draft_count = kept;
}

/* ---- wide rows (I3) ---- */

static bool push_wide(struct builder *b, struct draft d)
{
    if (b->wide_count == b->wide_cap) {
        uint32_t cap = b->wide_cap == 0 ? 32 : b->wide_cap * 2;
        struct draft *moved = reallocarray(b->wide, cap, sizeof(*moved));
        if (moved == NULL)
            return false;
        b->wide = moved;
        b->wide_cap = cap;
    }
    d.word |= PST_RULE_HAS_ID | PST_RULE_WIDE;
    b->wide[b->wide_count++] = d;
    return true;
}

#define DENY_OPS                                                                                   \
    (PST_A_DISABLE_LIST | PST_A_DISABLE_DETAIL | PST_A_DISABLE_CREATE | PST_A_DISABLE_UPDATE |     \
     PST_A_DISABLE_DELETE | PST_A_DISABLE_USE | PST_A_DISABLE_MANAGE)
#define DENY_BELOW_ALL                                                                             \
    (PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_QUERY_ALL | PST_A_DISABLE_READ_ALL |              \
     PST_A_DISABLE_WRITE_ALL)

static const uint64_t DENY_LISTED[PST_ATTR_KINDS] = {
    [PST_ATTR_QUERY] = PST_A_DISABLE_QUERY,
    [PST_ATTR_WRITE] = PST_A_DISABLE_WRITE,
    [PST_ATTR_READ] = PST_A_DISABLE_READ,
};

/* Which of its deny bits a row makes good: ALL in the same row is decided before the latter ones.
 */
static uint64_t deny_bits(uint64_t word)
{
    return word & ((word & PST_A_ALL) != 0 ? DENY_OPS : DENY_OPS | DENY_BELOW_ALL);
}

static void list_of_draft(const struct builder *b, const struct draft *d, unsigned kind,
                          const char **bytes, uint32_t *count)
{
    uint32_t extra[PST_ATTR_KINDS + 1];

    *count = 0;
    *bytes = NULL;
    if (d->extra == 0)
        return;
    memcpy(extra, pst_interned(&b->lists, d->extra - 1).ptr, sizeof(extra));
    if (extra[kind] == 0)
        return;
    struct pst_bytes list = pst_interned(&b->lists, extra[kind] - 1);
    *bytes = list.ptr;
    *count = (uint32_t)(list.len / sizeof(uint32_t));
}

/* One wide row with the union of the lists that id rows [from, to) deny in one kind. */
static bool push_wide_list(struct builder *b, uint32_t from, uint32_t to, unsigned kind)
{
    const struct draft *first = NULL;
    uint32_t *numbers = NULL, total = 0, count, extra[PST_ATTR_KINDS + 1] = {0};
    const char *bytes;
    bool ok = true;

    for (uint32_t i = from; i < to; i++) {
        const struct draft *d = &b->drafts[i];
        if ((d->word & DENY_LISTED[kind]) == 0 || (d->word & PST_A_ALL) != 0)
            continue;
        list_of_draft(b, d, kind, &bytes, &count);
        if (count == 0)
            continue;
        uint32_t *moved = reallocarray(numbers, (size_t)total + count, sizeof(*numbers));
        if (moved == NULL) {
            free(numbers);
            return false;
        }
        numbers = moved;
        memcpy(numbers + total, bytes, count * sizeof(*numbers));
        total += count;
        first = first == NULL ? d : first;
    }
    if (first != NULL) {
        struct draft wide = {.word = DENY_LISTED[kind],
                             .permission = first->permission,
                             .entity = first->entity,
                             .id = first->id};
        ok = intern_set(b, numbers, total, &extra[kind]) && intern_extra(b, extra, &wide.extra) &&
             push_wide(b, wide);
    }
    free(numbers);
    return ok;
}

static bool push_wides(struct builder *b, uint32_t from, uint32_t to)
{
    uint64_t seen = 0;

    for (uint32_t i = from; i < to; i++) {
        const struct draft *d = &b->drafts[i];
        for (uint64_t fresh = deny_bits(d->word) & ~seen; fresh != 0; fresh &= fresh - 1) {
            uint64_t bit = fresh & (~fresh + 1);
            seen |= bit;
            if (!push_wide(b, (struct draft){.word = bit,
                                             .permission = d->permission,
                                             .entity = d->entity,
                                             .id = d->id}))
                return false;
        }
    }
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++)
        if (!push_wide_list(b, from, to, kind))
            return false;
    return true;
}

/* ---- the block ---- */

/* Lists and extras are told apart by who refers to them; counted here and filled in the same order.
 */
static void count_sizes(const struct builder *b, struct pst_rules_size *s)
{
    *s = (struct pst_rules_size){.rules = b->draft_count + b->wide_count,
                                 .entities = b->entity_count,
                                 .lists = b->lists.count,
                                 .others = b->other_count,
                                 .text = (uint32_t)b->texts.len};
    for (uint32_t i = 0; i < b->lists.count; i++)
        s->names += b->lists.items[i].len / (uint32_t)sizeof(uint32_t);
    for (uint32_t i = 0; i < b->draft_count; i++)
        if (b->drafts[i].entity != DIRECT && (b->drafts[i].word & PST_RULE_HAS_ID) != 0 &&
            (i == 0 || b->drafts[i - 1].entity != b->drafts[i].entity ||
             (b->drafts[i - 1].word & PST_RULE_HAS_ID) == 0 ||
             b->drafts[i - 1].id != b->drafts[i].id))
            s->ids++;
}

/* False: it is a list of four names; nothing in a block is out of range, not even what is not read.
 */
static bool may_be_extra(const struct builder *b, const uint32_t numbers[PST_ATTR_KINDS + 1])
{
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++)
        if (numbers[kind] > b->lists.count)
            return false;
    return numbers[PST_ATTR_KINDS] <= b->texts.count;
}

/* Every interned blob becomes a list and an extra of the same number; what a number is used as
 * decides which of the two is looked at. The other is small and never read. */
static void fill_lists(const struct builder *b, const struct pst_rules_parts *to)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < b->lists.count; i++) {
        struct pst_bytes blob = pst_interned(&b->lists, i);
        uint32_t count = (uint32_t)(blob.len / sizeof(uint32_t)), numbers[PST_ATTR_KINDS + 1];

        to->lists[i] = (struct pst_rule_list){.first = next, .count = count};
        for (uint32_t k = 0; k < count; k++) {
            uint32_t number;
            memcpy(&number, blob.ptr + k * sizeof(number), sizeof(number));
            to->names[next++] = number < b->texts.count
                                    ? b->texts.items[number]
                                    : (struct pst_rule_name){0, 0}; /* no list */
        }
        if (count != PST_ATTR_KINDS + 1)
            continue;
        memcpy(numbers, blob.ptr, sizeof(numbers));
        if (!may_be_extra(b, numbers))
            continue;
        memcpy(to->extras[i].list, numbers, sizeof(to->extras[i].list));
        if (numbers[PST_ATTR_KINDS] > 0)
            to->extras[i].type = b->texts.items[numbers[PST_ATTR_KINDS] - 1];
    }
}

static struct pst_rule rule_of(const struct builder *b, const struct draft *d)
{
    struct pst_rule rule = {.word = d->word, .permission = d->permission, .extra = d->extra};

    rule.entity = (uint16_t)(d->entity == DIRECT ? UINT16_MAX : d->entity);
    if ((d->word & PST_RULE_HAS_ID) != 0) {
        rule.id_at = b->texts.items[d->id].at;
        rule.id_len = (uint16_t)b->texts.items[d->id].len;
    }
    return rule;
}

/* Copies drafts and wide rows into their final order and notes the ranges. */
static void fill_rules(const struct builder *b, struct pst_role_rules *r,
                       const struct pst_rules_parts *to)
{
    struct pst_rule *rules = to->rules;
    uint32_t out = 0, i = 0, w = 0;

    for (; i < b->draft_count && b->drafts[i].entity == DIRECT; i++)
        rules[out++] = rule_of(b, &b->drafts[i]);
    r->direct_count = out;
    while (i < b->draft_count) {
        uint32_t number = b->drafts[i].entity;
        struct pst_entity_rules *e = &to->entities[number];
        e->name = b->texts.items[b->entity_texts[number]];
        e->plain = out;
        for (; i < b->draft_count && b->drafts[i].entity == number &&
               (b->drafts[i].word & PST_RULE_HAS_ID) == 0;
             i++)
            rules[out++] = rule_of(b, &b->drafts[i]);
        e->plain_count = out - e->plain;
        e->ids = out;
        for (; i < b->draft_count && b->drafts[i].entity == number; i++)
            rules[out++] = rule_of(b, &b->drafts[i]);
        e->id_count = out - e->ids;
        e->wide = out;
        for (; w < b->wide_count && b->wide[w].entity == number; w++)
            rules[out++] = rule_of(b, &b->wide[w]);
        e->wide_count = out - e->wide;
    }
}

/* Drafts stand in the order of the rules, but without the wide ones between them. */
static void fill_slots(const struct builder *b, const struct pst_role_rules *r, uint32_t *slots)
{
    const struct draft *d = b->drafts + r->direct_count;

    for (uint32_t e = 0; e < r->entity_count; e++) {
        const struct pst_entity_rules *entity = &r->entities[e];
        d += entity->plain_count;
        for (uint32_t i = 0; i < entity->id_count; i++, d++) {
            if (i > 0 && d->id == d[-1].id)
                continue;
            uint64_t h = pst_slot_hash(entity->hash, b->texts.hashes[d->id]);
            slots[pst_rules_free_slot(r, h)] = pst_rules_slot(h, entity->ids + i);
        }
    }
}

static struct pst_role_rules *assemble(struct builder *b)
{
    struct pst_rules_parts to;
    struct pst_rules_size size;

    count_sizes(b, &size);
    struct pst_role_rules *r = pst_rules_new(&size, &to);
    if (r == NULL)
        return NULL;
    if (b->texts.len > 0)
        memcpy(to.text, b->texts.blob, b->texts.len);
    memcpy(to.others, b->others, b->other_count * sizeof(*b->others));
    fill_lists(b, &to);
    fill_rules(b, r, &to);
    if (!pst_rules_seal(b->key, r, &to)) { /* cannot be: an entity has one number */
        pst_rules_release(r);
        return NULL;
    }
    fill_slots(b, r, to.slots);
    return r;
}

/* All rows are drafted: what is left is to order them, and to see what they deny. */
static enum pst_status finish_drafts(struct builder *b)
{
    sort_drafts(b);
    for (uint32_t from = 0, to; from < b->draft_count; from = to) {
        for (to = from; to < b->draft_count && b->drafts[to].entity == b->drafts[from].entity; to++)
            ;
        while (from < to && (b->drafts[from].word & PST_RULE_HAS_ID) == 0)
            from++;
        if (from < to && b->drafts[from].entity != DIRECT && !push_wides(b, from, to))
            return PST_E_NOMEM;
    }
    return b->draft_count + b->wide_count >= PST_RULE_INDEX ? PST_E_LIMIT : PST_OK;
}

/* Makes the index of what was drafted, all of `count` rows, unless that failed; frees the builder.
 */
static enum pst_status finish(struct builder *b, enum pst_status status, uint32_t count,
                              struct pst_role_rules **out, struct pst_error *error)
{
    *out = NULL;
    if (status == PST_OK)
        status = finish_drafts(b);
    if (status == PST_OK) {
        *out = assemble(b);
        status = *out == NULL ? PST_E_NOMEM : PST_OK;
    }
    builder_free(b);
    if (status == PST_E_LIMIT)
        return pst_error_set(error, status, NULL, "a role has too many rows (%u) or entities",
                             count);
    if (status == PST_E_NOMEM)
        return pst_error_set(error, status, NULL, "no memory for the rows of a role");
    if (status == PST_OK)
        (*out)->permissions = count;
    return status;
}

enum pst_status pst_rules_build(const struct pst_hash_key *key,
                                const struct pst_permission_row *const *rows, uint32_t count,
                                struct pst_role_rules **out, struct pst_error *error)
{
    struct builder *b = builder_new(key, count);
    enum pst_status status = b == NULL ? PST_E_NOMEM : PST_OK;

    for (uint32_t i = 0; i < count && status == PST_OK; i++)
        status = add_draft(b, rows[i]);
    return finish(b, status, count, out, error);
}

/* ---- from an older index ---- */

/* A row of it. */
struct held {
    uint32_t permission;
    const struct pst_rule *rule; /* NULL: it decides nothing */
};

static int compare_held(const void *x, const void *y)
{
    const struct held *a = x, *b = y;

    return (a->permission > b->permission) - (a->permission < b->permission);
}

/* Mostly they are in order: those of one entity that came with one import. */
static void sort_held(struct held *held, uint32_t count)
{
    uint32_t sorted = 1;

    while (sorted < count && compare_held(&held[sorted - 1], &held[sorted]) < 0)
        sorted++;
    if (sorted < count)
        qsort(held, count, sizeof(*held), compare_held);
}

/* All its rows, by id. NULL: no memory. */
static struct held *hold_rows(const struct pst_role_rules *r)
{
    struct held *held = calloc(r->permissions + 1, sizeof(*held));
    uint32_t count = 0;

    if (held == NULL)
        return NULL;
    for (uint32_t i = 0; i < r->rule_count; i++)
        if ((r->rules[i].word & PST_RULE_WIDE) == 0)
            held[count++] = (struct held){r->rules[i].permission, &r->rules[i]};
    sort_held(held, count);
    for (uint32_t i = 0, rules = count; i < r->other_count; i++) {
        const struct held key = {.permission = r->others[i].same};
        const struct held *same = bsearch(&key, held, rules, sizeof(*held), compare_held);
        held[count++] = (struct held){r->others[i].permission, same == NULL ? NULL : same->rule};
    }
    sort_held(held, count);
    return held;
}

uint32_t *pst_rules_permissions(const struct pst_role_rules *r)
{
    struct held *held = hold_rows(r);
    uint32_t *ids = calloc(r->permissions + 1, sizeof(*ids));

    for (uint64_t i = 0; held != NULL && ids != NULL && i < r->permissions; i++)
        ids[i] = held[i].permission;
    if (held == NULL) {
        free(ids);
        ids = NULL;
    }
    free(held);
    return ids;
}

static bool draft_held_list(struct builder *b, const struct pst_role_rules *r,
                            const struct pst_rule_list *from, uint32_t *list)
{
    uint32_t numbers[PST_ATTRIBUTES_MAX];

    if (from->count > PST_ATTRIBUTES_MAX)
        return false; /* no row has so many */
    for (uint32_t i = 0; i < from->count; i++) {
        const struct pst_rule_name *name = &r->names[from->first + i];
        if (!pst_intern(&b->texts, b->key, pst_rules_text(r, name->at, name->len), &numbers[i]))
            return false;
    }
    return intern_set(b, numbers, from->count, list);
}

static bool draft_held_extra(struct builder *b, const struct pst_role_rules *r,
                             const struct pst_rule_extra *from, uint32_t *number)
{
    uint32_t extra[PST_ATTR_KINDS + 1] = {0};

    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++)
        if (from->list[kind] != 0 &&
            !draft_held_list(b, r, &r->lists[from->list[kind] - 1], &extra[kind]))
            return false;
    if (from->type.len > 0) {
        if (!pst_intern(&b->texts, b->key, pst_rules_text(r, from->type.at, from->type.len),
                        &extra[PST_ATTR_KINDS]))
            return false;
        extra[PST_ATTR_KINDS]++;
    }
    return intern_extra(b, extra, number);
}

/* As add_draft makes one of the row that the rule was made of, in the same order. */
static enum pst_status draft_held(struct builder *b, const struct pst_role_rules *r,
                                  const struct held *h)
{
    const struct pst_rule *rule = h->rule;
    struct draft d = {.permission = h->permission, .entity = DIRECT};

    if (rule == NULL) {
        add_other(b, h->permission, 0);
        return PST_OK;
    }
    d.word = rule->word;
    if ((d.word & PST_RULE_HAS_ID) != 0 &&
        !pst_intern(&b->texts, b->key, pst_rules_text(r, rule->id_at, rule->id_len), &d.id))
        return PST_E_NOMEM;
    if (rule->extra != 0 && !draft_held_extra(b, r, &r->extras[rule->extra - 1], &d.extra))
        return PST_E_NOMEM;
    enum pst_status status = PST_OK;
    if (rule->entity != UINT16_MAX) {
        const struct pst_rule_name *name = &r->entities[rule->entity].name;
        status = entity_number(b, pst_rules_text(r, name->at, name->len), &d.entity);
    }
    if (status == PST_OK)
        b->drafts[b->draft_count++] = d;
    return status;
}

/* Rows in the order of their ids, as pst_rules_build is given them. */
static enum pst_status draft_change(struct builder *b, const struct pst_rules_change *c,
                                    const struct held *held)
{
    uint32_t gone = 0, row = 0, kept = 0;
    enum pst_status status = PST_OK;

    for (uint64_t i = 0; i < c->base->permissions && status == PST_OK; i++) {
        while (gone < c->gone_count && c->gone[gone] < held[i].permission)
            gone++;
        if (gone < c->gone_count && c->gone[gone] == held[i].permission)
            continue;
        for (; row < c->count && c->rows[row]->id < held[i].permission && status == PST_OK; row++)
            status = add_draft(b, c->rows[row]);
        if (kept++ == c->total - c->count)
            return PST_E_INVALID;
        if (status == PST_OK)
            status = draft_held(b, c->base, &held[i]);
    }
    for (; row < c->count && status == PST_OK; row++)
        status = add_draft(b, c->rows[row]);
    return status == PST_OK && kept != c->total - c->count ? PST_E_INVALID : status;
}

enum pst_status pst_rules_change(const struct pst_hash_key *key, const struct pst_rules_change *c,
                                 struct pst_role_rules **out, struct pst_error *error)
{
    struct held *held = hold_rows(c->base);
    struct builder *b = builder_new(key, c->total);
    enum pst_status status = held == NULL || b == NULL ? PST_E_NOMEM
                             : c->count > c->total     ? PST_E_INVALID
                                                       : draft_change(b, c, held);

    free(held);
    if (status == PST_E_INVALID)
        (void)pst_error_set(error, status, NULL,
                            "a role's rows are not those of before and %u more", c->count);
    return finish(b, status, c->total, out, error);
}
