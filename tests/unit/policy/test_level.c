#include "../test.h"

#include "policy_fixture.h"
#include "postern/policy/level.h"

/* A tree from indented lines: "key: text", "key:" opens a map, "key[]:" a list, "- text" an item.
 */
static void build(struct pst_tree *tree, const char *text)
{
    struct pst_node *open[16] = {0};
    uint32_t line = 0;

    pst_tree_init(tree, PST_LIT("test.yaml"), 1u << 20);
    open[0] = pst_tree_add(tree, NULL, PST_NODE_MAP, PST_LIT(""), PST_LIT(""), 1);
    while (*text != '\0') {
        size_t len = strcspn(text, "\n"), indent = strspn(text, " "), depth = indent / 2;
        struct pst_bytes rest = pst_bytes_of(text + indent, len - indent);
        size_t colon = pst_bytes_find(rest, ':');
        line++;
        if (pst_bytes_starts(rest, PST_LIT("- "))) {
            assert_non_null(pst_tree_add(tree, open[depth], PST_NODE_SCALAR, PST_LIT(""),
                                         pst_bytes_from(rest, 2), line));
        } else {
            struct pst_bytes key = pst_bytes_of(rest.ptr, colon),
                             value = pst_bytes_from(rest, colon + 1);
            bool list = key.len > 2 && key.ptr[key.len - 2] == '[';
            if (list)
                key.len -= 2;
            enum pst_node_kind kind = value.len > 0 ? PST_NODE_SCALAR
                                      : list        ? PST_NODE_LIST
                                                    : PST_NODE_MAP;
            open[depth + 1] =
                pst_tree_add(tree, open[depth], kind, key, pst_bytes_trim(value), line);
            assert_non_null(open[depth + 1]);
        }
        text += len + (text[len] == '\n');
    }
}

static struct pst_levels *load(const char *text)
{
    struct pst_levels *levels;
    struct pst_error error = {0};
    struct pst_tree tree;

    build(&tree, text);
    if (pst_levels_load(&tree, &levels, &error) != PST_OK)
        fail_msg("%s %s", error.where, error.message);
    pst_tree_fini(&tree);
    return levels;
}

static const char TABLE[] = "levels:\n"
                            "  Run:\n"
                            "    question: pipeline\n"
                            "    operations:\n"
                            "      list: viewer\n"
                            "      update: editor_notebook\n"
                            "      delete[]:\n"
                            "        - admin\n"
                            "        - public_none\n"
                            "    query:\n"
                            "      list:\n"
                            "        viewer[]:\n"
                            "          - search\n"
                            "      all:\n"
                            "        admin[]:\n"
                            "          - search\n"
                            "          - deep\n"
                            "      update:\n"
                            "        editor[]:\n"
                            "          - __*MAGE*__\n"
                            "  Tag:\n"
                            "    operations:\n"
                            "      list: viewer\n"
                            "  Status:\n"
                            "    closed: true\n"
                            "    read:\n"
                            "      list:\n"
                            "        public_none[]:\n"
                            "          - version\n"
                            "        viewer[]:\n"
                            "          - version\n"
                            "          - user\n"
                            "    open:\n"
                            "      list: everybody\n"
                            "      detail: signed_out\n";

static void test_the_table_is_read(void **state)
{
    struct pst_levels *l = load(TABLE);
    struct pst_bytes run = PST_LIT("Run"), status = PST_LIT("Status"), other = PST_LIT("Other");

    (void)state;
    assert_int_equal(pst_levels_question(l, run), PST_ASK_PIPELINE);
    assert_int_equal(pst_levels_question(l, status), PST_ASK_PROJECT);
    assert_int_equal(pst_levels_question(l, other), PST_ASK_PROJECT);
    assert_int_equal(pst_levels_question(NULL, run), PST_ASK_PROJECT);
    assert_int_equal(pst_levels_operation(l, run, PST_OP_LIST).signed_in, 1 << PST_LEVEL_VIEWER);
    assert_int_equal(pst_levels_operation(l, run, PST_OP_LIST).signed_out, 0);
    assert_int_equal(pst_levels_operation(l, run, PST_OP_DELETE).signed_in, 1 << PST_LEVEL_ADMIN);
    assert_int_equal(pst_levels_operation(l, run, PST_OP_DELETE).signed_out, 1 << PST_LEVEL_NONE);
    assert_int_equal(pst_levels_operation(l, run, PST_OP_CREATE).signed_in, 0);
    assert_int_equal(pst_levels_operation(l, other, PST_OP_LIST).signed_in, 0);
    assert_true(pst_levels_open(l, status, PST_OP_LIST, true));
    assert_true(pst_levels_open(l, status, PST_OP_LIST, false));
    assert_false(pst_levels_open(l, status, PST_OP_DETAIL, true));
    assert_true(pst_levels_open(l, status, PST_OP_DETAIL, false));
    assert_false(pst_levels_open(l, run, PST_OP_LIST, true));
    assert_false(pst_levels_closed(l, status, PST_OP_LIST));
    assert_true(pst_levels_closed(l, status, PST_OP_CREATE));
    assert_false(pst_levels_closed(l, run, PST_OP_CREATE));
    pst_levels_free(l);
}

static unsigned asked(const struct pst_levels *l, enum pst_op op, enum pst_attribute_kind kind,
                      const char *name)
{
    return pst_levels_attribute(l, PST_LIT("Run"), op, kind, fx_text(name)).signed_in;
}

/* The operation's own entry, then `all`, then the wildcard (query keys only); absent is nobody. */
static void test_attributes_in_order(void **state)
{
    struct pst_levels *l = load(TABLE);

    (void)state;
    assert_int_equal(asked(l, PST_OP_LIST, PST_ATTR_QUERY, "search"), 1 << PST_LEVEL_VIEWER);
    assert_int_equal(asked(l, PST_OP_DETAIL, PST_ATTR_QUERY, "search"), 1 << PST_LEVEL_ADMIN);
    assert_int_equal(asked(l, PST_OP_UPDATE, PST_ATTR_QUERY, "search"), 1 << PST_LEVEL_ADMIN);
    assert_int_equal(asked(l, PST_OP_UPDATE, PST_ATTR_QUERY, "any"), 1 << PST_LEVEL_EDITOR);
    assert_int_equal(asked(l, PST_OP_LIST, PST_ATTR_QUERY, "any"), 0);
    assert_int_equal(asked(l, PST_OP_LIST, PST_ATTR_READ, "search"), 0);
    pst_levels_free(l);
}

static void test_broken_tables_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *where;
    } CASES[] = {
        {"other: 1\n", "test.yaml:1"},
        {"levels: 1\n", "test.yaml:1"},
        {"levels:\n  Run:\n    colour: red\n", "test.yaml:3"},
        {"levels:\n  Run:\n    question: perhaps\n", "test.yaml:3"},
        {"levels:\n  Run:\n    operations:\n      fly: viewer\n", "test.yaml:4"},
        {"levels:\n  Run:\n    operations:\n      list: king\n", "test.yaml:4"},
        {"levels:\n  Run:\n    operations:\n      list: public_king\n", "test.yaml:4"},
        {"levels:\n  Run:\n    query:\n      list:\n        king[]:\n          - a\n",
         "test.yaml:5"},
        {"levels:\n  Run:\n    query:\n      list: viewer\n", "test.yaml:4"},
        {"levels:\n  Run:\n    open:\n      list: perhaps\n", "test.yaml:4"},
        {"levels:\n  Run:\n    closed: perhaps\n", "test.yaml:3"},
        {"levels:\n  Run:\n    question: any\n  Run:\n    question: any\n", "test.yaml:4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct pst_levels *levels = (struct pst_levels *)&levels;
        struct pst_error error = {0};
        struct pst_tree tree;
        build(&tree, CASES[i].text);
        assert_int_equal(pst_levels_load(&tree, &levels, &error), PST_E_INVALID);
        assert_null(levels);
        if (strncmp(error.where, CASES[i].where, strlen(CASES[i].where)) != 0)
            fail_msg("case %zu: %s: %s", i, error.where, error.message);
        pst_tree_fini(&tree);
    }
}

/* ---- deciding by levels ---- */

static void level_row(struct fixture *f, uint32_t role, uint64_t level, enum pst_scope scope,
                      const char *id)
{
    struct pst_permission_row row = {.id = f->model.permission_count + 1,
                                     .role = role,
                                     .direct = true,
                                     .scope = scope,
                                     .has_access = true,
                                     .access = level,
                                     .has_entity_id = id != NULL,
                                     .entity_id = fx_text(id)};

    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
}

static void start(struct fixture *f, struct pst_levels *levels)
{
    fx_init(f);
    f->settings.permissions_off = true;
    f->settings.levels = levels;
    f->settings.project_uuid = PST_LIT("PROJ");
    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
}

static void test_scopes_of_built_in_rows(void **state)
{
    static const struct {
        enum pst_scope scope;
        const char *id, *pipeline;
        enum pst_reason reason;
    } CASES[] = {
        {PST_SCOPE_GLOBAL, NULL, "", PST_R_LEVEL},
        {PST_SCOPE_PROJECT, "PROJ", "", PST_R_LEVEL},
        {PST_SCOPE_PROJECT, "OTHER", "", PST_R_LEVEL_TOO_LOW},
        {PST_SCOPE_PROJECT, NULL, "", PST_R_LEVEL_TOO_LOW},
        {PST_SCOPE_PIPELINE, "p1", "p1", PST_R_LEVEL},
        {PST_SCOPE_PIPELINE, "p1", "p2", PST_R_LEVEL_TOO_LOW},
        {PST_SCOPE_PIPELINE, "p1", "", PST_R_LEVEL_TOO_LOW}, /* whose run it is, is not known */
        {PST_SCOPE_PIPELINE, "", "", PST_R_LEVEL_TOO_LOW},
    };
    struct pst_levels *levels = load(TABLE);

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct fixture f;
        start(&f, levels);
        level_row(&f, 1, PST_A_VIEWER, CASES[i].scope, CASES[i].id);
        fx_ask(&f, 0, "Run", NULL, PST_OP_LIST);
        f.requirements[0].pipeline = fx_text(CASES[i].pipeline);
        if (fx_decide(&f) != CASES[i].reason)
            fail_msg("case %zu: %s", i, pst_reason_name(f.detail.reason));
        fx_fini(&f);
    }
    pst_levels_free(levels);
}

/* Within a role the rows of the narrowest scope decide; between roles all count. */
static void test_a_narrow_row_hides_the_wide_ones_of_its_role(void **state)
{
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    level_row(&f, 1, PST_A_EDITOR, PST_SCOPE_GLOBAL, NULL);
    level_row(&f, 1, PST_A_VIEWER, PST_SCOPE_PIPELINE, "p1");
    fx_ask(&f, 0, "Run", "5", PST_OP_UPDATE);
    f.requirements[0].pipeline = PST_LIT("p2");
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    f.requirements[0].pipeline = PST_LIT("p1");
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    level_row(&f, 1, PST_A_OWNER, PST_SCOPE_PROJECT, "PROJ"); /* an owner of the project is one */
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_fini(&f);

    start(&f, levels);
    level_row(&f, 1, PST_A_OWNER, PST_SCOPE_GLOBAL, NULL);
    level_row(&f, 1, PST_A_VIEWER, PST_SCOPE_PROJECT, "PROJ");
    fx_ask(&f, 0, "Run", "5", PST_OP_DELETE);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    f.settings.permissions_off = false;
    assert_int_equal(fx_decide(&f), PST_R_NOT_GRANTED);
    f.settings.permissions_off = true;
    fx_role(&f, 2, "s", 0);
    fx_bind(&f, 2, 0);
    level_row(&f, 2, PST_A_ADMIN, PST_SCOPE_GLOBAL, NULL);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_fini(&f);
    pst_levels_free(levels);
}

static void test_levels_and_the_editing_switch(void **state)
{
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    level_row(&f, 1, PST_A_EDITOR, PST_SCOPE_GLOBAL, NULL);
    fx_ask(&f, 0, "Run", "5", PST_OP_UPDATE);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    f.settings.notebook_edit = 2;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    f.settings.notebook_edit = 1;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    f.settings.notebook_edit = 0;
    f.facts.binding_count = 0;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    f.facts.legacy_level = 2; /* the legacy bit of an editor */
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_ask(&f, 0, "Run", "5", PST_OP_DELETE);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    f.facts.legacy_level = UINT32_C(1) << 31;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_ask(&f, 0, "Run", NULL, PST_OP_CREATE); /* no rule: refused to the owner too */
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    fx_fini(&f);
    pst_levels_free(levels);
}

static void test_attributes_are_asked_but_of_an_owner(void **state)
{
    const struct pst_bytes deep[] = {PST_LIT("deep")}, unheard[] = {PST_LIT("unheard")};
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    level_row(&f, 1, PST_A_VIEWER, PST_SCOPE_GLOBAL, NULL);
    fx_ask(&f, 0, "Run", NULL, PST_OP_LIST);
    f.requirements[0].attributes[PST_ATTR_QUERY] = deep;
    f.requirements[0].attribute_count[PST_ATTR_QUERY] = 1;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    assert_true(pst_bytes_equal(f.detail.attribute, PST_LIT("deep")));
    level_row(&f, 1, PST_A_ADMIN, PST_SCOPE_GLOBAL, NULL);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    f.requirements[0].attributes[PST_ATTR_QUERY] = unheard;
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    level_row(&f, 1, PST_A_OWNER, PST_SCOPE_GLOBAL, NULL);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    f.settings.notebook_edit = 2; /* editing is off: query keys are asked of an owner as well */
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    fx_fini(&f);
    pst_levels_free(levels);
}

static void test_nobody_passes_what_is_public_only(void **state)
{
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    f.question.caller.facts = NULL;
    fx_ask(&f, 0, "Run", "5", PST_OP_DELETE);
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_ask(&f, 0, "Run", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(&f), PST_R_NO_CREDENTIAL);
    f.settings.permissions_off = false;
    fx_ask(&f, 0, "Run", "5", PST_OP_DELETE); /* public levels are not asked with permissions on */
    assert_int_equal(fx_decide(&f), PST_R_NO_CREDENTIAL);
    fx_ask(&f, 0, "Status", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(&f), PST_R_PUBLIC);
    f.question.caller.facts = &f.facts;
    fx_ask(&f, 0, "Status", NULL, PST_OP_CREATE);
    fx_grant(&f, 1, "Status", NULL, PST_A_OWNER);
    assert_int_equal(fx_decide(&f), PST_R_ROUTE_CLOSED);
    fx_fini(&f);
    pst_levels_free(levels);
}

/* What asks nobody shows and takes what the table names, and nothing else. */
static void test_what_is_open_has_its_attributes(void **state)
{
    const struct pst_bytes version[] = {PST_LIT("version"), PST_LIT("_limit")};
    const struct pst_bytes user[] = {PST_LIT("user")};
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    f.settings.permissions_off = false;
    fx_ask(&f, 0, "Status", NULL, PST_OP_LIST);
    f.requirements[0].attributes[PST_ATTR_READ] = version;
    f.requirements[0].attribute_count[PST_ATTR_READ] = 1;
    f.requirements[0].attributes[PST_ATTR_QUERY] = version + 1; /* is never asked */
    f.requirements[0].attribute_count[PST_ATTR_QUERY] = 1;
    assert_int_equal(fx_decide(&f), PST_R_PUBLIC);
    f.question.caller.facts = NULL;
    assert_int_equal(fx_decide(&f), PST_R_PUBLIC);
    f.requirements[0].attributes[PST_ATTR_READ] = user;
    assert_int_equal(fx_decide(&f), PST_R_ATTRIBUTE);
    assert_true(pst_bytes_equal(f.detail.attribute, PST_LIT("user")));
    f.question.caller.facts = &f.facts;
    assert_int_equal(fx_decide(&f), PST_R_PUBLIC);
    f.requirements[0].attributes[PST_ATTR_QUERY] = user;
    assert_int_equal(fx_decide(&f), PST_R_ATTRIBUTE);
    assert_int_equal(f.detail.attribute_kind, PST_ATTR_QUERY);
    fx_fini(&f);
    pst_levels_free(levels);
}

/* A level that is bound to a pipeline counts only for entities that ask for the pipeline. */
static void test_a_pipeline_level_stays_with_its_pipeline(void **state)
{
    struct pst_levels *levels = load(TABLE);
    struct fixture f;

    (void)state;
    start(&f, levels);
    level_row(&f, 1, PST_A_VIEWER, PST_SCOPE_PIPELINE, "p1");
    fx_ask(&f, 0, "Tag", NULL, PST_OP_LIST);
    f.requirements[0].pipeline = PST_LIT("p1");
    assert_int_equal(fx_decide(&f), PST_R_LEVEL_TOO_LOW);
    fx_ask(&f, 0, "Run", NULL, PST_OP_LIST);
    f.requirements[0].pipeline = PST_LIT("p1");
    assert_int_equal(fx_decide(&f), PST_R_LEVEL);
    fx_fini(&f);
    pst_levels_free(levels);
}

/* ---- presets ---- */

static void test_presets_build_on_each_other(void **state)
{
    struct pst_presets presets;
    struct pst_tree tree;
    uint64_t access;

    (void)state;
    build(&tree, "levels:\n  READ[]:\n    - LIST\n    - DETAIL\n  USE[]:\n    - READ\n    - USE\n"
                 "  EDIT[]:\n    - USE\n    - UPDATE\n");
    assert_int_equal(pst_presets_load(&tree, &presets, NULL), PST_OK);
    pst_tree_fini(&tree);
    assert_true(pst_presets_find(&presets, PST_LIT("EDIT"), &access));
    assert_true(access == FX_EDIT);
    assert_true(pst_presets_find(&presets, PST_LIT("READ"), &access));
    assert_true(access == FX_READ);
    assert_false(pst_presets_find(&presets, PST_LIT("edit"), &access));
    assert_true(access == 0);
    pst_presets_fini(&presets);
}

static void test_broken_presets_are_refused(void **state)
{
    static const char *const CASES[] = {"levels:\n  A[]:\n    - LATER\n  LATER[]:\n    - LIST\n",
                                        "levels:\n  A: LIST\n", "levels:\n  A[]:\n",
                                        "levels:\n  A[]:\n    - LIST\n  A[]:\n    - LIST\n",
                                        "roles:\n  A[]:\n    - LIST\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct pst_presets presets;
        struct pst_tree tree;
        struct pst_error error = {0};
        build(&tree, CASES[i]);
        assert_int_equal(pst_presets_load(&tree, &presets, &error), PST_E_INVALID);
        assert_true(error.where[0] != '\0' && error.message[0] != '\0');
        assert_int_equal(presets.count, 0);
        pst_tree_fini(&tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_is_read),
        cmocka_unit_test(test_attributes_in_order),
        cmocka_unit_test(test_broken_tables_are_refused_with_their_place),
        cmocka_unit_test(test_scopes_of_built_in_rows),
        cmocka_unit_test(test_a_narrow_row_hides_the_wide_ones_of_its_role),
        cmocka_unit_test(test_levels_and_the_editing_switch),
        cmocka_unit_test(test_attributes_are_asked_but_of_an_owner),
        cmocka_unit_test(test_nobody_passes_what_is_public_only),
        cmocka_unit_test(test_what_is_open_has_its_attributes),
        cmocka_unit_test(test_a_pipeline_level_stays_with_its_pipeline),
        cmocka_unit_test(test_presets_build_on_each_other),
        cmocka_unit_test(test_broken_presets_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
