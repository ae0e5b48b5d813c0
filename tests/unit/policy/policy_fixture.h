/*
 * policy_fixture.h - a small policy and a question about it, for the tests of this folder.
 */
#ifndef POSTERN_TESTS_POLICY_FIXTURE_H
#define POSTERN_TESTS_POLICY_FIXTURE_H

#include "postern/policy/eval.h"

#define BLUE 1
#define RED  2

struct fixture {
    struct pst_model model;
    struct pst_policy *policy;
    struct pst_policy_settings settings;
    struct pst_facts facts;
    struct pst_binding bindings[32];
    struct pst_requirement requirements[4];
    struct pst_question question;
    struct pst_eval_detail detail;
};

static inline struct pst_bytes fx_text(const char *text)
{
    return text == NULL ? (struct pst_bytes){0} : pst_bytes_of(text, strlen(text));
}

static inline void fx_init(struct fixture *f)
{
    const struct pst_workspace_row spaces[] = {
        {.id = BLUE, .name = PST_LIT("blue")},
        {.id = RED, .name = PST_LIT("red"), .kind = PST_WORKSPACE_DEFAULT}};

    *f = (struct fixture){0};
    pst_model_init(&f->model, 1u << 24);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pst_model_add_workspace(&f->model, &spaces[i]), PST_OK);
    f->facts = (struct pst_facts){.user_id = 7, .name = PST_LIT("alice"), .bindings = f->bindings};
    f->question = (struct pst_question){.settings = &f->settings, .workspace = BLUE,
                                        .caller = {.facts = &f->facts},
                                        .requirements = f->requirements, .requirement_count = 1};
    f->settings.workspaces = true;
}

static inline void fx_fini(struct fixture *f)
{
    pst_policy_destroy(f->policy);
    pst_model_fini(&f->model);
}

static inline void fx_role(struct fixture *f, uint32_t id, const char *name, uint32_t workspace)
{
    struct pst_role_row row = {.id = id, .name = fx_text(name), .workspace = workspace};

    assert_int_equal(pst_model_add_role(&f->model, &row), PST_OK);
}

/* id NULL: none. The permission's id is its position, from 1. */
static inline void fx_grant(struct fixture *f, uint32_t role, const char *entity, const char *id,
                            uint64_t access)
{
    struct pst_permission_row row = {.id = f->model.permission_count + 1, .role = role,
                                     .has_access = true, .access = access, .entity = fx_text(entity),
                                     .has_entity_id = id != NULL, .entity_id = fx_text(id)};

    assert_int_equal(pst_model_add_permission(&f->model, &row), PST_OK);
}

static inline void fx_bind(struct fixture *f, uint32_t role, uint32_t workspace)
{
    uint32_t n = f->facts.binding_count++;

    f->bindings[n] = (struct pst_binding){.id = 100 + n, .role = role, .workspace = workspace};
}

static inline struct pst_key *fx_ask(struct fixture *f, uint32_t at, const char *entity, const char *id,
                                     enum pst_op op)
{
    struct pst_requirement *r = &f->requirements[at];

    *r = (struct pst_requirement){.key_count = 1};
    r->keys[0] = (struct pst_key){.entity = fx_text(entity), .op = op, .id = fx_text(id),
                                  .id_state = id == NULL ? PST_ID_NONE : PST_ID_KNOWN};
    return &r->keys[0];
}

static inline struct pst_key *fx_also(struct fixture *f, uint32_t at, const char *entity, const char *id,
                                      enum pst_op op)
{
    struct pst_requirement *r = &f->requirements[at];

    r->keys[r->key_count] = (struct pst_key){.entity = fx_text(entity), .op = op, .id = fx_text(id),
                                             .id_state = id == NULL ? PST_ID_NONE : PST_ID_KNOWN};
    return &r->keys[r->key_count++];
}

/* Compiles what is new and decides; the reason alone, since a verdict follows from it. */
static inline enum pst_reason fx_decide(struct fixture *f)
{
    pst_policy_destroy(f->policy);
    assert_int_equal(pst_policy_compile(&f->model, &f->policy, NULL), PST_OK);
    f->question.policy = f->policy;
    enum pst_verdict verdict = pst_eval(&f->question, &f->detail);
    assert_int_equal(verdict == PST_ALLOW, pst_reason_status(f->detail.reason) == 200);
    return f->detail.reason;
}

/* MLflow's levels. */
#define FX_READ   (PST_A_LIST | PST_A_DETAIL)
#define FX_USE    (FX_READ | PST_A_USE)
#define FX_EDIT   (FX_USE | PST_A_UPDATE)
#define FX_MANAGE (FX_EDIT | PST_A_CREATE | PST_A_DELETE | PST_A_MANAGE)
#define FX_DENY   (PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_USE | PST_A_DISABLE_MANAGE)

#endif
