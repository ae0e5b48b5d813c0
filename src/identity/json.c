#include "json_internal.h"

/* Whether brackets nest deeper than `max`; strings are skipped, nothing else is judged. */
static bool is_too_deep(struct pst_bytes text, unsigned max)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

json_t *pst_json_object(struct pst_bytes text, unsigned depth_max)
{
    json_error_t error;

    if (text.len == 0 || is_too_deep(text, depth_max))
        return NULL;
    json_t *value = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (value != NULL && !json_is_object(value)) {
        json_decref(value);
        return NULL;
    }
    return value;
}

struct scan {
    struct pst_bytes text;
    size_t at;
};

static char next_char(struct scan *s) /* after white space; 0 at the end */
{
    while (s->at < s->text.len && (s->text.ptr[s->at] == ' ' || s->text.ptr[s->at] == '\t' ||
                                   s->text.ptr[s->at] == '\n' || s->text.ptr[s->at] == '\r'))
        s->at++;
    return s->at < s->text.len ? s->text.ptr[s->at] : '\0';
}

/* The raw inside of the string that starts here. */
static bool take_string(struct scan *s, struct pst_bytes *raw)
{
    size_t from = ++s->at; /* behind the quote */

    for (; s->at < s->text.len; s->at++) {
        if (s->text.ptr[s->at] == '\\')
            s->at++;
        else if (s->text.ptr[s->at] == '"') {
            *raw = pst_bytes_of(s->text.ptr + from, s->at - from);
            s->at++;
            return true;
        }
    }
    return false;
}

/* Over any value: to the comma or the brace that ends the member. */
static bool skip_value(struct scan *s)
{
    unsigned depth = 0;
    struct pst_bytes raw;

    for (char c = next_char(s); c != '\0'; c = next_char(s)) {
        if (c == '"') {
            if (!take_string(s, &raw))
                return false;
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}'))
            return true;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--; /* not below 0: a `}` at 0 has returned, a `]` ends the walk */
        if (depth == UINT32_MAX)
            return false;
        s->at++;
    }
    return false;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One escape of raw at `at` (behind the backslash): its ASCII character, or 0. Moves `at` to the
 * escape's last character. */
static char simple_escape(struct pst_bytes raw, size_t *at)
{
    if (*at >= raw.len)
        return '\0';
    if (raw.ptr[*at] == '/' || raw.ptr[*at] == '"' || raw.ptr[*at] == '\\')
        return raw.ptr[*at];
    if (raw.ptr[*at] != 'u' || raw.len - *at < 5 || raw.ptr[*at + 1] != '0' ||
        raw.ptr[*at + 2] != '0')
        return '\0';
    int high = hex_value(raw.ptr[*at + 3]), low = hex_value(raw.ptr[*at + 4]);
    *at += 4;
    return high < 0 || high > 7 || low < 0 ? '\0' : (char)(high * 16 + low);
}

static bool unescape(struct pst_bytes raw, char *out, size_t cap, size_t *len)
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++, n++) {
        char c = raw.ptr[i];
        if (c == '\\') {
            i++;
            c = simple_escape(raw, &i);
        }
        if (c == '\0' || n == cap)
            return false;
        out[n] = c;
    }
    *len = n;
    return true;
}

/* A name may be written in escapes like any other string. */
static bool is_name(struct pst_bytes raw, struct pst_bytes name)
{
    char plain[64];
    size_t len;

    if (pst_bytes_find(raw, '\\') == raw.len)
        return pst_bytes_equal(raw, name);
    return unescape(raw, plain, sizeof(plain), &len) &&
           pst_bytes_equal(pst_bytes_of(plain, len), name);
}

enum pst_peek pst_json_peek(struct pst_bytes text, struct pst_bytes name, char *out, size_t cap,
                            size_t *len)
{
    struct scan s = {.text = text};
    struct pst_bytes key, value;

    *len = 0;
    if (next_char(&s) != '{')
        return PST_PEEK_MALFORMED;
    s.at++;
    if (next_char(&s) == '}')
        return PST_PEEK_ABSENT;
    for (;;) {
        if (next_char(&s) != '"' || !take_string(&s, &key) || next_char(&s) != ':')
            return PST_PEEK_MALFORMED;
        s.at++;
        if (is_name(key, name)) {
            if (next_char(&s) != '"')
                return PST_PEEK_OTHER;
            if (!take_string(&s, &value))
                return PST_PEEK_MALFORMED;
            return unescape(value, out, cap, len) ? PST_PEEK_STRING : PST_PEEK_OTHER;
        }
        if (!skip_value(&s))
            return PST_PEEK_MALFORMED;
        if (text.ptr[s.at++] == '}')
            return PST_PEEK_ABSENT;
    }
}
