/*
 * One way through the states below; each state scans its own kind of bytes and stops at the first
 * that is of another kind. What was seen is never looked at again (but for the line that a piece of
 * input ends in: twice): `at_` is the next byte, `mark_` the start of the word or line that `at_`
 * is in.
 *
 *   START -> [START_LF] -> METHOD -> TARGET -> VERSION ---------------.
 *                          R_VERSION -> R_STATUS -> R_REASON ---------+-> LINE_LF -> LINE
 *   LINE -> NAME -> VALUE -> LINE_LF -> LINE                          |
 *   LINE -> END_LF -> DONE
 *
 * Limits are applied by shortening what a scan may see to one byte more than the limit: whoever
 * reaches that end has gone too far. So the fault does not depend on how the input was cut.
 */
#include "postern/http/h1.h"

#include "chars_internal.h"
#include "h1_internal.h"
#include "message_internal.h"

#include "postern/http/target.h"

#define METHOD_MAX 24

const struct pst_h1_limits pst_h1_limits_default = {
    .head_bytes = 32768,
    .field_bytes = 8192,
    .authorization_bytes = 16384,
    .cookie_bytes = 16384,
    .fields = PST_FIELDS_MAX,
    .target_bytes = 8192,
    .body_bytes = 0,
};

static void init_parser(struct pst_h1_parser *p, const struct pst_h1_limits *limits)
{
    *p = (struct pst_h1_parser){.limits = *limits};
    if (p->limits.fields > PST_FIELDS_MAX)
        p->limits.fields = PST_FIELDS_MAX;
}

void pst_h1_init_request(struct pst_h1_parser *parser, const struct pst_h1_limits *limits)
{
    init_parser(parser, limits);
    parser->state_ = S_START;
}

void pst_h1_init_response(struct pst_h1_parser *parser, const struct pst_h1_limits *limits,
                          enum pst_method asked)
{
    init_parser(parser, limits);
    parser->state_ = S_VERSION;
    parser->asked_ = asked;
    parser->response_ = true;
}

/* A byte that may not stand where it stands; `otherwise` if it is of no bad kind of its own. */
static enum pst_h1_result fail_byte(struct pst_h1_parser *p, char c, const char *otherwise)
{
    unsigned char u = (unsigned char)c;

    return pst_h1_fail_(p, 400,
                        u == '\n'               ? "line feed without carriage return"
                        : u == '\r'             ? "carriage return without line feed"
                        : u == 0                ? "NUL byte"
                        : u < 0x20 || u == 0x7f ? "control byte"
                                                : otherwise);
}

/* The buffer moved: so do the texts. */
static void move_text(struct pst_bytes *text, uintptr_t from, const char *to)
{
    if (text->ptr != NULL)
        text->ptr = to + ((uintptr_t)text->ptr - from);
}

static void move_head(const struct pst_h1_parser *p, struct pst_head *head, const char *to)
{
    uintptr_t from = p->base_;
    bool begun = p->state_ == S_VALUE || p->state_ == S_VALUE_LF; /* one more has its name */

    move_text(&head->method_text, from, to);
    move_text(&head->target, from, to);
    move_text(&head->host, from, to);
    move_text(&head->reason, from, to);
    for (size_t i = 0; i < head->count + (begun ? 1 : 0); i++) {
        move_text(&head->fields[i].name, from, to);
        move_text(&head->fields[i].value, from, to);
    }
}

static void clear_head(struct pst_head *head)
{
    head->method = PST_METHOD_OTHER;
    head->method_text = head->target = head->host = head->reason = (struct pst_bytes){0};
    head->status = 0;
    head->version_minor = 0;
    head->framing = PST_FRAMING_NONE;
    head->has_length = false;
    head->content_length = 0;
    head->keep_alive = head->expect_continue = head->connection_names = false;
    head->host_name_len = head->host_port = 0;
    head->upgrade = PST_UPGRADE_NONE;
    head->size = head->count = 0;
    memset(head->last, 0, sizeof(head->last));
}

/* The field at `at`, which is head->count, is whole. Most fields say nothing to the parser. */
static inline enum pst_h1_result take_field(struct pst_h1_parser *p, struct pst_head *head,
                                            size_t at, enum pst_field_id id)
{
    static const bool says_something[PST_FIELD_COUNT] = {
        [PST_FIELD_HOST] = true,
        [PST_FIELD_CONTENT_LENGTH] = true,
        [PST_FIELD_TRANSFER_ENCODING] = true,
        [PST_FIELD_CONNECTION] = true,
        [PST_FIELD_UPGRADE] = true,
        [PST_FIELD_EXPECT] = true,
    };
    head->count = at + 1;
    head->before[at] = head->last[id];
    head->last[id] = (uint8_t)(at + 1);
    return says_something[id] ? pst_h1_take_known_(p, head, id, head->fields[at].value)
                              : PST_H1_MORE;
}

/* --- the states ---------------------------------------------------------------------------- */

/* The input, and how far it may be looked at. */
struct input {
    const char *start, *end;
};

/* One byte past the limit of the word at mark_, or the end of the input. */
static const char *scan_end(const struct pst_h1_parser *p, struct input in, uint32_t max)
{
    size_t rest = (size_t)(in.end - in.start) - p->mark_;

    return rest > max ? in.start + p->mark_ + max + 1 : in.end;
}

static bool is_beyond(const struct pst_h1_parser *p, struct input in, const char *at, uint32_t max)
{
    return (size_t)(at - in.start) - p->mark_ > max;
}

static void enter(struct pst_h1_parser *p, struct input in, const char *at, enum state state)
{
    p->at_ = p->mark_ = (uint32_t)(at - in.start);
    p->state_ = (uint8_t)state;
}

static enum pst_h1_result read_method(struct pst_h1_parser *p, struct input in,
                                      struct pst_head *head)
{
    const char *at = in.start + p->at_, *end = scan_end(p, in, METHOD_MAX);

    /* In one look when it is what it nearly always is. */
    if (p->at_ == p->mark_ && in.end - at >= 4 && memcmp(at, "GET ", 4) == 0) {
        head->method_text = pst_bytes_of(at, 3);
        head->method = PST_METHOD_GET;
        enter(p, in, at + 4, S_TARGET);
        return PST_H1_DONE;
    }

    while (at < end && *at >= 'A' && *at <= 'Z')
        at++;
    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, METHOD_MAX))
        return pst_h1_fail_(p, 501, "method is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at != ' ' && char_is(*at, CHAR_TOKEN) && (*at < 'a' || *at > 'z'))
        return pst_h1_fail_(p, 501, "method is no word of capital letters");
    if (*at != ' ' || p->at_ == p->mark_)
        return fail_byte(p, *at, "method is no word of capital letters");

    head->method_text = pst_bytes_of(in.start + p->mark_, p->at_ - p->mark_);
    head->method = pst_method_of(head->method_text);
    if (head->method == PST_METHOD_CONNECT || head->method == PST_METHOD_TRACE ||
        head->method == PST_METHOD_TRACK)
        return pst_h1_fail_(p, 405, "method is refused everywhere");
    enter(p, in, at + 1, S_TARGET);
    return PST_H1_DONE;
}

/* A target beyond the limit: 414, unless what is seen of its path is refused in any length. */
static enum pst_h1_result fail_long_target(struct pst_h1_parser *p, struct input in,
                                           enum pst_method method)
{
    struct pst_bytes seen = pst_bytes_of(in.start + p->mark_, p->limits.target_bytes);
    struct pst_target target;
    struct pst_fault fault;

    while (seen.len > 1 && seen.ptr[seen.len - 1] != '/')
        seen.len--;
    if (seen.len > 1 && seen.ptr[0] == '/' &&
        !pst_target_parse(method, seen, NULL, NULL, 0, &target, &fault) && fault.status == 400)
        return pst_h1_fail_(p, 400, fault.reason);
    return pst_h1_fail_(p, 414, "target is too long");
}

static enum pst_h1_result read_target(struct pst_h1_parser *p, struct input in,
                                      struct pst_head *head)
{
    const char *at = skip_visible(in.start + p->at_, scan_end(p, in, p->limits.target_bytes));

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->limits.target_bytes))
        return fail_long_target(p, in, head->method);
    if (at == in.end)
        return PST_H1_MORE;
    if (*at == '\r')
        return pst_h1_fail_(p, 400, "no version in the request line");
    if (*at != ' ')
        return fail_byte(p, *at, "byte above ASCII in the target");
    if (p->at_ == p->mark_)
        return pst_h1_fail_(p, 400, "two blanks in the request line");
    head->target = pst_bytes_of(in.start + p->mark_, p->at_ - p->mark_);
    enter(p, in, at + 1, S_VERSION);
    return PST_H1_DONE;
}

/* `HTTP/1.0` or `HTTP/1.1` and the byte that has to follow. */
static enum pst_h1_result read_version(struct pst_h1_parser *p, struct input in,
                                       struct pst_head *head)
{
    static const char text[] = "HTTP/1.1";
    const char after = p->response_ ? ' ' : '\r', *from = in.start + p->mark_;

    /* In one look when it is there as a whole and is what it nearly always is. */
    if (in.end - from >= 9 && memcmp(from, text, 8) == 0 && from[8] == after) {
        head->version_minor = 1;
        enter(p, in, from + 9, p->response_ ? S_R_STATUS : S_LINE_LF);
        return PST_H1_DONE;
    }

    while (p->at_ < (size_t)(in.end - in.start)) {
        char c = in.start[p->at_];
        uint32_t k = p->at_ - p->mark_;

        if (k == 8) {
            const char *v = in.start + p->mark_;

            if (c != after)
                return fail_byte(p, c, "version is not HTTP/1.0 or HTTP/1.1");
            if (v[5] != '1' || v[7] > '1')
                return pst_h1_fail_(p, 505, "version is not HTTP/1.0 or HTTP/1.1");
            head->version_minor = (uint8_t)(v[7] - '0');
            enter(p, in, in.start + p->at_ + 1, p->response_ ? S_R_STATUS : S_LINE_LF);
            return PST_H1_DONE;
        }
        if (k == 5 || k == 7 ? c < '0' || c > '9' : c != text[k])
            return fail_byte(p, c, "version is not HTTP/1.0 or HTTP/1.1");
        p->at_++;
    }
    return PST_H1_MORE;
}

static enum pst_h1_result read_status(struct pst_h1_parser *p, struct input in,
                                      struct pst_head *head)
{
    while (p->at_ < (size_t)(in.end - in.start)) {
        char c = in.start[p->at_];

        if (p->at_ - p->mark_ == 3) {
            if (head->status < 100 || head->status > 599)
                return pst_h1_fail_(p, 502, "status is not 100 to 599");
            /* Without a reason many servers leave the blank out, too. */
            if (c != ' ' && c != '\r')
                return fail_byte(p, c, "status has more than three digits");
            enter(p, in, in.start + p->at_ + 1, c == ' ' ? S_R_REASON : S_LINE_LF);
            return PST_H1_DONE;
        }
        if (c < '0' || c > '9')
            return fail_byte(p, c, "status is not three digits");
        head->status = (uint16_t)(head->status * 10 + (c - '0'));
        p->at_++;
    }
    return PST_H1_MORE;
}

static enum pst_h1_result read_reason(struct pst_h1_parser *p, struct input in,
                                      struct pst_head *head)
{
    const char *from = in.start + p->at_;
    const char *at = skip_text(from, from, scan_end(p, in, p->limits.field_bytes));

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->limits.field_bytes))
        return pst_h1_fail_(p, 502, "reason is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at != '\r')
        return fail_byte(p, *at, "control byte");
    head->reason = pst_bytes_of(in.start + p->mark_, p->at_ - p->mark_);
    enter(p, in, at + 1, S_LINE_LF);
    return PST_H1_DONE;
}

/* The first byte of a line. */
static enum pst_h1_result read_line(struct pst_h1_parser *p, struct input in,
                                    const struct pst_head *head)
{
    const char *at = in.start + p->at_;

    if (at == in.end)
        return PST_H1_MORE;
    if (*at == '\r') {
        enter(p, in, at + 1, S_END_LF);
        return PST_H1_DONE;
    }
    if (*at == ' ' || *at == '\t')
        return pst_h1_fail_(p, 400, "blank at the start of a line");
    if (*at == ':')
        return pst_h1_fail_(p, 400, "field without a name");
    if (head->count == p->limits.fields)
        return pst_h1_fail_(p, 431, "too many fields");
    p->line_max_ = p->limits.field_bytes;
    enter(p, in, at, S_NAME);
    return PST_H1_DONE;
}

static enum pst_h1_result read_name(struct pst_h1_parser *p, struct input in, struct pst_head *head)
{
    const char *at = skip_token(in.start + p->at_, scan_end(p, in, p->line_max_));
    struct pst_field *field = &head->fields[head->count];

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->line_max_))
        return pst_h1_fail_(p, 431, "field is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at == '\r')
        return pst_h1_fail_(p, 400, "line without a colon");
    if (*at == ' ' || *at == '\t')
        return pst_h1_fail_(p, 400, "blank in a field name");
    if (*at != ':')
        return fail_byte(p, *at, "byte that may not stand in a field name");

    field->name = pst_bytes_of(in.start + p->mark_, p->at_ - p->mark_);
    field->value = (struct pst_bytes){0};
    enum pst_field_id id = pst_field_id_of(field->name);
    head->ids[head->count] = (uint8_t)id;
    if (id == PST_FIELD_AUTHORIZATION)
        p->line_max_ = p->limits.authorization_bytes;
    else if (id == PST_FIELD_COOKIE)
        p->line_max_ = p->limits.cookie_bytes;
    p->value_ = ++p->at_;
    p->state_ = S_VALUE;
    return PST_H1_DONE;
}

static enum pst_h1_result read_value(struct pst_h1_parser *p, struct input in,
                                     struct pst_head *head)
{
    const char *from = in.start + p->at_;
    const char *at = skip_text(from, from, scan_end(p, in, p->line_max_));

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->line_max_))
        return pst_h1_fail_(p, 431, "field is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at != '\r')
        return fail_byte(p, *at, "control byte");
    head->fields[head->count].value =
        pst_bytes_trim(pst_bytes_of(in.start + p->value_, p->at_ - p->value_));
    enter(p, in, at + 1, S_VALUE_LF);
    return PST_H1_DONE;
}

/* A value without the blanks around it; nearly always there is one in front. The CR at `end` is no
 * text. */
static inline struct pst_bytes value_between(const char *from, const char *end)
{
    from += *from == ' ';
    if ((unsigned char)*from > ' ' && (unsigned char)end[-1] > ' ')
        return pst_bytes_of(from, (size_t)(end - from));
    return pst_bytes_trim(pst_bytes_of(from, (size_t)(end - from)));
}

static __attribute__((noinline)) bool is_too_long(const struct pst_h1_limits *limits,
                                                  enum pst_field_id id, size_t name, size_t line)
{
    return name > limits->field_bytes ||
           line > (id == PST_FIELD_AUTHORIZATION ? limits->authorization_bytes
                   : id == PST_FIELD_COOKIE      ? limits->cookie_bytes
                                                 : limits->field_bytes);
}

/* A line of no more bytes than this is not too long, whatever it is. */
static size_t least_limit(const struct pst_h1_limits *limits)
{
    uint32_t least = limits->field_bytes;

    if (limits->authorization_bytes < least)
        least = limits->authorization_bytes;
    return limits->cookie_bytes < least ? limits->cookie_bytes : least;
}

/* The parts of a field, as they were found in a line. */
struct parts {
    size_t name;     /* its length */
    const char *end; /* behind the value */
    enum pst_field_id id;
};

#ifdef __SSE2__
/* In one look when the colon is within 32 bytes, as nearly always. A name that equals a known one
 * is a token. False: to be looked at byte by byte. */
static inline bool split_near(const char *line, const char *end, struct parts *out)
{
    const __m128i colon = _mm_set1_epi8(':'), small = _mm_set1_epi8(0x20);
    __m128i a = load16(line), b = load16(line + 16);
    uint32_t colons = mask32(_mm_cmpeq_epi8(a, colon), _mm_cmpeq_epi8(b, colon));
    uint32_t rare = rare32(a, b);
    uint32_t name = colons ^ (colons - 1); /* with its colon */

    if (colons == 0 || (rare & name) != 0)
        return false;
    out->name = (unsigned)__builtin_ctz(colons);
    out->id = pst_name_candidate(line, out->name);
    const __m128i *row = (const __m128i *)(const void *)pst_name_rows_[out->id];
    uint32_t same = mask32(_mm_cmpeq_epi8(_mm_or_si128(a, small), row[0]),
                           _mm_cmpeq_epi8(_mm_or_si128(b, small), row[1]));
    if ((~same & name) != 0) {
        out->id = PST_FIELD_OTHER;
        if (name == 1 || ((~mask32(find_alnum(a, small), find_alnum(b, small)) & name >> 1) != 0 &&
                          skip_token(line, line + out->name) != line + out->name))
            return false;
    }
    out->end = line + (rare != 0 ? (unsigned)__builtin_ctz(rare) : 32);
    if (rare == 0 || *out->end != '\r')
        out->end = skip_text(line, out->end, end);
    return true;
}
#endif

static bool split_far(const char *line, const char *end, struct parts *out)
{
    const char *colon = skip_token(line, end);

    if (colon == end || *colon != ':' || colon == line)
        return false;
    out->name = (size_t)(colon - line);
    out->id = pst_field_id_of(pst_bytes_of(line, out->name));
    out->end = skip_text(line, colon + 1, end);
    return true;
}

static inline bool split_line(const char *line, const char *end, struct parts *out)
{
#ifdef __SSE2__
    if (end - line >= 32 && split_near(line, end, out))
        return true;
#endif
    return line < end && *line != '\r' && split_far(line, end, out);
}

/* Lines that are whole and as they should be, one after the other, without the states between their
 * parts: nearly every head comes in one piece. The first that is not is left to the states, which
 * know what to wait for or to say; p stands at its beginning. */
static enum pst_h1_result read_whole_lines(struct pst_h1_parser *p, struct input in,
                                           struct pst_head *head)
{
    const char *line = in.start + p->at_, *last_end = in.end - 2;
    size_t least = least_limit(&p->limits), fields = p->limits.fields;
    struct parts parts;

    for (size_t at = head->count; at < fields && split_line(line, in.end, &parts); at++) {
        size_t len = (size_t)(parts.end - line);

        if (parts.end > last_end || memcmp(parts.end, "\r\n", 2) != 0 ||
            (len > least && is_too_long(&p->limits, parts.id, parts.name, len)))
            break;
        head->ids[at] = (uint8_t)parts.id;
        head->fields[at].name = pst_bytes_of(line, parts.name);
        head->fields[at].value = value_between(line + parts.name + 1, parts.end);
        line = parts.end + 2;
        if (take_field(p, head, at, parts.id) == PST_H1_FAIL)
            return PST_H1_FAIL;
    }
    enter(p, in, line, S_LINE);
    return PST_H1_DONE;
}

static enum pst_h1_result read_lf(struct pst_h1_parser *p, struct input in, enum state next)
{
    const char *at = in.start + p->at_;

    if (at == in.end)
        return PST_H1_MORE;
    if (*at != '\n')
        return pst_h1_fail_(p, 400, "carriage return without line feed");
    enter(p, in, at + 1, next);
    return PST_H1_DONE;
}

static enum pst_h1_result read_start(struct pst_h1_parser *p, struct input in)
{
    const char *at = in.start + p->at_;

    if (at == in.end)
        return PST_H1_MORE;
    if (*at == '\r') /* one empty line, which old clients send behind a body */
        enter(p, in, at + 1, S_START_LF);
    else
        enter(p, in, at, S_METHOD);
    return PST_H1_DONE;
}

/* Up to the line feed behind the first line. */
static enum pst_h1_result read_first_line(struct pst_h1_parser *p, struct input in,
                                          struct pst_head *head)
{
    enum pst_h1_result got = PST_H1_DONE;

    if (p->state_ == S_START)
        got = read_start(p, in);
    if (got == PST_H1_DONE && p->state_ == S_START_LF)
        got = read_lf(p, in, S_METHOD);
    if (got == PST_H1_DONE && p->state_ == S_METHOD)
        got = read_method(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_TARGET)
        got = read_target(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_VERSION)
        got = read_version(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_R_STATUS)
        got = read_status(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_R_REASON)
        got = read_reason(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_LINE_LF)
        got = read_lf(p, in, S_LINE);
    return got;
}

/* One field, or the end. */
static enum pst_h1_result read_field(struct pst_h1_parser *p, struct input in,
                                     struct pst_head *head)
{
    enum pst_h1_result got = PST_H1_DONE;

    if (p->state_ == S_LINE)
        got = read_whole_lines(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_LINE)
        got = read_line(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_NAME)
        got = read_name(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_VALUE)
        got = read_value(p, in, head);
    if (got == PST_H1_DONE && p->state_ == S_VALUE_LF) {
        got = read_lf(p, in, S_LINE);
        if (got == PST_H1_DONE)
            got = take_field(p, head, head->count, head->ids[head->count]) == PST_H1_FAIL
                      ? PST_H1_FAIL
                      : PST_H1_DONE;
    }
    if (got == PST_H1_DONE && p->state_ == S_END_LF)
        got = read_lf(p, in, S_DONE);
    return got;
}

enum pst_h1_result pst_h1_parse(struct pst_h1_parser *parser, struct pst_bytes input,
                                struct pst_head *head)
{
    bool whole = input.len <= parser->limits.head_bytes;
    struct input in = {.start = input.ptr,
                       .end = input.ptr + (whole ? input.len : parser->limits.head_bytes)};
    enum pst_h1_result got = PST_H1_DONE;

    if (parser->state_ == S_FAILED)
        return PST_H1_FAIL;
    if (input.len == 0)
        return PST_H1_MORE;
    if (parser->base_ == 0)
        clear_head(head);
    else if (parser->base_ != (uintptr_t)input.ptr)
        move_head(parser, head, input.ptr);
    parser->base_ = (uintptr_t)input.ptr;

    if (parser->state_ <= S_LINE_LF)
        got = read_first_line(parser, in, head);
    while (got == PST_H1_DONE && parser->state_ != S_DONE)
        got = read_field(parser, in, head);
    if (got == PST_H1_DONE)
        return pst_h1_finish_(parser, head);
    if (got == PST_H1_MORE && input.len >= parser->limits.head_bytes)
        return pst_h1_fail_(parser, 431, "head is too large");
    return got;
}
