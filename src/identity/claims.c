/*
 * The claims of a token whose signature holds (rule J4). The order of the checks decides which
 * reason is told, never whether the token passes: all of them must hold.
 */
#include "json_internal.h"
#include "token_internal.h"

#define DEPTH_MAX 32
/* Beyond 2^53 a JSON number is no longer exact, and far beyond any date. */
#define SECONDS_MAX 9007199254740992.0

struct reading {
    const struct pst_verifier *verifier;
    const struct pst_issuer *issuer;
    const json_t *claims;
    struct pst_arena *arena;
    int64_t now_s;
    struct pst_claims *out;
    enum pst_identity_reason reason;
};

static bool refuse(struct reading *r, enum pst_identity_reason reason)
{
    r->reason = reason;
    return false;
}

static bool has_all(struct reading *r)
{
    static const char *const required[] = {"iss", "sub", "aud", "exp"};

    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
        if (json_object_get(r->claims, required[i]) == NULL)
            return refuse(r, PST_ID_MISSING_CLAIM);
    return true;
}

static bool is_ours(struct reading *r)
{
    const json_t *iss = json_object_get(r->claims, "iss");

    if (!json_is_string(iss) || !pst_bytes_equal(pst_json_text(iss), r->issuer->name))
        return refuse(r, PST_ID_ISS);
    return true;
}

static bool is_audience(const struct pst_issuer *issuer, struct pst_bytes text)
{
    for (uint32_t i = 0; i < issuer->audiences_count; i++)
        if (pst_bytes_equal(issuer->audiences[i], text))
            return true;
    return false;
}

static bool is_for_us(struct reading *r)
{
    const json_t *aud = json_object_get(r->claims, "aud"), *one;
    bool found = false;
    size_t i;

    if (json_is_string(aud))
        return is_audience(r->issuer, pst_json_text(aud)) || refuse(r, PST_ID_AUD);
    if (!json_is_array(aud))
        return refuse(r, PST_ID_MALFORMED);
    json_array_foreach(aud, i, one)
    {
        if (!json_is_string(one))
            return refuse(r, PST_ID_MALFORMED);
        found = found || is_audience(r->issuer, pst_json_text(one));
    }
    return found || refuse(r, PST_ID_AUD);
}

/* A NumericDate (RFC 7519 2). Absent is well. */
static bool read_time(struct reading *r, const char *name, bool round_up, int64_t *out)
{
    const json_t *value = json_object_get(r->claims, name);

    *out = PST_TIME_ABSENT;
    if (value == NULL)
        return true;
    if (!json_is_number(value))
        return refuse(r, PST_ID_TIME);
    double s = json_number_value(value);
    if (!(s >= 0 && s <= SECONDS_MAX)) /* not a number, too */
        return refuse(r, PST_ID_TIME);
    *out = (int64_t)s + (round_up && (double)(int64_t)s < s ? 1 : 0);
    return true;
}

bool pst_claims_in_time(const struct pst_claims *c, uint32_t leeway_s, uint32_t max_lifetime_s,
                        int64_t now_s)
{
    int64_t leeway = leeway_s, lifetime = max_lifetime_s;

    if (now_s < 0 || now_s > INT64_MAX / 2 || c->exp_s < 0)
        return false;
    return now_s < c->exp_s + leeway && c->exp_s - now_s <= lifetime &&
           (c->nbf_s == PST_TIME_ABSENT || c->nbf_s <= now_s + leeway) &&
           (c->iat_s == PST_TIME_ABSENT || c->iat_s <= now_s + leeway);
}

static bool is_in_time(struct reading *r)
{
    struct pst_claims *c = r->out;

    if (!read_time(r, "exp", false, &c->exp_s) || !read_time(r, "nbf", true, &c->nbf_s) ||
        !read_time(r, "iat", true, &c->iat_s))
        return false;
    if (!pst_claims_in_time(c, r->verifier->leeway_s, r->verifier->max_lifetime_s, r->now_s))
        return refuse(r, PST_ID_TIME);
    if (c->nbf_s != PST_TIME_ABSENT && c->exp_s < c->nbf_s)
        return refuse(r, PST_ID_TIME);
    if (c->iat_s != PST_TIME_ABSENT &&
        (c->exp_s < c->iat_s || c->exp_s - c->iat_s > (int64_t)r->verifier->max_lifetime_s))
        return refuse(r, PST_ID_TIME);
    return true;
}

/* A name that is shown, logged and compared: not empty, bounded, without control characters. */
static bool is_name(struct pst_bytes text, size_t max)
{
    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return false;
    return true;
}

static bool keep(struct reading *r, const json_t *string, struct pst_bytes *out,
                 enum pst_status *status)
{
    *status = pst_arena_copy(r->arena, pst_json_text(string), out);
    return *status == PST_OK;
}

static bool read_subject(struct reading *r, enum pst_status *status)
{
    const json_t *sub = json_object_get(r->claims, "sub"), *jti = json_object_get(r->claims, "jti");

    if (!json_is_string(sub))
        return refuse(r, json_is_null(sub) ? PST_ID_SUB : PST_ID_MALFORMED);
    if (!is_name(pst_json_text(sub), r->verifier->max_sub_bytes))
        return refuse(r, PST_ID_SUB);
    if (jti != NULL && (!json_is_string(jti) || json_string_length(jti) > 255))
        return refuse(r, PST_ID_MALFORMED);
    return keep(r, sub, &r->out->subject, status) &&
           (jti == NULL || keep(r, jti, &r->out->jti, status));
}

static bool read_user(struct reading *r, enum pst_status *status)
{
    bool is_email = r->issuer->user_claim == PST_USER_EMAIL;
    const json_t *value;

    if (r->issuer->user_claim == PST_USER_SUB) {
        r->out->user = r->out->subject;
        return true;
    }
    value = json_object_get(r->claims, is_email ? "email" : "preferred_username");
    if (value == NULL)
        return refuse(r, PST_ID_MISSING_CLAIM);
    if (!json_is_string(value))
        return refuse(r, PST_ID_MALFORMED);
    if (!is_name(pst_json_text(value), r->verifier->max_sub_bytes))
        return refuse(r, PST_ID_SUB);
    /* Anybody may claim an address that nobody has verified. */
    if (is_email && !r->issuer->email_unverified &&
        !json_is_true(json_object_get(r->claims, "email_verified")))
        return refuse(r, PST_ID_SUB);
    return keep(r, value, &r->out->user, status);
}

static bool read_groups(struct reading *r, enum pst_status *status)
{
    const json_t *value = r->issuer->groups_claim == NULL
                              ? NULL
                              : json_object_get(r->claims, r->issuer->groups_claim);
    const json_t *one;
    size_t i;

    if (value == NULL || json_is_null(value))
        return true;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    struct pst_bytes *groups = pst_arena_array(r->arena, count, sizeof(*groups));
    if (groups == NULL) {
        *status = PST_E_NOMEM;
        return false;
    }
    r->out->groups = groups;
    r->out->groups_count = (uint32_t)count; /* below the token's size */
    if (json_is_string(value))
        return keep(r, value, &groups[0], status);
    if (!json_is_array(value))
        return refuse(r, PST_ID_MALFORMED);
    json_array_foreach(value, i, one)
    {
        if (!json_is_string(one))
            return refuse(r, PST_ID_MALFORMED);
        if (!keep(r, one, &groups[i], status))
            return false;
    }
    return true;
}

static bool is_unbound(struct reading *r)
{
    return json_object_get(r->claims, "cnf") == NULL || refuse(r, PST_ID_BINDING);
}

enum pst_status pst_claims_read(const struct pst_verifier *verifier, uint32_t issuer,
                                struct pst_bytes payload, int64_t now_s, struct pst_arena *arena,
                                struct pst_claims *out, enum pst_identity_reason *reason,
                                bool *good)
{
    json_t *claims = pst_json_object(payload, DEPTH_MAX);
    enum pst_status status = PST_OK;
    struct reading r = {
        .verifier = verifier,
        .issuer = &verifier->issuers[issuer],
        .claims = claims,
        .arena = arena,
        .now_s = now_s,
        .out = out,
        .reason = PST_ID_MALFORMED,
    };

    *out = (struct pst_claims){.issuer = issuer, .issuer_name = r.issuer->name};
    *good = claims != NULL && has_all(&r) && is_ours(&r) && is_for_us(&r) && is_in_time(&r) &&
            is_unbound(&r) && read_subject(&r, &status) && read_user(&r, &status) &&
            read_groups(&r, &status);
    *reason = r.reason;
    json_decref(claims);
    return status;
}
