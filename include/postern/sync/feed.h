/*
 * feed.h - Redis pub/sub as an accelerator: hears at once that the change log may have grown.
 *
 * Purpose    One subscribed connection, and one to publish on when that is allowed. What comes in
 *            leads to nothing but log reads, at most 20 a second: no message moves a revision or a
 *            lease, and nothing is lost when all of them are (contract C11).
 *
 * Messages   "v1 <epoch, 16 hex> <prev> <n> <h|c> <publisher>". A change (c) says that the log went
 *            from prev to n; a heartbeat (h, every 250 ms) says that its head is n, with prev == n.
 *            Anything else is garbage: counted, ignored.
 *
 * Log reads  `read_log` is called after each (re)connect, on news, when a message was missed, and
 *            when heartbeats stop for 600 ms. Never from inside a call of the owner.
 *
 * Servers    A list of addresses, tried in turn, or Sentinels that name the master. A name is
 *            resolved anew for each connection. Lost connections come back after 50 ms, then twice
 *            as long each time up to 5 s, with jitter. The publishing side wants a master.
 *
 * Memory     The feed copies its configuration; texts of callbacks are borrowed for the call. What
 *            a server sends is read in bounds: one reply of more than 64 KiB ends the connection.
 *
 * Threads    The worker's.
 *
 * Failure    Reported as events; the feed goes on trying. Passwords are in no event.
 */
#ifndef POSTERN_SYNC_FEED_H
#define POSTERN_SYNC_FEED_H

#include "postern/base/buf.h"
#include "postern/base/error.h"
#include "postern/loop/worker.h"

/* ---- messages ---- */

#define PST_FEED_PUBLISHER_MAX 64
#define PST_FEED_MESSAGE_MAX   160 /* bytes of a message, at most */
#define PST_FEED_HEARTBEAT_NS  (250 * PST_NS_PER_MS)

enum pst_feed_kind { PST_FEED_HEARTBEAT = 0, PST_FEED_CHANGE };

struct pst_feed_message {
    uint64_t epoch, prev, n; /* prev <= n < 2^63 */
    enum pst_feed_kind kind;
    struct pst_bytes publisher; /* 1..64 of A-Z a-z 0-9 . _ : - */
};

/* False for anything that pst_feed_write would not have written. */
bool pst_feed_parse(struct pst_bytes text, struct pst_feed_message *out);
void pst_feed_write(const struct pst_feed_message *message, struct pst_buf *out);
bool pst_feed_publisher_ok(struct pst_bytes publisher);

/* ---- what was missed ---- */

enum pst_feed_why {
    PST_FEED_NOTHING = 0,
    PST_FEED_CONNECTED, /* what was published meanwhile was not heard */
    PST_FEED_NEWS,      /* the message says another head than the one before */
    PST_FEED_GAP,       /* and does not follow on it */
    PST_FEED_SILENCE,   /* two heartbeats are missing */
};

#define PST_FEED_SILENCE_NS (600 * PST_NS_PER_MS)
#define PST_FEED_READ_NS    (50 * PST_NS_PER_MS) /* between two log reads */
#define PST_FEED_PRESENT_NS (10 * PST_NS_PER_S)  /* a publisher counts for so long */
#define PST_FEED_PUBLISHERS 16

/* A pure machine: messages and instants in, log reads out. Zeroed memory is one that is not
 * connected. */
struct pst_feed_watch {
    bool connected, heard, silent; /* heard: some message since the connect */
    enum pst_feed_why wanted;      /* a log read that has not been taken */
    uint64_t epoch, n;             /* of the last message; of no meaning before `heard` */
    uint64_t heard_ns;             /* of the last message */
    uint64_t next_read_ns;
    uint64_t messages, heartbeats, gaps, silences, reads;
    struct {
        uint64_t heard_ns; /* 0: free */
        uint8_t len;
        char name[PST_FEED_PUBLISHER_MAX];
    } publishers[PST_FEED_PUBLISHERS];
};

void pst_feed_watch_connected(struct pst_feed_watch *watch);
void pst_feed_watch_lost(struct pst_feed_watch *watch);
void pst_feed_watch_message(struct pst_feed_watch *watch, const struct pst_feed_message *message,
                            uint64_t now_ns);
/* Is it silent? Only to be asked after everything that came in was given to the watch: a loop that
 * stood still must not take its own silence for the publisher's. */
void pst_feed_watch_judge(struct pst_feed_watch *watch, uint64_t now_ns);
/* The log read that is due now, which counts as done; PST_FEED_NOTHING: none. */
enum pst_feed_why pst_feed_watch_take(struct pst_feed_watch *watch, uint64_t now_ns);
/* When to judge and take next; UINT64_MAX: when something comes. */
uint64_t pst_feed_watch_due(const struct pst_feed_watch *watch);
/* Publishers heard of in the last 10 s, up to PST_FEED_PUBLISHERS. */
uint32_t pst_feed_watch_publishers(const struct pst_feed_watch *watch, uint64_t now_ns);

/* ---- the feed ---- */

struct pst_feed_config {
    const struct pst_bytes *addresses; /* host:port or unix:/path: Redis, or Sentinels */
    uint32_t address_count;
    struct pst_bytes master;                           /* its name; set: ask Sentinels */
    struct pst_bytes user, password;                   /* no password: no AUTH */
    struct pst_bytes sentinel_user, sentinel_password; /* of the Sentinels */
    bool tls;                                          /* to Sentinels, too */
    struct pst_bytes ca_file;                          /* empty: the system's */
    struct pst_bytes cert_file, key_file;              /* our own, where Redis asks for one */
    struct pst_bytes server_name;                      /* empty: the address's host */
    struct pst_bytes channel;                          /* empty: "postern" */
    struct pst_bytes node;                             /* this publisher's name */
    bool publish;
    uint32_t connect_ms, answer_ms, idle_ms; /* 0: 1000, 1000, 2000 */
};

enum pst_feed_event {
    PST_FEED_UP = 0, /* a connection can be used */
    PST_FEED_DOWN,   /* one that could is gone */
    PST_FEED_FAILED, /* an attempt failed; told once per text until one succeeds */
};

struct pst_feed_ops { /* each may be NULL; without read_log nothing is subscribed to */
    void (*read_log)(void *ctx, enum pst_feed_why why);
    void (*message)(void *ctx, const struct pst_feed_message *message);
    void (*event)(void *ctx, enum pst_feed_event event, const char *text);
};

struct pst_feed_stats {
    uint64_t messages, heartbeats, garbage, gaps, silences, reads;
    uint64_t connects; /* of the subscription */
    uint64_t published, dropped;
    uint32_t publishers;
    bool connected; /* subscribed */
    bool live;      /* and not silent: somebody publishes */
    bool can_publish;
};

struct pst_feed; /* opaque */

/* Begins to connect. PST_E_INVALID: an address, a name, or a certificate file; says which. */
PST_MUST_USE enum pst_status pst_feed_create(struct pst_worker *worker,
                                             const struct pst_feed_config *config,
                                             const struct pst_feed_ops *ops, void *ctx,
                                             struct pst_feed **out, struct pst_error *error);
/* Not from a callback of the feed. Accepts NULL. */
void pst_feed_destroy(struct pst_feed *feed);

/* After the commit. PST_E_BUSY: dropped, because there is no connection or Redis does not keep up;
 * the heartbeats tell it. */
PST_MUST_USE enum pst_status pst_feed_publish(struct pst_feed *feed, uint64_t epoch, uint64_t prev,
                                              uint64_t n, enum pst_feed_kind kind);
struct pst_feed_stats pst_feed_stats(const struct pst_feed *feed);

/* For a program that ends after its commit: a loop of its own until Redis answered, or PST_E_IO
 * when it has not within `timeout_ms`. The publisher is config->node. */
PST_MUST_USE enum pst_status pst_feed_publish_once(const struct pst_feed_config *config,
                                                   uint64_t epoch, uint64_t prev, uint64_t n,
                                                   enum pst_feed_kind kind, uint32_t timeout_ms,
                                                   struct pst_error *error);

#endif
