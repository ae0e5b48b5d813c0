/*
 * tree.h - a document (YAML or JSON) as a tree that remembers its lines.
 *
 * Purpose  Configuration, profiles, roles and declarations are read from one kind of tree, so that
 *          each message can say file:line:key and each reader refuses unknown keys the same way.
 *          app/yaml makes trees from files; tests make them from text.
 *
 * Memory   The tree owns all its nodes and texts (one arena). Nodes are borrowed from it.
 *
 * Use      A reader takes what it knows with pst_node_get and closes with pst_node_only, which
 *          refuses every key that is not in the list.
 */
#ifndef POSTERN_BASE_TREE_H
#define POSTERN_BASE_TREE_H

#include <stdint.h>

#include "postern/base/arena.h"
#include "postern/base/error.h"

enum pst_node_kind {
    PST_NODE_NULL = 0,
    PST_NODE_SCALAR, /* text; `quoted` tells "8" from 8 */
    PST_NODE_LIST,
    PST_NODE_MAP,
};

struct pst_node {
    enum pst_node_kind kind;
    uint32_t line;         /* from 1 */
    struct pst_bytes key;  /* in a map: its key; in a list: empty */
    struct pst_bytes text; /* of a scalar, NUL-terminated beyond its length */
    bool quoted;
    struct pst_node *parent; /* NULL at the root */
    struct pst_node *first;  /* of a list or a map */
    struct pst_node *next;   /* sibling */
    struct pst_node *last_;
    uint32_t count; /* children */
};

struct pst_tree {
    struct pst_arena arena;
    struct pst_bytes name; /* of the file, for messages */
    struct pst_node *root;
};

/* limit: bytes that the tree may take. */
void pst_tree_init(struct pst_tree *tree, struct pst_bytes name, size_t limit);
void pst_tree_fini(struct pst_tree *tree);

/* Appends a child to `parent` (NULL: sets the root). NULL when memory is short. key is copied. */
struct pst_node *pst_tree_add(struct pst_tree *tree, struct pst_node *parent,
                              enum pst_node_kind kind, struct pst_bytes key, struct pst_bytes text,
                              uint32_t line);

/* NULL when `map` is NULL, no map, or has no such key. */
const struct pst_node *pst_node_get(const struct pst_node *map, const char *key);

/* NULL when `list` is NULL, no list, or shorter. */
const struct pst_node *pst_node_at(const struct pst_node *list, uint32_t index);

/* file:line:key.path of a node, for pst_error. */
enum pst_status pst_node_fail(const struct pst_tree *tree, const struct pst_node *node,
                              struct pst_error *error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Refuses keys of a map that are not among `keys` (a NULL-terminated list), and a node that is no
 * map. A NULL node passes. */
PST_MUST_USE enum pst_status pst_node_only(const struct pst_tree *tree, const struct pst_node *map,
                                           const char *const *keys, struct pst_error *error);

/* Readers of one value of a map. An absent key leaves *out as it is and returns PST_OK; a value of
 * the wrong kind is an error that names the key. */
PST_MUST_USE enum pst_status pst_node_text(const struct pst_tree *tree, const struct pst_node *map,
                                           const char *key, struct pst_bytes *out,
                                           struct pst_error *error);
PST_MUST_USE enum pst_status pst_node_bool(const struct pst_tree *tree, const struct pst_node *map,
                                           const char *key, bool *out, struct pst_error *error);
/* Decimal, min..max inclusive. */
PST_MUST_USE enum pst_status pst_node_u64(const struct pst_tree *tree, const struct pst_node *map,
                                          const char *key, uint64_t min, uint64_t max,
                                          uint64_t *out, struct pst_error *error);
/* One of `names` (NULL-terminated); *out becomes its index. */
PST_MUST_USE enum pst_status pst_node_enum(const struct pst_tree *tree, const struct pst_node *map,
                                           const char *key, const char *const *names, unsigned *out,
                                           struct pst_error *error);

#endif
