#include "../test.h"

#include "naive.h"
#include "policy_fixture.h"
#include "postern/base/buf.h"
#include "postern/policy/image.h"

#define ROLES     6u
#define SPACES    5u
#define SEQUENCES 300
#define CHANGES   12
#define QUESTIONS 12

/* What a database would hold: a role's rows follow from its seed. */
struct truth {
    struct {
        bool exists;
        uint64_t seed;
        unsigned name;
        uint32_t workspace;
    } roles[ROLES + 1];
    struct {
        bool exists;
        unsigned name;
    } spaces[SPACES + 1];
};

static void add_spaces(const struct truth *t, struct pst_model *model)
{
    char name[16];

    for (uint32_t i = 1; i <= SPACES; i++) {
        int n = snprintf(name, sizeof(name), "space-%u", t->spaces[i].name);
        struct pst_workspace_row row = {.id = i, .name = pst_bytes_of(name, (size_t)n)};
        row.kind = i == 2 ? PST_WORKSPACE_DEFAULT : PST_WORKSPACE_PROJECT;
        if (t->spaces[i].exists)
            assert_int_equal(pst_model_add_workspace(model, &row), PST_OK);
    }
}

static void add_role(const struct truth *t, uint32_t id, struct world *w)
{
    struct chooser c = {.state = t->roles[id].seed};
    char name[16];
    int n = snprintf(name, sizeof(name), "role-%u", t->roles[id].name);
    struct pst_role_row row = {
        .id = id, .name = pst_bytes_of(name, (size_t)n), .workspace = t->roles[id].workspace};

    if (!t->roles[id].exists)
        return;
    assert_int_equal(pst_model_add_role(&w->model, &row), PST_OK);
    for (unsigned rows = choose(&c, 8); rows > 0; rows--) {
        nv_row(w, &c);
        struct pst_permission_row *last = &w->model.permissions[w->model.permission_count - 1];
        last->id = id * 100 + rows;
        last->role = id;
    }
}

static struct pst_policy *compile_whole(const struct truth *t)
{
    struct world w = {0};
    struct pst_policy *policy;

    pst_model_init(&w.model, 1u << 20);
    add_spaces(t, &w.model);
    for (uint32_t i = 1; i <= ROLES; i++)
        add_role(t, i, &w);
    assert_int_equal(pst_policy_compile(&w.model, &policy, NULL), PST_OK);
    pst_model_fini(&w.model);
    return policy;
}

/* A database gives rows in any order. */
static void shuffle(struct pst_model *model, uint64_t seed)
{
    struct chooser c = {.state = seed};

    for (uint32_t i = model->permission_count; i > 1; i--) {
        struct pst_permission_row *a = &model->permissions[i - 1],
                                  *b = &model->permissions[choose(&c, i)], row = *a;
        *a = *b;
        *b = row;
    }
}

static struct pst_policy *patch(struct pst_policy *base, const struct truth *t,
                                const uint32_t *touched, uint32_t count, bool spaces)
{
    struct world w = {0};
    struct pst_policy_patch change = {
        .model = &w.model, .touched = touched, .touched_count = count, .workspaces = spaces};
    struct pst_policy *policy;
    bool added[ROLES + 1] = {false};

    pst_model_init(&w.model, 1u << 20);
    if (spaces)
        add_spaces(t, &w.model);
    for (uint32_t i = 0; i < count; i++) {
        if (touched[i] > ROLES || added[touched[i]])
            continue;
        added[touched[i]] = true;
        add_role(t, touched[i], &w);
    }
    shuffle(&w.model, count + w.model.permission_count);
    assert_int_equal(pst_policy_patch(base, &change, &policy, NULL), PST_OK);
    pst_model_fini(&w.model);
    pst_policy_destroy(base); /* what is shared must live on */
    return policy;
}

static void change_role(struct truth *t, struct chooser *c, uint32_t id)
{
    unsigned what = choose(c, 6);

    t->roles[id].exists = what != 0;
    if (what < 3)
        t->roles[id].name = choose(c, 1000);
    if (what != 5)
        t->roles[id].seed = choose(c, 1u << 20) + 1;
    t->roles[id].workspace = choose(c, 4) == 0 ? 1 + choose(c, 2) : 0;
}

static void change_spaces(struct truth *t, struct chooser *c)
{
    for (uint32_t i = 1; i <= SPACES; i++) {
        t->spaces[i].exists = choose(c, 3) != 0;
        t->spaces[i].name = i * 1000 + choose(c, 3);
    }
}

/* One change: some roles (ids twice and unknown ones among them), now and then the workspaces. */
static struct pst_policy *change(struct pst_policy *policy, struct truth *t, struct chooser *c)
{
    uint32_t touched[6], count = 0;
    bool spaces = choose(c, 3) == 0;

    for (unsigned n = choose(c, 4); n > 0; n--) {
        touched[count] = 1 + choose(c, ROLES);
        change_role(t, c, touched[count++]);
    }
    if (count > 0 && choose(c, 2) == 0) {
        touched[count] = touched[0];
        count++;
    }
    if (choose(c, 2) == 0)
        touched[count++] = 1000;
    if (spaces)
        change_spaces(t, c);
    return patch(policy, t, touched, count, spaces);
}

static void expect_same_names(const struct pst_policy *a, const struct pst_policy *b)
{
    char name[16];

    for (uint32_t i = 0; i <= ROLES + 1; i++)
        assert_true(pst_bytes_equal(pst_policy_role_name(a, i), pst_policy_role_name(b, i)));
    for (uint32_t i = 0; i <= SPACES + 1; i++) {
        struct pst_bytes text = pst_policy_workspace_name(a, i);
        assert_true(pst_bytes_equal(text, pst_policy_workspace_name(b, i)));
        assert_int_equal(text.len == 0 ? 0 : i, pst_policy_workspace(b, text));
    }
    for (unsigned i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof(name), "role-%u", i);
        struct pst_bytes text = pst_bytes_of(name, (size_t)n);
        if (pst_policy_role(a, text, 1) != 0) /* of two equal ones either may be found */
            assert_true(
                pst_bytes_equal(pst_policy_role_name(b, pst_policy_role(b, text, 1)), text));
    }
}

static void expect_same_decisions(const struct pst_policy *a, const struct pst_policy *b,
                                  uint64_t seed, unsigned verdicts[2])
{
    for (unsigned i = 0; i < QUESTIONS; i++) {
        struct chooser c = {.state = seed * QUESTIONS + i};
        struct pst_eval_detail da, db;
        struct world w;

        nv_make(&w, &c);
        w.question.policy = a;
        enum pst_verdict verdict = pst_eval(&w.question, &da);
        w.question.policy = b;
        assert_int_equal(pst_eval(&w.question, &db), verdict);
        assert_int_equal(da.reason, db.reason);
        assert_int_equal(da.role, db.role);
        assert_int_equal(da.permission, db.permission);
        assert_int_equal(da.bit, db.bit);
        verdicts[verdict]++;
        nv_free(&w);
    }
}

static void test_patches_in_a_row_equal_a_whole_compile(void **state)
{
    unsigned verdicts[2] = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= SEQUENCES; seed++) {
        struct chooser c = {.state = seed * UINT64_C(0x9e3779b97f4a7c15)};
        struct truth t = {0};

        change_spaces(&t, &c);
        for (uint32_t i = 1; i <= ROLES; i++)
            change_role(&t, &c, i);
        struct pst_policy *patched = compile_whole(&t);
        for (unsigned n = 0; n < CHANGES; n++) {
            struct pst_policy_stats a, b;
            patched = change(patched, &t, &c);
            struct pst_policy *whole = compile_whole(&t);
            pst_policy_stats(patched, &a);
            pst_policy_stats(whole, &b);
            assert_memory_equal(&a, &b, sizeof(a));
            expect_same_names(whole, patched);
            expect_same_decisions(whole, patched, seed * CHANGES + n, verdicts);
            pst_policy_destroy(whole);
        }
        pst_policy_destroy(patched);
    }
    assert_true(verdicts[PST_ALLOW] > 1000 && verdicts[PST_DENY] > 1000);
}

static void expect_refused(const struct pst_policy *base, const struct pst_model *model,
                           uint32_t touched, const char *about)
{
    struct pst_policy_patch change = {.model = model, .touched = &touched, .touched_count = 1};
    struct pst_policy *policy;
    struct pst_error error = {0};

    assert_int_equal(pst_policy_patch(base, &change, &policy, &error), PST_E_INVALID);
    assert_null(policy);
    assert_non_null(strstr(error.message, about));
}

static void test_rows_of_roles_that_were_not_named_are_refused(void **state)
{
    struct fixture f, other, third;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "a", 0);
    fx_role(&f, 2, "b", 0);
    assert_int_equal(pst_policy_compile(&f.model, &f.policy, NULL), PST_OK);
    fx_init(&other);
    fx_role(&other, 1, "a", 0);
    expect_refused(f.policy, &other.model, 2, "role id 1");
    fx_grant(&other, 2, "Pipeline", NULL, PST_A_LIST);
    expect_refused(f.policy, &other.model, 1, "permission 1 names role 2, which is not named");
    fx_init(&third);
    fx_grant(&third, 9, "Pipeline", NULL, PST_A_LIST);
    expect_refused(f.policy, &third.model, 1, "permission 1 names role 9, which is not there");
    fx_fini(&f);
    fx_fini(&other);
    fx_fini(&third);
}

/* A deleted role grants nothing any more, and takes nothing else with it. */
static void test_a_deleted_role_is_gone(void **state)
{
    const uint32_t gone[] = {2};
    struct pst_policy_stats stats;
    struct pst_policy *patched;
    struct pst_model none;
    struct fixture f;

    (void)state;
    fx_init(&f);
    fx_role(&f, 1, "kept", 0);
    fx_role(&f, 2, "gone", 0);
    fx_grant(&f, 1, "Pipeline", "p1", PST_A_UPDATE);
    fx_grant(&f, 2, "Pipeline", "p2", PST_A_UPDATE);
    fx_bind(&f, 1, 0);
    fx_bind(&f, 2, 0);
    assert_int_equal(pst_policy_compile(&f.model, &f.policy, NULL), PST_OK);
    pst_model_init(&none, 1u << 16);
    struct pst_policy_patch change = {.model = &none, .touched = gone, .touched_count = 1};
    assert_int_equal(pst_policy_patch(f.policy, &change, &patched, NULL), PST_OK);
    pst_model_fini(&none);
    pst_policy_stats(patched, &stats);
    assert_int_equal(stats.permissions, 1);
    assert_int_equal(pst_policy_role(patched, PST_LIT("gone"), 0), 0);
    assert_int_equal(pst_policy_workspace(patched, PST_LIT("red")), RED);
    f.question.policy = f.policy;
    fx_ask(&f, 0, "Pipeline", "p2", PST_OP_UPDATE);
    assert_int_equal(pst_eval(&f.question, &f.detail), PST_ALLOW);
    f.question.policy = patched;
    assert_int_equal(pst_eval(&f.question, &f.detail), PST_DENY);
    fx_ask(&f, 0, "Pipeline", "p1", PST_OP_UPDATE);
    assert_int_equal(pst_eval(&f.question, &f.detail), PST_ALLOW);
    pst_policy_destroy(patched);
    fx_fini(&f);
}

/* ---- a role's rows, one by one ---- */

#define ROWS     40u /* ids that a role's row may have */
#define CONTENTS 25u /* fewer than that: some rows are equal */

/* Which rows there are; what a row says follows from its id. */
struct rows {
    bool there[ROWS + 1];
};

static uint32_t add_rows(const struct rows *rows, const struct rows *but, uint64_t seed,
                         struct world *w)
{
    uint32_t count = 0;

    for (uint32_t id = 1; id <= ROWS; id++) {
        struct chooser c = {.state = seed * CONTENTS + id % CONTENTS};
        count += rows->there[id];
        if (!rows->there[id] || (but != NULL && but->there[id]))
            continue;
        nv_row(w, &c);
        struct pst_permission_row *last = &w->model.permissions[w->model.permission_count - 1];
        last->id = id;
        last->role = 1;
        if (choose(&c, 8) == 0)
            last->has_access = false;
    }
    return count;
}

static struct pst_policy *whole_role(const struct rows *rows, uint64_t seed)
{
    const struct pst_role_row role = {.id = 1, .name = PST_LIT("r")};
    struct pst_policy *policy;
    struct world w = {0};

    pst_model_init(&w.model, 1u << 20);
    assert_int_equal(pst_model_add_role(&w.model, &role), PST_OK);
    (void)add_rows(rows, NULL, seed, &w);
    assert_int_equal(pst_policy_compile(&w.model, &policy, NULL), PST_OK);
    pst_model_fini(&w.model);
    return policy;
}

/* error_by: added to the count of rows that the change says there are. */
static enum pst_status change_rows(struct pst_policy *base, const struct rows *before,
                                   const struct rows *now, uint64_t seed, uint32_t error_by,
                                   struct pst_policy **out)
{
    const uint32_t touched[] = {1};
    struct pst_role_row role = {.id = 1, .name = PST_LIT("r"), .partial = true};
    struct world w = {0};
    struct pst_policy_patch change = {.model = &w.model, .touched = touched, .touched_count = 1};

    pst_model_init(&w.model, 1u << 20);
    role.total = add_rows(now, before, seed, &w) + error_by;
    assert_int_equal(pst_model_add_role(&w.model, &role), PST_OK);
    for (uint32_t id = ROWS; id > 0; id--)
        if (before->there[id] && !now->there[id])
            assert_int_equal(pst_model_add_gone(&w.model, id), PST_OK);
    assert_int_equal(pst_model_add_gone(&w.model, 1000), PST_OK); /* another role's */
    shuffle(&w.model, seed);
    enum pst_status status = pst_policy_patch(base, &change, out, NULL);
    pst_model_fini(&w.model);
    return status;
}

static void expect_rows(const struct pst_policy *policy, const struct rows *rows)
{
    uint32_t count, at = 0, *ids = pst_policy_permissions(policy, 1, &count);

    assert_non_null(ids);
    for (uint32_t id = 1; id <= ROWS; id++)
        if (rows->there[id]) {
            assert_true(at < count);
            assert_int_equal(ids[at++], id);
        }
    assert_int_equal(at, count);
    free(ids);
}

static enum pst_status sink(void *ctx, struct pst_bytes bytes)
{
    struct pst_buf *b = ctx;

    pst_buf_put(b, bytes);
    return b->full ? PST_E_LIMIT : PST_OK;
}

/* As a node does that was started anew in between: from the file. */
static struct pst_policy *through_its_image(struct pst_policy *policy)
{
    static char room[1u << 17];
    struct pst_buf image = pst_buf_of(room, sizeof(room));
    struct pst_policy *out;

    assert_int_equal(pst_policy_image_write(policy, sink, &image), PST_OK);
    assert_int_equal(pst_policy_image_read(pst_bytes_of(room, image.len), &out, NULL), PST_OK);
    pst_policy_destroy(policy);
    return out;
}

static void test_rows_that_come_and_go_equal_a_whole_compile(void **state)
{
    unsigned verdicts[2] = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= SEQUENCES; seed++) {
        struct chooser c = {.state = seed * UINT64_C(0x9e3779b97f4a7c15)};
        struct rows rows = {0};

        for (uint32_t id = 1; id <= ROWS; id++)
            rows.there[id] = choose(&c, 2) == 0;
        struct pst_policy *changed = whole_role(&rows, seed), *next;
        for (unsigned n = 0; n < CHANGES; n++) {
            struct rows before = rows;
            struct pst_policy_stats a, b;
            for (unsigned i = choose(&c, n % 4 == 0 ? ROWS : 4); i > 0; i--)
                rows.there[1 + choose(&c, ROWS)] ^= true;
            if (choose(&c, 3) == 0)
                changed = through_its_image(changed);
            assert_int_equal(change_rows(changed, &before, &rows, seed, 0, &next), PST_OK);
            pst_policy_destroy(changed);
            changed = next;
            struct pst_policy *whole = whole_role(&rows, seed);
            pst_policy_stats(changed, &a);
            pst_policy_stats(whole, &b);
            assert_memory_equal(&a, &b, sizeof(a));
            expect_rows(changed, &rows);
            expect_same_decisions(whole, changed, seed * CHANGES + n, verdicts);
            pst_policy_destroy(whole);
        }
        pst_policy_destroy(changed);
    }
    assert_true(verdicts[PST_ALLOW] > 500 && verdicts[PST_DENY] > 1000);
}

static void test_rows_that_do_not_add_up_are_refused(void **state)
{
    struct rows before = {0}, now = {0};
    struct pst_policy *policy, *none;

    (void)state;
    before.there[1] = before.there[2] = before.there[26] = true; /* 1 and 26 are equal */
    now.there[2] = now.there[3] = true;
    policy = whole_role(&before, 7);
    for (uint32_t by = 1; by < 4; by++)
        assert_int_equal(change_rows(policy, &before, &now, 7, by, &none), PST_E_INVALID);
    assert_int_equal(change_rows(policy, &before, &now, 7, UINT32_MAX, &none), PST_E_INVALID);
    assert_int_equal(change_rows(policy, &before, &now, 7, UINT32_MAX - 1, &none), PST_E_INVALID);
    pst_policy_destroy(policy);
    /* and a part of a role that the older policy does not have */
    struct truth empty = {0};
    policy = compile_whole(&empty);
    assert_int_equal(change_rows(policy, &before, &now, 7, 0, &none), PST_E_INVALID);
    uint32_t count = 7;
    assert_null(pst_policy_permissions(policy, 1, &count));
    assert_int_equal(count, 0);
    pst_policy_destroy(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patches_in_a_row_equal_a_whole_compile),
        cmocka_unit_test(test_rows_that_come_and_go_equal_a_whole_compile),
        cmocka_unit_test(test_rows_that_do_not_add_up_are_refused),
        cmocka_unit_test(test_rows_of_roles_that_were_not_named_are_refused),
        cmocka_unit_test(test_a_deleted_role_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
