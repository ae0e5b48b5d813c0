/*
 * resolver.h - names to addresses, without holding up the loop.
 *
 * Purpose   The hosts file and the name servers of resolv.conf, asked by libevent on the worker's
 *           loop. Nothing is opened before the first name.
 *
 * Memory    A lookup is embedded in its owner; zeroed memory is an idle one. What a cancelled
 *           lookup asked is answered to nobody and freed when the answer, or its time-out, comes.
 *
 * Threads   The worker's.
 *
 * Failure   `done` with no addresses: no such name, no answer, no memory.
 */
#ifndef POSTERN_NET_RESOLVER_H
#define POSTERN_NET_RESOLVER_H

#include "postern/loop/worker.h"
#include "postern/net/address.h"

#define PST_LOOKUP_ADDRESSES 8

struct pst_resolver; /* opaque */
struct pst_query;    /* opaque: what is being asked */

struct pst_lookup {
    struct pst_query *query_; /* NULL: idle */
    /* Never from inside pst_lookup_start; `addresses` are borrowed for the call. */
    void (*done)(struct pst_lookup *lookup, const struct pst_address *addresses, uint8_t count);
};

PST_MUST_USE enum pst_status pst_resolver_create(struct pst_worker *worker,
                                                 struct pst_resolver **out);
/* No lookup may be running. What cancelled ones asked is freed in the worker's next turn. Accepts
 * NULL. */
void pst_resolver_destroy(struct pst_resolver *resolver);

/* `host` ends in NUL; `done` must be set. The addresses come with `port`. PST_E_NOMEM: nothing was
 * asked. */
PST_MUST_USE enum pst_status pst_lookup_start(struct pst_resolver *resolver,
                                              struct pst_lookup *lookup, const char *host,
                                              uint16_t port);
/* An idle one, too. */
void pst_lookup_cancel(struct pst_lookup *lookup);

static inline bool pst_lookup_running(const struct pst_lookup *lookup)
{
    return lookup->query_ != NULL;
}

#endif
