/*
 * Bodies, both ways: decode what came in, re-frame it, hand it on in one send.
 *
 *   client.in --decode--> data in place --chunk head + data + CRLF--> upstream (or its out buffer)
 *
 * Back-pressure: while the receiving side's out buffer is not empty, nothing more is read from the
 * giving side.  So at most one block each way is held, whatever the length of the body.
 */
#include <assert.h>
#include <stdlib.h>

#include "proxy_internal.h"

#define PIECES_MAX 8

/* What goes out in one send. */
struct parcel {
    struct iovec pieces[PIECES_MAX];
    int count;
    char sizes[2][20]; /* chunk heads */
    int sizes_used;
};

static void begin(struct parcel *p)
{
    p->count = p->sizes_used = 0;
}

static void add(struct parcel *p, struct pst_bytes bytes)
{
    assert(p->count < PIECES_MAX);
    if (bytes.len > 0)
        p->pieces[p->count++] = (struct iovec){(char *)(uintptr_t)bytes.ptr, bytes.len};
}

static __attribute__((noinline)) void add_chunk(struct parcel *p, struct pst_bytes data)
{
    struct pst_buf size = pst_buf_of(p->sizes[p->sizes_used], sizeof(p->sizes[0]));
    unsigned digits = 1;

    while (digits < 16 && data.len >> (4 * digits) != 0)
        digits++;
    p->sizes_used++;
    pst_buf_hex(&size, data.len, digits);
    pst_buf_lit(&size, "\r\n");
    add(p, pst_buf_bytes(&size));
    add(p, data);
    add(p, PST_LIT("\r\n"));
}

static inline void add_data(struct parcel *p, struct pst_bytes data, bool chunked)
{
    if (chunked && data.len > 0)
        add_chunk(p, data);
    else
        add(p, data);
}

/* Decodes all of `input` (mutable memory of ours); the data is moved together to one run in place.
 */
static enum pst_body_result gather(struct pst_body *body, char *input, size_t len, size_t *used,
                                   struct pst_bytes *data)
{
    enum pst_body_result result = pst_body_is_done(body) ? PST_BODY_DONE : PST_BODY_MORE;
    char *run = NULL;
    size_t run_len = 0;

    *used = 0;
    while (result == PST_BODY_MORE && *used < len) {
        size_t taken = 0;
        struct pst_bytes part = {0};
        result = pst_body_feed(body, pst_bytes_of(input + *used, len - *used), &taken, &part);
        *used += taken;
        if (part.len == 0)
            continue;
        if (run == NULL)
            run = input + (part.ptr - input);
        else
            memmove(run + run_len, part.ptr, part.len);
        run_len += part.len;
    }
    *data = pst_bytes_of(run, run_len);
    return result;
}

static enum pst_body_result gather_request(struct pst_exchange *x, struct pst_bytes *data)
{
    struct pst_stream *in = &x->c->stream;
    size_t used = 0;
    enum pst_body_result result =
        gather(&x->body, in->in.data + x->in_at, in->in.end - x->in_at, &used, data);

    x->in_at += used;
    if (result != PST_BODY_MORE)
        x->body_done = true;
    return result;
}

/* The bytes behind the head are used up: the room is free again. The head itself stays. */
static void reclaim(struct pst_exchange *x)
{
    struct pst_stream *in = &x->c->stream;

    if (in->in.data != NULL && x->in_at == in->in.end)
        x->in_at = in->in.end = in->in.start + x->head.size;
}

/* The request cannot be read any further, so neither can the next one. */
static void unreadable(struct pst_exchange *x)
{
    struct pst_connection *c = x->c;
    const struct pst_fault fault = x->body.fault;

    x->body_done = true;
    x->in_at = c->stream.in.end;
    c->closing = true;
    pst_exchange_drop_lease(x, false);
    if (x->answering || x->answered) {
        c->doomed = true;
        return;
    }
    pst_answer_fault(x, fault.status,
                     fault.status == 413 ? PST_R_BODY_TOO_LARGE : PST_R_BAD_REQUEST, fault.reason);
}

/* ---- the body for the engine ---- */

/* Each body is bounded by its route, all together by what a worker may hold: many that come slowly
 * would fill the memory otherwise. */
static bool grow_collected(struct pst_exchange *x, size_t need)
{
    struct pst_buf *to = &x->collect;
    size_t cap = to->cap == 0 ? 4096 : to->cap, held = x->server->collected_bytes;

    while (cap < need)
        cap *= 2;
    if (cap - to->cap > x->config->limits.inspect_memory_bytes ||
        held > x->config->limits.inspect_memory_bytes - (cap - to->cap))
        return false;
    char *grown = realloc(to->data, cap);
    if (grown == NULL)
        return false;
    x->server->collected_bytes += cap - to->cap;
    to->data = grown;
    to->cap = cap;
    return true;
}

/* Behind what is collected already. */
static bool hold(struct pst_exchange *x, struct pst_bytes data)
{
    if (data.len > x->collect.cap - x->collect.len && !grow_collected(x, x->collect.len + data.len))
        return false;
    pst_buf_put(&x->collect, data);
    return true;
}

void pst_relay_collect(struct pst_exchange *x, uint64_t limit, bool *done, bool *too_large)
{
    struct pst_stream *in = &x->c->stream;
    struct pst_bytes data;

    *done = *too_large = false;
    if (x->body_done) {
        *done = true;
        return;
    }
    if (x->head.framing == PST_FRAMING_LENGTH && x->head.content_length > limit) {
        *too_large = true;
        return;
    }
    enum pst_body_result result = gather_request(x, &data);
    if (result == PST_BODY_FAIL) {
        unreadable(x);
        return;
    }
    if (data.len > limit - x->collect.len) {
        *too_large = true;
        return;
    }
    if (!hold(x, data)) {
        pst_answer_fault(x, 503, PST_R_OVERLOAD, NULL);
        return;
    }
    reclaim(x);
    *done = result == PST_BODY_DONE;
    if (*done)
        return;
    if (in->eof)
        x->c->doomed = true;
    else if (in->paused)
        pst_stream_resume(in);
}

/* ---- up ---- */

void pst_relay_request(struct pst_exchange *x, struct pst_bytes head)
{
    struct pst_stream *in = &x->c->stream, *up = &x->lease->stream;
    bool chunked = x->head.framing == PST_FRAMING_CHUNKED && !x->collected;
    struct parcel parcel;
    struct pst_bytes data = {0};

    if (up->send_broken || (head.len == 0 && (x->body_sent || pst_stream_sending(up)))) {
        if (!in->eof)
            pst_stream_pause(in);
        return;
    }
    begin(&parcel);
    add(&parcel, head);
    if (head.len > 0)
        add_data(&parcel, pst_buf_bytes(&x->collect), chunked);
    if (!x->body_done && gather_request(x, &data) == PST_BODY_FAIL) {
        unreadable(x);
        return;
    }
    add_data(&parcel, data, chunked);
    if (x->body_done) {
        x->body_sent = true;
        x->body_from_ns = 0;
        if (chunked)
            add(&parcel, PST_LIT("0\r\n\r\n"));
    }
    if (pst_stream_send(up, parcel.pieces, parcel.count) != PST_OK) {
        x->body_sent = false; /* what the upstream says to that is still read */
        if (head.len > 0)
            (void)hold(x, data); /* it may be sent again; without room for it, it is not */
    }
    reclaim(x);
    if (x->body_done)
        return;
    if (in->eof) { /* the client went away in the middle: the upstream must not take it for whole */
        pst_exchange_drop_lease(x, false);
        x->c->doomed = true;
    } else if (pst_stream_sending(up) || up->send_broken) {
        pst_stream_pause(in);
    } else if (in->paused) {
        pst_stream_resume(in);
    }
}

/* ---- down ---- */

void pst_relay_answer(struct pst_exchange *x, struct pst_bytes head)
{
    struct pst_connection *c = x->c;
    struct pst_stream *up = &x->lease->stream, *out = &c->stream;
    struct parcel parcel;
    struct pst_bytes data = {0};
    size_t used = 0;

    if (head.len == 0 && pst_stream_sending(out)) {
        pst_stream_pause(up);
        return;
    }
    begin(&parcel);
    enum pst_body_result result = gather(&x->answer_body, up->in.data + up->in.start,
                                         up->in.end - up->in.start, &used, &data);
    bool done = result == PST_BODY_DONE || (result == PST_BODY_MORE && up->eof && !up->broken &&
                                            pst_body_ends_here(&x->answer_body));
    add(&parcel, head);
    add_data(&parcel, data, x->chunked_out);
    if (done && x->chunked_out)
        add(&parcel, PST_LIT("0\r\n\r\n"));
    if (pst_stream_send(out, parcel.pieces, parcel.count) != PST_OK)
        c->doomed = true;
    pst_stream_consume(up, used);
    if (c->doomed) {
        pst_exchange_drop_lease(x, false);
    } else if (done) {
        pst_exchange_answer_complete(x);
    } else if (result == PST_BODY_FAIL || up->eof || up->broken) {
        pst_exchange_upstream_gone(x);
    } else if (pst_stream_sending(out)) {
        pst_stream_pause(up);
    } else if (up->paused) {
        pst_stream_resume(up);
    }
}

/* ---- after an answer of Postern's own ---- */

void pst_relay_drop_body(struct pst_exchange *x)
{
    struct pst_connection *c = x->c;
    struct pst_bytes data;
    enum pst_body_result result = x->body_done ? PST_BODY_DONE : gather_request(x, &data);

    if (result == PST_BODY_FAIL || x->body.data_bytes > x->config->limits.drain_bytes ||
        (result == PST_BODY_MORE && c->stream.eof))
        c->closing = true;
    if (c->closing || result == PST_BODY_DONE) {
        pst_exchange_goto(x, PST_X_DONE);
        return;
    }
    reclaim(x);
    if (c->stream.paused)
        pst_stream_resume(&c->stream);
}
