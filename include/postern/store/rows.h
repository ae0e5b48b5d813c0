/*
 * rows.h - the rows of the policy tables, as the store reads and writes them.
 *
 * Texts are borrowed: from the caller when a row is written, for the call of the row function when
 * it is read.  Id 0 is "none": a workspace id of 0 means everywhere, or a global definition.
 */
#ifndef POSTERN_STORE_ROWS_H
#define POSTERN_STORE_ROWS_H

#include "postern/base/bytes.h"

/* Position in the change log. The epoch is drawn at random when the database is made and whenever
 * its history is replaced (restore); revisions of different epochs cannot be compared. */
struct pst_revision {
    uint64_t epoch;
    uint64_t n;
};

struct pst_row_workspace {
    uint32_t id;
    struct pst_bytes name; /* DNS label: a-z 0-9 '-', 1..63, no '-' at the ends */
    struct pst_bytes kind; /* default | project | environment */
    struct pst_bytes organization;
};

struct pst_row_user {
    uint64_t id;
    struct pst_bytes name;
    struct pst_bytes email; /* may be empty */
    bool disabled;
    uint32_t legacy_level;  /* see policy/facts.h */
    uint64_t sessions_from; /* seconds; tokens issued before are refused; 0: none */
};

struct pst_row_identity {
    uint64_t user;
    struct pst_bytes issuer, subject;
};

struct pst_row_role {
    uint32_t id;
    uint32_t workspace;
    struct pst_bytes name;
    bool builtin;
};

/* Lists are JSON arrays of strings in canonical form (no blanks, as given), or empty for none. */
struct pst_row_permission {
    uint64_t id;
    uint32_t role;
    bool direct;     /* came as a direct permission of a role (Mage) */
    bool has_access; /* false: the access column is NULL, which grants nothing */
    bool has_entity_id;
    uint64_t access;
    struct pst_bytes scope; /* global | project | pipeline */
    struct pst_bytes entity, entity_id, entity_type;
    struct pst_bytes conditions, query_attributes, read_attributes, write_attributes;
};

struct pst_row_binding {
    uint64_t id;
    uint64_t user;
    uint32_t role;
    uint32_t workspace;
};

/* A binding by names. */
struct pst_row_named_binding {
    uint64_t id, user_id;
    struct pst_bytes user, role;
    struct pst_bytes role_workspace; /* empty: a global role */
    struct pst_bytes workspace;      /* empty: everywhere */
    bool shadowed; /* a global role, while the binding's workspace has one of the same name */
};

#endif
