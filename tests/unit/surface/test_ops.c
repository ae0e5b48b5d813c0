#include "../test.h"

#include "postern/surface/ops.h"

static char space[65536];
static bool is_leased;

static unsigned ask(struct pst_ops_door *door, enum pst_method method, struct pst_bytes target)
{
    struct pst_head head = {.method = method, .target = target};
    struct pst_buf body = pst_buf_of(space, sizeof(space) - 1);
    const char *type = NULL;
    unsigned status = pst_ops_door_answer(door, &head, is_leased, &body, &type);

    assert_false(body.full);
    assert_non_null(type);
    space[body.len] = '\0';
    return status;
}

static const char *unready(void *ctx)
{
    return *(bool *)ctx ? NULL : "it drains";
}

static void figures(void *ctx, struct pst_ops_figures *out)
{
    (void)ctx;
    *out = (struct pst_ops_figures){.epoch = 0x2a,
                                    .applied_n = 7,
                                    .head_n = 9,
                                    .lapsed_ns = 1500000000,
                                    .leased = true,
                                    .gaps = 3,
                                    .fact_batches = 4};
}

static void has(const char *line)
{
    if (strstr(space, line) == NULL)
        fail_msg("missing %s in\n%s", line, space);
}

static void lacks(const char *line)
{
    if (strstr(space, line) != NULL)
        fail_msg("%s stands in\n%s", line, space);
}

static void health_and_readiness(void **state)
{
    bool ready = false;
    struct pst_ops_config config = {.unready = unready, .ctx = &ready};
    struct pst_ops_door *door;
    (void)state;
    assert_int_equal(pst_ops_door_create(&config, &door), PST_OK);
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/healthz")), 200);
    is_leased = true;
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/readyz")), 503);
    has("not ready: it drains\n");
    ready = true;
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/readyz?verbose")), 200);
    is_leased = false;
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/readyz")), 503);
    has("change log");
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/")), 404);
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/metrics/x")), 404);
    assert_int_equal(ask(door, PST_METHOD_POST, PST_LIT("/healthz")), 405);
    pst_ops_door_destroy(door);
    pst_ops_door_destroy(NULL);
}

static bool asks_lease(enum pst_method method, struct pst_bytes target)
{
    struct pst_head head = {.method = method, .target = target};

    return pst_ops_door_asks_lease(NULL, &head);
}

static void only_readiness_asks_for_a_lease(void **state)
{
    (void)state;
    assert_true(asks_lease(PST_METHOD_GET, PST_LIT("/readyz")));
    assert_true(asks_lease(PST_METHOD_HEAD, PST_LIT("/readyz?a=b")));
    assert_false(asks_lease(PST_METHOD_POST, PST_LIT("/readyz")));
    assert_false(asks_lease(PST_METHOD_GET, PST_LIT("/healthz")));
    assert_false(asks_lease(PST_METHOD_GET, PST_LIT("/metrics")));
}

static void figures_of_the_process(void **state)
{
    struct pst_ops_config config = {.figures = figures};
    struct pst_ops_door *door;
    (void)state;
    assert_int_equal(pst_ops_door_create(&config, &door), PST_OK);
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/metrics")), 200);
    has("postern_applied_rev 7\n");
    has("postern_head_rev 9\n");
    has("postern_epoch_info{epoch=\"000000000000002a\"} 1\n");
    has("postern_lease_state 1\n");
    has("postern_staleness_seconds 1.500000000\n");
    has("postern_gaps_total 3\n");
    has("postern_fact_batches_total 4\n");
    pst_ops_door_destroy(door);
}

static void metrics_are_summed_over_workers(void **state)
{
    static struct pst_metrics a, b;
    struct pst_ops_config config = {0};
    struct pst_ops_door *door;
    (void)state;
    assert_int_equal(pst_ops_door_create(&config, &door), PST_OK);
    assert_int_equal(pst_ops_door_add(door, &a), PST_OK);
    assert_int_equal(pst_ops_door_add(door, &b), PST_OK);
    pst_count(&a.requests[PST_ALLOW][PST_R_GRANTED], 3);
    pst_count(&b.requests[PST_ALLOW][PST_R_GRANTED], 4);
    pst_count(&b.requests[PST_DENY][PST_R_NO_CREDENTIAL], 1);
    pst_count(&a.answers[2], 7);
    pst_count(&a.token_hits, 5);
    pst_count(&a.streams_cut[PST_R_STALE], 2);
    pst_count(&b.streams_cut[PST_R_STALE], 1);
    pst_metrics_decision(&a, 300);
    pst_metrics_decision(&b, 2000000000);
    assert_int_equal(ask(door, PST_METHOD_GET, PST_LIT("/metrics")), 200);
    has("postern_requests_total{verdict=\"allow\",reason=\"granted\"} 7\n");
    has("postern_requests_total{verdict=\"deny\",reason=\"no-credential\"} 1\n");
    has("postern_answers_total{class=\"2xx\"} 7\n");
    has("postern_token_cache_hits_total 5\n");
    has("postern_streams_cut_total{reason=\"stale\"} 3\n");
    lacks("postern_lease_state"); /* nobody knows */
    has("postern_decision_seconds_bucket{le=\"0.000000256\"} 0\n");
    has("postern_decision_seconds_bucket{le=\"0.000000512\"} 1\n");
    has("postern_decision_seconds_bucket{le=\"+Inf\"} 2\n");
    has("postern_decision_seconds_sum 2.000000300\n");
    has("postern_decision_seconds_count 2\n");
    has("postern_log_drops_total 0\n");
    has("postern_build_info{version=\"");
    pst_ops_door_destroy(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_and_readiness),
        cmocka_unit_test(metrics_are_summed_over_workers),
        cmocka_unit_test(only_readiness_asks_for_a_lease),
        cmocka_unit_test(figures_of_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
