/* The feed on a real Redis: how it gets in, what it hears and says. */
#include "feed_world.h"

#define PASSWORD "correct horse"

static struct redis server;

static int start(void **state)
{
    (void)state;
    redis_start(&server, PASSWORD);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    redis_stop(&server);
    return 0;
}

static void open_here(struct world *w)
{
    make_world(w);
    add_address(w, "127.0.0.1:", server.port);
    set_password(w, PASSWORD);
    open_world(w);
    turn_until(w, is_up(w));
}

static void hears_what_it_says(void **state)
{
    struct world w;
    (void)state;

    open_here(&w);
    turn_until(&w, w.reads[PST_FEED_CONNECTED] == 1);
    assert_int_equal(w.events[PST_FEED_UP], 2);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 41, 42, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.reads[PST_FEED_NEWS] == 1);
    assert_int_equal(w.messages, 1);
    assert_int_equal(w.last.epoch, EPOCH);
    assert_int_equal(w.last.prev, 41);
    assert_int_equal(w.last.n, 42);
    assert_int_equal(w.last.kind, PST_FEED_CHANGE);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 42, 42, PST_FEED_HEARTBEAT), PST_OK);
    turn_until(&w, w.messages == 2 && pst_feed_stats(w.feed).published == 2);
    turn_for(&w, 100);
    assert_int_equal(w.reads[PST_FEED_NEWS], 1); /* the same head: nothing to read */
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 43, 44, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.reads[PST_FEED_GAP] == 1);
    struct pst_feed_stats s = pst_feed_stats(w.feed);
    assert_int_equal(s.messages, 3);
    assert_int_equal(s.heartbeats, 1);
    assert_int_equal(s.gaps, 1);
    assert_int_equal(s.publishers, 1);
    assert_int_equal(s.published, 3);
    assert_int_equal(s.dropped + s.garbage + s.silences, 0);
    assert_true(s.live);
    close_world(&w);
}

static void garbage_is_counted_and_ignored(void **state)
{
    static char big[40000];
    struct world w;
    (void)state;

    open_here(&w);
    turn_until(&w, w.reads[PST_FEED_CONNECTED] == 1);
    redis_ask(&server, "PUBLISH postern hello");
    redis_ask(&server, "PUBLISH postern %b", "", (size_t)0);
    memset(big, 'x', sizeof(big));
    redis_ask(&server, "PUBLISH postern %b", big, sizeof(big));
    redis_ask(&server, "PUBLISH elsewhere hello");
    turn_until(&w, pst_feed_stats(w.feed).garbage == 3);
    redis_ask(&server, "PUBLISH postern %s", "v1 1122334455667788 1 2 c other");
    turn_until(&w, w.messages == 1);
    assert_true(pst_feed_stats(w.feed).connected);
    assert_int_equal(w.reads[PST_FEED_GAP], 0);
    assert_int_equal(pst_feed_stats(w.feed).garbage, 3);
    close_world(&w);
}

/* A user who may do nothing but this; ROLE not even. */
static void a_user_of_the_acl(void **state)
{
    struct world w;
    (void)state;

    assert_string_equal(redis_ask(&server, "ACL SETUSER feed reset on >feedword resetchannels "
                                           "&postern +subscribe +publish +ping"),
                        "OK");
    make_world(&w);
    add_address(&w, "127.0.0.1:", server.port);
    w.config.user = PST_LIT("feed");
    set_password(&w, "feedword");
    open_world(&w);
    turn_until(&w, is_up(&w));
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 1);
    close_world(&w);

    make_world(&w); /* another channel is not its own */
    add_address(&w, "127.0.0.1:", server.port);
    w.config.user = PST_LIT("feed");
    w.config.channel = PST_LIT("secrets");
    w.config.publish = false;
    set_password(&w, "feedword");
    open_world(&w);
    turn_until(&w, w.events[PST_FEED_FAILED] == 1);
    assert_non_null(strstr(w.failure, "SUBSCRIBE refused: NOPERM"));
    close_world(&w);
}

static void refused(const char *user, const char *password, const char *why)
{
    struct world w;

    make_world(&w);
    add_address(&w, "127.0.0.1:", server.port);
    w.config.user = pst_bytes_of(user, strlen(user));
    w.config.publish = false;
    set_password(&w, password);
    open_world(&w);
    turn_until(&w, w.events[PST_FEED_FAILED] == 1);
    if (strstr(w.failure, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", w.failure, why);
    assert_true(password[0] == '\0' || strstr(w.failure, password) == NULL);
    assert_null(strstr(w.failure, PASSWORD));
    turn_for(&w, 1000);
    assert_int_equal(w.events[PST_FEED_FAILED], 1); /* told once, however often it is tried */
    assert_int_equal(w.events[PST_FEED_UP], 0);
    assert_int_equal(w.reads[PST_FEED_CONNECTED], 0);
    close_world(&w);
}

static void the_wrong_password_is_told_without_it(void **state)
{
    (void)state;
    refused("", "wr0ng-w0rd", "AUTH refused: WRONGPASS");
    refused("nobody", "wr0ng-w0rd", "AUTH refused: WRONGPASS");
    refused("", "", "SUBSCRIBE refused: NOAUTH");
}

static void a_unix_socket_and_a_name(void **state)
{
    struct world w;
    char text[128];
    (void)state;

    make_world(&w);
    (void)snprintf(text, sizeof(text), "unix:%s", server.socket);
    add_address(&w, text, "");
    set_password(&w, PASSWORD);
    open_world(&w);
    turn_until(&w, is_up(&w));
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 1);
    close_world(&w);

    make_world(&w); /* localhost is ::1 too, where nobody listens */
    add_address(&w, "localhost:", server.port);
    set_password(&w, PASSWORD);
    open_world(&w);
    turn_until(&w, is_up(&w));
    close_world(&w);
}

/* The first address is dead, the second one a replica: the third is it. */
static void the_addresses_are_tried_in_turn(void **state)
{
    struct redis replica = {0};
    struct world w;
    char dead[8];
    (void)state;

    assert_string_equal(redis_ask(&server, "CONFIG SET repl-diskless-sync-delay 0"), "OK");
    redis_dir(&replica);
    (void)snprintf(replica.password, sizeof(replica.password), "%s", PASSWORD);
    const char *more[] = {"--replicaof", "127.0.0.1", server.port, "--masterauth", PASSWORD, NULL};
    memcpy(replica.more, more, sizeof(more));
    redis_run(&replica);
    free_port(dead);
    make_world(&w);
    add_address(&w, "127.0.0.1:", dead);
    add_address(&w, "127.0.0.1:", replica.port);
    add_address(&w, "127.0.0.1:", server.port);
    set_password(&w, PASSWORD);
    open_world(&w);
    turn_until(&w, is_up(&w));
    assert_non_null(strstr(w.failure, "is no master"));
    /* from the master to the replica, to which the subscription went */
    turn_until(&w, strcmp(redis_ask(&server, "WAIT 1 100"), "1") == 0);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 1);
    close_world(&w);
    redis_stop(&replica);
}

static void what_cannot_be_sent_is_dropped(void **state)
{
    struct world w;
    char dead[8];
    (void)state;

    free_port(dead);
    make_world(&w);
    add_address(&w, "127.0.0.1:", dead);
    open_world(&w);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_E_BUSY);
    turn_until(&w, w.events[PST_FEED_FAILED] == 2); /* both sides */
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_E_BUSY);
    assert_int_equal(pst_feed_stats(w.feed).dropped, 2);
    close_world(&w);

    open_here(&w); /* a few may be on their way, no more */
    int sent = 0;
    while (sent < 1000 && pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE) == PST_OK)
        sent++;
    assert_int_equal(sent, 8);
    turn_until(&w, pst_feed_stats(w.feed).published == 8);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    close_world(&w);
}

static void once(void **state)
{
    struct world w, other;
    struct pst_error error = {0};
    (void)state;

    open_here(&w);
    make_world(&other);
    add_address(&other, "127.0.0.1:", server.port);
    set_password(&other, PASSWORD);
    other.config.node = PST_LIT("cli");
    other.config.publish = false; /* it publishes nevertheless: it was asked to */
    if (pst_feed_publish_once(&other.config, EPOCH, 7, 8, PST_FEED_CHANGE, 2000, &error) != PST_OK)
        fail_msg("%s", error.message);
    turn_until(&w, w.messages == 1);
    assert_int_equal(w.last.n, 8);
    close_world(&w);

    set_password(&other, "wr0ng");
    uint64_t start_ns = pst_clock_boot_ns();
    assert_int_equal(
        pst_feed_publish_once(&other.config, EPOCH, 7, 8, PST_FEED_CHANGE, 300, &error), PST_E_IO);
    uint64_t took_ms = (pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS;
    assert_non_null(strstr(error.message, "WRONGPASS"));
    assert_true(took_ms >= 290 && took_ms < 600);

    redis_signal(&server, SIGSTOP);
    set_password(&other, PASSWORD);
    assert_int_equal(
        pst_feed_publish_once(&other.config, EPOCH, 7, 8, PST_FEED_CHANGE, 300, &error), PST_E_IO);
    redis_signal(&server, SIGCONT);
}

static void publish_there(struct pst_worker *worker, void *payload)
{
    struct world *w = payload;

    (void)worker;
    if (!is_up(w)) { /* not yet: again in the next turn */
        usleep(1000);
        if (pst_worker_post(worker, publish_there, w) != PST_OK)
            abort();
        return;
    }
    if (pst_feed_publish(w->feed, EPOCH, 1, 2, PST_FEED_CHANGE) != PST_OK)
        abort();
}

static void stop_when_heard(void *ctx, const struct pst_feed_message *message)
{
    struct world *w = ctx;

    on_message(ctx, message);
    pst_worker_stop(w->worker);
}

/* Made here, used on the worker's thread, ended here. */
static void on_a_thread_of_its_own(void **state)
{
    static const struct pst_feed_ops ops = {on_read_log, stop_when_heard, on_event};
    struct world w;
    (void)state;

    make_world(&w);
    add_address(&w, "127.0.0.1:", server.port);
    set_password(&w, PASSWORD);
    assert_int_equal(pst_worker_create(0, &w.worker), PST_OK);
    assert_int_equal(pst_feed_create(w.worker, &w.config, &ops, &w, &w.feed, NULL), PST_OK);
    assert_int_equal(pst_worker_start(w.worker), PST_OK);
    assert_int_equal(pst_worker_post(w.worker, publish_there, &w), PST_OK);
    pst_worker_join(w.worker);
    assert_int_equal(w.messages, 1);
    close_world(&w);
}

static void wrong_configurations_are_named(void **state)
{
    struct world w;
    struct pst_error error = {0};
    struct pst_feed *feed;
    (void)state;

    assert_int_equal(pst_worker_create(0, &w.worker), PST_OK);
    struct pst_worker *worker = w.worker;
    make_world(&w);
    assert_int_equal(pst_feed_create(worker, &w.config, &world_ops, &w, &feed, &error),
                     PST_E_INVALID);
    add_address(&w, "nowhere", "");
    assert_int_equal(pst_feed_create(worker, &w.config, &world_ops, &w, &feed, &error),
                     PST_E_INVALID);
    assert_non_null(strstr(error.message, "nowhere"));
    make_world(&w);
    add_address(&w, "127.0.0.1:", "1");
    w.config.node = PST_LIT("a b");
    assert_int_equal(pst_feed_create(worker, &w.config, &world_ops, &w, &feed, &error),
                     PST_E_INVALID);
    w.config.node = PST_LIT("a");
    w.config.tls = true;
    w.config.ca_file = PST_LIT("/nonexistent");
    assert_int_equal(pst_feed_create(worker, &w.config, &world_ops, &w, &feed, &error),
                     PST_E_INVALID);
    assert_null(feed);
    pst_feed_destroy(NULL);
    pst_worker_destroy(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hears_what_it_says),
        cmocka_unit_test(garbage_is_counted_and_ignored),
        cmocka_unit_test(a_user_of_the_acl),
        cmocka_unit_test(the_wrong_password_is_told_without_it),
        cmocka_unit_test(a_unix_socket_and_a_name),
        cmocka_unit_test(the_addresses_are_tried_in_turn),
        cmocka_unit_test(what_cannot_be_sent_is_dropped),
        cmocka_unit_test(once),
        cmocka_unit_test(on_a_thread_of_its_own),
        cmocka_unit_test(wrong_configurations_are_named),
    };
    return cmocka_run_group_tests_name("sync/feed", tests, start, stop);
}
