/*
 * token: making tokens with a key that is at hand, and looking into them.
 */
#include "cli_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/app/site_build.h"
#include "postern/app/yaml.h"
#include "postern/base/clock.h"
#include "postern/base/secret.h"
#include "postern/identity/mint.h"

struct token_args {
    const char *config, *key, *secret, *alg, *kid, *issuer, *audience, *subject, *ttl, *email, *jti,
        *claims;
    const char *groups[PST_CLI_REPEAT_MAX];
    uint32_t group_count;
    bool json;
};

static struct pst_bytes text_of(const char *text)
{
    return pst_bytes_of(text, text == NULL ? 0 : strlen(text));
}

/* Without --key the own key of the configuration's state directory signs. */
static enum pst_status own_key(const struct token_args *a, struct pst_arena *arena,
                               struct pst_mint_claims *claims, struct pst_bytes *path,
                               struct pst_error *error)
{
    struct pst_config *config;
    enum pst_status status = pst_config_load(pst_cli_config_path(a->config), &config, error);
    uint32_t own = 0;

    if (status != PST_OK)
        return status;
    while (own < config->identity.issuers_count && config->sources[own].kind != PST_KEYS_OWN)
        own++;
    if (own == config->identity.issuers_count)
        status = pst_error_set(
            error, PST_E_ABSENT, NULL,
            "the configuration has no issuer of Postern's own: give --key and --issuer");
    if (status == PST_OK)
        status = pst_state_prepare(config, error);
    if (status == PST_OK) {
        const struct pst_issuer_config *issuer = &config->identity.issuers[own];
        *path = pst_state_path(config, arena, "keys/issuer.pem");
        if (claims->issuer.len == 0)
            status = pst_arena_copy(arena, issuer->issuer, &claims->issuer);
        if (status == PST_OK && claims->audience.len == 0)
            status = pst_arena_copy(arena, issuer->audiences[0], &claims->audience);
    }
    pst_config_free(config);
    return status;
}

static enum pst_status read_key(const struct token_args *a, struct pst_arena *arena,
                                struct pst_mint_key *key, struct pst_mint_claims *claims,
                                struct pst_error *error)
{
    struct pst_bytes path = text_of(a->key != NULL ? a->key : a->secret), text, jwks;
    enum pst_status status = PST_OK;

    if (path.len == 0)
        status = own_key(a, arena, claims, &path, error);
    if (status == PST_OK)
        status = pst_file_read(path.ptr, 65536, &text, error);
    if (status != PST_OK)
        return status;
    struct pst_bytes copy;
    status = pst_arena_copy(arena, text, &copy);
    pst_secret_wipe((void *)(uintptr_t)text.ptr, text.len);
    free((void *)(uintptr_t)text.ptr);
    if (a->secret != NULL) {
        while (copy.len > 0 && (copy.ptr[copy.len - 1] == '\n' || copy.ptr[copy.len - 1] == '\r'))
            copy.len--;
        key->secret = copy;
        key->kid = text_of(a->kid);
        return status;
    }
    key->pem = copy;
    return status != PST_OK
               ? status
               : pst_mint_jwks(copy, key->alg, text_of(a->kid), arena, &jwks, &key->kid, error);
}

/* What can be said of the line before any key is made or read. */
static enum pst_status judge_line(const struct token_args *a, enum pst_alg *alg,
                                  const struct pst_mint_claims *claims, struct pst_error *error)
{
    if (claims->subject.len == 0)
        return pst_error_set(error, PST_E_INVALID, "--subject", "a token needs a subject");
    if (a->key != NULL && a->secret != NULL)
        return pst_error_set(error, PST_E_INVALID, "--secret", "a key or a secret, not both");
    if ((a->key != NULL || a->secret != NULL) && claims->issuer.len == 0)
        return pst_error_set(error, PST_E_INVALID, "--issuer", "a token needs an issuer");
    *alg = a->alg != NULL      ? pst_alg_find(text_of(a->alg))
           : a->secret != NULL ? PST_ALG_HS256
                               : PST_ALG_ES256;
    if (*alg == PST_ALG_UNKNOWN)
        return pst_error_set(error, PST_E_INVALID, "--alg",
                             "\"%s\" is no signature algorithm that Postern takes", a->alg);
    if (pst_alg_in(PST_ALGS_HS, *alg) != (a->secret != NULL))
        return pst_error_set(error, PST_E_INVALID, "--alg", "%s is for %s", a->alg,
                             a->secret != NULL ? "a key, not for a secret" : "a secret (--secret)");
    if (a->key == NULL && a->secret == NULL && *alg != PST_ALG_ES256)
        return pst_error_set(error, PST_E_INVALID, "--alg",
                             "the own key signs ES256; for %s give --key", a->alg);
    if (pst_mint_check(claims, error) == PST_OK)
        return PST_OK;
    return pst_error_set(error, PST_E_INVALID, "--claims",
                         "expected a JSON object, with members that no other option sets");
}

static enum pst_status mint(const struct token_args *a, struct pst_arena *arena,
                            struct pst_bytes *token, int64_t *exp_s, struct pst_error *error)
{
    struct pst_bytes groups[PST_CLI_REPEAT_MAX];
    struct pst_mint_key key = {0};
    struct pst_mint_claims claims = {
        .issuer = text_of(a->issuer),
        .subject = text_of(a->subject),
        .audience = text_of(a->audience),
        .jti = text_of(a->jti),
        .email = text_of(a->email),
        .groups = groups,
        .groups_count = a->group_count,
        .extra_json = text_of(a->claims),
    };
    uint64_t ttl = 3600;

    if (a->ttl != NULL && (!pst_bytes_u63(text_of(a->ttl), &ttl) || ttl == 0 || ttl > 31536000))
        return pst_error_set(error, PST_E_INVALID, "--ttl", "expected seconds from 1 to 31536000");
    for (uint32_t i = 0; i < a->group_count; i++)
        groups[i] = text_of(a->groups[i]);
    claims.iat_s = (int64_t)(pst_clock_wall_ns() / PST_NS_PER_S);
    claims.exp_s = *exp_s = claims.iat_s + (int64_t)ttl;
    enum pst_status status = judge_line(a, &key.alg, &claims, error);
    if (status == PST_OK)
        status = read_key(a, arena, &key, &claims, error);
    if (status == PST_OK && claims.audience.len == 0)
        claims.audience = PST_LIT("postern");
    if (status == PST_OK)
        status = pst_mint_token(&key, &claims, arena, token, error);
    pst_secret_wipe((void *)(uintptr_t)key.pem.ptr, key.pem.len);
    pst_secret_wipe((void *)(uintptr_t)key.secret.ptr, key.secret.len);
    return status;
}

static int run_mint(const struct token_args *a)
{
    struct pst_arena arena;
    struct pst_error error = {0};
    struct pst_bytes token = {0};
    int64_t exp_s = 0;

    pst_arena_init(&arena, 16384, 1u << 22);
    enum pst_status status = mint(a, &arena, &token, &exp_s, &error);
    if (status == PST_OK)
        (void)printf(a->json ? "{\"token\":\"%.*s\",\"exp\":%lld}\n" : "%.*s\n", (int)token.len,
                     token.ptr, (long long)exp_s);
    pst_arena_fini(&arena);
    return status == PST_OK ? PST_EXIT_YES : pst_cli_fail(a->json, &error);
}

/* The token stands on the line, or comes on standard input, where no process list shows it. */
static struct pst_bytes read_token(const char *arg, char *room, size_t cap)
{
    size_t len;

    if (arg != NULL && !(arg[0] == '-' && arg[1] == '\0'))
        return pst_bytes_trim(text_of(arg));
    len = fread(room, 1, cap, stdin);
    while (len > 0 && (room[len - 1] == '\n' || room[len - 1] == '\r'))
        len--;
    return pst_bytes_trim(pst_bytes_of(room, len));
}

static int run_inspect(const struct token_args *a, const char *arg)
{
    char room[65536];
    struct pst_arena arena;
    struct pst_error error = {0};
    struct pst_bytes header, payload;

    pst_arena_init(&arena, 16384, 1u << 22);
    enum pst_status status =
        pst_mint_inspect(read_token(arg, room, sizeof(room)), &arena, &header, &payload, &error);
    if (status == PST_OK)
        (void)printf(
            a->json ? "{\"header\":%.*s,\"payload\":%.*s,\"verified\":false}\n"
                    : "header  %.*s\npayload %.*s\n(not verified: anybody can write such a text)\n",
            (int)header.len, header.ptr, (int)payload.len, payload.ptr);
    pst_arena_fini(&arena);
    return status == PST_OK ? PST_EXIT_YES : pst_cli_fail(a->json, &error);
}

static int run_word(const struct token_args *a, const char *const *rest, uint32_t n)
{
    if (n == 1 && strcmp(rest[0], "mint") == 0)
        return run_mint(a);
    if ((n == 1 || n == 2) && strcmp(rest[0], "inspect") == 0)
        return run_inspect(a, n == 2 ? rest[1] : NULL);
    (void)fprintf(stderr,
                  "postern token: expected mint, or inspect [TOKEN] (see postern token --help)\n");
    return PST_EXIT_USAGE;
}

static int run_token(int argc, char **argv)
{
    struct token_args a = {0};
    const char *rest[PST_CLI_REPEAT_MAX];
    uint32_t n = 0;
    const struct pst_option options[] = {
        {.name = "--subject",
         .letter = 's',
         .value = "NAME",
         .help = "sub: whom the token is for",
         .text = &a.subject},
        {.name = "--issuer",
         .value = "URL",
         .help = "iss; default: Postern's own issuer",
         .text = &a.issuer},
        {.name = "--audience",
         .value = "NAME",
         .help = "aud; default: postern",
         .text = &a.audience},
        {.name = "--ttl", .value = "SECONDS", .help = "lifetime; default: 3600", .text = &a.ttl},
        {.name = "--key",
         .value = "FILE",
         .help = "private key as PEM, with --issuer; default: the state directory's own key",
         .text = &a.key},
        {.name = "--secret",
         .value = "FILE",
         .help = "secret of HS256, HS384, HS512 instead of a key, with --issuer",
         .text = &a.secret},
        {.name = "--alg",
         .value = "ALG",
         .help = "default: ES256, of a secret HS256",
         .text = &a.alg},
        {.name = "--kid", .value = "KID", .help = "default: made of the key", .text = &a.kid},
        {.name = "--group",
         .value = "NAME",
         .help = "a group (again for more)",
         .list = a.groups,
         .list_count = &a.group_count},
        {.name = "--email",
         .value = "ADDRESS",
         .help = "e-mail address, as verified",
         .text = &a.email},
        {.name = "--jti", .value = "ID", .help = "the token's id", .text = &a.jti},
        {.name = "--claims",
         .value = "JSON",
         .help = "an object whose members are added",
         .text = &a.claims},
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration that names the state directory",
         .text = &a.config},
        {.name = "--json", .help = "as JSON", .flag = &a.json},
        {0},
    };
    int code = pst_cli_options(&pst_command_token, options, argc, argv, rest, &n);

    return code >= 0 ? code : run_word(&a, rest, n);
}

const struct pst_command pst_command_token = {
    "token", "Mints a token with a key that is at hand; shows what a token says.",
    "mint -s SUBJECT [...] | inspect [TOKEN|-]", run_token};
