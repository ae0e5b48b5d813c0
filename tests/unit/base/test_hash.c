/* base/hash: SipHash-1-3 against the reference values, and that the key matters. */
#include "../test.h"

#include "postern/base/hash.h"

static const struct pst_hash_key KEY = {
    .k0 = 0x0706050403020100u,
    .k1 = 0x0f0e0d0c0b0a0908u,
};

static void matches_the_published_vectors(void **state)
{
    (void)state;
    const unsigned char input[15] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};

    assert_true(pst_hash(&KEY, pst_bytes_of(NULL, 0)) == 0xabac0158050fc4dcu);
    assert_true(pst_hash(&KEY, pst_bytes_of(input, 15)) == 0xd320d86d2a519956u);
}

static void depends_on_the_key(void **state)
{
    (void)state;
    const struct pst_hash_key other = {.k0 = KEY.k0 ^ 1, .k1 = KEY.k1};

    assert_true(pst_hash(&KEY, PST_LIT("alice")) != pst_hash(&other, PST_LIT("alice")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_published_vectors),
        cmocka_unit_test(depends_on_the_key),
    };
    return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
