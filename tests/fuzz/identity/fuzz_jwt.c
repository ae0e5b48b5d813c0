/*
 * fuzz_jwt - any bytes as a token, with keys of every kind. Two more ways in for the same bytes: as
 * the payload of a token that is rightly signed (so that the claims are reached), and as header
 * fields.
 */
#include <stdlib.h>

#include "postern/identity/cache.h"
#include "postern/identity/credential.h"
#include "postern/identity/mint.h"

#define NOW_S 1800000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pst_checker *checker;
static struct pst_token_cache *cache;
static struct pst_arena keys_arena, arena;
static const struct pst_bytes secret = {.ptr = "0123456789abcdef0123456789abcdef", .len = 32};

static void must(enum pst_status status)
{
    if (status != PST_OK)
        abort();
}

/* The document is fixed: a crash must come back with the same bytes. */
static void set_up(void)
{
    static const struct pst_bytes audience = {.ptr = "postern", .len = 7};
    static const struct pst_bytes document =
        PST_LIT("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"ec-1\",\"x\":"
                "\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","
                "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw\"},"
                "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed-1\",\"x\":"
                "\"RSvI2fQ8RwLxHu09AngF8tTro5nGSJO6mAicbgp2wWU\"}]}");
    static struct pst_keyslot *slots[2];
    struct pst_issuer_config issuers[2] = {
        {.issuer = PST_LIT("https://idp.test/"),
         .audiences = &audience,
         .audiences_count = 1,
         .groups_claim = PST_LIT("groups")},
        {.issuer = PST_LIT("https://hs.test/"),
         .audiences = &audience,
         .audiences_count = 1,
         .algorithms = PST_ALGS_HS,
         .user_claim = PST_USER_EMAIL,
         .groups_claim = PST_LIT("groups")},
    };
    struct pst_identity_config config = pst_identity_config_default();
    struct pst_verifier *verifier;
    struct pst_keyset *set;

    config.issuers = issuers;
    config.issuers_count = 2;
    must(pst_keyslot_create(&slots[0]));
    must(pst_keyslot_create(&slots[1]));
    must(pst_keyset_from_jwks(document, &set, NULL, NULL));
    pst_keyslot_publish(slots[0], set);
    must(pst_keyset_from_secrets(&(struct pst_secret_key){PST_LIT("hs-1"), PST_ALG_HS256, secret},
                                 1, &set, NULL));
    pst_keyslot_publish(slots[1], set);
    must(pst_verifier_create(&config, slots, &verifier, NULL));
    must(pst_checker_create(verifier, &checker));
    must(pst_token_cache_create(64, &cache));
    pst_arena_init(&keys_arena, 65536, 1u << 22);
    pst_arena_init(&arena, 65536, 1u << 22);
}

static void check(const struct pst_token_outcome *out)
{
    if (!out->accepted)
        return;
    if (out->claims.subject.len == 0 || out->claims.user.len == 0 || out->claims.issuer > 1 ||
        out->claims.exp_s < NOW_S - 30)
        abort();
}

static void as_token(struct pst_bytes bytes)
{
    struct pst_token_outcome first, second;

    must(pst_token_cache_verify(cache, checker, bytes, NOW_S, &arena, &first));
    check(&first);
    must(pst_token_cache_verify(cache, checker, bytes, NOW_S, &arena, &second));
    if (first.accepted != second.accepted || (!first.accepted && first.reason != second.reason))
        abort(); /* memory must not change an answer */
}

static void as_payload(struct pst_bytes bytes)
{
    struct pst_mint_key key = {.alg = PST_ALG_HS256, .kid = PST_LIT("hs-1"), .secret = secret};
    struct pst_bytes token;

    if (pst_mint_raw(&key, PST_LIT("{\"alg\":\"HS256\",\"kid\":\"hs-1\"}"), bytes, &keys_arena,
                     &token) == PST_OK)
        as_token(token);
    if (pst_mint_raw(&key, bytes, PST_LIT("{\"iss\":\"https://hs.test/\"}"), &keys_arena, &token) ==
        PST_OK)
        as_token(token);
}

static void as_fields(struct pst_bytes bytes)
{
    struct pst_credential_config config = {PST_LIT("Authorization"), PST_LIT("t"),
                                           PST_LIT("bearer")};
    struct pst_field fields[8];
    size_t n = 0;

    while (bytes.len > 0 && n < 8) {
        size_t end = pst_bytes_find(bytes, '\n'),
               colon = pst_bytes_find(pst_bytes_of(bytes.ptr, end), ':');
        fields[n++] = (struct pst_field){pst_bytes_of(bytes.ptr, colon),
                                         pst_bytes_of(bytes.ptr + colon, end - colon)};
        if (fields[n - 1].value.len > 0)
            fields[n - 1].value = pst_bytes_from(fields[n - 1].value, 1);
        bytes = pst_bytes_from(bytes, end < bytes.len ? end + 1 : end);
    }
    struct pst_credential c = pst_credential_find(&config, fields, n);
    if ((c.source == PST_CREDENTIAL_NONE) != (c.token.len == 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_bytes header, payload, bytes = pst_bytes_of(data, size);

    if (checker == NULL)
        set_up();
    pst_arena_reset(&arena);
    pst_arena_reset(&keys_arena);
    as_token(bytes);
    as_payload(bytes);
    as_fields(bytes);
    if (pst_mint_inspect(bytes, &arena, &header, &payload, NULL) == PST_OK && header.len == 0)
        abort();
    return 0;
}
