/*
 * identity: issuers and their keys, where the token stands, how claims become users and roles.
 */
#include "config_internal.h"

#include "postern/identity/jwks.h"

static enum pst_status read_algorithms(struct pst_config_reader *r, const struct pst_node *map,
                                       uint32_t *out)
{
    const struct pst_node *list = pst_node_get(map, "algorithms");

    if (list == NULL)
        return PST_OK;
    if (list->kind != PST_NODE_LIST || list->count == 0)
        return pst_node_fail(r->tree, list, r->error,
                             "expected a list of algorithms, such as [ES256]");
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        enum pst_alg alg = pst_alg_find(n->text);
        if (alg == PST_ALG_UNKNOWN)
            return pst_node_fail(r->tree, n, r->error,
                                 "\"%s\" is no signature algorithm that Postern takes",
                                 n->text.ptr);
        *out |= PST_ALG_BIT(alg);
    }
    return PST_OK;
}

static enum pst_status read_alg(struct pst_config_reader *r, const struct pst_node *map,
                                enum pst_alg *out)
{
    const struct pst_node *n = pst_node_get(map, "alg");

    if (n == NULL)
        return PST_OK;
    *out = pst_alg_find(n->text);
    return *out != PST_ALG_UNKNOWN
               ? PST_OK
               : pst_node_fail(r->tree, n, r->error,
                               "\"%s\" is no signature algorithm that Postern takes",
                               n->text.len == 0 ? "" : n->text.ptr);
}

static enum pst_status read_secrets(struct pst_config_reader *r, const struct pst_node *list,
                                    struct pst_issuer_source *s)
{
    static const char *const KEYS[] = {"kid", "alg", "file", NULL};
    void *room;

    if (list->kind != PST_NODE_LIST || list->count == 0)
        return pst_node_fail(r->tree, list, r->error, "expected a list of secrets");
    enum pst_status status =
        pst_config_array(r, list->count, sizeof(struct pst_secret_source), &room);
    if (status != PST_OK)
        return status;
    struct pst_secret_source *secrets = room;
    s->secrets = secrets;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        struct pst_secret_source *secret = &secrets[s->secret_count++];
        status = pst_node_only(r->tree, n, KEYS, r->error);
        if (status == PST_OK)
            status = pst_node_text(r->tree, n, "kid", &secret->kid, r->error);
        if (status == PST_OK)
            status = pst_node_text(r->tree, n, "file", &secret->file, r->error);
        if (status == PST_OK)
            status = read_alg(r, n, &secret->alg);
        if (status != PST_OK)
            return status;
        if (secret->file.len == 0 || !pst_alg_in(PST_ALGS_HS, secret->alg))
            return pst_node_fail(
                r->tree, n, r->error,
                "a secret needs file (a path, or env:NAME) and alg: HS256, HS384 or HS512");
    }
    return PST_OK;
}

/* A setting of another kind of keys would be passed over, and looks as if it bound these. */
static enum pst_status only_for(struct pst_config_reader *r, const struct pst_node *map,
                                enum pst_key_source_kind kind)
{
    static const struct {
        const char *key, *of;
        enum pst_key_source_kind kind;
    } OWN[] = {
        {"kid", "pem_file", PST_KEYS_PEM_FILE},
        {"alg", "pem_file", PST_KEYS_PEM_FILE},
        {"refresh_s", "jwks_url", PST_KEYS_JWKS_URL},
        {"allow_addresses", "jwks_url", PST_KEYS_JWKS_URL},
        {"ca_file", "jwks_url", PST_KEYS_JWKS_URL},
    };

    for (size_t i = 0; i < sizeof(OWN) / sizeof(OWN[0]); i++)
        if (kind != OWN[i].kind && pst_node_get(map, OWN[i].key) != NULL)
            return pst_node_fail(r->tree, pst_node_get(map, OWN[i].key), r->error,
                                 "this is for %s only", OWN[i].of);
    return PST_OK;
}

static enum pst_status read_keys(struct pst_config_reader *r, const struct pst_node *issuer,
                                 struct pst_issuer_source *s)
{
    static const char *const KEYS[] = {
        "jwks_file", "pem_file",        "kid",     "alg",     "jwks_url",
        "refresh_s", "allow_addresses", "ca_file", "secrets", NULL};
    static const char *const KINDS[] = {"jwks_file", "pem_file", "jwks_url", "secrets"};
    const struct pst_node *map = pst_node_get(issuer, "keys");
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);
    unsigned found = 0;

    if (status != PST_OK || map == NULL)
        return status;
    s->refresh_s = 300;
    for (unsigned i = 0; i < 4; i++)
        if (pst_node_get(map, KINDS[i]) != NULL) {
            s->kind = (enum pst_key_source_kind)(PST_KEYS_JWKS_FILE + i);
            found++;
        }
    if (found != 1)
        return pst_node_fail(r->tree, map, r->error,
                             "name one of jwks_file, pem_file, jwks_url and secrets");
    status = only_for(r, map, s->kind);
    if (status != PST_OK)
        return status;
    if (s->kind == PST_KEYS_SECRETS)
        return read_secrets(r, pst_node_get(map, "secrets"), s);
    status =
        pst_node_text(r->tree, map, KINDS[s->kind - PST_KEYS_JWKS_FILE], &s->location, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "kid", &s->kid, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "ca_file", &s->ca_file, r->error);
    if (status == PST_OK)
        status = read_alg(r, map, &s->alg);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "refresh_s", 60, 3600, &s->refresh_s);
    if (status == PST_OK)
        status = pst_config_cidrs(r, map, "allow_addresses", &s->allow, &s->allow_count);
    if (status == PST_OK && s->kind == PST_KEYS_JWKS_URL && !pst_jwks_url_ok(s->location))
        return pst_node_fail(r->tree, pst_node_get(map, "jwks_url"), r->error,
                             "expected https://host/path, without user name and fragment");
    return status;
}

static enum pst_status read_claims(struct pst_config_reader *r, const struct pst_node *issuer,
                                   struct pst_issuer_config *c)
{
    static const char *const KEYS[] = {"user", "groups", "email_unverified", NULL};
    static const char *const USERS[] = {"sub", "email", "preferred_username", NULL};
    const struct pst_node *map = pst_node_get(issuer, "claims");
    unsigned user = c->user_claim;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_enum(r->tree, map, "user", USERS, &user, r->error);
    c->user_claim = (enum pst_user_claim)user;
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "groups", &c->groups_claim, r->error);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "email_unverified", &c->email_unverified, r->error);
    return status;
}

static enum pst_status add_groups(struct pst_config_reader *r, const struct pst_node *issuer,
                                  uint32_t index, struct pst_group_source *groups)
{
    const struct pst_node *map = pst_node_get(issuer, "group_roles");

    if (map != NULL && map->kind != PST_NODE_MAP)
        return pst_node_fail(r->tree, map, r->error, "expected a map of group: role");
    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL; n = n->next) {
        if (n->kind != PST_NODE_SCALAR || n->text.len == 0)
            return pst_node_fail(r->tree, n, r->error, "expected the name of a role");
        groups[r->config->group_count++] =
            (struct pst_group_source){.issuer = index, .group = n->key, .role = n->text, .at = n};
    }
    return PST_OK;
}

static enum pst_status read_issuer(struct pst_config_reader *r, const struct pst_node *n,
                                   struct pst_issuer_config *c, struct pst_issuer_source *s)
{
    static const char *const KEYS[] = {"issuer",        "audiences",    "algorithms",
                                       "keys",          "claims",       "group_roles",
                                       "unknown_users", "default_role", NULL};
    static const char *const UNKNOWN[] = {"refuse", "create", NULL};
    unsigned unknown = 0;
    enum pst_status status = pst_node_only(r->tree, n, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "issuer", &c->issuer, r->error);
    if (status == PST_OK)
        status = pst_config_texts(r, n, "audiences", &c->audiences, &c->audiences_count);
    if (status == PST_OK)
        status = read_algorithms(r, n, &c->algorithms);
    if (status == PST_OK)
        status = read_keys(r, n, s);
    if (status == PST_OK)
        status = read_claims(r, n, c);
    if (status == PST_OK)
        status = pst_node_enum(r->tree, n, "unknown_users", UNKNOWN, &unknown, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "default_role", &s->default_role, r->error);
    s->create_users = unknown == 1;
    if (c->groups_claim.len == 0 && pst_node_get(n, "group_roles") != NULL)
        c->groups_claim = PST_LIT("groups");
    if (status == PST_OK && (c->issuer.len == 0 || c->audiences_count == 0))
        return pst_node_fail(r->tree, n, r->error,
                             "an issuer needs issuer (compared with iss) and audiences");
    return status;
}

/* An issuer of Postern's own, with the key pair of the state directory. */
static enum pst_status own_issuer(struct pst_config_reader *r)
{
    static const struct pst_bytes AUDIENCE[] = {{"postern", 7}};
    static const struct pst_issuer_config OWN = {
        .issuer = {"https://postern.local/", 22},
        .audiences = AUDIENCE,
        .audiences_count = 1,
    };
    void *room;
    enum pst_status status = pst_config_array(r, 1, sizeof(struct pst_issuer_source), &room);

    r->config->identity.issuers = &OWN;
    r->config->identity.issuers_count = 1;
    r->config->sources = room;
    return status;
}

static enum pst_status read_issuers(struct pst_config_reader *r, const struct pst_node *list)
{
    struct pst_config *c = r->config;
    void *issuers, *sources, *groups;
    size_t group_max = 0;

    if (list == NULL || list->kind == PST_NODE_NULL)
        return own_issuer(r);
    if (list->kind != PST_NODE_LIST || list->count == 0)
        return pst_node_fail(r->tree, list, r->error, "expected a list of issuers");
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        const struct pst_node *map = pst_node_get(n, "group_roles");
        group_max += map == NULL ? 0 : map->count;
    }
    enum pst_status status =
        pst_config_array(r, list->count, sizeof(struct pst_issuer_config), &issuers);
    if (status == PST_OK)
        status = pst_config_array(r, list->count, sizeof(struct pst_issuer_source), &sources);
    if (status == PST_OK)
        status = pst_config_array(r, group_max, sizeof(struct pst_group_source), &groups);
    if (status != PST_OK)
        return status;
    c->identity.issuers = issuers;
    c->sources = sources;
    c->groups = groups;
    for (const struct pst_node *n = list->first; n != NULL && status == PST_OK; n = n->next) {
        uint32_t i = c->identity.issuers_count;
        status = read_issuer(r, n, &((struct pst_issuer_config *)issuers)[i],
                             &((struct pst_issuer_source *)sources)[i]);
        if (status == PST_OK)
            status = add_groups(r, n, i, groups);
        c->identity.issuers_count++;
    }
    return status;
}

/* One that no cookie can have would never be found. */
static enum pst_status check_cookie(struct pst_config_reader *r, const struct pst_node *credentials)
{
    struct pst_bytes name = r->config->credentials.cookie;

    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f ||
            pst_bytes_find(PST_LIT("()<>@,;:\\\"/[]?={}"), name.ptr[i]) < 17)
            return pst_node_fail(r->tree, pst_node_get(credentials, "cookie"), r->error,
                                 "\"%s\" cannot be the name of a cookie", name.ptr);
    return PST_OK;
}

bool pst_config_named_role(const struct pst_config *c, uint32_t index, struct pst_named_role *out)
{
    if (index < c->group_count) {
        const struct pst_group_source *g = &c->groups[index];
        *out = (struct pst_named_role){.issuer = c->identity.issuers[g->issuer].issuer,
                                       .group = g->group,
                                       .role = g->role,
                                       .at = g->at};
        return true;
    }
    uint32_t left = index - c->group_count;
    for (uint32_t i = 0; i < c->identity.issuers_count; i++) {
        const struct pst_issuer_source *s = &c->sources[i];
        if (!s->create_users || s->default_role.len == 0 || left-- > 0)
            continue;
        const struct pst_node *list =
            pst_node_get(pst_node_get(c->tree.root, "identity"), "issuers");
        *out = (struct pst_named_role){.issuer = c->identity.issuers[i].issuer,
                                       .role = s->default_role,
                                       .at = pst_node_get(pst_node_at(list, i), "default_role")};
        return true;
    }
    return false;
}

enum pst_status pst_config_identity(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {
        "credentials", "leeway_s",     "max_lifetime_s", "max_token_bytes",
        "typ",         "typ_required", "missing_kid",    "reserved_names",
        "token_cache", "fact_cache",   "issuers",        NULL};
    static const char *const CREDENTIALS[] = {"header", "cookie", NULL};
    static const char *const MISSING[] = {"refuse", "single-candidate", NULL};
    struct pst_identity_config *c = &r->config->identity;
    const struct pst_node *credentials = pst_node_get(map, "credentials");
    unsigned missing = c->missing_kid;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_only(r->tree, credentials, CREDENTIALS, r->error);
    if (status == PST_OK)
        status =
            pst_node_text(r->tree, credentials, "header", &r->config->credentials.header, r->error);
    if (status == PST_OK)
        status =
            pst_config_field(r, pst_node_get(credentials, "header"), r->config->credentials.header);
    if (status == PST_OK)
        status =
            pst_node_text(r->tree, credentials, "cookie", &r->config->credentials.cookie, r->error);
    if (status == PST_OK)
        status = check_cookie(r, credentials);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "leeway_s", 0, 60, &c->leeway_s);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "max_lifetime_s", 60, 31536000, &c->max_lifetime_s);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "max_token_bytes", 256, 65536, &c->max_token_bytes);
    if (status == PST_OK)
        status = pst_config_texts(r, map, "typ", &c->typ, &c->typ_count);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "typ_required", &c->typ_required, r->error);
    if (status == PST_OK)
        status = pst_node_enum(r->tree, map, "missing_kid", MISSING, &missing, r->error);
    c->missing_kid = missing == 1 ? PST_MISSING_KID_SINGLE : PST_MISSING_KID_REFUSE;
    if (status == PST_OK)
        status = pst_config_texts(r, map, "reserved_names", &r->config->reserved_names,
                                  &r->config->reserved_name_count);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "token_cache", 16, 1u << 22, &r->config->token_cache);
    if (status == PST_OK)
        status = pst_config_u32(r, map, "fact_cache", 16, 1u << 22, &r->config->fact_cache);
    return status != PST_OK ? status : read_issuers(r, pst_node_get(map, "issuers"));
}
