/*
 * profile_vars.c - the variables of a route: where each id of a request comes from.
 *
 *   ids:
 *     run: query run_id|run_uuid                 # one value under either name
 *     experiment: {from: body experiment_ids[], missing: skip}
 *   lookup: experiment                           # only the upstream knows it
 */
#include "profile_internal.h"

static enum pst_status read_body_steps(struct profile_builder *b, const struct pst_node *at,
                                       struct pst_bytes text, struct profile_name *name)
{
    while (true) {
        size_t end = pst_bytes_find(text, '.');
        struct pst_bytes step = pst_bytes_of(text.ptr, end);
        uint32_t n = name->step_count;
        if (n == PROFILE_JSON_STEPS || step.len == 0)
            return pst_node_fail(b->tree, at, b->error, "not a path into a body");
        if (step.len > 2 && memcmp(step.ptr + step.len - 2, "[]", 2) == 0) {
            name->walks[n] = true;
            step.len -= 2;
        }
        enum pst_status status = pst_arena_copy(&b->profile->arena, step, &name->steps[n]);
        if (status != PST_OK)
            return status;
        name->step_count++;
        if (end == text.len)
            return PST_OK;
        text = pst_bytes_from(text, end + 1);
    }
}

static enum pst_status add_name(struct profile_builder *b, const struct pst_node *at,
                                struct profile_var *var, struct pst_bytes text)
{
    struct profile_name *name = pst_arena_zalloc(&b->profile->arena, sizeof(*name));
    struct profile_name **tail = &var->names;

    if (name == NULL)
        return PST_E_NOMEM;
    enum pst_status status = read_body_steps(b, at, text, name);
    if (status != PST_OK)
        return status;
    for (uint32_t i = 0; i < name->step_count; i++)
        var->many = var->many || name->walks[i];
    if (text.len > 2 && memcmp(text.ptr + text.len - 2, "[]", 2) == 0)
        text.len -= 2;
    status = pst_arena_copy(&b->profile->arena, text, &name->text);
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = name;
    return status;
}

static enum pst_status use_capture(struct profile_builder *b, const struct pst_node *at,
                                   const struct pst_route *route, struct profile_var *var,
                                   struct pst_bytes name)
{
    uint32_t of = profile_var_of(route, name);

    if (of == PROFILE_VARS || route->vars[of].place != PLACE_PATH)
        return pst_node_fail(b->tree, at, b->error, "the path has no parameter {%.*s}",
                             (int)name.len, name.ptr);
    var->capture = route->vars[of].capture;
    return PST_OK;
}

/* "query run_id|run_uuid" */
static enum pst_status read_source(struct profile_builder *b, const struct pst_node *at,
                                   const struct pst_route *route, struct pst_bytes text,
                                   struct profile_var *var)
{
    static const char *const places[] = {"path", "query", "body", "params", "header"};
    size_t blank = pst_bytes_find(text, ' ');
    struct pst_bytes place = pst_bytes_of(text.ptr, blank);
    struct pst_bytes names = pst_bytes_trim(pst_bytes_from(text, blank));

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!pst_bytes_equal(place, pst_bytes_of(places[i], strlen(places[i]))) || names.len == 0)
            continue;
        var->place = (enum profile_place)i;
        if (var->place == PLACE_PATH)
            return use_capture(b, at, route, var, names);
        while (true) {
            size_t bar = pst_bytes_find(names, '|');
            enum pst_status status = add_name(b, at, var, pst_bytes_of(names.ptr, bar));
            if (status != PST_OK || bar == names.len)
                return status;
            names = pst_bytes_from(names, bar + 1);
        }
    }
    return pst_node_fail(b->tree, at, b->error,
                         "a source is 'path', 'query', 'body', 'params' or 'header' and a name");
}

static void read_missing(const struct pst_node *map, struct profile_var *var)
{
    static const char *const words[] = {"refuse", "skip", "unknown"};
    const struct pst_node *node = pst_node_get(map, "missing");

    if (node == NULL)
        return;
    var->missing =
        MISSING_ASK; /* unless it is one of the words; read again when all variables are known */
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (pst_bytes_equal(node->text, pst_bytes_of(words[i], strlen(words[i]))))
            var->missing = (enum profile_missing)i;
}

static enum pst_status read_var_map(struct profile_builder *b, const struct pst_node *node,
                                    const struct pst_route *route, struct profile_var *var)
{
    static const char *const keys[] = {"from",  "form",    "missing", "empty",
                                       "split", "lacking", NULL};
    static const char *const lackings[] = {"missing", "refuse", NULL};
    static const char *const empties[] = {"refuse", "absent", NULL};
    struct pst_bytes from = {0};
    unsigned empty = 0, lacking = 0;
    enum pst_status status = pst_node_only(b->tree, node, keys, b->error);

    if (status == PST_OK)
        status = pst_node_text(b->tree, node, "from", &from, b->error);
    if (status == PST_OK)
        status = read_source(b, node, route, from, var);
    if (status == PST_OK)
        status = profile_form_read(b, node, "form", &var->form);
    if (status == PST_OK)
        status = pst_node_bool(b->tree, node, "split", &var->split, b->error);
    if (status == PST_OK)
        status = pst_node_enum(b->tree, node, "empty", empties, &empty, b->error);
    if (status == PST_OK)
        status = pst_node_enum(b->tree, node, "lacking", lackings, &lacking, b->error);
    if (status == PST_OK && lacking == 1 && !var->many)
        return pst_node_fail(b->tree, node, b->error, "lacking speaks of elements: no [] is there");
    var->lacking_refused = lacking == 1;
    var->empty_absent = empty == 1;
    var->many = var->many || var->split;
    read_missing(node, var);
    return status;
}

/* The variable of that name: the capture, or a new one. */
static struct profile_var *var_slot(struct pst_route *route, struct pst_bytes name)
{
    uint32_t at = profile_var_of(route, name);

    if (at != PROFILE_VARS)
        return &route->vars[at];
    return route->var_count == PROFILE_VARS ? NULL : &route->vars[route->var_count++];
}

static enum pst_status read_var(struct profile_builder *b, const struct pst_node *node,
                                struct pst_route *route)
{
    struct profile_var var = {.form = b->form};
    enum pst_status status = pst_arena_copy(&b->profile->arena, node->key, &var.name);

    if (status == PST_OK)
        status = node->kind == PST_NODE_MAP ? read_var_map(b, node, route, &var)
                                            : read_source(b, node, route, node->text, &var);
    if (status != PST_OK)
        return status;
    struct profile_var *slot = var_slot(route, node->key);
    if (slot == NULL)
        return pst_node_fail(b->tree, node, b->error, "more than %u variables", PROFILE_VARS);
    if (slot->name.len > 0 && slot->place == PLACE_PATH && var.place != PLACE_PATH)
        return pst_node_fail(
            b->tree, node, b->error,
            "the path names it already; what stands elsewhere is another variable");
    *slot = var;
    return PST_OK;
}

static enum pst_status add_lookup(struct profile_builder *b, const struct pst_node *node,
                                  struct pst_route *route)
{
    struct profile_var *slot = var_slot(route, node->text);

    if (slot == NULL)
        return pst_node_fail(b->tree, node, b->error, "more than %u variables", PROFILE_VARS);
    *slot = (struct profile_var){.place = PLACE_LOOKUP};
    return pst_arena_copy(&b->profile->arena, node->text, &slot->name);
}

static enum pst_status read_instead(struct profile_builder *b, const struct pst_node *ids,
                                    struct pst_route *route, struct pst_bytes op_word)
{
    for (const struct pst_node *n = ids == NULL ? NULL : ids->first; n != NULL; n = n->next) {
        struct profile_var *var = &route->vars[profile_var_of(route, n->key)];
        if (var->missing != MISSING_ASK)
            continue;
        struct profile_need *first = NULL, **tail = &first;
        const struct pst_node *missing = pst_node_get(n, "missing");
        enum pst_status status =
            profile_need_parse(b, route, missing, missing->text, op_word, &tail);
        if (status != PST_OK)
            return status;
        var->instead = first;
        route->instead |= UINT32_C(1) << (var - route->vars);
    }
    return PST_OK;
}

enum pst_status profile_vars_read(struct profile_builder *b, const struct pst_node *node,
                                  struct pst_route *route, struct pst_bytes op_word)
{
    const struct pst_node *ids = pst_node_get(node, "ids");
    const struct pst_node *lookup = pst_node_get(node, "lookup");
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < route->var_count; i++)
        route->vars[i].form = b->form;
    if (ids != NULL && ids->kind != PST_NODE_MAP)
        return pst_node_fail(b->tree, ids, b->error, "ids are a map of names and sources");
    for (const struct pst_node *n = ids == NULL ? NULL : ids->first; n != NULL && status == PST_OK;
         n = n->next)
        status = read_var(b, n, route);
    if (status == PST_OK && lookup != NULL && lookup->kind == PST_NODE_SCALAR)
        status = add_lookup(b, lookup, route);
    for (const struct pst_node *n = lookup == NULL ? NULL : lookup->first;
         n != NULL && status == PST_OK; n = n->next)
        status = add_lookup(b, n, route);
    return status == PST_OK ? read_instead(b, ids, route, op_word) : status;
}
