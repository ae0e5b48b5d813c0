/* base: arena, buf, tree and error keep their promises. */
#include "../test.h"

#include <stdlib.h>

#include "postern/base/arena.h"
#include "postern/base/buf.h"
#include "postern/base/clock.h"
#include "postern/base/metric.h"
#include "postern/base/secret.h"
#include "postern/base/tree.h"

static void an_arena_stops_at_its_limit(void **state)
{
    (void)state;
    struct pst_arena a;

    pst_arena_init(&a, 256, 1024);
    assert_non_null(pst_arena_alloc(&a, 600));
    assert_non_null(pst_arena_alloc(&a, 400));
    assert_null(pst_arena_alloc(&a, 400));
    assert_null(pst_arena_array(&a, SIZE_MAX / 2, 4));
    assert_null(pst_arena_alloc(&a, SIZE_MAX));
    pst_arena_reset(&a);
    assert_non_null(pst_arena_alloc(&a, 400));
    pst_arena_fini(&a);
}

static void an_arena_gives_aligned_separate_memory(void **state)
{
    (void)state;
    struct pst_arena a;
    char *before = NULL;

    pst_arena_init(&a, 512, 1u << 20);
    for (size_t i = 1; i < 200; i++) {
        char *p = pst_arena_alloc(&a, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, (int)i, i);
        if (before != NULL)
            assert_int_equal((unsigned char)before[0], i - 1);
        before = p;
    }
    pst_arena_fini(&a);
}

static void a_full_buf_stays_full(void **state)
{
    (void)state;
    char room[4];
    struct pst_buf b = pst_buf_of(room, sizeof(room));

    pst_buf_lit(&b, "abc");
    pst_buf_lit(&b, "de");
    assert_true(b.full);
    pst_buf_char(&b, 'f');
    assert_int_equal(b.len, 3);
}

static void json_text_is_escaped_and_made_utf8(void **state)
{
    (void)state;
    char room[128];
    struct pst_buf b = pst_buf_of(room, sizeof(room));

    pst_buf_json(&b, PST_LIT("a\"\\\n\x7f\xc3\xa9\xff\xed\xa0\x80"));
    assert_true(pst_bytes_equal(
        pst_buf_bytes(&b),
        PST_LIT("\"a\\\"\\\\\\u000a\\u007f\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\"")));
}

/* Texts are looked at in blocks, the last of which overlaps: whatever its length and wherever the
 * byte stands, it is seen. */
static void bytes_to_be_escaped_are_seen_at_any_place(void **state)
{
    (void)state;
    char text[40], room[64];

    for (size_t len = 0; len <= sizeof(text); len++) {
        for (size_t at = 0; at <= len; at++) { /* at == len: none */
            memset(text, 'x', sizeof(text));
            if (at < len)
                text[at] = '\x7f';
            struct pst_buf json = pst_buf_of(room, sizeof(room));
            pst_buf_json(&json, pst_bytes_of(text, len));
            assert_int_equal(json.len, len + 2 + (at < len ? 5 : 0));
            assert_true(room[0] == '"' && room[json.len - 1] == '"');
            struct pst_buf safe = pst_buf_of(room, sizeof(room));
            pst_buf_safe(&safe, pst_bytes_of(text, len));
            assert_int_equal(safe.len, len + (at < len ? 2 : 0));
            assert_true(at == len || memcmp(room + at, "%7f", 3) == 0);
        }
    }
}

static void a_line_of_a_head_cannot_be_ended_by_a_text(void **state)
{
    (void)state;
    char room[32];
    struct pst_buf b = pst_buf_of(room, sizeof(room));

    pst_buf_safe(&b, PST_LIT("a\r\nB: c\t\xc3\xa9"));
    assert_true(pst_bytes_equal(pst_buf_bytes(&b), PST_LIT("a%0d%0aB: c%09\xc3\xa9")));
}

static void a_line_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    char room[12];
    struct pst_buf b = pst_buf_of(room, sizeof(room)), c = pst_buf_of(room, sizeof(room)),
                   d = pst_buf_of(room, sizeof(room));

    pst_buf_line(&b, PST_LIT("Name"), PST_LIT("text"));
    assert_true(!b.full && pst_bytes_equal(pst_buf_bytes(&b), PST_LIT("Name: text\r\n")));
    pst_buf_line(&c, PST_LIT("Name"), PST_LIT("texts"));
    assert_true(c.full && c.len == 0);
    volatile size_t huge = SIZE_MAX - 3; /* the sum of the parts is small again */
    pst_buf_line(&d, PST_LIT("Name"), pst_bytes_of(room, huge));
    assert_true(d.full && d.len == 0);

    char more[32];
    struct pst_buf e = pst_buf_of(more, sizeof(more));
    pst_buf_safe_line(&e, PST_LIT("A"), PST_LIT("b\nc"));
    pst_buf_safe_line(&e, PST_LIT("A"), PST_LIT("bc"));
    pst_buf_safe_line(&e, PST_LIT(""), PST_LIT("x"));
    pst_buf_safe_line(&e, PST_LIT("A"), PST_LIT(""));
    assert_true(pst_bytes_equal(pst_buf_bytes(&e), PST_LIT("A: b%0ac\r\nA: bc\r\n")));
}

static void json_needs_room_for_both_quotes(void **state)
{
    (void)state;
    char room[4];
    struct pst_buf b = pst_buf_of(room, sizeof(room)), c = pst_buf_of(room, sizeof(room));

    pst_buf_json(&b, PST_LIT("ab"));
    assert_true(!b.full && b.len == 4);
    pst_buf_json(&c, PST_LIT("abc"));
    assert_true(c.full);
}

static void names_are_compared_without_case(void **state)
{
    (void)state;
    assert_true(pst_bytes_equal_nocase(PST_LIT("Host"), PST_LIT("Host")));
    assert_true(pst_bytes_equal_nocase(PST_LIT("hOST"), PST_LIT("Host")));
    assert_false(pst_bytes_equal_nocase(PST_LIT("Hosu"), PST_LIT("Host")));
    assert_false(pst_bytes_equal_nocase(PST_LIT("Hos@"), PST_LIT("Hos`")));
    assert_false(pst_bytes_equal_nocase(PST_LIT("Hos"), PST_LIT("Host")));
    assert_true(pst_bytes_equal_nocase(PST_LIT(""), (struct pst_bytes){0}));
    /* each pair of bytes, at each place of names of each length: letters alone have two forms */
    char a[20], b[20];
    for (size_t len = 1; len <= sizeof(a); len += len < 9 ? 7 : 3) {
        for (unsigned pair = 0; pair < 65536; pair++) {
            memset(a, 'k', sizeof(a));
            memset(b, 'K', sizeof(b));
            size_t at = pair % len;
            a[at] = (char)(pair >> 8);
            b[at] = (char)pair;
            assert_int_equal(pst_bytes_equal_nocase(pst_bytes_of(a, len), pst_bytes_of(b, len)),
                             pst_lower(a[at]) == pst_lower(b[at]));
        }
    }
}

static void numbers_and_times_are_written_exactly(void **state)
{
    (void)state;
    char room[128];
    struct pst_buf b = pst_buf_of(room, sizeof(room));

    pst_buf_u64(&b, UINT64_MAX);
    pst_buf_char(&b, ' ');
    pst_buf_hex(&b, 0xbeef, 6);
    pst_buf_hex(&b, UINT64_C(0x9a0f123456789abc), 16);
    pst_buf_hex(&b, UINT64_C(0xdef), 3);
    pst_buf_u64(&b, 0);
    pst_buf_u64(&b, 10);
    pst_buf_u64(&b, 100);
    pst_buf_char(&b, ' ');
    pst_buf_time(&b, UINT64_C(1709210096) * PST_NS_PER_S + 7 * PST_NS_PER_MS);
    pst_buf_char(&b, ' ');
    pst_buf_time(&b, 0);
    assert_true(pst_bytes_equal(pst_buf_bytes(&b),
                                PST_LIT("18446744073709551615 00beef9a0f123456789abcdef010100 "
                                        "2024-02-29T12:34:56.007Z 1970-01-01T00:00:00.000Z")));
}

static void dates_of_http_are_written(void **state)
{
    (void)state;
    static const struct {
        uint64_t s;
        const char *text;
    } DATES[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {1709210096, "Thu, 29 Feb 2024 12:34:56 GMT"},
        {1735689599, "Tue, 31 Dec 2024 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
    };
    char room[64];

    for (size_t i = 0; i < sizeof(DATES) / sizeof(*DATES); i++) {
        struct pst_buf b = pst_buf_of(room, sizeof(room));
        pst_buf_http_date(&b, DATES[i].s * PST_NS_PER_S + 999999999);
        assert_true(
            pst_bytes_equal(pst_buf_bytes(&b), pst_bytes_of(DATES[i].text, strlen(DATES[i].text))));
    }
}

static void every_small_number_is_read_back(void **state)
{
    (void)state;
    char room[24];
    uint64_t v;

    for (uint64_t n = 0; n < 12000; n++) {
        struct pst_buf b = pst_buf_of(room, sizeof(room)), tight = pst_buf_of(room, n < 10     ? 0
                                                                                    : n < 100  ? 1
                                                                                    : n < 1000 ? 2
                                                                                               : 3);
        pst_buf_u64(&tight, n);
        assert_true(tight.full && tight.len == 0);
        pst_buf_u64(&b, n);
        assert_true(pst_bytes_u63(pst_buf_bytes(&b), &v) && v == n && (n == 0 || room[0] != '0'));
    }
}

static void whole_numbers_are_read_strictly(void **state)
{
    (void)state;
    uint64_t v;

    assert_true(pst_bytes_u63(PST_LIT("9223372036854775807"), &v) && v == INT64_MAX);
    assert_false(pst_bytes_u63(PST_LIT("9223372036854775808"), &v));
    assert_false(pst_bytes_u63(PST_LIT(""), &v));
    assert_false(pst_bytes_u63(PST_LIT("+1"), &v));
    assert_false(pst_bytes_u63(PST_LIT("1 "), &v));
    assert_false(pst_bytes_u63(PST_LIT("00000000000000000001"), &v));
    assert_true(pst_bytes_hex(PST_LIT("9a0f123456789abc"), 16, &v) &&
                v == UINT64_C(0x9a0f123456789abc));
    assert_true(pst_bytes_hex(PST_LIT("0f"), 2, &v) && v == 15);
    assert_false(pst_bytes_hex(PST_LIT("0F"), 2, &v));
    assert_false(pst_bytes_hex(PST_LIT("0g"), 2, &v));
    assert_false(pst_bytes_hex(PST_LIT("0"), 2, &v));
    assert_false(pst_bytes_hex(PST_LIT("9a0f123456789abcd"), 17, &v));
}

static void a_tree_names_file_line_and_key(void **state)
{
    (void)state;
    struct pst_tree t;
    struct pst_error e;
    uint64_t v = 7;
    static const char *const KEYS[] = {"listeners", NULL};

    pst_tree_init(&t, PST_LIT("postern.yaml"), 65536);
    struct pst_node *root = pst_tree_add(&t, NULL, PST_NODE_MAP, PST_LIT(""), PST_LIT(""), 1);
    struct pst_node *list =
        pst_tree_add(&t, root, PST_NODE_LIST, PST_LIT("listeners"), PST_LIT(""), 2);
    struct pst_node *map = pst_tree_add(&t, list, PST_NODE_MAP, PST_LIT(""), PST_LIT(""), 3);
    assert_non_null(pst_tree_add(&t, map, PST_NODE_SCALAR, PST_LIT("workers"), PST_LIT("x"), 4));

    assert_int_equal(pst_node_only(&t, root, KEYS, &e), PST_OK);
    assert_int_equal(pst_node_only(&t, map, KEYS, &e), PST_E_INVALID);
    assert_string_equal(e.where, "postern.yaml:4:listeners[0].workers");
    assert_int_equal(pst_node_u64(&t, map, "workers", 1, 9, &v, &e), PST_E_INVALID);
    assert_int_equal(pst_node_u64(&t, map, "absent", 1, 9, &v, &e), PST_OK);
    assert_int_equal(v, 7);
    pst_tree_fini(&t);
}

static void a_duration_falls_into_the_first_bucket_that_holds_it(void **state)
{
    (void)state;
    struct pst_metrics *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    for (unsigned bucket = 0; bucket < PST_METRIC_BUCKETS; bucket++) {
        uint64_t bound = UINT64_C(256) << bucket;
        pst_metrics_decision(m, bound);
        assert_int_equal(pst_counted(&m->decision_ns_bucket[bucket]), bucket == 0 ? 1 : 2);
        pst_metrics_decision(m, bound + 1); /* of the next one, or of the last */
        if (bucket + 1 < PST_METRIC_BUCKETS)
            assert_int_equal(pst_counted(&m->decision_ns_bucket[bucket + 1]), 1);
    }
    pst_metrics_decision(m, 0);
    pst_metrics_decision(m, UINT64_MAX / 2);
    assert_int_equal(pst_counted(&m->decision_ns_bucket[0]), 2);
    assert_int_equal(pst_counted(&m->decision_ns_bucket[PST_METRIC_BUCKETS - 1]), 4);
    uint64_t sum = pst_counted(&m->decision_ns_sum);
    pst_metrics_decision(m, 300);
    assert_int_equal(pst_counted(&m->decision_ns_sum) - sum, 300);
    free(m);
}

/* RFC 4231, test case 1 (a key is filled up with zeros), in one piece and in several. */
static void a_mac_is_hmac_sha256(void **state)
{
    static const unsigned char expected[PST_MAC_LEN] = {
        0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf,
        0xce, 0xaf, 0x0b, 0xf1, 0x2b, 0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83,
        0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7};
    unsigned char key[PST_MAC_KEY_LEN] = {0}, out[PST_MAC_LEN];
    const struct pst_bytes text = PST_LIT("Hi There");

    (void)state;
    memset(key, 0x0b, 20);
    for (size_t cut = 0; cut <= text.len; cut++) {
        struct pst_mac *mac = pst_mac_create(key);
        assert_non_null(mac);
        pst_mac_add(mac, pst_bytes_of(text.ptr, cut));
        pst_mac_add(mac, pst_bytes_from(text, cut));
        assert_true(pst_mac_end(mac, out));
        assert_memory_equal(out, expected, PST_MAC_LEN);
        pst_mac_destroy(mac);
    }
    pst_mac_destroy(NULL);
}

static void secrets_compare_by_content(void **state)
{
    (void)state;
    assert_true(pst_secret_equal(PST_LIT("abc"), PST_LIT("abc")));
    assert_false(pst_secret_equal(PST_LIT("abc"), PST_LIT("abd")));
    assert_false(pst_secret_equal(PST_LIT("abc"), PST_LIT("ab")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arena_stops_at_its_limit),
        cmocka_unit_test(an_arena_gives_aligned_separate_memory),
        cmocka_unit_test(a_full_buf_stays_full),
        cmocka_unit_test(json_text_is_escaped_and_made_utf8),
        cmocka_unit_test(bytes_to_be_escaped_are_seen_at_any_place),
        cmocka_unit_test(a_line_of_a_head_cannot_be_ended_by_a_text),
        cmocka_unit_test(a_line_is_written_whole_or_not_at_all),
        cmocka_unit_test(json_needs_room_for_both_quotes),
        cmocka_unit_test(names_are_compared_without_case),
        cmocka_unit_test(numbers_and_times_are_written_exactly),
        cmocka_unit_test(dates_of_http_are_written),
        cmocka_unit_test(every_small_number_is_read_back),
        cmocka_unit_test(whole_numbers_are_read_strictly),
        cmocka_unit_test(a_tree_names_file_line_and_key),
        cmocka_unit_test(a_duration_falls_into_the_first_bucket_that_holds_it),
        cmocka_unit_test(secrets_compare_by_content),
        cmocka_unit_test(a_mac_is_hmac_sha256),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
