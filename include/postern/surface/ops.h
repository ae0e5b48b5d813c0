/*
 * ops.h - what the cluster asks: /healthz, /readyz, /metrics.
 *
 * Purpose   Liveness, readiness and Prometheus text, added up over all workers.  Everything else is 404.
 *
 * Threads   Any: counters are read relaxed, `ready` must be callable from every worker.
 *
 * Use       pst_ops_answer fits struct pst_door of the connection code: self is the struct.
 */
#ifndef POSTERN_SURFACE_OPS_H
#define POSTERN_SURFACE_OPS_H

#include "postern/authz/engine.h"
#include "postern/http/message.h"

struct pst_ops {
    const struct pst_metrics *const *metrics; /* one a worker */
    uint32_t metrics_count;
    const struct pst_log *log; /* NULL: no drops to tell */
    struct pst_bytes version;
    uint64_t started_wall_s;
    /* Ready for requests? If not, *why gets a few words. NULL: always. */
    bool (*ready)(void *owner, struct pst_buf *why);
    void *owner;
};

/* The status; body and its type. */
unsigned pst_ops_answer(const void *self, const struct pst_head *head, struct pst_buf *body,
                        const char **type);

#endif
