/*
 * rules.h - the compiled rows of one role, shared by compile, eval and explain; private to this layer.
 *
 *   rules      [ direct rows | entity 0: plain rows, id rows by id, wide rows | entity 1: ... ]
 *   slots      open addressing over (entity, id) -> first of its id rows
 *   entities   sorted by nothing; found through entity_slots
 *
 * I1  Equal texts of a role have one offset, so equal ids are equal id_at within an entity.
 * I2  Id rows of one (entity, id) are neighbours.
 * I3  A wide row stands for what the id rows of its entity deny when no single object is asked for:
 *     one row per deny bit (with its first contributor's permission and id), one per kind of
 *     attribute list (with the union of the lists). It grants nothing.
 * I4  A row whose access is NULL, or that names no entity, is no rule.
 * I5  Every row's id is here once: in its rule, or, when it decides nothing or is equal to another
 *     row, in `others`. So an index tells which rows it was made of, and a later one is made from it.
 */
#ifndef POSTERN_POLICY_RULES_H
#define POSTERN_POLICY_RULES_H

#include <stdatomic.h>

#include "postern/base/error.h"
#include "postern/base/hash.h"
#include "postern/policy/compile.h"
#include "short.h"

/* struct pst_rule.word: the access bits, and above them */
#define PST_RULE_ACCESS      ((UINT64_C(1) << 38) - 1)
#define PST_RULE_CONDITIONS  40 /* shift of PST_COND_* */
#define PST_RULE_HAS_ID      (UINT64_C(1) << 44)
#define PST_RULE_SCOPE       45 /* shift of enum pst_scope; direct rows */
#define PST_RULE_WIDE        (UINT64_C(1) << 47)

struct pst_rule {
    uint64_t word;
    uint32_t permission;
    uint32_t id_at;  /* of the id's text */
    uint32_t extra;  /* index + 1 of its lists and subtype; 0: none */
    uint16_t entity;
    uint16_t id_len;
};
_Static_assert(sizeof(struct pst_rule) == 24, "rows are what a million of is kept in memory");

struct pst_rule_name {
    uint32_t at, len;
};

struct pst_rule_list {
    uint64_t bloom; /* of pst_name_bit of its names */
    uint32_t first, count;
    bool every; /* holds the wildcard */
};

struct pst_rule_extra {
    uint32_t list[PST_ATTR_KINDS]; /* index + 1; 0: empty */
    struct pst_rule_name type;     /* len 0: any */
};

struct pst_rule_other {
    uint32_t permission;
    uint32_t same; /* the permission of the rule that it is equal to; 0: it decides nothing */
};

struct pst_entity_rules {
    uint64_t hash;
    struct pst_rule_name name;
    uint32_t plain, plain_count;
    uint32_t ids, id_count;
    uint32_t wide, wide_count;
    uint64_t id_access; /* OR of the access of the id rows */
    /* Where the id text of row ids + n most likely stands: id_text + n * id_stride. True when ids are
     * distinct and of one length, as uuids are; only used to fetch it early. */
    uint32_t id_text, id_stride;
};

struct pst_role_rules {
    _Atomic uint32_t refs; /* counts the policies that share it; relaxed up, acq_rel down to the free */
    uint64_t permissions;  /* as given */
    size_t bytes;
    const struct pst_rule *rules;
    const struct pst_entity_rules *entities;
    const uint32_t *slots; /* tag in the top 8 bits, index of the rule + 1 below; 0: free */
    const uint16_t *entity_slots; /* index + 1; 0: free */
    const struct pst_rule_list *lists;
    const struct pst_rule_name *names;
    const struct pst_rule_extra *extras;
    const struct pst_rule_other *others;
    const char *text;
    uint32_t rule_count, entity_count, direct_count, text_len;
    uint32_t other_count;
    uint32_t id_count, list_count, name_count; /* different (entity, id); lists, and extras */
    uint32_t slot_mask, entity_mask;
    const struct pst_entity_rules *all, *all_except, *workspace; /* NULL: none */
    bool broad; /* there is one of the first two */
    uint64_t workspace_grants, workspace_denies;     /* of (workspace, *) */
    bool owner_all;    /* a plain OWNER row on ALL */
    bool owner_direct; /* a direct OWNER row of scope global */
};

#define PST_RULE_INDEX ((UINT32_C(1) << 24) - 1)

/* The hash of the policy's tables. Who names the objects of a policy does not know its key, which is
 * in both factors, and never sees a hash: that is all it takes to keep names from being aimed at one
 * slot, at a fifth of what pst_hash costs. */
uint64_t pst_text_hash(const struct pst_hash_key *key, struct pst_bytes text);

static inline uint64_t pst_slot_hash(uint64_t entity_hash, uint64_t id_hash)
{
    uint64_t x = entity_hash + id_hash * UINT64_C(0x9e3779b97f4a7c15);

    return x ^ (x >> 32);
}

static inline uint64_t pst_name_bit(struct pst_bytes name)
{
    unsigned sum = (unsigned)name.len;

    if (name.len > 0)
        sum += (unsigned)(unsigned char)name.ptr[0] * 7 +
               (unsigned)(unsigned char)name.ptr[name.len - 1] * 3;
    return UINT64_C(1) << (sum & 63);
}

static inline struct pst_bytes pst_rules_text(const struct pst_role_rules *r, uint32_t at, uint32_t len)
{
    return pst_bytes_of(r->text + at, len);
}

static inline const struct pst_entity_rules *pst_rules_entity(const struct pst_role_rules *r,
                                                              uint64_t hash, struct pst_bytes name)
{
    for (uint32_t at = (uint32_t)hash & r->entity_mask;; at = (at + 1) & r->entity_mask) {
        if (r->entity_slots[at] == 0)
            return NULL;
        const struct pst_entity_rules *e = &r->entities[r->entity_slots[at] - 1];
        if (e->hash == hash && pst_short_equal(pst_rules_text(r, e->name.at, e->name.len), name))
            return e;
    }
}

/* True when `name` itself is in the list; what the wildcard means is the caller's business. */
static inline bool pst_rules_listed(const struct pst_role_rules *r, const struct pst_rule_list *list,
                                    struct pst_bytes name)
{
    if ((list->bloom & pst_name_bit(name)) == 0)
        return false;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct pst_rule_name *n = &r->names[list->first + i];
        if (pst_bytes_equal(pst_rules_text(r, n->at, n->len), name))
            return true;
    }
    return false;
}

/* ALL_EXCEPT_RESERVED does not reach these: Mage's four, and what Postern itself keeps (`postern:`). */
static inline bool pst_entity_reserved(struct pst_bytes entity)
{
    return pst_bytes_equal(entity, PST_LIT("Oauth")) ||
           pst_bytes_equal(entity, PST_LIT("OauthAccessToken")) ||
           pst_bytes_equal(entity, PST_LIT("OauthApplication")) ||
           pst_bytes_equal(entity, PST_LIT("Workspace")) ||
           pst_bytes_starts(entity, PST_LIT("postern:"));
}

/* What a block has room for. */
struct pst_rules_size {
    uint32_t rules, entities, ids, lists, names, others, text; /* as many extras as lists */
};

/* The arrays of a block while it is filled. */
struct pst_rules_parts {
    struct pst_rule *rules;
    struct pst_entity_rules *entities;
    uint32_t *slots;
    uint16_t *entity_slots;
    struct pst_rule_list *lists;
    struct pst_rule_name *names;
    struct pst_rule_extra *extras;
    struct pst_rule_other *others;
    char *text;
};

/* Zeroed but for the counts, with one reference. NULL: no memory. */
struct pst_role_rules *pst_rules_new(const struct pst_rules_size *size, struct pst_rules_parts *to);
/* To be filled before: rules, text, names, extras, others; name and ranges of the entities, ranges of the lists;
 * direct_count. Works out the rest but for the slots. False when an entity's name stands twice. */
bool pst_rules_seal(const struct pst_hash_key *key, struct pst_role_rules *rules,
                    const struct pst_rules_parts *to);

static inline uint32_t pst_rules_slot(uint64_t hash, uint32_t index)
{
    return (uint32_t)(hash >> 56) << 24 | (index + 1);
}

static inline uint32_t pst_rules_free_slot(const struct pst_role_rules *r, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & r->slot_mask;

    while (r->slots[at] != 0)
        at = (at + 1) & r->slot_mask;
    return at;
}

/* rows: the permission rows of one role. *out has one reference. */
PST_MUST_USE enum pst_status pst_rules_build(const struct pst_hash_key *key,
                                             const struct pst_permission_row *const *rows,
                                             uint32_t count, struct pst_role_rules **out,
                                             struct pst_error *error);
/* The same from an older index and what became of its rows since. PST_E_INVALID: it does not add up. */
struct pst_rules_change {
    const struct pst_role_rules *base;
    const uint32_t *gone; /* permissions that are no more, ascending; of other roles, too */
    uint32_t gone_count;
    const struct pst_permission_row *const *rows; /* that are new, ascending */
    uint32_t count;
    uint32_t total; /* rows that there are now */
};
PST_MUST_USE enum pst_status pst_rules_change(const struct pst_hash_key *key,
                                              const struct pst_rules_change *change,
                                              struct pst_role_rules **out, struct pst_error *error);
/* The permissions it was made of, ascending: r->permissions many, to be freed. NULL: no memory. */
uint32_t *pst_rules_permissions(const struct pst_role_rules *rules);
/* How many rows it was made of, by what it holds: r->permissions, or it is damaged. */
uint64_t pst_rules_rows(const struct pst_role_rules *rules);
void pst_rules_release(struct pst_role_rules *rules); /* accepts NULL */

struct pst_policy_role {
    struct pst_bytes name;
    uint32_t id, workspace;
    bool builtin;
    struct pst_role_rules *rules;
};

struct pst_policy {
    struct pst_snapshot snapshot; /* first: the hub frees through it */
    struct pst_hash_key key;      /* one key for all role indexes that share rows */
    struct pst_policy_role *roles;
    struct pst_workspace_row *workspaces;
    uint32_t *role_slots;      /* by id: index + 1 */
    uint32_t *workspace_slots; /* by name: index + 1 */
    uint32_t *workspace_ids;   /* by id: index + 1 */
    uint32_t role_count, workspace_count;
    uint32_t role_mask, workspace_mask;
    uint32_t default_workspace; /* its id; 0: none */
    bool direct;                /* a role has direct rows */
    char *text;
    size_t text_len;
};

static inline uint32_t pst_role_hash(uint32_t id)
{
    return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static inline const struct pst_policy_role *pst_policy_find_role(const struct pst_policy *p, uint32_t id)
{
    for (uint32_t at = pst_role_hash(id) & p->role_mask;; at = (at + 1) & p->role_mask) {
        if (p->role_slots[at] == 0)
            return NULL;
        const struct pst_policy_role *role = &p->roles[p->role_slots[at] - 1];
        if (role->id == id)
            return role;
    }
}

#endif
