/* identity/base64url: every text of up to three characters against what a slow reader says of it.
 */
#include "../test.h"

#include "postern/identity/base64url.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value_of(unsigned char c)
{
    for (int i = 0; i < 64; i++)
        if ((unsigned char)ALPHABET[i] == c)
            return i;
    return -1;
}

static void three_bytes_are_read_as_the_rfc_says(void **state)
{
    (void)state;
    unsigned char text[3], out[8];
    size_t len;

    for (unsigned n = 0; n < 256u * 256 * 256;
         n += 7) { /* 7: all values of each byte, in a second */
        text[0] = (unsigned char)n;
        text[1] = (unsigned char)(n >> 8);
        text[2] = (unsigned char)(n >> 16);
        int a = value_of(text[0]), b = value_of(text[1]), c = value_of(text[2]);
        bool good = a >= 0 && b >= 0 && c >= 0 && (c & 3) == 0;
        bool got = pst_base64url_decode(pst_bytes_of(text, 3), out, sizeof(out), &len);
        if (got != good || len != (good ? 2u : 0u) ||
            (good && (out[0] != (unsigned char)(a << 2 | b >> 4) ||
                      out[1] != (unsigned char)(b << 4 | c >> 2))))
            fail_msg("%02x %02x %02x", text[0], text[1], text[2]);
    }
}

static void two_bytes_and_one_are_too(void **state)
{
    (void)state;
    unsigned char text[2], out[8];
    size_t len;

    for (unsigned n = 0; n < 256 * 256; n++) {
        text[0] = (unsigned char)n;
        text[1] = (unsigned char)(n >> 8);
        int a = value_of(text[0]), b = value_of(text[1]);
        bool good = a >= 0 && b >= 0 && (b & 15) == 0;
        assert_int_equal(pst_base64url_decode(pst_bytes_of(text, 2), out, sizeof(out), &len), good);
        assert_int_equal(len, good);
        assert_false(pst_base64url_decode(pst_bytes_of(text, 1), out, sizeof(out), &len));
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    unsigned char bytes[256], back[256];
    char text[400];
    size_t len;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 167 + 13);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        struct pst_buf b = pst_buf_of(text, sizeof(text));
        pst_base64url_put(&b, pst_bytes_of(bytes, n));
        assert_false(b.full);
        assert_true(pst_base64url_decode(pst_buf_bytes(&b), back, n, &len));
        assert_int_equal(len, n);
        assert_memory_equal(back, bytes, n);
        assert_true(n <= pst_base64url_bytes(b.len));
        if (n > 0)
            assert_false(
                pst_base64url_decode(pst_buf_bytes(&b), back, n - 1, &len)); /* too little room */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_bytes_are_read_as_the_rfc_says),
        cmocka_unit_test(two_bytes_and_one_are_too),
        cmocka_unit_test(what_is_written_is_read_back),
    };
    return cmocka_run_group_tests_name("identity/base64url", tests, NULL, NULL);
}
