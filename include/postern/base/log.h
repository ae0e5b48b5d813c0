/*
 * log.h - lines out of the hot path: JSON, one event a line, written in batches by one thread.
 *
 * Purpose   A worker formats a line into its own ring; the telemetry thread writes what has come in
 *           to standard output or to a file.  Request paths write only the access and the decision
 *           line; everything else is events of the life cycle.
 *
 * Threads   One producer a ring (the worker that opened it), one consumer (the telemetry thread).
 *           pst_log_event may be called from any thread: it goes through a locked ring of its own.
 *
 * Failure   A full ring drops the line and counts it (metric log_drops), and so does a stream whose
 *           reader stopped reading: nobody waits for it but the telemetry thread.
 *
 * Never     Tokens, cookies, query values, bodies: callers have no business with them, and no
 *           function here takes a credential.
 */
#ifndef POSTERN_BASE_LOG_H
#define POSTERN_BASE_LOG_H

#include "postern/base/buf.h"
#include "postern/base/error.h"

enum pst_log_level { PST_LOG_DEBUG, PST_LOG_INFO, PST_LOG_WARN, PST_LOG_ERROR };
enum pst_log_stream { PST_LOG_EVENTS, PST_LOG_ACCESS, PST_LOG_DECISIONS, PST_LOG_STREAMS };

#define PST_LOG_LINE_MAX 4096  /* bytes of a line with its end; a longer one is dropped */
#define PST_LOG_ROOM     16384 /* while it is written: its pieces need not be watched one by one */

struct pst_log;      /* one per process */
struct pst_log_ring; /* one per worker */

struct pst_log_config {
    enum pst_log_level level;
    /* Where each stream goes: "stdout", "stderr", "off", or a path (opened for appending). */
    struct pst_bytes paths[PST_LOG_STREAMS];
};

/* Starts the telemetry thread. */
PST_MUST_USE enum pst_status pst_log_create(const struct pst_log_config *config,
                                            struct pst_log **out, struct pst_error *error);
/* Writes what is left, stops the thread. Rings must be closed. Accepts NULL. */
void pst_log_destroy(struct pst_log *log);
/* Opens the files anew (SIGHUP, log rotation); a file that cannot be opened keeps the old one. */
void pst_log_reopen(struct pst_log *log);
/* Blocks until all lines given before are written, or given up because nobody reads them (about a
 * second a stream; tests, shutdown). */
void pst_log_flush(struct pst_log *log);

/* bytes: for each stream that is on; touched as lines come in. */
PST_MUST_USE enum pst_status pst_log_ring_open(struct pst_log *log, size_t bytes,
                                               struct pst_log_ring **out);
void pst_log_ring_close(struct pst_log_ring *ring);

/* Room for one line of `stream` (a full ring or an "off" stream: NULL, nothing to do). The caller
 * writes a JSON object without its line end and commits. Producer's thread only. */
struct pst_buf *pst_log_begin(struct pst_log_ring *ring, enum pst_log_stream stream);
void pst_log_commit(struct pst_log_ring *ring);
uint64_t pst_log_drops(const struct pst_log *log);

/* One event of the process's life, as {"time":..,"level":..,"event":name, ...}. `format` gives the
 * further members as JSON text ("\"port\":%u"), or is "" for none. NULL log writes to stderr. */
void pst_log_event(struct pst_log *log, enum pst_log_level level, const char *name,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
