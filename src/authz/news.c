/*
 * The worker's side of an engine: its making, the news from the control thread, the replies of the
 * database's service.
 *
 * One message carries a snapshot, the users that the change touched and the lease.  The handler
 * adopts, invalidates and only then moves the lease, within one turn: no decision sees a part of it
 * (C7, C14).
 */
#include "engine_internal.h"

#include <stdlib.h>

#include "postern/base/secret.h"

#define RING_BYTES (2u << 20) /* a stream: lines leave a megabyte at a time */

struct news_message {
    struct pst_message message; /* first */
    struct pst_engine *engine;
    struct pst_engine_news news;
    struct pst_snapshot *snapshot;
    uint64_t keys[]; /* users, then changes */
};

struct reply_message {
    struct pst_message message; /* first */
    struct pst_engine *engine;
    struct pst_facts_reply reply;
};

static void show_token_cache(struct pst_engine *e)
{
    struct pst_token_cache_stats stats = pst_token_cache_stats(e->tokens);

    atomic_store_explicit(&e->metrics->token_hits, stats.hits + stats.negative_hits,
                          memory_order_relaxed);
    atomic_store_explicit(&e->metrics->token_misses, stats.misses, memory_order_relaxed);
}

static void on_tick(struct pst_ticker *ticker)
{
    show_token_cache(pst_container_of(ticker, struct pst_engine, ticker));
}

static void give_up_late(struct pst_list *list, uint64_t now)
{
    for (struct pst_list *at = list->next, *next; at != list; at = next) {
        struct pst_decide *d = pst_container_of(at, struct pst_decide, waiting_);
        next = at->next;
        if (now > d->deadline_ns_)
            pst_engine_give_up(d);
    }
}

static void on_expiry(struct pst_timer *timer)
{
    struct pst_engine *e = pst_container_of(timer, struct pst_engine, expiry);
    uint64_t now = pst_worker_now(e->worker);

    give_up_late(&e->waiting, now);
    give_up_late(&e->early, now);
    give_up_late(&e->keyless, now);
    give_up_late(&e->stale, now);
    if (!pst_list_empty(&e->waiting) || !pst_list_empty(&e->early) ||
        !pst_list_empty(&e->keyless) || !pst_list_empty(&e->stale))
        pst_timer_set(e->worker, &e->expiry, now + PST_TICK_NS);
}

void pst_engine_wait(struct pst_decide *d, struct pst_list *list)
{
    struct pst_engine *e = d->engine_;

    pst_list_append(list, &d->waiting_);
    if (e->expiry.due_ns == 0)
        pst_timer_set(e->worker, &e->expiry, pst_worker_now(e->worker) + PST_TICK_NS);
}

static bool waits_for_keys(const struct pst_decide *d, const struct pst_engine_news *news)
{
    const struct pst_site *site = pst_bundle_of(d->pin_->snapshot)->site;

    return d->keys_issuer_ == news->keys_issuer &&
           pst_verifier_generation(site->verifier) == news->keys_of;
}

static void tell_keyless(struct pst_engine *e, const struct pst_engine_news *news)
{
    struct pst_list all;

    pst_list_init(&all);
    pst_list_take(&all, &e->keyless);
    while (!pst_list_empty(&all)) {
        struct pst_decide *d = pst_container_of(all.next, struct pst_decide, waiting_);
        if (waits_for_keys(d, news)) {
            pst_engine_ask_again(d);
            continue;
        }
        pst_list_remove(&d->waiting_);
        pst_list_append(&e->keyless, &d->waiting_);
    }
}

static void tell(struct pst_list *list, void (*what)(struct pst_decide *))
{
    struct pst_list now;

    pst_list_init(&now);
    pst_list_take(&now, list);
    while (!pst_list_empty(&now))
        what(pst_container_of(now.next, struct pst_decide, waiting_));
}

/* The checker belongs to one verifier: another site brings another one. */
static enum pst_status follow_site(struct pst_engine *e, const struct pst_snapshot *snapshot)
{
    const struct pst_verifier *verifier = pst_bundle_of(snapshot)->site->verifier;
    struct pst_checker *checker = NULL;

    if (e->checker != NULL && pst_checker_verifier(e->checker) == verifier)
        return PST_OK;
    if (verifier != NULL && pst_checker_create(verifier, &checker) != PST_OK)
        return PST_E_NOMEM;
    if (verifier != NULL) {
        e->wall.leeway_s = pst_verifier_leeway_s(verifier);
        e->wall.hold_s = pst_verifier_max_lifetime_s(verifier);
    }
    pst_checker_destroy(e->checker);
    e->checker = checker;
    return PST_OK;
}

static void invalidate(struct pst_engine *e, const struct pst_engine_news *news)
{
    if (news->epoch == 0)
        return;
    if (news->new_history || news->epoch != e->epoch || e->behind) {
        pst_facts_cache_forget(e->facts, news->n);
        e->histories++;
        e->epoch = news->epoch;
        e->behind = false;
    } else if (news->all_users) {
        pst_facts_cache_touch_all(e->facts, news->n);
    }
    for (uint32_t i = 0; i < news->user_count; i++)
        pst_facts_cache_touch(e->facts, news->users[i], news->changes[i]);
    pst_facts_cache_advance(e->facts, news->n);
}

/* Takes the reference over when it is PST_OK. *changed: it was not adopted yet. */
static enum pst_status adopt(struct pst_engine *e, struct pst_snapshot *snapshot, bool *changed)
{
    struct pst_policy_pin *now = pst_policy_pin_adopted(e->reader);
    bool same = now != NULL && now->snapshot == snapshot;

    if (now != NULL)
        pst_policy_unpin(now);
    *changed = !same;
    if (same) {
        pst_policy_unref(e->hub, snapshot);
        return PST_OK;
    }
    enum pst_status status = follow_site(e, snapshot);
    return status == PST_OK ? pst_policy_adopt(e->reader, snapshot) : status;
}

static void on_news(struct pst_worker *worker, struct pst_message *message)
{
    struct news_message *m = (struct news_message *)(void *)message;
    struct pst_engine *e = m->engine;
    bool changed = false;

    (void)worker;
    if (m->snapshot != NULL && adopt(e, m->snapshot, &changed) != PST_OK) {
        if (m->news.with != NULL)
            abort(); /* new doors with the old site would send requests elsewhere than was decided
                      */
        /* Without the snapshot nothing of the news may count, nor a later lease: whom it was about
         * would be as before for good. */
        pst_policy_unref(e->hub, m->snapshot);
        e->lease_start_ns = 0;
        e->behind = true;
        free(m);
        return;
    }
    if (m->news.with != NULL)
        m->news.with(m->news.with_ctx);
    e->news++;
    if (!e->behind || m->snapshot != NULL)
        invalidate(e, &m->news);
    if (m->news.lease_start_ns != 0 && !e->behind) {
        e->lease_start_ns = m->news.lease_start_ns;
        e->lease_bound_ns = m->news.lease_bound_ns;
    }
    if (m->news.number != 0 && !e->behind) {
        atomic_store_explicit(&e->taken, m->news.number, memory_order_release);
        if (e->took != NULL)
            e->took(e->ctx);
    }
    bool refused = m->news.refused, lease = m->news.lease_start_ns != 0;
    const struct pst_engine_news keys = {.keys_of = m->news.keys_of,
                                         .keys_issuer = m->news.keys_issuer};
    changed = changed || m->news.user_count > 0 || m->news.all_users || m->news.new_history;
    free(m);
    tell(&e->early, pst_engine_ask_again);
    if (keys.keys_of != 0)
        tell_keyless(e, &keys);
    if (refused)
        tell(&e->stale, pst_engine_refuse_stale);
    else if (lease)
        tell(&e->stale, pst_engine_ask_again);
    pst_engine_streams_news(e, changed);
}

enum pst_status pst_engine_tell(struct pst_engine *engine, const struct pst_engine_news *news)
{
    struct news_message *m = malloc(sizeof(*m) + 2 * sizeof(uint64_t) * news->user_count);

    if (m == NULL)
        return PST_E_NOMEM;
    *m = (struct news_message){.message = {.run = on_news}, .engine = engine, .news = *news};
    m->snapshot = news->bundle ? pst_policy_ref(engine->hub) : NULL;
    m->news.users = m->keys;
    m->news.changes = m->keys + news->user_count;
    if (news->user_count > 0) {
        memcpy(m->keys, news->users, sizeof(uint64_t) * news->user_count);
        memcpy(m->keys + news->user_count, news->changes, sizeof(uint64_t) * news->user_count);
    }
    pst_worker_send(engine->worker, &m->message);
    return PST_OK;
}

static void on_reply(struct pst_worker *worker, struct pst_message *message)
{
    struct reply_message *m = (struct reply_message *)(void *)message;
    struct pst_ticket ticket = {.slot = (uint32_t)(m->reply.ticket >> 32),
                                .generation = (uint32_t)m->reply.ticket};
    struct pst_decide *d = pst_worker_resolve(worker, ticket);

    if (d == NULL) /* the exchange is gone */
        pst_facts_free(m->reply.facts);
    else if (d->site_ != NULL)
        pst_engine_stream_facts(d, &m->reply);
    else
        pst_engine_got_facts(d, m->reply.status, m->reply.facts, m->reply.revision.epoch,
                             m->reply.revision.n);
    free(m);
}

void pst_engine_deliver(void *ctx, struct pst_facts_reply *reply)
{
    struct pst_engine *e = ctx;
    struct reply_message *m = malloc(sizeof(*m));

    if (m == NULL) { /* the decision's deadline ends the wait */
        pst_facts_free(reply->facts);
        return;
    }
    *m = (struct reply_message){.message = {.run = on_reply}, .engine = e, .reply = *reply};
    pst_worker_send(e->worker, &m->message);
}

static void put_id_prefix(struct pst_engine *e)
{
    struct pst_buf b = pst_buf_of(e->id_prefix, sizeof(e->id_prefix));
    uint64_t half;

    pst_random(&half, sizeof(half));
    pst_buf_hex(&b, half, sizeof(e->id_prefix));
}

enum pst_status pst_engine_create(const struct pst_engine_config *config, struct pst_engine **out)
{
    *out = NULL;
    struct pst_engine *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return PST_E_NOMEM;
    e->worker = config->worker;
    e->hub = config->hub;
    e->service = config->service;
    e->log = config->log;
    pst_list_init(&e->waiting);
    pst_list_init(&e->early);
    pst_list_init(&e->keyless);
    pst_list_init(&e->stale);
    pst_engine_streams_init(e);
    e->want_keys = config->want_keys;
    e->want_lease = config->want_lease;
    e->took = config->took;
    e->ctx = config->ctx;
    put_id_prefix(e);
    e->metrics = calloc(1, sizeof(*e->metrics));

    enum pst_status status =
        e->metrics == NULL ? PST_E_NOMEM : pst_policy_reader_open(config->hub, &e->reader);
    if (status == PST_OK)
        status = pst_facts_cache_create(config->fact_cache, &e->facts);
    if (status == PST_OK)
        status = pst_token_cache_create(config->token_cache, &e->tokens);
    if (status == PST_OK)
        status = pst_log_ring_open(config->log, RING_BYTES, &e->ring);
    if (status != PST_OK) {
        pst_engine_destroy(e);
        return status;
    }
    e->expiry.fire = on_expiry;
    e->ticker.tick = on_tick;
    pst_worker_add_ticker(e->worker, &e->ticker);
    *out = e;
    return PST_OK;
}

void pst_engine_destroy(struct pst_engine *e)
{
    if (e == NULL)
        return;
    if (e->ticker.tick != NULL)
        pst_worker_remove_ticker(&e->ticker);
    pst_timer_cancel(&e->expiry);
    pst_engine_streams_fini(e);
    pst_log_ring_close(e->ring);
    pst_token_cache_destroy(e->tokens);
    pst_checker_destroy(e->checker);
    pst_facts_cache_destroy(e->facts);
    pst_policy_reader_close(e->reader);
    free(e->metrics);
    free(e);
}

uint64_t pst_engine_active_ns(const struct pst_engine *engine)
{
    return atomic_load_explicit(&engine->active_ns, memory_order_relaxed);
}

uint64_t pst_engine_took(const struct pst_engine *engine)
{
    return atomic_load_explicit(&engine->taken, memory_order_acquire);
}

struct pst_metrics *pst_engine_metrics(struct pst_engine *engine)
{
    return engine->metrics;
}

struct pst_log_ring *pst_engine_log(struct pst_engine *engine)
{
    return engine->ring;
}
