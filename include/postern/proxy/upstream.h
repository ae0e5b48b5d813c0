/*
 * upstream.h - connections to the apps: pools keyed by address, one set per worker.
 *
 * Purpose   Lends a connection to one exchange at a time, and takes it back only when it is certain
 * that nothing of that exchange is left on it.
 *
 * How       Idle connections are taken last in, first out, and live shorter than the app keeps
 * them. Every connection counts requests and answers: it is pooled only when they are equal, and
 *           when a byte arrives while it is idle it is closed.  After five failures in a row an
 * address is left alone for a while; then one request probes it.
 *
 * Names     Resolved on the worker's loop (libevent's resolver), again every 30 s while in use; the
 * old addresses stay until new ones are there.  A connection to an address that the name does not
 * lead to any more is not used again.
 *
 * Threads   The worker's.
 *
 * Failure   lease: PST_E_BUSY (left alone), PST_E_IO (cannot connect), PST_E_INVALID (no such
 * address), PST_E_NOMEM, PST_E_LIMIT.
 */
#ifndef POSTERN_PROXY_UPSTREAM_H
#define POSTERN_PROXY_UPSTREAM_H

#include "postern/base/metric.h"
#include "postern/loop/worker.h"
#include "postern/net/stream.h"
#include "postern/proxy/config.h"

struct pst_pools;
struct pst_endpoint;

/* One connection, lent. The borrower reads and writes `stream`. */
struct pst_loan {
    struct pst_stream stream;
    struct pst_pools *pools_;
    struct pst_endpoint *endpoint;
    struct pst_borrower *borrower_; /* NULL: idle */
    struct pst_list node_;
    struct pst_grave grave_;
    uint64_t born_ns_, idle_until_ns_;
    uint32_t requests, answers; /* begun and ended; pooled only when equal */
    bool reused;                /* it has carried an earlier request */
    uint8_t tries_;             /* addresses tried so far */
    struct pst_address peer_;   /* the one that was connected to */
    uint32_t max_idle_, idle_s_;
};

/* Embedded by who borrows. */
struct pst_borrower {
    void (*ready)(struct pst_borrower *borrower, struct pst_loan *lease, enum pst_status status);
    void (*readable)(struct pst_borrower *borrower);
    void (*drained)(struct pst_borrower *borrower);

    /* private to upstream.c */
    struct pst_list wait_; /* among those that wait for a name; next NULL: in no list */
    struct pst_loan *connecting_;
    struct pst_endpoint *endpoint_;
    uint32_t max_idle_, idle_s_;
};

PST_MUST_USE enum pst_status pst_pools_create(struct pst_worker *worker,
                                              struct pst_metrics *metrics, struct pst_pools **out);
/* Nothing may be lent. Accepts NULL. */
void pst_pools_destroy(struct pst_pools *pools);
/* Closes all idle connections. */
void pst_pools_close_idle(struct pst_pools *pools);

/* PST_OK: *out is lent. PST_PENDING: `ready` comes later. `fresh`: never a pooled one (retries). */
PST_MUST_USE enum pst_status pst_pools_lease(struct pst_pools *pools,
                                             const struct pst_upstream_config *config,
                                             struct pst_bytes workspace, bool fresh,
                                             struct pst_borrower *borrower, struct pst_loan **out);
/* Gives up waiting; `ready` will not come. `blame`: it took too long, which counts as a failure. */
void pst_pools_cancel(struct pst_borrower *borrower, bool blame);

/* Back to the pool, if it may go there; else closed. */
void pst_loan_release(struct pst_loan *lease, bool keep);
/* The exchange on it failed: closed, and counted against the address when `blame`. */
void pst_loan_fail(struct pst_loan *lease, bool blame);
/* An answer came: the address works. */
void pst_loan_succeed(struct pst_loan *lease);

/* The authority of the address, as Host says it ("app:9000"; "localhost" of a unix socket). */
struct pst_bytes pst_endpoint_authority(const struct pst_endpoint *endpoint);

#endif
