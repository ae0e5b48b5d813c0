/* A list in a body or a query: the app may act on each of its elements, so one that lacks what the
 * profile reads is asked about as a request without it is, beside those that have it. */
#include "../test.h"

#include "profile_world.h"

struct element_case {
    const char *x, *need, *body, *line;
};

static struct pst_profile *profile_of(const char *x, const char *need)
{
    char text[1024];
    struct pst_error error = {0};

    (void)snprintf(
        text, sizeof(text),
        "{profile: t, combining: most-specific, workspace: {default: w, name: {chars: a-z}},"
        " routes: [{methods: [GET, POST], path: /a, need: %s, ids: {x: %s,"
        " u: {from: header u, missing: skip}}}]}",
        need, x);
    struct pst_profile *profile = world_load_text(text, NULL, &error);
    if (profile == NULL)
        fail_msg("%s: %s (%s)", error.where, error.message, text);
    return profile;
}

/* Single quotes of `body` stand for double ones, so that texts read well in C. */
static void check(const struct element_case *c, const char *method, const char *query,
                  const char *body)
{
    struct pst_profile *profile = profile_of(c->x, c->need);
    char sent[256];
    struct world_ask ask = {.method = method, .path = "/a", .query = query, .body = sent};

    (void)snprintf(sent, sizeof(sent), "%s", body == NULL ? "" : body);
    for (char *at = sent; *at != '\0'; at++)
        *at = *at == '\'' ? '"' : *at;
    if (body == NULL)
        ask.body = NULL;
    const char *line = world_line_of(profile, &ask);

    if (strcmp(line, c->line) != 0)
        fail_msg("%s, %s, %s: '%s', due is '%s'", c->x, c->need, body == NULL ? query : body, line,
                 c->line);
    pst_profile_destroy(profile);
}

static void check_bodies(const struct element_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(&cases[i], "POST", NULL, cases[i].body);
}

#define COUNT(cases)  (sizeof(cases) / sizeof((cases)[0]))
#define MISSING(rule) "{from: \"body a[].x\", missing: " rule "}"
#define NONE_SENT     "ws=w; authenticated"

static void test_an_element_that_lacks_it_is_as_a_request_that_does(void **state)
{
    static const struct element_case cases[] = {
        {"\"body a[].x\"", "t:$x list", "{'a':[{'x':1},{'x':2}]}", "ws=w; t:1 list; t:2 list"},
        {"\"body a[].x\"", "t:$x list", "{'a':[{'x':1},{}]}", "bad-id:x"},
        {"\"body a[].x\"", "t:$x list", "{'a':[{},{'x':1}]}", "bad-id:x"},
        {"\"body a[].x\"", "t:$x list", "{'a':[{'x':1},{'x':null}]}", "bad-id:x"},
        {"\"body a[].x\"", "t:$x list", "{'a':[{'x':1},{'y':2}]}", "bad-id:x"},
        {"\"body a[].x\"", "t:$x list", "{'a':[]}", "bad-id:x"},
        {MISSING("admin"), "t:$x list", "{'a':[{'x':1},{}]}", "ws=w; t:1 list; admin"},
        {MISSING("admin"), "t:$x list", "{'a':[{},{}]}", "ws=w; admin"},
        {MISSING("admin"), "t:$x list", "{'a':[{'x':1},{},{'x':2},{}]}",
         "ws=w; t:1 list; t:2 list; admin"},
        {MISSING("admin"), "t:$x list", "{'a':[]}", "ws=w; admin"},
        {MISSING("admin"), "t:$x list", "{}", "ws=w; admin"},
        {MISSING("\"filter t:? list\""), "t:$x list", "{'a':[{'x':1},{}]}",
         "ws=w; t:1 list; <needs-filter>t:? list"},
        {MISSING("unknown"), "[t:$x list, \"t:1/$x list\", u list]", "{'a':[{'x':1},{}]}",
         "ws=w; t:1 list; t:? list; t:1/1 list; t:? list; u list"},
        {MISSING("unknown"), "t:$x list", "{'a':[{}]}", "ws=w; t:? list"},
    };

    (void)state;
    check_bodies(cases, COUNT(cases));
}

/* What is there is asked all the same; an alternative that does not need it is asked of the rest.
 */
static void test_what_is_skipped_is_skipped_for_its_element_alone(void **state)
{
    static const struct element_case cases[] = {
        {MISSING("skip"), "t:$x list", "{'a':[{'x':1},{}]}", "ws=w; t:1 list"},
        {MISSING("skip"), "t:$x list", "{'a':[{}]}", NONE_SENT},
        {MISSING("skip"), "if x u list", "{'a':[{'x':1},{}]}", "ws=w; u list"},
        {MISSING("skip"), "u update or t:$x list", "{'a':[{'x':1},{},{'x':2}]}",
         "ws=w; u update | t:1 list; u update | t:2 list; u update"},
        {MISSING("skip"), "u update or t:$x list", "{'a':[{'x':1}]}", "ws=w; u update | t:1 list"},
        {MISSING("admin"), "u update or t:$x list", "{'a':[{'x':1},{}]}",
         "ws=w; u update | t:1 list; u update; admin"},
    };

    (void)state;
    check_bodies(cases, COUNT(cases));
}

static void test_elements_may_be_refused_where_a_request_without_any_is_not(void **state)
{
#define EACH "{from: \"body a[].x\", missing: skip, lacking: refuse}"
    static const struct element_case cases[] = {
        {EACH, "if x u list", "{'a':[{'x':1}]}", "ws=w; u list"},
        {EACH, "if x u list", "{'a':[{'x':1},{}]}", "bad-id:x"},
        {EACH, "if x u list", "{'a':[{}]}", "bad-id:x"},
        {EACH, "if x u list", "{'a':[]}", NONE_SENT},
        {EACH, "if x u list", "{}", NONE_SENT},
    };
    struct pst_error error = {0};

    (void)state;
    check_bodies(cases, COUNT(cases));
    assert_null(
        world_load_text("{profile: t, workspace: {default: w, name: {chars: a-z}}, routes: ["
                        "{POST: /a, need: t list, ids: {x: {from: body x, lacking: refuse}}}]}",
                        NULL, &error));
    assert_non_null(strstr(error.message, "lacking"));
}

static void test_an_empty_text_is_none_where_the_profile_says_so(void **state)
{
    static const struct element_case cases[] = {
        {"{from: \"body a[].x\", missing: admin, empty: absent}", "t:$x list",
         "{'a':[{'x':1},{'x':''}]}", "ws=w; t:1 list; admin"},
        {"{from: \"body a[]\", missing: admin, empty: absent}", "t:$x list", "{'a':['1','']}",
         "ws=w; t:1 list; admin"},
        {"{from: \"body a[].x\", empty: absent}", "t:$x list", "{'a':[{'x':1},{'x':''}]}",
         "bad-id:x"},
        {MISSING("admin"), "t:$x list", "{'a':[{'x':1},{'x':''}]}", "bad-id:x"},
        {"{from: \"body x|y\", empty: absent}", "t:$x list", "{'x':'','y':1}", "ws=w; t:1 list"},
    };

    (void)state;
    check_bodies(cases, COUNT(cases));
}

static void test_other_shapes_than_the_profile_says_are_refused(void **state)
{
    static const char *const bodies[] = {
        "{'a':{'x':1}}",        "{'a':'x'}",         "{'a':1}",
        "{'a':true}",           "{'a':[{'x':1},1]}", "{'a':[{'x':1},[]]}",
        "{'a':[{'x':1},null]}", "{'a':[[{'x':1}]]}", "{'a':[{'x':{}}]}",
        "{'a':[{'x':[1]}]}",    "{'a':[{'x':1.5}]}",
    };
    static const char *const rules[] = {MISSING("refuse"), MISSING("skip"), MISSING("unknown"),
                                        MISSING("admin")};

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++)
        for (size_t k = 0; k < COUNT(rules); k++) {
            struct element_case c = {rules[k], "t:$x list", NULL, "bad-id:a[].x"};
            check(&c, "POST", NULL, bodies[i]);
        }
    struct element_case twice = {MISSING("skip"), "t:$x list", NULL,
                                 "bad-body:not one JSON object with distinct keys"};
    check(&twice, "POST", NULL, "{'a':[{'x':1,'x':2}]}");
    check(&twice, "POST", NULL, "{'a':[{'x':1}],'a':[]}");
}

static void test_lists_in_lists(void **state)
{
#define DEEP "{from: \"body a[].b[].x\", missing: admin}"
    static const struct element_case cases[] = {
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1},{'x':2}]},{'b':[{'x':3}]}]}",
         "ws=w; t:1 list; t:2 list; t:3 list"},
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1},{}]},{'b':[{'x':3}]}]}",
         "ws=w; t:1 list; t:3 list; admin"},
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1}]},{}]}", "ws=w; t:1 list; admin"},
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1}]},{'b':[]}]}", "ws=w; t:1 list; admin"},
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1}]},{'b':null}]}", "ws=w; t:1 list; admin"},
        {DEEP, "t:$x list", "{'a':[{'b':[{'x':1}]},{'b':{'x':2}}]}", "bad-id:a[].b[].x"},
        {"{from: \"body a[].b.x\", missing: admin}", "t:$x list",
         "{'a':[{'b':{'x':1}},{'b':{}},{}]}", "ws=w; t:1 list; admin"},
    };

    (void)state;
    check_bodies(cases, COUNT(cases));
}

/* By which of the names does not matter, as long as they walk over the same list. */
static void test_an_element_may_have_it_by_another_name(void **state)
{
#define NAMES "{from: \"body a[].x|a[].y.z|b[].x\", missing: admin}"
    static const struct element_case cases[] = {
        {NAMES, "t:$x list", "{'a':[{'x':1},{'y':{'z':2}}]}", "ws=w; t:1 list; t:2 list"},
        {NAMES, "t:$x list", "{'a':[{'x':1},{'y':{'z':2}},{}]}", "ws=w; t:1 list; t:2 list; admin"},
        {NAMES, "t:$x list", "{'a':[{'x':1},{'y':{}}]}", "ws=w; t:1 list; admin"},
        {NAMES, "t:$x list", "{'a':[{'x':1,'y':{'z':2}},{}]}", "ws=w; t:1 list; t:2 list; admin"},
        {NAMES, "t:$x list", "{'a':[{}],'b':[{'x':3}]}", "ws=w; t:3 list; admin"},
        {NAMES, "t:$x list", "{'a':[{'x':1}],'b':[]}", "ws=w; t:1 list"},
        {"{from: \"body a[].b[].x|a[].b[].y|a[].z\", missing: admin}", "t:$x list",
         "{'a':[{'b':[{'x':1},{'y':2}]},{'z':3}]}", "ws=w; t:1 list; t:2 list; t:3 list"},
        {"{from: \"body a[].b[].x|a[].z\", missing: admin}", "t:$x list",
         "{'a':[{'b':[{'x':1},{}],'z':3}]}", "ws=w; t:1 list; t:3 list; admin"},
    };

    (void)state;
    check_bodies(cases, COUNT(cases));
}

/* An app that reads the first, or the last, may read the empty one. */
static void test_an_empty_value_beside_another_in_the_query(void **state)
{
#define EMPTY(name, rule) "{from: \"query " name "\", empty: absent, missing: " rule "}"
    static const struct element_case cases[] = {
        {EMPTY("x[]", "admin"), "t:$x list", "x=1&x=", "ws=w; t:1 list; admin"},
        {EMPTY("x[]", "admin"), "t:$x list", "x=1&x=2", "ws=w; t:1 list; t:2 list"},
        {EMPTY("x[]", "unknown"), "t:$x list", "x=&x=1", "ws=w; t:1 list; t:? list"},
        {EMPTY("x[]", "refuse"), "t:$x list", "x=&x=1", "bad-id:x"},
        {EMPTY("x[]", "skip"), "t:$x list", "x=&x=1", "ws=w; t:1 list"},
        {EMPTY("x", "admin"), "t:$x list", "x=1&x=", "ambiguous:x"},
        {EMPTY("x", "unknown"), "t:$x list", "x=&x=1", "ambiguous:x"},
        {EMPTY("x", "skip"), "t:$x list", "x=&x=1", "ambiguous:x"},
        {EMPTY("x", "admin"), "t:$x list", "x=&x=", "ws=w; admin"},
        {EMPTY("x", "admin"), "t:$x list", "x=1&x=1", "ws=w; t:1 list"},
        {EMPTY("x|y", "admin"), "t:$x list", "x=&y=1", "ws=w; t:1 list"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        check(&cases[i], "GET", cases[i].body, NULL);
}

/* Only the first of many would lead there. */
static void test_many_values_lead_to_no_workspace_and_no_inner_path(void **state)
{
    static const char *const texts[] = {
        "{profile: t, workspace: {default: w, name: {chars: a-z}}, routes: [{POST: /a, need: t "
        "list,"
        " ids: {workspace: \"body a[].ws\"}}]}",
        "{profile: t, workspace: {default: w, name: {chars: a-z}}, routes: [{POST: /a, ids: {p: "
        "\"body"
        " a[].p\"}, inner: {value: p, paths: z}}], inner: {z: [{path: /x, need: t list}]}}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct pst_error error = {0};
        assert_null(world_load_text(texts[i], NULL, &error));
        assert_non_null(strstr(error.message, "one value is due"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_element_that_lacks_it_is_as_a_request_that_does),
        cmocka_unit_test(test_what_is_skipped_is_skipped_for_its_element_alone),
        cmocka_unit_test(test_elements_may_be_refused_where_a_request_without_any_is_not),
        cmocka_unit_test(test_an_empty_text_is_none_where_the_profile_says_so),
        cmocka_unit_test(test_other_shapes_than_the_profile_says_are_refused),
        cmocka_unit_test(test_lists_in_lists),
        cmocka_unit_test(test_an_element_may_have_it_by_another_name),
        cmocka_unit_test(test_an_empty_value_beside_another_in_the_query),
        cmocka_unit_test(test_many_values_lead_to_no_workspace_and_no_inner_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
