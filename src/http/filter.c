/*
 * For a name with an id the answer stands in a table. A name without one is first looked at for
 * what makes it fold to something else (_ . -- and hyphens at the ends, a leading HTTP-); then it
 * is compared with the protected names, which are few and begin with few letters.
 */
#include "postern/http/filter.h"

#include "chars_internal.h"

#define NOMINATED_MAX 32

enum {
    F_RFC = 0x01,         /* a field of RFC 9110 or RFC 9112 */
    F_PROTECTED = 0x02,   /* H9 */
    F_REQUEST_END = 0x04, /* does not go on in a request: hop-by-hop, or written anew */
    F_ANSWER_END = 0x08,  /* does not go on in a response */
    F_FIRM = 0x10,        /* Connection may not name it */
};

static const uint8_t field_flags[PST_FIELD_COUNT] = {
    [PST_FIELD_ACCEPT] = F_RFC,
    [PST_FIELD_ACCEPT_CHARSET] = F_RFC,
    [PST_FIELD_ACCEPT_ENCODING] = F_RFC,
    [PST_FIELD_ACCEPT_LANGUAGE] = F_RFC,
    [PST_FIELD_ACCEPT_RANGES] = F_RFC,
    [PST_FIELD_ALLOW] = F_RFC,
    [PST_FIELD_AUTHENTICATION_INFO] = F_RFC,
    [PST_FIELD_AUTHORIZATION] = F_RFC | F_PROTECTED,
    [PST_FIELD_BASE_URL] = F_PROTECTED,
    [PST_FIELD_CLOSE] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_CONNECTION] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_CONTENT_ENCODING] = F_RFC,
    [PST_FIELD_CONTENT_LANGUAGE] = F_RFC,
    [PST_FIELD_CONTENT_LENGTH] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_CONTENT_LOCATION] = F_RFC,
    [PST_FIELD_CONTENT_RANGE] = F_RFC,
    [PST_FIELD_CONTENT_TYPE] = F_RFC,
    [PST_FIELD_COOKIE] = F_FIRM,
    [PST_FIELD_DATE] = F_RFC,
    [PST_FIELD_DESTINATION] = F_PROTECTED,
    [PST_FIELD_ETAG] = F_RFC,
    [PST_FIELD_EXPECT] = F_RFC | F_REQUEST_END,
    [PST_FIELD_FORWARDED] = F_PROTECTED,
    [PST_FIELD_FROM] = F_RFC,
    [PST_FIELD_HOST] = F_RFC | F_REQUEST_END,
    [PST_FIELD_HTTP2_SETTINGS] = F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_IF_MATCH] = F_RFC,
    [PST_FIELD_IF_MODIFIED_SINCE] = F_RFC,
    [PST_FIELD_IF_NONE_MATCH] = F_RFC,
    [PST_FIELD_IF_RANGE] = F_RFC,
    [PST_FIELD_IF_UNMODIFIED_SINCE] = F_RFC,
    [PST_FIELD_KEEP_ALIVE] = F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_LAST_MODIFIED] = F_RFC,
    [PST_FIELD_LOCATION] = F_RFC,
    [PST_FIELD_MAX_FORWARDS] = F_RFC,
    [PST_FIELD_MIME_VERSION] = F_RFC,
    [PST_FIELD_PROXY] = F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_PROXY_AUTHENTICATE] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_PROXY_AUTHENTICATION_INFO] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_PROXY_AUTHORIZATION] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_PROXY_CONNECTION] = F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_RANGE] = F_RFC,
    [PST_FIELD_REFERER] = F_RFC,
    [PST_FIELD_RETRY_AFTER] = F_RFC,
    [PST_FIELD_SERVER] = F_RFC,
    [PST_FIELD_TE] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_TRACEPARENT] = F_FIRM,
    [PST_FIELD_TRACESTATE] = F_FIRM,
    [PST_FIELD_TRAILER] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_TRANSFER_ENCODING] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_UPGRADE] = F_RFC | F_REQUEST_END | F_ANSWER_END,
    [PST_FIELD_USER_AGENT] = F_RFC,
    [PST_FIELD_VARY] = F_RFC,
    [PST_FIELD_VIA] = F_RFC,
    [PST_FIELD_WWW_AUTHENTICATE] = F_RFC,
    [PST_FIELD_X_FORWARDED_CLIENT_CERT] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_FOR] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_HOST] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_METHOD] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_PORT] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_PROTO] = F_PROTECTED,
    [PST_FIELD_X_FORWARDED_URI] = F_PROTECTED,
    [PST_FIELD_X_HOST] = F_PROTECTED,
    [PST_FIELD_X_METHOD_OVERRIDE] = F_PROTECTED,
    [PST_FIELD_X_ORIGINAL_METHOD] = F_PROTECTED,
    [PST_FIELD_X_ORIGINAL_URI] = F_PROTECTED,
    [PST_FIELD_X_ORIGINAL_URL] = F_PROTECTED,
    [PST_FIELD_X_REAL_IP] = F_PROTECTED,
    [PST_FIELD_X_REQUEST_ID] = F_FIRM,
    [PST_FIELD_X_REWRITE_URL] = F_PROTECTED,
    [PST_FIELD_X_SCRIPT_NAME] = F_PROTECTED,
    [PST_FIELD_X_SENDFILE] = F_PROTECTED | F_ANSWER_END,
    [PST_FIELD_X_USER_ID] = F_PROTECTED,
};

/* Room for a folded name. Longer ones are cut: they match by their beginning or not at all. */
#define FOLDED_MAX (PST_FILTER_NAME_MAX + 16)

enum match {
    WHOLE, /* the name */
    BEGIN, /* the name, and the name, a hyphen and anything */
    STEM,  /* the name and anything */
};

struct pattern {
    struct pst_bytes text; /* folded; at least three bytes */
    enum match match;
};

#define PATTERN(match, s)                                                                          \
    {                                                                                              \
        {"" s, sizeof(s) - 1}, match                                                               \
    }

/* H9. The names that have an id stand in field_flags as well, for the other spellings. */
static const struct pattern protected_names[] = {
    PATTERN(WHOLE, "authorization"),   PATTERN(WHOLE, "base-url"),
    PATTERN(WHOLE, "destination"),     PATTERN(WHOLE, "forwarded"),
    PATTERN(WHOLE, "x-host"),          PATTERN(WHOLE, "x-method-override"),
    PATTERN(WHOLE, "x-real-ip"),       PATTERN(WHOLE, "x-rewrite-url"),
    PATTERN(WHOLE, "x-script-name"),   PATTERN(WHOLE, "x-sendfile"),
    PATTERN(WHOLE, "x-user-id"),       PATTERN(BEGIN, "remote"),
    PATTERN(BEGIN, "x-accel"),         PATTERN(BEGIN, "x-auth-request"),
    PATTERN(BEGIN, "x-authenticated"), PATTERN(BEGIN, "x-envoy"),
    PATTERN(BEGIN, "x-forwarded"),     PATTERN(BEGIN, "x-goog-authenticated"),
    PATTERN(STEM, "x-http-method"),    PATTERN(BEGIN, "x-original"),
    PATTERN(BEGIN, "x-postern"),       PATTERN(BEGIN, "x-remote"),
    PATTERN(BEGIN, "x-ssl-client"),    PATTERN(BEGIN, "x-webauth"),
};

/* What ends at a proxy, as Proxy does because CGI makes HTTP_PROXY of it. */
static const struct pattern proxy_names[] = {
    PATTERN(BEGIN, "proxy"),
};

/* What an upstream may not say. */
static const struct pattern answer_names[] = {
    PATTERN(WHOLE, "x-sendfile"),
    PATTERN(BEGIN, "x-accel"),
    PATTERN(BEGIN, "x-postern"),
    PATTERN(BEGIN, "proxy"),
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* The third byte first: most patterns begin with `x-`. */
static bool matches(const char *text, size_t len, enum match match, struct pst_bytes folded)
{
    return folded.len >= len && folded.ptr[2] == text[2] && memcmp(folded.ptr, text, len) == 0 &&
           (folded.len == len || match == STEM || (match == BEGIN && folded.ptr[len] == '-'));
}

static bool matches_any(const struct pattern *patterns, size_t count, struct pst_bytes folded)
{
    for (size_t i = 0; i < count; i++)
        if (matches(patterns[i].text.ptr, patterns[i].text.len, patterns[i].match, folded))
            return true;
    return false;
}

/* --- folding ------------------------------------------------------------------------------- */

static bool is_separator(char c)
{
    return c == '-' || c == '_' || c == '.';
}

struct pst_bytes pst_name_fold(struct pst_bytes name, char *space, size_t cap)
{
    size_t len = 0;
    bool pending = false; /* a separator that has letters before it */

    for (size_t i = 0; i < name.len; i++) {
        if (is_separator(name.ptr[i])) {
            pending = len > 0;
            continue;
        }
        if (pending && len < cap)
            space[len++] = '-';
        if (len < cap)
            space[len++] = pst_lower(name.ptr[i]);
        pending = false;
    }

    struct pst_bytes folded = pst_bytes_of(space, len);
    return pst_bytes_starts(folded, PST_LIT("http-")) ? pst_bytes_from(folded, 5) : folded;
}

/* Is the folded form another one than the name in small letters? */
static bool is_odd(struct pst_bytes name)
{
    bool separated = true; /* by what is before; the start counts */

    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (c == '_' || c == '.' || (c == '-' && separated))
            return true;
        separated = c == '-';
    }
    return separated ||
           (name.len > 5 && pst_bytes_equal_nocase(pst_bytes_of(name.ptr, 5), PST_LIT("http-")));
}

/* --- the filter ---------------------------------------------------------------------------- */

static void mark_initial(struct pst_filter *f, char c)
{
    f->initials_[(unsigned char)c / 64] |= 1ull << ((unsigned char)c % 64);
}

/* Can a folded name with this first byte be one that is protected, or Proxy-*? */
static bool is_initial(const struct pst_filter *f, char c)
{
    return (f->initials_[(unsigned char)c / 64] >> ((unsigned char)c % 64) & 1) != 0;
}

void pst_filter_init(struct pst_filter *filter)
{
    *filter = (struct pst_filter){0};
    memcpy(filter->flags_, field_flags, sizeof(field_flags));
    for (size_t i = 0; i < COUNT(protected_names); i++)
        mark_initial(filter, protected_names[i].text.ptr[0]);
    mark_initial(filter, 'p');
}

static bool is_configured(const struct pst_filter *f, struct pst_bytes folded)
{
    for (size_t i = 0; i < f->count_; i++)
        if (matches(f->names_[i].text, f->names_[i].len, f->names_[i].prefix ? BEGIN : WHOLE,
                    folded))
            return true;
    return false;
}

static bool is_protected_folded(const struct pst_filter *f, struct pst_bytes folded)
{
    return folded.len > 0 && is_initial(f, folded.ptr[0]) &&
           (matches_any(protected_names, COUNT(protected_names), folded) ||
            is_configured(f, folded));
}

enum pst_status pst_filter_add(struct pst_filter *filter, struct pst_bytes name)
{
    char space[FOLDED_MAX];
    bool prefix = name.len > 0 && name.ptr[name.len - 1] == '*';
    struct pst_filter_name *entry = &filter->names_[filter->count_];

    if (prefix)
        name.len--;
    for (size_t i = 0; i < name.len; i++)
        if (!char_is(name.ptr[i], CHAR_TOKEN) || name.ptr[i] == '*')
            return PST_E_INVALID;
    struct pst_bytes folded = pst_name_fold(name, space, sizeof(space));
    if (folded.len < 3)
        return PST_E_INVALID;
    if (folded.len > PST_FILTER_NAME_MAX)
        return PST_E_LIMIT;
    if (!prefix && is_protected_folded(filter, folded))
        return PST_OK;
    if (filter->count_ == PST_FILTER_NAMES_MAX)
        return PST_E_LIMIT;

    entry->len = (uint8_t)folded.len;
    entry->prefix = prefix;
    memcpy(entry->text, folded.ptr, folded.len);
    filter->count_++;
    mark_initial(filter, folded.ptr[0]);
    for (unsigned id = PST_FIELD_OTHER + 1; id < PST_FIELD_COUNT; id++)
        if (is_configured(filter, pst_field_name((enum pst_field_id)id)))
            filter->flags_[id] |= F_PROTECTED;
    return PST_OK;
}

bool pst_filter_is_protected(const struct pst_filter *filter, struct pst_bytes name)
{
    char space[FOLDED_MAX];
    struct pst_bytes folded = pst_name_fold(name, space, sizeof(space));

    return (filter->flags_[pst_field_id_of(folded)] & F_PROTECTED) != 0 ||
           is_protected_folded(filter, folded);
}

/* Does Connection, which names some field, name this one? */
static bool is_nominated(const struct pst_head *head, struct pst_bytes name)
{
    size_t at = 0;

    while ((at = pst_head_find(head, PST_FIELD_CONNECTION, at)) < head->count) {
        struct pst_bytes rest = head->fields[at++].value, option;

        while (pst_list_next(&rest, &option))
            if (pst_bytes_equal_nocase(option, name))
                return true;
    }
    return false;
}

/* A name without an id, in a request. */
static bool is_dropped_name(const struct pst_filter *f, struct pst_bytes name)
{
    char space[FOLDED_MAX];
    bool odd = is_odd(name);

    if (!odd && !is_initial(f, pst_lower(name.ptr[0])))
        return false;
    if (odd && pst_bytes_find(name, '_') < name.len)
        return true;
    struct pst_bytes folded = pst_name_fold(name, space, sizeof(space));
    return (odd && f->flags_[pst_field_id_of(folded)] != 0) || is_protected_folded(f, folded) ||
           matches_any(proxy_names, COUNT(proxy_names), folded);
}

enum pst_field_action pst_filter_request(const struct pst_filter *filter,
                                         const struct pst_head *head, size_t index)
{
    enum pst_field_id id = head->ids[index];
    struct pst_bytes name = head->fields[index].name;
    bool drop = id == PST_FIELD_OTHER ? is_dropped_name(filter, name)
                                      : (filter->flags_[id] & (F_PROTECTED | F_REQUEST_END)) != 0;

    return drop || (head->connection_names && is_nominated(head, name)) ? PST_FIELD_DROP
                                                                        : PST_FIELD_PASS;
}

/* Would a browser keep this under a name of Postern's? A cookie without a name is sent back as its
 * value alone, so an `=` in front hides nothing. */
static bool is_own_cookie(struct pst_bytes cookie)
{
    static const char *const prefixes[] = {"__host-", "__secure-", "__http-", "__host-http-"};
    const struct pst_bytes own = PST_LIT("postern_");

    while (cookie.len > 0 &&
           (cookie.ptr[0] == '=' || cookie.ptr[0] == ' ' || cookie.ptr[0] == '\t'))
        cookie = pst_bytes_from(cookie, 1);
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        size_t len = strlen(prefixes[i]);

        if (cookie.len >= len + own.len &&
            pst_bytes_equal_nocase(pst_bytes_of(cookie.ptr, len), pst_bytes_of(prefixes[i], len)) &&
            pst_bytes_equal_nocase(pst_bytes_of(cookie.ptr + len, own.len), own))
            return true;
    }
    return cookie.len >= own.len && pst_bytes_equal_nocase(pst_bytes_of(cookie.ptr, own.len), own);
}

/* A name without an id, in a response. */
static bool is_dropped_answer(const struct pst_filter *f, struct pst_bytes name)
{
    char space[FOLDED_MAX];
    bool odd = is_odd(name);

    if (!odd && pst_lower(name.ptr[0]) != 'x' && pst_lower(name.ptr[0]) != 'p')
        return false;
    struct pst_bytes folded = pst_name_fold(name, space, sizeof(space));
    return (odd && (f->flags_[pst_field_id_of(folded)] & (F_RFC | F_ANSWER_END)) != 0) ||
           matches_any(answer_names, COUNT(answer_names), folded);
}

enum pst_field_action pst_filter_response(const struct pst_filter *filter,
                                          const struct pst_head *head, size_t index)
{
    enum pst_field_id id = head->ids[index];
    const struct pst_field *field = &head->fields[index];
    bool drop = id == PST_FIELD_OTHER ? is_dropped_answer(filter, field->name)
                                      : (filter->flags_[id] & F_ANSWER_END) != 0;

    if (id == PST_FIELD_SET_COOKIE && is_own_cookie(field->value))
        drop = true;
    return drop || (head->connection_names && is_nominated(head, field->name)) ? PST_FIELD_DROP
                                                                               : PST_FIELD_PASS;
}

static bool is_option(struct pst_bytes option)
{
    return pst_bytes_equal_nocase(option, PST_LIT("close")) ||
           pst_bytes_equal_nocase(option, PST_LIT("keep-alive")) ||
           pst_bytes_equal_nocase(option, PST_LIT("upgrade")) ||
           pst_bytes_equal_nocase(option, PST_LIT("te"));
}

static bool may_be_named(const struct pst_filter *f, struct pst_bytes name)
{
    char space[FOLDED_MAX];
    struct pst_bytes folded = pst_name_fold(name, space, sizeof(space));
    unsigned firm = F_RFC | F_PROTECTED | F_FIRM;

    return (f->flags_[pst_field_id_of(name)] & firm) == 0 &&
           (f->flags_[pst_field_id_of(folded)] & firm) == 0 && !is_protected_folded(f, folded);
}

bool pst_filter_connection(const struct pst_filter *filter, const struct pst_head *head,
                           struct pst_fault *fault)
{
    size_t at = head->connection_names ? 0 : head->count, named = 0;

    while ((at = pst_head_find(head, PST_FIELD_CONNECTION, at)) < head->count) {
        struct pst_bytes rest = head->fields[at++].value, option;

        while (pst_list_next(&rest, &option)) {
            if (is_option(option))
                continue;
            if (++named > NOMINATED_MAX || !may_be_named(filter, option)) {
                *fault = (struct pst_fault){400, "Connection names a field that it may not name"};
                return false;
            }
        }
    }
    return true;
}
