/*
 * jwt_scenario.h - scenarios of the JWT cases on a fake clock.
 *
 * Time is nanoseconds since the scenario's 0. The manager of key sets runs on it through a transport
 * that answers as the script says: what net/fetch makes of a real server (limits, time-outs, TLS) is
 * tested there, here its outcome is. A request whose kid is unknown waits for the refresh, as the
 * engine lets it wait, but no longer than WAIT_NS.
 */
#ifndef POSTERN_TESTS_SUITES_JWT_SCENARIO_H
#define POSTERN_TESTS_SUITES_JWT_SCENARIO_H

#include <openssl/hmac.h>
#include <stdarg.h>
#include <unistd.h>

#include "../tally.h"
#include "jwt_world.h"
#include "postern/base/clock.h"
#include "postern/identity/jwks.h"

#define BOOT0_NS    (1000 * PST_NS_PER_S) /* of the boot clock at the scenario's 0 */
#define WAIT_NS     (200 * PST_NS_PER_MS)
#define EVENTS_MAX  8192
/* Tokens of one flood: ten times what the caches hold, so that every effect shows. With SUITE_FULL set
 * all of them are sent, which takes minutes of signature checks. */
#define FLOOD_MAX   100000
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* ten times the time, ten times the noise */
#define FLOOR_NS 500000
#else
#define FLOOR_NS    50000 /* a request through any door takes longer; a difference below does not show */
#endif

struct url { /* the JWKS URL of one issuer */
    const char *issuer;
    json_t *answer; /* the serve_jwks or fail_jwks step that holds, or the key set itself */
    bool failing;
    uint64_t fetched_ns[EVENTS_MAX];
    uint32_t fetches;
    bool pending; /* a request is on its way */
    uint64_t done_ns, begun_ns, longest_ns;
    struct pst_jwks_request request;
    const json_t *resolve; /* lists of addresses, one after the other */
    size_t resolved;
};

struct scenario {
    const json_t *meta;
    struct world w;
    bool running;
    struct pst_jwks *jwks;
    struct url urls[ISSUERS_MAX];
    uint32_t url_count, source_urls[ISSUERS_MAX];
    uint64_t now_ns;
    int64_t wall_step_s;
    uint64_t alarms_ns[EVENTS_MAX];
    uint32_t alarms;
    struct {
        char to[64];
        uint64_t ns;
    } outgoing[EVENTS_MAX];
    uint32_t outgoing_count;
    char log[65536]; /* everything written: events and answers */
    size_t log_len;
    uint64_t hits_before;
    struct {
        int64_t at;
        long pages;
    } rss[128];
    uint32_t rss_count;
    double p99_ratio;
    char why[512];
};

/* What is strange about a flood's parts, NULL: nothing. */
static const char *strange_parts(const json_t *parts)
{
    static const char *const FORMS[] = {"as_is", "text", "blocks"};

    if (json_array_size(parts) != 3)
        return "parts";
    for (size_t i = 0; i < 3; i++) {
        const json_t *part = json_array_get(parts, i);
        bool known = i == 2 && json_object_get(part, "mac") != NULL;
        for (size_t k = 0; k < 3; k++)
            known = known || json_object_get(part, FORMS[k]) != NULL;
        if (!known)
            return "part";
    }
    return NULL;
}

/* What is strange about a step, NULL: nothing; the word is in *word. */
static const char *strange_step(const json_t *step, const char **word)
{
    static const char *const WORDS[] = {"start", "restart", "reload", "clock", "serve_jwks", "fail_jwks",
                                        "resolve", "request", "flood", "check", NULL};
    static const char *const MEASURED[] = {"jwks_fetches", "jwks_fetch_failures", "jwks_fetch_seconds", "outgoing",
                                           "ready", "alarms", "rss_growth_bytes", "p99_ratio", "cache_hits",
                                           "occurrences", NULL};
    static const char *const OPS[] = {"==", "<=", ">=", NULL};

    *word = tally_text(step, "do");
    if (!tally_among(*word, WORDS))
        return "step";
    if (strcmp(*word, "flood") == 0)
        return strange_parts(json_object_get(step, "parts"));
    if (strcmp(*word, "check") != 0)
        return NULL;
    *word = tally_text(step, "what");
    if (!tally_among(*word, MEASURED))
        return "check";
    *word = tally_text(step, "op");
    return tally_among(*word, OPS) ? NULL : "op";
}

static void write_log(struct scenario *s, const char *text)
{
    size_t len = strlen(text);

    if (len < sizeof(s->log) - s->log_len) {
        memcpy(s->log + s->log_len, text, len);
        s->log_len += len;
    }
}

static void alarm_now(struct scenario *s)
{
    if (s->alarms < EVENTS_MAX)
        s->alarms_ns[s->alarms++] = s->now_ns;
}

/* --- the transport --- */

/* What net/fetch refuses, as far as a script may name it (the whole list is tested there). */
static bool is_special_address(const char *a)
{
    static const char *const starts[] = {"0.",       "10.",      "100.64.", "127.",   "169.254.", "172.16.", "172.17.",
                                         "172.31.",  "192.168.", "224.",    "255.",   "::",       "64:ff9b", "2002:",
                                         "fc",       "fd",       "fe8",     "fec",    "ff"};

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        if (strncmp(a, starts[i], strlen(starts[i])) == 0)
            return true;
    return false;
}

/* The list of the cases is either empty or names loopback. */
static bool is_listed(const struct scenario *s, const char *a)
{
    const json_t *list = json_object_get(json_object_get(s->w.config, "jwks"), "allow_addresses");

    return json_array_size(list) > 0 && (strncmp(a, "127.", 4) == 0 || strcmp(a, "::1") == 0);
}

/* Where the name leads this time; NULL: nowhere that may be connected to, or that answers. */
static const char *connect_to(struct scenario *s, struct url *u)
{
    const char *address = "127.0.0.1";

    if (u->resolve != NULL) {
        const json_t *answer = json_array_get(u->resolve, u->resolved);
        if (u->resolved + 1 < json_array_size(u->resolve))
            u->resolved++;
        address = json_string_value(json_array_get(answer, 0));
    }
    if (address == NULL || (is_special_address(address) && !is_listed(s, address)))
        return NULL;
    if (s->outgoing_count < EVENTS_MAX) {
        copy_text(s->outgoing[s->outgoing_count].to, 64, pst_bytes_of(address, strlen(address)));
        s->outgoing[s->outgoing_count++].ns = s->now_ns;
    }
    return strncmp(address, "127.", 4) == 0 ? address : NULL;
}

static char *body_of(const json_t *answer)
{
    const json_t *body = json_object_get(answer, "body"), *repeat = json_object_get(answer, "repeat");

    if (body != NULL)
        return strdup(json_string_value(body));
    if (repeat == NULL) {
        const json_t *keys = json_object_get(answer, "keys");
        /* a step holds the document under `keys`, the meta the document itself */
        return json_dumps(json_is_object(keys) ? keys : answer, JSON_COMPACT);
    }
    const char *text = json_string_value(json_object_get(repeat, "text"));
    size_t count = (size_t)json_number_value(json_object_get(repeat, "count"));
    char *out = malloc(16 + count * (strlen(text) + 12)), *at = out + sprintf(out, "{\"keys\":[");
    for (size_t i = 0; i < count; i++) {
        const char *gap = strstr(text, "%d");
        at += gap == NULL ? sprintf(at, "%s%s", i > 0 ? "," : "", text)
                          : sprintf(at, "%s%.*s%zu%s", i > 0 ? "," : "", (int)(gap - text), text, i, gap + 2);
    }
    (void)sprintf(at, "]}");
    return out;
}

static uint64_t seconds_of(const json_t *step, const char *name)
{
    return (uint64_t)(json_number_value(json_object_get(step, name)) * 1e9);
}

/* When the request that begins now will be over. */
static uint64_t duration(const struct url *u)
{
    uint64_t ns = seconds_of(u->answer, "delay_s"), limit = u->request.timeout_ms * PST_NS_PER_MS;
    uint64_t drip = (uint64_t)json_number_value(json_object_get(u->answer, "drip_bytes_per_s"));

    if (u->failing)
        return is_word(json_object_get(u->answer, "how"), "refused") ? 0 : limit;
    if (drip > 0) {
        char *body = body_of(u->answer);
        ns += strlen(body) * PST_NS_PER_S / drip;
        free(body);
    }
    return ns < limit ? ns : limit;
}

static void begin(void *ctx, const struct pst_jwks_request *request)
{
    struct scenario *s = ctx;
    struct url *u = &s->urls[s->source_urls[request->source]];

    u->request = *request;
    u->pending = true;
    u->begun_ns = s->now_ns;
    u->done_ns = s->now_ns + duration(u);
    if (u->fetches < EVENTS_MAX)
        u->fetched_ns[u->fetches++] = s->now_ns;
}

static void finish(struct scenario *s, uint32_t source, struct url *u)
{
    struct pst_jwks_answer answer = {.status = PST_E_IO};
    const json_t *etag = json_object_get(u->answer, "etag"), *status = json_object_get(u->answer, "status");
    const json_t *tls = json_object_get(u->answer, "tls");
    char *body = NULL;

    u->pending = false;
    if (s->now_ns - u->begun_ns > u->longest_ns)
        u->longest_ns = s->now_ns - u->begun_ns;
    bool late = s->now_ns - u->begun_ns >= u->request.timeout_ms * PST_NS_PER_MS;
    bool broken = json_object_get(u->answer, "cut_at") != NULL || json_is_true(json_object_get(u->answer, "endless"));
    if (!u->failing && !late && !broken && (tls == NULL || is_word(tls, "ok")) && connect_to(s, u) != NULL) {
        body = body_of(u->answer);
        answer.status = PST_OK;
        answer.http_status = status == NULL ? 200 : (unsigned)json_number_value(status);
        answer.etag = text_of(etag);
        answer.cache_control = text_of(json_object_get(json_object_get(u->answer, "headers"), "Cache-Control"));
        answer.body = pst_bytes_of(body, strlen(body));
        if (etag != NULL && pst_bytes_equal(text_of(etag), u->request.etag))
            answer.http_status = 304;
        if (answer.body.len > u->request.max_bytes)
            answer.status = PST_E_LIMIT;
    }
    pst_jwks_fetched(s->jwks, source, &answer, BOOT0_NS + s->now_ns);
    free(body);
}

static void on_event(void *ctx, uint32_t source, enum pst_jwks_event event, const char *detail)
{
    struct scenario *s = ctx;

    (void)source;
    write_log(s, detail);
    if (event != PST_JWKS_LOADED)
        alarm_now(s);
}

/* Runs the clock to to_ns: answers that arrive, fetches that fall due. */
static void advance(struct scenario *s, uint64_t to_ns)
{
    while (s->running && s->jwks != NULL) {
        uint64_t next_ns = pst_jwks_tick(s->jwks, BOOT0_NS + s->now_ns) - BOOT0_NS;
        uint32_t source = UINT32_MAX;
        for (uint32_t i = 0; i < s->w.count; i++)
            if (s->urls[s->source_urls[i]].pending && s->urls[s->source_urls[i]].done_ns <= next_ns) {
                next_ns = s->urls[s->source_urls[i]].done_ns;
                source = i;
            }
        if (next_ns > to_ns)
            break;
        if (next_ns > s->now_ns)
            s->now_ns = next_ns;
        if (source != UINT32_MAX)
            finish(s, source, &s->urls[s->source_urls[source]]);
    }
    if (to_ns > s->now_ns)
        s->now_ns = to_ns;
}

/* --- the node --- */

static struct url *url_of(struct scenario *s, const char *issuer)
{
    for (uint32_t i = 0; i < s->url_count; i++)
        if (strcmp(s->urls[i].issuer, issuer) == 0)
            return &s->urls[i];
    struct url *u = &s->urls[s->url_count++];
    u->issuer = issuer;
    u->answer = json_object_get(json_object_get(json_object_get(s->meta, "keys"), issuer), "jwks");
    return u;
}

static struct pst_jwks_limits limits_of(const json_t *c)
{
    return (struct pst_jwks_limits){
        .refresh_s = number(c, "refresh_s"),
        .refresh_min_s = number(c, "refresh_min_s"),
        .refresh_max_s = number(c, "refresh_max_s"),
        .jitter_percent = (uint32_t)(json_number_value(json_object_get(c, "jitter")) * 100 + 0.5),
        .unknown_kid_s = number(c, "unknown_kid_refresh_s"),
        .max_stale_s = number(c, "max_stale_s"),
        .max_bytes = number(c, "max_bytes"),
        .timeout_ms = number(c, "timeout_s") * 1000,
    };
}

static void stop(struct scenario *s)
{
    pst_jwks_destroy(s->jwks);
    s->jwks = NULL;
    for (uint32_t i = 0; i < s->url_count; i++)
        s->urls[i].pending = false;
    if (s->running)
        world_close(&s->w);
    s->running = false;
}

static bool start(struct scenario *s, const json_t *own)
{
    struct pst_jwks_limits limits;
    struct pst_jwks_source sources[ISSUERS_MAX];
    struct pst_jwks_ops ops = {.ctx = s, .fetch = begin, .event = on_event};
    struct pst_error error = {0};
    uint32_t count = 0;

    stop(s);
    s->running = true;
    if (!world_open(&s->w, s->meta, own, NULL, true)) {
        stop(s);
        return false;
    }
    for (uint32_t i = 0; i < s->w.count; i++) {
        const struct issuer *one = &s->w.issuers[i];
        const json_t *url = json_object_get(json_object_get(s->w.config, "jwks_urls"), one->name);
        if (!one->by_url)
            continue;
        s->source_urls[count] = (uint32_t)(url_of(s, one->name) - s->urls);
        sources[count++] = (struct pst_jwks_source){.issuer = i, .url = text_of(url), .slot = one->slot};
        /* names in configuration live as long as the scenario's meta: keep those of the meta */
    }
    for (uint32_t i = count; i < ISSUERS_MAX; i++)
        s->source_urls[i] = ISSUERS_MAX - 1; /* the spare one, never pending */
    limits = limits_of(json_object_get(s->w.config, "jwks"));
    if (pst_jwks_create(&limits, sources, count, &ops, &s->jwks, &error) != PST_OK) {
        stop(s);
        return false;
    }
    advance(s, s->now_ns);
    return true;
}

static int64_t wall_s(struct scenario *s)
{
    uint64_t boot_ns = BOOT0_NS + s->now_ns;
    uint64_t steps = s->w.wall.steps_back;
    int64_t now_s = (int64_t)json_number_value(json_object_get(s->meta, "now")) + s->wall_step_s;
    int64_t wall = pst_wall_now_s(&s->w.wall, (uint64_t)now_s * PST_NS_PER_S + s->now_ns, boot_ns);

    if (s->w.wall.steps_back > steps)
        alarm_now(s);
    return wall;
}

/* --- steps --- */

static bool fail_step(struct scenario *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail_step(struct scenario *s, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(s->why, sizeof(s->why), format, args);
    va_end(args);
    return false;
}

static bool expects(const json_t *expect, const char *word)
{
    size_t i;
    json_t *one;

    json_array_foreach(expect, i, one) if (is_word(one, word)) return true;
    return is_word(expect, word);
}

static bool one_request(struct scenario *s, const json_t *step)
{
    char *owned;
    struct pst_bytes token = token_of(step, &owned);
    const json_t *expect = json_object_get(step, "expect");
    struct result r = request(&s->w, token, json_object_get(step, "http"), wall_s(s));

    if (r.refresh_issuer != PST_NO_ISSUER && s->jwks != NULL) {
        size_t dot = pst_bytes_find(token, '.'); /* the kid's hash may as well be that of the header */
        if (pst_jwks_want(s->jwks, r.refresh_issuer, pst_bytes_of(token.ptr, dot), BOOT0_NS + s->now_ns) == PST_PENDING) {
            advance(s, s->now_ns + WAIT_NS);
            r = request(&s->w, token, json_object_get(step, "http"), wall_s(s));
        }
    }
    free(owned);
    write_log(s, r.accepted ? "accepted " : pst_identity_reason_name(r.reason));
    bool good = r.accepted ? expects(expect, "accept")
                           : expects(expect, "reject") || (r.reason == PST_ID_KEYS_UNAVAILABLE && expects(expect, "unavailable"));
    if (!good || (r.accepted && !principal_fits(json_object_get(step, "principal"), &r)))
        return fail_step(s, "request ended as %s (%s)", r.accepted ? "accept" : "reject",
                         r.accepted ? r.user : pst_identity_reason_name(r.reason));
    return true;
}

static bool do_request(struct scenario *s, const json_t *step)
{
    const json_t *times = json_object_get(step, "times");
    bool good = true;

    s->hits_before = pst_token_cache_stats(s->w.cache).hits;
    for (int64_t i = times == NULL ? 1 : (int64_t)json_number_value(times); i > 0 && good; i--)
        good = one_request(s, step);
    return good;
}

/* One of the three parts of a flood's token, for the number i, at *at. */
static void put_part(struct scenario *s, const json_t *part, uint32_t i, struct pst_buf *b)
{
    const json_t *blocks = json_object_get(part, "blocks"), *text = json_object_get(part, "text");
    char number_text[16], plain[4096];

    if (json_object_get(part, "as_is") != NULL) {
        pst_buf_put(b, text_of(json_object_get(part, "as_is")));
    } else if (text != NULL) {
        const char *from = json_string_value(text), *gap = strstr(from, "%08x");
        (void)snprintf(number_text, sizeof(number_text), "%08x", i);
        int n = gap == NULL ? snprintf(plain, sizeof(plain), "%s", from)
                            : snprintf(plain, sizeof(plain), "%.*s%s%s", (int)(gap - from), from, number_text, gap + 4);
        pst_base64url_put(b, pst_bytes_of(plain, (size_t)n));
    } else if (blocks != NULL) {
        for (uint32_t k = 0; k < number(part, "n"); k++)
            pst_buf_put(b, text_of(json_array_get(blocks, i >> k & 1)));
        pst_buf_put(b, text_of(json_object_get(part, "tail")));
    } else {
        (void)s;
        abort();
    }
}

static void put_mac(struct scenario *s, const json_t *part, struct pst_buf *b)
{
    unsigned char mac[64], secret[256];
    unsigned mac_len = 0;
    size_t len, i;
    const char *name;
    json_t *keys, *one;
    const EVP_MD *md = is_word(json_object_get(part, "alg"), "HS512") ? EVP_sha512()
                       : is_word(json_object_get(part, "alg"), "HS384") ? EVP_sha384() : EVP_sha256();

    json_object_foreach(s->w.keys, name, keys) json_array_foreach(json_object_get(keys, "secrets"), i, one)
    {
        if (!pst_bytes_equal(text_of(json_object_get(one, "kid")), text_of(json_object_get(part, "mac"))) ||
            !pst_base64url_decode(text_of(json_object_get(one, "k")), secret, sizeof(secret), &len))
            continue;
        (void)HMAC(md, secret, (int)len, (const unsigned char *)b->data, b->len, mac, &mac_len);
    }
    pst_buf_lit(b, ".");
    pst_base64url_put(b, pst_bytes_of(mac, mac_len));
}

static struct pst_bytes flood_token(struct scenario *s, const json_t *parts, uint32_t i, char *out, size_t cap)
{
    struct pst_buf b = pst_buf_of(out, cap);
    const json_t *third = json_array_get(parts, 2);

    put_part(s, json_array_get(parts, 0), i, &b);
    pst_buf_lit(&b, ".");
    put_part(s, json_array_get(parts, 1), i, &b);
    if (json_object_get(third, "mac") != NULL) {
        put_mac(s, third, &b);
    } else {
        pst_buf_lit(&b, ".");
        put_part(s, third, i, &b);
    }
    return pst_buf_bytes(&b);
}

/* Of this thread: a machine that is busy with something else does not count. */
static uint64_t cpu_ns(void)
{
    return pst_clock_ns_(CLOCK_THREAD_CPUTIME_ID);
}

/* ns that one request with a good token took; 0 when it was refused. */
static uint64_t good_request(struct scenario *s, const json_t *good, uint32_t i)
{
    const json_t *token = json_array_get(good, i % json_array_size(good));
    uint64_t from_ns = cpu_ns();
    struct result r = request(&s->w, text_of(token), NULL, wall_s(s));

    return r.accepted ? cpu_ns() - from_ns + 1 : 0;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static double p99(uint64_t *ns, uint32_t n)
{
    qsort(ns, n, sizeof(ns[0]), by_size);
    uint64_t at = n == 0 ? 0 : ns[n - 1 - n / 100];
    return (double)(at < FLOOR_NS ? FLOOR_NS : at);
}

static uint32_t flood_size(uint32_t count)
{
    if (count <= FLOOD_MAX || getenv("SUITE_FULL") != NULL)
        return count;
    printf("jwt: a flood of %u tokens is cut to %u (SUITE_FULL=1 sends all)\n", count, FLOOD_MAX);
    return FLOOD_MAX;
}

static bool do_flood(struct scenario *s, const json_t *step)
{
    const json_t *parts = json_object_get(step, "parts"), *good = json_object_get(step, "good");
    const json_t *expect = json_object_get(step, "expect");
    uint32_t count = flood_size(number(step, "count"));
    uint64_t from_ns = s->now_ns, span_ns = seconds_of(step, "over_s"), every = count * PST_NS_PER_S / (100 * span_ns + 1) + 1;
    uint32_t room = (uint32_t)(count / every + 2), n = 0;
    uint64_t *before = calloc(room, sizeof(*before)), *during = calloc(room, sizeof(*during));
    char text[16384];
    bool ok = true;

    for (uint32_t i = 0; json_array_size(good) > 0 && i < room; i++)
        before[i] = good_request(s, good, i);
    for (uint32_t i = 0; i < count && ok; i++) {
        if (i % every == 0) {
            advance(s, from_ns + (uint64_t)((double)span_ns * i / count));
            if (json_array_size(good) > 0 && (during[n++] = good_request(s, good, i / (uint32_t)every)) == 0)
                ok = fail_step(s, "a good token was refused during the flood");
        }
        struct result r = verify(&s->w, flood_token(s, parts, i, text, sizeof(text)), wall_s(s));
        if (r.accepted != is_word(expect, "accept"))
            ok = fail_step(s, "a token of the flood ended as %s (%s)", r.accepted ? "accept" : "reject",
                           pst_identity_reason_name(r.reason));
        if (r.refresh_issuer != PST_NO_ISSUER && s->jwks != NULL) {
            enum pst_status status = pst_jwks_want(s->jwks, r.refresh_issuer, pst_bytes_of(text, 200), BOOT0_NS + s->now_ns);
            (void)status; /* the flood does not wait */
        }
    }
    if (n > 0)
        s->p99_ratio = p99(during, n) / p99(before, n);
    free(before);
    free(during);
    return ok;
}

static long pages_now(void)
{
    long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL || fscanf(f, "%ld %ld", &all, &resident) != 2)
        abort();
    fclose(f);
    return resident;
}

static double since(const struct scenario *s, const json_t *step)
{
    (void)s;
    return json_number_value(json_object_get(step, "since")) * 1e9;
}

static double measure(struct scenario *s, const json_t *step, bool *known)
{
    const char *what = json_string_value(json_object_get(step, "what"));
    const char *issuer = json_string_value(json_object_get(step, "issuer")); /* NULL: any */
    double n = 0, from = since(s, step);

    *known = true;
    if (strcmp(what, "jwks_fetches") == 0) {
        for (const struct url *u = s->urls; u < s->urls + s->url_count; u++)
            for (uint32_t i = 0; i < u->fetches && (issuer == NULL || strcmp(issuer, u->issuer) == 0); i++)
                n += (double)u->fetched_ns[i] >= from;
        return n;
    }
    if (strcmp(what, "jwks_fetch_failures") == 0) {
        for (uint32_t i = 0; i < s->w.count && s->jwks != NULL; i++)
            n += (double)pst_jwks_stats(s->jwks, i, BOOT0_NS + s->now_ns).failures;
        return n;
    }
    if (strcmp(what, "jwks_fetch_seconds") == 0) {
        for (const struct url *u = s->urls; u < s->urls + s->url_count; u++)
            if ((issuer == NULL || strcmp(issuer, u->issuer) == 0) && (double)u->longest_ns / 1e9 > n)
                n = (double)u->longest_ns / 1e9;
        return n;
    }
    if (strcmp(what, "outgoing") == 0) {
        const char *to = json_string_value(json_object_get(step, "to"));
        for (uint32_t i = 0; i < s->outgoing_count; i++)
            n += (double)s->outgoing[i].ns >= from && strcmp(to, s->outgoing[i].to) == 0;
        return n; /* to "*" names all but configured URLs: the transport serves no others */
    }
    if (strcmp(what, "ready") == 0)
        return s->running && s->jwks != NULL && pst_jwks_ready(s->jwks);
    if (strcmp(what, "alarms") == 0) {
        for (uint32_t i = 0; i < s->alarms; i++)
            n += (double)s->alarms_ns[i] >= from;
        return n;
    }
    if (strcmp(what, "rss_growth_bytes") == 0) {
        uint32_t i = 0;
        while (i + 1 < s->rss_count && (double)s->rss[i + 1].at * 1e9 <= from)
            i++;
        return (double)(pages_now() - s->rss[i].pages) * (double)sysconf(_SC_PAGESIZE);
    }
    if (strcmp(what, "p99_ratio") == 0)
        return s->p99_ratio;
    if (strcmp(what, "cache_hits") == 0)
        return (double)(pst_token_cache_stats(s->w.cache).hits - s->hits_before);
    if (strcmp(what, "occurrences") == 0) {
        struct pst_bytes text = text_of(json_object_get(step, "text"));
        return memmem(s->log, s->log_len, text.ptr, text.len) != NULL;
    }
    *known = false;
    return 0;
}

static bool do_check(struct scenario *s, const json_t *step)
{
    bool known;
    double got = measure(s, step, &known), want = json_number_value(json_object_get(step, "value"));
    const json_t *op = json_object_get(step, "op");
    char text[64];

    (void)snprintf(text, sizeof(text), "%g, wanted %s %g", got, json_string_value(op), want);
    if (!known)
        return fail_step(s, "nothing here measures %s", json_string_value(json_object_get(step, "what")));
    if (is_word(op, "==") ? got == want : is_word(op, "<=") ? got <= want : got >= want)
        return true;
    return fail_step(s, "%s is %s", json_string_value(json_object_get(step, "what")), text);
}

static bool do_start(struct scenario *s, const json_t *step)
{
    const json_t *expect = json_object_get(step, "expect");
    uint32_t asked = s->outgoing_count;
    bool started = start(s, step);

    if (started ? expects(expect, "started") || expect == NULL : expects(expect, "refused"))
        return true;
    if (started && expects(expect, "no-fetch") && s->outgoing_count == asked)
        return true;
    return fail_step(s, "start was %s", started ? "accepted" : "refused");
}

/* SIGHUP: a new verifier over the slots that stay; caches go on and must not believe the old one. */
static bool do_reload(struct scenario *s, const json_t *step)
{
    const json_t *patch = json_object_get(step, "config"), *own = json_object_get(step, "keys");
    json_t *value;
    const char *name;
    struct pst_keyslot *gone[ISSUERS_MAX];
    uint32_t gone_count = 0;

    const json_t *base = json_object_get(s->meta, "config");
    json_decref(s->w.config);
    s->w.config = patch == NULL ? json_deep_copy(base) : merge_patch(base, patch);
    json_object_foreach((json_t *)(uintptr_t)own, name, value)
    {
        uint32_t i = 0;
        while (i < s->w.count && strcmp(s->w.issuers[i].name, name) != 0)
            i++;
        if (i < s->w.count && !json_is_null(value) && !s->w.issuers[i].by_url) {
            (void)json_object_set(s->w.keys, name, value);
            if (!load_issuer(&s->w, i))
                return fail_step(s, "the new keys were refused");
        } else if (i < s->w.count && json_is_null(value)) { /* the manager goes on writing to its slot */
            gone[gone_count++] = s->w.issuers[i].slot;
            memmove(&s->w.issuers[i], &s->w.issuers[i + 1], (s->w.count - i - 1) * sizeof(s->w.issuers[0]));
            s->w.count--;
        }
    }
    bool good = build_verifier(&s->w) == PST_OK;
    if (gone_count > 0) { /* sources are numbered by issuer: start the manager anew, as a reload does */
        pst_jwks_destroy(s->jwks);
        s->jwks = NULL;
    }
    while (gone_count > 0)
        pst_keyslot_destroy(gone[--gone_count]);
    return good || fail_step(s, "the new configuration was refused");
}

static bool run_step(struct scenario *s, const json_t *step)
{
    const char *word = json_string_value(json_object_get(step, "do"));
    const json_t *issuer = json_object_get(step, "issuer");

    if (strcmp(word, "request") == 0)
        return do_request(s, step);
    if (strcmp(word, "check") == 0)
        return do_check(s, step);
    if (strcmp(word, "flood") == 0)
        return do_flood(s, step);
    if (strcmp(word, "start") == 0)
        return do_start(s, step);
    if (strcmp(word, "reload") == 0)
        return do_reload(s, step);
    if (strcmp(word, "restart") == 0)
        return start(s, NULL) || fail_step(s, "restart failed");
    if (strcmp(word, "clock") == 0) {
        s->wall_step_s += (int64_t)json_number_value(json_object_get(step, "step_s"));
        return true;
    }
    if (strcmp(word, "resolve") == 0) { /* every URL of the cases stands on the issuer's own host */
        const char *host = json_string_value(json_object_get(step, "host"));
        const char *name;
        json_t *value;
        json_object_foreach(json_object_get(json_object_get(s->meta, "config"), "jwks_urls"), name, value)
            if (strstr(json_string_value(value), host) != NULL)
                url_of(s, name)->resolve = json_object_get(step, "answers");
        return true;
    }
    struct url *u = url_of(s, json_string_value(issuer));
    u->answer = (json_t *)(uintptr_t)step;
    u->failing = strcmp(word, "fail_jwks") == 0;
    return true;
}

static bool run_scenario(const json_t *meta, const json_t *c)
{
    static struct scenario s;
    const json_t *steps = json_object_get(c, "steps");
    bool good = true, has_start = false;
    size_t i;
    json_t *step;

    memset(&s, 0, sizeof(s));
    s.meta = meta;
    json_array_foreach(steps, i, step) has_start = has_start || is_word(json_object_get(step, "do"), "start");
    if (!has_start)
        good = start(&s, NULL);
    json_array_foreach(steps, i, step)
    {
        uint64_t at_ns = seconds_of(step, "at");
        if (good)
            advance(&s, at_ns);
        if (s.rss_count < 128) {
            s.rss[s.rss_count].at = (int64_t)json_number_value(json_object_get(step, "at"));
            s.rss[s.rss_count++].pages = pages_now();
        }
        good = good && run_step(&s, step);
        if (!good) {
            printf("jwt_cases.json: FAIL %s: step %zu (%s at %g): %s\n", tally_text(c, "id"), i,
                   json_string_value(json_object_get(step, "do")), json_number_value(json_object_get(step, "at")), s.why);
            break;
        }
    }
    stop(&s);
    return good;
}

#endif
