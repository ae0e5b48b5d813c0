/*
 * message.h - the head of one HTTP message, as every part after the parser sees it.
 *
 * Purpose  One form for requests and responses. What stands in a pst_head has passed the parser:
 *          names are tokens, values hold no CTL but HTAB and no blanks at their ends, there is one
 *          framing and (in requests) one valid Host.
 *
 * Memory   Plain data. All texts point into the buffer that was parsed and live as long as it.
 *
 * Cost     A field that the code asks for has an id; asking is a look or two, unless there are
 *          several: then one compare per field.
 */
#ifndef POSTERN_HTTP_MESSAGE_H
#define POSTERN_HTTP_MESSAGE_H

#include "postern/base/bytes.h"
#include "postern/base/field.h"

#define PST_FIELDS_MAX 100

enum pst_method {
    PST_METHOD_OTHER = 0, /* capitals, but none of these: 405 or 501 */
    PST_METHOD_GET,
    PST_METHOD_HEAD,
    PST_METHOD_POST,
    PST_METHOD_PUT,
    PST_METHOD_PATCH,
    PST_METHOD_DELETE,
    PST_METHOD_OPTIONS,
    PST_METHOD_CONNECT, /* this and the next two: never out of the parser, which refuses them */
    PST_METHOD_TRACE,
    PST_METHOD_TRACK,
    PST_METHOD_PROPFIND,
    PST_METHOD_PROPPATCH,
    PST_METHOD_MKCOL,
    PST_METHOD_COPY,
    PST_METHOD_MOVE,
    PST_METHOD_LOCK,
    PST_METHOD_UNLOCK,
    PST_METHOD_COUNT
};

/*
 * The fields with an id: X(ID, "name", its first letter, its last two letters).
 *
 * Every field of RFC 9110 and RFC 9112 is here, because the filter has to know those names, and so
 * are those that Postern reads, writes or removes by their exact name. The length and the three
 * letters tell them apart: two names that share all four do not compile, and a wrong letter fails
 * the unit test.
 */
#define PST_FIELD_LIST(X)                                                                          \
    X(ACCEPT, "accept", 'a', 'p', 't')                                                             \
    X(ACCEPT_CHARSET, "accept-charset", 'a', 'e', 't')                                             \
    X(ACCEPT_ENCODING, "accept-encoding", 'a', 'n', 'g')                                           \
    X(ACCEPT_LANGUAGE, "accept-language", 'a', 'g', 'e')                                           \
    X(ACCEPT_RANGES, "accept-ranges", 'a', 'e', 's')                                               \
    X(ALLOW, "allow", 'a', 'o', 'w')                                                               \
    X(AUTHENTICATION_INFO, "authentication-info", 'a', 'f', 'o')                                   \
    X(AUTHORIZATION, "authorization", 'a', 'o', 'n')                                               \
    X(BASE_URL, "base-url", 'b', 'r', 'l')                                                         \
    X(CACHE_CONTROL, "cache-control", 'c', 'o', 'l')                                               \
    X(CLOSE, "close", 'c', 's', 'e')                                                               \
    X(CONNECTION, "connection", 'c', 'o', 'n')                                                     \
    X(CONTENT_ENCODING, "content-encoding", 'c', 'n', 'g')                                         \
    X(CONTENT_LANGUAGE, "content-language", 'c', 'g', 'e')                                         \
    X(CONTENT_LENGTH, "content-length", 'c', 't', 'h')                                             \
    X(CONTENT_LOCATION, "content-location", 'c', 'o', 'n')                                         \
    X(CONTENT_RANGE, "content-range", 'c', 'g', 'e')                                               \
    X(CONTENT_TYPE, "content-type", 'c', 'p', 'e')                                                 \
    X(COOKIE, "cookie", 'c', 'i', 'e')                                                             \
    X(DATE, "date", 'd', 't', 'e')                                                                 \
    X(DESTINATION, "destination", 'd', 'o', 'n')                                                   \
    X(ETAG, "etag", 'e', 'a', 'g')                                                                 \
    X(EXPECT, "expect", 'e', 'c', 't')                                                             \
    X(FORWARDED, "forwarded", 'f', 'e', 'd')                                                       \
    X(FROM, "from", 'f', 'o', 'm')                                                                 \
    X(HOST, "host", 'h', 's', 't')                                                                 \
    X(HTTP2_SETTINGS, "http2-settings", 'h', 'g', 's')                                             \
    X(IF_MATCH, "if-match", 'i', 'c', 'h')                                                         \
    X(IF_MODIFIED_SINCE, "if-modified-since", 'i', 'c', 'e')                                       \
    X(IF_NONE_MATCH, "if-none-match", 'i', 'c', 'h')                                               \
    X(IF_RANGE, "if-range", 'i', 'g', 'e')                                                         \
    X(IF_UNMODIFIED_SINCE, "if-unmodified-since", 'i', 'c', 'e')                                   \
    X(KEEP_ALIVE, "keep-alive", 'k', 'v', 'e')                                                     \
    X(LAST_MODIFIED, "last-modified", 'l', 'e', 'd')                                               \
    X(LOCATION, "location", 'l', 'o', 'n')                                                         \
    X(MAX_FORWARDS, "max-forwards", 'm', 'd', 's')                                                 \
    X(MIME_VERSION, "mime-version", 'm', 'o', 'n')                                                 \
    X(ID, "name", 'n', 'm', 'e')                                                                   \
    X(ORIGIN, "origin", 'o', 'i', 'n')                                                             \
    X(POSTERN_MIN_REVISION, "postern-min-revision", 'p', 'o', 'n')                                 \
    X(PRAGMA, "pragma", 'p', 'm', 'a')                                                             \
    X(PROXY, "proxy", 'p', 'x', 'y')                                                               \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", 'p', 't', 'e')                                     \
    X(PROXY_AUTHENTICATION_INFO, "proxy-authentication-info", 'p', 'f', 'o')                       \
    X(PROXY_AUTHORIZATION, "proxy-authorization", 'p', 'o', 'n')                                   \
    X(PROXY_CONNECTION, "proxy-connection", 'p', 'o', 'n')                                         \
    X(RANGE, "range", 'r', 'g', 'e')                                                               \
    X(REFERER, "referer", 'r', 'e', 'r')                                                           \
    X(RETRY_AFTER, "retry-after", 'r', 'e', 'r')                                                   \
    X(SEC_WEBSOCKET_ACCEPT, "sec-websocket-accept", 's', 'p', 't')                                 \
    X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions", 's', 'n', 's')                         \
    X(SEC_WEBSOCKET_KEY, "sec-websocket-key", 's', 'e', 'y')                                       \
    X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol", 's', 'o', 'l')                             \
    X(SEC_WEBSOCKET_VERSION, "sec-websocket-version", 's', 'o', 'n')                               \
    X(SERVER, "server", 's', 'e', 'r')                                                             \
    X(SET_COOKIE, "set-cookie", 's', 'i', 'e')                                                     \
    X(TE, "te", 't', 't', 'e')                                                                     \
    X(TRACEPARENT, "traceparent", 't', 'n', 't')                                                   \
    X(TRACESTATE, "tracestate", 't', 't', 'e')                                                     \
    X(TRAILER, "trailer", 't', 'e', 'r')                                                           \
    X(TRANSFER_ENCODING, "transfer-encoding", 't', 'n', 'g')                                       \
    X(UPGRADE, "upgrade", 'u', 'd', 'e')                                                           \
    X(USER_AGENT, "user-agent", 'u', 'n', 't')                                                     \
    X(VARY, "vary", 'v', 'r', 'y')                                                                 \
    X(VIA, "via", 'v', 'i', 'a')                                                                   \
    X(WWW_AUTHENTICATE, "www-authenticate", 'w', 't', 'e')                                         \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert", 'x', 'r', 't')                           \
    X(X_FORWARDED_FOR, "x-forwarded-for", 'x', 'o', 'r')                                           \
    X(X_FORWARDED_HOST, "x-forwarded-host", 'x', 's', 't')                                         \
    X(X_FORWARDED_METHOD, "x-forwarded-method", 'x', 'o', 'd')                                     \
    X(X_FORWARDED_PORT, "x-forwarded-port", 'x', 'r', 't')                                         \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", 'x', 't', 'o')                                       \
    X(X_FORWARDED_URI, "x-forwarded-uri", 'x', 'r', 'i')                                           \
    X(X_HOST, "x-host", 'x', 's', 't')                                                             \
    X(X_METHOD_OVERRIDE, "x-method-override", 'x', 'd', 'e')                                       \
    X(X_ORIGINAL_METHOD, "x-original-method", 'x', 'o', 'd')                                       \
    X(X_ORIGINAL_URI, "x-original-uri", 'x', 'r', 'i')                                             \
    X(X_ORIGINAL_URL, "x-original-url", 'x', 'r', 'l')                                             \
    X(X_REAL_IP, "x-real-ip", 'x', 'i', 'p')                                                       \
    X(X_REQUEST_ID, "x-request-id", 'x', 'i', 'd')                                                 \
    X(X_REWRITE_URL, "x-rewrite-url", 'x', 'r', 'l')                                               \
    X(X_SCRIPT_NAME, "x-script-name", 'x', 'm', 'e')                                               \
    X(X_SENDFILE, "x-sendfile", 'x', 'l', 'e')                                                     \
    X(X_USER_ID, "x-user-id", 'x', 'i', 'd')

enum pst_field_id {
    PST_FIELD_OTHER = 0,
#define PST_FIELD_ENUM(id, name, a, y, z) PST_FIELD_##id,
    PST_FIELD_LIST(PST_FIELD_ENUM)
#undef PST_FIELD_ENUM
        PST_FIELD_COUNT
};

enum pst_framing {
    PST_FRAMING_NONE = 0,   /* no body: what follows the head is the next message */
    PST_FRAMING_LENGTH,     /* content_length bytes, which may be 0 */
    PST_FRAMING_CHUNKED,    /* one Transfer-Encoding: chunked */
    PST_FRAMING_UNTIL_CLOSE /* responses only: the end of the connection is the end of the body */
};

enum pst_upgrade {
    PST_UPGRADE_NONE = 0,  /* no protocol is asked for, or not properly: plain HTTP */
    PST_UPGRADE_WEBSOCKET, /* request: a complete handshake (RFC 6455); response: websocket alone */
    PST_UPGRADE_OTHER      /* some other protocol: to be ignored in a request, a fault in a 101 */
};

struct pst_head {
    enum pst_method method;       /* requests; method_text always holds its text */
    struct pst_bytes method_text; /* A to Z */
    struct pst_bytes target;      /* as sent: visible ASCII, no more is checked (see target.h) */
    struct pst_bytes host;        /* requests: the value of the only Host, valid (see host.h) */
    uint16_t host_name_len;  /* not 0: `host` is canonical as it stands, so long is its name, */
    uint16_t host_port;      /* and this its port (0: none) */
    uint16_t status;         /* responses: 100 to 599 */
    struct pst_bytes reason; /* responses; may be empty */
    uint8_t version_minor;   /* 0 or 1 */
    enum pst_framing framing;
    bool has_length;         /* a Content-Length was sent (for HEAD and 304 it describes no body) */
    uint64_t content_length; /* its value, below 2^63 */
    bool keep_alive;         /* the sender is ready to go on with this connection */
    bool expect_continue;    /* a 1.1 request with a body waits for 100 Continue */
    bool connection_names;   /* Connection names more than close, keep-alive, upgrade and TE */
    enum pst_upgrade upgrade;
    size_t size;  /* bytes of the head, leading empty line and final empty line included */
    size_t count; /* fields */
    /* For each id one more than the index of the last field that has it, or 0; and for each field
     * what that was before it. */
    uint8_t last[PST_FIELD_COUNT], before[PST_FIELDS_MAX];
    uint8_t ids[PST_FIELDS_MAX]; /* enum pst_field_id of each */
    struct pst_field fields[PST_FIELDS_MAX];
};

/* The method with this text, which is compared with case; PST_METHOD_OTHER for any other. */
enum pst_method pst_method_of_other_(struct pst_bytes text);
static inline enum pst_method pst_method_of(struct pst_bytes text)
{
    return text.len == 3 && memcmp(text.ptr, "GET", 3) == 0 ? PST_METHOD_GET
                                                            : pst_method_of_other_(text);
}
/* Its text; empty for PST_METHOD_OTHER. */
struct pst_bytes pst_method_text(enum pst_method method);

/* The id of this name, which is compared without case; PST_FIELD_OTHER for any other. */
enum pst_field_id pst_field_id_of(struct pst_bytes name);
/* Its name in lower case; empty for PST_FIELD_OTHER. */
struct pst_bytes pst_field_name(enum pst_field_id id);

/* Index of the first field with this id at or after `from`, or head->count. */
static inline size_t pst_head_find(const struct pst_head *head, enum pst_field_id id, size_t from)
{
    size_t last = head->last[id];

    if (from >= last) /* most that are asked for are not there */
        return head->count;
    if (head->before[last - 1] == 0)
        return last - 1;
    while (head->ids[from] != (uint8_t)id)
        from++;
    return from;
}

/* The same for a name that need not have an id; compared without case. */
size_t pst_head_find_name(const struct pst_head *head, struct pst_bytes name, size_t from);

/* The value of the only field with this id; empty if there is none or more than one, which is
 * false. *more (which may be NULL) tells which. */
static inline bool pst_head_only(const struct pst_head *head, enum pst_field_id id,
                                 struct pst_bytes *value, bool *more)
{
    size_t last = head->last[id];
    bool twice = last > 0 && head->before[last - 1] > 0, only = last > 0 && !twice;

    *value = only ? head->fields[last - 1].value : (struct pst_bytes){0};
    if (more != NULL)
        *more = twice;
    return only;
}

/* The next element of a comma-separated list without the blanks around it; empty elements are
 * skipped. *rest shrinks. False at the end. Commas inside quoted strings separate as well: for
 * lists of tokens only. */
bool pst_list_next(struct pst_bytes *rest, struct pst_bytes *element);

/* The next name=value of a Cookie field. A part without `=` has an empty name. False at the end. */
bool pst_cookie_next(struct pst_bytes *rest, struct pst_bytes *name, struct pst_bytes *value);

#endif
