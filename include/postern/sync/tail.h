/*
 * tail.h - follows the change log and says until when memory may be trusted.
 *
 * Purpose    Decides when the log is read, has the database's service read it (store/service.h),
 * hands what the new rows touch to `apply`, and only then moves the lease.
 *
 * When       A node at work reads when half of its lease is used up, when it is told that something
 *            changed, when a worker waits for a lease, and, if it was given a poll interval, at
 * that pace.  A node that decides nothing reads nothing (C14).
 *
 * Lease      lease_start is the boot-clock instant at which the last proving log read was sent; a
 * node decides from memory while now - lease_start <= B (contract C1, C3, C12).  It moves only
 *            after `apply` returned PST_OK.  A worker that keeps facts takes its own lease from the
 *            batch, in the message that ends its invalidations (C14); pst_lease_holds on the tail's
 *            word is for those that keep nothing (readiness, metrics).
 *
 * Row        A read that proves a lease also shows the row that others wait for this node by
 *            (contract C9): without one that says that it is at work there is none, and its bound
 * is no longer than the row says.
 *
 * History    Another epoch, a missing or differing row, a log that went back: everything is loaded
 * anew. Nothing is carried over.
 *
 * Threads    All functions on the thread of the worker that it was given.  The lease word and
 * the counts: any thread.
 *
 * Failure    When the database cannot be read nothing moves, `ended` says so, and the lease runs
 * out by itself.
 */
#ifndef POSTERN_SYNC_TAIL_H
#define POSTERN_SYNC_TAIL_H

#include <stdatomic.h>

#include "postern/base/clock.h"
#include "postern/loop/worker.h"
#include "postern/policy/compile.h"
#include "postern/store/service.h"

#define PST_LEASE_WAIT_NS (200 * PST_NS_PER_MS) /* C3: what a request waits for a lease at most */

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
    bool whole;                     /* the model is all there is; else what the keys touch */
    const uint8_t *fleet_key;       /* PST_FLEET_KEY_BYTES, when it was read; else NULL */
    bool all_users;                 /* every user's facts may have changed */
    const struct pst_log_key *keys; /* else the touched users, roles and workspaces, oldest first */
    size_t key_count;
    uint64_t lease_start_ns, bound_ns; /* to be passed to the workers behind the invalidations */
};

/* Makes the batch effective: compile and publish the model, tell the workers. Also called when
 * nothing changed, to renew leases (no model, no keys). Anything but PST_OK: the same batch comes
 * again at a later read, and the lease does not move. */
typedef enum pst_status pst_tail_apply_fn(void *ctx, const struct pst_tail_batch *batch,
                                          struct pst_error *error);
/* A read ended: PST_OK behind an applied batch, else why nothing moved. */
typedef void pst_tail_ended_fn(void *ctx, enum pst_status status, const struct pst_error *error);

struct pst_tail_config {
    struct pst_worker *worker;
    struct pst_service *service;
    pst_tail_apply_fn *apply;
    pst_tail_ended_fn *ended; /* may be NULL */
    /* What `apply` would patch; it must stay until `apply` was called. NULL, or returns it: rows
     * that are known already are read again. */
    const struct pst_policy *(*base)(void *ctx);
    /* This node among others; its name empty: nobody waits for it, and the two are not called. */
    struct pst_bytes node;
    /* Its row, when that has to be written before the next read; NULL: it stands. */
    const struct pst_node_row *(*registers)(void *ctx);
    /* The row does not stand there: nobody waits for this node, so what was read gives no lease and
     * is not applied. To be answered with pst_tail_drop_lease and a row. */
    void (*unlisted)(void *ctx);
    void *ctx;
    uint64_t (*now_ns)(void); /* NULL: pst_clock_boot_ns */
};

struct pst_tail_stats {
    uint64_t reads, reloads, batches, histories, failures;
    uint64_t log_rows;  /* that the database keeps */
    uint64_t change_ns; /* the last batch with a change: from its rows to the end of `apply` */
};

/* For `apply`: the policy that the batch's model makes of `base`, which may be NULL when the model
 * is whole. Frees the model. */
PST_MUST_USE enum pst_status pst_tail_compile(const struct pst_tail_batch *batch,
                                              const struct pst_policy *base,
                                              struct pst_policy **out, struct pst_error *error);

struct pst_tail; /* opaque */

/* Nothing is read before the first call of the functions below. */
PST_MUST_USE enum pst_status pst_tail_create(const struct pst_tail_config *config,
                                             struct pst_tail **out);
/* Before the first read: what was applied up to `mark` already (sync/snapshot.h). The log has to
 * prove it all the same. */
void pst_tail_resume(struct pst_tail *tail, const struct pst_log_mark *mark);
/* The last row whose batch was applied. */
struct pst_log_mark pst_tail_mark(const struct pst_tail *tail);
/* The service must have been destroyed, and the worker's mailbox run, before. Accepts NULL. */
void pst_tail_destroy(struct pst_tail *tail);

/* B is the database's, or this where it is shorter; 0: the database's. */
void pst_tail_set_bound(struct pst_tail *tail, uint64_t bound_ns);
/* A node at work reads at least this often; 0: only to renew. */
void pst_tail_set_poll(struct pst_tail *tail, uint64_t every_ns);

/* To be called every 50 ms or so. at_work: something was decided, or a stream held, within the last
 * B. */
void pst_tail_tick(struct pst_tail *tail, bool at_work);
/* Something was committed, or a message of it may have been lost: reads if the node could still
 * decide from memory, and once more if a read is under way, because that may have begun before. At
 * once, or 5 ms behind the read before: of very many changes many share one. */
void pst_tail_notice(struct pst_tail *tail);
/* A worker waits for a lease, or for a revision: reads now; who joins a read that is under way gets
 * what that brings. */
void pst_tail_demand(struct pst_tail *tail);
/* Whoever counted on this node's lease cannot any more: none until the next proving read. */
void pst_tail_drop_lease(struct pst_tail *tail);
/* From now on no read begins; one that is under way ends. */
void pst_tail_stop(struct pst_tail *tail);
bool pst_tail_reading(const struct pst_tail *tail);
/* The bound that the row should say: with a shorter one in it that one is used. 0: not known yet.
 */
uint64_t pst_tail_wanted_bound(const struct pst_tail *tail);
/* Since when a demand is not answered; 0: none. */
uint64_t pst_tail_demanded_since(const struct pst_tail *tail);

const struct pst_lease *pst_tail_lease(const struct pst_tail *tail);
/* Any thread. */
struct pst_tail_stats pst_tail_stats(const struct pst_tail *tail);

#endif
