/*
 * compile.h - an immutable policy that decides in constant time, made from a model.
 *
 * How      A policy is a small table of roles; each role has its own compact index of its rows by
 *          (entity, id). Role indexes are reference-counted and shared between policies, so a
 * change of one role rebuilds that role, from its rows or from its older index and the rows that
 * came and went since, and copies pointers for the rest.
 *
 * Memory   A few blocks per policy, one per role: 24 bytes per row, 4 to 8 for its slot, and the
 * text of its id.
 *
 * Threads  Compiled and destroyed on the control thread; read by any number of threads.
 *
 * Use      Publish pst_policy_snapshot(policy) through the hub, or keep the policy inside another
 *          snapshot and destroy it there.
 */
#ifndef POSTERN_POLICY_COMPILE_H
#define POSTERN_POLICY_COMPILE_H

#include "postern/base/error.h"
#include "postern/policy/hub.h"
#include "postern/policy/model.h"

struct pst_policy; /* opaque; its first member is a struct pst_snapshot */

/* Rows that cannot decide anything (no access, no entity) are left out, equal rows of one role are
 * merged. PST_E_INVALID: an id or a name stands twice, or a permission names a role that is not
 * there: *error says which. *out is NULL on failure. */
PST_MUST_USE enum pst_status pst_policy_compile(const struct pst_model *model,
                                                struct pst_policy **out, struct pst_error *error);

/* What changed since a policy was compiled. */
struct pst_policy_patch {
    /* The touched roles that exist; with all their permissions, but for those that are partial. */
    const struct pst_model *model;
    const uint32_t *touched; /* their ids; one that the model does not hold is deleted */
    uint32_t touched_count;
    bool workspaces; /* the model holds all workspaces; else those of the older policy stay */
};

/* The same from an older policy and only what was touched since: every other role is taken over
 * with its index. A touched id may stand twice, or be of a role that neither side knows.
 * PST_E_INVALID as above, and for rows of a role that is not touched, and for a partial role whose
 * rows do not add up to its total. */
PST_MUST_USE enum pst_status pst_policy_patch(const struct pst_policy *base,
                                              const struct pst_policy_patch *patch,
                                              struct pst_policy **out, struct pst_error *error);

/* The ids of a role's permissions, ascending, to be freed. NULL, and no count: it has no such role,
 * or memory is short. */
uint32_t *pst_policy_permissions(const struct pst_policy *policy, uint32_t role, uint32_t *count);

/* For a policy that was not given to the hub. Accepts NULL. */
void pst_policy_destroy(struct pst_policy *policy);

struct pst_snapshot *pst_policy_snapshot(struct pst_policy *policy);
const struct pst_policy *pst_policy_of(const struct pst_snapshot *snapshot);

/* The id of a workspace, 0 when there is none of that name. */
uint32_t pst_policy_workspace(const struct pst_policy *policy, struct pst_bytes name);
/* Empty when there is none of that id. */
struct pst_bytes pst_policy_workspace_name(const struct pst_policy *policy, uint32_t id);
/* The id of the role of that name in that workspace, or else of the global one; 0 when none. */
uint32_t pst_policy_role(const struct pst_policy *policy, struct pst_bytes name,
                         uint32_t workspace);
struct pst_bytes pst_policy_role_name(const struct pst_policy *policy, uint32_t id);

struct pst_policy_stats {
    uint32_t workspaces, roles;
    uint64_t permissions; /* as given */
    uint64_t rows;        /* that are left */
    uint64_t bytes;       /* all memory of the policy, shared indexes included */
};
void pst_policy_stats(const struct pst_policy *policy, struct pst_policy_stats *out);

#endif
