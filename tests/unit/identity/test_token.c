/* identity/token and mint: what is minted is accepted, and nothing near it. */
#include "../test.h"

#include <stdio.h>
#include <string.h>

#include "mint_world.h"
#include "postern/base/buf.h"

static void every_algorithm_goes_there_and_back(void **state)
{
    (void)state;
    static const enum pst_alg algs[] = {PST_ALG_RS256, PST_ALG_RS384, PST_ALG_RS512, PST_ALG_PS256,
                                        PST_ALG_PS384, PST_ALG_PS512, PST_ALG_ES256, PST_ALG_ES384,
                                        PST_ALG_ES512, PST_ALG_EDDSA};

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct mint_world w;
        mint_world_open(&w, algs[i]);
        struct pst_token_outcome out = verify_at(&w, mint(&w), NOW_S);
        if (!out.accepted)
            fail_msg("%s: %s", pst_alg_name(algs[i]), pst_identity_reason_name(out.reason));
        assert_int_equal(out.claims.alg, algs[i]);
        assert_true(pst_bytes_equal(out.claims.subject, PST_LIT("alice")));
        assert_true(pst_bytes_equal(out.claims.jti, PST_LIT("j1")));
        assert_true(pst_bytes_equal(out.claims.kid, w.kid));
        assert_int_equal(out.claims.exp_s, NOW_S + 300);
        assert_int_equal(out.claims.iat_s, NOW_S);
        /* twice, so that the kept context is used again */
        assert_true(verify_at(&w, mint(&w), NOW_S).accepted);
        mint_world_close(&w);
    }
}

static void no_changed_character_passes(void **state)
{
    (void)state;
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    struct pst_bytes token = mint(&w);
    char text[1024];
    assert_true(token.len < sizeof(text));
    memcpy(text, token.ptr, token.len);
    for (size_t i = 0; i < token.len; i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        assert_false(verify_at(&w, pst_bytes_of(text, token.len), NOW_S).accepted);
        text[i] = '.';
        if (was != '.')
            assert_false(verify_at(&w, pst_bytes_of(text, token.len), NOW_S).accepted);
        text[i] = was;
    }
    for (size_t n = 0; n < token.len; n++) /* nor a part of it */
        assert_false(verify_at(&w, pst_bytes_of(text, n), NOW_S).accepted);
    assert_true(verify_at(&w, pst_bytes_of(text, token.len), NOW_S).accepted);
    mint_world_close(&w);
}

static void a_public_key_is_no_secret(void **state)
{
    (void)state;
    struct mint_world w;
    struct pst_bytes token;

    mint_world_open(&w, PST_ALG_RS256);
    w.issuer.algorithms = UINT32_MAX; /* even where everything is allowed */
    mint_world_reopen(&w);
    struct pst_mint_key forged = {.alg = PST_ALG_HS256, .kid = w.kid, .secret = w.jwks};
    assert_int_equal(pst_mint_token(&forged, &w.claims, &w.keys, &token, NULL), PST_OK);
    struct pst_token_outcome out = verify_at(&w, token, NOW_S);
    assert_false(out.accepted);
    assert_int_equal(out.reason, PST_ID_KEY_TYPE_MISMATCH);
    mint_world_close(&w);
}

/* A token with this header (@ stands for the kid) and payload, signed by the world's key. */
static struct pst_token_outcome judge(struct mint_world *w, const char *header, const char *payload)
{
    char text[512];
    struct pst_bytes token;
    struct pst_buf b = pst_buf_of(text, sizeof(text));

    for (; *header != '\0'; header++)
        pst_buf_put(&b, *header == '@' ? w->kid : pst_bytes_of(header, 1));
    assert_int_equal(pst_mint_raw(&w->key, pst_buf_bytes(&b),
                                  pst_bytes_of(payload, strlen(payload)), &w->keys, &token),
                     PST_OK);
    return verify_at(w, token, NOW_S);
}

#define HEADER "{\"alg\":\"ES256\",\"kid\":\"@\"}"
#define BASE   "\"iss\":\"https://idp.test/\",\"aud\":\"postern\",\"exp\":1800000300"

static void claims_are_judged_one_by_one(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        enum pst_identity_reason reason;
    } bad[] = {
        {"{" BASE "}", PST_ID_MISSING_CLAIM},
        {"{" BASE ",\"sub\":\"\"}", PST_ID_SUB},
        {"{" BASE ",\"sub\":\"a\\nb\"}", PST_ID_SUB},
        {"{" BASE ",\"sub\":7}", PST_ID_MALFORMED},
        {"{" BASE ",\"sub\":\"alice\",\"cnf\":{}}", PST_ID_BINDING},
        {"{" BASE ",\"sub\":\"alice\",\"jti\":1}", PST_ID_MALFORMED},
        {"{" BASE ",\"sub\":\"alice\",\"groups\":7}", PST_ID_MALFORMED},
        {"{" BASE ",\"sub\":\"alice\",\"groups\":[7]}", PST_ID_MALFORMED},
        {"{" BASE ",\"sub\":\"alice\",\"nbf\":1800000031}", PST_ID_TIME},
        {"{" BASE ",\"sub\":\"alice\",\"nbf\":1800000030.5}", PST_ID_TIME},
        {"{" BASE ",\"sub\":\"alice\",\"iat\":1799913899}", PST_ID_TIME},
        {"{" BASE ",\"sub\":\"alice\"} ", 0},
        {"{\"iss\":\"https://idp.test/"
         "\",\"aud\":[\"x\",\"Postern\"],\"exp\":1800000300,\"sub\":\"alice\"}",
         PST_ID_AUD},
        {"{\"iss\":\"https://idp.test/\",\"aud\":[],\"exp\":1800000300,\"sub\":\"alice\"}",
         PST_ID_AUD},
        {"{\"iss\":\"https://idp.test/\",\"aud\":\"postern "
         "\",\"exp\":1800000300,\"sub\":\"alice\"}",
         PST_ID_AUD},
        {"{\"iss\":\"https://idp.test/"
         "\",\"aud\":{\"postern\":1},\"exp\":1800000300,\"sub\":\"alice\"}",
         PST_ID_MALFORMED},
        {"{\"iss\":\"https://idp.test/\",\"aud\":\"postern\",\"exp\":1799999970,\"sub\":\"alice\"}",
         PST_ID_TIME},
        {"{\"iss\":\"https://idp.test/\",\"aud\":\"postern\",\"exp\":1800086401,\"sub\":\"alice\"}",
         PST_ID_TIME},
        {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]," BASE
         ",\"sub\":\"alice\"}",
         PST_ID_MALFORMED},
    };
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pst_token_outcome out = judge(&w, HEADER, bad[i].payload);
        if (bad[i].reason == 0 && out.accepted)
            continue; /* white space behind it is JSON */
        if (out.accepted || out.reason != bad[i].reason)
            fail_msg("%s: %s", bad[i].payload,
                     out.accepted ? "accepted" : pst_identity_reason_name(out.reason));
    }
    /* an escaped issuer is the same issuer; a slash may be escaped */
    assert_true(
        judge(&w, HEADER,
              "{\"iss\":\"https:\\/\\/"
              "idp.test\\u002f\",\"aud\":[\"x\",\"postern\"],\"exp\":1800000300,\"sub\":\"a\"}")
            .accepted);
    /* so is the one whose name is escaped; what only ends or begins like it is another */
    assert_true(judge(&w, HEADER,
                      "{\"x\":{\"iss\":1},\"\\u0069ss\":\"https://idp.test/"
                      "\",\"aud\":\"postern\",\"exp\":1800000300,\"sub\":\"a\"}")
                    .accepted);
    assert_int_equal(judge(&w, HEADER,
                           "{\"iss\\u0009\":\"https://idp.test/"
                           "\",\"\\u0149ss\":\"https://idp.test/"
                           "\",\"aud\":\"postern\",\"exp\":1800000300,\"sub\":\"a\"}")
                         .reason,
                     PST_ID_MISSING_CLAIM);
    mint_world_close(&w);
}

static void a_second_issuer_behind_the_first_is_not_believed(void **state)
{
    (void)state;
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    /* the peek sees one, the parser would see two */
    struct pst_token_outcome out =
        judge(&w, HEADER,
              "{\"iss\":\"https://idp.test/\",\"\\u0069ss\":\"https://evil.test/"
              "\",\"aud\":\"postern\",\"exp\":1800000300,\"sub\":\"a\"}");
    assert_false(out.accepted);
    assert_int_equal(out.reason, PST_ID_MALFORMED);
    mint_world_close(&w);
}

static void headers_are_held_to_their_limits(void **state)
{
    (void)state;
    struct mint_world w;
    const char *payload = "{" BASE ",\"sub\":\"alice\"}";
    char many[400] = "{\"alg\":\"ES256\",\"kid\":\"@\"";
    size_t at = strlen(many);

    mint_world_open(&w, PST_ALG_ES256);
    for (int i = 0; i < 30; i++)
        at += (size_t)snprintf(many + at, sizeof(many) - at, ",\"%c%d\":1", 'a', i);
    (void)snprintf(many + at, sizeof(many) - at, "}"); /* 32 members */
    assert_true(judge(&w, many, payload).accepted);
    (void)snprintf(many + at, sizeof(many) - at, ",\"z\":1}");
    assert_int_equal(judge(&w, many, payload).reason, PST_ID_MALFORMED);
    assert_true(
        judge(&w, "{\"alg\":\"ES256\",\"kid\":\"@\",\"x\":[[[[[[[1]]]]]]]}", payload).accepted);
    assert_false(
        judge(&w, "{\"alg\":\"ES256\",\"kid\":\"@\",\"x\":[[[[[[[[1]]]]]]]]}", payload).accepted);
    assert_int_equal(
        judge(&w, "{\"alg\":\"ES256\",\"kid\":\"@\",\"crit\":[\"x\"],\"x\":1}", payload).reason,
        PST_ID_CRIT);
    assert_int_equal(
        judge(&w, "{\"alg\":\"ES256\",\"kid\":\"@\",\"typ\":\"logout+jwt\"}", payload).reason,
        PST_ID_TYP);
    assert_true(
        judge(&w, "{\"alg\":\"ES256\",\"kid\":\"@\",\"typ\":\"Application/AT+JWT\"}", payload)
            .accepted);

    w.config.typ_required = true;
    mint_world_reopen(&w);
    assert_int_equal(judge(&w, HEADER, payload).reason, PST_ID_TYP);
    mint_world_close(&w);
}

static void an_unknown_kid_names_the_issuer_to_refresh(void **state)
{
    (void)state;
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    w.key.kid = PST_LIT("new");
    struct pst_token_outcome out = verify_at(&w, mint(&w), NOW_S);
    assert_int_equal(out.reason, PST_ID_UNKNOWN_KID);
    assert_int_equal(out.refresh_issuer, 0);

    w.claims.issuer = PST_LIT("https://evil.test/");
    out = verify_at(&w, mint(&w), NOW_S);
    assert_int_equal(out.reason, PST_ID_ISS);
    assert_int_equal(out.refresh_issuer, PST_NO_ISSUER);

    w.claims.issuer = PST_LIT("https://idp.test/");
    pst_keyslot_publish(w.slot, NULL);
    out = verify_at(&w, mint(&w), NOW_S);
    assert_int_equal(out.reason, PST_ID_KEYS_UNAVAILABLE);
    mint_world_close(&w);
}

static void without_a_kid_the_only_key_is_taken_if_configured(void **state)
{
    (void)state;
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    w.key.kid = PST_LIT("");
    assert_true(verify_at(&w, mint(&w), NOW_S).accepted);
    w.config.missing_kid = PST_MISSING_KID_REFUSE;
    mint_world_reopen(&w);
    assert_int_equal(verify_at(&w, mint(&w), NOW_S).reason, PST_ID_UNKNOWN_KID);
    mint_world_close(&w);
}

static void a_user_is_named_by_the_configured_claim(void **state)
{
    (void)state;
    static const struct pst_bytes groups[] = {{.ptr = "data-team", .len = 9},
                                              {.ptr = "ops", .len = 3}};
    struct mint_world w;

    mint_world_open(&w, PST_ALG_ES256);
    w.claims.groups = groups;
    w.claims.groups_count = 2;
    w.claims.email = PST_LIT("alice@example.org");
    struct pst_token_outcome out = verify_at(&w, mint(&w), NOW_S);
    assert_true(out.accepted && pst_bytes_equal(out.claims.user, PST_LIT("alice")));
    assert_int_equal(out.claims.groups_count, 2);
    assert_true(pst_bytes_equal(out.claims.groups[1], PST_LIT("ops")));

    w.issuer.user_claim = PST_USER_EMAIL;
    mint_world_reopen(&w);
    out = verify_at(&w, mint(&w), NOW_S);
    assert_true(out.accepted && pst_bytes_equal(out.claims.user, PST_LIT("alice@example.org")));
    /* an address that nobody verified is nobody's */
    assert_int_equal(
        judge(&w, HEADER, "{" BASE ",\"sub\":\"a\",\"email\":\"root@example.org\"}").reason,
        PST_ID_SUB);
    assert_int_equal(
        judge(&w, HEADER,
              "{" BASE ",\"sub\":\"a\",\"email\":\"root@example.org\",\"email_verified\":\"true\"}")
            .reason,
        PST_ID_SUB);

    w.issuer.user_claim = PST_USER_PREFERRED_USERNAME;
    mint_world_reopen(&w);
    assert_int_equal(verify_at(&w, mint(&w), NOW_S).reason, PST_ID_MISSING_CLAIM);
    w.claims.extra_json = PST_LIT("{\"preferred_username\":\"al\"}");
    out = verify_at(&w, mint(&w), NOW_S);
    assert_true(out.accepted && pst_bytes_equal(out.claims.user, PST_LIT("al")));
    mint_world_close(&w);
}

static void short_memory_is_no_verdict(void **state)
{
    (void)state;
    struct mint_world w;
    struct pst_token_outcome out;
    struct pst_arena small;

    mint_world_open(&w, PST_ALG_ES256);
    pst_arena_init(&small, 256, 0);
    assert_int_equal(pst_token_verify(w.checker, mint(&w), NOW_S, &small, &out), PST_E_NOMEM);
    assert_false(out.accepted);
    pst_arena_fini(&small);
    mint_world_close(&w);
}

static void minting_refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct mint_world w;
    struct pst_bytes token, header, payload, kid, jwks;
    struct pst_error error;

    mint_world_open(&w, PST_ALG_ES256);
    w.key.alg = PST_ALG_ES384; /* the key is of P-256 */
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_E_INVALID);
    w.key.alg = PST_ALG_RS256;
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_E_INVALID);
    w.key = (struct pst_mint_key){.alg = PST_ALG_HS256, .secret = PST_LIT("short")};
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_E_INVALID);
    w.key = (struct pst_mint_key){.alg = PST_ALG_ES256, .kid = w.kid, .pem = w.pem};
    w.claims.extra_json = PST_LIT("{\"sub\":\"admin\"}");
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_E_EXISTS);
    w.claims.extra_json = PST_LIT("[]");
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_E_INVALID);
    w.claims.extra_json = PST_LIT("{\"x\":1}");
    assert_int_equal(pst_mint_token(&w.key, &w.claims, &w.keys, &token, &error), PST_OK);

    assert_int_equal(pst_mint_inspect(token, &w.keys, &header, &payload, &error), PST_OK);
    assert_non_null(memmem(header.ptr, header.len, "\"ES256\"", 7));
    assert_non_null(memmem(payload.ptr, payload.len, "\"x\": 1", 6));
    assert_int_equal(pst_mint_inspect(PST_LIT("abc"), &w.keys, &header, &payload, &error),
                     PST_E_INVALID);
    assert_int_equal(pst_mint_inspect(PST_LIT("e30.!.x"), &w.keys, &header, &payload, &error),
                     PST_E_INVALID);

    assert_int_equal(
        pst_mint_jwks(w.pem, PST_ALG_ES256, (struct pst_bytes){0}, &w.keys, &jwks, &kid, &error),
        PST_OK);
    assert_true(pst_bytes_equal(jwks, w.jwks));
    assert_true(pst_bytes_equal(kid, w.kid));
    assert_null(memmem(jwks.ptr, jwks.len, "\"d\"", 3)); /* the public part only */
    mint_world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_goes_there_and_back),
        cmocka_unit_test(no_changed_character_passes),
        cmocka_unit_test(a_public_key_is_no_secret),
        cmocka_unit_test(claims_are_judged_one_by_one),
        cmocka_unit_test(a_second_issuer_behind_the_first_is_not_believed),
        cmocka_unit_test(headers_are_held_to_their_limits),
        cmocka_unit_test(an_unknown_kid_names_the_issuer_to_refresh),
        cmocka_unit_test(without_a_kid_the_only_key_is_taken_if_configured),
        cmocka_unit_test(a_user_is_named_by_the_configured_claim),
        cmocka_unit_test(short_memory_is_no_verdict),
        cmocka_unit_test(minting_refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests_name("identity/token", tests, NULL, NULL);
}
