/*
 * profile_compile.c - the head of a profile file: name, words, workspace, entities, tables.
 *
 * Order matters: classes and entities before routes, because routes refer to them. Nothing of the
 * tree is needed afterwards; all texts are copied.
 */
#include "profile_internal.h"

#include <stdlib.h>

#define PROFILE_MEMORY ((size_t)64 << 20)

static enum pst_status copy(struct profile_builder *b, struct pst_bytes text, struct pst_bytes *out)
{
    return pst_arena_copy(&b->profile->arena, text, out);
}

static enum pst_status read_text(struct profile_builder *b, const struct pst_node *map,
                                 const char *key, struct pst_bytes *out)
{
    struct pst_bytes text = {0};
    enum pst_status status = pst_node_text(b->tree, map, key, &text, b->error);

    return status == PST_OK && text.ptr != NULL ? copy(b, text, out) : status;
}

static enum pst_status read_list(struct profile_builder *b, const struct pst_node *list,
                                 uint32_t more, struct pst_bytes **out, uint32_t *count)
{
    uint32_t n = 0;

    *count = 0;
    if (list != NULL && list->kind != PST_NODE_LIST)
        return pst_node_fail(b->tree, list, b->error, "a list is due here");
    *out =
        pst_arena_array(&b->profile->arena, (list == NULL ? 0 : list->count) + more, sizeof(**out));
    if (*out == NULL)
        return PST_E_NOMEM;
    for (const struct pst_node *i = list == NULL ? NULL : list->first; i != NULL; i = i->next) {
        enum pst_status status = copy(b, i->text, &(*out)[n++]);
        if (status != PST_OK)
            return status;
    }
    *count = n;
    return PST_OK;
}

enum pst_status profile_form_read(struct profile_builder *b, const struct pst_node *map,
                                  const char *key, enum profile_form *out)
{
    static const char *const forms[] = {"name",     "uuid",    "uuid-only", "path",
                                        "artifact", "integer", "exact",     NULL};
    unsigned form = *out;
    enum pst_status status = pst_node_enum(b->tree, map, key, forms, &form, b->error);

    *out = (enum profile_form)form;
    return status;
}

/* "a-z0-9_%" : single bytes and ranges; a '-' at the end is itself. */
static enum pst_status read_chars(struct profile_builder *b, const struct pst_node *node,
                                  uint8_t bytes[256], unsigned bit)
{
    struct pst_bytes text = node->text;

    if (node->kind != PST_NODE_SCALAR || text.len == 0)
        return pst_node_fail(b->tree, node, b->error, "characters such as 'a-z0-9-' are due here");
    for (size_t i = 0; i < text.len; i++) {
        unsigned from = (unsigned char)text.ptr[i], to = from;
        if (text.len - i > 2 && text.ptr[i + 1] == '-') {
            to = (unsigned char)text.ptr[i + 2];
            i += 2;
        }
        if (to < from)
            return pst_node_fail(b->tree, node, b->error, "a range of characters runs backwards");
        for (unsigned c = from; c <= to; c++)
            bytes[c] = (uint8_t)(bytes[c] | bit);
    }
    return PST_OK;
}

/* ---- workspace ---- */

static enum pst_status read_names(struct profile_builder *b, const struct pst_node *workspace)
{
    static const char *const keys[] = {"chars", "edges", "min", "max", "reserved", NULL};
    struct profile_workspace *ws = &b->profile->workspace;
    const struct pst_node *name = pst_node_get(workspace, "name");
    const struct pst_node *chars = pst_node_get(name, "chars"),
                          *edges = pst_node_get(name, "edges");

    ws->min = 1;
    ws->max = 63;
    enum pst_status status = pst_node_only(b->tree, name, keys, b->error);
    if (status != PST_OK || chars == NULL)
        return status == PST_OK ? pst_node_fail(b->tree, workspace, b->error,
                                                "name.chars says of what names are made")
                                : status;
    status = read_chars(b, chars, ws->bytes, PROFILE_INSIDE);
    if (status == PST_OK)
        status = read_chars(b, edges == NULL ? chars : edges, ws->bytes, PROFILE_EDGE);
    if (status == PST_OK)
        status = pst_node_u64(b->tree, name, "min", 1, 255, &ws->min, b->error);
    if (status == PST_OK)
        status = pst_node_u64(b->tree, name, "max", 1, 255, &ws->max, b->error);
    return status == PST_OK
               ? read_list(b, pst_node_get(name, "reserved"), 0, &ws->reserved, &ws->reserved_count)
               : status;
}

static enum pst_status read_workspace(struct profile_builder *b,
                                      const struct pst_profile_options *options)
{
    static const char *const keys[] = {"headers", "host_suffix", "default",
                                       "forward", "name",        NULL};
    struct profile_workspace *ws = &b->profile->workspace;
    const struct pst_node *node = pst_node_get(b->tree->root, "workspace");
    enum pst_status status = pst_node_only(b->tree, node, keys, b->error);

    if (node == NULL)
        return pst_node_fail(b->tree, b->tree->root, b->error,
                             "workspace says where its name comes from");
    if (status == PST_OK)
        status = read_list(b, pst_node_get(node, "headers"), options->workspace_header_count,
                           &ws->headers, &ws->header_count);
    for (uint32_t i = 0; i < options->workspace_header_count && status == PST_OK; i++)
        status = copy(b, options->workspace_headers[i], &ws->headers[ws->header_count++]);
    for (uint32_t i = 0; i < ws->header_count; i++)
        ws->header_lengths |= UINT64_C(1) << (ws->headers[i].len & 63);
    if (status == PST_OK)
        status = read_text(b, node, "host_suffix", &ws->host_suffix);
    if (status == PST_OK && ws->host_suffix.len > 0 && ws->host_suffix.ptr[0] != '.')
        return pst_node_fail(b->tree, pst_node_get(node, "host_suffix"), b->error,
                             "what follows a label begins with '.'");
    if (status == PST_OK)
        status = read_text(b, node, "default", &ws->fallback);
    if (status == PST_OK)
        status = read_text(b, node, "forward", &ws->forward);
    if (status == PST_OK && options->default_workspace.ptr != NULL)
        status = copy(b, options->default_workspace, &ws->fallback);
    ws->off = options->mlflow_workspaces_off;
    return status == PST_OK ? read_names(b, node) : status;
}

/* ---- entities ---- */

static enum pst_status fold_name(struct profile_builder *b, const struct pst_node *at,
                                 struct pst_bytes name, struct pst_bytes *out)
{
    char folded[128];
    size_t length;

    if (name.len == 0)
        return PST_OK;
    if (!profile_fold_name(name, folded, sizeof(folded), &length))
        return pst_node_fail(b->tree, at, b->error, "not a resource name");
    return copy(b, pst_bytes_of(folded, length), out);
}

static enum pst_status read_entity(struct profile_builder *b, const struct pst_node *node)
{
    static const char *const keys[] = {"resource",  "as_child",  "ids",       "pipeline",
                                       "elsewhere", "not_under", "not_shown", NULL};
    static const char *const scopes[] = {"none", "self", "parent", NULL};
    struct profile_entity *e = pst_arena_zalloc(&b->profile->arena, sizeof(*e));
    unsigned scope = 0;

    if (e == NULL)
        return PST_E_NOMEM;
    e->form = FORM_EXACT;
    enum pst_status status = copy(b, node->key, &e->name);
    if (status == PST_OK && node->kind == PST_NODE_SCALAR)
        status = copy(b, node->text, &e->resource);
    if (status == PST_OK && node->kind == PST_NODE_MAP) {
        status = pst_node_only(b->tree, node, keys, b->error);
        if (status == PST_OK)
            status = read_text(b, node, "resource", &e->resource);
        if (status == PST_OK)
            status = read_text(b, node, "as_child", &e->as_child);
        if (status == PST_OK)
            status = read_list(b, pst_node_get(node, "elsewhere"), 0, &e->elsewhere,
                               &e->elsewhere_count);
        if (status == PST_OK)
            status = profile_form_read(b, node, "ids", &e->form);
        if (status == PST_OK)
            status = read_text(b, node, "not_under", &e->not_under);
        if (status == PST_OK)
            status = pst_node_enum(b->tree, node, "pipeline", scopes, &scope, b->error);
    }
    if (status == PST_OK)
        status = fold_name(b, node, e->resource, &e->payload);
    if (status == PST_OK)
        status = fold_name(b, node, e->as_child, &e->as_child);
    if (status != PST_OK)
        return status;
    e->not_shown = pst_node_get(node, "not_shown");
    e->pipeline_self = scope == 1;
    e->pipeline_parent = scope == 2;
    e->next = b->profile->entities;
    b->profile->entities = e;
    return status;
}

static enum pst_status seal_entities(struct profile_builder *b)
{
    struct pst_profile *p = b->profile;
    uint32_t count = 0, size = 2;

    for (const struct profile_entity *e = p->entities; e != NULL; e = e->next)
        count += e->resource.len != 0;
    if (count == 0)
        return PST_OK;
    while (size < count * 2)
        size *= 2;
    p->entity_slots = pst_arena_array(&p->arena, size, sizeof(struct profile_entity *));
    if (p->entity_slots == NULL)
        return PST_E_NOMEM;
    p->entity_mask = size - 1;
    for (struct profile_entity *e = p->entities; e != NULL; e = e->next) {
        if (e->resource.len == 0)
            continue;
        if (profile_fold(p, e->resource) != NULL)
            return pst_node_fail(b->tree, b->tree->root, b->error,
                                 "the resource %.*s folds to two entities", (int)e->resource.len,
                                 e->resource.ptr);
        uint32_t at = profile_hash(e->payload) & p->entity_mask;
        while (p->entity_slots[at] != NULL)
            at = (at + 1) & p->entity_mask;
        p->entity_slots[at] = e;
    }
    return PST_OK;
}

static enum pst_status read_entities(struct profile_builder *b)
{
    const struct pst_node *node = pst_node_get(b->tree->root, "entities");
    enum pst_status status = PST_OK;

    for (const struct pst_node *n = node == NULL ? NULL : node->first;
         n != NULL && status == PST_OK; n = n->next)
        status = read_entity(b, n);
    return status == PST_OK ? seal_entities(b) : status;
}

static enum pst_status read_classes(struct profile_builder *b)
{
    const struct pst_node *node = pst_node_get(b->tree->root, "classes");

    for (const struct pst_node *n = node == NULL ? NULL : node->first; n != NULL; n = n->next) {
        struct profile_class *c = pst_arena_zalloc(&b->profile->arena, sizeof(*c));
        if (c == NULL)
            return PST_E_NOMEM;
        enum pst_status status = copy(b, n->key, &c->name);
        if (status == PST_OK)
            status = read_chars(b, n, c->bytes, PROFILE_INSIDE);
        if (status != PST_OK)
            return status;
        c->next = b->profile->classes;
        b->profile->classes = c;
    }
    return PST_OK;
}

static enum pst_status read_shapes(struct profile_builder *b)
{
    static const char *const keys[] = {"params", "all", "note", NULL};
    const struct pst_node *node = pst_node_get(b->tree->root, "shapes");

    for (const struct pst_node *n = node == NULL ? NULL : node->first; n != NULL; n = n->next) {
        struct profile_shape *s = pst_arena_zalloc(&b->profile->arena, sizeof(*s));
        if (s == NULL)
            return PST_E_NOMEM;
        enum pst_status status = pst_node_only(b->tree, n, keys, b->error);
        if (status != PST_OK)
            return status;
        s->name = n->key;
        s->node = n;
        s->next = b->shapes;
        b->shapes = s;
    }
    return PST_OK;
}

/* ---- level table: read attributes ---- */

static enum pst_status read_levels(struct profile_builder *b, const struct pst_tree *extra)
{
    for (struct profile_entity *e = b->profile->entities; e != NULL; e = e->next) {
        enum pst_status status = extra == NULL ? PST_OK : profile_levels_read(b, extra, e);
        e->not_shown = NULL; /* stands in the tree */
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

/* ---- the whole ---- */

static enum pst_status read_flags(struct profile_builder *b)
{
    static const char *const combinings[] = {"deny-overrides", "most-specific", NULL};
    static const char *const forms[] = {"postern", "mage", "mlflow", NULL};
    static const char *const unmatched[] = {"not-found", "closed", NULL};
    const struct pst_node *root = b->tree->root;
    struct pst_profile *p = b->profile;
    unsigned combining = 0, form = 0, closed = 0;
    enum pst_status status =
        pst_node_enum(b->tree, root, "combining", combinings, &combining, b->error);

    if (status == PST_OK)
        status = pst_node_enum(b->tree, root, "errors", forms, &form, b->error);
    if (status == PST_OK)
        status = pst_node_enum(b->tree, root, "unmatched", unmatched, &closed, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "both_cases", &p->both_cases, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "refuse_traversal", &p->traversal, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "json_only", &p->json_only, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "get_body", &p->get_body, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "head_as_get", &b->head_as_get, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, root, "compare", &b->compare, b->error);
    p->combining = (enum pst_combining)combining;
    p->form = (enum pst_error_form)form;
    p->closed = closed == 1;
    return status;
}

static enum pst_status read_head(struct profile_builder *b,
                                 const struct pst_profile_options *options)
{
    static const char *const keys[] = {
        "profile",      "description",    "combining",     "errors",
        "unmatched",    "both_cases",     "json_only",     "get_body",
        "head_as_get",  "compare",        "classes",       "refuse_traversal",
        "words",        "operations",     "ids",           "workspace",
        "entities",     "shapes",         "inner",         "levels",
        "ignored_keys", "under",          "preflight",     "accept",
        "inspect",      "body_limit",     "shadow",        "docs",
        "routes",       "stream_grace_s", "stale_allow_s", NULL};
    const struct pst_node *root = b->tree->root;

    if (root == NULL)
        return pst_error_set(b->error, PST_E_INVALID, b->tree->name.ptr, "the file is empty");
    enum pst_status status = pst_node_only(b->tree, root, keys, b->error);
    if (status == PST_OK)
        status = read_text(b, root, "profile", &b->profile->name);
    if (status == PST_OK && b->profile->name.len == 0)
        status = pst_node_fail(b->tree, root, b->error, "profile: a name is due");
    if (status == PST_OK)
        status = read_flags(b);
    if (status == PST_OK)
        status = profile_form_read(b, root, "ids", &b->form);
    if (status == PST_OK)
        status = read_classes(b);
    if (status == PST_OK)
        status = read_workspace(b, options);
    if (status == PST_OK)
        status = read_list(b, pst_node_get(root, "ignored_keys"), 0, &b->profile->ignored,
                           &b->profile->ignored_count);
    if (status == PST_OK)
        status = read_entities(b);
    return status == PST_OK ? read_shapes(b) : status;
}

static enum pst_status read_routes(struct profile_builder *b)
{
    const struct pst_node *root = b->tree->root, *routes = pst_node_get(root, "routes");
    struct profile_defaults defaults = {0};
    struct pst_node head = *root; /* without `workspace`, which is a map here */
    enum pst_status status = profile_defaults_read(b, &head, &defaults);

    b->profile->shadow_unmatched = b->profile->shadow || defaults.shadow;
    b->profile->shadows = b->profile->shadow_unmatched;
    if (routes == NULL || routes->kind != PST_NODE_LIST)
        return pst_node_fail(b->tree, root, b->error, "routes: a list is due");
    for (const struct pst_node *n = routes->first; n != NULL && status == PST_OK; n = n->next)
        status = profile_route_read(b, n, &defaults);
    return status == PST_OK ? profile_trie_seal(&b->profile->arena, b->profile->root) : status;
}

enum pst_status pst_profile_compile(const struct pst_tree *tree, const struct pst_tree *extra,
                                    const struct pst_profile_options *options,
                                    struct pst_profile **out, struct pst_error *error)
{
    static const struct pst_profile_options none;
    struct pst_profile *p = calloc(1, sizeof(*p));
    struct profile_builder b = {.profile = p, .tree = tree, .error = error};

    *out = NULL;
    if (p == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for a profile");
    options = options == NULL ? &none : options;
    pst_arena_init(&p->arena, 65536, PROFILE_MEMORY);
    p->shadow = options->shadow;
    p->exempt_tail = &p->exempt;
    p->root = pst_arena_zalloc(&p->arena, sizeof(*p->root));
    b.words = pst_node_get(tree->root, "words");
    b.inner = pst_node_get(tree->root, "inner");

    enum pst_status status = p->root == NULL ? PST_E_NOMEM : read_head(&b, options);
    if (status == PST_OK)
        status = read_levels(&b, extra);
    if (status == PST_OK)
        status = read_routes(&b);
    if (status == PST_OK) {
        *out = p;
        return PST_OK;
    }
    pst_profile_destroy(p);
    return status == PST_E_NOMEM ? pst_error_set(error, status, NULL, "no memory for a profile")
                                 : status;
}

void pst_profile_destroy(struct pst_profile *profile)
{
    if (profile == NULL)
        return;
    pst_arena_fini(&profile->arena);
    free(profile);
}

struct pst_bytes pst_profile_levels_file(const struct pst_tree *tree)
{
    const struct pst_node *node = pst_node_get(tree->root, "levels");

    return node == NULL ? pst_bytes_of("", 0) : node->text;
}

struct pst_bytes pst_profile_name(const struct pst_profile *profile)
{
    return profile->name;
}

enum pst_combining pst_profile_combining(const struct pst_profile *profile)
{
    return profile->combining;
}

bool pst_profile_shadows(const struct pst_profile *profile)
{
    return profile->shadow || profile->shadows;
}

uint32_t pst_profile_exempt(const struct pst_profile *profile, pst_profile_name_fn *each, void *ctx)
{
    uint32_t count = 0;

    for (const struct profile_exempt *e = profile->exempt; e != NULL; e = e->next, count++)
        each(ctx, e->name);
    return count;
}

enum pst_error_form pst_profile_form(const struct pst_profile *profile)
{
    return profile->form;
}
