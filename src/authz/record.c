/*
 * The traces that a decision leaves: counters, one line of the decision log, and the answer of a
 * refusal in the form that the app's own clients understand.
 *
 * Never in any of them: tokens, cookies, query values, bodies.  The path is not either: the access
 * log has it, and names the decision.
 */
#include "engine_internal.h"

#include "postern/base/clock.h"

#define MEASURED 16

static void put_text(struct pst_buf *b, const char *key, struct pst_bytes value)
{
    if (value.len == 0)
        return;
    pst_buf_lit(b, ",\"");
    pst_buf_put(b, pst_bytes_of(key, strlen(key)));
    pst_buf_lit(b, "\":");
    pst_buf_json(b, value);
}

static void put_cstr(struct pst_buf *b, const char *key, const char *value)
{
    if (value != NULL)
        put_text(b, key, pst_bytes_of(value, strlen(value)));
}

static void put_rule(struct pst_buf *b, const struct pst_decide *d)
{
    const struct pst_eval_detail *detail = d->detail_;

    if (detail == NULL || detail->role == 0)
        return;
    pst_buf_lit(b, ",\"rule\":{\"role\":");
    pst_buf_u64(b, detail->role);
    if (d->pin_ != NULL)
        put_text(b, "name", pst_policy_role_name(policy_of(d), detail->role));
    pst_buf_lit(b, ",\"permission\":");
    pst_buf_u64(b, detail->permission);
    pst_buf_lit(b, ",\"binding\":");
    pst_buf_u64(b, detail->binding);
    put_cstr(b, "bit", pst_access_name(detail->bit));
    pst_buf_char(b, '}');
}

static void write_line(const struct pst_decide *d, const char *event)
{
    struct pst_buf *b = pst_log_begin(d->engine_->ring, PST_LOG_DECISIONS);
    const struct pst_decision *out = &d->decision;

    if (b == NULL)
        return;
    pst_buf_lit(b, "{\"time\":\"");
    pst_buf_time(b, pst_clock_wall_ns());
    pst_buf_char(b, '"');
    put_cstr(b, "event", event);
    put_text(b, "id", out->id);
    put_cstr(b, "verdict", out->verdict == PST_ALLOW ? "allow" : "deny");
    put_cstr(b, "reason", pst_reason_name(out->reason));
    if (out->shadowed)
        pst_buf_lit(b, ",\"shadow\":true");
    if (d->stale_)
        pst_buf_lit(b, ",\"stale\":true");
    put_text(b, "user", out->user);
    put_text(b, "workspace", out->workspace);
    put_text(b, "entity", d->extracted_.entity);
    if (d->extracted_.op != PST_OP_NONE)
        put_cstr(b, "operation", pst_op_name(d->extracted_.op));
    put_text(b, "detail", d->log_detail_);
    put_cstr(b, "credential", d->credential_fault_);
    put_rule(b, d);
    put_text(b, "revision", out->revision);
    pst_buf_char(b, '}');
    pst_log_commit(d->engine_->ring);
}

/* A reading of the clock costs 45 ns, 1.5 % of a check. What waited for nothing takes a few
 * microseconds, and of those each 16th is measured; those between count as if they took as long. */
static uint64_t time_of(const struct pst_decide *d)
{
    struct pst_engine *e = d->engine_;

    if (d->now_ns_ != d->started_ns_)
        return pst_clock_boot_ns() - d->started_ns_;
    if (e->unmeasured++ % MEASURED == 0)
        e->usual_ns = pst_clock_boot_ns() - d->started_ns_;
    return e->usual_ns;
}

void pst_engine_record(struct pst_decide *d)
{
    struct pst_metrics *m = d->engine_->metrics;
    const struct pst_decision *out = &d->decision;

    if (d->request_ == NULL)
        return; /* only the lease was asked for */
    _Static_assert((unsigned)PST_REASONS <= PST_METRIC_REASONS_MAX, "a counter for each reason");
    pst_count(&m->requests[out->verdict == PST_ALLOW][out->reason], 1);
    if (out->shadowed)
        pst_count(&m->shadow_denied, 1);
    if (d->stale_ && out->verdict == PST_ALLOW)
        pst_count(&m->stale_allowed, 1);
    pst_metrics_decision(m, time_of(d));
    write_line(d, "decision");
}

void pst_engine_record_stream(struct pst_decide *d, const char *event)
{
    write_line(d, event);
}

/* --- refusals --- */

static struct pst_bytes cstr(const char *s)
{
    return pst_bytes_of(s, strlen(s));
}

/* "Permission denied: nothing grants it (update experiment/11, workspace team-a). Ask ... Decision
 * 12ab." */
static void put_message(struct pst_buf *b, const struct pst_decision *d, const char *lead)
{
    char room[1536];
    struct pst_buf text = pst_buf_of(room, sizeof(room));

    pst_buf_put(&text, cstr(lead));
    pst_buf_put(&text, cstr(pst_reason_text(d->reason)));
    if (d->detail.len > 0 && d->detail.len < 1024) {
        pst_buf_lit(&text, " (");
        pst_buf_put(&text, d->detail);
        pst_buf_char(&text, ')');
    }
    pst_buf_lit(&text, " ");
    pst_buf_put(&text, cstr(pst_reason_advice(d->reason)));
    if (d->id.len > 0) { /* what is no HTTP has none */
        pst_buf_lit(&text, " Decision id: ");
        pst_buf_put(&text, d->id);
        pst_buf_char(&text, '.');
    }
    pst_buf_json(b, pst_buf_bytes(&text));
}

static const char *mlflow_code(const struct pst_decision *d)
{
    switch (d->status) {
    case 400:
    case 413:
        return "INVALID_PARAMETER_VALUE";
    case 401:
        return "UNAUTHENTICATED";
    case 403:
        return "PERMISSION_DENIED";
    case 404:
        return d->reason == PST_R_UNKNOWN_WORKSPACE ? "RESOURCE_DOES_NOT_EXIST"
                                                    : "ENDPOINT_NOT_FOUND";
    case 503:
        return "TEMPORARILY_UNAVAILABLE";
    default:
        if (d->reason == PST_R_WORKSPACES_OFF)
            return "FEATURE_DISABLED";
        return d->status < 500 ? "BAD_REQUEST" : "INTERNAL_ERROR";
    }
}

/* MLflow's clients look for these words. */
static const char *mlflow_lead(unsigned status)
{
    return status == 401   ? "You are not authenticated. "
           : status == 403 ? "Permission denied. "
                           : "";
}

static void put_reason(struct pst_buf *out, const struct pst_decision *d)
{
    put_cstr(out, "reason", pst_reason_name(d->reason));
    put_text(out, "decision_id", d->id);
}

void pst_engine_refusal_body(const struct pst_decision *d, struct pst_buf *out,
                             const char **content_type)
{
    *content_type = "application/json";
    switch (d->form) {
    case PST_FORM_MLFLOW:
        pst_buf_lit(out, "{\"error_code\":");
        pst_buf_json(out, cstr(mlflow_code(d)));
        pst_buf_lit(out, ",\"message\":");
        put_message(out, d, mlflow_lead(d->status));
        put_reason(out, d);
        break;
    case PST_FORM_MAGE:
        pst_buf_lit(out, "{\"error\":{\"code\":");
        pst_buf_u64(out, d->status);
        pst_buf_lit(out, ",\"message\":");
        put_message(out, d, "");
        put_cstr(out, "type", d->status == 401 ? "invalid_oauth_token" : "unauthorized_access");
        put_reason(out, d);
        pst_buf_lit(out, "},\"status\":200");
        break;
    case PST_FORM_POSTERN:
        pst_buf_lit(out, "{\"error\":{\"status\":");
        pst_buf_u64(out, d->status);
        put_reason(out, d);
        pst_buf_lit(out, ",\"message\":");
        put_message(out, d, "");
        pst_buf_char(out, '}');
        break;
    }
    pst_buf_lit(out, "}\n");
}

void pst_engine_challenge(const struct pst_decision *d, struct pst_buf *out)
{
    pst_buf_lit(out, "Bearer realm=\"postern\"");
    if (d->reason == PST_R_BAD_CREDENTIAL)
        pst_buf_lit(out, ", error=\"invalid_token\"");
}
