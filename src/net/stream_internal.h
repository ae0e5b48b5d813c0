/*
 * stream_internal.h - between the stream and TLS on it.
 */
#ifndef POSTERN_NET_STREAM_INTERNAL_H
#define POSTERN_NET_STREAM_INTERNAL_H

#include "postern/net/stream.h"

/* send (without a signal) and recv of a connected socket. */
ssize_t pst_socket_send_(int fd, const void *bytes, size_t len);
ssize_t pst_socket_recv_(int fd, void *bytes, size_t len);

/* Room in the input block, which is made; false: it is full, or there is no memory (data NULL). */
bool pst_stream_room_(struct pst_stream *s);
void pst_stream_drop_in_(struct pst_stream *s);
void pst_stream_set_reading_(struct pst_stream *s, bool on);
void pst_stream_break_(struct pst_stream *s);
/* Bytes as they go to the socket. */
PST_MUST_USE enum pst_status pst_stream_send_raw_(struct pst_stream *s, const struct iovec *pieces,
                                                  int count);

/* It stands already, and `connected` shall come from the loop nevertheless. */
void pst_stream_connect_later_(struct pst_stream *s);

/* TCP stands: shake hands; ends in `connected`. */
void pst_tls_begin_(struct pst_stream *s);
/* pst_stream_read, pst_stream_send of a stream with TLS. */
bool pst_tls_read_(struct pst_stream *s);
PST_MUST_USE enum pst_status pst_tls_send_(struct pst_stream *s, const struct iovec *pieces,
                                           int count);
void pst_tls_finish_(struct pst_stream *s);
/* Is there plain text that waits for room and not for the socket? */
bool pst_tls_pending_(const struct pst_stream *s);
void pst_tls_free_(struct pst_stream *s);

#endif
