#include "postern/base/buf.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "postern/base/clock.h"

/* "00" to "99": two digits a step. */
#define DIGIT_ROW(t) t "0" t "1" t "2" t "3" t "4" t "5" t "6" t "7" t "8" t "9"
static const char PAIRS[201] = DIGIT_ROW("0") DIGIT_ROW("1") DIGIT_ROW("2") DIGIT_ROW("3")
    DIGIT_ROW("4") DIGIT_ROW("5") DIGIT_ROW("6") DIGIT_ROW("7") DIGIT_ROW("8") DIGIT_ROW("9");

/* Two digits; value below 100. */
static void write_pair(char *at, uint64_t value)
{
    memcpy(at, PAIRS + 2 * value, 2);
}

char *pst_put_u64(char *to, uint64_t value)
{
    if (value < 10) { /* many: sizes of nothing, times of what did not happen */
        *to = (char)('0' + value);
        return to + 1;
    }
    if (value < 100) {
        write_pair(to, value);
        return to + 2;
    }
    if (value < 1000)
        *to++ = (char)('0' + value / 100);
    else
        to = pst_put_u64(to, value / 100);
    write_pair(to, value % 100);
    return to + 2;
}

void pst_buf_u64(struct pst_buf *b, uint64_t value)
{
    char digits[PST_U64_DIGITS];

    pst_buf_put(b, pst_bytes_of(digits, (size_t)(pst_put_u64(digits, value) - digits)));
}

#ifdef __SSE2__
/* Each digit gets a byte of its own, and those above 9 move on to the letters. */
static inline void write_hex(char *text, uint64_t value)
{
    __m128i bytes = _mm_cvtsi64_si128((int64_t)__builtin_bswap64(value)), low = _mm_set1_epi8(0x0f);
    __m128i digits =
        _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi64(bytes, 4), low), _mm_and_si128(bytes, low));
    __m128i letters =
        _mm_and_si128(_mm_cmpgt_epi8(digits, _mm_set1_epi8(9)), _mm_set1_epi8('a' - '9' - 1));

    _mm_storeu_si128((__m128i *)(void *)text,
                     _mm_add_epi8(digits, _mm_add_epi8(letters, _mm_set1_epi8('0'))));
}
#else
static inline void write_hex(char *text, uint64_t value)
{
    for (unsigned at = 16; at-- > 0; value >>= 4)
        text[at] = "0123456789abcdef"[value & 15];
}
#endif

char *pst_put_hex(char *to, uint64_t value)
{
    write_hex(to, value);
    return to + 16;
}

void pst_buf_hex(struct pst_buf *b, uint64_t value, unsigned digits)
{
    char text[16], *to = pst_buf_open(b, digits);

    if (to == NULL)
        return;
    write_hex(text, value);
    memcpy(to, text + sizeof(text) - digits, digits);
    b->len += digits;
}

/* Bytes of the UTF-8 character at the start of b, or 0 when there is none: shortest form only, no
 * surrogates, nothing past U+10FFFF (RFC 3629 4). */
static size_t utf8_len(struct pst_bytes b)
{
    const unsigned char *p = (const unsigned char *)b.ptr;
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xc2 ? 0
                 : p[0] < 0xe0 ? 2
                 : p[0] < 0xf0 ? 3
                 : p[0] < 0xf5 ? 4
                               : 0;

    if (len == 0 || len > b.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

/* What may stand in a JSON string as it is. */
static bool is_plain_char(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The same for a line of a head: all but CTL. */
static bool is_safe_char(char c)
{
    return (unsigned char)c >= 0x20 && c != 0x7f;
}

#ifdef __SSE2__
static inline __m128i load_16(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Where such bytes are not, a byte is not 0. */
static inline __m128i not_plain(__m128i c)
{
    /* Signed: bytes from 0x80 on are below 0x20 too. */
    __m128i odd = _mm_or_si128(_mm_cmplt_epi8(c, _mm_set1_epi8(0x20)),
                               _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)));

    return _mm_or_si128(odd, _mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8('"')),
                                          _mm_cmpeq_epi8(c, _mm_set1_epi8('\\'))));
}

static inline __m128i not_safe(__m128i c)
{
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(c, _mm_set1_epi8(0x1f)), c);

    return _mm_or_si128(low, _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)));
}

/* From 16 bytes on in blocks, the last of which overlaps the one before. */
static inline __attribute__((always_inline)) bool copy_blocks(char *to, struct pst_bytes text,
                                                              __m128i (*odd_of)(__m128i))
{
    __m128i odd = _mm_setzero_si128();

    for (size_t at = 0; at < text.len; at += 16) {
        if (text.len - at < 16)
            at = text.len - 16;
        __m128i c = load_16(text.ptr + at);
        odd = _mm_or_si128(odd, odd_of(c));
        _mm_storeu_si128((__m128i *)(void *)(to + at), c);
    }
    return _mm_movemask_epi8(odd) == 0;
}

/* 4 to 15 bytes: two halves that overlap. */
static inline __attribute__((always_inline)) bool copy_halves(char *to, struct pst_bytes text,
                                                              __m128i (*odd_of)(__m128i))
{
    uint64_t first, last;

    if (text.len >= 8) {
        memcpy(&first, text.ptr, 8);
        memcpy(&last, text.ptr + text.len - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + text.len - 8, &last, 8);
    } else {
        uint32_t front, back;
        memcpy(&front, text.ptr, 4);
        memcpy(&back, text.ptr + text.len - 4, 4);
        memcpy(to, &front, 4);
        memcpy(to + text.len - 4, &back, 4);
        first = last = (uint64_t)front << 32 | back;
    }
    __m128i both = _mm_set_epi64x((int64_t)first, (int64_t)last);
    return _mm_movemask_epi8(odd_of(both)) == 0;
}

#define COPY_VECTORS(to, text, odd_of)                                                             \
    if ((text).len >= 16)                                                                          \
        return copy_blocks((to), (text), (odd_of));                                                \
    if ((text).len >= 4)                                                                           \
        return copy_halves((to), (text), (odd_of));
#else
#define COPY_VECTORS(to, text, odd_of)
#endif

/* Copies to where there is room. False: something in it needs an escape, and what was written is
 * nothing. */
static inline bool copy_plain(char *to, struct pst_bytes text)
{
    bool plain = true;

    COPY_VECTORS(to, text, not_plain)
    for (size_t at = 0; at < text.len; at++) {
        to[at] = text.ptr[at];
        plain = plain && is_plain_char(text.ptr[at]);
    }
    return plain;
}

static inline bool copy_safe(char *to, struct pst_bytes text)
{
    bool safe = true;

    COPY_VECTORS(to, text, not_safe)
    for (size_t at = 0; at < text.len; at++) {
        to[at] = text.ptr[at];
        safe = safe && is_safe_char(text.ptr[at]);
    }
    return safe;
}

void pst_buf_safe(struct pst_buf *b, struct pst_bytes text)
{
    while (text.len > 0) {
        size_t plain = 0;
        while (plain < text.len && is_safe_char(text.ptr[plain]))
            plain++;
        pst_buf_put(b, pst_bytes_of(text.ptr, plain));
        if (plain == text.len)
            return;
        pst_buf_char(b, '%');
        pst_buf_hex(b, (unsigned char)text.ptr[plain], 2);
        text = pst_bytes_from(text, plain + 1);
    }
}

static __attribute__((noinline)) void put_in_pieces(struct pst_buf *b, struct pst_bytes name,
                                                    struct pst_bytes value)
{
    pst_buf_put(b, name);
    pst_buf_lit(b, ": ");
    pst_buf_safe(b, value);
    pst_buf_lit(b, "\r\n");
}

/* 8 to 32 bytes, as nearly all names are: two words or blocks that may overlap, and no call. */
static inline char *put_name(char *to, struct pst_bytes name)
{
    uint64_t words[4];

    if (name.len < 16) {
        memcpy(words, name.ptr, 8);
        memcpy(words + 2, name.ptr + name.len - 8, 8);
        memcpy(to, words, 8);
        memcpy(to + name.len - 8, words + 2, 8);
    } else {
        memcpy(words, name.ptr, 16);
        memcpy(words + 2, name.ptr + name.len - 16, 16);
        memcpy(to, words, 16);
        memcpy(to + name.len - 16, words + 2, 16);
    }
    return to + name.len;
}

void pst_buf_safe_line(struct pst_buf *b, struct pst_bytes name, struct pst_bytes value)
{
    size_t room = b->full ? 0 : b->cap - b->len;

    if (name.len == 0 || value.len == 0)
        return;
    if (name.len - 8 <= 24 && value.len <= room && name.len + value.len + 4 <= room) {
        char *to = pst_put_lit(put_name(b->data + b->len, name), ": ");
        if (copy_safe(to, value)) {
            pst_put_lit(to + value.len, "\r\n");
            b->len += name.len + value.len + 4;
            return;
        }
    }
    put_in_pieces(b, name, value);
}

#define JSON_CHAR_MAX 6 /* bytes of the longest escape */

/* The first character of a text, which gets shorter by it, as it stands in JSON. */
static char *put_char(char *to, struct pst_bytes *text)
{
    unsigned char c = (unsigned char)text->ptr[0];
    size_t len = utf8_len(*text);

    if (c == '"' || c == '\\') {
        *to++ = '\\';
        *to++ = (char)c;
    } else if (c < 0x20 || c == 0x7f) {
        to = pst_put_lit(to, "\\u00");
        *to++ = "0123456789abcdef"[c >> 4];
        *to++ = "0123456789abcdef"[c & 15];
    } else if (len == 0) {
        to = pst_put_lit(to, "\\ufffd");
    } else {
        to = pst_put(to, pst_bytes_of(text->ptr, len));
    }
    *text = pst_bytes_from(*text, len == 0 ? 1 : len);
    return to;
}

static __attribute__((noinline)) char *put_escaped(char *to, struct pst_bytes text)
{
    *to++ = '"';
    while (text.len > 0)
        to = put_char(to, &text);
    *to++ = '"';
    return to;
}

char *pst_put_json(char *to, struct pst_bytes text)
{
    if (!copy_plain(to + 1, text))
        return put_escaped(to, text);
    to[0] = to[text.len + 1] = '"'; /* nearly always */
    return to + text.len + 2;
}

/* Whether it fits shows only when it is written. */
static __attribute__((noinline)) void put_tight(struct pst_buf *b, struct pst_bytes text)
{
    char one[JSON_CHAR_MAX];

    pst_buf_char(b, '"');
    while (text.len > 0 && !b->full)
        pst_buf_put(b, pst_bytes_of(one, (size_t)(put_char(one, &text) - one)));
    pst_buf_char(b, '"');
}

void pst_buf_json(struct pst_buf *b, struct pst_bytes text)
{
    size_t room = b->full ? 0 : b->cap - b->len;

    if (room >= 2 && text.len <= (room - 2) / JSON_CHAR_MAX)
        pst_buf_close(b, pst_put_json(b->data + b->len, text));
    else
        put_tight(b, text);
}

struct date {
    uint64_t year, month, day; /* from 1 */
};

/* Days since the epoch to a date: eras of 400 years, years that begin in March. */
static struct date date_of(uint64_t days)
{
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    uint64_t month = mp < 10 ? mp + 3 : mp - 9;

    return (struct date){.year = era * 400 + yoe + (month <= 2),
                         .month = month,
                         .day = doy - (153 * mp + 2) / 5 + 1};
}

static void write_year(char *at, uint64_t year)
{
    write_pair(at, year / 100 % 100);
    write_pair(at + 2, year % 100);
}

/* hh:mm:ss into the digits' places. */
static void write_clock(char *at, uint64_t in_day)
{
    write_pair(at, in_day / 3600);
    write_pair(at + 3, in_day / 60 % 60);
    write_pair(at + 6, in_day % 60);
}

void pst_buf_time(struct pst_buf *b, uint64_t wall_ns)
{
    char text[] = "0000-00-00T00:00:00.000Z";
    uint64_t s = wall_ns / PST_NS_PER_S, ms = wall_ns / PST_NS_PER_MS % 1000;
    struct date date = date_of(s / 86400);

    write_year(text, date.year);
    write_pair(text + 5, date.month);
    write_pair(text + 8, date.day);
    write_clock(text + 11, s % 86400);
    text[20] = (char)('0' + ms / 100);
    write_pair(text + 21, ms % 100);
    pst_buf_put(b, pst_bytes_of(text, sizeof(text) - 1));
}

void pst_buf_http_date(struct pst_buf *b, uint64_t wall_ns)
{
    static const char DAYS[] = "ThuFriSatSunMonTueWed"; /* the epoch was a Thursday */
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char text[] = "Thu, 00 Jan 0000 00:00:00 GMT";
    uint64_t s = wall_ns / PST_NS_PER_S, days = s / 86400;
    struct date date = date_of(days);

    memcpy(text, DAYS + 3 * (days % 7), 3);
    write_pair(text + 5, date.day);
    memcpy(text + 8, MONTHS + 3 * (date.month - 1), 3);
    write_year(text + 12, date.year);
    write_clock(text + 17, s % 86400);
    pst_buf_put(b, pst_bytes_of(text, sizeof(text) - 1));
}
