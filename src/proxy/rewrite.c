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
static void put_parent(struct pst_bytes v, struct pst_buf *out)
{
    char digit = v.ptr[54];
    unsigned low = (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);

    if (pst_bytes_starts(v, PST_LIT("00"))) {
        pst_buf_line(out, PST_LIT("traceparent"), v);
        return;
    }
    pst_buf_lit(out, "traceparent: 00");
    pst_buf_put(out, pst_bytes_of(v.ptr + 2, 51));
    pst_buf_put(out, (low & 1) != 0 ? PST_LIT("01\r\n") : PST_LIT("00\r\n"));
}

static void put_trace(struct pst_exchange *x, struct pst_buf *out)
{
    struct pst_bytes parent;

    if (pst_head_only(&x->head, PST_FIELD_TRACEPARENT, &parent, NULL) && is_traceparent(parent)) {
        put_parent(parent, out);
        for (size_t i = 0; (i = pst_head_find(&x->head, PST_FIELD_TRACESTATE, i)) < x->head.count;
             i++)
            pst_buf_line(out, PST_LIT("tracestate"), x->head.fields[i].value);
        return;
    }
    pst_buf_lit(out, "traceparent: 00-");
    pst_buf_hex(out, pst_server_random(x->server), 16);
    pst_buf_hex(out, pst_server_random(x->server) | 1, 16);
    pst_buf_char(out, '-');
    pst_buf_hex(out, pst_server_random(x->server) | 1, 16);
    pst_buf_lit(out, "-01\r\n");
}

/* ---- where it came from ---- */

/* The trusted peer's own list, if any, and `last`, if any. */
static void put_list(struct pst_exchange *x, enum pst_field_id id, struct pst_bytes last,
                     struct pst_buf *out)
{
    bool any = false;

    for (size_t i = 0; x->c->trusted && (i = pst_head_find(&x->head, id, i)) < x->head.count; i++) {
        if (x->head.fields[i].value.len == 0)
            continue;
        if (any)
            pst_buf_lit(out, ", ");
        pst_buf_put(out, x->head.fields[i].value);
        any = true;
    }
    if (any && last.len > 0)
        pst_buf_lit(out, ", ");
    pst_buf_put(out, last);
}

static void put_forwarded(struct pst_exchange *x, struct pst_buf *out)
{
    struct pst_bytes peer = pst_bytes_of(x->c->peer, x->c->peer_len), value,
                     proto = PST_LIT("http");
    struct pst_bytes host = x->host.text;
    bool v6 = pst_bytes_find(peer, ':') < peer.len;
    char space[PST_HOST_MAX];
    struct pst_host told;

    if (x->c->trusted && pst_head_only(&x->head, PST_FIELD_X_FORWARDED_PROTO, &value, NULL) &&
        (pst_bytes_equal_nocase(value, PST_LIT("https")) ||
         pst_bytes_equal_nocase(value, PST_LIT("http"))))
        proto = value;
    if (x->c->trusted && pst_head_only(&x->head, PST_FIELD_X_FORWARDED_HOST, &value, NULL) &&
        pst_host_parse(value, space, &told))
        host = told.text;
    bool is_unix = pst_bytes_equal(peer, PST_LIT("unix")); /* has no address that could be told */

    pst_buf_lit(out, "X-Forwarded-For: ");
    put_list(x, PST_FIELD_X_FORWARDED_FOR, is_unix ? (struct pst_bytes){0} : peer, out);
    pst_buf_lit(out, "\r\nX-Forwarded-Proto: ");
    pst_buf_put(out, proto);
    pst_buf_lit(out, "\r\nX-Forwarded-Host: ");
    pst_buf_put(out, host);
    pst_buf_lit(out, "\r\nForwarded: ");
    put_list(x, PST_FIELD_FORWARDED, (struct pst_bytes){0}, out);
    if (x->c->trusted && pst_head_find(&x->head, PST_FIELD_FORWARDED, 0) < x->head.count)
        pst_buf_lit(out, ", ");
    if (v6)
        pst_buf_lit(out, "for=\"[");
    else if (is_unix)
        pst_buf_lit(out, "for=_");
    else
        pst_buf_lit(out, "for=");
    pst_buf_put(out, peer);
    if (v6)
        pst_buf_lit(out, "]\"");
    pst_buf_lit(out, ";host=\"");
    pst_buf_put(out, host);
    pst_buf_lit(out, "\";proto=");
    pst_buf_put(out, proto);
    pst_buf_lit(out, "\r\n");
}

/* ---- the request ---- */

static bool holds(struct pst_bytes all, struct pst_bytes part)
{
    return memmem(all.ptr, all.len, part.ptr, part.len) != NULL;
}

/* Everything but the credential. Nothing at all when nothing is left. */
static void put_cookie(struct pst_exchange *x, struct pst_bytes value, struct pst_buf *out)
{
    struct pst_bytes credential = x->config->credential_cookie, rest = value, name, crumb;
    bool any = false;

    if (credential.len == 0 || !holds(value, credential)) {
        pst_buf_line(out, PST_LIT("Cookie"), value);
        return;
    }
    while (pst_cookie_next(&rest, &name, &crumb)) {
        if (pst_bytes_equal(name, credential))
            continue;
        if (any)
            pst_buf_lit(out, "; ");
        else
            pst_buf_lit(out, "Cookie: ");
        pst_buf_put(out, name);
        if (name.len > 0)
            pst_buf_char(out, '=');
        pst_buf_put(out, crumb);
        any = true;
    }
    if (any)
        pst_buf_lit(out, "\r\n");
}

static void put_client_fields(struct pst_exchange *x, struct pst_buf *out)
{
    const struct pst_head *head = &x->head;

    for (size_t i = 0; i < head->count; i++) {
        const uint8_t id = head->ids[i];

        if (id == PST_FIELD_X_REQUEST_ID || id == PST_FIELD_TRACEPARENT ||
            id == PST_FIELD_TRACESTATE)
            continue; /* written by itself */
        if (id == PST_FIELD_AUTHORIZATION) {
            if (x->upstream->authorization_pass)
                pst_buf_line(out, PST_LIT("Authorization"), head->fields[i].value);
            continue;
        }
        if (id == PST_FIELD_COOKIE) {
            put_cookie(x, head->fields[i].value, out);
            continue;
        }
        if (pst_filter_request(&x->config->filter, head, i) == PST_FIELD_PASS)
            pst_buf_line(out, head->fields[i].name, head->fields[i].value);
    }
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
    pst_buf_safe_line(out, names->decision_id, d->id);
    pst_buf_safe_line(out, names->revision, d->revision_token);
    pst_buf_safe_line(out, d->workspace_field, d->workspace);
}

void pst_rewrite_request(struct pst_exchange *x, struct pst_buf *out)
{
    pst_buf_put(out, x->head.method_text);
    pst_buf_char(out, ' ');
    pst_buf_put(out, x->target.target);
    pst_buf_lit(out, " HTTP/1.1\r\nHost: ");
    pst_buf_put(out, x->upstream->host_client ? x->host.text
                                              : pst_endpoint_authority(x->lease->endpoint));
    pst_buf_lit(out, "\r\n");
    put_client_fields(x, out);
    put_forwarded(x, out);
    pst_buf_line(out, PST_LIT("X-Request-Id"), x->id);
    put_trace(x, out);
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

static void put_status_line(struct pst_exchange *x, struct pst_buf *out)
{
    pst_buf_lit(out, "HTTP/1.1 ");
    pst_buf_u64(out, x->answer.status);
    pst_buf_char(out, ' ');
    pst_buf_put(out, x->answer.reason);
    pst_buf_lit(out, "\r\n");
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

static void put_answer_fields(struct pst_exchange *x, struct pst_buf *out)
{
    const struct pst_head *answer = &x->answer;

    for (size_t i = 0; i < answer->count; i++) {
        struct pst_bytes value = answer->fields[i].value;
        if (answer->ids[i] == PST_FIELD_X_REQUEST_ID ||
            pst_filter_response(&x->config->filter, answer, i) != PST_FIELD_PASS)
            continue;
        if (answer->ids[i] == PST_FIELD_LOCATION && !x->upstream->host_client)
            value = client_view(x, value);
        pst_buf_line(out, answer->fields[i].name, value);
    }
}

static void put_answer_framing(struct pst_exchange *x, struct pst_buf *out)
{
    const struct pst_head *answer = &x->answer;
    bool describes = x->head.method == PST_METHOD_HEAD || answer->status == 304;

    x->chunked_out = false;
    switch (answer->framing) {
    case PST_FRAMING_NONE:
    case PST_FRAMING_LENGTH:
        if (answer->has_length && (answer->framing == PST_FRAMING_LENGTH || describes)) {
            pst_buf_lit(out, "Content-Length: ");
            pst_buf_u64(out, answer->content_length);
            pst_buf_lit(out, "\r\n");
        }
        break;
    case PST_FRAMING_CHUNKED:
    case PST_FRAMING_UNTIL_CLOSE:
        if (x->head.version_minor == 1) {
            x->chunked_out = true;
            pst_buf_lit(out, "Transfer-Encoding: chunked\r\n");
        } else {
            x->c->closing = true;
        }
        break;
    }
}

void pst_rewrite_answer(struct pst_exchange *x, struct pst_buf *out)
{
    put_status_line(x, out);
    put_answer_fields(x, out);
    pst_buf_line(out, PST_LIT("X-Request-Id"), x->id);
    put_answer_framing(x, out);
    if (x->server->draining)
        x->c->closing = true;
    if (x->c->closing)
        pst_buf_lit(out, "Connection: close\r\n");
    else if (x->head.version_minor == 0)
        pst_buf_lit(out, "Connection: keep-alive\r\n");
    pst_buf_lit(out, "\r\n");
}

void pst_rewrite_interim(struct pst_exchange *x, struct pst_buf *out)
{
    put_status_line(x, out);
    put_answer_fields(x, out);
    pst_buf_lit(out, "\r\n");
}
