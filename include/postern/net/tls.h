/*
 * tls.h - TLS on a stream, as a client: TLS 1.2 or newer, the peer's chain and name verified.
 *
 * Purpose   A stream that was opened with pst_stream_connect_tls behaves as a plain one:
 * `connected` comes when the handshake is done (broken when it failed), and what is read and sent
 * is plain text.  There is no way to leave the verification out.
 *
 * How       OpenSSL works on memory: the stream's own recv and send move the records, so that
 *           deadlines, back-pressure and buffers are those of every stream.
 *
 * Threads   A client context may be shared by threads; a stream belongs to its worker.
 *
 * Failure   An end without close_notify is `broken`, not `eof`.  Sending before `connected` is
 *           PST_E_BUSY.
 */
#ifndef POSTERN_NET_TLS_H
#define POSTERN_NET_TLS_H

#include "postern/base/error.h"
#include "postern/net/stream.h"

struct pst_tls_client; /* opaque: trust and our own certificate */

struct pst_tls_config {                   /* texts end in NUL */
    struct pst_bytes ca_file;             /* empty: the system's */
    struct pst_bytes cert_file, key_file; /* empty: none of our own */
};

PST_MUST_USE enum pst_status pst_tls_client_create(const struct pst_tls_config *config,
                                                   struct pst_tls_client **out,
                                                   struct pst_error *error);
/* Streams that use it keep what they need. Accepts NULL. */
void pst_tls_client_destroy(struct pst_tls_client *client);

/* As pst_stream_connect, always PST_PENDING or an error. server_name: a host name, or an IP address
 * in digits; ends in NUL. */
PST_MUST_USE enum pst_status
pst_stream_connect_tls(struct pst_stream *stream, struct pst_worker *worker,
                       const struct pst_stream_ops *ops, const struct pst_address *address,
                       struct pst_tls_client *client, const char *server_name);

/* Why the handshake failed; NULL: it did not, or the stream is a plain one. */
const char *pst_stream_tls_failure(const struct pst_stream *stream);

#endif
