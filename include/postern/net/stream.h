/*
 * stream.h - one connected socket with its own buffers: TCP or unix, knowing nothing of HTTP.
 *
 * Purpose   The fewest system calls that do the job: one recv per readiness, one send per message.
 *           The read event stays registered for the life of the connection; the write event is
 * armed only after the kernel took less than was offered.
 *
 * How       Bytes that came in stand in in.data[in.start .. in.end).  The owner consumes from the
 *           front and may pin the front by not consuming it.  An empty input gives its block back,
 * so an idle connection holds none.  What could not be sent is kept in `out`; while `out` is not
 * empty the owner should stop producing (pst_stream_pause on the side it reads from) and goes on
 * when `drained` is called.
 *
 *           A turn of the loop reads all that is ready first, then tells the owners, and what those
 *           who gather sent goes out at its end: each of the three finds its code in the CPU's
 *           cache (a tenth of a check's time).
 *
 * Memory    Blocks of the worker; at most one each way, unless one single send is larger.
 *
 * Threads   The worker's.
 *
 * Failure   Callbacks say what happened; the stream never closes itself. `readable` after eof or an
 *           error: look at eof and broken.
 */
#ifndef POSTERN_NET_STREAM_H
#define POSTERN_NET_STREAM_H

#include <sys/uio.h>

#include "postern/base/bytes.h"
#include "postern/loop/worker.h"
#include "postern/net/address.h"

struct pst_stream;
struct pst_tls;

struct pst_stream_ops {
    /* New bytes, or eof, or broken. */
    void (*readable)(struct pst_stream *stream);
    /* `out` was not empty and is now; or the connection failed meanwhile (broken, send_broken). Of
     * one that gathers also: not all was taken of what had seemed to be sent. */
    void (*drained)(struct pst_stream *stream);
    /* The connection stands, or broken. Only of streams that were opened with connect. */
    void (*connected)(struct pst_stream *stream);
};

struct pst_stream {
    struct pst_worker *worker;
    const struct pst_stream_ops *ops;
    int fd;           /* -1: closed */
    bool eof;         /* the peer will send no more */
    bool broken;      /* an error ended it: reset, refused, ... */
    bool send_broken; /* nothing can be sent any more; what the peer sent may still be read */
    bool paused;      /* reading is off by pst_stream_pause */
    bool connecting;
    bool gathers;     /* the owner's: little that is sent goes out when the turn's work is done */
    bool put_off_;    /* `out` is such bytes, which the kernel was not offered yet */
    bool reading_;    /* the read event is registered */
    bool writing_;    /* the write event is registered */
    bool fin_wanted_; /* shut the sending side down once `out` is empty */
    struct {
        char *data;
        size_t start, end, cap;
    } in, out;
    uint64_t received, sent; /* bytes in all, with what is put off */
    uint64_t stalled_ns;     /* since when `out` makes no progress; 0: it is empty */
    struct pst_deferred news_, flush_;
    struct event read_event_, write_event_;
    struct pst_tls *tls_; /* NULL: plain */
};

/* Takes over a connected, non-blocking socket and reads from it. */
PST_MUST_USE enum pst_status pst_stream_open(struct pst_stream *stream, struct pst_worker *worker,
                                             const struct pst_stream_ops *ops, int fd);
/* Begins to connect: `connected` comes later (PST_PENDING); PST_OK when it stands at once. */
PST_MUST_USE enum pst_status pst_stream_connect(struct pst_stream *stream,
                                                struct pst_worker *worker,
                                                const struct pst_stream_ops *ops,
                                                const struct pst_address *address);
/* Closes the socket and gives the blocks back; the struct is the owner's. Closing twice is allowed.
 */
void pst_stream_close(struct pst_stream *stream);
/* Closes with a reset, so that the peer cannot take the end for a clean one. */
void pst_stream_reset(struct pst_stream *stream);

static inline struct pst_bytes pst_stream_in(const struct pst_stream *stream)
{
    return pst_bytes_of(stream->in.data + stream->in.start, stream->in.end - stream->in.start);
}
/* Has the loop found it readable in this turn, without having told yet? What is about to be
 * reported came before anything that is sent now. */
static inline bool pst_stream_has_news(const struct pst_stream *stream)
{
    return (stream->read_event_.ev_evcallback.evcb_flags & EVLIST_ACTIVE) != 0 ||
           pst_deferred_waits(&stream->news_);
}
/* Drops `len` bytes from the front of the input. */
void pst_stream_consume(struct pst_stream *stream, size_t len);
/* Reads once now, without waiting for readiness. True when bytes, eof or an error came. */
bool pst_stream_read(struct pst_stream *stream);

/* Sends the pieces in order, or keeps what the kernel does not take. PST_E_IO: send_broken.
 * PST_E_NOMEM: nothing more can be sent on this stream either (send_broken). */
PST_MUST_USE enum pst_status pst_stream_send(struct pst_stream *stream, const struct iovec *pieces,
                                             int count);
/* For one who writes into the buffer itself what goes out at the end of the turn: room for `most`
 * bytes, of which `commit` takes the first `len`. NULL: it cannot be put off, send it. */
char *pst_stream_room(struct pst_stream *stream, size_t most);
void pst_stream_commit(struct pst_stream *stream, size_t len);
/* Half-close once everything is sent. */
void pst_stream_finish(struct pst_stream *stream);
static inline bool pst_stream_sending(const struct pst_stream *stream)
{
    return stream->out.end > stream->out.start && !stream->put_off_;
}

/* Of `sent`, what the kernel was given. */
static inline uint64_t pst_stream_taken(const struct pst_stream *stream)
{
    return stream->sent - (stream->put_off_ ? stream->out.end - stream->out.start : 0);
}
/* What is put off is not sent after all. */
void pst_stream_take_back(struct pst_stream *stream);

void pst_stream_pause(struct pst_stream *stream);
void pst_stream_resume(struct pst_stream *stream);

#endif
