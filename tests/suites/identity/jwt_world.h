/*
 * jwt_world.h - what the JWT cases are run in: configuration and keys merged as meta.how says, the
 * users of the vector file, and a token's way through credential, cache and verifier.
 */
#ifndef POSTERN_TESTS_SUITES_JWT_WORLD_H
#define POSTERN_TESTS_SUITES_JWT_WORLD_H

#include <dlfcn.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/identity/base64url.h"
#include "postern/identity/cache.h"
#include "postern/identity/credential.h"
#include "postern/identity/wall.h"

#define ISSUERS_MAX 16
#define LIST_MAX    16

static inline struct pst_bytes text_of(const json_t *s)
{
    return json_is_string(s) ? pst_bytes_of(json_string_value(s), json_string_length(s)) : (struct pst_bytes){0};
}

static inline bool is_word(const json_t *s, const char *word)
{
    return json_is_string(s) && strcmp(json_string_value(s), word) == 0;
}

/* RFC 7396: a new value for the caller. */
static inline json_t *merge_patch(const json_t *target, const json_t *patch)
{
    const char *name;
    json_t *value;

    if (!json_is_object(patch))
        return json_deep_copy(patch);
    json_t *result = json_is_object(target) ? json_deep_copy(target) : json_object();
    json_object_foreach((json_t *)(uintptr_t)patch, name, value)
    {
        if (json_is_null(value))
            (void)json_object_del(result, name);
        else
            (void)json_object_set_new(result, name, merge_patch(json_object_get(result, name), value));
    }
    return result;
}

/* A case's keys replace those of each issuer that they name; null takes the issuer away. */
static inline json_t *merge_keys(const json_t *base, const json_t *own)
{
    json_t *result = json_deep_copy(base), *value;
    const char *name;

    if (json_is_object(own))
        json_object_foreach((json_t *)(uintptr_t)own, name, value)
        {
            if (json_is_null(value))
                (void)json_object_del(result, name);
            else
                (void)json_object_set_new(result, name, json_deep_copy(value));
        }
    return result;
}

struct issuer {
    char name[128];
    struct pst_keyslot *slot;
    bool by_url; /* its keys come by the manager */
};

struct world {
    const json_t *meta, *users;
    json_t *config, *keys; /* merged */
    uint32_t count;
    struct issuer issuers[ISSUERS_MAX];
    struct pst_verifier *verifier;
    struct pst_checker *checker;
    struct pst_token_cache *cache;
    struct pst_wall wall;
    struct pst_arena arena;
};

struct result {
    bool accepted;
    enum pst_identity_reason reason;
    uint32_t refresh_issuer;
    char issuer[128], subject[300], user[300], kid[64];
};

/* --- building --- */

static inline uint32_t algs_of(const json_t *list)
{
    uint32_t set = 0;
    size_t i;
    json_t *one;

    json_array_foreach(list, i, one) set |= PST_ALG_BIT(pst_alg_find(text_of(one)));
    return set & ~PST_ALG_BIT(PST_ALG_UNKNOWN);
}

static inline uint32_t texts_of(const json_t *list, struct pst_bytes out[LIST_MAX])
{
    uint32_t n = 0;
    size_t i;
    json_t *one;

    json_array_foreach(list, i, one) if (n < LIST_MAX) out[n++] = text_of(one);
    return n;
}

static inline uint32_t number(const json_t *config, const char *name)
{
    return (uint32_t)json_number_value(json_object_get(config, name));
}

static inline enum pst_status build_verifier(struct world *w)
{
    struct pst_issuer_config issuers[ISSUERS_MAX];
    struct pst_keyslot *slots[ISSUERS_MAX];
    struct pst_bytes audiences[LIST_MAX], typ[LIST_MAX];
    uint32_t audiences_count = texts_of(json_object_get(w->config, "audiences"), audiences);
    const json_t *by_issuer = json_object_get(w->config, "issuer_algs");
    struct pst_error error = {0};

    for (uint32_t i = 0; i < w->count; i++) {
        const json_t *own = json_object_get(by_issuer, w->issuers[i].name);
        issuers[i] = (struct pst_issuer_config){
            .issuer = pst_bytes_of(w->issuers[i].name, strlen(w->issuers[i].name)),
            .audiences = audiences,
            .audiences_count = audiences_count,
            .algorithms = algs_of(own != NULL ? own : json_object_get(w->config, "allowed_algs")),
        };
        slots[i] = w->issuers[i].slot;
    }
    struct pst_identity_config config = {
        .issuers = issuers,
        .issuers_count = w->count,
        .leeway_s = number(w->config, "leeway_s"),
        .max_lifetime_s = number(w->config, "max_lifetime_s"),
        .max_token_bytes = number(w->config, "max_token_bytes"),
        .max_sub_bytes = number(w->config, "max_sub_bytes"),
        .header_max_depth = number(w->config, "header_max_depth"),
        .header_max_members = number(w->config, "header_max_members"),
        .typ = typ,
        .typ_count = texts_of(json_object_get(w->config, "typ"), typ),
        .typ_required = json_is_true(json_object_get(w->config, "typ_required")),
        .missing_kid = is_word(json_object_get(w->config, "missing_kid"), "single-candidate") ? PST_MISSING_KID_SINGLE
                                                                                             : PST_MISSING_KID_REFUSE,
    };
    pst_checker_destroy(w->checker);
    pst_verifier_destroy(w->verifier);
    w->checker = NULL;
    enum pst_status status = pst_verifier_create(&config, slots, &w->verifier, &error);
    w->wall.leeway_s = config.leeway_s;
    w->wall.hold_s = config.max_lifetime_s;
    return status == PST_OK ? pst_checker_create(w->verifier, &w->checker) : status;
}

static inline struct pst_keyset *load_secrets(const json_t *list, struct pst_error *error)
{
    struct pst_secret_key secrets[LIST_MAX];
    static unsigned char bytes[LIST_MAX][256];
    struct pst_keyset *set = NULL;
    uint32_t n = 0;
    size_t i, len;
    json_t *one;

    json_array_foreach(list, i, one)
    {
        if (n == LIST_MAX || !pst_base64url_decode(text_of(json_object_get(one, "k")), bytes[n], sizeof(bytes[n]), &len))
            return NULL;
        secrets[n] = (struct pst_secret_key){.kid = text_of(json_object_get(one, "kid")),
                                             .alg = pst_alg_find(text_of(json_object_get(one, "alg"))),
                                             .secret = pst_bytes_of(bytes[n], len)};
        n++;
    }
    return pst_keyset_from_secrets(secrets, n, &set, error) == PST_OK ? set : NULL;
}

static inline struct pst_keyset *load_document(const json_t *jwks, struct pst_error *error)
{
    struct pst_keyset *set = NULL;
    char *text = json_dumps(jwks, JSON_COMPACT);

    if (pst_keyset_from_jwks(pst_bytes_of(text, strlen(text)), &set, NULL, error) != PST_OK)
        set = NULL;
    free(text);
    return set;
}

static inline bool load_issuer(struct world *w, uint32_t i)
{
    const json_t *keys = json_object_get(w->keys, w->issuers[i].name);
    const json_t *secrets = json_object_get(keys, "secrets"), *jwks = json_object_get(keys, "jwks");
    struct pst_error error = {0};
    struct pst_keyset *set = secrets != NULL ? load_secrets(secrets, &error) : load_document(jwks, &error);

    pst_keyslot_publish(w->issuers[i].slot, set);
    return set != NULL;
}

/* Whether all key sets that do not come by URL could be loaded. */
static inline bool load_keys(struct world *w)
{
    bool good = true;

    for (uint32_t i = 0; i < w->count; i++)
        good = (w->issuers[i].by_url || load_issuer(w, i)) && good;
    return good;
}

static inline void add_issuer(struct world *w, const char *name)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (strcmp(w->issuers[i].name, name) == 0)
            return;
    if (w->count == ISSUERS_MAX || strlen(name) >= sizeof(w->issuers[0].name))
        abort();
    struct issuer *one = &w->issuers[w->count++];
    *one = (struct issuer){0};
    memcpy(one->name, name, strlen(name));
    if (pst_keyslot_create(&one->slot) != PST_OK)
        abort();
}

/* own: a case or a step, with config and keys of its own or not. False: refused at load. */
static inline bool world_open(struct world *w, const json_t *meta, const json_t *own, const json_t *keys, bool urls)
{
    const json_t *patch = json_object_get(own, "config");
    const char *name;
    json_t *value;

    *w = (struct world){.meta = meta, .users = json_object_get(meta, "users")};
    const json_t *base = json_object_get(meta, "config");
    w->config = patch == NULL ? json_deep_copy(base) : merge_patch(base, patch);
    w->keys = keys != NULL ? json_deep_copy(keys) : merge_keys(json_object_get(meta, "keys"), json_object_get(own, "keys"));
    pst_arena_init(&w->arena, 4096, 8u << 20);
    json_object_foreach(w->keys, name, value) add_issuer(w, name);
    if (urls)
        json_object_foreach(json_object_get(w->config, "jwks_urls"), name, value)
        {
            add_issuer(w, name);
            for (uint32_t i = 0; i < w->count; i++)
                if (strcmp(w->issuers[i].name, name) == 0)
                    w->issuers[i].by_url = true;
        }
    bool good = load_keys(w);
    return build_verifier(w) == PST_OK && pst_token_cache_create(10000, &w->cache) == PST_OK && good;
}

static inline void world_close(struct world *w)
{
    pst_token_cache_destroy(w->cache);
    pst_checker_destroy(w->checker);
    pst_verifier_destroy(w->verifier);
    for (uint32_t i = 0; i < w->count; i++)
        pst_keyslot_destroy(w->issuers[i].slot);
    json_decref(w->config);
    json_decref(w->keys);
    pst_arena_fini(&w->arena);
    *w = (struct world){0};
}

/* --- a token's way --- */

static inline void copy_text(char *out, size_t cap, struct pst_bytes text)
{
    size_t n = text.len < cap - 1 ? text.len : cap - 1;

    memcpy(out, text.ptr == NULL ? "" : text.ptr, n);
    out[n] = '\0';
}

static inline bool is_reserved(const struct world *w, struct pst_bytes name)
{
    size_t i;
    json_t *one;

    json_array_foreach(json_object_get(w->config, "reserved_names"), i, one) if (pst_bytes_equal(text_of(one), name))
        return true;
    return false;
}

static inline bool is_revoked(const struct world *w, const struct pst_claims *c)
{
    size_t i;
    json_t *one;

    json_array_foreach(json_object_get(w->meta, "revoked"), i,
                       one) if (c->jti.len > 0 && pst_bytes_equal(text_of(json_object_get(one, "jti")), c->jti) &&
                                pst_bytes_equal(text_of(json_object_get(one, "issuer")), c->issuer_name)) return true;
    return false;
}

/* The part of those who know the users: the table of the vector file. */
static inline void find_user(const struct world *w, const struct pst_claims *c, struct result *r)
{
    const json_t *found = NULL;
    size_t i;
    json_t *one;

    json_array_foreach(w->users, i, one) if (pst_bytes_equal(text_of(json_object_get(one, "issuer")), c->issuer_name) &&
                                             pst_bytes_equal(text_of(json_object_get(one, "subject")), c->subject))
        found = one;
    const json_t *before = json_object_get(found, "sessions_revoked_before");
    bool creates = is_word(json_object_get(w->config, "unknown_users"), "create") && !is_reserved(w, c->user);

    r->accepted = false;
    if (is_revoked(w, c)) {
        r->reason = PST_ID_REVOKED;
    } else if (found == NULL || is_word(json_object_get(found, "state"), "unknown")) {
        r->reason = PST_ID_UNKNOWN_USER;
        r->accepted = creates;
        copy_text(r->user, sizeof(r->user), c->user);
    } else if (is_word(json_object_get(found, "state"), "disabled")) {
        r->reason = PST_ID_USER_DISABLED;
    } else if (before != NULL && (c->iat_s == PST_TIME_ABSENT || c->iat_s < (int64_t)json_number_value(before))) {
        r->reason = PST_ID_REVOKED;
    } else {
        r->accepted = true;
        copy_text(r->user, sizeof(r->user), text_of(json_object_get(found, "user")));
    }
}

static inline struct result verify(struct world *w, struct pst_bytes token, int64_t now_s)
{
    struct pst_token_outcome out;
    struct result r = {0};

    pst_arena_reset(&w->arena);
    if (pst_token_cache_verify(w->cache, w->checker, token, now_s, &w->arena, &out) != PST_OK)
        abort();
    r.reason = out.reason;
    r.refresh_issuer = out.refresh_issuer;
    if (out.accepted) {
        copy_text(r.issuer, sizeof(r.issuer), out.claims.issuer_name);
        copy_text(r.subject, sizeof(r.subject), out.claims.subject);
        find_user(w, &out.claims, &r);
    }
    return r;
}

/* "Name: value" as a parser of the door hands it on. */
static inline struct pst_field field_of(struct pst_bytes line)
{
    size_t colon = pst_bytes_find(line, ':');

    return (struct pst_field){.name = pst_bytes_of(line.ptr, colon),
                              .value = pst_bytes_trim(pst_bytes_from(line, colon < line.len ? colon + 1 : colon))};
}

static inline struct result request_fields(struct world *w, const struct pst_field *fields, size_t count, int64_t now_s)
{
    struct pst_credential_config config = {
        .header = PST_LIT("Authorization"),
        .cookie = text_of(json_object_get(w->config, "cookie")),
        .websocket_protocol = text_of(json_object_get(w->config, "websocket_protocol")),
    };
    struct pst_credential c = pst_credential_find(&config, fields, count);

    if (c.source == PST_CREDENTIAL_NONE)
        return (struct result){.reason = c.reason, .refresh_issuer = PST_NO_ISSUER};
    return verify(w, c.token, now_s);
}

/* http: as in a case; NULL (absent): the token as a Bearer credential. */
static inline struct result request(struct world *w, struct pst_bytes token, const json_t *http, int64_t now_s)
{
    struct pst_field fields[LIST_MAX];
    size_t i, n = 0;
    json_t *line;

    if (http == NULL) {
        struct result r;
        char *value = malloc(token.len + 7);
        memcpy(value, "Bearer ", 7);
        memcpy(value + 7, token.ptr, token.len);
        fields[0] = (struct pst_field){.name = PST_LIT("Authorization"), .value = pst_bytes_of(value, token.len + 7)};
        r = request_fields(w, fields, 1, now_s);
        free(value);
        return r;
    }
    json_array_foreach(json_object_get(http, "lines"), i, line) if (n < LIST_MAX) fields[n++] = field_of(text_of(line));
    return request_fields(w, fields, n, now_s);
}

/* --- tokens --- */

/* zlib is there wherever libcurl is, and the cases need one function of it: not worth a library on
 * every link line. */
static inline char *inflate_text(struct pst_bytes b64, size_t len)
{
    int (*uncompress)(unsigned char *, unsigned long *, const unsigned char *, unsigned long) = NULL;
    unsigned char *packed = malloc(b64.len + 4);
    char *out = calloc(1, len + 1);
    unsigned long got = len;
    void *zlib = dlopen("libz.so.1", RTLD_NOW);
    int n = EVP_DecodeBlock(packed, (const unsigned char *)b64.ptr, (int)b64.len);

    if (zlib != NULL)
        *(void **)&uncompress = dlsym(zlib, "uncompress");
    if (uncompress == NULL || n <= 0 || uncompress((unsigned char *)out, &got, packed, (unsigned long)n) != 0 || got != len)
        abort();
    free(packed);
    dlclose(zlib);
    return out;
}

/* The token of a case or a step; *owned is to be freed. */
static inline struct pst_bytes token_of(const json_t *c, char **owned)
{
    const json_t *packed = json_object_get(c, "token_zlib_b64");

    *owned = NULL;
    if (packed == NULL)
        return text_of(json_object_get(c, "token"));
    size_t len = (size_t)json_number_value(json_object_get(c, "token_bytes"));
    *owned = inflate_text(text_of(packed), len);
    return pst_bytes_of(*owned, len);
}

static inline bool principal_fits(const json_t *want, const struct result *r)
{
    return want == NULL ||
           (is_word(json_object_get(want, "issuer"), r->issuer) && is_word(json_object_get(want, "subject"), r->subject) &&
            is_word(json_object_get(want, "user"), r->user));
}

#endif
