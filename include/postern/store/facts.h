/*
 * facts.h - users' facts for worker threads, which never wait.
 *
 * Purpose   A worker posts a request and goes on; a thread of the service's own, with its own
 *           connection, reads the rows and delivers the reply.  Equal requests that wait in the
 * queue are answered by one read, which begins after the last of them was posted: nobody gets rows
 *           older than its question.
 *
 * Memory    The queue is bounded and taken at creation; a full one is PST_E_BUSY at once.  A
 * reply's facts block is one allocation that the receiver owns (pst_facts_free); each waiter gets
 * its own.
 *
 * Threads   post: any thread.  deliver: called on the service's thread, must only pass the reply on
 *           (put it into the worker's mailbox) and not block.
 *
 * Failure   The reply carries a status: PST_OK with facts (user_id 0: unknown user), PST_E_BUSY
 * when the deadline passed before the read began, else what the store said.  A service whose
 *           database cannot be opened answers every request with that error and tries again.
 */
#ifndef POSTERN_STORE_FACTS_H
#define POSTERN_STORE_FACTS_H

#include "postern/store/change.h"

#define PST_FACTS_KEY_MAX 1024 /* bytes of issuer, value, name, e-mail and role together */

struct pst_facts_service; /* opaque */

struct pst_facts_reply {
    uint64_t ticket; /* as posted */
    enum pst_status status;
    struct pst_facts *facts; /* owned by the receiver; NULL unless PST_OK */
    struct pst_revision revision;
};

/* The reply is borrowed for the call; its facts block is given away. */
typedef void pst_facts_deliver_fn(void *ctx, struct pst_facts_reply *reply);

struct pst_facts_request {
    struct pst_who who;
    uint64_t ticket;
    uint64_t deadline_ns;              /* boot clock; 0: none */
    const struct pst_new_user *create; /* make an unknown user first; NULL: leave it unknown */
    pst_facts_deliver_fn *deliver;
    void *ctx;
};

struct pst_facts_config {
    struct pst_bytes url;
    uint32_t queue; /* requests waiting at most, 1..65536 */
};

struct pst_facts_stats {
    uint64_t requests, reads, coalesced, refused, expired, failed;
};

/* Starts the thread. The database is opened by it, at its first request. */
PST_MUST_USE enum pst_status pst_facts_service_create(const struct pst_facts_config *config,
                                                      struct pst_facts_service **out,
                                                      struct pst_error *error);
/* Delivers what waits as PST_E_BUSY, stops the thread. Accepts NULL. */
void pst_facts_service_destroy(struct pst_facts_service *service);

/* Copies what it needs. PST_PENDING: the reply will come. PST_E_BUSY: the queue is full, and
 * PST_E_LIMIT: the texts are longer than PST_FACTS_KEY_MAX; then no reply comes. */
PST_MUST_USE enum pst_status pst_facts_post(struct pst_facts_service *service,
                                            const struct pst_facts_request *request);

struct pst_facts_stats pst_facts_service_stats(struct pst_facts_service *service);

#endif
