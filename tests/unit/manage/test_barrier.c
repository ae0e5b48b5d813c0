/* The barrier when the list of nodes cannot be read, or not to its end. */
#include "../test.h"

#include "../store/place.h"
#include "postern/base/clock.h"
#include "postern/manage/barrier.h"

static int make(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    place_make(p);
    *state = p;
    return 0;
}

static int drop(void **state)
{
    place_drop(*state);
    free(*state);
    return 0;
}

static void set_bound(struct pst_store *s, uint32_t seconds)
{
    struct pst_change *c = begin(s);

    MUST(pst_change_set_bound(c, seconds, &why));
    (void)commit(c);
}

static struct pst_barrier wait_for(struct pst_store *s, uint64_t n, uint32_t before_s)
{
    const struct pst_revision r = {.n = n};
    struct pst_barrier b;

    pst_barrier_wait(s, &r, pst_clock_boot_ns(), before_s, &b);
    return b;
}

static void test_the_bound_of_before_counts(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);

    set_bound(s, 1);
    struct pst_barrier b = wait_for(s, 1, 2); /* there is nobody: nothing to wait for */
    assert_true(b.listed && b.waited_ms < 500);
    assert_int_equal(raw(p, "DROP TABLE nodes"), RAW_DONE);
    b = wait_for(s, 1, 1);
    assert_false(b.listed);
    assert_in_range(b.waited_ms, 1000, 1700);
    b = wait_for(s, 1, 2); /* this change made it shorter, and nodes may not know that yet */
    assert_false(b.listed);
    assert_in_range(b.waited_ms, 2000, 4000);
    pst_store_close(s);
}

static void test_what_was_listed_counts(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    const struct pst_node_row a = {.node = PST_LIT("a"), .bound_ms = 1600};
    const struct pst_node_row b = {.node = PST_LIT("b"), .bound_ms = 1000};

    set_bound(s, 1);
    MUST(pst_store_node_register(s, &a, &why));
    MUST(pst_store_node_register(s, &b, &why));
    assert_int_equal(raw(p, "UPDATE nodes SET epoch = replace(epoch, '0', 'x') WHERE node = 'b'"),
                     RAW_DONE);
    struct pst_barrier out = wait_for(s, 1, 1); /* the list breaks off behind a */
    assert_false(out.listed);
    assert_in_range(out.waited_ms, 1600, 3000);
    pst_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_bound_of_before_counts, make, drop),
        cmocka_unit_test_setup_teardown(test_what_was_listed_counts, make, drop),
    };
    return cmocka_run_group_tests_name("barrier", tests, NULL, NULL);
}
