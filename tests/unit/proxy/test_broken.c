/* Connections that turn out to be broken when something is sent: to the upstream, to the client. */
/* wrap: send */
#include "../test.h"

#include <stdatomic.h>

#include "flow_steps.h"

static _Atomic int broken; /* so many of the next things that the server sends are not taken */
static pthread_t test_thread;

ssize_t __real_send(int fd, const void *bytes, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags)
{
    int left = atomic_load(&broken);

    if (pthread_equal(pthread_self(), test_thread) || left == 0)
        return __real_send(fd, bytes, len, flags);
    atomic_store(&broken, left - 1);
    errno = ECONNRESET;
    return -1;
}

/* A client whose upstream connection has carried one request and breaks at the next. */
static int over_a_used_connection(struct flow *f, int *up)
{
    int c = flow_connect(f);

    flow_send(c, GET("/a"));
    *up = serve_one(f, -1, OK2);
    flow_read_until(c, "ok");
    atomic_store(&broken, 1);
    return c;
}

/* Nothing of it is taken. What has no body goes out again, what has one must not go out without. */
static void what_was_not_taken(void **state)
{
    struct flow f;
    int up;
    (void)state;
    test_thread = pthread_self();
    uint64_t before = pst_counted(&flow_metrics()->upstream_retries);
    flow_start(&f);
    int c = over_a_used_connection(&f, &up);
    flow_send(c, GET("/b"));
    int next = flow_accept(&f);
    has(flow_read_head(next), "GET /b ");
    flow_send(next, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(next);
    close(up);
    close(c);

    c = over_a_used_connection(&f, &up);
    flow_send(c, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nxxxxx");
    assert_true(flow_no_accept(&f, 100));
    close(up);
    has(flow_read_head(c), "HTTP/1.1 502 ");
    close(c);
    assert_int_equal(pst_counted(&flow_metrics()->upstream_retries) - before, 1);
    flow_stop(&f);
}

/* The client that sent what is no body is gone before it can be told: nothing is left to retry. */
static void a_bad_body_of_a_client_that_is_gone(void **state)
{
    struct flow f;
    (void)state;
    test_thread = pthread_self();
    flow_start(&f);
    int c = flow_connect(&f);
    atomic_store(&broken, 1);
    flow_send(c, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_true(flow_is_closed(c, 1000));
    assert_int_equal(atomic_load(&broken), 0);
    int up = flow_accept(&f);
    assert_true(flow_is_closed(up, 1000));
    close(up);
    close(c);

    c = flow_connect(&f);
    flow_send(c, GET("/a"));
    up = serve_one(&f, -1, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(c);
    close(up);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_taken),
        cmocka_unit_test(a_bad_body_of_a_client_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
