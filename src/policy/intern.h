/*
 * intern.h - gives equal bytes one number, from 0 in the order in which they first came; private to
 * this layer.
 *
 * Memory   Owned by the interner; what pst_interned returns moves with the next item.
 * Failure  false: no memory, or 4 GiB of bytes. The interner stays as it was.
 */
#ifndef POSTERN_POLICY_INTERN_H
#define POSTERN_POLICY_INTERN_H

#include "rules.h"

struct pst_interner {
    char *blob;
    struct pst_rule_name *items; /* in the blob */
    uint64_t *hashes;            /* of the items */
    uint32_t *slots;             /* number + 1; 0: free */
    size_t len, cap;
    uint32_t count, item_cap, mask;
};

/* expected: how many different items it is sized for; more may come. */
bool pst_interner_init(struct pst_interner *in, uint32_t expected);
void pst_interner_fini(struct pst_interner *in);

bool pst_intern(struct pst_interner *in, const struct pst_hash_key *key, struct pst_bytes bytes,
                uint32_t *number);

static inline struct pst_bytes pst_interned(const struct pst_interner *in, uint32_t number)
{
    return pst_bytes_of(in->blob + in->items[number].at, in->items[number].len);
}

#endif
