/* What breaks between the feed and Redis: the feed notices, asks for a log read, and comes back. */
#include "feed_world.h"

#include <sys/socket.h>

static struct redis server;
static struct world w;

static int start(void **state)
{
    (void)state;
    redis_start(&server, "");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    redis_stop(&server);
    return 0;
}

static void open_here(void)
{
    make_world(&w);
    add_address(&w, "127.0.0.1:", server.port);
    open_world(&w);
    turn_until(&w, is_up(&w) && w.reads[PST_FEED_CONNECTED] == 1);
}

static void beat(uint64_t n)
{
    assert_int_equal(pst_feed_publish(w.feed, EPOCH, n, n, PST_FEED_HEARTBEAT), PST_OK);
}

static void back_again(void)
{
    turn_until(&w, is_up(&w));
    turn_until(&w, w.reads[PST_FEED_CONNECTED] == 2); /* what was said meanwhile is unknown */
    int messages = w.messages;
    beat(9);
    turn_until(&w, w.messages == messages + 1);
}

static void a_restart(void **state)
{
    (void)state;
    open_here();
    redis_end(&server, SIGTERM);
    turn_until(&w, w.events[PST_FEED_DOWN] == 2);
    assert_false(pst_feed_stats(w.feed).connected);
    turn_for(&w, 300);
    redis_run(&server);
    back_again();
    assert_int_equal(pst_feed_stats(w.feed).connects, 2);
    close_world(&w);
}

static void a_kill(void **state)
{
    (void)state;
    open_here();
    redis_end(&server, SIGKILL);
    turn_until(&w, w.events[PST_FEED_DOWN] == 2);
    redis_run(&server);
    back_again();
    close_world(&w);
}

/* Nothing is closed, nothing comes: heartbeats are missed first, then the sign of life. */
static void a_stop(void **state)
{
    (void)state;
    open_here();
    beat(5);
    turn_until(&w, w.messages == 1);
    redis_signal(&server, SIGSTOP);
    uint64_t start_ns = pst_clock_boot_ns();
    turn_until(&w, w.reads[PST_FEED_SILENCE] == 1);
    uint64_t took_ms = (pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS;
    assert_true(took_ms >= 550 && took_ms < 800);
    assert_false(pst_feed_stats(w.feed).live);
    assert_true(pst_feed_stats(w.feed).connected);
    turn_until(&w, w.events[PST_FEED_DOWN] == 2);
    assert_non_null(strstr(w.failure, "does not answer"));
    took_ms = (pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS;
    assert_true(took_ms < 4000);
    redis_signal(&server, SIGCONT);
    back_again();
    assert_int_equal(w.reads[PST_FEED_SILENCE], 1);
    close_world(&w);
}

static void a_quiet_channel_is_kept(void **state)
{
    (void)state;
    make_world(&w);
    add_address(&w, "127.0.0.1:", server.port);
    w.config.idle_ms = 100;
    open_world(&w);
    turn_until(&w, is_up(&w));
    turn_for(&w, 1000); /* ten signs of life each */
    assert_true(is_up(&w));
    assert_int_equal(w.events[PST_FEED_DOWN] + w.events[PST_FEED_FAILED], 0);
    assert_int_equal(pst_feed_stats(w.feed).connects, 1);
    close_world(&w);
}

static void a_killed_client(void **state)
{
    (void)state;
    open_here();
    assert_string_equal(redis_ask(&server, "CLIENT KILL TYPE pubsub"), "1");
    turn_until(&w, w.events[PST_FEED_DOWN] == 1);
    assert_true(pst_feed_stats(w.feed).can_publish);
    back_again();
    close_world(&w);
}

/* A subscriber that does not keep up is cut by Redis, and loses what waited for it. */
static void a_full_output_buffer(void **state)
{
    static char big[1 << 20];
    (void)state;

    open_here();
    assert_string_equal(
        redis_ask(&server, "CONFIG SET client-output-buffer-limit %s", "pubsub 1mb 1mb 1"), "OK");
    memset(big, 'x', sizeof(big));
    int i = 0;
    while (strcmp(redis_ask(&server, "PUBLISH postern %b", big, sizeof(big)), "0") != 0)
        assert_true(++i < 100); /* nobody turns the loop meanwhile */
    turn_until(&w, w.events[PST_FEED_DOWN] >= 1);
    turn_until(&w, w.reads[PST_FEED_CONNECTED] == 2);
    close_world(&w);
}

/* The loop stands still for as long as two heartbeats; they are there when it goes on. */
static void a_stalled_loop(void **state)
{
    (void)state;
    open_here();
    beat(5);
    turn_until(&w, w.messages == 1);
    for (int round = 0; round < 5; round++) {
        usleep(500000);
        redis_ask(&server, "PUBLISH postern %s", "v1 1122334455667788 5 5 h other");
        usleep(300000);
        pst_worker_turn(w.worker, 5);
        turn_for(&w, 20);
        assert_int_equal(w.messages, 2 + round);
        assert_int_equal(w.reads[PST_FEED_SILENCE], 0);
    }
    turn_until(&w, w.reads[PST_FEED_SILENCE] == 1); /* and it can be found */
    close_world(&w);
}

/* In one turn: stands still for longer than heartbeats may be missing, then has the feed look at
 * the time. The loop has not seen yet what came meanwhile. */
static void stand_still(struct pst_worker *worker, void *payload)
{
    (void)worker, (void)payload;
    usleep(500000);
    redis_ask(&server, "PUBLISH postern %s", "v1 1122334455667788 5 5 h other");
    usleep(300000);
    beat(5);
}

static void what_waits_in_the_kernel_is_no_silence(void **state)
{
    (void)state;
    open_here();
    beat(5);
    turn_until(&w, w.messages == 1);
    turn_for(&w, 20); /* nothing else is ready in that turn */
    assert_int_equal(pst_worker_post(w.worker, stand_still, NULL), PST_OK);
    turn_until(&w, w.messages >= 2);
    turn_for(&w, 20);
    assert_int_equal(pst_feed_stats(w.feed).silences, 0);
    close_world(&w);
}

static void a_flood(void **state)
{
    char text[96];
    redisContext *c;
    (void)state;

    open_here();
    c = redis_open(&server);
    assert_non_null(c);
    uint64_t start_ns = pst_clock_boot_ns();
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(text, sizeof(text), "v1 000000000000%04x %d %d c forged", i % 0x10000, i,
                       i + 5);
        redisAppendCommand(c, "PUBLISH postern %s", text);
        if (i % 100 == 99) {
            for (int k = 0; k < 100; k++) {
                void *reply = NULL;
                assert_int_equal(redisGetReply(c, &reply), REDIS_OK);
                freeReplyObject(reply);
            }
            pst_worker_turn(w.worker, 0);
        }
    }
    turn_until(&w, w.messages == 20000);
    turn_for(&w, 100);
    uint64_t took_ms = (pst_clock_boot_ns() - start_ns) / PST_NS_PER_MS;
    struct pst_feed_stats s = pst_feed_stats(w.feed);
    assert_true(s.reads <= 2 + took_ms / 50);
    assert_true(s.reads >= took_ms / 100);
    redisFree(c);
    close_world(&w);
}

/* ---- servers that are no Redis ---- */

static int listen_here(char port[8])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(port, 8, "%d", ntohs(at.sin_port));
    return fd;
}

/* Connects to us, gets `head`, then `chunk` again and again; how many bytes it took until it left.
 */
static size_t talk(const char *head, const char *chunk, size_t chunk_len, size_t most)
{
    char port[8];
    int listener = listen_here(port), peer = -1;
    size_t sent = 0;

    make_world(&w);
    add_address(&w, "127.0.0.1:", port);
    w.config.publish = false;
    open_world(&w);
    turn_until(&w, (peer = accept(listener, NULL, NULL)) >= 0);
    assert_int_equal(send(peer, head, strlen(head), MSG_NOSIGNAL), strlen(head));
    while (w.events[PST_FEED_FAILED] + w.events[PST_FEED_DOWN] == 0 && sent < most) {
        ssize_t n = chunk_len == 0 ? 0 : send(peer, chunk, chunk_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        pst_worker_turn(w.worker, 1);
    }
    close(peer);
    close(listener);
    close_world(&w);
    return sent;
}

static void endless_replies_are_cut(void **state)
{
    static char chunk[4096];
    const char *up = "*3\r\n$9\r\nsubscribe\r\n$7\r\npostern\r\n:1\r\n";
    char head[128];
    (void)state;

    memset(chunk, 'x', sizeof(chunk));
    (void)snprintf(head, sizeof(head), "%s*3\r\n$7\r\nmessage\r\n$7\r\npostern\r\n$500000000\r\n",
                   up);
    assert_in_range(talk(head, chunk, sizeof(chunk), 100 << 20), 1, 16 << 20);
    assert_non_null(strstr(w.failure, "too long"));
    assert_in_range(talk("+", chunk, sizeof(chunk), 100 << 20), 1, 16 << 20);
    assert_non_null(strstr(w.failure, "too long"));
    for (size_t i = 0; i < sizeof(chunk); i += 4)
        memcpy(chunk + i, ":1\r\n", 4);
    (void)snprintf(head, sizeof(head), "%s*1000000000\r\n", up);
    talk(head, chunk, sizeof(chunk), 100 << 20); /* not a byte is taken for such an array */
    assert_non_null(strstr(w.failure, "does not speak as Redis"));
}

static void nonsense_ends_the_connection(void **state)
{
    static const char *const texts[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                        "+OK\r\n",
                                        ":1\r\n",
                                        "*-1\r\n",
                                        "$3\r\nabc\r\n",
                                        "*1\r\n$7\r\nmessage\r\n",
                                        "-LOADING Redis is loading\r\n",
                                        "\r\n",
                                        "*9\r\n*9\r\nx"};
    (void)state;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        talk(texts[i], "", 0, 1);
        if (w.events[PST_FEED_FAILED] != 1 || strstr(w.failure, "does not answer") != NULL)
            fail_msg("was taken: %s", texts[i]);
    }
    talk("-LOADING Redis is \r\n", "", 0, 1);
    assert_non_null(strstr(w.failure, "SUBSCRIBE refused: LOADING"));
    /* as Redis says it of a command that was renamed: with what stood behind it */
    talk("-ERR unknown, with args: 'w0rd'\r\n", "", 0, 1);
    assert_non_null(strstr(w.failure, "refused: ERR"));
    assert_null(strstr(w.failure, "w0rd"));
}

/* Attempts come after 50 ms, then ever more seldom. */
static void the_rest_grows(void **state)
{
    char port[8];
    int listener = listen_here(port), peer, attempts = 0;
    (void)state;

    make_world(&w);
    add_address(&w, "127.0.0.1:", port);
    w.config.publish = false;
    open_world(&w);
    uint64_t end = pst_clock_boot_ns() + 3 * PST_NS_PER_S;
    while (pst_clock_boot_ns() < end) {
        pst_worker_turn(w.worker, 5);
        if ((peer = accept(listener, NULL, NULL)) >= 0) {
            attempts++;
            close(peer);
        }
    }
    assert_in_range(attempts, 5, 9); /* 50+100+200+400+800+1600 ms, each halved at most */
    close(listener);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart),
        cmocka_unit_test(a_kill),
        cmocka_unit_test(a_stop),
        cmocka_unit_test(a_quiet_channel_is_kept),
        cmocka_unit_test(a_killed_client),
        cmocka_unit_test(a_full_output_buffer),
        cmocka_unit_test(a_stalled_loop),
        cmocka_unit_test(what_waits_in_the_kernel_is_no_silence),
        cmocka_unit_test(a_flood),
        cmocka_unit_test(endless_replies_are_cut),
        cmocka_unit_test(nonsense_ends_the_connection),
        cmocka_unit_test(the_rest_grows),
    };
    return cmocka_run_group_tests_name("sync/feed_faults", tests, start, stop);
}
