#include "postern/base/buf.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "postern/base/clock.h"

/* "00" to "99", and "00" to "ff": two digits a step. */
#define DIGIT_ROW(t) t "0" t "1" t "2" t "3" t "4" t "5" t "6" t "7" t "8" t "9"
static const char PAIRS[201] = DIGIT_ROW("0") DIGIT_ROW("1") DIGIT_ROW("2") DIGIT_ROW("3") DIGIT_ROW("4")
    DIGIT_ROW("5") DIGIT_ROW("6") DIGIT_ROW("7") DIGIT_ROW("8") DIGIT_ROW("9");
#define HEX_ROW(t) DIGIT_ROW(t) t "a" t "b" t "c" t "d" t "e" t "f"
static const char HEX_PAIRS[513] = HEX_ROW("0") HEX_ROW("1") HEX_ROW("2") HEX_ROW("3") HEX_ROW("4") HEX_ROW("5")
    HEX_ROW("6") HEX_ROW("7") HEX_ROW("8") HEX_ROW("9") HEX_ROW("a") HEX_ROW("b") HEX_ROW("c") HEX_ROW("d")
    HEX_ROW("e") HEX_ROW("f");

void pst_buf_u64(struct pst_buf *b, uint64_t value)
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

void pst_buf_hex(struct pst_buf *b, uint64_t value, unsigned digits)
{
    char text[16];

    if (digits > sizeof(text))
        digits = sizeof(text);
    for (unsigned at = sizeof(text); at > sizeof(text) - digits; value >>= 8) {
        at -= 2; /* of an odd number one digit too many is written, in front */
        memcpy(text + at, HEX_PAIRS + 2 * (value & 0xff), 2);
    }
    pst_buf_put(b, pst_bytes_of(text + sizeof(text) - digits, digits));
}

/* Bytes of the UTF-8 character at the start of b, or 0 when there is none: shortest form only, no
 * surrogates, nothing past U+10FFFF (RFC 3629 4). */
static size_t utf8_len(struct pst_bytes b)
{
    const unsigned char *p = (const unsigned char *)b.ptr;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (len == 0 || len > b.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

/* How many bytes at the front need no escape. */
static size_t plain_json(struct pst_bytes text)
{
    size_t at = 0;

#ifdef __SSE2__
    for (; text.len - at >= 16; at += 16) {
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(text.ptr + at));
        /* Signed: bytes from 0x80 on are below 0x20 too. */
        __m128i odd = _mm_or_si128(_mm_cmplt_epi8(c, _mm_set1_epi8(0x20)), _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)));
        odd = _mm_or_si128(odd, _mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8('"')), _mm_cmpeq_epi8(c, _mm_set1_epi8('\\'))));
        if (_mm_movemask_epi8(odd) != 0)
            break;
    }
#endif
    while (at < text.len && text.ptr[at] >= 0x20 && text.ptr[at] < 0x7f && text.ptr[at] != '"' && text.ptr[at] != '\\')
        at++;
    return at;
}

void pst_buf_json(struct pst_buf *b, struct pst_bytes text)
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

static void put_digits(struct pst_buf *b, uint64_t value, unsigned width)
{
    char text[8];

    for (unsigned i = width; i-- > 0; value /= 10)
        text[i] = (char)('0' + value % 10);
    pst_buf_put(b, pst_bytes_of(text, width));
}

void pst_buf_time(struct pst_buf *b, uint64_t wall_ns)
{
    uint64_t s = wall_ns / PST_NS_PER_S, days = s / 86400, in_day = s % 86400;

    /* Days since the epoch to a date: eras of 400 years, years that begin in March. */
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    uint64_t month = mp < 10 ? mp + 3 : mp - 9;

    put_digits(b, era * 400 + yoe + (month <= 2), 4);
    pst_buf_char(b, '-');
    put_digits(b, month, 2);
    pst_buf_char(b, '-');
    put_digits(b, doy - (153 * mp + 2) / 5 + 1, 2);
    pst_buf_char(b, 'T');
    put_digits(b, in_day / 3600, 2);
    pst_buf_char(b, ':');
    put_digits(b, in_day / 60 % 60, 2);
    pst_buf_char(b, ':');
    put_digits(b, in_day % 60, 2);
    pst_buf_char(b, '.');
    put_digits(b, wall_ns / PST_NS_PER_MS % 1000, 3);
    pst_buf_char(b, 'Z');
}
