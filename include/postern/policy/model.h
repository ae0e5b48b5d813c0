/*
 * model.h - the rows of a policy as the store delivers them, before they are compiled.
 *
 * Purpose  One place that collects workspaces, roles and permission rows, from a database, from
 * YAML or in a test. compile.h turns it into what decides.
 *
 * Memory   The model owns copies of all texts and lists (one arena) and its row arrays. An added
 * row borrows nothing from the caller.
 *
 * Threads  None: one owner, off the request path.
 */
#ifndef POSTERN_POLICY_MODEL_H
#define POSTERN_POLICY_MODEL_H

#include "postern/base/arena.h"
#include "postern/policy/access.h"

enum pst_workspace_kind {
    PST_WORKSPACE_PROJECT = 0,
    PST_WORKSPACE_DEFAULT,
    PST_WORKSPACE_ENVIRONMENT,
};

struct pst_workspace_row {
    uint32_t id; /* from 1 */
    struct pst_bytes name;
    enum pst_workspace_kind kind;
    struct pst_bytes organization;
};

struct pst_role_row {
    uint32_t id; /* from 1 */
    struct pst_bytes name;
    uint32_t workspace; /* 0: a global definition; else the role counts in that workspace only */
    bool builtin;
    /* In what is to patch an older policy (compile.h): the model holds of its permissions only
     * those that are new, and names those that are gone; `total`: how many it has now. */
    bool partial;
    uint32_t total;
};

/* Where a direct row holds (Mage's column `entity`). */
enum pst_scope { PST_SCOPE_GLOBAL = 0, PST_SCOPE_PROJECT, PST_SCOPE_PIPELINE };

/* Memory that nobody filled grants nothing: has_access is false. */
struct pst_permission_row {
    uint64_t id; /* below 2^32 */
    uint32_t role;
    bool direct;             /* a built-in row: a level in `scope`, no grant on an entity */
    enum pst_scope scope;    /* direct rows only; PROJECT and PIPELINE are named by entity_id */
    bool has_access;         /* false: the column is NULL */
    uint64_t access;         /* PST_A_* */
    struct pst_bytes entity; /* empty: none, which matches nothing; "ALL"; "ALL_EXCEPT_RESERVED";
                              * "*" is taken as ALL */
    bool has_entity_id;
    struct pst_bytes entity_id;   /* empty text equals no id; "*" is taken as no id */
    struct pst_bytes entity_type; /* empty: any subtype */
    uint32_t conditions;          /* PST_COND_* */
    const struct pst_bytes *attributes[PST_ATTR_KINDS];
    uint32_t attribute_count[PST_ATTR_KINDS];
};

struct pst_model {
    struct pst_workspace_row *workspaces;
    struct pst_role_row *roles;
    struct pst_permission_row *permissions;
    uint32_t *gone; /* permissions of partial roles that are no more; in any order */
    uint32_t workspace_count, role_count, permission_count, gone_count;

    uint32_t workspace_cap_, role_cap_, permission_cap_, gone_cap_;
    struct pst_arena arena_;
};

#define PST_ENTITY_MAX     128 /* bytes of an entity name or a subtype */
#define PST_ENTITY_ID_MAX  1024
#define PST_ATTRIBUTE_MAX  256
#define PST_ATTRIBUTES_MAX 512 /* names in one list */

/* limit: bytes that the texts may take. */
void pst_model_init(struct pst_model *model, size_t limit);
void pst_model_fini(struct pst_model *model);

/* PST_E_INVALID: an id of 0 (or a permission id over 32 bits) or a missing name; PST_E_LIMIT: a
 * text or list over its bound, or the model's limit; PST_E_NOMEM. The model is unchanged then. */
PST_MUST_USE enum pst_status pst_model_add_workspace(struct pst_model *model,
                                                     const struct pst_workspace_row *row);
PST_MUST_USE enum pst_status pst_model_add_role(struct pst_model *model,
                                                const struct pst_role_row *row);
PST_MUST_USE enum pst_status pst_model_add_permission(struct pst_model *model,
                                                      const struct pst_permission_row *row);
PST_MUST_USE enum pst_status pst_model_add_gone(struct pst_model *model, uint32_t permission);

/* The condition bit of a name ("HAS_NOTEBOOK_EDIT_ACCESS"), 0 when there is none. */
uint32_t pst_condition_of(struct pst_bytes name);
/* The name of one condition bit. Never NULL. */
const char *pst_condition_name(uint32_t bit);

#endif
