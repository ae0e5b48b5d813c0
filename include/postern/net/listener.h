/*
 * listener.h - a listening socket, and the acceptor that a worker runs on it.
 *
 * Purpose   Each worker accepts for itself: over TCP from a socket of its own (SO_REUSEPORT), over
 * a unix socket from a duplicate of one.
 *
 * Failure   Out of file descriptors: a reserved one is given up to accept and close what waits,
 * then accepting rests until the next tick, so that the loop never spins.
 */
#ifndef POSTERN_NET_LISTENER_H
#define POSTERN_NET_LISTENER_H

#include "postern/loop/worker.h"
#include "postern/net/address.h"

/* Opens a listening socket. port 0 chooses one: *bound (may be NULL) tells where it listens. The
 * file of a unix socket that nobody listens on any more is replaced. */
PST_MUST_USE enum pst_status pst_listen(const struct pst_address *address, int *fd,
                                        struct pst_address *bound, struct pst_error *error);

/* PST_OK: nobody listens at this TCP address. Workers share a port by SO_REUSEPORT, and so would a
 * second process: unseen, each with a part of the requests. Always PST_OK for a unix socket and for
 * port 0. */
PST_MUST_USE enum pst_status pst_listen_is_free(const struct pst_address *address,
                                                struct pst_error *error);

struct pst_acceptor;

struct pst_acceptor_ops {
    /* A non-blocking, close-on-exec socket, with TCP_NODELAY where that is something. Takes fd. */
    void (*accepted)(void *owner, int fd, const struct pst_address *peer);
};

/* Takes `fd` (a listening socket; closed by close). */
PST_MUST_USE enum pst_status pst_acceptor_open(struct pst_worker *worker, int fd,
                                               const struct pst_acceptor_ops *ops, void *owner,
                                               struct pst_acceptor **out);
/* Accepts what waits now, however much it is: before closing, so that nobody is turned away. */
void pst_acceptor_flush(struct pst_acceptor *acceptor);
/* Stops accepting. Accepts NULL. */
void pst_acceptor_close(struct pst_acceptor *acceptor);

#endif
