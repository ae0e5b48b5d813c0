/*
 * One struct a lifetime:
 *
 *   control   the process: log, hub, facts service, tail, lanes
 *   lane      one worker and what it owns: engine, server
 *   setup     one configuration and what was built from it; an old one lives on until no bundle and no
 *             server names it
 *
 * The control thread runs a loop of its own: signals, and a tick that polls the change log, lets the JWKS
 * manager do what is due and frees what nobody uses any more.
 */
#include "postern/app/control.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/site_build.h"
#include "postern/authz/engine.h"
#include "postern/authz/site.h"
#include "postern/base/clock.h"
#include "postern/net/fetch.h"
#include "postern/net/listener.h"
#include "postern/proxy/server.h"
#include "postern/store/facts.h"
#include "postern/surface/ops.h"
#include "postern/sync/tail.h"

#define TICK_MS     50
#define FACTS_QUEUE 2048 /* users that are read at the same time; about 1 KiB each */
#define KEY_URLS_MAX 64u /* bits of setup.refused */

struct control;

struct key_url {
    const struct pst_issuer_source *source;
    struct pst_bytes issuer;
    const char *ca_file; /* NULL: the system's */
};

struct setup {
    struct setup *older;
    struct control *control;
    struct pst_config *config;
    struct pst_key_ring ring;
    struct pst_jwks *jwks; /* NULL: no issuer publishes at a URL */
    struct pst_site *site;
    struct pst_arena arena; /* of doors */
    struct pst_server_config doors;
    const struct key_url *urls; /* by the manager's source */
    uint32_t url_count;
    _Atomic uint32_t lent;      /* servers that may still name doors */
    _Atomic uint32_t fetching;  /* requests for keys on their way */
    _Atomic uint64_t refused;   /* sources, as bits, whose request the fetcher did not take */
};

struct lane {
    struct control *control;
    struct pst_worker *worker;
    struct pst_engine *engine;
    struct pst_server *server;
    struct pst_message message; /* swap, drain */
    bool started;
};

struct control {
    const char *config_path;
    struct pst_log *log;
    struct pst_policy_hub *hub;
    struct pst_facts_service *facts;
    struct pst_tail *tail;
    struct pst_fetcher *fetcher;
    struct pst_ops_door *ops;
    struct setup *setup; /* the current one first */
    _Atomic(struct pst_jwks *) jwks; /* of the current setup, for workers */
    struct pst_shared_policy *policy;
    uint64_t epoch, n;
    struct lane *lanes;
    uint32_t lane_count;
    struct event_base *base;
    struct event *tick, *signals[4];
    uint64_t jwks_due_ns;
    bool tail_failed, reload_wanted;
    _Atomic uint32_t drained;
    _Atomic bool draining;
    uint64_t drain_until_ns;
};

/* --- keys at URLs --- */

static void on_fetched(void *ctx, uint64_t tag, const struct pst_fetch_response *response)
{
    struct setup *s = ctx;
    const struct pst_jwks_answer answer = {
        .status = response->status,
        .http_status = response->http_status,
        .body = response->body,
        .etag = response->etag,
        .cache_control = response->cache_control,
        .failure = response->failure,
    };

    pst_jwks_fetched(s->jwks, (uint32_t)tag, &answer, pst_clock_boot_ns());
    atomic_fetch_sub_explicit(&s->fetching, 1, memory_order_release);
}

static void jwks_fetch(void *ctx, const struct pst_jwks_request *request)
{
    struct setup *s = ctx;
    const struct key_url *url = &s->urls[request->source];
    const struct pst_fetch_request fetch = {
        .url = request->url,
        .etag = request->etag,
        .ca_file = url->ca_file,
        .allow = url->source->allow,
        .allow_count = url->source->allow_count,
        .max_bytes = request->max_bytes,
        .timeout_ms = request->timeout_ms,
    };

    atomic_fetch_add_explicit(&s->fetching, 1, memory_order_relaxed);
    if (pst_fetcher_submit(s->control->fetcher, &fetch, on_fetched, s, request->source) != PST_OK)
        atomic_fetch_or_explicit(&s->refused, UINT64_C(1) << request->source, memory_order_relaxed);
}

/* Requests that the fetcher did not take are answered from the tick, never from inside the call. */
static void answer_refused(struct setup *s)
{
    const struct pst_fetch_response response = {.status = PST_E_LIMIT, .failure = "too many requests are waiting"};
    uint64_t refused = atomic_exchange_explicit(&s->refused, 0, memory_order_relaxed);

    for (unsigned source = 0; refused != 0; source++, refused >>= 1)
        if ((refused & 1) != 0)
            on_fetched(s, source, &response);
}

static void jwks_event(void *ctx, uint32_t source, enum pst_jwks_event event, const char *detail)
{
    static const struct { const char *name; enum pst_log_level level; } EVENTS[] = {
        [PST_JWKS_LOADED] = {"keys.loaded", PST_LOG_INFO},
        [PST_JWKS_FAILED] = {"keys.fetch_failed", PST_LOG_WARN},
        [PST_JWKS_KEY_REFUSED] = {"keys.refused", PST_LOG_WARN},
        [PST_JWKS_KEY_LEAKED] = {"keys.private_published", PST_LOG_ERROR},
        [PST_JWKS_WITHDRAWN] = {"keys.withdrawn", PST_LOG_ERROR},
    };
    struct setup *s = ctx;
    char room[512];
    struct pst_buf text = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_json(&text, pst_bytes_of(detail == NULL ? "" : detail, detail == NULL ? 0 : strlen(detail)));
    room[text.full ? 0 : text.len] = '\0';
    pst_log_event(s->control->log, EVENTS[event].level, EVENTS[event].name, "\"source\":%u,\"detail\":%s", source,
                  text.full ? "\"\"" : room);
}

static void jwks_changed(void *ctx, uint32_t source)
{
    struct control *c = ((struct setup *)ctx)->control;
    const struct pst_engine_news news = {.keys = true};

    (void)source;
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (pst_engine_tell(c->lanes[i].engine, &news) != PST_OK)
            pst_log_event(c->log, PST_LOG_ERROR, "memory", "%s", "");
}

static bool want_keys(void *ctx, uint32_t issuer, struct pst_bytes kid)
{
    struct control *c = ctx;
    /* A worker asks for an exchange that holds its setup's doors, so what it loads here is not freed
     * before it is done. */
    struct pst_jwks *jwks = atomic_load_explicit(&c->jwks, memory_order_acquire);

    return jwks != NULL && pst_jwks_want(jwks, issuer, kid, pst_clock_boot_ns()) == PST_PENDING;
}

static enum pst_status make_jwks(struct setup *s, struct pst_error *error)
{
    const struct pst_config *config = s->config;
    struct pst_jwks_limits limits = pst_jwks_limits_default();
    const struct pst_jwks_ops ops = {.ctx = s, .fetch = jwks_fetch, .event = jwks_event, .changed = jwks_changed};
    struct pst_jwks_source *sources = pst_arena_array(&s->arena, config->identity.issuers_count, sizeof(*sources));
    struct key_url *urls = pst_arena_array(&s->arena, config->identity.issuers_count, sizeof(*urls));
    uint32_t count = 0;

    if (sources == NULL || urls == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    s->urls = urls;
    for (uint32_t i = 0; i < config->identity.issuers_count; i++) {
        const struct pst_issuer_source *source = &config->sources[i];
        if (source->kind != PST_KEYS_JWKS_URL)
            continue;
        if (count == KEY_URLS_MAX)
            return pst_error_set(error, PST_E_LIMIT, config->tree.name.ptr, "more than %u issuers with a jwks_url", KEY_URLS_MAX);
        urls[count].source = source;
        urls[count].issuer = config->identity.issuers[i].issuer;
        if (source->ca_file.len > 0)
            urls[count].ca_file = pst_config_path(config, &s->arena, source->ca_file).ptr;
        sources[count++] = (struct pst_jwks_source){
            .issuer = i, .url = source->location, .refresh_s = source->refresh_s, .slot = s->ring.slots[i]};
    }
    s->url_count = count;
    return count == 0 ? PST_OK : pst_jwks_create(&limits, sources, count, &ops, &s->jwks, error);
}

/* --- setups --- */

static void free_setup(struct setup *s)
{
    if (s == NULL)
        return;
    pst_jwks_destroy(s->jwks);
    pst_site_release(s->site);
    pst_key_ring_destroy(&s->ring);
    pst_arena_fini(&s->arena);
    pst_config_free(s->config);
    free(s);
}

/* What an issuer published before a reload counts until its URL has been asked anew. */
static void inherit_keys(struct setup *s, const struct setup *old)
{
    for (uint32_t i = 0; i < s->url_count; i++)
        for (uint32_t j = 0; old != NULL && j < old->url_count; j++)
            if (pst_bytes_equal(s->urls[i].issuer, old->urls[j].issuer) &&
                pst_bytes_equal(s->urls[i].source->location, old->urls[j].source->location))
                pst_jwks_inherit(s->jwks, i, old->jwks, j);
}

static enum pst_status make_setup(struct control *c, struct pst_config *config, struct setup **out,
                                  struct pst_error *error)
{
    struct setup *s = calloc(1, sizeof(*s));

    *out = NULL;
    if (s == NULL) {
        pst_config_free(config);
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    }
    s->control = c;
    s->config = config;
    pst_arena_init(&s->arena, 16384, 16u << 20);
    enum pst_status status = pst_state_prepare(config, error);
    if (status == PST_OK)
        status = pst_key_ring_create(config, &s->ring, error);
    if (status == PST_OK)
        status = pst_site_build(config, &s->ring, &s->site, error);
    if (status == PST_OK)
        status = pst_doors_build(config, c->ops, &s->arena, &s->doors, error);
    if (status == PST_OK)
        status = make_jwks(s, error);
    if (status == PST_OK)
        inherit_keys(s, c->setup);
    if (status != PST_OK) {
        free_setup(s);
        return status;
    }
    *out = s;
    return PST_OK;
}

/* Old setups whose doors nobody was lent any more, and whose site only they hold. */
static void free_old_setups(struct control *c)
{
    for (struct setup **link = &c->setup->older; *link != NULL;) {
        struct setup *s = *link;
        if (atomic_load_explicit(&s->lent, memory_order_acquire) > 0 ||
            atomic_load_explicit(&s->fetching, memory_order_acquire) > 0 || s->site->refs_ > 1) {
            link = &s->older;
            continue;
        }
        *link = s->older;
        free_setup(s);
    }
}

/* --- publishing --- */

static enum pst_status publish(struct control *c)
{
    struct pst_bundle *bundle;
    enum pst_status status = pst_bundle_create(c->setup->site, c->policy, c->epoch, c->n, &bundle);

    if (status == PST_OK)
        pst_policy_publish(c->hub, &bundle->snapshot);
    return status;
}

static enum pst_status tell_all(struct control *c, const struct pst_engine_news *news)
{
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
        status = pst_engine_tell(c->lanes[i].engine, news);
    return status;
}

static enum pst_status take_model(struct control *c, struct pst_model *model, struct pst_error *error)
{
    struct pst_policy *policy;
    struct pst_shared_policy *shared;
    enum pst_status status = pst_policy_compile(model, &policy, error);

    pst_model_fini(model);
    free(model);
    if (status == PST_OK)
        status = pst_shared_policy_create(policy, &shared);
    if (status != PST_OK)
        return status;
    pst_shared_policy_release(c->policy);
    c->policy = shared;
    return PST_OK;
}

static enum pst_status collect_users(const struct pst_tail_batch *batch, struct pst_engine_news *news,
                                     uint64_t **room)
{
    *room = calloc(2 * batch->key_count + 1, sizeof(**room));
    if (*room == NULL)
        return PST_E_NOMEM;
    uint64_t *users = *room, *changes = *room + batch->key_count;
    for (size_t i = 0; i < batch->key_count; i++)
        if (batch->keys[i].kind == PST_LOG_USER) {
            users[news->user_count] = batch->keys[i].id;
            changes[news->user_count++] = batch->keys[i].n;
        }
    news->users = users;
    news->changes = changes;
    return PST_OK;
}

/* The tail's callback: everything of the batch becomes effective in one message a worker. */
static enum pst_status apply_batch(void *ctx, const struct pst_tail_batch *batch, struct pst_error *error)
{
    struct control *c = ctx;
    bool moved = batch->new_history || batch->revision.epoch != c->epoch || batch->revision.n != c->n;
    uint64_t *users = NULL;
    struct pst_engine_news news = {
        .new_history = batch->new_history,
        .all_users = batch->all_users,
        .epoch = batch->revision.epoch,
        .n = batch->revision.n,
        .lease_start_ns = batch->lease_start_ns,
        .lease_bound_ns = batch->bound_ns,
    };

    enum pst_status status = batch->model == NULL ? PST_OK : take_model(c, batch->model, error);
    if (status == PST_OK && (moved || batch->model != NULL)) {
        c->epoch = batch->revision.epoch;
        c->n = batch->revision.n;
        news.bundle = true;
        status = publish(c);
    }
    if (status == PST_OK)
        status = collect_users(batch, &news, &users);
    if (status == PST_OK)
        status = tell_all(c, &news);
    free(users);
    return status;
}

/* --- lanes --- */

static void config_released(void *owner, const struct pst_server_config *config)
{
    struct setup *s = (struct setup *)(uintptr_t)((const char *)config - offsetof(struct setup, doors));

    (void)owner;
    atomic_fetch_sub_explicit(&s->lent, 1, memory_order_release); /* pairs with free_old_setups */
}

static void lane_drained(void *owner)
{
    struct lane *lane = owner;

    atomic_fetch_add_explicit(&lane->control->drained, 1, memory_order_release);
}

static enum pst_status make_lane(struct control *c, uint32_t index, struct pst_error *error)
{
    static const struct pst_server_ops OPS = {.config_released = config_released, .drained = lane_drained};
    struct lane *lane = &c->lanes[index];
    const struct pst_config *config = c->setup->config;

    lane->control = c;
    enum pst_status status = pst_worker_create(index, &lane->worker);
    struct pst_engine_config engine = {
        .worker = lane->worker, .hub = c->hub, .facts = c->facts, .log = c->log,
        .token_cache = config->token_cache, .fact_cache = config->fact_cache,
        .want_keys = want_keys, .want_keys_ctx = c,
    };
    if (status == PST_OK)
        status = pst_engine_create(&engine, &lane->engine);
    if (status == PST_OK) {
        status = pst_server_create(lane->worker, lane->engine, &c->setup->doors, &OPS, lane, &lane->server);
        if (status == PST_OK)
            atomic_fetch_add_explicit(&c->setup->lent, 1, memory_order_relaxed);
    }
    return status == PST_OK ? status : pst_error_set(error, status, NULL, "worker %u cannot be made: %s", index, pst_status_name(status));
}

static void announce(struct control *c, const struct pst_listener_source *l, const struct pst_address *bound)
{
    char room[PST_ADDRESS_TEXT_MAX + 1];
    struct pst_buf text = pst_buf_of(room, sizeof(room) - 1);
    static const char *const KINDS[] = {"proxy", "auth_request", "ops"};

    pst_address_text(bound, &text);
    room[text.len] = '\0';
    pst_log_event(c->log, PST_LOG_INFO, "listener.open", "\"name\":\"%.*s\",\"kind\":\"%s\",\"address\":\"%s\"",
                  (int)l->name.len, l->name.ptr, KINDS[l->kind], room);
}

/* A listener that got another name by a reload takes over its address from the one that still has it. */
static bool listens_at(const struct setup *current, const struct setup *wanted, struct pst_bytes address)
{
    for (uint32_t i = 0; current != wanted && i < current->config->listener_count; i++)
        if (pst_bytes_equal(current->config->listeners[i].address_text, address))
            return true;
    return false;
}

/* A socket a worker: TCP shares the port by SO_REUSEPORT, unix sockets are duplicated. */
static enum pst_status open_listener(struct control *c, const struct setup *s, uint32_t index, int *fds,
                                     struct pst_error *error)
{
    const struct pst_listener_source *l = &s->config->listeners[index];
    struct pst_address bound = l->address;
    enum pst_status status = listens_at(c->setup, s, l->address_text) ? PST_OK : pst_listen_is_free(&l->address, error);

    for (uint32_t i = 0; i < c->lane_count; i++)
        fds[i] = -1;
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
        if (i > 0 && l->address.sa.any.sa_family == AF_UNIX)
            fds[i] = dup(fds[0]);
        else
            status = pst_listen(&bound, &fds[i], i == 0 ? &bound : NULL, error);
        if (status == PST_OK && fds[i] < 0)
            status = pst_error_set(error, PST_E_IO, l->name.ptr, "no file descriptor: %s", strerror(errno));
    }
    if (status == PST_OK) {
        announce(c, l, &bound);
        return PST_OK;
    }
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return status;
}

static enum pst_status open_listeners(struct control *c, struct pst_error *error)
{
    int *fds = calloc(c->lane_count, sizeof(*fds));
    enum pst_status status = fds == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    for (uint32_t l = 0; l < c->setup->config->listener_count && status == PST_OK; l++) {
        status = open_listener(c, c->setup, l, fds, error);
        for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
            status = pst_server_listen(c->lanes[i].server, l, fds[i]);
    }
    free(fds);
    return status;
}

/* Adoption must not be forgotten: each profile that lets refused requests pass is named, loudly. */
static void warn_of_what_is_open(struct control *c)
{
    /* These switches may have been meant for the app: its own variables have the same names. */
    if (!c->setup->config->authentication)
        pst_log_event(c->log, PST_LOG_WARN, "authentication.off", "\"message\":\"nobody is asked who he is\"");
    if (!c->setup->config->permissions)
        pst_log_event(c->log, PST_LOG_WARN, "permissions.off", "\"message\":\"levels decide in place of permissions\"");
    const struct pst_site *site = c->setup->site;

    for (uint32_t i = 0; i < site->profile_count; i++) {
        const struct pst_profile *profile = site->profiles[i].profile;
        if (profile == NULL || !pst_profile_shadows(profile))
            continue;
        struct pst_bytes name = pst_profile_name(profile);
        pst_log_event(c->log, PST_LOG_WARN, "profile.shadow", "\"profile\":\"%.*s\",\"message\":\"refused requests are forwarded\"",
                      (int)name.len, name.ptr);
    }
}

/* --- reload --- */

struct swap_message {
    struct lane *lane;
    const struct setup *setup;
    uint32_t new_count;
    struct {
        uint32_t index;
        int fd;
    } opened[];
};

static void on_swap(void *ctx)
{
    struct swap_message *m = ctx;

    pst_server_swap(m->lane->server, &m->setup->doors);
    for (uint32_t i = 0; i < m->new_count; i++)
        if (pst_server_listen(m->lane->server, m->opened[i].index, m->opened[i].fd) != PST_OK)
            pst_log_event(m->lane->control->log, PST_LOG_ERROR, "listener.failed", "\"index\":%u", m->opened[i].index);
    free(m);
}

static const struct pst_listener_source *find_listener(const struct pst_config *config, struct pst_bytes name)
{
    for (uint32_t i = 0; i < config->listener_count; i++)
        if (pst_bytes_equal(config->listeners[i].name, name))
            return &config->listeners[i];
    return NULL;
}

static enum pst_status check_reload(const struct pst_config *old, const struct pst_config *new, struct pst_error *error)
{
    for (uint32_t i = 0; i < new->listener_count; i++) {
        const struct pst_listener_source *was = find_listener(old, new->listeners[i].name);
        if (was != NULL && !pst_bytes_equal(was->address_text, new->listeners[i].address_text))
            return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr,
                                 "listener \"%s\": its address cannot change while it runs; give it a new name, or restart",
                                 new->listeners[i].name.ptr);
    }
    if (!pst_bytes_equal(old->store_url, new->store_url) || !pst_bytes_equal(old->state_dir, new->state_dir))
        return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr, "state_dir and store.url change with a restart only");
    return PST_OK;
}

static enum pst_status open_new(struct control *c, const struct setup *s, struct swap_message **messages,
                                struct pst_error *error)
{
    int *fds = calloc(c->lane_count, sizeof(*fds));
    enum pst_status status = fds == NULL ? PST_E_NOMEM : PST_OK;

    for (uint32_t l = 0; l < s->config->listener_count && status == PST_OK; l++) {
        if (find_listener(c->setup->config, s->config->listeners[l].name) != NULL)
            continue;
        status = open_listener(c, s, l, fds, error);
        for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
            struct swap_message *m = messages[i];
            m->opened[m->new_count].index = l;
            m->opened[m->new_count++].fd = fds[i];
        }
    }
    free(fds);
    return status;
}

static void drop_messages(struct control *c, struct swap_message **messages)
{
    for (uint32_t i = 0; i < c->lane_count; i++) {
        for (uint32_t f = 0; messages[i] != NULL && f < messages[i]->new_count; f++)
            close(messages[i]->opened[f].fd);
        free(messages[i]);
    }
    free(messages);
}

static struct swap_message **make_messages(struct control *c, const struct setup *s)
{
    struct swap_message **messages = calloc(c->lane_count, sizeof(struct swap_message *));
    bool good = messages != NULL;

    for (uint32_t i = 0; i < c->lane_count && good; i++) {
        struct swap_message *m = calloc(1, sizeof(*m) + s->config->listener_count * sizeof(m->opened[0]));
        messages[i] = m;
        good = m != NULL;
        if (good) {
            m->lane = &c->lanes[i];
            m->setup = s;
        }
    }
    if (!good && messages != NULL) {
        drop_messages(c, messages);
        messages = NULL;
    }
    return messages;
}

/* Nothing can fail any more once the first worker is told. */
static void tell_swap(struct lane *lane, struct swap_message *m)
{
    const struct pst_engine_news news = {.bundle = true, .with = on_swap, .with_ctx = m};

    /* A worker that keeps the old doors would get the new site with the next change of the policy. */
    if (pst_engine_tell(lane->engine, &news) != PST_OK)
        abort();
}

static enum pst_status install_setup(struct control *c, struct setup *s, struct pst_error *error)
{
    struct swap_message **messages = make_messages(c, s);
    struct pst_bundle *bundle = NULL;
    enum pst_status status = messages == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    if (status == PST_OK)
        status = open_new(c, s, messages, error);
    if (status == PST_OK && c->policy != NULL)
        status = pst_bundle_create(s->site, c->policy, c->epoch, c->n, &bundle);
    if (status != PST_OK) {
        if (messages != NULL)
            drop_messages(c, messages);
        return status;
    }
    s->older = c->setup;
    c->setup = s;
    atomic_store_explicit(&c->jwks, s->jwks, memory_order_release);
    c->jwks_due_ns = 0;
    pst_tail_set_bound(c->tail, s->config->max_staleness_s * PST_NS_PER_S);
    atomic_store_explicit(&s->lent, c->lane_count, memory_order_relaxed);
    if (bundle != NULL)
        pst_policy_publish(c->hub, &bundle->snapshot);
    for (uint32_t i = 0; i < c->lane_count; i++)
        tell_swap(&c->lanes[i], messages[i]);
    free(messages);
    return PST_OK;
}

static void log_failure(struct control *c, const char *event, const struct pst_error *error)
{
    char room[1024];
    struct pst_buf b = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_lit(&b, "\"where\":");
    pst_buf_json(&b, pst_bytes_of(error->where, strlen(error->where)));
    pst_buf_lit(&b, ",\"message\":");
    pst_buf_json(&b, pst_bytes_of(error->message, strlen(error->message)));
    room[b.len] = '\0';
    pst_log_event(c->log, PST_LOG_ERROR, event, "%s", b.full ? "" : room);
}

static void reload(struct control *c)
{
    struct pst_error error = {0};
    struct pst_config *config;
    struct setup *s = NULL;

    pst_log_reopen(c->log);
    if (atomic_load_explicit(&c->draining, memory_order_relaxed))
        return; /* nothing opens any more */
    enum pst_status status = pst_config_load(c->config_path, &config, &error);
    if (status == PST_OK) {
        status = check_reload(c->setup->config, config, &error);
        if (status != PST_OK)
            pst_config_free(config);
    }
    if (status == PST_OK)
        status = make_setup(c, config, &s, &error);
    if (status == PST_OK) {
        status = install_setup(c, s, &error);
        if (status != PST_OK && c->setup != s)
            free_setup(s);
    }
    if (status != PST_OK) {
        log_failure(c, "config.refused", &error);
        return;
    }
    pst_log_event(c->log, PST_LOG_INFO, "config.reloaded", "%s", "");
    warn_of_what_is_open(c);
}

/* --- the control loop --- */

static void poll_tail(struct control *c)
{
    struct pst_error error = {0};
    enum pst_status status = pst_tail_poll(c->tail, &error);

    if (status != PST_OK && !c->tail_failed)
        log_failure(c, "store.unreadable", &error);
    else if (status == PST_OK && c->tail_failed)
        pst_log_event(c->log, PST_LOG_INFO, "store.readable", "%s", "");
    c->tail_failed = status != PST_OK;
}

/* Answers come on the fetcher's thread and may make a retry due: so it is looked at least once a second. */
static void look_after_keys(struct control *c, uint64_t now_ns)
{
    uint64_t due_ns = pst_jwks_tick(c->setup->jwks, now_ns);

    c->jwks_due_ns = due_ns < now_ns + PST_NS_PER_S ? due_ns : now_ns + PST_NS_PER_S;
}

static void send_drain(struct control *c);

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct control *c = arg;
    uint64_t now = pst_clock_boot_ns();

    (void)fd;
    (void)what;
    poll_tail(c);
    if (c->setup->jwks != NULL && now >= c->jwks_due_ns)
        look_after_keys(c, now);
    pst_policy_reap(c->hub);
    for (struct setup *s = c->setup; s != NULL; s = s->older)
        answer_refused(s);
    free_old_setups(c);
    if (c->reload_wanted) {
        c->reload_wanted = false;
        reload(c);
    }
    if (atomic_load_explicit(&c->draining, memory_order_relaxed) &&
        (atomic_load_explicit(&c->drained, memory_order_acquire) == c->lane_count || now > c->drain_until_ns))
        event_base_loopbreak(c->base);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct control *c = arg;

    (void)what;
    if (number == SIGHUP) {
        c->reload_wanted = true; /* by the next tick: a storm of signals must not keep the log from being read */
        return;
    }
    if (atomic_exchange_explicit(&c->draining, true, memory_order_relaxed)) {
        event_base_loopbreak(c->base); /* asked twice: now */
        return;
    }
    pst_log_event(c->log, PST_LOG_INFO, "drain", "%s", "");
    c->drain_until_ns = pst_clock_boot_ns() + (c->setup->config->limits.drain_total_s + 1) * PST_NS_PER_S;
    send_drain(c);
}

static void on_drain(struct pst_worker *worker, struct pst_message *message)
{
    (void)worker;
    pst_server_drain(pst_container_of(message, struct lane, message)->server);
}

static void send_drain(struct control *c)
{
    for (uint32_t i = 0; i < c->lane_count; i++) {
        c->lanes[i].message.run = on_drain;
        pst_worker_send(c->lanes[i].worker, &c->lanes[i].message);
    }
}

/* Called on any worker. */
static bool is_ready(void *ctx)
{
    struct control *c = ctx;
    /* As in want_keys: the exchange that asks holds the setup's doors. */
    struct pst_jwks *jwks = atomic_load_explicit(&c->jwks, memory_order_acquire);

    return !atomic_load_explicit(&c->draining, memory_order_relaxed) && (jwks == NULL || pst_jwks_ready(jwks)) &&
           pst_lease_holds(pst_tail_lease(c->tail), pst_clock_boot_ns());
}

static enum pst_status make_loop(struct control *c, struct pst_error *error)
{
    static const int SIGNALS[] = {SIGHUP, SIGTERM, SIGINT};
    const struct timeval period = {.tv_usec = TICK_MS * 1000};

    c->base = event_base_new();
    c->tick = c->base == NULL ? NULL : event_new(c->base, -1, EV_PERSIST, on_tick, c);
    bool good = c->tick != NULL && event_add(c->tick, &period) == 0;
    for (size_t i = 0; i < 3 && good; i++) {
        c->signals[i] = evsignal_new(c->base, SIGNALS[i], on_signal, c);
        good = c->signals[i] != NULL && event_add(c->signals[i], NULL) == 0;
    }
    return good ? PST_OK : pst_error_set(error, PST_E_NOMEM, NULL, "the control loop cannot be made");
}

/* --- start and stop --- */

static enum pst_status prepare_store(struct pst_bytes url, struct pst_error *error)
{
    struct pst_store *store;
    uint32_t steps;
    enum pst_status status = pst_store_open(url, PST_STORE_CREATE, &store, error);

    if (status == PST_OK)
        status = pst_store_migrate(store, &steps, error);
    pst_store_close(store);
    return status;
}

static enum pst_status make_parts(struct control *c, struct pst_error *error)
{
    const struct pst_config *config = c->setup->config;
    struct pst_bytes url = pst_store_url(config, &c->setup->arena);
    struct pst_facts_config facts = {.url = url, .queue = FACTS_QUEUE};
    struct pst_tail_config tail = {.url = url, .apply = apply_batch, .ctx = c};
    enum pst_status status = prepare_store(url, error);

    if (status == PST_OK)
        status = pst_policy_hub_create(&c->hub);
    if (status == PST_OK)
        status = pst_facts_service_create(&facts, &c->facts, error);
    if (status == PST_OK)
        status = pst_tail_create(&tail, &c->tail);
    if (status == PST_OK)
        pst_tail_set_bound(c->tail, config->max_staleness_s * PST_NS_PER_S);
    c->lanes = calloc(config->workers, sizeof(*c->lanes));
    if (status == PST_OK && c->lanes == NULL)
        status = PST_E_NOMEM;
    c->lane_count = c->lanes == NULL ? 0 : config->workers;
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
        status = make_lane(c, i, error);
    return status;
}

static enum pst_status add_metrics(struct control *c)
{
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
        status = pst_ops_door_add(c->ops, pst_engine_metrics(c->lanes[i].engine));
    return status;
}

static enum pst_status start(struct control *c, struct pst_error *error)
{
    struct pst_config *config;
    enum pst_status status = pst_config_load(c->config_path, &config, error);

    if (status != PST_OK)
        return status;
    status = pst_log_create(&config->log, &c->log, error);
    const struct pst_ops_config ops = {.ready = is_ready, .ctx = c, .log = c->log};
    if (status == PST_OK)
        status = pst_ops_door_create(&ops, &c->ops);
    if (status == PST_OK)
        status = pst_fetcher_create(&c->fetcher);
    if (status != PST_OK) {
        pst_config_free(config);
        return status;
    }
    status = make_setup(c, config, &c->setup, error);
    if (status == PST_OK) {
        atomic_store_explicit(&c->jwks, c->setup->jwks, memory_order_release);
        status = make_parts(c, error);
    }
    if (status == PST_OK)
        status = add_metrics(c);
    if (status == PST_OK)
        status = make_loop(c, error);
    if (status == PST_OK)
        status = open_listeners(c, error);
    if (status == PST_OK && c->setup->jwks != NULL)
        look_after_keys(c, pst_clock_boot_ns());
    if (status == PST_OK)
        poll_tail(c);
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
        status = pst_worker_start(c->lanes[i].worker);
        c->lanes[i].started = status == PST_OK;
    }
    return status;
}

/* Threads end in the order in which they call each other: workers, then those that answer them; what they
 * left in the mailboxes is run before the engines go. */
static void stop_lanes(struct control *c)
{
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (c->lanes[i].started)
            pst_worker_stop(c->lanes[i].worker);
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (c->lanes[i].started)
            pst_worker_join(c->lanes[i].worker);
    for (uint32_t i = 0; i < c->lane_count; i++)
        pst_server_destroy(c->lanes[i].server);
    pst_facts_service_destroy(c->facts);
    pst_fetcher_destroy(c->fetcher);
    for (uint32_t i = 0; i < c->lane_count; i++) {
        if (c->lanes[i].worker != NULL)
            pst_worker_turn(c->lanes[i].worker, 0); /* messages and graves */
        pst_engine_destroy(c->lanes[i].engine);
        pst_worker_destroy(c->lanes[i].worker);
    }
    free(c->lanes);
}

static void stop(struct control *c)
{
    stop_lanes(c);
    pst_tail_destroy(c->tail);
    pst_policy_hub_destroy(c->hub);
    pst_shared_policy_release(c->policy);
    while (c->setup != NULL) {
        struct setup *older = c->setup->older;
        free_setup(c->setup);
        c->setup = older;
    }
    pst_ops_door_destroy(c->ops);
    for (size_t i = 0; i < 3; i++)
        if (c->signals[i] != NULL)
            event_free(c->signals[i]);
    if (c->tick != NULL)
        event_free(c->tick);
    if (c->base != NULL)
        event_base_free(c->base);
    pst_log_destroy(c->log);
}

int pst_control_serve(const char *config_path)
{
    struct control *c = calloc(1, sizeof(*c));
    struct pst_error error = {0};

    if (c == NULL)
        return 1;
    c->config_path = config_path;
    (void)signal(SIGPIPE, SIG_IGN);
    enum pst_status status = start(c, &error);
    if (status == PST_OK) {
        pst_log_event(c->log, PST_LOG_INFO, "started", "\"version\":\"%s\",\"pid\":%d,\"workers\":%u", PST_VERSION,
                      (int)getpid(), c->lane_count);
        warn_of_what_is_open(c);
        event_base_dispatch(c->base);
        pst_log_event(c->log, PST_LOG_INFO, "stopped", "%s", "");
    } else {
        (void)fprintf(stderr, "postern: %s%s%s\n", error.where, error.where[0] != '\0' ? ": " : "",
                      error.message[0] != '\0' ? error.message : pst_status_name(status));
    }
    stop(c);
    free(c);
    return status == PST_OK ? 0 : 1;
}
