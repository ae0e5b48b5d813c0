/*
 * base64url.h - base64url without padding (RFC 4648 5), strictly.
 *
 * Each byte string has exactly one text that is accepted: no padding, no blanks, no `+` or `/`, and
 * the unused bits of the last character are zero.  So a token cannot be spelled in two ways.
 */
#ifndef POSTERN_IDENTITY_BASE64URL_H
#define POSTERN_IDENTITY_BASE64URL_H

#include "postern/base/buf.h"

/* Bytes that `text_len` characters decode to at most. */
static inline size_t pst_base64url_bytes(size_t text_len)
{
    return text_len / 4 * 3 + 2;
}

/* Writes to `out` and sets *len. False (and *len 0) when the text is not canonical or needs more
 * than `cap` bytes. The empty text is the empty string. */
bool pst_base64url_decode(struct pst_bytes text, void *out, size_t cap, size_t *len);

/* Appends the text of `bytes`. */
void pst_base64url_put(struct pst_buf *b, struct pst_bytes bytes);

#endif
