/*
 * mage_vectors.h - reads the Mage vectors into Postern's own types; for the decision suite and the tests
 *                  of the shipped files.
 *
 * Everything here is test code: a form that it has no word for ends the program.
 */
#ifndef POSTERN_TESTS_MAGE_VECTORS_H
#define POSTERN_TESTS_MAGE_VECTORS_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "postern/policy/eval.h"
#include "postern/policy/level.h"
#include "../tally.h"

#define MV_LIST_MAX  512
#define MV_ROLES_MAX 64

static inline void mv_die(const char *what, const char *detail)
{
    fprintf(stderr, "mage vectors: %s: %s\n", what, detail);
    exit(2);
}

static inline struct pst_bytes mv_text(const json_t *value)
{
    return value == NULL || !json_is_string(value)
               ? (struct pst_bytes){0}
               : pst_bytes_of(json_string_value(value), json_string_length(value));
}

static inline struct pst_bytes mv_cstr(const char *text)
{
    return pst_bytes_of(text, strlen(text));
}

static inline json_t *mv_load(const char *dir, const char *name)
{
    struct tally t = tally_of(dir, name);

    return tally_load(&t, dir, JSON_REJECT_DUPLICATES);
}

/* An id that may be a number in the file; `space` keeps its digits. */
static inline struct pst_bytes mv_id(const json_t *value, char space[24])
{
    if (json_is_integer(value)) {
        snprintf(space, 24, "%lld", (long long)json_integer_value(value));
        return mv_cstr(space);
    }
    return mv_text(value);
}

/* An attribute list: an array, or one text that is split at commas (G10). */
static inline uint32_t mv_list(const json_t *value, struct pst_bytes *names)
{
    uint32_t count = 0;

    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        if (count == MV_LIST_MAX)
            mv_die("list", "too long");
        names[count++] = mv_text(json_array_get(value, i));
    }
    if (!json_is_string(value))
        return count;
    struct pst_bytes rest = mv_text(value);
    while (rest.len > 0) {
        size_t at = pst_bytes_find(rest, ',');
        struct pst_bytes name = pst_bytes_trim(pst_bytes_of(rest.ptr, at));
        if (name.len > 0)
            names[count++] = name;
        rest = pst_bytes_from(rest, at < rest.len ? at + 1 : at);
    }
    return count;
}

static inline enum pst_scope mv_scope(const json_t *value)
{
    struct pst_bytes text = mv_text(value);

    if (text.len == 0 || pst_bytes_equal(text, PST_LIT("global")))
        return PST_SCOPE_GLOBAL;
    if (pst_bytes_equal(text, PST_LIT("project")))
        return PST_SCOPE_PROJECT;
    if (!pst_bytes_equal(text, PST_LIT("pipeline")))
        mv_die("scope", json_string_value(value));
    return PST_SCOPE_PIPELINE;
}

/* One permission of a vector or of the default roles, added to the model. */
static inline void mv_permission(struct pst_model *model, uint32_t role, bool direct, const json_t *p,
                                 bool unless_conditions)
{
    static const char *const LISTS[PST_ATTR_KINDS] = {
        [PST_ATTR_QUERY] = "query_attributes",
        [PST_ATTR_WRITE] = "write_attributes",
        [PST_ATTR_READ] = "read_attributes",
    };
    const json_t *options = json_object_get(p, "options"), *access = json_object_get(p, "access");
    const json_t *id = json_object_get(p, "entity_id");
    struct pst_bytes names[PST_ATTR_KINDS][MV_LIST_MAX], conditions[MV_LIST_MAX];
    char digits[24];
    struct pst_permission_row row = {
        .id = model->permission_count + 1,
        .role = role,
        .direct = direct,
        .scope = mv_scope(json_object_get(p, "scope")),
        .entity = mv_text(json_object_get(p, "entity_name")),
        .entity_type = mv_text(json_object_get(p, "entity_type")),
        .has_entity_id = id != NULL && !json_is_null(id),
        .entity_id = mv_id(id, digits),
        .has_access = json_is_integer(access),
        .access = (uint64_t)json_integer_value(access),
    };

    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        row.attributes[kind] = names[kind];
        row.attribute_count[kind] = mv_list(json_object_get(options, LISTS[kind]), names[kind]);
    }
    for (uint32_t i = 0, n = mv_list(json_object_get(options, "conditions"), conditions); i < n; i++)
        row.conditions |= pst_condition_of(conditions[i]);
    if (json_is_true(json_object_get(p, "attributes_only")))
        row.access |= PST_A_ATTRIBUTES_ONLY;
    if (unless_conditions && row.conditions != 0)
        row.access |= PST_A_UNLESS_CONDITIONS;
    if (pst_model_add_permission(model, &row) != PST_OK)
        mv_die("permission", "not accepted");
}

/* NULL when the roles can be read, else what is strange about them; the word is in *word. */
static inline const char *mv_strange_roles(const json_t *roles, const char **word)
{
    static const char *const LISTS[] = {"permissions", "direct_permissions"};
    static const char *const SCOPES[] = {"", "global", "project", "pipeline", NULL};

    *word = "";
    if (json_array_size(roles) > MV_ROLES_MAX)
        return "so many roles";
    for (size_t i = 0; i < json_array_size(roles); i++)
        for (size_t l = 0; l < 2; l++) {
            const json_t *rows = json_object_get(json_array_get(roles, i), LISTS[l]);
            for (size_t k = 0; k < json_array_size(rows); k++) {
                *word = tally_text(json_array_get(rows, k), "scope");
                if (!tally_among(*word, SCOPES))
                    return "scope";
            }
        }
    return NULL;
}

/* By its needs; somebody who would have to sign in with Mage first matters only where the answer is
 * not Postern's own. True when the case cannot be run. */
static inline bool mv_needs(struct tally *t, const json_t *json, const char *id)
{
    static const char *const NOW[] = {"answer_parser", "mage_login", NULL};
    static const char *const NOT_SIGNED_IN[] = {"answer_parser", NULL};
    static const char *const LATER[] = {"mage_login", "socket", "lifecycle", NULL};

    return tally_needs(t, json, id, json_object_get(json, "expect") != NULL ? NOW : NOT_SIGNED_IN,
                       LATER);
}

/* mage.md 3.7, and the three entities whose rules with permissions on are their own (3.3). */
static inline const char *mv_question(const char *entity)
{
    static const char *const ANY[] = {"AutocompleteItem", "BlockTemplate", "BrowserItem", "Cluster",
                                      "CodeExecution", "DataProvider", "EventRule",
                                      "ExecutionFramework", "ExtensionOption", "FileVersion", "Kernel",
                                      "KernelProcess", "PipelineExecutionFramework", "Session", NULL};
    static const char *const PIPELINE[] = {"Pipeline", "PipelineSchedule", "PipelineRun", "BlockRun",
                                           "Block", "Backfill", "Variable", "Widget", "Llm", "Log",
                                           "Output", NULL};

    for (size_t i = 0; ANY[i] != NULL; i++)
        if (strcmp(ANY[i], entity) == 0)
            return "any";
    for (size_t i = 0; PIPELINE[i] != NULL; i++)
        if (strcmp(PIPELINE[i], entity) == 0)
            return "pipeline";
    return "project";
}

static inline struct pst_node *mv_add(struct pst_tree *tree, struct pst_node *parent,
                                      enum pst_node_kind kind, const char *key, const char *text)
{
    struct pst_node *node = pst_tree_add(tree, parent, kind, mv_cstr(key), mv_cstr(text), 1);

    if (node == NULL)
        mv_die("tree", "no memory");
    return node;
}

static inline void mv_level_word(char out[64], const json_t *rule)
{
    bool public = strcmp(json_string_value(json_object_get(rule, "scope")), "public") == 0;

    snprintf(out, 64, "%s%s", public ? "public_" : "", json_string_value(json_object_get(rule, "level")));
}

static inline void mv_operations(struct pst_tree *tree, struct pst_node *entity, json_t *operations)
{
    struct pst_node *map = mv_add(tree, entity, PST_NODE_MAP, "operations", "");
    const char *op;
    json_t *rules;

    json_object_foreach(operations, op, rules) {
        struct pst_node *list = mv_add(tree, map, PST_NODE_LIST, op, "");
        for (size_t i = 0; i < json_array_size(rules); i++) {
            char word[64];
            mv_level_word(word, json_array_get(rules, i));
            mv_add(tree, list, PST_NODE_SCALAR, "", word);
        }
    }
}

static inline void mv_attributes(struct pst_tree *tree, struct pst_node *entity, const char *kind,
                                 json_t *table)
{
    struct pst_node *map = mv_add(tree, entity, PST_NODE_MAP, kind, "");
    const char *op;
    json_t *rules;

    json_object_foreach(table, op, rules) {
        struct pst_node *levels = mv_add(tree, map, PST_NODE_MAP, op, "");
        for (size_t i = 0; i < json_array_size(rules); i++) {
            json_t *names = json_object_get(json_array_get(rules, i), "attributes");
            char word[64];
            mv_level_word(word, json_array_get(rules, i));
            struct pst_node *list = mv_add(tree, levels, PST_NODE_LIST, word, "");
            for (size_t k = 0; k < json_array_size(names); k++)
                mv_add(tree, list, PST_NODE_SCALAR, "", json_string_value(json_array_get(names, k)));
        }
    }
}

static inline void mv_special(struct pst_tree *tree, struct pst_node *entity, const char *name)
{
    struct pst_node *open;

    if (strcmp(name, "Status") == 0) {
        open = mv_add(tree, entity, PST_NODE_MAP, "open", "");
        mv_add(tree, open, PST_NODE_SCALAR, "list", "everybody");
        mv_add(tree, entity, PST_NODE_SCALAR, "closed", "true");
    } else if (strcmp(name, "Session") == 0) {
        open = mv_add(tree, entity, PST_NODE_MAP, "open", "");
        mv_add(tree, open, PST_NODE_SCALAR, "create", "signed_out");
    } else if (strcmp(name, "Oauth") == 0) {
        open = mv_add(tree, entity, PST_NODE_MAP, "open", "");
        mv_add(tree, open, PST_NODE_SCALAR, "list", "signed_out");
        mv_add(tree, open, PST_NODE_SCALAR, "detail", "signed_out");
    }
}

/* The level table from mage_policies.json. */
static inline struct pst_levels *mv_levels(json_t *policies)
{
    struct pst_tree tree;
    struct pst_levels *levels;
    struct pst_error error;
    const char *name;
    json_t *policy;

    pst_tree_init(&tree, PST_LIT("mage_policies.json"), 64u << 20);
    struct pst_node *root = mv_add(&tree, NULL, PST_NODE_MAP, "", "");
    struct pst_node *map = mv_add(&tree, root, PST_NODE_MAP, "levels", "");
    json_object_foreach(json_object_get(policies, "entities"), name, policy) {
        struct pst_node *entity = mv_add(&tree, map, PST_NODE_MAP, name, "");
        mv_add(&tree, entity, PST_NODE_SCALAR, "question", mv_question(name));
        mv_operations(&tree, entity, json_object_get(policy, "operations"));
        mv_attributes(&tree, entity, "query", json_object_get(policy, "query"));
        mv_attributes(&tree, entity, "write", json_object_get(policy, "write"));
        mv_attributes(&tree, entity, "read", json_object_get(policy, "read"));
        mv_special(&tree, entity, name);
    }
    if (pst_levels_load(&tree, &levels, &error) != PST_OK)
        mv_die(error.where, error.message);
    pst_tree_fini(&tree);
    return levels;
}

#endif
