/*
 * One loop over the states below; each state scans its own kind of bytes and stops at the first
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

#include "postern/http/host.h"
#include "postern/http/target.h"

#define METHOD_MAX 24

enum state {
    S_START,
    S_START_LF,
    S_METHOD,
    S_TARGET,
    S_VERSION,
    S_R_STATUS,
    S_R_REASON,
    S_LINE_LF,
    S_LINE,
    S_NAME,
    S_VALUE,
    S_VALUE_LF,
    S_END_LF,
    S_DONE,
    S_FAILED,
};

/* What the fields so far have said: bits of parser->seen_. */
enum {
    SEEN_HOST = 1 << 0,
    SEEN_LENGTH = 1 << 1,
    SEEN_CHUNKED = 1 << 2,
    SEEN_EXPECT = 1 << 3,
    SEEN_UPGRADE = 1 << 4,
    SAYS_CLOSE = 1 << 5,
    SAYS_KEEP_ALIVE = 1 << 6,
    SAYS_UPGRADE = 1 << 7,
    SAYS_OTHER_EXPECT = 1 << 8, /* than 100-continue, once */
};

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

static enum pst_h1_result fail(struct pst_h1_parser *p, uint16_t status, const char *reason)
{
    p->fault.status = p->response_ ? 502 : status;
    p->fault.reason = reason;
    p->state_ = S_FAILED;
    return PST_H1_FAIL;
}

/* A byte that may not stand where it stands; `otherwise` if it is of no bad kind of its own. */
static enum pst_h1_result fail_byte(struct pst_h1_parser *p, char c, const char *otherwise)
{
    unsigned char u = (unsigned char)c;

    return fail(p, 400,
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
    memset(head->known, 0, sizeof(head->known));
}

/* --- what single fields say ---------------------------------------------------------------- */

static bool once(struct pst_h1_parser *p, unsigned bit)
{
    bool first = (p->seen_ & bit) == 0;

    p->seen_ = (uint16_t)(p->seen_ | bit);
    return first;
}

static bool is_token(struct pst_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!char_is(text.ptr[i], CHAR_TOKEN))
            return false;
    return text.len > 0;
}

static bool take_connection(struct pst_h1_parser *p, struct pst_head *head, struct pst_bytes value)
{
    struct pst_bytes option;

    while (pst_list_next(&value, &option)) {
        unsigned says = 0;

        if (pst_bytes_equal_nocase(option, PST_LIT("keep-alive")))
            says = SAYS_KEEP_ALIVE;
        else if (pst_bytes_equal_nocase(option, PST_LIT("close")))
            says = SAYS_CLOSE;
        else if (pst_bytes_equal_nocase(option, PST_LIT("upgrade")))
            says = SAYS_UPGRADE;
        else if (!is_token(option))
            return false;
        else if (!pst_bytes_equal_nocase(option, PST_LIT("te")))
            head->connection_names = true;
        p->seen_ = (uint16_t)(p->seen_ | says);
    }
    return true;
}

static enum pst_h1_result take_length(struct pst_h1_parser *p, struct pst_head *head,
                                      struct pst_bytes value)
{
    if (!once(p, SEEN_LENGTH))
        return fail(p, 400, "more than one Content-Length");
    if ((p->seen_ & SEEN_CHUNKED) != 0)
        return fail(p, 400, "Content-Length beside Transfer-Encoding");
    if (!pst_bytes_u63(value, &head->content_length))
        return fail(p, 400, "Content-Length is no number of 1 to 19 digits");
    if (p->limits.body_bytes != 0 && head->content_length > p->limits.body_bytes)
        return fail(p, 413, "body above the limit");
    head->has_length = true;
    return PST_H1_MORE;
}

static enum pst_h1_result take_coding(struct pst_h1_parser *p, const struct pst_head *head,
                                      struct pst_bytes value)
{
    if (!once(p, SEEN_CHUNKED))
        return fail(p, 400, "more than one Transfer-Encoding");
    if ((p->seen_ & SEEN_LENGTH) != 0)
        return fail(p, 400, "Transfer-Encoding beside Content-Length");
    if (head->version_minor == 0)
        return fail(p, 400, "Transfer-Encoding in HTTP/1.0");
    if (!pst_bytes_equal_nocase(value, PST_LIT("chunked")))
        return fail(p, 400, "Transfer-Encoding is not chunked");
    return PST_H1_MORE;
}

/* Apart, so that its room does not cost every field a guarded stack. */
__attribute__((noinline)) static enum pst_h1_result
take_host(struct pst_h1_parser *p, struct pst_head *head, struct pst_bytes value)
{
    char space[PST_HOST_MAX];
    struct pst_host host;

    if (p->response_)
        return PST_H1_MORE;
    if (!once(p, SEEN_HOST))
        return fail(p, 400, "more than one Host");
    if (!pst_host_parse(value, space, &host))
        return fail(p, 400, "Host is not valid");
    head->host = value;
    if (pst_bytes_equal(host.text, value)) {
        head->host_name_len = (uint16_t)host.name.len;
        head->host_port = host.port;
    }
    return PST_H1_MORE;
}

static enum pst_h1_result take_known(struct pst_h1_parser *p, struct pst_head *head,
                                     enum pst_field_id id, struct pst_bytes value)
{
    if (id == PST_FIELD_HOST)
        return take_host(p, head, value);
    if (id == PST_FIELD_CONTENT_LENGTH)
        return take_length(p, head, value);
    if (id == PST_FIELD_TRANSFER_ENCODING)
        return take_coding(p, head, value);
    if (id == PST_FIELD_CONNECTION && !take_connection(p, head, value))
        return fail(p, 400, "Connection is no list of tokens");
    if (id == PST_FIELD_UPGRADE && !once(p, SEEN_UPGRADE))
        return fail(p, 400, "more than one Upgrade");
    if (id == PST_FIELD_EXPECT &&
        (!once(p, SEEN_EXPECT) || !pst_bytes_equal_nocase(value, PST_LIT("100-continue"))))
        p->seen_ |= SAYS_OTHER_EXPECT; /* 417 is for heads that are correct otherwise */
    return PST_H1_MORE;
}

/* The field at head->count is whole. Most fields say nothing to the parser. */
static inline enum pst_h1_result take_field(struct pst_h1_parser *p, struct pst_head *head,
                                            enum pst_field_id id)
{
    static const bool says_something[PST_FIELD_COUNT] = {
        [PST_FIELD_HOST] = true,
        [PST_FIELD_CONTENT_LENGTH] = true,
        [PST_FIELD_TRANSFER_ENCODING] = true,
        [PST_FIELD_CONNECTION] = true,
        [PST_FIELD_UPGRADE] = true,
        [PST_FIELD_EXPECT] = true,
    };
    size_t at = head->count++;

    head->known[id / 64] |= UINT64_C(1) << (id % 64);
    return says_something[id] ? take_known(p, head, id, head->fields[at].value) : PST_H1_MORE;
}

/* --- what the whole head says -------------------------------------------------------------- */

static bool is_base64(char c)
{
    return (pst_lower(c) >= 'a' && pst_lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* 16 bytes in base64. */
static bool is_websocket_key(struct pst_bytes key)
{
    if (key.len != 24 || key.ptr[22] != '=' || key.ptr[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!is_base64(key.ptr[i]))
            return false;
    return true;
}

static bool is_handshake(const struct pst_head *head)
{
    struct pst_bytes key, version;

    return head->method == PST_METHOD_GET && head->framing != PST_FRAMING_CHUNKED &&
           head->content_length == 0 &&
           pst_head_only(head, PST_FIELD_SEC_WEBSOCKET_KEY, &key, NULL) && is_websocket_key(key) &&
           pst_head_only(head, PST_FIELD_SEC_WEBSOCKET_VERSION, &version, NULL) &&
           pst_bytes_equal(version, PST_LIT("13"));
}

static enum pst_h1_result finish_upgrade(struct pst_h1_parser *p, struct pst_head *head)
{
    struct pst_bytes protocols, protocol;

    if ((p->seen_ & SEEN_UPGRADE) == 0 || (p->seen_ & SAYS_UPGRADE) == 0 ||
        head->version_minor == 0)
        return PST_H1_DONE;
    head->upgrade = PST_UPGRADE_OTHER;
    protocols = head->fields[pst_head_find(head, PST_FIELD_UPGRADE, 0)].value;
    while (pst_list_next(&protocols, &protocol))
        if (pst_bytes_equal_nocase(protocol, PST_LIT("websocket")))
            head->upgrade = PST_UPGRADE_WEBSOCKET;
    if (head->upgrade == PST_UPGRADE_WEBSOCKET && !is_handshake(head))
        return fail(p, 400, "websocket handshake is not complete");
    return PST_H1_DONE;
}

static void finish_keep_alive(const struct pst_h1_parser *p, struct pst_head *head)
{
    head->keep_alive = (p->seen_ & SAYS_CLOSE) == 0 &&
                       (head->version_minor == 1 || (p->seen_ & SAYS_KEEP_ALIVE) != 0);
}

static enum pst_h1_result finish_request(struct pst_h1_parser *p, struct pst_head *head)
{
    if ((p->seen_ & SEEN_HOST) == 0)
        return fail(p, 400, "no Host");
    if ((p->seen_ & SAYS_OTHER_EXPECT) != 0)
        return fail(p, 417, "expectation other than one 100-continue");
    if ((p->seen_ & SEEN_CHUNKED) != 0)
        head->framing = PST_FRAMING_CHUNKED;
    else if ((p->seen_ & SEEN_LENGTH) != 0)
        head->framing = PST_FRAMING_LENGTH;
    head->expect_continue = (p->seen_ & SEEN_EXPECT) != 0 && head->version_minor == 1 &&
                            (head->framing == PST_FRAMING_CHUNKED || head->content_length > 0);
    finish_keep_alive(p, head);
    return finish_upgrade(p, head);
}

static enum pst_h1_result finish_response(struct pst_h1_parser *p, struct pst_head *head)
{
    bool bare = head->status < 200 || head->status == 204;

    if (bare && ((p->seen_ & SEEN_CHUNKED) != 0 || head->content_length > 0))
        return fail(p, 502, "a body with a status that has none");
    finish_keep_alive(p, head);
    if (bare || head->status == 304 || p->asked_ == PST_METHOD_HEAD) {
        head->framing = PST_FRAMING_NONE;
    } else if ((p->seen_ & SEEN_CHUNKED) != 0) {
        head->framing = PST_FRAMING_CHUNKED;
    } else if ((p->seen_ & SEEN_LENGTH) != 0) {
        head->framing = PST_FRAMING_LENGTH;
    } else {
        head->framing = PST_FRAMING_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    if (head->status == 101) {
        size_t at = pst_head_find(head, PST_FIELD_UPGRADE, 0);
        bool websocket = (p->seen_ & SAYS_UPGRADE) != 0 && at < head->count &&
                         pst_bytes_equal_nocase(head->fields[at].value, PST_LIT("websocket"));
        head->upgrade = websocket ? PST_UPGRADE_WEBSOCKET : PST_UPGRADE_OTHER;
    }
    return PST_H1_DONE;
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

    while (at < end && *at >= 'A' && *at <= 'Z')
        at++;
    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, METHOD_MAX))
        return fail(p, 501, "method is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at != ' ' && char_is(*at, CHAR_TOKEN) && (*at < 'a' || *at > 'z'))
        return fail(p, 501, "method is no word of capital letters");
    if (*at != ' ' || p->at_ == p->mark_)
        return fail_byte(p, *at, "method is no word of capital letters");

    head->method_text = pst_bytes_of(in.start + p->mark_, p->at_ - p->mark_);
    head->method = pst_method_of(head->method_text);
    if (head->method == PST_METHOD_CONNECT || head->method == PST_METHOD_TRACE ||
        head->method == PST_METHOD_TRACK)
        return fail(p, 405, "method is refused everywhere");
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
        return fail(p, 400, fault.reason);
    return fail(p, 414, "target is too long");
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
        return fail(p, 400, "no version in the request line");
    if (*at != ' ')
        return fail_byte(p, *at, "byte above ASCII in the target");
    if (p->at_ == p->mark_)
        return fail(p, 400, "two blanks in the request line");
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
                return fail(p, 505, "version is not HTTP/1.0 or HTTP/1.1");
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
                return fail(p, 502, "status is not 100 to 599");
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
    const char *at = skip_text(in.start + p->at_, scan_end(p, in, p->limits.field_bytes));

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->limits.field_bytes))
        return fail(p, 502, "reason is too long");
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
        return fail(p, 400, "blank at the start of a line");
    if (*at == ':')
        return fail(p, 400, "field without a name");
    if (head->count == p->limits.fields)
        return fail(p, 431, "too many fields");
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
        return fail(p, 431, "field is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at == '\r')
        return fail(p, 400, "line without a colon");
    if (*at == ' ' || *at == '\t')
        return fail(p, 400, "blank in a field name");
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
    const char *at = skip_text(in.start + p->at_, scan_end(p, in, p->line_max_));

    p->at_ = (uint32_t)(at - in.start);
    if (is_beyond(p, in, at, p->line_max_))
        return fail(p, 431, "field is too long");
    if (at == in.end)
        return PST_H1_MORE;
    if (*at != '\r')
        return fail_byte(p, *at, "control byte");
    head->fields[head->count].value =
        pst_bytes_trim(pst_bytes_of(in.start + p->value_, p->at_ - p->value_));
    enter(p, in, at + 1, S_VALUE_LF);
    return PST_H1_DONE;
}

/* A value without the blanks around it; nearly always there is one in front. */
static inline struct pst_bytes value_between(const char *from, const char *end)
{
    if (from < end && *from == ' ')
        from++;
    if (from < end && (unsigned char)*from > ' ' && (unsigned char)end[-1] > ' ')
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

/* Lines that are whole and as they should be, one after the other, without the states between their
 * parts: nearly every head comes in one piece. The first that is not is left to the states, which
 * know what to wait for or to say; p stands at its beginning. */
static enum pst_h1_result read_whole_lines(struct pst_h1_parser *p, struct input in,
                                           struct pst_head *head)
{
    const char *line = in.start + p->at_;
    size_t least = least_limit(&p->limits);

    while (head->count < p->limits.fields) {
        struct pst_field *field = &head->fields[head->count];
        const char *colon = skip_token(line, in.end);
        if (colon == in.end || *colon != ':' || colon == line)
            break;
        const char *end = skip_text(colon + 1, in.end);
        if (in.end - end < 2 || end[0] != '\r' || end[1] != '\n')
            break;

        field->name = pst_bytes_of(line, (size_t)(colon - line));
        enum pst_field_id id = pst_field_id_of(field->name);
        if ((size_t)(end - line) > least &&
            is_too_long(&p->limits, id, field->name.len, (size_t)(end - line)))
            break;
        field->value = value_between(colon + 1, end);
        head->ids[head->count] = (uint8_t)id;
        line = end + 2;
        if (take_field(p, head, id) == PST_H1_FAIL)
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
        return fail(p, 400, "carriage return without line feed");
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

static enum pst_h1_result finish(struct pst_h1_parser *p, struct pst_head *head)
{
    head->size = p->at_;
    return p->response_ ? finish_response(p, head) : finish_request(p, head);
}

/* One step in the present state: DONE if it was left, else MORE or FAIL. The states of a field,
 * which nearly always follow each other, are one step. */
static enum pst_h1_result step(struct pst_h1_parser *p, struct input in, struct pst_head *head)
{
    enum pst_h1_result got;

    switch ((enum state)p->state_) {
    case S_START:
        return read_start(p, in);
    case S_START_LF:
        return read_lf(p, in, S_METHOD);
    case S_METHOD:
        return read_method(p, in, head);
    case S_TARGET:
        return read_target(p, in, head);
    case S_VERSION:
        return read_version(p, in, head);
    case S_R_STATUS:
        return read_status(p, in, head);
    case S_R_REASON:
        return read_reason(p, in, head);
    case S_LINE_LF:
        return read_lf(p, in, S_LINE);
    case S_LINE:
        got = read_whole_lines(p, in, head);
        if (got != PST_H1_DONE)
            return got;
        got = read_line(p, in, head);
        if (got != PST_H1_DONE || p->state_ != S_NAME)
            return got;
        __attribute__((fallthrough));
    case S_NAME:
        got = read_name(p, in, head);
        if (got != PST_H1_DONE)
            return got;
        __attribute__((fallthrough));
    case S_VALUE:
        got = read_value(p, in, head);
        if (got != PST_H1_DONE)
            return got;
        __attribute__((fallthrough));
    case S_VALUE_LF:
        got = read_lf(p, in, S_LINE);
        return got == PST_H1_DONE && take_field(p, head, head->ids[head->count]) == PST_H1_FAIL
                   ? PST_H1_FAIL
                   : got;
    case S_END_LF:
        return read_lf(p, in, S_DONE);
    case S_DONE:
    case S_FAILED:
        break;
    }
    return PST_H1_FAIL;
}

enum pst_h1_result pst_h1_parse(struct pst_h1_parser *parser, struct pst_bytes input,
                                struct pst_head *head)
{
    bool whole = input.len <= parser->limits.head_bytes;
    struct input in = {.start = input.ptr,
                       .end = input.ptr + (whole ? input.len : parser->limits.head_bytes)};
    enum pst_h1_result got = PST_H1_DONE;

    if (input.len == 0)
        return parser->state_ == S_FAILED ? PST_H1_FAIL : PST_H1_MORE;
    if (parser->base_ == 0)
        clear_head(head);
    else if (parser->base_ != (uintptr_t)input.ptr)
        move_head(parser, head, input.ptr);
    parser->base_ = (uintptr_t)input.ptr;

    while (got == PST_H1_DONE && parser->state_ != S_DONE)
        got = step(parser, in, head);
    if (got == PST_H1_DONE)
        return finish(parser, head);
    if (got == PST_H1_MORE && input.len >= parser->limits.head_bytes)
        return fail(parser, 431, "head is too large");
    return got;
}
