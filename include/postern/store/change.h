/*
 * change.h - changing policy: one transaction, one row of the change log.
 *
 * Purpose  begin takes the write lock and numbers the change; the functions here write rows and
 * note which users, roles and workspaces they touch; commit writes the log row and an audit row and
 * makes everything visible at once.  A change that touched nothing is rolled back: no log row, no
 * gap, and commit gives the revision that stands.
 *
 * Guard    The schema itself refuses a policy write outside of a numbered change and a commit
 * without the log row (migrations/0001), whoever writes.
 *
 * Use      After any error abort the change; commit of a failed change is refused.
 *
 * Threads  The store's. One change at a time per store; others wait up to 2 s, then PST_E_BUSY.
 *
 * Retention  Every so many changes the oldest rows of the log go; a reader that is behind them
 * loads everything anew.
 *
 * Durability  PST_OK from commit means that the change is on disk (SQLite: synchronous=FULL;
 *             PostgreSQL: synchronous_commit, which `postern db check` wants not to be off). After
 *             PST_E_IO from a commit nobody knows: read the store again.
 */
#ifndef POSTERN_STORE_CHANGE_H
#define POSTERN_STORE_CHANGE_H

#include "postern/store/store.h"

struct pst_change; /* part of its store */

/* actor: who does it, for the log and the audit ("cli:root", "issuer|subject"). */
PST_MUST_USE enum pst_status pst_change_begin(struct pst_store *store, struct pst_bytes actor,
                                              struct pst_change **out, struct pst_error *error);
/* Ends the change either way; *revision is what shows it (or the standing one when nothing
 * changed). */
PST_MUST_USE enum pst_status pst_change_commit(struct pst_change *change,
                                               struct pst_revision *revision,
                                               struct pst_error *error);
/* Accepts NULL. */
void pst_change_abort(struct pst_change *change);
/* Whether anything was written yet. */
bool pst_change_dirty(const struct pst_change *change);
/* One line for the audit row: what was done. The last one counts. */
void pst_change_describe(struct pst_change *change, const char *action, const char *detail);

/* put: id 0 inserts and sets row->id; else the row with that id is overwritten. PST_E_EXISTS when
 * the name is taken, PST_E_INVALID when the schema refuses a value or a reference. */
PST_MUST_USE enum pst_status pst_change_put_workspace(struct pst_change *change,
                                                      struct pst_row_workspace *row,
                                                      struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_put_user(struct pst_change *change,
                                                 struct pst_row_user *row, struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_put_role(struct pst_change *change,
                                                 struct pst_row_role *row, struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_add_identity(struct pst_change *change,
                                                     const struct pst_row_identity *row,
                                                     struct pst_error *error);
/* Permissions are added and deleted, never overwritten: row->id is set. */
PST_MUST_USE enum pst_status pst_change_add_permission(struct pst_change *change,
                                                       struct pst_row_permission *row,
                                                       struct pst_error *error);
/* Many at once, in one statement where statements are dear; their ids are not told. *failed: the
 * row that was refused, or the first one when that is not known. */
#define PST_CHANGE_ROWS_MAX 1000
PST_MUST_USE enum pst_status pst_change_add_permissions(struct pst_change *change,
                                                        struct pst_row_permission *const *rows,
                                                        size_t count, size_t *failed,
                                                        struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_add_binding(struct pst_change *change,
                                                    struct pst_row_binding *row,
                                                    struct pst_error *error);

/* B for the whole fleet, 1 to 60 seconds: nodes learn it with the log. The same as it is: nothing
 * changes. */
PST_MUST_USE enum pst_status pst_change_set_bound(struct pst_change *change, uint32_t seconds,
                                                  struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_bound(struct pst_store *store, uint32_t *seconds,
                                             struct pst_error *error);

/* delete: what hangs on the row goes with it (a role's permissions and bindings, a user's
 * identities and bindings, a workspace's roles and bindings) and is noted in the log. PST_E_ABSENT:
 * no such. */
PST_MUST_USE enum pst_status pst_change_delete_workspace(struct pst_change *change, uint32_t id,
                                                         struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_delete_user(struct pst_change *change, uint64_t id,
                                                    struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_delete_role(struct pst_change *change, uint32_t id,
                                                    struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_delete_identity(struct pst_change *change,
                                                        const struct pst_row_identity *row,
                                                        struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_delete_permission(struct pst_change *change, uint64_t id,
                                                          uint32_t role, struct pst_error *error);
PST_MUST_USE enum pst_status pst_change_delete_binding(struct pst_change *change,
                                                       const struct pst_row_binding *row,
                                                       struct pst_error *error);

/* Look-ups, inside a change or outside. PST_E_ABSENT when there is none; *out keeps its texts until
 * the next look-up of the store. workspace 0 with a role's name: the global definition. */
PST_MUST_USE enum pst_status pst_store_find_workspace(struct pst_store *store,
                                                      struct pst_bytes name,
                                                      struct pst_row_workspace *out,
                                                      struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_find_user(struct pst_store *store, struct pst_bytes name,
                                                 struct pst_row_user *out, struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_find_role(struct pst_store *store, struct pst_bytes name,
                                                 uint32_t workspace, struct pst_row_role *out,
                                                 struct pst_error *error);

/* Lists, in the order of names (permissions: of ids). A function that does not return PST_OK ends
 * the list, which then returns the same. No other call on the store from inside the function. */
typedef enum pst_status pst_each_workspace_fn(void *ctx, const struct pst_row_workspace *row);
typedef enum pst_status pst_each_user_fn(void *ctx, const struct pst_row_user *row);
typedef enum pst_status pst_each_role_fn(void *ctx, const struct pst_row_role *row);
typedef enum pst_status pst_each_identity_fn(void *ctx, const struct pst_row_identity *row);
typedef enum pst_status pst_each_permission_fn(void *ctx, const struct pst_row_permission *row);
typedef enum pst_status pst_each_binding_fn(void *ctx, const struct pst_row_binding *row);

PST_MUST_USE enum pst_status pst_store_each_workspace(struct pst_store *store,
                                                      pst_each_workspace_fn *each, void *ctx,
                                                      struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_each_user(struct pst_store *store, pst_each_user_fn *each,
                                                 void *ctx, struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_each_role(struct pst_store *store, pst_each_role_fn *each,
                                                 void *ctx, struct pst_error *error);
/* Of one user, of all when user is 0. */
PST_MUST_USE enum pst_status pst_store_each_identity(struct pst_store *store, uint64_t user,
                                                     pst_each_identity_fn *each, void *ctx,
                                                     struct pst_error *error);
PST_MUST_USE enum pst_status pst_store_each_binding(struct pst_store *store, uint64_t user,
                                                    pst_each_binding_fn *each, void *ctx,
                                                    struct pst_error *error);
/* All, in the order of their names. */
typedef enum pst_status pst_each_named_binding_fn(void *ctx,
                                                  const struct pst_row_named_binding *row);
PST_MUST_USE enum pst_status pst_store_each_named_binding(struct pst_store *store,
                                                          pst_each_named_binding_fn *each,
                                                          void *ctx, struct pst_error *error);
/* Of one role, of all when role is 0. */
PST_MUST_USE enum pst_status pst_store_each_permission(struct pst_store *store, uint32_t role,
                                                       pst_each_permission_fn *each, void *ctx,
                                                       struct pst_error *error);

/* A user that signs in for the first time. */
struct pst_new_user {
    struct pst_bytes issuer, subject;
    struct pst_bytes name;  /* empty: the subject */
    struct pst_bytes email; /* may be empty */
    struct pst_bytes role;  /* a global role bound everywhere; empty: none */
};

/* Makes the user unless the identity is known already (then PST_OK, nothing changes). PST_E_EXISTS:
 * the name belongs to another user; nobody gets somebody else's account by choosing a name.
 * PST_E_ABSENT: no such role. *id is the user's. */
PST_MUST_USE enum pst_status pst_store_ensure_user(struct pst_store *store,
                                                   const struct pst_new_user *user, uint64_t *id,
                                                   struct pst_error *error);

#endif
