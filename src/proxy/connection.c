/*
 * A connection is idle (x NULL), has one exchange, or lingers: its last answer is sent, its sending
 * side shut, and what the client still sends is dropped for a while, so that the kernel does not
 * answer it with a reset that would cost the client the answer.
 */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy_internal.h"

#define REQUESTS_PER_TURN 8
#define EXCHANGES_KEPT    256
#define ARENA_CHUNK       4416 /* no power of two, for the CPU's caches */
#define ARENA_LIMIT       (8u << 20)
#define LAST_CALL_NS      (500 * PST_NS_PER_MS) /* a drain waits so long for a request under way */

/* ---- exchanges ---- */

static struct pst_exchange *take_exchange(struct pst_server *server)
{
    struct pst_exchange *x = server->free_exchanges;

    if (x != NULL) {
        server->free_exchanges = x->next_free;
        server->free_count--;
        return x;
    }
    x = malloc(sizeof(*x));
    if (x != NULL)
        pst_arena_init(&x->arena, ARENA_CHUNK, ARENA_LIMIT);
    return x;
}

static void give_exchange(struct pst_server *server, struct pst_exchange *x)
{
    if (server->free_count >= EXCHANGES_KEPT) {
        pst_arena_fini(&x->arena);
        free(x);
        return;
    }
    pst_arena_reset(&x->arena);
    x->next_free = server->free_exchanges;
    server->free_exchanges = x;
    server->free_count++;
}

static bool begin_exchange(struct pst_connection *c)
{
    struct pst_exchange *x = take_exchange(c->server);

    if (x == NULL)
        return false;
    memset(&x->state, 0,
           offsetof(struct pst_exchange, decide) - offsetof(struct pst_exchange, state));
    x->request.method = x->request.path = (struct pst_bytes){0};
    x->body.data_bytes = 0;
    x->c = c;
    x->server = c->server;
    x->use = pst_server_use(c->server);
    x->config = x->use->config;
    x->listener = &x->config->listeners[c->listener->index];
    x->begun_ns = pst_worker_now(c->server->worker);
    x->deadline_ns = x->begun_ns + x->config->limits.request_head_s * PST_NS_PER_S;
    x->sent_from = c->stream.sent;
    pst_h1_init_request(&x->parser, &x->config->limits.head);
    c->x = x;
    c->in_turn++;
    return true;
}

/* The exchange is over: its bytes leave the input, the next request may begin. */
static void end_exchange(struct pst_connection *c)
{
    struct pst_exchange *x = c->x;

    pst_exchange_end(x);
    if (c->stream.fd >= 0 && x->head_done)
        pst_stream_consume(&c->stream, x->in_at - c->stream.in.start);
    pst_server_unuse(c->server, x->use);
    c->x = NULL;
    give_exchange(c->server, x);
}

/* ---- the end of a connection ---- */

static void free_connection(struct pst_grave *grave)
{
    free(pst_container_of(grave, struct pst_connection, grave));
}

/* An answer that ends where the connection does, and is not over: only a reset shows the client
 * that. */
static bool is_torn(const struct pst_exchange *x)
{
    return x != NULL && x->state == PST_X_RELAY && x->answering && !x->chunked_out &&
           x->answer_body.framing != PST_FRAMING_LENGTH;
}

void pst_connection_close(struct pst_connection *c)
{
    struct pst_server *server = c->server;

    if (c->dead)
        return;
    c->dead = true;
    c->cut = c->cut || is_torn(c->x);
    if (c->x != NULL)
        end_exchange(c);
    pst_count(&server->metrics->bytes_in, c->stream.received);
    pst_count(&server->metrics->bytes_out, c->stream.sent);
    if (c->cut)
        pst_stream_reset(&c->stream);
    else
        pst_stream_close(&c->stream);
    pst_timer_cancel(&c->timer);
    pst_deferred_cancel(&c->again);
    pst_list_remove(&c->node);
    pst_worker_bury(server->worker, &c->grave, free_connection);
    pst_server_connection_gone(server);
}

/* What comes now is dropped: at most drain_bytes and drain_s. */
static void linger(struct pst_connection *c)
{
    const struct pst_server_limits *limits = &c->server->uses->config->limits;

    if (!c->lingering) {
        c->lingering = true;
        pst_stream_finish(&c->stream);
        pst_timer_set(c->server->worker, &c->timer,
                      pst_worker_now(c->server->worker) + limits->drain_s * PST_NS_PER_S);
        pst_stream_resume(&c->stream);
    }
    size_t len = pst_stream_in(&c->stream).len;
    c->lingered += (uint32_t)len;
    pst_stream_consume(&c->stream, len);
    if (c->stream.eof || c->stream.broken || c->lingered > limits->drain_bytes)
        pst_connection_close(c);
}

/* ---- which request is next ---- */

/* Moves the input to the front, so that a head has all the room there is. */
static void compact(struct pst_stream *s)
{
    if (s->in.start == 0)
        return;
    memmove(s->in.data, s->in.data + s->in.start, s->in.end - s->in.start);
    s->in.end -= s->in.start;
    s->in.start = 0;
}

/* True when an exchange was begun and its head may be read. */
static bool next_request(struct pst_connection *c)
{
    struct pst_server *server = c->server;

    if (pst_stream_sending(&c->stream)) { /* the last answer first; drained() goes on */
        pst_timer_set(server->worker, &c->timer,
                      c->stream.stalled_ns +
                          server->uses->config->limits.write_stall_s * PST_NS_PER_S);
        return false;
    }
    if (c->closing) {
        linger(c);
        return false;
    }
    if (c->listener->removed) { /* its rules are gone: nothing more is decided by them */
        pst_connection_close(c);
        return false;
    }
    if (pst_stream_in(&c->stream).len == 0) {
        if (c->stream.eof) {
            pst_connection_close(c);
            return false;
        }
        if (c->stream.paused)
            pst_stream_resume(&c->stream);
        uint64_t idle_ns = server->uses->config->limits.keepalive_idle_s * PST_NS_PER_S;
        pst_timer_set(server->worker, &c->timer,
                      pst_worker_now(server->worker) + (server->draining ? LAST_CALL_NS : idle_ns));
        return false;
    }
    if (c->in_turn >= REQUESTS_PER_TURN) {
        pst_worker_defer(server->worker, &c->again); /* others first (O5) */
        return false;
    }
    /* Behind the head there must be room for a body, and the head cannot move once it is read. */
    if (c->stream.in.start > PST_BLOCK_BYTES / 8)
        compact(&c->stream);
    if (begin_exchange(c))
        return true;
    pst_connection_close(c);
    return false;
}

/* A head may begin before a reload and end after it. The engine decides by the site of now, whose
 * numbers of listeners and upstreams are those of the doors of now. */
static bool follow_reload(struct pst_connection *c)
{
    struct pst_exchange *x = c->x;

    if (x->use == c->server->uses)
        return true;
    if (c->listener->removed) {
        c->doomed = true;
        return false;
    }
    pst_server_unuse(c->server, x->use);
    x->use = pst_server_use(c->server);
    x->config = x->use->config;
    x->listener = &x->config->listeners[c->listener->index];
    return true;
}

static void read_head(struct pst_connection *c)
{
    struct pst_exchange *x = c->x;

    switch (pst_h1_parse(&x->parser, pst_stream_in(&c->stream), &x->head)) {
    case PST_H1_MORE:
        if (c->stream.eof || c->stream.broken) {
            c->doomed = true;
            return;
        }
        compact(&c->stream);
        if (c->stream.paused)
            pst_stream_resume(&c->stream);
        pst_connection_arm(c);
        return;
    case PST_H1_DONE:
        x->head_done = true;
        x->in_at = c->stream.in.start + x->head.size;
        if (follow_reload(c))
            pst_exchange_begin(x);
        return;
    case PST_H1_FAIL:
        pst_exchange_give_up_head(x);
        pst_answer_fault(x, x->parser.fault.status, PST_R_BAD_REQUEST, x->parser.fault.reason);
        return;
    }
}

void pst_connection_advance(struct pst_connection *c)
{
    while (!c->dead) {
        if (c->doomed) {
            pst_connection_close(c);
            return;
        }
        if (c->x != NULL && c->x->state == PST_X_DONE) {
            end_exchange(c);
            continue;
        }
        if (c->x == NULL && !next_request(c))
            return;
        if (c->x->state != PST_X_READ) {
            pst_connection_arm(c);
            return;
        }
        read_head(c);
        if (c->x->state == PST_X_READ && !c->doomed)
            return;
    }
}

/* ---- time ---- */

void pst_connection_arm(struct pst_connection *c)
{
    struct pst_exchange *x = c->x;
    uint64_t due = x->deadline_ns;
    const struct pst_server_limits *limits = &x->config->limits;

    if (x->body_from_ns != 0 && !x->body_done) {
        uint64_t slow = x->body_from_ns + limits->body_rate_after_s * PST_NS_PER_S;
        uint64_t now_ns = pst_worker_now(c->server->worker);
        if (slow <= now_ns)
            slow = now_ns + PST_NS_PER_S;
        if (due == 0 || slow < due)
            due = slow;
    }
    if (c->stream.stalled_ns != 0) {
        uint64_t stall = c->stream.stalled_ns + limits->write_stall_s * PST_NS_PER_S;
        if (due == 0 || stall < due)
            due = stall;
    }
    if (due == 0)
        pst_timer_unset(&c->timer);
    else
        pst_timer_set(c->server->worker, &c->timer, due);
}

static void on_timer(struct pst_timer *timer)
{
    struct pst_connection *c = pst_container_of(timer, struct pst_connection, timer);
    struct pst_exchange *x = c->x;
    uint64_t now_ns = pst_worker_now(c->server->worker);
    const struct pst_server_limits *limits = &c->server->uses->config->limits;

    if (c->stream.stalled_ns != 0 &&
        now_ns - c->stream.stalled_ns >= limits->write_stall_s * PST_NS_PER_S) {
        c->doomed = c->cut = true; /* O2: a reader that does not read */
    } else if (x == NULL) {
        /* Idle or lingering for too long; an answer that is still being sent has its own limit. */
        if (pst_stream_sending(&c->stream))
            pst_timer_set(c->server->worker, timer,
                          c->stream.stalled_ns + limits->write_stall_s * PST_NS_PER_S);
        else if (c->lingering || !pst_stream_read(&c->stream) || c->stream.broken)
            c->doomed = true; /* else a request came in this very moment */
    } else {
        pst_exchange_on_deadline(x, now_ns);
    }
    pst_connection_advance(c);
}

/* Idle, and its listener closes: a request that is on its way is still answered, with `close`. */
void pst_connection_last_call(struct pst_connection *c)
{
    if (c->x == NULL && !c->closing && !pst_stream_sending(&c->stream))
        pst_timer_set(c->server->worker, &c->timer,
                      pst_worker_now(c->server->worker) + LAST_CALL_NS);
}

/* ---- the socket ---- */

static void on_readable(struct pst_stream *stream)
{
    struct pst_connection *c = pst_container_of(stream, struct pst_connection, stream);

    c->in_turn = 0;
    if (stream->broken)
        c->doomed = true;
    else if (c->lingering)
        linger(c);
    else if (c->x != NULL && c->x->state != PST_X_READ)
        pst_exchange_client_input(c->x);
    if (!c->lingering)
        pst_connection_advance(c);
}

static void on_drained(struct pst_stream *stream)
{
    struct pst_connection *c = pst_container_of(stream, struct pst_connection, stream);

    if (c->lingering)
        return;
    if (stream->broken || stream->send_broken)
        c->doomed = true;
    else if (c->x != NULL)
        pst_exchange_client_drained(c->x);
    pst_connection_advance(c);
}

static void run_again(struct pst_deferred *deferred)
{
    struct pst_connection *c = pst_container_of(deferred, struct pst_connection, again);

    c->in_turn = 0;
    pst_connection_advance(c);
}

static const struct pst_stream_ops client_ops = {.readable = on_readable, .drained = on_drained};

void pst_connection_accept(struct pst_open_listener *listener, int fd,
                           const struct pst_address *peer)
{
    struct pst_server *server = listener->server;
    const struct pst_server_config *config = server->uses->config;
    const struct pst_listener_config *lc = &config->listeners[listener->index];
    struct pst_connection *c = NULL;

    if (config->limits.connections == 0 || server->connection_count < config->limits.connections)
        c = calloc(1, sizeof(*c));
    if (c == NULL || pst_stream_open(&c->stream, server->worker, &client_ops, fd) != PST_OK) {
        free(c);
        close(fd);
        return;
    }
    c->stream.gathers = true;
    c->server = server;
    c->listener = listener;
    c->timer.fire = on_timer;
    c->again.run = run_again;
    c->trusted = pst_cidr_holds(lc->trusted, lc->trusted_count, peer);
    struct pst_buf text = pst_buf_of(c->peer, sizeof(c->peer));
    pst_address_host(peer, &text);
    c->peer_len = (uint8_t)text.len;
    c->peer_kind = pst_bytes_equal(pst_buf_bytes(&text), PST_LIT("unix")) ? PST_PEER_UNIX
                   : pst_bytes_find(pst_buf_bytes(&text), ':') < text.len ? PST_PEER_V6
                                                                          : PST_PEER_V4;
    pst_list_append(&server->connections, &c->node);
    server->connection_count++;
    pst_count(&server->metrics->connections, 1);
    atomic_store_explicit(&server->metrics->connections_open, server->connection_count,
                          memory_order_relaxed);
    pst_timer_set(server->worker, &c->timer,
                  pst_worker_now(server->worker) + config->limits.request_head_s * PST_NS_PER_S);
}
