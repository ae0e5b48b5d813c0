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

/* Exchanges that outlast their decision; see stream.c. Each is in one of the lists. */
struct pst_streams {
    struct pst_list held;    /* judged by what is adopted */
    struct pst_list due;     /* to be looked at */
    struct pst_list reading; /* their user is being read */
    struct pst_list later;   /* their user is to be read when there is room, or his rows wait for
                              * the log */
    struct pst_timer beat;
    struct pst_deferred look;
    struct pst_arena scratch; /* of one look */
    uint32_t count, reads, beats;
};

struct pst_engine {
    /* What each decision reads stands together. */
    struct pst_policy_reader *reader;
    struct pst_facts_cache *facts;
    struct pst_token_cache *tokens;
    struct pst_checker *checker; /* of the verifier of the adopted site; NULL when there is none */
    struct pst_log_ring *ring;
    struct pst_metrics *metrics;
    uint64_t id_count;
    char id_prefix[16]; /* decision ids: a random half, and a count */
    uint64_t epoch, lease_start_ns, lease_bound_ns;
    _Atomic uint64_t active_ns; /* written by the worker, read by the control thread, relaxed: only
                                 * its age counts */
    uint64_t wall_read_ns;      /* boot clock: its last reading */
    struct pst_wall wall;       /* for exp and nbf */
    uint64_t usual_ns;          /* what the last decision took whose time was taken */
    uint32_t unmeasured;        /* counts those that waited for nothing */

    struct pst_worker *worker;
    struct pst_policy_hub *hub;
    struct pst_service *service;
    bool (*want_keys)(void *ctx, uint64_t verifier, uint32_t issuer, struct pst_bytes kid);
    void (*want_lease)(void *ctx);
    void (*took)(void *ctx);
    void *ctx; /* of all */
    struct pst_log *log;
    struct pst_ticker ticker;
    struct pst_timer expiry; /* set while a decision waits */
    struct pst_list waiting; /* decisions whose facts were asked for */
    struct pst_list early;   /* decisions whose facts were ahead of the log */
    struct pst_list keyless; /* decisions whose token names a key that is being fetched */
    struct pst_list stale;   /* decisions that wait for a lease */
    struct pst_streams streams;
    uint64_t news;          /* how many messages of news have become effective */
    uint64_t histories;     /* how often everything that was known was dropped */
    _Atomic uint64_t taken; /* the last number of news */
    bool behind;            /* news was lost for want of memory: nothing that is known counts */
};

static inline const struct pst_site *site_of(const struct pst_decide *d)
{
    return d->site_ != NULL ? d->site_ : pst_bundle_of(d->pin_->snapshot)->site;
}

static inline const struct pst_policy *policy_of(const struct pst_decide *d)
{
    const struct pst_policy_pin *pin = d->policy_pin_ == NULL ? d->pin_ : d->policy_pin_;

    return pst_bundle_of(pin->snapshot)->policy->policy;
}

/* For how long there has been no lease; 0: there is one. */
static inline uint64_t pst_engine_lapsed_ns(const struct pst_engine *e, uint64_t now_ns)
{
    if (e->lease_start_ns == 0)
        return UINT64_MAX;
    uint64_t end_ns = e->lease_start_ns + e->lease_bound_ns;
    return now_ns > end_ns ? now_ns - end_ns : 0;
}

/* identify.c */
enum pst_identified { PST_IDENTIFIED_NOT = 0, PST_IDENTIFIED, PST_IDENTIFIED_LATER };
/* Fills principal_, or *why not, or asks for keys (once a decision) and comes again when news of
 * keys arrives. */
enum pst_identified pst_engine_identify(struct pst_decide *d, enum pst_reason *why);
/* Accepts NULL. */
void pst_principal_release(struct pst_principal *p);
struct pst_new_user pst_principal_new_user(const struct pst_principal *p, struct pst_bytes role);
bool pst_principal_in_group(const struct pst_principal *p, struct pst_bytes group);

/* The wall clock for exp and nbf. */
int64_t pst_engine_wall_s(struct pst_engine *e, uint64_t boot_ns);

/* question.c. Memory from the decision's arena. */
void pst_engine_question(const struct pst_decide *d, struct pst_question *q);
bool pst_engine_user_stands(const struct pst_decide *d, enum pst_reason *why);
/* Names the caller's roles in the decision. */
void pst_engine_name_roles(struct pst_decide *d, const struct pst_question *q);
/* Says in the decision what was asked. `path` is the request's, or empty when that is gone. */
void pst_engine_describe(struct pst_decide *d, const struct pst_eval_detail *detail,
                         struct pst_bytes path);

/* stream.c */
void pst_engine_streams_init(struct pst_engine *e);
void pst_engine_streams_fini(struct pst_engine *e);
/* News came; `changed`: there may be something in it for those that are held. */
void pst_engine_streams_news(struct pst_engine *e, bool changed);
/* The reply about the user of a held decision; takes its facts. */
void pst_engine_stream_facts(struct pst_decide *d, const struct pst_facts_reply *reply);
/* Of any decision; nothing when it is not held. */
void pst_engine_stream_end(struct pst_decide *d);
/* No lease, and none to come: may this be decided from memory all the same? Then facts_ is set. */
bool pst_engine_stale_allowed(struct pst_decide *d);

/* news.c: on the thread of the database's service. */
void pst_engine_deliver(void *ctx, struct pst_facts_reply *reply);

/* news.c: into one of the engine's lists; past its deadline it is given up, at most a tick late. */
void pst_engine_wait(struct pst_decide *d, struct pst_list *list);

/* engine.c. Refused in shadow mode, is it passed? */
bool pst_engine_may_be_shadowed(enum pst_reason reason);
/* What a waiting decision hears. Takes `facts` over. */
void pst_engine_got_facts(struct pst_decide *d, enum pst_status status, struct pst_facts *facts,
                          uint64_t epoch, uint64_t n);
void pst_engine_ask_again(struct pst_decide *d);
void pst_engine_give_up(struct pst_decide *d);
/* There is no lease and none will come. */
void pst_engine_refuse_stale(struct pst_decide *d);

/* record.c: counters and the decision log. */
void pst_engine_record(struct pst_decide *d);
/* A line about a decision that is held. */
void pst_engine_record_stream(struct pst_decide *d, const char *event);

#endif
