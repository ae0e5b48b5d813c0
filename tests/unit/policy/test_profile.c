/* wrap: malloc calloc */
/* Promises of profile.h that need no shipped file: precedence, limits, errors, options, memory. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "json_tree.h"
#include "postern/policy/profile.h"

/* Allocation failure on demand: the linker sends both here. Negative: never fail. */
static int allocations_before_failure = -1;

static bool fails_now(void)
{
    if (allocations_before_failure > 0)
        allocations_before_failure--;
    else if (allocations_before_failure == 0)
        return true;
    return false;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

#define HEAD                                                                                       \
    "'profile':'t','workspace':{'default':'w1','name':{'chars':'a-z0-9','min':1,'max':8}},"        \
    "'classes':{'digits':'0-9'},'entities':{'n':{'ids':'integer'}},"

static struct pst_profile *compile_with(const char *text, const struct pst_profile_options *options,
                                        struct pst_error *error)
{
    struct pst_tree tree;
    struct pst_profile *profile = NULL;

    assert_true(json_tree_quoted(&tree, text));
    if (pst_profile_compile(&tree, NULL, options, &profile, error) != PST_OK)
        assert_null(profile);
    pst_tree_fini(&tree);
    return profile;
}

static struct pst_profile *compile(const char *text)
{
    struct pst_error error = {0};
    struct pst_profile *profile = compile_with(text, NULL, &error);

    if (profile == NULL)
        fail_msg("%s: %s", error.where, error.message);
    return profile;
}

static struct pst_request request_of(const char *method, const char *path)
{
    return (struct pst_request){.method = json_tree_text(method), .path = json_tree_text(path)};
}

/* The operation and id of the first requirement, as "op id"; or the reason. */
static const char *ask(const struct pst_profile *profile, const struct pst_request *request,
                       size_t memory)
{
    static char line[512];
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    pst_profile_route(profile, request, &routed);
    if (routed.refuse != PST_R_INTERNAL)
        return pst_reason_name(routed.refuse);
    pst_arena_init(&arena, 1024, memory);
    pst_profile_extract(profile, &routed, request, &arena, &got);
    if (got.refuse != PST_R_INTERNAL) {
        (void)snprintf(line, sizeof(line), "%s", pst_reason_name(got.refuse));
    } else {
        const struct pst_key *key = &got.requirements[0].keys[0];
        (void)snprintf(line, sizeof(line), "%.*s %s %.*s", (int)key->entity.len,
                       key->entity.ptr == NULL ? "" : key->entity.ptr, pst_op_name(key->op),
                       (int)key->id.len, key->id.len == 0 ? "" : key->id.ptr);
    }
    pst_arena_fini(&arena);
    return line;
}

static void get(const struct pst_profile *profile, const char *path, const char *line)
{
    struct pst_request request = request_of("GET", path);

    assert_string_equal(ask(profile, &request, 1 << 20), line);
}

static void test_the_more_special_template_wins(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':["
                                    "{'GET':'/a/{x...}','need':'tail:$x list'},"
                                    "{'GET':'/a/{x}','need':'any:$x list'},"
                                    "{'GET':'/a/{x:digits}','need':'digits:$x list'},"
                                    "{'GET':'/a/{x}:go','need':'suffix:$x list'},"
                                    "{'GET':'/a/b','need':'literal list'},"
                                    "{'GET':'/a/{x...}/end','need':'ended:$x list'},"
                                    "{'GET':'/a/b/{x}/c','need':'deep:$x list'}]}");

    (void)state;
    get(p, "/a/b", "literal list ");
    get(p, "/a/7", "digits list 7");
    get(p, "/a/7:go", "suffix list 7");
    get(p, "/a/:go", "any list :go");
    get(p, "/a/x", "any list x");
    get(p, "/a/x/y", "tail list x/y");
    get(p, "/a/x/y/end", "ended list x/y");
    get(p, "/a/end", "any list end");
    get(p, "/a/b/x/c", "deep list x");
    get(p, "/a/b/x/d", "tail list b/x/d");
    get(p, "/a/b/x/end", "ended list b/x");
    get(p, "/a", "no-route");
    get(p, "/a/", "no-route");
    get(p, "/a//x", "no-route");
    get(p, "/a/x//y", "no-route");
    pst_profile_destroy(p);
}

/* A path with a segment beyond the class is left to the other templates. */
static void test_a_tail_of_one_class(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':["
                                    "{'GET':'/a/{x:digits...}','need':'tail:$x list'},"
                                    "{'GET':'/b/{x:digits...}/end','need':'ended:$x list'},"
                                    "{'GET':'/{y}/{x...}','need':'other:$x list'}]}");

    (void)state;
    get(p, "/a/7", "tail list 7");
    get(p, "/a/7/8", "tail list 7/8");
    get(p, "/a/7/x", "other list 7/x");
    get(p, "/a/x/7", "other list x/7");
    get(p, "/b/7/8/end", "ended list 7/8");
    get(p, "/b/7/x/end", "other list 7/x/end");
    get(p, "/b/7/8", "other list 7/8");
    get(p, "/a/7/", "no-route");
    pst_profile_destroy(p);
}

static void test_the_path_decides_before_the_method(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':[{'GET':'/a/b','need':'x list'},"
                                    "{'DELETE':'/a/{y}','need':'x list'}]}");
    struct pst_request request = request_of("DELETE", "/a/b");
    struct pst_routed routed;

    (void)state;
    pst_profile_route(p, &request, &routed);
    assert_int_equal(routed.refuse, PST_R_METHOD);
    assert_string_equal(routed.allow, "GET");
    assert_false(routed.refuse_after_identity);
    pst_profile_destroy(p);
}

static void test_a_long_or_winding_path_ends(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/{a...}/x/{b...}/y/{c...}/z','need':'t:$a list'}]}");
    char path[1024] = "";

    (void)state;
    for (int i = 0; i < 120; i++)
        strcat(path, i % 2 == 0 ? "/x" : "/y");
    get(p, path, "no-route");
    path[0] = '\0';
    for (int i = 0; i < 200; i++)
        strcat(path, "/q");
    get(p, path, "no-route");
    get(p, "/1/x/2/y/3/z", "t list 1");
    pst_profile_destroy(p);
}

/* A profile of many routes as a tree. */
static void many_routes(unsigned routes, struct pst_tree *tree)
{
    size_t cap = 400 + (size_t)routes * 64;
    char *text = malloc(cap);

    assert_non_null(text);
    size_t n =
        (size_t)snprintf(text, cap, "{" HEAD "'routes':[{'GET':'/last/{x}','need':'t list'}");
    for (unsigned i = 0; i < routes; i++)
        n += (size_t)snprintf(text + n, cap - n, ",{'GET':'/r%u/{x}/s','need':'t list'}", i);
    (void)snprintf(text + n, cap - n, "]}");
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    assert_true(json_tree_load(tree, text, strlen(text)));
    free(text);
}

static double ns_per_route(unsigned routes)
{
    struct pst_tree tree;
    struct pst_profile *profile;
    struct timespec from, to;

    many_routes(routes, &tree);
    assert_int_equal(pst_profile_compile(&tree, NULL, NULL, &profile, NULL), PST_OK);
    struct pst_request request = request_of("GET", "/last/x");
    struct pst_routed routed = {0};
    double best = 1e9;
    for (int round = 0; round < 9; round++) {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        for (int i = 0; i < 2000; i++)
            pst_profile_route(profile, &request, &routed);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
        double ns =
            ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / 2000;
        best = ns < best ? ns : best;
    }
    assert_non_null(routed.route);
    pst_profile_destroy(profile);
    pst_tree_fini(&tree);
    return best;
}

static void test_a_failed_allocation_is_an_error(void **state)
{
    struct pst_tree tree;
    struct pst_profile *profile = NULL;
    int failures = 0;

    (void)state;
    many_routes(300, &tree);
    while (profile == NULL) {
        struct pst_error error = {0};
        allocations_before_failure = failures++;
        enum pst_status status = pst_profile_compile(&tree, NULL, NULL, &profile, &error);
        allocations_before_failure = -1;
        assert_int_equal(status, profile == NULL ? PST_E_NOMEM : PST_OK);
        assert_true(failures < 1000);
    }
    assert_true(failures > 4);
    pst_profile_destroy(profile);
    pst_tree_fini(&tree);
}

static void test_short_memory_refuses_and_never_asks_less(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'both_cases':true,'compare':true,'routes':[{'POST':'/{a}/{b...}',"
                "'ids':{'x':'body x[]','y':{'from':'query y|z','form':'uuid'}},"
                "'need':['t:$x update','u:$a/$b! list','v:$y use or admin']}]}");
    struct pst_request request = request_of("POST", "/%41b/c%20d");
    unsigned refused = 0;

    (void)state;
    request.has_body = request.body_given = true;
    request.body = PST_LIT("{\"x\":[1,2,3,4,5,6,7,8,9]}");
    request.query = PST_LIT("y=11111111%2D1111-4111-8111-111111111111");
    for (size_t memory = 256; memory < 32768; memory += 128) {
        const char *line = ask(p, &request, memory);
        refused += strcmp(line, "overload") == 0;
        if (strcmp(line, "overload") != 0)
            assert_string_equal(line, "t update 1");
    }
    assert_in_range(refused, 4, 200);
    pst_profile_destroy(p);
}

static void test_matching_does_not_slow_down_with_the_number_of_routes(void **state)
{
    (void)state;
    double few = ns_per_route(4), many = ns_per_route(4000);
    assert_true(many < 3 * few + 200);
}

static void expect_error(const char *text, const char *where, const char *message)
{
    struct pst_error error = {0};
    struct pst_profile *profile = compile_with(text, NULL, &error);

    if (profile != NULL)
        fail_msg("compiled: %s", text);
    if (strstr(error.where, where) == NULL || strstr(error.message, message) == NULL)
        fail_msg("%s: %s", error.where, error.message);
}

static void test_errors_name_place_and_cause(void **state)
{
    (void)state;
    expect_error("{'profile':'t','routes':[]}", "test.json:1", "workspace says");
    expect_error("{" HEAD "'routes':[],'rout':1}", "rout", "");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x list','nede':1}]}", "routes[0].nede",
                 "no such key");
    expect_error("{" HEAD "'routes':[{'GET':'/a'}]}", "routes[0]", "what it needs");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':[]}]}", "routes[0].need", "is due here");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':null}]}", "routes[0].need", "is due here");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':{'x':'y list'}}]}", "routes[0].need",
                 "is due here");
    expect_error("{" HEAD "'routes':[{'GET':'/a','public':true,'need':'x list'}]}", "routes[0]",
                 "never asked");
    expect_error("{" HEAD "'shapes':{'s':{'all':[]}},'routes':[{'GET':'/a','need':'s'}]}", "need",
                 "without a list");
    expect_error("{" HEAD "'routes':[{'GET':'a','need':'x list'}]}", "routes[0]",
                 "begins with '/'");
    expect_error("{" HEAD "'routes':[{'GET':'/{x','need':'x list'}]}", "routes[0]",
                 "'{' without '}'");
    expect_error("{" HEAD "'routes':[{'GET':'/{x}/{x}','need':'x list'}]}", "routes[0]", "twice");
    expect_error("{" HEAD "'routes':[{'GET':'/{x:y}','need':'x list'}]}", "routes[0]", "class");
    expect_error("{" HEAD "'routes':[{'GET':'/{x:digits...}','need':'x list'},"
                 "{'GET':'/{x...}/a','need':'x list'}]}",
                 "routes[1]", "two tails");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x'}]}", "routes[0].need", "no operation");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x fly'}]}", "routes[0].need",
                 "no such operation");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x:$y list'}]}", "routes[0].need",
                 "no such variable");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x list y'}]}", "routes[0].need",
                 "what is this");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x: list'}]}", "routes[0].need",
                 "empty id");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x list'},{'GET':'/a','need':'y list'}]}",
                 "routes[1]", "stands twice");
    expect_error("{" HEAD
                 "'routes':[{'GET':'/{x}','need':'a list'},{'GET':'/{y}','need':'b list'}]}",
                 "routes[1]", "stands twice");
    expect_error("{" HEAD "'routes':[{'GET':'/a','ids':{'x':'nowhere y'},'need':'x list'}]}",
                 "ids.x", "a source is");
    expect_error("{" HEAD "'routes':[{'GET':'/a','ids':{'x':'path y'},'need':'x list'}]}", "ids.x",
                 "no parameter");
    expect_error("{" HEAD "'routes':[{'GET':'/a','accept':['spaces'],'need':'x list'}]}", "accept",
                 "oddity");
    expect_error("{" HEAD "'routes':[{'GET':'/a','attributes':true,'need':'x list'}]}", "routes[0]",
                 "attributes");
    /* What the evaluator could only answer with "internal". */
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x list else y'}]}", "routes[0].need",
                 "deny-overrides asks one key");
    expect_error("{" HEAD "'routes':[{'GET':'/a','need':'x not_denied'}]}", "routes[0].need",
                 "does not ask this");
    /* What would match nothing, or something else than it looks. */
    expect_error("{" HEAD "'routes':[{'GET':'/a/{x}-{y}','need':'x list'}]}", "routes[0]",
                 "a segment has one");
    expect_error("{" HEAD "'routes':[{'GET':'/a/v{x}','need':'x list'}]}", "routes[0]",
                 "begins its segment");
    expect_error("{" HEAD "'routes':[{'GET':'/a?b=1','need':'x list'}]}", "routes[0]", "%3F");
    expect_error("{" HEAD "'routes':[{'GET':'/a b','need':'x list'}]}", "routes[0]", "%20");
    expect_error("{" HEAD "'routes':[{'GET':'/{x}.\xc3\xa9','need':'x list'}]}", "routes[0]",
                 "%C3");
    expect_error("{" HEAD "'routes':[{'GET':'/a//b','need':'x list'}]}", "routes[0]", "empty");
    expect_error("{" HEAD "'routes':[{'GET':'/a/../b','need':'x list'}]}", "routes[0]", "'..'");
    expect_error("{" HEAD "'under':['/v1/'],'routes':[{'GET':'/a','need':'x list'}]}", "routes[0]",
                 "empty");
    expect_error("{" HEAD "'under':'/v1','routes':[{'GET':'/a','need':'x list'}]}", "under",
                 "a list");
    expect_error("{" HEAD "'accept':'semicolon','routes':[{'GET':'/a','need':'x list'}]}", "accept",
                 "a list");
    expect_error("{" HEAD "'operations':{'GETT':'list'},'routes':[{'GET':'/a','need':'x list'}]}",
                 "operations.GETT", "no method");
    expect_error("{" HEAD "'routes':[{'path':'/a','methods':['GET'],'need':'x $op'}]}",
                 "routes[0].need", "say what a method does");
    expect_error("{" HEAD "'routes':[{'GET':'/{x}','ids':{'x':'query x'},'need':'x:$x list'}]}",
                 "ids.x", "names it already");
    expect_error("{'profile':'t','workspace':{'host_suffix':'a.test','name':{'chars':'a-z'}},"
                 "'routes':[]}",
                 "host_suffix", "begins with '.'");
    /* What is not read cannot be asked for. */
    expect_error("{" HEAD "'routes':[{'POST':'/a','body':'stream','ids':{'x':{'from':'body x',"
                 "'missing':'skip'}},'need':['a create','b:$x detail']}]}",
                 "routes[0]", "unread");
    expect_error("{" HEAD "'routes':[{'POST':'/a','body':'none','ids':{'x':'params x'},"
                 "'need':'b:$x detail'}]}",
                 "routes[0]", "unread");
    expect_error("{" HEAD "'shapes':{'s':{'all':['s']}},'routes':[{'GET':'/a','need':'s'}]}",
                 "need", "too deep");
    expect_error(
        "{" HEAD
        "'shapes':{'s':{'params':['p'],'all':['x $p']}},'routes':[{'GET':'/a','need':'s'}]}",
        "need", "lacks a word");
    expect_error("{" HEAD "'routes':[{'GET':'/a','stream_grace_s':3601,'need':'x list'}]}",
                 "stream_grace_s", "3600");
    expect_error("{" HEAD "'routes':[{'GET':'/a','stale_allow_s':301,'need':'x list'}]}",
                 "stale_allow_s", "300");
    expect_error("{" HEAD "'routes':[{'GET':'/a','stale_allow_s':'1m','need':'x list'}]}",
                 "stale_allow_s", "");
}

static void test_only_what_shows_may_be_stale(void **state)
{
    (void)state;
    expect_error("{" HEAD "'routes':[{'POST':'/a','stale_allow_s':5,'need':'x list'}]}",
                 "routes[0]", "GET and HEAD only");
    expect_error("{" HEAD "'routes':[{'path':'/a','methods':{'GET':'list','OPTIONS':'list'},"
                 "'stale_allow_s':5,'need':'x $op'}]}",
                 "routes[0]", "GET and HEAD only");
    expect_error("{" HEAD "'stale_allow_s':5,'routes':[{'GET':'/a','need':'x list'},"
                 "{'DELETE':'/a','need':'x delete'}]}",
                 "routes[1]", "GET and HEAD only");
    expect_error("{" HEAD "'routes':[{'GET':'/a','stale_allow_s':5,'need':['x list','y update']}]}",
                 "routes[0]", "list and show");
}

static void test_seconds_beyond_the_lease(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'stream_grace_s':60,'routes':[{'GET':'/a','need':'x list'},"
                "{'path':'/b','methods':{'GET':'list','HEAD':'list'},'stream_grace_s':0,"
                "'stale_allow_s':300,'need':'x $op'}]}");
    struct pst_request request = request_of("GET", "/a");
    struct pst_routed routed;

    (void)state;
    pst_profile_route(p, &request, &routed);
    assert_int_equal(routed.stream_grace_s, 60);
    assert_int_equal(routed.stale_allow_s, 0);
    request = request_of("HEAD", "/b");
    pst_profile_route(p, &request, &routed);
    assert_int_equal(routed.stream_grace_s, 0);
    assert_int_equal(routed.stale_allow_s, 300);
    request = request_of("GET", "/c");
    pst_profile_route(p, &request, &routed);
    assert_int_equal(routed.stream_grace_s + routed.stale_allow_s, 0);
    pst_profile_destroy(p);
}

static void test_what_could_fall_away_unseen_is_refused(void **state)
{
    (void)state;
    expect_error("{" HEAD "'routes':[{'POST':'/a','ids':{'x':'body x[]','y':'body y[]'},"
                 "'need':'t:$x list or t:$y list'}]}",
                 "need", "second variable");
    expect_error("{" HEAD "'routes':[{'POST':'/a','ids':{'x':'body x[]'},'need':'self $x'}]}",
                 "need", "one value");
    expect_error("{" HEAD "'routes':[{'POST':'/a','lookup':'x','need':'self $x'}]}", "need",
                 "one value");
    expect_error("{" HEAD "'routes':[{'POST':'/a','lookup':'x','need':'if x t list'}]}", "need",
                 "only a look-up");
    expect_error("{" HEAD "'combining':'most-specific',"
                 "'routes':[{'POST':'/a','need':'a|b list else c list or admin'}]}",
                 "need", "choice");
    expect_error("{" HEAD
                 "'routes':[{'GET':'/a','ids':{'e':'query e'},'entity':'e','need':'$e list'}]}",
                 "routes[0]", "parameter of the path");
}

static void test_each_value_of_many_is_asked(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':[{'POST':'/a',"
                                    "'need':['n:$x list','self $u or n:$x update'],"
                                    "'ids':{'x':'body x[]','u':'body u'}}]}");
    struct pst_request request = request_of("POST", "/a");
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    (void)state;
    request.has_body = request.body_given = true;
    request.body = PST_LIT("{\"x\":[1,\"2\",3],\"u\":\"me\"}");
    pst_profile_route(p, &request, &routed);
    assert_true(routed.inspect_body);
    pst_arena_init(&arena, 1024, 1 << 20);
    pst_profile_extract(p, &routed, &request, &arena, &got);
    assert_int_equal(got.refuse, PST_R_INTERNAL);
    assert_int_equal(got.requirement_count, 3 + 3 * 2);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(got.requirements[i].keys[0].id.ptr[0], '1' + (int)i);
        assert_true(got.requirements[3 + 2 * i].or_next);
        assert_false(got.requirements[4 + 2 * i].or_next);
        assert_int_equal(got.requirements[4 + 2 * i].keys[0].id.ptr[0], '1' + (int)i);
    }
    pst_arena_fini(&arena);
    pst_profile_destroy(p);
}

static void test_an_alternative_that_falls_away_does_not_join_what_follows(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':[{'GET':'/a','ids':{'u':'query u',"
                                    "'x':{'from':'query x','missing':'skip'}},"
                                    "'need':['self $u or n:$x list','m list']}]}");
    struct pst_request request = request_of("GET", "/a");
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    (void)state;
    request.query = PST_LIT("u=me");
    pst_arena_init(&arena, 1024, 1 << 16);
    pst_profile_route(p, &request, &routed);
    pst_profile_extract(p, &routed, &request, &arena, &got);
    assert_int_equal(got.requirement_count, 2);
    assert_int_equal(got.requirements[0].need, PST_NEED_SELF);
    assert_false(got.requirements[0].or_next);
    pst_arena_fini(&arena);
    pst_profile_destroy(p);
}

static void test_limits(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'POST':'/a','ids':{'x':'body x[]'},'need':'t:$x list'}]}");
    struct pst_request request = request_of("POST", "/a");
    char *body = malloc(16384);
    size_t n = 0;

    (void)state;
    assert_non_null(body);
    n += (size_t)snprintf(body + n, 16384 - n, "{\"x\":[0");
    for (int i = 1; i < 1000; i++)
        n += (size_t)snprintf(body + n, 16384 - n, ",%d", i);
    n += (size_t)snprintf(body + n, 16384 - n, "]}");
    request.has_body = request.body_given = true;
    request.body = pst_bytes_of(body, n);
    assert_string_equal(ask(p, &request, 4 << 20), "t list 0");
    assert_string_equal(ask(p, &request, 4096), "overload");
    n = (size_t)snprintf(body + n - 2, 16384 - n, ",1]}") + n - 2;
    request.body.len = n;
    assert_string_equal(ask(p, &request, 4 << 20), "bad-request");
    free(body);
    pst_profile_destroy(p);
}

static void test_the_body_is_needed_where_it_is_announced(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'POST':'/a','ids':{'x':'body x'},'need':'t:$x list'},"
                "{'POST':'/none','body':'none','need':'t list'}]}");
    struct pst_request request = request_of("POST", "/a");

    (void)state;
    request.has_body = true;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-body");
    request.has_body = false;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-id");
    request = request_of("POST", "/none");
    request.has_body = true;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-body");
    pst_profile_destroy(p);
}

static void test_shadow_is_an_option_and_a_key(void **state)
{
    struct pst_profile_options options = {.shadow = true};
    struct pst_error error = {0};
    const char *text =
        "{" HEAD
        "'routes':[{'GET':'/a','need':'t list'},{'GET':'/b','shadow':true,'need':'t list'}]}";
    struct pst_profile *all = compile_with(text, &options, &error), *one = compile(text);
    struct pst_request a = request_of("GET", "/a"), b = request_of("GET", "/b");
    struct pst_routed routed;

    (void)state;
    assert_non_null(all);
    pst_profile_route(all, &a, &routed);
    assert_true(routed.shadow);
    pst_profile_route(one, &a, &routed);
    assert_false(routed.shadow);
    pst_profile_route(one, &b, &routed);
    assert_true(routed.shadow);
    /* A profile in shadow mode passes what none of its routes takes; one route does not. */
    struct pst_request none = request_of("GET", "/c"), method = request_of("PUT", "/b"),
                       other = request_of("PUT", "/a");
    pst_profile_route(all, &none, &routed);
    assert_true(routed.refuse == PST_R_NO_ROUTE && routed.shadow);
    pst_profile_route(all, &method, &routed);
    assert_true(routed.refuse == PST_R_METHOD && routed.shadow);
    pst_profile_route(one, &none, &routed);
    assert_true(routed.refuse == PST_R_NO_ROUTE && !routed.shadow);
    pst_profile_route(one, &method, &routed);
    assert_true(routed.refuse == PST_R_METHOD && routed.shadow);
    pst_profile_route(one, &other, &routed);
    assert_true(routed.refuse == PST_R_METHOD && !routed.shadow);
    pst_profile_destroy(all);
    pst_profile_destroy(one);
}

static void test_oddities_a_route_accepts(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/a/{x}','accept':['encoded-slash'],'need':'t:$x list'},"
                "{'GET':'/b/','need':'t list'},{'GET':'/c/{x}','need':'t:$x list'}]}");
    struct pst_request request = request_of("GET", "/a/1%2F2");

    (void)state;
    request.oddities = PST_ODD_ENCODED_SLASH;
    assert_string_equal(ask(p, &request, 1 << 20), "t list 1/2");
    request.oddities |= PST_ODD_SEMICOLON;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-target");
    request = request_of("GET", "/c/1%2F2");
    request.oddities = PST_ODD_ENCODED_SLASH;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-target");
    request = request_of("GET", "/b/");
    request.oddities = PST_ODD_TRAILING_SLASH;
    assert_string_equal(ask(p, &request, 1 << 20), "t list ");
    pst_profile_destroy(p);
}

static void test_the_workspace_of_a_host(void **state)
{
    struct pst_profile *p =
        compile("{'profile':'t','workspace':{'host_suffix':'.x.test','name':{'chars':'a-z'}},"
                "'routes':[{'GET':'/a','need':'t list'}]}");
    struct pst_request request = request_of("GET", "/a");

    (void)state;
    request.host = PST_LIT("blue.x.test:8080");
    assert_string_equal(ask(p, &request, 1 << 20), "t list ");
    request.host = PST_LIT("x.test");
    assert_string_equal(ask(p, &request, 1 << 20), "bad-workspace");
    request.host = PST_LIT("a.b.x.test");
    assert_string_equal(ask(p, &request, 1 << 20), "bad-workspace");
    request.host = PST_LIT("blue.y.test");
    assert_string_equal(ask(p, &request, 1 << 20), "bad-workspace");
    pst_profile_destroy(p);
}

static void test_exactly_one_of_two(void **state)
{
    struct pst_profile *p = compile(
        "{" HEAD "'routes':[{'GET':'/a','one_of':['x','y'],"
        "'ids':{'x':{'from':'query x','missing':'skip'},'y':{'from':'query y','missing':'skip'}},"
        "'need':['if x r list','if y m list']}]}");
    struct pst_request request = request_of("GET", "/a");

    (void)state;
    assert_string_equal(ask(p, &request, 1 << 20), "bad-id");
    request.query = PST_LIT("x=1&y=2");
    assert_string_equal(ask(p, &request, 1 << 20), "bad-id");
    request.query = PST_LIT("x=1");
    assert_string_equal(ask(p, &request, 1 << 20), "r list ");
    request.query = PST_LIT("y=1");
    assert_string_equal(ask(p, &request, 1 << 20), "m list ");
    pst_profile_destroy(p);
}

/* An app that reads "x" finds none in "x[]=1": that may ask for more, and never for less. */
static void test_brackets_of_a_query_key(void **state)
{
    static const struct {
        const char *var, *query, *line;
    } cases[] = {
        {"'query x'", "x=1", "t list 1"},
        {"'query x'", "x[]=1", "ambiguous"},
        {"'query x'", "x=1&x[]=1", "ambiguous"},
        {"{'from':'query x','missing':'skip'}", "x[]=1", "t list 1"},
        {"{'from':'query x','missing':'unknown'}", "x[]=1", "ambiguous"},
        {"{'from':'query x','missing':'admin'}", "x[]=1", "ambiguous"},
        {"'query x[]'", "x[]=1&x[]=2", "t list 1"},
        {"{'from':'query x[]','missing':'admin'}", "x[]=1", "ambiguous"},
        {"{'from':'query x[]','missing':'admin'}", "x=1", "t list 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        (void)snprintf(text, sizeof(text),
                       "{" HEAD "'routes':[{'GET':'/a','ids':{'x':%s},'need':'t:$x list'}]}",
                       cases[i].var);
        struct pst_profile *p = compile(text);
        struct pst_request request = request_of("GET", "/a");
        request.query = pst_bytes_of(cases[i].query, strlen(cases[i].query));
        assert_string_equal(ask(p, &request, 1 << 20), cases[i].line);
        pst_profile_destroy(p);
    }
}

static void test_something_is_always_asked(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/a',"
                "'ids':{'x':{'from':'query x','missing':'skip'}},'need':'t:$x list'}]}");
    struct pst_request request = request_of("GET", "/a");
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    (void)state;
    pst_arena_init(&arena, 1024, 1 << 16);
    pst_profile_route(p, &request, &routed);
    pst_profile_extract(p, &routed, &request, &arena, &got);
    assert_int_equal(got.requirement_count, 1);
    assert_int_equal(got.requirements[0].need, PST_NEED_AUTHENTICATED);
    pst_arena_fini(&arena);
    pst_profile_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_more_special_template_wins),
        cmocka_unit_test(test_a_tail_of_one_class),
        cmocka_unit_test(test_the_path_decides_before_the_method),
        cmocka_unit_test(test_a_long_or_winding_path_ends),
        cmocka_unit_test(test_matching_does_not_slow_down_with_the_number_of_routes),
        cmocka_unit_test(test_a_failed_allocation_is_an_error),
        cmocka_unit_test(test_short_memory_refuses_and_never_asks_less),
        cmocka_unit_test(test_errors_name_place_and_cause),
        cmocka_unit_test(test_only_what_shows_may_be_stale),
        cmocka_unit_test(test_seconds_beyond_the_lease),
        cmocka_unit_test(test_what_could_fall_away_unseen_is_refused),
        cmocka_unit_test(test_each_value_of_many_is_asked),
        cmocka_unit_test(test_an_alternative_that_falls_away_does_not_join_what_follows),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_the_body_is_needed_where_it_is_announced),
        cmocka_unit_test(test_shadow_is_an_option_and_a_key),
        cmocka_unit_test(test_oddities_a_route_accepts),
        cmocka_unit_test(test_the_workspace_of_a_host),
        cmocka_unit_test(test_exactly_one_of_two),
        cmocka_unit_test(test_brackets_of_a_query_key),
        cmocka_unit_test(test_something_is_always_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
