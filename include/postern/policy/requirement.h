/*
 * requirement.h - what must hold for a request: the language between profiles and the evaluator.
 *
 * A profile turns a request into a list of requirements; the evaluator answers them from the
 * caller's facts and the snapshot. All must hold; neighbours joined by `or_next` are alternatives
 * of which one must. A requirement asks its keys in order: the first that speaks decides
 * (most-specific), or its only key is asked of all rows (deny-overrides).
 *
 * Memory   Texts are borrowed from the request, its arena or the profile.
 */
#ifndef POSTERN_POLICY_REQUIREMENT_H
#define POSTERN_POLICY_REQUIREMENT_H

#include "postern/policy/access.h"

enum pst_combining { PST_DENY_OVERRIDES = 0, PST_MOST_SPECIFIC };

enum pst_id_state {
    PST_ID_NONE = 0, /* a collection: LIST, CREATE; most-specific: the kind as a whole, (run, *) */
    PST_ID_KNOWN,
    PST_ID_UNKNOWN, /* some id of this entity, which only an upstream look-up (or the filtering of
                     * the answer) would tell */
};

struct pst_key {
    struct pst_bytes entity;
    struct pst_bytes id; /* PST_ID_KNOWN only */
    enum pst_id_state id_state;
    enum pst_op op; /* asked of this key when it is the one that decides */
};

/* Outside deny-overrides' grants an administrator passes every need but CLOSED. */
enum pst_need {
    PST_NEED_GRANT = 0,       /* keys decide */
    PST_NEED_AUTHENTICATED,   /* any known user */
    PST_NEED_ADMIN,           /* server administrator: OWNER on ALL, bound everywhere */
    PST_NEED_SELF,            /* `self` is the caller's own user name */
    PST_NEED_WORKSPACE_ADMIN, /* MANAGE on (workspace,*), in at least one workspace */
    PST_NEED_WORKSPACE_USE, /* create_in_workspace: USE on (workspace,*) in the active workspace */
    PST_NEED_WORKSPACE_MANAGE, /* MANAGE on (workspace,*) in the workspace named `self` (empty: the
                                * request's own) */
    PST_NEED_WORKSPACE_VIEW, /* the workspace named `self` (empty: the request's own) is visible */
    PST_NEED_CLOSED,         /* never holds: `closed` says why */
};

#define PST_KEYS_MAX 4

struct pst_requirement {
    enum pst_need need;
    bool or_next;           /* this one or the next must hold */
    enum pst_reason closed; /* PST_NEED_CLOSED; also what an undecided PST_ID_UNKNOWN answers
                             * (NEEDS_LOOKUP or NEEDS_FILTER; 0 is NEEDS_LOOKUP) */
    struct pst_bytes self;  /* PST_NEED_SELF, PST_NEED_WORKSPACE_* */
    uint32_t key_count;
    struct pst_key keys[PST_KEYS_MAX];
    /* Two alternatives of keys[0] alone: the object is of this entity or of `or_entity`, which only
     * a look-up would tell (registered_model or prompt). Decided when both answers are equal. */
    struct pst_bytes or_entity;

    /* Attributes that keys[0].op touches, each asked on its own (deny-overrides only). Names. */
    const struct pst_bytes *attributes[PST_ATTR_KINDS];
    uint32_t attribute_count[PST_ATTR_KINDS];
    /* The object's subtype, when known (Mage entity_type). */
    struct pst_bytes subtype;
    /* Mage: the pipeline that the object belongs to, when it is known; for pipeline-scoped levels.
     */
    struct pst_bytes pipeline;
};

#endif
