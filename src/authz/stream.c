/*
 * What outlasts its decision: exchanges that are held, judged again, and cut (C10); and what may be
 * decided although there is no lease.
 *
 *   hold -> due -> look() -> held           allowed by what is adopted now
 *                         -> reading -> due his rows come
 *                         -> later -> due   no room to ask, or his rows wait for the log
 *                         -> cut            refused; token ended; no lease for too long
 *   held -> due                             news changed something; once a second, for the clock
 *
 * Looking stops after LOOK_NS and goes on in the next turn, so that many streams are no stall.
 *
 * Time (B is the bound, a change is acknowledged at 0): the news comes by B; who cannot be judged
 * READ_NS later is cut; a beat is at most 500 ms.  The lease ends B after the last proof; the first
 * beat that finds it gone for LAPSE_NS cuts.  Either way it is over by B + 1 s.
 *
 * A held decision has no pin: what its stream needs of the site is kept by a count on the site, its
 * texts are copies, and the policy of the day is lent to it for one look.
 */
#include "engine_internal.h"

#include "postern/base/clock.h"

#define LOOK_NS   (2 * PST_NS_PER_MS)
#define LOOKS     16 /* between two looks at the clock */
#define READ_NS   (500 * PST_NS_PER_MS)
#define LAPSE_NS  (400 * PST_NS_PER_MS)
#define READS_MAX 1024 /* under way; the service's queue is for requests too */
#define SWEEP     4    /* beats between two looks at everything */
#define SCRATCH   ((size_t)1 << 20)

/* What is the same for all of one run. */
struct view {
    uint64_t now_ns, lapsed_ns;
    int64_t now_s;
    struct pst_policy_pin *pin;
};

/* --- texts --- */

struct copying {
    struct pst_arena *arena;
    bool full;
};

static struct pst_bytes copy(struct copying *c, struct pst_bytes text)
{
    struct pst_bytes out = {0};

    if (text.len > 0 && pst_arena_copy(c->arena, text, &out) != PST_OK)
        c->full = true;
    return out;
}

static void copy_requirement(struct copying *c, struct pst_requirement *r)
{
    r->self = copy(c, r->self);
    for (uint32_t i = 0; i < r->key_count; i++) {
        r->keys[i].entity = copy(c, r->keys[i].entity);
        r->keys[i].id = copy(c, r->keys[i].id);
    }
    r->or_entity = copy(c, r->or_entity);
    r->subtype = copy(c, r->subtype);
    r->pipeline = copy(c, r->pipeline);
    for (uint32_t kind = 0; kind < PST_ATTR_KINDS; kind++) {
        uint32_t count = r->attribute_count[kind];
        struct pst_bytes *names = pst_arena_array(c->arena, count, sizeof(*names));
        c->full = c->full || names == NULL;
        for (uint32_t i = 0; i < count && !c->full; i++)
            names[i] = copy(c, r->attributes[kind][i]);
        r->attributes[kind] = names;
    }
}

/* The client's input and the bundle need not stay for the decision's sake. */
static bool own_texts(struct pst_decide *d)
{
    struct pst_extracted *x = &d->extracted_;
    struct copying c = {.arena = d->arena_};
    struct pst_requirement *own = pst_arena_array(d->arena_, x->requirement_count, sizeof(*own));

    if (own == NULL)
        return false;
    for (uint32_t i = 0; i < x->requirement_count && !c.full; i++) {
        own[i] = x->requirements[i];
        copy_requirement(&c, &own[i]);
    }
    x->requirements = own;
    x->entity = copy(&c, x->entity);
    d->decision.workspace = x->workspace = copy(&c, d->decision.workspace);
    return !c.full;
}

/* `token` begins with the revision, of `bare` bytes. */
static void note_revision(struct pst_decide *d, struct pst_bytes token, size_t bare)
{
    struct pst_buf room = pst_buf_of(d->revision_, sizeof(d->revision_));

    pst_buf_put(&room, token);
    d->decision.revision_token = pst_buf_bytes(&room);
    d->decision.revision = pst_bytes_of(d->revision_, room.len < bare ? room.len : bare);
}

/* --- lists --- */

static void show_count(const struct pst_engine *e)
{
    atomic_store_explicit(&e->metrics->streams_held, e->streams.count, memory_order_relaxed);
}

static void stop_reading(struct pst_decide *d)
{
    if (d->ticket_.generation == 0)
        return;
    pst_worker_revoke(d->engine_->worker, d->ticket_);
    d->ticket_ = (struct pst_ticket){0};
    d->engine_->streams.reads--;
}

static void move(struct pst_decide *d, struct pst_list *list)
{
    pst_list_remove(&d->waiting_);
    pst_list_append(list, &d->waiting_);
}

static void look_at(struct pst_decide *d)
{
    stop_reading(d);
    move(d, &d->engine_->streams.due);
    pst_worker_defer(d->engine_->worker, &d->engine_->streams.look);
}

static void look_at_all(struct pst_engine *e)
{
    pst_list_take(&e->streams.due, &e->streams.held);
    pst_list_take(&e->streams.due, &e->streams.later);
    if (!pst_list_empty(&e->streams.due))
        pst_worker_defer(e->worker, &e->streams.look);
}

/* Held streams are work: they keep the node renewing its lease. */
static void show_work(struct pst_engine *e, uint64_t now_ns)
{
    atomic_store_explicit(&e->active_ns, now_ns, memory_order_relaxed);
}

/* --- the end of a stream --- */

void pst_engine_stream_end(struct pst_decide *d)
{
    if (d->site_ == NULL)
        return;
    if (d->cut_ != NULL) {
        stop_reading(d);
        d->engine_->streams.count--;
        show_count(d->engine_);
    }
    d->cut_ = NULL;
    /* Pairs with the acquire of whoever frees the site: nothing of it is read after this. */
    atomic_fetch_sub_explicit(&d->site_->streams_, 1, memory_order_release);
    d->site_ = NULL;
}

/* It would be refused now. */
static void refuse(struct pst_decide *d, enum pst_reason reason)
{
    struct pst_engine *e = d->engine_;
    bool told = d->decision.shadowed;

    d->decision.verdict = PST_DENY;
    d->decision.reason = reason;
    d->decision.shadowed = d->routed_.shadow && pst_engine_may_be_shadowed(reason);
    if (!d->decision.shadowed || !told)
        pst_engine_record_stream(d, "stream_cut");
    d->detail_ = NULL; /* of this look, as its text */
    d->decision.detail = d->log_detail_ = (struct pst_bytes){0};
    if (d->decision.shadowed) {
        move(d, &e->streams.held);
        return;
    }
    pst_count(&e->metrics->streams_cut[reason], 1);
    stop_reading(d);
    pst_list_remove(&d->waiting_);
    d->cut_(d);
}

/* --- one look --- */

static bool has_expired(const struct pst_decide *d, int64_t now_s)
{
    const struct pst_verifier *verifier = d->site_->verifier;

    return d->principal_ != NULL && d->assumed_ == NULL && verifier != NULL &&
           now_s >= d->principal_->claims->exp_s + pst_verifier_leeway_s(verifier);
}

/* Without a lease nothing that is known counts; the route may have asked for some time. */
static void look_without_lease(struct pst_decide *d, uint64_t lapsed_ns)
{
    struct pst_engine *e = d->engine_;
    uint64_t grace_ns = d->routed_.stream_grace_s * PST_NS_PER_S;

    if (lapsed_ns >= LAPSE_NS && lapsed_ns >= grace_ns) {
        refuse(d, PST_R_STALE);
        return;
    }
    if (lapsed_ns >= LAPSE_NS && !d->graced_) {
        d->graced_ = true;
        pst_count(&e->metrics->streams_graced, 1);
        pst_engine_record_stream(d, "stream_grace");
    }
    move(d, &e->streams.held);
}

/* Rows that came ahead of the log, or that were read in vain. */
static struct pst_fact_entry *take_rows(struct pst_decide *d, bool *early)
{
    struct pst_engine *e = d->engine_;
    struct pst_facts *rows = d->early_facts_;
    bool counts = d->history_ == e->histories;

    *early = rows != NULL && counts &&
             (d->early_epoch_ != e->epoch || d->early_n_ > pst_facts_cache_applied(e->facts));
    if (rows == NULL || *early)
        return NULL;
    d->early_facts_ = NULL;
    if (counts && pst_facts_cache_usable(e->facts, rows, d->early_n_))
        return pst_facts_cache_put(e->facts, &d->principal_->who, rows, d->early_n_);
    pst_count(&e->metrics->fill_guards, 1);
    pst_facts_free(rows);
    return NULL;
}

static void post_read(struct pst_decide *d, uint64_t now_ns)
{
    struct pst_engine *e = d->engine_;

    if (e->streams.reads >= READS_MAX || pst_worker_issue(e->worker, d, &d->ticket_) != PST_OK) {
        move(d, &e->streams.later);
        return;
    }
    struct pst_facts_request request = {
        .who = d->principal_->who,
        .ticket = (uint64_t)d->ticket_.slot << 32 | d->ticket_.generation,
        .deadline_ns = now_ns + READ_NS,
        .deliver = pst_engine_deliver,
        .ctx = e,
    };
    e->streams.reads++;
    d->history_ = e->histories;
    d->judged_ = 0; /* by facts of perhaps another history */
    if (pst_service_facts(e->service, &request) == PST_PENDING) {
        move(d, &e->streams.reading);
        return;
    }
    stop_reading(d);
    move(d, &e->streams.later);
}

/* Facts that count now; else they are asked for, or the time for that is over. */
static bool find_facts(struct pst_decide *d, uint64_t now_ns)
{
    struct pst_engine *e = d->engine_;
    bool early;
    struct pst_fact_entry *entry = take_rows(d, &early);

    if (entry == NULL)
        entry = pst_facts_cache_get(e->facts, &d->principal_->who);
    if (entry != NULL) {
        pst_fact_entry_release(d->facts_);
        d->facts_ = entry;
        d->decision.user = entry->facts->name;
        d->history_ = e->histories;
        return true;
    }
    if (d->read_since_ns_ == 0)
        d->read_since_ns_ = now_ns;
    if (now_ns - d->read_since_ns_ >= READ_NS) {
        refuse(d, PST_R_UNAVAILABLE);
    } else if (early) {
        move(d, &e->streams.later);
        if (e->want_lease != NULL)
            e->want_lease(e->ctx);
    } else {
        post_read(d, now_ns);
    }
    return false;
}

/* By the lent policy, with the requirements of the beginning. */
static bool is_allowed(struct pst_decide *d, struct pst_eval_detail *detail, enum pst_reason *why)
{
    struct pst_bytes workspace = d->decision.workspace;
    struct pst_question q;

    *why = PST_R_INTERNAL;
    if (d->principal_ != NULL && !pst_engine_user_stands(d, why))
        return false;
    d->workspace_ = workspace.len == 0 ? 0 : pst_policy_workspace(policy_of(d), workspace);
    if (workspace.len > 0 && d->workspace_ == 0 && !d->extracted_.workspace_optional) {
        *why = PST_R_UNKNOWN_WORKSPACE;
        return false;
    }
    pst_engine_question(d, &q);
    if (q.requirement_count == 0) {
        *why = PST_R_NO_CREDENTIAL;
        return d->facts_ != NULL || q.settings->authentication_off;
    }
    enum pst_verdict verdict = pst_eval(&q, detail);
    *why = detail->reason;
    return verdict == PST_ALLOW;
}

static void judge(struct pst_decide *d, const struct view *v)
{
    struct pst_arena *own = d->arena_, *scratch = &d->engine_->streams.scratch;
    const struct pst_bundle *bundle = pst_bundle_of(v->pin->snapshot);
    enum pst_reason why = PST_R_UNAVAILABLE;

    d->read_since_ns_ = 0;
    d->judged_ = v->pin->snapshot->revision;
    note_revision(d, pst_bytes_of(bundle->revision, bundle->revision_len), bundle->bare_len);
    pst_arena_reset(scratch);
    struct pst_eval_detail *detail = pst_arena_zalloc(scratch, sizeof(*detail));
    d->pin_ = v->pin;
    d->arena_ = scratch; /* a stream may be judged a million times */
    bool allowed = detail != NULL && is_allowed(d, detail, &why);
    if (!allowed && detail != NULL && detail->reason == why) {
        d->detail_ = detail;
        pst_engine_describe(d, detail, (struct pst_bytes){0});
    }
    d->pin_ = NULL;
    d->arena_ = own;
    if (!allowed) {
        refuse(d, why);
        return;
    }
    d->decision.verdict = PST_ALLOW;
    d->decision.reason = why;
    d->decision.shadowed = false;
    move(d, &d->engine_->streams.held);
}

static bool is_current(const struct pst_decide *d, const struct view *v)
{
    return d->judged_ == v->pin->snapshot->revision &&
           (d->principal_ == NULL ||
            (d->history_ == d->engine_->histories &&
             pst_facts_cache_usable(d->engine_->facts, d->facts_->facts, d->facts_->n)));
}

static void look(struct pst_decide *d, const struct view *v)
{
    if (has_expired(d, v->now_s)) {
        d->credential_fault_ = pst_identity_reason_name(PST_ID_TIME);
        refuse(d, PST_R_BAD_CREDENTIAL);
        return;
    }
    if (v->lapsed_ns > 0) {
        look_without_lease(d, v->lapsed_ns);
        return;
    }
    d->graced_ = false;
    if (is_current(d, v))
        move(d, &d->engine_->streams.held);
    else if (d->principal_ == NULL || find_facts(d, v->now_ns))
        judge(d, v);
}

/* Everything that is due, or as much as there is time for. */
static void on_look(struct pst_deferred *deferred)
{
    struct pst_engine *e = pst_container_of(deferred, struct pst_engine, streams.look);
    struct pst_list *due = &e->streams.due;
    uint64_t now_ns = pst_clock_boot_ns();
    struct view v = {.now_ns = now_ns,
                     .lapsed_ns = pst_engine_lapsed_ns(e, now_ns),
                     .now_s = pst_engine_wall_s(e, now_ns),
                     .pin = pst_policy_pin_adopted(e->reader)};

    for (uint32_t i = 1; !pst_list_empty(due); i++) {
        struct pst_decide *d = pst_container_of(due->next, struct pst_decide, waiting_);
        pst_list_remove(&d->waiting_);
        look(d, &v);
        if (i % LOOKS == 0 && pst_clock_boot_ns() - now_ns > LOOK_NS)
            break;
    }
    if (!pst_list_empty(due))
        pst_worker_defer(e->worker, deferred);
    if (v.pin != NULL)
        pst_policy_unpin(v.pin);
}

/* --- what makes it look --- */

static void on_beat(struct pst_timer *timer)
{
    struct pst_engine *e = pst_container_of(timer, struct pst_engine, streams.beat);
    struct pst_streams *s = &e->streams;
    uint64_t now_ns = pst_clock_boot_ns();

    if (s->count == 0)
        return;
    show_work(e, now_ns);
    for (struct pst_list *at = s->reading.next, *next; at != &s->reading; at = next) {
        struct pst_decide *d = pst_container_of(at, struct pst_decide, waiting_);
        next = at->next;
        if (now_ns - d->read_since_ns_ >= READ_NS)
            look_at(d);
    }
    pst_list_take(&s->due, &s->later);
    if (pst_engine_lapsed_ns(e, now_ns) > 0 || ++s->beats % SWEEP == 0)
        look_at_all(e);
    if (!pst_list_empty(&s->due))
        pst_worker_defer(e->worker, &s->look);
    pst_timer_set(e->worker, timer, pst_worker_now(e->worker) + PST_TICK_NS);
}

void pst_engine_streams_news(struct pst_engine *e, bool changed)
{
    if (e->streams.count == 0)
        return;
    show_work(e, pst_clock_boot_ns());
    if (changed)
        look_at_all(e);
}

void pst_engine_stream_facts(struct pst_decide *d, const struct pst_facts_reply *reply)
{
    struct pst_streams *s = &d->engine_->streams;

    pst_facts_free(d->early_facts_);
    d->early_facts_ = reply->status == PST_OK ? reply->facts : NULL;
    d->early_epoch_ = reply->revision.epoch;
    d->early_n_ = reply->revision.n;
    if (reply->status == PST_OK) {
        look_at(d);
    } else { /* once more at the next beat, if there is time */
        pst_facts_free(reply->facts);
        stop_reading(d);
        move(d, &s->later);
    }
}

void pst_engine_hold(struct pst_decide *d, void (*cut)(struct pst_decide *))
{
    struct pst_engine *e = d->engine_;

    if (e == NULL || d->pin_ == NULL || d->site_ != NULL)
        return;
    bool owned = own_texts(d);
    note_revision(d, d->decision.revision_token, d->decision.revision.len);
    d->site_ = pst_bundle_of(d->pin_->snapshot)->site;
    atomic_fetch_add_explicit(&d->site_->streams_, 1, memory_order_relaxed);
    pst_policy_unpin(d->pin_);
    if (d->policy_pin_ != NULL)
        pst_policy_unpin(d->policy_pin_);
    d->pin_ = d->policy_pin_ = NULL;
    if (d->decision.verdict != PST_ALLOW || d->routed_.is_public || d->decision.preflight)
        return; /* nobody was asked, or it goes on whatever the answer is */

    d->cut_ = cut;
    d->detail_ = NULL;
    e->streams.count++;
    show_count(e);
    show_work(e, pst_clock_boot_ns());
    if (e->streams.beat.due_ns == 0)
        pst_timer_set(e->worker, &e->streams.beat, pst_worker_now(e->worker) + PST_TICK_NS);
    if (owned)
        look_at(d); /* a change may have come since it began */
    else
        refuse(d, PST_R_OVERLOAD);
}

void pst_engine_streams_init(struct pst_engine *e)
{
    pst_list_init(&e->streams.held);
    pst_list_init(&e->streams.due);
    pst_list_init(&e->streams.reading);
    pst_list_init(&e->streams.later);
    e->streams.beat.fire = on_beat;
    e->streams.look.run = on_look;
    pst_arena_init(&e->streams.scratch, 4096, SCRATCH);
}

void pst_engine_streams_fini(struct pst_engine *e)
{
    pst_timer_cancel(&e->streams.beat);
    pst_deferred_cancel(&e->streams.look);
    pst_arena_fini(&e->streams.scratch);
}

/* --- decisions without a lease --- */

bool pst_engine_stale_allowed(struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;

    if (d->principal_ == NULL || d->routed_.stale_allow_s == 0 || d->min_.epoch != 0 ||
        pst_engine_lapsed_ns(e, d->now_ns_) > d->routed_.stale_allow_s * PST_NS_PER_S)
        return false;
    if (d->facts_ == NULL)
        d->facts_ = pst_facts_cache_get(e->facts, &d->principal_->who);
    return d->facts_ != NULL;
}
