/*
 * A field is looked at when its line is whole, the head when all of them are: framing, Host, and
 * what becomes of the connection.
 */
#include "chars_internal.h"
#include "h1_internal.h"
#include "host_internal.h"

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

enum pst_h1_result pst_h1_fail_(struct pst_h1_parser *p, uint16_t status, const char *reason)
{
    p->fault.status = p->response_ ? 502 : status;
    p->fault.reason = reason;
    p->state_ = S_FAILED;
    return PST_H1_FAIL;
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

/* Apart, as take_other_host: what they need would cost every head a guarded stack. */
static __attribute__((noinline)) bool take_connection(struct pst_h1_parser *p,
                                                      struct pst_head *head, struct pst_bytes value)
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
        return pst_h1_fail_(p, 400, "more than one Content-Length");
    if ((p->seen_ & SEEN_CHUNKED) != 0)
        return pst_h1_fail_(p, 400, "Content-Length beside Transfer-Encoding");
    if (!pst_bytes_u63(value, &head->content_length))
        return pst_h1_fail_(p, 400, "Content-Length is no number of 1 to 19 digits");
    if (p->limits.body_bytes != 0 && head->content_length > p->limits.body_bytes)
        return pst_h1_fail_(p, 413, "body above the limit");
    head->has_length = true;
    return PST_H1_MORE;
}

static enum pst_h1_result take_coding(struct pst_h1_parser *p, const struct pst_head *head,
                                      struct pst_bytes value)
{
    if (!once(p, SEEN_CHUNKED))
        return pst_h1_fail_(p, 400, "more than one Transfer-Encoding");
    if ((p->seen_ & SEEN_LENGTH) != 0)
        return pst_h1_fail_(p, 400, "Transfer-Encoding beside Content-Length");
    if (head->version_minor == 0)
        return pst_h1_fail_(p, 400, "Transfer-Encoding in HTTP/1.0");
    if (!pst_bytes_equal_nocase(value, PST_LIT("chunked")))
        return pst_h1_fail_(p, 400, "Transfer-Encoding is not chunked");
    return PST_H1_MORE;
}

static __attribute__((noinline)) enum pst_h1_result
take_other_host(struct pst_h1_parser *p, struct pst_head *head, struct pst_bytes value)
{
    char space[PST_HOST_MAX];
    struct pst_host host;

    if (!pst_host_parse(value, space, &host))
        return pst_h1_fail_(p, 400, "Host is not valid");
    head->host = value;
    if (pst_bytes_equal(host.text, value)) {
        head->host_name_len = (uint16_t)host.name.len;
        head->host_port = host.port;
    }
    return PST_H1_MORE;
}

static enum pst_h1_result take_host(struct pst_h1_parser *p, struct pst_head *head,
                                    struct pst_bytes value)
{
    if (p->response_)
        return PST_H1_MORE;
    if (!once(p, SEEN_HOST))
        return pst_h1_fail_(p, 400, "more than one Host");
    if (!is_canonical_host(value))
        return take_other_host(p, head, value);
    head->host = value;
    head->host_name_len = (uint16_t)value.len;
    return PST_H1_MORE;
}

enum pst_h1_result pst_h1_take_known_(struct pst_h1_parser *p, struct pst_head *head,
                                      enum pst_field_id id, struct pst_bytes value)
{
    if (id == PST_FIELD_HOST)
        return take_host(p, head, value);
    if (id == PST_FIELD_CONTENT_LENGTH)
        return take_length(p, head, value);
    if (id == PST_FIELD_TRANSFER_ENCODING)
        return take_coding(p, head, value);
    if (id == PST_FIELD_CONNECTION && !take_connection(p, head, value))
        return pst_h1_fail_(p, 400, "Connection is no list of tokens");
    if (id == PST_FIELD_UPGRADE && !once(p, SEEN_UPGRADE))
        return pst_h1_fail_(p, 400, "more than one Upgrade");
    if (id == PST_FIELD_EXPECT &&
        (!once(p, SEEN_EXPECT) || !pst_bytes_equal_nocase(value, PST_LIT("100-continue"))))
        p->seen_ |= SAYS_OTHER_EXPECT; /* 417 is for heads that are correct otherwise */
    return PST_H1_MORE;
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
        return pst_h1_fail_(p, 400, "websocket handshake is not complete");
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
        return pst_h1_fail_(p, 400, "no Host");
    if ((p->seen_ & SAYS_OTHER_EXPECT) != 0)
        return pst_h1_fail_(p, 417, "expectation other than one 100-continue");
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
        return pst_h1_fail_(p, 502, "a body with a status that has none");
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

enum pst_h1_result pst_h1_finish_(struct pst_h1_parser *p, struct pst_head *head)
{
    head->size = p->at_;
    return p->response_ ? finish_response(p, head) : finish_request(p, head);
}
