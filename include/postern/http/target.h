/*
 * target.h - one form of a request target: the one that is decided on and forwarded.
 *
 * Purpose  Reads a raw target into a canonical path and a query, or refuses it. Escapes of
 *          unreserved characters are decoded once, the hex of all others is written in capitals,
 *          and the few characters that browsers leave bare although RFC 3986 does not ([ ] ^ ` { |
 *          } in a path, " < > ^ ` { | } in a query) are escaped. Nothing is decoded twice, no
 *          segment is ever removed or merged: what would need that is refused.
 *
 * Refused  (hard) anything but visible ASCII, `\`, `#`, malformed escapes; in the path escapes of
 *          CTL and of `\`, text that is not UTF-8, look-alikes of . / \ (U+2024 U+FF0E U+2215
 *          U+2044 U+FF0F U+FF3C), segments that end in a dot or a blank (so `.` and `..`), where
 *          `;`, `%3B` and `%2F` end a segment too; %00 in the query; an authority that differs from
 *          Host. (soft) what a few apps need: told as bits of `oddities`, to be refused by the
 *          caller unless the route says otherwise, see PST_ODD_REFUSE.
 *
 * Memory   `path`, `query` and `target` point into the raw target if that is canonical already (the
 *          usual case), else into the caller's buffer.
 *
 * Cost     About one table look-up per byte.
 */
#ifndef POSTERN_HTTP_TARGET_H
#define POSTERN_HTTP_TARGET_H

#include "postern/base/bytes.h"
#include "postern/base/oddity.h"
#include "postern/base/status.h"
#include "postern/http/h1.h"
#include "postern/http/host.h"
#include "postern/http/message.h"

struct pst_target {
    struct pst_bytes target; /* path and query as they go upstream; `*` for OPTIONS * */
    struct pst_bytes path;   /* begins with `/` */
    struct pst_bytes query;  /* behind the `?`; may be empty */
    bool has_query;          /* there was a `?` */
    bool absolute;           /* it was sent in absolute-form */
    bool asterisk;           /* OPTIONS *: to be answered locally; path and query are empty */
    unsigned oddities;       /* PST_ODD_ bits */
};

/*
 * Reads a raw target. `host` is what the absolute-form must equal (NULL: that form is refused).
 * Writes at most `cap` bytes to `space`; raw.len + 256 is plenty, and a canonical form that is
 * longer is refused with 414. False: *fault is set, *out is not to be used.
 */
PST_MUST_USE bool pst_target_parse(enum pst_method method, struct pst_bytes raw,
                                   const struct pst_host *host, char *space, size_t cap,
                                   struct pst_target *out, struct pst_fault *fault);

/* The next segment of a canonical path, still escaped: "/a/b%20c" gives "a", then "b%20c"; a
 * trailing slash gives an empty last one. *rest shrinks. False at the end. */
bool pst_path_next(struct pst_bytes *rest, struct pst_bytes *segment);

/* Decodes every escape once. False if one is malformed or it does not fit into `cap` bytes. `space`
 * may be raw's own memory. *out is raw itself if there is nothing to decode. */
PST_MUST_USE bool pst_percent_decode(struct pst_bytes raw, char *space, size_t cap,
                                     struct pst_bytes *out);

/* The same for keys and values of a query: `+` is a blank. */
PST_MUST_USE bool pst_query_decode(struct pst_bytes raw, char *space, size_t cap,
                                   struct pst_bytes *out);

struct pst_query_pair {
    struct pst_bytes key;   /* still escaped */
    struct pst_bytes value; /* still escaped; empty without `=` */
};

/* The next pair; `&` and `;` separate, empty pieces are skipped. *rest shrinks. False at the end.
 * */
bool pst_query_next(struct pst_bytes *rest, struct pst_query_pair *pair);

/* Is this raw key, once decoded, `name` or `name[]`? Compared with case. */
bool pst_query_key_is(struct pst_bytes key, struct pst_bytes name);

enum pst_uuid {
    PST_UUID_NONE = 0, /* an ordinary name */
    PST_UUID_ONLY,     /* one UUID, in any of its spellings */
    PST_UUID_AND_MORE  /* it holds one and something else: refused where a UUID is expected */
};

#define PST_UUID_LEN 36

/*
 * Is this text, which is decoded, a UUID? With PST_UUID_ONLY `canonical` holds the form with
 * hyphens in lower case. Known spellings are those that common libraries take for the same UUID:
 * any case, with `urn:uuid:` or `uuid:` before it, in braces, without hyphens or with hyphens
 * elsewhere. A run of more than 32 hex digits holds one and more.
 */
enum pst_uuid pst_uuid_read(struct pst_bytes text, char canonical[PST_UUID_LEN]);

#endif
