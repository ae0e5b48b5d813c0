#include "postern/surface/ops.h"

#include <stdlib.h>

#include "postern/base/clock.h"
#include "postern/base/log.h"

#define WORKERS_MAX 256

struct pst_ops_door {
    struct pst_ops_config config;
    uint64_t started_s;
    uint32_t metrics_count;
    const struct pst_metrics *metrics[WORKERS_MAX];
};

/* ---- Prometheus text ---- */

static void put_help(struct pst_buf *out, struct pst_bytes name, struct pst_bytes type,
                     struct pst_bytes help)
{
    pst_buf_lit(out, "# HELP postern_");
    pst_buf_put(out, name);
    pst_buf_char(out, ' ');
    pst_buf_put(out, help);
    pst_buf_lit(out, "\n# TYPE postern_");
    pst_buf_put(out, name);
    pst_buf_char(out, ' ');
    pst_buf_put(out, type);
    pst_buf_char(out, '\n');
}

static void put_value(struct pst_buf *out, struct pst_bytes name, struct pst_bytes labels,
                      uint64_t value)
{
    pst_buf_lit(out, "postern_");
    pst_buf_put(out, name);
    pst_buf_put(out, labels);
    pst_buf_char(out, ' ');
    pst_buf_u64(out, value);
    pst_buf_char(out, '\n');
}

/* Sum of one counter, given as the first worker's, over all workers. */
static uint64_t sum(const struct pst_ops_door *ops, size_t offset)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < ops->metrics_count; i++)
        total += pst_counted(
            (const pst_counter *)(const void *)((const char *)ops->metrics[i] + offset));
    return total;
}

#define SUM(ops, member) sum((ops), offsetof(struct pst_metrics, member))

struct row {
    struct pst_bytes name, type, help;
    size_t offset;
};

/* PST_LIT is no constant expression to a pedantic compiler. */
#define TEXT(s)                                                                                    \
    {                                                                                              \
        "" s, sizeof(s) - 1                                                                        \
    }
#define ROW(name, type, help, member)                                                              \
    {                                                                                              \
        TEXT(name), TEXT(type), TEXT(help), offsetof(struct pst_metrics, member)                   \
    }

static const struct row rows[] = {
    ROW("shadow_denied_total", "counter", "Requests that a shadow route would have refused",
        shadow_denied),
    ROW("token_cache_hits_total", "counter", "Tokens found verified in memory", token_hits),
    ROW("token_cache_misses_total", "counter", "Tokens that had to be verified", token_misses),
    ROW("fact_cache_hits_total", "counter", "Users whose bindings were in memory", fact_hits),
    ROW("fact_cache_misses_total", "counter", "Users whose bindings had to be read", fact_misses),
    ROW("upstream_connects_total", "counter", "Connections opened to upstreams", upstream_connects),
    ROW("upstream_reuses_total", "counter", "Requests on a pooled upstream connection",
        upstream_reuses),
    ROW("upstream_failures_total", "counter", "Failures counted against upstream addresses",
        upstream_failures),
    ROW("upstream_retries_total", "counter", "Requests sent once more", upstream_retries),
    ROW("upstream_idle", "gauge", "Pooled idle upstream connections", upstream_idle),
    ROW("upstream_busy", "gauge", "Upstream connections in use", upstream_busy),
    ROW("connections_total", "counter", "Client connections accepted", connections),
    ROW("connections_open", "gauge", "Client connections open", connections_open),
    ROW("received_bytes_total", "counter", "Bytes received from clients", bytes_in),
    ROW("sent_bytes_total", "counter", "Bytes sent to clients", bytes_out),
    ROW("fill_guard_refusals_total", "counter", "Users read again because a change touched them",
        fill_guards),
    ROW("stale_allowed_total", "counter", "Requests allowed without a lease, on routes that ask so",
        stale_allowed),
    ROW("streams_held", "gauge", "Exchanges that are judged again when something changes",
        streams_held),
    ROW("streams_graced_total", "counter",
        "Exchanges that outlasted a lease, on routes that ask so", streams_graced),
    ROW("loop_stalls_total", "counter", "Turns of the loop over 10 ms, of those sampled",
        loop_stalls),
};

static void put_requests(const struct pst_ops_door *ops, struct pst_buf *out)
{
    static const struct pst_bytes verdicts[2] = {TEXT("deny"), TEXT("allow")};

    put_help(out, PST_LIT("requests_total"), PST_LIT("counter"),
             PST_LIT("Decided requests by verdict and reason"));
    for (unsigned verdict = 0; verdict < 2; verdict++)
        for (unsigned reason = 0; reason < PST_REASONS && reason < PST_METRIC_REASONS_MAX;
             reason++) {
            uint64_t value =
                sum(ops, offsetof(struct pst_metrics, requests) +
                             (verdict * PST_METRIC_REASONS_MAX + reason) * sizeof(pst_counter));
            const char *name = pst_reason_name((enum pst_reason)reason);
            if (value == 0)
                continue;
            pst_buf_lit(out, "postern_requests_total{verdict=\"");
            pst_buf_put(out, verdicts[verdict]);
            pst_buf_lit(out, "\",reason=\"");
            pst_buf_put(out, pst_bytes_of(name, strnlen(name, 64)));
            pst_buf_lit(out, "\"} ");
            pst_buf_u64(out, value);
            pst_buf_char(out, '\n');
        }
}

static void put_cuts(const struct pst_ops_door *ops, struct pst_buf *out)
{
    put_help(out, PST_LIT("streams_cut_total"), PST_LIT("counter"),
             PST_LIT("Running exchanges that were ended, by reason"));
    for (unsigned reason = 0; reason < PST_REASONS; reason++) {
        uint64_t value =
            sum(ops, offsetof(struct pst_metrics, streams_cut) + reason * sizeof(pst_counter));
        const char *name = pst_reason_name((enum pst_reason)reason);
        if (value == 0)
            continue;
        pst_buf_lit(out, "postern_streams_cut_total{reason=\"");
        pst_buf_put(out, pst_bytes_of(name, strnlen(name, 64)));
        pst_buf_lit(out, "\"} ");
        pst_buf_u64(out, value);
        pst_buf_char(out, '\n');
    }
}

static void put_answers(const struct pst_ops_door *ops, struct pst_buf *out)
{
    static const struct pst_bytes classes[6] = {TEXT("none"), TEXT("1xx"), TEXT("2xx"),
                                                TEXT("3xx"),  TEXT("4xx"), TEXT("5xx")};

    put_help(out, PST_LIT("answers_total"), PST_LIT("counter"),
             PST_LIT("Answers to clients by status class"));
    for (unsigned i = 0; i < 6; i++) {
        pst_buf_lit(out, "postern_answers_total{class=\"");
        pst_buf_put(out, classes[i]);
        pst_buf_lit(out, "\"} ");
        pst_buf_u64(out, sum(ops, offsetof(struct pst_metrics, answers) + i * sizeof(pst_counter)));
        pst_buf_char(out, '\n');
    }
}

/* Nanoseconds as seconds with nine decimals. */
static void put_seconds(struct pst_buf *out, uint64_t ns)
{
    pst_buf_u64(out, ns / 1000000000);
    pst_buf_char(out, '.');
    for (uint64_t digit = 100000000; digit > 0; digit /= 10)
        pst_buf_char(out, (char)('0' + ns / digit % 10));
}

static void put_latency(const struct pst_ops_door *ops, struct pst_buf *out)
{
    uint64_t total = 0;

    put_help(out, PST_LIT("decision_seconds"), PST_LIT("histogram"),
             PST_LIT("Time from a request's head to its decision; of those that wait for nothing "
                     "each 16th is measured, and the next 15 count alike"));
    for (unsigned i = 0; i < PST_METRIC_BUCKETS; i++) {
        total +=
            sum(ops, offsetof(struct pst_metrics, decision_ns_bucket) + i * sizeof(pst_counter));
        pst_buf_lit(out, "postern_decision_seconds_bucket{le=\"");
        if (i + 1 == PST_METRIC_BUCKETS)
            pst_buf_lit(out, "+Inf");
        else
            put_seconds(out, UINT64_C(256) << i);
        pst_buf_lit(out, "\"} ");
        pst_buf_u64(out, total);
        pst_buf_char(out, '\n');
    }
    pst_buf_lit(out, "postern_decision_seconds_sum ");
    put_seconds(out, SUM(ops, decision_ns_sum));
    pst_buf_char(out, '\n');
    /* The count of the buckets, not its own counter: the two must agree within one scrape. */
    put_value(out, PST_LIT("decision_seconds_count"), (struct pst_bytes){0}, total);
}

#define FIGURE(name, type, help, member)                                                           \
    {                                                                                              \
        TEXT(name), TEXT(type), TEXT(help), offsetof(struct pst_ops_figures, member)               \
    }

static const struct row figure_rows[] = {
    FIGURE("applied_rev", "gauge", "Last change of the log that decisions follow", applied_n),
    FIGURE("head_rev", "gauge", "Last change of the log that was heard of; 0: none", head_n),
    FIGURE("log_reads_total", "counter", "Reads of the change log", log_reads),
    FIGURE("log_read_failures_total", "counter", "Reads of the change log that proved nothing",
           log_read_failures),
    FIGURE("reloads_total", "counter", "Times that a model was loaded", reloads),
    FIGURE("histories_total", "counter", "Times that the log was another one than before",
           histories),
    FIGURE("change_log_rows", "gauge", "Rows of the change log that the database keeps", log_rows),
    FIGURE("gaps_total", "counter", "Messages that were missed", gaps),
    FIGURE("publishers", "gauge", "Processes that tell of changes", publishers),
    FIGURE("fact_requests_total", "counter", "Users that workers asked the database for",
           fact_requests),
    FIGURE("fact_reads_total", "counter", "Users read from the database", fact_reads),
    FIGURE("fact_coalesced_total", "counter", "Questions about users answered by another's read",
           fact_coalesced),
    FIGURE("fact_batches_total", "counter", "Round trips for users", fact_batches),
    FIGURE("fact_failures_total", "counter", "Users that could not be read", fact_failures),
    FIGURE("roles_missing", "gauge",
           "Roles that the configuration names and the policy does not have", roles_missing),
};

/* What the fleet's staleness is watched by (C13). */
static void put_figures(const struct pst_ops_door *ops, struct pst_buf *out)
{
    struct pst_ops_figures f = {0};

    if (ops->config.figures == NULL)
        return;
    ops->config.figures(ops->config.ctx, &f);
    for (size_t i = 0; i < sizeof(figure_rows) / sizeof(figure_rows[0]); i++) {
        uint64_t value;
        memcpy(&value, (const char *)&f + figure_rows[i].offset, sizeof(value));
        put_help(out, figure_rows[i].name, figure_rows[i].type, figure_rows[i].help);
        put_value(out, figure_rows[i].name, (struct pst_bytes){0}, value);
    }
    put_help(out, PST_LIT("lease_state"), PST_LIT("gauge"),
             PST_LIT("1: memory may be decided from; an idle node has no lease"));
    put_value(out, PST_LIT("lease_state"), (struct pst_bytes){0}, f.leased);
    put_help(out, PST_LIT("epoch_info"), PST_LIT("gauge"), PST_LIT("Epoch of applied_rev"));
    pst_buf_lit(out, "postern_epoch_info{epoch=\"");
    pst_buf_hex(out, f.epoch, 16);
    pst_buf_lit(out, "\"} 1\n");
    put_help(out, PST_LIT("change_seconds"), PST_LIT("gauge"),
             PST_LIT("What the last change took from its row in the log to its effect"));
    pst_buf_lit(out, "postern_change_seconds ");
    put_seconds(out, f.change_ns);
    pst_buf_char(out, '\n');
    if (f.lapsed_ns == UINT64_MAX)
        return;
    put_help(out, PST_LIT("staleness_seconds"), PST_LIT("gauge"),
             PST_LIT("Since the last proof that no change was missed"));
    pst_buf_lit(out, "postern_staleness_seconds ");
    put_seconds(out, f.lapsed_ns);
    pst_buf_char(out, '\n');
}

static void put_metrics(const struct pst_ops_door *ops, struct pst_buf *out)
{
    put_requests(ops, out);
    put_answers(ops, out);
    put_cuts(ops, out);
    put_latency(ops, out);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_help(out, rows[i].name, rows[i].type, rows[i].help);
        put_value(out, rows[i].name, (struct pst_bytes){0}, sum(ops, rows[i].offset));
    }
    put_figures(ops, out);
    put_help(out, PST_LIT("log_drops_total"), PST_LIT("counter"),
             PST_LIT("Log lines that found no room"));
    put_value(out, PST_LIT("log_drops_total"), (struct pst_bytes){0},
              ops->config.log == NULL ? 0 : pst_log_drops(ops->config.log));
    put_help(out, PST_LIT("start_time_seconds"), PST_LIT("gauge"),
             PST_LIT("Start of the process since the epoch"));
    put_value(out, PST_LIT("start_time_seconds"), (struct pst_bytes){0}, ops->started_s);
    put_help(out, PST_LIT("build_info"), PST_LIT("gauge"), PST_LIT("Version"));
    pst_buf_lit(out, "postern_build_info{version=\"" PST_VERSION "\"} 1\n");
}

/* ---- the three paths ---- */

static unsigned answer_ready(const struct pst_ops_door *ops, bool leased, struct pst_buf *body)
{
    const char *why = ops->config.unready == NULL ? NULL : ops->config.unready(ops->config.ctx);

    if (why == NULL && !leased)
        why = "the change log cannot be read";
    if (why == NULL) {
        pst_buf_lit(body, "ready\n");
        return 200;
    }
    pst_buf_lit(body, "not ready: ");
    pst_buf_put(body, pst_bytes_of(why, strnlen(why, 256)));
    pst_buf_char(body, '\n');
    return 503;
}

static struct pst_bytes path_of(const struct pst_head *head)
{
    return pst_bytes_of(head->target.ptr, pst_bytes_find(head->target, '?'));
}

bool pst_ops_door_asks_lease(const void *self, const struct pst_head *head)
{
    (void)self;
    return (head->method == PST_METHOD_GET || head->method == PST_METHOD_HEAD) &&
           pst_bytes_equal(path_of(head), PST_LIT("/readyz"));
}

unsigned pst_ops_door_answer(const void *self, const struct pst_head *head, bool leased,
                             struct pst_buf *body, const char **type)
{
    const struct pst_ops_door *ops = self;
    struct pst_bytes path = path_of(head);

    *type = "text/plain; charset=utf-8";
    if (head->method != PST_METHOD_GET && head->method != PST_METHOD_HEAD)
        return 405;
    if (pst_bytes_equal(path, PST_LIT("/healthz"))) {
        pst_buf_lit(body, "ok\n");
        return 200;
    }
    if (pst_bytes_equal(path, PST_LIT("/readyz")))
        return answer_ready(ops, leased, body);
    if (pst_bytes_equal(path, PST_LIT("/metrics"))) {
        *type = "text/plain; version=0.0.4; charset=utf-8";
        put_metrics(ops, body);
        return 200;
    }
    return 404;
}

/* ---- life ---- */

enum pst_status pst_ops_door_create(const struct pst_ops_config *config, struct pst_ops_door **out)
{
    struct pst_ops_door *door = calloc(1, sizeof(*door));

    *out = door;
    if (door == NULL)
        return PST_E_NOMEM;
    door->config = *config;
    door->started_s = pst_clock_wall_ns() / PST_NS_PER_S;
    return PST_OK;
}

enum pst_status pst_ops_door_add(struct pst_ops_door *door, const struct pst_metrics *metrics)
{
    if (door->metrics_count == WORKERS_MAX)
        return PST_E_LIMIT;
    door->metrics[door->metrics_count++] = metrics;
    return PST_OK;
}

void pst_ops_door_destroy(struct pst_ops_door *door)
{
    free(door);
}
