/*
 * compile_internal.h - how a policy grows, for those that make one: the compiler and the image reader.
 */
#ifndef POSTERN_POLICY_COMPILE_INTERNAL_H
#define POSTERN_POLICY_COMPILE_INTERNAL_H

#include "rules.h"

/* A policy with these workspaces, that has room for so many roles and bytes of their names, and no more:
 * what it weighs does not depend on how it came about. On failure *out may be half made. */
PST_MUST_USE enum pst_status pst_policy_start(struct pst_hash_key key,
                                              const struct pst_workspace_row *workspaces,
                                              uint32_t workspace_count, uint32_t roles, size_t role_text,
                                              struct pst_policy **out, struct pst_error *error);
/* Within that room. The role has no rules yet, and it must have some before anybody asks. */
PST_MUST_USE enum pst_status pst_policy_add_role(struct pst_policy *policy, const struct pst_role_row *row,
                                                 struct pst_error *error);
/* The policy becomes *out when all went well, and is destroyed when not. */
enum pst_status pst_policy_finish(struct pst_policy *policy, enum pst_status status, struct pst_policy **out);

#endif
