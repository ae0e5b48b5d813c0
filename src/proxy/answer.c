/*
 * What Postern says itself.  Every refusal carries its reason and, where there was one, the
 * decision's id; a check (auth_request) never carries a body, because nginx then opens a connection
 * per check.
 */
#include "proxy_internal.h"

#include <assert.h>

#define BODY_MAX       PST_BLOCK_BYTES
#define CHECK_HEAD_MAX 4352 /* with the fields of a check: about 4096 bytes */

static struct pst_bytes reason_phrase(unsigned status)
{
    switch (status) {
    case 200:
        return PST_LIT("OK");
    case 204:
        return PST_LIT("No Content");
    case 400:
        return PST_LIT("Bad Request");
    case 401:
        return PST_LIT("Unauthorized");
    case 403:
        return PST_LIT("Forbidden");
    case 404:
        return PST_LIT("Not Found");
    case 405:
        return PST_LIT("Method Not Allowed");
    case 408:
        return PST_LIT("Request Timeout");
    case 413:
        return PST_LIT("Content Too Large");
    case 414:
        return PST_LIT("URI Too Long");
    case 417:
        return PST_LIT("Expectation Failed");
    case 421:
        return PST_LIT("Misdirected Request");
    case 431:
        return PST_LIT("Request Header Fields Too Large");
    case 500:
        return PST_LIT("Internal Server Error");
    case 501:
        return PST_LIT("Not Implemented");
    case 502:
        return PST_LIT("Bad Gateway");
    case 503:
        return PST_LIT("Service Unavailable");
    case 504:
        return PST_LIT("Gateway Timeout");
    case 505:
        return PST_LIT("HTTP Version Not Supported");
    default:
        return PST_LIT("Refused");
    }
}

/* May the client go on with this connection once the answer is read? Only when what is left of the
 * body is known to be little and on its way. */
static void settle_body(struct pst_exchange *x)
{
    const struct pst_server_limits *limits = &x->config->limits;

    if (x->body_done)
        return;
    if (!x->continued || x->head.framing != PST_FRAMING_LENGTH ||
        x->head.content_length > limits->drain_bytes)
        x->c->closing = true;
}

static __attribute__((noinline)) bool send_pieces(struct pst_exchange *x,
                                                  const struct pst_buf *head, struct pst_bytes body)
{
    struct iovec pieces[2] = {{head->data, head->len}, {(char *)(uintptr_t)body.ptr, body.len}};
    bool with_body = body.len > 0 && x->head.method != PST_METHOD_HEAD;

    return pst_stream_send(&x->c->stream, pieces, with_body ? 2 : 1) == PST_OK;
}

static void send_answer(struct pst_exchange *x, const struct pst_buf *head, struct pst_bytes body)
{
    bool is_there = head->data != x->server->scratch; /* in the stream's buffer */

    if (head->full || (!is_there && !send_pieces(x, head, body))) {
        x->c->doomed = true;
        return;
    }
    if (is_there)
        pst_stream_commit(&x->c->stream, head->len);
    pst_exchange_goto(x, PST_X_ANSWER);
    x->deadline_ns = pst_worker_now(x->server->worker) + x->config->limits.drain_s * PST_NS_PER_S;
    pst_relay_drop_body(x);
}

static char *put_status(char *to, unsigned status)
{
    if (status == 200) /* nearly every check */
        return pst_put_lit(to, "HTTP/1.1 200 OK\r\n");
    to = pst_put_u64(pst_put_lit(to, "HTTP/1.1 "), status);
    to = pst_put(pst_put_lit(to, " "), reason_phrase(status));
    return pst_put_lit(to, "\r\n");
}

static void settle_answer(struct pst_exchange *x, unsigned status)
{
    assert(!x->answered);
    x->answered = true;
    x->status = status;
    settle_body(x);
}

/* Begins an answer; the caller adds fields, then ends it. */
static struct pst_buf begin_answer(struct pst_exchange *x, unsigned status)
{
    struct pst_buf out = pst_buf_of(x->server->scratch, PST_BLOCK_BYTES);

    settle_answer(x, status);
    pst_buf_close(&out, put_status(out.data, status));
    return out;
}

/* For who sees the answer itself (RFC 9110 section 6.6.1); a check's is its proxy's to date. */
static void put_date(struct pst_exchange *x, struct pst_buf *out)
{
    if (x->listener->kind == PST_LISTENER_CHECK)
        return;
    pst_buf_lit(out, "Date: ");
    pst_buf_http_date(out, pst_clock_wall_ns());
    pst_buf_lit(out, "\r\n");
}

static void end_answer(struct pst_exchange *x, struct pst_buf *out, const char *type,
                       struct pst_bytes body)
{
    if (body.len > 0 && type != NULL)
        pst_buf_line(out, PST_LIT("Content-Type"), pst_bytes_of(type, strnlen(type, 128)));
    if (body.len == 0) {
        pst_buf_lit(out, "Content-Length: 0\r\n");
    } else {
        pst_buf_lit(out, "Content-Length: ");
        pst_buf_u64(out, body.len);
        pst_buf_lit(out, "\r\n");
    }
    put_date(x, out);
    if (x->c->closing)
        pst_buf_lit(out, "Connection: close\r\n");
    else if (x->head.version_minor == 0)
        pst_buf_lit(out, "Connection: keep-alive\r\n");
    pst_buf_lit(out, "\r\n");
    send_answer(x, out, body);
}

static struct pst_buf body_space(struct pst_exchange *x)
{
    return pst_buf_of(x->server->scratch + PST_BLOCK_BYTES, BODY_MAX);
}

static void put_reason(struct pst_buf *out, enum pst_reason reason, struct pst_bytes decision_id)
{
    const char *name = pst_reason_name(reason);

    pst_buf_line(out, PST_LIT("X-Postern-Reason"), pst_bytes_of(name, strnlen(name, 64)));
    if (decision_id.len > 0)
        pst_buf_line(out, PST_LIT("X-Postern-Decision-Id"), decision_id);
}

/* A 405 owes it (RFC 9110 section 15.5.6), also where it was refused before any route was found. */
static void put_allow(const struct pst_exchange *x, const char *allow, struct pst_buf *out)
{
    if (allow == NULL && x->listener->kind == PST_LISTENER_LOCAL)
        allow = "GET, HEAD";
    else if (allow == NULL)
        allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    pst_buf_line(out, PST_LIT("Allow"), pst_bytes_of(allow, strnlen(allow, 256)));
}

/* A refusal in the app's own form. `d` is the engine's decision, or made up for a fault. */
static void answer_refusal(struct pst_exchange *x, const struct pst_decision *d)
{
    struct pst_buf out = begin_answer(x, d->status), body = body_space(x);
    const char *type = NULL;

    pst_engine_refusal_body(d, &body, &type);
    put_reason(&out, d->reason, d->id);
    if (d->status == 401) {
        pst_buf_lit(&out, "WWW-Authenticate: ");
        pst_engine_challenge(d, &out);
        pst_buf_lit(&out, "\r\n");
    }
    if (d->status == 405)
        put_allow(x, d->allow, &out);
    if (d->status == 503) {
        pst_buf_lit(&out, "Retry-After: ");
        pst_buf_u64(&out, d->retry_after_s > 0 ? d->retry_after_s : 1);
        pst_buf_lit(&out, "\r\n");
    }
    pst_buf_line(&out, PST_LIT("X-Request-Id"), x->id);
    end_answer(x, &out, type, body.full ? (struct pst_bytes){0} : pst_buf_bytes(&body));
}

void pst_answer_decision(struct pst_exchange *x)
{
    answer_refusal(x, &x->decide.decision);
}

/* The fields of a check are written behind the status line of the most frequent answer. */
static __attribute__((noinline)) struct pst_buf
put_other_status(struct pst_exchange *x, const struct pst_buf *ok, size_t at, unsigned status)
{
    struct pst_buf fields = body_space(x), out = pst_buf_of(ok->data, ok->cap);

    pst_buf_put(&fields, pst_bytes_from(pst_buf_bytes(ok), at));
    pst_buf_close(&out, put_status(out.data, status));
    pst_buf_put(&out, pst_buf_bytes(&fields));
    return out;
}

/* The answer to a check: status and fields as its dialect says, and never a body. */
static void answer_check(struct pst_exchange *x, const struct pst_decision *d)
{
    char *room = pst_stream_room(&x->c->stream, CHECK_HEAD_MAX);
    struct pst_buf out = pst_buf_of(room == NULL ? x->server->scratch : room, CHECK_HEAD_MAX);

    pst_buf_close(&out, put_status(out.data, 200));
    size_t at = out.len;
    unsigned status = x->listener->door.answer(x->listener->door.self, d, &out);

    if (out.full) { /* what the client would have to be told does not fit: refuse, say no more */
        out.len = at;
        status = 503;
    }
    if (status != 200)
        out = put_other_status(x, &out, at, status);
    settle_answer(x, status);
    end_answer(x, &out, NULL, (struct pst_bytes){0});
}

void pst_answer_check(struct pst_exchange *x)
{
    answer_check(x, &x->decide.decision);
}

/* A refusal that the engine did not give. */
void pst_answer_fault(struct pst_exchange *x, unsigned status, enum pst_reason reason,
                      const char *detail)
{
    struct pst_decision d = {.verdict = PST_DENY, .reason = reason, .status = status};

    if (detail != NULL)
        d.detail = pst_bytes_of(detail, strnlen(detail, 256));
    if (x->decided) {
        d.id = x->decide.decision.id;
        d.form = x->decide.decision.form;
    }
    x->reason = reason;
    if (!x->decided)
        pst_count(&x->server->metrics->requests[PST_DENY][reason], 1);
    if (x->listener->kind != PST_LISTENER_CHECK &&
        (status == 400 || status == 408 || status == 413))
        x->c->closing = true; /* whoever disagrees about one request disagrees about the next */
    if (x->id.len == 0)
        pst_rewrite_request_id(x);
    if (x->listener->kind == PST_LISTENER_CHECK)
        answer_check(x, &d);
    else
        answer_refusal(x, &d);
}

/* The upstream did not do its part. */
void pst_answer_upstream(struct pst_exchange *x, unsigned status, const char *detail)
{
    struct pst_buf out = begin_answer(x, status), body = body_space(x);

    pst_buf_lit(&body, "{\"error\":");
    pst_buf_json(&body, reason_phrase(status));
    pst_buf_lit(&body, ",\"detail\":");
    pst_buf_json(&body, pst_bytes_of(detail, strnlen(detail, 256)));
    pst_buf_lit(&body, ",\"request_id\":");
    pst_buf_json(&body, x->id);
    pst_buf_lit(&body, "}\n");
    pst_buf_line(&out, PST_LIT("X-Postern-Reason"), PST_LIT("upstream"));
    if (status == 503)
        pst_buf_lit(&out, "Retry-After: 1\r\n");
    pst_buf_line(&out, PST_LIT("X-Request-Id"), x->id);
    end_answer(x, &out, "application/json", pst_buf_bytes(&body));
}

void pst_answer_local(struct pst_exchange *x)
{
    struct pst_buf body = body_space(x);
    const char *type = NULL;
    bool leased = x->decided && x->decide.decision.forward;
    unsigned status =
        x->listener->door.local(x->listener->door.self, &x->head, leased, &body, &type);

    struct pst_buf out = begin_answer(x, body.full ? 500 : status);
    if (x->status == 405)
        put_allow(x, NULL, &out);
    end_answer(x, &out, type, body.full ? (struct pst_bytes){0} : pst_buf_bytes(&body));
}

/* OPTIONS *: asks about the server, not about anything that has an owner. */
void pst_answer_options(struct pst_exchange *x)
{
    struct pst_buf out = begin_answer(x, 200);

    pst_buf_line(&out, PST_LIT("X-Request-Id"), x->id);
    end_answer(x, &out, NULL, (struct pst_bytes){0});
}

void pst_answer_continue(struct pst_exchange *x)
{
    struct iovec piece = {(char *)(uintptr_t) "HTTP/1.1 100 Continue\r\n\r\n", 25};

    if (x->continued)
        return;
    x->continued = true;
    if (x->c->stream.in.end > x->in_at)
        return; /* the body comes already */
    if (pst_stream_send(&x->c->stream, &piece, 1) != PST_OK)
        x->c->doomed = true;
}

/* ---- the access line ---- */

#define TEXT_MAX   512 /* of a text that others chose, as far as the line shows it */
#define CLIENT_MAX 64
/* All of a line but the method and the ids. */
#define ACCESS_LINE_MAX                                                                            \
    (1024 + 4 * PST_JSON_MAX(TEXT_MAX) + PST_JSON_MAX(CLIENT_MAX) + PST_LISTENER_NAME_MAX)

static char *put_text(char *to, struct pst_bytes value)
{
    if (value.len > TEXT_MAX)
        value.len = TEXT_MAX;
    return pst_put_json(to, value);
}

static char *put_us(char *to, uint64_t from_ns, uint64_t to_ns)
{
    return pst_put_u64(to, from_ns != 0 && to_ns > from_ns ? (to_ns - from_ns) / 1000 : 0);
}

static char *put_verdict(const struct pst_exchange *x, char *to)
{
    const struct pst_decision *d = &x->decide.decision;
    bool by_engine = x->decided && x->reason == PST_R_INTERNAL;
    unsigned reason = by_engine ? d->reason : x->reason;

    if (by_engine && d->verdict == PST_ALLOW)
        to = pst_put_lit(to, ",\"verdict\":\"allow\",\"reason\":\"");
    else
        to = pst_put_lit(to, ",\"verdict\":\"deny\",\"reason\":\"");
    to = pst_put(to, x->server->reasons[reason < PST_REASONS ? reason : PST_R_INTERNAL]);
    to = pst_put_lit(to, "\"");
    return x->decided && d->shadowed ? pst_put_lit(to, ",\"shadow\":true") : to;
}

static char *put_outcome(const struct pst_exchange *x, char *to)
{
    const struct pst_decision *d = &x->decide.decision;

    if (x->listener->kind == PST_LISTENER_LOCAL)
        return to;
    if (x->decided) {
        to = put_text(pst_put_lit(to, ",\"user\":"), d->user);
        to = put_text(pst_put_lit(to, ",\"workspace\":"), d->workspace);
        to = pst_put_lit(pst_put(pst_put_lit(to, ",\"decision_id\":\""), d->id), "\"");
    }
    if (x->decided || x->reason != PST_R_INTERNAL)
        to = put_verdict(x, to);
    if (x->upstream != NULL)
        to = put_text(pst_put_lit(to, ",\"upstream\":"), x->upstream->name);
    return to;
}

/* The address that a trusted peer names, else the peer's. */
static struct pst_bytes client_of(const struct pst_exchange *x, struct pst_bytes peer)
{
    struct pst_bytes client = peer, value, part;

    if (!x->c->trusted)
        return peer;
    if (pst_head_only(&x->head, PST_FIELD_X_REAL_IP, &value, NULL))
        client = value;
    else if (pst_head_only(&x->head, PST_FIELD_X_FORWARDED_FOR, &value, NULL))
        while (pst_list_next(&value, &part))
            client = part; /* the last one is what the peer itself saw */
    if (client.len > CLIENT_MAX)
        client.len = CLIENT_MAX;
    return client;
}

/* Many lines are of one millisecond: its text is kept. */
static char *put_time(struct pst_server *server, char *to)
{
    uint64_t wall_ns = pst_server_wall(server), ms = wall_ns / PST_NS_PER_MS;

    if (ms != server->stamp_ms) {
        struct pst_buf stamp = pst_buf_of(server->stamp, sizeof(server->stamp));
        pst_buf_time(&stamp, wall_ns);
        server->stamp_ms = ms;
    }
    return pst_put(to, pst_bytes_of(server->stamp, sizeof(server->stamp)));
}

/* Without what is a credential of the app's own. */
static __attribute__((noinline)) char *put_shown(struct pst_bytes path, const uint32_t secret[2],
                                                 char *to)
{
    char room[TEXT_MAX];
    struct pst_buf shown = pst_buf_of(room, sizeof(room));

    pst_buf_put(&shown, pst_bytes_of(path.ptr, secret[0]));
    pst_buf_char(&shown, '*');
    pst_buf_put(&shown, pst_bytes_from(path, secret[0] + secret[1]));
    return put_text(to, shown.full ? PST_LIT("*") : pst_buf_bytes(&shown));
}

static char *put_origin(struct pst_exchange *x, char *to)
{
    struct pst_bytes peer = pst_bytes_of(x->c->peer, x->c->peer_len);

    to = put_time(x->server, pst_put_lit(to, "{\"time\":\""));
    to = pst_put(pst_put_lit(to, "\",\"listener\":"), x->c->listener->json_name);
    if (x->c->trusted)
        to = pst_put_lit(pst_put(pst_put_lit(to, ",\"peer\":\""), peer), "\"");
    return pst_put_json(pst_put_lit(to, ",\"client\":"), client_of(x, peer));
}

/* The request that was decided: of a check that is the original one. */
static char *put_request(const struct pst_exchange *x, struct pst_bytes method, char *to)
{
    const uint32_t *secret = x->decide.decision.secret;

    to = pst_put(pst_put_lit(to, ",\"method\":\""), method); /* capitals */
    to = pst_put_lit(to, "\",\"path\":");
    to = x->decided && secret[1] > 0 ? put_shown(x->request.path, secret, to)
                                     : put_text(to, x->request.path);
    to = pst_put_u64(pst_put_lit(to, ",\"status\":"), x->answered ? x->status : 0);
    return pst_put_u64(pst_put_lit(to, ",\"bytes\":"), x->c->stream.sent - x->sent_from);
}

static char *put_times(struct pst_exchange *x, char *to)
{
    to = put_us(pst_put_lit(to, ",\"decide_us\":"), x->begun_ns, x->decided_ns);
    if (x->connected_ns != 0) { /* of the upstream; a check has none */
        to = put_us(pst_put_lit(to, ",\"connect_us\":"), x->decided_ns, x->connected_ns);
        to = put_us(pst_put_lit(to, ",\"first_byte_us\":"), x->connected_ns, x->first_byte_ns);
    }
    return put_us(pst_put_lit(to, ",\"total_us\":"), x->begun_ns,
                  pst_worker_now(x->server->worker));
}

static void write_line(struct pst_exchange *x, struct pst_buf *out)
{
    struct pst_bytes method = x->request.method.len > 0 ? x->request.method : x->head.method_text;
    struct pst_bytes decision_id = x->decided ? x->decide.decision.id : (struct pst_bytes){0};
    char *to = pst_buf_open(out, ACCESS_LINE_MAX + method.len + decision_id.len + x->id.len);

    if (to == NULL)
        return;
    to = put_origin(x, to);
    to = put_request(x, method, to);
    to = put_outcome(x, to);
    /* A client's own id has only characters that need no escape. */
    to = pst_put_lit(pst_put(pst_put_lit(to, ",\"request_id\":\""), x->id), "\"");
    to = put_times(x, to);
    pst_buf_close(out, pst_put_lit(to, "}"));
}

void pst_access_log(struct pst_exchange *x)
{
    struct pst_server *server = x->server;
    unsigned class = x->answered ? x->status / 100 : 0;

    pst_count(&server->metrics->answers[class < 6 ? class : 0], 1);
    struct pst_buf *out = server->log == NULL ? NULL : pst_log_begin(server->log, PST_LOG_ACCESS);
    if (out == NULL)
        return;
    write_line(x, out);
    pst_log_commit(server->log);
}
