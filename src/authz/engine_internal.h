/*
 * engine_internal.h - what the files of the engine share: its state, the principal, and the calls
 *                     between the walk (engine.c), the identity (identify.c), the worker's side
 * (news.c) and the record (record.c).
 */
#ifndef POSTERN_AUTHZ_ENGINE_INTERNAL_H
#define POSTERN_AUTHZ_ENGINE_INTERNAL_H

#include "facts_cache_internal.h"

#include "postern/authz/engine.h"
#include "postern/authz/site.h"
#include "postern/identity/cache.h"
#include "postern/identity/wall.h"
#include "postern/store/change.h"
#include "postern/store/service.h"

/* Who calls, as the token says. In the decision's arena. */
struct pst_principal {
    uint32_t issuer;                 /* index into the site's issuers */
    uint64_t issued_at;              /* iat in seconds; 0: the token does not say */
    struct pst_who who;              /* whom the store is asked for */
    const struct pst_claims *claims; /* in the arena, or: */
    bool counted;                    /* they are the token cache's, to be given back */
};

struct pst_engine {
    struct pst_worker *worker;
    struct pst_policy_hub *hub;
    struct pst_policy_reader *reader;
    struct pst_service *service;
    struct pst_facts_cache *facts;
    struct pst_token_cache *tokens;
    struct pst_checker *checker; /* of the verifier of the adopted site; NULL when there is none */
    bool (*want_keys)(void *ctx, uint32_t issuer, struct pst_bytes kid);
    void (*want_lease)(void *ctx);
    void *ctx; /* of both */
    struct pst_log *log;
    struct pst_log_ring *ring;
    struct pst_metrics *metrics;
    struct pst_ticker ticker;
    struct pst_timer expiry; /* set while a decision waits */
    struct pst_list waiting; /* decisions whose facts were asked for */
    struct pst_list early;   /* decisions whose facts were ahead of the log */
    struct pst_list keyless; /* decisions whose token names a key that is being fetched */
    struct pst_list stale;   /* decisions that wait for a lease */
    _Atomic uint64_t active_ns; /* written by the worker, read by the control thread, relaxed: only
                                 * its age counts */
    struct pst_wall wall;    /* for exp and nbf */
    uint64_t histories; /* how often everything that was known was dropped */
    uint64_t epoch, lease_start_ns, lease_bound_ns;
    uint64_t id_prefix, id_count; /* decision ids: a random half and a count */
};

/* identify.c */
enum pst_identified { PST_IDENTIFIED_NOT = 0, PST_IDENTIFIED, PST_IDENTIFIED_LATER };
/* Fills principal_, or *why not, or asks for keys (once a decision) and comes again when news of
 * keys arrives. */
enum pst_identified pst_engine_identify(struct pst_decide *d, enum pst_reason *why);
/* Accepts NULL. */
void pst_principal_release(struct pst_principal *p);
struct pst_new_user pst_principal_new_user(const struct pst_principal *p, struct pst_bytes role);
bool pst_principal_in_group(const struct pst_principal *p, struct pst_bytes group);

/* news.c: on the thread of the database's service. */
void pst_engine_deliver(void *ctx, struct pst_facts_reply *reply);

/* news.c: into one of the engine's lists; past its deadline it is given up, at most a tick late. */
void pst_engine_wait(struct pst_decide *d, struct pst_list *list);

/* engine.c: what a waiting decision hears. Takes `facts` over. */
void pst_engine_got_facts(struct pst_decide *d, enum pst_status status, struct pst_facts *facts,
                          uint64_t epoch, uint64_t n);
void pst_engine_ask_again(struct pst_decide *d);
void pst_engine_give_up(struct pst_decide *d);
/* There is no lease and none will come. */
void pst_engine_refuse_stale(struct pst_decide *d);

/* record.c: counters and the decision log. */
void pst_engine_record(struct pst_decide *d);

#endif
