/*
 * snapshot.h - the compiled policy in a file, so that a start need not wait for a million rows.
 *
 * Purpose    What a node knew, with the log mark up to which it knew it. The next start takes it as
 *            its base and reads the log from that mark on; it serves once that read proved the mark
 *            and what came after it is applied.
 *
 * Freshness  None comes from the file: no time in it is used, and it never grants a lease. A mark
 *            that the log does not prove means that everything is loaded anew.
 *
 * Trust      An HMAC under a key of the node covers every byte and is checked before any is looked
 *            at. File and key must be regular files of the process's own user that nobody else can
 *            read or write; links are not followed.
 *
 * Failure    A snapshot that is not taken is no fault: the caller loads from the database.
 *
 * Cost       10^6 permissions: 60 MB; saved in 0.1 s, loaded in 0.2. Saving needs no memory of
 *            that size, loading does for the moment.
 */
#ifndef POSTERN_SYNC_SNAPSHOT_H
#define POSTERN_SYNC_SNAPSHOT_H

#include "postern/base/secret.h"
#include "postern/policy/compile.h"
#include "postern/store/log.h"

struct pst_snapshot_about {
    struct pst_log_mark mark;  /* the last change that is in the policy */
    uint32_t schema;           /* of the database that it came from */
    uint32_t max_staleness_s;  /* B, as it was then: for a caller that must say something of it */
    uint64_t saved_at_wall_ns; /* filled by save; for people */
};

/* Whole or not at all: written as `path`.new with mode 0600, synced, renamed, the directory synced.
 * A `path`.new that is there is thrown away. On failure what stands at `path` is still whole. */
PST_MUST_USE enum pst_status pst_snapshot_save(const char *path,
                                               const unsigned char key[PST_MAC_KEY_LEN],
                                               const struct pst_snapshot_about *about,
                                               const struct pst_policy *policy,
                                               struct pst_error *error);

/* PST_E_ABSENT: there is none. PST_E_INVALID: it is not to be trusted, cut off, damaged or of
 * another release; *error says which. PST_E_IO, PST_E_NOMEM. *policy is NULL on failure. */
PST_MUST_USE enum pst_status pst_snapshot_load(const char *path,
                                               const unsigned char key[PST_MAC_KEY_LEN],
                                               struct pst_snapshot_about *about,
                                               struct pst_policy **policy, struct pst_error *error);

/* Reads `snapshot.key` in that directory, or makes it; of several that make it at once one wins.
 * PST_E_INVALID: it is there, but not to be trusted. */
PST_MUST_USE enum pst_status pst_snapshot_key(const char *state_dir,
                                              unsigned char key[PST_MAC_KEY_LEN],
                                              struct pst_error *error);

#endif
