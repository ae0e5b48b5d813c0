/*
 * nodes.h - what the nodes of a fleet tell of themselves, and which of them sends heartbeats.
 *
 * Purpose  A node registers before its first proving log read, reports from time to time how far it
 *          is, and unregisters when it decides nothing any more: so whoever revokes can wait until
 *          each of them has applied it (contract C9).  The publisher of heartbeats is elected by a
 *          row with an expiry on the database's clock (C11); two of them are harmless.
 *
 * Rights   On PostgreSQL these are functions that run as their owner: a role that may only read
 *          policy may call them.  A node's name is not a secret and not proved: who may call them
 *          can report for another node.
 *
 * Threads  The store's; it must have been opened to write, and must hold no view and no change.
 */
#ifndef POSTERN_STORE_NODES_H
#define POSTERN_STORE_NODES_H

#include "postern/base/buf.h"
#include "postern/store/store.h"

#define PST_NODE_NAME_MAX 255
/* A row is one process's: its name ends in '.' and so many hex digits of chance. */
#define PST_NODE_OWN_DIGITS 8

/* Names of routes, a line each, none twice. */
#define PST_NODE_ROUTES_MAX 2048
/* `list` has room for so many bytes. What does not fit is told by a line "...". */
void pst_node_routes_add(struct pst_buf *list, struct pst_bytes route);
/* Takes the next one off the list; false: there is none. */
bool pst_node_routes_next(struct pst_bytes *list, struct pst_bytes *route);

/* Texts are borrowed. */
struct pst_node_row {
    struct pst_bytes node;       /* its name, 1 to PST_NODE_NAME_MAX bytes */
    struct pst_bytes version;    /* of its program */
    struct pst_revision applied; /* what its decisions reflect */
    uint64_t lease_age_ms;       /* since its last proving log read was sent */
    uint64_t bound_ms;           /* B, as it applies it */
    uint64_t exempt;             /* routes that B does not bind, and */
    struct pst_bytes routes;     /* their names, as pst_node_routes_add makes them */
    bool draining;
    /* set by _each only */
    uint64_t started_ms, reported_ms; /* on the database's clock */
    uint64_t silent_ms;               /* since its last report, on the same */
};

/* A node that was there under that name begins anew. bound_ms 0: it does not know B yet, the row
 * says the database's. */
PST_MUST_USE enum pst_status pst_store_node_register(struct pst_store *store,
                                                     const struct pst_node_row *row,
                                                     struct pst_error *error);
/* Everything but the version. PST_E_ABSENT: it is not registered (any more). */
PST_MUST_USE enum pst_status pst_store_node_report(struct pst_store *store,
                                                   const struct pst_node_row *row,
                                                   struct pst_error *error);
/* A node that is not there is PST_OK. */
PST_MUST_USE enum pst_status
pst_store_node_unregister(struct pst_store *store, struct pst_bytes node, struct pst_error *error);

/* Takes the row away unless it was written since it said so. *gone: it was there. */
PST_MUST_USE enum pst_status pst_store_node_forget(struct pst_store *store, struct pst_bytes node,
                                                   uint64_t reported_ms, bool *gone,
                                                   struct pst_error *error);

/* What a process has seen of the rows of its name: zeroed, at first. */
#define PST_NODE_WATCH_MAX  16
#define PST_NODE_SILENCE_NS (UINT64_C(120) * 1000000000)
struct pst_node_seen {
    char digits[PST_NODE_OWN_DIGITS];
    uint64_t reported_ms;
};
struct pst_node_watch {
    uint64_t since_ns; /* boot clock */
    unsigned count;
    struct pst_node_seen seen[PST_NODE_WATCH_MAX];
};
/* Takes away what processes of the same name have left behind: rows that have not changed for two
 * minutes of now_ns, the boot clock. The database's own may jump, and who lives would look silent.
 * Looks no more often than that. */
PST_MUST_USE enum pst_status pst_store_node_tidy(struct pst_store *store, struct pst_bytes node,
                                                 uint64_t now_ns, struct pst_node_watch *watch);

/* All, in the order of their names. As the lists of change.h. */
typedef enum pst_status pst_each_node_fn(void *ctx, const struct pst_node_row *row);
PST_MUST_USE enum pst_status pst_store_each_node(struct pst_store *store, pst_each_node_fn *each,
                                                 void *ctx, struct pst_error *error);

/* One statement: takes or keeps the publisher's place for the next ttl_ms when it is free, and
 * reads the head, as it stood when the statement began. */
PST_MUST_USE enum pst_status pst_store_publisher_claim(struct pst_store *store,
                                                       struct pst_bytes node, uint64_t ttl_ms,
                                                       bool *mine, struct pst_revision *head,
                                                       struct pst_error *error);

#endif
