/*
 * barrier.h - waits until a change is in force on every node (contract C9).
 *
 * Purpose  Each node that may decide from memory stands in the database with what it has applied.
 * The barrier ends when all of them have reported the revision, or when the leases of those that
 *          have not must have ended: B after the commit was acknowledged, on this process's boot
 *          clock.  A node that says that it decides nothing from memory is not waited for: it reads
 *          the log before it decides again.
 *
 * Exempt   Routes with stale_allow_s or stream_grace_s are not bound by B: they are named, as the
 *          nodes have reported them, and the nodes that have such routes are counted.
 *
 * Failure  A list that cannot be read is waited out: for B, for the one before when the change made
 *          it shorter, or for the longest that was listed.  Never an error: the answer is how it
 *          ended.
 */
#ifndef POSTERN_MANAGE_BARRIER_H
#define POSTERN_MANAGE_BARRIER_H

#include "postern/store/nodes.h"

struct pst_barrier {
    uint32_t nodes;                   /* that may decide from memory */
    uint32_t pending;                 /* of them, that had not reported when time ended the wait */
    uint32_t exempt;                  /* that have routes which B does not bind: */
    char routes[PST_NODE_ROUTES_MAX]; /* their names, as in nodes.h */
    size_t routes_len;
    uint64_t waited_ms;
    bool listed; /* the list could be read to the end */
};

/* acked_ns: boot clock, when the commit was acknowledged. bound_before_s: B as the change found it.
 */
void pst_barrier_wait(struct pst_store *store, const struct pst_revision *revision,
                      uint64_t acked_ns, uint32_t bound_before_s, struct pst_barrier *out);

#endif
