/* Declarations as YAML: what ships applies, and what is exported applies to the same. */
#include "../test.h"

#include "../store/place.h"
#include "postern/app/yaml.h"
#include "postern/manage/declare.h"
#include "postern/policy/compile.h"

struct world {
    struct place place;
    struct pst_store *store;
    struct pst_presets presets;
    struct pst_apply_report report;
    struct pst_error error;
};

static int make(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct pst_tree levels;

    place_make(&w->place);
    w->store = place_open(&w->place, PST_STORE_CREATE);
    MUST(pst_yaml_load_file("policies/roles/levels.yaml", &levels, &why));
    MUST(pst_presets_load(&levels, &w->presets, &why));
    pst_tree_fini(&levels);
    *state = w;
    return 0;
}

static int drop(void **state)
{
    struct world *w = *state;

    pst_apply_report_fini(&w->report);
    pst_presets_fini(&w->presets);
    pst_store_close(w->store);
    place_drop(&w->place);
    free(w);
    return 0;
}

static enum pst_status apply_trees(struct world *w, struct pst_store *store,
                                   const struct pst_tree *const *trees, size_t count)
{
    struct pst_apply_options options = {.actor = PST_LIT("test"), .presets = &w->presets};

    pst_apply_report_fini(&w->report);
    w->error = (struct pst_error){0};
    return pst_apply(store, trees, count, &options, &w->error, &w->report);
}

static enum pst_status apply_text(struct world *w, struct pst_store *store, const char *text)
{
    struct pst_tree tree;
    const struct pst_tree *trees[] = {&tree};

    MUST(pst_yaml_load_text(PST_LIT("t.yaml"), text_of(text), &tree, &why));
    enum pst_status status = apply_trees(w, store, trees, 1);
    pst_tree_fini(&tree);
    return status;
}

static char *export_of(struct pst_store *store)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    MUST(pst_export(store, out, &why));
    fclose(out);
    return text;
}

static void test_shipped_roles(void **state)
{
    struct world *w = *state;
    struct pst_tree trees[3];
    const struct pst_tree *all[] = {&trees[0], &trees[1], &trees[2]};
    struct pst_store_status st;

    MUST(pst_yaml_load_file("policies/roles/mage.yaml", &trees[0], &why));
    MUST(pst_yaml_load_file("policies/roles/mlflow.yaml", &trees[1], &why));
    MUST(pst_yaml_load_file("policies/roles/workspace.yaml", &trees[2], &why));
    for (unsigned round = 0; round < 2; round++) {
        if (apply_trees(w, w->store, all, 3) != PST_OK)
            fail_msg("%s %s", w->error.where, w->error.message);
        assert_int_equal(w->report.warnings, 0);
        assert_int_equal(w->report.revision.n, 1);
        assert_int_equal(w->report.added, round == 0 ? 14 : 0);
    }
    MUST(pst_store_status(w->store, &st, &why));
    assert_int_equal(st.roles, 14);
    assert_true(st.permissions >= 625);

    struct pst_model *model;
    struct pst_revision r;
    struct pst_policy *policy;
    MUST(pst_store_load_model(w->store, &model, &r, &why));
    MUST(pst_policy_compile(model, &policy, &why));
    pst_policy_destroy(policy);
    pst_store_free_model(model);
    for (size_t i = 0; i < 3; i++)
        pst_tree_fini(&trees[i]);
}

/* Names that YAML readers like to take for something else, and everything that can be said. */
static const char WORLD[] =
    "workspaces:\n"
    "  - {name: \"1e3\", kind: project}\n"
    "  - {name: \"null\", kind: environment, organization: \"Acme: \\\"R&D\\\" #1\"}\n"
    "  - {name: blue, kind: default}\n"
    "roles:\n"
    "  - {name: \"yes\", permissions: [{entity: \"*\", access: [OWNER]}]}\n"
    "  - name: all\n"
    "    workspace: blue\n"
    "    permissions:\n"
    "      - {entity: pipelines, id: 2222, deny: [list]}\n"
    "      - {entity: pipelines, id: \"\", allow: [list]}\n"
    "      - {entity: \"postern:x\", id: \"a b/c#\\u00e9\", level: MANAGE}\n"
    "      - {entity: Block, access: 0}\n"
    "      - {entity: Block, access: null}\n"
    "      - {entity: Block, access: null}\n"
    "      - entity: Pipeline\n"
    "        access: [LIST, READ, WRITE, QUERY]\n"
    "        query_attributes: [\"a,b\", \"[c]\", \"*\", \",\", \"\\u2028\"]\n"
    "        read_attributes: [name]\n"
    "        write_attributes: [\"x y\"]\n"
    "        conditions: [HAS_NOTEBOOK_EDIT_ACCESS, USER_OWNS_ENTITY]\n"
    "        entity_type: streaming\n"
    "        attributes_only: true\n"
    "        scope: pipeline\n"
    "      - {direct: true, scope: project, id: u1, access: [VIEWER]}\n"
    "  - {name: all}\n"
    "  - {name: \"role \\\\ with back\\\\slash\", builtin: true}\n"
    "users:\n"
    "  - name: \"on\"\n"
    "    email: a@x.test\n"
    "    disabled: true\n"
    "    legacy_level: 2147483652\n"
    "    sessions_from: 1700000000\n"
    "    identities: [{issuer: \"https://idp.test/\", subject: \"0x1F\"}, {issuer: i, subject: "
    "\"~\"}]\n"
    "  - {name: \"- x\"}\n"
    "  - {name: \"a\\u0085b\\u009b\\u2028\\u2029\\ufeff\\U0001ffffc\\u00a0\"}\n"
    "bindings:\n"
    "  - {user: \"on\", role: all, workspace: blue}\n"
    "  - {user: \"on\", role: all, role_workspace: \"\", workspace: blue}\n"
    "  - {user: \"on\", role: all, role_workspace: blue}\n"
    "  - {user: \"- x\", role: all}\n"
    "  - {user: \"- x\", role: \"yes\", workspace: \"null\"}\n";

static void test_round_trip(void **state)
{
    struct world *w = *state;
    struct place other;

    if (apply_text(w, w->store, WORLD) != PST_OK)
        fail_msg("%s %s", w->error.where, w->error.message);
    char *first = export_of(w->store);

    /* Its own store has nothing to do with it, not even under prune and diff. */
    assert_int_equal(apply_text(w, w->store, first), PST_OK);
    assert_int_equal(w->report.added + w->report.changed + w->report.removed, 0);
    struct pst_tree tree;
    const struct pst_tree *trees[] = {&tree};
    struct pst_apply_options options = {.actor = PST_LIT("t")};
    MUST(pst_yaml_load_text(PST_LIT("e.yaml"), text_of(first), &tree, &why));
    pst_apply_report_fini(&w->report);
    MUST(pst_diff(w->store, trees, 1, &options, &why, &w->report));
    assert_int_equal(w->report.added + w->report.changed + w->report.removed, 0);
    pst_tree_fini(&tree);

    /* An empty store becomes the same. */
    place_make(&other);
    struct pst_store *copy = place_open(&other, PST_STORE_CREATE);
    if (apply_text(w, copy, first) != PST_OK)
        fail_msg("%s %s", w->error.where, w->error.message);
    char *second = export_of(copy);
    assert_string_equal(first, second);
    free(first);
    free(second);
    pst_store_close(copy);
    place_drop(&other);
}

static void test_faults_name_the_line(void **state)
{
    struct world *w = *state;

    assert_int_equal(apply_text(w, w->store,
                                "roles:\n  - name: r\n    permissions:\n"
                                "      - entity: x\n        access: [LIST, LOOK]\n"),
                     PST_E_INVALID);
    assert_string_equal(w->error.where, "t.yaml:5:roles[0].permissions[0].access[1]");
    assert_int_equal(apply_text(w, w->store, "bindings:\n  - user: nobody\n    role: none\n"),
                     PST_E_INVALID);
    assert_string_equal(w->error.where, "t.yaml:2:bindings[0]");
    assert_int_equal(apply_text(w, w->store, ""), PST_OK); /* an empty file says nothing */
    assert_int_equal(w->report.count, 0);
}

/* What prune deletes is told by the names that tell it from others, and a user may get another
 * name: its identities are free by the time they are declared again. */
static void test_prune(void **state)
{
    struct world *w = *state;
    struct pst_tree tree;
    const struct pst_tree *trees[] = {&tree};
    const struct pst_apply_options options = {.actor = PST_LIT("t"), .prune = true};
    static const char *const TOLD[] = {"user alicia",
                                       "identity alicia",
                                       "binding alicia blue/reader in blue",
                                       "binding alice blue/reader in blue",
                                       "user alice",
                                       "role red/reader"};

    if (apply_text(w, w->store,
                   "workspaces: [{name: blue}, {name: red}]\n"
                   "roles: [{name: reader}, {name: reader, workspace: blue},\n"
                   "  {name: reader, workspace: red}]\n"
                   "users: [{name: alice, identities: [{issuer: i, subject: s}]}]\n"
                   "bindings: [{user: alice, role: reader, workspace: blue}]\n") != PST_OK)
        fail_msg("%s %s", w->error.where, w->error.message);
    MUST(pst_yaml_load_text(
        PST_LIT("t.yaml"),
        PST_LIT("roles: [{name: reader}, {name: reader, workspace: blue}]\n"
                "users: [{name: alicia, identities: [{issuer: i, subject: s}]}]\n"
                "bindings: [{user: alicia, role: reader, workspace: blue}]\n"),
        &tree, &why));
    pst_apply_report_fini(&w->report);
    if (pst_apply(w->store, trees, 1, &options, &w->error, &w->report) != PST_OK)
        fail_msg("%s %s", w->error.where, w->error.message);
    pst_tree_fini(&tree);
    assert_int_equal(w->report.count, sizeof(TOLD) / sizeof(TOLD[0]));
    for (size_t i = 0; i < w->report.count; i++) {
        char line[128];
        (void)snprintf(line, sizeof(line), "%s %s", w->report.edits[i].kind,
                       w->report.edits[i].name);
        assert_string_equal(line, TOLD[i]);
    }
}

/* A program that reads the report gets whole names. */
static void test_report_is_whole(void **state)
{
    struct world *w = *state;
    char id[1025], text[1200], *json;
    size_t len;
    FILE *out = open_memstream(&json, &len);

    memset(id, 'x', sizeof(id));
    for (size_t i = 0; i + 2 < sizeof(id); i += 3)
        memcpy(id + i, "\u65e5", 3);
    id[1023] = '\0';
    MUST(apply_text(w, w->store, "roles: [{name: r}]\n"));
    (void)snprintf(text, sizeof(text),
                   "roles: [{name: r, permissions: [{entity: e, id: %s, allow: [list]}]}]\n", id);
    MUST(apply_text(w, w->store, text));
    MUST(pst_report_json(&w->report, false, out));
    (void)fclose(out);
    assert_non_null(strstr(json, id));
    free(json);
}

static void test_one_value_from_two_files(void **state)
{
    struct world *w = *state;
    struct pst_tree trees[2];
    const struct pst_tree *all[] = {&trees[0], &trees[1]};

    MUST(pst_yaml_load_text(PST_LIT("a.yaml"), PST_LIT("max_staleness_s: 5\n"), &trees[0], &why));
    MUST(pst_yaml_load_text(PST_LIT("b.yaml"), PST_LIT("\nmax_staleness_s: 7\n"), &trees[1], &why));
    assert_int_equal(apply_trees(w, w->store, all, 2), PST_E_INVALID);
    assert_string_equal(w->error.where, "b.yaml:2:max_staleness_s");
    pst_tree_fini(&trees[0]);
    pst_tree_fini(&trees[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shipped_roles, make, drop),
        cmocka_unit_test_setup_teardown(test_round_trip, make, drop),
        cmocka_unit_test_setup_teardown(test_faults_name_the_line, make, drop),
        cmocka_unit_test_setup_teardown(test_prune, make, drop),
        cmocka_unit_test_setup_teardown(test_report_is_whole, make, drop),
        cmocka_unit_test_setup_teardown(test_one_value_from_two_files, make, drop),
    };
    return cmocka_run_group_tests_name("declare (YAML)", tests, NULL, NULL);
}
