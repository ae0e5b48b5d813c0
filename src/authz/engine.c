/*
 * The life of a decision, one function a state, in this order:
 *
 *   BEGIN     a policy to decide by, and the revision that the caller has seen
 *   ROUTE     mount by host and prefix, route by path and method; public routes end here
 *   IDENTIFY  credential -> token cache, else verify -> principal
 *   FACTS     the principal's user, from memory or (WAIT) from the store
 *   BODY      (BODY) the body of a route that inspects it
 *   EVALUATE  workspace, requirements, lease, verdict
 *   LEASE     (instead of all of them) only whether there is a lease
 *
 * What outlasts its decision goes on in stream.c.
 *
 * run() walks until it is done or has to wait, and `step` says which.  A state returns whether the
 * walk goes on with the next one; one that refuses calls refuse(), which ends the walk: there is no
 * way past it to an allow.
 */
#include "engine_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "postern/base/clock.h"
#include "postern/policy/explain.h"

/* What leads here is laid out apart from what nearly every request walks through: that is larger
 * than the CPU's cache for instructions as it is. */
#define COLD __attribute__((cold))

enum state { BEGIN = 0, ROUTE, IDENTIFY, FACTS, BODY, EVALUATE, LEASE, DONE };

#define FACTS_DEADLINE_NS (500 * PST_NS_PER_MS)
#define LEASE_DEADLINE_NS (250 * PST_NS_PER_MS) /* the control thread says it after 200 ms */
#define LEASE_ASKS_MAX    20
#define KEYS_DEADLINE_NS  (6 * PST_NS_PER_S) /* a fetch takes 5 s at most */
#define BODY_FRESH_NS     (100 * PST_NS_PER_MS)

/* In shadow mode a refusal of these kinds is logged and passed; what makes a request unreadable
 * never is, and neither is what Postern cannot know. */
bool pst_engine_may_be_shadowed(enum pst_reason reason)
{
    switch (reason) {
    case PST_R_NO_ROUTE:
    case PST_R_METHOD:
    case PST_R_NO_CREDENTIAL:
    case PST_R_BAD_CREDENTIAL:
    case PST_R_UNKNOWN_USER:
    case PST_R_USER_DISABLED:
    case PST_R_UNKNOWN_WORKSPACE:
    case PST_R_NOT_GRANTED:
    case PST_R_DENIED:
    case PST_R_ATTRIBUTE:
    case PST_R_CONDITION:
    case PST_R_LEVEL_TOO_LOW:
    case PST_R_NEEDS_LOOKUP:
    case PST_R_NEEDS_FILTER:
    case PST_R_ADMIN_ONLY:
    case PST_R_OTHERS_ONLY:
    case PST_R_ROUTE_CLOSED:
        return true;
    case PST_R_INTERNAL:
    case PST_R_PUBLIC:
    case PST_R_GRANTED:
    case PST_R_OWNER:
    case PST_R_LEVEL:
    case PST_R_AUTH_OFF:
    case PST_R_PREFLIGHT:
    case PST_R_BAD_REQUEST:
    case PST_R_BAD_TARGET:
    case PST_R_AMBIGUOUS:
    case PST_R_BAD_ID:
    case PST_R_BAD_BODY:
    case PST_R_BODY_TOO_LARGE:
    case PST_R_BAD_WORKSPACE:
    case PST_R_UNKNOWN_HOST:
    case PST_R_UPGRADE:
    case PST_R_WORKSPACES_OFF:
    case PST_R_TWO_CREDENTIALS:
    case PST_R_KEYS_UNAVAILABLE:
    case PST_R_STALE:
    case PST_R_UNKNOWN_REVISION:
    case PST_R_UNAVAILABLE:
    case PST_R_OVERLOAD:
    case PST_R_DRAINING:
    case PST_R_UNTRUSTED_PEER:
    case PST_REASONS:
        return false;
    }
    return false;
}

static bool finish(struct pst_decide *d)
{
    struct pst_decision *out = &d->decision;
    bool allowed = out->verdict == PST_ALLOW;

    out->forward = allowed || out->shadowed;
    if (!allowed &&
        (out->status == 0 || out->status == 200)) /* a refusal never looks like success */
        out->status = pst_reason_status(out->reason);
    if (out->status == 503)
        out->retry_after_s = 1;
    d->state_ = DONE;
    d->step = PST_STEP_DONE;
    pst_engine_record(d);
    return false;
}

static COLD bool refuse(struct pst_decide *d, enum pst_reason reason)
{
    d->decision.verdict = PST_DENY;
    d->decision.reason = reason;
    d->decision.shadowed =
        d->mount_ != NULL && d->routed_.shadow && pst_engine_may_be_shadowed(reason);
    return finish(d);
}

static bool allow(struct pst_decide *d, enum pst_reason reason)
{
    d->decision.verdict = PST_ALLOW;
    d->decision.reason = reason;
    d->decision.status = 200;
    return finish(d);
}

static COLD bool wait_in(struct pst_decide *d, struct pst_list *list)
{
    pst_engine_wait(d, list);
    d->step = PST_STEP_WAIT;
    return false;
}

/* --- ROUTE --- */

/* Requests that nobody is asked about have no requirements, but their upstream may be chosen by the
 * workspace; and what could be read in two ways is as bad when nobody is asked. */
static COLD bool allow_anybody(struct pst_decide *d, enum pst_reason reason)
{
    struct pst_extracted e;
    struct pst_request bare = *d->request_;

    bare.body_given = true;
    pst_profile_extract(d->profile_->profile, &d->routed_, &bare, d->arena_, &e);
    if (e.refuse == PST_R_AMBIGUOUS || e.refuse == PST_R_BAD_TARGET) {
        d->decision.detail = d->log_detail_ = e.detail;
        return refuse(d, e.refuse);
    }
    if (e.refuse == PST_R_INTERNAL && pst_policy_workspace(policy_of(d), e.workspace) != 0) {
        d->decision.workspace = e.workspace;
        d->decision.workspace_field = e.forward_workspace_header;
    }
    return allow(d, reason);
}

/* An odd path that no route takes in could be another one's for whoever folds it: that is what is
 * wrong with it, not that nothing is there. */
static enum pst_reason unmatched(const struct pst_decide *d, enum pst_reason reason)
{
    return reason == PST_R_NO_ROUTE && (d->request_->oddities & PST_ODD_REFUSE) != 0
               ? PST_R_BAD_TARGET
               : reason;
}

static bool do_route(struct pst_decide *d)
{
    const struct pst_site *site = site_of(d);
    bool host_known;

    if (d->listener_ >= site->listener_count)
        return refuse(d, PST_R_INTERNAL);
    d->mount_ = pst_site_mount(&site->listeners[d->listener_], d->request_, &host_known);
    if (d->mount_ == NULL)
        return refuse(d, unmatched(d, host_known ? PST_R_NO_ROUTE : PST_R_UNKNOWN_HOST));

    d->profile_ = &site->profiles[d->mount_->profile];
    d->decision.upstream = d->mount_->upstream;
    d->decision.form = pst_profile_form(d->profile_->profile);
    pst_profile_route(d->profile_->profile, d->request_, &d->routed_);
    d->decision.allow = d->routed_.allow;
    memcpy(d->decision.secret, d->routed_.secret, sizeof(d->decision.secret));
    d->decision.body_limit = d->routed_.body_limit == 0 ? site->body_bytes : d->routed_.body_limit;
    if (d->routed_.refuse != PST_R_INTERNAL && !d->routed_.refuse_after_identity)
        return refuse(d, unmatched(d, d->routed_.refuse));
    if (d->request_->is_upgrade && (d->routed_.is_public || d->routed_.preflight))
        return refuse(d, PST_R_UPGRADE);
    if (d->routed_.refuse == PST_R_INTERNAL && d->routed_.preflight) {
        d->decision.preflight = true;
        return allow_anybody(d, PST_R_PREFLIGHT);
    }
    if (d->routed_.refuse == PST_R_INTERNAL && d->routed_.is_public)
        return allow_anybody(d, PST_R_PUBLIC);
    return true;
}

/* --- IDENTIFY --- */

static bool do_identify(struct pst_decide *d)
{
    enum pst_reason why = PST_R_INTERNAL;

    if (site_of(d)->authentication_off)
        return true;
    switch (pst_engine_identify(d, &why)) {
    case PST_IDENTIFIED:
        return true;
    case PST_IDENTIFIED_LATER:
        d->deadline_ns_ = d->now_ns_ + KEYS_DEADLINE_NS;
        return wait_in(d, &d->engine_->keyless);
    case PST_IDENTIFIED_NOT:
        break;
    }
    return refuse(d, why);
}

/* --- FACTS --- */

/* Is this caller to be made when the store does not know it? Reserved names never are. */
static bool makes_users(const struct pst_decide *d)
{
    const struct pst_site *site = site_of(d);

    for (uint32_t i = 0; i < site->reserved_name_count; i++)
        if (pst_bytes_equal_nocase(site->reserved_names[i], d->principal_->claims->user))
            return false;
    return d->assumed_ == NULL && site->issuers[d->principal_->issuer].create_users;
}

static bool post_fetch(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;
    const struct pst_site_issuer *issuer = &site_of(d)->issuers[d->principal_->issuer];
    struct pst_new_user create = pst_principal_new_user(d->principal_, issuer->default_role);

    if (pst_worker_issue(e->worker, d, &d->ticket_) != PST_OK)
        return refuse(d, PST_R_UNAVAILABLE);
    if (!d->facts_asked_) /* however often it has to be asked */
        d->deadline_ns_ = d->now_ns_ + FACTS_DEADLINE_NS;
    d->facts_asked_ = true;
    d->history_ = e->histories;
    struct pst_facts_request request = {
        .who = d->principal_->who,
        .ticket = (uint64_t)d->ticket_.slot << 32 | d->ticket_.generation,
        .deadline_ns = d->deadline_ns_,
        .create = makes_users(d) ? &create : NULL,
        .deliver = pst_engine_deliver,
        .ctx = e,
    };
    if (pst_service_facts(e->service, &request) != PST_PENDING) {
        pst_worker_revoke(e->worker, d->ticket_);
        d->ticket_ = (struct pst_ticket){0};
        return refuse(d, PST_R_UNAVAILABLE);
    }
    return wait_in(d, &e->waiting);
}

static void tell_revision(struct pst_decide *d, const struct pst_policy_pin *pin)
{
    const struct pst_bundle *bundle = pst_bundle_of(pin->snapshot);

    d->decision.revision = pst_bytes_of(bundle->revision, bundle->bare_len);
    d->decision.revision_token = pst_bytes_of(bundle->revision, bundle->revision_len);
}

/* While a decision waited, news may have come: facts of one revision and a policy of an earlier one
 * would together be what no revision says (C7). The site stays that of the beginning. */
static COLD void follow_policy(struct pst_decide *d)
{
    struct pst_policy_pin *now = pst_policy_pin_adopted(d->engine_->reader);

    if (now == d->pin_ || now == NULL) {
        if (now != NULL)
            pst_policy_unpin(now);
        return;
    }
    if (d->policy_pin_ != NULL)
        pst_policy_unpin(d->policy_pin_);
    d->policy_pin_ = now;
    tell_revision(d, now);
}

/* --- FRESH? --- */

/* Whether memory may be trusted for this decision (C1, C5). Also notes that this node is at work.
 * The clock was read when this walk began (per decision, not the loop's: C12): since then nothing
 * that memory says has changed, for news come between walks. */
static bool is_fresh(const struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;

    atomic_store_explicit(&e->active_ns, d->now_ns_, memory_order_relaxed);
    return pst_engine_lapsed_ns(e, d->now_ns_) == 0 &&
           (d->min_.epoch == 0 ||
            (d->min_.epoch == e->epoch && d->min_.n <= pst_facts_cache_applied(e->facts)));
}

static enum pst_step run(struct pst_decide *d);

/* There is no lease and none will come: a route may have asked to be decided from memory then, for
 * a while, and never for a user who would have to be read. */
static COLD bool without_lease(struct pst_decide *d)
{
    if (d->stale_ || !pst_engine_stale_allowed(d))
        return refuse(d, PST_R_STALE);
    d->stale_ = true;
    run(d);
    return false;
}

/* He is looked at again from the beginning of what memory says about him. */
static void forget_facts(struct pst_decide *d)
{
    pst_fact_entry_release(d->facts_);
    d->facts_ = NULL;
    d->decision.user = (struct pst_bytes){0};
    d->state_ = FACTS;
}

/* C3: all that wait share one read of the log. What it brings may be about this caller. A read that
 * was under way may be older than the revision that he has seen, so the second one counts. */
static bool wait_for_lease(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;

    if (d->lease_asks_ == 0)
        d->deadline_ns_ = d->now_ns_ + LEASE_DEADLINE_NS;
    if (d->lease_asks_ >= 2 && d->min_.epoch != 0 && d->min_.epoch != e->epoch)
        return refuse(d, PST_R_UNKNOWN_REVISION);
    if (e->want_lease == NULL || d->now_ns_ > d->deadline_ns_ || d->lease_asks_ == LEASE_ASKS_MAX)
        return without_lease(d);
    d->lease_asks_++;
    forget_facts(d);
    wait_in(d, &e->stale);
    e->want_lease(e->ctx);
    return false;
}

/* --- BEGIN --- */

/* A worker that has just begun may have to be told yet what there is to decide by. */
static bool do_begin(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;
    struct pst_bytes min = d->request_->min_revision;

    d->pin_ = pst_policy_pin_adopted(e->reader);
    if (d->pin_ == NULL) {
        if (e->want_lease == NULL || d->lease_asks_ > 0)
            return refuse(d, PST_R_STALE);
        d->lease_asks_++;
        d->deadline_ns_ = d->now_ns_ + LEASE_DEADLINE_NS;
        wait_in(d, &e->stale);
        e->want_lease(e->ctx);
        return false;
    }
    tell_revision(d, d->pin_);
    /* One that no node wrote is ignored: nobody can make us wait for what will never be. */
    if (min.len > 0 &&
        !pst_revision_token_read(pst_bundle_of(d->pin_->snapshot)->fleet_key, min, &d->min_))
        d->min_ = (struct pst_revision){0};
    return true;
}

/* --- what memory says of the user --- */

/* No without a lease would be as stale as yes: he may have been let in again (C3). */
static bool judge_user(struct pst_decide *d)
{
    enum pst_reason why = PST_R_INTERNAL;

    d->decision.user = d->facts_->facts->name;
    if (!pst_engine_user_stands(d, &why))
        return is_fresh(d) || d->stale_ ? refuse(d, why) : wait_for_lease(d);
    return true;
}

static bool do_facts(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;

    if (d->principal_ == NULL) /* nobody is asked who he is */
        return true;
    if (d->facts_ == NULL) {
        d->facts_ = pst_facts_cache_get(e->facts, &d->principal_->who);
        if (d->facts_ != NULL && d->facts_->facts->user_id == 0 && makes_users(d)) {
            pst_fact_entry_release(d->facts_); /* known to be unknown: to be made */
            d->facts_ = NULL;
        }
        if (d->facts_ != NULL)
            pst_count(&e->metrics->fact_hits, 1);
    }
    if (d->facts_ == NULL) {
        pst_count(&e->metrics->fact_misses, 1);
        return post_fetch(d);
    }
    if (d->facts_asked_ || d->keys_asked_ || d->lease_asks_ > 0)
        follow_policy(d);
    return judge_user(d);
}

/* --- BODY, EVALUATE --- */

static bool refuse_routed(struct pst_decide *d)
{
    struct pst_question q;

    pst_engine_question(d, &q);
    if (d->routed_.admin_sees_404 && pst_eval_is_admin(&q))
        d->decision.status = 404;
    return refuse(d, d->routed_.refuse);
}

static bool do_body(struct pst_decide *d)
{
    const struct pst_site *site = site_of(d);

    if (d->routed_.refuse != PST_R_INTERNAL)
        return refuse_routed(d);
    if (d->request_->is_upgrade) /* what comes after a 101 would be nobody's decision */
        return refuse(d, PST_R_UPGRADE);
    if (d->routed_.inspect_body && d->request_->has_body && !d->body_given_) {
        d->body_limit =
            d->routed_.inspect_limit == 0 ? site->inspect_body_bytes : d->routed_.inspect_limit;
        d->news_ = d->engine_->news;
        d->step = PST_STEP_BODY;
        return false;
    }
    return true;
}

static bool judge(struct pst_decide *d)
{
    struct pst_eval_detail *detail = pst_arena_zalloc(d->arena_, sizeof(*detail));
    struct pst_question q;

    if (detail == NULL)
        return refuse(d, PST_R_UNAVAILABLE);
    pst_engine_question(d, &q);
    if (d->facts_ != NULL)
        pst_engine_name_roles(d, &q);
    if (q.requirement_count == 0) /* the route asks for somebody, and somebody is here */
        return d->facts_ != NULL || q.settings->authentication_off ? allow(d, PST_R_GRANTED)
                                                                   : refuse(d, PST_R_NO_CREDENTIAL);
    enum pst_verdict verdict = pst_eval(&q, detail);
    d->detail_ = detail;
    if (verdict == PST_ALLOW)
        return allow(d, detail->reason);
    pst_engine_describe(d, detail, d->request_->path);
    return refuse(d, detail->reason);
}

static void extract(struct pst_decide *d)
{
    const struct pst_request *request = d->request_;
    struct pst_request with_body;

    if (d->body_given_) {
        with_body = *request;
        with_body.body = d->body_;
        with_body.body_given = true;
        request = &with_body;
    }
    pst_profile_extract(d->profile_->profile, &d->routed_, request, d->arena_, &d->extracted_);
}

static bool do_evaluate(struct pst_decide *d)
{
    struct pst_extracted *x = &d->extracted_;

    extract(d);
    if (x->refuse != PST_R_INTERNAL) {
        d->decision.detail = d->log_detail_ = x->detail;
        return refuse(d, x->refuse);
    }
    d->decision.workspace = x->workspace;
    d->decision.workspace_field = x->forward_workspace_header;
    d->workspace_ = x->workspace.len == 0 ? 0 : pst_policy_workspace(policy_of(d), x->workspace);
    if (!is_fresh(d) && !d->stale_)
        return wait_for_lease(d);
    if (x->workspace.len > 0 && d->workspace_ == 0 && !x->workspace_optional)
        return refuse(d, PST_R_UNKNOWN_WORKSPACE);
    return judge(d);
}

static void do_lease(struct pst_decide *d)
{
    if (pst_engine_lapsed_ns(d->engine_, d->now_ns_) == 0)
        allow(d, PST_R_GRANTED);
    else if (!wait_for_lease(d) && d->step == PST_STEP_WAIT)
        d->state_ = LEASE;
}

/* --- the walk --- */

static enum pst_step run(struct pst_decide *d)
{
    switch ((enum state)d->state_) {
    case BEGIN:
        if (!do_begin(d))
            break;
        __attribute__((fallthrough));
    case ROUTE:
        if (!do_route(d))
            break;
        __attribute__((fallthrough));
    case IDENTIFY:
        d->state_ = IDENTIFY;
        if (!do_identify(d))
            break;
        __attribute__((fallthrough));
    case FACTS:
        d->state_ = FACTS;
        if (!do_facts(d))
            break;
        __attribute__((fallthrough));
    case BODY:
        d->state_ = BODY;
        if (!do_body(d))
            break;
        __attribute__((fallthrough));
    case EVALUATE:
        d->state_ = EVALUATE;
        do_evaluate(d);
        break;
    case LEASE:
        do_lease(d);
        break;
    case DONE:
        break;
    }
    return d->step;
}

/* What comes next was caused by something from outside, some time later. */
static void wake(struct pst_decide *d)
{
    d->now_ns_ = pst_clock_boot_ns();
}

static void write_id(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;
    struct pst_buf b = pst_buf_of(d->id_, sizeof(d->id_));

    pst_buf_put(&b, pst_bytes_of(e->id_prefix, sizeof(e->id_prefix)));
    pst_buf_hex(&b, ++e->id_count, 16);
    d->decision.id = pst_buf_bytes(&b);
}

static void clear(struct pst_engine *engine, struct pst_decide *d)
{
    void (*resume)(struct pst_decide *) = d->resume;

    memset(d, 0, offsetof(struct pst_decide, routed_)); /* zero is DENY */
    d->resume = resume;
    d->engine_ = engine;
    d->started_ns_ = d->now_ns_ = pst_clock_boot_ns();
    d->decision.upstream = UINT32_MAX;
    pst_list_init(&d->waiting_);
    write_id(d);
}

static enum pst_step begin(struct pst_engine *engine, struct pst_decide *d, uint32_t listener,
                           const struct pst_request *request, struct pst_arena *arena,
                           const struct pst_who *who)
{
    clear(engine, d);
    d->request_ = request;
    d->arena_ = arena;
    d->assumed_ = who;
    d->listener_ = listener;
    return run(d);
}

enum pst_step pst_engine_begin(struct pst_engine *engine, struct pst_decide *d, uint32_t listener,
                               const struct pst_request *request, struct pst_arena *arena)
{
    return begin(engine, d, listener, request, arena, NULL);
}

enum pst_step pst_engine_begin_as(struct pst_engine *engine, struct pst_decide *d,
                                  uint32_t listener, const struct pst_request *request,
                                  struct pst_arena *arena, const struct pst_who *who)
{
    return begin(engine, d, listener, request, arena, who);
}

enum pst_step pst_engine_begin_lease(struct pst_engine *engine, struct pst_decide *d)
{
    clear(engine, d);
    d->state_ = LEASE;
    return run(d);
}

void pst_engine_explain(const struct pst_decide *d, bool json, struct pst_buf *out)
{
    static const struct pst_eval_detail NOT_ASKED = {.requirement = PST_NOWHERE,
                                                     .key = PST_NOWHERE};
    struct pst_eval_detail detail = d->detail_ == NULL ? NOT_ASKED : *d->detail_;
    struct pst_question q = {0};

    detail.reason = d->decision.reason;
    if (d->pin_ != NULL && d->profile_ != NULL)
        pst_engine_question(d, &q);
    if (json)
        pst_explain_json(&q, d->decision.verdict, &detail, out);
    else
        pst_explain_text(&q, d->decision.verdict, &detail, out);
}

static void stop_waiting(struct pst_decide *d)
{
    pst_list_remove(&d->waiting_);
    if (d->ticket_.generation != 0)
        pst_worker_revoke(d->engine_->worker, d->ticket_);
    d->ticket_ = (struct pst_ticket){0};
}

/* Gives back what the decision holds. */
static void let_go(struct pst_decide *d)
{
    pst_fact_entry_release(d->facts_);
    pst_principal_release(d->principal_);
    pst_facts_free(d->early_facts_);
    if (d->policy_pin_ != NULL)
        pst_policy_unpin(d->policy_pin_);
    if (d->pin_ != NULL)
        pst_policy_unpin(d->pin_);
    d->facts_ = NULL;
    d->early_facts_ = NULL;
    d->principal_ = NULL;
    d->policy_pin_ = d->pin_ = NULL;
}

/* A body comes as slowly as its sender likes, whose token or rights may have ended meanwhile:
 * nothing that was found out before counts any more. The doors are numbered by the site of the
 * beginning, so with another one the request has to come again. */
static bool ask_anew(struct pst_decide *d)
{
    struct pst_policy_pin *now = pst_policy_pin_adopted(d->engine_->reader);

    if (now == NULL)
        return refuse(d, PST_R_STALE);
    if (pst_bundle_of(now->snapshot)->site != site_of(d)) {
        pst_policy_unpin(now);
        return refuse(d, PST_R_UNAVAILABLE);
    }
    let_go(d);
    d->pin_ = now;
    tell_revision(d, now);
    d->decision.user = (struct pst_bytes){0};
    d->facts_asked_ = false;
    d->lease_asks_ = 0;
    d->state_ = ROUTE;
    return true;
}

enum pst_step pst_engine_body(struct pst_decide *d, struct pst_bytes body, bool too_large)
{
    assert(d->state_ == BODY);
    wake(d);
    if (too_large) {
        refuse(d, PST_R_BODY_TOO_LARGE);
        return d->step;
    }
    d->body_ = body;
    d->body_given_ = true;
    if (d->now_ns_ - d->started_ns_ > BODY_FRESH_NS)
        return ask_anew(d) ? run(d) : d->step;
    /* A lease that came meanwhile, or a revision, is not that of what was looked up before. */
    if (d->news_ != d->engine_->news) {
        forget_facts(d);
        follow_policy(d);
    }
    return run(d);
}

void pst_engine_end(struct pst_decide *d)
{
    if (d->engine_ == NULL)
        return;
    pst_engine_stream_end(d);
    stop_waiting(d);
    let_go(d);
    d->engine_ = NULL;
}

/* The end of what a waiting decision hears; it may have to be waited for again. */
static void resume(struct pst_decide *d)
{
    if (d->step != PST_STEP_WAIT)
        d->resume(d);
}

static void run_on(struct pst_decide *d)
{
    run(d);
    resume(d);
}

static void refuse_and_resume(struct pst_decide *d, enum pst_reason reason)
{
    refuse(d, reason);
    resume(d);
}

/* C4: rows ahead of the log wait for it; rows that a later change touched are read again, at once.
 */
static void judge_rows(struct pst_decide *d, struct pst_facts *facts, uint64_t epoch, uint64_t n)
{
    struct pst_engine *e = d->engine_;

    if (d->history_ != e->histories) { /* a restore keeps the epoch when nobody told it */
        pst_facts_free(facts);
        run_on(d);
        return;
    }
    if (epoch != e->epoch || n > pst_facts_cache_applied(e->facts)) {
        d->early_facts_ = facts; /* kept: steady writes would put every new read ahead again */
        d->early_epoch_ = epoch;
        d->early_n_ = n;
        pst_engine_wait(d, &e->early);
        if (e->want_lease != NULL)
            e->want_lease(e->ctx);
        return;
    }
    if (!pst_facts_cache_usable(e->facts, facts, n)) {
        pst_count(&e->metrics->fill_guards, 1);
        pst_facts_free(facts);
        run_on(d);
        return;
    }
    d->facts_ = pst_facts_cache_put(e->facts, &d->principal_->who, facts, n);
    if (d->facts_ == NULL)
        refuse_and_resume(d, PST_R_UNAVAILABLE);
    else
        run_on(d);
}

void pst_engine_got_facts(struct pst_decide *d, enum pst_status status, struct pst_facts *facts,
                          uint64_t epoch, uint64_t n)
{
    stop_waiting(d);
    wake(d);
    if (status != PST_OK || facts == NULL) {
        pst_facts_free(facts);
        /* EXISTS: to be made, but the name is somebody else's. */
        refuse_and_resume(d, status == PST_E_EXISTS ? PST_R_UNKNOWN_USER : PST_R_UNAVAILABLE);
        return;
    }
    judge_rows(d, facts, epoch, n);
}

void pst_engine_ask_again(struct pst_decide *d)
{
    struct pst_facts *facts = d->early_facts_;

    pst_list_remove(&d->waiting_);
    wake(d);
    if (d->lease_asks_ > 0)
        follow_policy(d);
    d->early_facts_ = NULL;
    if (facts != NULL && d->early_epoch_ == d->engine_->epoch) {
        judge_rows(d, facts, d->early_epoch_, d->early_n_);
        return;
    }
    pst_facts_free(facts); /* of another history */
    run_on(d);
}

void pst_engine_give_up(struct pst_decide *d)
{
    bool for_lease = d->lease_asks_ > 0 && d->facts_ == NULL && d->ticket_.generation == 0;

    stop_waiting(d);
    wake(d);
    if (for_lease)
        without_lease(d);
    else
        refuse(d, PST_R_UNAVAILABLE);
    resume(d);
}

void pst_engine_refuse_stale(struct pst_decide *d)
{
    stop_waiting(d);
    wake(d);
    without_lease(d);
    resume(d);
}
