/*
 * The policy files that ship, read as they are and held against the vectors: the level table of
 * Mage, the six Mage roles, the levels, the workspace roles and those of MLflow.
 *
 * Runs in the project's top folder.
 */
#include "../test.h"

#include "../../suites/policy/mage_vectors.h"
#include "postern/app/yaml.h"

#define VECTORS "tests/vectors"

static void load(struct pst_tree *tree, const char *path)
{
    struct pst_error error = {0};

    if (pst_yaml_load_file(path, tree, &error) != PST_OK)
        fail_msg("%s %s", error.where, error.message);
}

static struct pst_presets shipped_presets(void)
{
    struct pst_presets presets;
    struct pst_tree tree;

    load(&tree, "policies/roles/levels.yaml");
    assert_int_equal(pst_presets_load(&tree, &presets, NULL), PST_OK);
    pst_tree_fini(&tree);
    return presets;
}

/* ---- roles of a file, into a model ---- */

static uint64_t access_of(const struct pst_node *p, const struct pst_presets *presets)
{
    const struct pst_node *list = pst_node_get(p, "access"), *level = pst_node_get(p, "level");
    uint64_t access = 0, bits;

    if (level != NULL) {
        assert_true(pst_presets_find(presets, level->text, &access));
        return access;
    }
    assert_non_null(list);
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        bits = pst_access_of(n->text);
        assert_true(bits != 0);
        access |= bits;
    }
    return access;
}

static void add_permission(struct pst_model *model, uint32_t role, const struct pst_tree *tree,
                           const struct pst_node *p, const struct pst_presets *presets)
{
    static const char *const KEYS[] = {"entity",           "access",          "level",
                                       "attributes_only",  "conditions",      "query_attributes",
                                       "write_attributes", "read_attributes", NULL};
    struct pst_bytes names[PST_ATTR_KINDS][MV_LIST_MAX];
    struct pst_permission_row row = {.id = model->permission_count + 1,
                                     .role = role,
                                     .has_access = true,
                                     .access = access_of(p, presets)};
    const struct pst_node *conditions = pst_node_get(p, "conditions");
    bool attributes_only = false;

    assert_int_equal(pst_node_only(tree, p, KEYS, NULL), PST_OK);
    assert_int_equal(pst_node_text(tree, p, "entity", &row.entity, NULL), PST_OK);
    assert_int_equal(pst_node_bool(tree, p, "attributes_only", &attributes_only, NULL), PST_OK);
    row.access |= attributes_only ? PST_A_ATTRIBUTES_ONLY : 0;
    for (const struct pst_node *n = conditions == NULL ? NULL : conditions->first; n != NULL;
         n = n->next) {
        assert_true(pst_condition_of(n->text) != 0);
        row.conditions |= pst_condition_of(n->text);
    }
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        const struct pst_node *list = pst_node_get(p, KEYS[5 + kind]);
        row.attributes[kind] = names[kind];
        for (const struct pst_node *n = list == NULL ? NULL : list->first; n != NULL; n = n->next)
            names[kind][row.attribute_count[kind]++] = n->text;
    }
    assert_int_equal(pst_model_add_permission(model, &row), PST_OK);
}

static void read_roles(struct pst_model *model, const char *path)
{
    struct pst_presets presets = shipped_presets();
    struct pst_tree tree;
    uint32_t id = 0;

    load(&tree, path);
    pst_model_init(model, 64u << 20);
    const struct pst_node *roles = pst_node_get(tree.root, "roles");
    assert_non_null(roles);
    for (const struct pst_node *r = roles->first; r != NULL; r = r->next) {
        struct pst_role_row row = {.id = ++id};
        assert_int_equal(pst_node_text(&tree, r, "name", &row.name, NULL), PST_OK);
        assert_int_equal(pst_model_add_role(model, &row), PST_OK);
        const struct pst_node *permissions = pst_node_get(r, "permissions");
        assert_non_null(permissions);
        for (const struct pst_node *p = permissions->first; p != NULL; p = p->next)
            add_permission(model, id, &tree, p, &presets);
    }
    pst_tree_fini(&tree);
    pst_presets_fini(&presets);
}

/* ---- one user with one role ---- */

struct trial {
    struct pst_model model;
    struct pst_policy *policy;
    struct pst_policy_settings settings;
    enum pst_combining combining;
};

static void trial_init(struct trial *t, const char *path, const char *workspace)
{
    struct pst_workspace_row row = {.id = 1, .name = mv_cstr(workspace)};

    *t = (struct trial){0};
    t->settings.workspaces = true;
    read_roles(&t->model, path);
    assert_int_equal(pst_model_add_workspace(&t->model, &row), PST_OK);
    assert_int_equal(pst_policy_compile(&t->model, &t->policy, NULL), PST_OK);
}

static void trial_fini(struct trial *t)
{
    pst_policy_destroy(t->policy);
    pst_model_fini(&t->model);
}

static bool may(struct trial *t, const char *role, const char *entity, const char *id,
                enum pst_op op)
{
    struct pst_binding binding = {.id = 1, .role = pst_policy_role(t->policy, mv_cstr(role), 0)};
    struct pst_facts facts = {
        .user_id = 7, .name = PST_LIT("u"), .binding_count = 1, .bindings = &binding};
    struct pst_requirement r = {.key_count = 1};
    struct pst_question q = {.policy = t->policy,
                             .settings = &t->settings,
                             .caller = {.facts = &facts},
                             .workspace = 1,
                             .combining = t->combining,
                             .requirements = &r,
                             .requirement_count = 1};
    struct pst_eval_detail detail;

    assert_true(binding.role != 0);
    r.keys[0] = (struct pst_key){.entity = mv_cstr(entity), .op = op};
    if (id != NULL) {
        r.keys[0].id = mv_cstr(id);
        r.keys[0].id_state = PST_ID_KNOWN;
    }
    return pst_eval(&q, &detail) == PST_ALLOW;
}

/* ---- the level table ---- */

static void same_attributes(const struct pst_levels *a, const struct pst_levels *b,
                            struct pst_bytes entity, struct pst_bytes name)
{
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        for (unsigned op = PST_OP_LIST; op <= PST_OP_DELETE; op++) {
            struct pst_level_rule x = pst_levels_attribute(a, entity, (enum pst_op)op,
                                                           (enum pst_attribute_kind)kind, name);
            struct pst_level_rule y = pst_levels_attribute(b, entity, (enum pst_op)op,
                                                           (enum pst_attribute_kind)kind, name);
            if (x.signed_in != y.signed_in || x.signed_out != y.signed_out)
                fail_msg("%.*s %.*s, kind %u, operation %u", (int)entity.len, entity.ptr,
                         (int)name.len, name.ptr, kind, op);
        }
    }
}

static void same_entity(const struct pst_levels *a, const struct pst_levels *b,
                        struct pst_bytes entity)
{
    assert_int_equal(pst_levels_question(a, entity), pst_levels_question(b, entity));
    for (unsigned op = PST_OP_LIST; op <= PST_OP_DELETE; op++) {
        enum pst_op o = (enum pst_op)op;
        struct pst_level_rule x = pst_levels_operation(a, entity, o),
                              y = pst_levels_operation(b, entity, o);
        assert_int_equal(x.signed_in, y.signed_in);
        assert_int_equal(x.signed_out, y.signed_out);
        assert_int_equal(pst_levels_open(a, entity, o, true), pst_levels_open(b, entity, o, true));
        assert_int_equal(pst_levels_open(a, entity, o, false),
                         pst_levels_open(b, entity, o, false));
        assert_int_equal(pst_levels_closed(a, entity, o), pst_levels_closed(b, entity, o));
    }
}

/* Each entity, operation and attribute that the vectors know, and one that they do not. */
static void test_the_level_table_is_that_of_the_vectors(void **state)
{
    json_t *policies = mv_load(VECTORS, "mage_policies.json"), *policy, *table, *rules, *item;
    static const char *const KINDS[] = {"query", "write", "read"};
    const char *name, *op;
    struct pst_levels *expected, *shipped;
    struct pst_error error = {0};
    struct pst_tree tree;
    size_t i, k, compared = 0;

    (void)state;
    assert_non_null(policies);
    expected = mv_levels(policies);
    load(&tree, "policies/profiles/mage-levels.yaml");
    if (pst_levels_load(&tree, &shipped, &error) != PST_OK)
        fail_msg("%s %s", error.where, error.message);
    /* One is Postern's own: Mage asks nobody about event matchers. */
    assert_non_null(pst_node_get(pst_node_get(tree.root, "levels"), "EventMatcher"));
    assert_int_equal(pst_node_get(tree.root, "levels")->count,
                     json_object_size(json_object_get(policies, "entities")) + 1);
    pst_tree_fini(&tree);
    json_object_foreach(json_object_get(policies, "entities"), name, policy)
    {
        same_entity(expected, shipped, mv_cstr(name));
        same_attributes(expected, shipped, mv_cstr(name), PST_LIT("unheard_of"));
        for (size_t kind = 0; kind < 3; kind++) {
            table = json_object_get(policy, KINDS[kind]);
            json_object_foreach(table, op, rules)
            {
                json_array_foreach(rules, i, item)
                {
                    json_t *names = json_object_get(item, "attributes");
                    for (k = 0; k < json_array_size(names); k++, compared++)
                        same_attributes(expected, shipped, mv_cstr(name),
                                        mv_text(json_array_get(names, k)));
                }
            }
        }
    }
    assert_true(compared > 1000);
    pst_levels_free(expected);
    pst_levels_free(shipped);
    json_decref(policies);
}

/* ---- the Mage roles ---- */

static int compare_names(const void *a, const void *b)
{
    const struct pst_bytes *x = a, *y = b;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static bool same_list(const struct pst_permission_row *a, const struct pst_permission_row *b,
                      unsigned kind)
{
    struct pst_bytes x[MV_LIST_MAX], y[MV_LIST_MAX];
    uint32_t n = a->attribute_count[kind];

    if (n != b->attribute_count[kind])
        return false;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = a->attributes[kind][i];
        y[i] = b->attributes[kind][i];
    }
    qsort(x, n, sizeof(*x), compare_names);
    qsort(y, n, sizeof(*y), compare_names);
    for (uint32_t i = 0; i < n; i++)
        if (!pst_bytes_equal(x[i], y[i]))
            return false;
    return true;
}

static bool same_row(const struct pst_permission_row *a, const struct pst_permission_row *b)
{
    return a->access == b->access && a->conditions == b->conditions &&
           pst_bytes_equal(a->entity, b->entity) && same_list(a, b, 0) && same_list(a, b, 1) &&
           same_list(a, b, 2);
}

/* Row by row what Mage seeds, with ATTRIBUTES_ONLY where the vectors mark it and UNLESS_CONDITIONS
 * wherever conditions are stored. */
static void test_the_mage_roles_hold_the_seeded_rows(void **state)
{
    json_t *defaults = mv_load(VECTORS, "mage_default_roles.json"), *rows;
    struct pst_model shipped, expected;
    const char *name;
    uint32_t attributes_only = 0;

    (void)state;
    assert_non_null(defaults);
    read_roles(&shipped, "policies/roles/mage.yaml");
    pst_model_init(&expected, 64u << 20);
    for (uint32_t r = 0; r < shipped.role_count; r++) {
        bool found = false;
        json_object_foreach(json_object_get(defaults, "roles"), name, rows)
        {
            if (!pst_bytes_equal(shipped.roles[r].name, mv_cstr(name)))
                continue;
            found = true;
            for (size_t i = 0; i < json_array_size(rows); i++)
                mv_permission(&expected, r + 1, false, json_array_get(rows, i), true);
        }
        assert_true(found);
    }
    assert_int_equal(shipped.role_count, 6);
    assert_int_equal(expected.permission_count, 625);
    assert_int_equal(shipped.permission_count, 625);
    for (uint32_t i = 0; i < 625; i++) {
        assert_int_equal(shipped.permissions[i].role, expected.permissions[i].role);
        if (!same_row(&shipped.permissions[i], &expected.permissions[i]))
            fail_msg("row %u of role %u", i, shipped.permissions[i].role);
        attributes_only += (shipped.permissions[i].access & PST_A_ATTRIBUTES_ONLY) != 0;
    }
    assert_int_equal(attributes_only, 400);
    pst_model_fini(&shipped);
    pst_model_fini(&expected);
    json_decref(defaults);
}

static const struct {
    const char *name;
    enum pst_level level;
} MAGE_ROLES[] = {
    {"Viewer default permissions", PST_LEVEL_VIEWER},
    {"Editor default permissions", PST_LEVEL_EDITOR},
    {"Editor with notebook edit access", PST_LEVEL_EDITOR_NOTEBOOK},
    {"Editor with pipeline edit access", PST_LEVEL_EDITOR_PIPELINE},
    {"Admin default permissions", PST_LEVEL_ADMIN},
    {"Owner default permissions", PST_LEVEL_OWNER},
};

/* What the level table says of a role, with the two exceptions of the seeding. */
static bool is_due(const struct pst_levels *levels, size_t role, const char *entity, enum pst_op op)
{
    bool user = strcmp(entity, "User") == 0 && (op == PST_OP_DETAIL || op == PST_OP_UPDATE);

    if (user) /* the user itself (not here: the id is another's), or an admin */
        return MAGE_ROLES[role].level == PST_LEVEL_ADMIN;
    if (strcmp(entity, "Seed") == 0 && op == PST_OP_CREATE)
        return false;
    return (pst_levels_operation(levels, mv_cstr(entity), op).signed_in >> MAGE_ROLES[role].level &
            1) != 0;
}

static void test_the_mage_roles_allow_the_level_table_and_no_more(void **state)
{
    json_t *policies = mv_load(VECTORS, "mage_policies.json"), *policy;
    struct pst_levels *levels = mv_levels(policies);
    struct trial t;
    const char *entity;
    unsigned due = 0;

    (void)state;
    trial_init(&t, "policies/roles/mage.yaml", "blue");
    for (size_t role = 0; role < 6; role++) {
        json_object_foreach(json_object_get(policies, "entities"), entity, policy)
        {
            for (unsigned o = PST_OP_LIST; o <= PST_OP_DELETE; o++) {
                enum pst_op op = (enum pst_op)o;
                const char *id = op == PST_OP_LIST || op == PST_OP_CREATE ? NULL : "9";
                bool expected = is_due(levels, role, entity, op);
                due += expected;
                if (may(&t, MAGE_ROLES[role].name, entity, id, op) != expected)
                    fail_msg("%s: %s %s is %s", MAGE_ROLES[role].name, pst_op_name(op), entity,
                             expected ? "refused" : "allowed");
            }
        }
    }
    /* the table's rules by level, without Seed, and an admin's User DETAIL and UPDATE */
    assert_int_equal(due, 114 + 61 + 10 + 19 + 16 + (6 - 1) + 2);
    trial_fini(&t);
    pst_levels_free(levels);
    json_decref(policies);
}

static void test_conditions_of_the_mage_roles_hold(void **state)
{
    struct trial t;
    const char *viewer = MAGE_ROLES[0].name, *notebook = MAGE_ROLES[2].name,
               *pipeline = MAGE_ROLES[3].name;

    (void)state;
    trial_init(&t, "policies/roles/mage.yaml", "blue");
    assert_true(may(&t, viewer, "User", "7", PST_OP_UPDATE)); /* itself */
    assert_false(may(&t, viewer, "User", "9", PST_OP_UPDATE));
    assert_false(may(&t, viewer, "User", NULL, PST_OP_LIST));
    assert_true(may(&t, notebook, "Variable", NULL, PST_OP_CREATE));
    assert_true(may(&t, pipeline, "Pipeline", NULL, PST_OP_CREATE));
    t.settings.notebook_edit = 2;
    assert_true(may(&t, notebook, "Variable", NULL, PST_OP_CREATE));
    assert_false(may(&t, pipeline, "Pipeline", NULL, PST_OP_CREATE));
    t.settings.notebook_edit = 1;
    assert_false(may(&t, notebook, "Variable", NULL, PST_OP_CREATE));
    assert_false(may(&t, pipeline, "Pipeline", NULL, PST_OP_CREATE));
    trial_fini(&t);
}

/* ---- levels, MLflow, workspaces ---- */

static void test_the_levels_are_nested(void **state)
{
    struct pst_presets p = shipped_presets();
    uint64_t read, use, edit, manage, none, deny;

    (void)state;
    assert_true(pst_presets_find(&p, PST_LIT("READ"), &read));
    assert_true(pst_presets_find(&p, PST_LIT("USE"), &use));
    assert_true(pst_presets_find(&p, PST_LIT("EDIT"), &edit));
    assert_true(pst_presets_find(&p, PST_LIT("MANAGE"), &manage));
    assert_true(pst_presets_find(&p, PST_LIT("NO_PERMISSIONS"), &none));
    assert_true(pst_presets_find(&p, PST_LIT("DENY"), &deny));
    assert_int_equal(p.count, 6);
    assert_true(read == (PST_A_LIST | PST_A_DETAIL));
    assert_true(use == (read | PST_A_USE));
    assert_true(edit == (use | PST_A_UPDATE));
    assert_true(manage == (edit | PST_A_CREATE | PST_A_DELETE | PST_A_MANAGE));
    assert_true(none == PST_A_SPEAKS);
    assert_true(deny == (PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_USE | PST_A_DISABLE_MANAGE));
    pst_presets_fini(&p);
}

static void test_the_mlflow_roles(void **state)
{
    static const char *const TYPES[] = {
        "experiment",       "registered_model",         "prompt",    "gateway_secret",
        "gateway_endpoint", "gateway_model_definition", "mcp_server"};
    struct trial t;

    (void)state;
    trial_init(&t, "policies/roles/mlflow.yaml", "team-a");
    t.combining = PST_MOST_SPECIFIC;
    for (size_t i = 0; i < sizeof(TYPES) / sizeof(TYPES[0]); i++) {
        assert_true(may(&t, "reader", TYPES[i], "1", PST_OP_DETAIL));
        assert_false(may(&t, "reader", TYPES[i], "1", PST_OP_UPDATE));
        assert_true(may(&t, "editor", TYPES[i], "1", PST_OP_UPDATE));
        assert_true(may(&t, "editor", TYPES[i], "1", PST_OP_USE));
        assert_false(may(&t, "editor", TYPES[i], "1", PST_OP_DELETE));
        assert_true(may(&t, "manager", TYPES[i], "1", PST_OP_DELETE));
        assert_true(may(&t, "admin", TYPES[i], "1", PST_OP_MANAGE));
    }
    assert_false(may(&t, "editor", "run", NULL, PST_OP_DETAIL)); /* the tiers below stay silent */
    assert_false(may(&t, "editor", "scorer", "1/x", PST_OP_DETAIL));
    trial_fini(&t);
}

static void test_the_workspace_roles(void **state)
{
    static const struct {
        const char *role;
        bool read, create, secrets, members, delete;
    } TABLE[] = {
        {"workspace viewer", true, false, false, false, false},
        {"workspace member", true, true, false, false, false},
        {"workspace admin", true, true, true, true, false},
        {"workspace owner", true, true, true, true, true},
    };
    struct trial t;

    (void)state;
    trial_init(&t, "policies/roles/workspace.yaml", "blue");
    for (size_t i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); i++) {
        const char *role = TABLE[i].role;
        assert_int_equal(may(&t, role, "things", NULL, PST_OP_LIST), TABLE[i].read);
        assert_int_equal(may(&t, role, "things", "1", PST_OP_DETAIL), TABLE[i].read);
        assert_int_equal(may(&t, role, "things", NULL, PST_OP_CREATE), TABLE[i].create);
        assert_int_equal(may(&t, role, "postern:secret", "1", PST_OP_DETAIL), TABLE[i].secrets);
        assert_int_equal(may(&t, role, "postern:secret", "1", PST_OP_UPDATE), TABLE[i].secrets);
        assert_int_equal(may(&t, role, "postern:member", NULL, PST_OP_CREATE), TABLE[i].members);
        assert_int_equal(may(&t, role, "postern:workspace", "blue", PST_OP_DELETE),
                         TABLE[i].delete);
    }
    trial_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_level_table_is_that_of_the_vectors),
        cmocka_unit_test(test_the_mage_roles_hold_the_seeded_rows),
        cmocka_unit_test(test_the_mage_roles_allow_the_level_table_and_no_more),
        cmocka_unit_test(test_conditions_of_the_mage_roles_hold),
        cmocka_unit_test(test_the_levels_are_nested),
        cmocka_unit_test(test_the_mlflow_roles),
        cmocka_unit_test(test_the_workspace_roles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
