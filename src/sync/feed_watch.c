/*
 * I1  `wanted` is the strongest reason since the last read that was taken; it is never lost, only
 *     put off until next_read_ns.
 * I2  `n` is what the last message said, even if that is less than before: a forged head must not
 *     make later true ones look old.
 */
#include "postern/sync/feed.h"

static void want(struct pst_feed_watch *w, enum pst_feed_why why)
{
    /* what may have been missed is more than what was heard */
    if (w->wanted == PST_FEED_NOTHING || w->wanted == PST_FEED_NEWS)
        w->wanted = why;
}

void pst_feed_watch_connected(struct pst_feed_watch *watch)
{
    watch->connected = true;
    want(watch, PST_FEED_CONNECTED);
}

void pst_feed_watch_lost(struct pst_feed_watch *watch)
{
    watch->connected = watch->heard = watch->silent = false;
}

static void note_publisher(struct pst_feed_watch *w, struct pst_bytes name, uint64_t now_ns)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < PST_FEED_PUBLISHERS; i++) {
        if (pst_bytes_equal(name, pst_bytes_of(w->publishers[i].name, w->publishers[i].len))) {
            w->publishers[i].heard_ns = now_ns;
            return;
        }
        if (w->publishers[i].heard_ns < w->publishers[at].heard_ns)
            at = i; /* free, or not heard of for longest */
    }
    w->publishers[at].heard_ns = now_ns;
    w->publishers[at].len = (uint8_t)name.len;
    memcpy(w->publishers[at].name, name.ptr, name.len);
}

void pst_feed_watch_message(struct pst_feed_watch *watch, const struct pst_feed_message *message,
                            uint64_t now_ns)
{
    watch->messages++;
    if (message->kind == PST_FEED_HEARTBEAT)
        watch->heartbeats++;
    note_publisher(watch, message->publisher, now_ns);
    if (!watch->heard) {
        want(watch, PST_FEED_NEWS);
    } else if (message->epoch != watch->epoch ||
               (message->n != watch->n && message->prev != watch->n)) {
        watch->gaps++;
        want(watch, PST_FEED_GAP);
    } else if (message->n != watch->n) {
        want(watch, PST_FEED_NEWS);
    }
    watch->epoch = message->epoch;
    watch->n = message->n;
    watch->heard_ns = now_ns;
    watch->heard = true;
    watch->silent = false;
}

static bool is_listening(const struct pst_feed_watch *w)
{
    return w->connected && w->heard && !w->silent;
}

void pst_feed_watch_judge(struct pst_feed_watch *watch, uint64_t now_ns)
{
    if (!is_listening(watch) || now_ns < watch->heard_ns + PST_FEED_SILENCE_NS)
        return;
    watch->silent = true;
    watch->silences++;
    want(watch, PST_FEED_SILENCE);
}

enum pst_feed_why pst_feed_watch_take(struct pst_feed_watch *watch, uint64_t now_ns)
{
    enum pst_feed_why why = watch->wanted;

    if (why == PST_FEED_NOTHING || now_ns < watch->next_read_ns)
        return PST_FEED_NOTHING;
    watch->wanted = PST_FEED_NOTHING;
    watch->next_read_ns = now_ns + PST_FEED_READ_NS;
    watch->reads++;
    return why;
}

uint64_t pst_feed_watch_due(const struct pst_feed_watch *watch)
{
    uint64_t due = is_listening(watch) ? watch->heard_ns + PST_FEED_SILENCE_NS : UINT64_MAX;

    if (watch->wanted != PST_FEED_NOTHING && watch->next_read_ns < due)
        due = watch->next_read_ns;
    return due;
}

uint32_t pst_feed_watch_publishers(const struct pst_feed_watch *watch, uint64_t now_ns)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < PST_FEED_PUBLISHERS; i++)
        if (watch->publishers[i].len > 0 &&
            now_ns < watch->publishers[i].heard_ns + PST_FEED_PRESENT_NS)
            count++;
    return count;
}
