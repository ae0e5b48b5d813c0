/*
 * Callbacks of the links only take notes; what follows from them is done once a turn, in settle:
 * read what is late, let the links see the time, judge silence, ask for the log read, set the
 * timer.
 */
#include "feed_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/base/secret.h"

#define TEXTS_MAX   (UINT64_C(1) << 20)
#define ADDRESS_MAX 300

void feed_tell(struct pst_feed *feed, enum pst_feed_event event, const char *text)
{
    if (feed->ops.event != NULL)
        feed->ops.event(feed->ctx, event, text);
}

void feed_wake(struct pst_feed *feed)
{
    pst_worker_defer(feed->worker, &feed->settle);
}

void feed_payload(struct pst_feed *feed, struct pst_bytes payload)
{
    struct pst_feed_message message;

    feed_wake(feed);
    if (!pst_feed_parse(payload, &message)) {
        feed->garbage++;
        return;
    }
    pst_feed_watch_message(&feed->watch, &message, pst_worker_now(feed->worker));
    if (feed->ops.message != NULL)
        feed->ops.message(feed->ctx, &message);
}

void feed_link_is_ready(struct feed_link *link)
{
    struct pst_feed *feed = link->feed;
    char line[sizeof(link->target) + 32];

    if (link->role == FEED_SUBSCRIBE)
        pst_feed_watch_connected(&feed->watch);
    (void)snprintf(line, sizeof(line), "%s, %s",
                   link->role == FEED_SUBSCRIBE ? "subscription" : "publishing", link->target);
    feed_tell(feed, PST_FEED_UP, line);
    feed_wake(feed);
}

void feed_link_is_down(struct feed_link *link)
{
    if (link->role == FEED_SUBSCRIBE)
        pst_feed_watch_lost(&link->feed->watch);
}

/* ---- time ---- */

static uint64_t next_due(const struct pst_feed *feed)
{
    uint64_t due_ns = pst_feed_watch_due(&feed->watch);

    if (feed->subscriber.due_ns < due_ns)
        due_ns = feed->subscriber.due_ns;
    if (feed->publisher.due_ns < due_ns)
        due_ns = feed->publisher.due_ns;
    return due_ns;
}

static void set_timer(struct pst_feed *feed, uint64_t now_ns)
{
    uint64_t due_ns = next_due(feed);

    if (due_ns == UINT64_MAX) {
        event_del(&feed->timer);
        return;
    }
    uint64_t us = due_ns <= now_ns ? 0 : (due_ns - now_ns + 999) / 1000;
    struct timeval wait = {.tv_sec = (time_t)(us / 1000000),
                           .tv_usec = (suseconds_t)(us % 1000000)};
    event_add(&feed->timer, &wait);
}

static void settle(struct pst_deferred *deferred)
{
    struct pst_feed *feed = pst_container_of(deferred, struct pst_feed, settle);
    uint64_t now_ns = pst_worker_now(feed->worker);

    /* A loop that stood still is late for everything: what waits in the kernel comes first. */
    if (now_ns >= next_due(feed)) {
        feed_link_drain(&feed->subscriber);
        feed_link_drain(&feed->publisher);
    }
    feed_link_time(&feed->subscriber, now_ns);
    feed_link_time(&feed->publisher, now_ns);
    pst_feed_watch_judge(&feed->watch, now_ns);
    enum pst_feed_why why = pst_feed_watch_take(&feed->watch, now_ns);
    set_timer(feed, now_ns);
    if (why != PST_FEED_NOTHING)
        feed->ops.read_log(feed->ctx, why);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    feed_wake(arg);
}

/* ---- life ---- */

static enum pst_status copy_texts(struct pst_feed *feed)
{
    struct pst_feed_config *c = &feed->config;
    struct pst_bytes *const texts[] = {
        &c->master,  &c->user,      &c->password, &c->sentinel_user, &c->sentinel_password,
        &c->ca_file, &c->cert_file, &c->key_file, &c->server_name,   &c->channel,
        &c->node};
    enum pst_status status = PST_OK;

    struct pst_bytes *addresses =
        pst_arena_array(&feed->arena, c->address_count, sizeof(*addresses));
    if (addresses == NULL)
        return PST_E_NOMEM;
    for (uint32_t i = 0; i < c->address_count && status == PST_OK; i++)
        status = pst_arena_copy(&feed->arena, c->addresses[i], &addresses[i]);
    c->addresses = addresses;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && status == PST_OK; i++)
        status = pst_arena_copy(&feed->arena, *texts[i], texts[i]);
    return status;
}

static enum pst_status check(const struct pst_feed_config *c, struct pst_error *error)
{
    struct pst_address address;
    struct pst_host_port parts;

    if (c->address_count == 0)
        return pst_error_set(error, PST_E_INVALID, NULL, "the feed needs an address");
    for (uint32_t i = 0; i < c->address_count; i++) {
        struct pst_bytes text = c->addresses[i];
        int shown = text.len > ADDRESS_MAX ? ADDRESS_MAX : (int)text.len;
        if (text.len > ADDRESS_MAX || pst_address_parse(text, &address, &parts) != PST_OK)
            return pst_error_set(error, PST_E_INVALID, NULL,
                                 "\"%.*s\" is no address: host:port or unix:/path", shown,
                                 text.len == 0 ? "" : text.ptr);
        if (c->tls && address.sa.any.sa_family == AF_UNIX && c->server_name.len == 0)
            return pst_error_set(error, PST_E_INVALID, NULL,
                                 "TLS over a unix socket needs a server name");
    }
    if (c->channel.len > 128 || c->master.len > 128 || c->user.len > 128 || c->password.len > 512 ||
        c->sentinel_user.len > 128 || c->sentinel_password.len > 512)
        return pst_error_set(error, PST_E_INVALID, NULL, "a name or password is too long");
    if (c->publish && !pst_feed_publisher_ok(c->node))
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "a publisher needs a name of 1 to 64 letters, digits, . _ : or -");
    return PST_OK;
}

static enum pst_status open_parts(struct pst_feed *feed, struct pst_error *error)
{
    struct pst_feed_config *c = &feed->config;
    enum pst_status status = copy_texts(feed);

    if (status == PST_OK)
        status = pst_resolver_create(feed->worker, &feed->resolver);
    if (status != PST_OK)
        return pst_error_set(error, status, NULL, "no memory");
    if (c->tls) {
        struct pst_tls_config tls = {
            .ca_file = c->ca_file, .cert_file = c->cert_file, .key_file = c->key_file};
        status = pst_tls_client_create(&tls, &feed->tls, error);
    }
    return status;
}

static void fill_defaults(struct pst_feed_config *c)
{
    if (c->channel.len == 0)
        c->channel = PST_LIT("postern");
    if (c->connect_ms == 0)
        c->connect_ms = 1000;
    if (c->answer_ms == 0)
        c->answer_ms = 1000;
    if (c->idle_ms == 0)
        c->idle_ms = 2000;
}

enum pst_status pst_feed_create(struct pst_worker *worker, const struct pst_feed_config *config,
                                const struct pst_feed_ops *ops, void *ctx, struct pst_feed **out,
                                struct pst_error *error)
{
    *out = NULL;
    enum pst_status status = check(config, error);
    if (status != PST_OK)
        return status;
    struct pst_feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    feed->worker = worker;
    feed->config = *config;
    feed->ops = *ops;
    feed->ctx = ctx;
    feed->settle.run = settle;
    fill_defaults(&feed->config);
    pst_arena_init(&feed->arena, 1024, TEXTS_MAX);
    feed_link_stop(&feed->subscriber);
    feed_link_stop(&feed->publisher);
    event_assign(&feed->timer, worker->base, -1, 0, on_timer, feed);
    status = open_parts(feed, error);
    if (status != PST_OK) {
        pst_feed_destroy(feed);
        return status;
    }
    if (ops->read_log != NULL)
        feed_link_start(&feed->subscriber, feed, FEED_SUBSCRIBE);
    if (config->publish)
        feed_link_start(&feed->publisher, feed, FEED_PUBLISH);
    *out = feed;
    return PST_OK;
}

void pst_feed_destroy(struct pst_feed *feed)
{
    if (feed == NULL)
        return;
    event_del(&feed->timer);
    feed_link_stop(&feed->subscriber);
    feed_link_stop(&feed->publisher);
    pst_deferred_cancel(&feed->settle);
    pst_resolver_destroy(feed->resolver);
    pst_tls_client_destroy(feed->tls);
    pst_secret_wipe((void *)(uintptr_t)feed->config.password.ptr, feed->config.password.len);
    pst_secret_wipe((void *)(uintptr_t)feed->config.sentinel_password.ptr,
                    feed->config.sentinel_password.len);
    pst_arena_fini(&feed->arena);
    free(feed);
}

enum pst_status pst_feed_publish(struct pst_feed *feed, uint64_t epoch, uint64_t prev, uint64_t n,
                                 enum pst_feed_kind kind)
{
    char space[PST_FEED_MESSAGE_MAX];
    struct pst_buf text = pst_buf_of(space, sizeof(space));
    struct pst_feed_message message = {
        .epoch = epoch, .prev = prev, .n = n, .kind = kind, .publisher = feed->config.node};

    pst_feed_write(&message, &text);
    enum pst_status status =
        text.full ? PST_E_LIMIT : feed_link_publish(&feed->publisher, pst_buf_bytes(&text));
    if (status != PST_OK)
        feed->dropped++;
    return status;
}

struct pst_feed_stats pst_feed_stats(const struct pst_feed *feed)
{
    const struct pst_feed_watch *w = &feed->watch;

    return (struct pst_feed_stats){
        .messages = w->messages,
        .heartbeats = w->heartbeats,
        .garbage = feed->garbage,
        .gaps = w->gaps,
        .silences = w->silences,
        .reads = w->reads,
        .connects = feed->subscriber.connects,
        .published = feed->published,
        .dropped = feed->dropped,
        .publishers = pst_feed_watch_publishers(w, pst_clock_boot_ns()),
        .connected = w->connected,
        .live = w->connected && w->heard && !w->silent,
        .can_publish = feed->publisher.state == FEED_READY,
    };
}
