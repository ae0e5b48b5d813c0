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

/* The same function, as its authors write it down: byte by byte. */
static uint64_t turn(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void plain_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = turn(v[1], 13) ^ v[0], v[0] = turn(v[0], 32);
    v[2] += v[3], v[3] = turn(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = turn(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = turn(v[1], 17) ^ v[2], v[2] = turn(v[2], 32);
}

static uint64_t plain_hash(const unsigned char *p, size_t len)
{
    uint64_t v[4] = {KEY.k0 ^ 0x736f6d6570736575u, KEY.k1 ^ 0x646f72616e646f6du,
                     KEY.k0 ^ 0x6c7967656e657261u, KEY.k1 ^ 0x7465646279746573u};

    for (size_t at = 0; at <= len; at += 8) {
        uint64_t word = len - at < 8 ? (uint64_t)len << 56 : 0;
        for (size_t i = 0; i < 8 && at + i < len; i++)
            word |= (uint64_t)p[at + i] << (8 * i);
        v[3] ^= word;
        plain_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        plain_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void agrees_with_the_plain_form_for_every_length(void **state)
{
    (void)state;
    unsigned char input[70];

    for (size_t i = 0; i < sizeof(input); i++)
        input[i] = (unsigned char)(i * 37 + 200);
    for (size_t len = 0; len <= sizeof(input); len++)
        assert_true(pst_hash(&KEY, pst_bytes_of(input, len)) == plain_hash(input, len));
}

static void depends_on_the_key(void **state)
{
    (void)state;
    const struct pst_hash_key other = {.k0 = KEY.k0 ^ 1, .k1 = KEY.k1};

    assert_true(pst_hash(&KEY, PST_LIT("alice")) != pst_hash(&other, PST_LIT("alice")));
}

/* The ends of signatures are random; what is asked of the hash is that it uses all of them and the
 * key. */
static void random_bytes_spread_over_the_buckets(void **state)
{
    (void)state;
    enum { BUCKETS = 4096 };
    static unsigned char fill[BUCKETS];
    char input[16] = "0123456789abcde";
    const struct pst_hash_key keys[] = {{.k0 = KEY.k0 ^ 1, .k1 = KEY.k1},
                                        {.k0 = KEY.k0, .k1 = KEY.k1 ^ 1}};
    uint64_t base = pst_hash_random16(&KEY, input), random = 1;

    for (size_t i = 0; i < 2; i++)
        assert_true(pst_hash_random16(&keys[i], input) != base);
    for (unsigned bit = 0; bit < 128; bit++) {
        input[bit / 8] = (char)(input[bit / 8] ^ 1 << bit % 8);
        assert_true(pst_hash_random16(&KEY, input) != base);
        input[bit / 8] = (char)(input[bit / 8] ^ 1 << bit % 8);
    }
    for (unsigned n = 0; n < BUCKETS; n++) {
        for (size_t i = 0; i < sizeof(input); i++) { /* base64url has 64 characters */
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            input[i] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random >> 58];
        }
        assert_true(++fill[pst_hash_random16(&KEY, input) % BUCKETS] < 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_published_vectors),
        cmocka_unit_test(agrees_with_the_plain_form_for_every_length),
        cmocka_unit_test(depends_on_the_key),
        cmocka_unit_test(random_bytes_spread_over_the_buckets),
    };
    return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
