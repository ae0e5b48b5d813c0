/*
 * One connection to Redis, or to a Sentinel first:
 *
 *   REST --due--> LOOKUP --> CONNECT --> GREET --> READY
 *     ^             |           |          |  \       |
 *     +-------------+-----------+----------+   +-- a Sentinel named the master: REST, due at once
 *     +---- any failure: the next address, a longer rest ----+
 *
 * I1  The stream and the reader are open exactly in CONNECT, GREET and READY.
 * I2  asked[0..asked_count) are the commands whose answers are still to come, in order.
 * I3  Nothing connects from inside a callback of the stream: all of it begins in feed_link_time.
 */
#include "feed_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include <hiredis/hiredis.h>

#include "postern/base/secret.h"

#define BACKOFF_MIN_NS (50 * PST_NS_PER_MS)
#define BACKOFF_MAX_NS (5 * PST_NS_PER_S)
#define DRAIN_BLOCKS   16           /* reads at once, so that a flood does not hold up the loop */
#define STEADY_NS      PST_NS_PER_S /* a connection that lasted so long ends the row of failures */

static bool at_sentinel(const struct feed_link *l)
{
    return l->feed->config.master.len > 0 && !l->has_master;
}

static const char *role_text(const struct feed_link *l)
{
    return at_sentinel(l) ? "sentinel" : l->role == FEED_SUBSCRIBE ? "subscription" : "publishing";
}

/* ---- the end of a connection ---- */

static void let_go(struct feed_link *l)
{
    pst_lookup_cancel(&l->lookup);
    if (l->open)
        pst_stream_close(&l->stream);
    l->open = false;
    feed_reader_close(&l->reader);
    l->asked_count = l->publishing = 0;
    l->asked_ns = 0;
}

static void rest(struct feed_link *l, uint64_t rest_ns)
{
    l->state = FEED_REST;
    l->due_ns = pst_worker_now(l->feed->worker) + rest_ns;
    feed_wake(l->feed);
}

static void tell_failure(struct feed_link *l, bool was_ready, const char *text)
{
    char line[sizeof(l->failure)];
    int n = snprintf(line, sizeof(line), "%s, %s: %s", role_text(l), l->target, text);

    for (int i = 0; i < n && (size_t)i < sizeof(line) - 1; i++)
        if (line[i] < ' ' || line[i] > '~')
            line[i] = '?'; /* a server's words go into a log */
    if (!was_ready && strcmp(line, l->failure) == 0)
        return;
    memcpy(l->failure, line, sizeof(line));
    feed_tell(l->feed, was_ready ? PST_FEED_DOWN : PST_FEED_FAILED, line);
}

static void fail(struct feed_link *l, const char *text)
{
    uint64_t now_ns = pst_worker_now(l->feed->worker), jitter;
    bool was_ready = l->state == FEED_READY;

    if (was_ready && now_ns - l->ready_ns >= STEADY_NS)
        l->backoff_ns = 0;
    l->backoff_ns = l->backoff_ns == 0                   ? BACKOFF_MIN_NS
                    : l->backoff_ns * 2 > BACKOFF_MAX_NS ? BACKOFF_MAX_NS
                                                         : l->backoff_ns * 2;
    tell_failure(l, was_ready, text);
    let_go(l);
    if (was_ready)
        feed_link_is_down(l);
    l->address_count = l->address_next = 0;
    l->has_master = false; /* it may have changed: ask the next Sentinel */
    l->at++;
    pst_random(&jitter, sizeof(jitter));
    rest(l, l->backoff_ns / 2 + jitter % (l->backoff_ns / 2));
}

/* The first word of an error reply; all of it would name the arguments of an unknown command. */
static void fail_with_reply(struct feed_link *l, const char *command, struct pst_bytes error)
{
    char text[96];
    size_t word = pst_bytes_find(error, ' ');

    (void)snprintf(text, sizeof(text), "%s refused: %.*s", command, word > 40 ? 40 : (int)word,
                   error.len == 0 ? "" : error.ptr);
    fail(l, text);
}

/* ---- commands ---- */

/* Appends one to what the next send takes. False: no memory. */
static bool write_command(struct pst_buf *out, const struct pst_bytes *words, int count)
{
    const char *argv[FEED_COMMAND_WORDS];
    size_t lens[FEED_COMMAND_WORDS];
    char *text = NULL;

    for (int i = 0; i < count; i++) {
        argv[i] = words[i].len == 0 ? "" : words[i].ptr;
        lens[i] = words[i].len;
    }
    int len = redisFormatCommandArgv(&text, count, argv, lens);
    if (len < 0)
        return false;
    pst_buf_put(out, pst_bytes_of(text, (size_t)len));
    pst_secret_wipe(text, (size_t)len);
    free(text);
    return !out->full;
}

static void note_asked(struct feed_link *l, enum feed_command command)
{
    if (l->asked_count == 0)
        l->asked_ns = pst_worker_now(l->feed->worker);
    l->asked[l->asked_count++] = command;
}

static bool send_text(struct feed_link *l, const struct pst_buf *text)
{
    struct iovec piece = {text->data, text->len};

    return pst_stream_send(&l->stream, &piece, 1) == PST_OK;
}

static bool ask(struct feed_link *l, enum feed_command command, const struct pst_bytes *words,
                int count)
{
    char space[1024];
    struct pst_buf out = pst_buf_of(space, sizeof(space));

    if (l->asked_count == FEED_ASKED_MAX || !write_command(&out, words, count) ||
        !send_text(l, &out))
        return false;
    note_asked(l, command);
    feed_wake(l->feed);
    return true;
}

static void greet(struct feed_link *l)
{
    const struct pst_feed_config *c = &l->feed->config;
    struct pst_bytes user = at_sentinel(l) ? c->sentinel_user : c->user;
    struct pst_bytes password = at_sentinel(l) ? c->sentinel_password : c->password;
    struct pst_bytes auth[] = {PST_LIT("AUTH"), user.len > 0 ? user : password, password};
    struct pst_bytes master[] = {PST_LIT("SENTINEL"), PST_LIT("get-master-addr-by-name"),
                                 c->master};
    struct pst_bytes subscribe[] = {PST_LIT("SUBSCRIBE"), c->channel};
    struct pst_bytes role[] = {PST_LIT("ROLE")};
    uint64_t now_ns = pst_worker_now(l->feed->worker);

    l->state = FEED_GREET;
    l->heard_ns = now_ns;
    l->due_ns = now_ns + c->answer_ms * PST_NS_PER_MS;
    bool sent = password.len == 0 || ask(l, FEED_C_AUTH, auth, user.len > 0 ? 3 : 2);
    if (sent && at_sentinel(l))
        sent = ask(l, FEED_C_MASTER, master, 3);
    else if (sent && l->role == FEED_SUBSCRIBE)
        sent = ask(l, FEED_C_SUBSCRIBE, subscribe, 2);
    else if (sent)
        sent = ask(l, FEED_C_ROLE, role, 1);
    if (!sent)
        fail(l, "the connection cannot be written to");
    feed_wake(l->feed);
}

/* ---- answers ---- */

static void become_ready(struct feed_link *l)
{
    l->state = FEED_READY;
    l->ready_ns = pst_worker_now(l->feed->worker);
    l->connects++;
    l->failure[0] = '\0';
    feed_link_is_ready(l);
}

/* The state ends at once; the master is connected to in the next turn (I3). */
static void take_master(struct feed_link *l, const struct feed_reply *r)
{
    struct pst_address address;
    struct pst_host_port parts;
    bool v6 = pst_bytes_find(r->items[0], ':') < r->items[0].len;

    if (r->kind != FEED_ARRAY || r->items[0].len == 0 || r->items[1].len == 0) {
        fail(l, "does not know the master");
        return;
    }
    int n =
        snprintf(l->target, sizeof(l->target), "%s%.*s%s:%.*s", v6 ? "[" : "", (int)r->items[0].len,
                 r->items[0].ptr, v6 ? "]" : "", (int)r->items[1].len, r->items[1].ptr);
    if (n < 0 || (size_t)n >= sizeof(l->target) ||
        pst_address_parse(pst_bytes_of(l->target, (size_t)n), &address, &parts) != PST_OK) {
        fail(l, "the master's address is none");
        return;
    }
    let_go(l);
    l->has_master = true;
    rest(l, 0);
}

static void take_role(struct feed_link *l, const struct feed_reply *r)
{
    bool may_not_ask = r->kind == FEED_ERROR && pst_bytes_starts(r->text, PST_LIT("NOPERM"));

    /* Without Sentinels nobody said that it is a master, and many users may only publish. */
    if (may_not_ask && l->feed->config.master.len == 0) {
        if (l->state == FEED_GREET)
            become_ready(l);
    } else if (r->kind == FEED_ERROR) {
        fail_with_reply(l, "ROLE", r->text);
    } else if (r->kind != FEED_ARRAY || !pst_bytes_equal(r->items[0], PST_LIT("master"))) {
        fail(l, "is no master");
    } else if (l->state == FEED_GREET) {
        become_ready(l);
    }
}

static void take_answer(struct feed_link *l, const struct feed_reply *r)
{
    enum feed_command command = l->asked[0];

    l->asked_count--;
    memmove(l->asked, l->asked + 1, l->asked_count * sizeof(l->asked[0]));
    l->asked_ns = l->asked_count == 0 ? 0 : l->heard_ns;
    switch (command) {
    case FEED_C_AUTH:
        if (r->kind == FEED_ERROR)
            fail_with_reply(l, "AUTH", r->text);
        break;
    case FEED_C_MASTER:
        if (r->kind == FEED_ERROR)
            fail_with_reply(l, "SENTINEL", r->text);
        else
            take_master(l, r);
        break;
    case FEED_C_ROLE:
        take_role(l, r);
        break;
    case FEED_C_PUBLISH:
        l->publishing--;
        if (r->kind == FEED_INTEGER)
            l->feed->published++;
        else
            fail_with_reply(l, "PUBLISH", r->kind == FEED_ERROR ? r->text : PST_LIT("no number"));
        break;
    case FEED_C_SUBSCRIBE:
        if (r->kind == FEED_ERROR)
            fail_with_reply(l, "SUBSCRIBE", r->text);
        else if (r->kind == FEED_ARRAY && pst_bytes_equal(r->items[0], PST_LIT("subscribe")))
            become_ready(l);
        else
            fail(l, "does not speak as Redis does");
        break;
    case FEED_C_PING:
        if (r->kind != FEED_ARRAY)
            fail_with_reply(l, "PING", r->text);
        break;
    }
}

static void take_reply(struct feed_link *l, const struct feed_reply *r)
{
    if (l->state == FEED_READY && l->role == FEED_SUBSCRIBE && r->kind == FEED_ARRAY &&
        pst_bytes_equal(r->items[0], PST_LIT("message")))
        feed_payload(l->feed, r->items[2]);
    else if (l->asked_count > 0)
        take_answer(l, r);
    else
        fail_with_reply(l, "the connection was",
                        r->kind == FEED_ERROR ? r->text : PST_LIT("out of step"));
}

static void read_replies(struct feed_link *l)
{
    struct pst_bytes in = pst_stream_in(&l->stream);
    enum pst_status status = PST_OK;

    if (in.len > 0) {
        l->heard_ns = pst_worker_now(l->feed->worker);
        status = feed_reader_feed(&l->reader, in);
        pst_stream_consume(&l->stream, in.len);
    }
    while (status == PST_OK) {
        status = feed_reader_next(&l->reader);
        if (status == PST_OK)
            take_reply(l, &l->reader.reply);
        if (!l->open)
            return; /* it failed, or was a Sentinel */
    }
    if (status == PST_E_LIMIT)
        fail(l, "a reply is too long");
    else if (status != PST_PENDING)
        fail(l, "does not speak as Redis does");
    else if (l->stream.eof || l->stream.broken)
        fail(l, "closed the connection");
}

static void on_readable(struct pst_stream *stream)
{
    read_replies(pst_container_of(stream, struct feed_link, stream));
}

void feed_link_drain(struct feed_link *link)
{
    for (int i = 0; i < DRAIN_BLOCKS && (link->state == FEED_GREET || link->state == FEED_READY) &&
                    pst_stream_read(&link->stream);
         i++)
        read_replies(link);
}

static void on_drained(struct pst_stream *stream)
{
    struct feed_link *l = pst_container_of(stream, struct feed_link, stream);

    if (stream->send_broken)
        fail(l, "closed the connection");
}

/* ---- connecting ---- */

static void connect_next(struct feed_link *l);

static void on_connected(struct pst_stream *stream)
{
    struct feed_link *l = pst_container_of(stream, struct feed_link, stream);
    const char *failure = pst_stream_tls_failure(stream);

    if (!stream->broken) {
        greet(l);
    } else if (failure != NULL) {
        fail(l, failure);
    } else {
        pst_stream_close(stream);
        l->open = false;
        feed_reader_close(&l->reader);
        if (l->address_next < l->address_count)
            rest(l, 0); /* to connect_next, outside of this callback (I3) */
        else
            fail(l, "cannot be connected to");
    }
}

static const struct pst_stream_ops stream_ops = {on_readable, on_drained, on_connected};

static enum pst_status begin_connect(struct feed_link *l, const struct pst_address *address)
{
    struct pst_feed *f = l->feed;

    if (f->tls == NULL)
        return pst_stream_connect(&l->stream, f->worker, &stream_ops, address);
    struct pst_bytes name = f->config.server_name;
    return pst_stream_connect_tls(&l->stream, f->worker, &stream_ops, address, f->tls,
                                  name.len > 0 ? name.ptr : l->host);
}

static void connect_next(struct feed_link *l)
{
    if (feed_reader_open(&l->reader) != PST_OK) {
        fail(l, "no memory");
        return;
    }
    l->state = FEED_CONNECT;
    l->due_ns = pst_worker_now(l->feed->worker) + l->feed->config.connect_ms * PST_NS_PER_MS;
    while (l->address_next < l->address_count) {
        enum pst_status status = begin_connect(l, &l->addresses[l->address_next++]);
        l->open = status == PST_OK || status == PST_PENDING;
        if (status == PST_OK)
            greet(l);
        if (status == PST_OK || status == PST_PENDING)
            return;
    }
    fail(l, "cannot be connected to");
}

static void on_found(struct pst_lookup *lookup, const struct pst_address *addresses, uint8_t count)
{
    struct feed_link *l = pst_container_of(lookup, struct feed_link, lookup);

    memcpy(l->addresses, addresses, count * sizeof(*addresses));
    l->address_count = count;
    l->address_next = 0;
    if (count == 0)
        fail(l, "the name is not found");
    else
        connect_next(l);
}

static void begin(struct feed_link *l)
{
    const struct pst_feed_config *c = &l->feed->config;
    struct pst_host_port parts;

    l->address_count = l->address_next = 0;
    if (!l->has_master) {
        struct pst_bytes text = c->addresses[l->at % c->address_count];
        memcpy(l->target, text.ptr, text.len + 1); /* pst_feed_create saw that it fits */
    }
    if (pst_address_parse(pst_bytes_of(l->target, strlen(l->target)), &l->addresses[0], &parts) !=
        PST_OK) {
        fail(l, "is no address");
        return;
    }
    if (parts.host.len > 0)
        memcpy(l->host, parts.host.ptr, parts.host.len);
    l->host[parts.host.len] = '\0';
    if (!parts.is_name) {
        l->address_count = 1;
        connect_next(l);
        return;
    }
    l->state = FEED_LOOKUP;
    l->due_ns = pst_worker_now(l->feed->worker) + c->connect_ms * PST_NS_PER_MS;
    if (pst_lookup_start(l->feed->resolver, &l->lookup, l->host, parts.port) != PST_OK)
        fail(l, "no memory");
}

/* ---- time ---- */

/* A connection on which nothing came is asked for a sign of life. */
static void keep_alive(struct feed_link *l, uint64_t now_ns)
{
    const struct pst_feed_config *c = &l->feed->config;
    struct pst_bytes ping[] = {PST_LIT("PING")}, role[] = {PST_LIT("ROLE")};

    if (l->asked_count > 0) {
        if (now_ns >= l->asked_ns + c->answer_ms * PST_NS_PER_MS)
            fail(l, "does not answer");
    } else if (now_ns >= l->heard_ns + c->idle_ms * PST_NS_PER_MS) {
        bool asked =
            l->role == FEED_SUBSCRIBE ? ask(l, FEED_C_PING, ping, 1) : ask(l, FEED_C_ROLE, role, 1);
        if (!asked)
            fail(l, "the connection cannot be written to");
    }
    if (l->state == FEED_READY)
        l->due_ns = l->asked_count > 0 ? l->asked_ns + c->answer_ms * PST_NS_PER_MS
                                       : l->heard_ns + c->idle_ms * PST_NS_PER_MS;
}

void feed_link_time(struct feed_link *link, uint64_t now_ns)
{
    if (link->off || (link->state != FEED_READY && now_ns < link->due_ns))
        return;
    switch (link->state) {
    case FEED_REST:
        if (link->address_next < link->address_count)
            connect_next(link);
        else
            begin(link);
        break;
    case FEED_LOOKUP:
        fail(link, "the name is not found in time");
        break;
    case FEED_CONNECT:
        fail(link, "cannot be connected to in time");
        break;
    case FEED_GREET:
        fail(link, "does not answer");
        break;
    case FEED_READY:
        keep_alive(link, now_ns);
        break;
    }
}

enum pst_status feed_link_publish(struct feed_link *link, struct pst_bytes message)
{
    struct pst_bytes words[] = {PST_LIT("PUBLISH"), link->feed->config.channel, message};

    if (link->state != FEED_READY || link->publishing == FEED_PUBLISH_MAX ||
        !ask(link, FEED_C_PUBLISH, words, 3))
        return PST_E_BUSY;
    link->publishing++;
    return PST_OK;
}

void feed_link_start(struct feed_link *link, struct pst_feed *feed, enum feed_role role)
{
    link->feed = feed;
    link->role = role;
    link->lookup.done = on_found;
    link->stream.fd = -1;
    link->off = false;
    rest(link, 0);
}

void feed_link_stop(struct feed_link *link)
{
    let_go(link);
    link->off = true;
    link->state = FEED_REST;
    link->due_ns = UINT64_MAX;
}
