#include "../test.h"

#include "postern/net/address.h"

static bool parses(const char *text, struct pst_address *a, struct pst_host_port *parts)
{
    return pst_address_parse(pst_bytes_of(text, strlen(text)), a, parts) == PST_OK;
}

static void reads_and_writes_addresses(void **state)
{
    static const char *const good[] = {"127.0.0.1:80", "[::1]:8080", "unix:/run/x.sock",
                                       "10.1.2.3:0"};
    static const char *const bad[] = {
        "",        "127.0.0.1", ":80",    "1.2.3.4:65536", "1.2.3.4:-1",  "[::1]", "::1:80",
        "[::1:80", "unix:",     "a b:80", "[name]:80",     "1.2.3.4:80x", "a/b:1"};
    struct pst_address a;
    struct pst_host_port parts;
    char space[PST_ADDRESS_TEXT_MAX];
    (void)state;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct pst_buf out = pst_buf_of(space, sizeof(space));
        assert_true(parses(good[i], &a, &parts));
        assert_false(parts.is_name);
        pst_address_text(&a, &out);
        assert_true(pst_bytes_equal(pst_buf_bytes(&out), pst_bytes_of(good[i], strlen(good[i]))));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parses(bad[i], &a, &parts))
            fail_msg("accepted %s", bad[i]);
    assert_int_equal(pst_address_parse(pst_bytes_of("unix:/a\0b", 9), &a, &parts), PST_E_INVALID);
    char lengthy[200];
    memset(lengthy, 'x', sizeof(lengthy));
    memcpy(lengthy, "unix:", 5);
    assert_int_equal(pst_address_parse(pst_bytes_of(lengthy, sizeof(lengthy)), &a, &parts),
                     PST_E_INVALID);
}

static void tells_names_from_numbers(void **state)
{
    struct pst_address a;
    struct pst_host_port parts;
    (void)state;

    assert_true(parses("app.default.svc:9000", &a, &parts));
    assert_true(parts.is_name);
    assert_int_equal(parts.port, 9000);
    assert_true(pst_bytes_equal(parts.host, PST_LIT("app.default.svc")));
    assert_int_equal(a.len, 0);
}

static bool holds(const char *cidr, const char *address)
{
    struct pst_cidr c;
    struct pst_address a;
    struct pst_host_port parts;

    assert_int_equal(pst_cidr_parse(pst_bytes_of(cidr, strlen(cidr)), &c), PST_OK);
    assert_true(parses(address, &a, &parts));
    return pst_cidr_holds(&c, 1, &a);
}

static void networks_hold_what_they_say(void **state)
{
    static const char *const bad[] = {"",     "10.0.0.0/33", "::/129",   "10.0.0/8",
                                      "name", "10.0.0.0/x",  "10.0.0.0/"};
    struct pst_cidr c;
    (void)state;

    assert_true(holds("10.0.0.0/8", "10.255.0.1:1"));
    assert_false(holds("10.0.0.0/8", "11.0.0.1:1"));
    assert_true(holds("127.0.0.1/32", "127.0.0.1:1"));
    assert_false(holds("127.0.0.1", "127.0.0.2:1"));
    assert_true(holds("172.16.0.0/12", "172.31.9.9:1"));
    assert_false(holds("172.16.0.0/12", "172.32.0.0:1"));
    assert_true(holds("10.0.0.0/8", "[::ffff:10.1.1.1]:1"));
    assert_true(holds("fd00::/8", "[fd12::1]:1"));
    assert_false(holds("fd00::/8", "[fe80::1]:1"));
    assert_true(holds("0.0.0.0/0", "9.9.9.9:1"));
    assert_false(holds("0.0.0.0/0", "[2001:db8::1]:1")); /* IPv4 only */
    assert_true(holds("unix", "unix:/x"));
    assert_false(holds("unix", "127.0.0.1:1"));
    assert_false(holds("127.0.0.0/8", "unix:/x"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(pst_cidr_parse(pst_bytes_of(bad[i], strlen(bad[i])), &c), PST_E_INVALID);
    assert_false(pst_cidr_holds(NULL, 0, &(struct pst_address){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_addresses),
        cmocka_unit_test(tells_names_from_numbers),
        cmocka_unit_test(networks_hold_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
