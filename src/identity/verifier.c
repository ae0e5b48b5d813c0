#include "token_internal.h"

#include <stdatomic.h>
#include <stdlib.h>

#define LEEWAY_MAX_S    60
#define TOKEN_BYTES_MAX 65536
#define ISSUERS_MAX     1024

static _Atomic uint64_t last_generation;

static const struct pst_bytes *copy_list(struct pst_arena *arena, const struct pst_bytes *from,
                                         uint32_t count)
{
    struct pst_bytes *to = pst_arena_array(arena, count, sizeof(*to));

    for (uint32_t i = 0; i < count && to != NULL; i++)
        if (pst_arena_copy(arena, from[i], &to[i]) != PST_OK)
            return NULL;
    return to;
}

static enum pst_status check(const struct pst_identity_config *c, struct pst_error *error)
{
    if (c->leeway_s > LEEWAY_MAX_S)
        return pst_error_set(error, PST_E_INVALID, "identity.leeway_s", "at most %d", LEEWAY_MAX_S);
    if (c->max_token_bytes == 0 || c->max_token_bytes > TOKEN_BYTES_MAX)
        return pst_error_set(error, PST_E_INVALID, "identity.max_token_bytes", "1 to %d",
                             TOKEN_BYTES_MAX);
    if (c->max_lifetime_s == 0 || c->max_sub_bytes == 0 || c->header_max_depth == 0 ||
        c->header_max_members == 0)
        return pst_error_set(error, PST_E_INVALID, "identity", "a limit of 0 lets nothing pass");
    if (c->issuers_count > ISSUERS_MAX)
        return pst_error_set(error, PST_E_LIMIT, "identity.issuers", "at most %d", ISSUERS_MAX);
    for (uint32_t i = 0; i < c->issuers_count; i++) {
        const struct pst_issuer_config *one = &c->issuers[i];
        if (one->issuer.len == 0 || one->issuer.len > PST_KEY_KID_MAX)
            return pst_error_set(error, PST_E_INVALID, "identity.issuers",
                                 "an issuer has 1 to %d bytes", PST_KEY_KID_MAX);
        if (one->audiences_count == 0)
            return pst_error_set(error, PST_E_INVALID, "identity.issuers",
                                 "%.*s: audiences: at least one", (int)one->issuer.len,
                                 one->issuer.ptr);
        for (uint32_t k = 0; k < i; k++)
            if (pst_bytes_equal(one->issuer, c->issuers[k].issuer))
                return pst_error_set(error, PST_E_EXISTS, "identity.issuers", "%.*s: twice",
                                     (int)one->issuer.len, one->issuer.ptr);
    }
    return PST_OK;
}

static bool copy_issuer(struct pst_verifier *v, struct pst_issuer *to,
                        const struct pst_issuer_config *from)
{
    struct pst_bytes groups = {0};

    *to = (struct pst_issuer){
        .audiences_count = from->audiences_count,
        .algorithms = from->algorithms == 0 ? PST_ALGS_DEFAULT : from->algorithms,
        .user_claim = from->user_claim,
        .email_unverified = from->email_unverified,
    };
    v->algorithms |= to->algorithms;
    to->audiences = copy_list(&v->arena, from->audiences, from->audiences_count);
    if (to->audiences == NULL || pst_arena_copy(&v->arena, from->issuer, &to->name) != PST_OK ||
        pst_arena_copy(&v->arena, from->groups_claim, &groups) != PST_OK)
        return false;
    to->groups_claim = groups.len == 0 ? NULL : groups.ptr;
    return true;
}

static bool copy_config(struct pst_verifier *v, const struct pst_identity_config *c,
                        struct pst_keyslot *const *slots)
{
    v->leeway_s = c->leeway_s;
    v->max_lifetime_s = c->max_lifetime_s;
    v->max_token_bytes = c->max_token_bytes;
    v->max_sub_bytes = c->max_sub_bytes;
    v->header_max_depth = c->header_max_depth;
    v->header_max_members = c->header_max_members;
    v->typ_required = c->typ_required;
    v->missing_kid = c->missing_kid;
    v->typ_count = c->typ_count;
    v->typ = copy_list(&v->arena, c->typ, c->typ_count);
    v->issuers_count = c->issuers_count;
    v->issuers = pst_arena_array(&v->arena, c->issuers_count, sizeof(*v->issuers));
    if (v->typ == NULL || v->issuers == NULL)
        return false;
    for (uint32_t i = 0; i < c->issuers_count; i++) {
        if (!copy_issuer(v, &v->issuers[i], &c->issuers[i]))
            return false;
        v->issuers[i].slot = slots[i];
    }
    return true;
}

enum pst_status pst_verifier_create(const struct pst_identity_config *config,
                                    struct pst_keyslot *const *slots, struct pst_verifier **out,
                                    struct pst_error *error)
{
    *out = NULL;
    enum pst_status status = check(config, error);
    if (status != PST_OK)
        return status;

    struct pst_verifier *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    pst_arena_init(&v->arena, 4096, 16u << 20);
    v->generation = atomic_fetch_add_explicit(&last_generation, 1, memory_order_relaxed) + 1;
    json_object_seed(0); /* here, not at the first token, so that threads find it done */
    if (!copy_config(v, config, slots)) {
        pst_verifier_destroy(v);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    *out = v;
    return PST_OK;
}

void pst_verifier_destroy(struct pst_verifier *v)
{
    if (v == NULL)
        return;
    pst_arena_fini(&v->arena);
    free(v);
}

uint64_t pst_verifier_generation(const struct pst_verifier *v)
{
    return v->generation;
}

uint32_t pst_verifier_issuers(const struct pst_verifier *v)
{
    return v->issuers_count;
}

struct pst_bytes pst_verifier_issuer_name(const struct pst_verifier *v, uint32_t issuer)
{
    return issuer < v->issuers_count ? v->issuers[issuer].name : (struct pst_bytes){0};
}

uint32_t pst_verifier_leeway_s(const struct pst_verifier *v)
{
    return v->leeway_s;
}

uint32_t pst_verifier_max_lifetime_s(const struct pst_verifier *v)
{
    return v->max_lifetime_s;
}

uint32_t pst_verifier_max_token_bytes(const struct pst_verifier *v)
{
    return v->max_token_bytes;
}
