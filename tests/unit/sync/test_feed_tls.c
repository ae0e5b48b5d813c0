/* The feed over TLS to a real Redis: in by the right chain and name, not otherwise. */
#include "../certs.h"
#include "feed_world.h"

#include <sys/socket.h>

static struct redis server, old, strict;
static char ca[128], other_ca[128], mine[128], mine_key[128];

/* r->dir is there; keys are in that of `server`. */
static void serve_tls(struct redis *r, const char *certificate, const char *clients)
{
    static char paths[6][128];
    static int used;
    char *cert = paths[used++], *key = paths[used++];

    free_port(r->tls_port);
    (void)snprintf(cert, sizeof(paths[0]), "%s/%s.pem", server.dir, certificate);
    (void)snprintf(key, sizeof(paths[0]), "%s/%s.key", server.dir, certificate);
    const char *more[] = {"--tls-port",
                          r->tls_port,
                          "--tls-cert-file",
                          cert,
                          "--tls-key-file",
                          key,
                          "--tls-ca-cert-file",
                          ca,
                          "--tls-auth-clients",
                          clients,
                          NULL};
    memcpy(r->more, more, sizeof(more));
    redis_run(r);
}

static int start(void **state)
{
    (void)state;
    redis_dir(&server);
    redis_dir(&old);
    redis_dir(&strict);
    make_authority(server.dir, "ca");
    make_authority(server.dir, "other");
    make_certificate(server.dir, "ca", "good", "DNS:localhost,DNS:redis.test,IP:127.0.0.1", 2);
    make_certificate(server.dir, "ca", "past", "IP:127.0.0.1", -1);
    make_certificate(server.dir, "ca", "mine", "DNS:node-1", 2);
    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", server.dir);
    (void)snprintf(other_ca, sizeof(other_ca), "%s/other.pem", server.dir);
    (void)snprintf(mine, sizeof(mine), "%s/mine.pem", server.dir);
    (void)snprintf(mine_key, sizeof(mine_key), "%s/mine.key", server.dir);
    serve_tls(&server, "good", "no");
    serve_tls(&old, "past", "no");
    serve_tls(&strict, "good", "yes");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    redis_stop(&old);
    redis_stop(&strict);
    redis_stop(&server);
    return 0;
}

static void make_tls_world(struct world *w, const char *host, const char *port,
                           const char *authority)
{
    make_world(w);
    add_address(w, host, port);
    w->config.tls = true;
    w->config.ca_file = pst_bytes_of(authority, strlen(authority));
}

static void lets_in(struct world *w)
{
    open_world(w);
    turn_until(w, is_up(w));
    assert_int_equal(pst_feed_publish(w->feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    turn_until(w, w->messages == 1);
}

static void keeps_out(struct world *w, const char *why)
{
    open_world(w);
    turn_until(w, w->events[PST_FEED_FAILED] == 2);
    if (strstr(w->failure, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", w->failure, why);
    turn_for(w, 300);
    assert_int_equal(w->events[PST_FEED_UP], 0);
    close_world(w);
}

static void the_right_chain_and_name(void **state)
{
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca); /* an address of the certificate */
    lets_in(&w);
    close_world(&w);
    make_tls_world(&w, "localhost:", server.tls_port, ca); /* a name of it */
    lets_in(&w);
    close_world(&w);
    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca); /* a name that is configured */
    w.config.server_name = PST_LIT("redis.test");
    lets_in(&w);
    close_world(&w);
}

static void wrong_ones_are_refused(void **state)
{
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", server.tls_port, other_ca);
    keeps_out(&w, "certificate");
    make_tls_world(&w, "127.0.0.1:", server.tls_port, "");
    keeps_out(&w, "certificate"); /* the system does not know it either */
    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca);
    w.config.server_name = PST_LIT("redis.example");
    keeps_out(&w, "hostname mismatch");
    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca);
    w.config.server_name = PST_LIT("127.0.0.2");
    keeps_out(&w, "IP address mismatch");
    make_tls_world(&w, "127.0.0.1:", old.tls_port, ca);
    keeps_out(&w, "certificate has expired");
}

static void plain_text_is_no_tls(void **state)
{
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", server.port, ca);
    open_world(&w);
    turn_until(&w, w.events[PST_FEED_FAILED] == 2);
    assert_int_equal(w.events[PST_FEED_UP], 0);
    close_world(&w);
    make_world(&w); /* and the other way round */
    add_address(&w, "127.0.0.1:", server.tls_port);
    open_world(&w);
    turn_until(&w, w.events[PST_FEED_FAILED] == 2);
    assert_int_equal(w.events[PST_FEED_UP], 0);
    close_world(&w);
}

/* Redis asks for certificates of its clients unless it is told not to. */
static void a_certificate_of_our_own(void **state)
{
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", strict.tls_port, ca);
    open_world(&w);
    turn_until(&w, w.events[PST_FEED_FAILED] >= 2);
    assert_int_equal(w.events[PST_FEED_UP], 0);
    close_world(&w);
    make_tls_world(&w, "127.0.0.1:", strict.tls_port, ca);
    w.config.cert_file = pst_bytes_of(mine, strlen(mine));
    w.config.key_file = pst_bytes_of(mine_key, strlen(mine_key));
    lets_in(&w);
    close_world(&w);
    make_tls_world(&w, "127.0.0.1:", strict.tls_port, ca); /* a key of somebody else */
    w.config.cert_file = pst_bytes_of(mine, strlen(mine));
    w.config.key_file = pst_bytes_of(other_ca, strlen(other_ca));
    struct pst_error error = {0};
    struct pst_worker *worker;
    struct pst_feed *feed;
    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    assert_int_equal(pst_feed_create(worker, &w.config, &world_ops, &w, &feed, &error),
                     PST_E_INVALID);
    assert_string_equal(error.where, other_ca);
    pst_worker_destroy(worker);
}

/* Records, replies and reads do not end at the same places. */
static void large_replies(void **state)
{
    static char big[60000];
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca);
    lets_in(&w);
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 50; i++)
        redis_ask(&server, "PUBLISH postern %b", big, sizeof(big) - (size_t)i * 1000);
    turn_until(&w, pst_feed_stats(w.feed).garbage == 50);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 2, 3, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 2);
    assert_int_equal(w.events[PST_FEED_DOWN], 0);
    close_world(&w);
}

static void it_comes_back(void **state)
{
    struct world w;
    (void)state;

    make_tls_world(&w, "127.0.0.1:", server.tls_port, ca);
    lets_in(&w);
    redis_end(&server, SIGKILL);
    turn_until(&w, w.events[PST_FEED_DOWN] == 2);
    redis_run(&server);
    turn_until(&w, is_up(&w) && w.reads[PST_FEED_CONNECTED] == 2);
    close_world(&w);
}

/* It accepts and says nothing: the deadline is that of connecting. */
static void a_silent_server(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    struct world w;
    char port[8];
    (void)state;

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(port, sizeof(port), "%d", ntohs(at.sin_port));
    make_tls_world(&w, "127.0.0.1:", port, ca);
    w.config.connect_ms = 200;
    open_world(&w);
    uint64_t start_ns = pst_clock_boot_ns();
    turn_until(&w, w.events[PST_FEED_FAILED] == 2);
    assert_in_range((pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS, 190, 500);
    assert_non_null(strstr(w.failure, "cannot be connected to in time"));
    close_world(&w);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_chain_and_name),
        cmocka_unit_test(wrong_ones_are_refused),
        cmocka_unit_test(plain_text_is_no_tls),
        cmocka_unit_test(a_certificate_of_our_own),
        cmocka_unit_test(large_replies),
        cmocka_unit_test(it_comes_back),
        cmocka_unit_test(a_silent_server),
    };
    return cmocka_run_group_tests_name("sync/feed_tls", tests, start, stop);
}
