/*
 * The life of one request, top to bottom:
 *
 *   READ     the head comes in (connection.c)
 *   DECIDE   canonical form, then the engine; it may want the body, or time
 *   CONNECT  an upstream connection is leased
 *   RELAY    the rewritten request goes up, the rewritten answer comes down
 *   ANSWER   (instead) Postern answered itself and drops what is left of the request
 *   DONE     logged; advance() ends it
 *
 * Retry (O13): only what cannot have been acted on is sent again. A request that no byte of was
 * taken by the kernel, with the part of its body that was to go with it, or one with an idempotent
 * method and no body whose reused connection ended without a byte of an answer; once, on a fresh
 * connection, within a budget of a tenth of all requests.
 */
#include <assert.h>
#include <stdlib.h>

#include "proxy_internal.h"

#define BARE_BYTES 16384 /* room for a request that is written in its upstream's buffer */

static const bool edges[PST_X_STATES][PST_X_STATES] = {
    [PST_X_READ] = {[PST_X_DECIDE] = true, [PST_X_ANSWER] = true},
    [PST_X_DECIDE] = {[PST_X_CONNECT] = true, [PST_X_ANSWER] = true},
    [PST_X_CONNECT] = {[PST_X_RELAY] = true, [PST_X_ANSWER] = true},
    [PST_X_RELAY] = {[PST_X_CONNECT] = true, [PST_X_ANSWER] = true, [PST_X_DONE] = true},
    [PST_X_ANSWER] = {[PST_X_DONE] = true},
};

void pst_exchange_goto(struct pst_exchange *x, enum pst_xstate state)
{
    assert(edges[x->state][state]);
    x->state = state;
    x->deadline_ns = 0;
}

static uint64_t now_of(const struct pst_exchange *x)
{
    return pst_worker_now(x->server->worker);
}

/* ---- DECIDE ---- */

static void enter_connect(struct pst_exchange *x, bool fresh);

static bool body_is_announced_too_large(const struct pst_exchange *x)
{
    uint64_t limit = x->decide.decision.body_limit;

    return x->head.framing == PST_FRAMING_LENGTH && x->head.content_length > limit;
}

static void on_decided(struct pst_exchange *x)
{
    const struct pst_decision *d = &x->decide.decision;

    x->decided = true;
    x->decided_ns = now_of(x);
    if (x->listener->kind == PST_LISTENER_LOCAL) {
        pst_answer_local(x);
    } else if (x->listener->kind == PST_LISTENER_CHECK) {
        pst_answer_check(x);
    } else if (!d->forward) {
        pst_answer_decision(x);
    } else if (x->request.is_upgrade) {
        pst_answer_fault(x, 403, PST_R_UPGRADE, "upgrades are not passed on");
    } else if (d->upstream >= x->config->upstream_count) {
        pst_answer_fault(x, 500, PST_R_INTERNAL, "no such upstream");
    } else if (body_is_announced_too_large(x)) {
        pst_answer_fault(x, 413, PST_R_BODY_TOO_LARGE, NULL);
    } else {
        x->upstream = &x->config->upstreams[d->upstream];
        if (!x->collected)
            x->body.limits.body_bytes = d->body_limit == UINT64_MAX ? 0 : d->body_limit;
        pst_answer_continue(x);
        enter_connect(x, false);
    }
}

static void on_step(struct pst_exchange *x, enum pst_step step);

static void collect(struct pst_exchange *x)
{
    bool done = false, too_large = false;

    pst_relay_collect(x, x->decide.body_limit, &done, &too_large);
    if (x->state != PST_X_DECIDE || x->c->doomed)
        return; /* the body was no body */
    if (done || too_large) {
        x->collecting = false;
        x->collected = done;
        x->body_from_ns = 0;
        on_step(x, pst_engine_body(&x->decide, pst_buf_bytes(&x->collect), too_large));
    }
}

static void on_step(struct pst_exchange *x, enum pst_step step)
{
    switch (step) {
    case PST_STEP_DONE:
        on_decided(x);
        return;
    case PST_STEP_BODY:
        if (x->listener->kind == PST_LISTENER_CHECK) {
            /* There is no body to look at: what hangs on it is refused. */
            on_step(x, pst_engine_body(&x->decide, (struct pst_bytes){0}, true));
            return;
        }
        x->collecting = true;
        x->body_from_ns = now_of(x);
        pst_answer_continue(x);
        collect(x);
        return;
    case PST_STEP_WAIT:
        return;
    }
}

static void on_resume(struct pst_decide *decide)
{
    struct pst_exchange *x = pst_container_of(decide, struct pst_exchange, decide);
    struct pst_connection *c = x->c;

    if (x->state == PST_X_DECIDE && x->deciding && !c->dead)
        on_step(x, decide->step);
    pst_connection_advance(c);
}

/* The parser has seen most hosts to be canonical already. */
static bool fill_host(struct pst_exchange *x)
{
    const struct pst_head *head = &x->head;

    if (head->host_name_len == 0)
        return pst_host_parse(head->host, x->host_space, &x->host);
    x->host = (struct pst_host){.text = head->host,
                                .name = pst_bytes_of(head->host.ptr, head->host_name_len),
                                .port = head->host_port};
    return true;
}

/* Nearly all checks ask for one and the same target: once it was found to have no other form than
 * this, it need not be read again. */
static bool is_plain(const struct pst_exchange *x)
{
    const struct pst_open_listener *l = x->c->listener;

    return l->plain_len > 0 &&
           pst_bytes_equal(x->head.target, pst_bytes_of(l->plain, l->plain_len));
}

static void note_plain(struct pst_exchange *x)
{
    struct pst_open_listener *l = x->c->listener;
    struct pst_bytes path = x->target.path;

    if (x->listener->kind != PST_LISTENER_CHECK || path.len > sizeof(l->plain) ||
        x->target.query.len > 0 || x->target.oddities != 0 || x->target.asterisk ||
        !pst_bytes_equal(path, x->head.target) || !pst_bytes_equal(path, x->target.target))
        return;
    memcpy(l->plain, path.ptr, path.len);
    l->plain_len = (uint8_t)path.len;
}

static bool parse_target(struct pst_exchange *x, struct pst_fault *fault)
{
    const struct pst_head *head = &x->head;
    size_t cap = head->target.len + 256;
    char *space = pst_arena_alloc(&x->arena, cap);

    if (space == NULL) {
        pst_answer_fault(x, 503, PST_R_OVERLOAD, NULL);
        return false;
    }
    if (!pst_target_parse(head->method, head->target, &x->host, space, cap, &x->target, fault)) {
        pst_answer_fault(x, fault->status, PST_R_BAD_TARGET, fault->reason);
        return false;
    }
    note_plain(x);
    return true;
}

/* What the client asks this door for. */
static bool read_target(struct pst_exchange *x)
{
    const struct pst_head *head = &x->head;
    struct pst_fault fault = {.status = 400, .reason = "Host"};

    if (!pst_filter_connection(&x->config->filter, head, &fault) || !fill_host(x)) {
        pst_answer_fault(x, fault.status, PST_R_BAD_REQUEST, fault.reason);
        return false;
    }
    if (!is_plain(x))
        return parse_target(x, &fault);
    x->target = (struct pst_target){.target = head->target, .path = head->target};
    return true;
}

static void fill_request(struct pst_exchange *x)
{
    const struct pst_head *head = &x->head;

    x->request = (struct pst_request){
        .method = head->method_text,
        .host = x->host.text,
        .path = x->target.path,
        .query = x->target.query,
        .oddities = x->target.oddities,
        .fields = head->fields,
        .field_count = (uint32_t)head->count,
        .has_body = head->framing == PST_FRAMING_CHUNKED ||
                    (head->framing == PST_FRAMING_LENGTH && head->content_length > 0),
        .is_upgrade = head->upgrade == PST_UPGRADE_WEBSOCKET,
    };
}

/* CHECK: the dialect names the request that is decided. */
static bool fill_from_door(struct pst_exchange *x)
{
    const struct pst_door *door = &x->listener->door;
    enum pst_reason reason =
        door->read(door->self, &x->head, &x->host, x->c->trusted, &x->arena, &x->request);

    if (reason == PST_R_INTERNAL)
        return true;
    fill_request(x);
    pst_answer_fault(x, pst_reason_status(reason), reason, NULL);
    return false;
}

/* Whether the node may decide anything is the engine's to say, which may have to read the log. */
static void begin_local(struct pst_exchange *x)
{
    const struct pst_door *door = &x->listener->door;

    if (door->asks_lease == NULL || !door->asks_lease(door->self, &x->head)) {
        pst_answer_local(x);
        return;
    }
    pst_exchange_goto(x, PST_X_DECIDE);
    x->decide.resume = on_resume;
    x->deciding = true;
    on_step(x, pst_engine_begin_lease(x->server->engine, &x->decide));
}

/* Clients tell us themselves what they have seen, whichever door asks for them. */
static bool fill_min_revision(struct pst_exchange *x)
{
    bool more;

    (void)pst_head_only(&x->head, PST_FIELD_POSTERN_MIN_REVISION, &x->request.min_revision, &more);
    if (more)
        pst_answer_fault(x, 400, PST_R_AMBIGUOUS, "Postern-Min-Revision stands twice");
    return !more;
}

void pst_exchange_begin(struct pst_exchange *x)
{
    pst_body_init(&x->body, &x->head, &x->config->limits.body);
    x->body.limits.body_bytes = 0; /* the decision names the limit */
    x->body_done = pst_body_is_done(&x->body);
    x->continued = !x->head.expect_continue || x->body_done;
    if (!x->head.keep_alive || x->server->draining)
        x->c->closing = true;
    pst_rewrite_request_id(x);
    if (x->listener->kind == PST_LISTENER_LOCAL) {
        begin_local(x);
        return;
    }
    if (!read_target(x))
        return;
    bool by_door = x->listener->kind == PST_LISTENER_CHECK && !x->target.asterisk;
    if (!by_door)
        fill_request(x);
    if (x->target.asterisk) {
        pst_answer_options(x);
        return;
    }
    if ((by_door && !fill_from_door(x)) || !fill_min_revision(x))
        return;
    pst_exchange_goto(x, PST_X_DECIDE);
    x->decide.resume = on_resume;
    x->deciding = true;
    on_step(x, pst_engine_begin(x->server->engine, &x->decide, x->listener->engine_index,
                                &x->request, &x->arena));
}

/* ---- CONNECT ---- */

static void on_lease_ready(struct pst_borrower *borrower, struct pst_loan *lease,
                           enum pst_status status);
static void on_upstream_readable(struct pst_borrower *borrower);
static void on_upstream_drained(struct pst_borrower *borrower);

static void connect_failed(struct pst_exchange *x, enum pst_status status)
{
    switch (status) {
    case PST_E_BUSY:
        pst_answer_upstream(
            x, 503, "the upstream failed several times in a row and is left alone for a moment");
        return;
    case PST_E_NOMEM:
    case PST_E_LIMIT:
        pst_answer_upstream(x, 503, "no room for another upstream connection");
        return;
    case PST_E_INVALID:
        pst_answer_upstream(x, 502, "no upstream address for this workspace");
        return;
    case PST_OK:
    case PST_PENDING:
    case PST_E_ABSENT:
    case PST_E_EXISTS:
    case PST_E_IO:
        pst_answer_upstream(x, 502, "the upstream cannot be reached");
        return;
    }
}

static void enter_relay(struct pst_exchange *x, struct pst_loan *lease);

static void enter_connect(struct pst_exchange *x, bool fresh)
{
    struct pst_loan *lease = NULL;

    pst_exchange_goto(x, PST_X_CONNECT);
    x->borrower.ready = on_lease_ready;
    x->borrower.readable = on_upstream_readable;
    x->borrower.drained = on_upstream_drained;
    enum pst_status status = pst_pools_lease(
        x->server->pools, x->upstream, x->decide.decision.workspace, fresh, &x->borrower, &lease);
    if (status == PST_PENDING)
        x->deadline_ns = now_of(x) + x->upstream->connect_s * PST_NS_PER_S;
    else if (status != PST_OK)
        connect_failed(x, status);
    else
        enter_relay(x, lease);
}

static void on_lease_ready(struct pst_borrower *borrower, struct pst_loan *lease,
                           enum pst_status status)
{
    struct pst_exchange *x = pst_container_of(borrower, struct pst_exchange, borrower);
    struct pst_connection *c = x->c;

    if (status == PST_OK)
        enter_relay(x, lease);
    else
        connect_failed(x, status);
    pst_connection_advance(c);
}

/* ---- RELAY ---- */

static bool may_retry(const struct pst_exchange *x, bool nothing_sent)
{
    if (x->retries > 0 || !x->lease->reused || x->answering || x->interim > 0)
        return false;
    if (nothing_sent)
        return true;
    if (x->request.has_body || x->server->retry_tokens < 1)
        return false;
    switch (x->head.method) {
    case PST_METHOD_GET:
    case PST_METHOD_HEAD:
    case PST_METHOD_OPTIONS:
    case PST_METHOD_PROPFIND:
    case PST_METHOD_PUT:
    case PST_METHOD_DELETE:
        return true;
    case PST_METHOD_OTHER:
    case PST_METHOD_POST:
    case PST_METHOD_PATCH:
    case PST_METHOD_CONNECT:
    case PST_METHOD_TRACE:
    case PST_METHOD_TRACK:
    case PST_METHOD_PROPPATCH:
    case PST_METHOD_MKCOL:
    case PST_METHOD_COPY:
    case PST_METHOD_MOVE:
    case PST_METHOD_LOCK:
    case PST_METHOD_UNLOCK:
    case PST_METHOD_COUNT:
        return false;
    }
    return false;
}

static void retry(struct pst_exchange *x)
{
    x->retries++;
    x->server->retry_tokens -= 1;
    pst_count(&x->server->metrics->upstream_retries, 1);
    pst_exchange_drop_lease(x, false);
    enter_connect(x, true);
}

/* What the kernel took nothing of the upstream cannot know; all that was read of the body must
 * still be there. */
static bool retry_untaken(struct pst_exchange *x)
{
    if (pst_stream_taken(&x->lease->stream) != x->lease_sent || !may_retry(x, true) ||
        x->collect.len != x->body.data_bytes)
        return false;
    retry(x);
    return true;
}

/* A request without a body, as most are, is written where it will be sent from. False: its head is
 * a large one, or it is to go at once. */
static bool send_bare(struct pst_exchange *x)
{
    struct pst_stream *up = &x->lease->stream;
    char *room = NULL;

    if (x->body_done && x->collect.len == 0 && x->head.framing != PST_FRAMING_CHUNKED &&
        x->head.size <= BARE_BYTES / 4)
        room = pst_stream_room(up, BARE_BYTES);
    if (room == NULL)
        return false;
    struct pst_buf head = pst_buf_of(room, BARE_BYTES);
    pst_rewrite_request(x, &head);
    pst_stream_commit(up, head.full ? 0 : head.len); /* the room is given back in any case */
    x->body_sent = !head.full;
    return x->body_sent;
}

static void send_request(struct pst_exchange *x)
{
    struct pst_buf head = pst_buf_of(x->server->scratch, sizeof(x->server->scratch));

    pst_rewrite_request(x, &head);
    if (head.full)
        pst_answer_fault(x, 431, PST_R_BAD_REQUEST, "the head does not fit");
    else
        pst_relay_request(x, pst_buf_bytes(&head));
}

static void enter_relay(struct pst_exchange *x, struct pst_loan *lease)
{
    struct pst_server *server = x->server;

    pst_exchange_goto(x, PST_X_RELAY);
    x->lease = lease;
    x->lease_received = lease->stream.received;
    x->lease_sent = lease->stream.sent;
    lease->stream.gathers = x->body_done; /* of a body what is sent is gone: it must go at once */
    x->connected_ns = x->progress_ns = now_of(x);
    x->deadline_ns = x->connected_ns + x->upstream->first_byte_s * PST_NS_PER_S;
    lease->requests++;
    if (x->retries == 0)
        pst_list_append(&server->relaying, &x->relay_node);
    if (server->retry_tokens < 100)
        server->retry_tokens += 0.1;
    pst_h1_init_response(&x->answer_parser, &x->config->limits.head, x->head.method);
    if (send_bare(x))
        return;
    send_request(x);
    if (x->lease != lease || x->state != PST_X_RELAY)
        return; /* given up: the request is none, or its client is gone */
    if (lease->stream.send_broken && retry_untaken(x))
        return;
    if (!x->body_done && x->body_from_ns == 0)
        x->body_from_ns = x->connected_ns;
}

void pst_exchange_drop_lease(struct pst_exchange *x, bool blame)
{
    struct pst_loan *lease = x->lease;

    x->lease = NULL;
    if (lease != NULL)
        pst_loan_fail(lease, blame);
}

static void stop_relaying(struct pst_exchange *x)
{
    if (x->relay_node.next == NULL)
        return;
    pst_list_remove(&x->relay_node);
    x->relay_node.next = NULL;
}

/* It would be refused now: neither side may take what it has for whole. */
static void on_cut(struct pst_decide *decide)
{
    struct pst_exchange *x = pst_container_of(decide, struct pst_exchange, decide);
    struct pst_connection *c = x->c;

    c->doomed = c->cut = true;
    pst_connection_advance(c);
}

void pst_exchange_hold(struct pst_exchange *x)
{
    stop_relaying(x);
    pst_engine_hold(&x->decide, on_cut);
}

/* The connection ended, or cannot be trusted any more, before the answer was complete. */
void pst_exchange_upstream_gone(struct pst_exchange *x)
{
    bool silent = x->lease->stream.received == x->lease_received;

    if (silent && may_retry(x, false)) {
        retry(x);
        return;
    }
    if (x->answering) {
        pst_exchange_drop_lease(x, false);
        x->c->doomed = true; /* the client has a part: it sees the cut */
        return;
    }
    pst_exchange_drop_lease(x, silent);
    pst_answer_upstream(x, 502,
                        silent ? "the upstream closed the connection without an answer"
                               : "the upstream's answer is incomplete");
}

static void bad_answer(struct pst_exchange *x, const char *why)
{
    pst_exchange_drop_lease(x, false);
    pst_answer_upstream(x, 502, why);
}

/* An interim answer. True: go on with the next head. */
static bool on_interim(struct pst_exchange *x)
{
    struct pst_buf out = pst_buf_of(x->server->scratch, sizeof(x->server->scratch));

    if (x->answer.status == 101) {
        bad_answer(x, "the upstream switched protocols unasked");
        return false;
    }
    if (++x->interim > x->config->limits.interim_responses) {
        bad_answer(x, "too many interim answers");
        return false;
    }
    if (x->answer.status != 100 && x->head.version_minor == 1) {
        pst_rewrite_interim(x, &out);
        struct iovec piece = {out.data, out.len};
        if (!out.full && pst_stream_send(&x->c->stream, &piece, 1) != PST_OK)
            x->c->doomed = true;
    }
    pst_stream_consume(&x->lease->stream, x->answer.size);
    pst_h1_init_response(&x->answer_parser, &x->config->limits.head, x->head.method);
    return !x->c->doomed;
}

static void on_final(struct pst_exchange *x)
{
    struct pst_server *server = x->server;
    struct pst_buf head = pst_buf_of(server->scratch, sizeof(server->scratch));

    x->status = x->answer.status;
    x->answering = x->answered = true;
    pst_loan_succeed(x->lease);
    if (!x->body_done)
        x->c->closing =
            true; /* an early answer: the client may not have read all before it stops */
    pst_body_init(&x->answer_body, &x->answer, &x->config->limits.body);
    x->answer_body.limits.body_bytes = 0;
    x->deadline_ns = now_of(x) + x->upstream->idle_body_s * PST_NS_PER_S;
    pst_rewrite_answer(x, &head);
    if (head.full) {
        x->answering = x->answered = false;
        bad_answer(x, "the answer's head does not fit");
        return;
    }
    pst_stream_consume(&x->lease->stream, x->answer.size);
    pst_relay_answer(x, pst_buf_bytes(&head));
}

static void read_answer_head(struct pst_exchange *x)
{
    struct pst_stream *s = &x->lease->stream;

    while (x->state == PST_X_RELAY && !x->answering && !x->c->doomed) {
        if (pst_stream_in(s).len == 0) {
            if (s->eof || s->broken)
                pst_exchange_upstream_gone(x);
            return;
        }
        switch (pst_h1_parse(&x->answer_parser, pst_stream_in(s), &x->answer)) {
        case PST_H1_MORE:
            if (s->eof || s->broken) {
                pst_exchange_upstream_gone(x);
            } else if (s->in.start > 0) {
                memmove(s->in.data, s->in.data + s->in.start, s->in.end - s->in.start);
                s->in.end -= s->in.start;
                s->in.start = 0;
            }
            return;
        case PST_H1_FAIL:
            bad_answer(x, x->answer_parser.fault.reason);
            return;
        case PST_H1_DONE:
            if (x->answer.status >= 200)
                on_final(x);
            else if (!on_interim(x))
                return;
        }
    }
}

static void on_upstream_readable(struct pst_borrower *borrower)
{
    struct pst_exchange *x = pst_container_of(borrower, struct pst_exchange, borrower);
    struct pst_connection *c = x->c;

    if (retry_untaken(x)) { /* it said something, or ended, before it was asked */
        pst_connection_advance(c);
        return;
    }
    x->progress_ns = now_of(x);
    if (x->first_byte_ns == 0) {
        x->first_byte_ns = x->progress_ns;
        x->deadline_ns = x->progress_ns + x->upstream->response_head_s * PST_NS_PER_S;
    }
    if (x->answering)
        pst_relay_answer(x, (struct pst_bytes){0});
    else
        read_answer_head(x);
    pst_connection_advance(c);
}

static void on_upstream_drained(struct pst_borrower *borrower)
{
    struct pst_exchange *x = pst_container_of(borrower, struct pst_exchange, borrower);
    struct pst_connection *c = x->c;

    if (!x->lease->stream.send_broken || !retry_untaken(x)) {
        x->progress_ns = now_of(x);
        pst_relay_request(x, (struct pst_bytes){0});
    }
    pst_connection_advance(c);
}

void pst_exchange_answer_complete(struct pst_exchange *x)
{
    struct pst_loan *lease = x->lease;
    bool keep =
        x->body_sent && x->answer.keep_alive && x->answer_body.framing != PST_FRAMING_UNTIL_CLOSE;

    lease->answers++;
    x->lease = NULL;
    pst_loan_release(lease, keep);
    pst_exchange_goto(x, PST_X_DONE);
}

/* ---- the client, time, and the end ---- */

void pst_exchange_client_input(struct pst_exchange *x)
{
    struct pst_connection *c = x->c;

    switch (x->state) {
    case PST_X_DECIDE:
        if (x->collecting) {
            collect(x);
            return;
        }
        break;
    case PST_X_RELAY:
        if (!x->body_done) {
            pst_relay_request(x, (struct pst_bytes){0});
            return;
        }
        break;
    case PST_X_ANSWER:
        pst_relay_drop_body(x);
        return;
    case PST_X_READ:
    case PST_X_CONNECT:
    case PST_X_DONE:
    case PST_X_STATES:
        break;
    }
    /* Of the next request, or not wanted yet: it stays where it is until this one is done. */
    if (!c->stream.eof)
        pst_stream_pause(&c->stream);
}

void pst_exchange_client_drained(struct pst_exchange *x)
{
    if (x->state == PST_X_RELAY && x->answering) {
        x->deadline_ns = now_of(x) + x->upstream->idle_body_s * PST_NS_PER_S;
        pst_relay_answer(x, (struct pst_bytes){0});
    }
}

static bool body_is_too_slow(const struct pst_exchange *x, uint64_t now_ns)
{
    const struct pst_server_limits *limits = &x->config->limits;

    if (x->body_from_ns == 0 || x->body_done || x->c->stream.paused)
        return false;
    uint64_t waited = now_ns - x->body_from_ns;
    return waited >= limits->body_rate_after_s * PST_NS_PER_S &&
           x->body.data_bytes < limits->body_rate_bytes * (waited / PST_NS_PER_S);
}

static void on_relay_deadline(struct pst_exchange *x, uint64_t now_ns)
{
    if (pst_stream_sending(&x->c->stream)) {
        x->deadline_ns = 0; /* it is the client that is waited for: the write stall counts */
    } else if (!x->answering) {
        /* An upstream that is still being sent the body is not silent. */
        uint64_t due = x->progress_ns + x->upstream->first_byte_s * PST_NS_PER_S;
        if (x->first_byte_ns == 0 && (!x->body_done || now_ns < due)) {
            x->deadline_ns = x->body_done ? due : now_ns + PST_NS_PER_S;
            return;
        }
        pst_exchange_drop_lease(x, true);
        pst_answer_upstream(x, 504, "the upstream took too long to answer");
    } else {
        uint64_t due = x->progress_ns + x->upstream->idle_body_s * PST_NS_PER_S;
        if (now_ns < due) {
            x->deadline_ns = due;
            return;
        }
        pst_exchange_upstream_gone(x);
    }
}

/* The head cannot be read: what came is no request, and nothing behind it can be told apart. */
void pst_exchange_give_up_head(struct pst_exchange *x)
{
    x->head_done = x->body_done = true;
    x->in_at = x->c->stream.in.end;
    x->head.version_minor = 1;
    x->head.method = PST_METHOD_OTHER;
    x->head.method_text = (struct pst_bytes){0};
    x->head.count = 0;
    x->head.expect_continue = false;
    x->c->closing = true;
}

void pst_exchange_on_deadline(struct pst_exchange *x, uint64_t now_ns)
{
    if (x->state == PST_X_READ) {
        if (now_ns < x->deadline_ns)
            return;
        if (pst_stream_in(&x->c->stream).len == 0) {
            x->c->doomed = true;
            return;
        }
        pst_exchange_give_up_head(x);
        pst_answer_fault(x, 408, PST_R_BAD_REQUEST, "the head took too long");
        return;
    }
    if (body_is_too_slow(x, now_ns)) {
        x->c->closing = true;
        if (x->answered || x->answering) {
            x->c->doomed = true;
            return;
        }
        pst_exchange_drop_lease(x, false);
        x->body_done = true;
        x->in_at = x->c->stream.in.end;
        pst_answer_fault(x, 408, PST_R_BAD_REQUEST, "the body comes too slowly");
        return;
    }
    if (x->deadline_ns == 0 || now_ns < x->deadline_ns)
        return;
    if (x->state == PST_X_CONNECT) {
        pst_pools_cancel(&x->borrower, true);
        pst_answer_upstream(x, 504, "the upstream did not accept the connection in time");
    } else if (x->state == PST_X_RELAY) {
        on_relay_deadline(x, now_ns);
    } else {
        x->c->doomed = true; /* ANSWER: the rest of the body did not come in time (H10) */
    }
}

void pst_exchange_end(struct pst_exchange *x)
{
    stop_relaying(x);
    pst_pools_cancel(&x->borrower, false);
    pst_exchange_drop_lease(x, false);
    if (x->head_done)
        pst_access_log(x);
    if (x->deciding)
        pst_engine_end(&x->decide);
    x->deciding = false;
    if (x->collect.data != NULL) {
        x->server->collected_bytes -= x->collect.cap;
        free(x->collect.data);
        x->collect = (struct pst_buf){0};
    }
}
