/* Which bytes make an id, told for every byte at every place: the code looks at eight of them at
 * once, and at the spelling that nearly all send before any other. Also what falls away without a
 * value. */
#include "../test.h"

#include <stdio.h>

#include "json_tree.h"
#include "postern/policy/profile.h"

#define HEAD "'profile':'t','workspace':{'default':'w1','name':{'chars':'a-z0-9','min':1,'max':8}},"
#define UUID "0123abcd-4567-89ef-fedc-ba9876543210"

static struct pst_profile *compile(const char *text)
{
    struct pst_error error = {0};
    struct pst_profile *profile = NULL;
    struct pst_tree tree;

    assert_true(json_tree_quoted(&tree, text));
    if (pst_profile_compile(&tree, NULL, NULL, &profile, &error) != PST_OK)
        fail_msg("%s: %s", error.where, error.message);
    pst_tree_fini(&tree);
    return profile;
}

/* What is asked first: "need entity id", or the reason why nothing is. */
static const char *ask(const struct pst_profile *profile, const struct pst_request *request)
{
    static char line[256];
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    pst_profile_route(profile, request, &routed);
    if (routed.refuse != PST_R_INTERNAL)
        return pst_reason_name(routed.refuse);
    pst_arena_init(&arena, 1024, 65536);
    pst_profile_extract(profile, &routed, request, &arena, &got);
    if (got.refuse != PST_R_INTERNAL) {
        (void)snprintf(line, sizeof(line), "%s", pst_reason_name(got.refuse));
    } else {
        const struct pst_requirement *r = &got.requirements[0];
        const struct pst_key *key = &r->keys[0];
        (void)snprintf(line, sizeof(line), "%d %.*s %.*s", (int)r->need,
                       r->key_count == 0 ? 0 : (int)key->entity.len, key->entity.ptr,
                       r->key_count == 0 ? 0 : (int)key->id.len, key->id.ptr);
    }
    pst_arena_fini(&arena);
    return line;
}

static const char *ask_path(const struct pst_profile *profile, const char *path, const char *query)
{
    struct pst_request request = {
        .method = PST_LIT("GET"), .path = json_tree_text(path), .query = json_tree_text(query)};

    return ask(profile, &request);
}

static const char *ask_field(const struct pst_profile *profile, struct pst_bytes value)
{
    struct pst_field field = {.name = PST_LIT("X-Id"), .value = value};
    struct pst_request request = {
        .method = PST_LIT("GET"), .path = PST_LIT("/a"), .fields = &field, .field_count = 1};

    return ask(profile, &request);
}

static bool is_hex(unsigned c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* One byte of a UUID is replaced: by a digit it is another UUID, by anything else it is none. */
static void every_byte_of_a_uuid_counts(void **state)
{
    struct pst_profile *p = compile(
        "{" HEAD "'routes':[{'GET':'/a','ids':{'x':{'from':'header X-Id','form':'uuid-only'}},"
        "'need':'t:$x detail'}]}");
    char text[] = UUID, wanted[64];

    (void)state;
    for (size_t at = 0; at < sizeof(UUID) - 1; at++) {
        for (unsigned c = 1; c < 256; c++) {
            bool hyphen = UUID[at] == '-';
            bool good = hyphen ? c == '-' : is_hex(c);
            text[at] = (char)c;
            (void)snprintf(wanted, sizeof(wanted), "0 t %s", text);
            if (!hyphen && c >= 'A' && c <= 'F')
                wanted[4 + at] = (char)(c - 'A' + 'a');
            assert_string_equal(ask_field(p, pst_bytes_of(text, sizeof(UUID) - 1)),
                                good ? wanted : "bad-id");
        }
        text[at] = UUID[at];
    }
    pst_profile_destroy(p);
}

static void a_control_character_is_seen_at_every_place(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/a','ids':{'x':{'from':'header X-Id','form':'name'}},"
                "'need':'t:$x detail'}]}");
    char text[20];

    (void)state;
    memset(text, 'x', sizeof(text));
    for (size_t len = 1; len <= sizeof(text); len++) {
        for (size_t at = 0; at < len; at++) {
            for (unsigned c = 0; c < 128; c++) {
                bool blank = c == ' ' || c == '\t'; /* cut off at the ends of a field */
                text[at] = (char)c;
                const char *line = ask_field(p, pst_bytes_of(text, len));
                if (!blank || (c == '\t' && at > 0 && at + 1 < len))
                    assert_int_equal(strcmp(line, "bad-id") == 0, c < 0x20 || c == 0x7f);
            }
            text[at] = 'x';
        }
    }
    pst_profile_destroy(p);
}

static void a_parameter_takes_no_empty_segment(void **state)
{
    struct pst_profile *p = compile("{" HEAD "'routes':[{'GET':'/{a}/{b}','need':'t:$b detail'}]}");

    (void)state;
    assert_string_equal(ask_path(p, "/x/y", ""), "0 t y");
    assert_string_equal(ask_path(p, "//y", ""), "no-route");
    assert_string_equal(ask_path(p, "/x/", ""), "no-route");
    assert_string_equal(ask_path(p, "/x", ""), "no-route");
    assert_string_equal(ask_path(p, "/x/y/z", ""), "no-route");
    pst_profile_destroy(p);
}

static void a_query_is_decoded_once(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/a','ids':{'x':'query x y'},'need':'t:$x detail'}]}");

    (void)state;
    assert_string_equal(ask_path(p, "/a", "x+y=b"), "0 t b");
    assert_string_equal(ask_path(p, "/a", "x%20y=b"), "0 t b");
    assert_string_equal(ask_path(p, "/a", "x y=b+c"), "0 t b c");
    assert_string_equal(ask_path(p, "/a", "x y=b%2520c"), "0 t b%20c");
    assert_string_equal(ask_path(p, "/a", "1=2;3=4&x y=~"), "0 t ~");
    assert_string_equal(ask_path(p, "/a", "1=2&x y=b;3=4"), "ambiguous");
    assert_string_equal(ask_path(p, "/a", "z=%"), "bad-target");
    pst_profile_destroy(p);
}

/* What names a variable without a value falls away, whichever place the variable has in it. */
static void what_lacks_a_value_falls_away(void **state)
{
    struct pst_profile *p =
        compile("{" HEAD "'routes':[{'GET':'/a','ids':{'k':{'from':'query k','missing':'skip'},"
                "'i':{'from':'query i','missing':'skip'},'u':{'from':'query u','missing':'skip'},"
                "'c':{'from':'query c','missing':'skip'}},"
                "'need':['$k detail','t:$i detail','self $u','if c admin']}]}");

    (void)state;
    assert_string_equal(ask_path(p, "/a", ""), "1  "); /* a known user */
    assert_string_equal(ask_path(p, "/a", "k=r"), "0 r ");
    assert_string_equal(ask_path(p, "/a", "i=7"), "0 t 7");
    assert_string_equal(ask_path(p, "/a", "u=me"), "3  ");
    assert_string_equal(ask_path(p, "/a", "c=1"), "2  ");
    pst_profile_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_a_uuid_counts),
        cmocka_unit_test(a_control_character_is_seen_at_every_place),
        cmocka_unit_test(a_parameter_takes_no_empty_segment),
        cmocka_unit_test(a_query_is_decoded_once),
        cmocka_unit_test(what_lacks_a_value_falls_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
