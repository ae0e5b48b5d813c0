#include "../test.h"

#include <jansson.h>
#include <stdio.h>

#include "policy_fixture.h"
#include "postern/policy/explain.h"

static struct fixture fixture;
static char space[4096];

static int setup(void **state)
{
    fx_init(&fixture);
    fx_role(&fixture, 1, "plain", 0);
    fx_role(&fixture, 2, "editor", 0);
    fx_role(&fixture, 3, "lister", 0);
    fx_grant(&fixture, 1, "Pipeline", NULL, PST_A_LIST);
    fx_grant(&fixture, 2, "Pipeline", NULL, PST_A_UPDATE);
    fx_grant(&fixture, 3, "Pipeline", NULL, PST_A_LIST);
    fx_bind(&fixture, 1, BLUE);
    fx_ask(&fixture, 0, "Pipeline", "p1", PST_OP_UPDATE);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fx_fini(*state);
    return 0;
}

static const char *text_of(struct fixture *f)
{
    struct pst_buf out = pst_buf_of(space, sizeof(space) - 1);

    fx_decide(f);
    pst_explain_text(&f->question, pst_eval(&f->question, &f->detail), &f->detail, &out);
    assert_false(out.full);
    space[out.len] = '\0';
    return space;
}

static json_t *json_of(struct fixture *f)
{
    struct pst_buf out = pst_buf_of(space, sizeof(space));
    json_error_t error;

    fx_decide(f);
    pst_explain_json(&f->question, pst_eval(&f->question, &f->detail), &f->detail, &out);
    json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(json);
    return json;
}

static void expect(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

/* The remedy names the bit, the object, the place, and only roles that would really do. */
static void test_what_is_missing_and_who_has_it(void **state)
{
    const char *text = text_of(*state);

    expect(text, "deny (not-granted): update on Pipeline/p1:");
    expect(text, "Grant UPDATE or OPERATION_ALL or ALL on Pipeline/p1 in workspace blue");
    expect(text, "role \"editor\"");
    assert_null(strstr(text, "lister"));
    assert_null(strstr(text, "plain"));
}

static void test_the_remedy_helps(void **state)
{
    struct fixture *f = *state;

    text_of(f);
    fx_bind(f, 2, BLUE);
    expect(text_of(f), "allow (granted): update on Pipeline/p1:");
    expect(text_of(f),
           "decided by role \"editor\", permission 2 on Pipeline, binding 101 in workspace blue, "
           "bit UPDATE");
    assert_null(strstr(text_of(f), "Grant"));
}

/* Of roles that would do, an owner's is the last that anybody should be given. */
static void test_an_owners_role_is_offered_last(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 4, "boss", 0);
    fx_grant(f, 4, "ALL", NULL, PST_A_OWNER);
    assert_null(strstr(text_of(f), "boss"));
    fx_ask(f, 0, "Block", "b1", PST_OP_DELETE);
    expect(text_of(f), ", or bind the caller to role \"boss\" in workspace blue.\n");
}

/* Who manages, or owns, is told by which row, as of any other grant. */
static void test_a_summary_names_its_row(void **state)
{
    struct fixture *f = *state;

    f->question.combining = PST_MOST_SPECIFIC;
    fx_role(f, 4, "manager", BLUE);
    fx_grant(f, 4, "workspace", NULL, FX_USE);
    fx_grant(f, 4, "workspace", NULL, FX_MANAGE);
    fx_bind(f, 4, BLUE);
    expect(text_of(f),
           "decided by role \"manager\" of workspace blue, permission 5 on workspace, binding "
           "101 in workspace blue, bit MANAGE");
    f->requirements[0].need = PST_NEED_WORKSPACE_USE;
    expect(text_of(f), "permission 4 on workspace, binding 101 in workspace blue, bit USE");
    f->requirements[0].need = PST_NEED_WORKSPACE_ADMIN;
    expect(text_of(f), "permission 5 on workspace, binding 101 in workspace blue, bit MANAGE");
    fx_role(f, 5, "boss", 0);
    fx_grant(f, 5, "ALL", NULL, PST_A_LIST);
    fx_grant(f, 5, "ALL", NULL, PST_A_OWNER);
    fx_bind(f, 5, 0);
    expect(text_of(f),
           "decided by role \"boss\", permission 7 on ALL, binding 102 everywhere, bit OWNER");
}

/* Without the deny nothing grants it: both are told, and that unbinding would help is not. */
static void test_a_deny_is_named_and_no_role_is_offered(void **state)
{
    struct fixture *f = *state;

    fx_grant(f, 1, "Pipeline", "p1", PST_A_DISABLE_UPDATE);
    const char *text = text_of(f);
    expect(text, "deny (denied)");
    expect(text, "decided by role \"plain\", permission 4 on Pipeline/p1, binding 100");
    expect(text, "Remove DISABLE_UPDATE from permission 4 on Pipeline/p1 of role \"plain\", and "
                 "grant UPDATE or OPERATION_ALL or ALL on Pipeline/p1 in workspace blue.\n");
    assert_null(strstr(text, "editor"));
}

static void test_unbinding_is_offered_where_it_helps(void **state)
{
    struct fixture *f = *state;

    fx_grant(f, 1, "Pipeline", "p1", PST_A_DISABLE_UPDATE);
    fx_bind(f, 2, BLUE);
    expect(text_of(f),
           "Remove DISABLE_UPDATE from permission 4 on Pipeline/p1 of role \"plain\", or "
           "unbind that role (binding 100).\n");
}

/* A list is denied by each single object's deny. */
static void test_what_every_single_one_denies(void **state)
{
    struct fixture *f = *state;

    fx_grant(f, 1, "Pipeline", "p1", PST_A_DISABLE_LIST);
    fx_grant(f, 1, "Pipeline", "p2", PST_A_DISABLE_LIST);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    expect(text_of(f), "Remove DISABLE_LIST from every permission on a single Pipeline of role "
                       "\"plain\".\n");
}

/* The change of one requirement alone would not do. */
static void test_all_that_is_missing_is_told(void **state)
{
    struct fixture *f = *state;

    fx_ask(f, 1, "Block", "b1", PST_OP_DELETE);
    f->question.requirement_count = 2;
    const char *text = text_of(f);
    expect(text, "Grant UPDATE or OPERATION_ALL or ALL on Pipeline/p1 in workspace blue, and grant "
                 "DELETE or OPERATION_ALL or ALL on Block/b1 in workspace blue.\n");
}

static void test_an_attribute_is_named(void **state)
{
    struct fixture *f = *state;
    struct pst_bytes names[] = {PST_LIT("title")};

    fx_bind(f, 2, BLUE);
    f->requirements[0].attributes[PST_ATTR_WRITE] = names;
    f->requirements[0].attribute_count[PST_ATTR_WRITE] = 1;
    const char *text = text_of(f);
    expect(text, "payload key title");
    expect(text,
           "Grant title with WRITE or WRITE_ALL beside update in one permission on Pipeline/p1");
}

static void test_a_grant_takes_its_attributes_along(void **state)
{
    struct fixture *f = *state;
    struct pst_bytes written[] = {PST_LIT("title"), PST_LIT("tags")}, read[] = {PST_LIT("id")};

    f->requirements[0].attributes[PST_ATTR_WRITE] = written;
    f->requirements[0].attribute_count[PST_ATTR_WRITE] = 2;
    f->requirements[0].attributes[PST_ATTR_READ] = read;
    f->requirements[0].attribute_count[PST_ATTR_READ] = 1;
    expect(text_of(f),
           "Grant UPDATE or OPERATION_ALL or ALL with WRITE for title, tags and READ for "
           "id (ALL needs none) on Pipeline/p1 in workspace blue");
    assert_null(strstr(text_of(f), "editor"));
    fx_bind(f, 2, BLUE);
    const char *text = text_of(f);
    expect(text, "Grant title with WRITE or WRITE_ALL");
    expect(text, ", and grant tags with WRITE or WRITE_ALL");
    expect(text, ", and grant id with READ or READ_ALL");
}

static void test_other_reasons_have_their_advice(void **state)
{
    struct fixture *f = *state;

    f->requirements[0] = (struct pst_requirement){.need = PST_NEED_ADMIN};
    expect(text_of(f), "Bind the caller everywhere to a role with OWNER on ALL.");
    f->facts.disabled = true;
    expect(text_of(f), pst_reason_advice(PST_R_USER_DISABLED));
    f->facts.disabled = false;
    f->question.combining = PST_MOST_SPECIFIC;
    fx_grant(f, 1, "experiment", "11", FX_EDIT);
    fx_ask(f, 0, "experiment", NULL, PST_OP_UPDATE)->id_state = PST_ID_UNKNOWN;
    expect(text_of(f), "deny (needs-lookup): update on experiment/(unknown):");
    expect(text_of(f), "on every experiment in workspace blue");
}

static const char *string(const json_t *json, const char *key)
{
    const char *value = json_string_value(json_object_get(json, key));

    assert_non_null(value);
    return value;
}

static void test_json_of_a_refusal(void **state)
{
    json_t *json = json_of(*state);
    const json_t *requirement = json_object_get(json, "requirement");

    assert_string_equal(string(json, "decision"), "deny");
    assert_string_equal(string(json, "reason"), "not-granted");
    assert_string_equal(string(requirement, "entity"), "Pipeline");
    assert_string_equal(string(requirement, "id"), "p1");
    assert_string_equal(string(requirement, "operation"), "update");
    assert_int_equal(json_array_size(json_object_get(json, "missing")), 3);
    expect(string(json, "remedy"), "role \"editor\"");
    assert_null(json_object_get(json, "role"));
    json_decref(json);
}

static void test_json_of_an_allow(void **state)
{
    struct fixture *f = *state;

    fx_bind(f, 2, BLUE);
    json_t *json = json_of(f);
    assert_string_equal(string(json, "decision"), "allow");
    assert_string_equal(string(json_object_get(json, "role"), "name"), "editor");
    assert_int_equal(json_integer_value(json_object_get(json, "permission")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "binding")), 101);
    assert_string_equal(string(json, "bit"), "UPDATE");
    assert_null(json_object_get(json, "remedy"));
    json_decref(json);
}

/* Bytes of a client are data, also where they try to be more. */
static void test_json_survives_hostile_ids(void **state)
{
    struct fixture *f = *state;

    fx_ask(f, 0, "Pipeline", "\"},\"decision\":\"allow\",\n\x01\xff", PST_OP_UPDATE);
    json_t *json = json_of(f);
    assert_string_equal(string(json, "decision"), "deny");
    json_decref(json);
}

/* A buffer that is too small is told by `full`; nothing is written past it. */
static void test_a_small_buffer(void **state)
{
    struct fixture *f = *state;

    fx_decide(f);
    for (size_t cap = 0; cap < 200; cap++) {
        memset(space, 'z', sizeof(space));
        struct pst_buf out = pst_buf_of(space, cap);
        pst_explain_text(&f->question, PST_DENY, &f->detail, &out);
        assert_true(out.len <= cap && space[cap] == 'z');
        assert_true(out.full);
    }
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_what_is_missing_and_who_has_it),
        CASE(test_the_remedy_helps),
        CASE(test_a_deny_is_named_and_no_role_is_offered),
        CASE(test_an_owners_role_is_offered_last),
        CASE(test_a_summary_names_its_row),
        CASE(test_unbinding_is_offered_where_it_helps),
        CASE(test_what_every_single_one_denies),
        CASE(test_all_that_is_missing_is_told),
        CASE(test_an_attribute_is_named),
        CASE(test_a_grant_takes_its_attributes_along),
        CASE(test_other_reasons_have_their_advice),
        CASE(test_json_of_a_refusal),
        CASE(test_json_of_an_allow),
        CASE(test_json_survives_hostile_ids),
        CASE(test_a_small_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
