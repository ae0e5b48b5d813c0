/*
 * json_tree.h - a tree from JSON text, for tests below the layer that reads YAML. Single quotes
 * stand for double ones, so that texts read well in C.
 */
#ifndef POSTERN_TESTS_JSON_TREE_H
#define POSTERN_TESTS_JSON_TREE_H

#include <jansson.h>
#include <string.h>

#include "postern/base/tree.h"

static inline struct pst_bytes json_tree_text(const char *text)
{
    return pst_bytes_of(text, strlen(text));
}

/* The line of a node is its number in reading order, from 1. */
static inline bool json_tree_add(struct pst_tree *tree, struct pst_node *parent,
                                 struct pst_bytes key, json_t *json, uint32_t *line)
{
    static const struct pst_bytes none = {.ptr = "", .len = 0};
    struct pst_bytes text = none;
    enum pst_node_kind kind = PST_NODE_SCALAR;
    char number[32];
    const char *name;
    json_t *member;
    size_t i;

    if (json_is_object(json))
        kind = PST_NODE_MAP;
    else if (json_is_array(json))
        kind = PST_NODE_LIST;
    else if (json_is_null(json))
        kind = PST_NODE_NULL;
    else if (json_is_string(json))
        text = pst_bytes_of(json_string_value(json), json_string_length(json));
    else if (json_is_boolean(json))
        text = json_tree_text(json_is_true(json) ? "true" : "false");
    else {
        (void)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(json));
        text = json_tree_text(number);
    }
    struct pst_node *node = pst_tree_add(tree, parent, kind, key, text, (*line)++);
    if (node == NULL)
        return false;
    json_object_foreach(json, name, member) if (!json_tree_add(tree, node, json_tree_text(name),
                                                               member, line)) return false;
    json_array_foreach(json, i,
                       member) if (!json_tree_add(tree, node, none, member, line)) return false;
    return true;
}

/* False: no JSON object. The tree is to be given to pst_tree_fini in any case. */
static inline bool json_tree_load(struct pst_tree *tree, const char *text, size_t length)
{
    uint32_t line = 1;
    json_error_t error;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);

    pst_tree_init(tree, PST_LIT("test.json"), 16u << 20);
    bool good = json_is_object(json) && json_tree_add(tree, NULL, pst_bytes_of("", 0), json, &line);
    json_decref(json);
    return good;
}

static inline bool json_tree_quoted(struct pst_tree *tree, const char *text)
{
    char buffer[16384];
    size_t n = strlen(text);

    if (n >= sizeof(buffer))
        return false;
    for (size_t i = 0; i <= n; i++)
        buffer[i] = text[i] == '\'' ? '"' : text[i];
    return json_tree_load(tree, buffer, n);
}

#endif
