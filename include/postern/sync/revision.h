/*
 * revision.h - revisions as texts that clients carry from node to node (contract C5, C6).
 *
 * Form      16 hex digits of the epoch, '-', n in decimal, '.', 32 hex digits of a MAC under the
 * fleet's key.  A node that is given one decides at that revision or a later one; without the MAC
 *           anybody could make nodes wait for a revision that will never be.
 *
 * Memory    None. Pure.
 */
#ifndef POSTERN_SYNC_REVISION_H
#define POSTERN_SYNC_REVISION_H

#include "postern/base/buf.h"
#include "postern/store/store.h"

#define PST_REVISION_TEXT_MAX 72 /* bytes that pst_revision_write writes at most */

/* False: it could not be made (no memory, no room), and nothing counts of what stands in `out`. */
PST_MUST_USE bool pst_revision_token_write(const uint8_t key[PST_FLEET_KEY_BYTES],
                                           const struct pst_revision *revision,
                                           struct pst_buf *out);
/* False for anything but what a node with that key wrote. */
PST_MUST_USE bool pst_revision_token_read(const uint8_t key[PST_FLEET_KEY_BYTES],
                                          struct pst_bytes text, struct pst_revision *out);

#endif
