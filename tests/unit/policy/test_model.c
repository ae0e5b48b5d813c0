/* wrap: realloc reallocarray */
#include "../test.h"

#include "postern/policy/model.h"

#include <stdlib.h>

static int fail_after = -1; /* the allocation that fails, counted from 0; -1: none */

void *__real_realloc(void *ptr, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__real_reallocarray(void *ptr, size_t count, size_t size);
void *__wrap_reallocarray(void *ptr, size_t count, size_t size);

static bool fails_now(void)
{
    return fail_after >= 0 && fail_after-- == 0;
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return fails_now() ? NULL : __real_realloc(ptr, size);
}

void *__wrap_reallocarray(void *ptr, size_t count, size_t size)
{
    return fails_now() ? NULL : __real_reallocarray(ptr, count, size);
}

static int setup(void **state)
{
    static struct pst_model model;

    pst_model_init(&model, 1u << 20);
    *state = &model;
    return 0;
}

static int teardown(void **state)
{
    fail_after = -1;
    pst_model_fini(*state);
    return 0;
}

static struct pst_permission_row row_of(uint64_t id)
{
    return (struct pst_permission_row){.id = id, .role = 1, .entity = PST_LIT("Pipeline")};
}

static void test_rows_are_copied(void **state)
{
    struct pst_model *m = *state;
    char entity[] = "Pipeline", id[] = "p1", name[] = "title";
    struct pst_bytes list[] = {{name, 5}};
    struct pst_permission_row row = row_of(1);

    row.entity = pst_bytes_of(entity, 8);
    row.has_entity_id = true;
    row.entity_id = pst_bytes_of(id, 2);
    row.attributes[PST_ATTR_READ] = list;
    row.attribute_count[PST_ATTR_READ] = 1;
    assert_int_equal(pst_model_add_permission(m, &row), PST_OK);
    memset(entity, 'x', 8);
    memset(id, 'x', 2);
    memset(name, 'x', 5);
    list[0] = (struct pst_bytes){0};
    assert_true(pst_bytes_equal(m->permissions[0].entity, PST_LIT("Pipeline")));
    assert_true(pst_bytes_equal(m->permissions[0].entity_id, PST_LIT("p1")));
    assert_true(pst_bytes_equal(m->permissions[0].attributes[PST_ATTR_READ][0], PST_LIT("title")));
}

static void test_a_star_means_all_and_any_id(void **state)
{
    struct pst_model *m = *state;
    struct pst_permission_row row = row_of(1);

    row.entity = PST_LIT("*");
    row.has_entity_id = true;
    row.entity_id = PST_LIT("*");
    assert_int_equal(pst_model_add_permission(m, &row), PST_OK);
    assert_true(pst_bytes_equal(m->permissions[0].entity, PST_LIT("ALL")));
    assert_false(m->permissions[0].has_entity_id);
}

static void test_broken_rows_are_refused_and_leave_no_trace(void **state)
{
    struct pst_model *m = *state;
    static char big[PST_ENTITY_ID_MAX + 1];
    struct pst_bytes list[] = {PST_LIT("a")};
    struct pst_permission_row row = row_of(0);
    struct pst_role_row role = {.id = 1};
    struct pst_workspace_row space = {.name = PST_LIT("x")};

    assert_int_equal(pst_model_add_permission(m, &row), PST_E_INVALID);
    row = row_of((uint64_t)UINT32_MAX + 1);
    assert_int_equal(pst_model_add_permission(m, &row), PST_E_INVALID);
    row = row_of(1);
    row.entity_id = pst_bytes_of(big, sizeof(big));
    assert_int_equal(pst_model_add_permission(m, &row), PST_E_LIMIT);
    row = row_of(1);
    row.attributes[0] = list;
    row.attribute_count[0] = PST_ATTRIBUTES_MAX + 1;
    assert_int_equal(pst_model_add_permission(m, &row), PST_E_LIMIT);
    row = row_of(1);
    list[0] = pst_bytes_of(big, PST_ATTRIBUTE_MAX + 1);
    row.attributes[0] = list;
    row.attribute_count[0] = 1;
    assert_int_equal(pst_model_add_permission(m, &row), PST_E_LIMIT);
    assert_int_equal(pst_model_add_role(m, &role), PST_E_INVALID);
    assert_int_equal(pst_model_add_workspace(m, &space), PST_E_INVALID);
    assert_int_equal(m->permission_count + m->role_count + m->workspace_count, 0);
}

static void test_short_memory_is_told_and_survived(void **state)
{
    struct pst_model *m = *state;
    struct pst_permission_row row = row_of(1);
    struct pst_role_row role = {.id = 1, .name = PST_LIT("r")};
    struct pst_workspace_row space = {.id = 1, .name = PST_LIT("x")};

    fail_after = 0;
    assert_int_equal(pst_model_add_permission(m, &row), PST_E_NOMEM);
    fail_after = 0;
    assert_int_equal(pst_model_add_role(m, &role), PST_E_NOMEM);
    fail_after = 0;
    assert_int_equal(pst_model_add_workspace(m, &space), PST_E_NOMEM);
    fail_after = -1;
    for (uint64_t i = 1; i <= 40; i++) {
        row.id = i;
        assert_int_equal(pst_model_add_permission(m, &row), PST_OK);
    }
    assert_int_equal(m->permission_count, 40);
    assert_int_equal(m->permissions[39].id, 40);
    fail_after = 0; /* the next growth is far: nothing is allocated */
    row.id = 41;
    assert_int_equal(pst_model_add_permission(m, &row), PST_OK);
}

static void test_the_limit_holds(void **state)
{
    struct pst_model small;
    struct pst_permission_row row = row_of(1);
    enum pst_status status = PST_OK;
    char id[64];

    (void)state;
    pst_model_init(&small, 70000);
    row.has_entity_id = true;
    for (uint64_t i = 1; i < 5000 && status == PST_OK; i++) {
        memset(id, 'a' + (int)(i % 26), sizeof(id));
        row.id = i;
        row.entity_id = pst_bytes_of(id, sizeof(id));
        status = pst_model_add_permission(&small, &row);
    }
    assert_int_not_equal(status, PST_OK);
    assert_true(small.permission_count > 500 && small.permission_count < 1200);
    pst_model_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_are_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_star_means_all_and_any_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_rows_are_refused_and_leave_no_trace, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_short_memory_is_told_and_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_limit_holds, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
