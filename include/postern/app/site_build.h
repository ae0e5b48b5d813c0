/*
 * site_build.h - from a configuration to what engines and doors are given.
 *
 * Everything is built beside what runs; on any error nothing of it is kept and the error says
 * where.
 */
#ifndef POSTERN_APP_SITE_BUILD_H
#define POSTERN_APP_SITE_BUILD_H

#include "postern/app/config.h"
#include "postern/authz/site.h"
#include "postern/identity/jwks.h"

/* Where each issuer's keys are; made once per issuer list, lives as long as verifiers name it. */
struct pst_key_ring {
    struct pst_keyslot **slots; /* by issuer */
    uint32_t count;
};

/* Loads what stands in files (own keys included) and publishes it; URLs are left to the JWKS
 * manager. */
PST_MUST_USE enum pst_status pst_key_ring_create(const struct pst_config *config,
                                                 struct pst_key_ring *out, struct pst_error *error);
void pst_key_ring_destroy(struct pst_key_ring *ring); /* accepts a zeroed one */

/* profiles, settings, mounts, verifier. *out has one reference, the caller's. */
PST_MUST_USE enum pst_status pst_site_build(const struct pst_config *config,
                                            const struct pst_key_ring *ring, struct pst_site **out,
                                            struct pst_error *error);

/* The doors' configuration; texts are borrowed from `config`. */
struct pst_ops_door;
PST_MUST_USE enum pst_status pst_doors_build(const struct pst_config *config,
                                             const struct pst_ops_door *ops,
                                             struct pst_arena *arena, struct pst_server_config *out,
                                             struct pst_error *error);

/* Paths of the own key pair under the state directory; makes directory and keys when they are
 * missing. */
PST_MUST_USE enum pst_status pst_state_prepare(const struct pst_config *config,
                                               struct pst_error *error);
/* Whether that could be done; nothing is made. *missing: it would make the key pair. */
PST_MUST_USE enum pst_status pst_state_look(const struct pst_config *config, bool *missing,
                                            struct pst_error *error);
struct pst_bytes pst_state_path(const struct pst_config *config, struct pst_arena *arena,
                                const char *name);
/* The store's URL: configured, or the database of the state directory. */
struct pst_bytes pst_store_url(const struct pst_config *config, struct pst_arena *arena);

#endif
