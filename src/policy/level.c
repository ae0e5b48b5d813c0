/*
 * Both tables are read from trees. An attribute entry keeps (kind, operation or all, rule, names);
 * a look-up takes the entries of the operation first, and those of `all` when none of them names
 * it.
 */
#include "postern/policy/level.h"

#include <stdlib.h>

#include "rules.h"

#define EVERY_KEY        PST_LIT("__*MAGE*__")
#define OPS_ALL          PST_OP_NONE /* of an attribute entry */
#define LEVELS_BYTES_MAX (4u << 20)

struct entry {
    struct entry *next;
    enum pst_attribute_kind kind;
    enum pst_op op;
    struct pst_level_rule rule;
    const struct pst_bytes *names;
    uint32_t name_count;
};

struct entity {
    struct pst_bytes name;
    enum pst_level_question question;
    struct pst_level_rule operations[PST_OPS];
    uint8_t open[PST_OPS]; /* bit 0: for the signed in, bit 1: for the others */
    bool closed;
    struct entry *entries;
};

struct pst_levels {
    struct pst_arena arena;
    struct entity *entities;
    uint16_t *slots; /* index + 1 */
    uint32_t count, mask;
};

struct reader {
    const struct pst_tree *tree;
    struct pst_levels *levels;
    struct pst_error *error;
};

static const char *const NAMES[PST_LEVELS] = {
    [PST_LEVEL_NONE] = "none",
    [PST_LEVEL_VIEWER] = "viewer",
    [PST_LEVEL_EDITOR] = "editor",
    [PST_LEVEL_EDITOR_NOTEBOOK] = "editor_notebook",
    [PST_LEVEL_EDITOR_PIPELINE] = "editor_pipeline",
    [PST_LEVEL_ADMIN] = "admin",
    [PST_LEVEL_OWNER] = "owner",
    [PST_LEVEL_SELF_OR_ADMIN] = "self_or_admin",
};

/* Names are those of the file, not of a client: any key will do, and a fixed one keeps look-ups
 * pure. */
static const struct pst_hash_key KEY = {UINT64_C(0x706f737465726e), UINT64_C(0x6c6576656c73)};

const char *pst_level_name(enum pst_level level)
{
    return (unsigned)level < PST_LEVELS ? NAMES[level] : NAMES[PST_LEVEL_NONE];
}

static enum pst_status out_of_memory(const struct reader *r)
{
    return pst_error_set(r->error, PST_E_NOMEM, NULL, "no memory for the level table");
}

/* "viewer", or "public_viewer" for callers who are not signed in. */
static enum pst_status add_level(const struct reader *r, const struct pst_node *at,
                                 struct pst_bytes word, struct pst_level_rule *rule)
{
    bool public = pst_bytes_starts(word, PST_LIT("public_"));
    struct pst_bytes name = public ? pst_bytes_from(word, sizeof("public_") - 1) : word;

    for (unsigned level = 0; level < PST_LEVELS; level++) {
        if (!pst_bytes_equal(name, pst_bytes_of(NAMES[level], strlen(NAMES[level]))))
            continue;
        if (public)
            rule->signed_out = (uint16_t)(rule->signed_out | 1u << level);
        else
            rule->signed_in = (uint16_t)(rule->signed_in | 1u << level);
        return PST_OK;
    }
    return pst_node_fail(r->tree, at, r->error, "\"%.*s\" is no level", (int)word.len, word.ptr);
}

/* One word or a list of words. */
static enum pst_status read_rule(const struct reader *r, const struct pst_node *node,
                                 struct pst_level_rule *rule)
{
    if (node->kind == PST_NODE_SCALAR)
        return add_level(r, node, node->text, rule);
    if (node->kind != PST_NODE_LIST)
        return pst_node_fail(r->tree, node, r->error, "must be a level or a list of levels");
    for (const struct pst_node *n = node->first; n != NULL; n = n->next) {
        enum pst_status status = add_level(r, n, n->text, rule);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

static enum pst_status read_op(const struct reader *r, const struct pst_node *node, bool all_too,
                               enum pst_op *op)
{
    *op = pst_op_of(node->key);
    if (all_too && pst_bytes_equal(node->key, PST_LIT("all"))) {
        *op = OPS_ALL;
        return PST_OK;
    }
    if (*op == PST_OP_NONE || *op == PST_OP_NOT_DENIED)
        return pst_node_fail(r->tree, node, r->error, "is no operation");
    return PST_OK;
}

static enum pst_status read_operations(const struct reader *r, const struct pst_node *map,
                                       struct entity *entity)
{
    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL; n = n->next) {
        enum pst_op op;
        enum pst_status status = read_op(r, n, false, &op);
        if (status == PST_OK)
            status = read_rule(r, n, &entity->operations[op]);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

static enum pst_status read_entry(const struct reader *r, const struct pst_node *list,
                                  struct entity *entity, enum pst_attribute_kind kind,
                                  enum pst_op op)
{
    struct entry *e = pst_arena_zalloc(&r->levels->arena, sizeof(*e));
    struct pst_bytes *names;
    enum pst_status status;

    if (list->kind != PST_NODE_LIST)
        return pst_node_fail(r->tree, list, r->error, "must be a list of attributes");
    names = pst_arena_array(&r->levels->arena, list->count, sizeof(*names));
    if (e == NULL || names == NULL)
        return out_of_memory(r);
    *e = (struct entry){.next = entity->entries, .kind = kind, .op = op, .names = names};
    status = add_level(r, list, list->key, &e->rule);
    if (status != PST_OK)
        return status;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next)
        if (pst_arena_copy(&r->levels->arena, n->text, &names[e->name_count++]) != PST_OK)
            return out_of_memory(r);
    entity->entries = e;
    return PST_OK;
}

static enum pst_status read_attributes(const struct reader *r, const struct pst_node *map,
                                       struct entity *entity, enum pst_attribute_kind kind)
{
    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL; n = n->next) {
        enum pst_op op;
        enum pst_status status = read_op(r, n, true, &op);
        if (status != PST_OK)
            return status;
        if (n->kind != PST_NODE_MAP)
            return pst_node_fail(r->tree, n, r->error, "must be a map of levels");
        for (const struct pst_node *l = n->first; l != NULL; l = l->next) {
            status = read_entry(r, l, entity, kind, op);
            if (status != PST_OK)
                return status;
        }
    }
    return PST_OK;
}

static enum pst_status read_open(const struct reader *r, const struct pst_node *map,
                                 struct entity *entity)
{
    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL; n = n->next) {
        enum pst_op op;
        enum pst_status status = read_op(r, n, false, &op);
        if (status != PST_OK)
            return status;
        if (pst_bytes_equal(n->text, PST_LIT("signed_out")))
            entity->open[op] = 2;
        else if (pst_bytes_equal(n->text, PST_LIT("everybody")))
            entity->open[op] = 3;
        else
            return pst_node_fail(r->tree, n, r->error, "must be signed_out or everybody");
    }
    return PST_OK;
}

static enum pst_status read_entity(const struct reader *r, const struct pst_node *node,
                                   struct entity *entity)
{
    static const char *const KEYS[] = {"question", "operations", "query",  "write",
                                       "read",     "open",       "closed", NULL};
    static const char *const QUESTIONS[] = {"project", "any", "pipeline", NULL};
    unsigned question = 0;
    enum pst_status status = pst_node_only(r->tree, node, KEYS, r->error);

    if (status == PST_OK && pst_arena_copy(&r->levels->arena, node->key, &entity->name) != PST_OK)
        status = out_of_memory(r);
    if (status == PST_OK)
        status = pst_node_enum(r->tree, node, "question", QUESTIONS, &question, r->error);
    entity->question = (enum pst_level_question)question;
    if (status == PST_OK)
        status = pst_node_bool(r->tree, node, "closed", &entity->closed, r->error);
    if (status == PST_OK)
        status = read_operations(r, pst_node_get(node, "operations"), entity);
    if (status == PST_OK)
        status = read_attributes(r, pst_node_get(node, "query"), entity, PST_ATTR_QUERY);
    if (status == PST_OK)
        status = read_attributes(r, pst_node_get(node, "write"), entity, PST_ATTR_WRITE);
    if (status == PST_OK)
        status = read_attributes(r, pst_node_get(node, "read"), entity, PST_ATTR_READ);
    if (status == PST_OK)
        status = read_open(r, pst_node_get(node, "open"), entity);
    return status;
}

static const struct entity *find_entity(const struct pst_levels *levels, struct pst_bytes name)
{
    if (levels == NULL)
        return NULL;
    for (uint32_t at = (uint32_t)pst_text_hash(&KEY, name) & levels->mask;;
         at = (at + 1) & levels->mask) {
        if (levels->slots[at] == 0)
            return NULL;
        const struct entity *e = &levels->entities[levels->slots[at] - 1];
        if (pst_bytes_equal(e->name, name))
            return e;
    }
}

static enum pst_status read_entities(const struct reader *r, const struct pst_node *map)
{
    struct pst_levels *levels = r->levels;
    uint32_t size = 4;

    if (map->count > 4096)
        return pst_node_fail(r->tree, map, r->error, "too many entities");
    while (size < map->count * 2 + 2)
        size *= 2;
    levels->mask = size - 1;
    levels->slots = pst_arena_array(&levels->arena, size, sizeof(*levels->slots));
    levels->entities = pst_arena_array(&levels->arena, map->count, sizeof(*levels->entities));
    if (levels->slots == NULL || levels->entities == NULL)
        return out_of_memory(r);
    for (const struct pst_node *n = map->first; n != NULL; n = n->next) {
        struct entity *entity = &levels->entities[levels->count];
        if (find_entity(levels, n->key) != NULL)
            return pst_node_fail(r->tree, n, r->error, "stands twice");
        enum pst_status status = read_entity(r, n, entity);
        if (status != PST_OK)
            return status;
        uint32_t at = (uint32_t)pst_text_hash(&KEY, entity->name) & levels->mask;
        while (levels->slots[at] != 0)
            at = (at + 1) & levels->mask;
        levels->slots[at] = (uint16_t)++levels->count;
    }
    return PST_OK;
}

enum pst_status pst_levels_load(const struct pst_tree *tree, struct pst_levels **out,
                                struct pst_error *error)
{
    static const char *const KEYS[] = {"levels", NULL};
    struct reader r = {.tree = tree, .levels = calloc(1, sizeof(*r.levels)), .error = error};
    const struct pst_node *map = pst_node_get(tree->root, "levels");
    enum pst_status status;

    *out = NULL;
    if (r.levels == NULL)
        return out_of_memory(&r);
    pst_arena_init(&r.levels->arena, 16384, LEVELS_BYTES_MAX);
    status = pst_node_only(tree, tree->root, KEYS, error);
    if (status == PST_OK && (map == NULL || map->kind != PST_NODE_MAP))
        status =
            pst_node_fail(tree, map == NULL ? tree->root : map, error, "needs a map \"levels\"");
    if (status == PST_OK)
        status = read_entities(&r, map);
    if (status != PST_OK)
        pst_levels_free(r.levels);
    else
        *out = r.levels;
    return status;
}

void pst_levels_free(struct pst_levels *levels)
{
    if (levels == NULL)
        return;
    pst_arena_fini(&levels->arena);
    free(levels);
}

enum pst_level_question pst_levels_question(const struct pst_levels *levels,
                                            struct pst_bytes entity)
{
    const struct entity *e = find_entity(levels, entity);

    return e == NULL ? PST_ASK_PROJECT : e->question;
}

struct pst_level_rule pst_levels_operation(const struct pst_levels *levels, struct pst_bytes entity,
                                           enum pst_op op)
{
    const struct entity *e = find_entity(levels, entity);

    if (e == NULL || (unsigned)op >= PST_OPS)
        return (struct pst_level_rule){0};
    return e->operations[op];
}

static bool has_name(const struct entry *e, struct pst_bytes name)
{
    for (uint32_t i = 0; i < e->name_count; i++)
        if (pst_bytes_equal(e->names[i], name))
            return true;
    return false;
}

/* The levels of all entries of (kind, op) that name it; false when there is none. */
static bool find_rule(const struct entity *e, enum pst_attribute_kind kind, enum pst_op op,
                      struct pst_bytes name, struct pst_level_rule *rule)
{
    bool found = false;

    *rule = (struct pst_level_rule){0};
    for (const struct entry *n = e->entries; n != NULL; n = n->next) {
        if (n->kind != kind || n->op != op || !has_name(n, name))
            continue;
        rule->signed_in = (uint16_t)(rule->signed_in | n->rule.signed_in);
        rule->signed_out = (uint16_t)(rule->signed_out | n->rule.signed_out);
        found = true;
    }
    return found;
}

struct pst_level_rule pst_levels_attribute(const struct pst_levels *levels, struct pst_bytes entity,
                                           enum pst_op op, enum pst_attribute_kind kind,
                                           struct pst_bytes name)
{
    const struct entity *e = find_entity(levels, entity);
    struct pst_level_rule rule = {0};

    if (e == NULL || find_rule(e, kind, op, name, &rule) ||
        find_rule(e, kind, OPS_ALL, name, &rule))
        return rule;
    if (kind == PST_ATTR_QUERY && !find_rule(e, kind, op, EVERY_KEY, &rule))
        (void)find_rule(e, kind, OPS_ALL, EVERY_KEY, &rule);
    return rule;
}

bool pst_levels_open(const struct pst_levels *levels, struct pst_bytes entity, enum pst_op op,
                     bool signed_in)
{
    const struct entity *e = find_entity(levels, entity);

    return e != NULL && (unsigned)op < PST_OPS && (e->open[op] & (signed_in ? 1 : 2)) != 0;
}

bool pst_levels_closed(const struct pst_levels *levels, struct pst_bytes entity, enum pst_op op)
{
    const struct entity *e = find_entity(levels, entity);

    return e != NULL && e->closed && !pst_levels_open(levels, entity, op, true);
}

/* ---- presets ---- */

bool pst_presets_find(const struct pst_presets *presets, struct pst_bytes name, uint64_t *access)
{
    for (uint32_t i = 0; i < presets->count; i++) {
        if (pst_bytes_equal(presets->presets[i].name, name)) {
            *access = presets->presets[i].access;
            return true;
        }
    }
    *access = 0;
    return false;
}

static enum pst_status read_preset(const struct pst_tree *tree, const struct pst_node *node,
                                   struct pst_presets *out, struct pst_error *error)
{
    uint64_t access = 0, more = 0;

    if (node->kind != PST_NODE_LIST || node->count == 0)
        return pst_node_fail(tree, node, error, "must be a list of bits and presets");
    if (pst_presets_find(out, node->key, &more))
        return pst_node_fail(tree, node, error, "stands twice");
    if (out->count == sizeof(out->presets) / sizeof(out->presets[0]))
        return pst_node_fail(tree, node, error, "too many presets");
    for (const struct pst_node *n = node->first; n != NULL; n = n->next) {
        /* A preset may have the name of a bit it holds (USE): itself it is not yet in the table. */
        if (!pst_presets_find(out, n->text, &more))
            more = pst_access_of(n->text);
        if (more == 0)
            return pst_node_fail(tree, n, error, "\"%.*s\" is neither a bit nor a preset above",
                                 (int)n->text.len, n->text.ptr);
        access |= more;
    }
    if (pst_arena_copy(&out->arena_, node->key, &out->presets[out->count].name) != PST_OK)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the presets");
    out->presets[out->count++].access = access;
    return PST_OK;
}

enum pst_status pst_presets_load(const struct pst_tree *tree, struct pst_presets *out,
                                 struct pst_error *error)
{
    static const char *const KEYS[] = {"levels", NULL};
    const struct pst_node *map = pst_node_get(tree->root, "levels");
    enum pst_status status;

    *out = (struct pst_presets){0};
    pst_arena_init(&out->arena_, 1024, 65536);
    status = pst_node_only(tree, tree->root, KEYS, error);
    if (status == PST_OK && (map == NULL || map->kind != PST_NODE_MAP))
        status =
            pst_node_fail(tree, map == NULL ? tree->root : map, error, "needs a map \"levels\"");
    for (const struct pst_node *n = status == PST_OK ? map->first : NULL; n != NULL; n = n->next) {
        status = read_preset(tree, n, out, error);
        if (status != PST_OK)
            break;
    }
    if (status != PST_OK)
        pst_presets_fini(out);
    return status;
}

void pst_presets_fini(struct pst_presets *presets)
{
    pst_arena_fini(&presets->arena_);
    *presets = (struct pst_presets){0};
}
