/*
 * config.h - what the doors of a worker are told: listeners, upstreams, limits, names.
 *
 * Memory    Immutable and owned by whoever made it; lent to every worker until that worker has
 * given it back (pst_server_ops.config_released). An exchange keeps the one its head ended with.
 */
#ifndef POSTERN_PROXY_CONFIG_H
#define POSTERN_PROXY_CONFIG_H

#include "postern/authz/engine.h"
#include "postern/http/body.h"
#include "postern/http/filter.h"
#include "postern/http/h1.h"
#include "postern/http/host.h"
#include "postern/net/address.h"

enum pst_listener_kind {
    PST_LISTENER_PROXY = 0, /* decides and forwards */
    PST_LISTENER_CHECK,     /* decides and answers, as the door's dialect says (auth_request) */
    PST_LISTENER_LOCAL,     /* answers by itself, asks nobody (ops) */
};

/*
 * What makes a listener something else than a proxy. The surface layer has the functions; `self` is
 * handed to each.
 */
struct pst_door {
    const void *self;
    /* CHECK: fills the request that is to be decided, all borrowed from head, host (the canonical
     * one) and arena. `trusted`: the peer is one of the listener's trusted ones. Anything but
     * PST_R_INTERNAL (0) refuses: the answer is written by `answer`, nobody is asked. */
    enum pst_reason (*read)(const void *self, const struct pst_head *head,
                            const struct pst_host *host, bool trusted, struct pst_arena *arena,
                            struct pst_request *out);
    /* CHECK: the status of the answer, and its field lines ("Name: value\r\n") to `fields`. There
     * is never a body. */
    unsigned (*answer)(const void *self, const struct pst_decision *decision,
                       struct pst_buf *fields);
    /* LOCAL: does the answer depend on a lease? Then one is asked for first. NULL: never. */
    bool (*asks_lease)(const void *self, const struct pst_head *head);
    /* LOCAL: the status; the body to `body`, its type to *type. `leased`: one was asked for, and is
     * there. */
    unsigned (*local)(const void *self, const struct pst_head *head, bool leased,
                      struct pst_buf *body, const char **type);
};

struct pst_listener_config {
    struct pst_bytes name; /* listeners are the same across a reload when their names are */
    enum pst_listener_kind kind;
    uint32_t engine_index; /* what pst_engine_begin is told */
    const struct pst_cidr *trusted;
    uint32_t trusted_count;
    struct pst_door door;
};

struct pst_workspace_address {
    struct pst_bytes workspace, address;
};

struct pst_upstream_config {
    struct pst_bytes name;
    struct pst_bytes address; /* host:port or unix:/path; may hold "{workspace}" */
    const struct pst_workspace_address *workspaces; /* sorted or not; asked first */
    uint32_t workspace_count;
    bool host_client; /* the client's Host in canonical form instead of the upstream's own */
    bool authorization_pass;
    uint32_t idle_s, connect_s, first_byte_s, response_head_s, idle_body_s;
    uint32_t max_idle; /* pooled connections per worker and address */
};

struct pst_server_limits {
    struct pst_h1_limits head; /* body_bytes is 0: the decision names the limit */
    struct pst_body_limits body;
    uint32_t interim_responses, drain_bytes, drain_s;
    uint32_t request_head_s, write_stall_s, keepalive_idle_s, drain_total_s;
    uint32_t body_rate_bytes, body_rate_after_s; /* slower than this, after that time: 408 */
    uint32_t connections;                        /* per worker; 0: any number */
    uint32_t inspect_memory_bytes;               /* of all bodies held for inspection, per worker */
};

/* With the defaults of README. */
extern const struct pst_server_limits pst_server_limits_default;

/* Names of the fields that tell the upstream who calls; an empty one is not sent. */
struct pst_identity_names {
    struct pst_bytes user, roles, workspace, decision_id, revision;
};

struct pst_server_config {
    const struct pst_listener_config *listeners;
    uint32_t listener_count;
    const struct pst_upstream_config *upstreams; /* pst_decision.upstream is an index into it */
    uint32_t upstream_count;
    struct pst_server_limits limits;
    struct pst_identity_names identity;
    struct pst_bytes credential_cookie; /* removed from Cookie; empty: none */
    struct pst_filter filter; /* H9, with the workspace, identity and credential names added */
};

#endif
