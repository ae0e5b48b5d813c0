/*
 * The canonical form is written only from the first byte on that differs from the raw one; up to
 * there it is the raw one. A path is read name by name: a name ends at `/`, at `%2F`, at `;` and at
 * the end, and what it ends with is checked there, in decoded form.
 */
#include "postern/http/target.h"

#include "chars_internal.h"

/* The canonical text so far: the first `len` bytes of raw, or of space. */
struct writer {
    struct pst_bytes raw;
    char *space;
    size_t cap, len;
    bool own;  /* it stands in space */
    bool full; /* it did not fit */
};

struct reader {
    struct pst_bytes raw;
    size_t at;
    struct writer out;
    unsigned oddities;
    char last;  /* last byte of the name that is being read, decoded; 0: it is empty so far */
    char after; /* what this name came after: `/`, 'F' for %2F, `;` */
    struct pst_fault *fault;
};

static bool refuse(struct pst_fault *fault, uint16_t status, const char *reason)
{
    *fault = (struct pst_fault){.status = status, .reason = reason};
    return false;
}

/* Appends `len` bytes, which stand for raw bytes that begin at out.len as long as nothing
 * differed. */
static void put(struct writer *w, const char *bytes, size_t len)
{
    if (!w->own) {
        if (len <= w->raw.len - w->len && memcmp(w->raw.ptr + w->len, bytes, len) == 0) {
            w->len += len;
            return;
        }
        if (w->len > w->cap) {
            w->full = true;
            return;
        }
        if (w->len > 0)
            memcpy(w->space, w->raw.ptr, w->len);
        w->own = true;
    }
    if (w->full || len > w->cap - w->len) {
        w->full = true;
        return;
    }
    memcpy(w->space + w->len, bytes, len);
    w->len += len;
}

/* Appends the raw bytes from `at` on, which stand for themselves. */
static inline void keep(struct writer *w, size_t at, size_t len)
{
    if (w->own)
        put(w, w->raw.ptr + at, len);
    else
        w->len += len;
}

static void put_escaped(struct writer *w, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char text[3] = {'%', digits[c >> 4], digits[c & 15]};

    put(w, text, sizeof(text));
}

/* Two hex digits behind the `%` at `at`. */
static bool read_escape(struct pst_bytes raw, size_t at, unsigned char *out)
{
    if (raw.len - at < 3 || !char_is(raw.ptr[at + 1], CHAR_HEX) ||
        !char_is(raw.ptr[at + 2], CHAR_HEX))
        return false;
    *out = (unsigned char)(hex_value(raw.ptr[at + 1]) << 4 | hex_value(raw.ptr[at + 2]));
    return true;
}

/* --- the path ------------------------------------------------------------------------------ */

static bool end_name(struct reader *r, char after)
{
    if (r->last == '.')
        return refuse(r->fault, 400, "path segment ends in a dot");
    if (r->last == ' ')
        return refuse(r->fault, 400, "path segment ends in a blank");
    if (r->last == 0 && r->after != ';') {
        if (after == 0 && r->after == '/')
            r->oddities |= r->out.len > 1 ? PST_ODD_TRAILING_SLASH : 0;
        else
            r->oddities |= PST_ODD_EMPTY_SEGMENT;
    }
    r->last = 0;
    r->after = after;
    return true;
}

static bool is_lookalike(uint32_t point)
{
    return point == 0x2024 || point == 0xff0e ||                    /* . */
           point == 0x2215 || point == 0x2044 || point == 0xff0f || /* / */
           point == 0xff3c;                                         /* \ */
}

/* The shortest form of a code point that is no surrogate (RFC 3629). */
static bool is_valid_point(uint32_t point, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    return point >= least[len] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
}

/* The escapes of one code point above ASCII, the first of which is decoded already. */
static bool read_utf8(struct reader *r, unsigned char lead)
{
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    uint32_t point = lead & (0xffu >> (len + 1));

    if (lead < 0xc2 || lead > 0xf4)
        return refuse(r->fault, 400, "path is not UTF-8");
    for (size_t i = 1; i < len; i++) {
        size_t at = r->at + 3 * i;
        unsigned char next;

        if (at >= r->raw.len || r->raw.ptr[at] != '%' || !read_escape(r->raw, at, &next) ||
            (next & 0xc0) != 0x80)
            return refuse(r->fault, 400, "path is not UTF-8");
        point = point << 6 | (next & 0x3f);
    }
    if (!is_valid_point(point, len))
        return refuse(r->fault, 400, "path is not UTF-8");
    if (point < 0xa0) /* C1: a line's end (U+0085) to some readers */
        return refuse(r->fault, 400, "escaped control character in the path");
    if (is_lookalike(point))
        return refuse(r->fault, 400, "path holds a look-alike of a delimiter");
    for (size_t i = 0; i < len; i++, r->at += 3) {
        unsigned char c = 0;

        (void)read_escape(r->raw, r->at, &c);
        put_escaped(&r->out, c);
    }
    r->last = (char)lead;
    return true;
}

static bool read_path_escape(struct reader *r)
{
    unsigned char c;

    if (!read_escape(r->raw, r->at, &c))
        return refuse(r->fault, 400, "malformed escape in the path");
    if (c >= 0x80)
        return read_utf8(r, c);
    if (c < 0x20 || c == 0x7f)
        return refuse(r->fault, 400, "escaped control byte in the path");
    if (c == '\\')
        return refuse(r->fault, 400, "escaped backslash in the path");
    if (c == '/' || c == ';') {
        r->oddities |= c == '/' ? PST_ODD_ENCODED_SLASH : PST_ODD_SEMICOLON;
        if (!end_name(r, c == '/' ? 'F' : ';'))
            return false;
    } else {
        if (c == '%')
            r->oddities |= PST_ODD_ENCODED_PERCENT;
        else if (c == '?' || c == '#')
            r->oddities |= PST_ODD_DELIMITER;
        r->last = (char)c;
    }
    if (char_is((char)c, CHAR_UNRESERVED))
        put(&r->out, (const char *)&c, 1);
    else
        put_escaped(&r->out, c);
    r->at += 3;
    return true;
}

/* Everything that is not an ordinary character. */
static bool read_path_special(struct reader *r, char c)
{
    if (c == '%')
        return read_path_escape(r);
    if (c == '/' || c == ';') {
        if (c == ';')
            r->oddities |= PST_ODD_SEMICOLON;
        if (!end_name(r, c))
            return false;
        keep(&r->out, r->at, 1);
    } else if (char_is(c, CHAR_ESCAPE_PATH)) {
        put_escaped(&r->out, (unsigned char)c);
        r->last = c;
    } else {
        return refuse(r->fault, 400,
                      c == '\\'  ? "backslash in the path"
                      : c == '#' ? "fragment in the target"
                                 : "byte that may not stand in a path");
    }
    r->at++;
    return true;
}

/* The index of the first byte from `at` on that is of none of the classes. */
static inline size_t skip_chars(struct pst_bytes raw, size_t at, unsigned classes)
{
    while (at < raw.len && char_is(raw.ptr[at], classes))
        at++;
    return at;
}

#ifdef __SSE2__
/* The length of a short path, up to the `?` or the end, of nothing but letters, digits, `-` and `_`
 * between single slashes: most paths are such and stand for themselves, and name by name they cost
 * 400 instructions. 0: to be read name by name. */
static size_t ordinary_path(struct pst_bytes raw)
{
    struct ordinary o = find_ordinary(raw, _mm_set1_epi8('/'), _mm_set1_epi8(0x20));
    size_t end = (size_t)__builtin_ctzll(~o.good);
    uint64_t slashes = o.separators & ((UINT64_C(1) << end) - 1);

    return (end < raw.len && raw.ptr[end] != '?') || (slashes & slashes << 1) != 0 ? 0 : end;
}
#else
static size_t ordinary_path(struct pst_bytes raw)
{
    (void)raw;
    return 0;
}
#endif

/* The oddities of an ordinary path. */
static unsigned trailing_slash(const char *path, size_t len)
{
    return len > 1 && path[len - 1] == '/' ? PST_ODD_TRAILING_SLASH : 0;
}

/* From the first `/` to the `?` or the end. */
static bool read_path(struct reader *r)
{
    if (r->at > 0) { /* known to be ordinary up to there */
        r->oddities = trailing_slash(r->raw.ptr, r->at);
        r->out.len = r->at;
        return true;
    }
    keep(&r->out, 0, 1);
    r->after = '/';
    r->at = 1;
    while (r->at < r->raw.len && r->raw.ptr[r->at] != '?') {
        size_t from = r->at, to = skip_chars(r->raw, from, CHAR_PATH);

        if (to > from) {
            keep(&r->out, from, to - from);
            r->at = to;
            r->last = r->raw.ptr[to - 1];
        } else if (!read_path_special(r, r->raw.ptr[r->at])) {
            return false;
        }
    }
    return end_name(r, 0);
}

/* --- the query ----------------------------------------------------------------------------- */

static bool read_query_special(struct reader *r, char c)
{
    unsigned char value;

    if (c == '%') {
        if (!read_escape(r->raw, r->at, &value))
            return refuse(r->fault, 400, "malformed escape in the query");
        if (value == 0)
            return refuse(r->fault, 400, "escaped NUL in the query");
        keep(&r->out, r->at, 3);
        r->at += 3;
        return true;
    }
    if (!char_is(c, CHAR_ESCAPE_QUERY))
        return refuse(r->fault, 400,
                      c == '#' ? "fragment in the target" : "byte that may not stand in a query");
    put_escaped(&r->out, (unsigned char)c);
    r->at++;
    return true;
}

/* From the `?` to the end. */
static bool read_query(struct reader *r)
{
    put(&r->out, "?", 1);
    r->at++;
    while (r->at < r->raw.len) {
        size_t from = r->at, to = skip_chars(r->raw, from, CHAR_QUERY);

        if (to > from) {
            keep(&r->out, from, to - from);
            r->at = to;
        } else if (!read_query_special(r, r->raw.ptr[r->at])) {
            return false;
        }
    }
    return true;
}

/* --- the forms ----------------------------------------------------------------------------- */

static bool starts_nocase(struct pst_bytes all, struct pst_bytes prefix)
{
    return all.len >= prefix.len &&
           pst_bytes_equal_nocase(pst_bytes_of(all.ptr, prefix.len), prefix);
}

/* Two hosts with the default port of the scheme filled in. */
static bool same_host(const struct pst_host *a, const struct pst_host *b, uint16_t port)
{
    return pst_bytes_equal(a->name, b->name) &&
           (a->port == 0 ? port : a->port) == (b->port == 0 ? port : b->port);
}

/* Takes scheme and authority off. */
static bool strip_authority(struct pst_bytes *raw, const struct pst_host *host,
                            struct pst_fault *fault)
{
    bool plain = starts_nocase(*raw, PST_LIT("http://"));
    struct pst_bytes rest = pst_bytes_from(*raw, plain ? 7 : 8);
    char space[PST_HOST_MAX];
    struct pst_host named;
    size_t end = 0;

    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    if (!pst_host_parse(pst_bytes_of(rest.ptr, end), space, &named))
        return refuse(fault, 400, "authority of the target is not valid");
    if (host == NULL)
        return refuse(fault, 400, "target in absolute-form");
    if (!same_host(&named, host, plain ? 80 : 443))
        return refuse(fault, 400, "authority of the target is not the Host");
    *raw = pst_bytes_from(rest, end);
    return true;
}

static bool read_origin_form(struct reader *r, struct pst_target *out)
{
    if (!read_path(r))
        return false;
    size_t path = r->out.len;
    out->has_query = r->at < r->raw.len;
    if (out->has_query && !read_query(r))
        return false;
    if (r->out.full)
        return refuse(r->fault, 414, "canonical target is too long");

    out->target = pst_bytes_of(r->out.own ? r->out.space : r->out.raw.ptr, r->out.len);
    out->path = pst_bytes_of(out->target.ptr, path);
    out->query = pst_bytes_from(out->target, out->has_query ? path + 1 : path);
    out->oddities = r->oddities;
    return true;
}

/* `?query` behind an authority without a path. */
static bool read_rootless(struct reader *r, struct pst_target *out)
{
    r->out.own = true;
    put(&r->out, "/", 1);
    out->has_query = r->raw.len > 0;
    if (out->has_query && !read_query(r))
        return false;
    if (r->out.full)
        return refuse(r->fault, 414, "canonical target is too long");
    out->target = pst_bytes_of(r->out.space, r->out.len);
    out->path = pst_bytes_of(r->out.space, 1);
    out->query = pst_bytes_from(out->target, out->has_query ? 2 : 1);
    return true;
}

/* Any target. The first `ordinary` bytes are a path that stands for itself. */
static __attribute__((noinline)) bool read_any(enum pst_method method, struct pst_bytes raw,
                                               size_t ordinary, const struct pst_host *host,
                                               char *space, size_t cap, struct pst_target *out,
                                               struct pst_fault *fault)
{
    *out = (struct pst_target){0};
    if (method == PST_METHOD_OPTIONS && pst_bytes_equal(raw, PST_LIT("*"))) {
        out->target = raw;
        out->asterisk = true;
        return true;
    }
    bool rooted = raw.len > 0 && raw.ptr[0] == '/';
    if (!rooted &&
        (starts_nocase(raw, PST_LIT("http://")) || starts_nocase(raw, PST_LIT("https://")))) {
        if (!strip_authority(&raw, host, fault))
            return false;
        out->absolute = true;
    }

    struct reader r = {.raw = raw,
                       .at = ordinary,
                       .out = {.raw = raw, .space = space, .cap = cap},
                       .fault = fault};
    if (raw.len > 0 && raw.ptr[0] == '/')
        return read_origin_form(&r, out);
    if (out->absolute)
        return read_rootless(&r, out);
    return refuse(fault, 400, "target is in none of the known forms");
}

bool pst_target_parse(enum pst_method method, struct pst_bytes raw, const struct pst_host *host,
                      char *space, size_t cap, struct pst_target *out, struct pst_fault *fault)
{
    size_t ordinary = raw.len > 0 && raw.ptr[0] == '/' ? ordinary_path(raw) : 0;

    if (ordinary == 0 || ordinary < raw.len)
        return read_any(method, raw, ordinary, host, space, cap, out, fault);
    *out = (struct pst_target){.target = raw,
                               .path = raw,
                               .query = pst_bytes_from(raw, raw.len),
                               .oddities = trailing_slash(raw.ptr, raw.len)};
    return true;
}

/* --- reading what was parsed ---------------------------------------------------------------- */

bool pst_path_next(struct pst_bytes *rest, struct pst_bytes *segment)
{
    *segment = (struct pst_bytes){0};
    if (rest->len == 0 || rest->ptr[0] != '/')
        return false;
    *rest = pst_bytes_from(*rest, 1);
    segment->ptr = rest->ptr;
    segment->len = pst_bytes_find(*rest, '/');
    *rest = pst_bytes_from(*rest, segment->len);
    return true;
}

static bool decode(struct pst_bytes raw, char *space, size_t cap, bool plus, struct pst_bytes *out)
{
    size_t len = 0;

    *out = raw;
    if (pst_bytes_find(raw, '%') == raw.len && (!plus || pst_bytes_find(raw, '+') == raw.len))
        return true;
    *out = (struct pst_bytes){0};
    for (size_t i = 0; i < raw.len; i++) {
        unsigned char c = (unsigned char)raw.ptr[i];

        if (c == '%') {
            if (!read_escape(raw, i, &c))
                return false;
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (len == cap)
            return false;
        space[len++] = (char)c;
    }
    *out = pst_bytes_of(space, len);
    return true;
}

bool pst_percent_decode(struct pst_bytes raw, char *space, size_t cap, struct pst_bytes *out)
{
    return decode(raw, space, cap, false, out);
}

bool pst_query_decode(struct pst_bytes raw, char *space, size_t cap, struct pst_bytes *out)
{
    return decode(raw, space, cap, true, out);
}

bool pst_query_next(struct pst_bytes *rest, struct pst_query_pair *pair)
{
    *pair = (struct pst_query_pair){0};
    while (rest->len > 0) {
        size_t end = 0;

        while (end < rest->len && rest->ptr[end] != '&' && rest->ptr[end] != ';')
            end++;
        struct pst_bytes piece = pst_bytes_of(rest->ptr, end);
        *rest = pst_bytes_from(*rest, end < rest->len ? end + 1 : end);
        if (piece.len == 0)
            continue;

        size_t equals = pst_bytes_find(piece, '=');
        pair->key = pst_bytes_of(piece.ptr, equals);
        pair->value = pst_bytes_from(piece, equals < piece.len ? equals + 1 : equals);
        return true;
    }
    return false;
}

bool pst_query_key_is(struct pst_bytes key, struct pst_bytes name)
{
    static const char brackets[] = "[]";
    size_t seen = 0;

    for (size_t i = 0; i < key.len; i++, seen++) {
        unsigned char c = (unsigned char)key.ptr[i];

        if (c == '%') {
            if (!read_escape(key, i, &c))
                return false;
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (seen < name.len ? (char)c != name.ptr[seen]
                            : seen - name.len >= 2 || (char)c != brackets[seen - name.len])
            return false;
    }
    return seen == name.len || seen == name.len + 2;
}

/* --- UUIDs --------------------------------------------------------------------------------- */

static void write_uuid(const char digits[32], char canonical[PST_UUID_LEN])
{
    size_t at = 0;

    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            canonical[at++] = '-';
        canonical[at++] = pst_lower(digits[i]);
    }
}

/* Are these 32 hex digits and any hyphens, and nothing else? */
static bool read_digits(struct pst_bytes text, char digits[32])
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '-')
            continue;
        if (!char_is(text.ptr[i], CHAR_HEX) || n == 32)
            return false;
        digits[n++] = text.ptr[i];
    }
    return n == 32;
}

/* Is there a run of hex digits and hyphens with at least 32 digits? */
static bool holds_uuid(struct pst_bytes text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (char_is(text.ptr[i], CHAR_HEX))
            n++;
        else if (text.ptr[i] != '-')
            n = 0;
        if (n == 32)
            return true;
    }
    return false;
}

enum pst_uuid pst_uuid_read(struct pst_bytes text, char canonical[PST_UUID_LEN])
{
    struct pst_bytes inner = text;
    char digits[32];

    if (text.len < 32)
        return PST_UUID_NONE;
    if (starts_nocase(inner, PST_LIT("urn:")))
        inner = pst_bytes_from(inner, 4);
    if (starts_nocase(inner, PST_LIT("uuid:")))
        inner = pst_bytes_from(inner, 5);
    while (inner.len > 0 && inner.ptr[0] == '{')
        inner = pst_bytes_from(inner, 1);
    while (inner.len > 0 && inner.ptr[inner.len - 1] == '}')
        inner.len--;
    if (read_digits(inner, digits)) {
        write_uuid(digits, canonical);
        return PST_UUID_ONLY;
    }
    return holds_uuid(text) ? PST_UUID_AND_MORE : PST_UUID_NONE;
}
