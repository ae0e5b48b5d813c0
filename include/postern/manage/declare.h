/*
 * declare.h - policy as declarations: apply, export, diff.
 *
 * Purpose     What a file says becomes what the store holds, in one transaction.  Applying the same
 *             files twice changes nothing the second time and leaves no trace in the log.
 *
 * Waiting     The change, which holds up every other one, is begun only when something differs, and
 *             looks at nothing else again.
 *
 * Form        workspaces, roles (with permissions), users (with identities), bindings.  What a file
 *             lists replaces what the store has under that name: a role's permissions, a user's
 *             identities.  A key that is left out stays as it is in the store (a user that was
 * disabled in an emergency stays disabled unless the file says `disabled: false`).  What no file
 *             lists stays, unless `prune`.  Bindings are added; `prune` removes the others.
 *
 * Permission  entity and id; access as a list of bit names, a list of operations under allow /
 * deny, a level, a raw number under access (all of them added up) or `access: null`; attribute
 *             lists; conditions.  A condition, an access name or a level that nobody knows is
 * refused when it is written.  A row that is less than it looks (a subtype, a list that no bit
 *             asks) is taken with a warning.
 *
 * Binding     role names the role of that workspace, or else the global one; role_workspace says
 *             which when that is not the one meant ("" is the global one).
 *
 * Failure     file:line:key of the first fault; nothing was changed.
 */
#ifndef POSTERN_MANAGE_DECLARE_H
#define POSTERN_MANAGE_DECLARE_H

#include <stdio.h>

#include "postern/manage/barrier.h"
#include "postern/sync/revision.h"
#include "postern/base/tree.h"
#include "postern/policy/level.h"
#include "postern/store/change.h"

struct pst_apply_options {
    bool dry_run;
    bool prune; /* delete what is not declared, of the kinds that the files contain */
    struct pst_bytes actor;
    const struct pst_presets
        *presets; /* what `level` may name (policies/roles/levels.yaml); NULL: none */
};

enum pst_edit_action { PST_EDIT_ADD, PST_EDIT_CHANGE, PST_EDIT_REMOVE, PST_EDIT_WARN };

/* One thing done (or to be done). Texts are NUL-terminated. */
struct pst_edit {
    enum pst_edit_action action;
    const char *kind;   /* workspace, role, permission, user, identity, binding */
    const char *name;   /* "alice", "blue/rest-all", "alice rest-all blue" */
    const char *detail; /* what changes; may be "" */
};

struct pst_apply_report {
    struct pst_edit *edits; /* in the order of work */
    size_t count;
    size_t added, changed, removed, warnings;
    struct pst_revision revision;          /* that shows it; of a dry run: the standing one */
    uint32_t bound_before_s;               /* B as it was found */
    char token[PST_REVISION_TEXT_MAX + 1]; /* the same for Postern-Min-Revision; "" on failure */
    bool waited;                           /* the caller filled `barrier` */
    struct pst_barrier barrier;
    struct pst_arena arena_;
    size_t cap_;
};

/* The report is filled on success and to be given to pst_apply_report_fini always. */
PST_MUST_USE enum pst_status pst_apply(struct pst_store *store, const struct pst_tree *const *trees,
                                       size_t tree_count, const struct pst_apply_options *options,
                                       struct pst_error *error, struct pst_apply_report *report);
void pst_apply_report_fini(struct pst_apply_report *report);

/* What apply with prune would do: every difference between the files and the store, of the kinds
 * that the files contain. Changes nothing. */
PST_MUST_USE enum pst_status pst_diff(struct pst_store *store, const struct pst_tree *const *trees,
                                      size_t tree_count, const struct pst_apply_options *options,
                                      struct pst_error *error, struct pst_apply_report *report);

/* For people: one line an edit ("+ role blue/rest-all", "~", "-", "!"), and a last line of counts.
 */
PST_MUST_USE enum pst_status pst_report_text(const struct pst_apply_report *report, bool dry_run,
                                             FILE *out);
/* For programs: one JSON object. */
PST_MUST_USE enum pst_status pst_report_json(const struct pst_apply_report *report, bool dry_run,
                                             FILE *out);

/* Everything that apply understands, as YAML that apply accepts and that is the same for the same
 * content: sorted by name. Holds no credential of any kind. */
PST_MUST_USE enum pst_status pst_export(struct pst_store *store, FILE *out,
                                        struct pst_error *error);

#endif
