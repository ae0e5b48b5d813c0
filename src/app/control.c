/*
 * The control thread: start and stop in mirror order, signals, and a tick that follows the change
 * log, lets the JWKS manager do what is due and frees what nobody uses any more.
 */
#include "postern/app/control.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control_internal.h"
#include "postern/base/clock.h"

#define TICK_MS       50
#define TELL_EVERY_NS (5 * PST_NS_PER_S)
#define FACTS_QUEUE   2048 /* users that are read at the same time; about 1 KiB each */

/* --- the control loop --- */

/* Any thread. */
static void ask(struct call *call)
{
    if (!atomic_exchange_explicit(&call->waits, true, memory_order_acq_rel))
        pst_worker_send(call->control->loop, &call->message);
}

static void on_lease_wanted(struct pst_worker *worker, struct pst_message *message)
{
    static const struct timeval WAIT = {.tv_usec = PST_LEASE_WAIT_NS / 1000};
    struct call *call = (struct call *)(void *)message;

    (void)worker;
    atomic_store_explicit(&call->waits, false, memory_order_release);
    pst_tail_demand(call->control->tail);
    if (!evtimer_pending(call->control->patience, NULL))
        (void)evtimer_add(call->control->patience, &WAIT); /* failed: their own deadline ends it */
}

static void on_took(struct pst_worker *worker, struct pst_message *message)
{
    struct call *call = (struct call *)(void *)message;

    (void)worker;
    atomic_store_explicit(&call->waits, false, memory_order_release);
    pst_fleet_took(call->control);
}

static void on_changed(struct pst_worker *worker, struct pst_message *message)
{
    struct call *call = (struct call *)(void *)message;

    (void)worker;
    atomic_store_explicit(&call->waits, false, memory_order_release);
    struct control *c = call->control;
    /* The embedded database says it for nothing, and who waits for this node is here. */
    if (c->fleet.shared || pst_lease_holds(pst_tail_lease(c->tail), pst_clock_boot_ns()))
        pst_tail_notice(c->tail);
    else
        pst_tail_demand(c->tail);
}

void pst_control_want_lease(void *ctx)
{
    ask(&((struct control *)ctx)->lease_wanted);
}

void pst_control_took(void *ctx)
{
    ask(&((struct control *)ctx)->took);
}

static void store_changed(void *ctx)
{
    ask(&((struct control *)ctx)->changed);
}

/* Who waits for a lease must not wait for what will not come (C3). */
static void refuse_waiting(struct control *c)
{
    const struct pst_engine_news news = {.refused = true};

    if (pst_control_tell_all(c, &news) != PST_OK)
        return; /* without memory: their own deadline ends the wait */
}

/* Once; and again when the reason is another one, though not as often as it may change. */
static void tell_unreadable(struct control *c, const struct pst_error *error)
{
    uint64_t now_ns = pst_clock_boot_ns();

    if (c->tail_failed && (now_ns - c->tail_told_ns < TELL_EVERY_NS ||
                           strcmp(error->message, c->tail_failure.message) == 0))
        return;
    c->tail_failure = *error;
    c->tail_told_ns = now_ns;
    pst_control_log_failure(c, "store.unreadable", error);
}

static void on_read_ended(void *ctx, enum pst_status status, const struct pst_error *error)
{
    struct control *c = ctx;

    if (status != PST_OK)
        tell_unreadable(c, error);
    else if (c->tail_failed)
        pst_log_event(c->log, PST_LOG_INFO, "store.readable", "%s", "");
    c->tail_failed = status != PST_OK;
    if (status != PST_OK) {
        pst_fleet_read_failed(c);
        refuse_waiting(c);
    } else {
        pst_fleet_applied(c, c->moved);
    }
    c->moved = false;
}

static bool at_work(const struct control *c, uint64_t now_ns)
{
    uint64_t bound_ns =
        atomic_load_explicit(&pst_tail_lease(c->tail)->bound_ns, memory_order_relaxed);

    for (uint32_t i = 0; i < c->lane_count; i++) {
        uint64_t active_ns = pst_engine_active_ns(c->lanes[i].engine);
        if (active_ns != 0 && (now_ns < active_ns || now_ns - active_ns <= bound_ns))
            return true;
    }
    return false;
}

static void follow_log(struct control *c, uint64_t now_ns)
{
    bool works = at_work(c, now_ns);

    pst_fleet_tick(c, now_ns, works);
    pst_tail_tick(c->tail, works);
}

/* A demand is as old as a request may wait, and no answer has come. */
static void on_patience_ends(evutil_socket_t fd, short what, void *arg)
{
    struct control *c = arg;
    uint64_t since_ns = pst_tail_demanded_since(c->tail), now_ns = pst_clock_boot_ns();

    (void)fd;
    (void)what;
    if (since_ns == 0)
        return;
    if (now_ns - since_ns >= PST_LEASE_WAIT_NS) {
        refuse_waiting(c);
        return;
    }
    uint64_t left_us = (since_ns + PST_LEASE_WAIT_NS - now_ns) / 1000 + 1;
    const struct timeval left = {.tv_usec = (suseconds_t)left_us};
    if (evtimer_add(c->patience, &left) != 0)
        refuse_waiting(c);
}

/* Answers come on the fetcher's thread and may make a retry due: so it is looked at least once a
 * second. */
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
    follow_log(c, now);
    if (c->setup->jwks != NULL && now >= c->jwks_due_ns)
        look_after_keys(c, now);
    pst_coldstart_tick(c, now);
    pst_policy_reap(c->hub);
    for (struct setup *s = c->setup; s != NULL; s = s->older)
        pst_setup_answer_refused(s);
    pst_setup_free_old(c);
    /* A policy without what else its change touched is what no revision says: not with new doors.
     */
    if (c->reload_wanted && !c->untold) {
        c->reload_wanted = false;
        pst_control_reload(c);
    }
    if (atomic_load_explicit(&c->draining, memory_order_relaxed) &&
        (atomic_load_explicit(&c->drained, memory_order_acquire) == c->lane_count ||
         now > c->drain_until_ns))
        pst_worker_stop(c->loop);
}

static void take_signal(struct control *c, uint32_t number)
{
    if (number == SIGHUP) {
        c->reload_wanted =
            true; /* by the next tick: a storm of signals must not keep the log from being read */
        return;
    }
    if (atomic_exchange_explicit(&c->draining, true, memory_order_relaxed)) {
        pst_worker_stop(c->loop); /* asked twice: now */
        return;
    }
    pst_log_event(c->log, PST_LOG_INFO, "drain", "%s", "");
    c->drain_until_ns =
        pst_clock_boot_ns() + (c->setup->config->limits.drain_total_s + 1) * PST_NS_PER_S;
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

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct signalfd_siginfo info;

    (void)what;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        take_signal(arg, info.ssi_signo);
}

static sigset_t signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

static enum pst_status make_loop(struct control *c, struct pst_error *error)
{
    const struct timeval period = {.tv_usec = TICK_MS * 1000};
    const sigset_t set = signals();

    c->tick = event_new(c->loop->base, -1, EV_PERSIST, on_tick, c);
    c->patience = evtimer_new(c->loop->base, on_patience_ends, c);
    c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    c->signals = event_new(c->loop->base, c->signal_fd, EV_READ | EV_PERSIST, on_signal, c);
    if (c->tick == NULL || c->patience == NULL || c->signal_fd < 0 || c->signals == NULL ||
        event_add(c->tick, &period) != 0 || event_add(c->signals, NULL) != 0)
        return pst_error_set(error, PST_E_NOMEM, NULL, "the control loop cannot be made");
    return PST_OK;
}

/* --- start and stop --- */

/* The embedded database is made here. One that many share is made by `db migrate`, with other
 * rights than a node has, and may be down: a node starts all the same, and is not ready. */
static enum pst_status prepare_store(struct pst_bytes url, struct pst_error *error)
{
    struct pst_store *store;
    uint32_t steps;

    if (!pst_bytes_starts(url, PST_LIT("sqlite:")))
        return PST_OK;
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
    struct pst_service_config service = {
        .url = url, .queue = FACTS_QUEUE, .changed = store_changed, .ctx = c};
    enum pst_status status = prepare_store(url, error);

    if (status == PST_OK)
        status = pst_policy_hub_create(&c->hub);
    if (status == PST_OK)
        status = pst_worker_create(config->workers, &c->loop);
    c->lease_wanted = (struct call){.message = {.run = on_lease_wanted}, .control = c};
    c->took = (struct call){.message = {.run = on_took}, .control = c};
    c->changed = (struct call){.message = {.run = on_changed}, .control = c};
    if (status == PST_OK)
        status = pst_service_create(&service, &c->service, error);
    if (status == PST_OK)
        status = pst_fleet_start(c, error);
    struct pst_tail_config tail = {.worker = c->loop,
                                   .service = c->service,
                                   .apply = pst_control_apply,
                                   .ended = on_read_ended,
                                   .base = pst_control_base,
                                   .node = pst_bytes_of(c->fleet.node, c->fleet.node_len),
                                   .registers = pst_fleet_registers,
                                   .unlisted = pst_fleet_unlisted,
                                   .ctx = c};
    if (status == PST_OK)
        status = pst_tail_create(&tail, &c->tail);
    if (status == PST_OK)
        pst_tail_set_bound(c->tail, config->max_staleness_s * PST_NS_PER_S);
    c->lanes = calloc(config->workers, sizeof(*c->lanes));
    if (status == PST_OK && c->lanes == NULL)
        status = PST_E_NOMEM;
    c->lane_count = c->lanes == NULL ? 0 : config->workers;
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
        status = pst_lane_make(c, i, error);
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
    const struct pst_ops_config ops = {
        .unready = pst_control_unready, .figures = pst_control_figures, .ctx = c, .log = c->log};
    if (status == PST_OK)
        status = pst_ops_door_create(&ops, &c->ops);
    if (status == PST_OK)
        status = pst_fetcher_create(&c->fetcher);
    if (status != PST_OK) {
        pst_config_free(config);
        return status;
    }
    status = pst_setup_make(c, config, &c->setup, error);
    if (status == PST_OK) {
        atomic_store_explicit(&c->serving, c->setup, memory_order_release);
        status = make_parts(c, error);
    }
    if (status == PST_OK)
        status = add_metrics(c);
    if (status == PST_OK)
        status = make_loop(c, error);
    if (status == PST_OK)
        status = pst_control_open_listeners(c, error);
    if (status == PST_OK && c->setup->jwks != NULL)
        look_after_keys(c, pst_clock_boot_ns());
    if (status == PST_OK)
        pst_coldstart_load(c);
    if (status == PST_OK)
        pst_tail_tick(c->tail, true);
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
        status = pst_worker_start(c->lanes[i].worker);
        c->lanes[i].started = status == PST_OK;
    }
    return status;
}

/* Threads end in the order in which they call each other: workers, then those that answer them;
 * what they left in the mailboxes is run before the engines go. */
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
    /* The loop is turned below, and nothing is to begin by then. */
    if (c->tick != NULL)
        event_del(c->tick);
    if (c->patience != NULL)
        event_del(c->patience);
    pst_fleet_leave(c);
    pst_coldstart_stop(c);
    pst_fleet_stop(c);
    pst_service_stop(c->service); /* what is left in the mailboxes may still ask, in vain */
    pst_fetcher_destroy(c->fetcher);
    if (c->loop != NULL && c->tail != NULL)
        pst_worker_turn(c->loop, 0); /* the service's last answer */
    for (uint32_t i = 0; i < c->lane_count; i++) {
        if (c->lanes[i].worker != NULL)
            pst_worker_turn(c->lanes[i].worker, 0); /* messages and graves */
        pst_engine_destroy(c->lanes[i].engine);
        pst_worker_destroy(c->lanes[i].worker);
    }
    free(c->lanes);
    pst_service_destroy(c->service);
}

static void stop(struct control *c)
{
    stop_lanes(c);
    pst_tail_destroy(c->tail);
    pst_policy_hub_destroy(c->hub);
    pst_shared_policy_release(c->policy);
    while (c->setup != NULL) {
        struct setup *older = c->setup->older;
        pst_setup_free(c->setup);
        c->setup = older;
    }
    pst_ops_door_destroy(c->ops);
    if (c->signals != NULL)
        event_free(c->signals);
    if (c->signal_fd >= 0)
        close(c->signal_fd);
    if (c->tick != NULL)
        event_free(c->tick);
    if (c->patience != NULL)
        event_free(c->patience);
    pst_worker_destroy(c->loop);
    pst_log_destroy(c->log);
}

enum pst_status pst_control_serve(const char *config_path, struct pst_error *error)
{
    struct control *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory to start");
    /* Blocked before there is another thread: no handler runs anywhere, and what comes during start
     * or stop waits, or ends with the process. */
    const sigset_t set = signals();
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    c->config_path = config_path;
    c->signal_fd = -1;
    enum pst_status status = start(c, error);
    if (status == PST_OK) {
        pst_log_event(c->log, PST_LOG_INFO, "started",
                      "\"version\":\"%s\",\"pid\":%d,\"workers\":%u", PST_VERSION, (int)getpid(),
                      c->lane_count);
        pst_control_warn(c);
        pst_worker_run(c->loop);
        pst_log_event(c->log, PST_LOG_INFO, "stopped", "%s", "");
    } else if (error->status == PST_OK) {
        error->status = status;
    }
    stop(c);
    free(c);
    return status;
}
