/*
 * A source is waiting (due_ns) or in flight. What is decided is decided under the lock; requests,
 * events and publications happen after it is let go, from a plan on the stack.
 *
 *   I1  at most one request of a source is in flight
 *   I2  etag is sent only while the set that it names is published
 *   I3  held says what the slot holds, as far as this manager published it
 */
#include "postern/identity/jwks.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

#include "postern/base/clock.h"
#include "postern/base/secret.h"

#define ETAG_MAX    256
#define URL_MAX     2048
#define RETRY_MAX_S 60
#define VAIN_MAX    64 /* kids remembered per source */
#define SOURCES_MAX 1024

struct source {
    struct pst_jwks_source config;
    char url[URL_MAX];
    uint64_t due_ns;
    uint64_t confirmed_ns; /* when the held set was last confirmed */
    uint64_t wanted_ns;    /* when a kid last caused a fetch; 0: never */
    bool held, in_flight;
    uint32_t failures_in_row;
    uint64_t fetches, failures;
    unsigned char body_hash[32];
    char etag[ETAG_MAX];
    size_t etag_len;
    uint64_t vain[VAIN_MAX]; /* hashes of kids asked for since the keys changed; a ring */
    uint32_t vain_count;
};

struct pst_jwks {
    struct pst_jwks_limits limits;
    struct pst_jwks_ops ops;
    struct pst_hash_key kid_key;
    uint32_t count;
    pthread_mutex_t lock;
    struct {
        uint64_t random;
        struct source *sources;
    } locked;
};

bool pst_jwks_url_ok(struct pst_bytes url)
{
    struct pst_bytes scheme = PST_LIT("https://");

    if (url.len >= URL_MAX || !pst_bytes_starts(url, scheme))
        return false;
    struct pst_bytes rest = pst_bytes_from(url, scheme.len);
    size_t host = pst_bytes_find(rest, '/');
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.ptr[i] <= 0x20 || (unsigned char)rest.ptr[i] >= 0x7f ||
            rest.ptr[i] == '#' || rest.ptr[i] == '\\' ||
            (i < host && (rest.ptr[i] == '@' || rest.ptr[i] == '?')))
            return false;
    return host > 0 && rest.ptr[0] != ':';
}

/* --- time --- */

/* seconds, moved by up to jitter_percent either way. Under the lock. */
static uint64_t spread_ns(struct pst_jwks *jwks, uint64_t seconds)
{
    uint64_t x = jwks->locked.random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    jwks->locked.random = x;
    uint64_t ns = seconds * PST_NS_PER_S, width = ns / 100 * jwks->limits.jitter_percent;
    return width == 0 ? ns : ns - width + x % (2 * width + 1);
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

/* max-age of Cache-Control (RFC 9111 5.2.2.1) in seconds; `fallback` when there is none. */
static uint64_t max_age(struct pst_bytes field, uint64_t fallback)
{
    struct pst_bytes name = PST_LIT("max-age=");

    while (field.len > 0) {
        size_t end = pst_bytes_find(field, ',');
        struct pst_bytes one = pst_bytes_trim(pst_bytes_of(field.ptr, end));
        uint64_t seconds;
        if (one.len > name.len && pst_bytes_equal_nocase(pst_bytes_of(one.ptr, name.len), name) &&
            pst_bytes_u63(pst_bytes_from(one, name.len), &seconds))
            return seconds;
        field = pst_bytes_from(field, end < field.len ? end + 1 : end);
    }
    return fallback;
}

static void schedule_next(struct pst_jwks *jwks, struct source *s, struct pst_bytes cache_control,
                          uint64_t now_ns)
{
    const struct pst_jwks_limits *l = &jwks->limits;
    uint64_t usual = s->config.refresh_s == 0 ? l->refresh_s : s->config.refresh_s;
    uint64_t seconds = clamp(max_age(cache_control, usual), l->refresh_min_s, l->refresh_max_s);

    s->due_ns = now_ns + clamp(spread_ns(jwks, seconds), l->refresh_min_s * PST_NS_PER_S,
                               l->refresh_max_s * PST_NS_PER_S);
    s->failures_in_row = 0;
}

static void schedule_retry(struct pst_jwks *jwks, struct source *s, uint64_t now_ns)
{
    uint32_t doubled = s->failures_in_row < 5 ? UINT32_C(2) << s->failures_in_row : RETRY_MAX_S;

    s->failures_in_row++;
    s->failures++;
    s->due_ns = now_ns + spread_ns(jwks, doubled);
}

static uint64_t stale_at(const struct pst_jwks *jwks, const struct source *s)
{
    return s->held ? s->confirmed_ns + jwks->limits.max_stale_s * PST_NS_PER_S : UINT64_MAX;
}

/* --- calls out --- */

static void tell(struct pst_jwks *jwks, uint32_t source, enum pst_jwks_event event,
                 const char *detail)
{
    if (jwks->ops.event != NULL)
        jwks->ops.event(jwks->ops.ctx, source, event, detail);
}

/* Under the lock: marks the source as in flight and fills the request for afterwards. */
static void begin_fetch(struct pst_jwks *jwks, uint32_t index, struct pst_jwks_request *request)
{
    struct source *s = &jwks->locked.sources[index];

    s->in_flight = true;
    s->fetches++;
    *request = (struct pst_jwks_request){
        .source = index,
        .url = s->config.url,
        .etag = pst_bytes_of(s->etag, s->held ? s->etag_len : 0),
        .max_bytes = jwks->limits.max_bytes,
        .timeout_ms = jwks->limits.timeout_ms,
    };
}

struct due {
    bool fetch, withdraw;
    struct pst_jwks_request request;
    uint64_t next_ns;
};

static struct due plan(struct pst_jwks *jwks, uint32_t index, uint64_t now_ns)
{
    struct due due = {.next_ns = UINT64_MAX};

    pthread_mutex_lock(&jwks->lock);
    struct source *s = &jwks->locked.sources[index];
    if (now_ns >= stale_at(jwks, s)) {
        s->held = false;
        s->etag_len = 0;
        due.withdraw = true;
        pst_keyslot_publish(s->config.slot, NULL); /* takes the slot's lock only: a leaf */
    }
    if (!s->in_flight && now_ns >= s->due_ns) {
        begin_fetch(jwks, index, &due.request);
        due.fetch = true;
    }
    if (!s->in_flight)
        due.next_ns = s->due_ns;
    if (stale_at(jwks, s) < due.next_ns)
        due.next_ns = stale_at(jwks, s);
    pthread_mutex_unlock(&jwks->lock);
    return due;
}

uint64_t pst_jwks_tick(struct pst_jwks *jwks, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < jwks->count; i++) {
        struct due due = plan(jwks, i, now_ns);
        if (due.withdraw)
            tell(jwks, i, PST_JWKS_WITHDRAWN, "the keys were not confirmed for too long");
        if (due.fetch)
            jwks->ops.fetch(jwks->ops.ctx, &due.request);
        if (due.next_ns < next_ns)
            next_ns = due.next_ns;
    }
    return next_ns;
}

void pst_jwks_inherit(struct pst_jwks *jwks, uint32_t source, struct pst_jwks *from,
                      uint32_t from_source)
{
    uint64_t generation;

    if (source >= jwks->count || from_source >= from->count)
        return;
    pthread_mutex_lock(&from->lock);
    struct source was = from->locked.sources[from_source];
    const struct pst_keyset *set = was.held ? pst_keyslot_take(was.config.slot, &generation) : NULL;
    pthread_mutex_unlock(&from->lock);
    if (set == NULL)
        return;

    pthread_mutex_lock(&jwks->lock);
    struct source *s = &jwks->locked.sources[source];
    s->held = true;
    s->confirmed_ns = was.confirmed_ns;
    memcpy(s->body_hash, was.body_hash, sizeof(s->body_hash));
    memcpy(s->etag, was.etag, was.etag_len);
    s->etag_len = was.etag_len;
    pst_keyslot_publish(s->config.slot, set);
    pthread_mutex_unlock(&jwks->lock);
}

/* --- answers --- */

static void keep_etag(struct source *s, struct pst_bytes etag)
{
    s->etag_len = etag.len <= sizeof(s->etag) ? etag.len : 0;
    memcpy(s->etag, etag.ptr == NULL ? "" : etag.ptr, s->etag_len);
}

/* A good set: publishes it unless it is word for word the one held. Whether it was another one. */
static bool accept_set(struct pst_jwks *jwks, struct source *s, struct pst_keyset *set,
                       const struct pst_jwks_answer *answer, uint64_t now_ns)
{
    unsigned char hash[32];
    unsigned len = 0;
    bool hashed =
        EVP_Digest(answer->body.ptr, answer->body.len, hash, &len, EVP_sha256(), NULL) == 1;

    pthread_mutex_lock(&jwks->lock);
    bool same = hashed && s->held && memcmp(hash, s->body_hash, sizeof(hash)) == 0;
    if (!same) {
        memcpy(s->body_hash, hash, hashed ? sizeof(hash) : 0);
        s->held = true;
        s->vain_count = 0;
        pst_keyslot_publish(s->config.slot, set);
    }
    s->confirmed_ns = now_ns;
    s->in_flight = false;
    keep_etag(s, answer->etag);
    schedule_next(jwks, s, answer->cache_control, now_ns);
    pthread_mutex_unlock(&jwks->lock);
    if (same)
        pst_keyset_release(set);
    return !same;
}

static void judge_document(struct pst_jwks *jwks, uint32_t index,
                           const struct pst_jwks_answer *answer, uint64_t now_ns,
                           struct pst_error *error)
{
    struct pst_keyset_report report;
    struct pst_keyset *set;

    error->status = pst_keyset_from_jwks(answer->body, &set, &report, error);
    if (report.private_published)
        tell(jwks, index, PST_JWKS_KEY_LEAKED,
             "the document holds private members: the key is refused");
    if (error->status != PST_OK ||
        !accept_set(jwks, &jwks->locked.sources[index], set, answer, now_ns))
        return;
    tell(jwks, index, PST_JWKS_LOADED, "");
    if (report.refused > 0)
        tell(jwks, index, PST_JWKS_KEY_REFUSED, report.first_refusal);
}

/* 304: the set that the ETag names is as fresh as if it had been sent. False when none was named.
 */
static bool accept_unchanged(struct pst_jwks *jwks, struct source *s,
                             const struct pst_jwks_answer *answer, uint64_t now_ns)
{
    pthread_mutex_lock(&jwks->lock);
    bool good = s->held && s->etag_len > 0;
    if (good) {
        s->confirmed_ns = now_ns;
        s->in_flight = false;
        schedule_next(jwks, s, answer->cache_control, now_ns);
    }
    pthread_mutex_unlock(&jwks->lock);
    return good;
}

static void fail(struct pst_jwks *jwks, uint32_t index, const char *why, uint64_t now_ns)
{
    pthread_mutex_lock(&jwks->lock);
    jwks->locked.sources[index].in_flight = false;
    schedule_retry(jwks, &jwks->locked.sources[index], now_ns);
    pthread_mutex_unlock(&jwks->lock);
    tell(jwks, index, PST_JWKS_FAILED, why);
}

void pst_jwks_fetched(struct pst_jwks *jwks, uint32_t source, const struct pst_jwks_answer *answer,
                      uint64_t now_ns)
{
    struct pst_error error = {0};

    if (source >= jwks->count)
        return;
    if (answer->status != PST_OK) {
        fail(jwks, source,
             answer->failure == NULL ? pst_status_name(answer->status) : answer->failure, now_ns);
    } else if (answer->http_status == 304) {
        if (!accept_unchanged(jwks, &jwks->locked.sources[source], answer, now_ns))
            fail(jwks, source, "304 to a request without If-None-Match", now_ns);
    } else if (answer->http_status != 200) {
        fail(jwks, source, "the status is not 200", now_ns);
    } else {
        judge_document(jwks, source, answer, now_ns, &error);
        if (error.status != PST_OK)
            fail(jwks, source, error.message, now_ns);
    }
    if (jwks->ops.changed != NULL)
        jwks->ops.changed(jwks->ops.ctx, source);
}

/* --- unknown kids --- */

static bool was_in_vain(const struct source *s, uint64_t hash)
{
    uint32_t n = s->vain_count < VAIN_MAX ? s->vain_count : VAIN_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (s->vain[i] == hash)
            return true;
    return false;
}

/* Under the lock. PST_OK: begin the request. */
static enum pst_status judge_want(struct pst_jwks *jwks, uint32_t index, uint64_t hash,
                                  uint64_t now_ns, struct pst_jwks_request *request)
{
    struct source *s = &jwks->locked.sources[index];

    if (s->in_flight)
        return PST_PENDING;
    if (was_in_vain(s, hash) ||
        (s->wanted_ns != 0 && now_ns - s->wanted_ns < jwks->limits.unknown_kid_s * PST_NS_PER_S))
        return PST_E_BUSY;
    s->wanted_ns = now_ns == 0 ? 1 : now_ns;
    s->vain[s->vain_count % VAIN_MAX] = hash;
    s->vain_count = s->vain_count + 1 < 2 * VAIN_MAX ? s->vain_count + 1 : VAIN_MAX;
    begin_fetch(jwks, index, request);
    return PST_OK;
}

enum pst_status pst_jwks_want(struct pst_jwks *jwks, uint32_t issuer, struct pst_bytes kid,
                              uint64_t now_ns)
{
    struct pst_jwks_request request;
    uint64_t hash = pst_hash(&jwks->kid_key, kid);
    uint32_t index = 0;

    while (index < jwks->count && jwks->locked.sources[index].config.issuer != issuer)
        index++; /* the configuration never changes: no lock */
    if (index == jwks->count)
        return PST_E_BUSY;
    pthread_mutex_lock(&jwks->lock);
    enum pst_status status = judge_want(jwks, index, hash, now_ns, &request);
    pthread_mutex_unlock(&jwks->lock);
    if (status != PST_OK)
        return status;
    jwks->ops.fetch(jwks->ops.ctx, &request);
    return PST_PENDING;
}

bool pst_jwks_ready(struct pst_jwks *jwks)
{
    bool ready = true;

    pthread_mutex_lock(&jwks->lock);
    for (uint32_t i = 0; i < jwks->count; i++)
        ready = ready && jwks->locked.sources[i].held;
    pthread_mutex_unlock(&jwks->lock);
    return ready;
}

struct pst_jwks_stats pst_jwks_stats(struct pst_jwks *jwks, uint32_t source, uint64_t now_ns)
{
    struct pst_jwks_stats stats = {.age_ns = UINT64_MAX};

    if (source >= jwks->count)
        return stats;
    pthread_mutex_lock(&jwks->lock);
    const struct source *s = &jwks->locked.sources[source];
    stats.fetches = s->fetches;
    stats.failures = s->failures;
    stats.ready = s->held;
    if (s->held && now_ns >= s->confirmed_ns)
        stats.age_ns = now_ns - s->confirmed_ns;
    pthread_mutex_unlock(&jwks->lock);
    return stats;
}

/* --- life --- */

static enum pst_status check(const struct pst_jwks_limits *l, const struct pst_jwks_source *sources,
                             uint32_t count, struct pst_error *error)
{
    if (count > SOURCES_MAX)
        return pst_error_set(error, PST_E_LIMIT, NULL, "more than %d JWKS URLs", SOURCES_MAX);
    if (l->refresh_min_s == 0 || l->refresh_min_s > l->refresh_max_s || l->refresh_max_s > 86400 ||
        l->jitter_percent > 50 || l->max_bytes == 0 || l->max_bytes > PST_KEYSET_BYTES_MAX)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the limits of key sets contradict each other");
    for (uint32_t i = 0; i < count; i++)
        if (!pst_jwks_url_ok(sources[i].url))
            return pst_error_set(error, PST_E_INVALID, NULL,
                                 "jwks_url: https, without user name and fragment");
    return PST_OK;
}

enum pst_status pst_jwks_create(const struct pst_jwks_limits *limits,
                                const struct pst_jwks_source *sources, uint32_t count,
                                const struct pst_jwks_ops *ops, struct pst_jwks **out,
                                struct pst_error *error)
{
    *out = NULL;
    enum pst_status status = check(limits, sources, count, error);
    if (status != PST_OK)
        return status;

    struct pst_jwks *jwks = calloc(1, sizeof(*jwks));
    struct source *own = calloc((size_t)count + 1, sizeof(*own));
    if (jwks == NULL || own == NULL || pthread_mutex_init(&jwks->lock, NULL) != 0) {
        free(jwks);
        free(own);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    jwks->limits = *limits;
    jwks->ops = *ops;
    jwks->kid_key = pst_random_hash_key();
    jwks->count = count;
    jwks->locked.random = jwks->kid_key.k0 | 1;
    jwks->locked.sources = own;
    for (uint32_t i = 0; i < count; i++) {
        own[i].config = sources[i];
        memcpy(own[i].url, sources[i].url.ptr, sources[i].url.len);
        own[i].config.url = pst_bytes_of(own[i].url, sources[i].url.len);
    }
    *out = jwks;
    return PST_OK;
}

void pst_jwks_destroy(struct pst_jwks *jwks)
{
    if (jwks == NULL)
        return;
    pthread_mutex_destroy(&jwks->lock);
    free(jwks->locked.sources);
    free(jwks);
}
