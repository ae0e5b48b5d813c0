#include "../test.h"

#include <stdio.h>

#include "postern/policy/access.h"
#include "postern/policy/model.h"

static struct pst_bytes text(const char *s)
{
    return pst_bytes_of(s, strlen(s));
}

/* Every known bit has one name that leads back to it; bits without a meaning have none. */
static void test_bits_and_names_are_one_to_one(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t bit = UINT64_C(1) << i;
        const char *name = pst_access_name(bit);
        if ((PST_A_KNOWN & bit) == 0) {
            assert_null(name);
            continue;
        }
        assert_non_null(name);
        assert_int_equal(pst_access_of(text(name)), bit);
    }
    assert_int_equal(pst_access_of(PST_LIT("DISABLE_UNLESS_CONDITIONS")), PST_A_UNLESS_CONDITIONS);
    assert_int_equal(pst_access_of(PST_LIT("list")), 0);
    assert_int_equal(pst_access_of(PST_LIT("")), 0);
    assert_int_equal(pst_access_of(PST_LIT("LISTX")), 0);
}

/* Mage's values are what an imported database holds. */
static void test_values_are_those_of_mage(void **state)
{
    (void)state;
    assert_int_equal(pst_access_of(PST_LIT("OWNER")), 1);
    assert_int_equal(pst_access_of(PST_LIT("DELETE")), 512);
    assert_int_equal(pst_access_of(PST_LIT("READ")), 8192);
    assert_int_equal(pst_access_of(PST_LIT("ALL")), 131072);
    assert_int_equal(pst_access_of(PST_LIT("DISABLE_OPERATION_ALL")), 8388608);
    assert_int_equal(pst_access_of(PST_LIT("UNLESS_CONDITIONS")), 1073741824);
    assert_true(pst_access_of(PST_LIT("ATTRIBUTES_ONLY")) == UINT64_C(137438953472));
}

static void test_operations_have_names(void **state)
{
    (void)state;
    for (unsigned op = PST_OP_NONE + 1; op < PST_OPS; op++)
        assert_int_equal(pst_op_of(text(pst_op_name((enum pst_op)op))), op);
    assert_int_equal(pst_op_of(PST_LIT("none")), PST_OP_NONE);
    assert_int_equal(pst_op_of(PST_LIT("")), PST_OP_NONE);
    assert_string_equal(pst_op_name((enum pst_op)99), "none");
}

static void test_every_reason_has_its_own_texts_and_a_fitting_status(void **state)
{
    (void)state;
    for (unsigned r = 0; r < PST_REASONS; r++) {
        const char *name = pst_reason_name((enum pst_reason)r);
        unsigned status = pst_reason_status((enum pst_reason)r);
        bool allows = r >= PST_R_PUBLIC && r <= PST_R_PREFLIGHT;
        assert_true(strlen(name) > 2 && strlen(pst_reason_text((enum pst_reason)r)) > 10);
        assert_true(strlen(pst_reason_advice((enum pst_reason)r)) > 5);
        assert_int_equal(allows, status == 200);
        assert_true(allows || (status >= 400 && status < 600));
        for (unsigned other = 0; other < r; other++)
            assert_string_not_equal(name, pst_reason_name((enum pst_reason)other));
    }
    assert_string_equal(pst_reason_name((enum pst_reason)PST_REASONS), "internal");
    assert_int_equal(pst_reason_status((enum pst_reason)1000), 500);
}

/* Whoever is told one looks it up. */
static void test_every_reason_stands_in_the_readme(void **state)
{
    static char readme[1 << 17];
    FILE *f = fopen("README.md", "r");

    (void)state;
    assert_non_null(f);
    readme[fread(readme, 1, sizeof(readme) - 1, f)] = '\0';
    (void)fclose(f);
    for (unsigned r = 0; r < PST_REASONS; r++) {
        char quoted[64];
        (void)snprintf(quoted, sizeof(quoted), "`%s`", pst_reason_name((enum pst_reason)r));
        if (strstr(readme, quoted) == NULL)
            fail_msg("README.md says nothing of %s", quoted);
    }
}

static void test_the_statuses_that_clients_rely_on(void **state)
{
    (void)state;
    assert_int_equal(pst_reason_status(PST_R_NO_CREDENTIAL), 401);
    assert_int_equal(pst_reason_status(PST_R_BAD_CREDENTIAL), 401);
    assert_int_equal(pst_reason_status(PST_R_NOT_GRANTED), 403);
    assert_int_equal(pst_reason_status(PST_R_NO_ROUTE), 404);
    assert_int_equal(pst_reason_status(PST_R_METHOD), 405);
    assert_int_equal(pst_reason_status(PST_R_BODY_TOO_LARGE), 413);
    assert_int_equal(pst_reason_status(PST_R_UNKNOWN_HOST), 421);
    assert_int_equal(pst_reason_status(PST_R_STALE), 503);
}

static void test_conditions_have_names(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit < 8; bit <<= 1)
        assert_int_equal(pst_condition_of(text(pst_condition_name(bit))), bit);
    assert_int_equal(pst_condition_of(PST_LIT("SOMETHING_ELSE")), 0);
    assert_string_equal(pst_condition_name(8), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_and_names_are_one_to_one),
        cmocka_unit_test(test_values_are_those_of_mage),
        cmocka_unit_test(test_operations_have_names),
        cmocka_unit_test(test_every_reason_has_its_own_texts_and_a_fitting_status),
        cmocka_unit_test(test_every_reason_stands_in_the_readme),
        cmocka_unit_test(test_the_statuses_that_clients_rely_on),
        cmocka_unit_test(test_conditions_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
