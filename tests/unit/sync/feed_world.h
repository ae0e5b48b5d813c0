/*
 * feed_world.h - a feed on a loop that the test turns, and what it told.
 */
#ifndef POSTERN_TESTS_UNIT_SYNC_FEED_WORLD_H
#define POSTERN_TESTS_UNIT_SYNC_FEED_WORLD_H

#include "redis.h"

#include "postern/sync/feed.h"

#define EPOCH UINT64_C(0x1122334455667788)

struct world {
    struct pst_worker *worker;
    struct pst_feed *feed;
    struct pst_bytes addresses[4];
    char texts[4][128];
    struct pst_feed_config config;
    int reads[PST_FEED_SILENCE + 1], messages;
    int events[PST_FEED_FAILED + 1];
    char event[256]; /* the last one */
    char failure[256];
    uint64_t read_ns; /* the last one */
    struct pst_feed_message last;
};

static inline void on_read_log(void *ctx, enum pst_feed_why why)
{
    struct world *w = ctx;

    w->reads[why]++;
    w->read_ns = pst_clock_boot_ns();
}

static inline void on_message(void *ctx, const struct pst_feed_message *message)
{
    struct world *w = ctx;

    w->messages++;
    w->last = *message;
}

static inline void on_event(void *ctx, enum pst_feed_event event, const char *text)
{
    struct world *w = ctx;

    w->events[event]++;
    (void)snprintf(w->event, sizeof(w->event), "%s", text);
    if (event != PST_FEED_UP)
        (void)snprintf(w->failure, sizeof(w->failure), "%s", text);
}

static const struct pst_feed_ops world_ops = {on_read_log, on_message, on_event};

static inline void add_address(struct world *w, const char *host, const char *port)
{
    char *text = w->texts[w->config.address_count];

    int n = snprintf(text, sizeof(w->texts[0]), "%s%s", host, port);
    w->addresses[w->config.address_count++] = pst_bytes_of(text, (size_t)n);
    w->config.addresses = w->addresses;
}

/* Zeroes it; the configuration can be changed before open_world. */
static inline void make_world(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->config.publish = true;
    w->config.node = PST_LIT("node-1");
}

static inline void set_password(struct world *w, const char *password)
{
    w->config.password = pst_bytes_of(password, strlen(password));
}

static inline void open_world(struct world *w)
{
    struct pst_error error = {0};

    assert_int_equal(pst_worker_create(0, &w->worker), PST_OK);
    if (pst_feed_create(w->worker, &w->config, &world_ops, w, &w->feed, &error) != PST_OK)
        fail_msg("%s", error.message);
}

static inline void close_world(struct world *w)
{
    pst_feed_destroy(w->feed);
    pst_worker_turn(w->worker, 0);
    assert_int_equal(w->worker->own.blocks_out, 0);
    pst_worker_destroy(w->worker);
}

static inline bool turn_for(struct world *w, uint32_t ms)
{
    uint64_t end = pst_clock_boot_ns() + ms * PST_NS_PER_MS;

    while (pst_clock_boot_ns() < end)
        pst_worker_turn(w->worker, 5);
    return true;
}

/* Turns the loop until the condition holds, 10 s at most. */
#define turn_until(w, condition)                                                                   \
    do {                                                                                           \
        uint64_t end_ = pst_clock_boot_ns() + 10 * PST_NS_PER_S;                                   \
        while (!(condition)) {                                                                     \
            if (pst_clock_boot_ns() > end_)                                                        \
                fail_msg("not in time: %s; last told: %s", #condition, (w)->event);                \
            pst_worker_turn((w)->worker, 5);                                                       \
        }                                                                                          \
    } while (0)

static inline bool is_up(const struct world *w)
{
    struct pst_feed_stats s = pst_feed_stats(w->feed);

    return s.connected && (s.can_publish || !w->config.publish);
}

#endif
