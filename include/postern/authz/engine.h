/*
 * engine.h - the policy decision point: from a request to a decision.
 *
 * Purpose   pin → route → identify → (body) → extract → facts → evaluate → record.  Every door (proxy,
 *           auth_request, ...) asks the same engine, so a request gets the same decision whichever way it
 *           comes.
 *
 * How       The door embeds a struct pst_decide in its exchange and drives it: begin, then body when it
 *           is asked for, until PST_STEP_DONE.  PST_STEP_WAIT means that `resume` is called later, from
 *           the loop, never from inside a call.
 *
 * Memory    Texts of the decision stand in the exchange's arena or in the pinned bundle, and live until
 *           pst_engine_end.
 *
 * Threads   An engine belongs to one worker.
 *
 * Failure   Anything that does not work out is DENY with a reason; there is no status to ignore.
 */
#ifndef POSTERN_AUTHZ_ENGINE_H
#define POSTERN_AUTHZ_ENGINE_H

#include "postern/base/arena.h"
#include "postern/base/log.h"
#include "postern/base/metric.h"
#include "postern/policy/hub.h"
#include "postern/policy/profile.h"

struct pst_engine; /* one per worker */

enum pst_step {
    PST_STEP_DONE = 0, /* decision is filled */
    PST_STEP_BODY,     /* collect the body, at most decide->body_limit bytes, then pst_engine_body */
    PST_STEP_WAIT,     /* `resume` comes later */
};

struct pst_decision {
    enum pst_verdict verdict;
    enum pst_reason reason;
    unsigned status;           /* of a refusal: 400..503; 200 when allowed */
    bool forward;              /* allowed, or refused in shadow mode */
    bool shadowed;             /* verdict DENY, yet forward */
    bool preflight;            /* forward without identity headers */
    enum pst_error_form form;  /* of the refusal's body */
    struct pst_bytes detail;   /* safe to show: what was missing; may be empty */
    const char *allow;         /* with 405 */
    struct pst_bytes id;       /* decision id, 32 hex digits */
    struct pst_bytes user;     /* empty when nobody was identified */
    struct pst_bytes roles;    /* names, joined by commas */
    struct pst_bytes workspace;
    struct pst_bytes revision; /* "epoch-n" */
    struct pst_bytes workspace_field; /* name of a field that the upstream gets with `workspace`; or empty */
    uint32_t upstream;         /* index into the proxy's upstream table; UINT32_MAX: none */
    uint64_t body_limit;       /* bytes of a forwarded body; UINT64_MAX: none */
    uint32_t retry_after_s;    /* with 503 */
};

struct pst_decide {
    struct pst_decision decision;
    uint64_t body_limit; /* with PST_STEP_BODY */
    void (*resume)(struct pst_decide *decide); /* set by the door before begin */

    /* private to engine.c */
    struct pst_engine *engine_;
    struct pst_policy_pin *pin_;
    struct pst_request request_;
    struct pst_arena *arena_;
    const struct pst_mount *mount_;
    struct pst_routed routed_;
    struct pst_extracted extracted_;
    const void *principal_;
    const struct pst_facts *facts_;
    uint64_t started_ns_;
    uint64_t ticket_;
    uint8_t state_;
    char id_[32];
};

/* Begins a decision. `listener` is the index of the listener whose mounts apply. The request and what
 * it points to must stay until pst_engine_end. */
PST_MUST_USE enum pst_step pst_engine_begin(struct pst_engine *engine, struct pst_decide *decide,
                                            uint32_t listener, const struct pst_request *request,
                                            struct pst_arena *arena);
/* After PST_STEP_BODY: the whole body, or too_large when it passed the limit. */
PST_MUST_USE enum pst_step pst_engine_body(struct pst_decide *decide, struct pst_bytes body, bool too_large);
/* Gives back the pin; also cancels a decision that waits. Call it exactly once per begin. */
void pst_engine_end(struct pst_decide *decide);

/* The body of a refusal in the form that the app's clients expect, as JSON or text; content_type is a
 * static text. Written for people: reason, decision id, what to do next. */
void pst_engine_refusal_body(const struct pst_decision *decision, struct pst_buf *out, const char **content_type);
/* The value of WWW-Authenticate for a 401. */
void pst_engine_challenge(const struct pst_decision *decision, struct pst_buf *out);

struct pst_metrics *pst_engine_metrics(struct pst_engine *engine);
struct pst_log_ring *pst_engine_log(struct pst_engine *engine);

#endif
