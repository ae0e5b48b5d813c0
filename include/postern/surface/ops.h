/*
 * ops.h - what the cluster asks: /healthz, /readyz, /metrics.
 *
 * Purpose   Liveness, readiness and Prometheus text, added up over all workers.  Everything else is
 * 404.
 *
 * Memory    The door borrows the counters, which outlive it.
 *
 * Threads   create, add and destroy: one thread, while no worker answers through it.  answer: any;
 *           counters are read relaxed, `ready` must be callable from every worker.
 *
 * Use       pst_ops_door_answer fits struct pst_door of the connection code: self is the door.
 */
#ifndef POSTERN_SURFACE_OPS_H
#define POSTERN_SURFACE_OPS_H

#include "postern/authz/engine.h"
#include "postern/http/message.h"

struct pst_ops_door;

struct pst_ops_config {
    bool (*ready)(void *ctx); /* NULL: always */
    void *ctx;
    const struct pst_log *log; /* NULL: no drops to tell */
};

PST_MUST_USE enum pst_status pst_ops_door_create(const struct pst_ops_config *config,
                                                 struct pst_ops_door **out);
/* One worker's counters. PST_E_LIMIT past 256 workers. */
PST_MUST_USE enum pst_status pst_ops_door_add(struct pst_ops_door *door,
                                              const struct pst_metrics *metrics);
/* Accepts NULL. */
void pst_ops_door_destroy(struct pst_ops_door *door);

/* The status; body and its type. */
unsigned pst_ops_door_answer(const void *self, const struct pst_head *head, struct pst_buf *body,
                             const char **type);

#endif
