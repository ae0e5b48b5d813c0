/*
 * I1  fd < 0 means that no event is registered and both buffers are gone.
 * I2  The write event is registered exactly while connecting or while `out` holds bytes that the
 *     kernel did not take.
 * I3  What was put off does not outlive the turn: it is flushed at the end of it, before anything
 *     else is sent or the socket is closed; or it is taken back.
 * I4  The input block exists exactly while in.end > 0 or a read runs.
 */
#include "postern/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "stream_internal.h"

#define SMALL_BYTES   2048
#define PUT_OFF_BYTES 4096

void pst_stream_drop_in_(struct pst_stream *s)
{
    if (s->in.data != NULL)
        pst_block_give(s->worker, s->in.data);
    s->in.data = NULL;
    s->in.start = s->in.end = s->in.cap = 0;
}

static void drop_out(struct pst_stream *s)
{
    if (s->out.data == NULL)
        return;
    s->sent = pst_stream_taken(s);
    if (s->out.cap == PST_BLOCK_BYTES)
        pst_block_give(s->worker, s->out.data);
    else
        free(s->out.data);
    s->out.data = NULL;
    s->out.start = s->out.end = s->out.cap = 0;
    s->stalled_ns = 0;
    s->put_off_ = false;
}

void pst_stream_set_reading_(struct pst_stream *s, bool on)
{
    if (s->reading_ == on)
        return;
    s->reading_ = on;
    if (on)
        event_add(&s->read_event_, NULL);
    else
        event_del(&s->read_event_);
}

static void set_writing(struct pst_stream *s, bool on)
{
    if (s->writing_ == on)
        return;
    s->writing_ = on;
    if (on)
        event_add(&s->write_event_, NULL);
    else
        event_del(&s->write_event_);
}

void pst_stream_break_(struct pst_stream *s)
{
    s->broken = s->send_broken = true;
    pst_deferred_cancel(&s->flush_);
    drop_out(s);
    pst_stream_set_reading_(s, false);
    set_writing(s, false);
}

/* ---- reading ---- */

bool pst_stream_room_(struct pst_stream *s)
{
    if (s->in.data == NULL) {
        s->in.data = pst_block_take(s->worker);
        if (s->in.data == NULL)
            return false;
        s->in.start = s->in.end = 0;
        s->in.cap = PST_BLOCK_BYTES;
    }
    return s->in.end < s->in.cap;
}

bool pst_stream_read(struct pst_stream *s)
{
    if (s->fd < 0 || s->eof || s->broken)
        return false;
    if (pst_deferred_waits(&s->news_)) { /* read in this turn, and told herewith */
        pst_deferred_cancel(&s->news_);
        return true;
    }
    if (s->tls_ != NULL)
        return pst_tls_read_(s);
    if (!pst_stream_room_(s)) {
        if (s->in.data == NULL)
            pst_stream_break_(s); /* no memory for one block: this connection ends */
        else
            pst_stream_pause(s);
        return s->broken;
    }
    ssize_t n = pst_socket_recv_(s->fd, s->in.data + s->in.end, s->in.cap - s->in.end);
    if (n > 0) {
        s->in.end += (size_t)n;
        s->received += (uint64_t)n;
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (s->in.end == 0)
            pst_stream_drop_in_(s);
        return false;
    }
    if (n == 0) {
        s->eof = true;
        pst_stream_set_reading_(s, false); /* else the loop would report it again and again */
    } else {
        pst_stream_break_(s);
    }
    if (s->in.end == 0)
        pst_stream_drop_in_(s);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pst_stream *s = arg;

    (void)fd, (void)what;
    if (s->connecting || s->paused)
        return;
    if (!pst_stream_read(s))
        return;
    if (s->worker->own.blocks_out < PST_BLOCKS_KEPT)
        pst_worker_defer(s->worker, &s->news_);
    else
        s->ops->readable(s); /* a flood takes no more blocks at once than are kept anyhow */
}

static void tell(struct pst_deferred *deferred)
{
    struct pst_stream *s = pst_container_of(deferred, struct pst_stream, news_);

    s->ops->readable(s);
}

void pst_stream_consume(struct pst_stream *s, size_t len)
{
    assert(len <= s->in.end - s->in.start);
    s->in.start += len;
    if (s->in.start == s->in.end)
        pst_stream_drop_in_(s);
}

void pst_stream_pause(struct pst_stream *s)
{
    s->paused = true;
    if (s->fd >= 0)
        pst_stream_set_reading_(s, false);
}

void pst_stream_resume(struct pst_stream *s)
{
    s->paused = false;
    if (s->fd < 0 || s->eof || s->broken || s->connecting)
        return;
    pst_stream_set_reading_(s, true);
    if (s->tls_ != NULL && pst_tls_pending_(s))
        event_active(&s->read_event_, EV_READ, 0); /* the socket may have nothing more to say */
}

/* ---- writing ---- */

/* Room for `more` bytes behind what is kept; moves it to the front when that is enough. */
static bool grow_out(struct pst_stream *s, size_t more)
{
    size_t kept = s->out.end - s->out.start;

    if (s->out.data != NULL && more <= s->out.cap - s->out.end)
        return true;
    if (more > SIZE_MAX / 2 - kept)
        return false;
    size_t cap = kept + more <= PST_BLOCK_BYTES ? PST_BLOCK_BYTES : kept + more;
    if (s->out.data != NULL && cap <= s->out.cap) {
        memmove(s->out.data, s->out.data + s->out.start, kept);
        s->out.start = 0;
        s->out.end = kept;
        return true;
    }
    char *data = cap == PST_BLOCK_BYTES ? pst_block_take(s->worker) : malloc(cap + 1);
    if (data == NULL)
        return false;
    if (s->out.data != NULL)
        memcpy(data, s->out.data + s->out.start, kept);
    uint64_t stalled_ns = s->stalled_ns;
    drop_out(s);
    s->stalled_ns = stalled_ns;
    s->out.data = data;
    s->out.cap = cap == PST_BLOCK_BYTES ? cap : cap + 1; /* never equal to a block's size */
    s->out.start = 0;
    s->out.end = kept;
    return true;
}

static bool keep(struct pst_stream *s, const struct iovec *pieces, int count, size_t skip)
{
    size_t total = 0;

    for (int i = 0; i < count; i++)
        total += pieces[i].iov_len;
    if (!grow_out(s, total - skip))
        return false;
    for (int i = 0; i < count; i++) {
        size_t off = skip < pieces[i].iov_len ? skip : pieces[i].iov_len;
        skip -= off;
        if (pieces[i].iov_len == off)
            continue;
        memcpy(s->out.data + s->out.end, (const char *)pieces[i].iov_base + off,
               pieces[i].iov_len - off);
        s->out.end += pieces[i].iov_len - off;
    }
    if (s->stalled_ns == 0)
        s->stalled_ns = pst_worker_now(s->worker);
    if (!s->connecting)
        set_writing(s, true);
    return true;
}

static ssize_t send_now(struct pst_stream *s, const struct iovec *pieces, int count, size_t total)
{
    char small[SMALL_BYTES];
    size_t len = 0;

    if (count == 1)
        return pst_socket_send_(s->fd, pieces[0].iov_base, pieces[0].iov_len);
    if (total <= sizeof(small)) { /* copying is cheaper than what sendmsg does for its vector */
        for (int i = 0; i < count; i++) {
            memcpy(small + len, pieces[i].iov_base, pieces[i].iov_len);
            len += pieces[i].iov_len;
        }
        return pst_socket_send_(s->fd, small, len);
    }
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces,
                             .msg_iovlen = (size_t)count};
    return sendmsg(s->fd, &message, MSG_NOSIGNAL);
}

char *pst_stream_room(struct pst_stream *s, size_t most)
{
    if (!s->gathers || s->tls_ != NULL || s->connecting || s->send_broken || s->fd < 0 ||
        pst_stream_sending(s))
        return NULL;
    if (s->out.data == NULL) { /* what is neither put off nor being sent has no block */
        s->out.data = pst_block_take(s->worker);
        if (s->out.data == NULL)
            return NULL;
        s->out.cap = PST_BLOCK_BYTES;
    }
    return most <= s->out.cap - s->out.end ? s->out.data + s->out.end : NULL;
}

void pst_stream_commit(struct pst_stream *s, size_t len)
{
    s->out.end += len;
    s->sent += len;
    s->put_off_ = true;
    pst_worker_put_last(s->worker, &s->flush_);
}

/* False: it is to be sent at once. */
static bool put_off(struct pst_stream *s, const struct iovec *pieces, int count, size_t total)
{
    char *to = total > PUT_OFF_BYTES ? NULL : pst_stream_room(s, total);

    if (to == NULL)
        return false;
    for (int i = 0; i < count; i++) {
        memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
        to += pieces[i].iov_len;
    }
    pst_stream_commit(s, total);
    return true;
}

static void shut_when_sent(struct pst_stream *s)
{
    if (s->fin_wanted_ && s->out.end == s->out.start && s->fd >= 0 && !s->connecting) {
        s->fin_wanted_ = false;
        shutdown(s->fd, SHUT_WR);
    }
}

static void send_put_off(struct pst_stream *s)
{
    size_t len = s->out.end - s->out.start;
    ssize_t n = pst_socket_send_(s->fd, s->out.data + s->out.start, len);
    bool failed = n < 0 && errno != EAGAIN && errno != EINTR;

    pst_deferred_cancel(&s->flush_);
    s->put_off_ = false;
    s->out.start += n < 0 ? 0 : (size_t)n;
    s->sent -= s->out.end - s->out.start;
    if (failed || s->out.start == s->out.end) {
        s->send_broken = s->send_broken || failed;
        drop_out(s);
        shut_when_sent(s);
        return;
    }
    s->stalled_ns = pst_worker_now(s->worker);
    set_writing(s, true);
}

static void flush(struct pst_deferred *deferred)
{
    struct pst_stream *s = pst_container_of(deferred, struct pst_stream, flush_);

    send_put_off(s);
    if (s->send_broken || pst_stream_sending(s))
        s->ops->drained(s);
}

enum pst_status pst_stream_send_raw_(struct pst_stream *s, const struct iovec *pieces, int count)
{
    size_t total = 0, sent = 0;

    if (s->fd < 0 || s->send_broken)
        return PST_E_IO;
    for (int i = 0; i < count; i++)
        total += pieces[i].iov_len;
    if (total == 0 || put_off(s, pieces, count, total))
        return PST_OK;
    if (s->put_off_)
        send_put_off(s);
    if (s->send_broken)
        return PST_E_IO;
    if (!pst_stream_sending(s) && !s->connecting) {
        ssize_t n = send_now(s, pieces, count, total);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            s->send_broken = true;
            return PST_E_IO;
        }
        sent = n < 0 ? 0 : (size_t)n;
        s->sent += sent;
    }
    if (sent == total)
        return PST_OK;
    if (keep(s, pieces, count, sent))
        return PST_OK;
    s->send_broken = true;
    return PST_E_NOMEM;
}

enum pst_status pst_stream_send(struct pst_stream *s, const struct iovec *pieces, int count)
{
    if (s->tls_ != NULL)
        return pst_tls_send_(s, pieces, count);
    return pst_stream_send_raw_(s, pieces, count);
}

void pst_stream_take_back(struct pst_stream *s)
{
    pst_deferred_cancel(&s->flush_);
    if (s->put_off_)
        drop_out(s);
}

void pst_stream_finish(struct pst_stream *s)
{
    if (s->tls_ != NULL && s->fd >= 0 && !s->connecting)
        pst_tls_finish_(s);
    s->fin_wanted_ = true;
    shut_when_sent(s);
}

static void flush_out(struct pst_stream *s)
{
    ssize_t n = pst_socket_send_(s->fd, s->out.data + s->out.start, s->out.end - s->out.start);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        s->send_broken = true;
        drop_out(s);
        set_writing(s, false);
        s->ops->drained(s);
        return;
    }
    s->sent += (uint64_t)n;
    s->out.start += (size_t)n;
    s->stalled_ns = pst_worker_now(s->worker);
    if (s->out.start < s->out.end)
        return;
    drop_out(s);
    set_writing(s, false);
    shut_when_sent(s);
    s->ops->drained(s);
}

/* ---- opening and closing ---- */

static void on_connected(struct pst_stream *s)
{
    int error = 0;
    socklen_t len = sizeof(error);

    set_writing(s, false);
    s->connecting = false;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
        pst_stream_break_(s);
    else
        pst_stream_set_reading_(s, !s->paused);
    if (!s->broken && s->tls_ != NULL) {
        pst_tls_begin_(s);
        return;
    }
    if (!s->broken && pst_stream_sending(s))
        set_writing(s, true);
    s->ops->connected(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct pst_stream *s = arg;

    (void)fd, (void)what;
    if (s->connecting)
        on_connected(s);
    else if (pst_stream_sending(s))
        flush_out(s);
}

static enum pst_status init_stream(struct pst_stream *s, struct pst_worker *worker,
                                   const struct pst_stream_ops *ops, int fd)
{
    *s = (struct pst_stream){
        .worker = worker, .ops = ops, .fd = fd, .news_.run = tell, .flush_.run = flush};
    if (event_assign(&s->read_event_, worker->base, fd, EV_READ | EV_PERSIST, on_readable, s) !=
            0 ||
        event_assign(&s->write_event_, worker->base, fd, EV_WRITE | EV_PERSIST, on_writable, s) !=
            0)
        return PST_E_IO;
    return PST_OK;
}

enum pst_status pst_stream_open(struct pst_stream *s, struct pst_worker *worker,
                                const struct pst_stream_ops *ops, int fd)
{
    enum pst_status status = init_stream(s, worker, ops, fd);

    if (status == PST_OK)
        pst_stream_set_reading_(s, true);
    return status;
}

enum pst_status pst_stream_connect(struct pst_stream *s, struct pst_worker *worker,
                                   const struct pst_stream_ops *ops,
                                   const struct pst_address *address)
{
    int on = 1;
    int fd = socket(address->sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *s = (struct pst_stream){.worker = worker, .ops = ops, .fd = -1};
    if (fd < 0)
        return PST_E_IO;
    if (init_stream(s, worker, ops, fd) != PST_OK) {
        close(fd);
        s->fd = -1;
        return PST_E_IO;
    }
    if (address->sa.any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, &address->sa.any, address->len) == 0) {
        pst_stream_set_reading_(s, true);
        return PST_OK;
    }
    if (errno != EINPROGRESS) { /* of a unix socket EAGAIN means a full backlog: refused as well */
        pst_stream_close(s);
        return PST_E_IO;
    }
    s->connecting = true;
    set_writing(s, true);
    return PST_PENDING;
}

void pst_stream_connect_later_(struct pst_stream *s)
{
    pst_stream_set_reading_(s, false);
    s->connecting = true;
    set_writing(s, true);
}

void pst_stream_close(struct pst_stream *s)
{
    if (s->fd < 0)
        return;
    if (s->put_off_)
        send_put_off(s);
    pst_deferred_cancel(&s->news_);
    pst_stream_set_reading_(s, false);
    set_writing(s, false);
    pst_stream_drop_in_(s);
    drop_out(s);
    if (s->tls_ != NULL)
        pst_tls_free_(s);
    close(s->fd);
    s->fd = -1;
    s->send_broken = true;
}

void pst_stream_reset(struct pst_stream *s)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (s->fd < 0)
        return;
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    pst_stream_close(s);
}
