/*
 * image.h - a compiled policy as bytes, for a start that need not ask a database for a million
 * rows.
 *
 * Format   A head, the workspaces, the roles with their rows, names, lists and texts, in the byte
 *          order of the machine. Tables and hashes are not in it: the reader works them out with a
 *          hash key of its own. An image is read by the release that wrote it, and by no other:
 *          what the rows mean is the compiler's business.
 *
 * Failure  The reader trusts nothing: every count, range and offset is checked, and bytes that
 *          are left over are an error as missing ones are. It cannot know a bit of a permission
 *          that was flipped: who keeps an image where others write puts a MAC around it.
 *
 * Memory   The policy that is read owns its memory, as much as a compiled one; the bytes may go.
 */
#ifndef POSTERN_POLICY_IMAGE_H
#define POSTERN_POLICY_IMAGE_H

#include "postern/policy/compile.h"

/* Takes the next bytes; anything but PST_OK ends the writing. */
typedef enum pst_status pst_image_sink_fn(void *ctx, struct pst_bytes bytes);

/* PST_OK, or what the sink returned. */
PST_MUST_USE enum pst_status pst_policy_image_write(const struct pst_policy *policy,
                                                    pst_image_sink_fn *sink, void *ctx);

/* PST_E_INVALID: no image, of another release, or damaged: *error says what. PST_E_NOMEM. *out is
 * NULL on failure. */
PST_MUST_USE enum pst_status pst_policy_image_read(struct pst_bytes image, struct pst_policy **out,
                                                   struct pst_error *error);

#endif
