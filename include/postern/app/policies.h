/*
 * policies.h - the shipped policy files by name: from a directory, or from inside the program.
 */
#ifndef POSTERN_APP_POLICIES_H
#define POSTERN_APP_POLICIES_H

#include "postern/base/tree.h"

/* name: "profiles/rest.yaml", "roles/levels.yaml", ... dir: where to look first; empty: only
 * inside. The caller gives *tree to pst_tree_fini in any case. PST_E_ABSENT: there is no such file.
 */
PST_MUST_USE enum pst_status pst_policies_load(struct pst_bytes dir, struct pst_bytes name,
                                               struct pst_tree *tree, struct pst_error *error);
/* The text of a file inside the program, or empty. */
struct pst_bytes pst_policies_embedded(struct pst_bytes name);
/* NULL-terminated list of the names inside. */
const char *const *pst_policies_names(void);

#endif
