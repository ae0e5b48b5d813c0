/* Two Redis, a Sentinel that decides alone: the feed finds the master, and the next one. */
#include "feed_world.h"

static struct redis first, second, sentinel;

static void start_sentinel(void)
{
    char path[128];

    redis_dir(&sentinel);
    (void)snprintf(path, sizeof(path), "%s/sentinel.conf", sentinel.dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "port %s\nbind 127.0.0.1\nunixsocket %s\ndir %s\n"
                  "sentinel monitor fleet 127.0.0.1 %s 1\n"
                  "sentinel auth-pass fleet word\n"
                  "sentinel down-after-milliseconds fleet 500\n"
                  "sentinel failover-timeout fleet 2000\n",
                  sentinel.port, sentinel.socket, sentinel.dir, first.port);
    assert_int_equal(fclose(file), 0);
    char *argv[] = {(char *)(uintptr_t) "redis-sentinel", path, NULL};
    sentinel.pid = spawn(sentinel.dir, argv);
    redis_await(&sentinel, "redis-sentinel");
}

static int start(void **state)
{
    (void)state;
    redis_dir(&first);
    (void)snprintf(first.password, sizeof(first.password), "word");
    const char *of_first[] = {"--masterauth", "word", "--repl-diskless-sync-delay", "0", NULL};
    memcpy(first.more, of_first, sizeof(of_first));
    redis_run(&first);
    memset(&second, 0, sizeof(second));
    redis_dir(&second);
    (void)snprintf(second.password, sizeof(second.password), "word");
    const char *more[] = {"--replicaof", "127.0.0.1", first.port, "--masterauth", "word", NULL};
    memcpy(second.more, more, sizeof(more));
    redis_run(&second);
    for (int i = 0; i < 500; i++) { /* a Sentinel asks its master for replicas every 10 s only */
        if (strcmp(redis_ask(&first, "WAIT 1 100"), "1") == 0)
            break;
        usleep(20000);
    }
    start_sentinel();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    redis_stop(&sentinel);
    redis_stop(&first);
    redis_stop(&second);
    return 0;
}

static void make_sentinel_world(struct world *w, const char *master)
{
    static char dead[8];

    free_port(dead);
    make_world(w);
    add_address(w, "127.0.0.1:", dead); /* one of the Sentinels is gone */
    add_address(w, "127.0.0.1:", sentinel.port);
    w->config.master = pst_bytes_of(master, strlen(master));
    set_password(w, "word");
}

static void a_master_that_nobody_knows(void **state)
{
    struct world w;
    (void)state;

    make_sentinel_world(&w, "nobody");
    open_world(&w);
    turn_until(&w, strstr(w.failure, "does not know the master") != NULL);
    assert_int_equal(w.events[PST_FEED_UP], 0);
    close_world(&w);
}

static void a_failover(void **state)
{
    struct world w;
    (void)state;

    make_sentinel_world(&w, "fleet");
    open_world(&w);
    turn_until(&w, is_up(&w));
    assert_non_null(strstr(w.event, first.port));
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 1, 2, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 1);

    for (int i = 0; i < 750 && strcmp(redis_ask(&sentinel, "SENTINEL replicas fleet"), "") == 0;
         i++)
        turn_for(&w, 20);
    redis_end(&first, SIGKILL);
    uint64_t start_ns = pst_clock_boot_ns();
    turn_until(&w, w.events[PST_FEED_DOWN] == 2);
    while (!is_up(&w)) {
        pst_worker_turn(w.worker, 5);
        if (pst_clock_boot_ns() - start_ns > 30 * PST_NS_PER_S)
            fail_msg("no fail-over within 30 s: %s", w.event);
    }
    print_message("            back after %d ms\n",
                  (int)((pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS));
    assert_non_null(strstr(w.event, second.port));
    assert_string_equal(redis_ask(&second, "ROLE"), "master");
    turn_until(&w, w.reads[PST_FEED_CONNECTED] == 2);
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, 2, 3, PST_FEED_CHANGE), PST_OK);
    turn_until(&w, w.messages == 2);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_master_that_nobody_knows),
        cmocka_unit_test(a_failover),
    };
    return cmocka_run_group_tests_name("sync/feed_sentinel", tests, start, stop);
}
