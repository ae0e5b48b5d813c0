/*
 * profile_levels.c - what an answer will show: the read attributes of each entity and operation.
 *
 * Answers are not cut down on their way back, so whoever asks must be allowed to read what the app
 * shows to callers of the operation's own level. The level table lists that: the attributes whose
 * level is not above the one that the operation itself asks for. (What only higher levels read is
 * shown by the app to them alone.)
 */
#include "profile_internal.h"

struct level {
    const char *word;
    int rank;
};

/* Rank of a level word; -1: of callers who are not signed in. */
static int rank_of(struct pst_bytes word)
{
    static const struct level levels[] = {
        {"none", 0},
        {"viewer", 1},
        {"editor", 2},
        {"editor_notebook", 2},
        {"editor_pipeline", 2},
        {"admin", 3},
        {"owner", 4},
        {"self_or_admin", 3},
    };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (pst_bytes_equal(word, pst_bytes_of(levels[i].word, strlen(levels[i].word))))
            return levels[i].rank;
    return -1;
}

/* The lowest rank that the rule of an operation names; -1: none of a signed-in caller. */
static int operation_rank(const struct pst_node *rule)
{
    int lowest = -1;

    if (rule == NULL)
        return -1;
    if (rule->kind == PST_NODE_SCALAR)
        return rank_of(rule->text);
    for (const struct pst_node *n = rule->first; n != NULL; n = n->next) {
        int rank = rank_of(n->text);
        if (rank >= 0 && (lowest < 0 || rank < lowest))
            lowest = rank;
    }
    return lowest;
}

static const struct pst_node *attributes_of(const struct pst_node *entity, struct pst_bytes op)
{
    const struct pst_node *read = pst_node_get(entity, "read"), *all = NULL;

    for (const struct pst_node *n = read == NULL ? NULL : read->first; n != NULL; n = n->next) {
        if (pst_bytes_equal(n->key, op))
            return n;
        if (pst_bytes_equal(n->key, PST_LIT("all")))
            all = n;
    }
    return all;
}

/* The table lists it, but the answer of this operation has no such attribute. */
static bool is_not_shown(const struct profile_entity *entity, struct pst_bytes op,
                         struct pst_bytes name)
{
    const struct pst_node *map = entity->not_shown;

    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL; n = n->next)
        for (const struct pst_node *i = n->first; pst_bytes_equal(n->key, op) && i != NULL;
             i = i->next)
            if (pst_bytes_equal(i->text, name))
                return true;
    return false;
}

static enum pst_status collect(struct profile_builder *b, const struct pst_node *attributes,
                               int rank, struct profile_entity *entity,
                               const struct pst_node *operation)
{
    enum pst_op op = pst_op_of(operation->key);
    struct profile_values names = {0};

    for (const struct pst_node *level = attributes->first; level != NULL; level = level->next) {
        int own = rank_of(level->key);
        for (const struct pst_node *n = level->first; own >= 0 && own <= rank && n != NULL;
             n = n->next) {
            struct pst_bytes name;
            if (is_not_shown(entity, operation->key, n->text))
                continue;
            enum pst_status status = pst_arena_copy(&b->profile->arena, n->text, &name);
            if (status == PST_OK)
                status = profile_values_add(&b->profile->arena, &names, name);
            if (status != PST_OK)
                return status;
        }
    }
    entity->read[op] = names.items;
    entity->read_count[op] = names.count;
    return PST_OK;
}

enum pst_status profile_levels_read(struct profile_builder *b, const struct pst_tree *table,
                                    struct profile_entity *entity)
{
    const struct pst_node *all = pst_node_get(table->root, "levels"), *own = NULL;

    for (const struct pst_node *n = all == NULL ? NULL : all->first; n != NULL; n = n->next)
        own = pst_bytes_equal(n->key, entity->name) ? n : own;
    const struct pst_node *operations = pst_node_get(own, "operations");
    for (const struct pst_node *n = operations == NULL ? NULL : operations->first; n != NULL;
         n = n->next) {
        enum pst_op op = pst_op_of(n->key);
        int rank = operation_rank(n);
        const struct pst_node *attributes = attributes_of(own, n->key);
        if (op == PST_OP_NONE || rank < 0 || attributes == NULL)
            continue;
        enum pst_status status = collect(b, attributes, rank, entity, n);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}
