/*
 * host.h - the canonical form of a Host.
 *
 * Purpose  Two Hosts name the same one exactly when their canonical texts are equal: lower case, no
 *          trailing dot, no empty port, IPv6 as RFC 5952 writes it.
 *
 * Failure  What is no `uri-host [":" port]` is refused, and so is what no configuration can name:
 *          escapes and sub-delimiters in a name, empty labels, IPvFuture, IPv6 zones, port 0.
 */
#ifndef POSTERN_HTTP_HOST_H
#define POSTERN_HTTP_HOST_H

#include "postern/base/bytes.h"
#include "postern/base/status.h"

#define PST_HOST_MAX 264 /* room for any canonical text: 253 bytes of a name, and a port */

struct pst_host {
    struct pst_bytes text; /* "app.example:8080", "[::1]" */
    struct pst_bytes name; /* without the port; IPv6 keeps its brackets */
    uint16_t port;         /* 0: none was named */
};

/* False if `raw` is no valid host; *out is empty then. The texts point into `raw` if that is
 * canonical already, else into `space`. */
PST_MUST_USE bool pst_host_parse(struct pst_bytes raw, char space[PST_HOST_MAX],
                                 struct pst_host *out);

#endif
