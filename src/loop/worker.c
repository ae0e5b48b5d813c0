/*
 * A turn of the loop:
 *
 *   event_base_loop(ONCE)   waits, then runs the callbacks of all ready events
 *   deferred                what those callbacks put off (one pass; what is put off again runs in
 *                           the next turn)
 *   last                    what comes behind that, until nothing is left
 *   graves                  memory of what died in this turn
 *
 * I1  A timer in slot s is due at a tick t with t % SLOTS == s, or was moved later since; firing
 *     looks at due_ns, never at the slot.
 * I2  A ticket slot's generation is odd while it is in use and even while it is free.
 */
#include "postern/loop/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STALL_NS (10 * PST_NS_PER_MS)
/* Blocks of exactly 64 KiB would all begin in the same sets of the CPU's caches. */
#define COLOUR_BYTES 1088

void pst_worker_assert_owner(const struct pst_worker *worker)
{
#ifndef NDEBUG
    assert(!worker->started || pthread_equal(worker->thread, pthread_self()));
#else
    (void)worker;
#endif
}

void pst_worker_read_clock_(struct pst_worker *worker)
{
    worker->own.now_ns = pst_clock_boot_ns();
    worker->own.now_fresh = true;
}

/* ---- timers ---- */

void pst_timer_insert_(struct pst_worker *worker, struct pst_timer *timer)
{
    uint64_t due = (timer->due_ns + PST_TICK_NS - 1) / PST_TICK_NS;
    uint64_t first = worker->own.wheel_at + 1;

    if (due < first)
        due = first;
    if (due >= first + PST_WHEEL_SLOTS)
        due = first + PST_WHEEL_SLOTS - 1;
    if (timer->node_.next != NULL)
        pst_list_remove(&timer->node_);
    timer->slot_ns_ = due * PST_TICK_NS;
    pst_list_append(&worker->own.wheel[due % PST_WHEEL_SLOTS], &timer->node_);
}

static void fire_slot(struct pst_worker *worker, struct pst_list *slot, uint64_t now_ns)
{
    struct pst_list due;

    pst_list_init(&due);
    pst_list_take(&due, slot);
    while (!pst_list_empty(&due)) {
        struct pst_timer *timer = pst_container_of(due.next, struct pst_timer, node_);

        if (timer->due_ns > now_ns) {
            pst_timer_insert_(worker, timer);
            continue;
        }
        pst_list_remove(&timer->node_);
        timer->node_.next = NULL;
        if (timer->due_ns == 0)
            continue;
        timer->due_ns = 0;
        timer->fire(timer);
    }
}

static void run_tickers(struct pst_worker *worker)
{
    struct pst_list *at = worker->own.tickers.next;

    while (at != &worker->own.tickers) {
        struct pst_ticker *ticker = pst_container_of(at, struct pst_ticker, node_);
        at = at->next; /* a ticker may remove itself, and only itself */
        ticker->tick(ticker);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct pst_worker *worker = arg;
    uint64_t now_ns = pst_worker_now(worker), target = now_ns / PST_TICK_NS;

    (void)fd, (void)what;
    /* After a long sleep of the machine every slot is run once, not once per missed tick. */
    if (target - worker->own.wheel_at > PST_WHEEL_SLOTS)
        worker->own.wheel_at = target - PST_WHEEL_SLOTS;
    while (worker->own.wheel_at < target) {
        worker->own.wheel_at++;
        fire_slot(worker, &worker->own.wheel[worker->own.wheel_at % PST_WHEEL_SLOTS], now_ns);
    }
    if (++worker->own.ticks % (PST_NS_PER_S / PST_TICK_NS) == 0)
        run_tickers(worker);
}

void pst_worker_add_ticker(struct pst_worker *worker, struct pst_ticker *ticker)
{
    pst_list_append(&worker->own.tickers, &ticker->node_);
}

void pst_worker_remove_ticker(struct pst_ticker *ticker)
{
    if (ticker->node_.next == NULL)
        return;
    pst_list_remove(&ticker->node_);
    ticker->node_.next = NULL;
}

/* ---- run queue and graveyard ---- */

void pst_worker_defer(struct pst_worker *worker, struct pst_deferred *deferred)
{
    if (deferred->node_.next == NULL)
        pst_list_append(&worker->own.deferred, &deferred->node_);
}

void pst_worker_put_last(struct pst_worker *worker, struct pst_deferred *deferred)
{
    if (deferred->node_.next == NULL)
        pst_list_append(&worker->own.last, &deferred->node_);
}

void pst_deferred_cancel(struct pst_deferred *deferred)
{
    if (deferred->node_.next == NULL)
        return;
    pst_list_remove(&deferred->node_);
    deferred->node_.next = NULL;
}

static void run_all(struct pst_list *list)
{
    struct pst_list batch;

    pst_list_init(&batch);
    pst_list_take(&batch, list);
    while (!pst_list_empty(&batch)) {
        struct pst_deferred *deferred = pst_container_of(batch.next, struct pst_deferred, node_);
        pst_deferred_cancel(deferred);
        deferred->run(deferred);
    }
}

void pst_worker_bury(struct pst_worker *worker, struct pst_grave *grave,
                     void (*free)(struct pst_grave *grave))
{
    pst_worker_assert_owner(worker);
    grave->free = free;
    pst_list_append(&worker->own.graves, &grave->node_);
}

static void empty_graves(struct pst_worker *worker)
{
    while (!pst_list_empty(&worker->own.graves)) {
        struct pst_grave *grave =
            pst_container_of(worker->own.graves.next, struct pst_grave, node_);
        pst_list_remove(&grave->node_);
        grave->free(grave);
    }
}

/* ---- mailbox ---- */

void pst_worker_send(struct pst_worker *worker, struct pst_message *message)
{
    message->next_ = NULL;
    pthread_mutex_lock(&worker->shared.lock);
    bool wake = worker->shared.first == NULL;
    *worker->shared.last = message;
    worker->shared.last = &message->next_;
    pthread_mutex_unlock(&worker->shared.lock);
    if (wake && eventfd_write(worker->shared.wake_fd, 1) != 0)
        assert(errno == EAGAIN); /* the counter is full: the worker is woken anyhow */
}

struct posted {
    struct pst_message message;
    void (*run)(struct pst_worker *worker, void *payload);
    void *payload;
};

static void run_posted(struct pst_worker *worker, struct pst_message *message)
{
    struct posted posted = *pst_container_of(message, struct posted, message);

    free(pst_container_of(message, struct posted, message));
    posted.run(worker, posted.payload);
}

enum pst_status pst_worker_post(struct pst_worker *worker,
                                void (*run)(struct pst_worker *worker, void *payload),
                                void *payload)
{
    struct posted *posted = malloc(sizeof(*posted));

    if (posted == NULL)
        return PST_E_NOMEM;
    *posted = (struct posted){.message.run = run_posted, .run = run, .payload = payload};
    pst_worker_send(worker, &posted->message);
    return PST_OK;
}

static struct pst_message *take_mail(struct pst_worker *worker)
{
    pthread_mutex_lock(&worker->shared.lock);
    struct pst_message *first = worker->shared.first;
    worker->shared.first = NULL;
    worker->shared.last = &worker->shared.first;
    pthread_mutex_unlock(&worker->shared.lock);
    return first;
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    struct pst_worker *worker = arg;
    eventfd_t count;

    (void)what;
    (void)!eventfd_read(fd, &count);
    for (struct pst_message *m = take_mail(worker), *next; m != NULL; m = next) {
        next = m->next_;
        m->run(worker, m);
    }
}

/* ---- tickets ---- */

static enum pst_status grow_tickets(struct pst_worker *worker)
{
    uint32_t old = worker->own.ticket_count, count = old == 0 ? 256 : old * 2;

    if (count > 1u << 22)
        return PST_E_LIMIT;
    struct pst_ticket_slot *slots = reallocarray(worker->own.tickets, count, sizeof(*slots));
    if (slots == NULL)
        return PST_E_NOMEM;
    for (uint32_t i = old; i < count; i++)
        slots[i] = (struct pst_ticket_slot){.next_free = i + 1 < count ? i + 1 : UINT32_MAX};
    worker->own.tickets = slots;
    worker->own.ticket_count = count;
    worker->own.ticket_free = old;
    return PST_OK;
}

enum pst_status pst_worker_issue(struct pst_worker *worker, void *object, struct pst_ticket *out)
{
    *out = (struct pst_ticket){0};
    if (worker->own.ticket_free == UINT32_MAX) {
        enum pst_status status = grow_tickets(worker);
        if (status != PST_OK)
            return status;
    }
    uint32_t slot = worker->own.ticket_free;
    struct pst_ticket_slot *t = &worker->own.tickets[slot];
    worker->own.ticket_free = t->next_free;
    t->object = object;
    t->generation++;
    *out = (struct pst_ticket){.slot = slot, .generation = t->generation};
    return PST_OK;
}

void *pst_worker_resolve(const struct pst_worker *worker, struct pst_ticket ticket)
{
    if (ticket.slot >= worker->own.ticket_count || ticket.generation % 2 == 0)
        return NULL;
    const struct pst_ticket_slot *t = &worker->own.tickets[ticket.slot];
    return t->generation == ticket.generation ? t->object : NULL;
}

void pst_worker_revoke(struct pst_worker *worker, struct pst_ticket ticket)
{
    if (pst_worker_resolve(worker, ticket) == NULL)
        return;
    struct pst_ticket_slot *t = &worker->own.tickets[ticket.slot];
    t->object = NULL;
    t->generation++;
    t->next_free = worker->own.ticket_free;
    worker->own.ticket_free = ticket.slot;
}

/* ---- blocks ---- */

void *pst_block_take(struct pst_worker *worker)
{
    void *block = worker->own.block_count > 0 ? worker->own.blocks[--worker->own.block_count]
                                              : malloc(PST_BLOCK_BYTES + COLOUR_BYTES);

    if (block != NULL)
        worker->own.blocks_out++;
    return block;
}

void pst_block_give(struct pst_worker *worker, void *block)
{
    worker->own.blocks_out--;
    if (worker->own.block_count < PST_BLOCKS_KEPT)
        worker->own.blocks[worker->own.block_count++] = block;
    else
        free(block);
}

/* ---- life ---- */

static enum pst_status open_base(struct pst_worker *worker)
{
    struct event_config *config = event_config_new();

    if (config == NULL)
        return PST_E_NOMEM;
    /* One thread per base: no locks (about 5 % of throughput). */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    worker->base = event_base_new_with_config(config);
    event_config_free(config);
    return worker->base == NULL ? PST_E_IO : PST_OK;
}

static enum pst_status open_events(struct pst_worker *worker)
{
    struct timeval grain = {.tv_usec = (suseconds_t)(PST_TICK_NS / 1000)};

    worker->shared.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->shared.wake_fd < 0)
        return PST_E_IO;
    if (event_assign(&worker->own.tick_event, worker->base, -1, EV_PERSIST, on_tick, worker) != 0 ||
        event_add(&worker->own.tick_event, &grain) != 0)
        return PST_E_IO;
    if (event_assign(&worker->own.mail_event, worker->base, worker->shared.wake_fd,
                     EV_READ | EV_PERSIST, on_mail, worker) != 0 ||
        event_add(&worker->own.mail_event, NULL) != 0)
        return PST_E_IO;
    return PST_OK;
}

enum pst_status pst_worker_create(uint32_t index, struct pst_worker **out)
{
    *out = NULL;
    struct pst_worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL)
        return PST_E_NOMEM;
    worker->index = index;
    worker->shared.wake_fd = -1;
    worker->shared.last = &worker->shared.first;
    pthread_mutex_init(&worker->shared.lock, NULL);
    worker->own.ticket_free = UINT32_MAX;
    for (uint32_t i = 0; i < PST_WHEEL_SLOTS; i++)
        pst_list_init(&worker->own.wheel[i]);
    pst_list_init(&worker->own.tickers);
    pst_list_init(&worker->own.deferred);
    pst_list_init(&worker->own.last);
    pst_list_init(&worker->own.graves);
    worker->own.wheel_at = pst_clock_boot_ns() / PST_TICK_NS;

    enum pst_status status = open_base(worker);
    if (status == PST_OK)
        status = open_events(worker);
    if (status != PST_OK) {
        pst_worker_destroy(worker);
        return status;
    }
    *out = worker;
    return PST_OK;
}

void pst_worker_destroy(struct pst_worker *worker)
{
    if (worker == NULL)
        return;
    assert(!worker->started);
    empty_graves(worker);
    for (struct pst_message *m = take_mail(worker), *next; m != NULL; m = next) {
        next = m->next_;
        if (m->run == run_posted)
            free(pst_container_of(m, struct posted, message));
    }
    if (worker->base != NULL) {
        if (event_initialized(&worker->own.tick_event))
            event_del(&worker->own.tick_event);
        if (event_initialized(&worker->own.mail_event))
            event_del(&worker->own.mail_event);
        event_base_free(worker->base);
    }
    if (worker->shared.wake_fd >= 0)
        close(worker->shared.wake_fd);
    while (worker->own.block_count > 0)
        free(worker->own.blocks[--worker->own.block_count]);
    free(worker->own.tickets);
    pthread_mutex_destroy(&worker->shared.lock);
    free(worker);
}

static void finish_turn(struct pst_worker *worker)
{
    run_all(&worker->own.deferred);
    while (!pst_list_empty(&worker->own.last))
        run_all(&worker->own.last);
    empty_graves(worker);
    if (worker->own.now_fresh && ++worker->own.turns % 64 == 0 &&
        pst_clock_boot_ns() - worker->own.now_ns > STALL_NS)
        worker->own.stalls++; /* a sample of one in 64: the clock is not read twice every turn */
    worker->own.now_fresh = false;
}

static void run_turn(struct pst_worker *worker)
{
    int flags = EVLOOP_ONCE | (pst_list_empty(&worker->own.deferred) ? 0 : EVLOOP_NONBLOCK);

    event_base_loop(worker->base, flags);
    finish_turn(worker);
}

void pst_worker_run(struct pst_worker *worker)
{
    worker->own.stopping = false;
    while (!worker->own.stopping)
        run_turn(worker);
}

void pst_worker_turn(struct pst_worker *worker, uint32_t wait_ms)
{
    struct timeval wait = {.tv_sec = wait_ms / 1000,
                           .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};

    if (wait_ms > 0 && pst_list_empty(&worker->own.deferred)) {
        event_base_loopexit(worker->base, &wait);
        event_base_loop(worker->base, EVLOOP_ONCE);
    } else {
        event_base_loop(worker->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    }
    finish_turn(worker);
}

static void stop_running(struct pst_worker *worker, void *payload)
{
    (void)payload;
    worker->own.stopping = true;
}

void pst_worker_stop(struct pst_worker *worker)
{
    /* The one message that must not get lost for want of memory. */
    while (pst_worker_post(worker, stop_running, NULL) != PST_OK)
        usleep(1000);
}

static void *thread_main(void *arg)
{
    struct pst_worker *worker = arg;
    char name[16]; /* as the kernel keeps it */

    snprintf(name, sizeof(name), "worker-%u", worker->index);
    pthread_setname_np(pthread_self(), name);
    pst_worker_run(worker);
    return NULL;
}

enum pst_status pst_worker_start(struct pst_worker *worker)
{
    worker->started = true; /* before the thread reads it */
    if (pthread_create(&worker->thread, NULL, thread_main, worker) != 0) {
        worker->started = false;
        return PST_E_IO;
    }
    return PST_OK;
}

void pst_worker_join(struct pst_worker *worker)
{
    if (!worker->started)
        return;
    pthread_join(worker->thread, NULL);
    worker->started = false;
}
