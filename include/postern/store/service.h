/*
 * service.h - what threads that must not wait ask of the database: users' facts and the change log.
 *
 * Purpose   One connection a process for everyday reads, on a thread of its own: a worker or the
 * control thread posts a question and goes on, the answer is delivered later.  Questions about
 * users that wait together go out together (one round trip for up to 64), equal ones are read once.
 * A second thread with a connection of its own, which is closed again behind the work, does what
 * takes long: loading the whole model, making a user at his first sign-in.
 *
 * Freshness A read begins after its question was posted: nobody gets rows older than its question.
 *
 * Memory    The queue is bounded and taken at creation; a full one is PST_E_BUSY at once.  A
 * reply's facts block is one allocation that the receiver owns (pst_facts_free); each waiter gets
 *           its own.  A log reply's page and model are the receiver's.
 *
 * Threads   post functions: any thread.  deliver and changed: called on a thread of the service,
 *           must only pass on (into a mailbox) and not block.
 *
 * Failure   The reply carries a status: PST_OK with facts (user_id 0: unknown user), PST_E_BUSY
 * when the deadline passed before the read began, else what the store said.  A database that cannot
 *           be opened or read is that error for every question of the next 50 ms.
 */
#ifndef POSTERN_STORE_SERVICE_H
#define POSTERN_STORE_SERVICE_H

#include "postern/store/change.h"
#include "postern/store/log.h"
#include "postern/store/nodes.h"

#define PST_FACTS_KEY_MAX 1024 /* bytes of issuer, value, name, e-mail and role together */

struct pst_service; /* opaque */

struct pst_service_config {
    struct pst_bytes url;
    uint32_t queue; /* questions about users that wait at most, 1..65536 */
    /* The database says that something was committed (PST_E_ABSENT hints: never called). NULL: not
     * of interest. */
    void (*changed)(void *ctx);
    void *ctx;
};

struct pst_service_stats {
    uint64_t requests, reads, coalesced, refused, expired, failed; /* users */
    uint64_t batches;                                              /* round trips for them */
    uint64_t log_reads, loads;
};

/* Starts the threads. The database is opened by them, at the first question. */
PST_MUST_USE enum pst_status pst_service_create(const struct pst_service_config *config,
                                                struct pst_service **out, struct pst_error *error);
/* Delivers what waits as PST_E_BUSY, stops the threads; what is posted from then on is PST_E_BUSY:
 * who still runs messages that may ask can do so. Twice, too. Accepts NULL. */
void pst_service_stop(struct pst_service *service);
/* Stops it and frees it: nobody may post any more. Accepts NULL. */
void pst_service_destroy(struct pst_service *service);

/* --- users --- */

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

/* Copies what it needs. PST_PENDING: the reply will come. PST_E_BUSY: the queue is full, and
 * PST_E_LIMIT: the texts are longer than PST_FACTS_KEY_MAX; then no reply comes. */
PST_MUST_USE enum pst_status pst_service_facts(struct pst_service *service,
                                               const struct pst_facts_request *request);

/* --- the change log --- */

struct pst_log_reply {
    enum pst_status status;
    struct pst_error error;   /* unless PST_OK */
    uint64_t read_ns;         /* boot clock: when the log's rows had come */
    struct pst_log_page page; /* PST_OK: the receiver's, pst_log_page_fini */
    struct pst_model *model;  /* of the page's revision, the receiver's. NULL: no role and no
                               * workspace  was touched */
    bool whole; /* the model is all there is; else the roles that the page's keys name (partial
                 * ones of `base`, too), and all workspaces if they name one */
    bool has_key;
    uint8_t fleet_key[PST_FLEET_KEY_BYTES]; /* as wanted, and with a whole model */
};

typedef void pst_log_deliver_fn(void *ctx, struct pst_log_reply *reply);

struct pst_log_request {
    struct pst_log_mark since;
    struct pst_bytes node; /* whose row is looked at (log.h); as long as `registers` */
    /* This node, to be registered (and that committed) before the log is read: whoever waits for
     * all nodes then waits for this one too. NULL: it is. Its texts must stay until the reply. */
    const struct pst_node_row *registers;
    /* What a model that is not whole will patch (log.h); must stay until the reply. NULL: nothing.
     */
    const struct pst_policy *base;
    bool want_key;        /* of the fleet; always given with a whole model */
    uint64_t deadline_ns; /* of the log read; loading a model behind it may take longer. 0: none */
    pst_log_deliver_fn *deliver; /* the reply is borrowed for the call; page and model given away */
    void *ctx;
};

/* PST_PENDING: the reply will come, before any other of users that was posted later. PST_E_BUSY:
 * one is running. */
PST_MUST_USE enum pst_status pst_service_log(struct pst_service *service,
                                             const struct pst_log_request *request);

/* --- nodes --- */

enum pst_node_call { PST_NODE_REPORT = 0, PST_NODE_UNREGISTER, PST_NODE_CLAIM };

struct pst_node_reply {
    enum pst_node_call call;
    enum pst_status status;
    struct pst_error error;   /* unless PST_OK */
    bool mine;                /* CLAIM */
    struct pst_revision head; /* CLAIM */
};

typedef void pst_node_deliver_fn(void *ctx, const struct pst_node_reply *reply);

struct pst_node_request {
    enum pst_node_call call;
    struct pst_node_row row; /* its texts must stay until the reply */
    uint64_t ttl_ms;         /* CLAIM */
    pst_node_deliver_fn *deliver;
    void *ctx;
};

/* PST_PENDING: the reply will come, and what it asks for is done before a read of the log that was
 * posted later. PST_E_BUSY: one is running. */
PST_MUST_USE enum pst_status pst_service_node(struct pst_service *service,
                                              const struct pst_node_request *request);

struct pst_service_stats pst_service_stats(struct pst_service *service);

#endif
