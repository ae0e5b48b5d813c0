/*
 * config.h - the configuration file, read and checked.
 *
 * Purpose  One YAML file, environment overrides on top, into one struct that the composition root
 * takes apart. Every message names file:line:key; unknown keys are refused; nothing is opened but
 * the file itself (pst_config_check opens what it names).
 *
 * Memory   A config owns all its texts; it is immutable once loaded.
 *
 * Without a file the embedded default holds: SQLite and an own signing key under the state
 * directory, the `rest` profile, listeners on loopback.
 */
#ifndef POSTERN_APP_CONFIG_H
#define POSTERN_APP_CONFIG_H

#include "postern/base/log.h"
#include "postern/base/tree.h"
#include "postern/identity/config.h"
#include "postern/identity/credential.h"
#include "postern/policy/profile.h"
#include "postern/proxy/config.h"
#include "postern/sync/feed.h"

enum pst_key_source_kind {
    PST_KEYS_OWN = 0, /* the key pair of the state directory, made at the first start */
    PST_KEYS_JWKS_FILE,
    PST_KEYS_PEM_FILE,
    PST_KEYS_JWKS_URL,
    PST_KEYS_SECRETS,
};

struct pst_secret_source {
    struct pst_bytes kid, file; /* file: the secret's bytes, or env:NAME */
    enum pst_alg alg;
};

struct pst_issuer_source {
    enum pst_key_source_kind kind;
    struct pst_bytes location; /* path or URL */
    struct pst_bytes kid;      /* of a PEM */
    enum pst_alg alg;          /* of a PEM */
    struct pst_bytes ca_file;  /* of a URL; empty: the system's */
    uint32_t refresh_s;
    const struct pst_cidr *allow; /* special addresses that a URL may lead to */
    uint32_t allow_count;
    const struct pst_secret_source *secrets;
    uint32_t secret_count;
    bool create_users;
    struct pst_bytes default_role;
};

struct pst_group_source {
    uint32_t issuer;
    struct pst_bytes group, role;
    const struct pst_node *at; /* in the file */
};

/* A role of the store that identity names: of a group, or (group empty) of users that are made. */
struct pst_named_role {
    struct pst_bytes issuer, group, role;
    const struct pst_node *at; /* in the file */
};

enum pst_door_kind { PST_DOOR_PROXY = 0, PST_DOOR_AUTH_REQUEST, PST_DOOR_OPS };

struct pst_mount_source {
    struct pst_bytes host, prefix, profile;
    uint32_t upstream;         /* index; UINT32_MAX: none */
    const struct pst_node *at; /* in the file */
};

struct pst_listener_source {
    struct pst_bytes name, address_text;
    struct pst_address address;
    enum pst_door_kind kind;
    struct pst_bytes path, target_from, method_from; /* auth_request */
    const struct pst_cidr *trusted;
    uint32_t trusted_count;
    const struct pst_mount_source *mounts;
    uint32_t mount_count;
};

struct pst_profile_source {
    struct pst_bytes name, file; /* file empty: the shipped one */
    struct pst_profile_options options;
    bool mlflow_grant_default; /* settings of the evaluator */
    struct pst_bytes mlflow_default_permission;
    struct pst_bytes project_uuid;
    uint32_t line;
};

struct pst_sync_source {
    struct pst_feed_config feed; /* no addresses: there is no Redis; pst_config_feed completes it */
    struct pst_bytes password_file, sentinel_password_file; /* a path, or env:NAME; empty: none */
};

struct pst_config {
    struct pst_tree tree; /* owns the texts */
    struct pst_arena arena;
    struct pst_bytes dir; /* relative paths of the file start here */

    struct pst_bytes state_dir, store_url,
        policies_dir;      /* policies_dir empty: those inside the program */
    struct pst_bytes node; /* its name in the fleet; empty: made of host and state directory */
    uint32_t workers;
    bool authentication, permissions;
    uint32_t notebook_edit;
    uint32_t max_staleness_s; /* 0: as the store says */

    struct pst_identity_config identity; /* issuers have the same index as sources */
    const struct pst_issuer_source *sources;
    struct pst_credential_config credentials;
    const struct pst_bytes *reserved_names;
    uint32_t reserved_name_count;
    const struct pst_group_source *groups;
    uint32_t group_count;
    uint32_t token_cache, fact_cache;

    const struct pst_listener_source *listeners;
    uint32_t listener_count;
    const struct pst_upstream_config *upstreams;
    uint32_t upstream_count;
    const struct pst_profile_source *profiles;
    uint32_t profile_count;
    struct pst_identity_names names;
    const struct pst_bytes *workspace_headers;
    uint32_t workspace_header_count;
    struct pst_server_limits limits;
    uint64_t body_bytes, inspect_body_bytes;
    struct pst_log_config log;
    struct pst_sync_source sync;
};

/* path NULL: the embedded default (and the environment). *out is NULL on failure. */
PST_MUST_USE enum pst_status pst_config_load(const char *path, struct pst_config **out,
                                             struct pst_error *error);
/* The same from text; relative paths start at `dir` (empty, or ending in '/'). */
PST_MUST_USE enum pst_status pst_config_load_text(struct pst_bytes name, struct pst_bytes text,
                                                  struct pst_bytes dir, struct pst_config **out,
                                                  struct pst_error *error);
void pst_config_free(struct pst_config *config); /* accepts NULL */

/* sync.feed with its passwords read and its paths absolute; but for `node`, which is the caller's
 * to set. Wipe the passwords when the feed has its copy. */
PST_MUST_USE enum pst_status pst_config_feed(const struct pst_config *config,
                                             struct pst_arena *arena, struct pst_feed_config *out,
                                             struct pst_error *error);
/* The roles that identity names, all global ones, from index 0 on. False: there are no more. */
bool pst_config_named_role(const struct pst_config *config, uint32_t index,
                           struct pst_named_role *out);
/* What a path, or env:NAME, holds, without the line's end. */
PST_MUST_USE enum pst_status pst_config_secret(const struct pst_config *config,
                                               struct pst_arena *arena, struct pst_bytes source,
                                               struct pst_bytes *out, struct pst_error *error);

/* Puts the setting that led there before a failure that names another file, or none; `at` NULL:
 * nothing happens. */
void pst_config_blame(const struct pst_config *config, const struct pst_node *at,
                      struct pst_error *error);

/* A path of the configuration, made absolute by its directory, NUL-terminated, in `arena`. Empty
 * when memory is short. */
struct pst_bytes pst_config_path(const struct pst_config *config, struct pst_arena *arena,
                                 struct pst_bytes path);

#endif
