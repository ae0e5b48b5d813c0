/*
 * site.h - what engines decide by: the configured site, and the bundle that joins it with a policy.
 *
 * Purpose   The site is the configuration's half (mounts, profiles, settings, verifier), the policy
 * the store's half. A bundle holds both and the revision they show; it is what the hub publishes,
 * so that one pin covers everything a decision reads.
 *
 * Memory    Sites and policies are shared by bundles and counted; counts move on the control thread
 * only, because only it makes bundles and reaps dead ones.
 *
 * Threads   Immutable once in a bundle: any thread reads. Making and destroying: the control
 * thread.
 */
#ifndef POSTERN_AUTHZ_SITE_H
#define POSTERN_AUTHZ_SITE_H

#include "postern/base/arena.h"
#include "postern/identity/credential.h"
#include "postern/identity/token.h"
#include "postern/policy/eval.h"
#include "postern/policy/hub.h"
#include "postern/policy/level.h"
#include "postern/policy/profile.h"
#include "postern/sync/revision.h"

/* One profile as configured, with the settings that the evaluator reads. */
struct pst_site_profile {
    struct pst_profile *profile; /* owned */
    struct pst_levels *levels;   /* owned; NULL when the profile names none */
    struct pst_policy_settings settings;
};

/* Requests to (host, prefix) are judged by `profile` and go to `upstream`. */
struct pst_mount {
    struct pst_bytes host;   /* canonical; "*": any */
    struct pst_bytes prefix; /* begins with '/'; matches whole segments */
    uint32_t profile;        /* index into site->profiles */
    uint32_t upstream;       /* index into the proxy's table; UINT32_MAX: none (check doors) */
};

struct pst_site_listener {
    const struct pst_mount *mounts; /* longest prefix first */
    uint32_t mount_count;
};

/* What a group of a token gives: a role by name, bound everywhere. */
struct pst_group_role {
    uint32_t issuer; /* index into the verifier's issuers */
    struct pst_bytes group, role;
};

/* What happens to callers that the store does not know. */
struct pst_site_issuer {
    enum pst_user_claim user_claim; /* whom the store is asked for */
    bool create_users;
    struct pst_bytes default_role; /* of created users; empty: none */
};

struct pst_site {
    struct pst_arena arena; /* all texts and arrays */
    struct pst_site_profile *profiles;
    uint32_t profile_count;
    const struct pst_site_listener *listeners;
    uint32_t listener_count;
    const struct pst_group_role *group_roles;
    uint32_t group_role_count;
    const struct pst_site_issuer *issuers; /* by the verifier's index */
    uint32_t issuer_count;
    const struct pst_bytes *reserved_names; /* never made for a caller */
    uint32_t reserved_name_count;
    struct pst_verifier *verifier; /* owned; NULL when authentication is off */
    bool authentication_off;
    struct pst_credential_config credentials;
    uint64_t inspect_body_bytes, body_bytes;
    uint32_t refs_; /* control thread only */
    /* Streams that hold it without a bundle: any worker adds while it has a pin, and takes away
     * with release; who owns the site keeps his reference until an acquire sees 0. */
    _Atomic uint32_t streams_;
};

/* The mount that takes this request in, or NULL; then *host_known says whether there is one for its
 * host. */
const struct pst_mount *pst_site_mount(const struct pst_site_listener *listener,
                                       const struct pst_request *request, bool *host_known);

/* Takes the last reference's site apart. Accepts NULL. Control thread. */
void pst_site_release(struct pst_site *site);

/* Policies are shared between bundles of different sites. */
struct pst_shared_policy {
    struct pst_policy *policy;
    uint32_t refs_; /* control thread only */
};

struct pst_bundle {
    struct pst_snapshot snapshot; /* first: the hub's */
    struct pst_site *site;
    struct pst_shared_policy *policy;
    uint32_t revision_len; /* with its MAC */
    uint32_t bare_len;     /* without */
    char revision[PST_REVISION_TEXT_MAX];
    uint8_t fleet_key[PST_FLEET_KEY_BYTES];
};

/* Counts site and policy; the bundle goes to the hub, or back by its snapshot's destroy. */
PST_MUST_USE enum pst_status pst_bundle_create(struct pst_site *site,
                                               struct pst_shared_policy *policy,
                                               const struct pst_revision *revision,
                                               const uint8_t fleet_key[PST_FLEET_KEY_BYTES],
                                               struct pst_bundle **out);
/* Takes `policy` over in any case. */
PST_MUST_USE enum pst_status pst_shared_policy_create(struct pst_policy *policy,
                                                      struct pst_shared_policy **out);
/* Accepts NULL. */
void pst_shared_policy_release(struct pst_shared_policy *policy);

static inline const struct pst_bundle *pst_bundle_of(const struct pst_snapshot *snapshot)
{
    return (const struct pst_bundle *)(const void *)snapshot;
}

#endif
