/*
 * Heads are written from the parsed and canonical form, never copied.  A request's head:
 *
 *   METHOD canonical-target HTTP/1.1
 *   Host                        the upstream's authority, or the client's canonical one
 *   fields that the filter passes; Cookie without the credential
 *   X-Forwarded-For/Proto/Host, Forwarded    from the peer; a trusted peer's are extended
 *   X-Request-Id, traceparent (tracestate)
 *   X-Postern-*                 who, as what, where, by which decision
 *   Content-Length or Transfer-Encoding
 */
#include "postern/base/secret.h"
#include "proxy_internal.h"

/* More than the names and constant texts that are Postern's own in a head, with the peer's address,
 * the trace and all numbers. */
#define OWN_MAX 1024

/* Most fields are sent just as they are to be written: their name, a colon, one blank, the value.
 */
static char *put_field(char *to, struct pst_bytes name, struct pst_bytes value)
{
    if (value.ptr != name.ptr + name.len + 2 || value.ptr[-1] != ' ')
        return pst_put_line(to, name, value);
    return pst_put_lit(pst_put(to, pst_bytes_of(name.ptr, name.len + 2 + value.len)), "\r\n");
}

/* ---- request id, traceparent ---- */

static bool is_request_id(struct pst_bytes id)
{
    if (id.len < 8 || id.len > 128)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = pst_lower(id.ptr[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.' || c == ':' || c == '/' || c == '+' || c == '=' || c == '~'))
            return false;
    }
    return true;
}

/* The client's own when it has a decent one, else a new one. */
void pst_rewrite_request_id(struct pst_exchange *x)
{
    if (pst_head_only(&x->head, PST_FIELD_X_REQUEST_ID, &x->id, NULL) && is_request_id(x->id))
        return;
    char *to = pst_put_hex(x->id_space, pst_server_random(x->server));
    pst_put_hex(to, pst_server_random(x->server));
    x->id = pst_bytes_of(x->id_space, sizeof(x->id_space));
}

static bool is_hex(struct pst_bytes text, bool *zero)
{
    *zero = true;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        if (c != '0')
            *zero = false;
    }
    return true;
}

/* W3C trace context. A later version than 00 may go on behind what is known of it; ff is none. */
static bool is_traceparent(struct pst_bytes v)
{
    bool first, zero_trace, zero_span, zero;

    if (v.len < 55 || !is_hex(pst_bytes_of(v.ptr, 2), &first) ||
        pst_bytes_starts(v, PST_LIT("ff")) || (v.len > 55 && (first || v.ptr[55] != '-')))
        return false;
    return v.ptr[2] == '-' && v.ptr[35] == '-' && v.ptr[52] == '-' &&
           is_hex(pst_bytes_of(v.ptr + 3, 32), &zero_trace) && !zero_trace &&
           is_hex(pst_bytes_of(v.ptr + 36, 16), &zero_span) && !zero_span &&
           is_hex(pst_bytes_of(v.ptr + 53, 2), &zero);
}

/* A trace is continued as version 00 has it, of whose flags the lowest is known. */
static char *put_parent(struct pst_bytes v, char *to)
{
    char digit = v.ptr[54];
    unsigned low = (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);

    if (pst_bytes_starts(v, PST_LIT("00")))
        return pst_put_line(to, PST_LIT("traceparent"), v);
    to = pst_put(pst_put_lit(to, "traceparent: 00"), pst_bytes_of(v.ptr + 2, 51));
    return pst_put(to, (low & 1) != 0 ? PST_LIT("01\r\n") : PST_LIT("00\r\n"));
}

static char *put_trace(struct pst_exchange *x, char *to)
{
    const struct pst_head *head = &x->head;
    struct pst_bytes parent;

    if (pst_head_only(head, PST_FIELD_TRACEPARENT, &parent, NULL) && is_traceparent(parent)) {
        to = put_parent(parent, to);
        for (size_t i = 0; (i = pst_head_find(head, PST_FIELD_TRACESTATE, i)) < head->count; i++)
            to = pst_put_line(to, PST_LIT("tracestate"), head->fields[i].value);
        return to;
    }
    to = pst_put_hex(pst_put_lit(to, "traceparent: 00-"), pst_server_random(x->server));
    to = pst_put_lit(pst_put_hex(to, pst_server_random(x->server) | 1), "-");
    return pst_put_lit(pst_put_hex(to, pst_server_random(x->server) | 1), "-01\r\n");
}

/* ---- where it came from ---- */

/* The trusted peer's own list, and a comma if something follows it. */
static char *put_list(const struct pst_exchange *x, enum pst_field_id id, bool goes_on, char *to)
{
    bool any = false;

    if (!x->c->trusted)
        return to;
    for (size_t i = 0; (i = pst_head_find(&x->head, id, i)) < x->head.count; i++) {
        if (x->head.fields[i].value.len == 0)
            continue;
        if (any)
            to = pst_put_lit(to, ", ");
        to = pst_put(to, x->head.fields[i].value);
        any = true;
    }
    return any && goes_on ? pst_put_lit(to, ", ") : to;
}

/* What a trusted peer says of its own client. */
static void read_told(struct pst_exchange *x, char space[static PST_HOST_MAX],
                      struct pst_bytes *proto, struct pst_bytes *host)
{
    struct pst_bytes value;
    struct pst_host told;

    if (!x->c->trusted)
        return;
    if (pst_head_only(&x->head, PST_FIELD_X_FORWARDED_PROTO, &value, NULL) &&
        (pst_bytes_equal_nocase(value, PST_LIT("https")) ||
         pst_bytes_equal_nocase(value, PST_LIT("http"))))
        *proto = value;
    if (pst_head_only(&x->head, PST_FIELD_X_FORWARDED_HOST, &value, NULL) &&
        pst_host_parse(value, space, &told))
        *host = told.text;
}

static char *put_forwarded(struct pst_exchange *x, char *to)
{
    struct pst_bytes peer = pst_bytes_of(x->c->peer, x->c->peer_len);
    struct pst_bytes proto = PST_LIT("http"), host = x->host.text;
    char space[PST_HOST_MAX];
    bool is_unix = x->c->peer_kind == PST_PEER_UNIX; /* has no address that could be told */

    read_told(x, space, &proto, &host);
    to = put_list(x, PST_FIELD_X_FORWARDED_FOR, !is_unix, pst_put_lit(to, "X-Forwarded-For: "));
    to = pst_put(to, is_unix ? (struct pst_bytes){0} : peer);
    to = pst_put(pst_put_lit(to, "\r\nX-Forwarded-Proto: "), proto);
    to = pst_put(pst_put_lit(to, "\r\nX-Forwarded-Host: "), host);
    to = put_list(x, PST_FIELD_FORWARDED, false, pst_put_lit(to, "\r\nForwarded: "));
    if (x->c->trusted && pst_head_find(&x->head, PST_FIELD_FORWARDED, 0) < x->head.count)
        to = pst_put_lit(to, ", ");
    if (is_unix)
        to = pst_put_lit(to, "for=_unix");
    else if (x->c->peer_kind == PST_PEER_V6)
        to = pst_put_lit(pst_put(pst_put_lit(to, "for=\"["), peer), "]\"");
    else
        to = pst_put(pst_put_lit(to, "for="), peer);
    to = pst_put(pst_put_lit(to, ";host=\""), host);
    to = pst_put(pst_put_lit(to, "\";proto="), proto);
    return pst_put_lit(to, "\r\n");
}

/* ---- the request ---- */

static bool holds(struct pst_bytes all, struct pst_bytes part)
{
    return memmem(all.ptr, all.len, part.ptr, part.len) != NULL;
}

/* Everything but the credential. Nothing at all when nothing is left. */
static char *put_cookie(const struct pst_exchange *x, struct pst_bytes value, char *to)
{
    struct pst_bytes credential = x->config->credential_cookie, rest = value, name, crumb;
    bool any = false;

    if (credential.len == 0 || !holds(value, credential))
        return pst_put_line(to, PST_LIT("Cookie"), value);
    while (pst_cookie_next(&rest, &name, &crumb)) {
        if (pst_bytes_equal(name, credential))
            continue;
        to = pst_put(any ? pst_put_lit(to, "; ") : pst_put_lit(to, "Cookie: "), name);
        if (name.len > 0)
            to = pst_put_lit(to, "=");
        to = pst_put(to, crumb);
        any = true;
    }
    return any ? pst_put_lit(to, "\r\n") : to;
}

static char *put_client_fields(const struct pst_exchange *x, char *to)
{
    const struct pst_head *head = &x->head;

    for (size_t i = 0; i < head->count; i++) {
        const struct pst_field *field = &head->fields[i];
        const uint8_t id = head->ids[i];

        if (id == PST_FIELD_X_REQUEST_ID || id == PST_FIELD_TRACEPARENT ||
            id == PST_FIELD_TRACESTATE)
            continue; /* written by itself */
        if (id == PST_FIELD_AUTHORIZATION) {
            if (x->upstream->authorization_pass)
                to = pst_put_line(to, PST_LIT("Authorization"), field->value);
        } else if (id == PST_FIELD_COOKIE) {
            to = put_cookie(x, field->value, to);
        } else if (pst_filter_request(&x->config->filter, head, i) == PST_FIELD_PASS) {
            to = put_field(to, field->name, field->value);
        }
    }
    return to;
}

static void put_identity(struct pst_exchange *x, struct pst_buf *out)
{
    const struct pst_identity_names *names = &x->config->identity;
    const struct pst_decision *d = &x->decide.decision;

    if (!d->preflight) {
        pst_buf_safe_line(out, names->user, d->user);
        pst_buf_safe_line(out, names->roles, d->roles);
        pst_buf_safe_line(out, names->workspace, d->workspace);
    }
    /* Of Postern's own making: nothing in them is to be looked for. */
    if (names->decision_id.len > 0 && d->id.len > 0)
        pst_buf_line(out, names->decision_id, d->id);
    if (names->revision.len > 0 && d->revision_token.len > 0)
        pst_buf_line(out, names->revision, d->revision_token);
    pst_buf_safe_line(out, d->workspace_field, d->workspace);
}

/* All that comes from the head and the connection. Of the head each text is written once: a field
 * takes at most two bytes more than it took, a part of a cookie one byte, the target 256. */
static void put_told(struct pst_exchange *x, struct pst_bytes host, struct pst_buf *out)
{
    size_t most = 2 * x->head.size + 2 * x->head.count + 256 + host.len + 2 * PST_HOST_MAX +
                  x->id.len + OWN_MAX;
    char *to = pst_buf_open(out, most);

    if (to == NULL)
        return;
    to = pst_put(pst_put_lit(pst_put(to, x->head.method_text), " "), x->target.target);
    to = pst_put_lit(pst_put(pst_put_lit(to, " HTTP/1.1\r\nHost: "), host), "\r\n");
    to = put_client_fields(x, to);
    to = put_forwarded(x, to);
    to = pst_put_line(to, PST_LIT("X-Request-Id"), x->id);
    pst_buf_close(out, put_trace(x, to));
}

void pst_rewrite_request(struct pst_exchange *x, struct pst_buf *out)
{
    put_told(x,
             x->upstream->host_client ? x->host.text : pst_endpoint_authority(x->lease->endpoint),
             out);
    put_identity(x, out);
    if (x->collected || x->head.framing == PST_FRAMING_LENGTH) {
        pst_buf_lit(out, "Content-Length: ");
        pst_buf_u64(out, x->collected ? x->collect.len : x->head.content_length);
        pst_buf_lit(out, "\r\n");
    } else if (x->head.framing == PST_FRAMING_CHUNKED) {
        pst_buf_lit(out, "Transfer-Encoding: chunked\r\n");
    }
    pst_buf_lit(out, "\r\n");
}

/* ---- the answer ---- */

static char *put_status_line(const struct pst_exchange *x, char *to)
{
    to = pst_put_u64(pst_put_lit(to, "HTTP/1.1 "), x->answer.status);
    to = pst_put(pst_put_lit(to, " "), x->answer.reason);
    return pst_put_lit(to, "\r\n");
}

/* What follows the upstream's own authority in an absolute URL, or the value as it is. */
static struct pst_bytes client_view(struct pst_exchange *x, struct pst_bytes location)
{
    struct pst_bytes authority = pst_endpoint_authority(x->lease->endpoint), rest = location;

    if (pst_bytes_starts(rest, PST_LIT("http://")))
        rest = pst_bytes_from(rest, 7);
    else if (pst_bytes_starts(rest, PST_LIT("https://")))
        rest = pst_bytes_from(rest, 8);
    else
        return location;
    if (rest.len < authority.len ||
        !pst_bytes_equal_nocase(pst_bytes_of(rest.ptr, authority.len), authority))
        return location;
    rest = pst_bytes_from(rest, authority.len);
    if (rest.len == 0)
        return PST_LIT("/");
    /* "//" would name another host, and browsers read "/\\" so. */
    bool names_host = rest.len > 1 && (rest.ptr[1] == '/' || rest.ptr[1] == '\\');
    return rest.ptr[0] == '/' && !names_host ? rest : location;
}

static char *put_answer_fields(struct pst_exchange *x, char *to)
{
    const struct pst_head *answer = &x->answer;

    for (size_t i = 0; i < answer->count; i++) {
        struct pst_bytes value = answer->fields[i].value;
        if (answer->ids[i] == PST_FIELD_X_REQUEST_ID ||
            pst_filter_response(&x->config->filter, answer, i) != PST_FIELD_PASS)
            continue;
        if (answer->ids[i] == PST_FIELD_LOCATION && !x->upstream->host_client)
            value = client_view(x, value);
        to = put_field(to, answer->fields[i].name, value);
    }
    return to;
}

static char *put_answer_framing(struct pst_exchange *x, char *to)
{
    const struct pst_head *answer = &x->answer;
    bool describes = x->head.method == PST_METHOD_HEAD || answer->status == 304;

    x->chunked_out = false;
    switch (answer->framing) {
    case PST_FRAMING_NONE:
    case PST_FRAMING_LENGTH:
        if (answer->has_length && (answer->framing == PST_FRAMING_LENGTH || describes)) {
            to = pst_put_u64(pst_put_lit(to, "Content-Length: "), answer->content_length);
            to = pst_put_lit(to, "\r\n");
        }
        break;
    case PST_FRAMING_CHUNKED:
    case PST_FRAMING_UNTIL_CLOSE:
        if (x->head.version_minor == 1) {
            x->chunked_out = true;
            to = pst_put_lit(to, "Transfer-Encoding: chunked\r\n");
        } else {
            x->c->closing = true;
        }
        break;
    }
    return to;
}

/* Room for a whole head: each field that goes on takes at most one byte more than it took. */
static char *open_answer(const struct pst_exchange *x, struct pst_buf *out)
{
    return pst_buf_open(out, x->answer.size + x->answer.count + x->id.len + OWN_MAX);
}

void pst_rewrite_answer(struct pst_exchange *x, struct pst_buf *out)
{
    char *to = open_answer(x, out);

    if (to == NULL)
        return;
    to = put_answer_fields(x, put_status_line(x, to));
    to = pst_put_line(to, PST_LIT("X-Request-Id"), x->id);
    to = put_answer_framing(x, to);
    if (x->server->draining)
        x->c->closing = true;
    if (x->c->closing)
        to = pst_put_lit(to, "Connection: close\r\n");
    else if (x->head.version_minor == 0)
        to = pst_put_lit(to, "Connection: keep-alive\r\n");
    pst_buf_close(out, pst_put_lit(to, "\r\n"));
}

void pst_rewrite_interim(struct pst_exchange *x, struct pst_buf *out)
{
    char *to = open_answer(x, out);

    if (to != NULL)
        pst_buf_close(out, pst_put_lit(put_answer_fields(x, put_status_line(x, to)), "\r\n"));
}
