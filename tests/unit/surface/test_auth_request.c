/* The dialect on its own: heads in, requests out; decisions in, fields out. */
#include "../test.h"

#include "postern/http/h1.h"
#include "postern/surface/auth_request.h"

static const struct pst_auth_request dialect = {
    .path = {"/_postern/auth", 14},
    .target_from = {"X-Original-URI", 14},
    .method_from = {"X-Original-Method", 17},
    .target_id = PST_FIELD_X_ORIGINAL_URI,
    .method_id = PST_FIELD_X_ORIGINAL_METHOD,
    .user = {"X-Postern-User", 14},
    .roles = {"X-Postern-Roles", 15},
    .decision_id = {"X-Postern-Decision-Id", 21},
};

struct world {
    struct pst_arena arena;
    struct pst_head head;
    struct pst_host host;
    char space[PST_HOST_MAX];
    struct pst_request request;
};

static enum pst_reason ask_as(struct world *w, const struct pst_auth_request *self, bool trusted,
                              const char *text)
{
    struct pst_h1_parser parser;

    pst_arena_init(&w->arena, 1024, 65536);
    pst_h1_init_request(&parser, &pst_h1_limits_default);
    assert_int_equal(pst_h1_parse(&parser, pst_bytes_of(text, strlen(text)), &w->head),
                     PST_H1_DONE);
    assert_true(pst_host_parse(w->head.host, w->space, &w->host));
    return pst_auth_request_read(self, &w->head, &w->host, trusted, &w->arena, &w->request);
}

static enum pst_reason refused(bool trusted, const char *path, const char *fields)
{
    char text[2048];
    struct pst_buf out = pst_buf_of(text, sizeof(text) - 1);
    struct world w;

    pst_buf_lit(&out, "GET ");
    pst_buf_put(&out, pst_bytes_of(path, strlen(path)));
    pst_buf_lit(&out, " HTTP/1.1\r\nHost: app.example\r\n");
    pst_buf_put(&out, pst_bytes_of(fields, strlen(fields)));
    pst_buf_lit(&out, "\r\n");
    text[out.len] = '\0';
    enum pst_reason reason = ask_as(&w, &dialect, trusted, text);
    pst_arena_fini(&w.arena);
    return reason;
}

#define URI(x)    "X-Original-URI: " x "\r\n"
#define METHOD(x) "X-Original-Method: " x "\r\n"

static void reads_the_original_request(void **state)
{
    struct world w;
    (void)state;
    assert_int_equal(
        ask_as(&w, &dialect, true,
               "GET /_postern/auth HTTP/1.1\r\nHost: App.Example\r\n" URI("/w/bl%75e/x?q=%2f")
                   METHOD("POST") "X-Forwarded-Uri: /w/red/x\r\n\r\n"),
        PST_R_INTERNAL);
    assert_true(pst_bytes_equal(w.request.path, PST_LIT("/w/blue/x")));
    assert_true(pst_bytes_equal(w.request.method, PST_LIT("POST")));
    assert_true(pst_bytes_equal(w.request.host, PST_LIT("app.example")));
    assert_true(w.request.has_body);
    assert_false(w.request.body_given);
    assert_int_equal(w.request.field_count, w.head.count);
    pst_arena_fini(&w.arena);
}

static void refuses_what_is_not_certain(void **state)
{
    static const char good[] = "/_postern/auth";
    (void)state;
    assert_int_equal(refused(true, good, URI("/a") METHOD("GET")), PST_R_INTERNAL);
    assert_int_equal(refused(false, good, URI("/a") METHOD("GET")), PST_R_UNTRUSTED_PEER);
    assert_int_equal(refused(true, "/other", URI("/a") METHOD("GET")), PST_R_NO_ROUTE);
    assert_int_equal(refused(true, "/_postern/auth/", URI("/a") METHOD("GET")), PST_R_NO_ROUTE);
    assert_int_equal(refused(true, good, URI("/a")), PST_R_BAD_REQUEST);
    assert_int_equal(refused(true, good, METHOD("GET")), PST_R_BAD_REQUEST);
    assert_int_equal(refused(true, good, URI("/a") URI("/b") METHOD("GET")), PST_R_BAD_REQUEST);
    assert_int_equal(refused(true, good, URI("/a") METHOD("GET") METHOD("GET")), PST_R_BAD_REQUEST);
    assert_int_equal(refused(true, good, URI("/a") METHOD("get")), PST_R_BAD_REQUEST);
    assert_int_equal(refused(true, good, URI("/a") METHOD("TRACE")), PST_R_METHOD);
    assert_int_equal(refused(true, good, URI("http://app.example/a") METHOD("GET")),
                     PST_R_BAD_TARGET);
    assert_int_equal(refused(true, good, URI("/a/%2e%2e/b") METHOD("GET")), PST_R_BAD_TARGET);
    assert_int_equal(refused(true, good, URI("/a#b") METHOD("GET")), PST_R_BAD_TARGET);
    assert_int_equal(refused(true, good, URI("*") METHOD("OPTIONS")), PST_R_BAD_TARGET);
}

static void an_upgrade_is_told(void **state)
{
    struct world w;
    (void)state;
    assert_int_equal(ask_as(&w, &dialect, true,
                            "GET /_postern/auth HTTP/1.1\r\nHost: a\r\n" URI("/a")
                                METHOD("GET") "Upgrade: h2c, WebSocket\r\n\r\n"),
                     PST_R_INTERNAL);
    assert_true(w.request.is_upgrade);
    pst_arena_fini(&w.arena);
}

static void a_url_names_its_own_host(void **state)
{
    struct pst_auth_request url = dialect;
    struct world w;
    (void)state;
    url.target_from = PST_LIT("X-Original-URL");
    url.target_id = PST_FIELD_X_ORIGINAL_URL;
    assert_int_equal(
        ask_as(&w, &url, true,
               "GET /_postern/auth HTTP/1.1\r\nHost: auth.internal\r\n"
               "X-Original-URL: https://App.Example/w/blue/x?y\r\n" METHOD("GET") "\r\n"),
        PST_R_INTERNAL);
    assert_true(pst_bytes_equal(w.request.host, PST_LIT("app.example")));
    assert_true(pst_bytes_equal(w.request.path, PST_LIT("/w/blue/x")));
    pst_arena_fini(&w.arena);
    assert_int_equal(
        ask_as(&w, &url, true,
               "GET /_postern/auth HTTP/1.1\r\nHost: a\r\nX-Original-URL: /a\r\n" METHOD(
                   "GET") "\r\n"),
        PST_R_BAD_TARGET);
    pst_arena_fini(&w.arena);
}

/* A configured name that has no id. */
static void any_name_may_be_configured(void **state)
{
    struct pst_auth_request other = dialect;
    struct world w;
    (void)state;
    other.target_from = PST_LIT("X-My-Target");
    other.target_id = PST_FIELD_OTHER;
    assert_int_equal(ask_as(&w, &other, true,
                            "GET /_postern/auth HTTP/1.1\r\nHost: a\r\nX-Other: b\r\n"
                            "x-my-target: /w/x\r\n" METHOD("GET") "\r\n"),
                     PST_R_INTERNAL);
    assert_true(pst_bytes_equal(w.request.path, PST_LIT("/w/x")));
    pst_arena_fini(&w.arena);
    assert_int_equal(ask_as(&w, &other, true,
                            "GET /_postern/auth HTTP/1.1\r\nHost: a\r\nX-My-Target: /w/x\r\n"
                            "X-My-Target: /w/x\r\n" METHOD("GET") "\r\n"),
                     PST_R_BAD_REQUEST);
    pst_arena_fini(&w.arena);
    assert_int_equal(
        ask_as(&w, &other, true, "GET /_postern/auth HTTP/1.1\r\nHost: a\r\n" METHOD("GET") "\r\n"),
        PST_R_BAD_REQUEST);
    pst_arena_fini(&w.arena);
}

/* ---- answers ---- */

void pst_engine_challenge(const struct pst_decision *d, struct pst_buf *out)
{
    (void)d;
    pst_buf_lit(out, "Bearer realm=\"postern\"");
}

static const char *answer(const struct pst_decision *d, unsigned status)
{
    static char space[1024];
    struct pst_buf fields = pst_buf_of(space, sizeof(space) - 1);

    assert_int_equal(pst_auth_request_answer(&dialect, d, &fields), status);
    assert_false(fields.full);
    space[fields.len] = '\0';
    return space;
}

static void statuses_that_nginx_understands(void **state)
{
    struct pst_decision d = {.verdict = PST_ALLOW,
                             .reason = PST_R_GRANTED,
                             .status = 200,
                             .forward = true,
                             .user = PST_LIT("al\r\nice"),
                             .id = PST_LIT("1234")};
    (void)state;
    assert_string_equal(answer(&d, 200),
                        "X-Postern-User: al%0d%0aice\r\nX-Postern-Decision-Id: 1234\r\n");
    d.preflight = true;
    assert_string_equal(answer(&d, 200), "X-Postern-Decision-Id: 1234\r\n");
    d = (struct pst_decision){.reason = PST_R_NOT_GRANTED, .status = 403, .id = PST_LIT("1")};
    assert_string_equal(answer(&d, 403),
                        "X-Postern-Reason: not-granted\r\nX-Postern-Decision-Id: 1\r\n");
    d = (struct pst_decision){.reason = PST_R_NO_ROUTE, .status = 404};
    assert_string_equal(answer(&d, 403), "X-Postern-Reason: no-route\r\nX-Postern-Status: 404\r\n");
    d = (struct pst_decision){.reason = PST_R_NO_CREDENTIAL, .status = 401};
    assert_string_equal(
        answer(&d, 401),
        "X-Postern-Reason: no-credential\r\nWWW-Authenticate: Bearer realm=\"postern\"\r\n");
    d = (struct pst_decision){.reason = PST_R_STALE, .status = 503, .retry_after_s = 2};
    assert_string_equal(answer(&d, 503), "X-Postern-Reason: stale\r\nRetry-After: 2\r\n");
    d = (struct pst_decision){.reason = PST_R_BAD_REQUEST, .status = 505};
    assert_string_equal(answer(&d, 403),
                        "X-Postern-Reason: bad-request\r\nX-Postern-Status: 505\r\n");
    d = (struct pst_decision){0}; /* memory that nobody filled */
    assert_non_null(answer(&d, 403));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_original_request),
        cmocka_unit_test(refuses_what_is_not_certain),
        cmocka_unit_test(an_upgrade_is_told),
        cmocka_unit_test(a_url_names_its_own_host),
        cmocka_unit_test(any_name_may_be_configured),
        cmocka_unit_test(statuses_that_nginx_understands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
