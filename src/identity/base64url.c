#include "postern/identity/base64url.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define BAD 0x80 /* set in the value of every byte outside the alphabet */

/* Without branches on the value: the time tells nothing of a secret in base64url. */
static unsigned value_of(unsigned char c)
{
    unsigned upper = (unsigned)(c - 'A') <= 25u, lower = (unsigned)(c - 'a') <= 25u;
    unsigned digit = (unsigned)(c - '0') <= 9u, minus = c == '-', low = c == '_';

    return upper * (unsigned)(c - 'A') + lower * (unsigned)(c - 'a' + 26) + digit * (unsigned)(c - '0' + 52) +
           minus * 62 + low * 63 + (1 - (upper | lower | digit | minus | low)) * BAD;
}

bool pst_base64url_decode(struct pst_bytes text, void *out, size_t cap, size_t *len)
{
    const unsigned char *in = (const unsigned char *)text.ptr;
    unsigned char *to = out;
    size_t rest = text.len % 4, whole = text.len - rest;
    size_t want = text.len / 4 * 3 + (rest == 0 ? 0 : rest - 1);
    unsigned seen = 0;

    *len = 0;
    if (rest == 1 || want > cap)
        return false;
    for (size_t i = 0; i < whole; i += 4, to += 3) {
        unsigned a = value_of(in[i]), b = value_of(in[i + 1]), c = value_of(in[i + 2]), d = value_of(in[i + 3]);
        seen |= a | b | c | d;
        to[0] = (unsigned char)(a << 2 | b >> 4);
        to[1] = (unsigned char)(b << 4 | c >> 2);
        to[2] = (unsigned char)(c << 6 | d);
    }
    if (rest > 0) {
        unsigned a = value_of(in[whole]), b = value_of(in[whole + 1]);
        unsigned c = rest == 3 ? value_of(in[whole + 2]) : 0;
        seen |= a | b | c;
        to[0] = (unsigned char)(a << 2 | b >> 4);
        if (rest == 3)
            to[1] = (unsigned char)(b << 4 | c >> 2);
        if ((rest == 2 ? b & 15 : c & 3) != 0)
            return false; /* another text stands for the same bytes */
    }
    if ((seen & BAD) != 0)
        return false;
    *len = want;
    return true;
}

void pst_base64url_put(struct pst_buf *b, struct pst_bytes bytes)
{
    const unsigned char *in = (const unsigned char *)bytes.ptr;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        unsigned word = (unsigned)in[i] << 16 | (n > 1 ? (unsigned)in[i + 1] << 8 : 0) | (n > 2 ? in[i + 2] : 0u);
        char text[4];
        for (size_t k = 0; k <= n; k++)
            text[k] = ALPHABET[word >> (18 - 6 * k) & 63];
        pst_buf_put(b, pst_bytes_of(text, n + 1));
    }
}
