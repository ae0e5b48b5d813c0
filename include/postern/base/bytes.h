/*
 * bytes.h - a borrowed, read-only run of bytes.
 *
 * This is the one string type that crosses module boundaries.  It is a view:
 * it owns nothing, need not end in NUL, and lives only as long as the memory it
 * points into.  Pass it and return it by value.  A module that keeps bytes past
 * the call copies them.
 */
#ifndef POSTERN_BASE_BYTES_H
#define POSTERN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct pst_bytes {
    const char *ptr; /* may be NULL only when len is 0 */
    size_t len;
};

/* A view of a string literal, without its NUL: PST_LIT("admin"). */
#define PST_LIT(s) ((struct pst_bytes){.ptr = "" s, .len = sizeof(s) - 1})

static inline struct pst_bytes pst_bytes_of(const void *ptr, size_t len)
{
    return (struct pst_bytes){.ptr = ptr, .len = len};
}

/* Not constant time: never compare secrets with it (see base/secret.h). */
static inline bool pst_bytes_equal(struct pst_bytes a, struct pst_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII letters compare without case; other bytes as they are. */
static inline char pst_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Eight bytes at once: 0x80 in `upper` where a capital stands, and a quarter of that is its case
 * bit. */
static inline uint64_t pst_lower8_(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    uint64_t low = word & ~high,
             upper = ((low + ones * (0x80 - 'A')) ^ (low + ones * (0x7f - 'Z'))) & ~word & high;
    return word | upper >> 2;
}

/* Equal words, as most are, need no lowering. */
static inline bool pst_is_same8_(const char *a, const char *b)
{
    return memcmp(a, b, 8) == 0 || pst_lower8_(a) == pst_lower8_(b);
}

static inline bool pst_is_same_nocase_(const char *a, const char *b, size_t len)
{
    if (len < 8) {
        for (size_t i = 0; i < len; i++)
            if (pst_lower(a[i]) != pst_lower(b[i]))
                return false;
        return true;
    }
    for (size_t i = 0; len - i > 8; i += 8)
        if (!pst_is_same8_(a + i, b + i))
            return false;
    return pst_is_same8_(a + len - 8, b + len - 8);
}

/* Most are of another length, which is looked at without a call. */
static inline __attribute__((always_inline)) bool pst_bytes_equal_nocase(struct pst_bytes a,
                                                                         struct pst_bytes b)
{
    return a.len == b.len && pst_is_same_nocase_(a.ptr, b.ptr, a.len);
}

static inline bool pst_bytes_starts(struct pst_bytes all, struct pst_bytes prefix)
{
    return all.len >= prefix.len &&
           (prefix.len == 0 || memcmp(all.ptr, prefix.ptr, prefix.len) == 0);
}

/* All from `at` on; `at` may be the length, not more. */
static inline struct pst_bytes pst_bytes_from(struct pst_bytes all, size_t at)
{
    return pst_bytes_of(all.ptr + at, all.len - at);
}

/* Without the blanks and tabs at both ends (OWS of RFC 9110 5.6.3). */
static inline struct pst_bytes pst_bytes_trim(struct pst_bytes b)
{
    while (b.len > 0 && (b.ptr[0] == ' ' || b.ptr[0] == '\t'))
        b = pst_bytes_from(b, 1);
    while (b.len > 0 && (b.ptr[b.len - 1] == ' ' || b.ptr[b.len - 1] == '\t'))
        b.len--;
    return b;
}

/* Index of the first `c`, or the length. */
static inline size_t pst_bytes_find(struct pst_bytes b, char c)
{
    const char *at = b.len == 0 ? NULL : memchr(b.ptr, c, b.len);
    return at == NULL ? b.len : (size_t)(at - b.ptr);
}

/* Decimal digits only, no sign, no blank, at most 19 of them and below 2^63.  False otherwise. */
static inline bool pst_bytes_u63(struct pst_bytes b, uint64_t *out)
{
    uint64_t value = 0;

    *out = 0;
    if (b.len == 0 || b.len > 19)
        return false;
    for (size_t i = 0; i < b.len; i++) {
        if (b.ptr[i] < '0' || b.ptr[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(b.ptr[i] - '0');
    }
    if (value > INT64_MAX)
        return false;
    *out = value;
    return true;
}

/* Exactly `digits` (at most 16) lower-case hexadecimal ones.  False otherwise. */
static inline bool pst_bytes_hex(struct pst_bytes b, size_t digits, uint64_t *out)
{
    uint64_t value = 0;

    *out = 0;
    if (b.len != digits || digits > 16)
        return false;
    for (size_t i = 0; i < digits; i++) {
        char c = b.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = value;
    return true;
}

#endif
