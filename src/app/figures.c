/*
 * What the ops door tells of the process as a whole, and what both it and the log tell.
 */
#include "control_internal.h"

#include "postern/base/clock.h"

const char *pst_control_unready(void *ctx)
{
    struct control *c = ctx;
    /* As in want_keys: the exchange that asks holds the setup's doors. */
    struct pst_jwks *jwks = atomic_load_explicit(&c->serving, memory_order_acquire)->jwks;

    if (atomic_load_explicit(&c->draining, memory_order_relaxed))
        return "it drains";
    return jwks == NULL || pst_jwks_ready(jwks) ? NULL : "keys of an issuer are not there yet";
}

void pst_control_figures(void *ctx, struct pst_ops_figures *out)
{
    struct control *c = ctx;
    const struct pst_lease *lease = pst_tail_lease(c->tail);
    const struct pst_tail_stats tail = pst_tail_stats(c->tail);
    const struct pst_service_stats service = pst_service_stats(c->service);
    uint64_t start_ns = atomic_load_explicit(&lease->start_ns, memory_order_acquire);
    uint64_t now_ns = pst_clock_boot_ns();

    *out = (struct pst_ops_figures){
        .epoch = atomic_load_explicit(&lease->epoch, memory_order_relaxed),
        .applied_n = atomic_load_explicit(&lease->applied_n, memory_order_relaxed),
        .head_n = atomic_load_explicit(&c->heard.head_n, memory_order_relaxed),
        .lapsed_ns = start_ns == 0       ? UINT64_MAX
                     : now_ns > start_ns ? now_ns - start_ns
                                         : 0,
        .leased = pst_lease_holds(lease, now_ns),
        .log_reads = tail.reads,
        .log_read_failures = tail.failures,
        .reloads = tail.reloads,
        .histories = tail.histories,
        .log_rows = tail.log_rows,
        .change_ns = tail.change_ns,
        .gaps = atomic_load_explicit(&c->heard.gaps, memory_order_relaxed),
        .publishers = atomic_load_explicit(&c->heard.publishers, memory_order_relaxed),
        .fact_requests = service.requests,
        .fact_reads = service.reads,
        .fact_coalesced = service.coalesced,
        .fact_batches = service.batches,
        .fact_failures = service.failed,
        .roles_missing = atomic_load_explicit(&c->roles_missing, memory_order_relaxed),
    };
}

static void tell_missing(struct control *c, const struct pst_named_role *named)
{
    char room[1024];
    struct pst_buf b = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_lit(&b, "\"role\":");
    pst_buf_json(&b, named->role);
    pst_buf_lit(&b, ",\"issuer\":");
    pst_buf_json(&b, named->issuer);
    if (named->group.len > 0) {
        pst_buf_lit(&b, ",\"group\":");
        pst_buf_json(&b, named->group);
        pst_buf_lit(
            &b, ",\"message\":\"there is no global role of this name: the group gives nothing\"");
    } else {
        pst_buf_lit(&b,
                    ",\"message\":\"there is no global role of this name: no user can be made\"");
    }
    room[b.len] = '\0';
    pst_log_event(c->log, PST_LOG_WARN, "role.missing", "%s", b.full ? "" : room);
}

void pst_control_note_roles(struct control *c)
{
    struct pst_named_role named;
    uint32_t missing = 0;

    if (c->policy == NULL)
        return;
    for (uint32_t i = 0; pst_config_named_role(c->setup->config, i, &named); i++) {
        bool told = c->setup->roles_missed[i];
        bool gone = pst_policy_role(c->policy->policy, named.role, 0) == 0;
        c->setup->roles_missed[i] = gone;
        missing += gone;
        if (gone && !told)
            tell_missing(c, &named);
    }
    atomic_store_explicit(&c->roles_missing, missing, memory_order_relaxed);
}

void pst_control_note_head(struct control *c, uint64_t n)
{
    atomic_store_explicit(&c->heard.head_n, n, memory_order_relaxed);
}

void pst_control_note_feed(struct control *c, uint64_t gaps, uint64_t publishers)
{
    atomic_store_explicit(&c->heard.gaps, gaps, memory_order_relaxed);
    atomic_store_explicit(&c->heard.publishers, publishers, memory_order_relaxed);
}
