#include "postern/proxy/server.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/base/secret.h"
#include "proxy_internal.h"

#define HOLD_NS (500 * PST_NS_PER_MS)

const struct pst_server_limits pst_server_limits_default = {
    .head = {32768, 8192, 16384, 16384, 100, 8192, 0},
    .body = {0, 256, 102400, 8192, 32768, 100},
    .interim_responses = 10,
    .drain_bytes = 65536,
    .drain_s = 1,
    .request_head_s = 10,
    .write_stall_s = 30,
    .keepalive_idle_s = 60,
    .drain_total_s = 30,
    .body_rate_bytes = 500,
    .body_rate_after_s = 10,
    .inspect_memory_bytes = 268435456,
};

/* ---- clocks and numbers for requests ---- */

/* The wall clock moves with the boot clock between two ticks: no second clock is read per request.
 */
uint64_t pst_server_wall(struct pst_server *server)
{
    return server->wall_ns + (pst_worker_now(server->worker) - server->wall_base_ns);
}

static void read_wall(struct pst_server *server)
{
    server->wall_base_ns = pst_worker_now(server->worker);
    server->wall_ns = pst_clock_wall_ns();
    server->metrics->loop_stalls = server->worker->own.stalls;
}

/* What is relayed for longer than a second is in the engine's hands before that second is over and
 * one tick more. */
static void hold_streams(struct pst_server *server)
{
    uint64_t now_ns = pst_worker_now(server->worker);

    while (!pst_list_empty(&server->relaying)) {
        struct pst_exchange *x =
            pst_container_of(server->relaying.next, struct pst_exchange, relay_node);
        if (now_ns - x->decided_ns < HOLD_NS)
            return;
        pst_exchange_hold(x);
    }
}

static void on_tick(struct pst_ticker *ticker)
{
    struct pst_server *server = pst_container_of(ticker, struct pst_server, ticker);

    read_wall(server);
    hold_streams(server);
}

/* xorshift128+: request ids must differ, they need not be secret. */
uint64_t pst_server_random(struct pst_server *server)
{
    uint64_t a = server->random[0], b = server->random[1];

    server->random[0] = b;
    a ^= a << 23;
    server->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return server->random[1] + b;
}

/* ---- configuration ---- */

struct pst_config_use *pst_server_use(struct pst_server *server)
{
    server->uses->users++;
    return server->uses;
}

static void release_config(struct pst_server *server, struct pst_config_use *use)
{
    struct pst_config_use **link = &server->uses;

    while (*link != use)
        link = &(*link)->next;
    *link = use->next;
    if (server->ops != NULL && server->ops->config_released != NULL)
        server->ops->config_released(server->owner, use->config);
    free(use);
}

void pst_server_unuse(struct pst_server *server, struct pst_config_use *use)
{
    if (--use->users == 0 && use != server->uses)
        release_config(server, use);
}

static bool find_listener(const struct pst_server_config *config, struct pst_bytes name,
                          uint32_t *index)
{
    for (*index = 0; *index < config->listener_count; (*index)++)
        if (pst_bytes_equal(config->listeners[*index].name, name))
            return true;
    return false;
}

static void close_listener(struct pst_open_listener *listener)
{
    pst_acceptor_close(listener->acceptor);
    listener->acceptor = NULL;
}

/* The connections of removed listeners, or all in a drain: no request after the running one. */
static void end_keep_alive(struct pst_server *server)
{
    struct pst_list *at = server->connections.next;

    while (at != &server->connections) {
        struct pst_connection *c = pst_container_of(at, struct pst_connection, node);
        at = at->next;
        if (!server->draining && !c->listener->removed)
            continue;
        if (c->x == NULL && c->listener->removed && !c->closing && !pst_stream_sending(&c->stream))
            pst_connection_close(c); /* by whose rules should another request be judged? */
        else if (c->x == NULL)
            pst_connection_last_call(c);
        else if (!c->x->answering)
            c->closing = true;
    }
}

void pst_server_swap(struct pst_server *server, const struct pst_server_config *config)
{
    struct pst_config_use *use = calloc(1, sizeof(*use)), *old = server->uses;

    /* A reload that cannot be remembered would leave the old rules in force unseen: like at
     * start-up, there is nothing to fall back on. */
    if (use == NULL)
        abort();
    use->config = config;
    use->next = old;
    server->uses = use;
    for (struct pst_list *at = server->listeners.next; at != &server->listeners; at = at->next) {
        struct pst_open_listener *listener = pst_container_of(at, struct pst_open_listener, node);
        uint32_t index;
        if (find_listener(config, listener->name, &index)) {
            listener->index = index;
        } else {
            close_listener(listener);
            listener->removed = true;
            listener->index = 0;
        }
    }
    end_keep_alive(server);
    if (old != NULL && old->users == 0)
        release_config(server, old);
}

/* ---- listeners ---- */

static void on_accepted(void *owner, int fd, const struct pst_address *peer)
{
    pst_connection_accept(owner, fd, peer);
}

static const struct pst_acceptor_ops acceptor_ops = {on_accepted};

static void free_listener(struct pst_open_listener *listener)
{
    pst_acceptor_close(listener->acceptor);
    pst_list_remove(&listener->node);
    free((char *)(uintptr_t)listener->name.ptr); /* and json_name */
    free(listener);
}

enum pst_status pst_server_listen(struct pst_server *server, uint32_t index, int fd)
{
    struct pst_open_listener *listener = calloc(1, sizeof(*listener));
    struct pst_bytes name = server->uses->config->listeners[index].name;
    char *copy = malloc(name.len + PST_LISTENER_NAME_MAX);

    if (listener == NULL || copy == NULL) {
        free(listener);
        free(copy);
        close(fd);
        return PST_E_NOMEM;
    }
    memcpy(copy, name.ptr == NULL ? "" : name.ptr, name.len);
    listener->server = server;
    listener->index = index;
    listener->name = pst_bytes_of(copy, name.len);
    struct pst_buf json = pst_buf_of(copy + name.len, PST_LISTENER_NAME_MAX);
    pst_buf_json(&json, name);
    listener->json_name = json.full ? PST_LIT("\"\"") : pst_buf_bytes(&json);
    pst_list_append(&server->listeners, &listener->node);
    enum pst_status status =
        pst_acceptor_open(server->worker, fd, &acceptor_ops, listener, &listener->acceptor);
    if (status != PST_OK)
        free_listener(listener);
    return status;
}

bool pst_server_listens(const struct pst_server *server, struct pst_bytes name)
{
    for (struct pst_list *at = server->listeners.next; at != &server->listeners; at = at->next) {
        struct pst_open_listener *listener = pst_container_of(at, struct pst_open_listener, node);
        if (listener->acceptor != NULL && pst_bytes_equal(listener->name, name))
            return true;
    }
    return false;
}

/* ---- drain ---- */

static void on_drained(struct pst_deferred *deferred)
{
    struct pst_server *server = pst_container_of(deferred, struct pst_server, drained);

    pst_timer_cancel(&server->drain_timer);
    if (server->drain_told)
        return;
    server->drain_told = true;
    if (server->ops != NULL && server->ops->drained != NULL)
        server->ops->drained(server->owner);
}

static void close_all(struct pst_server *server)
{
    while (!pst_list_empty(&server->connections))
        pst_connection_close(
            pst_container_of(server->connections.next, struct pst_connection, node));
}

static void on_drain_timer(struct pst_timer *timer)
{
    close_all(pst_container_of(timer, struct pst_server, drain_timer));
}

void pst_server_connection_gone(struct pst_server *server)
{
    server->connection_count--;
    atomic_store_explicit(&server->metrics->connections_open, server->connection_count,
                          memory_order_relaxed);
    if (server->draining && server->connection_count == 0)
        pst_worker_defer(server->worker, &server->drained);
}

void pst_server_drain(struct pst_server *server)
{
    if (server->draining)
        return;
    for (struct pst_list *at = server->listeners.next; at != &server->listeners; at = at->next) {
        struct pst_open_listener *listener = pst_container_of(at, struct pst_open_listener, node);
        if (server->uses->config->listeners[listener->index].kind == PST_LISTENER_LOCAL)
            continue; /* /readyz goes on answering */
        if (listener->acceptor != NULL)
            pst_acceptor_flush(listener->acceptor);
        close_listener(listener);
    }
    server->draining = true;
    end_keep_alive(server);
    pst_pools_close_idle(server->pools);
    if (server->connection_count == 0)
        pst_worker_defer(server->worker, &server->drained);
    else
        pst_timer_set(server->worker, &server->drain_timer,
                      pst_worker_now(server->worker) +
                          server->uses->config->limits.drain_total_s * PST_NS_PER_S);
}

uint32_t pst_server_connections(const struct pst_server *server)
{
    return server->connection_count;
}

/* ---- life ---- */

enum pst_status pst_server_create(struct pst_worker *worker, struct pst_engine *engine,
                                  const struct pst_server_config *config,
                                  const struct pst_server_ops *ops, void *owner,
                                  struct pst_server **out)
{
    *out = NULL;
    struct pst_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return PST_E_NOMEM;
    server->worker = worker;
    server->engine = engine;
    server->metrics = pst_engine_metrics(engine);
    server->log = pst_engine_log(engine);
    server->ops = ops;
    server->owner = owner;
    server->retry_tokens = 10;
    for (unsigned i = 0; i < PST_REASONS; i++) {
        const char *name = pst_reason_name((enum pst_reason)i);
        server->reasons[i] = pst_bytes_of(name, strnlen(name, 64));
    }
    pst_list_init(&server->listeners);
    pst_list_init(&server->connections);
    pst_list_init(&server->relaying);
    server->drain_timer.fire = on_drain_timer;
    server->drained.run = on_drained;
    server->ticker.tick = on_tick;
    pst_random(server->random, sizeof(server->random));
    server->random[0] |= 1; /* never both zero */
    pst_worker_add_ticker(worker, &server->ticker);
    read_wall(server);
    server->uses = calloc(1, sizeof(*server->uses));
    if (server->uses == NULL ||
        pst_pools_create(worker, server->metrics, &server->pools) != PST_OK) {
        pst_server_destroy(server);
        return PST_E_NOMEM;
    }
    server->uses->config = config;
    *out = server;
    return PST_OK;
}

void pst_server_destroy(struct pst_server *server)
{
    if (server == NULL)
        return;
    server->draining = false;
    close_all(server);
    for (struct pst_list *at = server->listeners.next, *next; at != &server->listeners; at = next) {
        next = at->next;
        free_listener(pst_container_of(at, struct pst_open_listener, node));
    }
    pst_pools_destroy(server->pools);
    while (server->free_exchanges != NULL) {
        struct pst_exchange *x = server->free_exchanges;
        server->free_exchanges = x->next_free;
        pst_arena_fini(&x->arena);
        free(x);
    }
    pst_timer_cancel(&server->drain_timer);
    pst_deferred_cancel(&server->drained);
    pst_worker_remove_ticker(&server->ticker);
    while (server->uses != NULL)
        release_config(server, server->uses);
    free(server);
}
