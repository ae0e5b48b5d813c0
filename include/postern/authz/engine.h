/*
 * engine.h - the policy decision point: from a request to a decision.
 *
 * Purpose   pin → route → identify → (body) → extract → facts → evaluate → record.  Every door
 * (proxy, auth_request, ...) asks the same engine, so a request gets the same decision whichever
 * way it comes.
 *
 * How       The door embeds a struct pst_decide in its exchange and drives it: begin, then body
 * when it is asked for, until PST_STEP_DONE.  PST_STEP_WAIT means that `resume` is called later,
 * from the loop, never from inside a call.
 *
 * Memory    Texts of the decision stand in the exchange's arena or in the pinned bundle, and live
 * until pst_engine_end.
 *
 * Streams   What is forwarded for longer than a moment is handed over with pst_engine_hold: it is
 * judged again when a change could touch it, and cut when it would be refused now, when its token
 * has ended, or when the node has lost its lease (C10).
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
#include "postern/loop/worker.h"
#include "postern/policy/facts.h"
#include "postern/policy/hub.h"
#include "postern/policy/profile.h"
#include "postern/store/rows.h"
#include "postern/sync/revision.h"

struct pst_engine; /* one per worker */

enum pst_step {
    PST_STEP_DONE = 0, /* decision is filled */
    PST_STEP_BODY, /* collect the body, at most decide->body_limit bytes, then pst_engine_body */
    PST_STEP_WAIT, /* `resume` comes later */
};

struct pst_service; /* store/service.h */
struct pst_who;     /* store/store.h */

struct pst_decision {
    enum pst_verdict verdict;
    enum pst_reason reason;
    unsigned status;          /* of a refusal: 400..503; 200 when allowed */
    bool forward;             /* allowed, or refused in shadow mode */
    bool shadowed;            /* verdict DENY, yet forward */
    bool preflight;           /* forward without identity headers */
    enum pst_error_form form; /* of the refusal's body */
    struct pst_bytes detail;  /* safe to show: what was missing; may be empty */
    const char *allow;        /* with 405 */
    struct pst_bytes id;      /* decision id, 32 hex digits */
    struct pst_bytes user;    /* empty when nobody was identified */
    struct pst_bytes roles;   /* names, joined by commas */
    struct pst_bytes workspace;
    struct pst_bytes revision;       /* "epoch-n" */
    struct pst_bytes revision_token; /* the same with its MAC, for the upstream and back (C6) */
    struct pst_bytes
        workspace_field;    /* name of a field that the upstream gets with `workspace`; or empty */
    uint32_t upstream;      /* index into the proxy's upstream table; UINT32_MAX: none */
    uint64_t body_limit;    /* bytes of a forwarded body; UINT64_MAX: none */
    uint32_t retry_after_s; /* with 503 */
    uint32_t
        secret[2]; /* (offset, length) of what no log may show of the path; length 0: nothing */
};

struct pst_decide {
    struct pst_decision decision;
    uint64_t body_limit;                       /* with PST_STEP_BODY */
    void (*resume)(struct pst_decide *decide); /* set by the door before begin */
    enum pst_step step; /* when resume is called: PST_STEP_DONE or PST_STEP_BODY */

    /* private to engine.c */
    struct pst_engine *engine_;
    struct pst_policy_pin *pin_;
    const struct pst_request *request_;
    struct pst_bytes log_detail_; /* decision.detail, without what no log may show */
    struct pst_arena *arena_;
    const struct pst_mount *mount_;
    const struct pst_site_profile *profile_;
    struct pst_extracted extracted_;
    struct pst_principal *principal_; /* in the arena */
    struct pst_fact_entry *facts_;    /* counted */
    struct pst_facts *early_facts_;   /* own: rows of a revision that the log has not brought yet */
    uint64_t early_epoch_, early_n_;
    struct pst_revision min_; /* epoch 0: none is asked for */
    uint64_t news_;           /* the engine's, when it began to wait for the body */
    uint64_t history_; /* the engine's, when facts were asked for: rows of another one are none */
    struct pst_policy_pin
        *policy_pin_; /* after a wait: the policy that fits the facts; else pin_'s does */
    const struct pst_eval_detail *detail_;   /* NULL: it did not come to a verdict */
    const char *credential_fault_;           /* for the log: why the credential did not hold */
    const struct pst_who *assumed_;          /* of begin_as */
    void (*cut_)(struct pst_decide *decide); /* of pst_engine_hold; NULL: nobody looks at it */
    struct pst_site *site_;                  /* held: in place of pins; counted */
    uint64_t judged_;        /* held: the snapshot that it was judged by; 0: look at it */
    uint64_t read_since_ns_; /* held: since when its user is to be read; 0: he is known */
    struct pst_bytes body_;
    uint64_t started_ns_, deadline_ns_;
    uint64_t now_ns_; /* boot clock, when the walk was begun or went on */
    struct pst_ticket ticket_;
    struct pst_list waiting_;
    uint32_t listener_, workspace_, keys_issuer_;
    uint8_t state_;
    bool body_given_, keys_asked_, facts_asked_;
    bool stale_, graced_;
    uint8_t lease_asks_; /* how often a read of the log was asked for */

    /* From here on begin clears nothing: each is written before it is read. */
    struct pst_routed routed_; /* with mount_ */
    char id_[32];
    char revision_[PST_REVISION_TEXT_MAX]; /* held: of the last look */
};

/* Begins a decision. `listener` is the index of the listener whose mounts apply. The request and
 * what it points to must stay until pst_engine_end. */
PST_MUST_USE enum pst_step pst_engine_begin(struct pst_engine *engine, struct pst_decide *decide,
                                            uint32_t listener, const struct pst_request *request,
                                            struct pst_arena *arena);
/* The same for a caller that is named instead of identified: `postern check`, never a door. */
PST_MUST_USE enum pst_step pst_engine_begin_as(struct pst_engine *engine, struct pst_decide *decide,
                                               uint32_t listener, const struct pst_request *request,
                                               struct pst_arena *arena, const struct pst_who *who);
/* After PST_STEP_BODY: the whole body, or too_large when it passed the limit. Who has sent it for
 * long is asked anew who he is and what he may: see C1. */
PST_MUST_USE enum pst_step pst_engine_body(struct pst_decide *decide, struct pst_bytes body,
                                           bool too_large);
/* Asks for a lease and nothing else: DONE with `forward` when there is one, or with STALE when none
 * can be had within 200 ms. Counts as no request, and does not keep the node at work. */
PST_MUST_USE enum pst_step pst_engine_begin_lease(struct pst_engine *engine,
                                                  struct pst_decide *decide);
/* The exchange of this forwarded decision goes on. From now on `decide` needs nothing of the
 * request any more, holds no policy, and keeps the node at work; `cut` comes from the loop, or from
 * within this call, at most once, and must end the exchange. What nobody was asked about is never
 * cut. */
void pst_engine_hold(struct pst_decide *decide, void (*cut)(struct pst_decide *decide));
/* Gives back the pin; also cancels a decision that waits. Call it exactly once per begin. */
void pst_engine_end(struct pst_decide *decide);

/* The body of a refusal in the form that the app's clients expect, as JSON or text; content_type is
 * a static text. Written for people: reason, decision id, what to do next. */
void pst_engine_refusal_body(const struct pst_decision *decision, struct pst_buf *out,
                             const char **content_type);
/* Before pst_engine_end: what decided, or what was missing and the smallest change that would allow
 * it, as lines for people or as one JSON object. Cold. */
void pst_engine_explain(const struct pst_decide *decide, bool json, struct pst_buf *out);
/* The value of WWW-Authenticate for a 401. */
void pst_engine_challenge(const struct pst_decision *decision, struct pst_buf *out);

/* --- for the composition root --- */

struct pst_engine_config {
    struct pst_worker *worker;
    struct pst_policy_hub *hub;
    struct pst_service *service;
    struct pst_log *log;
    uint32_t token_cache; /* entries, >= 16 */
    uint32_t fact_cache;  /* users, >= 16 */
    /* A token names a key that the set of this issuer of this verifier (by its generation) does not
     * have. True: a refresh is on its way, and pst_engine_news.keys_of will tell when it ended;
     * false: refuse now. Any thread; NULL: never. */
    bool (*want_keys)(void *ctx, uint64_t verifier, uint32_t issuer, struct pst_bytes kid);
    /* A decision cannot be made from memory: the log is to be read, and news with a lease, or
     * `refused`, will tell how that ended. Any thread; NULL: such decisions are refused at once. */
    void (*want_lease)(void *ctx);
    /* News with a number are effective; on the worker's thread. NULL: nobody asks. */
    void (*took)(void *ctx);
    void *ctx; /* of all */
};

/* Before the worker runs, or on its thread. An engine that was told nothing refuses as stale. */
PST_MUST_USE enum pst_status pst_engine_create(const struct pst_engine_config *config,
                                               struct pst_engine **out);
/* No decision may be open. Accepts NULL. */
void pst_engine_destroy(struct pst_engine *engine);

/* What the control thread has to tell: everything in it becomes effective at once, the lease last.
 */
struct pst_engine_news {
    /* Runs on the worker in the same turn, once the bundle is adopted: decisions name upstreams and
     * listeners by number, so a site and the doors that it numbers change together. NULL: nothing.
     */
    void (*with)(void *ctx);
    void *with_ctx;
    /* Adopt the hub's current snapshot; nothing happens when it is. What moves the lease brings it:
     * an engine that had no memory to adopt one trusts nothing until it has. */
    bool bundle;
    bool new_history; /* the epoch broke: forget all facts */
    bool refused;     /* the log could not be read: who waits for it waits in vain */
    bool all_users;
    const uint64_t *users; /* whose facts changed, and by which change */
    const uint64_t *changes;
    uint32_t user_count;
    uint64_t epoch, n;                       /* applied with this news; epoch 0: as before */
    uint64_t lease_start_ns, lease_bound_ns; /* 0: as before */
    uint64_t number;                         /* rises; 0: nobody asks whether it was taken */
    uint64_t keys_of;     /* 0: none; a verifier's generation: a refresh of the keys of */
    uint32_t keys_issuer; /* this issuer of it ended, well or not */
};

/* Any thread. Copies; PST_E_NOMEM: nothing was sent, and the lease must not be renewed elsewhere.
 */
PST_MUST_USE enum pst_status pst_engine_tell(struct pst_engine *engine,
                                             const struct pst_engine_news *news);

/* Any thread: the boot-clock instant of the last decision from memory, or of the last one that
 * asked for a lease; 0: none yet. */
uint64_t pst_engine_active_ns(const struct pst_engine *engine);

/* Any thread: the number of the last news that are effective: nothing that is begun from now on is
 * decided by what was before them. */
uint64_t pst_engine_took(const struct pst_engine *engine);

struct pst_metrics *pst_engine_metrics(struct pst_engine *engine);
struct pst_log_ring *pst_engine_log(struct pst_engine *engine);

#endif
