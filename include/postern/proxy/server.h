/*
 * server.h - all connections of one worker: its listeners, its clients, its upstream pools.
 *
 * Purpose   The one object that the composition root puts on a worker to let requests in.
 *
 * How       create, then listen for every listener of the configuration; swap replaces the
 * configuration while requests run; drain lets what runs come to an end; destroy.
 *
 * Threads   The worker's, or any while it does not run.
 *
 * Failure   Nothing here ends the process: a connection that cannot be served is closed, a request
 *           that cannot be served is answered 4xx or 5xx.
 */
#ifndef POSTERN_PROXY_SERVER_H
#define POSTERN_PROXY_SERVER_H

#include "postern/loop/worker.h"
#include "postern/proxy/config.h"

struct pst_server;

struct pst_server_ops {
    /* No exchange of this worker uses `config` any more. May be NULL. */
    void (*config_released)(void *owner, const struct pst_server_config *config);
    /* drain has come to its end: no connection is left. May be NULL. */
    void (*drained)(void *owner);
};

/* `config` is lent until config_released, or destroy. `ops` may be NULL. */
PST_MUST_USE enum pst_status pst_server_create(struct pst_worker *worker, struct pst_engine *engine,
                                               const struct pst_server_config *config,
                                               const struct pst_server_ops *ops, void *owner,
                                               struct pst_server **out);
/* Closes everything at once. Accepts NULL. Run one more turn, or destroy the worker, to free it
 * all. */
void pst_server_destroy(struct pst_server *server);

/* Accepts on `fd` (of pst_listen; taken in any case) for config->listeners[index]. */
PST_MUST_USE enum pst_status pst_server_listen(struct pst_server *server, uint32_t index, int fd);
/* Is there an open listener of this name? */
bool pst_server_listens(const struct pst_server *server, struct pst_bytes name);

/* From now on requests begin with `config`. Listeners that it does not name stop accepting and
 * their connections close after the running request; new ones are added with pst_server_listen.
 * Upstreams must keep their index for as long as decisions of an older policy can name it. */
void pst_server_swap(struct pst_server *server, const struct pst_server_config *config);

/* Takes in what waits to be accepted, then stops accepting; answers what runs, and what comes on
 * idle connections within half a second, with `Connection: close`; closes idle connections after
 * that, and cuts what is left after limits.drain_total_s. Listeners of kind LOCAL go on. */
void pst_server_drain(struct pst_server *server);

uint32_t pst_server_connections(const struct pst_server *server);

#endif
