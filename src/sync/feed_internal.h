/*
 * feed_internal.h - between the parts of the feed: replies, one connection, the feed.
 *
 *   feed_reader.c  bytes of a server -> replies, by hiredis
 *   feed_link.c    one connection: find, connect, greet, use, rest, again
 *   feed.c         two links, the watch and the one timer
 */
#ifndef POSTERN_SYNC_FEED_INTERNAL_H
#define POSTERN_SYNC_FEED_INTERNAL_H

#include "postern/base/arena.h"
#include "postern/net/resolver.h"
#include "postern/net/stream.h"
#include "postern/net/tls.h"
#include "postern/sync/feed.h"

/* ---- replies ---- */

#define FEED_ITEMS 3 /* of an array, those that are kept */

enum feed_reply_kind {
    FEED_NIL = 0,
    FEED_STATUS,
    FEED_STRING,
    FEED_ERROR,
    FEED_INTEGER,
    FEED_ARRAY
};

struct feed_reply {
    enum feed_reply_kind kind;
    struct pst_bytes text;              /* of a status, string or error */
    struct pst_bytes items[FEED_ITEMS]; /* texts of an array; empty where it holds something else */
    int count;                          /* of an array */
    size_t used;
    char space[1024]; /* what does not fit is left empty */
};

struct redisReader;
struct feed_reader {
    struct redisReader *reader;
    struct feed_reply reply;
    size_t fed; /* bytes since the last whole reply */
};

PST_MUST_USE enum pst_status feed_reader_open(struct feed_reader *reader);
void feed_reader_close(struct feed_reader *reader); /* accepts a zeroed one */
/* PST_E_NOMEM. */
PST_MUST_USE enum pst_status feed_reader_feed(struct feed_reader *reader, struct pst_bytes bytes);
/* PST_OK: reader->reply is the next one. PST_PENDING: not all of it is there. PST_E_INVALID: no
 * reply that a server of Redis would send us. PST_E_LIMIT: too long. */
PST_MUST_USE enum pst_status feed_reader_next(struct feed_reader *reader);

/* ---- one connection ---- */

#define FEED_COMMAND_WORDS 3
#define FEED_ASKED_MAX     10 /* commands without an answer yet */
#define FEED_PUBLISH_MAX   8  /* of them, messages */

enum feed_role { FEED_SUBSCRIBE = 0, FEED_PUBLISH };

enum feed_state {
    FEED_REST = 0, /* until due_ns */
    FEED_LOOKUP,
    FEED_CONNECT,
    FEED_GREET, /* commands of the beginning are sent */
    FEED_READY,
};

enum feed_command {
    FEED_C_AUTH = 0,
    FEED_C_SUBSCRIBE,
    FEED_C_PING,
    FEED_C_ROLE,
    FEED_C_PUBLISH,
    FEED_C_MASTER, /* SENTINEL get-master-addr-by-name */
};

struct feed_link {
    struct pst_feed *feed;
    enum feed_role role;
    enum feed_state state;
    bool off;        /* never to be connected */
    bool has_master; /* a Sentinel named one: `target` */
    uint32_t at;     /* of the configured addresses, which one is next */
    struct pst_stream stream;
    bool open; /* the stream is one */
    struct pst_lookup lookup;
    struct feed_reader reader;
    char target[320]; /* the address in use, as text; ends in NUL */
    char host[256];   /* its host, for TLS; ends in NUL; empty: a unix socket */
    struct pst_address addresses[PST_LOOKUP_ADDRESSES];
    uint8_t address_count, address_next;
    uint64_t due_ns;     /* of the state's end */
    uint64_t backoff_ns; /* of the last rest */
    uint64_t ready_ns, heard_ns;
    uint64_t asked_ns; /* when the oldest command was sent that waits for its answer */
    enum feed_command asked[FEED_ASKED_MAX];
    uint32_t asked_count, publishing;
    uint64_t connects;
    char failure[192]; /* the last one that was told */
};

void feed_link_start(struct feed_link *link, struct pst_feed *feed, enum feed_role role);
void feed_link_stop(struct feed_link *link);
/* The instant may have come for which due_ns stands. */
void feed_link_time(struct feed_link *link, uint64_t now_ns);
/* What the kernel has for us is read now. */
void feed_link_drain(struct feed_link *link);
PST_MUST_USE enum pst_status feed_link_publish(struct feed_link *link, struct pst_bytes message);

/* ---- the feed ---- */

struct pst_feed {
    struct pst_worker *worker;
    struct pst_feed_config config; /* texts in `arena` */
    struct pst_feed_ops ops;
    void *ctx;
    struct pst_arena arena;
    struct pst_resolver *resolver;
    struct pst_tls_client *tls; /* NULL: plain */
    struct feed_link subscriber, publisher;
    struct pst_feed_watch watch;
    struct event timer;
    struct pst_deferred settle; /* after what came in this turn */
    uint64_t garbage, published, dropped;
};

void feed_link_is_ready(struct feed_link *link);
void feed_link_is_down(struct feed_link *link);
void feed_tell(struct pst_feed *feed, enum pst_feed_event event, const char *text);
void feed_payload(struct pst_feed *feed, struct pst_bytes payload);
void feed_wake(struct pst_feed *feed); /* due_ns of something changed */

#endif
