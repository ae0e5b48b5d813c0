/*
 * ops.h - what the cluster asks: /healthz, /readyz, /metrics.
 *
 * Purpose   Liveness, readiness and Prometheus text, added up over all workers.  Everything else is
 * 404.  Ready is who can decide: readiness asks the engine for a lease (C13), so that a node that
 * has nothing to do, and so no lease, is not taken for one that lost its database.
 *
 * Memory    The door borrows the counters, which outlive it.
 *
 * Threads   create, add and destroy: one thread, while no worker answers through it.  answer: any;
 *           counters are read relaxed, the functions must be callable from every worker.
 *
 * Use       pst_ops_door_answer and pst_ops_door_asks_lease fit struct pst_door of the connection
 * code: self is the door.
 */
#ifndef POSTERN_SURFACE_OPS_H
#define POSTERN_SURFACE_OPS_H

#include "postern/authz/engine.h"
#include "postern/http/message.h"

struct pst_ops_door;

/* What is known of the process and not of one worker. */
struct pst_ops_figures {
    uint64_t epoch, applied_n;
    uint64_t head_n;    /* of the log, as last heard; 0: nobody said */
    uint64_t lapsed_ns; /* since the last proof that nothing newer was missed; UINT64_MAX: never */
    bool leased;
    uint64_t log_rows; /* of the change log, as the database keeps it */
    uint64_t
        change_ns; /* what the last change took, from its row's coming to its effect; 0: none */
    uint64_t log_reads, log_read_failures, reloads, histories, gaps, publishers;
    uint64_t fact_requests, fact_reads, fact_coalesced, fact_batches, fact_failures;
    uint64_t roles_missing; /* that the configuration names and the policy does not have */
};

struct pst_ops_config {
    const char *(*unready)(void *ctx); /* why not, apart from the lease; NULL: ready */
    void (*figures)(void *ctx, struct pst_ops_figures *out); /* NULL: none */
    void *ctx;                                               /* of both */
    const struct pst_log *log;                               /* NULL: no drops to tell */
};

PST_MUST_USE enum pst_status pst_ops_door_create(const struct pst_ops_config *config,
                                                 struct pst_ops_door **out);
/* One worker's counters. PST_E_LIMIT past 256 workers. */
PST_MUST_USE enum pst_status pst_ops_door_add(struct pst_ops_door *door,
                                              const struct pst_metrics *metrics);
/* Accepts NULL. */
void pst_ops_door_destroy(struct pst_ops_door *door);

/* Only readiness does. */
bool pst_ops_door_asks_lease(const void *self, const struct pst_head *head);
/* The status; body and its type. */
unsigned pst_ops_door_answer(const void *self, const struct pst_head *head, bool leased,
                             struct pst_buf *body, const char **type);

#endif
