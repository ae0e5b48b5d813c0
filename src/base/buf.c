#include "postern/base/buf.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "postern/base/clock.h"

/* "00" to "99": two digits a step. */
#define DIGIT_ROW(t) t "0" t "1" t "2" t "3" t "4" t "5" t "6" t "7" t "8" t "9"
static const char PAIRS[201] = DIGIT_ROW("0") DIGIT_ROW("1") DIGIT_ROW("2") DIGIT_ROW("3")
    DIGIT_ROW("4") DIGIT_ROW("5") DIGIT_ROW("6") DIGIT_ROW("7") DIGIT_ROW("8") DIGIT_ROW("9");

/* Apart, so that small numbers need no guarded stack. */
static __attribute__((noinline)) void put_large(struct pst_buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    for (; value >= 100; value /= 100) {
        at -= 2;
        memcpy(digits + at, PAIRS + 2 * (value % 100), 2);
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, PAIRS + 2 * value, 2);
    } else {
        digits[--at] = (char)('0' + value);
    }
    pst_buf_put(b, pst_bytes_of(digits + at, sizeof(digits) - at));
}

void pst_buf_u64(struct pst_buf *b, uint64_t value)
{
    if (value >= 1000) {
        put_large(b, value);
        return;
    }
    uint32_t small =
        (uint32_t)value; /* most numbers: states, sizes of small answers, short times */
    char *to = pst_buf_room(b, small < 10 ? 1 : small < 100 ? 2 : 3);
    if (to == NULL)
        return;
    if (small >= 100) {
        *to++ = (char)('0' + small / 100);
        small %= 100;
        memcpy(to, PAIRS + 2 * small, 2);
    } else if (small >= 10) {
        memcpy(to, PAIRS + 2 * small, 2);
    } else {
        *to = (char)('0' + small);
    }
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

static __attribute__((noinline)) void put_some_hex(struct pst_buf *b, uint64_t value,
                                                   unsigned digits)
{
    char text[16];

    write_hex(text, value);
    pst_buf_put(b, pst_bytes_of(text + sizeof(text) - digits, digits));
}

void pst_buf_hex(struct pst_buf *b, uint64_t value, unsigned digits)
{
    if (digits < 16) {
        put_some_hex(b, value, digits);
        return;
    }
    char *to = pst_buf_room(b, 16);
    if (to != NULL)
        write_hex(to, value);
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

static bool is_plain_char(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

#ifdef __SSE2__
static __m128i load_16(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Four to sixteen bytes, some of them more than once. */
static __m128i load_ends(const char *at, size_t len)
{
    if (len < 8) {
        uint32_t words[2];
        memcpy(&words[0], at, 4);
        memcpy(&words[1], at + len - 4, 4);
        __m128i ends = _mm_cvtsi64_si128((int64_t)((uint64_t)words[0] << 32 | words[1]));
        return _mm_unpacklo_epi64(ends, ends);
    }
    return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(const void *)at),
                              _mm_loadl_epi64((const __m128i *)(const void *)(at + len - 8)));
}

static bool is_plain_block(__m128i c)
{
    /* Signed: bytes from 0x80 on are below 0x20 too. */
    __m128i odd = _mm_or_si128(_mm_cmplt_epi8(c, _mm_set1_epi8(0x20)),
                               _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)));

    odd = _mm_or_si128(odd, _mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8('"')),
                                         _mm_cmpeq_epi8(c, _mm_set1_epi8('\\'))));
    return _mm_movemask_epi8(odd) == 0;
}

/* CTL: below a blank (unsigned), or DEL. */
static bool is_safe_block(__m128i c)
{
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(c, _mm_set1_epi8(0x1f)), c);

    return _mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)))) == 0;
}
#endif

/* How many bytes at the front need no escape in JSON. A text of 4 bytes or more is looked at in
 * blocks, the last of which overlaps the one before. */
static size_t plain_json(struct pst_bytes text)
{
    size_t at = 0;

#ifdef __SSE2__
    if (text.len >= 4 && text.len <= 16 && is_plain_block(load_ends(text.ptr, text.len)))
        return text.len;
    for (; text.len - at >= 16; at += 16)
        if (!is_plain_block(load_16(text.ptr + at)))
            break;
    if (at >= 16 && text.len - at < 16 && is_plain_block(load_16(text.ptr + text.len - 16)))
        return text.len;
#endif
    while (at < text.len && is_plain_char(text.ptr[at]))
        at++;
    return at;
}

static bool is_safe_char(char c)
{
    return (unsigned char)c >= 0x20 && c != 0x7f;
}

/* The same for a line of a head. */
static size_t plain_safe(struct pst_bytes text)
{
    size_t at = 0;

#ifdef __SSE2__
    if (text.len >= 4 && text.len <= 16 && is_safe_block(load_ends(text.ptr, text.len)))
        return text.len;
    for (; text.len - at >= 16; at += 16)
        if (!is_safe_block(load_16(text.ptr + at)))
            break;
    if (at >= 16 && text.len - at < 16 && is_safe_block(load_16(text.ptr + text.len - 16)))
        return text.len;
#endif
    while (at < text.len && is_safe_char(text.ptr[at]))
        at++;
    return at;
}

void pst_buf_safe(struct pst_buf *b, struct pst_bytes text)
{
    while (text.len > 0) {
        size_t plain = plain_safe(text);
        pst_buf_put(b, pst_bytes_of(text.ptr, plain));
        if (plain == text.len)
            return;
        pst_buf_char(b, '%');
        pst_buf_hex(b, (unsigned char)text.ptr[plain], 2);
        text = pst_bytes_from(text, plain + 1);
    }
}

void pst_buf_safe_line(struct pst_buf *b, struct pst_bytes name, struct pst_bytes value)
{
    if (name.len == 0 || value.len == 0)
        return;
    if (plain_safe(value) == value.len) {
        pst_buf_line(b, name, value);
        return;
    }
    pst_buf_put(b, name);
    pst_buf_lit(b, ": ");
    pst_buf_safe(b, value);
    pst_buf_lit(b, "\r\n");
}

/* Most texts are of 4 to 16 bytes: two loads and two stores that overlap, and no call. */
static inline void copy_short(char *to, struct pst_bytes text)
{
    uint64_t words[2];
    uint32_t halves[2];

    if (text.len >= 8 && text.len <= 16) {
        memcpy(&words[0], text.ptr, 8);
        memcpy(&words[1], text.ptr + text.len - 8, 8);
        memcpy(to, &words[0], 8);
        memcpy(to + text.len - 8, &words[1], 8);
    } else if (text.len >= 4 && text.len < 8) {
        memcpy(&halves[0], text.ptr, 4);
        memcpy(&halves[1], text.ptr + text.len - 4, 4);
        memcpy(to, &halves[0], 4);
        memcpy(to + text.len - 4, &halves[1], 4);
    } else if (text.len > 0) {
        memcpy(to, text.ptr, text.len);
    }
}

/* Text that needs an escape, or does not fit. */
static __attribute__((noinline)) void put_escaped(struct pst_buf *b, struct pst_bytes text)
{
    pst_buf_char(b, '"');
    while (text.len > 0 && !b->full) {
        size_t plain = plain_json(text);
        pst_buf_put(b, pst_bytes_of(text.ptr, plain));
        text = pst_bytes_from(text, plain);
        if (text.len == 0)
            break;

        unsigned char c = (unsigned char)text.ptr[0];
        size_t len = utf8_len(text);
        if (c == '"' || c == '\\') {
            pst_buf_char(b, '\\');
            pst_buf_char(b, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            pst_buf_lit(b, "\\u00");
            pst_buf_hex(b, c, 2);
        } else if (len == 0) {
            pst_buf_lit(b, "\\ufffd");
        } else {
            pst_buf_put(b, pst_bytes_of(text.ptr, len));
        }
        text = pst_bytes_from(text, len == 0 ? 1 : len);
    }
    pst_buf_char(b, '"');
}

void pst_buf_json(struct pst_buf *b, struct pst_bytes text)
{
    if (b->full || b->cap - b->len < 2 || text.len > b->cap - b->len - 2 ||
        plain_json(text) != text.len) {
        put_escaped(b, text);
        return;
    }
    char *to = b->data + b->len; /* nearly always: one look at the room, one copy */
    *to = '"';
    copy_short(to + 1, text);
    to[text.len + 1] = '"';
    b->len += text.len + 2;
}

/* Two digits; value below 100. */
static void write_pair(char *at, uint64_t value)
{
    memcpy(at, PAIRS + 2 * value, 2);
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
