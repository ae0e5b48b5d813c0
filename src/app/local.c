#include "postern/app/local.h"

#include <stdlib.h>

#include "postern/app/site_build.h"
#include "postern/authz/site.h"
#include "postern/sync/tail.h"

struct pst_local {
    struct pst_key_ring ring;
    struct pst_site *site;
    struct pst_policy_hub *hub;
    struct pst_log *log;
    struct pst_service *service;
    bool reading;         /* a read of the log is under way */
    bool lost;            /* by pst_local_lose_lease */
    enum pst_status read; /* how the last one ended */
    struct pst_error error;
    struct pst_tail *tail;
    struct pst_worker *worker;
    struct pst_engine *engine;
    uint8_t fleet_key[PST_FLEET_KEY_BYTES];
    struct pst_shared_policy *policy; /* NULL before the first load */
};

static const struct pst_policy *base(void *ctx)
{
    const struct pst_local *l = ctx;

    return l->policy == NULL ? NULL : l->policy->policy;
}

static enum pst_status apply(void *ctx, const struct pst_tail_batch *batch, struct pst_error *error)
{
    struct pst_local *l = ctx;
    struct pst_policy *policy;
    struct pst_shared_policy *shared;
    struct pst_bundle *bundle;
    if (batch->fleet_key != NULL)
        memcpy(l->fleet_key, batch->fleet_key, sizeof(l->fleet_key));
    const struct pst_engine_news news = {
        .bundle = batch->model != NULL,
        .new_history = batch->new_history,
        .all_users = true,
        .epoch = batch->revision.epoch,
        .n = batch->revision.n,
        .lease_start_ns = batch->lease_start_ns,
        .lease_bound_ns = batch->bound_ns,
    };
    enum pst_status status = PST_OK;

    if (batch->model != NULL) {
        status = pst_tail_compile(batch, base(l), &policy, error);
        if (status == PST_OK)
            status = pst_shared_policy_create(policy, &shared);
        if (status != PST_OK)
            return status;
        status = pst_bundle_create(l->site, shared, &batch->revision, l->fleet_key, &bundle);
        pst_shared_policy_release(l->policy);
        l->policy = shared;
        if (status == PST_OK)
            pst_policy_publish(l->hub, &bundle->snapshot);
    }
    return status != PST_OK ? status : pst_engine_tell(l->engine, &news);
}

static void on_read_ended(void *ctx, enum pst_status status, const struct pst_error *error)
{
    struct pst_local *l = ctx;
    const struct pst_engine_news news = {.refused = true};

    l->reading = false;
    l->read = status;
    l->error = *error;
    if (status != PST_OK && pst_engine_tell(l->engine, &news) != PST_OK)
        return; /* the decision's own deadline ends its wait */
}

static void want_lease(void *ctx)
{
    static const struct pst_engine_news REFUSED = {.refused = true};
    struct pst_local *l = ctx;

    if (!l->lost) {
        l->reading = true;
        pst_tail_demand(l->tail);
    } else if (pst_engine_tell(l->engine, &REFUSED) != PST_OK) {
        return; /* the decision's own deadline ends its wait */
    }
}

enum pst_status pst_local_open(const struct pst_config *config, struct pst_bytes store_url,
                               struct pst_local **out, struct pst_error *error)
{
    struct pst_log_config log = {.level = PST_LOG_ERROR};
    struct pst_service_config service = {.url = store_url, .queue = 16};
    struct pst_local *l = calloc(1, sizeof(*l));

    *out = NULL;
    if (l == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    enum pst_status status = pst_key_ring_create(config, &l->ring, error);
    if (status == PST_OK)
        status = pst_site_build(config, &l->ring, &l->site, error);
    if (status == PST_OK)
        status = pst_log_create(&log, &l->log, error);
    if (status == PST_OK)
        status = pst_policy_hub_create(&l->hub);
    if (status == PST_OK)
        status = pst_service_create(&service, &l->service, error);
    if (status == PST_OK)
        status = pst_worker_create(0, &l->worker);
    struct pst_engine_config engine = {.worker = l->worker,
                                       .hub = l->hub,
                                       .service = l->service,
                                       .log = l->log,
                                       .token_cache = 16,
                                       .fact_cache = 16,
                                       .want_lease = want_lease,
                                       .ctx = l};
    if (status == PST_OK)
        status = pst_engine_create(&engine, &l->engine);
    struct pst_tail_config tail = {.worker = l->worker,
                                   .service = l->service,
                                   .apply = apply,
                                   .ended = on_read_ended,
                                   .base = base,
                                   .ctx = l};
    if (status == PST_OK)
        status = pst_tail_create(&tail, &l->tail);
    if (status == PST_OK)
        status = pst_local_poll(l, error);
    if (status != PST_OK) {
        pst_local_close(l);
        return status;
    }
    *out = l;
    return PST_OK;
}

void pst_local_close(struct pst_local *l)
{
    if (l == NULL)
        return;
    pst_service_destroy(l->service);
    for (unsigned i = 0; i < 2 && l->worker != NULL; i++)
        pst_worker_turn(l->worker, 0); /* the last answers, and what they told the engine */
    pst_tail_destroy(l->tail);
    pst_engine_destroy(l->engine);
    pst_worker_destroy(l->worker);
    pst_policy_hub_destroy(l->hub);
    pst_shared_policy_release(l->policy);
    pst_site_release(l->site);
    pst_key_ring_destroy(&l->ring);
    pst_log_destroy(l->log);
    free(l);
}

enum pst_status pst_local_poll(struct pst_local *l, struct pst_error *error)
{
    want_lease(l);
    while (l->reading)
        pst_worker_turn(l->worker, 50);
    pst_worker_turn(l->worker, 0); /* what the engine was told */
    if (l->read != PST_OK && error != NULL)
        *error = l->error;
    return l->read;
}

void pst_local_lose_lease(struct pst_local *l)
{
    const struct pst_engine_news news = {.lease_start_ns = 1, .lease_bound_ns = 1};

    l->lost = true;
    if (pst_engine_tell(l->engine, &news) == PST_OK)
        pst_worker_turn(l->worker, 0);
}

static void on_resume(struct pst_decide *decide)
{
    (void)decide; /* its step says how it goes on */
}

void pst_local_decide(struct pst_local *l, uint32_t listener, const struct pst_request *request,
                      const struct pst_who *who, struct pst_arena *arena, struct pst_decide *decide)
{
    *decide = (struct pst_decide){.resume = on_resume};
    enum pst_step step =
        who == NULL ? pst_engine_begin(l->engine, decide, listener, request, arena)
                    : pst_engine_begin_as(l->engine, decide, listener, request, arena, who);

    while (step != PST_STEP_DONE) {
        if (step == PST_STEP_BODY) {
            step = pst_engine_body(decide, request->body, request->body.len > decide->body_limit);
            continue;
        }
        decide->step = PST_STEP_WAIT;
        pst_worker_turn(l->worker, 50);
        step = decide->step;
    }
}
