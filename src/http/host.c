/*
 * An address in brackets is read into eight groups and written again, so that all its spellings
 * become one; a name keeps its bytes but for the case of letters.
 */
#include "postern/http/host.h"

#include "host_internal.h"

#include "postern/base/buf.h"

#define NAME_MAX_BYTES  253
#define LABEL_MAX_BYTES 63
#define GROUPS          8

static bool is_label_char(char c)
{
    return char_is(c, CHAR_UNRESERVED) && c != '.' && c != '~';
}

/* Labels of letters, digits, - and _, none of them empty. *capitals: whether there are any. */
static bool is_name(struct pst_bytes name, bool *capitals)
{
    size_t label = 0;
    bool any = false;

    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        any |= c >= 'A' && c <= 'Z';
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_label_char(c) || ++label > LABEL_MAX_BYTES) {
            return false;
        }
    }
    *capitals = any;
    return label > 0;
}

/* Empty is none. No leading zero, so that a port has one spelling. */
static bool read_port(struct pst_bytes text, uint16_t *port)
{
    uint64_t value;

    *port = 0;
    if (text.len == 0)
        return true;
    if (text.len > 5 || text.ptr[0] == '0' || !pst_bytes_u63(text, &value) || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* Dotted decimal at the end of an IPv6 address: four numbers without leading zeros. */
static bool read_ipv4(struct pst_bytes text, uint16_t out[2])
{
    unsigned bytes[4];

    for (size_t n = 0; n < 4; n++) {
        size_t end = pst_bytes_find(text, '.');
        uint64_t value;

        if ((n < 3) != (end < text.len) || end == 0 || end > 3 || (end > 1 && text.ptr[0] == '0') ||
            !pst_bytes_u63(pst_bytes_of(text.ptr, end), &value) || value > 255)
            return false;
        bytes[n] = (unsigned)value;
        text = pst_bytes_from(text, n < 3 ? end + 1 : end);
    }
    out[0] = (uint16_t)(bytes[0] << 8 | bytes[1]);
    out[1] = (uint16_t)(bytes[2] << 8 | bytes[3]);
    return true;
}

static bool read_group(struct pst_bytes text, uint16_t *out)
{
    unsigned value = 0;

    if (text.len == 0 || text.len > 4)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!char_is(text.ptr[i], CHAR_HEX))
            return false;
        value = value << 4 | hex_value(text.ptr[i]);
    }
    *out = (uint16_t)value;
    return true;
}

/* Groups separated by single colons; the last may be dotted decimal. False unless all of `text` is
 * read into at most `max` of them. */
static bool read_groups(struct pst_bytes text, uint16_t *out, size_t max, size_t *count,
                        bool may_be_dotted)
{
    *count = 0;
    while (text.len > 0) {
        size_t end = pst_bytes_find(text, ':');
        struct pst_bytes group = pst_bytes_of(text.ptr, end);

        if (end == text.len && may_be_dotted && pst_bytes_find(group, '.') < group.len) {
            if (max - *count < 2 || !read_ipv4(group, out + *count))
                return false;
            *count += 2;
            return true;
        }
        if (*count == max || !read_group(group, &out[*count]))
            return false;
        ++*count;
        if (end + 1 == text.len) /* ends in a colon */
            return false;
        text = pst_bytes_from(text, end < text.len ? end + 1 : end);
    }
    return true;
}

static bool read_ipv6(struct pst_bytes text, uint16_t groups[GROUPS])
{
    uint16_t tail[GROUPS];
    size_t gap = 0, head_count, tail_count;

    memset(groups, 0, GROUPS * sizeof(groups[0]));
    while (gap + 1 < text.len && !(text.ptr[gap] == ':' && text.ptr[gap + 1] == ':'))
        gap++;
    if (gap + 1 >= text.len)
        return read_groups(text, groups, GROUPS, &head_count, true) && head_count == GROUPS;
    if (!read_groups(pst_bytes_of(text.ptr, gap), groups, GROUPS - 1, &head_count, false) ||
        !read_groups(pst_bytes_from(text, gap + 2), tail, GROUPS - 1 - head_count, &tail_count,
                     true))
        return false;
    memcpy(groups + GROUPS - tail_count, tail, tail_count * sizeof(tail[0]));
    return true;
}

/* RFC 5952 4.2: the longest run of at least two zero groups, the first of equals. */
static size_t find_gap(const uint16_t groups[GROUPS], size_t *len)
{
    size_t best = GROUPS;

    *len = 1;
    for (size_t i = 0; i < GROUPS; i++) {
        size_t n = 0;

        while (i + n < GROUPS && groups[i + n] == 0)
            n++;
        if (n > *len) {
            *len = n;
            best = i;
        }
    }
    return best;
}

static void write_ipv6(struct pst_buf *b, const uint16_t groups[GROUPS])
{
    size_t gap_len, gap = find_gap(groups, &gap_len);

    pst_buf_char(b, '[');
    for (size_t i = 0; i < GROUPS; i++) {
        if (i == gap) {
            pst_buf_lit(b, "::");
            i += gap_len - 1;
            continue;
        }
        if (i > 0 && i != gap + gap_len)
            pst_buf_char(b, ':');
        pst_buf_hex(b, groups[i],
                    groups[i] > 0xfff  ? 4
                    : groups[i] > 0xff ? 3
                    : groups[i] > 0xf  ? 2
                                       : 1);
    }
    pst_buf_char(b, ']');
}

static bool parse_ipv6(struct pst_bytes raw, char *space, struct pst_host *out)
{
    size_t end = pst_bytes_find(raw, ']');
    uint16_t groups[GROUPS];
    struct pst_buf b = pst_buf_of(space, PST_HOST_MAX);

    if (end == raw.len || !read_ipv6(pst_bytes_of(raw.ptr + 1, end - 1), groups))
        return false;

    struct pst_bytes port = pst_bytes_from(raw, end + 1);
    if (port.len > 0 && (port.ptr[0] != ':' || !read_port(pst_bytes_from(port, 1), &out->port)))
        return false;
    write_ipv6(&b, groups);
    out->name = pst_buf_bytes(&b);
    if (out->port != 0) {
        pst_buf_char(&b, ':');
        pst_buf_u64(&b, out->port);
    }
    out->text = pst_buf_bytes(&b);
    return true;
}

static bool parse_name(struct pst_bytes raw, char *space, struct pst_host *out)
{
    if (is_canonical_host(raw)) {
        out->name = out->text = raw;
        return true;
    }
    size_t colon = pst_bytes_find(raw, ':');
    struct pst_bytes name = pst_bytes_of(raw.ptr, colon);
    bool capitals;

    if (colon < raw.len && !read_port(pst_bytes_from(raw, colon + 1), &out->port))
        return false;
    if (name.len > 1 && name.ptr[name.len - 1] == '.')
        name.len--;
    if (!is_name(name, &capitals))
        return false;
    if (!capitals && (out->port == 0 || name.len == colon)) {
        out->name = name;
        out->text = out->port == 0 ? name : raw;
        return true;
    }

    struct pst_buf b = pst_buf_of(space, PST_HOST_MAX);
    for (size_t i = 0; i < name.len; i++)
        pst_buf_char(&b, pst_lower(name.ptr[i]));
    out->name = pst_buf_bytes(&b);
    if (out->port != 0)
        pst_buf_put(&b, pst_bytes_from(raw, colon));
    out->text = pst_buf_bytes(&b);
    return true;
}

bool pst_host_parse(struct pst_bytes raw, char space[PST_HOST_MAX], struct pst_host *out)
{
    struct pst_host host = {0};
    bool ok = raw.len > 0 &&
              (raw.ptr[0] == '[' ? parse_ipv6(raw, space, &host) : parse_name(raw, space, &host));

    *out = ok ? host : (struct pst_host){0};
    return ok;
}
