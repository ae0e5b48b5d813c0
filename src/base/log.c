/*
 * Layout
 *
 *   worker --begin/commit--> lane of its ring, one a stream --write--> file
 *   anybody --event--------> events buffer (locked) --copy-> taken --write--> file
 *
 * A lane holds whole lines as they will stand in the file, so that what has come in leaves with one
 * write from where it was made: a file system takes 20 us a write before it copies a byte. `head`
 * and `tail` count on; one lap of them is the lane's size. A line that might not fit before the
 * lane's end begins the next lap, and `end` says where the lines of the lap before it stop: written
 * by the producer before the `head` that leaves that lap, and not again until `tail` has left it,
 * too. `head` is written by the producer only, `tail` by the telemetry thread only; each publishes
 * with a release store that pairs with the other's acquire load.
 *
 * The thread looks every PERIOD_MS, or at once when a producer finds its lane half full: lines
 * leave in batches, so that a request costs no system call.
 *
 * Nobody but the telemetry thread ever waits for a reader: `lock` is not held while something is
 * written, and a pipe, socket or terminal is only written when it has room.  When it had none for
 * STALL_MS the stream's lines stay where they are until it has, and those that find no room there
 * are dropped and counted.
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
#define EVENT_BYTES 65536

_Static_assert(PST_LOG_LINE_MAX <= PIPE_BUF, "a reader that stops never gets half a line");

struct lane {
    char *bytes; /* NULL: the stream is off */
    size_t mask;
    size_t end;
    bool woken; /* the thread, since the lane was half full */
    _Atomic size_t head, tail;
};

struct pst_log_ring {
    struct pst_log *log;
    struct pst_log_ring *next; /* in log->rings */
    struct lane lanes[PST_LOG_STREAMS];
    struct lane *lane; /* of the line that is being written, which begins at `start` */
    size_t start;
    struct pst_buf line;
};

struct sink {
    char *path;     /* NULL: the fd is not ours to reopen */
    int fd;         /* -1: off */
    bool may_block; /* a reader at the other end decides when there is room */
    bool stalled;   /* it had none for STALL_MS */
};

struct events {
    size_t len;
    char bytes[EVENT_BYTES];
};

struct pst_log {
    enum pst_log_level level;
    pthread_t thread;
    int wake; /* eventfd */
    _Atomic bool stop, reopen;
    _Atomic uint64_t drops;
    bool is_on[PST_LOG_STREAMS];        /* never changes: read by all */
    struct sink sinks[PST_LOG_STREAMS]; /* telemetry thread only */
    struct events taken;                /* the same */

    pthread_mutex_t rings_lock; /* held while rings are drained, so while something is written */
    struct pst_log_ring *rings;

    pthread_mutex_t lock; /* never held for long */
    pthread_cond_t drained;
    struct {
        uint64_t asked, done; /* flushes */
        struct events events;
    } locked;
};

static void drop(struct pst_log *log, uint64_t lines)
{
    atomic_fetch_add_explicit(&log->drops, lines, memory_order_relaxed);
}

static bool has_room(struct sink *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int n;

    do
        n = poll(&p, 1, s->stalled ? 0 : STALL_MS);
    while (n < 0 && errno == EINTR);
    s->stalled = n <= 0;
    return !s->stalled;
}

/* What may be written at once: where a reader could let us wait, whole lines of at most PIPE_BUF
 * bytes, for which a descriptor that polls as writable has room. */
static size_t portion(const struct sink *s, struct pst_bytes lines)
{
    size_t len = lines.len;

    if (!s->may_block || len <= PIPE_BUF)
        return len;
    for (len = PIPE_BUF; len > 0 && lines.ptr[len - 1] != '\n'; len--)
        continue;
    return len > 0 ? len : PIPE_BUF;
}

static void drop_lines(struct pst_log *log, struct pst_bytes lines)
{
    uint64_t count = 0;

    for (size_t i = 0; i < lines.len; i++)
        count += lines.ptr[i] == '\n';
    drop(log, count);
}

/* Writes what there is room for. Returns how many bytes are done with. */
static size_t write_lines(struct pst_log *log, struct sink *s, struct pst_bytes lines)
{
    struct pst_bytes left = lines;

    while (left.len > 0 && (!s->may_block || has_room(s))) {
        ssize_t n = write(s->fd, left.ptr, portion(s, left));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) { /* its room was taken by somebody else who has it open */
            s->stalled = true;
            break;
        }
        if (n <= 0) { /* a full disk or a closed pipe must not stop the program */
            drop_lines(log, left);
            return lines.len;
        }
        left = pst_bytes_of(left.ptr + n, left.len - (size_t)n);
    }
    return lines.len - left.len;
}

/* ---- lanes ---- */

static bool is_same_lap(const struct lane *l, size_t a, size_t b)
{
    return ((a ^ b) & ~l->mask) == 0;
}

static size_t next_lap(const struct lane *l, size_t at)
{
    return (at | l->mask) + 1;
}

/* The lines that stand in one piece from *tail on, which is not head; *tail may begin a lap. */
static struct pst_bytes piece_of(const struct lane *l, size_t *tail, size_t head)
{
    if (!is_same_lap(l, *tail, head) && (*tail & l->mask) == l->end)
        *tail = next_lap(l, *tail);
    size_t from = *tail & l->mask;
    size_t to = is_same_lap(l, *tail, head) ? head & l->mask : l->end;
    return pst_bytes_of(l->bytes + from, to - from);
}

static void drain_lane(struct pst_log *log, struct sink *sink, struct lane *l)
{
    size_t tail = atomic_load_explicit(&l->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&l->head, memory_order_acquire);

    while (tail != head) {
        struct pst_bytes piece = piece_of(l, &tail, head);
        size_t done = write_lines(log, sink, piece);
        tail += done;
        atomic_store_explicit(&l->tail, tail, memory_order_release);
        if (done < piece.len)
            return;
    }
}

/* O_NONBLOCK: a FIFO that nobody reads must not stop the program. */
static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);
}

static void set_descriptor(struct sink *s, int fd)
{
    struct stat st;

    s->fd = fd;
    s->stalled = false;
    s->may_block =
        fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(fd) == 1);
}

static void reopen_files(struct pst_log *log)
{
    for (unsigned i = 0; i < PST_LOG_STREAMS; i++) {
        struct sink *s = &log->sinks[i];
        int fd = s->path == NULL ? -1 : open_path(s->path);
        if (fd >= 0) {
            close(s->fd);
            set_descriptor(s, fd);
        }
    }
}

/* Takes the events over, unless too many are left of those before. Returns what flushes wait for.
 */
static uint64_t take_events(struct pst_log *log)
{
    struct events *from = &log->locked.events, *to = &log->taken;

    pthread_mutex_lock(&log->lock);
    uint64_t asked = log->locked.asked;
    if (from->len <= EVENT_BYTES - to->len) {
        memcpy(to->bytes + to->len, from->bytes, from->len);
        to->len += from->len;
        from->len = 0;
    }
    pthread_mutex_unlock(&log->lock);
    return asked;
}

static void write_events(struct pst_log *log)
{
    struct sink *sink = &log->sinks[PST_LOG_EVENTS];
    struct events *e = &log->taken;
    size_t done = sink->fd < 0 ? e->len : write_lines(log, sink, pst_bytes_of(e->bytes, e->len));

    e->len -= done;
    memmove(e->bytes, e->bytes + done, e->len);
}

static void drain_all(struct pst_log *log)
{
    if (atomic_exchange_explicit(&log->reopen, false, memory_order_acq_rel))
        reopen_files(log);

    uint64_t asked = take_events(log);
    write_events(log);
    pthread_mutex_lock(&log->rings_lock);
    for (struct pst_log_ring *r = log->rings; r != NULL; r = r->next)
        for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
            drain_lane(log, &log->sinks[s], &r->lanes[s]);
    pthread_mutex_unlock(&log->rings_lock);

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
    struct sink *sink = &log->sinks[s];

    if (to.len == 0 || pst_bytes_equal(to, PST_LIT("off")))
        return PST_OK;
    int fd;
    if (pst_bytes_equal(to, PST_LIT("stdout"))) {
        fd = STDOUT_FILENO;
    } else if (pst_bytes_equal(to, PST_LIT("stderr"))) {
        fd = STDERR_FILENO;
    } else {
        sink->path = strndup(to.ptr, to.len);
        fd = sink->path == NULL ? -1 : open_path(sink->path);
        if (fd < 0)
            return pst_error_set(error, PST_E_IO, sink->path, "the log file cannot be opened: %s",
                                 strerror(errno));
    }
    set_descriptor(sink, fd);
    log->is_on[s] = true;
    return PST_OK;
}

static void dispose(struct pst_log *log)
{
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++) {
        if (log->sinks[s].path != NULL && log->sinks[s].fd >= 0)
            close(log->sinks[s].fd);
        free(log->sinks[s].path);
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
        log->sinks[s].fd = -1;

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

static void free_ring(struct pst_log_ring *ring)
{
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
        free(ring->lanes[s].bytes);
    free(ring);
}

enum pst_status pst_log_ring_open(struct pst_log *log, size_t bytes, struct pst_log_ring **out)
{
    struct pst_log_ring *ring = *out = calloc(1, sizeof(*ring));
    size_t size = 2 * PST_LOG_ROOM;

    if (ring == NULL)
        return PST_E_NOMEM;
    while (size < bytes)
        size *= 2;
    ring->log = log;
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++) {
        struct lane *l = &ring->lanes[s];
        l->mask = size - 1;
        if (!log->is_on[s])
            continue;
        l->bytes = malloc(size);
        if (l->bytes == NULL) {
            free_ring(ring);
            *out = NULL;
            return PST_E_NOMEM;
        }
    }
    pthread_mutex_lock(&log->rings_lock);
    ring->next = log->rings;
    log->rings = ring;
    pthread_mutex_unlock(&log->rings_lock);
    return PST_OK;
}

/* What nobody read. */
static void drop_lane(struct pst_log *log, struct lane *l)
{
    size_t tail = atomic_load_explicit(&l->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&l->head, memory_order_relaxed);

    while (tail != head) {
        struct pst_bytes piece = piece_of(l, &tail, head);
        drop_lines(log, piece);
        tail += piece.len;
    }
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
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
        drop_lane(log, &ring->lanes[s]);
    free_ring(ring);
}

struct pst_buf *pst_log_begin(struct pst_log_ring *ring, enum pst_log_stream stream)
{
    struct lane *l = &ring->lanes[stream];

    if (l->bytes == NULL)
        return NULL;
    size_t start = atomic_load_explicit(&l->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&l->tail, memory_order_acquire);
    if ((start & l->mask) + PST_LOG_ROOM > l->mask + 1)
        start = next_lap(l, start);
    if (start + PST_LOG_ROOM - tail > l->mask + 1) {
        drop(ring->log, 1);
        return NULL;
    }
    ring->lane = l;
    ring->start = start;
    ring->line = pst_buf_of(l->bytes + (start & l->mask), PST_LOG_ROOM);
    return &ring->line;
}

void pst_log_commit(struct pst_log_ring *ring)
{
    struct lane *l = ring->lane;
    size_t head = atomic_load_explicit(&l->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&l->tail, memory_order_relaxed);
    size_t len = ring->line.len;

    if (ring->line.full || len >= PST_LOG_LINE_MAX) {
        drop(ring->log, 1);
        return;
    }
    ring->line.data[len] = '\n';
    if (!is_same_lap(l, head, ring->start))
        l->end = head & l->mask;
    head = ring->start + len + 1;
    atomic_store_explicit(&l->head, head, memory_order_release);

    if (head - tail <= l->mask / 2)
        l->woken = false;
    else if (!l->woken) { /* once per crossing, not once per line */
        l->woken = true;
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
    struct events *events = &log->locked.events;
    if (b.len <= EVENT_BYTES - events->len) {
        memcpy(events->bytes + events->len, line, b.len);
        events->len += b.len;
    } else {
        drop(log, 1);
    }
    pthread_mutex_unlock(&log->lock);
    wake(log);
}
