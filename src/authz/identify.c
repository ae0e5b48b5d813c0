/*
 * From a request's fields to a principal: the one credential, its token, the claims.
 *
 * Users are found by (issuer, subject) unless the issuer is configured to be asked for an e-mail
 * address or a user name: then the operator has said that this issuer may be believed about them.
 */
#include "engine_internal.h"

#include "postern/base/clock.h"

#define WALL_READ_NS (10 * PST_NS_PER_MS)

static enum pst_reason reason_of(enum pst_identity_reason why)
{
    switch (why) {
    case PST_ID_NO_CREDENTIAL:
        return PST_R_NO_CREDENTIAL;
    case PST_ID_AMBIGUOUS_CREDENTIAL:
        return PST_R_TWO_CREDENTIALS;
    case PST_ID_KEYS_UNAVAILABLE:
        return PST_R_KEYS_UNAVAILABLE;
    case PST_ID_MALFORMED:
    case PST_ID_TOO_LARGE:
    case PST_ID_ALG_NOT_ALLOWED:
    case PST_ID_UNKNOWN_KID:
    case PST_ID_KEY_TYPE_MISMATCH:
    case PST_ID_KEY_ALG_MISMATCH:
    case PST_ID_KEY_ISSUER_MISMATCH:
    case PST_ID_BAD_KEY:
    case PST_ID_WEAK_KEY:
    case PST_ID_BAD_SIGNATURE:
    case PST_ID_CRIT:
    case PST_ID_TYP:
    case PST_ID_TIME:
    case PST_ID_MISSING_CLAIM:
    case PST_ID_ISS:
    case PST_ID_AUD:
    case PST_ID_SUB:
    case PST_ID_BINDING:
    case PST_ID_UNKNOWN_USER:
    case PST_ID_USER_DISABLED:
    case PST_ID_REVOKED:
    case PST_ID_MALFORMED_CREDENTIAL:
        return PST_R_BAD_CREDENTIAL;
    }
    return PST_R_BAD_CREDENTIAL;
}

static enum pst_identified fault(struct pst_decide *d, enum pst_identity_reason why,
                                 enum pst_reason *out)
{
    d->credential_fault_ = pst_identity_reason_name(why);
    *out = reason_of(why);
    return PST_IDENTIFIED_NOT;
}

/* `claims` are in the arena, or counted (and then given back even when this fails). */
static bool fill(struct pst_decide *d, const struct pst_claims *claims, bool counted)
{
    const struct pst_site *site = pst_bundle_of(d->pin_->snapshot)->site;
    struct pst_principal *p = pst_arena_alloc(d->arena_, sizeof(*p));

    if (p == NULL || claims->issuer >= site->issuer_count) {
        if (counted)
            pst_token_claims_release(claims);
        return false;
    }
    *p = (struct pst_principal){.issuer = claims->issuer,
                                .issued_at = claims->iat_s > 0 ? (uint64_t)claims->iat_s : 0,
                                .claims = claims,
                                .counted = counted};
    switch (site->issuers[claims->issuer].user_claim) {
    case PST_USER_SUB:
        p->who = (struct pst_who){
            .kind = PST_WHO_SUBJECT, .issuer = claims->issuer_name, .value = claims->subject};
        break;
    case PST_USER_EMAIL:
        p->who = (struct pst_who){.kind = PST_WHO_EMAIL, .value = claims->user};
        break;
    case PST_USER_PREFERRED_USERNAME:
        p->who = (struct pst_who){.kind = PST_WHO_NAME, .value = claims->user};
        break;
    }
    d->principal_ = p;
    return true;
}

void pst_principal_release(struct pst_principal *p)
{
    if (p != NULL && p->counted)
        pst_token_claims_release(p->claims);
}

static bool ask_for_keys(struct pst_decide *d, uint32_t issuer, struct pst_bytes kid)
{
    struct pst_engine *e = d->engine_;
    uint64_t verifier = pst_verifier_generation(pst_checker_verifier(e->checker));

    if (issuer == PST_NO_ISSUER || d->keys_asked_ || e->want_keys == NULL)
        return false;
    d->keys_asked_ = true;
    d->keys_issuer_ = issuer;
    return e->want_keys(e->ctx, verifier, issuer, kid);
}

/* A wall clock that was set back is an alarm, and does not bring expired tokens to life. Reading it
 * costs 45 ns, 1.5 % of a check, and tokens end by the second: it is looked at now and then. */
int64_t pst_engine_wall_s(struct pst_engine *e, uint64_t boot_ns)
{
    uint64_t before = e->wall.steps_back;

    if (e->wall_read_ns != 0 && boot_ns - e->wall_read_ns < WALL_READ_NS)
        return pst_wall_believed_s(&e->wall, boot_ns);
    e->wall_read_ns = boot_ns;
    int64_t now_s = pst_wall_now_s(&e->wall, pst_clock_wall_ns(), boot_ns);
    if (e->wall.steps_back != before)
        pst_log_event(e->log, PST_LOG_WARN, "clock.set_back", "\"times\":%llu",
                      (unsigned long long)e->wall.steps_back);
    return now_s;
}

static enum pst_identified assume(struct pst_decide *d, enum pst_reason *why)
{
    static const struct pst_claims NO_CLAIMS = {0};

    *why = PST_R_UNAVAILABLE;
    d->principal_ = pst_arena_zalloc(d->arena_, sizeof(*d->principal_));
    if (d->principal_ == NULL)
        return PST_IDENTIFIED_NOT;
    d->principal_->claims = &NO_CLAIMS;
    d->principal_->who = *d->assumed_;
    d->principal_->issued_at = UINT64_MAX; /* no session to be revoked */
    return PST_IDENTIFIED;
}

/* A token that is not known yet, or does not stand any more. */
static enum pst_identified verify(struct pst_decide *d, struct pst_bytes token, int64_t now_s,
                                  enum pst_reason *why)
{
    struct pst_engine *e = d->engine_;
    struct pst_token_outcome *out = pst_arena_alloc(d->arena_, sizeof(*out));

    if (out == NULL ||
        pst_token_cache_verify(e->tokens, e->checker, token, now_s, d->arena_, out) != PST_OK)
        return PST_IDENTIFIED_NOT;
    if (!out->accepted)
        return ask_for_keys(d, out->refresh_issuer, out->wanted_kid) ? PST_IDENTIFIED_LATER
                                                                     : fault(d, out->reason, why);
    return fill(d, &out->claims, false) ? PST_IDENTIFIED : PST_IDENTIFIED_NOT;
}

/* By a checker of its own: the decision waited, and keeps its bundle, while a reload brought the
 * engine's checker to another site. No keys are asked for any more: the manager is the other's. */
static enum pst_identified verify_apart(struct pst_decide *d, struct pst_bytes token,
                                        enum pst_reason *why)
{
    const struct pst_site *site = pst_bundle_of(d->pin_->snapshot)->site;
    struct pst_token_outcome *out = pst_arena_alloc(d->arena_, sizeof(*out));
    struct pst_checker *checker = NULL;
    int64_t now_s = pst_engine_wall_s(d->engine_, pst_clock_boot_ns());

    if (out == NULL || pst_checker_create(site->verifier, &checker) != PST_OK)
        return PST_IDENTIFIED_NOT;
    enum pst_status status = pst_token_verify(checker, token, now_s, d->arena_, out);
    pst_checker_destroy(checker);
    if (status != PST_OK)
        return PST_IDENTIFIED_NOT;
    if (!out->accepted)
        return fault(d, out->reason, why);
    return fill(d, &out->claims, false) ? PST_IDENTIFIED : PST_IDENTIFIED_NOT;
}

enum pst_identified pst_engine_identify(struct pst_decide *d, enum pst_reason *why)
{
    if (d->assumed_ != NULL)
        return assume(d, why);
    struct pst_engine *e = d->engine_;
    const struct pst_site *site = pst_bundle_of(d->pin_->snapshot)->site;
    struct pst_credential c =
        pst_credential_seek(&site->credentials, d->request_->fields, d->request_->field_count);

    if (c.source == PST_CREDENTIAL_NONE)
        return fault(d, c.reason, why);
    *why = PST_R_UNAVAILABLE;
    bool ready = e->checker != NULL && pst_checker_verifier(e->checker) == site->verifier;
    int64_t now_s = ready ? pst_engine_wall_s(e, d->now_ns_) : 0;
    const struct pst_claims *known =
        ready ? pst_token_cache_get(e->tokens, e->checker, c.token, now_s) : NULL;
    if (known != NULL)
        return fill(d, known, true) ? PST_IDENTIFIED : PST_IDENTIFIED_NOT;
    if (!pst_credential_is_token(c.token))
        return fault(d, PST_ID_MALFORMED_CREDENTIAL, why);
    return ready ? verify(d, c.token, now_s, why) : verify_apart(d, c.token, why);
}

struct pst_new_user pst_principal_new_user(const struct pst_principal *p, struct pst_bytes role)
{
    return (struct pst_new_user){
        .issuer = p->claims->issuer_name,
        .subject = p->claims->subject,
        .name = p->claims->user,
        .email = p->who.kind == PST_WHO_EMAIL ? p->claims->user : (struct pst_bytes){0},
        .role = role,
    };
}

bool pst_principal_in_group(const struct pst_principal *p, struct pst_bytes group)
{
    for (uint32_t i = 0; i < p->claims->groups_count; i++)
        if (pst_bytes_equal(p->claims->groups[i], group))
            return true;
    return false;
}
