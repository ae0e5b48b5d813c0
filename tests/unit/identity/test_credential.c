/* identity/credential: one token, wherever it stands; two are none. */
#include "../test.h"

#include <string.h>

#include "postern/identity/credential.h"

static const struct pst_credential_config usual = {
    .header = {.ptr = "Authorization", .len = 13},
    .cookie = {.ptr = "postern_token", .len = 13},
};

/* Fields as "Name: value", up to a NULL. */
static struct pst_credential find(const struct pst_credential_config *config,
                                  const char *const *lines)
{
    struct pst_field fields[8];
    size_t n = 0;

    for (; lines[n] != NULL; n++) {
        struct pst_bytes line = pst_bytes_of(lines[n], strlen(lines[n]));
        size_t colon = pst_bytes_find(line, ':');
        fields[n] = (struct pst_field){pst_bytes_of(line.ptr, colon),
                                       pst_bytes_trim(pst_bytes_from(line, colon + 1))};
    }
    return pst_credential_find(config, fields, n);
}

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void a_token_is_found_in_each_place(void **state)
{
    (void)state;
    struct pst_credential c = find(&usual, LINES("Host: x", "authorization: bEARER a.b.c"));
    assert_int_equal(c.source, PST_CREDENTIAL_HEADER);
    assert_true(pst_bytes_equal(c.token, PST_LIT("a.b.c")));

    c = find(&usual, LINES("Cookie: a=1; postern_token=a.b.c;b=2"));
    assert_int_equal(c.source, PST_CREDENTIAL_COOKIE);
    assert_true(pst_bytes_equal(c.token, PST_LIT("a.b.c")));
    assert_int_equal(find(&usual, LINES("Cookie: postern_token=\"a.b.c\"")).source,
                     PST_CREDENTIAL_COOKIE);
    assert_int_equal(find(&usual, LINES("Cookie: x=1", "Cookie: postern_token=a.b.c")).source,
                     PST_CREDENTIAL_COOKIE);

    struct pst_credential_config other = {.header = PST_LIT("X-Token")};
    c = find(&other, LINES("x-token: a.b.c", "Authorization: Basic eDp5"));
    assert_int_equal(c.source, PST_CREDENTIAL_HEADER);
    assert_true(pst_bytes_equal(c.token, PST_LIT("a.b.c")));
    assert_int_equal(find(&other, LINES("X-Token: Bearer a.b.c")).reason,
                     PST_ID_MALFORMED_CREDENTIAL);
}

static void what_was_sought_is_judged_afterwards(void **state)
{
    (void)state;
    struct pst_field field = {PST_LIT("Authorization"), PST_LIT("Bearer a b")},
                     bare = {PST_LIT("Authorization"), PST_LIT("Bearer")};
    struct pst_credential c = pst_credential_seek(&usual, &field, 1);

    assert_int_equal(c.source, PST_CREDENTIAL_HEADER);
    assert_true(pst_bytes_equal(c.token, PST_LIT("a b")));
    assert_false(pst_credential_is_token(c.token));
    assert_true(pst_credential_is_token(PST_LIT("a.b-c_d~e+f/g=")));
    assert_false(pst_credential_is_token(pst_credential_seek(&usual, &bare, 1).token));
    assert_int_equal(pst_credential_find(&usual, &field, 1).reason, PST_ID_MALFORMED_CREDENTIAL);
    assert_int_equal(pst_credential_find(&usual, &bare, 1).reason, PST_ID_MALFORMED_CREDENTIAL);
    struct pst_field two[2] = {field, bare};
    assert_int_equal(pst_credential_seek(&usual, two, 2).reason, PST_ID_AMBIGUOUS_CREDENTIAL);
}

static void other_names_are_no_credentials(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "Authorization_: Bearer a.b.c",
        "HTTP_AUTHORIZATION: Bearer a.b.c",
        "Proxy-Authorization: Bearer a.b.c",
        "Cookie: xpostern_token=a.b.c; POSTERN_TOKEN=a.b.c; postern_token",
        "Cookie: a=postern_token=a.b.c",
        "Sec-WebSocket-Protocol: bearer, a.b.c",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct pst_credential c = find(&usual, LINES(lines[i]));
        assert_int_equal(c.source, PST_CREDENTIAL_NONE);
        assert_int_equal(c.reason, PST_ID_NO_CREDENTIAL);
    }
    assert_int_equal(pst_credential_find(&usual, NULL, 0).reason, PST_ID_NO_CREDENTIAL);
}

static void a_field_that_is_not_right_is_malformed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "Authorization:",
        "Authorization: Bearer",
        "Authorization: Bearer  a.b.c",
        "Authorization: Bearer\ta.b.c",
        "Authorization: Basic eDp5",
        "Authorization: BearerX a.b.c",
        "Authorization: Bearer a.b.c d",
        "Authorization: Bearer \"a.b.c\"",
        "Authorization: a.b.c",
        "Authorization: Bearer a.b.c,d",
        "Authorization: Bearer =",
        "Authorization: Bearer a=b",
        "Cookie: postern_token=",
        "Cookie: postern_token=a b",
        "Authorization: Bearer \x80",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct pst_credential c = find(&usual, LINES(lines[i]));
        if (c.source != PST_CREDENTIAL_NONE || c.reason != PST_ID_MALFORMED_CREDENTIAL)
            fail_msg("%s", lines[i]);
    }
}

static void two_credentials_are_ambiguous(void **state)
{
    (void)state;
    assert_int_equal(
        find(&usual, LINES("Authorization: Bearer a", "Authorization: Bearer a")).reason,
        PST_ID_AMBIGUOUS_CREDENTIAL);
    assert_int_equal(
        find(&usual, LINES("Authorization: Bearer a", "Cookie: postern_token=b")).reason,
        PST_ID_AMBIGUOUS_CREDENTIAL);
    assert_int_equal(find(&usual, LINES("Cookie: postern_token=a; postern_token=a")).reason,
                     PST_ID_AMBIGUOUS_CREDENTIAL);
    assert_int_equal(
        find(&usual, LINES("Cookie: postern_token=a", "Cookie: postern_token=a")).reason,
        PST_ID_AMBIGUOUS_CREDENTIAL);
    /* a broken one beside a good one is still a second one */
    assert_int_equal(
        find(&usual, LINES("Authorization: Basic x", "Cookie: postern_token=a")).reason,
        PST_ID_AMBIGUOUS_CREDENTIAL);
}

static void a_subprotocol_counts_in_a_handshake_only(void **state)
{
    (void)state;
    struct pst_credential_config config = usual;
    struct pst_credential c;

    config.websocket_protocol = PST_LIT("bearer");
    c = find(&config, LINES("Connection: keep-alive, Upgrade", "Upgrade: websocket",
                            "Sec-WebSocket-Key: k", "Sec-WebSocket-Protocol: chat, bearer, a.b.c"));
    assert_int_equal(c.source, PST_CREDENTIAL_WEBSOCKET);
    assert_true(pst_bytes_equal(c.token, PST_LIT("a.b.c")));
    assert_int_equal(find(&config, LINES("Upgrade: websocket", "Sec-WebSocket-Key: k",
                                         "Sec-WebSocket-Protocol: bearer, a.b.c"))
                         .reason,
                     PST_ID_NO_CREDENTIAL);
    c = find(&config, LINES("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k",
                            "Cookie: postern_token=x", "Sec-WebSocket-Protocol: bearer, a.b.c"));
    assert_int_equal(c.reason, PST_ID_AMBIGUOUS_CREDENTIAL);
    c = find(&config, LINES("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k",
                            "Sec-WebSocket-Protocol: bearer"));
    assert_int_equal(c.reason, PST_ID_NO_CREDENTIAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_found_in_each_place),
        cmocka_unit_test(what_was_sought_is_judged_afterwards),
        cmocka_unit_test(other_names_are_no_credentials),
        cmocka_unit_test(a_field_that_is_not_right_is_malformed),
        cmocka_unit_test(two_credentials_are_ambiguous),
        cmocka_unit_test(a_subprotocol_counts_in_a_handshake_only),
    };
    return cmocka_run_group_tests_name("identity/credential", tests, NULL, NULL);
}
