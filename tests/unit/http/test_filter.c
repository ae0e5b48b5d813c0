/* The field filter: H9 by its folding, the Connection rules, and what an upstream may not say. */
#include "../test.h"

#include "feed.h"

#include "postern/http/filter.h"

static struct pst_filter filter;

static int set_up(void **state)
{
    (void)state;
    pst_filter_init(&filter);
    assert_int_equal(pst_filter_add(&filter, PST_LIT("X-Workspace")), PST_OK);
    assert_int_equal(pst_filter_add(&filter, PST_LIT("X-Tenant-*")), PST_OK);
    assert_int_equal(pst_filter_add(&filter, PST_LIT("Referer")), PST_OK);
    return 0;
}

/* A head with one field of this name and one Connection field, as the parser would fill it. */
static const struct pst_head *head_of(const char *name, const char *value, const char *connection)
{
    static struct pst_head head;

    memset(&head, 0, sizeof(head));
    head.fields[0].name = pst_bytes_of(name, strlen(name));
    head.fields[0].value = pst_bytes_of(value, strlen(value));
    head.fields[1].name = PST_LIT("Connection");
    head.fields[1].value = pst_bytes_of(connection, strlen(connection));
    head.ids[0] = (uint8_t)pst_field_id_of(head.fields[0].name);
    head.ids[1] = PST_FIELD_CONNECTION;
    for (size_t i = 0; i < 2; i++) {
        head.before[i] = head.last[head.ids[i]];
        head.last[head.ids[i]] = (uint8_t)(i + 1);
    }
    head.count = 2;
    head.connection_names = true;
    return &head;
}

static void assert_request(enum pst_field_action want, const char *const *names)
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (pst_filter_request(&filter, head_of(names[i], "v", ""), 0) != want)
            fail_msg("wrong action for %s", names[i]);
}

static void assert_response(enum pst_field_action want, const char *const *names)
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (pst_filter_response(&filter, head_of(names[i], "v", ""), 0) != want)
            fail_msg("wrong action for %s", names[i]);
}

static void test_folding(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"X-Postern-User", "x-postern-user"},
        {"X__Postern..User", "x-postern-user"},
        {"-_X-Postern-User._", "x-postern-user"},
        {"HTTP_X_POSTERN_USER", "x-postern-user"},
        {"http.x-_-postern.user", "x-postern-user"},
        {"_HTTP_HTTP_Host", "http-host"},
        {"HTTP", "http"},
        {"HTTP-", "http"},
        {"HTTP2-Settings", "http2-settings"},
        {"-_.", ""},
        {"Content~Length", "content~length"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char space[64];
        struct pst_bytes got =
            pst_name_fold(pst_bytes_of(cases[i][0], strlen(cases[i][0])), space, sizeof(space));

        assert_int_equal(got.len, strlen(cases[i][1]));
        assert_memory_equal(got.ptr, cases[i][1], got.len);
    }
}

static void test_protected_names_are_dropped(void **state)
{
    (void)state;
    static const char *const names[] = {"Authorization",
                                        "Forwarded",
                                        "X-Real-IP",
                                        "X-Host",
                                        "Base-Url",
                                        "Destination",
                                        "Remote-User",
                                        "REMOTE-ADDR",
                                        "X-Remote-User",
                                        "X-Postern-User",
                                        "X-Postern-Anything",
                                        "X-Forwarded-For",
                                        "X-Forwarded-User",
                                        "X-Forwarded-Whatever",
                                        "X-Auth-Request-Email",
                                        "X-Authenticated-User",
                                        "X-User-Id",
                                        "X-Original-URL",
                                        "X-Original-Anything",
                                        "X-Rewrite-URL",
                                        "X-Envoy-Internal",
                                        "X-Accel-Redirect",
                                        "X-Sendfile",
                                        "X-Script-Name",
                                        "X-SSL-Client-Verify",
                                        "X-Webauth-User",
                                        "X-Goog-Authenticated-User-Email",
                                        "X-HTTP-Method",
                                        "X-HTTP-Method-Override",
                                        "X-HTTP-Methods",
                                        "X-Method-Override",
                                        "X-Workspace",
                                        "x-workspace",
                                        "X-Tenant-Id",
                                        "Referer",
                                        NULL};

    assert_request(PST_FIELD_DROP, names);
    for (size_t i = 0; names[i] != NULL; i++)
        assert_true(pst_filter_is_protected(&filter, pst_bytes_of(names[i], strlen(names[i]))));
}

/* Whatever an app may fold to a protected or standard name. */
static void test_other_spellings_are_dropped(void **state)
{
    (void)state;
    static const char *const names[] = {"X_Postern_User",
                                        "X-Postern_User",
                                        "X.Postern.User",
                                        "X--Postern-User",
                                        "-X-Postern-User",
                                        "X-Postern-User-",
                                        "HTTP_X_POSTERN_USER",
                                        "HTTP-X-Postern-User",
                                        "Http-Remote-User",
                                        "X_Workspace",
                                        "X.Workspace",
                                        "X-Workspace.",
                                        "Content_Length",
                                        "Content.Length",
                                        "Content--Length",
                                        "HTTP-Host",
                                        "Transfer.Encoding",
                                        "Host-",
                                        ".Host",
                                        "Cookie.",
                                        "Any_Name",
                                        "_",
                                        "X.Forwarded.For",
                                        "Proxy.Authorization",
                                        "Http-Proxy",
                                        NULL};

    assert_request(PST_FIELD_DROP, names);
}

static void test_hop_by_hop_ends_here(void **state)
{
    (void)state;
    static const char *const names[] = {"Connection",
                                        "Keep-Alive",
                                        "TE",
                                        "Trailer",
                                        "Transfer-Encoding",
                                        "Upgrade",
                                        "HTTP2-Settings",
                                        "Proxy",
                                        "Proxy-Connection",
                                        "Proxy-Authorization",
                                        "Proxy-Authenticate",
                                        "Proxy-Anything",
                                        "Host",
                                        "Content-Length",
                                        "Expect",
                                        NULL};

    assert_request(PST_FIELD_DROP, names);
}

static void test_ordinary_names_pass(void **state)
{
    (void)state;
    static const char *const names[] = {"Accept",
                                        "Content-Type",
                                        "Content-Encoding",
                                        "User-Agent",
                                        "Cookie",
                                        "X-Request-Id",
                                        "traceparent",
                                        "tracestate",
                                        "Range",
                                        "If-Match",
                                        "Sec-Fetch-Mode",
                                        "X-Custom",
                                        "X-Requested-With",
                                        "X-Work",
                                        "X-Workspaces",
                                        "X-Tenants",
                                        "Remoteness",
                                        "X-Hosts",
                                        "X-Acceleration",
                                        "X.Custom",
                                        "DNT",
                                        "Origin",
                                        "X",
                                        "a",
                                        "HTTP-Custom",
                                        "Proxies",
                                        "X-Forwarder",
                                        "!",
                                        NULL};

    assert_request(PST_FIELD_PASS, names);
}

/* A long name cannot hide a protected beginning. */
static void test_long_names(void **state)
{
    (void)state;
    static char name[4000];

    memset(name, 'a', sizeof(name) - 1);
    memcpy(name, "X-Postern-", 10);
    assert_int_equal(pst_filter_request(&filter, head_of(name, "", ""), 0), PST_FIELD_DROP);
    memset(name, '-', sizeof(name) - 1);
    memcpy(name + sizeof(name) - 11, "X-User-Id", 9);
    assert_int_equal(pst_filter_request(&filter, head_of(name, "", ""), 0), PST_FIELD_DROP);
    memset(name, 'a', sizeof(name) - 1);
    assert_int_equal(pst_filter_request(&filter, head_of(name, "", ""), 0), PST_FIELD_PASS);
}

static void test_connection_may_name_only_ordinary_fields(void **state)
{
    (void)state;
    static const char *const refused[] = {"Authorization",
                                          "Host",
                                          "X-Postern-User",
                                          "x-postern-workspace, keep-alive",
                                          "Forwarded",
                                          "Content-Type",
                                          "Range",
                                          "close, X-Postern-User",
                                          "Cookie",
                                          "X-Request-Id",
                                          "traceparent",
                                          "tracestate",
                                          "Transfer-Encoding",
                                          "Content-Length",
                                          "X-Workspace",
                                          "X_Workspace",
                                          "X_Postern_User",
                                          "HTTP_Authorization",
                                          "X-Tenant-Id",
                                          "Trailer",
                                          "Expect",
                                          "Content.Length",
                                          "Cookie-",
                                          NULL};
    static const char *const fine[] = {
        "close", "keep-alive, Upgrade, te", "Upgrade, HTTP2-Settings", "X-Custom", "a, b, c", "",
        NULL};
    struct pst_fault fault;

    for (size_t i = 0; refused[i] != NULL; i++) {
        fault = (struct pst_fault){0};
        if (pst_filter_connection(&filter, head_of("A", "", refused[i]), &fault))
            fail_msg("accepted: %s", refused[i]);
        assert_int_equal(fault.status, 400);
    }
    for (size_t i = 0; fine[i] != NULL; i++)
        if (!pst_filter_connection(&filter, head_of("A", "", fine[i]), &fault))
            fail_msg("refused: %s", fine[i]);
}

static void test_connection_names_a_bounded_number(void **state)
{
    (void)state;
    char list[200] = "a";
    struct pst_fault fault;

    for (size_t n = 1; n < 32; n++)
        memcpy(list + 2 * n - 1, ",a", 3);
    assert_true(pst_filter_connection(&filter, head_of("A", "", list), &fault));
    memcpy(list + 63, ",a", 3);
    assert_false(pst_filter_connection(&filter, head_of("A", "", list), &fault));
}

static void test_named_fields_are_dropped(void **state)
{
    (void)state;
    assert_int_equal(pst_filter_request(&filter, head_of("X-Custom", "", "close, x-CUSTOM"), 0),
                     PST_FIELD_DROP);
    assert_int_equal(pst_filter_response(&filter, head_of("X-Custom", "", "close, x-CUSTOM"), 0),
                     PST_FIELD_DROP);
    assert_int_equal(pst_filter_request(&filter, head_of("X-Custom", "", "x-custo"), 0),
                     PST_FIELD_PASS);
}

static void test_answers(void **state)
{
    (void)state;
    static const char *const dropped[] = {"X-Postern-User",
                                          "x_postern_user",
                                          "X-Accel-Redirect",
                                          "X-Accel-Anything",
                                          "X-Sendfile",
                                          "X.Sendfile",
                                          "Connection",
                                          "Keep-Alive",
                                          "Transfer-Encoding",
                                          "Content-Length",
                                          "Upgrade",
                                          "Trailer",
                                          "TE",
                                          "Proxy-Connection",
                                          "Proxy-Authenticate",
                                          "Content_Length",
                                          "Content.Type",
                                          "HTTP-Location",
                                          NULL};
    static const char *const passed[] = {
        "Content-Type",    "Set-Cookie", "Location", "Server",           "Date",
        "X-Request-Id",    "X-Custom",   "X_Custom", "WWW-Authenticate", "Authorization",
        "X-Forwarded-For", "ETag",       NULL};

    assert_response(PST_FIELD_DROP, dropped);
    assert_response(PST_FIELD_PASS, passed);
}

static void test_cookies_of_answers(void **state)
{
    (void)state;
    static const char *const dropped[] = {"postern_token=x",
                                          "Postern_Token=x; Path=/",
                                          "postern_",
                                          "=postern_token=x",
                                          " = postern_token=x",
                                          "__Host-postern_token=x",
                                          "__Secure-postern_x=y",
                                          NULL};
    static const char *const passed[] = {"a=postern_token",  "postern=x", "xpostern_token=x", "",
                                         "__Host-session=x", NULL};

    for (size_t i = 0; dropped[i] != NULL; i++)
        if (pst_filter_response(&filter, head_of("Set-Cookie", dropped[i], ""), 0) !=
            PST_FIELD_DROP)
            fail_msg("passed: %s", dropped[i]);
    for (size_t i = 0; passed[i] != NULL; i++)
        if (pst_filter_response(&filter, head_of("Set-Cookie", passed[i], ""), 0) != PST_FIELD_PASS)
            fail_msg("dropped: %s", passed[i]);
}

static void test_adding_names(void **state)
{
    (void)state;
    char name[PST_FILTER_NAME_MAX + 2];
    struct pst_filter f;

    pst_filter_init(&f);
    assert_int_equal(pst_filter_add(&f, PST_LIT("Zone")), PST_OK);
    assert_true(pst_filter_is_protected(&f, PST_LIT("zone")));
    assert_true(pst_filter_is_protected(&f, PST_LIT("HTTP_ZONE")));
    pst_filter_init(&f);
    assert_int_equal(pst_filter_add(&f, PST_LIT("")), PST_E_INVALID);
    assert_int_equal(pst_filter_add(&f, PST_LIT("*")), PST_E_INVALID);
    assert_int_equal(pst_filter_add(&f, PST_LIT("X Y Z")), PST_E_INVALID);
    assert_int_equal(pst_filter_add(&f, PST_LIT("X*Y-Z")), PST_E_INVALID);
    assert_int_equal(pst_filter_add(&f, PST_LIT("--__..a")), PST_E_INVALID);
    memset(name, 'a', sizeof(name));
    assert_int_equal(pst_filter_add(&f, pst_bytes_of(name, PST_FILTER_NAME_MAX)), PST_OK);
    assert_true(pst_filter_is_protected(&f, pst_bytes_of(name, PST_FILTER_NAME_MAX)));
    assert_false(pst_filter_is_protected(&f, pst_bytes_of(name, PST_FILTER_NAME_MAX + 1)));
    assert_int_equal(pst_filter_add(&f, pst_bytes_of(name, PST_FILTER_NAME_MAX + 1)), PST_E_LIMIT);
    for (size_t n = 1; n < PST_FILTER_NAMES_MAX; n++)
        assert_int_equal(pst_filter_add(&f, pst_bytes_of(name, 3 + n)), PST_OK);
    assert_int_equal(pst_filter_add(&f, PST_LIT("one-more")), PST_E_LIMIT);
    assert_int_equal(pst_filter_add(&f, pst_bytes_of(name, 5)), PST_OK); /* known already */
    assert_false(pst_filter_is_protected(&f, PST_LIT("one-more")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folding),
        cmocka_unit_test(test_protected_names_are_dropped),
        cmocka_unit_test(test_other_spellings_are_dropped),
        cmocka_unit_test(test_hop_by_hop_ends_here),
        cmocka_unit_test(test_ordinary_names_pass),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_connection_may_name_only_ordinary_fields),
        cmocka_unit_test(test_connection_names_a_bounded_number),
        cmocka_unit_test(test_named_fields_are_dropped),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_cookies_of_answers),
        cmocka_unit_test(test_adding_names),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
