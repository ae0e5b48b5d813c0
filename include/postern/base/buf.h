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

#include <assert.h>

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

/*
 * Many pieces in one go: room for all of them is asked for once, they are written through a bare
 * pointer, and close takes over where that ended.
 *
 *   char *to = pst_buf_open(b, most);    NULL: no room
 *   to = pst_put_lit(to, ...);           each writes and returns where it ended
 *   pst_buf_close(b, to);                at most `most` bytes further
 */
static inline char *pst_buf_open(struct pst_buf *b, size_t most)
{
    if (b->full || most > b->cap - b->len) {
        b->full = true;
        return NULL;
    }
    return b->data + b->len;
}

static inline void pst_buf_close(struct pst_buf *b, const char *end)
{
    b->len = (size_t)(end - b->data);
    assert(b->len <= b->cap);
}

static inline char *pst_put(char *to, struct pst_bytes bytes)
{
    if (bytes.len > 0)
        memcpy(to, bytes.ptr, bytes.len);
    return to + bytes.len;
}

/* to = pst_put_lit(to, "text") */
#define pst_put_lit(to, s) pst_put((to), PST_LIT(s))

static inline char *pst_put_line(char *to, struct pst_bytes name, struct pst_bytes value)
{
    to = pst_put_lit(pst_put(to, name), ": ");
    return pst_put_lit(pst_put(to, value), "\r\n");
}

#define PST_U64_DIGITS 20
char *pst_put_u64(char *to, uint64_t value);
/* Lower-case, all 16 digits, most significant first. */
char *pst_put_hex(char *to, uint64_t value);
/* As pst_buf_json. */
#define PST_JSON_MAX(len) (6 * (len) + 2)
char *pst_put_json(char *to, struct pst_bytes text);

/* "name: value" CR LF, all of it or nothing. */
static inline void pst_buf_line(struct pst_buf *b, struct pst_bytes name, struct pst_bytes value)
{
    /* Each alone first, so that the sum cannot overflow. */
    bool fits = (name.len | value.len) <= b->cap;
    char *to = pst_buf_open(b, fits ? name.len + value.len + 4 : SIZE_MAX);

    if (to != NULL)
        pst_buf_close(b, pst_put_line(to, name, value));
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
