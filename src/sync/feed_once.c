/*
 * A publishing link on a loop of its own, turned until the answer.
 */
#include "feed_internal.h"

#include <stdio.h>

struct attempt {
    char failure[192];
};

static void note_failure(void *ctx, enum pst_feed_event event, const char *text)
{
    struct attempt *a = ctx;

    if (event != PST_FEED_UP)
        (void)snprintf(a->failure, sizeof(a->failure), "%s", text);
}

static bool turn_until_published(struct pst_worker *worker, struct pst_feed *feed,
                                 const struct pst_feed_message *m, uint64_t deadline_ns)
{
    bool asked = false;

    while (feed->published == 0) {
        uint64_t now_ns = pst_clock_boot_ns();
        if (now_ns >= deadline_ns)
            return false;
        if (feed->publisher.state != FEED_READY)
            asked = false; /* and the answer to what was asked will not come */
        else if (!asked)
            asked = pst_feed_publish(feed, m->epoch, m->prev, m->n, m->kind) == PST_OK;
        pst_worker_turn(worker, (uint32_t)((deadline_ns - now_ns) / PST_NS_PER_MS) + 1);
    }
    return true;
}

enum pst_status pst_feed_publish_once(const struct pst_feed_config *config, uint64_t epoch,
                                      uint64_t prev, uint64_t n, enum pst_feed_kind kind,
                                      uint32_t timeout_ms, struct pst_error *error)
{
    static const struct pst_feed_ops ops = {.event = note_failure};
    const struct pst_feed_message message = {.epoch = epoch, .prev = prev, .n = n, .kind = kind};
    uint64_t deadline_ns = pst_clock_boot_ns() + timeout_ms * PST_NS_PER_MS;
    struct pst_feed_config own = *config;
    struct attempt attempt = {.failure = "Redis did not answer in time"};
    struct pst_worker *worker = NULL;
    struct pst_feed *feed = NULL;

    own.publish = true;
    enum pst_status status = pst_worker_create(0, &worker);
    if (status != PST_OK)
        return pst_error_set(error, status, NULL, "no loop");
    status = pst_feed_create(worker, &own, &ops, &attempt, &feed, error);
    if (status == PST_OK && !turn_until_published(worker, feed, &message, deadline_ns))
        status = pst_error_set(error, PST_E_IO, NULL, "%s", attempt.failure);
    pst_feed_destroy(feed);
    pst_worker_turn(worker, 0); /* a name that is still being asked for is let go */
    pst_worker_destroy(worker);
    return status;
}
