/*
 * tail.h - follows the change log and says until when memory may be trusted.
 *
 * Purpose    The control thread polls; the tail reads the log when something may have changed or
 * the lease is half used up, loads what the new rows touch, hands it to `apply`, and only then
 *            moves the lease.
 *
 * Lease      lease_start is the boot-clock instant at which the last proving log read was sent; a
 * node decides from memory while now - lease_start <= B (contract C1, C3, C12).  It moves only
 *            after `apply` returned PST_OK.  A worker that keeps facts takes its own lease from the
 *            batch, in the message that ends its invalidations (C14); pst_lease_holds on the tail's
 *            word is for those that keep nothing (readiness, metrics).
 *
 * History    Another epoch, a missing or differing row, a log that went back: everything is loaded
 * anew. Nothing is carried over.
 *
 * Threads    create, poll and destroy: one thread (the control thread).  The lease word: any
 * thread.
 *
 * Failure    When the database cannot be read, poll returns the error, nothing moves, and the lease
 * runs out by itself.  A database file that was replaced is opened anew at the next poll.
 *
 * Cost       A poll of a quiet SQLite database is one look at a counter (a few microseconds).
 */
#ifndef POSTERN_SYNC_TAIL_H
#define POSTERN_SYNC_TAIL_H

#include <stdatomic.h>

#include "postern/base/clock.h"
#include "postern/store/log.h"

/* Written by the tail with release, read with acquire: who sees the new start sees what was applied
 * before it. */
struct pst_lease {
    _Atomic uint64_t start_ns; /* 0: never had one */
    _Atomic uint64_t bound_ns; /* B */
    _Atomic uint64_t applied_n;
    _Atomic uint64_t epoch;
};

static inline bool pst_lease_holds(const struct pst_lease *lease, uint64_t now_ns)
{
    uint64_t start = atomic_load_explicit(&lease->start_ns, memory_order_acquire);
    uint64_t bound = atomic_load_explicit(&lease->bound_ns, memory_order_relaxed);

    return start != 0 && (now_ns < start || now_ns - start <= bound);
}

/* What one proving read brought. Borrowed for the call, but for `model`. */
struct pst_tail_batch {
    struct pst_revision revision;   /* what is true once the batch is applied */
    bool new_history;               /* first load, or the epoch broke: keep nothing */
    struct pst_model *model;        /* NULL: as before; else `apply` owns it (also when it fails) */
    bool all_users;                 /* every user's facts may have changed */
    const struct pst_log_key *keys; /* else the touched users, roles and workspaces, oldest first */
    size_t key_count;
    uint64_t lease_start_ns, bound_ns; /* to be passed to the workers behind the invalidations */
};

/* Makes the batch effective: compile and publish the model, tell the workers. Also called when
 * nothing changed, to renew leases (no model, no keys). Anything but PST_OK: the same batch comes
 * again at a later poll, and the lease does not move. */
typedef enum pst_status pst_tail_apply_fn(void *ctx, const struct pst_tail_batch *batch,
                                          struct pst_error *error);

struct pst_tail_config {
    struct pst_bytes url;
    pst_tail_apply_fn *apply;
    void *ctx;
    uint64_t (*now_ns)(void); /* NULL: pst_clock_boot_ns */
};

struct pst_tail_stats {
    uint64_t polls, reads, reloads, batches, histories, failures;
};

struct pst_tail; /* opaque */

/* Nothing is opened or read before the first poll. */
PST_MUST_USE enum pst_status pst_tail_create(const struct pst_tail_config *config,
                                             struct pst_tail **out);
/* Accepts NULL. */
void pst_tail_destroy(struct pst_tail *tail);

/* B from now on, in place of the one in the database; 0: the database's. The next poll reads. */
void pst_tail_set_bound(struct pst_tail *tail, uint64_t bound_ns);

/* To be called at least every 200 ms by a node at work. PST_E_BUSY within the second after a batch
 * that `apply` refused. */
PST_MUST_USE enum pst_status pst_tail_poll(struct pst_tail *tail, struct pst_error *error);
/* The same, and always with a log read: a lease that was lost, a readiness probe, a Redis message.
 */
PST_MUST_USE enum pst_status pst_tail_read(struct pst_tail *tail, struct pst_error *error);

const struct pst_lease *pst_tail_lease(const struct pst_tail *tail);
struct pst_tail_stats pst_tail_stats(const struct pst_tail *tail);

#endif
