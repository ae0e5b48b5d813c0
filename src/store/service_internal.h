/* service_internal.h - what the files of the service share: its lanes, and what a lane does for the
 * log and for nodes. */
#ifndef POSTERN_STORE_SERVICE_INTERNAL_H
#define POSTERN_STORE_SERVICE_INTERNAL_H

#include <pthread.h>

#include "postern/base/hash.h"
#include "postern/store/service.h"

struct slot;  /* a question about a user: service.c */
struct batch; /* those that go out together */

struct queue {
    uint32_t first, last;
};

enum log_state { LOG_NONE = 0, LOG_ASKED, LOG_TAKEN, LOG_SLOW, LOG_SLOW_TAKEN };

struct lane {
    struct pst_service *service;
    pthread_t thread;
    pthread_cond_t wake;
    bool running;
    struct queue queue;
    struct pst_store *store; /* the thread's only, and so: */
    uint64_t rest_until_ns;
    struct pst_error failure; /* the last one */
};

struct pst_service {
    pthread_mutex_t lock;
    bool stop;
    struct slot *slots;
    uint32_t free;
    enum log_state log_state;
    struct pst_log_request log;   /* while log_state says so */
    struct pst_node_request node; /* while node_asked */
    bool node_asked;
    struct pst_service_stats stats;
    struct lane quick, slow;

    /* The rest never changes, or is the quick thread's only. */
    struct pst_hash_key key;
    void (*changed)(void *ctx);
    void *ctx;
    struct batch *batch;
    uint64_t hint, hint_due_ns;
    struct pst_node_watch watch;
    bool hints; /* the database gives some */
    char *url;
    size_t url_len;
};

/* All without the lock, on the lane's thread. */

/* The lane's connection: opens it unless it is open; PST_E_IO and the like as of pst_store_open,
 * and while it rests after a failure. */
enum pst_status pst_lane_open(struct lane *lane, struct pst_error *error);
/* Requests that come in thousands must not become as many attempts: they would keep a server from
 * coming back. */
void pst_lane_rest(struct lane *lane, enum pst_status status, const struct pst_error *why);
/* What a connection is given up for is its own silence: not the time that making it took (it would
 * be made anew for ever), nor that others were answered first. fresh: it was just made. */
void pst_lane_deadline(struct lane *lane, uint64_t at_ns, bool fresh);
void pst_lane_close(struct lane *lane);

/* Reads the log and delivers, or lets the slow lane's turn come: more than a few roles changed. */
void pst_lane_log(struct lane *lane, const struct pst_log_request *q);
/* The slow lane's turn: the proof and the whole model, delivered. */
void pst_lane_load(struct lane *lane, const struct pst_log_request *q);
void pst_lane_node(struct lane *lane, const struct pst_node_request *q);
/* Asks the database for its hint and tells `changed` when that is another one. */
void pst_lane_look(struct lane *lane);

/* Any thread: the log question is answered, and the next can be asked. */
void pst_service_deliver_log(struct pst_service *s, const struct pst_log_request *q,
                             struct pst_log_reply *reply, enum pst_status status);

#endif
