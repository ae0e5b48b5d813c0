/* Targets: what is canonical, what is refused, what is only odd; queries; UUIDs. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/http/target.h"

struct parsed {
    bool ok;
    struct pst_target target;
    struct pst_fault fault;
    char *raw;
    char space[4096];
};

static struct pst_bytes text_of(const char *s)
{
    return pst_bytes_of(s, strlen(s));
}

/* Parses a copy that ends where the target ends. */
static const struct parsed *parse(enum pst_method method, struct pst_bytes raw, size_t cap)
{
    static struct parsed p;
    char host_space[PST_HOST_MAX];
    struct pst_host host;

    free(p.raw);
    p.raw = malloc(raw.len + 1);
    memcpy(p.raw, raw.ptr, raw.len);
    assert_true(pst_host_parse(PST_LIT("app.example:8080"), host_space, &host));
    p.ok = pst_target_parse(method, pst_bytes_of(p.raw, raw.len), &host, p.space, cap, &p.target,
                            &p.fault);
    return &p;
}

static void assert_target(const char *raw, const char *canonical, unsigned oddities)
{
    const struct parsed *p = parse(PST_METHOD_GET, text_of(raw), sizeof(p->space));

    if (!p->ok)
        fail_msg("%s: %s", raw, p->fault.reason);
    if (!pst_bytes_equal(p->target.target, text_of(canonical)))
        fail_msg("%s became %.*s", raw, (int)p->target.target.len, p->target.target.ptr);
    if (p->target.oddities != oddities)
        fail_msg("%s: oddities %x", raw, p->target.oddities);
}

static void test_canonical_targets_are_views(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "/",
        "/a",
        "/a/b-c_d.e~f",
        "/a:b@c!$&'()*+,=",
        "/%20a",
        "/%C3%A9",
        "/a%2Bb",
        "/a%40b",
        "/a?",
        "/a?b",
        "/a?b=c&d[]=%2f..%2f;e=/?",
        "/?",
        "/%E2%80%A5a",
        "/%F0%9F%98%80",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct parsed *p = parse(PST_METHOD_GET, text_of(cases[i]), 0);

        if (!p->ok)
            fail_msg("%s: %s", cases[i], p->fault.reason);
        assert_ptr_equal(p->target.target.ptr, p->raw);
        assert_int_equal(p->target.target.len, strlen(cases[i]));
        assert_int_equal(p->target.oddities, 0);
        assert_false(p->target.absolute);
    }
}

static void test_parts(void **state)
{
    (void)state;
    const struct parsed *p = parse(PST_METHOD_GET, PST_LIT("/%61/b?c=%64"), sizeof(p->space));

    assert_true(pst_bytes_equal(p->target.target, PST_LIT("/a/b?c=%64")));
    assert_true(pst_bytes_equal(p->target.path, PST_LIT("/a/b")));
    assert_true(p->target.has_query);
    assert_true(pst_bytes_equal(p->target.query, PST_LIT("c=%64")));
    p = parse(PST_METHOD_GET, PST_LIT("/a"), sizeof(p->space));
    assert_false(p->target.has_query);
    assert_int_equal(p->target.query.len, 0);
}

static void test_escapes_are_decoded_once(void **state)
{
    (void)state;
    assert_target("/%77/%72%65%64", "/w/red", 0);
    assert_target("/%41%5a%61%7a%30%39%2d%5f%7e", "/AZaz09-_~", 0);
    assert_target("/a%2eb", "/a.b", 0);
    assert_target("/%c3%a9/%e2%82%ac", "/%C3%A9/%E2%82%AC", 0);
    assert_target("/%2b%3a%40%20x", "/%2B%3A%40%20x", 0);
    assert_target("/%2572ed", "/%2572ed", PST_ODD_ENCODED_PERCENT);
    assert_target("/%252e%252e/x", "/%252e%252e/x", PST_ODD_ENCODED_PERCENT);
    assert_target("/a%3fb", "/a%3Fb", PST_ODD_DELIMITER);
    assert_target("/a%23", "/a%23", PST_ODD_DELIMITER);
}

static void test_bare_characters_are_escaped(void **state)
{
    (void)state;
    assert_target("/{a}", "/%7Ba%7D", 0);
    assert_target("/[a]^`|", "/%5Ba%5D%5E%60%7C", 0);
    assert_target("/a?b=\"<>^`{|}[]", "/a?b=%22%3C%3E%5E%60%7B%7C%7D[]", 0);
    assert_target("/a?%61%2F%0a", "/a?%61%2F%0a", 0);
}

static void test_hard_refusals(void **state)
{
    (void)state;
    static const char *const cases[] = {
        /* dots and blanks at the end of a segment */
        "/.",
        "/..",
        "/./a",
        "/a/..",
        "/a/../b",
        "/a/.",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e",
        "/%2e.",
        "/...",
        "/a.",
        "/a./b",
        "/a%2e",
        "/a%20",
        "/a%20/b",
        "/%20",
        "/..;/a",
        "/..;a=b",
        "/.;",
        "/..%2fa",
        "/..%2Fa",
        "/a%2f..",
        "/a%2f..%2fb",
        "/a%2f.",
        "/..%3b",
        "/a%20;b",
        "/a;b.",
        "/a/..?b",
        /* bytes */
        "/\\",
        "/a\\b",
        "/%5c",
        "/%5Ca",
        "/#",
        "/a#b",
        "/a?b#c",
        "/a?b\\c",
        "/\"",
        "/<",
        "/>",
        "/a b",
        "/a\x01",
        "/a\x7f",
        "/\xc3\xa9",
        "/a?\xc3\xa9",
        "/a?b c",
        "/a?\x7f",
        "/a?\t",
        /* escapes */
        "/%",
        "/a%",
        "/%2",
        "/%2%2e",
        "/%zz",
        "/%+1",
        "/%%32%65",
        "/%u002e",
        "/% 2e",
        "/a?%",
        "/a?%2",
        "/a?%zz",
        "/a?b=%00",
        "/%00",
        "/a%00b",
        "/%0a",
        "/%0D",
        "/%09",
        "/%1f",
        "/%7f",
        "/%c2%85", /* C1 */
        "/a%C2%9F",
        /* UTF-8 */
        "/%80",
        "/%c0%ae",
        "/%C0%AF",
        "/%c1%81",
        "/%c3",
        "/%c3a",
        "/%c3%2e",
        "/%c3/%a9",
        "/%e0%80%ae",
        "/%e2%80",
        "/%ed%a0%80",
        "/%f0%80%80%ae",
        "/%f4%90%80%80",
        "/%f5%80%80%80",
        "/%ff",
        "/%fe",
        "/%f8%88%80%80%80",
        "/%e2%80?%80",
        /* look-alikes */
        "/%e2%80%a4",
        "/a%E2%80%A4b",
        "/%ef%bc%8e%ef%bc%8e",
        "/a%e2%88%95b",
        "/a%e2%81%84b",
        "/a%ef%bc%8fb",
        "/a%ef%bc%bcb",
        /* forms */
        "",
        "a",
        "w/red",
        "@evil/",
        ":80/",
        "*",
        "*/x",
        "?a",
        "app.example:80",
        "http:",
        "http:/a",
        "http:\\\\app.example\\",
        "ftp://app.example:8080/",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct parsed *p = parse(PST_METHOD_GET, text_of(cases[i]), sizeof(p->space));

        if (p->ok)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(p->fault.status, 400);
        assert_non_null(p->fault.reason);
    }
    assert_false(parse(PST_METHOD_GET, PST_LIT("/a\0b"), 0)->ok);
    assert_false(parse(PST_METHOD_GET, PST_LIT("/a?\0"), 0)->ok);
}

static void test_oddities(void **state)
{
    (void)state;
    assert_target("/a/", "/a/", PST_ODD_TRAILING_SLASH);
    assert_target("//", "//", PST_ODD_TRAILING_SLASH | PST_ODD_EMPTY_SEGMENT);
    assert_target("//a", "//a", PST_ODD_EMPTY_SEGMENT);
    assert_target("/a//b", "/a//b", PST_ODD_EMPTY_SEGMENT);
    assert_target("/a/?b", "/a/?b", PST_ODD_TRAILING_SLASH);
    assert_target("/a%2fb", "/a%2Fb", PST_ODD_ENCODED_SLASH);
    assert_target("/a%2f", "/a%2F", PST_ODD_ENCODED_SLASH | PST_ODD_EMPTY_SEGMENT);
    assert_target("/%2fa", "/%2Fa", PST_ODD_ENCODED_SLASH | PST_ODD_EMPTY_SEGMENT);
    assert_target("/a%2f%2fb", "/a%2F%2Fb", PST_ODD_ENCODED_SLASH | PST_ODD_EMPTY_SEGMENT);
    assert_target("/a;b=c", "/a;b=c", PST_ODD_SEMICOLON);
    assert_target("/a;", "/a;", PST_ODD_SEMICOLON);
    assert_target("/a;/b", "/a;/b", PST_ODD_SEMICOLON);
    assert_target("/a%3bb", "/a%3Bb", PST_ODD_SEMICOLON);
    assert_target("/;", "/;", PST_ODD_SEMICOLON | PST_ODD_EMPTY_SEGMENT);
    assert_target("/;/a", "/;/a", PST_ODD_SEMICOLON | PST_ODD_EMPTY_SEGMENT);
    assert_target("/a?b;c//d/%2f", "/a?b;c//d/%2f", 0);
    assert_int_equal(PST_ODD_REFUSE & (PST_ODD_ENCODED_PERCENT | PST_ODD_DELIMITER), 0);
}

static void test_absolute_form_equals_host(void **state)
{
    (void)state;
    static const char *const refused[] = {"http://evil.example:8080/a",
                                          "http://app.example/a",
                                          "http://app.example:80/a",
                                          "http://u@app.example:8080/a",
                                          "http://app.example:8080\\a",
                                          "http:///a",
                                          "http://",
                                          "http://app.example:8080#a",
                                          "http://app.example:8080/../a",
                                          "https://app.example/a",
                                          "http://app.example:8080@evil/",
                                          "http://app.example:8080%2fa"};

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (parse(PST_METHOD_GET, text_of(refused[i]), 4096)->ok)
            fail_msg("accepted: %s", refused[i]);
    assert_target("http://app.example:8080/a?b", "/a?b", 0);
    assert_target("HTTPS://APP.example.:8080/%61", "/a", 0);
    assert_target("http://app.example:8080", "/", 0);
    assert_target("http://app.example:8080?a=/b", "/?a=/b", 0);
    assert_true(parse(PST_METHOD_GET, PST_LIT("http://app.example:8080/a"), 9)->target.absolute);

    /* A default port and none are one; without a Host the form is refused. */
    struct pst_host host = {.text = PST_LIT("a"), .name = PST_LIT("a"), .port = 0};
    struct pst_target out;
    struct pst_fault fault;
    assert_true(
        pst_target_parse(PST_METHOD_GET, PST_LIT("http://a:80/"), &host, NULL, 0, &out, &fault));
    assert_true(
        pst_target_parse(PST_METHOD_GET, PST_LIT("https://a:443/"), &host, NULL, 0, &out, &fault));
    assert_false(
        pst_target_parse(PST_METHOD_GET, PST_LIT("http://a:443/"), &host, NULL, 0, &out, &fault));
    assert_false(
        pst_target_parse(PST_METHOD_GET, PST_LIT("http://a/"), NULL, NULL, 0, &out, &fault));
}

static void test_asterisk(void **state)
{
    (void)state;
    assert_true(parse(PST_METHOD_OPTIONS, PST_LIT("*"), 0)->target.asterisk);
    assert_false(parse(PST_METHOD_OPTIONS, PST_LIT("*/x"), 0)->ok);
    assert_false(parse(PST_METHOD_GET, PST_LIT("*"), 0)->ok);
}

static void test_space_is_bounded(void **state)
{
    (void)state;
    const struct parsed *p = parse(PST_METHOD_GET, PST_LIT("/a{b"), 5);

    assert_false(p->ok);
    assert_int_equal(p->fault.status, 414);
    assert_true(parse(PST_METHOD_GET, PST_LIT("/a{b"), 6)->ok);
    assert_false(parse(PST_METHOD_GET, PST_LIT("/aaaaaaaa%61"), 4)->ok);
    assert_false(parse(PST_METHOD_GET, PST_LIT("http://app.example:8080?a"), 2)->ok);
    assert_true(parse(PST_METHOD_GET, PST_LIT("http://app.example:8080?a"), 3)->ok);
}

/* --- every short target ------------------------------------------------------------------- */

static const char *const pieces[] = {"/", "a", ".", "%2e",    "%2F", "%61", "%25", "%20",
                                     ";", "?", "{", "%C3%A9", "%zz", "\\",  "*"};
#define PIECES (sizeof(pieces) / sizeof(pieces[0]))

/* Decoded once, by the most obvious loop. */
static size_t decode_plainly(struct pst_bytes raw, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++) {
        unsigned value;

        if (raw.ptr[i] == '%' && sscanf(raw.ptr + i + 1, "%2x", &value) == 1) {
            out[n++] = (char)value;
            i += 2;
        } else {
            out[n++] = raw.ptr[i];
        }
    }
    return n;
}

/* The rules of the path over its decoded text, written down once more. */
static bool is_acceptable(const char *path, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool ends = i + 1 == n || path[i + 1] == '/' || path[i + 1] == ';';

        if (path[i] == '\\' || ((path[i] == '.' || path[i] == ' ') && ends))
            return false;
    }
    return true;
}

static void check_short(const char *raw)
{
    char before[64], after[64];
    const struct parsed *p = parse(PST_METHOD_GET, text_of(raw), sizeof(p->space));
    size_t path = strcspn(raw, "?");
    size_t n = decode_plainly(pst_bytes_of(raw, path), before);

    if (raw[0] != '/' || strstr(raw, "%zz") != NULL || strchr(raw, '\\') != NULL ||
        !is_acceptable(before, n)) {
        if (p->ok)
            fail_msg("accepted: %s", raw);
        return;
    }
    if (!p->ok)
        fail_msg("%s: %s", raw, p->fault.reason);

    /* The same names as before, and itself again. */
    char copy[128];
    struct pst_target once = p->target;
    memcpy(copy, once.target.ptr, once.target.len);
    copy[once.target.len] = 0;
    copy[once.path.len] = 0;
    assert_int_equal(decode_plainly(pst_bytes_of(copy, once.path.len), after), n);
    assert_memory_equal(before, after, n);
    if (once.has_query)
        copy[once.path.len] = '?';
    p = parse(PST_METHOD_GET, text_of(copy), 0);
    assert_true(p->ok);
    assert_int_equal(p->target.oddities, once.oddities);
    assert_ptr_equal(p->target.target.ptr, p->raw);
}

static void test_every_short_target(void **state)
{
    (void)state;
    size_t all = 1;

    for (size_t len = 1; len <= 5; len++) {
        all *= PIECES;
        for (size_t n = 0; n < all; n++) {
            char raw[64];
            size_t at = 0, code = n;

            for (size_t i = 0; i < len; i++, code /= PIECES) {
                size_t piece = strlen(pieces[code % PIECES]);

                memcpy(raw + at, pieces[code % PIECES], piece);
                at += piece;
            }
            raw[at] = 0;
            check_short(raw);
        }
    }
}

/* --- helpers ------------------------------------------------------------------------------- */

static void test_segments(void **state)
{
    (void)state;
    struct pst_bytes rest = PST_LIT("/a/b%20c//"), s;

    assert_true(pst_path_next(&rest, &s) && pst_bytes_equal(s, PST_LIT("a")));
    assert_true(pst_path_next(&rest, &s) && pst_bytes_equal(s, PST_LIT("b%20c")));
    assert_true(pst_path_next(&rest, &s) && s.len == 0);
    assert_true(pst_path_next(&rest, &s) && s.len == 0);
    assert_false(pst_path_next(&rest, &s));
}

static void test_decoding(void **state)
{
    (void)state;
    char space[16];
    struct pst_bytes raw = PST_LIT("a+b"), out;

    assert_true(pst_percent_decode(raw, space, 0, &out));
    assert_ptr_equal(out.ptr, raw.ptr);
    assert_true(pst_query_decode(raw, space, 3, &out) && pst_bytes_equal(out, PST_LIT("a b")));
    assert_false(pst_query_decode(raw, space, 2, &out));
    assert_true(pst_percent_decode(PST_LIT("%2541%00+"), space, sizeof(space), &out));
    assert_true(pst_bytes_equal(out, PST_LIT("%41\0+")));
    assert_false(pst_percent_decode(PST_LIT("a%4"), space, sizeof(space), &out));
    assert_false(pst_percent_decode(PST_LIT("a%"), space, sizeof(space), &out));
    assert_false(pst_percent_decode(PST_LIT("%g0"), space, sizeof(space), &out));

    char own[] = "%61%62c";
    assert_true(pst_percent_decode(pst_bytes_of(own, 7), own, 7, &out));
    assert_true(pst_bytes_equal(out, PST_LIT("abc")));
}

static void test_query_pairs(void **state)
{
    (void)state;
    struct pst_bytes rest = PST_LIT("&a=b;c&&=d&e=f=g;");
    struct pst_query_pair p;

    assert_true(pst_query_next(&rest, &p) && pst_bytes_equal(p.key, PST_LIT("a")) &&
                pst_bytes_equal(p.value, PST_LIT("b")));
    assert_true(pst_query_next(&rest, &p) && pst_bytes_equal(p.key, PST_LIT("c")) &&
                p.value.len == 0);
    assert_true(pst_query_next(&rest, &p) && p.key.len == 0 &&
                pst_bytes_equal(p.value, PST_LIT("d")));
    assert_true(pst_query_next(&rest, &p) && pst_bytes_equal(p.value, PST_LIT("f=g")));
    assert_false(pst_query_next(&rest, &p));
}

static void test_query_keys(void **state)
{
    (void)state;
    static const char *const same[] = {"a_id", "a%5Fid", "%61_id", "a_id[]", "a_id%5B%5d"};
    static const char *const other[] = {"a_i",       "a_idx",   "A_id",    "a_id[",
                                        "a_id[]%00", "a_id[]x", "a_id[0]", "a_id[][]",
                                        "a%255Fid",  "a_id%5B", "a_id%",   ""};

    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        assert_true(pst_query_key_is(text_of(same[i]), PST_LIT("a_id")));
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        assert_false(pst_query_key_is(text_of(other[i]), PST_LIT("a_id")));
    assert_true(pst_query_key_is(PST_LIT("a+b"), PST_LIT("a b")));
}

static void test_uuids(void **state)
{
    (void)state;
    static const char canonical[] = "2222abcd-2222-4222-8222-22222222222f";
    static const char *const only[] = {"2222abcd-2222-4222-8222-22222222222f",
                                       "2222ABCD-2222-4222-8222-22222222222F",
                                       "{2222abcd-2222-4222-8222-22222222222f}",
                                       "urn:uuid:2222abcd-2222-4222-8222-22222222222f",
                                       "URN:UUID:{2222abcd-2222-4222-8222-22222222222f}",
                                       "2222abcd22224222822222222222222f",
                                       "uuid:2222abcd22224222822222222222222f",
                                       "2222-abcd-2222-4222-8222-2222-2222-222f",
                                       "2222abcd222242228222-22222222222f",
                                       "{2222abcd22224222822222222222222f"};
    static const char *const more[] = {
        "2222abcd-2222-4222-8222-22222222222f.json",
        "x2222abcd-2222-4222-8222-22222222222f",
        "a2222abcd-2222-4222-8222-22222222222f",
        "0x2222abcd22224222822222222222222f",
        "2222abcd-2222-4222-8222-22222222222f ",
        " 2222abcd-2222-4222-8222-22222222222f",
        "2222abcd-2222-4222-8222-22222222222f,2222abcd-2222-4222-8222-22222222222f",
        "{{2222abcd-2222-4222-8222-22222222222f}x}",
        "2222abcd22224222822222222222222f0",
        "pipe_2222abcd-2222-4222-8222-22222222222f"};
    static const char *const none[] = {"",
                                       "a",
                                       "my-pipeline",
                                       "2222abcd-2222-4222-8222-22222222222",
                                       "2222abcd-2222-4222-8222-22222222222g",
                                       "abcdefghabcdefghabcdefghabcdefgh",
                                       "2222abcd_2222_4222_8222_22222222222f"};
    char got[PST_UUID_LEN];

    for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++) {
        if (pst_uuid_read(text_of(only[i]), got) != PST_UUID_ONLY)
            fail_msg("no UUID: %s", only[i]);
        assert_memory_equal(got, canonical, PST_UUID_LEN);
    }
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        if (pst_uuid_read(text_of(more[i]), got) != PST_UUID_AND_MORE)
            fail_msg("not seen: %s", more[i]);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        if (pst_uuid_read(text_of(none[i]), got) != PST_UUID_NONE)
            fail_msg("taken for a UUID: %s", none[i]);
}

/* Ordinary paths are read by a way of their own. A `~` in front makes no path ordinary and changes
 * nothing else about it: both ways must say the same. */
static void test_ordinary_paths_are_no_exception(void **state)
{
    (void)state;
    static const char alphabet[] = "abzAZ059-_-_abzAZ059//////??..%:; ~&=+[`@{";
    uint32_t random = 1;

    for (unsigned round = 0; round < 60000; round++) {
        char text[96] = "/~/";
        size_t len = 1 + round % 80;
        unsigned kinds =
            round % 3 == 0 ? sizeof(alphabet) - 1 : 26; /* often letters and slashes alone */
        for (size_t i = 1; i < len; i++) {
            random = random * 1664525u + 1013904223u;
            text[2 + i] = alphabet[(random >> 16) % kinds];
        }
        struct pst_bytes marked = pst_bytes_of(text, 2 + len), plain = pst_bytes_from(marked, 2);
        struct parsed slow = *parse(PST_METHOD_GET, marked, sizeof(slow.space));
        char canonical[512];
        struct pst_bytes expect = slow.target.target;
        if (expect.len > 0)
            memcpy(canonical, expect.ptr, expect.len);
        const struct parsed *fast = parse(PST_METHOD_GET, plain, sizeof(fast->space));
        assert_int_equal(fast->ok, slow.ok);
        if (!slow.ok) {
            assert_int_equal(fast->fault.status, slow.fault.status);
            continue;
        }
        assert_true(
            pst_bytes_equal(fast->target.target, pst_bytes_of(canonical + 2, expect.len - 2)));
        assert_int_equal(fast->target.path.len, slow.target.path.len - 2);
        assert_int_equal(fast->target.has_query, slow.target.has_query);
        unsigned root = fast->target.path.len == 1 ? PST_ODD_TRAILING_SLASH : 0;
        assert_int_equal(fast->target.oddities | root, slow.target.oddities | root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_targets_are_views),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_escapes_are_decoded_once),
        cmocka_unit_test(test_bare_characters_are_escaped),
        cmocka_unit_test(test_hard_refusals),
        cmocka_unit_test(test_oddities),
        cmocka_unit_test(test_absolute_form_equals_host),
        cmocka_unit_test(test_asterisk),
        cmocka_unit_test(test_space_is_bounded),
        cmocka_unit_test(test_every_short_target),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_query_pairs),
        cmocka_unit_test(test_query_keys),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_ordinary_paths_are_no_exception),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
