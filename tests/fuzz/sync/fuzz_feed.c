/*
 * fuzz_feed.c - messages of the feed, and the loss detector behind them.
 *
 * Input: lines, each one message, 50 ms apart. What is taken is written back as the same bytes, and
 * whatever was said, there are no more log reads than one in 50 ms and no reason without a cause.
 */
#include <stdlib.h>

#include "postern/sync/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hear(struct pst_feed_watch *w, struct pst_bytes text, uint64_t now_ns)
{
    char space[PST_FEED_MESSAGE_MAX];
    struct pst_buf back = pst_buf_of(space, sizeof(space));
    struct pst_feed_message m;
    struct pst_feed_watch before = *w;

    if (!pst_feed_parse(text, &m)) {
        if (m.publisher.ptr != NULL || m.n != 0)
            abort();
        return;
    }
    pst_feed_write(&m, &back);
    if (!pst_bytes_equal(pst_buf_bytes(&back), text) || m.prev > m.n)
        abort();
    pst_feed_watch_message(w, &m, now_ns);
    bool same = before.heard && before.epoch == m.epoch && before.n == m.n;
    if (same != (w->wanted == before.wanted && w->gaps == before.gaps) &&
        before.wanted == PST_FEED_NOTHING)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_bytes rest = pst_bytes_of(data, size);
    struct pst_feed_watch w = {0};
    uint64_t now_ns = PST_NS_PER_S;

    pst_feed_watch_connected(&w);
    while (rest.len > 0) {
        size_t end = pst_bytes_find(rest, '\n');
        hear(&w, pst_bytes_of(rest.ptr, end), now_ns);
        rest = pst_bytes_from(rest, end < rest.len ? end + 1 : end);
        if (end == 0)
            now_ns += PST_FEED_SILENCE_NS; /* an empty line: a long time */
        now_ns += PST_FEED_READ_NS / 2;
        pst_feed_watch_judge(&w, now_ns);
        (void)pst_feed_watch_take(&w, now_ns);
        if (w.wanted == PST_FEED_NOTHING && pst_feed_watch_due(&w) <= now_ns)
            abort(); /* nothing to do, and yet at once: the loop would spin */
    }
    if (w.reads > 1 + (now_ns - PST_NS_PER_S) / PST_FEED_READ_NS ||
        pst_feed_watch_publishers(&w, now_ns) > PST_FEED_PUBLISHERS)
        abort();
    return 0;
}
