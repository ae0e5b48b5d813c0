/*
 * One configuration's life: its keys, its site, its doors, the manager of key sets at URLs; and its
 * end, when no server and no bundle names it any more.
 */
#include "control_internal.h"

#include <stdlib.h>

#include "postern/base/clock.h"

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
void pst_setup_answer_refused(struct setup *s)
{
    const struct pst_fetch_response response = {.status = PST_E_LIMIT,
                                                .failure = "too many requests are waiting"};
    uint64_t refused = atomic_exchange_explicit(&s->refused, 0, memory_order_relaxed);

    for (unsigned source = 0; refused != 0; source++, refused >>= 1)
        if ((refused & 1) != 0)
            on_fetched(s, source, &response);
}

static void jwks_event(void *ctx, uint32_t source, enum pst_jwks_event event, const char *detail)
{
    static const struct {
        const char *name;
        enum pst_log_level level;
    } EVENTS[] = {
        [PST_JWKS_LOADED] = {"keys.loaded", PST_LOG_INFO},
        [PST_JWKS_FAILED] = {"keys.fetch_failed", PST_LOG_WARN},
        [PST_JWKS_KEY_REFUSED] = {"keys.refused", PST_LOG_WARN},
        [PST_JWKS_KEY_LEAKED] = {"keys.private_published", PST_LOG_ERROR},
        [PST_JWKS_WITHDRAWN] = {"keys.withdrawn", PST_LOG_ERROR},
    };
    struct setup *s = ctx;
    char room[512];
    struct pst_buf text = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_json(&text,
                 pst_bytes_of(detail == NULL ? "" : detail, detail == NULL ? 0 : strlen(detail)));
    room[text.full ? 0 : text.len] = '\0';
    pst_log_event(s->control->log, EVENTS[event].level, EVENTS[event].name,
                  "\"source\":%u,\"detail\":%s", source, text.full ? "\"\"" : room);
}

/* 0: authentication is off. */
static uint64_t verifier_of(const struct setup *s)
{
    return s->site->verifier == NULL ? 0 : pst_verifier_generation(s->site->verifier);
}

static void jwks_changed(void *ctx, uint32_t source)
{
    const struct setup *s = ctx;
    struct control *c = s->control;
    const struct pst_engine_news news = {.keys_of = verifier_of(s),
                                         .keys_issuer = s->urls[source].index};

    for (uint32_t i = 0; i < c->lane_count; i++)
        if (pst_engine_tell(c->lanes[i].engine, &news) != PST_OK)
            pst_log_event(c->log, PST_LOG_ERROR, "memory", "%s", "");
}

bool pst_control_want_keys(void *ctx, uint64_t verifier, uint32_t issuer, struct pst_bytes kid)
{
    struct control *c = ctx;
    /* A worker asks for an exchange that holds its setup's doors, so what it loads here is not
     * freed before it is done. */
    const struct setup *s = atomic_load_explicit(&c->serving, memory_order_acquire);

    /* A reload is on its way to the worker: the issuer is one of the site before. */
    if (s->jwks == NULL || verifier_of(s) != verifier)
        return false;
    return pst_jwks_want(s->jwks, issuer, kid, pst_clock_boot_ns()) == PST_PENDING;
}

static enum pst_status make_jwks(struct setup *s, struct pst_error *error)
{
    const struct pst_config *config = s->config;
    struct pst_jwks_limits limits = pst_jwks_limits_default();
    const struct pst_jwks_ops ops = {
        .ctx = s, .fetch = jwks_fetch, .event = jwks_event, .changed = jwks_changed};
    struct pst_jwks_source *sources =
        pst_arena_array(&s->arena, config->identity.issuers_count, sizeof(*sources));
    struct key_url *urls =
        pst_arena_array(&s->arena, config->identity.issuers_count, sizeof(*urls));
    uint32_t count = 0;

    if (sources == NULL || urls == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    s->urls = urls;
    for (uint32_t i = 0; i < config->identity.issuers_count; i++) {
        const struct pst_issuer_source *source = &config->sources[i];
        if (source->kind != PST_KEYS_JWKS_URL)
            continue;
        if (count == KEY_URLS_MAX)
            return pst_error_set(error, PST_E_LIMIT, config->tree.name.ptr,
                                 "more than %u issuers with a jwks_url", KEY_URLS_MAX);
        urls[count].source = source;
        urls[count].index = i;
        urls[count].issuer = config->identity.issuers[i].issuer;
        if (source->ca_file.len > 0)
            urls[count].ca_file = pst_config_path(config, &s->arena, source->ca_file).ptr;
        sources[count++] = (struct pst_jwks_source){.issuer = i,
                                                    .url = source->location,
                                                    .refresh_s = source->refresh_s,
                                                    .slot = s->ring.slots[i]};
    }
    s->url_count = count;
    return count == 0 ? PST_OK : pst_jwks_create(&limits, sources, count, &ops, &s->jwks, error);
}

/* --- setups --- */

void pst_setup_free(struct setup *s)
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

static enum pst_status note_roles(struct setup *s, struct pst_error *error)
{
    struct pst_named_role named;
    uint32_t count = 0;

    while (pst_config_named_role(s->config, count, &named))
        count++;
    s->roles_missed = pst_arena_zalloc(&s->arena, (count + 1) * sizeof(*s->roles_missed));
    return s->roles_missed != NULL ? PST_OK : pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
}

enum pst_status pst_setup_make(struct control *c, struct pst_config *config, struct setup **out,
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
        status = note_roles(s, error);
    if (status == PST_OK)
        status = make_jwks(s, error);
    if (status == PST_OK)
        inherit_keys(s, c->setup);
    if (status != PST_OK) {
        pst_setup_free(s);
        return status;
    }
    *out = s;
    return PST_OK;
}

/* Old setups whose doors nobody was lent any more, and whose site only they hold. */
void pst_setup_free_old(struct control *c)
{
    for (struct setup **link = &c->setup->older; *link != NULL;) {
        struct setup *s = *link;
        if (atomic_load_explicit(&s->lent, memory_order_acquire) > 0 ||
            atomic_load_explicit(&s->fetching, memory_order_acquire) > 0 || s->site->refs_ > 1 ||
            atomic_load_explicit(&s->site->streams_, memory_order_acquire) > 0) {
            link = &s->older;
            continue;
        }
        *link = s->older;
        pst_setup_free(s);
    }
}
