/*
 * Items are numbered in the order in which they came; a table of numbers, with open addressing,
 * finds them by the hash of their bytes.
 */
#include "intern.h"

#include <stdlib.h>

/* Both halves of the product. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Not inlined: it would take the registers of whoever asks. */
__attribute__((noinline)) uint64_t pst_text_hash(const struct pst_hash_key *key,
                                                 struct pst_bytes text)
{
    uint64_t hash = key->k0 ^ text.len, first = 0, second = 0;
    const char *at = text.ptr;
    size_t left = text.len;

    for (; left > 16; at += 16, left -= 16)
        hash = fold(pst_load_8(at) ^ key->k1, pst_load_8(at + 8) ^ hash);
    if (text.len >= 16) { /* the last sixteen, some of them for the second time */
        first = pst_load_8(at + left - 16);
        second = pst_load_8(at + left - 8);
    } else if (left >= 8) {
        first = pst_load_8(at);
        second = pst_load_8(at + left - 8);
    } else if (left >= 4) {
        first = pst_load_4(at);
        second = pst_load_4(at + left - 4);
    } else if (left > 0) {
        first = (uint64_t)(unsigned char)at[0] << 16 | (uint64_t)(unsigned char)at[left / 2] << 8 |
                (unsigned char)at[left - 1];
    }
    return fold(first ^ key->k1, second ^ hash);
}

bool pst_interner_init(struct pst_interner *in, uint32_t expected)
{
    *in = (struct pst_interner){.mask = 63};
    while (in->mask / 2 < expected && in->mask < UINT32_MAX / 2)
        in->mask = in->mask * 2 + 1;
    in->slots = calloc(in->mask + 1u, sizeof(*in->slots));
    return in->slots != NULL;
}

void pst_interner_fini(struct pst_interner *in)
{
    free(in->blob);
    free(in->items);
    free(in->hashes);
    free(in->slots);
}

static bool interner_rehash(struct pst_interner *in)
{
    uint32_t mask = in->mask * 2 + 1;
    uint32_t *slots = calloc((size_t)mask + 1, sizeof(*slots));

    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i < in->count; i++) {
        uint32_t at = (uint32_t)in->hashes[i] & mask;
        while (slots[at] != 0)
            at = (at + 1) & mask;
        slots[at] = i + 1;
    }
    free(in->slots);
    in->slots = slots;
    in->mask = mask;
    return true;
}

static bool interner_room(struct pst_interner *in, size_t len)
{
    if (in->count > in->mask / 2 && !interner_rehash(in))
        return false;
    if (in->count == in->item_cap) {
        uint32_t cap = in->item_cap == 0 ? 64 : in->item_cap * 2;
        struct pst_rule_name *items = reallocarray(in->items, cap, sizeof(*items));
        if (items == NULL)
            return false;
        in->items = items;
        uint64_t *hashes = reallocarray(in->hashes, cap, sizeof(*hashes));
        if (hashes == NULL)
            return false;
        in->hashes = hashes;
        in->item_cap = cap;
    }
    if (len >= in->cap - in->len) { /* never a NULL blob, not even for empty texts */
        size_t cap = in->cap * 2 + len + 256;
        if (cap > UINT32_MAX)
            return false;
        char *blob = realloc(in->blob, cap);
        if (blob == NULL)
            return false;
        in->blob = blob;
        in->cap = cap;
    }
    return true;
}

bool pst_intern(struct pst_interner *in, const struct pst_hash_key *key, struct pst_bytes bytes,
                uint32_t *number)
{
    if (!interner_room(in, bytes.len))
        return false;
    uint64_t hash = pst_text_hash(key, bytes);
    uint32_t at = (uint32_t)hash & in->mask;
    for (; in->slots[at] != 0; at = (at + 1) & in->mask) {
        *number = in->slots[at] - 1;
        if (in->hashes[*number] == hash && pst_bytes_equal(pst_interned(in, *number), bytes))
            return true;
    }
    *number = in->count++;
    in->hashes[*number] = hash;
    in->slots[at] = *number + 1;
    in->items[*number] = (struct pst_rule_name){(uint32_t)in->len, (uint32_t)bytes.len};
    if (bytes.len > 0)
        memcpy(in->blob + in->len, bytes.ptr, bytes.len);
    in->len += bytes.len;
    return true;
}
