/*
 * worker.h - one thread, one event loop, and what every object on it needs.
 *
 * Purpose   The loop, a coarse clock, timers without system calls, a one-second tick, a run queue,
 * a graveyard, tickets for asynchronous replies, a mailbox for other threads, and blocks of memory
 * for buffers.
 *
 * How       A turn is: wait for events, run their callbacks, run what was deferred, run what comes
 *           last, bury the dead.
 *           The clock is read at most once a turn.  Timers stand in a wheel of 250 ms; moving one
 * to a later time is a store.
 *
 * Memory    The worker owns its blocks.  Everything else (timers, messages, graves) is embedded in
 *           its owner and must be out of the worker before it is freed: bury it.
 *
 * Threads   All functions: the worker's own thread, or any thread while it does not run; except
 *           pst_worker_send, pst_worker_post, pst_worker_stop: any thread.
 *
 * Cost      A timer that is pushed back before it fires costs nothing; a turn one clock_gettime.
 */
#ifndef POSTERN_LOOP_WORKER_H
#define POSTERN_LOOP_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "postern/base/clock.h"
#include "postern/base/status.h"
#include "postern/loop/list.h"

#define PST_TICK_NS     (250 * PST_NS_PER_MS) /* the wheel's grain */
#define PST_WHEEL_SLOTS 512                   /* 128 s; what is due later goes round again */
#define PST_BLOCK_BYTES 65536                 /* one buffer block */
#define PST_BLOCKS_KEPT 256                   /* free blocks a worker holds on to */

struct pst_worker;

/* Runs once, at `due_ns` of the boot clock or up to PST_TICK_NS later. Zeroed memory is an unset
 * timer. */
struct pst_timer {
    struct pst_list node_; /* next NULL: in no slot */
    uint64_t due_ns;       /* 0: not set */
    uint64_t slot_ns_;     /* when its slot is run next */
    void (*fire)(struct pst_timer *timer);
};

/* Called about once a second, for as long as it is linked. */
struct pst_ticker {
    struct pst_list node_;
    void (*tick)(struct pst_ticker *ticker);
};

/* Runs after the callbacks of this turn, before the loop waits again. Zeroed memory is idle. */
struct pst_deferred {
    struct pst_list node_;
    void (*run)(struct pst_deferred *deferred);
};

/* Something to be freed when the running turn is over. */
struct pst_grave {
    struct pst_list node_;
    void (*free)(struct pst_grave *grave);
};

/* A message to a worker: `run` is called on its thread and owns the message from then on. */
struct pst_message {
    struct pst_message *next_;
    void (*run)(struct pst_worker *worker, struct pst_message *message);
};

/* What asynchronous callers hold instead of a pointer: resolves to NULL once the object is gone. */
struct pst_ticket {
    uint32_t slot, generation; /* generation 0: never valid */
};

struct pst_ticket_slot {
    void *object;
    uint32_t generation, next_free;
};

struct pst_worker {
    uint32_t index;
    struct event_base *base;

    struct { /* the worker's thread only */
        uint64_t now_ns;
        bool now_fresh;
        uint32_t turns;
        uint64_t stalls; /* turns that took more than 10 ms */
        struct pst_list wheel[PST_WHEEL_SLOTS];
        uint64_t wheel_at; /* ticks since the clock's beginning that have been run */
        struct pst_list tickers, deferred, last, graves;
        uint32_t ticks;
        struct event tick_event, mail_event;
        struct pst_ticket_slot *tickets;
        uint32_t ticket_count, ticket_free;
        void *blocks[PST_BLOCKS_KEPT]; /* free ones; a chain through them would read cold memory */
        uint32_t block_count, blocks_out;
        bool stopping;
    } own;

    struct { /* any thread, under `lock` */
        pthread_mutex_t lock;
        struct pst_message *first, **last;
        int wake_fd;
    } shared;

    pthread_t thread;
    bool started; /* owner of the worker only */
};

PST_MUST_USE enum pst_status pst_worker_create(uint32_t index, struct pst_worker **out);
/* The thread must have stopped. Buries the dead and runs no message any more. Accepts NULL. */
void pst_worker_destroy(struct pst_worker *worker);

/* Starts the thread / waits for its end. */
PST_MUST_USE enum pst_status pst_worker_start(struct pst_worker *worker);
void pst_worker_join(struct pst_worker *worker);
/* Runs the loop on the calling thread until pst_worker_stop. */
void pst_worker_run(struct pst_worker *worker);
/* One turn, waiting at most `wait_ms` for an event (tests). */
void pst_worker_turn(struct pst_worker *worker, uint32_t wait_ms);
/* Any thread: the loop ends after the running turn. */
void pst_worker_stop(struct pst_worker *worker);

/* Any thread, while the worker exists. The message stays the sender's until `run`; what is still in
 * the mailbox when the worker is destroyed is never run. Wakes the worker only when its mailbox was
 * empty. */
void pst_worker_send(struct pst_worker *worker, struct pst_message *message);
/* Any thread: the same with a message of the worker's own. */
PST_MUST_USE enum pst_status pst_worker_post(struct pst_worker *worker,
                                             void (*run)(struct pst_worker *worker, void *payload),
                                             void *payload);

void pst_worker_read_clock_(struct pst_worker *worker);

/* The boot clock, at most one turn old. */
static inline uint64_t pst_worker_now(struct pst_worker *worker)
{
    if (!worker->own.now_fresh)
        pst_worker_read_clock_(worker);
    return worker->own.now_ns;
}

void pst_timer_insert_(struct pst_worker *worker, struct pst_timer *timer);

/* (Re)sets the timer; `fire` must be set. */
static inline void pst_timer_set(struct pst_worker *worker, struct pst_timer *timer,
                                 uint64_t due_ns)
{
    timer->due_ns = due_ns;
    if (timer->node_.next == NULL || due_ns < timer->slot_ns_)
        pst_timer_insert_(worker, timer);
}

/* Unsets it; it may stay in its slot and costs nothing there. */
static inline void pst_timer_unset(struct pst_timer *timer)
{
    timer->due_ns = 0;
}

/* Takes it out for good: before its memory goes. */
static inline void pst_timer_cancel(struct pst_timer *timer)
{
    timer->due_ns = 0;
    if (timer->node_.next != NULL) {
        pst_list_remove(&timer->node_);
        timer->node_.next = NULL;
    }
}

void pst_worker_add_ticker(struct pst_worker *worker, struct pst_ticker *ticker);
void pst_worker_remove_ticker(struct pst_ticker *ticker);

/* Queues it once, however often it is called. */
void pst_worker_defer(struct pst_worker *worker, struct pst_deferred *deferred);
/* The same, behind all that was deferred. */
void pst_worker_put_last(struct pst_worker *worker, struct pst_deferred *deferred);
void pst_deferred_cancel(struct pst_deferred *deferred);
static inline bool pst_deferred_waits(const struct pst_deferred *deferred)
{
    return deferred->node_.next != NULL;
}

void pst_worker_bury(struct pst_worker *worker, struct pst_grave *grave,
                     void (*free)(struct pst_grave *grave));

PST_MUST_USE enum pst_status pst_worker_issue(struct pst_worker *worker, void *object,
                                              struct pst_ticket *out);
void *pst_worker_resolve(const struct pst_worker *worker, struct pst_ticket ticket);
void pst_worker_revoke(struct pst_worker *worker, struct pst_ticket ticket);

/* PST_BLOCK_BYTES bytes, not cleared; NULL when memory is short. */
void *pst_block_take(struct pst_worker *worker);
void pst_block_give(struct pst_worker *worker, void *block);

/* Debug builds: the caller is the worker's thread (or the worker does not run). */
void pst_worker_assert_owner(const struct pst_worker *worker);

#endif
