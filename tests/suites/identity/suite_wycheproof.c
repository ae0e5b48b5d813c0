/*
 * suite_wycheproof - the cases of kind vectors of DIR/jwt_cases.json over DIR/wycheproof/ files.
 *
 * layer jws: whole tokens with the keys of their group. Structure and header are judged by the
 * verifier (with a payload of its own, as those of the vectors are no claims), then the key is
 * chosen and the signature of the token as it stands is asked. layer primitive: key loading and
 * pst_signature_holds.
 *
 * Where the outcome is another one than the file says, `deviations` says why.
 */
#include <openssl/evp.h>

#include "postern/identity/base64url.h"
#include "postern/identity/signature.h"
#include "postern/identity/token.h"
#include "tally.h"

enum verdict { INVALID = 0, VALID, NOT_APPLICABLE };

static const struct {
    const char *file;
    int id;
    enum verdict verdict;
    const char *why;
} deviations[] = {
    {"json_web_signature_test.json", 346, INVALID,
     "the JWK says PS256 and the token PS384: a key verifies its own alg only"},
    {"json_web_signature_test.json", 350, INVALID,
     "the JWK says PS256 and the token PS384: a key verifies its own alg only"},
    {"json_web_signature_test.json", 367, VALID,
     "byte for byte tcId 357, which is valid: the file has lost the padding"},
    {"json_web_signature_test.json", 370, VALID,
     "byte for byte tcId 357, which is valid: the file has lost the padding"},
    {"json_web_signature_test.json", 372, INVALID,
     "a character outside base64url in the header is skipped by nobody"},
    {"json_web_signature_test.json", 373, INVALID,
     "a character outside base64url in the payload is skipped by nobody"},
};

static struct pst_bytes text_of(const json_t *object, const char *name)
{
    const json_t *s = json_object_get(object, name);

    return json_is_string(s) ? pst_bytes_of(json_string_value(s), json_string_length(s))
                             : (struct pst_bytes){0};
}

static bool is_word(const json_t *object, const char *name, const char *word)
{
    return pst_bytes_equal(text_of(object, name), pst_bytes_of(word, strlen(word)));
}

static int number_of(const json_t *object, const char *name)
{
    return (int)json_number_value(json_object_get(object, name));
}

static struct pst_bytes unhex(struct pst_bytes hex)
{
    unsigned char *out = calloc(1, hex.len / 2 + 1);

    for (size_t i = 0; i + 1 < hex.len; i += 2) {
        const char pair[3] = {hex.ptr[i], hex.ptr[i + 1], 0};
        unsigned value;
        if (sscanf(pair, "%x", &value) != 1)
            abort();
        out[i / 2] = (unsigned char)value;
    }
    return pst_bytes_of(out, hex.len / 2);
}

static void give_back(struct pst_bytes b)
{
    free((void *)(uintptr_t)b.ptr);
}

/* --- keys --- */

static struct pst_keyset *from_document(const json_t *keys)
{
    struct pst_keyset *set = NULL;
    json_t *document = json_pack("{s:O}", "keys", keys);
    char *text = json_dumps(document, JSON_COMPACT);

    if (pst_keyset_from_jwks(pst_bytes_of(text, strlen(text)), &set, NULL, NULL) != PST_OK)
        set = NULL;
    free(text);
    json_decref(document);
    return set;
}

/* Keys of kty oct alone are an operator's secrets. */
static struct pst_keyset *from_secrets(const json_t *keys)
{
    struct pst_secret_key secrets[8];
    unsigned char bytes[8][256];
    struct pst_keyset *set = NULL;
    uint32_t n = 0;
    size_t i, len;
    json_t *one;

    json_array_foreach(keys, i, one)
    {
        if (n == 8 || !pst_base64url_decode(text_of(one, "k"), bytes[n], sizeof(bytes[n]), &len))
            return NULL;
        secrets[n] = (struct pst_secret_key){text_of(one, "kid"), pst_alg_find(text_of(one, "alg")),
                                             pst_bytes_of(bytes[n], len)};
        n++;
    }
    return pst_keyset_from_secrets(secrets, n, &set, NULL) == PST_OK ? set : NULL;
}

/* The keys of a group as a list: `public`, or `private` when there are only secrets. */
static json_t *keys_of(const json_t *group)
{
    const json_t *holder = json_object_get(group, "public");

    if (holder == NULL)
        holder = json_object_get(group, "private");
    json_t *list = json_object_get(holder, "keys");
    if (list != NULL)
        return json_incref(list);
    list = json_array();
    (void)json_array_append(list, (json_t *)(uintptr_t)holder);
    return list;
}

static struct pst_keyset *load_group(const json_t *group)
{
    json_t *keys = keys_of(group), *one;
    bool all_oct = true;
    size_t i;

    json_array_foreach(keys, i, one) all_oct = all_oct && is_word(one, "kty", "oct");
    struct pst_keyset *set = all_oct ? from_secrets(keys) : from_document(keys);
    json_decref(keys);
    return set;
}

/* --- whole tokens --- */

/* Whether the verifier gets past structure and header: a payload without iss takes the place of the
 * vector's, so that the refusal which follows the header is known. */
static bool header_passes(struct pst_checker *checker, struct pst_bytes token,
                          struct pst_arena *arena)
{
    struct pst_token_outcome out;
    static const enum pst_identity_reason behind_the_header[] = {PST_ID_MISSING_CLAIM, PST_ID_ISS};

    size_t first = pst_bytes_find(token, '.');
    if (first == token.len)
        return false;
    size_t second = first + 1 + pst_bytes_find(pst_bytes_from(token, first + 1), '.');
    if (second >= token.len)
        return false;
    unsigned char scratch[8192];
    size_t len;
    if (!pst_base64url_decode(pst_bytes_of(token.ptr + first + 1, second - first - 1), scratch,
                              sizeof(scratch), &len) ||
        !pst_base64url_decode(pst_bytes_from(token, second + 1), scratch, sizeof(scratch), &len))
        return false;
    char *text = malloc(token.len + 16);
    int n = snprintf(text, token.len + 16, "%.*s.e30.%.*s", (int)first, token.ptr,
                     (int)(token.len - second - 1), token.ptr + second + 1);
    if (pst_token_verify(checker, pst_bytes_of(text, (size_t)n), 0, arena, &out) != PST_OK)
        abort();
    free(text);
    for (size_t i = 0; i < 2; i++)
        if (!out.accepted && out.reason == behind_the_header[i])
            return true;
    return false;
}

static bool read_header(struct pst_bytes token, json_t **header, struct pst_bytes *signed_,
                        struct pst_bytes *sig)
{
    unsigned char text[8192];
    static unsigned char signature[8192];
    size_t first = pst_bytes_find(token, '.'), len;
    size_t second = first + 1 + pst_bytes_find(pst_bytes_from(token, first + 1), '.');

    if (!pst_base64url_decode(pst_bytes_of(token.ptr, first), text, sizeof(text), &len))
        return false;
    *header = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
    if (*header == NULL || !pst_base64url_decode(pst_bytes_from(token, second + 1), signature,
                                                 sizeof(signature), &len))
        return false;
    *signed_ = pst_bytes_of(token.ptr, second);
    *sig = pst_bytes_of(signature, len);
    return true;
}

static enum verdict run_token(const struct pst_keyset *set, struct pst_checker *checker,
                              struct pst_signature *signature, const json_t *test,
                              struct pst_arena *arena)
{
    const json_t *jws = json_object_get(test, "jws");
    json_t *header = NULL;
    struct pst_bytes token = text_of(test, "jws"), signed_, sig;
    struct pst_key_use use = {0};
    bool holds = false;

    if (json_object_get(test, "jwe") != NULL)
        return NOT_APPLICABLE; /* there is no JWE */
    if (!json_is_string(jws) || set == NULL || !header_passes(checker, token, arena))
        return INVALID;
    if (read_header(token, &header, &signed_, &sig)) {
        enum pst_alg alg = pst_alg_find(text_of(header, "alg"));
        const struct pst_key *key = json_object_get(header, "kid") != NULL
                                        ? pst_keyset_find(set, text_of(header, "kid"))
                                        : pst_keyset_single(set, alg);
        holds = key != NULL && pst_signature_holds(signature, key, &use, alg, signed_, sig);
        pst_key_use_fini(&use);
    }
    json_decref(header);
    return holds ? VALID : INVALID;
}

/* --- primitives --- */

static enum pst_alg alg_of(const json_t *group)
{
    static const struct {
        const char *type, *sha;
        enum pst_alg alg;
    } rows[] = {
        {"EcdsaP1363Verify", "SHA-256", PST_ALG_ES256},
        {"EcdsaP1363Verify", "SHA-384", PST_ALG_ES384},
        {"EcdsaP1363Verify", "SHA-512", PST_ALG_ES512},
        {"RsassaPkcs1Verify", "SHA-256", PST_ALG_RS256},
        {"RsassaPkcs1Verify", "SHA-384", PST_ALG_RS384},
        {"RsassaPkcs1Verify", "SHA-512", PST_ALG_RS512},
        {"RsassaPssVerify", "SHA-256", PST_ALG_PS256},
        {"RsassaPssVerify", "SHA-384", PST_ALG_PS384},
        {"RsassaPssVerify", "SHA-512", PST_ALG_PS512},
    };

    if (is_word(group, "type", "EddsaVerify"))
        return PST_ALG_EDDSA;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (is_word(group, "type", rows[i].type) && is_word(group, "sha", rows[i].sha))
            return rows[i].alg;
    return PST_ALG_UNKNOWN;
}

static enum verdict run_signature(const json_t *group, struct pst_signature *signature,
                                  const json_t *test)
{
    struct pst_keyset *set = NULL;
    struct pst_bytes message = unhex(text_of(test, "msg")), sig = unhex(text_of(test, "sig"));
    struct pst_key_use use = {0};
    enum pst_alg alg = alg_of(group);
    enum verdict verdict = NOT_APPLICABLE;

    if (alg != PST_ALG_UNKNOWN) {
        enum pst_status status =
            pst_keyset_from_pem(text_of(group, "publicKeyPem"), PST_LIT("k"), alg, &set, NULL);
        verdict = status == PST_OK && pst_signature_holds(signature, pst_keyset_at(set, 0), &use,
                                                          alg, message, sig)
                      ? VALID
                      : INVALID;
    }
    pst_key_use_fini(&use);
    pst_keyset_release(set);
    give_back(message);
    give_back(sig);
    return verdict;
}

/* Truncated tags and keys shorter than the hash are no JWS. */
static enum verdict run_mac(const json_t *group, struct pst_signature *signature,
                            const json_t *test, enum pst_alg alg)
{
    struct pst_bytes key = unhex(text_of(test, "key")), message = unhex(text_of(test, "msg"));
    struct pst_bytes tag = unhex(text_of(test, "tag"));
    struct pst_secret_key secret = {.kid = PST_LIT("k"), .alg = alg, .secret = key};
    struct pst_keyset *set = NULL;
    struct pst_key_use use = {0};
    enum verdict verdict = NOT_APPLICABLE;

    if ((unsigned)number_of(group, "tagSize") == 8 * pst_alg_hash_bytes(alg) &&
        pst_keyset_from_secrets(&secret, 1, &set, NULL) == PST_OK)
        verdict = pst_signature_holds(signature, pst_keyset_at(set, 0), &use, alg, message, tag)
                      ? VALID
                      : INVALID;
    pst_keyset_release(set);
    give_back(key);
    give_back(message);
    give_back(tag);
    return verdict;
}

/* --- files --- */

struct run {
    const json_t *c;
    const char *file, *out_of_reach; /* why a test of this file may not be applicable */
    struct pst_signature *signature;
    struct tally *tally;
};

static const char *deviation(const char *file, int id, enum verdict verdict)
{
    for (size_t i = 0; i < sizeof(deviations) / sizeof(deviations[0]); i++)
        if (strcmp(deviations[i].file, file) == 0 && deviations[i].id == id &&
            deviations[i].verdict == verdict)
            return deviations[i].why;
    return NULL;
}

static void count(const struct run *run, const json_t *test, enum verdict verdict)
{
    const char *result = json_string_value(json_object_get(test, "result"));
    int id = number_of(test, "tcId");
    const char *why = deviation(run->file, id, verdict);

    if (verdict == NOT_APPLICABLE) {
        tally_skip(run->tally, 1, "%s", run->out_of_reach);
    } else if (strcmp(result, "acceptable") == 0 ||
               (verdict == VALID) == (strcmp(result, "valid") == 0)) {
        run->tally->passed++;
    } else if (why != NULL) {
        run->tally->passed++;
        printf("%s: tcId %d %s by intention: %s\n", run->tally->file, id,
               verdict == VALID ? "accepted" : "refused", why);
    } else {
        run->tally->failed++;
        printf("%s: FAIL tcId %d (%s): %s, but the signature %s\n", run->tally->file, id,
               tally_text(test, "comment"), result, verdict == VALID ? "held" : "did not hold");
    }
}

static bool is_selected(const json_t *c, const json_t *test)
{
    const json_t *select = json_object_get(c, "select");
    size_t i;
    json_t *flag;

    if (select == NULL)
        return true;
    json_array_foreach(json_object_get(test, "flags"), i,
                       flag) if (is_word(select, "flag", json_string_value(flag))) return true;
    return false;
}

static void run_tokens(const struct run *run, const json_t *group)
{
    static const struct pst_bytes audience = {.ptr = "a", .len = 1};
    struct pst_issuer_config issuer = {
        .issuer = PST_LIT("https://never.test/"),
        .audiences = &audience,
        .audiences_count = 1,
        .algorithms = UINT32_MAX, /* all that there are: the case is about keys and signatures */
    };
    struct pst_identity_config config = pst_identity_config_default();
    struct pst_keyset *set = load_group(group);
    struct pst_keyslot *slot;
    struct pst_verifier *verifier;
    struct pst_checker *checker;
    struct pst_arena arena;
    size_t i;
    json_t *test;

    config.issuers = &issuer;
    config.issuers_count = 1;
    pst_arena_init(&arena, 4096, 1u << 20);
    if (pst_keyslot_create(&slot) != PST_OK ||
        pst_verifier_create(&config, &slot, &verifier, NULL) != PST_OK ||
        pst_checker_create(verifier, &checker) != PST_OK)
        abort();
    json_array_foreach(json_object_get(group, "tests"), i, test) if (is_selected(run->c, test))
        count(run, test, run_token(set, checker, run->signature, test, &arena));
    pst_checker_destroy(checker);
    pst_verifier_destroy(verifier);
    pst_keyslot_destroy(slot);
    pst_keyset_release(set);
    pst_arena_fini(&arena);
}

static bool is_strange_group(const struct run *run, const json_t *group)
{
    const char *type = tally_text(group, "type");

    if (is_word(run->c, "layer", "jws") || strcmp(type, "MacTest") == 0 ||
        alg_of(group) != PST_ALG_UNKNOWN)
        return false;
    for (size_t i = 0; i < json_array_size(json_object_get(group, "tests")); i++)
        tally_strange(run->tally, tally_text(run->c, "id"), "type", type);
    return true;
}

static void run_group(struct run *run, const json_t *group)
{
    bool mac = is_word(group, "type", "MacTest");
    enum pst_alg alg = strstr(run->file, "sha512") != NULL   ? PST_ALG_HS512
                       : strstr(run->file, "sha384") != NULL ? PST_ALG_HS384
                                                             : PST_ALG_HS256;
    size_t i;
    json_t *test;

    if (is_strange_group(run, group))
        return;
    run->out_of_reach = mac ? "no tag or key of a JWS" : "JWE";
    if (is_word(run->c, "layer", "jws")) {
        run_tokens(run, group);
        return;
    }
    json_array_foreach(json_object_get(group, "tests"), i, test)
    {
        if (is_selected(run->c, test))
            count(run, test,
                  mac ? run_mac(group, run->signature, test, alg)
                      : run_signature(group, run->signature, test));
    }
}

static void run_file(struct run *run, const json_t *file)
{
    struct tally *t = run->tally;
    unsigned announced = (unsigned)number_of(run->c, "vectors");
    size_t i;
    json_t *group;

    json_array_foreach(json_object_get(file, "testGroups"), i, group) run_group(run, group);
    unsigned seen = t->passed + t->failed + t->skipped;
    if (seen != announced) {
        printf("%s: FAIL %s: %u vectors seen, %u announced\n", t->file, tally_text(run->c, "id"),
               seen, announced);
        t->failed++;
    }
}

static void run_case(const char *dir, const json_t *c, struct pst_signature *signature,
                     struct tally *all)
{
    static const char *const LAYERS[] = {"jws", "primitive", NULL};
    char name[256];
    const char *id = tally_text(c, "id"), *when = tally_text(c, "when");
    const char *layer = tally_text(c, "layer");
    struct tally own = tally_of(dir, name);
    struct run run = {
        .c = c, .file = tally_text(c, "vector_file"), .signature = signature, .tally = &own};

    (void)snprintf(name, sizeof(name), "wycheproof/%s", run.file);
    if (strcmp(when, "secrets") == 0) {
        tally_skip(&own, (unsigned)number_of(c, "vectors"), "needs secrets");
    } else if (when[0] != '\0') {
        tally_strange(&own, id, "when", when);
    } else if (!tally_among(layer, LAYERS)) {
        tally_strange(&own, id, "layer", layer);
    } else {
        json_t *file = tally_load(&own, dir, JSON_ALLOW_NUL);
        if (file != NULL)
            run_file(&run, file);
        else if (own.failed == 0)
            printf("%s: absent from %s\n", name, dir);
        json_decref(file);
    }
    tally_close(&own);
    all->passed += own.passed;
    all->failed += own.failed;
    all->skipped += own.skipped;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : TALLY_OWN;
    struct pst_signature *signature;
    struct tally all = tally_of(dir, "jwt_cases.json");
    size_t i;
    json_t *c;

    json_t *file = tally_load(&all, dir, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL);
    if (pst_signature_create(&signature) != PST_OK)
        abort();
    json_array_foreach(json_object_get(file, "cases"), i, c)
    {
        if (is_word(c, "kind", "vectors"))
            run_case(dir, c, signature, &all);
    }
    pst_signature_destroy(signature);
    json_decref(file);
    printf("suite wycheproof: %u passed, %u failed, %u not applicable\n", all.passed, all.failed,
           all.skipped);
    return all.failed > 0;
}
