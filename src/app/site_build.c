/*
 * Keys, then profiles, then mounts: each step names the file and line of what it does not
 * understand.
 */
#include "postern/app/site_build.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/app/policies.h"
#include "postern/app/yaml.h"
#include "postern/base/secret.h"

/* --- keys --- */

static enum pst_status load_secrets(const struct pst_config *config, struct pst_arena *arena,
                                    const struct pst_issuer_source *source, struct pst_keyset **out,
                                    struct pst_error *error)
{
    struct pst_secret_key *keys = pst_arena_array(arena, source->secret_count, sizeof(*keys));
    enum pst_status status =
        keys == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    for (uint32_t i = 0; i < source->secret_count && status == PST_OK; i++) {
        keys[i].kid = source->secrets[i].kid;
        keys[i].alg = source->secrets[i].alg;
        status = pst_config_secret(config, arena, source->secrets[i].file, &keys[i].secret, error);
    }
    if (status == PST_OK)
        status = pst_keyset_from_secrets(keys, source->secret_count, out, error);
    for (uint32_t i = 0; keys != NULL && i < source->secret_count; i++)
        pst_secret_wipe((void *)(uintptr_t)keys[i].secret.ptr, keys[i].secret.len);
    return status;
}

static enum pst_status load_file(const struct pst_config *config, struct pst_arena *arena,
                                 const struct pst_issuer_source *source, struct pst_keyset **out,
                                 struct pst_error *error)
{
    struct pst_bytes path = source->kind == PST_KEYS_OWN
                                ? pst_state_path(config, arena, "keys/issuer.jwks.json")
                                : pst_config_path(config, arena, source->location);
    struct pst_bytes text;
    enum pst_status status = pst_file_read(path.ptr, PST_KEYSET_BYTES_MAX, &text, error);

    if (status == PST_E_ABSENT && source->kind == PST_KEYS_OWN)
        return pst_error_set(error, status, path.ptr,
                             "there is no own key pair yet (serve, apply and token mint make one)");
    if (status != PST_OK)
        return status;
    if (source->kind == PST_KEYS_PEM_FILE)
        status = pst_keyset_from_pem(text, source->kid, source->alg, out, error);
    else
        status = pst_keyset_from_jwks(text, out, NULL, error);
    if (status != PST_OK && error != NULL && error->where[0] == '\0')
        (void)snprintf(error->where, sizeof(error->where), "%s", path.ptr);
    free((void *)(uintptr_t)text.ptr);
    return status;
}

static enum pst_status load_keys(const struct pst_config *config, uint32_t issuer,
                                 struct pst_keyslot *slot, struct pst_error *error)
{
    const struct pst_issuer_source *source = &config->sources[issuer];
    struct pst_keyset *set = NULL;
    const struct pst_node *issuers =
        pst_node_get(pst_node_get(config->tree.root, "identity"), "issuers");
    struct pst_arena arena;

    if (source->kind == PST_KEYS_JWKS_URL)
        return PST_OK; /* the manager publishes when it has fetched */
    pst_arena_init(&arena, 4096, 1u << 22);
    enum pst_status status = source->kind == PST_KEYS_SECRETS
                                 ? load_secrets(config, &arena, source, &set, error)
                                 : load_file(config, &arena, source, &set, error);
    pst_arena_fini(&arena);
    if (status != PST_OK) {
        pst_config_blame(config, pst_node_get(pst_node_at(issuers, issuer), "keys"), error);
        return status;
    }
    pst_keyslot_publish(slot, set);
    return PST_OK;
}

enum pst_status pst_key_ring_create(const struct pst_config *config, struct pst_key_ring *out,
                                    struct pst_error *error)
{
    uint32_t count = config->identity.issuers_count;
    enum pst_status status = PST_OK;

    *out = (struct pst_key_ring){.slots = calloc(count, sizeof(*out->slots))};
    if (out->slots == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    for (uint32_t i = 0; i < count && status == PST_OK; i++) {
        status = pst_keyslot_create(&out->slots[i]);
        if (status != PST_OK)
            break;
        out->count++;
        status = load_keys(config, i, out->slots[i], error);
    }
    if (status != PST_OK)
        pst_key_ring_destroy(out);
    return status;
}

void pst_key_ring_destroy(struct pst_key_ring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++)
        pst_keyslot_destroy(ring->slots[i]);
    free(ring->slots);
    *ring = (struct pst_key_ring){0};
}

/* --- profiles --- */

static enum pst_status load_tree(const struct pst_config *config, struct pst_arena *arena,
                                 const struct pst_profile_source *p, struct pst_bytes shipped,
                                 struct pst_tree *tree, struct pst_error *error)
{
    const struct pst_node *root = config->tree.root;
    const struct pst_node *own = pst_node_get(pst_node_get(root, "profiles"), p->name.ptr);
    const struct pst_node *at = p->file.len > 0                ? pst_node_get(own, "file")
                                : config->policies_dir.len > 0 ? pst_node_get(root, "policies_dir")
                                                               : own;
    enum pst_status status =
        p->file.len == 0
            ? pst_policies_load(config->policies_dir, shipped, tree, error)
            : pst_yaml_load_file(pst_config_path(config, arena, p->file).ptr, tree, error);

    if (status != PST_OK && status != PST_E_INVALID) /* a file that is read names its own lines */
        pst_config_blame(config, at, error);
    return status;
}

/* The level table stands beside the profile, wherever that came from. */
static enum pst_status load_levels(const struct pst_config *config, struct pst_arena *arena,
                                   const struct pst_profile_source *p, struct pst_bytes file,
                                   struct pst_tree *tree, struct pst_error *error)
{
    *tree = (struct pst_tree){0};
    if (p->file.len == 0)
        return pst_policies_load(config->policies_dir,
                                 pst_arena_printf(arena, "profiles/%.*s", (int)file.len, file.ptr),
                                 tree, error);
    struct pst_bytes path = pst_config_path(config, arena, p->file);
    while (path.len > 0 && path.ptr[path.len - 1] != '/')
        path.len--;
    return pst_yaml_load_file(
        pst_arena_printf(arena, "%.*s%.*s", (int)path.len, path.ptr, (int)file.len, file.ptr).ptr,
        tree, error);
}

static enum pst_status default_permission(const struct pst_config *config,
                                          const struct pst_profile_source *p, uint64_t *out,
                                          struct pst_error *error)
{
    struct pst_tree tree;
    struct pst_presets presets;
    enum pst_status status =
        pst_policies_load(config->policies_dir, PST_LIT("roles/levels.yaml"), &tree, error);

    if (status == PST_OK)
        status = pst_presets_load(&tree, &presets, error);
    if (status == PST_OK) {
        if (!pst_presets_find(&presets, p->mlflow_default_permission, out))
            status = pst_node_fail(
                &config->tree,
                pst_node_get(pst_node_get(pst_node_get(pst_node_get(config->tree.root, "profiles"),
                                                       p->name.ptr),
                                          "settings"),
                             "default_permission"),
                error, "\"%s\" is no level of roles/levels.yaml",
                p->mlflow_default_permission.len == 0 ? "" : p->mlflow_default_permission.ptr);
        pst_presets_fini(&presets);
    }
    pst_tree_fini(&tree);
    return status;
}

static enum pst_status fill_settings(const struct pst_config *config,
                                     const struct pst_profile_source *p,
                                     struct pst_site_profile *out, struct pst_arena *texts,
                                     struct pst_error *error)
{
    struct pst_policy_settings *s = &out->settings;

    *s = (struct pst_policy_settings){
        .authentication_off = !config->authentication,
        .permissions_off = !config->permissions,
        .notebook_edit = (uint8_t)config->notebook_edit,
        .levels = out->levels,
        .workspaces = !p->options.mlflow_workspaces_off,
        .grant_default_workspace_access = p->mlflow_grant_default,
    };
    enum pst_status status = pst_arena_copy(texts, p->project_uuid, &s->project_uuid);
    return status != PST_OK ? status : default_permission(config, p, &s->default_permission, error);
}

static enum pst_status build_profile(const struct pst_config *config,
                                     const struct pst_profile_source *p,
                                     struct pst_site_profile *out, struct pst_arena *texts,
                                     struct pst_error *error)
{
    struct pst_tree tree = {0}, levels = {0};
    struct pst_arena arena;

    pst_arena_init(&arena, 4096, 1u << 20);
    struct pst_bytes shipped =
        pst_arena_printf(&arena, "profiles/%.*s.yaml", (int)p->name.len, p->name.ptr);
    enum pst_status status = load_tree(config, &arena, p, shipped, &tree, error);
    struct pst_bytes file =
        status == PST_OK ? pst_profile_levels_file(&tree) : (struct pst_bytes){0};
    if (status == PST_OK && file.len > 0) {
        status = load_levels(config, &arena, p, file, &levels, error);
        if (status == PST_OK)
            status = pst_levels_load(&levels, &out->levels, error);
    }
    if (status == PST_OK)
        status = pst_profile_compile(&tree, file.len > 0 ? &levels : NULL, &p->options,
                                     &out->profile, error);
    if (status == PST_OK)
        status = fill_settings(config, p, out, texts, error);
    pst_tree_fini(&levels);
    pst_tree_fini(&tree);
    pst_arena_fini(&arena);
    return status;
}

static bool is_mounted(const struct pst_config *config, struct pst_bytes profile)
{
    for (uint32_t l = 0; l < config->listener_count; l++)
        for (uint32_t m = 0; m < config->listeners[l].mount_count; m++)
            if (pst_bytes_equal(config->listeners[l].mounts[m].profile, profile))
                return true;
    return false;
}

/* Profiles that no mount names are not even read. */
static enum pst_status build_profiles(const struct pst_config *config, struct pst_site *site,
                                      struct pst_error *error)
{
    enum pst_status status = PST_OK;

    site->profiles = pst_arena_array(&site->arena, config->profile_count, sizeof(*site->profiles));
    if (site->profiles == NULL)
        return PST_E_NOMEM;
    site->profile_count = config->profile_count;
    for (uint32_t i = 0; i < config->profile_count && status == PST_OK; i++)
        if (is_mounted(config, config->profiles[i].name))
            status = build_profile(config, &config->profiles[i], &site->profiles[i], &site->arena,
                                   error);
    return status;
}

/* --- mounts --- */

static enum pst_status build_mounts(const struct pst_config *config,
                                    const struct pst_listener_source *l, struct pst_site *site,
                                    struct pst_site_listener *out)
{
    struct pst_mount *mounts = pst_arena_array(&site->arena, l->mount_count, sizeof(*mounts));
    enum pst_status status = mounts == NULL ? PST_E_NOMEM : PST_OK;

    *out = (struct pst_site_listener){.mounts = mounts, .mount_count = l->mount_count};
    for (uint32_t i = 0; i < l->mount_count && status == PST_OK; i++) {
        const struct pst_mount_source *m = &l->mounts[i];
        mounts[i].upstream = m->upstream;
        while (!pst_bytes_equal(config->profiles[mounts[i].profile].name, m->profile))
            mounts[i].profile++; /* it is there: the configuration was checked */
        status = pst_arena_copy(&site->arena, m->host, &mounts[i].host);
        if (status == PST_OK)
            status = pst_arena_copy(&site->arena, m->prefix, &mounts[i].prefix);
    }
    return status;
}

static enum pst_status build_listeners(const struct pst_config *config, struct pst_site *site)
{
    struct pst_site_listener *listeners =
        pst_arena_array(&site->arena, config->listener_count, sizeof(*listeners));
    enum pst_status status = listeners == NULL ? PST_E_NOMEM : PST_OK;

    site->listeners = listeners;
    site->listener_count = config->listener_count;
    for (uint32_t i = 0; i < config->listener_count && status == PST_OK; i++)
        status = build_mounts(config, &config->listeners[i], site, &listeners[i]);
    return status;
}

/* --- identity --- */

static enum pst_status build_identity(const struct pst_config *config,
                                      const struct pst_key_ring *ring, struct pst_site *site,
                                      struct pst_error *error)
{
    uint32_t count = config->identity.issuers_count;
    struct pst_site_issuer *issuers = pst_arena_array(&site->arena, count, sizeof(*issuers));
    struct pst_group_role *groups =
        pst_arena_array(&site->arena, config->group_count, sizeof(*groups));
    enum pst_status status = issuers == NULL || groups == NULL ? PST_E_NOMEM : PST_OK;

    site->issuers = issuers;
    site->issuer_count = count;
    site->group_roles = groups;
    site->group_role_count = config->group_count;
    for (uint32_t i = 0; i < count && status == PST_OK; i++) {
        issuers[i].create_users = config->sources[i].create_users;
        issuers[i].user_claim = config->identity.issuers[i].user_claim;
        status =
            pst_arena_copy(&site->arena, config->sources[i].default_role, &issuers[i].default_role);
    }
    for (uint32_t i = 0; i < config->group_count && status == PST_OK; i++) {
        groups[i].issuer = config->groups[i].issuer;
        status = pst_arena_copy(&site->arena, config->groups[i].group, &groups[i].group);
        if (status == PST_OK)
            status = pst_arena_copy(&site->arena, config->groups[i].role, &groups[i].role);
    }
    struct pst_bytes *reserved =
        pst_arena_array(&site->arena, config->reserved_name_count, sizeof(*reserved));
    if (status == PST_OK && reserved == NULL)
        status = PST_E_NOMEM;
    site->reserved_names = reserved;
    site->reserved_name_count = config->reserved_name_count;
    for (uint32_t i = 0; i < config->reserved_name_count && status == PST_OK; i++)
        status = pst_arena_copy(&site->arena, config->reserved_names[i], &reserved[i]);
    if (status == PST_OK)
        status =
            pst_arena_copy(&site->arena, config->credentials.header, &site->credentials.header);
    if (status == PST_OK)
        status =
            pst_arena_copy(&site->arena, config->credentials.cookie, &site->credentials.cookie);
    if (status != PST_OK)
        return status;
    status = pst_verifier_create(&config->identity, ring->slots, &site->verifier, error);
    if (status != PST_OK)
        pst_config_blame(config, pst_node_get(config->tree.root, "identity"), error);
    return status;
}

enum pst_status pst_site_build(const struct pst_config *config, const struct pst_key_ring *ring,
                               struct pst_site **out, struct pst_error *error)
{
    *out = NULL;
    struct pst_site *site = calloc(1, sizeof(*site));
    if (site == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    site->refs_ = 1;
    site->authentication_off = !config->authentication;
    site->inspect_body_bytes = config->inspect_body_bytes;
    site->body_bytes = config->body_bytes;
    pst_arena_init(&site->arena, 16384, 64u << 20);

    if (error != NULL)
        *error = (struct pst_error){0};
    enum pst_status status = build_identity(config, ring, site, error);
    if (status == PST_OK)
        status = build_profiles(config, site, error);
    if (status == PST_OK)
        status = build_listeners(config, site);
    if (status != PST_OK) {
        if (error != NULL && error->status == PST_OK)
            pst_error_set(error, status, NULL, "no memory");
        pst_site_release(site);
        return status;
    }
    *out = site;
    return PST_OK;
}
