/*
 * Layout
 *
 *   worker --begin/commit--> ring (bytes, power of two) --drain--> batch per stream --write--> file
 *   anybody --event--------> events buffer (locked)      --drain--^
 *
 * A ring holds records: a 4-byte header (stream in the top byte, length below), then the line.  `head`
 * is written by the producer only, `tail` by the telemetry thread only; each publishes with a release
 * store that pairs with the other's acquire load.
 *
 * The thread looks every PERIOD_MS, or at once when a producer finds its ring half full: lines leave in
 * batches, so that a request costs no system call.
 */
#include "postern/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "postern/base/clock.h"

#define PERIOD_MS   100
#define BATCH_BYTES 65536
#define EVENT_BYTES 65536
#define HEADER      4u

struct pst_log_ring {
    struct pst_log *log;
    struct pst_log_ring *next; /* in log->rings */
    size_t mask;
    struct pst_buf line; /* scratch of the producer */
    enum pst_log_stream stream;
    bool woken;
    _Atomic size_t head, tail;
    _Atomic uint64_t drops;
    char scratch[PST_LOG_LINE_MAX];
    char bytes[];
};

struct batch {
    char *path; /* NULL: the fd is not ours to reopen */
    int fd;     /* -1: off */
    size_t len;
    char bytes[BATCH_BYTES];
};

struct pst_log {
    enum pst_log_level level;
    pthread_t thread;
    int wake; /* eventfd */
    _Atomic bool stop, reopen;
    _Atomic uint64_t drops; /* of closed rings and of events */
    bool is_on[PST_LOG_STREAMS]; /* never changes: read by producers */
    struct batch batches[PST_LOG_STREAMS]; /* telemetry thread only */

    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct {
        struct pst_log_ring *rings;
        size_t event_len;
        uint64_t asked, done; /* flushes */
        char events[EVENT_BYTES];
    } locked;
};

static void write_batch(struct pst_log *log, struct batch *b)
{
    size_t at = 0;

    while (at < b->len) {
        ssize_t n = write(b->fd, b->bytes + at, b->len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = b->fd, .events = POLLOUT};
            if (poll(&p, 1, 1000) > 0)
                continue;
        }
        if (n <= 0) { /* a full disk or a closed pipe must not stop the program */
            atomic_fetch_add_explicit(&log->drops, 1, memory_order_relaxed);
            break;
        }
        at += (size_t)n;
    }
    b->len = 0;
}

static void put(struct pst_log *log, enum pst_log_stream stream, const char *line, size_t len)
{
    struct batch *b = &log->batches[stream];

    if (b->fd < 0)
        return;
    if (len + 1 > BATCH_BYTES - b->len)
        write_batch(log, b);
    memcpy(b->bytes + b->len, line, len);
    b->bytes[b->len + len] = '\n';
    b->len += len + 1;
}

static void copy_out(const struct pst_log_ring *r, size_t from, void *to, size_t len)
{
    size_t at = from & r->mask, first = r->mask + 1 - at;

    if (first > len)
        first = len;
    memcpy(to, r->bytes + at, first);
    memcpy((char *)to + first, r->bytes, len - first);
}

static void copy_in(struct pst_log_ring *r, size_t to, const void *from, size_t len)
{
    size_t at = to & r->mask, first = r->mask + 1 - at;

    if (first > len)
        first = len;
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
        copy_out(r, tail, &header, HEADER);
        size_t len = header & 0xffffff;
        copy_out(r, tail + HEADER, line, len);
        put(log, (enum pst_log_stream)(header >> 24), line, len);
        tail += HEADER + len;
    }
    atomic_store_explicit(&r->tail, tail, memory_order_release);
}

static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
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
            b->fd = fd;
        }
    }
}

static void drain_all(struct pst_log *log)
{
    if (atomic_exchange_explicit(&log->reopen, false, memory_order_acq_rel))
        reopen_files(log);

    pthread_mutex_lock(&log->lock);
    uint64_t asked = log->locked.asked;
    if (log->locked.event_len > 0) {
        put(log, PST_LOG_EVENTS, log->locked.events, log->locked.event_len - 1);
        log->locked.event_len = 0;
    }
    for (struct pst_log_ring *r = log->locked.rings; r != NULL; r = r->next)
        drain_ring(log, r);
    pthread_mutex_unlock(&log->lock);

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

static void wake(const struct pst_log *log)
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
    if (pst_bytes_equal(to, PST_LIT("stdout")))
        b->fd = STDOUT_FILENO;
    else if (pst_bytes_equal(to, PST_LIT("stderr")))
        b->fd = STDERR_FILENO;
    else {
        b->path = strndup(to.ptr, to.len);
        b->fd = b->path == NULL ? -1 : open_path(b->path);
        if (b->fd < 0)
            return pst_error_set(error, PST_E_IO, b->path, "the log file cannot be opened: %s", strerror(errno));
    }
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
    pthread_cond_init(&log->drained, NULL);
    log->level = config->level;
    log->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned s = 0; s < PST_LOG_STREAMS; s++)
        log->batches[s].fd = -1;

    enum pst_status status = log->wake < 0 ? pst_error_set(error, PST_E_IO, NULL, "no eventfd") : PST_OK;
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
    pthread_mutex_lock(&log->lock);
    (*out)->next = log->locked.rings;
    log->locked.rings = *out;
    pthread_mutex_unlock(&log->lock);
    return PST_OK;
}

void pst_log_ring_close(struct pst_log_ring *ring)
{
    if (ring == NULL)
        return;
    struct pst_log *log = ring->log;
    pst_log_flush(log);
    pthread_mutex_lock(&log->lock);
    struct pst_log_ring **link = &log->locked.rings;
    while (*link != ring)
        link = &(*link)->next;
    *link = ring->next;
    pthread_mutex_unlock(&log->lock);
    atomic_fetch_add_explicit(&log->drops, atomic_load_explicit(&ring->drops, memory_order_relaxed),
                              memory_order_relaxed);
    free(ring);
}

struct pst_buf *pst_log_begin(struct pst_log_ring *ring, enum pst_log_stream stream)
{
    if (!ring->log->is_on[stream])
        return NULL;
    ring->line = pst_buf_of(ring->scratch, sizeof(ring->scratch));
    ring->stream = stream;
    return &ring->line;
}

void pst_log_commit(struct pst_log_ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t size = ring->mask + 1, len = ring->line.len;

    if (ring->line.full || HEADER + len > size - used) {
        atomic_store_explicit(&ring->drops, atomic_load_explicit(&ring->drops, memory_order_relaxed) + 1,
                              memory_order_relaxed);
        return;
    }
    uint32_t header = (uint32_t)len | (uint32_t)ring->stream << 24;
    copy_in(ring, head, &header, HEADER);
    copy_in(ring, head + HEADER, ring->line.data, len);
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
    struct pst_log *l = (struct pst_log *)(uintptr_t)log; /* the lock is no part of what is const */
    uint64_t sum = atomic_load_explicit(&l->drops, memory_order_relaxed);

    pthread_mutex_lock(&l->lock);
    for (const struct pst_log_ring *r = l->locked.rings; r != NULL; r = r->next)
        sum += atomic_load_explicit(&r->drops, memory_order_relaxed);
    pthread_mutex_unlock(&l->lock);
    return sum;
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
        atomic_fetch_add_explicit(&log->drops, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&log->lock);
    wake(log);
}
