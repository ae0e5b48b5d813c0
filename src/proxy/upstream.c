/*
 * An endpoint is one address (after the workspace was put in); its leases are its connections.
 *
 * I1  A lease is in the idle list exactly while nobody borrows it, and then requests == answers.
 * I2  `ready` is called at most once per pending lease, never from inside pst_pools_lease.
 * I3  An endpoint is freed only without leases, waiters and a running look-up.
 */
#include "postern/proxy/upstream.h"

#include <assert.h>
#include <stdlib.h>

#include "postern/base/hash.h"
#include "postern/base/secret.h"
#include "postern/net/resolver.h"

#define BUCKETS          1024
#define ENDPOINTS_MAX    4096
#define KEY_MAX          300
#define MAX_AGE_NS       (300 * PST_NS_PER_S)
#define RESOLVE_AGAIN_NS (30 * PST_NS_PER_S)
#define RESOLVE_RETRY_NS (2 * PST_NS_PER_S)
#define FORGET_NS        (600 * PST_NS_PER_S)
#define FAILURES_MAX     5
#define REST_MIN_NS      (1 * PST_NS_PER_S)
#define REST_MAX_NS      (30 * PST_NS_PER_S)

struct pst_endpoint {
    struct pst_pools *pools;
    struct pst_endpoint *next; /* in its bucket */
    struct pst_list idle;      /* of leases, the youngest first */
    struct pst_list waiting;   /* of borrowers, for a name to be resolved */
    uint64_t used_ns, resolve_again_ns, rest_until_ns, rest_ns;
    struct pst_lookup lookup;
    uint32_t leases, idle_count, failures;
    bool probing, is_name;
    uint8_t address_count, address_next;
    struct pst_address addresses[PST_LOOKUP_ADDRESSES];
    uint16_t port;
    size_t key_len, host_len, authority_len;
    char key[KEY_MAX + 1], host[256], authority[KEY_MAX];
};

struct pst_pools {
    struct pst_worker *worker;
    struct pst_metrics *metrics;
    struct pst_resolver *resolver;
    struct pst_hash_key hash_key;
    struct pst_ticker ticker;
    uint32_t endpoints, idle, busy;
    struct pst_endpoint *last; /* that was asked for: nearly always this one again; may be NULL */
    struct pst_endpoint *buckets[BUCKETS];
};

static void gauge(struct pst_pools *pools)
{
    atomic_store_explicit(&pools->metrics->upstream_idle, pools->idle, memory_order_relaxed);
    atomic_store_explicit(&pools->metrics->upstream_busy, pools->busy, memory_order_relaxed);
}

struct pst_bytes pst_endpoint_authority(const struct pst_endpoint *endpoint)
{
    return pst_bytes_of(endpoint->authority, endpoint->authority_len);
}

/* ---- one connection ---- */

static void free_lease(struct pst_grave *grave)
{
    free(pst_container_of(grave, struct pst_loan, grave_));
}

static void end_lease(struct pst_loan *lease)
{
    struct pst_pools *pools = lease->pools_;

    if (lease->node_.next != NULL) {
        pst_list_remove(&lease->node_);
        lease->node_.next = NULL;
        lease->endpoint->idle_count--;
        pools->idle--;
    } else {
        pools->busy--;
    }
    lease->borrower_ = NULL;
    lease->endpoint->probing = false;     /* whatever became of it: another may probe */
    pst_stream_take_back(&lease->stream); /* nobody waits for the answer */
    pst_stream_close(&lease->stream);
    lease->endpoint->leases--;
    gauge(pools);
    pst_worker_bury(pools->worker, &lease->grave_, free_lease);
}

static void count_failure(struct pst_endpoint *e)
{
    pst_count(&e->pools->metrics->upstream_failures, 1);
    e->probing = false;
    if (++e->failures < FAILURES_MAX)
        return;
    e->rest_ns = e->rest_ns == 0                ? REST_MIN_NS
                 : e->rest_ns * 2 > REST_MAX_NS ? REST_MAX_NS
                                                : e->rest_ns * 2;
    e->rest_until_ns = pst_worker_now(e->pools->worker) + e->rest_ns;
}

static void on_lease_readable(struct pst_stream *stream)
{
    struct pst_loan *lease = pst_container_of(stream, struct pst_loan, stream);

    if (lease->borrower_ == NULL)
        end_lease(lease); /* a byte, or the end, that nobody asked for */
    else
        lease->borrower_->readable(lease->borrower_);
}

static void on_lease_drained(struct pst_stream *stream)
{
    struct pst_loan *lease = pst_container_of(stream, struct pst_loan, stream);

    if (lease->borrower_ != NULL)
        lease->borrower_->drained(lease->borrower_);
}

static void on_lease_connected(struct pst_stream *stream);

static const struct pst_stream_ops lease_ops = {on_lease_readable, on_lease_drained,
                                                on_lease_connected};

/* Goes through the addresses until a connect is under way. */
static enum pst_status connect_next(struct pst_loan *lease)
{
    struct pst_endpoint *e = lease->endpoint;

    while (lease->tries_ < e->address_count) {
        const struct pst_address *address =
            &e->addresses[(e->address_next + lease->tries_++) % e->address_count];
        enum pst_status status =
            pst_stream_connect(&lease->stream, e->pools->worker, &lease_ops, address);
        lease->peer_ = *address;
        if (status == PST_OK || status == PST_PENDING)
            return status;
    }
    return PST_E_IO;
}

static void on_lease_connected(struct pst_stream *stream)
{
    struct pst_loan *lease = pst_container_of(stream, struct pst_loan, stream);
    struct pst_borrower *borrower = lease->borrower_;
    enum pst_status status = PST_OK;

    if (stream->broken) {
        pst_stream_close(stream);
        status = connect_next(lease);
        if (status == PST_PENDING)
            return;
    }
    borrower->connecting_ = NULL;
    if (status == PST_OK) {
        borrower->ready(borrower, lease, PST_OK);
        return;
    }
    lease->endpoint->address_next++;
    count_failure(lease->endpoint);
    end_lease(lease);
    borrower->ready(borrower, NULL, PST_E_IO);
}

static enum pst_status open_lease(struct pst_endpoint *e, struct pst_borrower *borrower,
                                  struct pst_loan **out)
{
    struct pst_pools *pools = e->pools;
    struct pst_loan *lease = calloc(1, sizeof(*lease));

    if (lease == NULL)
        return PST_E_NOMEM;
    lease->pools_ = pools;
    lease->endpoint = e;
    lease->borrower_ = borrower;
    lease->born_ns_ = pst_worker_now(pools->worker);
    lease->max_idle_ = borrower->max_idle_;
    lease->idle_s_ = borrower->idle_s_;
    enum pst_status status = connect_next(lease);
    if (status != PST_OK && status != PST_PENDING) {
        e->address_next++;
        count_failure(e);
        free(lease);
        return status;
    }
    pst_count(&pools->metrics->upstream_connects, 1);
    e->leases++;
    pools->busy++;
    gauge(pools);
    if (status == PST_PENDING)
        borrower->connecting_ = lease;
    else
        *out = lease;
    return status;
}

static struct pst_loan *take_idle(struct pst_endpoint *e, struct pst_borrower *borrower)
{
    uint64_t now_ns = pst_worker_now(e->pools->worker);

    while (!pst_list_empty(&e->idle)) {
        struct pst_loan *lease = pst_container_of(e->idle.next, struct pst_loan, node_);
        /* Bytes that the loop has seen but not delivered yet were sent before the request: no
         * answer. */
        if (now_ns >= lease->idle_until_ns_ || pst_stream_has_news(&lease->stream)) {
            end_lease(lease);
            continue;
        }
        pst_list_remove(&lease->node_);
        lease->node_.next = NULL;
        e->idle_count--;
        e->pools->idle--;
        e->pools->busy++;
        lease->borrower_ = borrower;
        lease->reused = true;
        lease->max_idle_ = borrower->max_idle_;
        lease->idle_s_ = borrower->idle_s_;
        pst_count(&e->pools->metrics->upstream_reuses, 1);
        return lease;
    }
    return NULL;
}

/* False when the name leads elsewhere by now. */
static bool is_current(const struct pst_loan *lease)
{
    const struct pst_endpoint *e = lease->endpoint;

    for (uint8_t i = 0; e->is_name && i < e->address_count; i++)
        if (e->addresses[i].len == lease->peer_.len &&
            memcmp(&e->addresses[i].sa, &lease->peer_.sa, lease->peer_.len) == 0)
            return true;
    return !e->is_name;
}

void pst_loan_release(struct pst_loan *lease, bool keep)
{
    struct pst_endpoint *e = lease->endpoint;
    struct pst_stream *s = &lease->stream;
    uint64_t now_ns = pst_worker_now(lease->pools_->worker);

    if (!keep || lease->requests != lease->answers || s->eof || s->broken || s->send_broken ||
        s->connecting || pst_stream_in(s).len > 0 || s->out.data != NULL ||
        e->idle_count >= lease->max_idle_ || now_ns - lease->born_ns_ > MAX_AGE_NS ||
        !is_current(lease)) {
        end_lease(lease);
        return;
    }
    lease->borrower_ = NULL;
    lease->idle_until_ns_ = now_ns + lease->idle_s_ * PST_NS_PER_S;
    if (s->paused)
        pst_stream_resume(s);
    pst_list_prepend(&e->idle, &lease->node_);
    e->idle_count++;
    lease->pools_->idle++;
    lease->pools_->busy--;
}

void pst_loan_fail(struct pst_loan *lease, bool blame)
{
    if (blame)
        count_failure(lease->endpoint);
    end_lease(lease);
}

void pst_loan_succeed(struct pst_loan *lease)
{
    lease->endpoint->failures = 0;
    lease->endpoint->rest_ns = 0;
    lease->endpoint->probing = false;
}

/* ---- names ---- */

static void wake_waiting(struct pst_endpoint *e)
{
    struct pst_list batch;

    pst_list_init(&batch);
    pst_list_take(&batch, &e->waiting);
    while (!pst_list_empty(&batch)) {
        struct pst_borrower *borrower = pst_container_of(batch.next, struct pst_borrower, wait_);
        struct pst_loan *lease = NULL;
        enum pst_status status = PST_E_IO;

        pst_list_remove(&borrower->wait_);
        borrower->wait_.next = NULL;
        if (e->address_count > 0)
            status = open_lease(e, borrower, &lease);
        if (status != PST_PENDING)
            borrower->ready(borrower, lease, status);
    }
}

static void close_outdated(struct pst_endpoint *e)
{
    struct pst_list *at = e->idle.next;

    while (at != &e->idle) {
        struct pst_loan *lease = pst_container_of(at, struct pst_loan, node_);
        at = at->next;
        if (!is_current(lease))
            end_lease(lease);
    }
}

static void on_resolved(struct pst_lookup *lookup, const struct pst_address *addresses,
                        uint8_t count)
{
    struct pst_endpoint *e = pst_container_of(lookup, struct pst_endpoint, lookup);
    uint64_t now_ns = pst_worker_now(e->pools->worker);

    if (count > 0) {
        memcpy(e->addresses, addresses, count * sizeof(*addresses));
        e->address_count = count;
        close_outdated(e);
    }
    e->resolve_again_ns = now_ns + (count > 0 ? RESOLVE_AGAIN_NS : RESOLVE_RETRY_NS);
    wake_waiting(e);
}

/* ---- endpoints ---- */

static bool is_safe_name(struct pst_bytes name)
{
    if (name.len == 0 || name.len > 63)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
              c == '-' || c == '_'))
            return false;
    }
    return true;
}

/* The address of this workspace; a name that could change the address's meaning is no name. */
static bool write_key(const struct pst_upstream_config *config, struct pst_bytes workspace,
                      struct pst_buf *out)
{
    static const char mark[] = "{workspace}";
    struct pst_bytes rest = config->address;

    for (uint32_t i = 0; i < config->workspace_count; i++)
        if (pst_bytes_equal(config->workspaces[i].workspace, workspace)) {
            pst_buf_put(out, config->workspaces[i].address);
            return !out->full;
        }
    while (rest.len > 0) {
        size_t brace = pst_bytes_find(rest, '{');
        pst_buf_put(out, pst_bytes_of(rest.ptr, brace));
        rest = pst_bytes_from(rest, brace);
        if (rest.len == 0)
            break;
        if (!pst_bytes_starts(rest, pst_bytes_of(mark, sizeof(mark) - 1)) ||
            !is_safe_name(workspace))
            return false;
        pst_buf_put(out, workspace);
        rest = pst_bytes_from(rest, sizeof(mark) - 1);
    }
    return !out->full;
}

static enum pst_status make_endpoint(struct pst_pools *pools, struct pst_bytes key,
                                     struct pst_endpoint **out)
{
    struct pst_address address;
    struct pst_host_port parts;
    enum pst_status status = pst_address_parse(key, &address, &parts);

    if (status != PST_OK)
        return status;
    if (pools->endpoints >= ENDPOINTS_MAX)
        return PST_E_LIMIT;
    struct pst_endpoint *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return PST_E_NOMEM;
    e->pools = pools;
    e->lookup.done = on_resolved;
    pst_list_init(&e->idle);
    pst_list_init(&e->waiting);
    memcpy(e->key, key.ptr, key.len);
    e->key_len = key.len;
    e->is_name = parts.is_name;
    e->port = parts.port;
    memcpy(e->host, parts.host.ptr == NULL ? "" : parts.host.ptr, parts.host.len);
    e->host_len = parts.host.len;
    if (!parts.is_name) {
        e->addresses[0] = address;
        e->address_count = 1;
    }
    struct pst_bytes authority = address.sa.any.sa_family == AF_UNIX ? PST_LIT("localhost") : key;
    if (authority.len > 3 && memcmp(authority.ptr + authority.len - 3, ":80", 3) == 0)
        authority.len -= 3;
    memcpy(e->authority, authority.ptr, authority.len);
    e->authority_len = authority.len;
    pools->endpoints++;
    *out = e;
    return PST_OK;
}

static bool has_key(const struct pst_endpoint *e, struct pst_bytes key)
{
    return pst_bytes_equal(pst_bytes_of(e->key, e->key_len), key);
}

static enum pst_status find_endpoint(struct pst_pools *pools,
                                     const struct pst_upstream_config *config,
                                     struct pst_bytes workspace, struct pst_endpoint **out)
{
    char space[KEY_MAX];
    struct pst_buf key = pst_buf_of(space, sizeof(space));

    *out = pools->last;
    if (*out != NULL && config->workspace_count == 0 && has_key(*out, config->address))
        return PST_OK; /* an address that is a key has no workspace in it */
    if (!write_key(config, workspace, &key))
        return PST_E_INVALID;
    if (*out != NULL && has_key(*out, pst_buf_bytes(&key)))
        return PST_OK;
    struct pst_endpoint **bucket =
        &pools->buckets[pst_hash(&pools->hash_key, pst_buf_bytes(&key)) % BUCKETS];
    for (*out = *bucket; *out != NULL && !has_key(*out, pst_buf_bytes(&key)); *out = (*out)->next)
        continue;
    if (*out == NULL) {
        enum pst_status status = make_endpoint(pools, pst_buf_bytes(&key), out);
        if (status != PST_OK)
            return status;
        (*out)->next = *bucket;
        *bucket = *out;
    }
    pools->last = *out;
    return PST_OK;
}

static void free_endpoint(struct pst_endpoint *e)
{
    pst_lookup_cancel(&e->lookup);
    if (e->pools->last == e)
        e->pools->last = NULL;
    e->pools->endpoints--;
    free(e);
}

/* ---- lending ---- */

/* After a row of failures one request probes the address, the others are told to come later. */
static bool may_try(struct pst_endpoint *e, uint64_t now_ns)
{
    if (e->failures < FAILURES_MAX)
        return true;
    if (now_ns < e->rest_until_ns || e->probing)
        return false;
    e->probing = true;
    return true;
}

enum pst_status pst_pools_lease(struct pst_pools *pools, const struct pst_upstream_config *config,
                                struct pst_bytes workspace, bool fresh,
                                struct pst_borrower *borrower, struct pst_loan **out)
{
    struct pst_endpoint *e = NULL;
    uint64_t now_ns = pst_worker_now(pools->worker);

    *out = NULL;
    enum pst_status status = find_endpoint(pools, config, workspace, &e);
    if (status != PST_OK)
        return status;
    if (!may_try(e, now_ns))
        return PST_E_BUSY;
    e->used_ns = now_ns;
    borrower->endpoint_ = e;
    borrower->max_idle_ = config->max_idle;
    borrower->idle_s_ = config->idle_s;
    if (e->is_name && !pst_lookup_running(&e->lookup) && now_ns >= e->resolve_again_ns &&
        pst_lookup_start(pools->resolver, &e->lookup, e->host, e->port) != PST_OK)
        e->resolve_again_ns = now_ns + RESOLVE_RETRY_NS;
    if (!fresh)
        *out = take_idle(e, borrower);
    if (*out != NULL)
        return PST_OK;
    if (e->address_count > 0)
        return open_lease(e, borrower, out);
    e->probing = e->probing && pst_lookup_running(&e->lookup);
    if (!pst_lookup_running(&e->lookup))
        return PST_E_IO; /* the name was not found a moment ago */
    pst_list_append(&e->waiting, &borrower->wait_);
    return PST_PENDING;
}

void pst_pools_cancel(struct pst_borrower *borrower, bool blame)
{
    struct pst_loan *lease = borrower->connecting_;

    if (borrower->wait_.next != NULL) {
        pst_list_remove(&borrower->wait_);
        borrower->wait_.next = NULL;
        if (blame)
            count_failure(borrower->endpoint_);
        else
            borrower->endpoint_->probing = false;
    }
    borrower->connecting_ = NULL;
    if (lease == NULL)
        return;
    pst_loan_fail(lease, blame);
}

static void close_idle(struct pst_endpoint *e, uint64_t now_ns)
{
    struct pst_list *at = e->idle.prev;

    while (at !=
           &e->idle) { /* oldest first; the young ones behind them may be shorter-lived by config */
        struct pst_loan *lease = pst_container_of(at, struct pst_loan, node_);
        at = at->prev;
        if (now_ns >= lease->idle_until_ns_ || now_ns - lease->born_ns_ > MAX_AGE_NS)
            end_lease(lease);
    }
}

static void on_second(struct pst_ticker *ticker)
{
    struct pst_pools *pools = pst_container_of(ticker, struct pst_pools, ticker);
    uint64_t now_ns = pst_worker_now(pools->worker);

    if (pools->endpoints == 0)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        struct pst_endpoint **link = &pools->buckets[i];
        while (*link != NULL) {
            struct pst_endpoint *e = *link;
            close_idle(e, now_ns);
            if (e->leases == 0 && pst_list_empty(&e->waiting) && !pst_lookup_running(&e->lookup) &&
                now_ns - e->used_ns > FORGET_NS) {
                *link = e->next;
                free_endpoint(e);
            } else {
                link = &e->next;
            }
        }
    }
    gauge(pools);
}

void pst_pools_close_idle(struct pst_pools *pools)
{
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct pst_endpoint *e = pools->buckets[i]; e != NULL; e = e->next)
            close_idle(e, UINT64_MAX);
}

enum pst_status pst_pools_create(struct pst_worker *worker, struct pst_metrics *metrics,
                                 struct pst_pools **out)
{
    struct pst_pools *pools = calloc(1, sizeof(*pools));

    *out = NULL;
    if (pools == NULL || pst_resolver_create(worker, &pools->resolver) != PST_OK) {
        free(pools);
        return PST_E_NOMEM;
    }
    *out = pools;
    pools->worker = worker;
    pools->metrics = metrics;
    pools->hash_key = pst_random_hash_key();
    pools->ticker.tick = on_second;
    pst_worker_add_ticker(worker, &pools->ticker);
    return PST_OK;
}

void pst_pools_destroy(struct pst_pools *pools)
{
    if (pools == NULL)
        return;
    pst_worker_remove_ticker(&pools->ticker);
    pst_pools_close_idle(pools);
    for (uint32_t i = 0; i < BUCKETS; i++)
        while (pools->buckets[i] != NULL) {
            struct pst_endpoint *e = pools->buckets[i];
            assert(e->leases == 0);
            pools->buckets[i] = e->next;
            free_endpoint(e);
        }
    pst_resolver_destroy(pools->resolver);
    free(pools);
}
