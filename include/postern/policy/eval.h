/*
 * eval.h - answers whether a request's requirements hold for its caller.
 *
 * Purpose  The one place where a verdict is made. Pure: no I/O, no allocation, no clock, no state;
 *          the same question has the same answer on every thread and behind every door.
 *
 * Cost     Bounded by bindings x requirements x keys; it does not depend on how many permissions
 * exist.
 *
 * Failure  None. What cannot be decided is PST_DENY with a reason.
 */
#ifndef POSTERN_POLICY_EVAL_H
#define POSTERN_POLICY_EVAL_H

#include "postern/policy/compile.h"
#include "postern/policy/facts.h"
#include "postern/policy/requirement.h"

struct pst_levels; /* level.h */

/* Zero is the strict setting. */
struct pst_policy_settings {
    bool authentication_off;
    bool permissions_off;  /* `levels` decides (deny-overrides); without a table the switch changes
                            * nothing */
    uint8_t notebook_edit; /* DISABLE_NOTEBOOK_EDIT_ACCESS: 0, 1, 2 */
    struct pst_bytes project_uuid; /* of the running project, for built-in rows of scope project */
    const struct pst_levels *levels; /* also says which question an entity asks (project, any,
                                      * pipeline); NULL: project */
    /* most-specific only */
    bool workspaces;             /* MLflow's switch: resources live in workspaces */
    uint64_t default_permission; /* bits of a preset, such as READ's */
    bool grant_default_workspace_access;
};

struct pst_caller {
    const struct pst_facts *facts; /* NULL: nobody is signed in */
    const uint32_t *extra_roles;   /* roles that the token's groups give, bound everywhere */
    uint32_t extra_role_count;
    struct pst_bytes
        own_id; /* the id of the caller's own User object in the app; empty: user_id in
                 * decimal (USER_OWNS_ENTITY and level self_or_admin compare with it) */
};

/* A bit of a permission that is taken as not set. */
struct pst_lift {
    uint64_t permission, bit;
};

struct pst_question {
    const struct pst_policy *policy;
    const struct pst_policy_settings *settings;
    struct pst_caller caller;
    uint32_t workspace; /* the request's workspace; 0: none, only bindings everywhere count */
    enum pst_combining combining;
    const struct pst_requirement *requirements; /* none: refused */
    uint32_t requirement_count;
    const struct pst_lift *lifts; /* what explain tries out; a decision has none */
    uint32_t lift_count;
};

#define PST_NOWHERE UINT32_MAX

/* What decided. Texts are borrowed from the question. */
struct pst_eval_detail {
    enum pst_reason reason;
    uint32_t requirement;       /* index; PST_NOWHERE: none */
    uint32_t key;               /* index; PST_NOWHERE: none */
    enum pst_op op;             /* asked when it was decided */
    struct pst_bytes attribute; /* empty: the operation itself */
    enum pst_attribute_kind attribute_kind;
    uint64_t binding;    /* 0: none, or a role of the token's groups */
    uint32_t role;       /* 0: none */
    uint64_t permission; /* 0: none */
    uint64_t bit;        /* the bit of that permission that granted or denied; 0: none */
    uint64_t missing;    /* refused for want of a grant: bits of which one would do */
};

/* detail is filled on every path. */
enum pst_verdict pst_eval(const struct pst_question *question, struct pst_eval_detail *detail);

/* Server administrator: OWNER on ALL (or a built-in global OWNER) in a role bound everywhere. */
bool pst_eval_is_admin(const struct pst_question *question);
/* The caller may see that workspace in lists (mlflow 3.7, and any role bound in it). */
bool pst_eval_workspace_visible(const struct pst_question *question, uint32_t workspace);

#endif
