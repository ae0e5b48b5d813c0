/* wrap: calloc malloc realloc reallocarray */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy_fixture.h"

static int fail_after = -1; /* the allocation that fails, counted from 0; -1: none */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__real_reallocarray(void *ptr, size_t count, size_t size);
void *__wrap_reallocarray(void *ptr, size_t count, size_t size);

static bool fails_now(void)
{
    return fail_after >= 0 && fail_after-- == 0;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return fails_now() ? NULL : __real_realloc(ptr, size);
}

void *__wrap_reallocarray(void *ptr, size_t count, size_t size)
{
    return fails_now() ? NULL : __real_reallocarray(ptr, count, size);
}

static struct pst_policy *compile(struct fixture *f)
{
    struct pst_policy *policy;

    assert_int_equal(pst_policy_compile(&f->model, &policy, NULL), PST_OK);
    return policy;
}

static struct pst_policy_stats stats_of(const struct pst_policy *policy)
{
    struct pst_policy_stats stats;

    pst_policy_stats(policy, &stats);
    return stats;
}

static void test_equal_rows_merge_and_idle_ones_are_left_out(void **state)
{
    struct fixture f;
    struct pst_permission_row null_access = {.id = 50, .role = 1, .entity = PST_LIT("Tag")};

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "r", 0);
    for (int i = 0; i < 5; i++)
        fx_grant(&f, 1, "Pipeline", NULL, PST_A_LIST);
    fx_grant(&f, 1, "Pipeline", "p1", PST_A_LIST);
    fx_grant(&f, 1, "Pipeline", "p1", PST_A_LIST);
    fx_grant(&f, 1, "", NULL, PST_A_LIST);               /* names no entity */
    fx_grant(&f, 1, "Pipeline", NULL, UINT64_C(1) << 8); /* a bit without a meaning */
    assert_int_equal(pst_model_add_permission(&f.model, &null_access), PST_OK);
    f.policy = compile(&f);
    assert_int_equal(stats_of(f.policy).permissions, 10);
    assert_int_equal(stats_of(f.policy).rows, 2);
    fx_fini(&f);
}

static void test_names_lead_to_ids(void **state)
{
    struct fixture f;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "viewer", 0);
    fx_role(&f, 2, "viewer", BLUE);
    fx_role(&f, 3, "own", RED);
    f.policy = compile(&f);
    assert_int_equal(pst_policy_workspace(f.policy, PST_LIT("blue")), BLUE);
    assert_int_equal(pst_policy_workspace(f.policy, PST_LIT("blu")), 0);
    assert_true(pst_bytes_equal(pst_policy_workspace_name(f.policy, RED), PST_LIT("red")));
    assert_int_equal(pst_policy_workspace_name(f.policy, 9).len, 0);
    assert_int_equal(pst_policy_role(f.policy, PST_LIT("viewer"), BLUE), 2);
    assert_int_equal(pst_policy_role(f.policy, PST_LIT("viewer"), RED), 1);
    assert_int_equal(pst_policy_role(f.policy, PST_LIT("own"), BLUE), 0);
    assert_true(pst_bytes_equal(pst_policy_role_name(f.policy, 3), PST_LIT("own")));
    assert_int_equal(pst_policy_role_name(f.policy, 77).len, 0);
    fx_fini(&f);
}

static void expect_refused(struct fixture *f, const char *about)
{
    struct pst_error error = {0};

    assert_int_equal(pst_policy_compile(&f->model, &f->policy, &error), PST_E_INVALID);
    assert_null(f->policy);
    assert_non_null(strstr(error.message, about));
    fx_fini(f);
}

static void test_contradictions_are_refused_by_name(void **state)
{
    const struct pst_workspace_row again = {.id = 9, .name = PST_LIT("blue")};
    const struct pst_workspace_row same_id = {.id = BLUE, .name = PST_LIT("green")};
    struct fixture f;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "a", 0);
    fx_role(&f, 1, "b", 0);
    expect_refused(&f, "role id 1");
    fx_init(&f);
    assert_int_equal(pst_model_add_workspace(&f.model, &again), PST_OK);
    expect_refused(&f, "workspace blue");
    fx_init(&f);
    assert_int_equal(pst_model_add_workspace(&f.model, &same_id), PST_OK);
    expect_refused(&f, "workspace id 1");
    fx_init(&f);
    fx_role(&f, 1, "a", 0);
    fx_grant(&f, 2, "Pipeline", NULL, PST_A_LIST);
    expect_refused(&f, "permission 1 names role 2");
}

static void test_a_change_of_one_role_shares_the_others(void **state)
{
    struct fixture f, after;
    const uint32_t changed[] = {2, 3};
    struct pst_policy *rebuilt;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "kept", 0);
    fx_role(&f, 2, "changed", 0);
    fx_role(&f, 3, "gone", 0);
    fx_grant(&f, 1, "Pipeline", "p1", PST_A_UPDATE);
    fx_grant(&f, 2, "Pipeline", "p2", PST_A_UPDATE);
    f.policy = compile(&f);

    fx_init(&after);
    fx_role(&after, 2, "changed", 0);
    fx_grant(&after, 2, "Pipeline", "p3", PST_A_UPDATE);
    struct pst_policy_patch patch = {.model = &after.model, .touched = changed, .touched_count = 2};
    assert_int_equal(pst_policy_patch(f.policy, &patch, &rebuilt, NULL), PST_OK);

    fx_fini(&f); /* the older policy goes first: the shared index must live on */
    after.question.policy = after.policy = rebuilt;
    fx_bind(&after, 1, 0);
    fx_bind(&after, 2, 0);
    fx_bind(&after, 3, 0);
    static const struct {
        const char *id;
        enum pst_verdict verdict;
    } cases[] = {{"p1", PST_ALLOW}, {"p2", PST_DENY}, {"p3", PST_ALLOW}};
    for (size_t i = 0; i < 3; i++) {
        fx_ask(&after, 0, "Pipeline", cases[i].id, PST_OP_UPDATE);
        assert_int_equal(pst_eval(&after.question, &after.detail), cases[i].verdict);
    }
    assert_int_equal(pst_policy_role(rebuilt, PST_LIT("gone"), 0), 0);
    fx_fini(&after);
}

static void test_the_hub_frees_a_published_policy(void **state)
{
    struct fixture f;
    struct pst_policy_hub *hub;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "r", 0);
    assert_int_equal(pst_policy_hub_create(&hub), PST_OK);
    for (int i = 0; i < 3; i++) {
        struct pst_snapshot *snapshot = pst_policy_snapshot(compile(&f));
        assert_int_equal(stats_of(pst_policy_of(snapshot)).roles, 1);
        assert_int_equal(pst_policy_publish(hub, snapshot), i + 1);
    }
    assert_int_equal(pst_policy_reap(hub), 2);
    pst_policy_hub_destroy(hub); /* the leak checker counts the third */
    fx_fini(&f);
}

static void patch_with_short_memory(const struct fixture *f, const struct pst_model *model)
{
    const uint32_t touched[] = {1};
    struct pst_policy_patch change = {.model = model, .touched = touched, .touched_count = 1};
    struct pst_policy *patched;
    int failures = 0;

    for (int step = 0; step < 1000; step++) {
        fail_after = step;
        enum pst_status status = pst_policy_patch(f->policy, &change, &patched, NULL);
        bool reached = fail_after == -1;
        fail_after = -1;
        if (!reached) {
            assert_int_equal(status, PST_OK);
            pst_policy_destroy(patched);
            break;
        }
        failures++;
        assert_int_equal(status, PST_E_NOMEM);
        assert_null(patched);
    }
    assert_true(failures > 15 && failures < 1000);
}

/* Whatever allocation fails, compile and patch say so, leak nothing and leave *out NULL. */
static void test_short_memory_at_every_step(void **state)
{
    struct pst_bytes list[] = {PST_LIT("a"), PST_LIT("b")};
    struct pst_permission_row listed = {.id = 999,
                                        .role = 1,
                                        .has_access = true,
                                        .access = PST_A_DISABLE_READ,
                                        .entity = PST_LIT("Pipeline"),
                                        .has_entity_id = true,
                                        .entity_id = PST_LIT("p1")};
    struct fixture f;
    char id[16];
    int failures = 0;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "r", 0);
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof(id), "id-%d", i);
        fx_grant(&f, 1, "Pipeline", id, PST_A_LIST | PST_A_DISABLE_UPDATE);
    }
    listed.attributes[PST_ATTR_READ] = list;
    listed.attribute_count[PST_ATTR_READ] = 2;
    assert_int_equal(pst_model_add_permission(&f.model, &listed), PST_OK);
    for (int step = 0; step < 1000; step++) {
        fail_after = step;
        enum pst_status status = pst_policy_compile(&f.model, &f.policy, NULL);
        bool reached = fail_after == -1;
        fail_after = -1;
        if (!reached) {
            assert_int_equal(status, PST_OK);
            break;
        }
        failures++;
        assert_int_equal(status, PST_E_NOMEM);
        assert_null(f.policy);
    }
    assert_true(failures > 15 && failures < 1000);
    patch_with_short_memory(&f, &f.model);

    const struct pst_role_row part = {.id = 1, .name = PST_LIT("r"), .partial = true, .total = 201};
    struct pst_model change;
    pst_model_init(&change, 1u << 16);
    listed.id = 1000;
    listed.access |= PST_A_LIST;
    assert_int_equal(pst_model_add_role(&change, &part), PST_OK);
    assert_int_equal(pst_model_add_permission(&change, &listed), PST_OK);
    assert_int_equal(pst_model_add_gone(&change, (uint32_t)f.model.permissions[7].id), PST_OK);
    patch_with_short_memory(&f, &change);
    pst_model_fini(&change);
    fx_fini(&f);
}

/* The figure that the header promises, with uuids as ids. */
static void test_a_row_costs_about_what_the_header_says(void **state)
{
    struct fixture f;
    char id[40];

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "r", 0);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000000", i);
        fx_grant(&f, 1, "Pipeline", id, PST_A_LIST);
    }
    f.policy = compile(&f);
    assert_true(stats_of(f.policy).bytes < UINT64_C(20000) * (24 + 8 + 36) + 4096);
    fx_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_rows_merge_and_idle_ones_are_left_out),
        cmocka_unit_test(test_names_lead_to_ids),
        cmocka_unit_test(test_contradictions_are_refused_by_name),
        cmocka_unit_test(test_a_change_of_one_role_shares_the_others),
        cmocka_unit_test(test_the_hub_frees_a_published_policy),
        cmocka_unit_test(test_short_memory_at_every_step),
        cmocka_unit_test(test_a_row_costs_about_what_the_header_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
