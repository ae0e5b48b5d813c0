#include "postern/authz/site.h"

#include <assert.h>
#include <stdlib.h>

#include "postern/base/buf.h"

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
                                  uint64_t epoch, uint64_t n, struct pst_bundle **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return PST_E_NOMEM;
    (*out)->snapshot.destroy = destroy_bundle;
    (*out)->site = site;
    (*out)->policy = policy;
    site->refs_++;
    policy->refs_++;

    struct pst_buf text = pst_buf_of((*out)->revision, sizeof((*out)->revision));
    pst_buf_hex(&text, epoch, 16);
    pst_buf_char(&text, '-');
    pst_buf_u64(&text, n);
    assert(!text.full);
    (*out)->revision_len = (uint32_t)text.len;
    return PST_OK;
}
