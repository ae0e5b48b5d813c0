#include "postern/surface/auth_request.h"

#include "postern/http/target.h"

/* ---- the question ---- */

/* A field that must stand exactly once, and say something. */
static bool only_field(const struct pst_head *head, struct pst_bytes name, enum pst_field_id id,
                       struct pst_bytes *value)
{
    if (id != PST_FIELD_OTHER)
        return pst_head_only(head, id, value, NULL) && value->len > 0;
    size_t at = pst_head_find_name(head, name, 0);
    if (at == head->count || pst_head_find_name(head, name, at + 1) < head->count)
        return false;
    *value = head->fields[at].value;
    return value->len > 0;
}

static bool is_method(struct pst_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < 'A' || text.ptr[i] > 'Z')
            return false;
    return text.len > 0 && text.len <= 32;
}

/* Splits an absolute URL into its authority and what follows. */
static bool split_url(struct pst_bytes url, struct pst_bytes *authority, struct pst_bytes *target)
{
    if (pst_bytes_starts(url, PST_LIT("http://")))
        url = pst_bytes_from(url, 7);
    else if (pst_bytes_starts(url, PST_LIT("https://")))
        url = pst_bytes_from(url, 8);
    else
        return false;
    size_t slash = pst_bytes_find(url, '/');
    *authority = pst_bytes_of(url.ptr, slash);
    *target = pst_bytes_from(url, slash);
    return target->len > 0;
}

/* What the app would be asked for, in canonical form. */
static enum pst_reason read_target(const struct pst_auth_request *self, struct pst_arena *arena,
                                   enum pst_method method, struct pst_bytes raw,
                                   struct pst_request *out)
{
    struct pst_target target;
    struct pst_fault fault;
    struct pst_host host;

    if (self->target_id == PST_FIELD_X_ORIGINAL_URL) {
        struct pst_bytes authority;
        char *text = pst_arena_alloc(arena, PST_HOST_MAX);
        if (text == NULL)
            return PST_R_OVERLOAD;
        if (!split_url(raw, &authority, &raw) || !pst_host_parse(authority, text, &host))
            return PST_R_BAD_TARGET;
        out->host = host.text;
    }
    char *space = pst_arena_alloc(arena, raw.len + 256);
    if (space == NULL)
        return PST_R_OVERLOAD;
    if (!pst_target_parse(method, raw, NULL, space, raw.len + 256, &target, &fault) ||
        target.asterisk)
        return PST_R_BAD_TARGET;
    out->path = target.path;
    out->query = target.query;
    out->oddities = target.oddities;
    return PST_R_INTERNAL;
}

static bool wants_websocket(const struct pst_head *head)
{
    for (size_t i = 0; (i = pst_head_find(head, PST_FIELD_UPGRADE, i)) < head->count; i++) {
        struct pst_bytes rest = head->fields[i].value, one;
        while (pst_list_next(&rest, &one))
            if (pst_bytes_equal_nocase(one, PST_LIT("websocket")))
                return true;
    }
    return false;
}

enum pst_reason pst_auth_request_read(const void *self_, const struct pst_head *head,
                                      const struct pst_host *host, bool trusted,
                                      struct pst_arena *arena, struct pst_request *out)
{
    const struct pst_auth_request *self = self_;
    struct pst_bytes target, method;

    *out = (struct pst_request){0};
    if (!trusted)
        return PST_R_UNTRUSTED_PEER;
    if (!pst_bytes_equal(head->target, self->path))
        return PST_R_NO_ROUTE;
    if (!only_field(head, self->target_from, self->target_id, &target) ||
        !only_field(head, self->method_from, self->method_id, &method))
        return PST_R_BAD_REQUEST;
    enum pst_method id = pst_method_of(method);
    if (id == PST_METHOD_OTHER && !is_method(method))
        return PST_R_BAD_REQUEST;
    if (id == PST_METHOD_CONNECT || id == PST_METHOD_TRACE || id == PST_METHOD_TRACK)
        return PST_R_METHOD;
    out->host = host->text;
    out->method = method;
    enum pst_reason reason = read_target(self, arena, id, target, out);
    if (reason != PST_R_INTERNAL)
        return reason;
    out->fields = head->fields;
    out->field_count = (uint32_t)head->count;
    /* nginx never sends the body. Whether there is one is not known; a route that has to look at it
     * is told that there is, and is refused when it asks for it. */
    out->has_body = id == PST_METHOD_POST || id == PST_METHOD_PUT || id == PST_METHOD_PATCH;
    out->is_upgrade = head->upgrade == PST_UPGRADE_WEBSOCKET || wants_websocket(head);
    return PST_R_INTERNAL;
}

/* ---- the answer ---- */

static unsigned status_of(const struct pst_decision *d)
{
    if (d->forward)
        return 200;
    if (d->status == 401)
        return 401;
    if (d->status == 501 || d->status == 505) /* a method, a version: to come later helps nobody */
        return 403;
    return d->status >= 500 ? 503 : 403;
}

unsigned pst_auth_request_answer(const void *self_, const struct pst_decision *d,
                                 struct pst_buf *fields)
{
    const struct pst_auth_request *self = self_;
    unsigned status = status_of(d);

    if (status == 200) {
        if (!d->preflight) {
            pst_buf_safe_line(fields, self->user, d->user);
            pst_buf_safe_line(fields, self->roles, d->roles);
            pst_buf_safe_line(fields, self->workspace, d->workspace);
        }
        /* Of Postern's own making: nothing in them is to be looked for. */
        if (self->decision_id.len > 0 && d->id.len > 0)
            pst_buf_line(fields, self->decision_id, d->id);
        if (self->revision.len > 0 && d->revision_token.len > 0)
            pst_buf_line(fields, self->revision, d->revision_token);
        return 200;
    }
    const char *reason = pst_reason_name(d->reason);
    pst_buf_safe_line(fields, PST_LIT("X-Postern-Reason"),
                      pst_bytes_of(reason, strnlen(reason, 64)));
    pst_buf_safe_line(fields, PST_LIT("X-Postern-Decision-Id"), d->id);
    if (d->status != status) {
        pst_buf_lit(fields, "X-Postern-Status: ");
        pst_buf_u64(fields, d->status);
        pst_buf_lit(fields, "\r\n");
    }
    if (status == 401) {
        pst_buf_lit(fields, "WWW-Authenticate: ");
        pst_engine_challenge(d, fields);
        pst_buf_lit(fields, "\r\n");
    }
    if (status == 503) {
        pst_buf_lit(fields, "Retry-After: ");
        pst_buf_u64(fields, d->retry_after_s > 0 ? d->retry_after_s : 1);
        pst_buf_lit(fields, "\r\n");
    }
    return status;
}
