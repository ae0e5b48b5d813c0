/*
 * profile_route.c - one element of a list of routes becomes routes in the trie.
 *
 * One route of the file makes one struct pst_route per operation word; all its paths and methods
 * point to it. The methods stand under `methods:` (a map to words, or a list), or are keys whose
 * value is the path: `{GET: /runs/get, need: ...}`.
 */
#include "profile_internal.h"

#include "postern/base/buf.h"

static const char *const method_names[METHODS] = {"GET",   "HEAD",   "POST",   "PUT",
                                                  "PATCH", "DELETE", "OPTIONS"};

static const char *const shared_keys[] = {
    "under",   "operations", "preflight",      "workspace",     "accept", "body_limit",
    "inspect", "shadow",     "stream_grace_s", "stale_allow_s", "note",   NULL};

static enum pst_status read_accept(struct profile_builder *b, const struct pst_node *map,
                                   uint32_t *out)
{
    static const struct {
        const char *word;
        uint32_t bit;
    } oddities[] = {
        {"encoded-slash", PST_ODD_ENCODED_SLASH},
        {"trailing-slash", PST_ODD_TRAILING_SLASH},
        {"semicolon", PST_ODD_SEMICOLON},
        {"encoded-percent", PST_ODD_ENCODED_PERCENT},
    };
    const struct pst_node *list = pst_node_get(map, "accept");

    if (list == NULL)
        return PST_OK;
    if (list->kind != PST_NODE_LIST)
        return pst_node_fail(b->tree, list, b->error, "a list is due here");
    *out = 0;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        uint32_t bit = 0;
        for (size_t i = 0; i < sizeof(oddities) / sizeof(oddities[0]); i++)
            if (pst_bytes_equal(n->text, pst_bytes_of(oddities[i].word, strlen(oddities[i].word))))
                bit = oddities[i].bit;
        if (bit == 0)
            return pst_node_fail(b->tree, n, b->error, "no such oddity of a path: '%.*s'",
                                 (int)n->text.len, n->text.ptr);
        *out |= bit;
    }
    return PST_OK;
}

#define STREAM_GRACE_MAX_S 3600
#define STALE_ALLOW_MAX_S  300

static unsigned method_bit(struct pst_bytes name);

static enum pst_status check_prefixes(struct profile_builder *b, const struct pst_node *under,
                                      const struct pst_node *operations)
{
    if (under != NULL && under->kind != PST_NODE_LIST)
        return pst_node_fail(b->tree, under, b->error, "a list of prefixes is due here");
    for (const struct pst_node *n = operations == NULL ? NULL : operations->first; n != NULL;
         n = n->next)
        if (method_bit(n->key) == 0)
            return pst_node_fail(b->tree, n, b->error, "no method of this name");
    return PST_OK;
}

/* Bytes, or "none". */
static enum pst_status read_body_limit(struct profile_builder *b, const struct pst_node *map,
                                       uint64_t *out)
{
    const struct pst_node *node = pst_node_get(map, "body_limit");

    if (node == NULL || !pst_bytes_equal(node->text, PST_LIT("none")))
        return pst_node_u64(b->tree, map, "body_limit", 1, INT64_MAX, out, b->error);
    *out = UINT64_MAX;
    return PST_OK;
}

enum pst_status profile_defaults_read(struct profile_builder *b, const struct pst_node *node,
                                      struct profile_defaults *out)
{
    static const char *const preflights[] = {"none", "cors", "any", NULL};
    static const char *const scopes[] = {"required", "none", NULL};
    unsigned preflight = out->preflight, scope = out->scope;
    const struct pst_node *under = pst_node_get(node, "under");
    const struct pst_node *operations = pst_node_get(node, "operations");
    const struct pst_node *workspace = pst_node_get(node, "workspace");
    enum pst_status status =
        pst_node_enum(b->tree, node, "preflight", preflights, &preflight, b->error);

    if (status == PST_OK)
        status = check_prefixes(b, under, operations);
    if (status == PST_OK && workspace != NULL && workspace->kind == PST_NODE_SCALAR)
        status = pst_node_enum(b->tree, node, "workspace", scopes, &scope, b->error);
    if (status == PST_OK)
        status = read_accept(b, node, &out->accept);
    if (status == PST_OK)
        status = read_body_limit(b, node, &out->body_limit);
    if (status == PST_OK)
        status = pst_node_u64(b->tree, node, "inspect", 1, UINT64_C(1) << 30, &out->inspect_limit,
                              b->error);
    if (status == PST_OK)
        status = pst_node_u64(b->tree, node, "stream_grace_s", 0, STREAM_GRACE_MAX_S,
                              &out->stream_grace_s, b->error);
    if (status == PST_OK)
        status = pst_node_u64(b->tree, node, "stale_allow_s", 0, STALE_ALLOW_MAX_S,
                              &out->stale_allow_s, b->error);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, node, "shadow", &out->shadow, b->error);
    out->preflight = (enum profile_preflight)preflight;
    out->scope = (enum profile_scope)scope;
    out->under = under != NULL ? under : out->under;
    out->operations = operations != NULL ? operations : out->operations;
    return status;
}

/* ---- one route ---- */

struct reading {
    struct profile_builder *b;
    const struct pst_node *node;
    const struct profile_defaults *defaults;
    struct pst_bytes op_word;
    struct pst_bytes path; /* the template of the file, without prefix */
    unsigned methods;      /* bits */
    struct pst_route *route;
};

static enum pst_status read_needs(const struct reading *r, const struct pst_node *need,
                                  struct profile_need ***tail)
{
    struct profile_need **before = *tail;
    enum pst_status status = PST_OK;

    if (need->kind == PST_NODE_SCALAR)
        return profile_need_parse(r->b, r->route, need, need->text, r->op_word, tail);
    for (const struct pst_node *n = need->kind == PST_NODE_LIST ? need->first : NULL;
         n != NULL && status == PST_OK; n = n->next)
        status = profile_need_parse(r->b, r->route, n, n->text, r->op_word, tail);
    if (status == PST_OK &&
        *tail == before) /* nothing asked would be read as: any known user may */
        return pst_node_fail(r->b->tree, need, r->b->error,
                             "a requirement, or a list of them, is due here");
    return status;
}

static enum pst_status read_ref(const struct reading *r, const struct pst_node *map,
                                const char *key, uint32_t *out)
{
    struct pst_bytes name = {0};
    enum pst_status status = pst_node_text(r->b->tree, map, key, &name, r->b->error);

    if (status != PST_OK || name.len == 0)
        return status;
    *out = profile_var_of(r->route, name);
    return *out == PROFILE_VARS
               ? pst_node_fail(r->b->tree, map, r->b->error, "%s: no such variable '%.*s'", key,
                               (int)name.len, name.ptr)
               : PST_OK;
}

/* A reference to a parameter of the path, which is always there and one value. */
static enum pst_status read_path_ref(const struct reading *r, const struct pst_node *map,
                                     const char *key, uint32_t *out)
{
    enum pst_status status = read_ref(r, map, key, out);

    if (status != PST_OK || *out == PROFILE_VARS)
        return status;
    return r->route->vars[*out].place == PLACE_PATH && !r->route->vars[*out].many
               ? PST_OK
               : pst_node_fail(r->b->tree, map, r->b->error, "%s names a parameter of the path",
                               key);
}

/* Of a variable with many values, only the first would lead to the workspace or the inner path. */
static enum pst_status check_one(const struct reading *r, const struct pst_node *at, uint32_t var)
{
    const struct profile_var *v = var == PROFILE_VARS ? NULL : &r->route->vars[var];

    return v == NULL || !v->many
               ? PST_OK
               : pst_node_fail(r->b->tree, at, r->b->error, "%.*s: one value is due here",
                               (int)v->name.len, v->name.ptr);
}

static enum pst_status read_refs(const struct reading *r)
{
    const struct pst_node *parent = pst_node_get(r->node, "parent");
    const struct pst_node *one_of = pst_node_get(r->node, "one_of");
    enum pst_status status = read_path_ref(r, r->node, "entity", &r->route->entity_var);

    if (status == PST_OK)
        status = read_path_ref(r, r->node, "pipeline", &r->route->pipeline_var);
    if (status == PST_OK && parent != NULL)
        status = read_path_ref(r, parent, "entity", &r->route->parent_var);
    if (status == PST_OK && parent != NULL)
        status = read_path_ref(r, parent, "id", &r->route->parent_id_var);
    if (status != PST_OK || one_of == NULL)
        return status;
    if (one_of->count != 2)
        return pst_node_fail(r->b->tree, one_of, r->b->error, "one_of names two variables");
    r->route->one_of[0] = profile_var_of(r->route, one_of->first->text);
    r->route->one_of[1] = profile_var_of(r->route, one_of->first->next->text);
    return r->route->one_of[0] == PROFILE_VARS || r->route->one_of[1] == PROFILE_VARS
               ? pst_node_fail(r->b->tree, one_of, r->b->error, "one_of: no such variable")
               : PST_OK;
}

static enum pst_status read_refusal(const struct reading *r)
{
    static const char *const words[] = {"no", "upgrade", "closed", "not-found", NULL};
    static const enum pst_reason reasons[] = {PST_R_INTERNAL, PST_R_UPGRADE, PST_R_ROUTE_CLOSED,
                                              PST_R_NO_ROUTE};
    unsigned word = 0;
    enum pst_status status =
        pst_node_enum(r->b->tree, r->node, "refuse", words, &word, r->b->error);

    r->route->refuse = reasons[word];
    return status;
}

/* What the body is for, when the route does not say: ids, attributes, or a comparison with the
 * path. */
static bool reads_body(const struct pst_route *route)
{
    bool reads = route->attributes || (route->compare && route->capture_count != 0);

    for (uint32_t i = 0; i < route->var_count; i++)
        reads = reads || route->vars[i].place == PLACE_BODY || route->vars[i].place == PLACE_PARAMS;
    return reads;
}

/* What is not read cannot be asked for: a requirement would fall away, or never hold. */
static bool asks_body(const struct reading *r)
{
    const struct pst_route *route = r->route;
    bool sends = (r->methods & ~(1u << METHOD_GET | 1u << METHOD_HEAD)) != 0;
    bool asks = route->attributes && sends;

    for (uint32_t i = 0; i < route->var_count; i++)
        asks = asks || route->vars[i].place == PLACE_BODY ||
               (route->vars[i].place == PLACE_PARAMS && sends);
    return asks;
}

static enum pst_status read_body(const struct reading *r)
{
    static const char *const words[] = {"stream", "none", "inspect", NULL};
    unsigned word = reads_body(r->route) ? BODY_INSPECT : BODY_STREAM;
    enum pst_status status = pst_node_enum(r->b->tree, r->node, "body", words, &word, r->b->error);

    r->route->body = (enum profile_body)word;
    if (status == PST_OK && word != BODY_INSPECT && asks_body(r))
        return pst_node_fail(r->b->tree, r->node, r->b->error,
                             "body: %s leaves ids or attributes of the body unread", words[word]);
    if (r->route->body == BODY_STREAM)
        r->route->compare = false;
    return status;
}

static enum pst_status read_flags(const struct reading *r)
{
    struct pst_route *route = r->route;
    enum pst_status status =
        pst_node_bool(r->b->tree, r->node, "public", &route->is_public, r->b->error);

    route->compare = r->b->compare;
    if (status == PST_OK)
        status = pst_node_bool(r->b->tree, r->node, "attributes", &route->attributes, r->b->error);
    if (status == PST_OK)
        status = pst_node_bool(r->b->tree, r->node, "compare", &route->compare, r->b->error);
    if (status == PST_OK)
        status = read_refusal(r);
    return status == PST_OK ? read_body(r) : status;
}

static struct pst_route *new_route(struct profile_builder *b, uint32_t line)
{
    struct pst_route *route = pst_arena_zalloc(&b->profile->arena, sizeof(*route));

    if (route == NULL)
        return NULL;
    route->vars = pst_arena_array(&b->profile->arena, PROFILE_VARS, sizeof(*route->vars));
    route->line = line;
    route->workspace_var = route->entity_var = route->parent_var = route->parent_id_var =
        PROFILE_VARS;
    route->one_of[0] = route->one_of[1] = route->inner_var = route->pipeline_var = PROFILE_VARS;
    return route->vars == NULL ? NULL : route;
}

static enum pst_status read_inner(const struct reading *r);

/* Attributes belong to the first requirement, whose entity must be known with its payload key. */
static enum pst_status check_attributes(const struct reading *r)
{
    const struct pst_route *route = r->route;
    const struct profile_key *key = route->needs == NULL ? NULL : &route->needs->keys[0];

    if (!route->attributes)
        return PST_OK;
    bool folded =
        key != NULL && route->entity_var != PROFILE_VARS && key->entity_var == route->entity_var;
    bool literal = key != NULL && key->known != NULL && key->known->payload.len != 0;
    return route->needs != NULL && route->needs->key_count != 0 && (folded || literal)
               ? PST_OK
               : pst_node_fail(r->b->tree, r->node, r->b->error,
                               "attributes need a first requirement on an entity with a resource");
}

static bool only_shows(enum pst_op op)
{
    return op == PST_OP_NONE || op == PST_OP_LIST || op == PST_OP_DETAIL || op == PST_OP_NOT_DENIED;
}

/* What may be decided from an outdated memory must not change anything. */
static enum pst_status check_stale(const struct reading *r)
{
    const struct pst_route *route = r->route;
    bool shows = only_shows(route->op);

    if (route->stale_allow_s == 0)
        return PST_OK;
    if ((r->methods & ~(1u << METHOD_GET | 1u << METHOD_HEAD)) != 0)
        return pst_node_fail(r->b->tree, r->node, r->b->error,
                             "stale_allow_s is for GET and HEAD only");
    for (const struct profile_need *n = route->needs; n != NULL; n = n->next)
        for (uint32_t i = 0; i < n->key_count; i++)
            shows = shows && only_shows(n->keys[i].op);
    return shows ? PST_OK
                 : pst_node_fail(r->b->tree, r->node, r->b->error,
                                 "stale_allow_s is for routes that only list and show");
}

/* A capture that is compared stands elsewhere under its own name. */
static enum pst_status name_captures(const struct reading *r)
{
    for (uint32_t i = 0; r->route->compare && i < r->route->var_count; i++) {
        struct profile_var *var = &r->route->vars[i];
        if (var->place != PLACE_PATH)
            continue;
        struct profile_name *own = pst_arena_zalloc(&r->b->profile->arena, sizeof(*own));
        if (own == NULL)
            return PST_E_NOMEM;
        own->text = own->steps[0] = var->name;
        own->step_count = 1;
        var->own = own;
    }
    return PST_OK;
}

static enum pst_status fill_route(const struct reading *r)
{
    struct pst_route *route = r->route;
    const struct pst_node *need = pst_node_get(r->node, "need");
    struct profile_need **tail = &route->needs;

    route->accept = r->defaults->accept;
    route->preflight = r->defaults->preflight;
    route->scope = r->defaults->scope;
    route->body_limit = r->defaults->body_limit;
    route->inspect_limit = r->defaults->inspect_limit;
    route->stream_grace_s = r->defaults->stream_grace_s;
    route->stale_allow_s = r->defaults->stale_allow_s;
    route->shadow = r->defaults->shadow || r->b->profile->shadow;
    r->b->profile->shadows = r->b->profile->shadows || route->shadow;
    if (r->path.len > 1 && r->path.ptr[r->path.len - 1] == '/')
        route->accept |= PST_ODD_TRAILING_SLASH;
    route->op = profile_word_op(r->b, r->op_word);

    enum pst_status status = profile_vars_read(r->b, r->node, route, r->op_word);
    route->workspace_var = profile_var_of(route, PST_LIT("workspace"));
    if (status == PST_OK)
        status = check_one(r, r->node, route->workspace_var);
    if (status == PST_OK)
        status = read_refs(r);
    if (status == PST_OK)
        status = read_flags(r);
    if (status == PST_OK)
        status = name_captures(r);
    if (status == PST_OK && need != NULL)
        status = read_needs(r, need, &tail);
    if (status == PST_OK)
        status = check_attributes(r);
    if (status == PST_OK)
        status = check_stale(r);
    if (status == PST_OK)
        status = read_inner(r);
    if (status != PST_OK)
        return status;
    if (need == NULL && !route->is_public && route->refuse == PST_R_INTERNAL &&
        route->inner == NULL)
        return pst_node_fail(r->b->tree, r->node, r->b->error,
                             "a route says what it needs: need, public or refuse");
    if ((need != NULL || route->inner != NULL) &&
        (route->is_public || route->refuse != PST_R_INTERNAL))
        return pst_node_fail(r->b->tree, r->node, r->b->error,
                             "need beside public or refuse is never asked");
    if (route->op == PST_OP_NONE && route->needs != NULL)
        route->op = route->needs->keys[0].op;
    return PST_OK;
}

/* ---- paths inside a value ---- */

static enum pst_status add_inner_path(const struct reading *outer, struct profile_node *root,
                                      const struct pst_node *node, struct pst_bytes path)
{
    const struct pst_node *need = pst_node_get(node, "need");
    struct reading r = *outer;
    struct profile_node *end = NULL;

    r.node = node;
    r.path = path;
    r.route = new_route(r.b, node->line);
    if (r.route == NULL)
        return PST_E_NOMEM;
    struct profile_need **tail = &r.route->needs;
    enum pst_status status = profile_trie_add(r.b, root, node, path, r.route, &end);
    if (status != PST_OK)
        return status;
    if (end->any != NULL || need == NULL)
        return pst_node_fail(r.b->tree, node, r.b->error,
                             need == NULL ? "an inner path says what it needs"
                                          : "this path stands twice");
    end->any = r.route;
    r.route->workspace_var = profile_var_of(r.route, PST_LIT("workspace"));
    return read_needs(&r, need, &tail);
}

static enum pst_status add_inner(const struct reading *outer, struct profile_node *root,
                                 const struct pst_node *node)
{
    static const char *const keys[] = {"path", "need", "note", NULL};
    const struct pst_node *path = pst_node_get(node, "path");
    enum pst_status status = pst_node_only(outer->b->tree, node, keys, outer->b->error);

    if (status == PST_OK && path == NULL)
        return pst_node_fail(outer->b->tree, node, outer->b->error, "an inner path has a path");
    if (status == PST_OK && path->kind == PST_NODE_SCALAR)
        return add_inner_path(outer, root, node, path->text);
    for (const struct pst_node *n = status == PST_OK ? path->first : NULL;
         n != NULL && status == PST_OK; n = n->next)
        status = add_inner_path(outer, root, node, n->text);
    return status;
}

/* `inner: {value: VARIABLE, paths: TABLE}`: the table is compiled for each route that uses it,
 * because $op differs. */
static enum pst_status read_inner(const struct reading *r)
{
    static const char *const keys[] = {"value", "paths", NULL};
    const struct pst_node *inner = pst_node_get(r->node, "inner");
    struct pst_bytes name = {0};

    if (inner == NULL)
        return PST_OK;
    enum pst_status status = pst_node_only(r->b->tree, inner, keys, r->b->error);
    if (status == PST_OK)
        status = read_ref(r, inner, "value", &r->route->inner_var);
    if (status == PST_OK)
        status = check_one(r, inner, r->route->inner_var);
    if (status == PST_OK)
        status = pst_node_text(r->b->tree, inner, "paths", &name, r->b->error);
    if (status != PST_OK)
        return status;
    const struct pst_node *table = NULL;
    for (const struct pst_node *n = r->b->inner == NULL ? NULL : r->b->inner->first; n != NULL;
         n = n->next)
        table = pst_bytes_equal(n->key, name) ? n : table;
    struct profile_node *root = pst_arena_zalloc(&r->b->profile->arena, sizeof(*root));
    if (table == NULL || r->route->inner_var == PROFILE_VARS)
        return pst_node_fail(r->b->tree, inner, r->b->error,
                             "inner names a value and a table of paths");
    if (root == NULL)
        return PST_E_NOMEM;
    for (const struct pst_node *n = table->first; n != NULL && status == PST_OK; n = n->next)
        status = add_inner(r, root, n);
    r->route->inner = root;
    return status == PST_OK ? profile_trie_seal(&r->b->profile->arena, root) : status;
}

/* ---- registering ---- */

/* The captures of a further prefix must be those of the first. */
static bool same_captures(const struct pst_route *a, const struct pst_route *b)
{
    if (a->capture_count != b->capture_count)
        return false;
    for (uint32_t i = 0; i < b->capture_count; i++)
        if (!pst_bytes_equal(a->vars[i].name, b->vars[i].name))
            return false;
    return true;
}

static enum pst_status register_at(const struct reading *r, struct profile_node *node,
                                   unsigned methods)
{
    for (unsigned m = 0; m < METHODS; m++) {
        if ((methods >> m & 1u) == 0)
            continue;
        if (node->routes[m] != NULL)
            return pst_node_fail(r->b->tree, r->node, r->b->error,
                                 "%s of this path stands twice, first in line %u", method_names[m],
                                 node->routes[m]->line);
        node->routes[m] = r->route;
    }
    node->allow = ""; /* sealed later */
    return PST_OK;
}

static enum pst_status add_path(const struct reading *r, struct pst_bytes prefix, bool first,
                                struct profile_node **out)
{
    struct profile_builder *b = r->b;
    struct pst_route *route = first ? r->route : new_route(b, r->node->line);
    struct pst_bytes full = pst_arena_printf(&b->profile->arena, "%.*s%.*s", (int)prefix.len,
                                             prefix.ptr, (int)r->path.len, r->path.ptr);

    if (route == NULL || full.len == 0)
        return PST_E_NOMEM;
    enum pst_status status = profile_trie_add(b, b->profile->root, r->node, full, route, out);
    if (status == PST_OK && !first && !same_captures(r->route, route))
        return pst_node_fail(b->tree, r->node, b->error,
                             "the prefixes of a route need the same parameters");
    return status;
}

/* "PROFILE METHOD,METHOD PATH", for whoever has to be told. */
static enum pst_status name_exempt(const struct reading *r, struct pst_bytes prefix)
{
    struct pst_profile *p = r->b->profile;
    struct profile_exempt *e = pst_arena_zalloc(&p->arena, sizeof(*e));
    char methods[64];
    struct pst_buf b = pst_buf_of(methods, sizeof(methods));

    for (unsigned m = 0; m < METHODS; m++) {
        if ((r->methods >> m & 1u) == 0)
            continue;
        if (b.len > 0)
            pst_buf_char(&b, ',');
        pst_buf_put(&b, pst_bytes_of(method_names[m], strlen(method_names[m])));
    }
    if (e != NULL)
        e->name = pst_arena_printf(&p->arena, "%.*s %.*s %.*s%.*s", (int)p->name.len, p->name.ptr,
                                   (int)b.len, methods, (int)prefix.len, prefix.ptr,
                                   (int)r->path.len, r->path.ptr);
    if (e == NULL || e->name.len == 0)
        return PST_E_NOMEM;
    *p->exempt_tail = e;
    p->exempt_tail = &e->next;
    return PST_OK;
}

/* One route for `methods` with one operation word, under all prefixes. */
static enum pst_status add_route(struct profile_builder *b, const struct pst_node *node,
                                 const struct profile_defaults *defaults, struct pst_bytes path,
                                 unsigned methods, struct pst_bytes op_word)
{
    struct reading r = {.b = b,
                        .node = node,
                        .defaults = defaults,
                        .op_word = op_word,
                        .path = path,
                        .methods = methods};
    struct profile_node *ends[16];
    uint32_t count = 0;
    const struct pst_node *prefix = defaults->under == NULL ? NULL : defaults->under->first;
    enum pst_status status;

    r.route = new_route(b, node->line);
    if (r.route == NULL)
        return PST_E_NOMEM;
    do {
        if (count == 16)
            return pst_node_fail(b->tree, node, b->error, "more than 16 prefixes");
        status = add_path(&r, prefix == NULL ? pst_bytes_of("", 0) : prefix->text, count == 0,
                          &ends[count]);
        prefix = prefix == NULL ? NULL : prefix->next;
        count++;
    } while (status == PST_OK && prefix != NULL);
    if (status == PST_OK)
        status = fill_route(&r);
    for (uint32_t i = 0; i < count && status == PST_OK; i++)
        status = register_at(&r, ends[i], methods);
    if (r.route->stream_grace_s == 0 && r.route->stale_allow_s == 0)
        return status;
    prefix = defaults->under == NULL ? NULL : defaults->under->first;
    for (uint32_t i = 0; i < count && status == PST_OK; i++) {
        status = name_exempt(&r, prefix == NULL ? pst_bytes_of("", 0) : prefix->text);
        prefix = prefix == NULL ? NULL : prefix->next;
    }
    return status;
}

static unsigned method_bit(struct pst_bytes name)
{
    for (unsigned m = 0; m < METHODS; m++)
        if (pst_bytes_equal(name, pst_bytes_of(method_names[m], strlen(method_names[m]))))
            return 1u << m;
    return 0;
}

static unsigned with_head(const struct profile_builder *b, unsigned methods)
{
    return b->head_as_get && (methods & 1u << METHOD_GET) != 0 ? methods | 1u << METHOD_HEAD
                                                               : methods;
}

/* The operation word of a method: that of the route, or of the defaults. */
static struct pst_bytes word_of(const struct profile_defaults *defaults,
                                const struct pst_node *method)
{
    if (method->text.len != 0 && method->key.len != 0)
        return method->text;
    struct pst_bytes name = method->key.len != 0 ? method->key : method->text;
    for (const struct pst_node *n = defaults->operations == NULL ? NULL
                                                                 : defaults->operations->first;
         n != NULL; n = n->next)
        if (pst_bytes_equal(n->key, name))
            return n->text;
    return pst_bytes_of("", 0);
}

/* `methods:` is a map (method: word) or a list of methods. Methods of one word share a route. */
static enum pst_status add_methods(struct profile_builder *b, const struct pst_node *node,
                                   const struct pst_node *methods,
                                   const struct profile_defaults *defaults, struct pst_bytes path)
{
    unsigned done = 0;

    for (const struct pst_node *n = methods->first; n != NULL; n = n->next) {
        struct pst_bytes word = word_of(defaults, n);
        unsigned own = method_bit(n->key.len != 0 ? n->key : n->text), bits = 0;
        if (own == 0)
            return pst_node_fail(b->tree, n, b->error, "no method of this name");
        if ((done & own) != 0)
            continue;
        for (const struct pst_node *o = n; o != NULL; o = o->next)
            if (pst_bytes_equal(word_of(defaults, o), word))
                bits |= method_bit(o->key.len != 0 ? o->key : o->text);
        bits = with_head(b, bits);
        done |= bits;
        enum pst_status status = add_route(b, node, defaults, path, bits, word);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

static enum pst_status add_shorthands(struct profile_builder *b, const struct pst_node *node,
                                      const struct profile_defaults *defaults, bool *any)
{
    for (const struct pst_node *n = node->first; n != NULL; n = n->next) {
        unsigned bits = method_bit(n->key);
        if (bits == 0)
            continue;
        struct pst_node bare = {.key = n->key, .text = {.ptr = "", .len = 0}};
        enum pst_status status =
            add_route(b, node, defaults, n->text, with_head(b, bits), word_of(defaults, &bare));
        if (status != PST_OK)
            return status;
        *any = true;
    }
    return PST_OK;
}

static enum pst_status read_paths(struct profile_builder *b, const struct pst_node *node,
                                  const struct profile_defaults *defaults)
{
    const struct pst_node *methods = pst_node_get(node, "methods");
    const struct pst_node *path = pst_node_get(node, "path");
    bool any = false;
    enum pst_status status = add_shorthands(b, node, defaults, &any);

    if (status != PST_OK || (any && path == NULL))
        return status;
    if (path == NULL || methods == NULL)
        return pst_node_fail(b->tree, node, b->error, "a route has a path and methods");
    if (path->kind == PST_NODE_SCALAR)
        return add_methods(b, node, methods, defaults, path->text);
    for (const struct pst_node *n = path->first; n != NULL && status == PST_OK; n = n->next)
        status = add_methods(b, node, methods, defaults, n->text);
    return status;
}

static bool is_known_key(struct pst_bytes key)
{
    static const char *const own[] = {"path",     "methods", "routes", "ids",        "lookup",
                                      "need",     "entity",  "parent", "one_of",     "inner",
                                      "refuse",   "public",  "body",   "attributes", "compare",
                                      "pipeline", NULL};

    for (const char *const *k = own; *k != NULL; k++)
        if (pst_bytes_equal(key, pst_bytes_of(*k, strlen(*k))))
            return true;
    for (const char *const *k = shared_keys; *k != NULL; k++)
        if (pst_bytes_equal(key, pst_bytes_of(*k, strlen(*k))))
            return true;
    return method_bit(key) != 0;
}

/* Groups nest as deep as the file does, which the reader of files bounds. */
enum pst_status profile_route_read(struct profile_builder *b, const struct pst_node *node,
                                   const struct profile_defaults *defaults)
{
    struct profile_defaults own = *defaults;
    const struct pst_node *routes = pst_node_get(node, "routes");

    if (node->kind != PST_NODE_MAP)
        return pst_node_fail(b->tree, node, b->error, "a route is a map");
    for (const struct pst_node *n = node->first; n != NULL; n = n->next)
        if (!is_known_key(n->key))
            return pst_node_fail(b->tree, n, b->error, "no such key of a route");
    enum pst_status status = profile_defaults_read(b, node, &own);
    if (status != PST_OK || routes == NULL)
        return status == PST_OK ? read_paths(b, node, &own) : status;
    for (const struct pst_node *n = routes->first; n != NULL && status == PST_OK; n = n->next)
        status = profile_route_read(b, n, &own);
    return status;
}
