/* Declarations: apply, dry run, prune, diff, and the message of every fault. */
/* wrap: malloc realloc pst_change_begin */
#include "../test.h"

#include "../store/place.h"
#include "flow.h"
#include "postern/manage/declare.h"

void *__real_malloc(size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *ptr, size_t size);

static long fail_at = -1; /* the so many-th allocation from now fails; -1: none */

static bool fails(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return fails() ? NULL : __real_realloc(ptr, size);
}

enum pst_status __real_pst_change_begin(struct pst_store *store, struct pst_bytes actor,
                                        struct pst_change **out, struct pst_error *error);
enum pst_status __wrap_pst_change_begin(struct pst_store *store, struct pst_bytes actor,
                                        struct pst_change **out, struct pst_error *error);

/* Somebody who commits behind each of so many looks at the store, before the change begins. */
static struct pst_store *intruder;
static unsigned intrusions;

static void intrude(void)
{
    struct pst_change *c;
    struct pst_row_user row;
    struct pst_revision r;

    MUST(__real_pst_change_begin(intruder, PST_LIT("intruder"), &c, &why));
    MUST(pst_store_find_user(intruder, PST_LIT("alice"), &row, &why));
    row.disabled = intrusions == 0; /* the last time, against what is declared */
    row.sessions_from++;
    MUST(pst_change_put_user(c, &row, &why));
    MUST(pst_change_commit(c, &r, &why));
}

enum pst_status __wrap_pst_change_begin(struct pst_store *store, struct pst_bytes actor,
                                        struct pst_change **out, struct pst_error *error)
{
    if (intrusions > 0) {
        intrusions--;
        intrude();
    }
    return __real_pst_change_begin(store, actor, out, error);
}

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
    flow_parse(&levels, "levels.yaml", "{levels: {READ: [LIST, DETAIL], EDIT: [READ, UPDATE]}}");
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

static enum pst_status apply_with(struct world *w, const char *text, bool dry_run, bool prune)
{
    struct pst_tree tree;
    const struct pst_tree *trees[] = {&tree};
    struct pst_apply_options options = {
        .dry_run = dry_run, .prune = prune, .actor = PST_LIT("test"), .presets = &w->presets};

    flow_parse(&tree, "f.yaml", text);
    pst_apply_report_fini(&w->report);
    w->error = (struct pst_error){0};
    enum pst_status status = pst_apply(w->store, trees, 1, &options, &w->error, &w->report);
    pst_tree_fini(&tree);
    return status;
}

static void apply_ok(struct world *w, const char *text)
{
    if (apply_with(w, text, false, false) != PST_OK)
        fail_msg("%s %s", w->error.where, w->error.message);
}

static uint64_t head(struct world *w)
{
    struct pst_revision r;
    MUST(pst_store_revision(w->store, &r, &why));
    return r.n;
}

static bool has_edit(const struct world *w, enum pst_edit_action action, const char *kind,
                     const char *name, const char *detail_part)
{
    for (size_t i = 0; i < w->report.count; i++) {
        const struct pst_edit *e = &w->report.edits[i];
        if (e->action == action && strcmp(e->kind, kind) == 0 && strcmp(e->name, name) == 0 &&
            strstr(e->detail, detail_part) != NULL)
            return true;
    }
    return false;
}

static const char BASE[] =
    "{workspaces: [{name: blue, kind: project}, {name: default, kind: default, organization: "
    "acme}],\n"
    " roles: [{name: all, workspace: blue, permissions: [\n"
    "   {entity: \"*\", allow: [list, detail, create, update, delete]},\n"
    "   {entity: pipelines, id: 22, deny: [list, delete]},\n"
    "   {entity: experiment, level: EDIT},\n"
    "   {entity: Pipeline, access: [LIST, READ], read_attributes: [name, tags], attributes_only: "
    "true,\n"
    "    conditions: [HAS_NOTEBOOK_EDIT_ACCESS], scope: pipeline},\n"
    "   {entity: Block, access: 8208}, {entity: Nothing, access: null},\n"
    "   {direct: true, scope: project, id: p1, access: [ADMIN]}]},\n"
    "  {name: viewer}],\n"
    " users: [{name: alice, email: \"a@x.test\", identities: [{issuer: \"https://idp.test/\", "
    "subject: alice}]},\n"
    "  {name: bob}],\n"
    " bindings: [{user: alice, role: all, workspace: blue}, {user: bob, role: viewer}]}";

struct found_rows {
    struct pst_row_permission rows[16];
    char texts[16][64];
    size_t count;
};

static enum pst_status on_row(void *ctx, const struct pst_row_permission *row)
{
    struct found_rows *f = ctx;

    assert_true(f->count < 16);
    f->rows[f->count] = *row;
    (void)snprintf(f->texts[f->count], 64, "%.*s", (int)row->entity.len, row->entity.ptr);
    f->count++;
    return PST_OK;
}

static const struct pst_row_permission *row_of(const struct found_rows *f, const char *entity)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->texts[i], entity) == 0)
            return &f->rows[i];
    fail_msg("no row of %s", entity);
    return NULL;
}

static void test_apply(void **state)
{
    struct world *w = *state;
    struct found_rows f = {0};

    apply_ok(w, BASE);
    assert_int_equal(w->report.revision.n, 1);
    assert_int_equal(w->report.added,
                     9); /* 2 workspaces, 2 roles, 2 users, 1 identity, 2 bindings */
    assert_int_equal(w->report.changed + w->report.removed + w->report.warnings, 0);
    assert_true(has_edit(w, PST_EDIT_ADD, "role", "blue/all", "7 permissions"));

    MUST(pst_store_each_permission(w->store, 0, on_row, &f, &why));
    assert_int_equal(f.count, 7);
    assert_int_equal(row_of(&f, "*")->access,
                     PST_A_LIST | PST_A_DETAIL | PST_A_CREATE | PST_A_UPDATE | PST_A_DELETE);
    assert_int_equal(row_of(&f, "pipelines")->access, PST_A_DISABLE_LIST | PST_A_DISABLE_DELETE);
    assert_true(row_of(&f, "pipelines")->has_entity_id);
    assert_int_equal(row_of(&f, "experiment")->access, PST_A_LIST | PST_A_DETAIL | PST_A_UPDATE);
    assert_int_equal(row_of(&f, "Pipeline")->access,
                     PST_A_LIST | PST_A_READ | PST_A_ATTRIBUTES_ONLY);
    assert_int_equal(row_of(&f, "Block")->access, 8208);
    assert_false(row_of(&f, "Nothing")->has_access);
    assert_true(row_of(&f, "")->direct);

    struct pst_facts *facts = facts_of(w->store, "alice");
    assert_int_equal(facts->binding_count, 1);
    assert_int_not_equal(facts->bindings[0].workspace, 0);
    pst_facts_free(facts);

    struct pst_model *m;
    struct pst_revision r;
    MUST(pst_store_load_model(w->store, &m, &r, &why));
    assert_int_equal(m->permission_count, 7);
    pst_store_free_model(m);
}

static void test_second_apply_leaves_no_trace(void **state)
{
    struct world *w = *state;

    apply_ok(w, BASE);
    uint64_t n = head(w);
    apply_ok(w, BASE);
    assert_int_equal(head(w), n);
    assert_int_equal(w->report.added + w->report.changed + w->report.removed, 0);
    assert_int_equal(w->report.revision.n, n);
    assert_int_equal(apply_with(w, BASE, false, true), PST_OK); /* nor with prune */
    assert_int_equal(w->report.count, 0);
    assert_int_equal(head(w), n);
}

static void test_dry_run(void **state)
{
    struct world *w = *state;

    assert_int_equal(apply_with(w, BASE, true, false), PST_OK);
    assert_int_equal(w->report.added, 9);
    assert_int_equal(head(w), 0);
    struct pst_store_status st;
    MUST(pst_store_status(w->store, &st, &why));
    assert_int_equal(st.users + st.roles + st.workspaces + st.permissions + st.bindings, 0);
    MUST(pst_store_check(w->store, &why));
}

static void test_changes(void **state)
{
    struct world *w = *state;

    apply_ok(w, BASE);
    apply_ok(w, "{workspaces: [{name: blue, kind: environment}],"
                " roles: [{name: all, workspace: blue, permissions: [{entity: Block, access: 8208},"
                "   {entity: New, level: READ}]}],"
                " users: [{name: alice, disabled: true, identities: [{issuer: "
                "\"https://new.test/\", subject: a}]}]}");
    assert_true(has_edit(w, PST_EDIT_CHANGE, "workspace", "blue", "environment"));
    assert_true(has_edit(w, PST_EDIT_ADD, "permission", "blue/all", "New LIST,DETAIL"));
    assert_true(has_edit(w, PST_EDIT_REMOVE, "permission", "blue/all", "pipelines/22"));
    assert_true(has_edit(w, PST_EDIT_CHANGE, "user", "alice", "disabled"));
    assert_true(has_edit(w, PST_EDIT_REMOVE, "identity", "alice", "https://idp.test/ alice"));
    assert_true(has_edit(w, PST_EDIT_ADD, "identity", "alice", "https://new.test/ a"));
    assert_false(has_edit(w, PST_EDIT_REMOVE, "permission", "blue/all", "Block"));
    assert_int_equal(w->report.removed, 7);

    /* What is not said stays: alice keeps her address, her identities, and stays disabled. */
    uint64_t n = head(w);
    apply_ok(w, "{users: [{name: alice}], roles: [{name: all, workspace: blue}], workspaces: "
                "[{name: blue}]}");
    assert_int_equal(head(w), n);
    apply_ok(w, "{users: [{name: alice, disabled: false}]}");
    assert_true(has_edit(w, PST_EDIT_CHANGE, "user", "alice", "enabled"));
    struct pst_row_user u;
    MUST(pst_store_find_user(w->store, PST_LIT("alice"), &u, &why));
    assert_true(pst_bytes_equal(u.email, PST_LIT("a@x.test")));
}

/* B is policy, too: one value for the fleet, numbered like any change. */
static void test_bound(void **state)
{
    struct world *w = *state;
    uint32_t seconds;

    MUST(pst_store_bound(w->store, &seconds, &why));
    assert_int_equal(seconds, 5);
    uint64_t n = head(w);
    apply_ok(w, "{max_staleness_s: 9}");
    assert_int_equal(head(w), n + 1);
    MUST(pst_store_bound(w->store, &seconds, &why));
    assert_int_equal(seconds, 9);
    apply_ok(w, "{max_staleness_s: 9}"); /* and the second time it is none */
    apply_ok(w, "{users: [{name: somebody}]}");
    assert_int_equal(head(w), n + 2);
    assert_int_equal(apply_with(w, "{max_staleness_s: 0}", false, false), PST_E_INVALID);
    assert_int_equal(apply_with(w, "{max_staleness_s: 61}", false, false), PST_E_INVALID);
}

static void test_identity_moves(void **state)
{
    struct world *w = *state;

    apply_ok(
        w,
        "{users: [{name: a, identities: [{issuer: i, subject: s}]}, {name: b, identities: []}]}");
    assert_int_equal(apply_with(w,
                                "{users: [{name: b,\n identities: [\n{issuer: i, subject: s}]}]}",
                                false, false),
                     PST_E_INVALID);
    assert_string_equal(w->error.where, "f.yaml:3:users[0].identities[0]");
    assert_non_null(strstr(w->error.message, "belongs to another user"));
    apply_ok(
        w,
        "{users: [{name: b, identities: [{issuer: i, subject: s}]}, {name: a, identities: []}]}");
    assert_int_equal(w->report.removed, 1);
    assert_int_equal(w->report.added, 1);
}

static void test_prune(void **state)
{
    struct world *w = *state;

    apply_ok(w, BASE);
    apply_ok(w, "{roles: [{name: shipped, builtin: true}]}");
    /* Only bindings are spoken of: only bindings go. */
    assert_int_equal(apply_with(w, "{bindings: [{user: bob, role: viewer}]}", false, true), PST_OK);
    assert_int_equal(w->report.removed, 1);
    assert_true(has_edit(w, PST_EDIT_REMOVE, "binding", "alice blue/all in blue", ""));
    assert_int_equal(apply_with(w,
                                "{users: [{name: bob}], roles: [{name: viewer}], workspaces: []}",
                                false, true),
                     PST_OK);
    assert_true(has_edit(w, PST_EDIT_REMOVE, "user", "alice", ""));
    assert_true(has_edit(w, PST_EDIT_REMOVE, "role", "blue/all", ""));
    assert_false(has_edit(w, PST_EDIT_REMOVE, "role", "shipped", ""));
    assert_true(has_edit(w, PST_EDIT_REMOVE, "workspace", "blue", ""));
    struct pst_store_status st;
    MUST(pst_store_status(w->store, &st, &why));
    assert_int_equal(st.users, 1);
    assert_int_equal(st.roles, 2);
    assert_int_equal(st.workspaces, 0);
    assert_int_equal(st.permissions, 0);
    assert_int_equal(st.bindings, 1);
    MUST(pst_store_check(w->store, &why));
}

static bool is_bound(const struct pst_facts *f, uint32_t role, uint32_t workspace)
{
    for (uint32_t i = 0; i < f->binding_count; i++)
        if (f->bindings[i].role == role && f->bindings[i].workspace == workspace)
            return true;
    return false;
}

static void test_binding_names_its_role(void **state)
{
    struct world *w = *state;

    apply_ok(w,
             "{workspaces: [{name: blue}, {name: red}],"
             " roles: [{name: r}, {name: r, workspace: blue}, {name: g}], users: [{name: u}],"
             " bindings: [{user: u, role: r, workspace: blue}, {user: u, role: r, workspace: red},"
             "  {user: u, role: g, workspace: blue}, {user: u, role: r, role_workspace: \"\", "
             "workspace: blue}]}");
    struct pst_row_user u;
    struct pst_row_role mine, global;
    struct pst_row_workspace blue;
    MUST(pst_store_find_user(w->store, PST_LIT("u"), &u, &why));
    MUST(pst_store_find_workspace(w->store, PST_LIT("blue"), &blue, &why));
    MUST(pst_store_find_role(w->store, PST_LIT("r"), blue.id, &mine, &why));
    MUST(pst_store_find_role(w->store, PST_LIT("r"), 0, &global, &why));
    struct pst_who who = {.kind = PST_WHO_ID, .id = u.id};
    struct pst_facts *f;
    struct pst_revision r;
    MUST(pst_store_load_facts(w->store, &who, &f, &r, &why));
    assert_int_equal(f->binding_count, 4);
    struct pst_row_workspace red;
    MUST(pst_store_find_workspace(w->store, PST_LIT("red"), &red, &why));
    assert_true(is_bound(f, mine.id, blue.id));   /* the workspace's own comes first */
    assert_true(is_bound(f, global.id, red.id));  /* red has none of that name */
    assert_true(is_bound(f, global.id, blue.id)); /* said so */
    pst_facts_free(f);
}

static void test_faults(void **state)
{
    static const struct {
        const char *text, *where, *says;
    } CASES[] = {
        {"{rolls: []}", "f.yaml:1:rolls", "unknown key"},
        {"[]", "f.yaml:1", "map"},
        {"{roles: {name: x}}", "f.yaml:1:roles", "expected a list"},
        {"{\nroles: [\n{name: x,\n colour: red}]}", "f.yaml:4:roles[0].colour", "unknown key"},
        {"{roles: [{workspace: x}]}", "f.yaml:1:roles[0]", "name is missing"},
        {"{roles: [{name: \"a,b\", permissions: []}]}", "f.yaml:1:roles[0].name",
         "no blank at its ends and no comma"},
        {"{users: [{name: \"a \"}]}", "f.yaml:1:users[0].name", "no blank at its ends"},
        {"{users: [{name: \" a\"}]}", "f.yaml:1:users[0].name", "no blank at its ends"},
        {"{roles: [\n{name: x, workspace: nowhere}]}", "f.yaml:2:roles[0]",
         "no workspace \"nowhere\""},
        {"{roles: [{name: x}, {name: x}]}", "f.yaml:1:roles[", "declared twice"},
        {"{users: [{name: x},\n{name: x}]}", "f.yaml:2:users[1]", "declared twice"},
        {"{workspaces: [{name: Blue}]}", "f.yaml:1:workspaces[0].name", "a-z"},
        {"{workspaces: [{name: b, kind: galaxy}]}", "f.yaml:1:workspaces[0].kind", "none of"},
        {"{workspaces: [{name: b},\n{name: b}]}", "f.yaml:2:workspaces[1]", "declared twice"},
        {"{users: [{name: u, disabled: maybe}]}", "f.yaml:1:users[0].disabled", "true or false"},
        {"{users: [{name: u, legacy_level: 4294967296}]}", "f.yaml:1:users[0].legacy_level",
         "whole number"},
        {"{users: [{name: u, identities: [{issuer: i}]}]}", "f.yaml:1:users[0].identities[0]",
         "subject is missing"},
        {"{bindings: [\n\n{user: ghost, role: r}]}", "f.yaml:3:bindings[0]", "no user \"ghost\""},
        {"{users: [{name: u}],\nbindings: [{user: u, role: ghost}]}", "f.yaml:2:bindings[0]",
         "no role \"ghost\""},
        {"{users: [{name: u}], roles: [{name: r}],\nbindings: [{user: u, role: r, workspace: w}]}",
         "f.yaml:2:bindings[0]", "no workspace \"w\""},
        {"{bindings: [{user: u, role: r, workspace: \"\"}]}", "f.yaml:1:bindings[0].workspace",
         "everywhere"},
        {"{roles: [{name: r, permissions: [\n{entity: e}]}]}", "f.yaml:2:roles[0].permissions[0]",
         "needs access"},
        {"{roles: [{name: r, permissions: [{access: [LIST]}]}]}",
         "f.yaml:1:roles[0].permissions[0]", "needs an entity"},
        {"{roles: [{name: r, permissions: [{entity: e,\naccess: [LIST,\nLOOK]}]}]}",
         "f.yaml:3:roles[0].permissions[0].access[1]", "\"LOOK\" is no access bit"},
        {"{roles: [{name: r, permissions: [{entity: e, access: 256}]}]}",
         "f.yaml:1:roles[0].permissions[0].access", "mean nothing"},
        {"{roles: [{name: r, permissions: [{entity: e, access: -1}]}]}",
         "f.yaml:1:roles[0].permissions[0].access", "expected"},
        {"{roles: [{name: r, permissions: [{entity: e, access: {}}]}]}",
         "f.yaml:1:roles[0].permissions[0].access", "expected"},
        {"{roles: [{name: r, permissions: [{entity: e, allow: [fly]}]}]}",
         "f.yaml:1:roles[0].permissions[0].allow[0]", "no operation"},
        {"{roles: [{name: r, permissions: [{entity: e, deny: [not_denied]}]}]}",
         "f.yaml:1:roles[0].permissions[0].deny[0]", "no operation"},
        {"{roles: [{name: r, permissions: [{entity: e, level: KING}]}]}",
         "f.yaml:1:roles[0].permissions[0].level", "no level \"KING\""},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, conditions: [FULL_MOON]}]}]}",
         "f.yaml:1:roles[0].permissions[0].conditions[0]", "no condition"},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, read_attributes: name}]}]}",
         "f.yaml:1:roles[0].permissions[0].read_attributes", "expected a list"},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, read_attributes: [[a]]}]}]}",
         "f.yaml:1:roles[0].permissions[0].read_attributes[0]", "expected a name"},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, read_attributes: [\"\"]}]}]}",
         "f.yaml:1:roles[0].permissions[0].read_attributes[0]", "expected a name"},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, read_attributes: "
         "[\"a\\b\"]}]}]}",
         "f.yaml:1:roles[0].permissions[0].read_attributes[0]", "expected a name"},
        {"{roles: [{name: r, permissions: [{entity: e, level: READ, scope: any}]}]}",
         "f.yaml:1:roles[0].permissions[0].scope", "none of"},
        {"{roles: [{name: r, permissions: [{entity: e, access: null, attributes_only: true}]}]}",
         "f.yaml:1:roles[0].permissions[0]", "attributes_only"},
        {"{users: [{name: \"a\tb\"}]}", "f.yaml:1:users[0]", "control character"},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        if (apply_with(w, CASES[i].text, false, false) != PST_E_INVALID)
            fail_msg("taken: %s", CASES[i].text);
        if (strncmp(w->error.where, CASES[i].where, strlen(CASES[i].where)) != 0 ||
            strstr(w->error.message, CASES[i].says) == NULL)
            fail_msg("%s\n-> %s %s", CASES[i].text, w->error.where, w->error.message);
        assert_int_equal(head(w), 0);
    }
    struct pst_store_status st;
    MUST(pst_store_status(w->store, &st, &why));
    assert_int_equal(st.users + st.roles + st.workspaces, 0); /* all or nothing */
}

static void test_warnings(void **state)
{
    struct world *w = *state;

    apply_ok(w,
             "{roles: [{name: r, permissions: [{entity: e, level: READ, entity_type: streaming},\n"
             "{entity: e, level: READ, read_attributes: [a]}, {entity: e, access: [VIEWER], "
             "read_attributes: [a]},"
             "{entity: e, access: [LIST, QUERY], query_attributes: [a]}]}]}");
    assert_int_equal(w->report.warnings, 2);
    assert_true(has_edit(w, PST_EDIT_WARN, "permission", "r",
                         "f.yaml:1: e LIST,DETAIL: a grant with an entity_type"));
    assert_true(has_edit(w, PST_EDIT_WARN, "permission", "r",
                         "f.yaml:2: e LIST,DETAIL: read_attributes are not asked"));
}

static void test_diff_and_reports(void **state)
{
    struct world *w = *state;
    struct pst_tree tree;
    const struct pst_tree *trees[] = {&tree};
    struct pst_apply_options options = {.actor = PST_LIT("t"), .presets = &w->presets};
    char *text;
    size_t len;

    apply_ok(w, BASE);
    flow_parse(&tree, "d.yaml", "{users: [{name: carol}, {name: bob, disabled: true}]}");
    pst_apply_report_fini(&w->report);
    MUST(pst_diff(w->store, trees, 1, &options, &why, &w->report));
    pst_tree_fini(&tree);
    assert_int_equal(head(w), 1);
    assert_int_equal(w->report.count, 3);

    FILE *out = open_memstream(&text, &len);
    assert_int_equal(pst_report_text(&w->report, true, out), PST_OK);
    fclose(out);
    assert_non_null(strstr(text, "+ user carol\n"));
    assert_non_null(strstr(text, "~ user bob: disabled\n"));
    assert_non_null(strstr(text, "- user alice\n"));
    assert_non_null(strstr(text, "would be: 1 added, 1 changed, 1 removed"));
    free(text);
    out = open_memstream(&text, &len);
    assert_int_equal(pst_report_json(&w->report, true, out), PST_OK);
    fclose(out);
    assert_non_null(strstr(
        text,
        "{\"action\":\"change\",\"kind\":\"user\",\"name\":\"bob\",\"detail\":\"disabled\"}"));
    assert_non_null(strstr(text, "\"dry_run\":true,\"added\":1"));
    free(text);
}

static void test_export_is_stable(void **state)
{
    struct world *w = *state;
    char *text;
    size_t len;

    apply_ok(w, BASE);
    FILE *out = open_memstream(&text, &len);
    MUST(pst_export(w->store, out, &why));
    fclose(out);
    static const char EXPECTED[] =
        "workspaces:\n"
        "  - {name: blue, kind: project, organization: default}\n"
        "  - {name: default, kind: default, organization: acme}\n"
        "roles:\n"
        "  - name: viewer\n"
        "    permissions: []\n"
        "  - name: all\n"
        "    workspace: blue\n"
        "    permissions:\n"
        "      - {entity: \"\", id: p1, direct: true, scope: project, access: [ADMIN]}\n"
        "      - {entity: \"*\", access: [LIST, DETAIL, CREATE, UPDATE, DELETE]}\n"
        "      - {entity: Block, access: [LIST, READ]}\n"
        "      - {entity: Nothing, access: null}\n"
        "      - {entity: Pipeline, scope: pipeline, access: [LIST, READ, ATTRIBUTES_ONLY],"
        " conditions: [\"HAS_NOTEBOOK_EDIT_ACCESS\"], read_attributes: [\"name\", \"tags\"]}\n"
        "      - {entity: experiment, access: [LIST, DETAIL, UPDATE]}\n"
        "      - {entity: pipelines, id: \"22\", access: [DISABLE_LIST, DISABLE_DELETE]}\n"
        "users:\n"
        "  - name: alice\n"
        "    email: \"a@x.test\"\n"
        "    disabled: false\n"
        "    identities:\n"
        "      - {issuer: \"https://idp.test/\", subject: alice}\n"
        "  - name: bob\n"
        "    disabled: false\n"
        "    identities: []\n"
        "bindings:\n"
        "  - {user: alice, role: all, workspace: blue}\n"
        "  - {user: bob, role: viewer}\n";
    assert_string_equal(text, EXPECTED);
    free(text);

    /* A disk that is full is told, not kept quiet. */
    out = fopen("/dev/full", "w");
    assert_non_null(out);
    assert_int_equal(pst_export(w->store, out, NULL), PST_E_IO);
    fclose(out);
}

/* Who writes is not held up by, nor holds up, what has nothing to write. */
static void test_what_is_there_needs_no_lock(void **state)
{
    struct world *w = *state;
    struct pst_revision r;
    struct pst_change *c;

    apply_ok(w, BASE);
    struct pst_store *other = place_open(&w->place, PST_STORE_WRITE);
    MUST(pst_change_begin(other, PST_LIT("t"), &c, &why));
    apply_ok(w, BASE);
    assert_int_equal(apply_with(w, BASE, false, true), PST_OK);
    assert_int_equal(w->report.revision.n, 1);
    assert_int_equal(apply_with(w, "{users: [{name: carol}]}", false, false), PST_E_BUSY);
    uint32_t role = add_role(c, "late", 0);
    MUST(pst_change_commit(c, &r, &why));
    assert_int_not_equal(role, 0);
    pst_store_close(other);
    assert_int_equal(apply_with(w, BASE, true, true), PST_OK);
    assert_int_equal(w->report.removed, 1);
}

static void test_what_comes_behind_the_look(void **state)
{
    static const char WANTED[] =
        "{users: [{name: alice, disabled: false}, {name: carol}],"
        " roles: [{name: viewer, permissions: [{entity: x, allow: [list]}]},"
        "  {name: all, workspace: blue}], bindings: [{user: alice, role: viewer}]}";
    struct world *w = *state;
    struct pst_row_user row;

    intruder = place_open(&w->place, PST_STORE_CREATE);
    for (unsigned n = 1; n <= 3; n++) { /* all looks, too */
        assert_int_equal(apply_with(w, BASE, false, true), PST_OK);
        intrusions = n;
        assert_int_equal(apply_with(w, WANTED, false, true), PST_OK);
        intrusions = 0;
        MUST(pst_store_find_user(w->store, PST_LIT("alice"), &row, &why));
        assert_false(row.disabled);
        assert_true(has_edit(w, PST_EDIT_CHANGE, "user", "alice", "enabled"));
        assert_true(has_edit(w, PST_EDIT_ADD, "user", "carol", ""));
        assert_true(has_edit(w, PST_EDIT_REMOVE, "user", "bob", ""));
        assert_true(has_edit(w, PST_EDIT_ADD, "binding", "alice viewer everywhere", ""));
        apply_ok(w, WANTED);
        assert_int_equal(w->report.count, 0);
    }
    pst_store_close(intruder);
    MUST(pst_store_check(w->store, &why));
}

/* Which role a binding means may depend on one that the same files bring. */
static void test_a_role_that_comes_stands_before_the_global_one(void **state)
{
    struct world *w = *state;

    apply_ok(w, "{workspaces: [{name: blue}], roles: [{name: r}], users: [{name: u}],"
                " bindings: [{user: u, role: r, workspace: blue}]}");
    apply_ok(w, "{roles: [{name: r, workspace: blue}],"
                " bindings: [{user: u, role: r, workspace: blue}]}");
    assert_true(has_edit(w, PST_EDIT_ADD, "binding", "u blue/r in blue", ""));
}

/* Every allocation of an apply fails once: an error, nothing written, nothing leaked. */
static void test_allocation_failures(void **state)
{
    struct world *w = *state;
    long n = 0;
    unsigned failures = 0;

    for (; n < 1000; n++) {
        struct pst_tree tree;
        const struct pst_tree *trees[] = {&tree};
        struct pst_apply_options options = {.actor = PST_LIT("t"), .presets = &w->presets};

        flow_parse(&tree, "f.yaml", BASE);
        pst_apply_report_fini(&w->report);
        fail_at = n;
        enum pst_status status = pst_apply(w->store, trees, 1, &options, &w->error, &w->report);
        bool reached = fail_at < 0;
        fail_at = -1;
        pst_tree_fini(&tree);
        assert_int_equal(status == PST_OK, !reached); /* no failure goes unnoticed */
        if (status == PST_OK)
            break;
        assert_int_equal(status, PST_E_NOMEM);
        assert_int_equal(head(w), 0);
        failures++;
    }
    assert_true(failures > 3);
    MUST(pst_store_check(w->store, &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_apply, make, drop),
        cmocka_unit_test_setup_teardown(test_second_apply_leaves_no_trace, make, drop),
        cmocka_unit_test_setup_teardown(test_dry_run, make, drop),
        cmocka_unit_test_setup_teardown(test_changes, make, drop),
        cmocka_unit_test_setup_teardown(test_bound, make, drop),
        cmocka_unit_test_setup_teardown(test_identity_moves, make, drop),
        cmocka_unit_test_setup_teardown(test_prune, make, drop),
        cmocka_unit_test_setup_teardown(test_binding_names_its_role, make, drop),
        cmocka_unit_test_setup_teardown(test_faults, make, drop),
        cmocka_unit_test_setup_teardown(test_warnings, make, drop),
        cmocka_unit_test_setup_teardown(test_diff_and_reports, make, drop),
        cmocka_unit_test_setup_teardown(test_export_is_stable, make, drop),
        cmocka_unit_test_setup_teardown(test_what_is_there_needs_no_lock, make, drop),
        cmocka_unit_test_setup_teardown(test_what_comes_behind_the_look, make, drop),
        cmocka_unit_test_setup_teardown(test_a_role_that_comes_stands_before_the_global_one, make,
                                        drop),
        cmocka_unit_test_setup_teardown(test_allocation_failures, make, drop),
    };
    return cmocka_run_group_tests_name("declare", tests, NULL, NULL);
}
