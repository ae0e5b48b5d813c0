/* Names, methods, lists, cookies, and the classes of bytes that everything else rests on. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/http/message.h"

#include "../../../src/http/chars_internal.h"

static bool in_set(const char *set, int c)
{
    return c != 0 && strchr(set, c) != NULL;
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static void test_classes_are_the_sets_of_the_standards(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char k = (char)c;

        assert_int_equal(char_is(k, CHAR_TOKEN), in_set(ALNUM "!#$%&'*+-.^_`|~", c));
        assert_int_equal(char_is(k, CHAR_UNRESERVED), in_set(ALNUM "-._~", c));
        assert_int_equal(char_is(k, CHAR_PATH), in_set(ALNUM "-._~!$&'()*+,=:@", c));
        assert_int_equal(char_is(k, CHAR_QUERY), in_set(ALNUM "-._~!$&'()*+,=:@;/?[]", c));
        assert_int_equal(char_is(k, CHAR_ESCAPE_PATH), in_set("[]^`{|}", c));
        assert_int_equal(char_is(k, CHAR_ESCAPE_QUERY), in_set("\"<>^`{|}", c));
        assert_int_equal(char_is(k, CHAR_HEX), in_set("0123456789abcdefABCDEF", c));
    }
}

/* Each scan stops at exactly the bytes of its kind, at every place of its sixteen-byte steps. */
static void test_scans_stop_where_they_should(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 100; len += len < 40 ? 1 : 20) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                char *text = malloc(len);

                memset(text, 'a', len);
                text[at] = (char)c;
                bool text_ok = (c >= 0x20 && c != 0x7f) || c == '\t';
                bool visible = c > 0x20 && c < 0x7f;
                for (size_t from = 0; from <= at; from += 11)
                    assert_int_equal(skip_text(text, text + from, text + len) - text,
                                     text_ok ? len : at);
                assert_int_equal(skip_visible(text, text + len) - text, visible ? len : at);
                assert_int_equal(skip_token(text, text + len) - text,
                                 char_is((char)c, CHAR_TOKEN) ? len : at);
                free(text);
            }
        }
    }
}

static void test_every_field_name_finds_itself(void **state)
{
    (void)state;
    for (unsigned id = PST_FIELD_OTHER + 1; id < PST_FIELD_COUNT; id++) {
        struct pst_bytes name = pst_field_name((enum pst_field_id)id);
        char *copy = malloc(name.len);

        assert_int_equal(pst_field_id_of(name), id);
        for (size_t i = 0; i < name.len; i++) {
            memcpy(copy, name.ptr, name.len);
            if (copy[i] >= 'a' && copy[i] <= 'z')
                copy[i] = (char)(copy[i] - ('a' - 'A'));
            assert_int_equal(pst_field_id_of(pst_bytes_of(copy, name.len)), id);
            copy[i] = copy[i] == '_' ? '-' : '_';
            assert_int_not_equal(pst_field_id_of(pst_bytes_of(copy, name.len)), id);
            copy[i] = '^';
            assert_int_not_equal(pst_field_id_of(pst_bytes_of(copy, name.len)), id);
        }
        assert_int_not_equal(pst_field_id_of(pst_bytes_of(name.ptr, name.len - 1)), id);
        free(copy);
    }
    assert_int_equal(pst_field_id_of(PST_LIT("")), PST_FIELD_OTHER);
    assert_int_equal(pst_field_id_of(PST_LIT("x")), PST_FIELD_OTHER);
    assert_int_equal(pst_field_id_of(PST_LIT("x-unknown")), PST_FIELD_OTHER);
    assert_int_equal(pst_field_name(PST_FIELD_OTHER).len, 0);

    /* A length of 256 more is another length. */
    char longer[256 + 4] = "host";
    memset(longer + 4, 't', 256);
    assert_int_equal(pst_field_id_of(pst_bytes_of(longer, sizeof(longer))), PST_FIELD_OTHER);
}

static void test_methods(void **state)
{
    (void)state;
    for (unsigned m = PST_METHOD_OTHER + 1; m < PST_METHOD_COUNT; m++)
        assert_int_equal(pst_method_of(pst_method_text((enum pst_method)m)), m);
    assert_int_equal(pst_method_of(PST_LIT("get")), PST_METHOD_OTHER);
    assert_int_equal(pst_method_of(PST_LIT("GETS")), PST_METHOD_OTHER);
    assert_int_equal(pst_method_of(PST_LIT("")), PST_METHOD_OTHER);
    assert_int_equal(pst_method_text(PST_METHOD_OTHER).len, 0);
}

static void test_lists(void **state)
{
    (void)state;
    struct pst_bytes rest = PST_LIT(" , a ,,\tb c, ,d"), e;

    assert_true(pst_list_next(&rest, &e) && pst_bytes_equal(e, PST_LIT("a")));
    assert_true(pst_list_next(&rest, &e) && pst_bytes_equal(e, PST_LIT("b c")));
    assert_true(pst_list_next(&rest, &e) && pst_bytes_equal(e, PST_LIT("d")));
    assert_false(pst_list_next(&rest, &e));
    rest = PST_LIT(" ,");
    assert_false(pst_list_next(&rest, &e));
}

static void test_cookies(void **state)
{
    (void)state;
    struct pst_bytes rest = PST_LIT("a=b; ;c = d=e ;f; =g"), name, value;

    assert_true(pst_cookie_next(&rest, &name, &value));
    assert_true(pst_bytes_equal(name, PST_LIT("a")) && pst_bytes_equal(value, PST_LIT("b")));
    assert_true(pst_cookie_next(&rest, &name, &value));
    assert_true(pst_bytes_equal(name, PST_LIT("c")) && pst_bytes_equal(value, PST_LIT("d=e")));
    assert_true(pst_cookie_next(&rest, &name, &value));
    assert_true(name.len == 0 && pst_bytes_equal(value, PST_LIT("f")));
    assert_true(pst_cookie_next(&rest, &name, &value));
    assert_true(name.len == 0 && pst_bytes_equal(value, PST_LIT("g")));
    assert_false(pst_cookie_next(&rest, &name, &value));
}

static void test_fields_are_found(void **state)
{
    (void)state;
    static struct pst_head head = {
        .count = 3,
        .last = {[PST_FIELD_ACCEPT] = 3, [PST_FIELD_OTHER] = 2},
        .before = {0, 0, 1},
        .ids = {PST_FIELD_ACCEPT, PST_FIELD_OTHER, PST_FIELD_ACCEPT},
        .fields = {{{"Accept", 6}, {"1", 1}},
                   {{"X-Custom", 8}, {"2", 1}},
                   {{"accept", 6}, {"3", 1}}},
    };
    struct pst_bytes value;
    bool more;

    assert_int_equal(pst_head_find(&head, PST_FIELD_ACCEPT, 0), 0);
    assert_int_equal(pst_head_find(&head, PST_FIELD_ACCEPT, 1), 2);
    assert_int_equal(pst_head_find(&head, PST_FIELD_HOST, 0), 3);
    assert_int_equal(pst_head_find_name(&head, PST_LIT("x-custom"), 0), 1);
    assert_int_equal(pst_head_find_name(&head, PST_LIT("x-custom"), 2), 3);
    assert_false(pst_head_only(&head, PST_FIELD_ACCEPT, &value, &more));
    assert_true(more);
    assert_false(pst_head_only(&head, PST_FIELD_HOST, &value, &more));
    assert_false(more);
    head.count = 2;
    head.last[PST_FIELD_ACCEPT] = 1;
    assert_true(pst_head_only(&head, PST_FIELD_ACCEPT, &value, NULL));
    assert_true(pst_bytes_equal(value, PST_LIT("1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_are_the_sets_of_the_standards),
        cmocka_unit_test(test_scans_stop_where_they_should),
        cmocka_unit_test(test_every_field_name_finds_itself),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_fields_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
