/*
 * This node among others: it is registered before it may decide, reports what it has applied, hears
 * from Redis that something changed, and sends heartbeats when nobody else does.
 *
 *   awake    registered, and may hold a lease
 *   asleep   its row says that it decides nothing from memory (bound 0): nobody waits for it, and
 * the database hears nothing of it.  The next read of the log registers it first.
 *
 * I1  A lease is never younger than the registration: the service registers, commits, and only then
 *     reads the log (C9).
 *     Each read shows the row, too: when somebody took it away it is written anew before anything
 *     is decided by that read.
 * I2  The row's bound is at least as long as any that a worker may decide under: the tail uses no
 *     longer one than it has read there.
 * I3  The row says "asleep" only after every lease has ended; the service does what is posted
 * first.  What a connection that was given up still carries may arrive long after: when that may be
 * word that we are asleep, we go on under another name, in a row of which no such word was sent.
 */
#include "control_internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/base/secret.h"

#define POLL_NS         (500 * PST_NS_PER_MS) /* of a node at work that hears no heartbeats */
#define REPORT_EVERY_NS (10 * PST_NS_PER_S)
#define REPORT_PACE_NS  (20 * PST_NS_PER_MS)
#define REPORT_REST_NS  PST_NS_PER_S /* after one that failed */
#define LEAVE_NS        PST_NS_PER_S
#define CLAIM_TTL_MS    1500
#define CLAIM_AFTER_NS  PST_NS_PER_S /* without a heartbeat, and up to as much again by lot */

/* ---- the row ---- */

static void add_route(void *ctx, struct pst_bytes name)
{
    pst_node_routes_add(ctx, name);
}

static uint64_t exempt_routes(const struct pst_site *site, struct pst_buf *names)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < site->profile_count; i++)
        if (site->profiles[i].profile != NULL)
            count += pst_profile_exempt(site->profiles[i].profile, add_route, names);
    return count;
}

/* `routes` has room for PST_NODE_ROUTES_MAX bytes, which the row points to. */
static struct pst_node_row row_of(struct control *c, uint64_t bound_ns, char *routes)
{
    struct pst_buf names = pst_buf_of(routes, PST_NODE_ROUTES_MAX);
    uint64_t exempt = exempt_routes(c->setup->site, &names);
    const struct pst_lease *lease = pst_tail_lease(c->tail);
    uint64_t start = atomic_load_explicit(&lease->start_ns, memory_order_relaxed);
    uint64_t now = pst_clock_boot_ns();

    return (struct pst_node_row){
        .node = pst_bytes_of(c->fleet.node, c->fleet.node_len),
        .version = PST_LIT(PST_VERSION),
        .applied = c->fleet.taken,
        .lease_age_ms = start == 0 || now < start ? 0 : (now - start) / PST_NS_PER_MS,
        .bound_ms = bound_ns / PST_NS_PER_MS,
        .exempt = exempt,
        .routes = pst_buf_bytes(&names),
        .draining = atomic_load_explicit(&c->draining, memory_order_relaxed),
    };
}

static uint64_t lease_bound(const struct control *c)
{
    return atomic_load_explicit(&pst_tail_lease(c->tail)->bound_ns, memory_order_relaxed);
}

/* What the row must say: a longer bound before it is used, a shorter one not while a worker may
 * still decide under the one before. */
static uint64_t bound_of(const struct control *c)
{
    uint64_t wanted_ns = pst_tail_wanted_bound(c->tail), used_ns = c->fleet.used_ns;

    return wanted_ns > used_ns ? wanted_ns : used_ns; /* 0: nobody has told it yet */
}

/* Of this process among those of its name. */
static void draw_digits(struct fleet *f)
{
    struct pst_buf b = pst_buf_of(f->node + f->node_len - PST_NODE_OWN_DIGITS, PST_NODE_OWN_DIGITS);
    uint32_t own;

    pst_random(&own, sizeof(own));
    pst_buf_hex(&b, own, PST_NODE_OWN_DIGITS);
}

/* No read of the log is under way, and calls have copies: nobody else looks at the name. */
static void take_another_name(struct fleet *f)
{
    memcpy(f->former, f->node, f->node_len);
    f->has_former = true;
    draw_digits(f);
    f->unsure = f->awake = false;
}

const struct pst_node_row *pst_fleet_registers(void *ctx)
{
    struct control *c = ctx;
    struct fleet *f = &c->fleet;

    if (f->awake && !f->dozing && !f->unsure)
        return NULL;
    if (f->unsure)
        take_another_name(f);
    f->registering = f->known = true;
    f->told_ns = f->used_ns = bound_of(c);
    f->row = row_of(c, f->told_ns, f->routes);
    return &f->row;
}

/* ---- calls to the database, one at a time ---- */

struct node_message {
    struct pst_message message; /* first */
    struct control *control;
    struct pst_node_reply reply;
    char node[PST_NODE_NAME_MAX]; /* of the row that is told, as */
    char routes[PST_NODE_ROUTES_MAX];
};

static void heartbeat(struct control *c, const struct pst_revision *head)
{
    struct fleet *f = &c->fleet;

    if (pst_feed_publish(f->feed, head->epoch, head->n, head->n, PST_FEED_HEARTBEAT) != PST_OK)
        f->unsent++;
}

/* Somebody took its row away: until it stands there again nobody waits for this node, so it must
 * not decide. */
void pst_fleet_unlisted(void *ctx)
{
    struct control *c = ctx;
    const struct pst_engine_news news = {.lease_start_ns = 1, .lease_bound_ns = 1};

    c->fleet.awake = c->fleet.registering = false;
    if (pst_control_tell_all(c, &news) != PST_OK)
        abort(); /* a lease that cannot be taken back is a promise that cannot be kept */
    pst_tail_drop_lease(c->tail);
    pst_tail_demand(c->tail);
}

/* That it sleeps may be written all the same, now or later. A lease that a read under way would
 * bring counts on that row, too. */
static void doubt_row(struct control *c)
{
    struct fleet *f = &c->fleet;

    f->unsure = true;
    if (f->registering) {
        f->registering = f->awake = false;
        pst_tail_drop_lease(c->tail);
    }
}

static void take_report(struct control *c, enum pst_status status)
{
    struct fleet *f = &c->fleet;

    if (f->dozing && (status == PST_OK || status == PST_E_ABSENT))
        f->awake = false;
    else if (status == PST_E_ABSENT && f->awake)
        pst_fleet_unlisted(c);
    else if (status != PST_OK)
        f->report_due = true;
    f->report_from_ns = status == PST_OK ? 0 : pst_clock_boot_ns() + REPORT_REST_NS;
    if (f->dozing && status != PST_OK)
        doubt_row(c);
}

static void on_node_reply(struct pst_worker *worker, struct pst_message *message)
{
    struct node_message *m = (struct node_message *)(void *)message;
    struct control *c = m->control;
    struct fleet *f = &c->fleet;

    (void)worker;
    f->calling = false;
    switch (m->reply.call) {
    case PST_NODE_REPORT:
        if (memcmp(m->node, f->node, f->node_len) == 0)
            take_report(c, m->reply.status);
        else
            f->report_due = true; /* it was about the row of before */
        f->dozing = false;
        break;
    case PST_NODE_UNREGISTER:
        f->left = f->leaving && m->reply.status == PST_OK;
        if (m->reply.status == PST_OK)
            f->has_former = false;
        else
            f->report_from_ns = pst_clock_boot_ns() + REPORT_REST_NS;
        f->leaving = f->left; /* or once more, while there is time: who waits would wait for it */
        break;
    case PST_NODE_CLAIM:
        f->publishes = m->reply.status == PST_OK && m->reply.mine;
        if (f->publishes)
            heartbeat(c, &m->reply.head);
        break;
    }
    free(m);
}

/* On a thread of the service. */
static void deliver(void *ctx, const struct pst_node_reply *reply)
{
    struct node_message *m = ctx;

    m->reply = *reply;
    pst_worker_send(m->control->loop, &m->message);
}

static bool call(struct control *c, enum pst_node_call what, uint64_t bound_ns)
{
    struct fleet *f = &c->fleet;
    struct node_message *m = f->calling || f->stopped ? NULL : calloc(1, sizeof(*m));

    if (m == NULL)
        return false;
    m->message.run = on_node_reply;
    m->control = c;
    struct pst_node_request request = {.call = what,
                                       .row = row_of(c, bound_ns, m->routes),
                                       .ttl_ms = CLAIM_TTL_MS,
                                       .deliver = deliver,
                                       .ctx = m};
    bool former = what == PST_NODE_UNREGISTER && !f->leaving;
    memcpy(m->node, former ? f->former : f->node, f->node_len);
    request.row.node.ptr = m->node;
    if (pst_service_node(c->service, &request) != PST_PENDING) {
        free(m);
        return false;
    }
    f->calling = true;
    return true;
}

/* ---- what the control thread tells us ---- */

/* A node has applied what each of its workers has: one that is busy decides by what was before. */
static void await_workers(struct control *c)
{
    struct fleet *f = &c->fleet;

    f->awaited = pst_tail_mark(c->tail).revision;
    f->awaited_batch = f->applied_batch;
}

static bool all_took(const struct control *c, uint64_t batch)
{
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (pst_engine_took(c->lanes[i].engine) < batch)
            return false;
    return true;
}

void pst_fleet_applied(struct control *c, bool moved)
{
    struct fleet *f = &c->fleet;

    if (f->registering) {
        f->registering = false;
        f->awake = true;
    }
    f->applied_batch = c->batches;
    if ((moved || lease_bound(c) < f->used_ns) && f->awaited_batch == 0)
        await_workers(c);
    pst_fleet_tick(c, pst_clock_boot_ns(), true);
}

void pst_fleet_took(struct control *c)
{
    struct fleet *f = &c->fleet;

    while (f->awaited_batch != 0 && all_took(c, f->awaited_batch)) {
        struct pst_revision mark = pst_tail_mark(c->tail).revision;
        f->taken = f->awaited;
        bool last = f->awaited_batch == c->batches; /* one that some were not told counts, too */
        if (last)
            f->used_ns = lease_bound(c);
        f->awaited_batch = 0;
        f->report_due = true;
        if (f->taken.epoch != mark.epoch || f->taken.n != mark.n ||
            (!last && f->applied_batch == c->batches))
            await_workers(c); /* what came meanwhile */
    }
    if (f->report_due)
        pst_fleet_tick(c, pst_clock_boot_ns(), true);
}

void pst_fleet_read_failed(struct control *c)
{
    c->fleet.registering = false; /* the row may stand there: it is written anew */
}

/* Of the workers, too: one that has not taken a shorter bound yet decides under the one before. */
static bool all_lapsed(const struct control *c, uint64_t now_ns)
{
    uint64_t start_ns =
        atomic_load_explicit(&pst_tail_lease(c->tail)->start_ns, memory_order_relaxed);
    uint64_t bound_ns = lease_bound(c), used_ns = c->fleet.used_ns;

    return start_ns == 0 || now_ns - start_ns > (bound_ns > used_ns ? bound_ns : used_ns);
}

static void report(struct control *c, uint64_t now_ns, bool at_work)
{
    struct fleet *f = &c->fleet;

    if (!f->awake || f->calling || now_ns < f->report_from_ns ||
        now_ns - f->reported_ns < REPORT_PACE_NS)
        return;
    if (f->shared && all_lapsed(c, now_ns) && !at_work && !pst_tail_reading(c->tail)) {
        /* One that fails leaves the row as it is or not; we stay awake, and register before the
         * next lease. */
        f->dozing = call(c, PST_NODE_REPORT, 0);
        f->reported_ns = now_ns;
        return;
    }
    if (f->has_former && !f->unsure) { /* it stood for this one until now */
        (void)call(c, PST_NODE_UNREGISTER, 0);
        f->reported_ns = now_ns;
        return;
    }
    uint64_t bound_ns = bound_of(c);
    if (!f->report_due && f->told_ns == bound_ns &&
        (!at_work || now_ns - f->reported_ns < REPORT_EVERY_NS))
        return;
    if (call(c, PST_NODE_REPORT, bound_ns)) {
        f->report_due = false;
        f->told_ns = f->used_ns = bound_ns;
        f->reported_ns = now_ns;
    }
}

static void publish(struct control *c, uint64_t now_ns, const struct pst_feed_stats *stats)
{
    struct fleet *f = &c->fleet;

    if (!f->may_publish || !stats->can_publish) {
        f->publishes = false;
        return;
    }
    if (stats->live && !f->publishes) {
        f->quiet_from_ns = now_ns;
        return;
    }
    if (f->publishes ? now_ns - f->claimed_ns < PST_FEED_HEARTBEAT_NS
                     : now_ns - f->quiet_from_ns < f->patience_ns)
        return;
    if (call(c, PST_NODE_CLAIM, 0)) {
        f->claimed_ns = f->quiet_from_ns = now_ns;
        pst_random(&f->patience_ns, sizeof(f->patience_ns));
        f->patience_ns = CLAIM_AFTER_NS + f->patience_ns % CLAIM_AFTER_NS;
    }
}

void pst_fleet_tick(struct control *c, uint64_t now_ns, bool at_work)
{
    struct fleet *f = &c->fleet;
    bool live = f->feed != NULL && pst_feed_stats(f->feed).live;

    pst_tail_set_poll(c->tail, f->shared && !live ? POLL_NS : 0);
    if (f->feed != NULL) {
        struct pst_feed_stats stats = pst_feed_stats(f->feed);
        pst_control_note_feed(c, stats.gaps, stats.publishers);
        publish(c, now_ns, &stats);
    }
    report(c, now_ns, at_work);
}

/* ---- the feed ---- */

static void on_read_log(void *ctx, enum pst_feed_why why)
{
    struct control *c = ctx;

    (void)why;
    pst_tail_notice(c->tail);
}

static void on_feed_message(void *ctx, const struct pst_feed_message *message)
{
    pst_control_note_head(ctx, message->n);
}

static void on_feed_event(void *ctx, enum pst_feed_event event, const char *text)
{
    static const struct {
        const char *name;
        enum pst_log_level level;
    } EVENTS[] = {
        [PST_FEED_UP] = {"feed.up", PST_LOG_INFO},
        [PST_FEED_DOWN] = {"feed.down", PST_LOG_WARN},
        [PST_FEED_FAILED] = {"feed.failed", PST_LOG_WARN},
    };
    struct control *c = ctx;
    char room[512];
    struct pst_buf b = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_json(&b, pst_bytes_of(text, strlen(text)));
    room[b.full ? 0 : b.len] = '\0';
    pst_log_event(c->log, EVENTS[event].level, EVENTS[event].name, "\"message\":%s",
                  b.full ? "\"\"" : room);
}

static enum pst_status make_feed(struct control *c, struct pst_error *error)
{
    static const struct pst_feed_ops OPS = {
        .read_log = on_read_log, .message = on_feed_message, .event = on_feed_event};
    struct pst_feed_config feed;
    struct pst_arena arena;

    if (c->setup->config->sync.feed.address_count == 0)
        return PST_OK;
    pst_arena_init(&arena, 4096, 1u << 20);
    enum pst_status status = pst_config_feed(c->setup->config, &arena, &feed, error);
    if (status == PST_OK) {
        feed.node = pst_bytes_of(c->fleet.node, c->fleet.node_len);
        c->fleet.may_publish = feed.publish;
        status = pst_feed_create(c->loop, &feed, &OPS, c, &c->fleet.feed, error);
        pst_secret_wipe((void *)(uintptr_t)feed.password.ptr, feed.password.len);
        pst_secret_wipe((void *)(uintptr_t)feed.sentinel_password.ptr, feed.sentinel_password.len);
    }
    pst_arena_fini(&arena);
    return status;
}

/* ---- life ---- */

/* One name a state directory and host, and behind it what is this process's own: who comes under
 * the same name, while this one drains or by mistake, has another row. */
static void name_node(struct control *c)
{
    struct fleet *f = &c->fleet;
    const struct pst_config *config = c->setup->config;
    struct pst_buf b = pst_buf_of(f->node, sizeof(f->node));
    char host[128];

    if (config->node.len > 0) {
        pst_buf_put(&b, config->node);
    } else {
        if (gethostname(host, sizeof(host)) != 0)
            host[0] = '\0';
        host[sizeof(host) - 1] = '\0';
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        for (size_t i = 0; i < config->state_dir.len; i++)
            hash = (hash ^ (unsigned char)config->state_dir.ptr[i]) * UINT64_C(0x100000001b3);
        pst_buf_put(&b, pst_bytes_of(host, strnlen(host, 40)));
        pst_buf_char(&b, '-');
        pst_buf_hex(&b, hash & UINT32_MAX, 8);
    }
    pst_buf_char(&b, '.');
    f->node_len = b.len + PST_NODE_OWN_DIGITS; /* the configuration leaves room */
    draw_digits(f);
}

enum pst_status pst_fleet_start(struct control *c, struct pst_error *error)
{
    struct fleet *f = &c->fleet;

    name_node(c);
    f->shared = pst_bytes_starts(c->setup->config->store_url, PST_LIT("postgres"));
    f->patience_ns = CLAIM_AFTER_NS;
    f->quiet_from_ns = pst_clock_boot_ns();
    return make_feed(c, error);
}

void pst_fleet_leave(struct control *c)
{
    struct fleet *f = &c->fleet;
    uint64_t now_ns = pst_clock_boot_ns(), begun_ns = now_ns;

    if (c->tail != NULL)
        pst_tail_stop(c->tail);
    /* A start that failed has no row; one of that name is another process's. */
    if (!f->known)
        return;
    for (; !f->left && now_ns - begun_ns < LEAVE_NS; now_ns = pst_clock_boot_ns()) {
        /* A read that was asked for may register us once more; that is its beginning. */
        if (!f->calling && !f->leaving &&
            (!pst_tail_reading(c->tail) || now_ns - begun_ns >= LEAVE_NS / 2)) {
            f->leaving = true; /* which of its names the call is about */
            f->leaving = call(c, PST_NODE_UNREGISTER, 0);
        }
        pst_worker_turn(c->loop, 20);
    }
}

void pst_fleet_stop(struct control *c)
{
    pst_feed_destroy(c->fleet.feed);
    c->fleet.feed = NULL;
    c->fleet.stopped = true;
}
