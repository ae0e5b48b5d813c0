/*
 * jwks.h - keeps the key sets of issuers that publish them at a URL (rule J6).
 *
 * Purpose    Decides when to fetch, judges what came, publishes it into the issuer's slot, and
 * takes the keys away when they have not been confirmed for too long.  It does no I/O: the
 * transport and the clock are given, so a day of outage is a unit test.
 *
 * When       At the start, then every refresh_s (or Cache-Control's max-age), held between the
 * bounds and spread by the jitter.  After a failure 2, 4, 8 ... 60 s later.  For a kid that the set
 *            does not know: one fetch per issuer and unknown_kid_s, none for a kid that was asked
 * for in vain since the keys last changed.  Nothing else in a token causes a request.
 *
 * Failure    An answer that is no usable key set (an empty one among them) keeps the old set; a set
 * that was not confirmed for max_stale_s is withdrawn, and tokens get keys_unavailable.
 *
 * Threads    All functions: any thread.  Ops are called without the lock held: fetch from tick and
 * want, event and changed from tick and fetched.
 *
 * Memory     The manager copies its configuration; an answer is borrowed for the call.
 */
#ifndef POSTERN_IDENTITY_JWKS_H
#define POSTERN_IDENTITY_JWKS_H

#include "postern/base/error.h"
#include "postern/identity/keyset.h"

struct pst_jwks; /* opaque */

struct pst_jwks_limits {
    uint32_t refresh_s, refresh_min_s, refresh_max_s;
    uint32_t jitter_percent;
    uint32_t unknown_kid_s;
    uint32_t max_stale_s;
    uint32_t max_bytes; /* at most PST_KEYSET_BYTES_MAX */
    uint32_t timeout_ms;
};

static inline struct pst_jwks_limits pst_jwks_limits_default(void)
{
    return (struct pst_jwks_limits){300, 60, 3600, 10, 30, 86400, PST_KEYSET_BYTES_MAX, 5000};
}

struct pst_jwks_source {
    uint32_t issuer;          /* index in the verifier's configuration */
    struct pst_bytes url;     /* https, no user name, no fragment */
    uint32_t refresh_s;       /* 0: that of the limits */
    struct pst_keyslot *slot; /* borrowed, outlives the manager */
};

struct pst_jwks_request {
    uint32_t source;       /* index, to be given back with the answer */
    struct pst_bytes url;  /* both stay as they are until the answer is given */
    struct pst_bytes etag; /* for If-None-Match; may be empty */
    uint32_t max_bytes, timeout_ms;
};

struct pst_jwks_answer {
    enum pst_status
        status; /* PST_OK: an answer came in full; else it failed, whatever the rest says */
    unsigned http_status;
    struct pst_bytes body, etag, cache_control; /* the fields' values, empty when absent */
    const char *failure;                        /* for the log; may be NULL */
};

enum pst_jwks_event {
    PST_JWKS_LOADED,      /* info: another set than before */
    PST_JWKS_FAILED,      /* warn: the old set stays */
    PST_JWKS_KEY_REFUSED, /* warn: a key of the set verifies nothing */
    PST_JWKS_KEY_LEAKED,  /* error: private members in a public document */
    PST_JWKS_WITHDRAWN,   /* error: not confirmed for max_stale_s */
};

struct pst_jwks_ops {
    void *ctx;
    /* Begins a request; pst_jwks_fetched comes later, exactly once, never from inside the call. */
    void (*fetch)(void *ctx, const struct pst_jwks_request *request);
    /* For log and alarms; detail holds nothing secret. May be NULL. */
    void (*event)(void *ctx, uint32_t source, enum pst_jwks_event event, const char *detail);
    /* An answer was judged, good or not: those who wait for it may look again. May be NULL. */
    void (*changed)(void *ctx, uint32_t source);
};

struct pst_jwks_stats {
    uint64_t fetches, failures;
    bool ready;      /* has keys */
    uint64_t age_ns; /* since they were last confirmed; UINT64_MAX: never */
};

/* Whether a URL may be configured at all. */
bool pst_jwks_url_ok(struct pst_bytes url);

PST_MUST_USE enum pst_status pst_jwks_create(const struct pst_jwks_limits *limits,
                                             const struct pst_jwks_source *sources, uint32_t count,
                                             const struct pst_jwks_ops *ops, struct pst_jwks **out,
                                             struct pst_error *error);
/* No answer may be outstanding. Slots keep what was published. Accepts NULL. */
void pst_jwks_destroy(struct pst_jwks *jwks);

/* Takes over what source `from_source` of `from` holds, its age included: a manager that follows
 * another one (a reload) is as ready and as stale as that was. Before the first tick. */
void pst_jwks_inherit(struct pst_jwks *jwks, uint32_t source, struct pst_jwks *from,
                      uint32_t from_source);

/* Does what is due at now_ns (boot clock) and returns when to be called next, as far as is known
 * now: an answer that comes meanwhile may make something due earlier (a retry, the next refresh).
 */
uint64_t pst_jwks_tick(struct pst_jwks *jwks, uint64_t now_ns);
void pst_jwks_fetched(struct pst_jwks *jwks, uint32_t source, const struct pst_jwks_answer *answer,
                      uint64_t now_ns);

/* A token of `issuer` names a kid that its set lacks. PST_PENDING: an answer is on its way, look
 * again after `changed`. PST_E_BUSY: there will be none now; the token is refused. */
PST_MUST_USE enum pst_status pst_jwks_want(struct pst_jwks *jwks, uint32_t issuer,
                                           struct pst_bytes kid, uint64_t now_ns);

/* Whether every source has keys. */
bool pst_jwks_ready(struct pst_jwks *jwks);
struct pst_jwks_stats pst_jwks_stats(struct pst_jwks *jwks, uint32_t source, uint64_t now_ns);

#endif
