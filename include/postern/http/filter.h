/*
 * filter.h - which fields of a message may go on to the other side.
 *
 * Purpose  Rule H9: fields by which apps and proxies are told who calls, from where and for what
 *          are Postern's to write, so the client's own are dropped under every spelling that an app
 *          may fold to the same name. Hop-by-hop fields end here. In answers, fields that would
 *          steer a proxy in front or pretend to be Postern's are dropped.
 *
 * Folding  Without case, each run of - _ . is one hyphen, those at the ends are cut, and a leading
 *          HTTP_ is dropped.
 *
 * Memory   A filter is one block of plain memory, built at start-up and read-only afterwards.
 *
 * Threads  Readers share it.
 *
 * Cost     A table look-up for a name with an id; for the others a scan of the name.
 */
#ifndef POSTERN_HTTP_FILTER_H
#define POSTERN_HTTP_FILTER_H

#include "postern/base/status.h"
#include "postern/http/h1.h"
#include "postern/http/message.h"

#define PST_FILTER_NAMES_MAX 64 /* configured names */
#define PST_FILTER_NAME_MAX  96 /* bytes of one */

struct pst_filter {
    uint8_t flags_[PST_FIELD_COUNT];
    size_t count_;
    uint64_t initials_[4]; /* bit set: a name to look for starts with this byte */
    struct pst_filter_name {
        uint8_t len;
        bool prefix;
        char text[PST_FILTER_NAME_MAX]; /* folded */
    } names_[PST_FILTER_NAMES_MAX];
};

/* With the names of H9 alone. */
void pst_filter_init(struct pst_filter *filter);

/* Protects one more name: a workspace header, an identity header under a configured name, a
 * credential header. `Name-*` protects all that begin so. PST_E_INVALID if it is no token or folds
 * to fewer than three bytes, PST_E_LIMIT if there are too many or it is too long. Adding a name
 * again is no error. */
PST_MUST_USE enum pst_status pst_filter_add(struct pst_filter *filter, struct pst_bytes name);

enum pst_field_action { PST_FIELD_DROP = 0, PST_FIELD_PASS };

/*
 * May this field of a request go upstream? Dropped are: protected names; names with `_`; names that
 * fold to a protected name or one of RFC 9110 and 9112 but are spelled otherwise; hop-by-hop fields
 * (Connection, Keep-Alive, TE, Trailer, Transfer-Encoding, Upgrade, HTTP2-Settings, Proxy and
 * Proxy-*) and those that Connection names; and what a proxy writes itself from the parsed head:
 * Host, Content-Length, Expect. Authorization is protected; a proxy that is told to pass it on does
 * so by its id. Cookie, X-Request-Id, traceparent and tracestate pass: a proxy that rewrites them
 * skips their ids.
 */
enum pst_field_action pst_filter_request(const struct pst_filter *filter,
                                         const struct pst_head *head, size_t index);

/* May this field of a response go to the client? Dropped are hop-by-hop fields, what Connection
 * names, Content-Length (the proxy writes it), X-Postern-*, X-Accel-*, X-Sendfile, Set-Cookie of a
 * cookie whose name begins with `postern_`, and names that fold to one of RFC 9110 and 9112 but are
 * spelled otherwise. */
enum pst_field_action pst_filter_response(const struct pst_filter *filter,
                                          const struct pst_head *head, size_t index);

/* May the request's Connection fields name what they name? Only close, keep-alive, upgrade, TE and
 * at most 32 names that are neither protected nor of RFC 9110 or 9112, nor Cookie, X-Request-Id,
 * traceparent or tracestate. False: *fault is set (400). */
PST_MUST_USE bool pst_filter_connection(const struct pst_filter *filter,
                                        const struct pst_head *head, struct pst_fault *fault);

/* Does this name, once folded, belong to the protected ones? */
bool pst_filter_is_protected(const struct pst_filter *filter, struct pst_bytes name);

/* The folded name, cut at `cap` bytes. */
struct pst_bytes pst_name_fold(struct pst_bytes name, char *space, size_t cap);

#endif
