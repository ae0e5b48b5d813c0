/* Connections that turn out to be broken when something is sent: to the upstream, to the client. */
/* wrap: pst_socket_send_ */
#include "../test.h"

#include <semaphore.h>
#include <stdatomic.h>

#include "flow_steps.h"

/* Of the next things that the server sends: */
static _Atomic int stops;  /* so many wait until the test says `go` */
static _Atomic int parts;  /* so many are taken but for all behind the fifth byte */
static _Atomic int broken; /* so many after that are not taken */
static _Atomic bool full;  /* nothing is taken for now */
static sem_t stopped, go;
static pthread_t test_thread;

static bool is_one_of(_Atomic int *left)
{
    if (*left == 0)
        return false;
    (*left)--;
    return true;
}

ssize_t __real_pst_socket_send_(int fd, const void *bytes, size_t len);
ssize_t __wrap_pst_socket_send_(int fd, const void *bytes, size_t len);
ssize_t __wrap_pst_socket_send_(int fd, const void *bytes, size_t len)
{
    if (pthread_equal(pthread_self(), test_thread))
        return __real_pst_socket_send_(fd, bytes, len);
    if (is_one_of(&stops)) {
        sem_post(&stopped);
        sem_wait(&go);
    }
    if (full) {
        sem_post(&stopped);
        errno = EAGAIN;
        return -1;
    }
    if (is_one_of(&parts))
        return __real_pst_socket_send_(fd, bytes, len < 5 ? len : 5);
    if (!is_one_of(&broken))
        return __real_pst_socket_send_(fd, bytes, len);
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

/* Nothing of it is taken, so it goes out again, whatever its method, and never without its body. */
static void what_was_not_taken_is_sent_again(void **state)
{
    static const struct {
        const char *request, *rest, *line, *sent;
    } rows[] = {
        {GET("/b"), "", "GET /b ", "\r\n\r\n"},
        {"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "", "POST /b ", "\r\n\r\n"},
        {"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "", "POST /b ",
         "\r\n\r\nhello"},
        {"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", "llo", "POST /b ",
         "\r\n\r\nhello"},
        {"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
         "", "POST /b ", "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
        {"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nl",
         "o\r\n0\r\n\r\n", "POST /b ", "l\r\n1\r\no\r\n0\r\n\r\n"},
        {"POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "",
         "POST /inspect ", "\r\n\r\nhello"},
    };
    struct flow f;
    (void)state;
    test_thread = pthread_self();
    uint64_t before = pst_counted(&flow_metrics()->upstream_retries);
    flow_start(&f);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int up, c = over_a_used_connection(&f, &up);
        flow_send(c, rows[i].request);
        int next = flow_accept(&f);
        assert_true(next >= 0);
        assert_true(flow_is_closed(up, 1000));
        flow_send(c, rows[i].rest);
        const char *got = flow_read_until(next, rows[i].sent);
        has(got, rows[i].line);
        has(got, rows[i].sent);
        flow_send(next, OK2);
        has(flow_read_until(c, "ok"), "200 OK");
        assert_int_equal(atomic_load(&broken), 0);
        close(up);
        close(next);
        close(c);
    }
    assert_int_equal(pst_counted(&flow_metrics()->upstream_retries) - before,
                     sizeof(rows) / sizeof(rows[0]));
    flow_stop(&f);
}

/* A fresh connection that breaks as well is the end of it. */
static void once(void **state)
{
    struct flow f;
    int up;
    (void)state;
    test_thread = pthread_self();
    flow_start(&f);
    int c = over_a_used_connection(&f, &up);
    atomic_store(&broken, 2);
    flow_send(c, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    int next = flow_accept(&f);
    close(next);
    has(flow_read_head(c), "HTTP/1.1 502 ");
    assert_true(flow_no_accept(&f, 50));
    close(up);
    close(c);
    flow_stop(&f);
}

/* Of what was taken in part the upstream may have seen that it came. */
static void what_was_taken_in_part_is_not_sent_again(void **state)
{
    struct flow f;
    int up;
    char got[8];
    (void)state;
    test_thread = pthread_self();
    flow_start(&f);
    int c = over_a_used_connection(&f, &up);
    atomic_store(&parts, 1);
    flow_send(c, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(recv(up, got, sizeof(got), 0), 5);
    assert_memory_equal(got, "POST ", 5);
    assert_true(flow_no_accept(&f, 50));
    assert_int_equal(atomic_load(&broken), 0);
    close(up);
    has(flow_read_head(c), "HTTP/1.1 502 ");
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

/* What comes on an old connection before it was asked anything is no answer. */
static void an_answer_before_the_question_is_none(void **state)
{
    struct flow f;
    int up;
    (void)state;
    test_thread = pthread_self();
    sem_init(&stopped, 0, 0);
    flow_start(&f);
    int c = over_a_used_connection(&f, &up);
    atomic_store(&broken, 0);
    atomic_store(&full, true);
    flow_send(c, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    sem_wait(&stopped);
    flow_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    int next = flow_accept(&f);
    assert_true(flow_is_closed(up, 1000));
    atomic_store(&full, false);
    has(flow_read_head(next), "POST /b ");
    flow_send(next, OK2);
    lacks(flow_read_until(c, "ok"), "evil");
    close(up);
    close(next);
    close(c);
    flow_stop(&f);
}

/* The engine's word and the client's end in one turn: nobody waits for the answer any more. */
static void what_nobody_waits_for_is_not_sent(void **state)
{
    struct linger hard = {1, 0};
    struct flow f;
    int up;
    char got[8];
    (void)state;
    test_thread = pthread_self();
    sem_init(&stopped, 0, 0);
    sem_init(&go, 0, 0);
    flow_start(&f);
    int c = over_a_used_connection(&f, &up), a = flow_connect(&f), b = flow_connect(&f);
    atomic_store(&broken, 0);
    atomic_store(&stops, 2);
    flow_send(c, GET("/deny"));
    sem_wait(&stopped);
    flow_send(a, GET("/wait")); /* both are read in the next turn, and b's answer ends it */
    flow_send(b, GET("/deny"));
    sem_post(&go);
    sem_wait(&stopped);
    setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(a);
    sem_post(&go);
    assert_int_equal(recv(up, got, sizeof(got), 0), 0);
    has(flow_read_head(b), " 403 ");
    assert_true(flow_no_accept(&f, 50));
    close(up);
    close(b);
    close(c);
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

/* So is the one that stops in the middle of its body, whether that shows before a fresh connection
 * has begun with it or after. */
static void half_a_body_over_a_broken_connection(void **state)
{
    struct flow f;
    int up;
    (void)state;
    test_thread = pthread_self();
    flow_start(&f);
    int c = over_a_used_connection(&f, &up);
    flow_send(c, "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
    shutdown(c, SHUT_WR);
    assert_true(flow_is_closed(c, 1000));
    assert_true(flow_is_closed(up, 1000));
    close(up);
    close(c);
    atomic_store(&broken, 0);

    c = flow_connect(&f);
    flow_send(c, GET("/a"));
    up = flow_accept(&f);
    if (strstr(flow_read_head(up), "GET /a ") == NULL) {
        assert_true(flow_is_closed(up, 1000));
        close(up);
        up = flow_accept(&f);
        has(flow_read_head(up), "GET /a ");
    }
    flow_send(up, OK2);
    has(flow_read_until(c, "ok"), "200 OK");
    close(c);
    close(up);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_taken_is_sent_again),
        cmocka_unit_test(once),
        cmocka_unit_test(what_was_taken_in_part_is_not_sent_again),
        cmocka_unit_test(an_answer_before_the_question_is_none),
        cmocka_unit_test(what_nobody_waits_for_is_not_sent),
        cmocka_unit_test(a_bad_body_of_a_client_that_is_gone),
        cmocka_unit_test(half_a_body_over_a_broken_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
