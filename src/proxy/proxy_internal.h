/*
 * proxy_internal.h - the connection and the exchange, shared by the files of this layer.
 *
 *   server.c      listeners, configuration, drain
 *   connection.c  one client: which request is next, time limits, the end
 *   exchange.c    one request: READ -> DECIDE -> CONNECT -> RELAY -> DONE, or ANSWER on the way
 *   relay.c       bodies, both ways
 *   rewrite.c     heads, both ways
 *   answer.c      what Postern answers itself, and the access line
 *
 * I1  Nothing but advance() (connection.c) ends an exchange or a connection. Everything else says
 * so by x->state = DONE or c->doomed; every callback from outside closes with advance(). I2  The
 * head of the running request stays at the front of the client's input until the exchange ends: all
 * texts of the request point into it. I3  c->stream.in: [start .. head .. in_at) is used, [in_at ..
 * end) is body or the next request.
 */
#ifndef POSTERN_PROXY_INTERNAL_H
#define POSTERN_PROXY_INTERNAL_H

#include "postern/http/target.h"
#include "postern/net/listener.h"
#include "postern/proxy/server.h"
#include "postern/proxy/upstream.h"

#define PST_SCRATCH_BYTES     (2 * PST_BLOCK_BYTES + 16384)
#define PST_LISTENER_NAME_MAX 512 /* as lines show it */
#define PST_PLAIN_MAX         64

enum pst_xstate {
    PST_X_READ = 0, /* the head is not complete */
    PST_X_DECIDE,   /* the engine has it, or the body is collected for it */
    PST_X_CONNECT,  /* waits for an upstream connection */
    PST_X_RELAY,    /* both ways */
    PST_X_ANSWER,   /* answered; the rest of the request's body is read and dropped */
    PST_X_DONE,
    PST_X_STATES
};

enum pst_peer_kind { PST_PEER_V4 = 0, PST_PEER_V6, PST_PEER_UNIX };

struct pst_config_use {
    const struct pst_server_config *config;
    struct pst_config_use *next;
    uint32_t users;
};

struct pst_open_listener {
    struct pst_list node;
    struct pst_server *server;
    struct pst_acceptor *acceptor; /* NULL: closed */
    bool removed;                  /* a reload no longer names it */
    uint32_t index;                /* in the current configuration */
    struct pst_bytes name;         /* owned */
    struct pst_bytes json_name;    /* the same as lines show it; owned */
    uint8_t plain_len;
    char plain[PST_PLAIN_MAX]; /* CHECK: a target that was found to be canonical as it stands */
};

struct pst_server {
    struct pst_worker *worker;
    struct pst_engine *engine;
    struct pst_metrics *metrics;
    struct pst_log_ring *log;
    const struct pst_server_ops *ops;
    void *owner;
    struct pst_pools *pools;
    struct pst_config_use *uses; /* the current one first */
    struct pst_list listeners, connections;
    struct pst_list relaying; /* exchanges that the engine does not hold yet, the oldest first */
    struct pst_exchange *free_exchanges;
    struct pst_timer drain_timer;
    struct pst_deferred drained;
    struct pst_ticker ticker;
    uint64_t random[2];
    uint64_t wall_ns, wall_base_ns; /* wall clock of the last tick, and the boot clock then */
    uint64_t stamp_ms;              /* of the time that `stamp` says */
    char stamp[PST_TIME_LEN];
    struct pst_bytes reasons[PST_REASONS]; /* their names */
    double retry_tokens;
    uint32_t connection_count, free_count;
    size_t collected_bytes; /* room of all exchanges' collect */
    bool draining, drain_told;
    char scratch[PST_SCRATCH_BYTES]; /* heads and answers while they are written */
};

struct pst_connection {
    struct pst_stream stream;
    struct pst_server *server;
    struct pst_open_listener *listener;
    struct pst_exchange *x; /* NULL: idle, or closing */
    struct pst_list node;
    struct pst_grave grave;
    struct pst_timer timer;
    struct pst_deferred again;
    uint32_t in_turn;  /* requests begun since the loop last waited */
    uint32_t lingered; /* bytes dropped after the last answer */
    bool trusted;
    bool closing;   /* no further request after the running one */
    bool lingering; /* the answer is sent and the sending side shut */
    bool doomed;    /* to be closed at once */
    bool cut;       /* with a reset: the client must not take what it has for whole */
    bool dead;
    enum pst_peer_kind peer_kind;
    uint8_t peer_len;
    char peer[46]; /* address without port, or "unix" */
};

struct pst_exchange {
    struct pst_connection *c;
    struct pst_server *server;
    struct pst_config_use *use;
    const struct pst_server_config *config;
    const struct pst_listener_config *listener;
    uint64_t begun_ns, deadline_ns; /* the latter of the state; 0: none */
    uint64_t sent_from;             /* the client stream's counter at the beginning */

    /* from here to `decide` all is zero when a request begins (see begin_exchange) */
    enum pst_xstate state;
    enum pst_reason reason; /* of an answer that the engine did not give */
    unsigned status;
    uint8_t retries, interim;
    bool head_done;
    bool body_done; /* read to its end */
    bool body_sent; /* passed on to its end */
    bool continued; /* 100 was sent, or is not wanted */
    bool collecting, collected;
    bool deciding; /* pst_engine_end is due */
    bool decided;
    bool answering; /* the answer's head went to the client */
    bool answered;  /* one final answer was given */
    bool chunked_out;
    size_t in_at;
    struct pst_bytes id; /* X-Request-Id */
    struct pst_buf collect;
    const struct pst_upstream_config *upstream;
    struct pst_loan *lease;
    struct pst_list relay_node; /* in server->relaying; next NULL: not */
    struct pst_borrower borrower;
    uint64_t decided_ns, connected_ns, first_byte_ns;
    uint64_t body_from_ns; /* since when the body is waited for */

    /* not cleared: what is looked at before it is set is set when a request begins */
    struct pst_decide decide;
    struct pst_request request; /* its method and path are empty until then */
    struct pst_body body;       /* until then it has had no data */
    struct pst_body answer_body;
    struct pst_host host;
    struct pst_target target;
    uint64_t lease_received, lease_sent; /* its stream's, when this exchange began on it */
    uint64_t progress_ns;                /* last byte to or from the upstream */
    struct pst_exchange *next_free;
    struct pst_arena arena;
    struct pst_h1_parser parser, answer_parser;
    char host_space[PST_HOST_MAX];
    char id_space[32];
    struct pst_head head, answer;
};

/* connection.c */
void pst_connection_accept(struct pst_open_listener *listener, int fd,
                           const struct pst_address *peer);
void pst_connection_advance(struct pst_connection *c);
void pst_connection_arm(struct pst_connection *c);
void pst_connection_close(struct pst_connection *c);
void pst_connection_last_call(struct pst_connection *c);

/* exchange.c */
void pst_exchange_goto(struct pst_exchange *x, enum pst_xstate state);
void pst_exchange_begin(struct pst_exchange *x);
void pst_exchange_give_up_head(struct pst_exchange *x);
void pst_exchange_client_input(struct pst_exchange *x);
void pst_exchange_client_drained(struct pst_exchange *x);
void pst_exchange_on_deadline(struct pst_exchange *x, uint64_t now_ns);
void pst_exchange_end(struct pst_exchange *x);
void pst_exchange_drop_lease(struct pst_exchange *x, bool blame);
/* It goes on for long: the engine is to say when it must end. */
void pst_exchange_hold(struct pst_exchange *x);
void pst_exchange_upstream_gone(struct pst_exchange *x);
/* The answer is complete on the client's side. */
void pst_exchange_answer_complete(struct pst_exchange *x);

/* relay.c */
void pst_relay_collect(struct pst_exchange *x, uint64_t limit, bool *done, bool *too_large);
void pst_relay_drop_body(struct pst_exchange *x);
void pst_relay_request(struct pst_exchange *x, struct pst_bytes head);
void pst_relay_answer(struct pst_exchange *x, struct pst_bytes head);

/* rewrite.c */
void pst_rewrite_request(struct pst_exchange *x, struct pst_buf *out);
void pst_rewrite_answer(struct pst_exchange *x, struct pst_buf *out);
void pst_rewrite_interim(struct pst_exchange *x, struct pst_buf *out);
void pst_rewrite_request_id(struct pst_exchange *x);

/* answer.c */
void pst_answer_fault(struct pst_exchange *x, unsigned status, enum pst_reason reason,
                      const char *detail);
void pst_answer_decision(struct pst_exchange *x);
void pst_answer_check(struct pst_exchange *x);
void pst_answer_local(struct pst_exchange *x);
void pst_answer_options(struct pst_exchange *x);
void pst_answer_upstream(struct pst_exchange *x, unsigned status, const char *detail);
void pst_answer_continue(struct pst_exchange *x);
void pst_access_log(struct pst_exchange *x);

/* server.c */
uint64_t pst_server_wall(struct pst_server *server);
uint64_t pst_server_random(struct pst_server *server);
struct pst_config_use *pst_server_use(struct pst_server *server);
void pst_server_unuse(struct pst_server *server, struct pst_config_use *use);
void pst_server_connection_gone(struct pst_server *server);

#endif
