/* The shipped mlflow profile: what each shape of request asks for. */
#include "../test.h"

#include "profile_world.h"

#define V2  "/api/2.0/mlflow"
#define V3  "/api/3.0/mlflow"
#define ART "/api/2.0/mlflow-artifacts/artifacts"

static struct pst_profile *profile;

static int load(void **state)
{
    (void)state;
    profile = world_load_file("policies/profiles", "mlflow.yaml", NULL);
    return profile == NULL ? -1 : 0;
}

static int unload(void **state)
{
    (void)state;
    pst_profile_destroy(profile);
    return 0;
}

static void get(const char *path, const char *query, const char *line)
{
    struct world_ask ask = {.method = "GET", .path = path, .query = query};

    assert_string_equal(world_line_of(profile, &ask), line);
}

static void send(const char *method, const char *path, const char *body, const char *line)
{
    struct world_ask ask = {.method = method, .path = path, .body = body};

    assert_string_equal(world_line_of(profile, &ask), line);
}

static void test_shapes(void **state)
{
    (void)state;
    get(V2 "/experiments/get", "experiment_id=11", "ws=default; experiment:11 detail");
    get(V2 "/runs/get", "run_id=a",
        "ws=default; experiment:? detail; run detail > experiment:? detail");
    send("POST", V2 "/runs/create", "{\"experiment_id\":11}",
         "ws=default; experiment:11 update; run not_denied");
    send("POST", V2 "/experiments/create", "{}",
         "ws=default; workspace-use; experiment not_denied");
    send("POST", V2 "/experiments/delete", "{\"experiment_id\":\"11\"}",
         "ws=default; experiment:11 delete; run delete > experiment:11 delete; "
         "trace delete > experiment:11 delete; logged_model delete > experiment:11 delete; "
         "assessment delete > experiment:11 delete; review_queue delete > experiment:11 delete; "
         "scorer delete > experiment:11 delete; scorer_version delete > experiment:11 delete");
    send("POST", V3 "/traces/delete-traces", "{\"experiment_id\":\"11\"}",
         "ws=default; experiment:11 detail; trace delete > experiment:11 delete; "
         "assessment delete > experiment:11 update");
    send("POST", V3 "/traces/t/assessments", "{}",
         "ws=default; experiment:? detail; trace detail > experiment:? detail; assessment "
         "not_denied; "
         "experiment:? update | trace update");
    send("DELETE", V3 "/traces/t/assessments/a", NULL,
         "ws=default; experiment:? detail; trace detail > experiment:? detail; "
         "assessment delete > experiment:? update");
    get(V2 "/registered-models/get", "name=m",
        "ws=default; registered_model:m detail ~prompt; registered_model_version not_denied "
        "~prompt_version");
    send("DELETE", V2 "/model-versions/delete", "{\"name\":\"m\"}",
         "ws=default; registered_model:m delete ~prompt; "
         "registered_model_version delete > registered_model:m delete; "
         "prompt_version delete > prompt:m delete");
    send("POST", V3 "/roles/create", "{\"workspace\":\"team-b\"}",
         "ws=default; workspace-manage team-b");
    get(V2 "/users/get", "username=bob", "ws=default; self bob | admin");
    get(V3 "/workspaces/team-a", NULL, "ws=default; workspace-view team-a");
    get(V3 "/scorers/get", "experiment_id=11&name=a%2Fb+c",
        "ws=default; scorer:11/a%2Fb%20c detail; scorer_version not_denied");
    get(V3 "/mcp-servers/ns/slug/versions/1.0/x", NULL,
        "ws=default; mcp_server:ns/slug detail; mcp_server_version detail > mcp_server:ns/slug "
        "detail");
    send("PATCH", V3 "/mcp-servers/ns/slug/versions/1", "{}",
         "ws=default; mcp_server:ns/slug update; mcp_server_version update > mcp_server:ns/slug "
         "update");
    send("POST", V3 "/mcp-servers/ns/slug/versions", "{}",
         "ws=default; mcp_server:ns/slug update; mcp_server_version not_denied");
    send("DELETE", V3 "/mcp-servers/ns/slug", NULL,
         "ws=default; mcp_server:ns/slug delete; mcp_server_version delete > mcp_server:ns/slug "
         "delete");
    send("DELETE", V3 "/mcp-servers/ns/slug/aliases/a", NULL,
         "ws=default; mcp_server:ns/slug delete; mcp_server_version detail > mcp_server:ns/slug "
         "detail");
}

/* What a request reaches beside its own object must not be denied. */
static void test_what_else_is_reached(void **state)
{
    (void)state;
    send("POST", V2 "/registered-models/create", "{\"name\":\"m\"}",
         "ws=default; workspace-use; registered_model:m not_denied ~prompt");
    send("POST", V2 "/registered-models/alias", "{\"name\":\"m\",\"alias\":\"a\"}",
         "ws=default; registered_model:m update ~prompt; "
         "registered_model_version detail > registered_model:m detail; "
         "prompt_version detail > prompt:m detail");
    send("POST", V2 "/logged-models", "{\"experiment_id\":\"11\",\"sourceRunId\":\"a\"}",
         "ws=default; experiment:11 update; logged_model not_denied; experiment:? detail; "
         "run detail > experiment:? detail");
    send("POST", V3 "/traces",
         "{\"trace\":{\"traceInfo\":{\"traceLocation\":{\"mlflowExperiment\":{\"experimentId\":"
         "\"11\"}},"
         "\"assessments\":[{\"assessmentName\":\"q\"}]}}}",
         "ws=default; experiment:11 update; trace not_denied; assessment not_denied");
    get(V2 "/traces", "experiment_ids=11&order_by=run_id",
        "ws=default; experiment:11 detail; trace detail > experiment:11 detail; "
        "assessment detail > experiment:11 detail; run detail > experiment:11 detail; "
        "logged_model detail > experiment:11 detail");
    send("POST", V3 "/gateway/endpoints/create", "{\"experimentId\":\"11\"}",
         "ws=default; gateway_endpoint not_denied; experiment not_denied; "
         "experiment:11 not_denied; workspace-use");
    send("POST", V3 "/gateway/model-definitions/create", "{}",
         "ws=default; gateway_model_definition not_denied");
    send("POST", V3 "/prompt-optimization/jobs",
         "{\"experiment_id\":\"11\",\"source_prompt_uri\":\"prompts:/p/1\","
         "\"config\":{\"scorers\":[\"judge\"],\"optimizer_config_json\":\"{}\"}}",
         "ws=default; experiment:11 update; run not_denied; scorer_version not_denied; "
         "prompt:? not_denied; prompt_version not_denied; scorer:11/judge not_denied; "
         "gateway_endpoint:? not_denied");
    get(V3 "/review-queues/get", "queue_id=q",
        "ws=default; experiment:? detail; review_queue manage > experiment:? manage");
}

static void test_lists_are_certain_or_refused(void **state)
{
    (void)state;
    get(V2 "/experiments/search", NULL, "ws=default; <needs-filter>experiment:? detail");
    send("POST", V2 "/runs/search", "{\"experiment_ids\":[\"11\",\"12\"]}",
         "ws=default; <needs-filter>experiment:11 detail; <needs-filter>experiment:12 detail; run "
         "not_denied");
    send("POST", V2 "/runs/search", "{}",
         "ws=default; run not_denied; <needs-filter>experiment:? detail");
    send("POST", V3 "/traces/search", "{\"locations\":[]}", "ws=default; admin");
    get(V3 "/workspaces", NULL, "ws=default; closed <needs-filter> | admin");
    get(V3 "/scorers/list", NULL,
        "ws=default; <needs-filter>experiment:? detail; <needs-filter>scorer:? detail");
}

/* Some of a list name an object and some do not. */
static void test_mixed_lists(void **state)
{
    (void)state;
    send("POST", V3 "/traces/search",
         "{\"locations\":[{\"mlflow_experiment\":{\"experiment_id\":\"11\"}},{\"uc_schema\":{}}]}",
         "ws=default; experiment:11 detail; trace detail > experiment:11 detail; "
         "assessment detail > experiment:11 detail; admin");
    send("POST", V3 "/gateway/endpoints/create",
         "{\"model_configs\":[{\"model_definition_id\":\"d\"},{}]}",
         "ws=default; gateway_model_definition:d use; gateway_endpoint not_denied; experiment "
         "not_denied; workspace-use");
    send("POST", V2 "/runs/log-batch",
         "{\"run_id\":\"a\",\"metrics\":[{\"key\":\"k\",\"model_id\":\"\"},{\"model_id\":\"m\"},{}]"
         "}",
         "ws=default; experiment:? detail; run update > experiment:? update; experiment:? detail; "
         "logged_model update > experiment:? update");
    send("POST", V3 "/traces",
         "{\"trace\":{\"trace_info\":{\"trace_location\":{\"mlflow_experiment\":"
         "{\"experiment_id\":\"11\"}},\"assessments\":[{\"feedback\":{}}]}}}",
         "bad-id:assessment");
    send("POST", V3 "/traces",
         "{\"trace\":{\"trace_info\":{\"trace_location\":{\"mlflow_experiment\":"
         "{\"experiment_id\":\"11\"}},\"assessments\":[]}}}",
         "ws=default; experiment:11 update; trace not_denied");
}

static void test_one_field_in_two_spellings(void **state)
{
    (void)state;
    send("POST", V2 "/experiments/update", "{\"experimentId\":\"11\"}",
         "ws=default; experiment:11 update");
    send("POST", V2 "/experiments/update", "{\"experimentId\":\"11\",\"experiment_id\":\"11\"}",
         "ws=default; experiment:11 update");
    send("POST", V2 "/experiments/update", "{\"experimentId\":\"11\",\"experiment_id\":\"12\"}",
         "ambiguous:experiment_id");
    send("POST", V3 "/traces/search",
         "{\"locations\":[{\"mlflow_experiment\":{\"experiment_id\":\"11\"}},"
         "{\"mlflowExperiment\":{\"experimentId\":12}}]}",
         "ws=default; experiment:11 detail; experiment:12 detail; trace detail > experiment:11 "
         "detail; "
         "trace detail > experiment:12 detail; assessment detail > experiment:11 detail; "
         "assessment detail > experiment:12 detail");
    send("POST", V2 "/runs/log-metric", "{\"run_id\":\"a\",\"run_uuid\":\"a\",\"key\":\"k\"}",
         "ws=default; experiment:? detail; run update > experiment:? update");
    send("POST", V2 "/runs/log-metric", "{\"run_id\":\"a\",\"run_uuid\":\"b\"}", "ambiguous:run");
    send("POST", V2 "/runs/log-metric", "{\"run_id\":\"a\",\"modelId\":\"m\"}",
         "ws=default; experiment:? detail; run update > experiment:? update; "
         "experiment:? detail; logged_model update > experiment:? update");
}

static void test_bodies_that_readers_disagree_on(void **state)
{
    static const char *const bad[] = {
        "{\"experiment_id\":\"11\",\"experiment_id\":\"12\"}",
        "\"{\\\"experiment_id\\\":\\\"11\\\"}\"",
        "[]",
        "{",
        "{\"experiment_id\":\"11\"} x",
        "\xef\xbb\xbf{\"experiment_id\":\"11\"}",
        "{\"experiment_id\":\"\xff\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        send("POST", V2 "/experiments/update", bad[i],
             "bad-body:not one JSON object with distinct keys");
    send("POST", V2 "/experiments/update", "{\"experiment_id\":11.5}", "bad-id:experiment_id");
    send("POST", V2 "/experiments/update", "{\"experiment_id\":true}", "bad-id:experiment_id");
    send("POST", V2 "/experiments/update", "{\"experiment_id\":{}}", "bad-id:experiment_id");
    send("POST", V2 "/experiments/update", "{\"experiment_id\":null}", "bad-id:experiment");
    send("POST", V2 "/experiments/update", "", "bad-id:experiment");
    struct world_ask ask = {
        .method = "GET", .path = V2 "/experiments/get", .query = "experiment_id=11", .body = "{}"};
    assert_string_equal(world_line_of(profile, &ask), "bad-body:a body on GET");
}

/* A list of `count` zeros beside the id; `text` is a string of as many commas. */
static const char *body_of(size_t count, bool text, struct pst_arena *arena)
{
    size_t size = 2 * count + 64;
    char *body = pst_arena_alloc(arena, size), *at = body;

    assert_non_null(body);
    at += snprintf(at, 64, "{\"experiment_id\":\"11\",\"x\":%s", text ? "\"" : "[0");
    for (size_t i = 1; i < count; i++, at += 2)
        memcpy(at, ",0", 2);
    (void)snprintf(at, size - (size_t)(at - body), "%s}", text ? "\"" : "]");
    return body;
}

static void test_a_body_of_too_many_values(void **state)
{
    struct pst_arena arena;

    (void)state;
    pst_arena_init(&arena, 4096, 1u << 20);
    send("POST", V2 "/experiments/update", body_of(99990, false, &arena),
         "ws=default; experiment:11 update");
    send("POST", V2 "/experiments/update", body_of(100001, true, &arena),
         "ws=default; experiment:11 update");
    send("POST", V2 "/experiments/update", body_of(100001, false, &arena),
         "body-too-large:more than 100000 values");
    pst_arena_fini(&arena);
}

static void test_ids_that_the_server_would_fold(void **state)
{
    static const char *const bad[] = {
        "011", "%2B11", "+11", "11.0", "1_1", "11+", "%EF%BC%91%EF%BC%91", "0x0b"};
    char query[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(query, sizeof(query), "experiment_id=%s", bad[i]);
        get(V2 "/experiments/get", query, "bad-id:experiment");
    }
    get(V2 "/experiments/get", "experiment_id=", "bad-id:experiment");
    get(V2 "/experiments/get", NULL, "bad-id:experiment");
    get(V2 "/experiments/get", "experiment_id=11&experiment_id=11",
        "ws=default; experiment:11 detail");
    get(V2 "/experiments/get", "experiment_id=11&experiment_id=12", "ambiguous:experiment");
}

static void test_ids_are_utf8(void **state)
{
    static const char *const bad[] = {"%FF",       "a%FE",      "%C0%AF",       "%C1%81",
                                      "%E0%80%AF", "%ED%A0%80", "%F4%90%80%80", "%F8%88%80%80%80",
                                      "a%C3",      "%80",       "%E2%82"};
    char query[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(query, sizeof(query), "run_id=%s", bad[i]);
        get(V2 "/runs/get", query, "bad-id:run");
    }
    get(V2 "/users/get", "username=%C3%A9%E2%82%AC%F0%9F%98%80",
        "ws=default; self \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 | admin");
}

static void test_an_unread_place_must_agree(void **state)
{
    struct world_ask ask = {.method = "POST",
                            .path = V2 "/experiments/update",
                            .query = "experiment_id=11",
                            .body = "{\"experiment_id\":\"12\"}"};

    (void)state;
    assert_string_equal(world_line_of(profile, &ask),
                        "ws=default; experiment:12 update; closed <ambiguous>");
    ask.body = "{\"experiment_id\":\"11\"}";
    assert_string_equal(world_line_of(profile, &ask), "ws=default; experiment:11 update");
    get(V3 "/traces/t", "trace_id=t",
        "ws=default; experiment:? detail; trace detail > experiment:? detail; "
        "assessment detail > experiment:? detail");
    get(V3 "/traces/t", "trace_id=u",
        "ws=default; experiment:? detail; trace detail > experiment:? detail; "
        "assessment detail > experiment:? detail; closed <ambiguous>");
    send("PATCH", V2 "/logged-models/m", "{\"model_id\":\"n\"}",
         "ws=default; experiment:? detail; logged_model update > experiment:? update; closed "
         "<ambiguous>");
}

static void test_artifact_paths(void **state)
{
    (void)state;
    get(ART "/5/abc/artifacts/x/y", NULL,
        "ws=default; experiment:5 detail; run detail > experiment:5 detail");
    get(ART "/5/models/m/artifacts/x", NULL,
        "ws=default; experiment:5 detail; logged_model detail > experiment:5 detail");
    send("PUT", ART "/5/traces/t/artifacts/x", NULL,
         "ws=default; experiment:5 detail; trace update > experiment:5 update");
    get(ART "/5/other", NULL, "ws=default; experiment:5 detail");
    get(ART "/other", NULL, "ws=default; workspace detail");
    send("PUT", ART "/other", NULL, "ws=default; workspace update");
    send("DELETE", ART "/other", NULL, "ws=default; workspace manage");
    get(ART "/workspaces/default/5/abc/artifacts/x", NULL,
        "ws=default; experiment:5 detail; run detail > experiment:5 detail");
    get(ART "/workspaces/team-a/5/abc/artifacts/x", NULL, "ambiguous:workspaces/ in the path");
    get(ART "/workspaces", NULL, "ws=default; admin");
    get(ART "/workspaces/default", NULL, "ws=default; workspace detail");
    get(ART, "path=5%2Fabc%2Fartifacts",
        "ws=default; experiment:5 detail; run detail > experiment:5 detail");
    get(ART, "path=", "ws=default; admin");
    get(ART, NULL, "ws=default; admin");
    get(ART, "path=workspaces", "ws=default; admin");
    send("DELETE", ART "/5/abc", NULL,
         "ws=default; experiment:5 manage; run manage > experiment:5 manage; trace manage > "
         "experiment:5 manage; "
         "logged_model manage > experiment:5 manage");
    send("DELETE", ART "/5/abc/artifacts/x", NULL,
         "ws=default; experiment:5 detail; run manage > experiment:5 manage");
    send("POST", "/api/2.0/mlflow-artifacts/mpu/create/5/abc/artifacts/x",
         "{\"path\":\"6/abc/artifacts/x\"}",
         "ws=default; experiment:5 detail; run update > experiment:5 update; closed <ambiguous>");
}

static void test_artifact_paths_that_change_when_decoded_again(void **state)
{
    static const char *const bad[] = {"a%2541.txt", "a%3Fb", "a%23b", "a%5Cb", "a//b",
                                      "a/",         "./a",   "a/..",  "a/b."};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(path, sizeof(path), "path=5/abc/artifacts/%s", bad[i]);
        get(ART, path, "bad-id:path");
        get("/get-artifact", path, "bad-id:run");
    }
    get("/get-artifact", "run_id=a&path=..%2Fb", "bad-id:path");
}

static void test_workspace_header(void **state)
{
    struct world_ask ask = {.method = "GET", .path = "/version", .field_count = 1};
    static const struct {
        const char *value, *line;
    } cases[] = {
        {"team-a", "ws=team-a; authenticated"}, {"  team-a ", "ws=team-a; authenticated"},
        {"", "ws=default; authenticated"},      {"Team_A", "bad-workspace:workspace"},
        {"a", "bad-workspace:workspace"},       {"-a", "bad-workspace:workspace"},
        {"api", "bad-workspace:workspace"},     {"a,b", "bad-workspace:workspace"},
        {"a--b", "ws=a--b; authenticated"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask.fields[0] =
            (struct pst_field){PST_LIT("x-mlflow-workspace"), world_text(cases[i].value)};
        assert_string_equal(world_line_of(profile, &ask), cases[i].line);
    }
}

/* Another spelling names nothing, and beside the right one it is one too many. */
static void test_another_spelling_of_the_workspace_header(void **state)
{
    struct world_ask ask = {.method = "GET", .path = "/version", .field_count = 1};

    (void)state;
    ask.fields[0] = (struct pst_field){PST_LIT("X_MLFLOW_WORKSPACE"), PST_LIT("team-a")};
    assert_string_equal(world_line_of(profile, &ask), "ws=default; authenticated");
    ask.fields[0].name = PST_LIT("x-mlflow.workspace");
    assert_string_equal(world_line_of(profile, &ask), "ws=default; authenticated");
    ask.field_count = 2;
    ask.fields[1] = (struct pst_field){PST_LIT("X-MLFLOW-WORKSPACE"), PST_LIT("team-a")};
    assert_string_equal(world_line_of(profile, &ask), "ambiguous:X-MLFLOW-WORKSPACE");
}

static void test_options_change_the_workspace(void **state)
{
    const struct pst_bytes more[] = {PST_LIT("X-Workspace")};
    struct pst_profile_options options = {
        .default_workspace = PST_LIT(""), .workspace_headers = more, .workspace_header_count = 1};
    struct world_ask ask = {.method = "GET", .path = "/version"};

    (void)state;
    struct pst_profile *other = world_load_file("policies/profiles", "mlflow.yaml", &options);
    assert_non_null(other);
    assert_string_equal(world_line_of(other, &ask), "bad-workspace:no workspace is named");
    ask.field_count = 1;
    ask.fields[0] = (struct pst_field){PST_LIT("X-Workspace"), PST_LIT("blue")};
    assert_string_equal(world_line_of(other, &ask), "ws=blue; authenticated");
    pst_profile_destroy(other);

    struct pst_profile_options off = {.mlflow_workspaces_off = true};
    other = world_load_file("policies/profiles", "mlflow.yaml", &off);
    assert_non_null(other);
    ask.fields[0].name = PST_LIT("X-Mlflow-Workspace");
    assert_string_equal(world_line_of(other, &ask), "workspaces-off:blue");
    ask.field_count = 0;
    assert_string_equal(world_line_of(other, &ask), "ws=default; authenticated");
    ask.path = ART "/workspaces/blue/5/a/artifacts/x"; /* a folder of old, where there are none */
    assert_string_equal(world_line_of(other, &ask),
                        "ws=default; experiment:5 detail; run detail > experiment:5 detail");
    pst_profile_destroy(other);
}

static void test_what_no_route_takes(void **state)
{
    struct pst_request request = {.method = PST_LIT("POST"), .path = PST_LIT(V2 "/some/new/route")};
    struct pst_routed routed;

    (void)state;
    pst_profile_route(profile, &request, &routed);
    assert_int_equal(routed.refuse, PST_R_ROUTE_CLOSED);
    assert_true(routed.refuse_after_identity && routed.admin_sees_404);
    get(V2 "/runs/update", NULL, "method:POST");
    get("/api/3.0/mlflow/server-info", NULL, "public");
    get("/health", NULL, "public");
    get("/gateway/gemini/v1beta/models/x:other", NULL, "route-closed");
    send("POST", "/gateway/gemini/v1beta/models/x:generateContent", NULL,
         "ws=default; gateway_endpoint:? use");
    send("POST", "/gateway/openai/v1/chat/completions", "{\"messages\":[]}",
         "bad-id:endpoint_name");
}

static void test_a_preflight_needs_both_fields(void **state)
{
    struct world_ask ask = {.method = "OPTIONS", .path = V2 "/runs/update", .field_count = 1};

    (void)state;
    ask.fields[0] = (struct pst_field){PST_LIT("Origin"), PST_LIT("https://a")};
    assert_string_equal(world_line_of(profile, &ask), "method:POST");
    ask.field_count = 2;
    ask.fields[1] = (struct pst_field){PST_LIT("Access-Control-Request-Method"), PST_LIT("POST")};
    assert_string_equal(world_line_of(profile, &ask), "preflight");
}

static void test_streams_are_not_inspected(void **state)
{
    struct pst_request request = {.method = PST_LIT("PUT"),
                                  .path = PST_LIT(ART "/5/a/artifacts/x")};
    struct pst_routed routed;

    (void)state;
    pst_profile_route(profile, &request, &routed);
    assert_false(routed.inspect_body);
    assert_true(routed.body_limit == UINT64_MAX);
    request = (struct pst_request){.method = PST_LIT("POST"), .path = PST_LIT(V2 "/runs/update")};
    pst_profile_route(profile, &request, &routed);
    assert_true(routed.inspect_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_what_else_is_reached),
        cmocka_unit_test(test_lists_are_certain_or_refused),
        cmocka_unit_test(test_mixed_lists),
        cmocka_unit_test(test_one_field_in_two_spellings),
        cmocka_unit_test(test_bodies_that_readers_disagree_on),
        cmocka_unit_test(test_a_body_of_too_many_values),
        cmocka_unit_test(test_ids_that_the_server_would_fold),
        cmocka_unit_test(test_ids_are_utf8),
        cmocka_unit_test(test_an_unread_place_must_agree),
        cmocka_unit_test(test_artifact_paths),
        cmocka_unit_test(test_artifact_paths_that_change_when_decoded_again),
        cmocka_unit_test(test_workspace_header),
        cmocka_unit_test(test_another_spelling_of_the_workspace_header),
        cmocka_unit_test(test_options_change_the_workspace),
        cmocka_unit_test(test_what_no_route_takes),
        cmocka_unit_test(test_a_preflight_needs_both_fields),
        cmocka_unit_test(test_streams_are_not_inspected),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
