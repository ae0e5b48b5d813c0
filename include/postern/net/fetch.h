/*
 * fetch.h - a careful HTTPS client for what an operator has configured: key sets and the cluster's
 * API.
 *
 * Purpose  One GET, or none: https only, no redirects, no proxy from the environment, no cookies,
 * no compression, bounded in bytes and time, the peer's certificate verified.
 *
 * Where    The resolved address is checked when the socket is made, so that a name cannot lead one
 * way when it is looked at and another when it is used.  Loopback, link-local, private,
 * unique-local, shared, multicast and unspecified addresses, and IPv6 forms that carry an IPv4 one,
 * are refused unless the request lists them.
 *
 * Threads  pst_fetch_run blocks: any thread that may.  A pst_fetcher owns one thread, and up to
 *          eight while several requests are on their way: a silent server does not hold up the
 *          others. submit from any thread, `done` is called on one of the fetcher's.
 *
 * Memory   The response is malloc'ed; pst_fetch_response_fini frees it.
 */
#ifndef POSTERN_NET_FETCH_H
#define POSTERN_NET_FETCH_H

#include "postern/base/status.h"
#include "postern/net/address.h"

#define PST_FETCH_URL_MAX   2048
#define PST_FETCH_FIELD_MAX 1024  /* of one field kept */
#define PST_FETCH_HEAD_MAX  65536 /* of all header fields */

struct pst_fetch_request {
    struct pst_bytes url;
    struct pst_bytes etag;          /* sent as If-None-Match; may be empty */
    struct pst_bytes authorization; /* value of the field; may be empty */
    const char *ca_file;            /* NULL: the system's */
    const struct pst_cidr *allow;   /* addresses that are special and yet good */
    uint32_t allow_count;
    uint32_t max_bytes;  /* of the body */
    uint32_t timeout_ms; /* from the look-up of the name to the last byte */
};

struct pst_fetch_response {
    /* PST_OK: the whole answer came, whatever its http_status. PST_E_LIMIT: too long.
     * PST_E_INVALID: a request that is not made (URL, text). PST_E_IO: everything else. */
    enum pst_status status;
    unsigned http_status;
    struct pst_bytes body, etag, cache_control;
    char failure[160]; /* for the log */
    char *memory_;
};

/* Whether such an address may be connected to. */
bool pst_fetch_address_ok(const struct pst_address *address, const struct pst_cidr *allow,
                          uint32_t allow_count);

void pst_fetch_run(const struct pst_fetch_request *request, struct pst_fetch_response *response);
void pst_fetch_response_fini(struct pst_fetch_response *response);

struct pst_fetcher; /* opaque: threads and a queue */

typedef void pst_fetch_done(void *ctx, uint64_t tag, const struct pst_fetch_response *response);

PST_MUST_USE enum pst_status pst_fetcher_create(struct pst_fetcher **out);
/* Ends the requests in progress (within about a second); they and those queued are answered
 * PST_E_IO, each by its `done`. Accepts NULL. */
void pst_fetcher_destroy(struct pst_fetcher *fetcher);
/* Copies the request; `allow` and `ca_file` are borrowed until done. PST_E_LIMIT: too many are
 * waiting. */
PST_MUST_USE enum pst_status pst_fetcher_submit(struct pst_fetcher *fetcher,
                                                const struct pst_fetch_request *request,
                                                pst_fetch_done *done, void *ctx, uint64_t tag);

#endif
