/*
 * chars_internal.h - classes of bytes, and scans that skip what needs no attention.
 */
#ifndef POSTERN_HTTP_CHARS_INTERNAL_H
#define POSTERN_HTTP_CHARS_INTERNAL_H

#include "postern/base/bytes.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    CHAR_TOKEN = 0x01,        /* tchar of RFC 9110 5.6.2 */
    CHAR_UNRESERVED = 0x02,   /* RFC 3986 2.3 */
    CHAR_PATH = 0x04,         /* stands for itself in a canonical segment */
    CHAR_QUERY = 0x08,        /* stands for itself in a query */
    CHAR_ESCAPE_PATH = 0x10,  /* accepted bare in a path, and escaped */
    CHAR_ESCAPE_QUERY = 0x20, /* the same in a query */
    CHAR_HEX = 0x40,
};

extern const uint8_t pst_http_chars[256];

static inline bool char_is(char c, unsigned classes)
{
    return (pst_http_chars[(unsigned char)c] & classes) != 0;
}

/* The value of a byte of CHAR_HEX. */
static inline unsigned hex_value(char c)
{
    unsigned u = (unsigned char)c;

    return (u & 0x0f) + (u >> 6) * 9;
}

#ifdef __SSE2__
/* Past as many blocks of 64 bytes as hold no CTL, HTAB included: 640 -> 330 instructions for a
 * token of 600 bytes. */
static inline const char *skip_clean(const char *at, const char *end)
{
    const __m128i unit = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f);

    for (; end - at >= 64; at += 64) {
        const __m128i *v = (const __m128i *)(const void *)at;
        __m128i a = _mm_loadu_si128(v), b = _mm_loadu_si128(v + 1), c = _mm_loadu_si128(v + 2),
                d = _mm_loadu_si128(v + 3);
        __m128i least = _mm_min_epu8(_mm_min_epu8(a, b), _mm_min_epu8(c, d));
        __m128i near = _mm_min_epu8(_mm_min_epu8(_mm_xor_si128(a, del), _mm_xor_si128(b, del)),
                                    _mm_min_epu8(_mm_xor_si128(c, del), _mm_xor_si128(d, del)));
        __m128i bad = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(least, unit), least),
                                   _mm_cmpeq_epi8(near, _mm_setzero_si128()));

        if (_mm_movemask_epi8(bad) != 0)
            break;
    }
    return at;
}
#endif

/* The first byte of a field value that may not be there: any CTL but HTAB. Or `end`. */
static inline const char *skip_text(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i unit = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f);

    /* Most values end within two blocks; a longer one may be much longer. */
    for (unsigned blocks = 0; end - at >= 16;) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        int mask = _mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(v, unit), v), _mm_cmpeq_epi8(v, del)));

        if (mask == 0) {
            at += 16;
            if (++blocks == 2)
                at = skip_clean(at, end);
            continue;
        }
        at += __builtin_ctz((unsigned)mask);
        if (*at != '\t')
            return at;
        at++;
    }
#endif
    while (at < end && (((unsigned char)*at >= 0x20 && *at != 0x7f) || *at == '\t'))
        at++;
    return at;
}

/* The first byte that is no tchar. Or `end`. */
static inline const char *skip_token(const char *at, const char *end)
{
#ifdef __SSE2__
    /* Sixteen at once as long as they are letters, digits and hyphens; the rest one by one. */
    const __m128i zero = _mm_setzero_si128();

    for (; end - at >= 16; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
        __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
        __m128i good = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(_mm_subs_epu8(letter, _mm_set1_epi8(25)), zero),
                         _mm_cmpeq_epi8(_mm_subs_epu8(digit, _mm_set1_epi8(9)), zero)),
            _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
        int mask = _mm_movemask_epi8(good);

        if (mask != 0xffff) {
            at += __builtin_ctz(~(unsigned)mask);
            break;
        }
    }
#endif
    while (at < end && char_is(*at, CHAR_TOKEN))
        at++;
    return at;
}

/* The first byte that is not visible ASCII. Or `end`. */
static inline const char *skip_visible(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i blank = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Signed: bytes from 0x80 are below the blank, too. */
        __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), _mm_cmpgt_epi8(v, blank));
        int mask = _mm_movemask_epi8(good);

        if (mask != 0xffff)
            return at + __builtin_ctz(~(unsigned)mask);
    }
#endif
    while (at < end && (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f)
        at++;
    return at;
}

#ifdef __SSE2__
/* What the first 63 bytes of a text are; bit i is of byte i. */
struct ordinary {
    uint64_t good;       /* a letter, a digit, `-`, `_` or the separator; the 64th bit is never set */
    uint64_t separators;
    uint64_t capitals;
};

static inline struct ordinary find_ordinary(struct pst_bytes text, char separator)
{
    struct ordinary o = {0};
    char bytes[64] = {0};
    size_t len = text.len < sizeof(bytes) ? text.len : sizeof(bytes) - 1;
    const __m128i zero = _mm_setzero_si128(), case_bit = _mm_set1_epi8(0x20);

    memcpy(bytes, text.ptr, len);
    for (size_t at = 0; at < len; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
        __m128i small = _mm_sub_epi8(_mm_or_si128(v, case_bit), _mm_set1_epi8('a'));
        __m128i letter = _mm_cmpeq_epi8(_mm_subs_epu8(small, _mm_set1_epi8(25)), zero);
        __m128i digit = _mm_cmpeq_epi8(_mm_subs_epu8(_mm_sub_epi8(v, _mm_set1_epi8('0')), _mm_set1_epi8(9)), zero);
        __m128i sign = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('-')), _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
        __m128i between = _mm_cmpeq_epi8(v, _mm_set1_epi8(separator));
        __m128i good = _mm_or_si128(_mm_or_si128(letter, digit), _mm_or_si128(sign, between));
        __m128i capital = _mm_and_si128(letter, _mm_cmpeq_epi8(_mm_and_si128(v, case_bit), zero));

        o.good |= (uint64_t)(unsigned)_mm_movemask_epi8(good) << at;
        o.separators |= (uint64_t)(unsigned)_mm_movemask_epi8(between) << at;
        o.capitals |= (uint64_t)(unsigned)_mm_movemask_epi8(capital) << at;
    }
    return o;
}
#endif

#endif
