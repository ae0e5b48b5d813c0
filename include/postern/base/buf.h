/*
 * buf.h - a writer into memory of a fixed size that cannot overflow.
 *
 * Purpose  Heads, log lines and JSON are written through it.  A write that does not fit sets
 *          `full` and writes nothing, and every later one is ignored: check once, at the end.
 *
 * Memory   Borrowed storage.
 */
#ifndef POSTERN_BASE_BUF_H
#define POSTERN_BASE_BUF_H

#include "postern/base/bytes.h"

struct pst_buf {
    char *data;
    size_t len, cap;
    bool full; /* something did not fit: the content is not to be used */
};

static inline struct pst_buf pst_buf_of(void *data, size_t cap)
{
    return (struct pst_buf){.data = data, .cap = cap};
}

static inline struct pst_bytes pst_buf_bytes(const struct pst_buf *b)
{
    return pst_bytes_of(b->data, b->len);
}

static inline void pst_buf_put(struct pst_buf *b, struct pst_bytes bytes)
{
    if (b->full || bytes.len > b->cap - b->len) {
        b->full = true;
        return;
    }
    if (bytes.len > 0)
        memcpy(b->data + b->len, bytes.ptr, bytes.len);
    b->len += bytes.len;
}

/* Room for `len` bytes, which are the caller's to fill; NULL when it does not fit. */
static inline char *pst_buf_room(struct pst_buf *b, size_t len)
{
    if (b->full || len > b->cap - b->len) {
        b->full = true;
        return NULL;
    }
    char *room = b->data + b->len;
    b->len += len;
    return room;
}

static inline char *pst_buf_copy_(char *to, struct pst_bytes bytes)
{
    if (bytes.len > 0)
        memcpy(to, bytes.ptr, bytes.len);
    return to + bytes.len;
}

/* "name: value" CR LF, all of it or nothing. */
static inline void pst_buf_line(struct pst_buf *b, struct pst_bytes name, struct pst_bytes value)
{
    if (name.len > b->cap || value.len > b->cap) { /* so that the sum cannot overflow */
        b->full = true;
        return;
    }
    char *to = pst_buf_room(b, name.len + value.len + 4);
    if (to == NULL)
        return;
    to = pst_buf_copy_(to, name);
    memcpy(to, ": ", 2);
    memcpy(pst_buf_copy_(to + 2, value), "\r\n", 2);
}

static inline void pst_buf_char(struct pst_buf *b, char c)
{
    pst_buf_put(b, pst_bytes_of(&c, 1));
}

/* pst_buf_lit(b, "text") */
#define pst_buf_lit(b, s) pst_buf_put((b), PST_LIT(s))

void pst_buf_u64(struct pst_buf *b, uint64_t value);
/* Lower-case, exactly `digits` of them (1..16), most significant first. */
void pst_buf_hex(struct pst_buf *b, uint64_t value, unsigned digits);
/* Text for a line of a head: CTL are written as %xx, so that nothing out of a store or a token can
 * end the line. */
void pst_buf_safe(struct pst_buf *b, struct pst_bytes text);
/* A line of such a text; none when name or value is empty. */
void pst_buf_safe_line(struct pst_buf *b, struct pst_bytes name, struct pst_bytes value);
/* A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD; CTL are escaped. */
void pst_buf_json(struct pst_buf *b, struct pst_bytes text);
/* RFC 3339 in UTC with milliseconds, from nanoseconds since the epoch. */
#define PST_TIME_LEN 24 /* bytes of such a time */
void pst_buf_time(struct pst_buf *b, uint64_t wall_ns);
/* The same instant as a Date field has it (IMF-fixdate, RFC 9110 section 5.6.7). */
void pst_buf_http_date(struct pst_buf *b, uint64_t wall_ns);

#endif
