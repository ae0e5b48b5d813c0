/*
 * profile_extract.c - the variables of a route get their values, and the workspace its name.
 *
 * Order: body, query, captures, other sources, workspace, inner path, requirements, attributes. The
 * first thing that cannot be read for certain refuses the request; what does not agree between a
 * place that the app reads and one that it does not is asked last, so that a caller without the
 * right learns nothing (see profile_ask.c).
 */
#include "profile_internal.h"

bool profile_refuse(struct profile_asking *ask, enum pst_reason reason, struct pst_bytes detail)
{
    if (ask->out->refuse == PST_R_INTERNAL)
        ask->out->detail = detail;
    ask->out->refuse = reason;
    return false;
}

static bool no_memory(struct profile_asking *ask)
{
    return profile_refuse(ask, PST_R_OVERLOAD, PST_LIT("memory of one request"));
}

static bool is_get(const struct pst_request *request)
{
    return pst_bytes_equal(request->method, PST_LIT("GET")) ||
           pst_bytes_equal(request->method, PST_LIT("HEAD"));
}

static const struct pst_field *find_field(const struct pst_request *request, struct pst_bytes name,
                                          uint32_t *count)
{
    const struct pst_field *found = NULL;

    *count = 0;
    for (uint32_t i = 0; i < request->field_count; i++) {
        if (request->fields[i].name.len != name.len ||
            !profile_field_equal(request->fields[i].name, name))
            continue;
        found = &request->fields[i];
        ++*count;
    }
    return found;
}

/* ---- body ---- */

/* A form or a multipart body is read by the app's own rules, not as JSON. */
static bool says_json(const struct pst_request *request)
{
    uint32_t count;
    const struct pst_field *type = find_field(request, PST_LIT("content-type"), &count);

    if (count == 0)
        return true;
    struct pst_bytes media = pst_bytes_of(type->value.ptr, pst_bytes_find(type->value, ';'));
    return count == 1 && pst_bytes_equal_nocase(pst_bytes_trim(media), PST_LIT("application/json"));
}

static bool read_body(struct profile_asking *ask)
{
    const struct pst_request *request = ask->request;

    if (request->has_body && !ask->profile->get_body && is_get(request))
        return profile_refuse(ask, PST_R_BAD_BODY, PST_LIT("a body on GET"));
    if (request->has_body && ask->route->body == BODY_REFUSE)
        return profile_refuse(ask, PST_R_BAD_BODY, PST_LIT("a body where none is due"));
    if (ask->route->body != BODY_INSPECT || !request->has_body || is_get(request))
        return true;
    if (!request->body_given)
        return profile_refuse(ask, PST_R_BAD_BODY, PST_LIT("the body is needed for the decision"));
    if (ask->profile->json_only && !says_json(request))
        return profile_refuse(ask, PST_R_BAD_BODY, PST_LIT("content-type"));
    if (request->body.len == 0)
        return true;
    switch (profile_json_open(request->body, &ask->json)) {
    case PST_OK:
        return true;
    case PST_E_NOMEM:
        return no_memory(ask);
    case PST_E_LIMIT:
        return profile_refuse(ask, PST_R_BODY_TOO_LARGE, PST_LIT("more than 100000 values"));
    case PST_E_INVALID:
    case PST_E_ABSENT:
    case PST_E_EXISTS:
    case PST_E_IO:
    case PST_E_BUSY:
    case PST_PENDING:
        break;
    }
    return profile_refuse(ask, PST_R_BAD_BODY, PST_LIT("not one JSON object with distinct keys"));
}

static bool climbs(struct pst_bytes path)
{
    for (size_t i = 0; path.len - i > 2; i++)
        if (path.ptr[i] == '.' && path.ptr[i + 1] == '.' &&
            (path.ptr[i + 2] == '/' || path.ptr[i + 2] == '\\'))
            return true;
    return false;
}

/* Apps that look for climbing paths may decode a value once more before they do. */
static bool read_query(struct profile_asking *ask)
{
    enum pst_status status = profile_query_read(ask->arena, ask->request->query, &ask->query);

    if (status == PST_E_INVALID)
        return profile_refuse(ask, PST_R_BAD_TARGET, PST_LIT("an escape in the query"));
    if (status != PST_OK)
        return no_memory(ask);
    for (uint32_t i = 0; ask->profile->traversal && i < ask->query.count; i++) {
        struct pst_bytes once = ask->query.pairs[i].value, twice;
        status = profile_decode(ask->arena, once, false, &twice);
        if (status == PST_E_NOMEM)
            return no_memory(ask);
        if (climbs(once) || (status == PST_OK && climbs(twice)))
            return profile_refuse(ask, PST_R_BAD_TARGET,
                                  PST_LIT("a path that climbs, in the query"));
    }
    return true;
}

/* ---- variables ---- */

static bool add_value(struct profile_asking *ask, struct profile_values *values,
                      struct pst_bytes item)
{
    enum pst_status status = profile_values_add(ask->arena, values, item);

    if (status == PST_E_LIMIT)
        return profile_refuse(ask, PST_R_BAD_REQUEST, PST_LIT("too many values"));
    return status == PST_OK || no_memory(ask);
}

/* `brackets`: "name[]" is taken for the name. */
static bool query_values(struct profile_asking *ask, struct pst_bytes key, bool brackets,
                         struct profile_values *values)
{
    for (uint32_t i = 0; i < ask->query.count; i++) {
        const struct profile_pair *pair = &ask->query.pairs[i];
        if (!pst_bytes_equal(pair->key, key))
            continue;
        if (pair->doubtful || (!brackets && pair->whole.len != pair->key.len))
            return profile_refuse(ask, PST_R_AMBIGUOUS, key);
        if (!add_value(ask, values, pair->value))
            return false;
    }
    return true;
}

/* An app that reads "name" alone finds none where "name[]" stands. So that may only make more be
 * asked, unless the profile writes it so itself, and then it is not what says that one is there. */
static bool takes_brackets(const struct profile_var *var, const struct profile_name *name)
{
    return var->missing == MISSING_SKIP ||
           (var->missing == MISSING_REFUSE && name->walks[name->step_count - 1]);
}

static bool body_values(struct profile_asking *ask, const struct profile_var *var,
                        const struct profile_name *name, struct profile_values *values)
{
    bool fault;
    enum pst_reason reason = profile_json_get(ask->json, var, name, ask->profile->both_cases,
                                              ask->arena, values, &fault);

    if (fault)
        return no_memory(ask);
    return reason == PST_R_INTERNAL || profile_refuse(ask, reason, name->text);
}

static bool header_values(struct profile_asking *ask, struct pst_bytes name,
                          struct profile_values *values)
{
    for (uint32_t i = 0; i < ask->request->field_count; i++)
        if (profile_field_equal(ask->request->fields[i].name, name) &&
            !add_value(ask, values, pst_bytes_trim(ask->request->fields[i].value)))
            return false;
    return true;
}

static struct pst_bytes captured(const struct profile_asking *ask, const struct profile_var *var)
{
    struct pst_span capture = ask->routed->captures[var->capture];

    return pst_bytes_of(ask->request->path.ptr + capture.at, capture.len);
}

static bool path_values(struct profile_asking *ask, const struct profile_var *var,
                        struct profile_values *values)
{
    struct pst_bytes raw = captured(ask, var), value;
    enum pst_status status;

    if (!var->split) {
        status = profile_decode(ask->arena, raw, false, &value);
        return status == PST_OK        ? add_value(ask, values, value)
               : status == PST_E_NOMEM ? no_memory(ask)
                                       : profile_refuse(ask, PST_R_BAD_TARGET, var->name);
    }
    while (true) {
        size_t len = pst_bytes_find(raw, '/');
        char canonical[36];
        status = profile_decode(ask->arena, pst_bytes_of(raw.ptr, len), false, &value);
        if (status != PST_OK)
            return status == PST_E_NOMEM ? no_memory(ask)
                                         : profile_refuse(ask, PST_R_BAD_TARGET, var->name);
        if (profile_uuid_read(value, canonical) != UUID_NO && !add_value(ask, values, value))
            return false;
        if (len == raw.len)
            return true;
        raw = pst_bytes_from(raw, len + 1);
    }
}

static bool place_values(struct profile_asking *ask, const struct profile_var *var,
                         const struct profile_name *name, struct profile_values *values)
{
    switch (var->place) {
    case PLACE_QUERY:
        return query_values(ask, name->text, takes_brackets(var, name), values);
    case PLACE_BODY:
        return body_values(ask, var, name, values);
    case PLACE_PARAMS:
        return is_get(ask->request)
                   ? query_values(ask, name->text, takes_brackets(var, name), values)
                   : body_values(ask, var, name, values);
    case PLACE_HEADER:
        return header_values(ask, name->text, values);
    case PLACE_PATH: /* has no names */
    case PLACE_LOOKUP:
        break;
    }
    return true;
}

static bool check_forms(struct profile_asking *ask, const struct profile_var *var,
                        struct profile_values *values)
{
    if (var->form == FORM_EXACT)
        return true;
    for (uint32_t i = 0; i < values->count; i++) {
        bool fault;
        enum pst_reason reason =
            profile_form_check(ask->arena, var->form, &values->items[i], &fault);
        if (fault)
            return no_memory(ask);
        if (reason != PST_R_INTERNAL)
            return profile_refuse(ask, reason, var->name);
    }
    return true;
}

/* Of the values from `first` on, which came by one name. An app that takes the first of them, or
 * the last, may have taken the empty one. */
static bool drop_empty(struct profile_asking *ask, const struct profile_var *var,
                       struct profile_values *values, uint32_t first)
{
    uint32_t kept = first, all = values->count;

    for (uint32_t i = first; i < all; i++)
        if (values->items[i].len != 0)
            values->items[kept++] = values->items[i];
    values->count = kept;
    values->lacks = values->lacks || kept < all;
    return var->many || kept == first || kept == all ||
           profile_refuse(ask, PST_R_AMBIGUOUS, var->name);
}

/* Where no other element has a value either, the whole variable is missing. */
static bool check_lacking(struct profile_asking *ask, const struct profile_var *var,
                          struct profile_values *values)
{
    bool beside = values->count > 0 && var->many;

    if (var->lacking_refused || (beside && var->missing == MISSING_REFUSE))
        return profile_refuse(ask, PST_R_BAD_ID, var->name);
    values->lacks = beside;
    return true;
}

static bool read_names(struct profile_asking *ask, const struct profile_var *var,
                       struct profile_values *values)
{
    for (const struct profile_name *n = var->names; n != NULL; n = n->next) {
        uint32_t first = values->count;
        if (!place_values(ask, var, n, values) ||
            (var->empty_absent && !drop_empty(ask, var, values, first)))
            return false;
    }
    return true;
}

/* The values of one variable from where they may be many; of a single-valued one, all that were
 * sent must be equal. */
static __attribute__((noinline)) bool read_values(struct profile_asking *ask,
                                                  const struct profile_var *var,
                                                  struct profile_values *values)
{
    if (var->place == PLACE_PATH ? !path_values(ask, var, values) : !read_names(ask, var, values))
        return false;
    if (!check_forms(ask, var, values) || (values->lacks && !check_lacking(ask, var, values)))
        return false;
    for (uint32_t i = 1; i < values->count && !var->many; i++)
        if (!pst_bytes_equal(values->items[i], values->items[0]))
            return profile_refuse(ask, PST_R_AMBIGUOUS, var->name);
    if (!var->many && values->count > 1)
        values->count = 1;
    return true;
}

/* Neither from the path nor from anywhere else. */
static bool is_missing_allowed(struct profile_asking *ask, const struct profile_var *var,
                               uint32_t bit)
{
    if (var->place == PLACE_LOOKUP || var->missing == MISSING_UNKNOWN)
        ask->unknown |= bit;
    return var->place == PLACE_LOOKUP || var->missing != MISSING_REFUSE ||
           profile_refuse(ask, PST_R_BAD_ID, var->name);
}

static bool bind_vars(struct profile_asking *ask)
{
    const struct pst_route *route = ask->route;

    for (uint32_t i = 0; i < route->var_count; i++) {
        const struct profile_var *var = &route->vars[i];
        struct profile_bound *bound = &ask->vars[i];
        bound->values.items = &bound->one;
        bound->values.count = 0;
        bound->values.capacity = 1;
        bound->values.lacks = false;
        if (var->place == PLACE_PATH && !var->split && !ask->escaped) { /* one, as it stands */
            bound->one = captured(ask, var);
            bound->values.count = 1;
            if (var->form != FORM_EXACT && !profile_form_is(var->form, bound->one) &&
                !check_forms(ask, var, &bound->values))
                return false;
        } else if ((var->place != PLACE_QUERY || ask->query.count != 0) &&
                   !read_values(ask, var, &bound->values)) {
            return false;
        }
        if (bound->values.count > 0)
            ask->present |= UINT32_C(1) << i;
        else if (!is_missing_allowed(ask, var, UINT32_C(1) << i))
            return false;
    }
    return true;
}

static bool is_present(const struct profile_asking *ask, uint32_t var)
{
    return (ask->present >> var & 1) != 0;
}

/* ---- the same id in a place that the app does not read ---- */

static bool differs(const struct profile_values *a, const struct profile_values *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < a->count && !found; k++)
            found = pst_bytes_equal(a->items[k], b->items[i]);
        if (!found)
            return true;
    }
    return false;
}

static bool compare_name(struct profile_asking *ask, const struct profile_var *var,
                         const struct profile_bound *bound, const struct profile_name *name)
{
    struct profile_values query = {0}, body = {0};
    bool in_query =
        var->place == PLACE_QUERY || (var->place == PLACE_PARAMS && is_get(ask->request));

    if (!in_query && ask->query.count > 0 && !query_values(ask, name->text, true, &query))
        return false;
    if (var->place == PLACE_PATH && ask->json != NULL && !body_values(ask, var, name, &body))
        return false;
    ask->disagree =
        ask->disagree || differs(&bound->values, &query) || differs(&bound->values, &body);
    return true;
}

static bool compare_places(struct profile_asking *ask)
{
    for (uint32_t i = 0; i < ask->route->var_count; i++) {
        const struct profile_var *var = &ask->route->vars[i];
        if (var->place == PLACE_LOOKUP || var->place == PLACE_HEADER || !is_present(ask, i))
            continue;
        if (var->place == PLACE_PATH && !compare_name(ask, var, &ask->vars[i], var->own))
            return false;
        for (const struct profile_name *n = var->names; n != NULL; n = n->next)
            if (n->step_count == 1 && !compare_name(ask, var, &ask->vars[i], n))
                return false;
    }
    return true;
}

/* ---- workspace ---- */

static bool agree(struct profile_asking *ask, struct pst_bytes name, struct pst_bytes source,
                  struct pst_bytes *workspace)
{
    if (name.len == 0)
        return true;
    if (workspace->len != 0 && !pst_bytes_equal(*workspace, name))
        return profile_refuse(ask, PST_R_AMBIGUOUS, source);
    *workspace = name;
    return true;
}

static bool is_workspace_name(const struct profile_workspace *ws, struct pst_bytes name)
{
    if (name.len < ws->min || name.len > ws->max || !profile_all_inside(ws->bytes, name) ||
        (ws->bytes[(unsigned char)name.ptr[0]] & ws->bytes[(unsigned char)name.ptr[name.len - 1]] &
         PROFILE_EDGE) == 0)
        return false;
    for (uint32_t i = 0; i < ws->reserved_count; i++)
        if (pst_bytes_equal(name, ws->reserved[i]))
            return false;
    return true;
}

static struct pst_bytes host_label(const struct pst_request *request, struct pst_bytes suffix)
{
    if (suffix.len == 0)
        return suffix;
    struct pst_bytes host = pst_bytes_of(request->host.ptr, pst_bytes_find(request->host, ':'));
    if (host.len <= suffix.len ||
        !pst_bytes_equal(pst_bytes_from(host, host.len - suffix.len), suffix))
        return pst_bytes_of("", 0);
    return pst_bytes_of(host.ptr, host.len - suffix.len);
}

/* Few fields have a name as long as one of those that may carry the workspace. */
static bool may_have_workspace(const struct pst_request *request,
                               const struct profile_workspace *ws)
{
    for (uint32_t i = 0; i < request->field_count; i++)
        if ((ws->header_lengths >> (request->fields[i].name.len & 63) & 1) != 0)
            return true;
    return false;
}

static bool workspace_headers(struct profile_asking *ask, struct pst_bytes *workspace)
{
    const struct profile_workspace *ws = &ask->profile->workspace;

    if (!may_have_workspace(ask->request, ws))
        return true;
    for (uint32_t i = 0; i < ws->header_count; i++) {
        uint32_t count;
        const struct pst_field *field = find_field(ask->request, ws->headers[i], &count);
        if (count > 1)
            return profile_refuse(ask, PST_R_AMBIGUOUS, ws->headers[i]);
        if (field != NULL && workspace->len == 0 &&
            !pst_bytes_equal_nocase(field->name, ws->headers[i]))
            continue; /* X_MLFLOW_WORKSPACE: may not contradict, but no app is led by it */
        if (field != NULL && !agree(ask, pst_bytes_trim(field->value), ws->headers[i], workspace))
            return false;
    }
    return true;
}

static bool read_workspace(struct profile_asking *ask)
{
    const struct profile_workspace *ws = &ask->profile->workspace;
    const struct pst_route *route = ask->route;
    struct pst_bytes name = {0};

    if (route->scope == SCOPE_NONE) {
        ask->out->workspace_optional = true;
        return true;
    }
    if (route->workspace_var != PROFILE_VARS && is_present(ask, route->workspace_var))
        name = ask->vars[route->workspace_var].values.items[0];
    if (!workspace_headers(ask, &name) ||
        !agree(ask, host_label(ask->request, ws->host_suffix), PST_LIT("host"), &name))
        return false;
    if (ws->off) {
        if (name.len != 0)
            return profile_refuse(ask, PST_R_WORKSPACES_OFF, name);
        ask->out->workspace = ws->fallback; /* where the grants of such an app are kept */
        ask->out->workspace_optional = true;
        return true;
    }
    if (name.len == 0)
        name = ws->fallback;
    if (!is_workspace_name(ws, name))
        return profile_refuse(ask, PST_R_BAD_WORKSPACE,
                              name.len == 0 ? PST_LIT("no workspace is named")
                                            : PST_LIT("workspace"));
    ask->out->workspace = name;
    ask->out->forward_workspace_header = ws->forward;
    return true;
}

/* ---- entities of folded segments ---- */

static const struct profile_entity *folded_entity(struct profile_asking *ask, uint32_t var)
{
    if (var == PROFILE_VARS)
        return NULL;
    const struct profile_entity *e = profile_fold(ask->profile, ask->vars[var].values.items[0]);
    if (e != NULL)
        ask->vars[var].values.items[0] = e->name;
    return e;
}

/* The entity of the first requirement, where the route names it itself. */
static const struct profile_entity *literal_entity(const struct pst_route *route)
{
    return route->needs == NULL || route->needs->key_count == 0 ? NULL
                                                                : route->needs->keys[0].known;
}

/* pst_profile_route has refused segments that name no entity. */
static bool fold_entities(struct profile_asking *ask)
{
    const struct pst_route *route = ask->route;

    ask->entity = route->entity_var == PROFILE_VARS ? literal_entity(route)
                                                    : folded_entity(ask, route->entity_var);
    ask->parent = folded_entity(ask, route->parent_var);
    if (ask->parent == NULL || route->parent_id_var == PROFILE_VARS)
        return true;
    return profile_ask_form(ask, ask->parent, &ask->vars[route->parent_id_var].values.items[0]);
}

static bool check_one_of(struct profile_asking *ask)
{
    const uint32_t *pair = ask->route->one_of;

    if (pair[0] == PROFILE_VARS || is_present(ask, pair[0]) != is_present(ask, pair[1]))
        return true;
    return profile_refuse(ask, PST_R_BAD_ID, ask->route->vars[pair[0]].name);
}

static bool bind_all(struct profile_asking *ask)
{
    return bind_vars(ask) && check_one_of(ask) && (!ask->route->compare || compare_places(ask));
}

/* ---- inner paths ---- */

static bool ask_inner(struct profile_asking *ask)
{
    const struct pst_route *outer = ask->route;
    const struct profile_bound *bound = &ask->vars[outer->inner_var];
    struct pst_span captures[PROFILE_CAPTURES];

    if (!is_present(ask, outer->inner_var))
        return true; /* `missing` says what is asked instead */
    struct pst_bytes path = pst_arena_printf(ask->arena, "/%.*s", (int)bound->values.items[0].len,
                                             bound->values.items[0].ptr);
    if (path.len == 0)
        return no_memory(ask);
    const struct profile_node *node = profile_trie_match(outer->inner, path, captures);
    if (node == NULL || node->any == NULL)
        return profile_refuse(ask, PST_R_BAD_ID, outer->vars[outer->inner_var].name);

    const struct pst_route *inner = node->any;
    struct profile_bound saved[PROFILE_VARS];
    memcpy(saved, ask->vars, outer->var_count * sizeof(saved[0]));
    memset(ask->vars, 0, inner->var_count * sizeof(saved[0]));
    uint32_t present = ask->present, unknown = ask->unknown;
    ask->present = ask->unknown = 0;
    for (uint32_t i = 0; i < inner->var_count; i++) {
        struct pst_span c = captures[inner->vars[i].capture];
        if (!add_value(ask, &ask->vars[i].values, pst_bytes_of(path.ptr + c.at, c.len)))
            return false;
        ask->present |= UINT32_C(1) << i;
    }
    bool good = true;
    if (inner->workspace_var != PROFILE_VARS && ask->out->workspace.ptr != NULL &&
        !ask->profile->workspace.off) /* then it is a folder of old */
        good = agree(ask, ask->vars[inner->workspace_var].values.items[0],
                     PST_LIT("workspaces/ in the path"), &ask->out->workspace);
    good = good && profile_ask_needs(ask, inner, inner->needs);
    memcpy(ask->vars, saved, outer->var_count * sizeof(saved[0]));
    ask->present = present;
    ask->unknown = unknown;
    return good;
}

/* ---- the whole ---- */

static bool ask_missing(struct profile_asking *ask)
{
    for (uint32_t left = ask->route->instead; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(left);
        if ((!is_present(ask, i) || ask->vars[i].values.lacks) &&
            !profile_ask_needs(ask, ask->route, ask->route->vars[i].instead))
            return false;
    }
    return true;
}

/* Something is always asked: a route that names nothing asks for a known user. */
static bool ask_last(struct profile_asking *ask)
{
    static const struct pst_requirement closed = {.need = PST_NEED_CLOSED,
                                                  .closed = PST_R_AMBIGUOUS};
    static const struct pst_requirement known = {.need = PST_NEED_AUTHENTICATED};

    if (ask->count == 0 && !profile_ask_push(ask, &known))
        return false;
    return !ask->disagree || profile_ask_push(ask, &closed);
}

static bool extract(struct profile_asking *ask)
{
    return read_body(ask) && read_query(ask) && bind_all(ask) && fold_entities(ask) &&
           read_workspace(ask) && profile_ask_needs(ask, ask->route, ask->route->needs) &&
           ask_missing(ask) && (ask->route->inner == NULL || ask_inner(ask)) &&
           (!ask->route->attributes || profile_ask_attributes(ask)) && ask_last(ask);
}

void pst_profile_extract(const struct pst_profile *profile, const struct pst_routed *routed,
                         const struct pst_request *request, struct pst_arena *arena,
                         struct pst_extracted *out)
{
    struct profile_asking ask;

    memset(&ask, 0, offsetof(struct profile_asking, vars));
    ask.profile = profile;
    ask.route = routed->route;
    ask.routed = routed;
    ask.request = request;
    ask.arena = arena;
    ask.out = out;
    ask.escaped = pst_bytes_find(request->path, '%') != request->path.len;
    *out = (struct pst_extracted){.op = routed->route->op};
    bool good = extract(&ask);
    profile_json_close(ask.json);
    if (!good) {
        if (out->refuse == PST_R_INTERNAL)
            out->refuse = PST_R_OVERLOAD;
        return;
    }
    out->requirements = ask.requirements;
    out->requirement_count = ask.count;
    if (ask.requirements[0].key_count != 0) {
        out->entity = ask.requirements[0].keys[0].entity;
        out->op = ask.requirements[0].keys[0].op;
    }
}
