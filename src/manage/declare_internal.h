/*
 * declare_internal.h - declarations as they were read, before the store is asked anything.
 *
 * Everything stands in one arena, in lists in the order of the files.  `tree` and `node` tell where
 * a thing was declared.
 */
#ifndef POSTERN_MANAGE_DECLARE_INTERNAL_H
#define POSTERN_MANAGE_DECLARE_INTERNAL_H

#include "postern/manage/declare.h"

#define PST_DECLARED_MAX ((size_t)1 << 30) /* bytes of texts and rows */

struct place {
    const struct pst_tree *tree;
    const struct pst_node *node;
};

struct declared_workspace {
    struct declared_workspace *next;
    struct place place;
    struct pst_bytes name, kind, organization; /* empty: not said */
    uint32_t id;                               /* once it is in the store */
    unsigned same;                             /* the look in which nothing of it was to be done */
};

struct declared_permission {
    struct declared_permission *next;
    struct place place;
    struct pst_row_permission row;
    struct pst_bytes key; /* all of the row in one text: equal rows have equal keys */
};

struct declared_role {
    struct declared_role *next;
    struct place place;
    struct pst_bytes name, workspace;
    bool builtin, says_builtin, says_permissions;
    struct declared_permission *permissions;
    size_t permission_count;
    uint32_t id;
    unsigned same;
};

struct declared_identity {
    struct declared_identity *next;
    struct place place;
    struct pst_bytes issuer, subject;
};

struct declared_user {
    struct declared_user *next;
    struct place place;
    struct pst_bytes name, email;
    bool disabled, says_email, says_disabled, says_level, says_sessions, says_identities;
    uint64_t legacy_level, sessions_from;
    struct declared_identity *identities;
    uint64_t id;
    unsigned same, none_gone, none_new; /* the row; its identities */
};

struct declared_binding {
    struct declared_binding *next;
    struct place place;
    struct pst_bytes user, role, role_workspace, workspace;
    bool says_role_workspace;
    uint64_t id;
    unsigned same;
};

struct declared {
    struct pst_arena arena;
    const struct pst_presets *presets;
    struct pst_apply_report *report; /* takes the warnings */
    bool says_workspaces, says_roles, says_users, says_bindings;
    uint64_t max_staleness_s; /* 0: not declared */
    struct declared_workspace *workspaces, **workspaces_end;
    struct declared_role *roles, **roles_end;
    struct declared_user *users, **users_end;
    struct declared_binding *bindings, **bindings_end;
    size_t workspace_count, role_count, user_count, binding_count;
};

PST_MUST_USE enum pst_status pst_declared_read(struct declared *d,
                                               const struct pst_tree *const *trees,
                                               size_t tree_count, struct pst_error *error);

/* --- a look at the store, or a change of it: declare.c --- */

struct applying {
    struct declared *d;
    const struct pst_apply_options *options;
    struct pst_store *store;
    struct pst_change *change; /* NULL: a look */
    unsigned look;             /* marks of this one are good */
    bool differs, any;         /* what is at hand; anything so far */
    unsigned nothing_to_prune; /* a mark */
    struct pst_arena room;     /* for what is compared, and said: of one look, or of the change */
    struct pst_apply_report *report;
    struct pst_error *error; /* never NULL */
};

#define ARENA(a) (&(a)->room)

/* There is something to write; only a change goes on to do it. */
bool pst_declare_only_looks(struct applying *a);
PST_MUST_USE enum pst_status pst_declare_report(struct applying *a, enum pst_edit_action action,
                                                const char *kind, const char *name,
                                                const char *detail);
/* NUL-terminated, in the arena; NULL: no memory. */
const char *pst_declare_text(struct applying *a, struct pst_bytes b);
/* "blue/editor", or "editor" for a global definition. */
const char *pst_declare_role_name(struct applying *a, const struct declared_role *r);
const char *pst_declare_binding_name(struct applying *a, struct pst_bytes user,
                                     struct pst_bytes role_workspace, struct pst_bytes role,
                                     struct pst_bytes workspace);

/* declare_prune.c: deletes what is not declared, of the kinds that the files contain. */
PST_MUST_USE enum pst_status pst_declare_prune(struct applying *a);
/* Takes the identities of users that pst_declare_prune will delete, untold, as is whatever else goes
 * with a user. */
PST_MUST_USE enum pst_status pst_declare_prune_identities(struct applying *a);

/* declare_permission.c */
PST_MUST_USE enum pst_status
pst_declared_permission(struct declared *d, const struct pst_tree *tree,
                        const struct pst_node *node, const struct declared_role *role,
                        struct declared_permission **out, struct pst_error *error);
/* The key of a row, in the arena. ptr NULL: no memory. */
struct pst_bytes pst_permission_key(struct pst_arena *arena, const struct pst_row_permission *row);
/* A row and its texts in the arena. */
PST_MUST_USE enum pst_status pst_permission_copy(struct pst_arena *arena,
                                                 const struct pst_row_permission *row,
                                                 struct pst_row_permission *out);
/* "Pipeline/p1 LIST,DETAIL", for people; NUL-terminated. */
const char *pst_permission_text(struct pst_arena *arena, const struct pst_row_permission *row);
/* qsort over pointers to struct declared_permission: by key. */
int pst_permission_order(const void *a, const void *b);

/* declare_report.c */
PST_MUST_USE enum pst_status pst_report_add(struct pst_apply_report *report,
                                            enum pst_edit_action action, const char *kind,
                                            const char *name, const char *detail);

/* The rest of a store's or a memory's failure in words. */
enum pst_status pst_declare_nomem(struct pst_error *error);

#endif
