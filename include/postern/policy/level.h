/*
 * level.h - the two tables that policies hold besides permissions: what each level may do when
 *           permissions are switched off, and the presets of bits that roles name as levels.
 *
 * Level table   per entity and operation: who may (none = anybody of that scope, viewer, editor,
 * ..., owner, self_or_admin), for signed-in callers or (public_...) for those who are not; the same
 * for each attribute. Form of the file: policies/profiles/mage-levels.yaml. Presets       name ->
 * bits. Form of the file: policies/roles/levels.yaml.
 *
 * Memory   Each table owns copies of its texts.   Threads  Immutable after load: any.
 */
#ifndef POSTERN_POLICY_LEVEL_H
#define POSTERN_POLICY_LEVEL_H

#include "postern/base/tree.h"
#include "postern/policy/access.h"

struct pst_levels; /* opaque */

/* From a tree whose root is {levels: {...}}. *out is NULL on failure. */
PST_MUST_USE enum pst_status pst_levels_load(const struct pst_tree *tree, struct pst_levels **out,
                                             struct pst_error *error);
void pst_levels_free(struct pst_levels *levels); /* accepts NULL */

/* Whose level an entity asks for. */
enum pst_level_question {
    PST_ASK_PROJECT = 0, /* rows of the running project, and global ones */
    PST_ASK_ANY,         /* every row */
    PST_ASK_PIPELINE,    /* rows of the object's pipeline too; without one the project's */
};

enum pst_level {
    PST_LEVEL_NONE = 0, /* no condition */
    PST_LEVEL_VIEWER,
    PST_LEVEL_EDITOR,
    PST_LEVEL_EDITOR_NOTEBOOK, /* and notebook editing is on */
    PST_LEVEL_EDITOR_PIPELINE, /* and pipeline editing is on */
    PST_LEVEL_ADMIN,
    PST_LEVEL_OWNER,
    PST_LEVEL_SELF_OR_ADMIN,
    PST_LEVELS,
};

/* Levels of which any one is enough, as a mask of (1 << enum pst_level); no bit: nobody. */
struct pst_level_rule {
    uint16_t signed_in, signed_out;
};

const char *pst_level_name(enum pst_level level);

enum pst_level_question pst_levels_question(const struct pst_levels *levels,
                                            struct pst_bytes entity);
struct pst_level_rule pst_levels_operation(const struct pst_levels *levels, struct pst_bytes entity,
                                           enum pst_op op);
struct pst_level_rule pst_levels_attribute(const struct pst_levels *levels, struct pst_bytes entity,
                                           enum pst_op op, enum pst_attribute_kind kind,
                                           struct pst_bytes name);
/* With permissions on: the operation asks nobody (Status LIST). Its attributes are not asked. */
bool pst_levels_open(const struct pst_levels *levels, struct pst_bytes entity, enum pst_op op,
                     bool signed_in);
/* With permissions on: the entity has no operation that a permission could grant. */
bool pst_levels_closed(const struct pst_levels *levels, struct pst_bytes entity, enum pst_op op);

struct pst_presets {
    struct pst_arena arena_;
    struct {
        struct pst_bytes name;
        uint64_t access;
    } presets[32];
    uint32_t count;
};

/* From a tree whose root is {levels: {READ: [LIST, DETAIL], USE: [READ, USE], ...}}: each name a
 * list of bit names and of presets above it. */
PST_MUST_USE enum pst_status pst_presets_load(const struct pst_tree *tree, struct pst_presets *out,
                                              struct pst_error *error);
void pst_presets_fini(struct pst_presets *presets);
/* False when there is no such preset. */
bool pst_presets_find(const struct pst_presets *presets, struct pst_bytes name, uint64_t *access);

#endif
