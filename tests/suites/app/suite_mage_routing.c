/*
 * suite_mage_routing.c - the mage profile against the routing and HTTP vectors.
 *
 * Routing vectors: every method that Mage serves on the path is decided with the operation and the
 * id that the vector names, every other one is refused. HTTP vectors: judged without a server as
 * far as refuse or forward goes. Decision vectors in the form of a request: with the roles of the
 * vector.
 */
#include "profile_decide.h"

#include "policy/mage_vectors.h"

static struct tally tally;

static const char *const all_methods[] = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"};
#define METHOD_COUNT (sizeof(all_methods) / sizeof(all_methods[0]))

static const struct pst_binding owner_bindings[] = {{1, 1, 0}};
static const struct pst_facts owner = {.user_id = 1,
                                       .name = {.ptr = "owner", .len = 5},
                                       .binding_count = 1,
                                       .bindings = owner_bindings};
static const struct pst_facts stranger = {.user_id = 2, .name = {.ptr = "stranger", .len = 8}};

static bool verdict(bool good, const char *id, const char *what, const struct decide_answer *answer)
{
    if (!good)
        printf("%s: FAIL %s: %s (%s, %u)\n", tally.file, id, what, pst_reason_name(answer->reason),
               answer->status);
    return good;
}

static void count(bool good)
{
    if (good)
        tally.passed++;
    else
        tally.failed++;
}

/* True when `expect` is none of the words. */
static bool is_strange(const json_t *vector, const char *id, const char *const *words)
{
    const char *expect = tally_text(vector, "expect");

    if (tally_among(expect, words))
        return false;
    tally_strange(&tally, id, "expect", expect);
    return true;
}

/* ---- routing ---- */

static bool has_method(const json_t *vector, const char *method)
{
    const json_t *methods = json_object_get(vector, "methods");

    for (size_t i = 0; i < json_array_size(methods); i++)
        if (strcmp(json_string_value(json_array_get(methods, i)), method) == 0)
            return true;
    return false;
}

static bool is_open(const char *auth, const char *method)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    return (strcmp(auth, "open") == 0 && reads) || strcmp(auth, "trigger token") == 0 ||
           strcmp(auth, "signed download token in path") == 0;
}

/* The id of the member: the child's, or the resource's. */
static struct pst_bytes wanted_id(const json_t *vector, const char *op)
{
    const json_t *params = json_object_get(vector, "params");
    const char *key = json_object_get(params, "child") != NULL ? "child_pk" : "pk";

    return strcmp(op, "list") == 0 || strcmp(op, "create") == 0
               ? (struct pst_bytes){0}
               : decide_text(tally_text(params, key));
}

static bool asks_rightly(const json_t *vector, const char *method,
                         const struct decide_answer *answer)
{
    const char *op = tally_text(json_object_get(vector, "operations"), method);
    const struct pst_requirement *r = answer->extracted.requirements;

    if (op[0] == '\0') /* a handler of its own: somebody must be known and a permission asked */
        return answer->asked && answer->extracted.requirement_count > 0 && r[0].key_count > 0;
    return answer->extracted.requirement_count == 1 && r[0].key_count == 1 &&
           strcmp(pst_op_name(r[0].keys[0].op), op) == 0 &&
           pst_bytes_equal(r[0].keys[0].id, wanted_id(vector, op));
}

/* The owner passes, but where the app itself has nothing behind the operation (Status). */
static bool passes(const struct decide_world *w, const struct decide_answer *answer)
{
    const struct pst_requirement *r = answer->extracted.requirements;

    return answer->forward || (answer->extracted.requirement_count == 1 && r[0].key_count == 1 &&
                               pst_levels_closed(w->levels, r[0].keys[0].entity, r[0].keys[0].op));
}

static bool route_method(struct decide_world *w, const json_t *vector, const char *method)
{
    bool body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
    struct decide_request r = {
        .method = method, .target = tally_text(vector, "path"), .body = body ? "{}" : NULL};
    struct decide_answer answer = decide(w, &r);
    bool route = strcmp(tally_text(vector, "expect"), "route") == 0;
    char id[512];

    snprintf(id, sizeof(id), "%s %s", method, r.target);
    if (!route)
        return verdict(!answer.forward && answer.status >= 400 && answer.status < 500, id,
                       "is not refused", &answer);
    if (!has_method(vector, method))
        return verdict(!answer.forward && answer.status == 405, id, "is not refused with 405",
                       &answer);
    if (is_open(tally_text(vector, "auth"), method))
        return verdict(answer.forward && !answer.asked, id, "asks somebody", &answer);
    return verdict(passes(w, &answer) && asks_rightly(vector, method, &answer), id,
                   "does not ask what the vector says", &answer);
}

static void run_routing(struct decide_world *w, const json_t *vector)
{
    static const char *const WORDS[] = {"route", "refuse", NULL};
    const char *id = tally_text(vector, "path");
    bool good = true;

    if (mv_needs(&tally, vector, id) || is_strange(vector, id, WORDS))
        return;
    w->facts = &owner;
    for (size_t m = 0; m < METHOD_COUNT && good; m++)
        good = route_method(w, vector, all_methods[m]);
    count(good);
}

/* ---- HTTP ---- */

static void run_http(struct decide_world *w, const json_t *vector)
{
    static const char *const WORDS[] = {"forward", "refuse", NULL};
    const char *id = tally_text(vector, "id"), *auth = tally_text(vector, "auth"),
               *body = tally_text(vector, "body");

    if (mv_needs(&tally, vector, id) || is_strange(vector, id, WORDS))
        return;
    bool nobody = strcmp(auth, "none") == 0 || strncmp(auth, "api key, no token", 17) == 0;
    if (!nobody && strcmp(auth, "owner") != 0 && strcmp(auth, "valid token, no grants") != 0) {
        tally_strange(&tally, id, "auth", auth);
        return;
    }
    w->facts = nobody ? NULL : strcmp(auth, "owner") == 0 ? &owner : &stranger;
    struct decide_request r = {.method = tally_text(vector, "method"),
                               .target = tally_text(vector, "path"),
                               .body = body[0] == '\0' ? NULL : body};
    struct decide_answer answer = decide(w, &r);
    bool forward = strcmp(tally_text(vector, "expect"), "forward") == 0;
    bool listed = answer.status == 400 || answer.status == 401 || answer.status == 403 ||
                  answer.status == 404 || answer.status == 405;
    count(verdict(answer.forward == forward && (forward || listed), id, "ends otherwise", &answer));
}

/* ---- decision vectors that come as a request ---- */

static struct pst_policy *roles_of(const json_t *roles, uint32_t *count)
{
    struct pst_model model;
    struct pst_policy *policy;
    struct pst_error error;

    pst_model_init(&model, 4u << 20);
    if (pst_model_add_workspace(
            &model, &(struct pst_workspace_row){.id = 1,
                                                .name = PST_LIT("default"),
                                                .kind = PST_WORKSPACE_DEFAULT}) != PST_OK)
        decide_die("workspace", "not accepted");
    *count = (uint32_t)json_array_size(roles);
    for (uint32_t i = 0; i < *count; i++) {
        const json_t *role = json_array_get(roles, i), *rows = json_object_get(role, "permissions");
        if (pst_model_add_role(
                &model, &(struct pst_role_row){
                            .id = i + 1, .name = mv_text(json_object_get(role, "name"))}) != PST_OK)
            decide_die("role", "not accepted");
        for (size_t k = 0; k < json_array_size(rows); k++)
            mv_permission(&model, i + 1, false, json_array_get(rows, k), true);
    }
    if (pst_policy_compile(&model, &policy, &error) != PST_OK)
        decide_die(error.where, error.message);
    pst_model_fini(&model);
    return policy;
}

static char *payload_of(const json_t *request)
{
    const json_t *write = json_object_get(request, "write");
    json_t *object = json_object(), *body = json_object();

    for (size_t i = 0; i < json_array_size(write); i++)
        json_object_set_new(object, json_string_value(json_array_get(write, i)), json_integer(1));
    json_object_set_new(body, "pipeline", object);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

static void run_vector(struct decide_world *w, const json_t *vector)
{
    const json_t *request = json_object_get(vector, "request");
    const char *id = tally_text(vector, "id");
    static const char *const WORDS[] = {"allow", "deny", NULL};
    struct pst_binding bindings[MV_ROLES_MAX];
    struct pst_facts user = {.user_id = 7, .name = PST_LIT("seven"), .bindings = bindings};
    const struct pst_policy *before = w->policy;

    if (json_object_get(request, "path") == NULL || mv_needs(&tally, vector, id) ||
        is_strange(vector, id, WORDS))
        return;
    const char *word, *what = mv_strange_roles(json_object_get(vector, "roles"), &word);
    if (what != NULL) {
        tally_strange(&tally, id, what, word);
        return;
    }
    struct pst_policy *policy = roles_of(json_object_get(vector, "roles"), &user.binding_count);
    for (uint32_t i = 0; i < user.binding_count; i++)
        bindings[i] = (struct pst_binding){i + 1, i + 1, 0};
    const char *method = tally_text(request, "method");
    bool writes = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
    char *body = writes ? payload_of(request) : NULL;
    struct decide_request r = {
        .method = method, .target = tally_text(request, "path"), .body = body};
    w->policy = policy;
    w->facts = &user;
    struct decide_answer answer = decide(w, &r);
    count(verdict(answer.forward == (strcmp(tally_text(vector, "expect"), "allow") == 0), id,
                  "ends otherwise", &answer));
    w->policy = before;
    free(body);
    pst_policy_destroy(policy);
}

/* The owner's world: one role that holds OWNER on everything. */
static struct pst_policy *owner_policy(void)
{
    struct pst_model model;
    struct pst_policy *policy = NULL;
    struct pst_error error;

    pst_model_init(&model, 1u << 20);
    if (pst_model_add_workspace(
            &model, &(struct pst_workspace_row){.id = 1, .name = PST_LIT("default")}) != PST_OK ||
        pst_model_add_role(&model, &(struct pst_role_row){.id = 1, .name = PST_LIT("Owner")}) !=
            PST_OK ||
        pst_model_add_permission(&model, &(struct pst_permission_row){.id = 1,
                                                                      .role = 1,
                                                                      .has_access = true,
                                                                      .access = PST_A_OWNER,
                                                                      .entity = PST_LIT("ALL")}) !=
            PST_OK ||
        pst_policy_compile(&model, &policy, &error) != PST_OK)
        decide_die("owner", "cannot be made");
    pst_model_fini(&model);
    return policy;
}

/* Lists of vectors that no suite takes: what they need is left to later, or they are strange. */
static void run_others(json_t *cases)
{
    static const char *const TAKEN[] = {"vectors", "http_vectors", "routing_vectors", NULL};
    static const char end[] = "vectors";
    const char *name;
    json_t *list;

    json_object_foreach(cases, name, list)
    {
        size_t len = strlen(name);
        if (len < sizeof(end) - 1 || strcmp(name + len - (sizeof(end) - 1), end) != 0 ||
            !json_is_array(list) || tally_among(name, TAKEN))
            continue;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *vector = json_array_get(list, i);
            const char *id = tally_text(vector, "id");
            if (!mv_needs(&tally, vector, id))
                tally_strange(&tally, id, "list", name);
        }
    }
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : TALLY_OWN;
    struct decide_world w = {0};

    tally = tally_of(dir, "mage_cases.json");
    json_t *cases = tally_load(&tally, dir, JSON_REJECT_DUPLICATES);
    struct pst_policy *policy = owner_policy();
    decide_load(&w, "mage", NULL);
    w.policy = policy;
    const json_t *routing = json_object_get(cases, "routing_vectors");
    for (size_t i = 0; i < json_array_size(routing); i++)
        run_routing(&w, json_array_get(routing, i));
    const json_t *http = json_object_get(cases, "http_vectors");
    for (size_t i = 0; i < json_array_size(http); i++)
        run_http(&w, json_array_get(http, i));
    const json_t *vectors = json_object_get(cases, "vectors");
    for (size_t i = 0; i < json_array_size(vectors); i++)
        run_vector(&w, json_array_get(vectors, i));
    run_others(cases);
    tally_close(&tally);
    printf("suite mage_routing: %u passed, %u failed, %u not applicable\n", tally.passed,
           tally.failed, tally.skipped);
    decide_unload(&w);
    pst_policy_destroy(policy);
    json_decref(cases);
    return tally.failed == 0 ? 0 : 1;
}
