#include "../test.h"

#include <stdio.h>

#include "policy_fixture.h"

static struct fixture fixture;

static int setup(void **state)
{
    fx_init(&fixture);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fx_fini(*state);
    return 0;
}

static int setup_specific(void **state)
{
    setup(state);
    fixture.question.combining = PST_MOST_SPECIFIC;
    return 0;
}

/* ---- who asks ---- */

static void test_what_is_zero_is_refused(void **state)
{
    struct fixture *f = *state;
    struct pst_eval_detail detail;

    fx_role(f, 1, "r", 0);
    fx_grant(f, 1, "ALL", NULL, PST_A_ALL);
    fx_bind(f, 1, 0);
    memset(&f->requirements[0], 0, sizeof(f->requirements[0]));
    assert_int_equal(fx_decide(f), PST_R_INTERNAL); /* a requirement without a key */
    fx_grant(f, 1, "ALL", NULL, PST_A_OWNER);
    for (int combining = 0; combining < 2; combining++) {
        f->question.combining = (enum pst_combining)combining;
        fx_ask(f, 0, "Pipeline", NULL, PST_OP_NONE); /* not even an owner may do what has no name */
        assert_int_equal(fx_decide(f), PST_R_INTERNAL);
        fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
        f->requirements[0].key_count = PST_KEYS_MAX + 1;
        assert_int_equal(fx_decide(f), PST_R_INTERNAL);
    }
    f->question.requirement_count = 0;
    assert_int_equal(pst_eval(&f->question, &detail), PST_DENY);
    assert_int_equal(detail.requirement, PST_NOWHERE);
}

static void test_callers_that_nobody_knows(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_grant(f, 1, "ALL", NULL, PST_A_OWNER);
    fx_bind(f, 1, 0);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    for (int combining = 0; combining < 2; combining++) {
        f->question.combining = (enum pst_combining)combining;
        f->facts.disabled = true;
        assert_int_equal(fx_decide(f), PST_R_USER_DISABLED);
        assert_false(pst_eval_is_admin(&f->question));
        f->facts.disabled = false;
        f->facts.user_id = 0;
        assert_int_equal(fx_decide(f), PST_R_UNKNOWN_USER);
        f->facts.user_id = 7;
        f->question.caller.facts = NULL;
        assert_int_equal(fx_decide(f), PST_R_NO_CREDENTIAL);
        f->question.caller.facts = &f->facts;
    }
}

static void test_nothing_granted_in_one_workspace_is_seen_in_another(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "global", 0);
    fx_role(f, 2, "of red", RED);
    for (uint32_t role = 1; role <= 2; role++)
        fx_grant(f, role, "Pipeline", NULL, PST_A_LIST);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    fx_bind(f, 1, RED);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->question.workspace = RED;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->question.workspace = 0; /* no workspace: only what is bound everywhere */
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->bindings[0] = (struct pst_binding){.id = 1, .role = 2}; /* a role of red, bound everywhere */
    f->question.workspace = BLUE;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->question.workspace = RED;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

static void test_roles_of_the_token_count_everywhere(void **state)
{
    struct fixture *f = *state;
    const uint32_t roles[] = {1};

    fx_role(f, 1, "group", 0);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_LIST);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    f->question.caller.extra_roles = roles;
    f->question.caller.extra_role_count = 1;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_int_equal(f->detail.role, 1);
    assert_int_equal(f->detail.binding, 0);
}

static void test_authentication_off_allows_but_editing_that_is_off(void **state)
{
    struct fixture *f = *state;

    f->settings.authentication_off = true;
    f->question.caller.facts = NULL;
    fx_ask(f, 0, "Pipeline", "p1", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_AUTH_OFF);
    f->settings.notebook_edit = 1;
    assert_int_equal(fx_decide(f), PST_R_LEVEL_TOO_LOW);
    fx_ask(f, 0, "Pipeline", "p1", PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_AUTH_OFF);
    f->question.combining = PST_MOST_SPECIFIC;
    assert_int_equal(fx_decide(f), PST_R_AUTH_OFF);
    f->requirements[0].need = PST_NEED_CLOSED;
    assert_int_equal(fx_decide(f), PST_R_ROUTE_CLOSED);
}

/* ---- deny-overrides ---- */

static void test_the_detail_names_what_granted_and_what_denied(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "may", 0);
    fx_role(f, 2, "may not", 0);
    fx_grant(f, 1, "Tag", NULL, PST_A_LIST);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_OPERATION_ALL);
    fx_grant(f, 2, "Pipeline", "p1", PST_A_DISABLE_DELETE);
    fx_bind(f, 1, 0);
    fx_bind(f, 2, BLUE);
    fx_ask(f, 0, "Pipeline", "p2", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_int_equal(f->detail.role, 1);
    assert_int_equal(f->detail.permission, 2);
    assert_int_equal(f->detail.binding, 100);
    assert_true(f->detail.bit == PST_A_OPERATION_ALL);
    fx_ask(f, 0, "Pipeline", "p1", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
    assert_int_equal(f->detail.role, 2);
    assert_int_equal(f->detail.permission, 3);
    assert_int_equal(f->detail.binding, 101);
    assert_true(f->detail.bit == PST_A_DISABLE_DELETE);
    fx_ask(f, 0, "Block", "b", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    assert_int_equal(f->detail.role, 0);
    assert_true((f->detail.missing & PST_A_DELETE) != 0 && (f->detail.missing & PST_A_UPDATE) == 0);
}

/* A row with an id grants no collection and denies it (the answer is not filtered); the cause is
 * named although the row stands for no object that was asked for. */
static void test_rows_on_single_ids_and_collections(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "Pipeline", "p1", PST_A_ALL);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_LIST | PST_A_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "Pipeline", "p9", PST_A_DISABLE_LIST);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
    assert_int_equal(f->detail.permission, 3);
    fx_ask(f, 0, "Pipeline", "p9", PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

/* ALL in the row of one id is decided before that row's DISABLE_OPERATION_ALL, also for the
 * collection. */
static void test_all_in_a_row_outweighs_its_later_denies(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_LIST);
    fx_grant(f, 1, "Pipeline", "p1", PST_A_ALL | PST_A_DISABLE_OPERATION_ALL);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "Pipeline", "p2", PST_A_DISABLE_OPERATION_ALL);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
}

/* The lists that rows on single ids deny close the collection, but for rows that hold ALL. */
static void test_denied_lists_of_single_ids_and_collections(void **state)
{
    struct fixture *f = *state;
    struct pst_bytes names[] = {PST_LIT("name")}, others[] = {PST_LIT("blocks")};
    struct pst_permission_row row = {.id = 10,
                                     .role = 1,
                                     .has_access = true,
                                     .entity = PST_LIT("Pipeline"),
                                     .has_entity_id = true,
                                     .entity_id = PST_LIT("p1"),
                                     .access = PST_A_ALL | PST_A_DISABLE_READ};

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_LIST | PST_A_READ_ALL);
    row.attributes[PST_ATTR_READ] = names;
    row.attribute_count[PST_ATTR_READ] = 1;
    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    f->requirements[0].attributes[PST_ATTR_READ] = names;
    f->requirements[0].attribute_count[PST_ATTR_READ] = 1;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    row.id = 11;
    row.access = PST_A_DISABLE_READ;
    row.attributes[PST_ATTR_READ] = others;
    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->requirements[0].attributes[PST_ATTR_READ] = others;
    assert_int_equal(fx_decide(f), PST_R_ATTRIBUTE);
    assert_int_equal(f->detail.permission, 11);
}

static void test_an_unknown_id_is_decided_only_when_no_id_matters(void **state)
{
    struct fixture *f = *state;
    struct pst_key *key = fx_ask(f, 0, "Pipeline", NULL, PST_OP_UPDATE);

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    key->id_state = PST_ID_UNKNOWN;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "Pipeline", "p1", PST_A_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_NEEDS_LOOKUP);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "Pipeline", "p2", PST_A_DISABLE_UPDATE);
    f->requirements[0].closed = PST_R_NEEDS_FILTER;
    assert_int_equal(fx_decide(f), PST_R_NEEDS_FILTER);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_DISABLE_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
}

static void test_many_attributes_are_each_asked(void **state)
{
    struct fixture *f = *state;
    static char text[200][8];
    static struct pst_bytes names[200];
    struct pst_permission_row row = {.id = 1,
                                     .role = 1,
                                     .has_access = true,
                                     .entity = PST_LIT("Pipeline"),
                                     .access = PST_A_LIST | PST_A_READ};

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(text[i], sizeof(text[i]), "a%u", i);
        names[i] = fx_text(text[i]);
    }
    row.attributes[PST_ATTR_READ] = names;
    row.attribute_count[PST_ATTR_READ] = 199;
    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
    fx_ask(f, 0, "Pipeline", NULL, PST_OP_LIST);
    f->requirements[0].attributes[PST_ATTR_READ] = names;
    f->requirements[0].attribute_count[PST_ATTR_READ] = 199;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->requirements[0].attribute_count[PST_ATTR_READ] = 200;
    assert_int_equal(fx_decide(f), PST_R_ATTRIBUTE);
    assert_true(pst_bytes_equal(f->detail.attribute, names[199]));
    assert_int_equal(f->detail.attribute_kind, PST_ATTR_READ);
    assert_true((f->detail.missing & PST_A_READ_ALL) != 0);
}

/* More roles than the evaluator takes at a time; only the last one matters. */
static void test_many_roles_are_each_asked(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 1; i <= 30; i++) {
        fx_role(f, i, "r", 0);
        fx_bind(f, i, i % 3 == 0 ? RED : BLUE);
        fx_grant(f, i, "Pipeline", i == 29 ? "p1" : "p2", PST_A_UPDATE);
        fx_grant(f, i, "ALL", "p3", PST_A_UPDATE); /* several look-ups per role */
        fx_grant(f, i, "ALL_EXCEPT_RESERVED", "p4", PST_A_UPDATE);
    }
    fx_ask(f, 0, "Pipeline", "p1", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_int_equal(f->detail.role, 29);
    f->facts.binding_count = 28;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

/* The operation comes from one row; the row that lists the attribute has a condition of its own. */
static void test_a_failed_condition_withholds_the_attributes_too(void **state)
{
    struct fixture *f = *state;
    struct pst_bytes names[] = {PST_LIT("name")};
    struct pst_permission_row row = {.id = 1,
                                     .role = 1,
                                     .has_access = true,
                                     .entity = PST_LIT("Pipeline"),
                                     .access = PST_A_UPDATE | PST_A_WRITE_ALL,
                                     .conditions = PST_COND_PIPELINE_EDIT};

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
    fx_grant(f, 1, "Pipeline", NULL, PST_A_UPDATE);
    fx_ask(f, 0, "Pipeline", "p1", PST_OP_UPDATE);
    f->requirements[0].attributes[PST_ATTR_WRITE] = names;
    f->requirements[0].attribute_count[PST_ATTR_WRITE] = 1;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->settings.notebook_edit = 1;
    assert_int_equal(fx_decide(f), PST_R_ATTRIBUTE);
}

static void test_all_except_reserved_stops_at_what_postern_keeps(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "ALL_EXCEPT_RESERVED", NULL, PST_A_LIST);
    fx_ask(f, 0, "anything", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_ask(f, 0, "postern:secret", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_ask(f, 0, "Workspace", NULL, PST_OP_LIST);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

static void test_own_user_object(void **state)
{
    struct fixture *f = *state;
    struct pst_permission_row row = {.id = 1,
                                     .role = 1,
                                     .has_access = true,
                                     .entity = PST_LIT("User"),
                                     .access = PST_A_OPERATION_ALL,
                                     .conditions = PST_COND_OWNS_ENTITY};

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
    fx_ask(f, 0, "User", "7", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_ask(f, 0, "User", "70", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_CONDITION);
    fx_ask(f, 0, "User", NULL, PST_OP_LIST); /* no object: it cannot be asked, so it fails */
    assert_int_equal(fx_decide(f), PST_R_CONDITION);
    f->question.caller.own_id = PST_LIT("alice");
    fx_ask(f, 0, "User", "alice", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_ask(f, 0, "User", "7", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_CONDITION);
}

/* ---- needs and groups ---- */

static void test_all_groups_must_hold_and_alternatives_need_one(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "A", NULL, PST_A_LIST);
    fx_grant(f, 1, "C", NULL, PST_A_LIST);
    fx_ask(f, 0, "A", NULL, PST_OP_LIST);
    fx_ask(f, 1, "B", NULL, PST_OP_LIST);
    fx_ask(f, 2, "C", NULL, PST_OP_LIST);
    f->question.requirement_count = 3;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    assert_int_equal(f->detail.requirement, 1);
    f->requirements[1].or_next = true; /* B or C */
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_int_equal(f->detail.requirement, 0);
    f->question.requirement_count = 2; /* a dangling or_next has no other alternative */
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

static void test_a_certain_refusal_is_told_before_a_look_up(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, 0);
    fx_grant(f, 1, "A", "a1", PST_A_UPDATE);
    fx_ask(f, 0, "A", NULL, PST_OP_UPDATE)->id_state = PST_ID_UNKNOWN;
    fx_ask(f, 1, "B", NULL, PST_OP_LIST);
    f->question.requirement_count = 2;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    assert_int_equal(f->detail.requirement, 1);
    fx_grant(f, 1, "B", NULL, PST_A_LIST);
    assert_int_equal(fx_decide(f), PST_R_NEEDS_LOOKUP);
    assert_int_equal(f->detail.requirement, 0);
}

static void ask_need(struct fixture *f, enum pst_need need, const char *self)
{
    f->requirements[0] = (struct pst_requirement){.need = need, .self = fx_text(self)};
}

static void test_needs_of_people(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "admin", 0);
    fx_grant(f, 1, "*", NULL, PST_A_OWNER);
    ask_need(f, PST_NEED_AUTHENTICATED, NULL);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    ask_need(f, PST_NEED_SELF, "alice");
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    ask_need(f, PST_NEED_SELF, "bob");
    assert_int_equal(fx_decide(f), PST_R_OTHERS_ONLY);
    ask_need(f, PST_NEED_SELF, "");
    assert_int_equal(fx_decide(f), PST_R_OTHERS_ONLY);
    ask_need(f, PST_NEED_ADMIN, NULL);
    assert_int_equal(fx_decide(f), PST_R_ADMIN_ONLY);
    fx_bind(f, 1, BLUE); /* owner of one workspace is no administrator */
    assert_int_equal(fx_decide(f), PST_R_ADMIN_ONLY);
    fx_bind(f, 1, 0);
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    assert_true(pst_eval_is_admin(&f->question));
    ask_need(f, PST_NEED_SELF, "bob");
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    ask_need(f, PST_NEED_CLOSED, NULL); /* closed to everybody */
    assert_int_equal(fx_decide(f), PST_R_ROUTE_CLOSED);
    f->requirements[0].closed = PST_R_UPGRADE;
    assert_int_equal(fx_decide(f), PST_R_UPGRADE);
}

static void test_needs_of_workspaces(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "member", 0);
    fx_role(f, 2, "manager", 0);
    fx_role(f, 3, "barred", 0);
    fx_grant(f, 1, "workspace", NULL, FX_USE);
    fx_grant(f, 2, "workspace", NULL, FX_MANAGE);
    fx_grant(f, 3, "workspace", NULL, FX_DENY);
    ask_need(f, PST_NEED_WORKSPACE_USE, NULL);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->settings.workspaces = false; /* then anybody may create */
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->settings.workspaces = true;
    fx_bind(f, 1, BLUE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    ask_need(f, PST_NEED_WORKSPACE_ADMIN, NULL);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_bind(f, 2, RED);
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    ask_need(f, PST_NEED_WORKSPACE_MANAGE, "red");
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    ask_need(f, PST_NEED_WORKSPACE_MANAGE, "blue");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    ask_need(f, PST_NEED_WORKSPACE_MANAGE, "nowhere");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    ask_need(f, PST_NEED_WORKSPACE_VIEW, "red");
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_bind(f, 3, RED);
    ask_need(f, PST_NEED_WORKSPACE_MANAGE, "red");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

static void test_what_makes_a_workspace_visible(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "__user_7__", BLUE);
    fx_grant(f, 1, "experiment", "11", FX_READ);
    fx_bind(f, 1, BLUE);
    ask_need(f, PST_NEED_WORKSPACE_VIEW, "blue");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED); /* a grant on one object shows nothing */
    fx_grant(f, 1, "workspace", NULL, FX_USE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    ask_need(f, PST_NEED_WORKSPACE_VIEW, "red");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->settings.grant_default_workspace_access = true; /* red is the default one */
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_false(pst_eval_workspace_visible(&f->question, 99));
}

/* What the default permission gives in the default workspace is for who holds no row on it. */
static void test_a_row_on_the_workspace_stands_before_the_default(void **state)
{
    static const uint64_t rows[] = {PST_A_SPEAKS, FX_READ, FX_DENY};
    static const char *const names[] = {"s", "t", "u"};
    struct fixture *f = *state;

    f->question.workspace = RED;
    f->settings.grant_default_workspace_access = true;
    f->settings.default_permission = FX_USE;
    ask_need(f, PST_NEED_WORKSPACE_USE, NULL);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    for (uint32_t i = 0; i < 3; i++) {
        fx_role(f, i + 1, names[i], 0);
        fx_grant(f, i + 1, "workspace", NULL, rows[i]);
        f->facts.binding_count = 0;
        fx_bind(f, i + 1, BLUE);
        assert_int_equal(fx_decide(f), PST_R_GRANTED);
        fx_bind(f, i + 1, RED);
        assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    }
}

/* ---- most-specific ---- */

static void child_of(struct fixture *f, const char *experiment, enum pst_op op)
{
    fx_ask(f, 0, "experiment", experiment, PST_OP_DETAIL);
    fx_ask(f, 1, "run", NULL, op);
    fx_also(f, 1, "experiment", experiment, op);
    f->question.requirement_count = 2;
    if (experiment == NULL) {
        f->requirements[0].keys[0].id_state = PST_ID_UNKNOWN;
        f->requirements[1].keys[1].id_state = PST_ID_UNKNOWN;
    }
}

static void test_deny_wins_inside_a_key_and_the_largest_grant_else(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_grant(f, 1, "experiment", NULL, FX_READ);
    fx_grant(f, 1, "experiment", "11", FX_EDIT);
    fx_ask(f, 0, "experiment", "11", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    assert_int_equal(f->detail.permission, 2);
    fx_ask(f, 0, "experiment", "12", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "experiment", "11", FX_DENY);
    fx_ask(f, 0, "experiment", "11", PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
    assert_int_equal(f->detail.permission, 3);
}

static void test_the_first_key_that_speaks_decides(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_grant(f, 1, "experiment", "11", FX_EDIT);
    child_of(f, "11", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED); /* run is silent */
    fx_grant(f, 1, "run", NULL, FX_READ);          /* overrides downwards */
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    assert_int_equal(f->detail.requirement, 1);
    assert_int_equal(f->detail.key, 0);
    fx_grant(f, 1, "run", NULL, FX_MANAGE); /* and upwards */
    child_of(f, "11", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

static void test_no_permissions_speaks_and_grants_nothing(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    f->settings.default_permission = FX_MANAGE;
    fx_grant(f, 1, "experiment", "11", FX_EDIT);
    fx_grant(f, 1, "run", NULL, PST_A_SPEAKS);
    child_of(f, "11", PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    child_of(f, "11", PST_OP_NOT_DENIED); /* not a deny */
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "run", NULL, FX_DENY);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
}

static void test_a_fallback_asks_its_own_operation(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_grant(f, 1, "experiment", "11", FX_EDIT);
    fx_ask(f, 0, "assessment", NULL, PST_OP_DELETE);
    fx_also(f, 0, "experiment", "11", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->requirements[0].keys[1].op = PST_OP_DELETE;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

static void test_the_default_permission_is_a_floor_and_a_last_resort(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    f->settings.default_permission = FX_EDIT;
    fx_ask(f, 0, "experiment", "11", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED); /* nothing held, workspaces on */
    fx_grant(f, 1, "experiment", "11", FX_READ);
    assert_int_equal(fx_decide(f), PST_R_GRANTED); /* raised */
    fx_ask(f, 0, "experiment", "12", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->settings.workspaces = false;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    f->settings.workspaces = true;
    f->settings.grant_default_workspace_access = true;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    f->question.workspace = RED;
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

static void test_a_manager_of_the_workspace_cannot_be_restricted_there(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_grant(f, 1, "workspace", NULL, FX_MANAGE);
    fx_grant(f, 1, "experiment", "11", FX_DENY);
    fx_ask(f, 0, "experiment", "11", PST_OP_DELETE);
    assert_int_equal(fx_decide(f), PST_R_OWNER);
    f->question.workspace = RED;
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
}

/* A look-up is spared only where every answer would come to the same. */
static void test_an_id_that_only_a_look_up_would_tell(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    child_of(f, NULL, PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED); /* nothing could allow it */
    fx_grant(f, 1, "experiment", NULL, FX_READ);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "experiment", "11", FX_DENY); /* and this one must not be bypassed */
    assert_int_equal(fx_decide(f), PST_R_NEEDS_LOOKUP);
    child_of(f, NULL, PST_OP_DELETE); /* refused whichever experiment it is */
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "experiment", "12", FX_MANAGE);
    assert_int_equal(fx_decide(f), PST_R_NEEDS_LOOKUP);
    fx_grant(f, 1, "experiment", NULL, FX_DENY);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
}

/* Rows on single ids of a workspace that is not asked for do not matter. */
static void test_ids_of_another_workspace_need_no_look_up(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "reader", 0);
    fx_role(f, 2, "one", RED);
    fx_bind(f, 1, BLUE);
    fx_bind(f, 2, RED);
    fx_grant(f, 1, "experiment", NULL, FX_READ);
    fx_grant(f, 2, "experiment", "11", FX_DENY);
    child_of(f, NULL, PST_OP_DETAIL);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

static void test_one_of_two_kinds_is_decided_when_both_agree(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_ask(f, 0, "registered_model", "greet", PST_OP_DETAIL);
    f->requirements[0].or_entity = PST_LIT("prompt");
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "prompt", "greet", FX_READ);
    assert_int_equal(fx_decide(f), PST_R_NEEDS_LOOKUP);
    fx_grant(f, 1, "registered_model", NULL, FX_READ);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
}

/* Rows on ALL: what they grant is asked last, what they deny holds at every key. */
static void test_rows_on_all_are_the_least_specific(void **state)
{
    struct fixture *f = *state;

    fx_role(f, 1, "r", 0);
    fx_bind(f, 1, BLUE);
    fx_grant(f, 1, "ALL", NULL, FX_EDIT);
    fx_ask(f, 0, "experiment", "11", PST_OP_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "experiment", NULL, FX_READ);
    assert_int_equal(fx_decide(f), PST_R_NOT_GRANTED);
    fx_grant(f, 1, "experiment", "11", FX_MANAGE);
    assert_int_equal(fx_decide(f), PST_R_GRANTED);
    fx_grant(f, 1, "ALL", NULL, PST_A_DISABLE_UPDATE);
    assert_int_equal(fx_decide(f), PST_R_DENIED);
}

#define OVERRIDES(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define SPECIFIC(t)  cmocka_unit_test_setup_teardown(t, setup_specific, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OVERRIDES(test_what_is_zero_is_refused),
        OVERRIDES(test_callers_that_nobody_knows),
        OVERRIDES(test_nothing_granted_in_one_workspace_is_seen_in_another),
        OVERRIDES(test_roles_of_the_token_count_everywhere),
        OVERRIDES(test_authentication_off_allows_but_editing_that_is_off),
        OVERRIDES(test_the_detail_names_what_granted_and_what_denied),
        OVERRIDES(test_rows_on_single_ids_and_collections),
        OVERRIDES(test_all_in_a_row_outweighs_its_later_denies),
        OVERRIDES(test_denied_lists_of_single_ids_and_collections),
        OVERRIDES(test_an_unknown_id_is_decided_only_when_no_id_matters),
        OVERRIDES(test_many_attributes_are_each_asked),
        OVERRIDES(test_many_roles_are_each_asked),
        OVERRIDES(test_a_failed_condition_withholds_the_attributes_too),
        OVERRIDES(test_all_except_reserved_stops_at_what_postern_keeps),
        OVERRIDES(test_own_user_object),
        OVERRIDES(test_all_groups_must_hold_and_alternatives_need_one),
        OVERRIDES(test_a_certain_refusal_is_told_before_a_look_up),
        OVERRIDES(test_needs_of_people),
        SPECIFIC(test_needs_of_workspaces),
        SPECIFIC(test_what_makes_a_workspace_visible),
        SPECIFIC(test_a_row_on_the_workspace_stands_before_the_default),
        SPECIFIC(test_deny_wins_inside_a_key_and_the_largest_grant_else),
        SPECIFIC(test_the_first_key_that_speaks_decides),
        SPECIFIC(test_no_permissions_speaks_and_grants_nothing),
        SPECIFIC(test_a_fallback_asks_its_own_operation),
        SPECIFIC(test_the_default_permission_is_a_floor_and_a_last_resort),
        SPECIFIC(test_a_manager_of_the_workspace_cannot_be_restricted_there),
        SPECIFIC(test_an_id_that_only_a_look_up_would_tell),
        SPECIFIC(test_ids_of_another_workspace_need_no_look_up),
        SPECIFIC(test_one_of_two_kinds_is_decided_when_both_agree),
        SPECIFIC(test_rows_on_all_are_the_least_specific),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
