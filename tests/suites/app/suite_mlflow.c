/*
 * suite_mlflow.c - the mlflow profile against the route table and the truth table.
 *
 * Routes: every path and method of the table (those that MLflow 3.17 has) is in the profile, needs
 * what the table says where one word says it, and nothing else is in the profile. Cases: those of
 * release 3.17 that need nothing beyond path, query, header, body and grants.
 */
#include "profile_decide.h"
#include "tally.h"

static struct tally routes_tally, cases_tally;

static bool verdict(const struct tally *t, const char *id, bool good, const char *what,
                    const char *detail)
{
    if (!good)
        printf("%s: FAIL %s: %s%s\n", t->file, id, what, detail);
    return good;
}

static void count(struct tally *t, bool good)
{
    if (good)
        t->passed++;
    else
        t->failed++;
}

/* ---- releases ---- */

#define RELEASE 17 /* of MLflow 3, which the profile follows */

/* The number behind "3." at *at, which moves behind it; -1 when there is none. */
static int minor_of(const char **at)
{
    int n = 0;

    if (strncmp(*at, "3.", 2) != 0 || (*at)[2] < '0' || (*at)[2] > '9')
        return -1;
    for (*at += 2; **at >= '0' && **at <= '9' && n < 1000; ++*at)
        n = n * 10 + (**at - '0');
    return n;
}

/* Whether a range such as "3.10-3.12, >=3.16" includes 3.17: 1, 0, or -1 for what is no range. */
static int includes_ours(const char *range)
{
    static const char *const WORDS[] = {"all", "postern", "intended", NULL};
    int found = 0;

    if (tally_among(range, WORDS))
        return 1;
    for (const char *at = range;;) {
        bool upwards = strncmp(at, ">=", 2) == 0;
        at += upwards ? 2 : 0;
        int low = minor_of(&at), high = upwards ? 1000 : low;
        if (low >= 0 && !upwards && *at == '-') {
            at++;
            high = minor_of(&at);
        }
        if (low < 0 || high < 0)
            return -1;
        found = found == 1 || (low <= RELEASE && RELEASE <= high);
        if (*at == '\0')
            return found;
        if (*at++ != ',')
            return -1;
        at += *at == ' ';
    }
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
    const char *until = tally_text(route, "until");
    int last = minor_of(&until);

    return last >= 0 && last < RELEASE;
}

static void route_of(const struct pst_profile *profile, const char *method, const char *path,
                     struct pst_routed *out)
{
    struct pst_request request = {.method = decide_text(method), .path = decide_text(path)};

    if (strlen(path) > 1 && path[strlen(path) - 1] == '/')
        request.oddities = PST_ODD_TRAILING_SLASH;
    pst_profile_route(profile, &request, out);
}

static bool check_route(const struct decide_world *w, const json_t *route)
{
    const json_t *paths = json_object_get(route, "paths");
    const char *method = tally_text(route, "method");

    for (size_t i = 0; i < json_array_size(paths); i++) {
        struct pst_routed routed, head;
        char path[512], id[640];
        fill(json_string_value(json_array_get(paths, i)), path, sizeof(path));
        snprintf(id, sizeof(id), "route %s %s", method, path);
        route_of(w->profile, method, path, &routed);
        if (is_gone(route)) {
            if (!verdict(&routes_tally, id, routed.refuse != PST_R_INTERNAL,
                         "is gone, but is routed", ""))
                return false;
            continue;
        }
        bool public = strcmp(tally_text(route, "need"), "public") == 0;
        if (!verdict(&routes_tally, id,
                     routed.route != NULL && routed.refuse == PST_R_INTERNAL &&
                         routed.is_public == public,
                     "not routed as the table says: ", pst_reason_name(routed.refuse)))
            return false;
        route_of(w->profile, "HEAD", path, &head);
        bool get = strcmp(method, "GET") == 0;
        if (!verdict(&routes_tally, id, !get || head.route == routed.route,
                     "HEAD is not decided as GET", ""))
            return false;
    }
    return true;
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
    bool get = strcmp(tally_text(route, "method"), "GET") == 0, first = true;

    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        const char *in = tally_text(id, "in"), *name = tally_text(id, "name");
        bool query = strcmp(in, "query") == 0 || (strcmp(in, "body_or_query") == 0 && get);
        bool one_of_two = strcmp(tally_text(route, "lookup"), "run_or_logged_model") == 0 && i > 0;
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
    const char *on = tally_text(route, "decide_on"), *tier = tally_text(route, "tier");
    const char *shape = tally_text(route, "shape");

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
    const char *need = tally_text(route, "need"), *on = tally_text(route, "decide_on");
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
        strcmp(tally_text(route, "lookup"), "role_workspace") == 0)
        return admin_only && got->requirements[0].need == PST_NEED_CLOSED;
    if (strcmp(need, "filtered") == 0)
        return got->requirements[0].closed == PST_R_NEEDS_FILTER;
    if (strcmp(on, "workspace") == 0)
        return asks_need(got, PST_NEED_WORKSPACE_MANAGE);
    return rank_of_need(need) >= 0 && asks_grant(route, got, need);
}

/* A sample request of the route, decided as somebody without grants; the requirements are looked
 * at. */
static bool check_needs(struct decide_world *w, const json_t *route)
{
    const json_t *paths = json_object_get(route, "paths");
    const char *method = tally_text(route, "method");
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
    bool good;
    if (strcmp(tally_text(route, "need"), "public") == 0) {
        good = verdict(&routes_tally, id, answer.forward && !answer.asked, "asks somebody", "");
    } else if (answer.extracted.requirement_count == 0) {
        good = verdict(&routes_tally, id, false, "asks nothing: ", pst_reason_name(answer.reason));
    } else {
        good = verdict(&routes_tally, id, asks_rightly(route, &answer.extracted),
                       "does not ask what the table says: ", tally_text(route, "need"));
    }
    free(text);
    json_decref(body);
    return good;
}

static void run_route(struct decide_world *w, const json_t *route)
{
    static const char *const NEEDS[] = {"public",
                                        "authenticated",
                                        "filtered",
                                        "view",
                                        "read",
                                        "use",
                                        "update",
                                        "delete",
                                        "manage",
                                        "owner",
                                        "create_in_workspace",
                                        "self_or_admin",
                                        "workspace_admin",
                                        "view_role",
                                        "admin",
                                        "deny",
                                        NULL};
    static const char *const MATCHES[] = {"exact", "template", "tail", NULL};
    const char *id = tally_text(route, "id"), *need = tally_text(route, "need");
    const char *match = tally_text(route, "match"), *since = tally_text(route, "since");

    if (!tally_among(need, NEEDS))
        tally_strange(&routes_tally, id, "need", need);
    else if (!tally_among(match, MATCHES))
        tally_strange(&routes_tally, id, "match", match);
    else if (minor_of(&since) > RELEASE)
        tally_skip(&routes_tally, 1, "since %s", tally_text(route, "since"));
    else
        count(&routes_tally, check_route(w, route) && (is_gone(route) || check_needs(w, route)));
}

/* ---- what is in the profile and not in the table ---- */

static bool in_table(const json_t *routes, const char *method, const char *path)
{
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const json_t *route = json_array_get(routes, i), *paths = json_object_get(route, "paths");
        if (is_gone(route) || strcmp(tally_text(route, "method"), method) != 0)
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
        if (!verdict(&routes_tally, id, in_table(routes, name, full),
                     "is in the profile, but in no table", ""))
            routes_tally.failed++;
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

#define WORKSPACES 64

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
    return strcmp(tally_text(grant, "user"), caller) == 0;
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
        uint32_t workspace = workspace_of(tally_text(g, "workspace"));
        if (!is_callers(g, caller))
            continue;
        struct pst_permission_row row = {.id = i + 2,
                                         .role = workspace + 1,
                                         .has_access = true,
                                         .access = preset(presets, tally_text(g, "permission")),
                                         .entity = decide_text(tally_text(g, "type")),
                                         .entity_id = decide_text(tally_text(g, "pattern"))};
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
        uint32_t workspace = workspace_of(tally_text(g, "workspace"));
        if (is_callers(g, caller) && !bound[workspace])
            bindings[facts.binding_count++] = (struct pst_binding){2, workspace + 1, workspace};
        bound[workspace] = bound[workspace] || is_callers(g, caller);
    }
    return &facts;
}

/* Every plain name is a user; nobody is who sends no credential, or one that does not hold. */
static const struct pst_facts *user_of(const json_t *json)
{
    const char *user = tally_text(json, "user");

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
    struct decide_request r = {.method = tally_text(request, "method"),
                               .target = tally_text(request, "path")};
    char detail[256];

    r.body = dumped != NULL ? dumped : json_string_value(json_object_get(request, "body"));
    read_fields(&r, json_object_get(request, "headers"));
    struct decide_answer answer = decide(w, &r);
    bool forward = strcmp(tally_text(json, "outcome"), "forward") == 0;
    unsigned status = (unsigned)json_integer_value(json_object_get(expect, "status"));
    bool good = forward ? answer.forward : !answer.forward && answer.status == status;
    snprintf(detail, sizeof(detail), "%u %s (%s %.*s) instead of %s %u", answer.status,
             pst_reason_name(answer.reason), answer.forward ? "forwarded" : "answered",
             (int)answer.extracted.detail.len,
             answer.extracted.detail.len ? answer.extracted.detail.ptr : "",
             tally_text(json, "outcome"), status);
    count(&cases_tally, verdict(&cases_tally, id, good, detail, ""));
    free(dumped);
}

/* By its own fields: true when the case cannot be run. */
static bool not_applicable(const json_t *json, const char *id)
{
    static const char *const NOW[] = {NULL};
    static const char *const LATER[] = {
        "lookup",  "list_filter", "after_action", "workspace_api",  "users_api", "roles_api",
        "gateway", "graphql",     "ui",           "artifact_proxy", NULL};
    const char *release = tally_text(json, "release"), *range = tally_text(json, "mlflow");
    int ours = range[0] == '\0' ? 1 : includes_ours(range);

    if (ours < 0) {
        tally_strange(&cases_tally, id, "mlflow", range);
        return true;
    }
    if ((release[0] != '\0' && strcmp(release, "3.17") != 0) || ours == 0) {
        tally_skip(&cases_tally, 1, "release");
        return true;
    }
    return tally_needs(&cases_tally, json, id, NOW, LATER);
}

/* True when the case is in a form that is not known here. */
static bool is_strange(const json_t *json, const char *id, const struct pst_presets *presets)
{
    static const char *const OUTCOMES[] = {"answer", "forward", NULL};
    const json_t *grants = json_object_get(json, "grants");
    const char *what = NULL, *word = tally_text(json, "outcome");
    uint64_t access;

    if (!tally_among(word, OUTCOMES))
        what = "outcome";
    for (size_t i = 0; i < json_array_size(grants) && what == NULL; i++) {
        const json_t *g = json_array_get(grants, i);
        if (workspace_of(word = tally_text(g, "workspace")) == 0)
            what = "workspace";
        else if (!pst_presets_find(presets, decide_text(word = tally_text(g, "permission")),
                                   &access))
            what = "permission";
    }
    if (what == NULL) {
        word = tally_text(json_object_get(json, "config"), "default_permission");
        if (!pst_presets_find(presets, decide_text(word), &access))
            what = "default_permission";
    }
    if (what != NULL)
        tally_strange(&cases_tally, id, what, word);
    return what != NULL;
}

static void run_case(const json_t *json, const struct pst_presets *presets)
{
    const char *id = tally_text(json, "id");
    const json_t *config = json_object_get(json, "config");

    if (not_applicable(json, id) || is_strange(json, id, presets))
        return;
    bool workspaces = json_is_true(json_object_get(config, "workspaces"));
    struct pst_profile_options options = {.mlflow_workspaces_off = !workspaces};
    struct decide_world w = {
        .settings = {.workspaces = workspaces,
                     .default_permission =
                         preset(presets, tally_text(config, "default_permission")),
                     .grant_default_workspace_access =
                         json_is_true(json_object_get(config, "grant_default_workspace_access"))},
        .facts = user_of(json)};
    struct pst_policy *policy =
        policy_of(json_object_get(json, "grants"), tally_text(json, "user"), presets);
    decide_load(&w, "mlflow", &options);
    w.policy = policy;
    ask_case(&w, json, id);
    decide_unload(&w);
    pst_policy_destroy(policy);
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

static void run_table(const json_t *routes, const struct pst_presets *presets)
{
    struct decide_world w = {.facts = &nobody_special};
    struct pst_policy *policy = policy_of(NULL, "", presets);

    decide_load(&w, "mlflow", NULL);
    w.policy = policy;
    for (size_t i = 0; i < json_array_size(routes); i++)
        run_route(&w, json_array_get(routes, i));
    pst_policy_destroy(policy);
    decide_unload(&w);
    if (routes != NULL && routes_tally.own) /* another table may be a part of it */
        check_extras(routes);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : TALLY_OWN;
    struct pst_presets presets;

    routes_tally = tally_of(dir, "mlflow_routes.json");
    cases_tally = tally_of(dir, "mlflow_cases.json");
    json_t *table = tally_load(&routes_tally, dir, JSON_REJECT_DUPLICATES);
    json_t *cases = tally_load(&cases_tally, dir, JSON_REJECT_DUPLICATES);
    const json_t *list = json_object_get(cases, "cases");
    load_presets(&presets);
    world_workspaces = json_object_get(json_object_get(cases, "world"), "workspaces");
    if (json_array_size(world_workspaces) > WORKSPACES)
        decide_die("world", "too many workspaces");
    run_table(json_object_get(table, "routes"), &presets);
    for (size_t i = 0; i < json_array_size(list); i++)
        run_case(json_array_get(list, i), &presets);
    tally_close(&routes_tally);
    tally_close(&cases_tally);
    unsigned failed = routes_tally.failed + cases_tally.failed;
    printf("suite mlflow: %u passed, %u failed, %u not applicable\n",
           routes_tally.passed + cases_tally.passed, failed,
           routes_tally.skipped + cases_tally.skipped);
    pst_presets_fini(&presets);
    json_decref(table);
    json_decref(cases);
    return failed == 0 ? 0 : 1;
}
