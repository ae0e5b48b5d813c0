/*
 * Following the log.
 *
 *   tick, notice, demand  -> read()    one at a time; the service's thread answers by message
 *   took(reply)           -> apply(batch); mark = head; lease = sent; `again` -> read(), in time
 *
 * Invariants
 *   I1  `mark` is the last row whose batch was applied: a batch that failed comes again
 *   I2  the lease is written last, and holds the instant before the read was sent
 *   I3  model and keys of one batch come from one view of the database (service.c)
 */
#include "postern/sync/tail.h"

#include <stdlib.h>

#define RETRY_NS PST_NS_PER_S        /* a model that does not compile is not loaded at every turn */
#define PACE_NS  (5 * PST_NS_PER_MS) /* of reads for notices: many changes share one */
#define ANEW_NS  (250 * PST_NS_PER_MS) /* pace of reads while there is nothing to decide by */

struct pst_tail {
    struct pst_tail_config config;
    struct pst_log_mark mark;
    uint64_t bound_ns;
    uint64_t wanted_ns;      /* what it would be if the node's row said so; 0: not known yet */
    uint64_t given_bound_ns; /* 0: the database's */
    uint64_t poll_ns;
    uint64_t sent_ns;  /* before the last read was asked for */
    uint64_t retry_ns; /* after a batch that could not be applied: not before */
    uint64_t demanded_ns;
    bool reading, again, key_known;
    bool void_reading; /* the read that is under way gives no lease */
    bool stopped;
    struct event *pace; /* set: a read for notices comes with it */
    struct pst_lease lease;
    struct { /* written by the tail's thread, read by any */
        _Atomic uint64_t reads, reloads, batches, histories, failures, change_ns, log_rows;
    } stats;
};

struct reply_message {
    struct pst_message message; /* first */
    struct pst_tail *tail;
    struct pst_log_reply reply;
};

static void read_log(struct pst_tail *t);
static void on_pace(evutil_socket_t fd, short what, void *arg);

enum pst_status pst_tail_create(const struct pst_tail_config *config, struct pst_tail **out)
{
    *out = NULL;
    if (config->apply == NULL || config->service == NULL || config->worker == NULL ||
        (config->node.len > 0 && (config->registers == NULL || config->unlisted == NULL)))
        return PST_E_INVALID;
    struct pst_tail *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return PST_E_NOMEM;
    t->config = *config;
    if (t->config.now_ns == NULL)
        t->config.now_ns = pst_clock_boot_ns;
    t->pace = evtimer_new(config->worker->base, on_pace, t);
    if (t->pace == NULL) {
        free(t);
        return PST_E_NOMEM;
    }
    *out = t;
    return PST_OK;
}

void pst_tail_resume(struct pst_tail *tail, const struct pst_log_mark *mark)
{
    tail->mark = *mark;
}

struct pst_log_mark pst_tail_mark(const struct pst_tail *tail)
{
    return tail->mark;
}

void pst_tail_destroy(struct pst_tail *tail)
{
    if (tail == NULL)
        return;
    event_free(tail->pace);
    free(tail);
}

static void move_lease(struct pst_tail *t, uint64_t sent_ns)
{
    struct pst_lease *l = &t->lease;

    atomic_store_explicit(&l->bound_ns, t->bound_ns, memory_order_relaxed);
    atomic_store_explicit(&l->applied_n, t->mark.revision.n, memory_order_relaxed);
    atomic_store_explicit(&l->epoch, t->mark.revision.epoch, memory_order_relaxed);
    /* Pairs with the acquire of pst_lease_holds: who sees this start sees what was applied. */
    atomic_store_explicit(&l->start_ns, sent_ns, memory_order_release);
}

static uint64_t shorter(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

/* One value for the fleet; a node may be stricter for itself, never laxer. */
static uint64_t wanted_of(const struct pst_tail *t, const struct pst_log_page *page)
{
    uint64_t bound_ns = page->max_staleness_s * PST_NS_PER_S;

    return t->given_bound_ns != 0 ? shorter(bound_ns, t->given_bound_ns) : bound_ns;
}

/* A barrier waits for what the row says, or the fleet's B when that is longer: which may have been
 * made shorter again by then, so a longer one is not used before it stands there. */
static uint64_t bound_of(const struct pst_tail *t, const struct pst_log_page *page)
{
    uint64_t wanted_ns = wanted_of(t, page);

    return t->config.node.len == 0 ? wanted_ns
                                   : shorter(wanted_ns, page->node_bound_ms * PST_NS_PER_MS);
}

static bool listed(const struct pst_tail *t, const struct pst_log_page *page)
{
    return t->config.node.len == 0 || page->node_bound_ms > 0;
}

static enum pst_status apply_reply(struct pst_tail *t, struct pst_log_reply *reply)
{
    const struct pst_log_page *page = &reply->page;
    struct pst_tail_batch batch = {
        .revision = page->head.revision,
        .new_history = !page->proved,
        .model = reply->model,
        .whole = reply->whole,
        .fleet_key = reply->has_key ? reply->fleet_key : NULL,
        .all_users = page->all,
        .keys = page->all ? NULL : page->keys,
        .key_count = page->all ? 0 : page->key_count,
        .lease_start_ns = t->sent_ns,
        .bound_ns = bound_of(t, page),
    };

    t->stats.reloads += batch.model != NULL;
    enum pst_status status = t->config.apply(t->config.ctx, &batch, &reply->error);
    if (status != PST_OK) {
        t->retry_ns = t->sent_ns + RETRY_NS;
        return status;
    }
    if (batch.new_history && t->mark.revision.epoch != 0)
        t->stats.histories++;
    if (batch.model != NULL || batch.key_count > 0 || batch.all_users) {
        t->stats.batches++;
        atomic_store_explicit(&t->stats.change_ns, pst_clock_boot_ns() - reply->read_ns,
                              memory_order_relaxed);
    }
    atomic_store_explicit(&t->stats.log_rows,
                          page->oldest_n == 0 ? 0 : page->head.revision.n - page->oldest_n + 1,
                          memory_order_relaxed);
    t->retry_ns = 0;
    t->key_known = t->key_known || reply->has_key;
    t->mark = page->head;
    t->bound_ns = batch.bound_ns;
    t->wanted_ns = wanted_of(t, page);
    move_lease(t, t->sent_ns);
    return PST_OK;
}

static enum pst_status patch(const struct pst_tail_batch *batch, const struct pst_policy *base,
                             struct pst_policy **out, struct pst_error *error)
{
    struct pst_policy_patch p = {.model = batch->model};
    uint32_t *ids = calloc(batch->key_count + 1, sizeof(*ids));

    if (ids == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    for (size_t i = 0; i < batch->key_count; i++) {
        if (batch->keys[i].kind == PST_LOG_ROLE)
            ids[p.touched_count++] = (uint32_t)batch->keys[i].id;
        p.workspaces = p.workspaces || batch->keys[i].kind == PST_LOG_WORKSPACE;
    }
    p.touched = ids;
    enum pst_status status = pst_policy_patch(base, &p, out, error);
    free(ids);
    return status;
}

enum pst_status pst_tail_compile(const struct pst_tail_batch *batch, const struct pst_policy *base,
                                 struct pst_policy **out, struct pst_error *error)
{
    enum pst_status status;

    *out = NULL;
    if (batch->whole)
        status = pst_policy_compile(batch->model, out, error);
    else if (base != NULL)
        status = patch(batch, base, out, error);
    else
        status = pst_error_set(error, PST_E_INVALID, NULL, "a part of a policy without the rest");
    pst_store_free_model(batch->model);
    return status;
}

static void drop_reply(struct pst_log_reply *reply)
{
    if (reply->status != PST_OK)
        return;
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);
}

/* Somebody could still decide from memory, and nothing keeps us from reading. */
static bool may_read(const struct pst_tail *t)
{
    uint64_t now = t->config.now_ns();

    return !t->reading && now >= t->retry_ns && pst_lease_holds(&t->lease, now);
}

/* For a notice: not sooner behind the read before than PACE_NS. */
static void read_paced(struct pst_tail *t)
{
    uint64_t since_ns = t->config.now_ns() - t->sent_ns;
    uint64_t rest_ns = since_ns < PACE_NS ? PACE_NS - since_ns : 0;
    const struct timeval rest = {.tv_usec = (suseconds_t)(rest_ns / 1000)};

    if (rest_ns == 0 || evtimer_add(t->pace, &rest) != 0)
        read_log(t);
}

static void on_pace(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    if (may_read(arg))
        read_log(arg);
}

static void on_reply(struct pst_worker *worker, struct pst_message *message)
{
    struct reply_message *m = (struct reply_message *)(void *)message;
    struct pst_tail *t = m->tail;
    enum pst_status status = m->reply.status;

    (void)worker;
    t->reading = false;
    if (t->void_reading) { /* the next one will do */
        t->void_reading = false;
        drop_reply(&m->reply);
        free(m);
        read_log(t);
        return;
    }
    if (status == PST_OK && !listed(t, &m->reply.page)) {
        drop_reply(&m->reply);
        free(m);
        t->config.unlisted(t->config.ctx);
        return;
    }
    t->demanded_ns = 0;
    if (status == PST_OK) {
        status = apply_reply(t, &m->reply);
        pst_log_page_fini(&m->reply.page);
    }
    t->stats.failures += status != PST_OK;
    if (t->again && status == PST_OK)
        read_paced(t);
    if (t->config.ended != NULL)
        t->config.ended(t->config.ctx, status, &m->reply.error);
    free(m);
}

/* On a thread of the service. */
static void deliver(void *ctx, struct pst_log_reply *reply)
{
    struct reply_message *m = ctx;

    m->reply = *reply;
    pst_worker_send(m->tail->config.worker, &m->message);
}

/* What need not be read again; behind a batch that could not be applied, nothing is taken for
 * known. */
static const struct pst_policy *known(const struct pst_tail *t)
{
    return t->config.base == NULL || t->retry_ns != 0 ? NULL : t->config.base(t->config.ctx);
}

static void read_log(struct pst_tail *t)
{
    /* Taken before the question goes out: an answer must not be lost for want of memory. */
    struct reply_message *m = t->stopped ? NULL : calloc(1, sizeof(*m));

    if (m == NULL)
        return; /* at the next tick */
    m->message.run = on_reply;
    m->tail = t;
    t->sent_ns = t->config.now_ns();
    struct pst_log_request request = {
        .since = t->mark,
        .node = t->config.node,
        .base = known(t),
        .want_key = !t->key_known,
        .registers = t->config.node.len == 0 ? NULL : t->config.registers(t->config.ctx),
        .deadline_ns = pst_clock_boot_ns() + PST_LEASE_WAIT_NS,
        .deliver = deliver,
        .ctx = m,
    };
    if (pst_service_log(t->config.service, &request) != PST_PENDING) {
        free(m);
        return;
    }
    t->reading = true;
    t->again = false;
    t->stats.reads++;
}

void pst_tail_set_bound(struct pst_tail *tail, uint64_t bound_ns)
{
    tail->given_bound_ns = bound_ns;
    pst_tail_notice(tail); /* the workers learn it with the next batch */
}

void pst_tail_set_poll(struct pst_tail *tail, uint64_t every_ns)
{
    tail->poll_ns = every_ns;
}

void pst_tail_tick(struct pst_tail *t, bool at_work)
{
    uint64_t now = t->config.now_ns();
    uint64_t start = atomic_load_explicit(&t->lease.start_ns, memory_order_relaxed);

    if (t->reading || now < t->retry_ns)
        return;
    if (start == 0) { /* nothing to decide by, and nobody who asks, before the first batch */
        if (t->sent_ns == 0 || now - t->sent_ns >= ANEW_NS)
            read_log(t);
        return;
    }
    if (!at_work || now - t->sent_ns < PST_TICK_NS / 5)
        return;
    if (now - start >= t->bound_ns / 2 || (t->poll_ns != 0 && now - t->sent_ns >= t->poll_ns))
        read_log(t);
}

void pst_tail_notice(struct pst_tail *t)
{
    if (t->reading)
        t->again = true;
    else if (!evtimer_pending(t->pace, NULL) && may_read(t))
        read_paced(t);
}

void pst_tail_demand(struct pst_tail *t)
{
    if (t->demanded_ns == 0)
        t->demanded_ns = t->config.now_ns();
    if (!t->reading && t->config.now_ns() >= t->retry_ns) /* else: who waits is refused in time */
        read_log(t);
}

void pst_tail_drop_lease(struct pst_tail *t)
{
    if (atomic_load_explicit(&t->lease.start_ns, memory_order_relaxed) != 0)
        atomic_store_explicit(&t->lease.start_ns, 1, memory_order_release);
    t->void_reading = t->reading; /* what it proves was asked for before */
}

void pst_tail_stop(struct pst_tail *t)
{
    t->stopped = true;
}

bool pst_tail_reading(const struct pst_tail *t)
{
    return t->reading;
}

uint64_t pst_tail_demanded_since(const struct pst_tail *t)
{
    return t->demanded_ns;
}

uint64_t pst_tail_wanted_bound(const struct pst_tail *t)
{
    return t->wanted_ns;
}

const struct pst_lease *pst_tail_lease(const struct pst_tail *tail)
{
    return &tail->lease;
}

struct pst_tail_stats pst_tail_stats(const struct pst_tail *tail)
{
    return (struct pst_tail_stats){
        .reads = atomic_load_explicit(&tail->stats.reads, memory_order_relaxed),
        .reloads = atomic_load_explicit(&tail->stats.reloads, memory_order_relaxed),
        .batches = atomic_load_explicit(&tail->stats.batches, memory_order_relaxed),
        .histories = atomic_load_explicit(&tail->stats.histories, memory_order_relaxed),
        .failures = atomic_load_explicit(&tail->stats.failures, memory_order_relaxed),
        .log_rows = atomic_load_explicit(&tail->stats.log_rows, memory_order_relaxed),
        .change_ns = atomic_load_explicit(&tail->stats.change_ns, memory_order_relaxed),
    };
}
