/*
 * suite_mlflow.c - the mlflow profile against the route table and the truth table.
 *
 * Routes: every path and method of the table (those that MLflow 3.17 has) is in the profile, needs
 * what the table says where one word says it, and nothing else is in the profile. Cases: those of
 * release 3.17 that need nothing beyond path, query, header, body and grants.
 */
#include <jansson.h>

#include "profile_decide.h"

static unsigned passed, failed, skipped;

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

static void verdict(const char *id, bool good, const char *format, const char *detail)
{
    if (good) {
        passed++;
        return;
    }
    failed++;
    printf("FAIL %s: ", id);
    printf("%s%s\n", format, detail);
}

/* ---- routes ---- */

static struct pst_facts nobody_special = {.user_id = 2, .name = {.ptr = "alice", .len = 5}};

/* A concrete path for a template: parameters become a word that no literal has. */
static void fill(const char *template, char *out, size_t cap)
{
    size_t n = 0;

    for (const char *t = template; *t != '\0' && n + 8 < cap; t++) {
        if (*t != '{') {
            out[n++] = *t;
            continue;
        }
        const char *close = strchr(t, '}');
        const char *word = close[-1] == '.' ? "1/q/z" : "q7q";
        memcpy(out + n, word, strlen(word));
        n += strlen(word);
        t = close;
    }
    out[n] = '\0';
}

static bool is_gone(const json_t *route)
{
    return strcmp(text_of(route, "until"), "3.12") == 0;
}

static void route_of(const struct pst_profile *profile, const char *method, const char *path,
                     struct pst_routed *out)
{
    struct pst_request request = {.method = decide_text(method), .path = decide_text(path)};

    if (strlen(path) > 1 && path[strlen(path) - 1] == '/')
        request.oddities = PST_ODD_TRAILING_SLASH;
    pst_profile_route(profile, &request, out);
}

static void check_route(const struct decide_world *w, const json_t *route)
{
    const json_t *paths = json_object_get(route, "paths");
    const char *method = text_of(route, "method");

    for (size_t i = 0; i < json_array_size(paths); i++) {
        struct pst_routed routed, head;
        char path[512], id[640];
        fill(json_string_value(json_array_get(paths, i)), path, sizeof(path));
        snprintf(id, sizeof(id), "route %s %s", method, path);
        route_of(w->profile, method, path, &routed);
        if (is_gone(route)) {
            verdict(id, routed.refuse != PST_R_INTERNAL, "is gone in 3.13, but is routed", "");
            continue;
        }
        bool public = strcmp(text_of(route, "need"), "public") == 0;
        if (routed.route == NULL || routed.refuse != PST_R_INTERNAL || routed.is_public != public) {
            verdict(id, false, "not routed as the table says: ", pst_reason_name(routed.refuse));
            continue;
        }
        route_of(w->profile, "HEAD", path, &head);
        bool get = strcmp(method, "GET") == 0;
        verdict(id, !get || head.route == routed.route, "HEAD is not decided as GET", "");
    }
}

/* ---- what a route asks, against need, decide_on, tier and ids of the table ---- */

#define SAMPLE "7"

/* Puts the sample value where `name` leads: "a.b[].c" is {"a":{"b":[{"c":"7"}]}}. */
static void put_body(json_t *object, const char *name, bool many)
{
    char step[128];
    const char *dot = strchr(name, '.');
    size_t len = dot == NULL ? strlen(name) : (size_t)(dot - name);
    bool list = len > 2 && memcmp(name + len - 2, "[]", 2) == 0;

    snprintf(step, sizeof(step), "%.*s", (int)(list ? len - 2 : len), name);
    if (dot == NULL) {
        json_object_set_new(object, step,
                            list || many ? json_pack("[s]", SAMPLE) : json_string(SAMPLE));
        return;
    }
    json_t *inner = json_object();
    put_body(inner, dot + 1, many);
    json_object_set_new(object, step, list ? json_pack("[o]", inner) : inner);
}

static void put_ids(const json_t *route, struct decide_request *r, char *target, size_t cap,
                    json_t *body)
{
    const json_t *ids = json_object_get(route, "ids");
    bool get = strcmp(text_of(route, "method"), "GET") == 0, first = true;

    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        const char *in = text_of(id, "in"), *name = text_of(id, "name");
        bool query = strcmp(in, "query") == 0 || (strcmp(in, "body_or_query") == 0 && get);
        bool one_of_two = strcmp(text_of(route, "lookup"), "run_or_logged_model") == 0 && i > 0;
        size_t n = strlen(target);
        if (one_of_two)
            continue;
        if (query) {
            snprintf(target + n, cap - n, "%c%s=" SAMPLE, first ? '?' : '&', name);
            first = false;
        } else if (strcmp(in, "header") == 0) {
            r->fields[r->field_count++] = (struct pst_field){decide_text(name), PST_LIT(SAMPLE)};
        } else if (strcmp(in, "path") != 0) {
            put_body(body, name,
                     json_is_true(json_object_get(id, "many")) && strstr(name, "[]") == NULL);
        }
    }
}

static int rank_of_need(const char *need)
{
    static const char *const words[] = {"not_denied", "read", "use", "update", "delete", "manage"};

    for (int i = 0; i < 6; i++)
        if (strcmp(words[i], need) == 0)
            return i;
    return -1;
}

static int rank_of_op(enum pst_op op)
{
    const char *name = pst_op_name(op);

    return rank_of_need(strcmp(name, "detail") == 0 ? "read" : name);
}

static bool is_among(struct pst_bytes entity, const char *names)
{
    while (*names != '\0') {
        size_t len = strcspn(names, "|");
        if (pst_bytes_equal(entity, pst_bytes_of(names, len)))
            return true;
        names += len + (names[len] == '|');
    }
    return false;
}

/* Some requirement asks at least `need` of one of the entities. */
static bool asks(const struct pst_extracted *got, const char *entities, const char *need)
{
    for (uint32_t i = 0; i < got->requirement_count; i++) {
        const struct pst_requirement *r = &got->requirements[i];
        if (r->need == PST_NEED_GRANT && r->key_count > 0 &&
            is_among(r->keys[0].entity, entities) &&
            rank_of_op(r->keys[0].op) >= rank_of_need(need))
            return true;
    }
    return false;
}

/* Some group of alternatives names the need and nothing weaker than `closed`. */
static bool asks_need(const struct pst_extracted *got, enum pst_need need)
{
    for (uint32_t i = 0; i < got->requirement_count; i++)
        if (got->requirements[i].need == need)
            return true;
    return false;
}

static bool asks_grant(const json_t *route, const struct pst_extracted *got, const char *need)
{
    const char *on = text_of(route, "decide_on"), *tier = text_of(route, "tier");
    const char *shape = text_of(route, "shape");

    if (strcmp(on, "registered_model_or_prompt") == 0)
        on = "registered_model|prompt";
    if (strcmp(shape, "bulk_use") == 0)
        on =
            "gateway_model_definition"; /* the table names the endpoint, which does not exist yet */
    if (strcmp(shape, "use_secret") == 0)
        on = "gateway_secret";
    if (strcmp(shape, "create_child") == 0)
        return asks(got, on, need) && (tier[0] == '\0' || asks(got, tier, "not_denied"));
    if (strcmp(shape, "child") == 0 || (strcmp(shape, "bulk") == 0 && tier[0] != '\0'))
        return asks(got, "experiment", "read") && asks(got, tier, need);
    if (tier[0] != '\0' && strcmp(shape, "artifact") != 0)
        return asks(got, on, need) &&
               asks(got, tier, strcmp(need, "read") == 0 ? "not_denied" : need);
    return asks(got, on, need);
}

static bool asks_rightly(const json_t *route, const struct pst_extracted *got)
{
    const char *need = text_of(route, "need"), *on = text_of(route, "decide_on");
    bool admin_only = asks_need(got, PST_NEED_ADMIN);

    if (strcmp(need, "authenticated") == 0) /* a part of the answer that would be cut out */
        return json_is_null(json_object_get(route, "response_filter"))
                   ? got->requirement_count == 1
                   : got->requirements[0].closed == PST_R_NEEDS_FILTER;
    if (strcmp(need, "admin") == 0 || strcmp(need, "deny") == 0)
        return admin_only && got->requirement_count == 1;
    if (strcmp(need, "create_in_workspace") == 0)
        return asks_need(got, PST_NEED_WORKSPACE_USE);
    if (strcmp(need, "self_or_admin") == 0)
        return asks_need(got, PST_NEED_SELF) && admin_only && got->requirement_count == 2;
    if (strcmp(need, "workspace_admin") == 0)
        return asks_need(got, PST_NEED_WORKSPACE_ADMIN);
    if (strcmp(need, "view") == 0)
        return asks_need(got, PST_NEED_WORKSPACE_VIEW);
    if (strcmp(need, "owner") == 0 || strcmp(need, "view_role") == 0 ||
        strcmp(on, "named_resource") == 0 ||
        strcmp(text_of(route, "lookup"), "role_workspace") == 0)
        return admin_only && got->requirements[0].need == PST_NEED_CLOSED;
    if (strcmp(need, "filtered") == 0)
        return got->requirements[0].closed == PST_R_NEEDS_FILTER;
    if (strcmp(on, "workspace") == 0)
        return asks_need(got, PST_NEED_WORKSPACE_MANAGE);
    return rank_of_need(need) >= 0 && asks_grant(route, got, need);
}

/* A sample request of the route, decided as somebody without grants; the requirements are looked
 * at. */
static void check_needs(struct decide_world *w, const json_t *route)
{
    const json_t *paths = json_object_get(route, "paths");
    const char *method = text_of(route, "method");
    json_t *body = json_object();
    char target[768], id[800];
    struct decide_request r = {.method = method, .target = target};

    fill(json_string_value(json_array_get(paths, 0)), target, sizeof(target));
    snprintf(id, sizeof(id), "needs %s %s", method, target);
    put_ids(route, &r, target, sizeof(target), body);
    if (json_object_size(body) != 0 && json_object_get(body, "name") == NULL)
        json_object_set_new(body, "name", json_string(SAMPLE)); /* what is made has a name */
    char *text = json_object_size(body) == 0 ? NULL : json_dumps(body, JSON_COMPACT);
    r.body = text;
    struct decide_answer answer = decide(w, &r);
    if (strcmp(text_of(route, "need"), "public") == 0) {
        verdict(id, answer.forward && !answer.asked, "asks somebody", "");
    } else if (answer.extracted.requirement_count == 0) {
        verdict(id, false, "asks nothing: ", pst_reason_name(answer.reason));
    } else {
        verdict(id, asks_rightly(route, &answer.extracted),
                "does not ask what the table says: ", text_of(route, "need"));
    }
    free(text);
    json_decref(body);
}

/* ---- what is in the profile and not in the table ---- */

static bool in_table(const json_t *routes, const char *method, const char *path)
{
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const json_t *route = json_array_get(routes, i), *paths = json_object_get(route, "paths");
        if (is_gone(route) || strcmp(text_of(route, "method"), method) != 0)
            continue;
        for (size_t k = 0; k < json_array_size(paths); k++) {
            char own[512], theirs[512];
            fill(path, own, sizeof(own));
            fill(json_string_value(json_array_get(paths, k)), theirs, sizeof(theirs));
            if (strcmp(own, theirs) == 0)
                return true;
        }
    }
    return false;
}

static void check_extra(const json_t *routes, struct pst_bytes method, struct pst_bytes path,
                        const struct pst_node *under)
{
    const struct pst_node *prefix = under == NULL ? NULL : under->first;

    do {
        char full[512], id[640], name[16];
        snprintf(name, sizeof(name), "%.*s", (int)method.len, method.ptr);
        snprintf(full, sizeof(full), "%.*s%.*s", prefix == NULL ? 0 : (int)prefix->text.len,
                 prefix == NULL ? "" : prefix->text.ptr, (int)path.len, path.ptr);
        snprintf(id, sizeof(id), "extra %s %s", name, full);
        verdict(id, in_table(routes, name, full), "is in the profile, but in no table", "");
        prefix = prefix == NULL ? NULL : prefix->next;
    } while (prefix != NULL);
}

static bool is_method(struct pst_bytes key)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (pst_bytes_equal(key, decide_text(names[i])))
            return true;
    return false;
}

static void walk(const json_t *routes, const struct pst_node *list, const struct pst_node *under)
{
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        const struct pst_node *own = pst_node_get(n, "under"), *group = pst_node_get(n, "routes");
        const struct pst_node *path = pst_node_get(n, "path"),
                              *methods = pst_node_get(n, "methods");
        own = own == NULL ? under : own;
        if (group != NULL) {
            walk(routes, group, own);
            continue;
        }
        for (const struct pst_node *k = n->first; k != NULL; k = k->next)
            if (is_method(k->key))
                check_extra(routes, k->key, k->text, own);
        for (const struct pst_node *m = methods == NULL ? NULL : methods->first; m != NULL;
             m = m->next) {
            struct pst_bytes name = m->key.len != 0 ? m->key : m->text;
            if (path->kind == PST_NODE_SCALAR)
                check_extra(routes, name, path->text, own);
            for (const struct pst_node *p = path->first; p != NULL; p = p->next)
                check_extra(routes, name, p->text, own);
        }
    }
}

static void check_extras(const json_t *routes)
{
    struct pst_tree tree;
    struct pst_error error;

    if (pst_yaml_load_file("policies/profiles/mlflow.yaml", &tree, &error) != PST_OK)
        decide_die(error.where, error.message);
    walk(routes, pst_node_get(tree.root, "routes"), NULL);
    pst_tree_fini(&tree);
}

/* ---- cases ---- */

#define WORKSPACES 16

/* The workspaces of the world that the cases play in; the first is the default one. */
static const json_t *world_workspaces;

/* Ids of workspaces count from 1; 0 is none of the world. */
static uint32_t workspace_of(const char *name)
{
    for (uint32_t i = 0; i < json_array_size(world_workspaces); i++)
        if (strcmp(json_string_value(json_array_get(world_workspaces, i)), name) == 0)
            return i + 1;
    return 0;
}

static uint64_t preset(const struct pst_presets *presets, const char *name)
{
    uint64_t access = 0;

    if (!pst_presets_find(presets, decide_text(name), &access))
        decide_die("level", name);
    return access;
}

static void must(enum pst_status status, const char *what)
{
    if (status != PST_OK)
        decide_die(what, pst_status_name(status));
}

/* Role 1 is the administrator's; each workspace has one for the caller of the case. */
static void add_world(struct pst_model *model)
{
    for (uint32_t i = 0; i < json_array_size(world_workspaces); i++) {
        struct pst_bytes name = decide_text(json_string_value(json_array_get(world_workspaces, i)));
        enum pst_workspace_kind kind = i == 0 ? PST_WORKSPACE_DEFAULT : PST_WORKSPACE_PROJECT;
        must(pst_model_add_workspace(
                 model, &(struct pst_workspace_row){.id = i + 1, .name = name, .kind = kind}),
             "workspace");
        must(pst_model_add_role(
                 model, &(struct pst_role_row){.id = i + 2, .name = name, .workspace = i + 1}),
             "role");
    }
    must(pst_model_add_role(model, &(struct pst_role_row){.id = 1, .name = PST_LIT("admin")}),
         "role");
    must(pst_model_add_permission(model, &(struct pst_permission_row){.id = 1,
                                                                      .role = 1,
                                                                      .has_access = true,
                                                                      .access = PST_A_OWNER,
                                                                      .entity = PST_LIT("ALL")}),
         "permission");
}

/* Grants to others than the caller are in no role of the caller's. */
static bool is_callers(const json_t *grant, const char *caller)
{
    return strcmp(text_of(grant, "user"), caller) == 0;
}

static struct pst_policy *policy_of(const json_t *grants, const char *caller,
                                    const struct pst_presets *presets)
{
    struct pst_model model;
    struct pst_policy *policy;
    struct pst_error error;

    pst_model_init(&model, 1u << 20);
    add_world(&model);
    for (size_t i = 0; i < json_array_size(grants); i++) {
        const json_t *g = json_array_get(grants, i);
        uint32_t workspace = workspace_of(text_of(g, "workspace"));
        if (workspace == 0)
            decide_die("workspace", text_of(g, "workspace"));
        if (!is_callers(g, caller))
            continue;
        struct pst_permission_row row = {.id = i + 2,
                                         .role = workspace + 1,
                                         .has_access = true,
                                         .access = preset(presets, text_of(g, "permission")),
                                         .entity = decide_text(text_of(g, "type")),
                                         .entity_id = decide_text(text_of(g, "pattern"))};
        row.has_entity_id = !pst_bytes_equal(row.entity_id, PST_LIT("*"));
        must(pst_model_add_permission(&model, &row), "permission");
    }
    if (pst_policy_compile(&model, &policy, &error) != PST_OK)
        decide_die(error.where, error.message);
    pst_model_fini(&model);
    return policy;
}

static const struct pst_binding admin_bindings[] = {{1, 1, 0}};
static const struct pst_facts admin = {.user_id = 1,
                                       .name = {.ptr = "admin", .len = 5},
                                       .binding_count = 1,
                                       .bindings = admin_bindings};

/* The caller is bound to the role of each workspace in which the case grants something. */
static const struct pst_facts *caller_of(const json_t *grants, const char *caller)
{
    static struct pst_binding bindings[WORKSPACES];
    static struct pst_facts facts;
    bool bound[WORKSPACES + 1] = {false};

    facts = (struct pst_facts){.user_id = 2, .name = decide_text(caller), .bindings = bindings};
    for (size_t i = 0; i < json_array_size(grants); i++) {
        const json_t *g = json_array_get(grants, i);
        uint32_t workspace = workspace_of(text_of(g, "workspace"));
        if (is_callers(g, caller) && !bound[workspace])
            bindings[facts.binding_count++] = (struct pst_binding){2, workspace + 1, workspace};
        bound[workspace] = bound[workspace] || is_callers(g, caller);
    }
    return &facts;
}

/* Every plain name is a user; nobody is who sends no credential, or one that does not hold. */
static const struct pst_facts *user_of(const json_t *json)
{
    const char *user = text_of(json, "user");

    if (strcmp(user, "admin") == 0)
        return &admin;
    if (user[0] == '\0' || strchr(user, ':') != NULL || strncmp(user, "Bearer ", 7) == 0)
        return NULL;
    return caller_of(json_object_get(json, "grants"), user);
}

static void add_field(struct decide_request *r, const char *name, const char *value)
{
    if (r->field_count == DECIDE_FIELDS)
        decide_die("header", name);
    r->fields[r->field_count++] =
        (struct pst_field){decide_text(name), pst_bytes_trim(decide_text(value))};
}

static void read_fields(struct decide_request *r, json_t *headers)
{
    const char *name;
    json_t *value;

    json_object_foreach(headers, name, value)
    {
        if (json_is_string(value))
            add_field(r, name, json_string_value(value));
        for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++)
            add_field(r, name, json_string_value(json_array_get(value, i)));
    }
}

static void ask_case(struct decide_world *w, const json_t *json, const char *id)
{
    const json_t *request = json_object_get(json, "request"),
                 *expect = json_object_get(json, "expect");
    json_t *body = json_object_get(request, "json");
    char *dumped = body == NULL ? NULL : json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
    struct decide_request r = {.method = text_of(request, "method"),
                               .target = text_of(request, "path")};
    char detail[256];

    r.body = dumped != NULL ? dumped : json_string_value(json_object_get(request, "body"));
    read_fields(&r, json_object_get(request, "headers"));
    struct decide_answer answer = decide(w, &r);
    bool forward = strcmp(text_of(json, "outcome"), "forward") == 0;
    unsigned status = (unsigned)json_integer_value(json_object_get(expect, "status"));
    bool good = forward ? answer.forward : !answer.forward && answer.status == status;
    snprintf(detail, sizeof(detail), "%u %s (%s %.*s) instead of %s %u", answer.status,
             pst_reason_name(answer.reason), answer.forward ? "forwarded" : "answered",
             (int)answer.extracted.detail.len,
             answer.extracted.detail.len ? answer.extracted.detail.ptr : "",
             text_of(json, "outcome"), status);
    verdict(id, good, detail, "");
    free(dumped);
}

static const char *not_applicable(const json_t *json)
{
    const json_t *needs = json_object_get(json, "needs");

    if (strcmp(text_of(json, "release"), "3.17") != 0)
        return "release";
    return json_array_size(needs) == 0 ? NULL : json_string_value(json_array_get(needs, 0));
}

static void run_case(const json_t *json, const struct pst_presets *presets)
{
    const char *id = text_of(json, "id"), *why = not_applicable(json);
    const json_t *config = json_object_get(json, "config");

    if (why != NULL) {
        printf("n/a %s: needs %s\n", id, why);
        skipped++;
        return;
    }
    bool workspaces = json_is_true(json_object_get(config, "workspaces"));
    struct pst_profile_options options = {.mlflow_workspaces_off = !workspaces};
    struct decide_world w = {
        .settings = {.workspaces = workspaces,
                     .default_permission = preset(presets, text_of(config, "default_permission")),
                     .grant_default_workspace_access =
                         json_is_true(json_object_get(config, "grant_default_workspace_access"))},
        .facts = user_of(json)};
    struct pst_policy *policy =
        policy_of(json_object_get(json, "grants"), text_of(json, "user"), presets);
    decide_load(&w, "mlflow", &options);
    w.policy = policy;
    ask_case(&w, json, id);
    decide_unload(&w);
    pst_policy_destroy(policy);
}

static json_t *load(const char *dir, const char *name)
{
    char path[4096];
    json_error_t error;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        printf("absent: %s\n", name);
    return json;
}

static void load_presets(struct pst_presets *presets)
{
    struct pst_tree tree;
    struct pst_error error;

    if (pst_yaml_load_file("policies/roles/levels.yaml", &tree, &error) != PST_OK ||
        pst_presets_load(&tree, presets, &error) != PST_OK)
        decide_die(error.where, error.message);
    pst_tree_fini(&tree);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "tests/vectors";
    json_t *table = load(dir, "mlflow_routes.json"), *cases = load(dir, "mlflow_cases.json");
    const json_t *routes = json_object_get(table, "routes"),
                 *list = json_object_get(cases, "cases");
    struct pst_presets presets;
    struct decide_world w = {.facts = &nobody_special};

    load_presets(&presets);
    world_workspaces = json_object_get(json_object_get(cases, "world"), "workspaces");
    if (json_array_size(world_workspaces) > WORKSPACES)
        decide_die("world", "too many workspaces");
    decide_load(&w, "mlflow", NULL);
    struct pst_policy *policy = policy_of(NULL, "", &presets);
    w.policy = policy;
    for (size_t i = 0; i < json_array_size(routes); i++) {
        check_route(&w, json_array_get(routes, i));
        if (!is_gone(json_array_get(routes, i)))
            check_needs(&w, json_array_get(routes, i));
    }
    pst_policy_destroy(policy);
    if (routes != NULL)
        check_extras(routes);
    decide_unload(&w);
    for (size_t i = 0; i < json_array_size(list); i++)
        run_case(json_array_get(list, i), &presets);
    printf("suite mlflow: %u passed, %u failed, %u not applicable\n", passed, failed, skipped);
    pst_presets_fini(&presets);
    json_decref(table);
    json_decref(cases);
    return failed == 0 ? 0 : 1;
}
