/*
 * facts.h - what the store says of one user: who it is and which roles are bound where.
 *
 * Memory   One allocation: texts and bindings stand behind the struct. Reference-counted by hand is
 *          not needed: a facts block belongs to the worker whose cache holds it, and a decision
 * copies nothing out of it but borrowed texts that live as long as the decision (the cache frees a
 *          block that leaves only after the running turn).
 */
#ifndef POSTERN_POLICY_FACTS_H
#define POSTERN_POLICY_FACTS_H

#include "postern/base/bytes.h"

struct pst_binding {
    uint64_t id;
    uint32_t role;      /* id of the role */
    uint32_t workspace; /* id of the workspace; 0: everywhere */
};

struct pst_facts {
    uint64_t user_id;      /* 0: no such user */
    struct pst_bytes name; /* the user's name, what the upstream is told */
    bool disabled;
    uint32_t
        legacy_level; /* Mage's legacy bits: 1 admin, 2 editor, 4 viewer; bit 31: legacy owner */
    uint64_t sessions_from; /* tokens issued before this second are refused; 0: none */
    uint64_t revision;      /* n of the change log these rows were read at */
    uint32_t binding_count;
    const struct pst_binding *bindings;
};

#endif
