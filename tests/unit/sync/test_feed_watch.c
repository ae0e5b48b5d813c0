/* The loss detector on a clock of the test: what it wants read, and how often at most. */
#include "../test.h"

#include <stdio.h>

#include "postern/sync/feed.h"

#define MS(n) ((uint64_t)(n)*PST_NS_PER_MS)

static void hear(struct pst_feed_watch *w, uint64_t epoch, uint64_t prev, uint64_t n, uint64_t at)
{
    struct pst_feed_message m = {.epoch = epoch,
                                 .prev = prev,
                                 .n = n,
                                 .kind = prev == n ? PST_FEED_HEARTBEAT : PST_FEED_CHANGE,
                                 .publisher = PST_LIT("p")};
    pst_feed_watch_message(w, &m, at);
}

/* Connected, a heartbeat of n heard, and nothing to be read. */
static void settle(struct pst_feed_watch *w, uint64_t n, uint64_t at)
{
    *w = (struct pst_feed_watch){0};
    pst_feed_watch_connected(w);
    hear(w, 1, n, n, at);
    assert_int_equal(pst_feed_watch_take(w, at), PST_FEED_CONNECTED);
    w->next_read_ns = 0;
}

static void a_connect_wants_a_read(void **state)
{
    struct pst_feed_watch w = {0};
    (void)state;

    assert_int_equal(pst_feed_watch_take(&w, MS(1)), PST_FEED_NOTHING);
    assert_int_equal(pst_feed_watch_due(&w), UINT64_MAX);
    pst_feed_watch_connected(&w);
    assert_int_equal(pst_feed_watch_take(&w, MS(1)), PST_FEED_CONNECTED);
    assert_int_equal(pst_feed_watch_take(&w, MS(1000)), PST_FEED_NOTHING);
    hear(&w, 1, 5, 5, MS(1000)); /* nobody knows what the read found */
    assert_int_equal(pst_feed_watch_take(&w, MS(1000)), PST_FEED_NEWS);
}

static void a_repeated_head_wants_nothing(void **state)
{
    struct pst_feed_watch w;
    (void)state;

    settle(&w, 5, MS(1000));
    for (uint64_t i = 1; i < 100; i++) {
        hear(&w, 1, 5, 5, MS(1000 + 250 * i));
        pst_feed_watch_judge(&w, MS(1000 + 250 * i));
        assert_int_equal(pst_feed_watch_take(&w, MS(1000 + 250 * i)), PST_FEED_NOTHING);
    }
    hear(&w, 1, 4, 5, MS(30000)); /* the same change told by a second publisher */
    assert_int_equal(pst_feed_watch_take(&w, MS(30000)), PST_FEED_NOTHING);
    assert_int_equal(w.heartbeats, 100);
    assert_int_equal(w.messages, 101);
    assert_int_equal(w.gaps + w.silences, 0);
}

static void news_and_gaps(void **state)
{
    static const struct {
        uint64_t epoch, prev, n;
        enum pst_feed_why why;
        const char *text;
    } cases[] = {
        {1, 5, 6, PST_FEED_NEWS, "the next change"},
        {1, 5, 9, PST_FEED_NEWS, "several at once"},
        {1, 6, 7, PST_FEED_GAP, "one was missed"},
        {1, 6, 6, PST_FEED_GAP, "a heartbeat tells of a change that was not heard"},
        {1, 4, 4, PST_FEED_GAP, "the head went back"},
        {1, 0, 1, PST_FEED_GAP, "an old one, replayed"},
        {2, 5, 6, PST_FEED_GAP, "another epoch"},
        {2, 5, 5, PST_FEED_GAP, "another epoch, the same number"},
    };
    struct pst_feed_watch w;
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        settle(&w, 5, MS(1000));
        hear(&w, cases[i].epoch, cases[i].prev, cases[i].n, MS(1100));
        enum pst_feed_why why = pst_feed_watch_take(&w, MS(1100));
        if (why != cases[i].why || w.gaps != (why == PST_FEED_GAP))
            fail_msg("%s: %d, gaps %d", cases[i].text, (int)why, (int)w.gaps);
        assert_int_equal(pst_feed_watch_take(&w, MS(5000)), PST_FEED_NOTHING); /* once */
    }
}

/* A forged head must not make true ones look old. */
static void a_forged_head_hides_nothing(void **state)
{
    struct pst_feed_watch w;
    (void)state;

    settle(&w, 5, MS(1000));
    hear(&w, 1, 5, INT64_MAX, MS(1100));
    assert_int_equal(pst_feed_watch_take(&w, MS(1100)), PST_FEED_NEWS);
    hear(&w, 1, 5, 6, MS(1200));
    assert_int_equal(pst_feed_watch_take(&w, MS(1200)), PST_FEED_GAP);
    hear(&w, 1, 6, 7, MS(1300));
    assert_int_equal(pst_feed_watch_take(&w, MS(1300)), PST_FEED_NEWS);
}

static void silence_is_told_once(void **state)
{
    struct pst_feed_watch w;
    (void)state;

    settle(&w, 5, MS(1000));
    assert_int_equal(pst_feed_watch_due(&w), MS(1600));
    pst_feed_watch_judge(&w, MS(1599));
    assert_int_equal(pst_feed_watch_take(&w, MS(1599)), PST_FEED_NOTHING);
    pst_feed_watch_judge(&w, MS(1600));
    assert_int_equal(pst_feed_watch_take(&w, MS(1600)), PST_FEED_SILENCE);
    assert_int_equal(pst_feed_watch_due(&w), UINT64_MAX);
    pst_feed_watch_judge(&w, MS(9000));
    assert_int_equal(pst_feed_watch_take(&w, MS(9000)), PST_FEED_NOTHING);
    hear(&w, 1, 5, 5, MS(10000)); /* it is back, and can be silent again */
    pst_feed_watch_judge(&w, MS(10600));
    assert_int_equal(pst_feed_watch_take(&w, MS(10600)), PST_FEED_SILENCE);
    assert_int_equal(w.silences, 2);
}

static void nobody_who_never_spoke_is_silent(void **state)
{
    struct pst_feed_watch w = {0};
    (void)state;

    pst_feed_watch_connected(&w);
    assert_int_equal(pst_feed_watch_take(&w, MS(1)), PST_FEED_CONNECTED);
    pst_feed_watch_judge(&w, MS(60000));
    assert_int_equal(pst_feed_watch_take(&w, MS(60000)), PST_FEED_NOTHING);
    hear(&w, 1, 5, 5, MS(60000));
    assert_int_equal(pst_feed_watch_take(&w, MS(60000)), PST_FEED_NEWS);
    pst_feed_watch_lost(&w); /* the silence of a lost connection says nothing */
    pst_feed_watch_judge(&w, MS(90000));
    pst_feed_watch_connected(&w);
    assert_int_equal(pst_feed_watch_take(&w, MS(90000)), PST_FEED_CONNECTED);
    pst_feed_watch_judge(&w, MS(91000)); /* who spoke before the reconnect has not spoken since */
    assert_int_equal(pst_feed_watch_take(&w, MS(91000)), PST_FEED_NOTHING);
    assert_int_equal(w.silences, 0);
}

/* A loop that stood still for 5 s reads what came meanwhile, and only then judges. */
static void a_stalled_loop_is_no_silence(void **state)
{
    struct pst_feed_watch w;
    (void)state;

    settle(&w, 5, MS(1000));
    hear(&w, 1, 5, 5, MS(6000));
    pst_feed_watch_judge(&w, MS(6000));
    assert_int_equal(pst_feed_watch_take(&w, MS(6000)), PST_FEED_NOTHING);
}

static void a_flood_reads_twenty_times_a_second(void **state)
{
    struct pst_feed_watch w;
    uint32_t reads = 0;
    (void)state;

    settle(&w, 5, MS(1000));
    for (uint64_t i = 0; i < 100000; i++) { /* one second, 100 a millisecond */
        uint64_t now = MS(1000) + i * PST_NS_PER_S / 100000;
        hear(&w, i, i, i + 1, now);
        if (pst_feed_watch_take(&w, now) != PST_FEED_NOTHING)
            reads++;
    }
    assert_int_equal(reads, 20);
    assert_int_equal(w.messages, 100001);
    /* the last of them is read for, too: put off, not lost */
    assert_int_equal(pst_feed_watch_due(&w), MS(2000));
    assert_int_equal(pst_feed_watch_take(&w, MS(2000)), PST_FEED_GAP);
}

static void the_strongest_reason_is_kept(void **state)
{
    struct pst_feed_watch w;
    (void)state;

    settle(&w, 5, MS(1000));
    hear(&w, 1, 5, 6, MS(1010));
    hear(&w, 1, 7, 8, MS(1020));
    hear(&w, 1, 8, 9, MS(1030));
    assert_int_equal(pst_feed_watch_take(&w, MS(1030)), PST_FEED_GAP);
}

static void publishers_are_counted_for_ten_seconds(void **state)
{
    struct pst_feed_watch w = {0};
    char name[16];
    (void)state;

    pst_feed_watch_connected(&w);
    for (uint64_t i = 0; i < 40; i++) {
        int n = snprintf(name, sizeof(name), "p%d", (int)(i % 3));
        struct pst_feed_message m = {.publisher = pst_bytes_of(name, (size_t)n)};
        pst_feed_watch_message(&w, &m, MS(1000 + i));
    }
    assert_int_equal(pst_feed_watch_publishers(&w, MS(1100)), 3);
    hear(&w, 1, 1, 1, MS(8000));
    assert_int_equal(pst_feed_watch_publishers(&w, MS(8000)), 4);
    assert_int_equal(pst_feed_watch_publishers(&w, MS(11100)), 1);
    assert_int_equal(pst_feed_watch_publishers(&w, MS(18000)), 0);
    for (uint64_t i = 0; i < 1000; i++) { /* forged names: bounded */
        int n = snprintf(name, sizeof(name), "x%d", (int)i);
        struct pst_feed_message m = {.publisher = pst_bytes_of(name, (size_t)n)};
        pst_feed_watch_message(&w, &m, MS(20000 + i));
    }
    assert_int_equal(pst_feed_watch_publishers(&w, MS(21000)), PST_FEED_PUBLISHERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connect_wants_a_read),
        cmocka_unit_test(a_repeated_head_wants_nothing),
        cmocka_unit_test(news_and_gaps),
        cmocka_unit_test(a_forged_head_hides_nothing),
        cmocka_unit_test(silence_is_told_once),
        cmocka_unit_test(nobody_who_never_spoke_is_silent),
        cmocka_unit_test(a_stalled_loop_is_no_silence),
        cmocka_unit_test(a_flood_reads_twenty_times_a_second),
        cmocka_unit_test(the_strongest_reason_is_kept),
        cmocka_unit_test(publishers_are_counted_for_ten_seconds),
    };
    return cmocka_run_group_tests_name("sync/feed_watch", tests, NULL, NULL);
}
