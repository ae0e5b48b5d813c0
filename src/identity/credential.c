/*
 * Every place is looked at, so that a second credential is seen wherever it hides; what was found
 * is counted before it is judged.
 */
#include "postern/identity/credential.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Inlined, these would take the registers of the loop over the fields. */
#define RARE __attribute__((noinline))

struct finding {
    unsigned count; /* credentials, good or not */
    struct pst_credential first;
};

static bool is_token68_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '-' && c <= '9') || c == '_' ||
           c == '~' || c == '+';
}

/* How many bytes at the front are such characters, in steps of 16: every request carries a token,
 * and byte by byte this was a sixth of a check's instructions. '-', '.', '/' and the digits are
 * neighbours. */
static size_t plain_blocks(struct pst_bytes text)
{
    size_t at = 0;

#ifdef __SSE2__
    for (; text.len - at >= 16; at += 16) {
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(text.ptr + at));
        __m128i low = _mm_or_si128(c, _mm_set1_epi8(0x20));
        __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(low, _mm_set1_epi8('a' - 1)),
                                       _mm_cmplt_epi8(low, _mm_set1_epi8('z' + 1)));
        __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(c, _mm_set1_epi8('-' - 1)),
                                      _mm_cmplt_epi8(c, _mm_set1_epi8('9' + 1)));
        __m128i other = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8('_')),
                                                  _mm_cmpeq_epi8(c, _mm_set1_epi8('~'))),
                                     _mm_cmpeq_epi8(c, _mm_set1_epi8('+')));
        if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), other)) != 0xffff)
            break;
    }
#else
    (void)text;
#endif
    return at;
}

/* The characters of a JWT in compact form, and of RFC 6750's b64token. Never empty. */
bool pst_credential_is_token(struct pst_bytes text)
{
    size_t i = plain_blocks(text);

    while (i < text.len && is_token68_char(text.ptr[i]))
        i++;
    size_t body = i;
    while (i < text.len && text.ptr[i] == '=')
        i++;
    return body > 0 && i == text.len;
}

static void add(struct finding *f, enum pst_credential_source source, struct pst_bytes token)
{
    if (f->count++ == 0)
        f->first = (struct pst_credential){.source = source, .token = token};
}

/* "Bearer" SP token; the empty token stands for everything else, and is malformed. */
static struct pst_bytes after_scheme(struct pst_bytes value)
{
    struct pst_bytes scheme = PST_LIT("Bearer ");

    if (value.len <= scheme.len ||
        (memcmp(value.ptr, scheme.ptr, scheme.len) != 0 &&
         !pst_bytes_equal_nocase(pst_bytes_of(value.ptr, scheme.len), scheme)))
        return (struct pst_bytes){0};
    return pst_bytes_from(value, scheme.len);
}

/* name=value crumbs (RFC 6265 4.2.1); a value may stand in quotes. */
static RARE void add_cookies(struct finding *f, struct pst_bytes name, struct pst_bytes value)
{
    while (value.len > 0) {
        size_t end = pst_bytes_find(value, ';');
        struct pst_bytes crumb = pst_bytes_trim(pst_bytes_of(value.ptr, end));
        size_t equal = pst_bytes_find(crumb, '=');

        if (equal < crumb.len &&
            pst_bytes_equal(pst_bytes_trim(pst_bytes_of(crumb.ptr, equal)), name)) {
            struct pst_bytes token = pst_bytes_trim(pst_bytes_from(crumb, equal + 1));
            if (token.len >= 2 && token.ptr[0] == '"' && token.ptr[token.len - 1] == '"')
                token = pst_bytes_of(token.ptr + 1, token.len - 2);
            add(f, PST_CREDENTIAL_COOKIE, token);
        }
        value = pst_bytes_from(value, end < value.len ? end + 1 : end);
    }
}

static bool list_has(struct pst_bytes value, struct pst_bytes token)
{
    while (value.len > 0) {
        size_t end = pst_bytes_find(value, ',');
        if (pst_bytes_equal_nocase(pst_bytes_trim(pst_bytes_of(value.ptr, end)), token))
            return true;
        value = pst_bytes_from(value, end < value.len ? end + 1 : end);
    }
    return false;
}

static RARE bool is_handshake(const struct pst_field *fields, size_t count)
{
    bool upgrade = false, connection = false, key = false;

    for (size_t i = 0; i < count; i++) {
        if (pst_bytes_equal_nocase(fields[i].name, PST_LIT("Upgrade")))
            upgrade = upgrade || list_has(fields[i].value, PST_LIT("websocket"));
        else if (pst_bytes_equal_nocase(fields[i].name, PST_LIT("Connection")))
            connection = connection || list_has(fields[i].value, PST_LIT("upgrade"));
        else if (pst_bytes_equal_nocase(fields[i].name, PST_LIT("Sec-WebSocket-Key")))
            key = true;
    }
    return upgrade && connection && key;
}

/* "bearer, <token>": each entry behind the marker is a credential. */
static RARE void add_subprotocols(struct finding *f, struct pst_bytes marker,
                                  struct pst_bytes value)
{
    bool behind = false;

    while (value.len > 0) {
        size_t end = pst_bytes_find(value, ',');
        struct pst_bytes one = pst_bytes_trim(pst_bytes_of(value.ptr, end));
        if (behind)
            add(f, PST_CREDENTIAL_WEBSOCKET, one);
        behind = !behind && pst_bytes_equal(one, marker);
        value = pst_bytes_from(value, end < value.len ? end + 1 : end);
    }
}

/* Names of other lengths are passed over: most of them, with one test. */
static uint64_t length_bit(struct pst_bytes name)
{
    return UINT64_C(1) << name.len % 64;
}

static void look_at(struct finding *f, const struct pst_credential_config *config, bool handshake,
                    const struct pst_field *field)
{
    struct pst_bytes name = field->name, value = field->value;

    if (config->header.len > 0 && pst_bytes_equal_nocase(name, config->header)) {
        add(f, PST_CREDENTIAL_HEADER,
            pst_bytes_equal_nocase(name, PST_LIT("Authorization")) ? after_scheme(value) : value);
    } else if (config->cookie.len > 0 && pst_bytes_equal_nocase(name, PST_LIT("Cookie"))) {
        add_cookies(f, config->cookie, value);
    } else if (handshake && pst_bytes_equal_nocase(name, PST_LIT("Sec-WebSocket-Protocol"))) {
        add_subprotocols(f, config->websocket_protocol, value);
    }
}

struct pst_credential pst_credential_seek(const struct pst_credential_config *config,
                                          const struct pst_field *fields, size_t count)
{
    bool handshake = config->websocket_protocol.len > 0 && is_handshake(fields, count);
    uint64_t lengths = length_bit(config->header) | length_bit(PST_LIT("Cookie")) |
                       (handshake ? length_bit(PST_LIT("Sec-WebSocket-Protocol")) : 0);
    struct finding f = {0};

    for (const struct pst_field *at = fields, *end = fields + count; at < end; at++)
        if (lengths & length_bit(at->name)) /* few of them */
            look_at(&f, config, handshake, at);
    if (f.count == 1)
        return f.first;
    return (struct pst_credential){.reason = f.count == 0 ? PST_ID_NO_CREDENTIAL
                                                          : PST_ID_AMBIGUOUS_CREDENTIAL};
}

struct pst_credential pst_credential_find(const struct pst_credential_config *config,
                                          const struct pst_field *fields, size_t count)
{
    struct pst_credential c = pst_credential_seek(config, fields, count);

    if (c.source == PST_CREDENTIAL_NONE || pst_credential_is_token(c.token))
        return c;
    return (struct pst_credential){.reason = PST_ID_MALFORMED_CREDENTIAL};
}
