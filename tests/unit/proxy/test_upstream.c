/* Pools of a name: what it leads to is asked again, and what it does not lead to any more is left.
 */
/* wrap: pst_lookup_start pst_lookup_cancel clock_gettime */
#include "../test.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "postern/net/resolver.h"
#include "postern/proxy/upstream.h"

static time_t ahead_s; /* of the real clock */
static struct pst_lookup *asked;

int __real_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    int result = __real_clock_gettime(id, t);

    t->tv_sec += ahead_s;
    return result;
}

enum pst_status __wrap_pst_lookup_start(struct pst_resolver *resolver, struct pst_lookup *lookup,
                                        const char *host, uint16_t port);
enum pst_status __wrap_pst_lookup_start(struct pst_resolver *resolver, struct pst_lookup *lookup,
                                        const char *host, uint16_t port)
{
    (void)resolver, (void)port;
    assert_string_equal(host, "app.test");
    assert_null(asked);
    lookup->query_ = (struct pst_query *)(void *)&ahead_s;
    asked = lookup;
    return PST_OK;
}

void __wrap_pst_lookup_cancel(struct pst_lookup *lookup);
void __wrap_pst_lookup_cancel(struct pst_lookup *lookup)
{
    lookup->query_ = NULL;
}

struct world {
    struct pst_worker *worker;
    struct pst_metrics metrics;
    struct pst_pools *pools;
    struct pst_upstream_config config;
    char address[32];
    uint16_t port;
    int one, two; /* listeners at 127.0.0.1 and 127.0.0.2 */
    struct pst_borrower borrower;
    struct pst_loan *lent;
    enum pst_status status;
};

static struct world *now_in;

static int listen_at(uint32_t host, uint16_t *port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(host)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(listen(fd, 8) | getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void on_ready(struct pst_borrower *borrower, struct pst_loan *lease, enum pst_status status)
{
    (void)borrower;
    now_in->lent = lease;
    now_in->status = status;
}

static void on_nothing(struct pst_borrower *borrower)
{
    (void)borrower;
}

static void begin(struct world *w)
{
    *w = (struct world){.one = -1, .two = -1};
    now_in = w;
    asked = NULL;
    ahead_s = 0;
    for (int i = 0; i < 100 && w->two < 0; i++) { /* a port that is free at both */
        if (w->one >= 0)
            close(w->one);
        w->port = 0;
        w->one = listen_at(INADDR_LOOPBACK, &w->port);
        w->two = listen_at(INADDR_LOOPBACK + 1, &w->port);
    }
    assert_true(w->two >= 0);
    (void)snprintf(w->address, sizeof(w->address), "app.test:%u", w->port);
    w->config =
        (struct pst_upstream_config){.name = PST_LIT("app"),
                                     .address = pst_bytes_of(w->address, strlen(w->address)),
                                     .idle_s = 200,
                                     .max_idle = 8};
    w->borrower =
        (struct pst_borrower){.ready = on_ready, .readable = on_nothing, .drained = on_nothing};
    assert_int_equal(pst_worker_create(0, &w->worker), PST_OK);
    assert_int_equal(pst_pools_create(w->worker, &w->metrics, &w->pools), PST_OK);
}

static void end(struct world *w)
{
    pst_pools_destroy(w->pools);
    pst_worker_turn(w->worker, 0);
    pst_worker_destroy(w->worker);
    close(w->one);
    close(w->two);
}

/* The name leads to so many of 127.0.0.`first` and what follows. */
static void leads_to(struct world *w, uint32_t first, uint8_t count)
{
    struct pst_address addresses[2] = {0};
    struct pst_lookup *lookup = asked;

    assert_non_null(lookup);
    for (uint8_t i = 0; i < count; i++) {
        addresses[i].len = sizeof(struct sockaddr_in);
        addresses[i].sa.v4 =
            (struct sockaddr_in){.sin_family = AF_INET,
                                 .sin_port = htons(w->port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + first + i)};
    }
    asked = NULL;
    lookup->query_ = NULL;
    lookup->done(lookup, addresses, count);
}

static struct pst_loan *lease(struct world *w)
{
    w->lent = NULL;
    w->status = PST_PENDING;
    struct pst_loan *at_once = NULL;
    enum pst_status status =
        pst_pools_lease(w->pools, &w->config, PST_LIT("blue"), false, &w->borrower, &at_once);
    if (status == PST_OK)
        return at_once;
    assert_int_equal(status, PST_PENDING);
    return NULL;
}

static struct pst_loan *connected(struct world *w)
{
    for (int i = 0; i < 200 && w->lent == NULL; i++)
        pst_worker_turn(w->worker, 10);
    assert_non_null(w->lent);
    return w->lent;
}

static int accepted(int listener)
{
    int fd = -1;

    for (int i = 0; i < 200 && (fd = accept(listener, NULL, NULL)) < 0; i++)
        usleep(5000);
    return fd;
}

static bool is_closed(struct world *w, int fd)
{
    char byte;

    pst_worker_turn(w->worker, 0); /* what was buried is gone */
    for (int i = 0; i < 20; i++) {
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN)
            return true;
        usleep(5000);
    }
    return false;
}

static void a_name_that_moved_takes_its_traffic_along(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_null(lease(&w));
    leads_to(&w, 1, 1);
    struct pst_loan *first = connected(&w);
    int old = accepted(w.one);
    assert_true(old >= 0);
    pst_loan_release(first, true);

    assert_ptr_equal(lease(&w), first);
    assert_null(asked); /* not again within 30 s */
    struct pst_borrower other = w.borrower;
    struct pst_loan *second = NULL;
    assert_int_equal(pst_pools_lease(w.pools, &w.config, PST_LIT("blue"), false, &other, &second),
                     PST_PENDING);
    second = connected(&w);
    int idle = accepted(w.one);
    assert_true(idle >= 0);
    pst_loan_release(second, true);

    ahead_s += 31;
    pst_worker_turn(w.worker, 0);
    struct pst_loan *third = lease(&w); /* asks, and is not made to wait */
    assert_ptr_equal(third, second);
    pst_loan_release(third, true);
    leads_to(&w, 2, 1);
    assert_true(is_closed(&w, idle)); /* nobody used it */
    assert_false(is_closed(&w, old)); /* somebody does */
    pst_loan_release(first, true);
    assert_true(is_closed(&w, old));

    assert_null(lease(&w));
    struct pst_loan *fourth = connected(&w);
    int fresh = accepted(w.two);
    assert_true(fresh >= 0);
    pst_loan_release(fourth, true);
    close(old);
    close(idle);
    close(fresh);
    end(&w);
}

static void a_name_that_stayed_keeps_its_connections(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_null(lease(&w));
    leads_to(&w, 1, 1);
    struct pst_loan *first = connected(&w);
    int up = accepted(w.one);
    pst_loan_release(first, true);
    for (int round = 0; round < 3; round++) {
        ahead_s += 31;
        pst_worker_turn(w.worker, 0);
        assert_ptr_equal(lease(&w), first);
        pst_loan_release(first, true);
        if (round == 1)
            leads_to(&w, 1, 0); /* no answer: the old addresses stay */
        else
            leads_to(&w, 1, 2); /* one more */
        assert_false(is_closed(&w, up));
    }
    close(up);
    end(&w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_moved_takes_its_traffic_along),
        cmocka_unit_test(a_name_that_stayed_keeps_its_connections),
    };
    return cmocka_run_group_tests_name("proxy/upstream", tests, NULL, NULL);
}
