/* The shipped mage profile: names, ids, attributes; and that the shipped roles pass what the level
 * table gives to their level. */
#include "../test.h"

#include "profile_world.h"

#include "postern/policy/eval.h"
#include "postern/policy/level.h"

static struct pst_profile *profile;

static int load(void **state)
{
    (void)state;
    profile = world_load_file("policies/profiles", "mage.yaml", NULL);
    return profile == NULL ? -1 : 0;
}

static int unload(void **state)
{
    (void)state;
    pst_profile_destroy(profile);
    return 0;
}

/* Up to the read attributes, which the level table tells. */
static void expect(const char *method, const char *path, const char *query, const char *body,
                   const char *line)
{
    struct world_ask ask = {.method = method, .path = path, .query = query, .body = body};
    char got[8192];

    (void)snprintf(got, sizeof(got), "%s", world_line_of(profile, &ask));
    char *read = strstr(got, " read[");
    if (read != NULL)
        *read = '\0';
    assert_string_equal(got, line);
}

static void test_names_are_folded_as_mage_does(void **state)
{
    static const char *const roles[] = {"roles",  "ROLES", "role",    "Role",
                                        "_roles", "role_", "__roles", "_rOLE_"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        (void)snprintf(path, sizeof(path), "/api/%s/7", roles[i]);
        expect("GET", path, NULL, NULL, "ws=default; Role:7 detail");
    }
    expect("GET", "/api/spark_stage_attempt_task_summaries/1", NULL, NULL,
           "ws=default; SparkStageAttemptTaskSummary:1 detail");
    expect("GET", "/api/git_branch/1", NULL, NULL, "ws=default; GitBranch:1 detail");
    expect("GET", "/api/kernel_processes", NULL, NULL, "ws=default; KernelProcess list");
    expect("GET", "/api/syncs", NULL, NULL, "ws=default; Sync list");
    expect("GET", "/api/pipeline__runs", NULL, NULL, "ws=default; PipelineRun list");
    expect("GET", "/api/pipelineruns", NULL, NULL, "no-route");
    expect("GET", "/api/a/b/c/d", NULL, NULL, "no-route");
    expect("GET", "/api/v2/roles", NULL, NULL, "no-route");
    expect("GET", "/api/", NULL, NULL, "no-route");
}

static void test_every_resource_reaches_its_entity(void **state)
{
    struct pst_tree tree;
    char path[128], line[160];
    unsigned count = 0;

    (void)state;
    assert_int_equal(pst_yaml_load_file("policies/profiles/mage.yaml", &tree, NULL), PST_OK);
    const struct pst_node *entities = pst_node_get(tree.root, "entities");
    for (const struct pst_node *n = entities->first; n != NULL; n = n->next) {
        struct pst_bytes resource =
            n->kind == PST_NODE_SCALAR ? n->text : pst_node_get(n, "resource")->text;
        if (pst_bytes_equal(n->key, PST_LIT("EventMatcher")) ||
            pst_bytes_equal(n->key, PST_LIT("Status")))
            continue;
        (void)snprintf(path, sizeof(path), "/api/%.*s", (int)resource.len, resource.ptr);
        (void)snprintf(line, sizeof(line), "ws=default; %.*s create", (int)n->key.len, n->key.ptr);
        expect("POST", path, NULL, "{}", line);
        count++;
    }
    assert_int_equal(count, 84);
    pst_tree_fini(&tree);
}

static void test_ids_that_are_folded_are_refused(void **state)
{
    static const char *const paths[] = {
        "/api/pipelines/p%2F",  "/api/pipelines/p%2F%2F",      "/api/pipelines/.%2Fp",
        "/api/pipelines/p%2F.", "/api/pipelines/a%2F..%2Fp",   "/api/pipelines/p%2F/blocks",
        "/api/pipelines/p%20",  "/api/file_contents/a%2F%2Fx", "/api/pipelines/p/blocks/b%2F",
        "/api/pipelines/a%5Cp", "/api/pipelines/p%0A",
    };
    static const char *const numbers[] = {"1.0", "+1",  "%2B1", "%201", "01",  "1e0",
                                          "0x1", "1_0", "-0",   ".1",   "1%20"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct world_ask ask = {.method = "GET", .path = paths[i]};
        assert_memory_equal(world_line_of(profile, &ask), "bad-id:", 7);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct world_ask ask = {.method = "GET", .path = path};
        (void)snprintf(path, sizeof(path), "/api/roles/%s", numbers[i]);
        assert_memory_equal(world_line_of(profile, &ask), "bad-id:", 7);
        if (numbers[i][0] == '+') /* no id of a parent: the rest of the path is one member id */
            continue;
        (void)snprintf(path, sizeof(path), "/api/pipeline_schedules/%s/backfills", numbers[i]);
        assert_memory_equal(world_line_of(profile, &ask), "bad-id:", 7);
    }
    expect("GET", "/api/pipelines/2024", NULL, NULL, "ws=default; Pipeline:2024 detail in 2024");
    expect("GET", "/api/roles/5/permissions/7/x", NULL, NULL,
           "ws=default; Role:5/permissions/7/x detail");
    expect("GET", "/api/tags/alpha", NULL, NULL, "ws=default; Tag:alpha detail");
}

static void test_the_pipeline_of_an_object(void **state)
{
    (void)state;
    expect("GET", "/api/pipelines/p1/blocks/a%2Fb", NULL, NULL,
           "ws=default; Block:a/b detail in p1");
    expect("GET", "/api/pipelines/p1/blocks/a/b", NULL, NULL, "ws=default; Block:a/b detail in p1");
    expect("GET", "/api/PIPELINE/p1/variables", NULL, NULL, "ws=default; Variable list in p1");
    expect("GET", "/api/pipelines/p1/pipeline_runs", "pipeline_uuid=p2", NULL,
           "ws=default; PipelineRun list query[pipeline_uuid]");
    expect("DELETE", "/api/pipelines/p1/pipeline_runs/5", NULL, NULL,
           "ws=default; PipelineRun:5 delete");
    expect("GET", "/api/execution_frameworks/f/pipelines/p", NULL, NULL,
           "ws=default; PipelineExecutionFramework:p detail");
    expect("GET", "/api/execution_framework/f/pipelines/p", NULL, NULL, "no-route");
    expect("GET", "/api/execution_frameworks/f/PIPELINES", NULL, NULL, "no-route");
}

static void test_attributes(void **state)
{
    (void)state;
    expect("GET", "/api/pipelines", "type[]=x&_limit=1&api_key=k&search=y&search=z", NULL,
           "ws=default; Pipeline list query[type[],search]");
    expect("POST", "/api/pipelines", "x=1",
           "{\"pipeline\":{\"name\":1},\"api_key\":\"k\",\"other\":{}}",
           "ws=default; Pipeline create write[name]");
    expect("PUT", "/api/users/7", NULL, "{\"user\":{\"_owner\":true,\"api_key\":1}}",
           "ws=default; User:7 update write[_owner,api_key]");
    expect("PUT", "/api/execution_frameworks/f/pipelines/p", NULL,
           "{\"pipeline\":{\"name\":1},\"pipeline_execution_framework\":{\"uuid\":1}}",
           "ws=default; PipelineExecutionFramework:p update write[uuid,name]");
    expect("PUT", "/api/Pipelines/p", "update_content=true",
           "{\"Pipeline\":{\"name\":1},\"pipelines\":{\"tags\":[]}}",
           "ws=default; Pipeline:p update in p query[update_content] write[name,tags]");
    expect("DELETE", "/api/pipelines/p", "x=1", NULL, "ws=default; Pipeline:p delete in p");
    expect("POST", "/api/pipelines", NULL, "{\"pipeline\":[{\"name\":1}]}", "bad-body:pipeline");
    expect("POST", "/api/roles", NULL, "{", "bad-body:not one JSON object with distinct keys");
    expect("GET", "/api/pipelines", "a=1;b=2", NULL, "ambiguous:';' in the query");
    expect("GET", "/api/pipelines", "x=..%2Fetc", NULL,
           "bad-target:a path that climbs, in the query");
    expect("GET", "/api/pipelines", "_x=a..%5Cb", NULL,
           "bad-target:a path that climbs, in the query");
    expect("GET", "/api/pipelines", "x=1&y=%252e.%252Fetc", NULL,
           "bad-target:a path that climbs, in the query");
    expect("GET", "/api/pipelines", "x=..&y=.%25/%2525", NULL,
           "ws=default; Pipeline list query[x,y]");
    expect("GET", "/api/pipelines", NULL, "{}", "bad-body:a body on GET");

    struct world_ask form = {
        .method = "POST", .path = "/api/roles", .body = "{}", .field_count = 1};
    form.fields[0] =
        (struct pst_field){PST_LIT("Content-Type"), PST_LIT("application/x-www-form-urlencoded")};
    assert_string_equal(world_line_of(profile, &form), "bad-body:content-type");
    form.fields[0].value = PST_LIT("Application/JSON; charset=utf-8");
    assert_memory_equal(world_line_of(profile, &form), "ws=default; Role create", 23);
}

static bool asks(const char *method, const char *path, const char *query, const char *body,
                 const char *what)
{
    struct world_ask ask = {.method = method, .path = path, .query = query, .body = body};

    return strstr(world_line_of(profile, &ask), what) != NULL;
}

/* Mage takes the block of file_path, and writes the file of block_uuid, not what the URL names. */
static void test_an_object_that_a_key_names(void **state)
{
    static const char two[] = "{\"file_content\":{\"block_uuid\":1,\"pipeline_uuid\":2}}";

    (void)state;
    assert_true(asks("GET", "/api/blocks/a%2Fb", NULL, NULL, "; Block:a/b detail"));
    assert_false(asks("GET", "/api/blocks/a%2Fb", "path=x", NULL, "; Block:? detail"));
    assert_true(asks("GET", "/api/blocks/a%2Fb", "file_path=x", NULL, "; Block:a/b detail"));
    assert_true(asks("GET", "/api/blocks/a%2Fb", "file_path=x", NULL, "; Block:? detail"));
    assert_true(asks("DELETE", "/api/blocks/a%2Fb", "file_path=x", NULL, "; Block:? delete"));
    assert_false(asks("GET", "/api/blocks", "file_path=x", NULL, "; Block:?"));
    assert_true(asks("PUT", "/api/file_contents/x", NULL, two, "; FileContent:? update"));
    assert_true(asks("PUT", "/api/FILE_CONTENT/x", NULL, two, "; FileContent:? update"));
    assert_false(asks("PUT", "/api/file_contents/x", NULL, "{\"file_content\":{\"content\":1}}",
                      "; FileContent:?"));
}

static void test_handlers_of_their_own(void **state)
{
    (void)state;
    expect("POST", "/api/events", NULL, NULL, "ws=default; PipelineRun create");
    expect("GET", "/api/event_matchers", NULL, NULL, "ws=default; EventMatcher list");
    expect("DELETE", "/api/event_matchers/3", NULL, NULL, "ws=default; EventMatcher:3 delete");
    expect("GET", "/api/pipelines/p/blocks/b/analyses", NULL, NULL,
           "ws=default; BlockOutput:b detail");
    expect("GET", "/api/pipelines/p/block_outputs/b/downloads", "token=x", NULL,
           "ws=default; BlockOutput:b detail");
    expect("GET", "/api/pipelines/p/block_outputs/a/b/downloads", NULL, NULL,
           "ws=default; BlockOutput:a/b detail");
    expect("GET", "/event-streams/u", NULL, NULL, "ws=default; Pipeline list");
    expect("POST", "/api/pipeline_schedules/3/pipeline_runs/tok", NULL, NULL, "public");
    expect("DELETE", "/api/pipeline_schedules/3/pipeline_runs/7", NULL, NULL, "method:POST");
    expect("POST", "/api/runs/tok", NULL, NULL, "public");
    expect("GET", "/api/status", NULL, NULL, "public");
    expect("POST", "/api/status", NULL, NULL, "ws=default; Status create");
    expect("GET", "/websocket/terminal", NULL, NULL, "upgrade");
    expect("OPTIONS", "/api/anything/at/all", NULL, NULL, "preflight");
    expect("OPTIONS", "/pipelines", NULL, NULL, "method:GET");
    expect("GET", "/metrics", NULL, NULL, "no-route");
    expect("GET", "/files/x", NULL, NULL, "no-route");
}

/* Mage's own handlers take fewer characters than its last route, which takes what they leave. */
static void test_a_route_is_as_wide_as_mages(void **state)
{
    (void)state;
    expect("GET", "/api/pipelines/p-1/blocks/b/analyses", NULL, NULL,
           "ws=default; Block:b/analyses detail in p-1");
    expect("PUT", "/api/pipelines/p@1/blocks/b", NULL, NULL,
           "ws=default; Pipeline:p@1/blocks/b update in p@1/blocks/b");
    expect("GET", "/api/pipelines/p-1/block_outputs/b/downloads", NULL, NULL,
           "ws=default; Pipeline:p-1/block_outputs/b/downloads detail in "
           "p-1/block_outputs/b/downloads");
    expect("GET", "/api/downloads/e30.x-_/y", NULL, NULL, "public");
    expect("GET", "/api/downloads/a~b", NULL, NULL, "ws=default; Download:a~b detail");
    expect("POST", "/api/pipeline_schedules/3/pipeline_runs/a-b", NULL, NULL,
           "method:GET, PUT, DELETE");
    expect("POST", "/api/runs/a.b", NULL, NULL, "method:GET, PUT, DELETE");
    expect("GET", "/api/runs/a.b", NULL, NULL, "no-route");
    expect("GET", "/pipelines/", NULL, NULL, "public");
    expect("GET", "/global-data-products/a-b", NULL, NULL, "no-route");
    expect("GET", "/global-hooks/a-b", NULL, NULL, "public");
    expect("GET", "/event-streams/a~b", NULL, NULL, "no-route");
}

/* ---- the shipped roles ---- */

#define NAMES_MAX 256

static uint64_t access_of(const struct pst_node *list)
{
    uint64_t access = 0;

    for (const struct pst_node *n = list == NULL ? NULL : list->first; n != NULL; n = n->next)
        access |= pst_access_of(n->text);
    return access;
}

static void add_permission(struct pst_model *model, uint32_t role, const struct pst_node *node)
{
    static const char *const lists[PST_ATTR_KINDS] = {"query_attributes", "write_attributes",
                                                      "read_attributes"};
    static struct pst_bytes names[PST_ATTR_KINDS][NAMES_MAX];
    const struct pst_node *conditions = pst_node_get(node, "conditions");
    struct pst_permission_row row = {.id = model->permission_count + 1,
                                     .role = role,
                                     .has_access = true,
                                     .access = access_of(pst_node_get(node, "access")),
                                     .entity = pst_node_get(node, "entity")->text};

    if (pst_node_get(node, "attributes_only") != NULL)
        row.access |= PST_A_ATTRIBUTES_ONLY;
    for (const struct pst_node *n = conditions == NULL ? NULL : conditions->first; n != NULL;
         n = n->next)
        row.conditions |= pst_condition_of(n->text);
    for (unsigned k = 0; k < PST_ATTR_KINDS; k++) {
        const struct pst_node *list = pst_node_get(node, lists[k]);
        row.attributes[k] = names[k];
        for (const struct pst_node *n = list == NULL ? NULL : list->first; n != NULL; n = n->next)
            names[k][row.attribute_count[k]++] = n->text;
    }
    assert_int_equal(pst_model_add_permission(model, &row), PST_OK);
}

/* Roles get ids 1, 2, ... in the order of the file, which is Viewer, Editor, both edit roles,
 * Admin, Owner. */
static struct pst_policy *shipped_roles(void)
{
    struct pst_tree tree;
    struct pst_model model;
    struct pst_policy *policy;
    uint32_t role = 0;

    assert_int_equal(pst_yaml_load_file("policies/roles/mage.yaml", &tree, NULL), PST_OK);
    pst_model_init(&model, 8u << 20);
    assert_int_equal(pst_model_add_workspace(
                         &model, &(struct pst_workspace_row){.id = 1, .name = PST_LIT("default")}),
                     PST_OK);
    for (const struct pst_node *n = pst_node_get(tree.root, "roles")->first; n != NULL;
         n = n->next) {
        role++;
        assert_int_equal(
            pst_model_add_role(
                &model, &(struct pst_role_row){.id = role, .name = pst_node_get(n, "name")->text}),
            PST_OK);
        for (const struct pst_node *p = pst_node_get(n, "permissions")->first; p != NULL;
             p = p->next)
            add_permission(&model, role, p);
    }
    assert_int_equal(role, 6);
    assert_int_equal(pst_policy_compile(&model, &policy, NULL), PST_OK);
    pst_model_fini(&model);
    pst_tree_fini(&tree);
    return policy;
}

/* Roles that a holder of the level has: 1 for a viewer, 4 for an editor, 5 for an admin, 6 for an
 * owner. */
static uint32_t roles_of(const struct pst_node *rule)
{
    static const struct {
        const char *word;
        uint32_t roles;
    } levels[] = {{"none", 1},
                  {"viewer", 1},
                  {"self_or_admin", 1},
                  {"editor", 4},
                  {"editor_notebook", 4},
                  {"editor_pipeline", 4},
                  {"admin", 5},
                  {"owner", 6}};
    uint32_t least = 0;

    for (const struct pst_node *n = rule->kind == PST_NODE_LIST ? rule->first : rule; n != NULL;
         n = rule->kind == PST_NODE_LIST ? n->next : NULL)
        for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
            if (pst_bytes_equal(n->text, world_text(levels[i].word)) &&
                (least == 0 || levels[i].roles < least))
                least = levels[i].roles;
    return least;
}

struct seeded {
    struct pst_policy *policy;
    struct pst_levels *levels;
    unsigned asked, refused;
};

static bool passes(const struct seeded *s, const struct world_ask *ask, uint32_t roles)
{
    struct pst_binding bindings[6];
    struct pst_facts facts = {
        .user_id = 7, .name = PST_LIT("u"), .bindings = bindings, .binding_count = roles};
    struct pst_policy_settings settings = {.levels = s->levels};
    struct pst_request request = world_request(ask);
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_eval_detail detail;
    struct pst_arena arena;

    for (uint32_t i = 0; i < roles; i++)
        bindings[i] = (struct pst_binding){i + 1, i + 1, 0};
    pst_profile_route(profile, &request, &routed);
    if (routed.is_public)
        return true;
    assert_int_equal(routed.refuse, PST_R_INTERNAL);
    pst_arena_init(&arena, 4096, 1 << 20);
    pst_profile_extract(profile, &routed, &request, &arena, &got);
    assert_int_equal(got.refuse, PST_R_INTERNAL);
    struct pst_question q = {.policy = s->policy,
                             .settings = &settings,
                             .caller = {.facts = &facts},
                             .workspace = 1,
                             .requirements = got.requirements,
                             .requirement_count = got.requirement_count};
    bool allow = pst_eval(&q, &detail) == PST_ALLOW;
    if (!allow)
        fprintf(stderr, "  %s %s with %u roles: %s %.*s\n", ask->method, ask->path, roles,
                pst_reason_name(detail.reason), (int)detail.attribute.len,
                detail.attribute.len == 0 ? "" : detail.attribute.ptr);
    pst_arena_fini(&arena);
    return allow;
}

static void ask_operation(struct seeded *s, struct pst_bytes resource, const struct pst_node *rule)
{
    enum pst_op op = pst_op_of(rule->key);
    bool member = op == PST_OP_DETAIL || op == PST_OP_UPDATE || op == PST_OP_DELETE;
    uint32_t roles = roles_of(rule);
    char path[128];

    /* Seeding asks for an owner by the OWNER bit, which no shipped role carries; Mage itself asks
     * nobody about event matchers and seeds no row for them. */
    if (roles == 0 || pst_bytes_equal(resource, PST_LIT("seeds")) ||
        pst_bytes_equal(resource, PST_LIT("event_matchers")))
        return;
    (void)snprintf(path, sizeof(path), "/api/%.*s%s", (int)resource.len, resource.ptr,
                   member ? "/7" : "");
    struct world_ask ask = {.method = op == PST_OP_CREATE   ? "POST"
                                      : op == PST_OP_UPDATE ? "PUT"
                                      : op == PST_OP_DELETE ? "DELETE"
                                                            : "GET",
                            .path = path};
    s->asked++;
    s->refused += !passes(s, &ask, roles);
}

static void test_shipped_roles_pass_what_the_level_table_gives(void **state)
{
    struct pst_tree tree, levels;
    struct seeded s = {.policy = shipped_roles()};

    (void)state;
    assert_int_equal(pst_yaml_load_file("policies/profiles/mage.yaml", &tree, NULL), PST_OK);
    assert_int_equal(pst_yaml_load_file("policies/profiles/mage-levels.yaml", &levels, NULL),
                     PST_OK);
    assert_int_equal(pst_levels_load(&levels, &s.levels, NULL), PST_OK);
    const struct pst_node *entities = pst_node_get(tree.root, "entities");
    for (const struct pst_node *e = pst_node_get(levels.root, "levels")->first; e != NULL;
         e = e->next) {
        const struct pst_node *entity = NULL, *operations = pst_node_get(e, "operations");
        for (const struct pst_node *n = entities->first; n != NULL; n = n->next)
            entity = pst_bytes_equal(n->key, e->key) ? n : entity;
        assert_non_null(entity);
        struct pst_bytes resource =
            entity->kind == PST_NODE_SCALAR ? entity->text : pst_node_get(entity, "resource")->text;
        for (const struct pst_node *op = operations->first; op != NULL; op = op->next)
            ask_operation(&s, resource, op);
    }
    assert_true(s.asked > 180);
    assert_int_equal(s.refused, 0);
    pst_levels_free(s.levels);
    pst_policy_destroy(s.policy);
    pst_tree_fini(&levels);
    pst_tree_fini(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_folded_as_mage_does),
        cmocka_unit_test(test_every_resource_reaches_its_entity),
        cmocka_unit_test(test_ids_that_are_folded_are_refused),
        cmocka_unit_test(test_the_pipeline_of_an_object),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_an_object_that_a_key_names),
        cmocka_unit_test(test_handlers_of_their_own),
        cmocka_unit_test(test_a_route_is_as_wide_as_mages),
        cmocka_unit_test(test_shipped_roles_pass_what_the_level_table_gives),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
