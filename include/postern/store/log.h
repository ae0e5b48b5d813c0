/*
 * log.h - reading the change log: what changed since, and the proof that it is the same history.
 *
 * Purpose  Every policy change has one row: n (gapless), a random stamp, the keys that it touched.
 * A reader remembers the last row it applied.  One statement returns the head, B, that very row and
 * all later ones; the read proves freshness only when the remembered row is there with the
 * remembered stamp and the epoch is the known one (contract C1, C8).
 *
 * Memory   A page owns its keys; pst_log_page_fini gives them back, and accepts a zeroed page.
 */
#ifndef POSTERN_STORE_LOG_H
#define POSTERN_STORE_LOG_H

#include "postern/policy/compile.h"
#include "postern/store/store.h"

struct pst_stamp {
    uint64_t hi, lo;
};

/* The last row applied. {0} knows nothing: the read proves nothing and asks for everything. */
struct pst_log_mark {
    struct pst_revision revision;
    struct pst_stamp stamp; /* zero at n 0 */
};

enum pst_log_key_kind { PST_LOG_USER, PST_LOG_ROLE, PST_LOG_WORKSPACE };

struct pst_log_key {
    enum pst_log_key_kind kind;
    uint64_t id;
    uint64_t n; /* the change that touched it; a later one of the same key comes later */
};

struct pst_log_page {
    bool proved;              /* the same history: keys tell all that changed since the mark */
    bool all;                 /* reload everything (always so when not proved) */
    struct pst_log_mark head; /* what to remember once the page is applied */
    uint32_t max_staleness_s; /* B */
    uint64_t oldest_n;        /* of the oldest row kept; 0: the log is empty */
    /* What the row of the node that was asked for says (nodes.h); 0: that it decides nothing from
     * memory, or there is no row. Of the same moment as the head: whoever commits later and waits
     * for all nodes finds the row as it is here, unless it was changed since. */
    uint64_t node_bound_ms;
    struct pst_log_key *keys;
    size_t key_count;
    size_t key_cap_;
};

#define PST_LOG_ROWS_MAX 1000   /* further behind than this: `all` */
#define PST_LOG_KEYS_MAX 100000 /* more keys in a page than this: `all` */

/* node: whose row is looked at; empty: nobody's. */
PST_MUST_USE enum pst_status pst_store_log(struct pst_store *store,
                                           const struct pst_log_mark *since, struct pst_bytes node,
                                           struct pst_log_page *out, struct pst_error *error);
struct pst_log_roles {
    const struct pst_log_mark *since;
    struct pst_bytes node;
    const uint32_t *ids;
    size_t count;
    bool workspaces; /* all of them, too */
    /* A policy that the model is to patch: of a large role that it has, only the rows that it does
     * not know are read, and the role is partial in the model. NULL: all rows. */
    const struct pst_policy *base;
};
/* The same, and with it the roles of `ids` as pst_store_load_roles reads them, of the same moment.
 */
PST_MUST_USE enum pst_status pst_store_log_roles(struct pst_store *store,
                                                 const struct pst_log_roles *which,
                                                 struct pst_log_page *page, struct pst_model **out,
                                                 struct pst_error *error);
void pst_log_page_fini(struct pst_log_page *page);

/* A number that differs when another connection may have committed; far cheaper than a log read,
 * and no proof. PST_E_ABSENT: this backend cannot tell, read the log. */
PST_MUST_USE enum pst_status pst_store_hint(struct pst_store *store, uint64_t *out,
                                            struct pst_error *error);

#endif
