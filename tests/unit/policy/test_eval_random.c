#include "../test.h"

#include "naive.h"

#define CASES 20000

static void world_of(struct world *w, uint64_t seed)
{
    struct chooser c = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};

    nv_make(w, &c);
}

/* The evaluator and the slow one agree on random worlds, by both rules, and not on trivial grounds:
 * both verdicts must be frequent. */
static void test_agrees_with_the_rules_read_one_by_one(void **state)
{
    unsigned allowed[2] = {0}, seen[2] = {0};

    (void)state;
    for (uint64_t seed = 0; seed < CASES; seed++) {
        struct world w;
        enum pst_verdict verdict;

        world_of(&w, seed);
        if (!nv_agree(&w, &verdict))
            fail_msg("case %llu", (unsigned long long)seed);
        seen[w.question.combining]++;
        allowed[w.question.combining] += verdict == PST_ALLOW;
        nv_free(&w);
    }
    for (unsigned rule = 0; rule < 2; rule++) {
        assert_true(seen[rule] > CASES / 3);
        assert_true(allowed[rule] > CASES / 100 && allowed[rule] < seen[rule] * 9 / 10);
    }
}

/* The same policy decides the same whether it was compiled whole or role by role. */
static void test_a_policy_rebuilt_role_by_role_decides_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = CASES; seed < CASES + 2000; seed++) {
        struct world w;
        struct pst_policy *rebuilt, *whole;
        struct pst_model one;
        struct pst_eval_detail a, b;
        uint32_t changed = 1 + (uint32_t)(seed % NV_ROLES);

        world_of(&w, seed);
        one = w.model;
        one.roles = NULL;
        for (uint32_t i = 0; i < w.model.role_count; i++)
            if (w.model.roles[i].id == changed)
                one.roles = &w.model.roles[i];
        one.role_count = one.roles == NULL ? 0 : 1;
        one.permissions = calloc((size_t)w.model.permission_count + 1, sizeof(*one.permissions));
        assert_non_null(one.permissions);
        one.permission_count = 0;
        for (uint32_t i = 0; i < w.model.permission_count; i++)
            if (w.model.permissions[i].role == changed)
                one.permissions[one.permission_count++] = w.model.permissions[i];
        struct pst_policy_patch patch = {.model = &one, .touched = &changed, .touched_count = 1};
        assert_int_equal(pst_policy_patch(w.policy, &patch, &rebuilt, NULL), PST_OK);
        enum pst_verdict expected = pst_eval(&w.question, &a);
        whole = w.policy;
        w.question.policy = rebuilt;
        assert_int_equal(pst_eval(&w.question, &b), expected);
        assert_int_equal(b.reason, a.reason);
        w.policy = rebuilt; /* the shared roles must outlive the older policy */
        pst_policy_destroy(whole);
        assert_int_equal(pst_eval(&w.question, &b), expected);
        free(one.permissions);
        nv_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_rules_read_one_by_one),
        cmocka_unit_test(test_a_policy_rebuilt_role_by_role_decides_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
