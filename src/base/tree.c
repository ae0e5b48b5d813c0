#include "postern/base/tree.h"

#include <stdarg.h>
#include <stdio.h>

void pst_tree_init(struct pst_tree *tree, struct pst_bytes name, size_t limit)
{
    *tree = (struct pst_tree){0};
    pst_arena_init(&tree->arena, 16384, limit);
    if (pst_arena_copy(&tree->arena, name, &tree->name) != PST_OK)
        tree->name = (struct pst_bytes){.ptr = "", .len = 0};
}

void pst_tree_fini(struct pst_tree *tree)
{
    pst_arena_fini(&tree->arena);
    *tree = (struct pst_tree){0};
}

struct pst_node *pst_tree_add(struct pst_tree *tree, struct pst_node *parent,
                              enum pst_node_kind kind, struct pst_bytes key, struct pst_bytes text,
                              uint32_t line)
{
    struct pst_node *node = pst_arena_zalloc(&tree->arena, sizeof(*node));

    if (node == NULL || pst_arena_copy(&tree->arena, key, &node->key) != PST_OK ||
        pst_arena_copy(&tree->arena, text, &node->text) != PST_OK)
        return NULL;
    node->kind = kind;
    node->line = line;
    node->parent = parent;
    if (parent == NULL) {
        tree->root = node;
        return node;
    }
    if (parent->last_ == NULL)
        parent->first = node;
    else
        parent->last_->next = node;
    parent->last_ = node;
    parent->count++;
    return node;
}

const struct pst_node *pst_node_get(const struct pst_node *map, const char *key)
{
    if (map == NULL || map->kind != PST_NODE_MAP)
        return NULL;
    struct pst_bytes name = pst_bytes_of(key, strlen(key));
    for (const struct pst_node *n = map->first; n != NULL; n = n->next)
        if (pst_bytes_equal(n->key, name))
            return n;
    return NULL;
}

const struct pst_node *pst_node_at(const struct pst_node *list, uint32_t index)
{
    if (list == NULL || list->kind != PST_NODE_LIST)
        return NULL;
    const struct pst_node *n = list->first;
    while (n != NULL && index-- > 0)
        n = n->next;
    return n;
}

static uint32_t index_in_parent(const struct pst_node *node)
{
    uint32_t at = 0;

    for (const struct pst_node *n = node->parent->first; n != node; n = n->next)
        at++;
    return at;
}

/* Appends a.b[2].c to `where`, cut to what fits. */
static void put_path(const struct pst_node *node, char *where, size_t cap, size_t *len)
{
    if (node == NULL || node->parent == NULL)
        return;
    put_path(node->parent, where, cap, len);

    char part[128];
    if (node->parent->kind == PST_NODE_LIST)
        (void)snprintf(part, sizeof(part), "[%u]", index_in_parent(node));
    else
        (void)snprintf(part, sizeof(part), "%s%s", node->parent->parent == NULL ? "" : ".",
                       node->key.ptr);
    int n = snprintf(where + *len, cap - *len, "%s", part);
    if (n > 0)
        *len += (size_t)n < cap - *len ? (size_t)n : cap - *len - 1;
}

enum pst_status pst_node_fail(const struct pst_tree *tree, const struct pst_node *node,
                              struct pst_error *error, const char *format, ...)
{
    char where[sizeof(((struct pst_error *)NULL)->where)];
    char message[sizeof(((struct pst_error *)NULL)->message)];
    va_list args;

    int n =
        node != NULL && node->line == 0 /* set by a variable, not by a line of the file */
            ? snprintf(where, sizeof(where), "environment")
            : snprintf(where, sizeof(where), "%s:%u", tree->name.len == 0 ? "-" : tree->name.ptr,
                       node == NULL ? 1 : node->line);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(where) ? (size_t)n : sizeof(where) - 1;
    if (node != NULL && node->parent != NULL && len + 1 < sizeof(where)) {
        where[len++] = ':';
        where[len] = '\0';
        put_path(node, where, sizeof(where), &len);
    }

    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return pst_error_set(error, PST_E_INVALID, where, "%s", message);
}

enum pst_status pst_node_only(const struct pst_tree *tree, const struct pst_node *map,
                              const char *const *keys, struct pst_error *error)
{
    if (map == NULL)
        return PST_OK;
    if (map->kind != PST_NODE_MAP)
        return pst_node_fail(tree, map, error, "expected a map of keys");
    for (const struct pst_node *n = map->first; n != NULL; n = n->next) {
        bool known = false;
        for (size_t i = 0; keys[i] != NULL && !known; i++)
            known = pst_bytes_equal(n->key, pst_bytes_of(keys[i], strlen(keys[i])));
        if (!known)
            return pst_node_fail(tree, n, error, "unknown key \"%s\"", n->key.ptr);
    }
    return PST_OK;
}

static enum pst_status scalar(const struct pst_tree *tree, const struct pst_node *map,
                              const char *key, const struct pst_node **out, struct pst_error *error)
{
    *out = pst_node_get(map, key);
    if (*out == NULL || (*out)->kind == PST_NODE_NULL) {
        *out = NULL;
        return PST_OK;
    }
    if ((*out)->kind != PST_NODE_SCALAR)
        return pst_node_fail(tree, *out, error, "expected one value, not a list or a map");
    return PST_OK;
}

enum pst_status pst_node_text(const struct pst_tree *tree, const struct pst_node *map,
                              const char *key, struct pst_bytes *out, struct pst_error *error)
{
    const struct pst_node *n;
    enum pst_status status = scalar(tree, map, key, &n, error);

    if (status == PST_OK && n != NULL)
        *out = n->text;
    return status;
}

enum pst_status pst_node_bool(const struct pst_tree *tree, const struct pst_node *map,
                              const char *key, bool *out, struct pst_error *error)
{
    const struct pst_node *n;
    enum pst_status status = scalar(tree, map, key, &n, error);

    if (status != PST_OK || n == NULL)
        return status;
    if (pst_bytes_equal(n->text, PST_LIT("true")) || pst_bytes_equal(n->text, PST_LIT("yes")) ||
        pst_bytes_equal(n->text, PST_LIT("on")))
        *out = true;
    else if (pst_bytes_equal(n->text, PST_LIT("false")) ||
             pst_bytes_equal(n->text, PST_LIT("no")) || pst_bytes_equal(n->text, PST_LIT("off")))
        *out = false;
    else
        return pst_node_fail(tree, n, error, "expected true or false, not \"%s\"", n->text.ptr);
    return PST_OK;
}

enum pst_status pst_node_u64(const struct pst_tree *tree, const struct pst_node *map,
                             const char *key, uint64_t min, uint64_t max, uint64_t *out,
                             struct pst_error *error)
{
    const struct pst_node *n;
    uint64_t value;
    enum pst_status status = scalar(tree, map, key, &n, error);

    if (status != PST_OK || n == NULL)
        return status;
    if (!pst_bytes_u63(n->text, &value) || value < min || value > max)
        return pst_node_fail(tree, n, error,
                             "expected a whole number from %llu to %llu, not \"%s\"",
                             (unsigned long long)min, (unsigned long long)max, n->text.ptr);
    *out = value;
    return PST_OK;
}

enum pst_status pst_node_enum(const struct pst_tree *tree, const struct pst_node *map,
                              const char *key, const char *const *names, unsigned *out,
                              struct pst_error *error)
{
    const struct pst_node *n;
    enum pst_status status = scalar(tree, map, key, &n, error);

    if (status != PST_OK || n == NULL)
        return status;
    char list[160] = "";
    size_t len = 0;
    for (unsigned i = 0; names[i] != NULL; i++) {
        if (pst_bytes_equal(n->text, pst_bytes_of(names[i], strlen(names[i])))) {
            *out = i;
            return PST_OK;
        }
        int w = snprintf(list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : ", ", names[i]);
        if (w > 0)
            len += (size_t)w < sizeof(list) - len ? (size_t)w : sizeof(list) - len - 1;
    }
    return pst_node_fail(tree, n, error, "\"%s\" is none of: %s", n->text.ptr, list);
}
