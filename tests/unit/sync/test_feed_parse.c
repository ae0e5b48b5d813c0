/* Messages: what is written is read, and nothing else is. */
#include "../test.h"

#include <stdlib.h>

#include "postern/sync/feed.h"

static bool parses(const char *text)
{
    struct pst_feed_message m;

    return pst_feed_parse(pst_bytes_of(text, strlen(text)), &m);
}

static void a_message_is_read(void **state)
{
    struct pst_feed_message m;
    (void)state;

    assert_true(pst_feed_parse(PST_LIT("v1 00ff00000000000a 41 42 c web-1.example:8080"), &m));
    assert_int_equal(m.epoch, UINT64_C(0x00ff00000000000a));
    assert_int_equal(m.prev, 41);
    assert_int_equal(m.n, 42);
    assert_int_equal(m.kind, PST_FEED_CHANGE);
    assert_true(pst_bytes_equal(m.publisher, PST_LIT("web-1.example:8080")));
    assert_true(pst_feed_parse(PST_LIT("v1 0000000000000000 0 0 h a"), &m));
    assert_int_equal(m.kind, PST_FEED_HEARTBEAT);
    assert_true(pst_feed_parse(
        PST_LIT("v1 ffffffffffffffff 9223372036854775807 9223372036854775807 h a"), &m));
    assert_int_equal(m.n, INT64_MAX);
}

static void anything_else_is_not(void **state)
{
    static const char *const texts[] = {
        "",
        "v1",
        "v2 0000000000000001 1 2 c a",
        "v1  0000000000000001 1 2 c a",
        " v1 0000000000000001 1 2 c a",
        "v1 000000000000001 1 2 c a",
        "v1 00000000000000001 1 2 c a",
        "v1 000000000000000A 1 2 c a",
        "v1 000000000000000g 1 2 c a",
        "v1 0000000000000001 01 2 c a",
        "v1 0000000000000001 1 02 c a",
        "v1 0000000000000001 -1 2 c a",
        "v1 0000000000000001 +1 2 c a",
        "v1 0000000000000001 1 9223372036854775808 c a",
        "v1 0000000000000001 3 2 c a",
        "v1 0000000000000001 1 2 x a",
        "v1 0000000000000001 1 2 C a",
        "v1 0000000000000001 1 2 ch a",
        "v1 0000000000000001 1 2  a",
        "v1 0000000000000001 1 2 c",
        "v1 0000000000000001 1 2 c ",
        "v1 0000000000000001 1 2 c a ",
        "v1 0000000000000001 1 2 c a b",
        "v1 0000000000000001 1 2 c a\n",
        "v1 0000000000000001 1 2 c a/b",
        "v1 0000000000000001 1 2 c \xc3\xa4",
        "v1 0000000000000001 1 2 c "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "V1 0000000000000001 1 2 c a",
        "v1\t0000000000000001 1 2 c a",
    };
    struct pst_feed_message m;
    (void)state;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (parses(texts[i]))
            fail_msg("was taken: \"%s\"", texts[i]);
    assert_false(pst_feed_parse(PST_LIT("v1 0000000000000001 1 2 c a\0"), &m));
    assert_int_equal(m.n, 0); /* nothing of it is left */
    assert_null(m.publisher.ptr);
}

static void what_is_written_is_read(void **state)
{
    char space[PST_FEED_MESSAGE_MAX];
    char longest[PST_FEED_PUBLISHER_MAX];
    (void)state;

    memset(longest, 'x', sizeof(longest));
    srand(7);
    for (int i = 0; i < 10000; i++) {
        struct pst_feed_message m = {
            .epoch = (uint64_t)rand() << 33 ^ (uint64_t)rand(),
            .n = i == 0 ? INT64_MAX : (uint64_t)rand(),
            .kind = rand() % 2 == 0 ? PST_FEED_HEARTBEAT : PST_FEED_CHANGE,
            .publisher = pst_bytes_of(longest, 1 + (size_t)rand() % sizeof(longest)),
        };
        m.prev = i == 0 ? m.n : m.n / 2;
        struct pst_buf out = pst_buf_of(space, sizeof(space));
        struct pst_feed_message back;
        pst_feed_write(&m, &out);
        assert_false(out.full);
        assert_true(pst_feed_parse(pst_buf_bytes(&out), &back));
        assert_int_equal(back.epoch, m.epoch);
        assert_int_equal(back.prev, m.prev);
        assert_int_equal(back.n, m.n);
        assert_int_equal(back.kind, m.kind);
        assert_true(pst_bytes_equal(back.publisher, m.publisher));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_read),
        cmocka_unit_test(anything_else_is_not),
        cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests_name("sync/feed_parse", tests, NULL, NULL);
}
