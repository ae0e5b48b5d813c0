#include "../test.h"

#include "image_fixture.h"
#include "naive.h"
#include "policy_fixture.h"

static struct pst_policy *read_back(const struct image *image)
{
    struct pst_policy *policy;
    struct pst_error error = {0};

    if (pst_policy_image_read(pst_bytes_of(image->data, image->len), &policy, &error) != PST_OK)
        fail_msg("%s", error.message);
    return policy;
}

static void expect_refused(const void *data, size_t len, const char *about)
{
    struct pst_error error = {0};
    struct pst_policy *policy;

    /* a copy that ends where the image does, so that a sanitizer sees what lies behind */
    void *copy = malloc(len == 0 ? 1 : len);
    assert_non_null(copy);
    memcpy(copy, data, len);
    assert_int_equal(pst_policy_image_read(pst_bytes_of(copy, len), &policy, &error),
                     PST_E_INVALID);
    assert_null(policy);
    assert_non_null(strstr(error.message, about));
    free(copy);
}

/* Rows of every kind: direct, plain, on ids (several on one), lists, subtypes, conditions. */
static struct image small_image(void)
{
    struct pst_bytes list[] = {PST_LIT("name"), PST_LIT("__*MAGE*__")};
    struct pst_permission_row listed = {.id = 90,
                                        .role = 1,
                                        .has_access = true,
                                        .access = PST_A_DETAIL | PST_A_DISABLE_READ,
                                        .entity = PST_LIT("Pipeline"),
                                        .entity_type = PST_LIT("python"),
                                        .has_entity_id = true,
                                        .entity_id = PST_LIT("p1"),
                                        .conditions = PST_COND_OWNS_ENTITY};
    struct pst_permission_row direct = {.id = 91,
                                        .role = 2,
                                        .direct = true,
                                        .scope = PST_SCOPE_PIPELINE,
                                        .has_access = true,
                                        .access = PST_A_EDITOR,
                                        .has_entity_id = true,
                                        .entity_id = PST_LIT("p2")};
    struct fixture f;

    fx_init(&f);
    fx_role(&f, 1, "one", 0);
    fx_role(&f, 2, "two", RED);
    fx_grant(&f, 1, "ALL", NULL, PST_A_LIST);
    fx_grant(&f, 1, "workspace", NULL, PST_A_USE);
    fx_grant(&f, 1, "Pipeline", "p1", PST_A_UPDATE | PST_A_DISABLE_DELETE);
    fx_grant(&f, 1, "Pipeline", "p2", PST_A_UPDATE);
    fx_grant(&f, 2, "Pipeline", "p1", PST_A_DISABLE_UPDATE);
    listed.attributes[PST_ATTR_READ] = list;
    listed.attribute_count[PST_ATTR_READ] = 2;
    assert_int_equal(pst_model_add_permission(&f.model, &listed), PST_OK);
    assert_int_equal(pst_model_add_permission(&f.model, &direct), PST_OK);
    assert_int_equal(pst_policy_compile(&f.model, &f.policy, NULL), PST_OK);
    struct image image = ix_of(f.policy);
    fx_fini(&f);
    return image;
}

static void expect_same_answer(struct world *w, const struct pst_policy *a,
                               const struct pst_policy *b)
{
    struct pst_eval_detail da, db;

    w->question.policy = a;
    enum pst_verdict verdict = pst_eval(&w->question, &da);
    w->question.policy = b;
    assert_int_equal(pst_eval(&w->question, &db), verdict);
    assert_int_equal(da.reason, db.reason);
    assert_int_equal(da.role, db.role);
    assert_int_equal(da.permission, db.permission);
    assert_int_equal(da.bit, db.bit);
}

/* Random policies, each asked the questions of several worlds, decide and weigh the same. */
static void test_what_is_read_decides_as_what_was_written(void **state)
{
    struct pst_policy_stats a, b;

    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct chooser c = {.state = seed * UINT64_C(0x9e3779b97f4a7c15)};
        struct world w;
        nv_make(&w, &c);
        struct image image = ix_of(w.policy);
        struct pst_policy *policy = read_back(&image);
        pst_policy_stats(w.policy, &a);
        pst_policy_stats(policy, &b);
        assert_memory_equal(&a, &b, sizeof(a));
        assert_true(ix_is_of(image.data, image.len, policy));
        for (uint64_t i = 0; i < 8; i++) {
            struct chooser d = {.state = seed * 8 + i};
            struct world other;
            nv_make(&other, &d);
            expect_same_answer(&other, w.policy, policy);
            nv_free(&other);
        }
        free(image.data);
        pst_policy_destroy(policy);
        nv_free(&w);
    }
}

static void test_names_and_workspaces_come_back(void **state)
{
    const struct pst_workspace_row space = {.id = 8,
                                            .name = PST_LIT("green"),
                                            .kind = PST_WORKSPACE_ENVIRONMENT,
                                            .organization = PST_LIT("acme")};
    struct fixture f;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "viewer", 0);
    fx_role(&f, 2, "viewer", BLUE);
    assert_int_equal(pst_model_add_workspace(&f.model, &space), PST_OK);
    assert_int_equal(pst_policy_compile(&f.model, &f.policy, NULL), PST_OK);
    struct image image = ix_of(f.policy);
    struct pst_policy *policy = read_back(&image);
    free(image.data); /* the policy owns what it needs */
    assert_int_equal(pst_policy_workspace(policy, PST_LIT("green")), 8);
    assert_int_equal(pst_policy_workspace(policy, PST_LIT("red")), RED);
    assert_true(pst_bytes_equal(pst_policy_workspace_name(policy, BLUE), PST_LIT("blue")));
    assert_int_equal(pst_policy_role(policy, PST_LIT("viewer"), BLUE), 2);
    assert_int_equal(pst_policy_role(policy, PST_LIT("viewer"), RED), 1);
    pst_policy_destroy(policy);
    fx_fini(&f);
}

/* A policy that was read is a base for patches like another. */
static void test_what_is_read_can_be_patched(void **state)
{
    struct image image = small_image();
    struct pst_policy *policy = read_back(&image), *patched;
    const uint32_t touched[] = {1};
    struct pst_policy_stats before, after;
    struct pst_model none;

    (void)state;
    pst_model_init(&none, 1u << 16);
    struct pst_policy_patch change = {.model = &none, .touched = touched, .touched_count = 1};
    assert_int_equal(pst_policy_patch(policy, &change, &patched, NULL), PST_OK);
    pst_policy_stats(policy, &before);
    pst_policy_stats(patched, &after);
    assert_int_equal(before.permissions, 7);
    assert_int_equal(after.permissions, 2);
    pst_policy_destroy(policy);
    pst_policy_destroy(patched);
    pst_model_fini(&none);
    free(image.data);
}

static void test_a_part_of_an_image_is_none(void **state)
{
    struct image image = small_image();

    (void)state;
    for (size_t len = 0; len < image.len; len++)
        expect_refused(image.data, len, len < 48 ? "no policy image" : "damaged");
    image.data[image.len] = 0; /* ix_append left room */
    expect_refused(image.data, image.len + 1, "damaged (its end)");
    free(image.data);
}

static void test_an_image_of_another_release_is_refused(void **state)
{
    static const size_t AT[] = {8, 24, 28}; /* release, format, byte order */
    struct image image = small_image();

    (void)state;
    for (size_t i = 0; i < sizeof(AT) / sizeof(AT[0]); i++) {
        image.data[AT[i]] ^= 1;
        expect_refused(image.data, image.len, "another release");
        image.data[AT[i]] ^= 1;
    }
    image.data[0] ^= 1;
    expect_refused(image.data, image.len, "no policy image");
    free(image.data);
}

/* Any byte may be any other: it is refused, or it is the image of a policy that can be asked. */
static void test_no_damage_does_harm(void **state)
{
    static const unsigned char MASKS[] = {0x01, 0x02, 0x80, 0xff};
    struct image image = small_image();
    unsigned refused = 0, read = 0;

    (void)state;
    for (size_t at = 0; at < image.len * sizeof(MASKS); at++) {
        unsigned char mask = MASKS[at % sizeof(MASKS)];
        char *copy = malloc(image.len);
        struct pst_policy *policy;
        assert_non_null(copy);
        memcpy(copy, image.data, image.len);
        copy[at / sizeof(MASKS)] = (char)(copy[at / sizeof(MASKS)] ^ mask);
        enum pst_status status =
            pst_policy_image_read(pst_bytes_of(copy, image.len), &policy, NULL);
        if (status == PST_OK) {
            struct chooser c = {.state = at};
            struct world w;
            struct pst_eval_detail detail;
            nv_make(&w, &c);
            w.question.policy = policy;
            (void)pst_eval(&w.question, &detail);
            assert_true(ix_is_of(copy, image.len, policy));
            nv_free(&w);
            read++;
        } else {
            assert_int_equal(status, PST_E_INVALID);
            assert_null(policy);
            refused++;
        }
        pst_policy_destroy(policy);
        free(copy);
    }
    assert_true(refused > read && read > 0); /* ids, texts and bits cannot be told to be wrong */
    free(image.data);
}

/* Two offsets of one text, or one entity named twice, would hide rows. */
static void test_what_would_hide_rows_is_refused(void **state)
{
    struct image image = small_image();
    unsigned found = 0;

    (void)state;
    for (size_t at = 0; at + 2 <= image.len; at++) {
        if (memcmp(image.data + at, "p2", 2) != 0)
            continue;
        image.data[at + 1] = '1'; /* the ids p1 and p2 become one, or what nobody refers to */
        struct pst_policy *policy;
        enum pst_status status =
            pst_policy_image_read(pst_bytes_of(image.data, image.len), &policy, NULL);
        found += status == PST_E_INVALID;
        pst_policy_destroy(policy);
        image.data[at + 1] = '2';
    }
    assert_int_equal(found, 1); /* of the two roles one has both ids */
    free(image.data);
}

/* Where things stand in small_image: two workspaces with their names, then the first role. */
#define ROLE_AT  (48 + 16 + 4 + 16 + 3)
#define RULES_AT (ROLE_AT + 56 + 3)

static uint32_t get_u32(const struct image *image, size_t at)
{
    uint32_t value;

    memcpy(&value, image->data + at, sizeof(value));
    return value;
}

static void add_u32(struct image *image, size_t at, uint32_t value)
{
    uint32_t sum = get_u32(image, at) + value;

    memcpy(image->data + at, &sum, sizeof(sum));
}

/* One number changed, or two so that their sum is as before; both are put back. */
static void expect_wrong(struct image *image, size_t at, size_t other, uint32_t by)
{
    add_u32(image, at, by);
    if (other != 0)
        add_u32(image, other, 0 - by);
    expect_refused(image->data, image->len, "damaged");
    add_u32(image, at, 0 - by);
    if (other != 0)
        add_u32(image, other, by);
}

static void test_numbers_that_are_wrong_are_refused(void **state)
{
    struct image image = small_image();
    size_t rules = get_u32(&image, ROLE_AT + 24), entities = get_u32(&image, ROLE_AT + 32);
    size_t lists = get_u32(&image, ROLE_AT + 40), names = get_u32(&image, ROLE_AT + 44);
    size_t entities_at = RULES_AT + rules * 24, lists_at = entities_at + entities * 20;
    size_t extras_at = lists_at + lists * 4 + names * 8;

    (void)state;
    assert_true(rules > 4 && entities == 3 && lists == 3 && names == 10);
    expect_wrong(&image, ROLE_AT + 28, entities_at + 8, 100000000); /* direct, plain of the first */
    expect_wrong(&image, entities_at + 8, entities_at + 12, 100000000);
    expect_wrong(&image, entities_at + 56, 0, UINT32_MAX); /* a row that no entity has */
    expect_wrong(&image, lists_at, lists_at + 4, 100000000);
    expect_wrong(&image, lists_at, 0, UINT32_MAX);
    for (size_t i = 0; i < lists * 5; i++) /* lists and the subtype of an extra */
        expect_wrong(&image, extras_at + i * 4, 0, 10000000);
    for (size_t i = 0; i < rules; i++) {
        expect_wrong(&image, RULES_AT + i * 24 + 12, 0, 10000000); /* its id */
        expect_wrong(&image, RULES_AT + i * 24 + 16, 0, 4);        /* its lists */
        expect_wrong(&image, RULES_AT + i * 24 + 20, 0, 1);        /* its entity */
    }
    struct pst_policy *policy = read_back(&image);
    pst_policy_destroy(policy);
    free(image.data);
}

/* Of two entities of one name, or two roles of one id, the second would not be found. */
static void test_doubles_are_refused(void **state)
{
    struct image image = small_image();
    size_t entities_at = RULES_AT + get_u32(&image, ROLE_AT + 24) * 24;
    char name[8];

    (void)state;
    memcpy(name, image.data + entities_at + 20, sizeof(name));
    memcpy(image.data + entities_at + 20, image.data + entities_at, sizeof(name));
    expect_refused(image.data, image.len, "damaged (rows of a role)");
    memcpy(image.data + entities_at + 20, name, sizeof(name));
    add_u32(&image, ROLE_AT + 8, 1);
    expect_refused(image.data, image.len, "role id 2 stands twice");
    free(image.data);
}

static enum pst_status stop(void *ctx, struct pst_bytes bytes)
{
    unsigned *calls = ctx;

    (void)bytes;
    ++*calls;
    return PST_E_IO;
}

static void test_the_sink_ends_the_writing(void **state)
{
    struct fixture f;
    unsigned calls = 0;
    char id[16];

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "r", 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "id-%d", i);
        fx_grant(&f, 1, "Pipeline", id, PST_A_LIST);
    }
    assert_int_equal(pst_policy_compile(&f.model, &f.policy, NULL), PST_OK);
    assert_int_equal(pst_policy_image_write(f.policy, stop, &calls), PST_E_IO);
    assert_int_equal(calls, 1);
    fx_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read_decides_as_what_was_written),
        cmocka_unit_test(test_names_and_workspaces_come_back),
        cmocka_unit_test(test_what_is_read_can_be_patched),
        cmocka_unit_test(test_a_part_of_an_image_is_none),
        cmocka_unit_test(test_an_image_of_another_release_is_refused),
        cmocka_unit_test(test_no_damage_does_harm),
        cmocka_unit_test(test_what_would_hide_rows_is_refused),
        cmocka_unit_test(test_numbers_that_are_wrong_are_refused),
        cmocka_unit_test(test_doubles_are_refused),
        cmocka_unit_test(test_the_sink_ends_the_writing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
