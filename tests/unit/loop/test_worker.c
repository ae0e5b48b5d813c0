#include "../test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/loop/worker.h"

static struct pst_worker *make(void)
{
    struct pst_worker *w;

    assert_int_equal(pst_worker_create(3, &w), PST_OK);
    assert_int_equal(w->index, 3);
    return w;
}

/* ---- timers ---- */

struct alarm {
    struct pst_timer timer;
    struct pst_worker *worker;
    int fired;
    uint64_t at_ns;
    uint64_t again_ns; /* set anew from inside, once */
};

static void on_alarm(struct pst_timer *timer)
{
    struct alarm *a = pst_container_of(timer, struct alarm, timer);

    a->fired++;
    a->at_ns = pst_clock_boot_ns();
    if (a->again_ns != 0) {
        pst_timer_set(a->worker, timer, a->again_ns);
        a->again_ns = 0;
    }
}

static void run_for(struct pst_worker *w, uint32_t ms)
{
    uint64_t end = pst_clock_boot_ns() + ms * PST_NS_PER_MS;

    while (pst_clock_boot_ns() < end)
        pst_worker_turn(w, 20);
}

static void timers_fire_once_and_not_early(void **state)
{
    struct pst_worker *w = make();
    struct alarm a = {.timer.fire = on_alarm, .worker = w}, never = a, moved = a;
    uint64_t now = pst_clock_boot_ns();
    (void)state;

    pst_timer_set(w, &a.timer, now + 300 * PST_NS_PER_MS);
    pst_timer_set(w, &never.timer, now + 300 * PST_NS_PER_MS);
    pst_timer_unset(&never.timer);
    pst_timer_set(w, &moved.timer, now + 5 * PST_NS_PER_S);
    pst_timer_set(w, &moved.timer, now + 100 * PST_NS_PER_MS); /* earlier than its slot */
    run_for(w, 900);
    assert_int_equal(a.fired, 1);
    assert_true(a.at_ns >= now + 300 * PST_NS_PER_MS);
    assert_true(a.at_ns <= now + 300 * PST_NS_PER_MS + 2 * PST_TICK_NS);
    assert_int_equal(never.fired, 0);
    assert_int_equal(moved.fired, 1);
    pst_worker_destroy(w);
}

static void a_timer_that_is_pushed_back_waits(void **state)
{
    struct pst_worker *w = make();
    struct alarm a = {.timer.fire = on_alarm, .worker = w};
    uint64_t now = pst_clock_boot_ns();
    (void)state;

    pst_timer_set(w, &a.timer, now + 100 * PST_NS_PER_MS);
    pst_timer_set(w, &a.timer, now + 800 * PST_NS_PER_MS);
    run_for(w, 600);
    assert_int_equal(a.fired, 0);
    a.again_ns = now + 1000 * PST_NS_PER_MS;
    run_for(w, 1000);
    assert_int_equal(a.fired, 2);                          /* and once more, set from inside */
    pst_timer_set(w, &a.timer, now + 3600 * PST_NS_PER_S); /* further than the wheel is long */
    pst_timer_cancel(&a.timer);
    pst_timer_cancel(&a.timer);
    pst_worker_destroy(w);
}

/* ---- run queue, graves, ticks ---- */

struct chain {
    struct pst_deferred deferred;
    struct pst_worker *worker;
    int runs, again;
};

static void on_deferred(struct pst_deferred *deferred)
{
    struct chain *c = pst_container_of(deferred, struct chain, deferred);

    c->runs++;
    if (c->again-- > 0)
        pst_worker_defer(c->worker, deferred);
}

static void what_is_deferred_again_runs_next_turn(void **state)
{
    struct pst_worker *w = make();
    struct chain c = {.deferred.run = on_deferred, .worker = w, .again = 1}, cancelled = c;
    (void)state;

    pst_worker_defer(w, &c.deferred);
    pst_worker_defer(w, &c.deferred);
    pst_worker_defer(w, &cancelled.deferred);
    pst_deferred_cancel(&cancelled.deferred);
    pst_worker_turn(w, 0);
    assert_int_equal(c.runs, 1);
    pst_worker_turn(w, 0);
    assert_int_equal(c.runs, 2);
    pst_worker_turn(w, 0);
    assert_int_equal(c.runs, 2);
    assert_int_equal(cancelled.runs, 0);
    pst_worker_destroy(w);
}

struct corpse {
    struct pst_grave grave;
    int *freed;
};

static void on_free(struct pst_grave *grave)
{
    struct corpse *c = pst_container_of(grave, struct corpse, grave);

    (*c->freed)++;
    free(c);
}

static void the_dead_are_freed_after_the_turn(void **state)
{
    struct pst_worker *w = make();
    int freed = 0;
    (void)state;

    for (int i = 0; i < 2; i++) {
        struct corpse *c = calloc(1, sizeof(*c));
        assert_non_null(c);
        c->freed = &freed;
        pst_worker_bury(w, &c->grave, on_free);
        assert_int_equal(freed, i);
        if (i == 0)
            pst_worker_turn(w, 0);
    }
    pst_worker_destroy(w); /* frees the rest */
    assert_int_equal(freed, 2);
}

struct second {
    struct pst_ticker ticker;
    int ticks;
};

static void on_second(struct pst_ticker *ticker)
{
    pst_container_of(ticker, struct second, ticker)->ticks++;
    pst_worker_remove_ticker(ticker);
}

static void tickers_tick_about_once_a_second(void **state)
{
    struct pst_worker *w = make();
    struct second s = {.ticker.tick = on_second};
    (void)state;

    pst_worker_add_ticker(w, &s.ticker);
    run_for(w, 700);
    assert_int_equal(s.ticks, 0);
    run_for(w, 1000);
    assert_int_equal(s.ticks, 1);
    pst_worker_destroy(w);
}

/* ---- tickets ---- */

static void a_ticket_dies_with_its_object(void **state)
{
    struct pst_worker *w = make();
    struct pst_ticket tickets[600], again;
    int objects[600];
    (void)state;

    for (int i = 0; i < 600; i++) /* more than the first table holds */
        assert_int_equal(pst_worker_issue(w, &objects[i], &tickets[i]), PST_OK);
    for (int i = 0; i < 600; i++)
        assert_ptr_equal(pst_worker_resolve(w, tickets[i]), &objects[i]);
    pst_worker_revoke(w, tickets[7]);
    pst_worker_revoke(w, tickets[7]);
    assert_null(pst_worker_resolve(w, tickets[7]));
    assert_int_equal(pst_worker_issue(w, &objects[0], &again), PST_OK);
    assert_int_equal(again.slot, tickets[7].slot);
    assert_ptr_equal(pst_worker_resolve(w, again), &objects[0]);
    assert_null(pst_worker_resolve(w, tickets[7])); /* the slot lives, the ticket does not */
    assert_null(pst_worker_resolve(w, (struct pst_ticket){0}));
    assert_null(pst_worker_resolve(w, (struct pst_ticket){.slot = 1u << 30, .generation = 1}));
    pst_worker_destroy(w);
}

/* ---- mailbox ---- */

static _Atomic unsigned received;

static void on_post(struct pst_worker *w, void *payload)
{
    pst_worker_assert_owner(w);
    atomic_fetch_add(&received, (unsigned)(uintptr_t)payload);
}

static void *poster(void *arg)
{
    for (int i = 0; i < 5000; i++)
        assert_int_equal(pst_worker_post(arg, on_post, (void *)(uintptr_t)1), PST_OK);
    return NULL;
}

static void mail_from_many_threads_arrives_once(void **state)
{
    struct pst_worker *w = make();
    pthread_t threads[3];
    (void)state;

    received = 0;
    assert_int_equal(pst_worker_start(w), PST_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, poster, w), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    pst_worker_stop(w); /* comes behind all of them */
    pst_worker_join(w);
    assert_int_equal(received, 15000);
    assert_int_equal(pst_worker_post(w, on_post, (void *)(uintptr_t)1), PST_OK);
    pst_worker_destroy(w); /* never ran, not leaked */
    assert_int_equal(received, 15000);
}

static void blocks_are_used_again(void **state)
{
    struct pst_worker *w = make();
    void *a = pst_block_take(w), *b = pst_block_take(w);
    (void)state;

    assert_true(a != NULL && b != NULL && a != b);
    assert_int_equal(w->own.blocks_out, 2);
    pst_block_give(w, a);
    assert_ptr_equal(pst_block_take(w), a);
    pst_block_give(w, a);
    pst_block_give(w, b);
    assert_int_equal(w->own.blocks_out, 0);
    pst_worker_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_not_early),
        cmocka_unit_test(a_timer_that_is_pushed_back_waits),
        cmocka_unit_test(what_is_deferred_again_runs_next_turn),
        cmocka_unit_test(the_dead_are_freed_after_the_turn),
        cmocka_unit_test(tickers_tick_about_once_a_second),
        cmocka_unit_test(a_ticket_dies_with_its_object),
        cmocka_unit_test(mail_from_many_threads_arrives_once),
        cmocka_unit_test(blocks_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
