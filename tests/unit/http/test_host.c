/* Hosts: one canonical text for all spellings of one, a refusal for everything else. */
#include "../test.h"

#include <stdio.h>

#include "postern/http/host.h"

static void assert_host(const char *raw, const char *text, const char *name, unsigned port)
{
    char space[PST_HOST_MAX];
    struct pst_host host;

    if (!pst_host_parse(pst_bytes_of(raw, strlen(raw)), space, &host))
        fail_msg("refused: %s", raw);
    if (!pst_bytes_equal(host.text, pst_bytes_of(text, strlen(text))) ||
        !pst_bytes_equal(host.name, pst_bytes_of(name, strlen(name))) || host.port != port)
        fail_msg("%s became %.*s", raw, (int)host.text.len, host.text.ptr);

    char again[PST_HOST_MAX];
    struct pst_host twice;
    assert_true(pst_host_parse(host.text, again, &twice));
    assert_true(pst_bytes_equal(host.text, twice.text));
}

static void test_names(void **state)
{
    (void)state;
    assert_host("app.example", "app.example", "app.example", 0);
    assert_host("App.EXAMPLE:8080", "app.example:8080", "app.example", 8080);
    assert_host("app.example.", "app.example", "app.example", 0);
    assert_host("app.example.:80", "app.example:80", "app.example", 80);
    assert_host("app.example:", "app.example", "app.example", 0);
    assert_host("a_b-c.d:65535", "a_b-c.d:65535", "a_b-c.d", 65535);
    assert_host("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1", 1);
    assert_host("localhost", "localhost", "localhost", 0);
}

static void test_addresses(void **state)
{
    (void)state;
    assert_host("[::1]", "[::1]", "[::1]", 0);
    assert_host("[0:0:0:0:0:0:0:1]:80", "[::1]:80", "[::1]", 80);
    assert_host("[::]", "[::]", "[::]", 0);
    assert_host("[2001:0DB8::0001:0]", "[2001:db8::1:0]", "[2001:db8::1:0]", 0);
    assert_host("[2001:db8:0:0:1:0:0:1]", "[2001:db8::1:0:0:1]", "[2001:db8::1:0:0:1]", 0);
    assert_host("[1:0:2:3:4:5:6:7]", "[1:0:2:3:4:5:6:7]", "[1:0:2:3:4:5:6:7]", 0);
    assert_host("[1::]", "[1::]", "[1::]", 0);
    assert_host("[::ffff:10.0.0.255]", "[::ffff:a00:ff]", "[::ffff:a00:ff]", 0);
    assert_host("[1:2:3:4:5:6:1.2.3.4]", "[1:2:3:4:5:6:102:304]", "[1:2:3:4:5:6:102:304]", 0);
    assert_host("[::1]:", "[::1]", "[::1]", 0);
    assert_host("[0:1::2:3:4:5:6]", "[0:1:0:2:3:4:5:6]", "[0:1:0:2:3:4:5:6]", 0);
}

static void test_everything_else_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        "..a",
        ":80",
        "a:8x",
        "a:-1",
        "a:+1",
        "a:0",
        "a:080",
        "a:65536",
        "a:98777",
        "a:123456",
        "a:90:80",
        "a b",
        " a",
        "a ",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "a\\b",
        "*",
        "a%2eb",
        "\377a",
        "a\x01",
        "a\tb",
        "a~b",
        "a!b",
        "[",
        "[]",
        "[:]",
        "[:::]",
        "[::1",
        "::1]",
        "::1",
        "x[::1]",
        "[::1]x",
        "[::1]:x",
        "[::1]:0",
        "[::1]]",
        "[[::1]]",
        "[1:2:3:4:5:6:7]",
        "[1:2:3:4:5:6:7:8:9]",
        "[1:2:3:4:5:6:7:8::]",
        "[::1:2:3:4:5:6:7:8]",
        "[1::2::3]",
        "[12345::]",
        "[g::]",
        "[1:]",
        "[:1]",
        "[::1%eth0]",
        "[::1%25eth0]",
        "[v1.a]",
        "[::1.2.3]",
        "[::1.2.3.4.5]",
        "[::1.2.3.256]",
        "[::01.2.3.4]",
        "[::1.2.3.4:5]",
        "[1:2:3:4:5:6:7:1.2.3.4]",
        "[1.2.3.4]",
        "[1.2.3.4::]",
        "[::1..3.4]",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char space[PST_HOST_MAX];
        struct pst_host host;

        if (pst_host_parse(pst_bytes_of(cases[i], strlen(cases[i])), space, &host))
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(host.text.len, 0);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    char name[300], space[PST_HOST_MAX];
    struct pst_host host;

    memset(name, 'A', sizeof(name));
    assert_true(pst_host_parse(pst_bytes_of(name, 63), space, &host));
    assert_false(pst_host_parse(pst_bytes_of(name, 64), space, &host));
    for (size_t i = 50; i < sizeof(name); i += 50)
        name[i] = '.';
    assert_true(pst_host_parse(pst_bytes_of(name, 253), space, &host));
    assert_int_equal(host.text.len, 253);
    assert_false(pst_host_parse(pst_bytes_of(name, 254), space, &host));
    memcpy(name + 253, ":65535", 6);
    assert_true(pst_host_parse(pst_bytes_of(name, 259), space, &host));
    assert_int_equal(host.text.len, 259);
    assert_false(pst_host_parse(PST_LIT("a:80\0"), space, &host));
    assert_false(pst_host_parse(PST_LIT("a\0b"), space, &host));
}

/* Plain names are read by a way of their own; with a port they are not, and must say the same. */
static void test_plain_names_are_no_exception(void **state)
{
    (void)state;
    static const char alphabet[] = "abz059-_abz059..abzABZ:~@ \x80";
    uint32_t random = 1;

    for (unsigned round = 0; round < 60000; round++) {
        char text[80], fast_space[PST_HOST_MAX], slow_space[PST_HOST_MAX];
        size_t len = 1 + round % 70;
        unsigned kinds = round % 4 == 0 ? sizeof(alphabet) - 1 : round % 2 == 0 ? 14 : 16;
        for (size_t i = 0; i < len; i++) {
            random = random * 1664525u + 1013904223u;
            text[i] = alphabet[(random >> 16) % kinds];
        }
        memcpy(text + len, ":1", 2);
        struct pst_host fast, slow;
        struct pst_bytes plain = pst_bytes_of(text, len);
        if (pst_bytes_find(plain, ':') < len)
            continue;
        bool ok = pst_host_parse(pst_bytes_of(text, len + 2), slow_space, &slow);
        assert_int_equal(pst_host_parse(plain, fast_space, &fast), ok);
        assert_true(pst_bytes_equal(fast.name, slow.name));
        assert_true(pst_bytes_equal(fast.text, fast.name) && fast.port == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_everything_else_is_refused),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_plain_names_are_no_exception),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
