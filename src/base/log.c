/*
 * Layout
 *
 *   worker --begin/commit--> ring (bytes, power of two) --drain--> batch per stream --write--> file
 *   anybody --event--------> events buffer (locked)      --drain--^
 *
 * A ring holds records: a 4-byte header (stream in the top byte, length below), then the line.
 * `head` is written by the producer only, `tail` by the telemetry thread only; each publishes with
 * a release store that pairs with the other's acquire load.
 *
 * The thread looks every PERIOD_MS, or at once when a producer finds its ring half full: lines
 * leave in batches, so that a request costs no system call.
 *
 * Nobody but the telemetry thread ever waits for a reader: `lock` is not held while something is
 * written, and a pipe, socket or terminal is only written when it has room.  When it had none for
 * STALL_MS the stream's lines are dropped and counted until it has.
 */
#include "postern/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/base/clock.h"

#define PERIOD_MS   100
#define STALL_MS    1000
#define BATCH_BYTES 65536
#define EVENT_BYTES 65536
#define HEADER      4u

struct pst_log_ring {
    struct pst_log *log;
    struct pst_log_ring *next; /* in log->rings */
    size_t mask;
    struct pst_buf line; /* of the producer: in the ring where it will stand, or in scratch */
    enum pst_log_stream stream;
    bool woken;
    _Atomic size_t head, tail;
    char scratch[HEADER + PST_LOG_ROOM]; /* a record that may not fit, or not in one piece */
    char bytes[];
};

struct batch {
    char *path;     /* NULL: the fd is not ours to reopen */
    int fd;         /* -1: off */
    bool may_block; /* a reader at the other end decides when there is room */
    bool stalled;   /* it had none for STALL_MS */
    size_t len;
    char bytes[BATCH_BYTES];
};

struct pst_log {
    enum pst_log_level level;
    pthread_t thread;
    int wake; /* eventfd */
    _Atomic bool stop, reopen;
    _Atomic uint64_t drops;
    bool is_on[PST_LOG_STREAMS];           /* never changes: read by producers */
    struct batch batches[PST_LOG_STREAMS]; /* telemetry thread only */

    pthread_mutex_t rings_lock; /* held while rings are drained, so while something is written */
    struct pst_log_ring *rings;

    pthread_mutex_t lock; /* never held for long */
    pthread_cond_t drained;
    struct {
        size_t event_len;
        uint64_t asked, done; /* flushes */
        char events[EVENT_BYTES];
    } locked;
};

static void drop(struct pst_log *log, uint64_t lines)
{
    atomic_fetch_add_explicit(&log->drops, lines, memory_order_relaxed);
}

static bool has_room(struct batch *b)
{
    struct pollfd p = {.fd = b->fd, .events = POLLOUT};
    int n;

    do
        n = poll(&p, 1, b->stalled ? 0 : STALL_MS);
    while (n < 0 && errno == EINTR);
    b->stalled = n <= 0;
    return !b->stalled;
}

/* What may be written at once: where a reader could let us wait, whole lines of at most PIPE_BUF
 * bytes, for which a descriptor that polls as writable has room. */
static size_t portion(const struct batch *b, size_t at)
{
    size_t len = b->len - at;

    if (!b->may_block || len <= PIPE_BUF)
        return len;
    for (len = PIPE_BUF; len > 0 && b->bytes[at + len - 1] != '\n'; len--)
        continue;
    return len > 0 ? len : PIPE_BUF;
}

static void drop_batch(struct pst_log *log, const struct batch *b, size_t at)
{
    uint64_t lines = 0;

    for (; at < b->len; at++)
        lines += b->bytes[at] == '\n';
    drop(log, lines);
}

/* Writes what there is room for; the rest stays. */
static void write_batch(struct pst_log *log, struct batch *b)
{
    size_t at = 0;

    while (at < b->len && (!b->may_block || has_room(b))) {
        ssize_t n = write(b->fd, b->bytes + at, portion(b, at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) { /* its room was taken by somebody else who has it open */
            b->stalled = true;
            break;
        }
        if (n <= 0) { /* a full disk or a closed pipe must not stop the program */
            drop_batch(log, b, at);
            at = b->len;
            break;
        }
        at += (size_t)n;
    }
    memmove(b->bytes, b->bytes + at, b->len - at);
    b->len -= at;
}

static void put(struct pst_log *log, enum pst_log_stream stream, const char *line, size_t len)
{
    struct batch *b = &log->batches[stream];

    if (b->fd < 0)
        return;
    if (len + 1 > BATCH_BYTES - b->len)
        write_batch(log, b);
    if (len + 1 > BATCH_BYTES - b->len) {
        drop(log, 1);
        return;
    }
    memcpy(b->bytes + b->len, line, len);
    b->bytes[b->len + len] = '\n';
    b->len += len + 1;
}

/* Where these bytes stand in one piece: in the ring itself unless its end is between them. */
static const char *in_one_piece(const struct pst_log_ring *r, size_t from, char *room, size_t len)
{
    size_t at = from & r->mask, first = r->mask + 1 - at;

    if (len <= first)
        return r->bytes + at;
    memcpy(room, r->bytes + at, first);
    memcpy(room + first, r->bytes, len - first);
    return room;
}

static __attribute__((noinline)) void copy_in(struct pst_log_ring *r, size_t to, const void *from,
                                              size_t len)
{
    size_t at = to & r->mask, first = r->mask + 1 - at;

    first = first < len ? first : len;
    memcpy(r->bytes + at, from, first);
    memcpy(r->bytes, (const char *)from + first, len - first);
}

static void drain_ring(struct pst_log *log, struct pst_log_ring *r)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    char line[PST_LOG_LINE_MAX];

    while (tail != head) {
        uint32_t header;
        memcpy(&header, in_one_piece(r, tail, line, HEADER), HEADER);
        size_t len = header & 0xffffff;
        put(log, (enum pst_log_stream)(header >> 24), in_one_piece(r, tail + HEADER, line, len),
            len);
        tail += HEADER + len;
    }
    atomic_store_explicit(&r->tail, tail, memory_order_release);
}

/* O_NONBLOCK: a FIFO that nobody reads must not stop the program. */
static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);
}

static void set_descriptor(struct batch *b, int fd)
{
    struct stat st;

    b->fd = fd;
    b->stalled = false;
    b->may_block =
        fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(fd) == 1);
}

static void reopen_files(struct pst_log *log)
{
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++) {
        struct batch *b = &log->batches[s];
        if (b->path == NULL)
            continue;
        write_batch(log, b);
        int fd = open_path(b->path);
        if (fd >= 0) {
            close(b->fd);
            set_descriptor(b, fd);
        }
    }
}

/* Moves the events to their batch, unless that still holds too much. Returns what flushes wait for.
 */
static uint64_t take_events(struct pst_log *log)
{
    struct batch *b = &log->batches[PST_LOG_EVENTS];

    pthread_mutex_lock(&log->lock);
    uint64_t asked = log->locked.asked;
    if (b->fd < 0) {
        log->locked.event_len = 0;
    } else if (log->locked.event_len <= BATCH_BYTES - b->len) {
        memcpy(b->bytes + b->len, log->locked.events, log->locked.event_len);
        b->len += log->locked.event_len;
        log->locked.event_len = 0;
    }
    pthread_mutex_unlock(&log->lock);
    return asked;
}

static void drain_all(struct pst_log *log)
{
    if (atomic_exchange_explicit(&log->reopen, false, memory_order_acq_rel))
        reopen_files(log);

    uint64_t asked = take_events(log);
    pthread_mutex_lock(&log->rings_lock);
    for (struct pst_log_ring *r = log->rings; r != NULL; r = r->next)
        drain_ring(log, r);
    pthread_mutex_unlock(&log->rings_lock);

    for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
        if (log->batches[s].len > 0)
            write_batch(log, &log->batches[s]);

    pthread_mutex_lock(&log->lock);
    log->locked.done = asked;
    pthread_cond_broadcast(&log->drained);
    pthread_mutex_unlock(&log->lock);
}

static void *telemetry(void *arg)
{
    struct pst_log *log = arg;

    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        bool last = atomic_load_explicit(&log->stop, memory_order_acquire);
        drain_all(log);
        if (last)
            return NULL;
        struct pollfd p = {.fd = log->wake, .events = POLLIN};
        uint64_t count;
        if (poll(&p, 1, PERIOD_MS) > 0 && read(log->wake, &count, sizeof(count)) < 0)
            continue;
    }
}

static __attribute__((noinline)) void wake(const struct pst_log *log)
{
    uint64_t one = 1;

    if (write(log->wake, &one, sizeof(one)) < 0)
        return; /* the counter is at its maximum: the thread is awake already */
}

static enum pst_status open_stream(struct pst_log *log, enum pst_log_stream s, struct pst_bytes to,
                                   struct pst_error *error)
{
    struct batch *b = &log->batches[s];

    b->fd = -1;
    if (to.len == 0 || pst_bytes_equal(to, PST_LIT("off")))
        return PST_OK;
    int fd;
    if (pst_bytes_equal(to, PST_LIT("stdout"))) {
        fd = STDOUT_FILENO;
    } else if (pst_bytes_equal(to, PST_LIT("stderr"))) {
        fd = STDERR_FILENO;
    } else {
        b->path = strndup(to.ptr, to.len);
        fd = b->path == NULL ? -1 : open_path(b->path);
        if (fd < 0)
            return pst_error_set(error, PST_E_IO, b->path, "the log file cannot be opened: %s",
                                 strerror(errno));
    }
    set_descriptor(b, fd);
    log->is_on[s] = true;
    return PST_OK;
}

static void dispose(struct pst_log *log)
{
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++) {
        if (log->batches[s].path != NULL && log->batches[s].fd >= 0)
            close(log->batches[s].fd);
        free(log->batches[s].path);
    }
    if (log->wake >= 0)
        close(log->wake);
    pthread_cond_destroy(&log->drained);
    pthread_mutex_destroy(&log->lock);
    pthread_mutex_destroy(&log->rings_lock);
    free(log);
}

enum pst_status pst_log_create(const struct pst_log_config *config, struct pst_log **out,
                               struct pst_error *error)
{
    *out = NULL;
    struct pst_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->rings_lock, NULL);
    pthread_cond_init(&log->drained, NULL);
    log->level = config->level;
    log->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
        log->batches[s].fd = -1;

    enum pst_status status =
        log->wake < 0 ? pst_error_set(error, PST_E_IO, NULL, "no eventfd") : PST_OK;
    for (unsigned s = 0; s < PST_LOG_STREAMS && status == PST_OK; s++)
        status = open_stream(log, (enum pst_log_stream)s, config->paths[s], error);
    if (status == PST_OK && pthread_create(&log->thread, NULL, telemetry, log) != 0)
        status = pst_error_set(error, PST_E_NOMEM, NULL, "the telemetry thread cannot be started");
    if (status != PST_OK) {
        dispose(log);
        return status;
    }
    *out = log;
    return PST_OK;
}

void pst_log_destroy(struct pst_log *log)
{
    if (log == NULL)
        return;
    atomic_store_explicit(&log->stop, true, memory_order_release);
    wake(log);
    pthread_join(log->thread, NULL);
    dispose(log);
}

void pst_log_reopen(struct pst_log *log)
{
    atomic_store_explicit(&log->reopen, true, memory_order_release);
    wake(log);
}

void pst_log_flush(struct pst_log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t mine = ++log->locked.asked;
    wake(log);
    while (log->locked.done < mine)
        pthread_cond_wait(&log->drained, &log->lock);
    pthread_mutex_unlock(&log->lock);
}

enum pst_status pst_log_ring_open(struct pst_log *log, size_t bytes, struct pst_log_ring **out)
{
    size_t size = 2 * PST_LOG_LINE_MAX;

    while (size < bytes)
        size *= 2;
    *out = calloc(1, sizeof(**out) + size);
    if (*out == NULL)
        return PST_E_NOMEM;
    (*out)->log = log;
    (*out)->mask = size - 1;
    pthread_mutex_lock(&log->rings_lock);
    (*out)->next = log->rings;
    log->rings = *out;
    pthread_mutex_unlock(&log->rings_lock);
    return PST_OK;
}

void pst_log_ring_close(struct pst_log_ring *ring)
{
    if (ring == NULL)
        return;
    struct pst_log *log = ring->log;
    pst_log_flush(log);
    pthread_mutex_lock(&log->rings_lock);
    struct pst_log_ring **link = &log->rings;
    while (*link != ring)
        link = &(*link)->next;
    *link = ring->next;
    pthread_mutex_unlock(&log->rings_lock);
    free(ring);
}

static size_t used_of(const struct pst_log_ring *ring, size_t head)
{
    return head - atomic_load_explicit(&ring->tail, memory_order_acquire);
}

struct pst_buf *pst_log_begin(struct pst_log_ring *ring, enum pst_log_stream stream)
{
    if (!ring->log->is_on[stream])
        return NULL;
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), at = head & ring->mask;
    size_t size = ring->mask + 1, most = HEADER + PST_LOG_ROOM;
    bool fits = at + most <= size && used_of(ring, head) + most <= size;

    ring->line = pst_buf_of((fits ? ring->bytes + at : ring->scratch) + HEADER, PST_LOG_ROOM);
    ring->stream = stream;
    return &ring->line;
}

void pst_log_commit(struct pst_log_ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t used = used_of(ring, head), size = ring->mask + 1, len = ring->line.len;

    if (ring->line.full || len > PST_LOG_LINE_MAX || HEADER + len > size - used) {
        drop(ring->log, 1);
        return;
    }
    uint32_t header = (uint32_t)len | (uint32_t)ring->stream << 24;
    memcpy(ring->line.data - HEADER, &header, HEADER);
    if (ring->line.data == ring->scratch + HEADER)
        copy_in(ring, head, ring->scratch, HEADER + len);
    atomic_store_explicit(&ring->head, head + HEADER + len, memory_order_release);

    if (used + len <= size / 2)
        ring->woken = false;
    else if (!ring->woken) { /* once per crossing, not once per line */
        ring->woken = true;
        wake(ring->log);
    }
}

uint64_t pst_log_drops(const struct pst_log *log)
{
    return atomic_load_explicit(&log->drops, memory_order_relaxed);
}

static const char *level_name(enum pst_log_level level)
{
    switch (level) {
    case PST_LOG_DEBUG:
        return "debug";
    case PST_LOG_INFO:
        return "info";
    case PST_LOG_WARN:
        return "warn";
    case PST_LOG_ERROR:
        return "error";
    }
    return "error";
}

void pst_log_event(struct pst_log *log, enum pst_log_level level, const char *name,
                   const char *format, ...)
{
    char line[PST_LOG_LINE_MAX], more[PST_LOG_LINE_MAX / 2];
    va_list args;

    if (log != NULL && level < log->level)
        return;
    va_start(args, format);
    int n = vsnprintf(more, sizeof(more), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(more))
        more[0] = '\0';

    struct pst_buf b = pst_buf_of(line, sizeof(line) - 1);
    pst_buf_lit(&b, "{\"time\":\"");
    pst_buf_time(&b, pst_clock_wall_ns());
    pst_buf_lit(&b, "\",\"level\":\"");
    pst_buf_put(&b, pst_bytes_of(level_name(level), strlen(level_name(level))));
    pst_buf_lit(&b, "\",\"event\":");
    pst_buf_json(&b, pst_bytes_of(name, strlen(name)));
    if (more[0] != '\0') {
        pst_buf_char(&b, ',');
        pst_buf_put(&b, pst_bytes_of(more, strlen(more)));
    }
    pst_buf_char(&b, '}');
    line[b.len++] = '\n';

    if (log == NULL) {
        if (write(STDERR_FILENO, line, b.len) < 0)
            return;
        return;
    }
    pthread_mutex_lock(&log->lock);
    if (b.len <= EVENT_BYTES - log->locked.event_len) {
        memcpy(log->locked.events + log->locked.event_len, line, b.len);
        log->locked.event_len += b.len;
    } else {
        drop(log, 1);
    }
    pthread_mutex_unlock(&log->lock);
    wake(log);
}
