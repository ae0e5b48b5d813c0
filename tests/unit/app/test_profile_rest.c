/* The shipped rest profile: what each request asks for. */
#include "../test.h"

#include "profile_world.h"

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"

static struct pst_profile *profile;

static int load(void **state)
{
    (void)state;
    profile = world_load_file("policies/profiles", "rest.yaml", NULL);
    return profile == NULL ? -1 : 0;
}

static int unload(void **state)
{
    (void)state;
    pst_profile_destroy(profile);
    return 0;
}

static void expect(const char *method, const char *path, const char *query, const char *line)
{
    struct world_ask ask = {.method = method, .path = path, .query = query};

    assert_string_equal(world_line_of(profile, &ask), line);
}

static void test_routes(void **state)
{
    (void)state;
    expect("GET", "/w/blue/x", NULL, "ws=blue; x list");
    expect("HEAD", "/w/blue/x", NULL, "ws=blue; x list");
    expect("OPTIONS", "/w/blue/x", NULL, "ws=blue; x list");
    expect("POST", "/w/blue/x", NULL, "ws=blue; x create");
    expect("GET", "/w/blue/x/7", NULL, "ws=blue; x:7 detail");
    expect("PATCH", "/w/blue/x/7/y", NULL, "ws=blue; x:7 update");
    expect("DELETE", "/w/blue/x/7/y/z", NULL, "ws=blue; x:7 delete");
    expect("GET", "/w/blue", NULL, "no-route");
    expect("GET", "/", NULL, "no-route");
    expect("GET", "/W/blue/x", NULL, "no-route");
    expect("PURGE", "/w/blue/x", NULL, "method:GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    expect("get", "/w/blue/x", NULL, "method:GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}

static void test_every_spelling_of_a_uuid_is_one_id(void **state)
{
    static const char *const spellings[] = {
        TWO,
        "{" TWO "}",
        "%7B" TWO "%7D",
        "22222222222242228222222222222222",
        "urn:uuid:" TWO,
        "URN:UUID:" TWO,
        "2222222222224222-8222222222222222",
    };
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        (void)snprintf(path, sizeof(path), "/w/blue/pipelines/%s", spellings[i]);
        expect("GET", path, NULL, "ws=blue; pipelines:" TWO " detail");
    }
    expect("GET", "/w/blue/pipelines/AAAAAAAA-1111-4111-8111-11111111111F", NULL,
           "ws=blue; pipelines:aaaaaaaa-1111-4111-8111-11111111111f detail");
}

static void test_a_uuid_and_more_is_refused(void **state)
{
    static const char *const bad[] = {
        TWO ".json", TWO "%20", ONE "," TWO, "0x22222222222242228222222222222222", "x" TWO, TWO "x",
        "222222222222422282222222222222223",
        /* what Python's uuid.UUID reads as one, too */
        "%EF%BC%922222222-2222-4222-8222-222222222222",
        "%D9%A2222222222224222822222222222222%E2%80%82", "2_222222-2222-4222-8222-222222222222",
        "+2222222-2222-4222-8222-222222222222", "%202222222-2222-4222-8222-222222222222",
        "0x222222-2222-4222-8222-222222222222", "22222222-urn:2222-4222-8222-222222222222",
        "{{22222222uuid:222242228222222222222222}"};
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(path, sizeof(path), "/w/blue/pipelines/%s", bad[i]);
        expect("GET", path, NULL, "bad-id:id");
        (void)snprintf(path, sizeof(path), "/w/blue/pipelines/1/%s", bad[i]);
        expect("GET", path, NULL, "bad-id:more");
    }
}

static void test_long_names_are_no_uuids(void **state)
{
    static const char *const names[] = {
        "2026_11_25_daily_customer_report", /* 32 characters */
        "%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%"
        "A5%E6%97%A5",
        "2_222222-2222-4222-8222-22222222222",   /* 31 digits or so */
        "2_222222-2222-4222-8222-2222222222222", /* 33 */
    };
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "/w/blue/pipelines/%s", names[i]);
        struct world_ask ask = {.method = "GET", .path = path};
        assert_memory_equal(world_line_of(profile, &ask), "ws=blue; pipelines:", 19);
    }
}

static void test_later_uuids_are_ids_of_their_own(void **state)
{
    (void)state;
    expect("GET", "/w/blue/pipelines/" ONE "/blocks/" TWO, NULL,
           "ws=blue; pipelines:" ONE " detail; pipelines:" TWO " detail");
    expect("PUT", "/w/blue/p/name/" ONE "/x/" TWO, NULL,
           "ws=blue; p:name update; p:" ONE " update; p:" TWO " update");
}

static void test_query_id(void **state)
{
    (void)state;
    expect("GET", "/w/blue/api/pipeline", "pipeline_uuid=" TWO,
           "ws=blue; api:pipeline detail; api:" TWO " detail");
    expect("GET", "/w/blue/api/pipeline", "pipeline_uuid[]=" TWO,
           "ws=blue; api:pipeline detail; api:" TWO " detail");
    expect("GET", "/w/blue/api", "pipeline%5Fuuid=" TWO, "ws=blue; api list; api:" TWO " list");
    expect("GET", "/w/blue/api", "pipeline_uuid=" TWO "&pipeline_uuid={" TWO "}",
           "ws=blue; api list; api:" TWO " list");
    expect("GET", "/w/blue/api", "pipeline_uuid=" ONE "&pipeline_uuid=" TWO, "ambiguous:pipeline");
    expect("GET", "/w/blue/api", "x=1;pipeline_uuid=" TWO, "ambiguous:pipeline_uuid");
    expect("GET", "/w/blue/api", "pipeline_uuid=" TWO ";", "ambiguous:pipeline_uuid");
    expect("GET", "/w/blue/api", "pipeline_uuid=name", "bad-id:pipeline");
    expect("GET", "/w/blue/api", "pipeline_uuid=", "bad-id:pipeline");
    expect("GET", "/w/blue/api", "pipeline_uuid=%2", "bad-target:an escape in the query");
    expect("GET", "/w/blue/api", "workspace=red&x=%2F..%2Fred&a;b", "ws=blue; api list");
}

static void expect_header(const char *name, const char *value, const char *line)
{
    struct world_ask ask = {.method = "GET", .path = "/w/blue/x", .field_count = 1};

    ask.fields[0] = (struct pst_field){world_text(name), world_text(value)};
    assert_string_equal(world_line_of(profile, &ask), line);
}

static void test_places_of_the_workspace_agree(void **state)
{
    (void)state;
    expect_header("X-Workspace", "blue", "ws=blue; x list");
    expect_header("X-Workspace", "", "ws=blue; x list");
    expect_header("X-Workspace", "red", "ambiguous:X-Workspace");
    expect_header("x_workspace", "red", "ambiguous:X-Workspace");
    expect_header("X.Mlflow.Workspace", "red", "ambiguous:X-Mlflow-Workspace");
    expect_header("X-Workspaces", "red", "ws=blue; x list");

    struct world_ask twice = {.method = "GET", .path = "/w/blue/x", .field_count = 2};
    twice.fields[0] = (struct pst_field){PST_LIT("X-Workspace"), PST_LIT("blue")};
    twice.fields[1] = (struct pst_field){PST_LIT("X-Workspace"), PST_LIT("blue")};
    assert_string_equal(world_line_of(profile, &twice), "ambiguous:X-Workspace");
    expect("GET", "/w/bl%20ue/x", NULL, "bad-workspace:workspace");
    expect("GET", "/w/-blue/x", NULL, "bad-workspace:workspace");
}

static void test_oddities_are_refused(void **state)
{
    struct world_ask ask = {.method = "GET", .path = "/w/blue/x/"};

    (void)state;
    ask.oddities = PST_ODD_TRAILING_SLASH;
    assert_string_equal(world_line_of(profile, &ask), "bad-target");
    ask.path = "/nowhere%2Fat%2Fall";
    ask.oddities = PST_ODD_ENCODED_SLASH;
    assert_string_equal(world_line_of(profile, &ask), "bad-target");
}

static void test_a_body_passes_unread(void **state)
{
    struct world_ask ask = {.method = "POST", .path = "/w/blue/x", .body = "{"};

    (void)state;
    assert_string_equal(world_line_of(profile, &ask), "ws=blue; x create");
    ask.method = "GET";
    assert_string_equal(world_line_of(profile, &ask), "ws=blue; x list");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_every_spelling_of_a_uuid_is_one_id),
        cmocka_unit_test(test_a_uuid_and_more_is_refused),
        cmocka_unit_test(test_long_names_are_no_uuids),
        cmocka_unit_test(test_later_uuids_are_ids_of_their_own),
        cmocka_unit_test(test_query_id),
        cmocka_unit_test(test_places_of_the_workspace_agree),
        cmocka_unit_test(test_oddities_are_refused),
        cmocka_unit_test(test_a_body_passes_unread),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
