#include "postern/authz/site.h"

#include <stdlib.h>

void pst_site_release(struct pst_site *site)
{
    if (site == NULL || --site->refs_ > 0)
        return;
    for (uint32_t i = 0; i < site->profile_count; i++) {
        pst_profile_destroy(site->profiles[i].profile);
        pst_levels_free(site->profiles[i].levels);
    }
    pst_verifier_destroy(site->verifier);
    pst_arena_fini(&site->arena);
    free(site);
}

enum pst_status pst_shared_policy_create(struct pst_policy *policy, struct pst_shared_policy **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL) {
        pst_policy_destroy(policy);
        return PST_E_NOMEM;
    }
    **out = (struct pst_shared_policy){.policy = policy, .refs_ = 1};
    return PST_OK;
}

void pst_shared_policy_release(struct pst_shared_policy *policy)
{
    if (policy == NULL || --policy->refs_ > 0)
        return;
    pst_policy_destroy(policy->policy);
    free(policy);
}

static void destroy_bundle(struct pst_snapshot *snapshot)
{
    struct pst_bundle *bundle = (struct pst_bundle *)(void *)snapshot;

    pst_shared_policy_release(bundle->policy);
    pst_site_release(bundle->site);
    free(bundle);
}

enum pst_status pst_bundle_create(struct pst_site *site, struct pst_shared_policy *policy,
                                  const struct pst_revision *revision,
                                  const uint8_t fleet_key[PST_FLEET_KEY_BYTES],
                                  struct pst_bundle **out)
{
    struct pst_bundle *b = calloc(1, sizeof(*b));

    *out = NULL;
    if (b == NULL)
        return PST_E_NOMEM;
    struct pst_buf text = pst_buf_of(b->revision, sizeof(b->revision));
    if (!pst_revision_token_write(fleet_key, revision, &text)) {
        free(b);
        return PST_E_NOMEM;
    }
    b->revision_len = (uint32_t)text.len;
    b->bare_len = (uint32_t)pst_bytes_find(pst_buf_bytes(&text), '.');
    memcpy(b->fleet_key, fleet_key, sizeof(b->fleet_key));
    b->snapshot.destroy = destroy_bundle;
    b->site = site;
    b->policy = policy;
    site->refs_++;
    policy->refs_++;
    *out = b;
    return PST_OK;
}

/* A prefix holds whole segments: "/api" is a prefix of "/api" and "/api/x", not of "/apix". */
static bool has_prefix(struct pst_bytes path, struct pst_bytes prefix)
{
    if (!pst_bytes_starts(path, prefix))
        return false;
    return prefix.ptr[prefix.len - 1] == '/' || path.len == prefix.len ||
           path.ptr[prefix.len] == '/';
}

/* The host without its port: one site answers on whatever port it is reached. */
static struct pst_bytes host_name(struct pst_bytes host)
{
    size_t at = host.len;

    while (at > 0 && host.ptr[at - 1] >= '0' && host.ptr[at - 1] <= '9')
        at--;
    return at > 0 && at < host.len && host.ptr[at - 1] == ':' ? pst_bytes_of(host.ptr, at - 1)
                                                              : host;
}

static bool is_for(const struct pst_mount *m, struct pst_bytes host)
{
    return pst_bytes_equal(m->host, PST_LIT("*")) || pst_bytes_equal(m->host, host) ||
           pst_bytes_equal(m->host, host_name(host));
}

const struct pst_mount *pst_site_mount(const struct pst_site_listener *listener,
                                       const struct pst_request *request, bool *host_known)
{
    *host_known = false;
    for (uint32_t i = 0; i < listener->mount_count; i++) {
        const struct pst_mount *m = &listener->mounts[i];
        if (!is_for(m, request->host))
            continue;
        *host_known = true;
        if (has_prefix(request->path, m->prefix))
            return m;
    }
    return NULL;
}
