/* The other doors (check, local), and what outlives one request: drain, reload, streams in bounded
 * memory.
 */
#include "../test.h"

#include "flow_steps.h"

static enum pst_reason read_check(const void *self, const struct pst_head *head,
                                  const struct pst_host *host, bool trusted,
                                  struct pst_arena *arena, struct pst_request *out)
{
    (void)self, (void)arena;
    if (!trusted)
        return PST_R_UNTRUSTED_PEER;
    *out = (struct pst_request){.method = PST_LIT("GET"), .host = host->text, .path = head->target};
    return PST_R_INTERNAL;
}

static unsigned answer_check(const void *self, const struct pst_decision *d, struct pst_buf *fields)
{
    (void)self;
    pst_buf_lit(fields, "X-User: ");
    pst_buf_put(fields, d->user);
    pst_buf_lit(fields, "\r\n");
    return d->forward ? 200 : d->status;
}

static bool asks_lease(const void *self, const struct pst_head *head)
{
    (void)self;
    return pst_bytes_equal(head->target, PST_LIT("/leased"));
}

static unsigned answer_local(const void *self, const struct pst_head *head, bool leased,
                             struct pst_buf *body, const char **type)
{
    (void)self, (void)head;
    if (leased)
        pst_buf_lit(body, "leased");
    else
        pst_buf_lit(body, "fine");
    *type = "text/plain";
    return 200;
}

/* A door for checks, and a trusted client of it. */
static int connect_to_checks(struct flow *f)
{
    memset(f, 0, sizeof(*f));
    flow_config(f);
    assert_int_equal(pst_cidr_parse(PST_LIT("127.0.0.1/32"), &f->trusted), PST_OK);
    f->listener.kind = PST_LISTENER_CHECK;
    f->listener.trusted_count = 1;
    f->listener.door = (struct pst_door){.read = read_check, .answer = answer_check};
    flow_run(f);
    return flow_connect(f);
}

static void a_check_is_answered_without_a_body(void **state)
{
    struct flow f;
    (void)state;
    int c = connect_to_checks(&f);
    flow_send(c, GET("/a") GET("/deny") GET("/inspect") GET("/wait") GET("/unauth"));
    static const char *const expected[] = {"200 OK", "403 Forbidden", "413 ", "200 OK", "401 "};
    for (size_t i = 0; i < 5; i++) {
        const char *a = flow_read_head(c); /* one head follows the other: there are no bodies */
        has(a, expected[i]);
        has(a, "\r\nContent-Length: 0\r\n");
        has(a, "\r\nX-User: alice\r\n");
        lacks(a, "\r\nDate: "); /* it is nobody's response but its proxy's */
        lacks(a, "Connection: close");
    }
    assert_true(flow_no_accept(&f, 50));
    close(c);
    flow_stop(&f);
}

/* A target that was found to be canonical is known again, and no other for it. */
static void each_target_of_a_check_is_read(void **state)
{
    struct flow f;
    (void)state;
    int c = connect_to_checks(&f);
    flow_send(c, GET("/a") GET("/a") GET("/..") GET("/a") GET("/%zz") GET("/a") GET("/%61"));
    static const char *const expected[] = {"200 OK", "200 OK", "400 ",  "200 OK",
                                           "400 ",   "200 OK", "200 OK"};
    for (size_t i = 0; i < 7; i++)
        has(flow_read_head(c), expected[i]);
    close(c);
    flow_stop(&f);
}

static void a_check_from_elsewhere_is_refused(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.listener.kind = PST_LISTENER_CHECK;
    f.listener.door = (struct pst_door){.read = read_check, .answer = answer_check};
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    has(flow_read_head(c), "HTTP/1.1 403 ");
    close(c);
    flow_stop(&f);
}

static void a_local_door_answers_by_itself(void **state)
{
    struct flow f;
    (void)state;
    memset(&f, 0, sizeof(f));
    flow_config(&f);
    f.listener.kind = PST_LISTENER_LOCAL;
    f.listener.door = (struct pst_door){.asks_lease = asks_lease, .local = answer_local};
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, GET("/leased"));
    has(flow_read_until(c, "leased"), "\r\nContent-Length: 6\r\n");
    flow_send(c, GET("/deny") "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" GET("/"));
    has(flow_read_until(c, "fine"), "\r\nContent-Type: text/plain\r\n");
    has(flow_read_head(c), "\r\nContent-Length: 4\r\n");
    has(flow_read_until(c, "fine"), "HTTP/1.1 200 OK"); /* no body came between */
    close(c);
    flow_stop(&f);
}

static void drain_now(struct pst_worker *worker, void *payload)
{
    struct flow *f = payload;
    (void)worker;
    pst_server_drain(f->server);
}

static void drains(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int idle = flow_connect(&f), busy = flow_connect(&f);
    flow_send(idle, GET("/deny"));
    flow_read_until(idle, "\r\n\r\nnot-granted");
    flow_send(busy, GET("/a"));
    int up = flow_accept(&f);
    flow_read_head(up);
    assert_int_equal(pst_worker_post(f.worker, drain_now, &f), PST_OK);
    assert_true(flow_is_closed(idle, 3000));
    assert_int_equal(f.drained, 0);
    flow_send(up, OK2);
    const char *a = flow_read_until(busy, "");
    has(a, "\r\nConnection: close\r\n");
    has(a, "\r\n\r\nok");
    close(busy);
    for (int i = 0; i < 100 && f.drained == 0; i++)
        usleep(10000);
    assert_int_equal(f.drained, 1);
    close(idle);
    close(up);
    flow_stop(&f);
}

static void what_lasts_is_held_once_and_cut_visibly(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int quick = flow_connect(&f), c = flow_connect(&f);
    flow_send(quick, GET("/a"));
    int up = flow_accept(&f);
    flow_read_head(up);
    flow_send(up, OK2);
    flow_read_until(quick, "ok");
    flow_send(c, GET("/long")); /* on the pooled connection */
    flow_read_head(up);
    flow_send(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    flow_read_until(c, "\r\n2\r\nab\r\n");
    sleep(3); /* two ticks */
    assert_int_equal(f.held, 1);
    flow_send(up, "2\r\ncd\r\n0\r\n\r\n");
    has(flow_read_until(c, "0\r\n\r\n"), "cd"); /* it is not disturbed */

    f.cut = true;
    flow_send(c, GET("/longer"));
    flow_read_head(up);
    flow_send(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    flow_read_until(c, "\r\n2\r\nab\r\n");
    char byte;
    assert_int_equal(recv(c, &byte, 1, 0), -1); /* a reset, not an end */
    assert_int_equal(errno, ECONNRESET);
    assert_true(flow_is_closed(up, 1000));
    assert_int_equal(f.held, 2);
    close(quick);
    close(c);
    close(up);
    flow_stop(&f);
}

struct swap {
    struct flow *f;
    const struct pst_server_config *config;
};

static void swap_now(struct pst_worker *worker, void *payload)
{
    struct swap *s = payload;
    (void)worker;
    pst_server_swap(s->f->server, s->config);
}

static void a_reload_keeps_what_runs(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    struct pst_server_config next = f.config;
    next.identity.user = PST_LIT("X-New-User");
    struct swap swap = {&f, &next};
    int c = flow_connect(&f);
    flow_send(c, GET("/a"));
    int up = flow_accept(&f);
    has(flow_read_head(up), "X-Postern-User: alice");
    assert_int_equal(pst_worker_post(f.worker, swap_now, &swap), PST_OK);
    usleep(20000);
    assert_int_equal(f.released, 0); /* the running exchange still has it */
    flow_send(up, OK2);
    flow_read_until(c, "ok");
    flow_send(c, GET("/a"));
    has(flow_read_head(up), "X-New-User: alice");
    assert_int_equal(f.released, 1);
    flow_send(up, OK2);
    flow_read_until(c, "ok");
    close(c);
    close(up);
    flow_stop(&f);
}

static long resident_kib(void)
{
    long pages = 0, ignored;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_int_equal(fscanf(file, "%ld %ld", &ignored, &pages), 2);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

struct pump {
    int fd;
    uint64_t left;
};

static void *pump_out(void *arg)
{
    static char zeros[65536];
    struct pump *p = arg;

    while (p->left > 0) {
        size_t n = p->left < sizeof(zeros) ? (size_t)p->left : sizeof(zeros);
        flow_send_bytes(p->fd, zeros, n);
        p->left -= n;
    }
    return NULL;
}

static void swallow(int fd, uint64_t want)
{
    static char space[65536];

    while (want > 0) {
        ssize_t n = recv(fd, space, sizeof(space) < want ? sizeof(space) : (size_t)want, 0);
        assert_true(n > 0);
        want -= (uint64_t)n;
    }
}

/* `size` bytes to the upstream and back, the reader pausing first so that back-pressure has to
 * work. */
static void stream_both_ways(int c, int up, uint32_t size)
{
    char head[128];
    pthread_t thread;
    struct pump p = {c, size};

    snprintf(head, sizeof(head), "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %u\r\n\r\n", size);
    flow_send(c, head);
    flow_read_head(up);
    assert_int_equal(pthread_create(&thread, NULL, pump_out, &p), 0);
    usleep(50000);
    swallow(up, size);
    pthread_join(thread, NULL);
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", size);
    flow_send(up, head);
    flow_read_head(c);
    p = (struct pump){up, size};
    assert_int_equal(pthread_create(&thread, NULL, pump_out, &p), 0);
    usleep(50000);
    swallow(c, size);
    pthread_join(thread, NULL);
}

/* 64 MiB each way, after 4 MiB that fill the buffers and this program's own pages. */
static void streams_in_bounded_memory(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    int c = flow_connect(&f);
    flow_send(c, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    int up = flow_accept(&f);
    flow_read_head(up);
    flow_send(up, "HTTP/1.1 204 No Content\r\n\r\n");
    flow_read_head(c);
    stream_both_ways(c, up, 4u << 20);
    long before = resident_kib();
    stream_both_ways(c, up, 64u << 20);
    long grown = resident_kib() - before;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    const long most = 16384; /* shadow memory counts as resident */
#else
    const long most = 256;
#endif
    if (grown > most)
        fail_msg("resident memory grew by %ld KiB", grown);
    close(c);
    close(up);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_check_is_answered_without_a_body),
        cmocka_unit_test(each_target_of_a_check_is_read),
        cmocka_unit_test(a_check_from_elsewhere_is_refused),
        cmocka_unit_test(a_local_door_answers_by_itself),
        cmocka_unit_test(drains),
        cmocka_unit_test(what_lasts_is_held_once_and_cut_visibly),
        cmocka_unit_test(a_reload_keeps_what_runs),
        cmocka_unit_test(streams_in_bounded_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
