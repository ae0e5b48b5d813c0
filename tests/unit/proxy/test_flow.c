/* One request after the other through a real server: what goes up, what comes down, what is closed.
 */
#include "../test.h"

#include "flow_steps.h"

static void forwards_the_canonical_head(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(
        c,
        "GET /w/bl%75e/x?q=1%2f HTTP/1.1\r\nHost: App.Example\r\nAuthorization: Bearer secret\r\n"
        "Cookie: a=1; postern_token=secret; b=2\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_User: "
        "eve\r\n"
        "X-Postern-User: eve\r\nTE: trailers\r\nConnection: close, TE\r\nX-Note: kept\r\n\r\n");
    int up = flow_accept(&f);
    const char *head = flow_read_head(up);
    has(head, "GET /w/blue/x?q=1%2");
    has(head, "\r\nHost: 127.0.0.1:");
    has(head, "\r\nCookie: a=1; b=2\r\n");
    has(head, "\r\nX-Forwarded-For: 127.0.0.1\r\n");
    has(head, "\r\nX-Forwarded-Host: app.example\r\n");
    has(head, "\r\nX-Postern-User: alice\r\n");
    has(head, "\r\nX-Postern-Workspace: blue\r\n");
    has(head, "\r\nX-Request-Id: ");
    has(head, "\r\ntraceparent: 00-");
    has(head, "\r\nX-Note: kept\r\n");
    lacks(head, "secret");
    lacks(head, "eve");
    lacks(head, "6.6.6.6");
    lacks(head, "\r\nTE:");
    lacks(head, "\r\nConnection:");
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Accel-Redirect: /x\r\nConnection: "
                  "x-hop\r\nX-Hop: 1\r\n\r\nok");
    const char *answer = flow_read_until(c, "");
    has(answer, "HTTP/1.1 200 OK\r\n");
    has(answer, "\r\nConnection: close\r\n");
    has(answer, "\r\n\r\nok");
    lacks(answer, "X-Accel");
    lacks(answer, "X-Hop");
    close(c);
    close(up);
    flow_stop(&f);
}

static void keeps_both_sides_alive(void **state)
{
    struct flow f;
    int up = -1;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    for (int i = 0; i < 20; i++) {
        flow_send(c, GET("/a"));
        up = serve_one(&f, up, OK2);
        has(flow_read_until(c, "ok"), "200 OK");
    }
    assert_int_equal(pst_counted(&flow_metrics()->upstream_connects), 1);
    assert_int_equal(pst_counted(&flow_metrics()->upstream_reuses), 19);
    close(c);
    close(up);
    flow_stop(&f);
}

static void takes_a_head_byte_by_byte(void **state)
{
    static const char request[] =
        "POST /a HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n";
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        flow_send_bytes(c, request + i, 1);
        usleep(200);
    }
    int up = flow_accept(&f);
    has(flow_read_head(up), "\r\nTransfer-Encoding: chunked\r\n");
    lacks(flow_read_until(up, "\r\n0\r\n\r\n"), "Trailer");
    for (size_t i = 0; i < sizeof(answer) - 1; i++) {
        flow_send_bytes(up, answer + i, 1);
        usleep(200);
    }
    has(flow_read_until(c, "\r\n0\r\n\r\n"), "1\r\nx\r\n0\r\n\r\n");
    close(c);
    close(up);
    flow_stop(&f);
}

static void answers_pipelined_requests_in_order(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a") GET("/deny/b") GET("/c"));
    int up = flow_accept(&f);
    has(flow_read_head(up), "GET /a ");
    assert_true(flow_is_quiet(up, 50)); /* one at a time */
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA");
    has(flow_read_until(c, "\r\n\r\nA"), "200 OK");
    has(flow_read_until(c, "not-granted\r\n"), "HTTP/1.1 403 Forbidden");
    has(flow_read_until(c, "\r\n\r\nnot-granted"), "X-Postern-Decision-Id: 0123456789abcdef");
    has(flow_read_head(up), "GET /c ");
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nC");
    has(flow_read_until(c, "\r\n\r\nC"), "200 OK");
    close(c);
    close(up);
    flow_stop(&f);
}

static void many_pipelined_refusals_do_not_starve(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    for (int i = 0; i < 100; i++)
        flow_send(c, GET("/deny"));
    for (int i = 0; i < 100; i++)
        has(flow_read_until(c, "\r\n\r\nnot-granted"), "403");
    close(c);
    flow_stop(&f);
}

static void refuses_without_a_byte_upstream(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/unauth"));
    const char *a = flow_read_until(c, "no-credential\r\n");
    has(a, "HTTP/1.1 401 Unauthorized");
    a = flow_read_until(c, "\r\n\r\nno-credential");
    has(a, "WWW-Authenticate: Bearer");
    has(a, "\r\nDate: ");
    has(a, " GMT\r\n");
    flow_send(c, "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 400 ");
    assert_true(flow_is_closed(c, 1000));
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

static void a_refusal_drains_a_small_body_and_goes_on(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    lacks(flow_read_until(c, "\r\n\r\nnot-granted"), "Connection: close");
    flow_send(c, "56789" GET("/deny"));
    has(flow_read_until(c, "\r\n\r\nnot-granted"), "403");
    /* A body that is not on its way, or large, is not waited for. */
    flow_send(
        c, "POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    const char *a = flow_read_until(c, "\r\n\r\nnot-granted");
    has(a, "Connection: close");
    lacks(a, "100 Continue");
    assert_true(flow_is_closed(c, 1000));
    close(c);
    flow_stop(&f);
}

static void sends_100_once_and_drops_the_upstreams(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c,
              "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 100 Continue\r\n\r\n");
    int up = flow_accept(&f);
    lacks(flow_read_head(up), "Expect");
    flow_send(c, "hello");
    has(flow_read_until(up, "hello"), "hello");
    flow_send(up,
              "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK2);
    const char *a = flow_read_until(c, "ok");
    has(a, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n");
    lacks(a, "100 Continue");
    close(c);
    close(up);
    flow_stop(&f);
}

static void inspects_a_body_and_forwards_it_with_its_length(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c,
              "POST /inspect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    assert_true(flow_no_accept(&f, 50));
    flow_send(c, "3\r\ncde\r\n0\r\n\r\n");
    int up = flow_accept(&f);
    const char *head = flow_read_head(up);
    has(head, "\r\nContent-Length: 5\r\n");
    lacks(head, "Transfer-Encoding");
    has(flow_read_until(up, "abcde"), "abcde");
    flow_send(up, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    flow_send(c, "POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nevil");
    has(flow_read_until(c, "\r\n\r\ndenied"), "403");
    flow_send(c, "POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 413 ");
    close(c);
    close(up);
    flow_stop(&f);
}

static void bodies_held_for_inspection_are_bounded_together(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.config.limits.inspect_memory_bytes = 6000; /* one buffer */
    flow_run(&f);
    int first = flow_connect(&f), second = flow_connect(&f);
    flow_send(first, "POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert_true(flow_no_accept(&f, 50));
    flow_send(second, "POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
    const char *head = flow_read_head(second);
    has(head, "HTTP/1.1 503 ");
    has(head, "\r\nX-Postern-Reason: overload\r\n");
    close(first);
    assert_true(flow_no_accept(&f, 50));
    close(second);
    int third = flow_connect(&f);
    flow_send(third, "POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nevil");
    has(flow_read_until(third, "\r\n\r\ndenied"), "403");
    close(third);
    flow_stop(&f);
}

static void waits_for_the_engine(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/wait"));
    int up = serve_one(&f, -1, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(c);
    close(up);
    flow_stop(&f);
}

static void limits_a_chunked_body(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 413 ");
    assert_true(flow_is_closed(c, 1000));
    close(c);
    c = flow_connect(&f);
    flow_send(
        c,
        "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n");
    int up = flow_accept(&f);
    flow_send(c, "8\r\n01234567\r\n0\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 413 ");
    assert_true(flow_is_closed(up, 1000));
    close(c);
    close(up);
    flow_stop(&f);
}

static void retries_a_get_once_and_a_post_never(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = serve_one(&f, -1, OK2);
    flow_read_until(c, "ok");
    flow_send(c, GET("/b"));
    flow_read_head(up);
    close(up); /* reused, and not a byte of an answer */
    up = flow_accept(&f);
    has(flow_read_head(up), "GET /b ");
    close(up); /* a fresh one: no second retry */
    has(flow_read_head(c), "HTTP/1.1 502 ");
    close(c);
    assert_int_equal(pst_counted(&flow_metrics()->upstream_retries), 1);

    c = flow_connect(&f);
    flow_send(c, GET("/a"));
    up = serve_one(&f, -1, OK2);
    flow_read_until(c, "ok");
    flow_send(c, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    flow_read_until(up, "\r\n\r\nx");
    close(up);
    has(flow_read_head(c), "HTTP/1.1 502 ");
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

static void an_idle_connection_with_bytes_is_never_used(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = serve_one(&f, -1, OK2);
    flow_read_until(c, "ok");
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert_true(flow_is_closed(up, 1000));
    flow_send(c, GET("/b"));
    int next = serve_one(&f, -1, OK2);
    lacks(flow_read_until(c, "ok"), "evil");
    close(c);
    close(up);
    close(next);
    flow_stop(&f);
}

/* A client that goes away in the middle must not leave its answer to the next one. */
static void an_aborted_exchange_is_never_pooled(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int a = flow_connect(&f);
    flow_send(a, GET("/alice"));
    int up = flow_accept(&f);
    flow_read_head(up);
    struct linger hard = {1, 0};
    setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(a);
    assert_true(flow_is_closed(up, 1000));
    int b = flow_connect(&f);
    flow_send(b, GET("/bob"));
    int next = flow_accept(&f);
    has(flow_read_head(next), "GET /bob ");
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice");
    flow_send(next, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbob");
    lacks(flow_read_until(b, "bob"), "alice");
    close(b);
    close(up);
    close(next);
    flow_stop(&f);
}

static void relays_an_early_answer_then_closes(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\nxxxx");
    int up = flow_accept(&f);
    flow_read_head(up);
    flow_send(up, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    has(flow_read_head(c), "Connection: close\r\n");
    assert_true(flow_is_closed(up, 1000));
    assert_true(flow_is_closed(c, 1000));
    close(c);
    close(up);
    flow_stop(&f);
}

static void half_close_still_gets_the_answer(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    shutdown(c, SHUT_WR);
    int up = serve_one(&f, -1, OK2);
    has(flow_read_until(c, ""), "\r\n\r\nok");
    close(c);
    close(up);
    flow_stop(&f);
}

static void cuts_what_the_upstream_cut(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = serve_one(&f, -1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    shutdown(up, SHUT_WR);
    lacks(flow_read_until(c, ""), "\r\n0\r\n\r\n");
    close(c);
    close(up);
    c = flow_connect(&f);
    flow_send(c, GET("/a"));
    up = serve_one(&f, -1, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    shutdown(up, SHUT_WR);
    has(flow_read_until(c, ""), "\r\n\r\nhello");
    close(c);
    close(up);
    /* to a client of 1.0 the end of the connection is the end of the body */
    for (unsigned whole = 0; whole < 2; whole++) {
        char byte;
        c = flow_connect(&f);
        flow_send(c, "GET /a HTTP/1.0\r\nHost: a\r\n\r\n");
        up = serve_one(&f, -1,
                       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        has(flow_read_until(c, "hello"), "\r\n\r\nhello");
        if (whole)
            flow_send(up, "0\r\n\r\n");
        else
            shutdown(up, SHUT_WR);
        assert_int_equal(recv(c, &byte, 1, 0), whole ? 0 : -1);
        close(c);
        close(up);
    }
    flow_stop(&f);
}

static void doubtful_answers_are_502(void **state)
{
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n",
    };
    struct flow f;
    (void)state;
    flow_start(&f);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int c = flow_connect(&f);
        flow_send(c, GET("/a"));
        int up = serve_one(&f, -1, bad[i]);
        has(flow_read_head(c), "HTTP/1.1 502 ");
        assert_true(flow_is_closed(up, 1000));
        close(c);
        close(up);
    }
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = flow_accept(&f);
    flow_read_head(up);
    for (int i = 0; i < 11; i++)
        flow_send(up, "HTTP/1.1 102 Processing\r\n\r\n");
    const char *all = flow_read_until(c, "502 ");
    has(all, "HTTP/1.1 502 ");
    close(c);
    close(up);
    flow_stop(&f);
}

static void answers_without_a_body(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    int up = serve_one(&f, -1, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    has(flow_read_head(c), "\r\nContent-Length: 1234\r\n");
    flow_send(c, GET("/a"));
    up = serve_one(&f, up, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
    has(flow_read_head(c), "HTTP/1.1 304 ");
    flow_send(c, GET("/a"));
    up = serve_one(&f, up, "HTTP/1.1 204 No Content\r\n\r\n");
    lacks(flow_read_head(c), "Content-Length");
    flow_send(c, GET("/a"));
    up = serve_one(&f, up, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(c);
    close(up);
    flow_stop(&f);
}

static void serves_http_10(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    int up = serve_one(&f, -1, OK2);
    has(flow_read_until(c, "ok"), "\r\nConnection: keep-alive\r\n");
    flow_send(c, "GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    up = serve_one(&f, up,
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    const char *a = flow_read_until(c, "");
    lacks(a, "chunked");
    has(a, "\r\nConnection: close\r\n");
    has(a, "\r\n\r\nok");
    close(c);
    close(up);
    flow_stop(&f);
}

static void rewrites_a_location_of_the_upstreams_own(void **state)
{
    struct flow f;
    char answer[300];
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 302 Found\r\nLocation: http://%s/login?x\r\nContent-Length: 0\r\n\r\n",
             f.upstream_text);
    int up = serve_one(&f, -1, answer);
    has(flow_read_head(c), "\r\nLocation: /login?x\r\n");
    flow_send(c, GET("/a"));
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 302 Found\r\nLocation: http://%s//evil\r\nContent-Length: 0\r\n\r\n",
             f.upstream_text);
    up = serve_one(&f, up, answer);
    lacks(flow_read_head(c), "\r\nLocation: //evil");
    flow_send(c, GET("/a"));
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 302 Found\r\nLocation: http://%s/\\evil\r\nContent-Length: 0\r\n\r\n",
             f.upstream_text);
    up = serve_one(&f, up, answer);
    lacks(flow_read_head(c), "\r\nLocation: /\\evil");
    close(c);
    close(up);
    flow_stop(&f);
}

static void an_upgrade_is_refused_by_name(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c,
              "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    const char *a = flow_read_head(c);
    has(a, "HTTP/1.1 403 ");
    has(a, "\r\nX-Postern-Reason: upgrade\r\n");
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

static void an_upstream_that_is_away_is_left_alone(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    shutdown(f.upstream_listener, SHUT_RDWR); /* refuses from now on */
    for (int i = 0; i < 5; i++) {
        int c = flow_connect(&f);
        flow_send(c, GET("/a"));
        has(flow_read_head(c), "HTTP/1.1 502 ");
        close(c);
    }
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    const char *a = flow_read_head(c);
    has(a, "HTTP/1.1 503 ");
    has(a, "\r\nRetry-After: ");
    close(c);
    flow_stop(&f);
}

static void a_silent_upstream_is_504(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.upstream.first_byte_s = 1;
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = flow_accept(&f);
    has(flow_read_head(c), "HTTP/1.1 504 ");
    assert_true(flow_is_closed(up, 1000));
    close(c);
    close(up);
    flow_stop(&f);
}

static void a_head_has_a_time_limit(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.config.limits.request_head_s = 1;
    flow_run(&f);
    int c = flow_connect(&f), quiet = flow_connect(&f);
    flow_send(c, "GET /a HTTP/1.1\r\nHost");
    has(flow_read_head(c), "HTTP/1.1 408 ");
    assert_true(flow_is_closed(c, 2000));
    assert_true(flow_is_closed(quiet, 2000));
    close(c);
    close(quiet);
    flow_stop(&f);
}

static void addresses_by_workspace(void **state)
{
    struct flow f;
    uint16_t port;
    char text[64];
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    int red = listen_any(&port), blue = f.upstream_listener;
    int len = snprintf(text, sizeof(text), "localhost:%u", port); /* a name, from the hosts file */
    struct pst_workspace_address map = {PST_LIT("red"), pst_bytes_of(text, (size_t)len)};
    f.upstream.workspaces = &map;
    f.upstream.workspace_count = 1;
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = serve_one(&f, -1, OK2);
    flow_read_until(c, "ok");
    f.upstream_listener = red;
    flow_send(c, GET("/template"));
    int other = flow_accept(&f);
    assert_true(other >= 0);
    has(flow_read_head(other), "\r\nHost: localhost:");
    flow_send(other, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(blue);
    close(c);
    close(up);
    close(other);
    flow_stop(&f);
}

static void unknown_template_is_502(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.upstream.address = PST_LIT("unix:/nonexistent/{workspace}.sock");
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    has(flow_read_until(c, "reached"), "HTTP/1.1 502 ");
    close(c);
    c = flow_connect(&f); /* a name that would leave the folder is no address at all */
    flow_send(c, GET("/escape"));
    has(flow_read_until(c, "workspace"), "no upstream address for this workspace");
    close(c);
    flow_stop(&f);
}

static void chunks_of_one_read_become_one(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n");
    int up = flow_accept(&f);
    flow_read_head(up);
    has(flow_read_until(up, "\r\n0\r\n\r\n"), "6\r\nabcdef\r\n0\r\n\r\n");
    flow_send(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "1;x\r\ng\r\n2\r\nhi\r\n0\r\n\r\n");
    flow_read_head(c);
    has(flow_read_until(c, "\r\n0\r\n\r\n"), "3\r\nghi\r\n0\r\n\r\n");
    close(c);
    close(up);
    flow_stop(&f);
}

static void a_body_that_ends_early_ends_upstream_too(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    int up = flow_accept(&f);
    flow_read_head(up);
    flow_send(c, "01234");
    shutdown(c, SHUT_WR);
    assert_true(flow_is_closed(up, 1000));
    close(c);
    close(up);
    flow_stop(&f);
}

static void a_body_is_never_sent_twice(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = serve_one(&f, -1, OK2);
    flow_read_until(c, "ok");
    flow_send(c, "PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    flow_read_until(up, "\r\n\r\nx");
    close(up);
    has(flow_read_head(c), "HTTP/1.1 502 ");
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forwards_the_canonical_head),
        cmocka_unit_test(keeps_both_sides_alive),
        cmocka_unit_test(takes_a_head_byte_by_byte),
        cmocka_unit_test(answers_pipelined_requests_in_order),
        cmocka_unit_test(many_pipelined_refusals_do_not_starve),
        cmocka_unit_test(refuses_without_a_byte_upstream),
        cmocka_unit_test(a_refusal_drains_a_small_body_and_goes_on),
        cmocka_unit_test(sends_100_once_and_drops_the_upstreams),
        cmocka_unit_test(inspects_a_body_and_forwards_it_with_its_length),
        cmocka_unit_test(bodies_held_for_inspection_are_bounded_together),
        cmocka_unit_test(waits_for_the_engine),
        cmocka_unit_test(limits_a_chunked_body),
        cmocka_unit_test(retries_a_get_once_and_a_post_never),
        cmocka_unit_test(an_idle_connection_with_bytes_is_never_used),
        cmocka_unit_test(an_aborted_exchange_is_never_pooled),
        cmocka_unit_test(relays_an_early_answer_then_closes),
        cmocka_unit_test(half_close_still_gets_the_answer),
        cmocka_unit_test(cuts_what_the_upstream_cut),
        cmocka_unit_test(doubtful_answers_are_502),
        cmocka_unit_test(answers_without_a_body),
        cmocka_unit_test(serves_http_10),
        cmocka_unit_test(rewrites_a_location_of_the_upstreams_own),
        cmocka_unit_test(an_upgrade_is_refused_by_name),
        cmocka_unit_test(an_upstream_that_is_away_is_left_alone),
        cmocka_unit_test(a_silent_upstream_is_504),
        cmocka_unit_test(a_head_has_a_time_limit),
        cmocka_unit_test(addresses_by_workspace),
        cmocka_unit_test(unknown_template_is_502),
        cmocka_unit_test(chunks_of_one_read_become_one),
        cmocka_unit_test(a_body_that_ends_early_ends_upstream_too),
        cmocka_unit_test(a_body_is_never_sent_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
