/*
 * metric.h - counters that workers write and the ops listener adds up.
 *
 * Purpose  One struct of counters per worker, written only by its thread with relaxed stores (a
 * plain add on x86), read by anybody; the sum over workers is what /metrics shows.
 *
 * Form     A fixed list of counters by name, so that nothing is looked up on the hot path. Labelled
 *          families (requests by outcome and reason) are arrays over an enum.
 */
#ifndef POSTERN_BASE_METRIC_H
#define POSTERN_BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t pst_counter;

static inline void pst_count(pst_counter *c, uint64_t by)
{
    /* Only its own thread writes: load and store need not be one operation. */
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

static inline uint64_t pst_counted(const pst_counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

#define PST_METRIC_REASONS_MAX 96
#define PST_METRIC_BUCKETS     24 /* latency, in powers of two from 256 ns */

struct pst_metrics {
    pst_counter requests[2][PST_METRIC_REASONS_MAX]; /* [verdict][reason] */
    pst_counter shadow_denied;                       /* would have been refused, forwarded */
    pst_counter decision_ns_bucket[PST_METRIC_BUCKETS];
    pst_counter decision_ns_sum;
    pst_counter token_hits, token_misses, fact_hits, fact_misses;
    pst_counter upstream_connects, upstream_reuses, upstream_failures, upstream_retries;
    pst_counter upstream_idle, upstream_busy; /* gauges: set, not counted up */
    pst_counter connections, connections_open;
    pst_counter bytes_in, bytes_out;
    pst_counter loop_stalls;
    pst_counter fill_guards;   /* facts read again because a change touched them */
    pst_counter stale_allowed; /* without a lease, on routes that ask for it */
    pst_counter streams_held;  /* gauge */
    pst_counter streams_graced;
    pst_counter streams_cut[PST_METRIC_REASONS_MAX];
    pst_counter answers[6]; /* by status class: [1]..[5] */
};

void pst_metrics_decision(struct pst_metrics *m, uint64_t ns);

#endif
