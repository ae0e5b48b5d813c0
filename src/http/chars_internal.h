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

/* May it stand in a field value? Any byte but CTL, and HTAB. */
static inline bool is_text(char c)
{
    return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

#ifdef __SSE2__
static inline __m128i load16(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Bit i is of byte i. */
static inline uint32_t mask32(__m128i low, __m128i high)
{
    return (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
}

/* Which bytes are visible ASCII or a blank? With one added all others are, as signed numbers, those
 * up to the blank. */
static inline __m128i find_plain(__m128i v)
{
    return _mm_cmpgt_epi8(_mm_add_epi8(v, _mm_set1_epi8(1)), _mm_set1_epi8(' '));
}

/* Bytes that are not plain: bit i is of byte i. */
static inline uint32_t rare32(__m128i low, __m128i high)
{
    return ~mask32(find_plain(low), find_plain(high));
}

/* Past as many blocks of 64 bytes as hold no rare byte. With 0x81 added those are the least. */
static inline const char *skip_clean(const char *at, const char *end)
{
    const __m128i add = _mm_set1_epi8((char)0x81), most = _mm_set1_epi8((char)0xa0);

    for (; end - at >= 64; at += 64) {
        __m128i least = _mm_min_epu8(
            _mm_min_epu8(_mm_add_epi8(load16(at), add), _mm_add_epi8(load16(at + 16), add)),
            _mm_min_epu8(_mm_add_epi8(load16(at + 32), add), _mm_add_epi8(load16(at + 48), add)));

        if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(least, most), least)) != 0)
            break;
    }
    return at;
}
#endif

/* The first byte from `at` on that is no text, or `end`. The bytes from `start` on may be read. */
static inline const char *skip_text(const char *start, const char *at, const char *end)
{
#ifdef __SSE2__
    /* Most values end within a block or two; a longer one may be much longer. */
    for (const char *from = at; end - at >= 32;) {
        uint32_t rare = rare32(load16(at), load16(at + 16));

        if (rare == 0) {
            at += 32;
            if (at - from == 64)
                at = skip_clean(at, end);
            continue;
        }
        at += (unsigned)__builtin_ctz(rare);
        if (*at >= 0 && *at != '\t') /* of the rare bytes text are those above ASCII */
            return at;
        at++;
    }
    if (at < end && end - start >= 32) { /* the rest, as the end of a block */
        uint32_t rare = rare32(load16(end - 32), load16(end - 16)) >> (32 - (end - at));

        at = rare == 0 ? end : at + (unsigned)__builtin_ctz(rare);
    }
#else
    (void)start;
#endif
    while (at < end && is_text(*at))
        at++;
    return at;
}

#ifdef __SSE2__
/* Which bytes are among the `count` up to `top`? Moved to the upper end of the signed numbers. */
static inline __m128i find_range(__m128i v, char top, char count)
{
    return _mm_cmpgt_epi8(_mm_add_epi8(v, _mm_set1_epi8((char)(127 - top))),
                          _mm_set1_epi8((char)(127 - count)));
}

/* Which bytes are letters, digits and hyphens? `fold` has 0x20 in each byte, or 0 when capitals are
 * no letters. */
static inline __m128i find_alnum(__m128i v, __m128i fold)
{
    __m128i letter = find_range(_mm_or_si128(v, fold), 'z', 26);

    return _mm_or_si128(_mm_or_si128(letter, find_range(v, '9', 10)),
                        _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
}
#endif

/* The first byte that is no tchar. Or `end`. */
static inline const char *skip_token(const char *at, const char *end)
{
    while (at < end && char_is(*at, CHAR_TOKEN))
        at++;
    return at;
}

/* The first byte that is not visible ASCII. Or `end`. */
static inline const char *skip_visible(const char *at, const char *end)
{
#ifdef __SSE2__
    /* As find_plain, but the blank is not. */
    for (; end - at >= 16; at += 16) {
        __m128i v = _mm_add_epi8(load16(at), _mm_set1_epi8(1));
        int mask = _mm_movemask_epi8(_mm_cmpgt_epi8(v, _mm_set1_epi8(' ' + 1)));

        if (mask != 0xffff)
            return at + (unsigned)__builtin_ctz(~(unsigned)mask);
    }
#endif
    while (at < end && (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f)
        at++;
    return at;
}

#ifdef __SSE2__
/* What the first 63 bytes of a text are; bit i is of byte i. */
struct ordinary {
    uint64_t good; /* a letter, a digit, `-`, `_` or the separator; the 64th bit is never set */
    uint64_t separators;
};

/* At most 16 bytes, NUL behind them. */
static inline __m128i load_short(struct pst_bytes text)
{
    uint64_t low = 0, high = 0;
    uint32_t part;

    if (text.len >= 8) { /* as two words that may overlap */
        memcpy(&low, text.ptr, 8);
        memcpy(&high, text.ptr + text.len - 8, 8);
        high = text.len > 8 ? high >> 8 * (16 - text.len) : 0;
    } else if (text.len >= 4) {
        memcpy(&part, text.ptr + text.len - 4, 4);
        low = (uint64_t)part << 8 * (text.len - 4);
        memcpy(&part, text.ptr, 4);
        low |= part;
    } else {
        for (size_t i = 0; i < text.len; i++)
            low |= (uint64_t)(unsigned char)text.ptr[i] << 8 * i;
    }
    return _mm_set_epi64x((long long)high, (long long)low);
}

static inline void add_ordinary(struct ordinary *o, __m128i v, size_t at, __m128i separator,
                                __m128i fold)
{
    __m128i between = _mm_cmpeq_epi8(v, separator);
    __m128i good = _mm_or_si128(_mm_or_si128(find_alnum(v, fold), between),
                                _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));

    o->good |= (uint64_t)(unsigned)_mm_movemask_epi8(good) << at;
    o->separators |= (uint64_t)(unsigned)_mm_movemask_epi8(between) << at;
}

static inline struct ordinary find_ordinary(struct pst_bytes text, __m128i separator, __m128i fold)
{
    struct ordinary o = {0};
    size_t len = text.len < 64 ? text.len : 63;

    if (len <= 16) {
        add_ordinary(&o, load_short(pst_bytes_of(text.ptr, len)), 0, separator, fold);
        return o;
    }
    for (size_t at = 0; at + 16 < len; at += 16)
        add_ordinary(&o, load16(text.ptr + at), at, separator, fold);
    add_ordinary(&o, load16(text.ptr + len - 16), len - 16, separator, fold); /* overlaps */
    return o;
}
#endif

#endif
