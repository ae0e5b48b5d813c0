/* authz/engine over a real store: the order of the states, and that every way out but one is a
 * refusal. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/local.h"
#include "postern/app/site_build.h"
#include "postern/app/yaml.h"
#include "postern/base/clock.h"
#include "postern/identity/mint.h"
#include "postern/manage/declare.h"

static const char CONFIG[] =
    "state_dir: %s\n"
    "identity:\n"
    "  issuers:\n"
    "    - {issuer: 'https://postern.local/', audiences: [postern], group_roles: {readers: "
    "reader}}\n"
    "    - {issuer: 'https://new.test/', audiences: [postern], keys: {jwks_file: "
    "keys/issuer.jwks.json}, unknown_users: create, default_role: reader}\n"
    "profiles: {rest: {shadow: %s}}\n"
    "listeners: [{kind: auth_request, address: '127.0.0.1:1', mounts: [{host: app.example, prefix: "
    "/, profile: rest}]}]\n";

static const char POLICY[] =
    "workspaces: [{name: blue, kind: project}, {name: red, kind: project}]\n"
    "roles:\n"
    "  - {name: all, workspace: blue, permissions: [{entity: '*', allow: [list, detail, create, "
    "update, delete]},\n"
    "                                               {entity: pipelines, id: shut, deny: "
    "[detail]}]}\n"
    "  - {name: reader, permissions: [{entity: '*', allow: [list, detail]}]}\n"
    "users:\n"
    "  - {name: alice, identities: [{issuer: 'https://postern.local/', subject: alice}]}\n"
    "  - {name: mallory, identities: [{issuer: 'https://postern.local/', subject: mallory}]}\n"
    "  - {name: gone, disabled: true, identities: [{issuer: 'https://postern.local/', subject: "
    "gone}]}\n"
    "bindings: [{user: alice, role: all, workspace: blue}]\n";

struct fixture {
    char dir[64];
    struct pst_config *config;
    struct pst_local *local;
    struct pst_arena arena; /* of the fixture */
    struct pst_bytes pem, kid, url;
};

static void apply(struct fixture *f, const char *text)
{
    struct pst_tree tree;
    const struct pst_tree *list[] = {&tree};
    struct pst_error e = {0};
    struct pst_store *store;
    struct pst_apply_report report;
    const struct pst_apply_options options = {.actor = PST_LIT("test")};
    uint32_t steps;

    assert_int_equal(
        pst_yaml_load_text(PST_LIT("policy"), pst_bytes_of(text, strlen(text)), &tree, &e), PST_OK);
    assert_int_equal(pst_store_open(f->url, PST_STORE_CREATE, &store, &e), PST_OK);
    assert_int_equal(pst_store_migrate(store, &steps, &e), PST_OK);
    if (pst_apply(store, list, 1, &options, &e, &report) != PST_OK)
        fail_msg("%s: %s", e.where, e.message);
    pst_apply_report_fini(&report);
    pst_store_close(store);
    pst_tree_fini(&tree);
}

static int set_up_as(void **state, const char *shadow)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pst_error e = {0};
    char text[2048];
    const char *tmp = getenv("TMPDIR");

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/pst-engine-XXXXXX", tmp == NULL ? "/var/tmp" : tmp);
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(text, sizeof(text), CONFIG, f->dir, shadow);
    pst_arena_init(&f->arena, 4096, 1u << 20);
    char base[80];
    (void)snprintf(base, sizeof(base), "%s/", f->dir);
    struct pst_bytes dir;
    assert_int_equal(pst_arena_copy(&f->arena, pst_bytes_of(base, strlen(base)), &dir), PST_OK);
    if (pst_config_load_text(PST_LIT("t.yaml"), pst_bytes_of(text, strlen(text)), dir, &f->config,
                             &e) != PST_OK ||
        pst_state_prepare(f->config, &e) != PST_OK)
        fail_msg("%s: %s", e.where, e.message);
    f->url = pst_store_url(f->config, &f->arena);
    apply(f, POLICY);
    struct pst_bytes raw;
    assert_int_equal(
        pst_file_read(pst_state_path(f->config, &f->arena, "keys/issuer.pem").ptr, 65536, &raw, &e),
        PST_OK);
    assert_int_equal(pst_arena_copy(&f->arena, raw, &f->pem), PST_OK);
    free((void *)(uintptr_t)raw.ptr);
    struct pst_bytes jwks;
    assert_int_equal(
        pst_mint_jwks(f->pem, PST_ALG_ES256, PST_LIT(""), &f->arena, &jwks, &f->kid, &e), PST_OK);
    if (pst_local_open(f->config, f->url, &f->local, &e) != PST_OK)
        fail_msg("%s: %s", e.where, e.message);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_as(state, "false");
}

static int set_up_shadow(void **state)
{
    return set_up_as(state, "true");
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    static const char *const FILES[] = {
        "postern.db",      "postern.db-wal",        "postern.db-shm",
        "keys/issuer.pem", "keys/issuer.jwks.json", "keys"};
    char path[128];

    pst_local_close(f->local);
    pst_config_free(f->config);
    pst_arena_fini(&f->arena);
    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, FILES[i]);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

struct ask {
    const char *method, *path, *host, *issuer, *subject, *group;
    bool upgrade;
};

/* What one request comes to; the id of the user is copied out. */
static struct pst_decision ask(struct fixture *f, struct ask a, char user[64])
{
    struct pst_arena arena;
    struct pst_decide d;
    struct pst_error e = {0};
    struct pst_bytes token = {0},
                     groups[1] = {pst_bytes_of(a.group, a.group == NULL ? 0 : strlen(a.group))};
    struct pst_field field = {.name = PST_LIT("Authorization")};
    const char *method = a.method == NULL ? "GET" : a.method,
               *host = a.host == NULL ? "app.example" : a.host;

    pst_arena_init(&arena, 16384, 1u << 20);
    if (a.subject != NULL) {
        const char *issuer = a.issuer == NULL ? "https://postern.local/" : a.issuer;
        const struct pst_mint_key key = {.alg = PST_ALG_ES256, .kid = f->kid, .pem = f->pem};
        int64_t now = (int64_t)(pst_clock_wall_ns() / PST_NS_PER_S);
        const struct pst_mint_claims claims = {.issuer = pst_bytes_of(issuer, strlen(issuer)),
                                               .subject =
                                                   pst_bytes_of(a.subject, strlen(a.subject)),
                                               .audience = PST_LIT("postern"),
                                               .iat_s = now,
                                               .exp_s = now + 600,
                                               .groups = groups,
                                               .groups_count = a.group != NULL};
        assert_int_equal(pst_mint_token(&key, &claims, &arena, &token, &e), PST_OK);
        field.value = pst_arena_printf(&arena, "Bearer %.*s", (int)token.len, token.ptr);
    }
    const struct pst_request request = {.method = pst_bytes_of(method, strlen(method)),
                                        .host = pst_bytes_of(host, strlen(host)),
                                        .path = pst_bytes_of(a.path, strlen(a.path)),
                                        .fields = &field,
                                        .field_count = a.subject != NULL,
                                        .is_upgrade = a.upgrade};
    pst_local_decide(f->local, 0, &request, NULL, &arena, &d);
    struct pst_decision out = d.decision;
    user[0] = '\0';
    if (out.user.len > 0 && out.user.len < 64) {
        memcpy(user, out.user.ptr, out.user.len);
        user[out.user.len] = '\0';
    }
    pst_engine_end(&d);
    pst_arena_fini(&arena);
    return out;
}

static void expect(struct fixture *f, struct ask a, enum pst_verdict verdict,
                   enum pst_reason reason, unsigned status)
{
    char user[64];
    struct pst_decision d = ask(f, a, user);

    if (d.verdict != verdict || d.reason != reason || d.status != status)
        fail_msg("%s %s as %s: verdict %d, reason %s, status %u; expected %s, %u",
                 a.method == NULL ? "GET" : a.method, a.path,
                 a.subject == NULL ? "nobody" : a.subject, d.verdict, pst_reason_name(d.reason),
                 d.status, pst_reason_name(reason), status);
    assert_int_equal(d.forward, verdict == PST_ALLOW);
}

static void only_a_grant_lets_through(void **state)
{
    struct fixture *f = *state;

    expect(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "alice"}, PST_ALLOW,
           PST_R_GRANTED, 200);
    expect(f, (struct ask){.path = "/w/blue/pipelines/shut", .subject = "alice"}, PST_DENY,
           PST_R_DENIED, 403);
    expect(f, (struct ask){.path = "/w/red/pipelines/p", .subject = "alice"}, PST_DENY,
           PST_R_NOT_GRANTED, 403);
    expect(f, (struct ask){.path = "/w/green/pipelines/p", .subject = "alice"}, PST_DENY,
           PST_R_UNKNOWN_WORKSPACE, 404);
    expect(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "mallory"}, PST_DENY,
           PST_R_NOT_GRANTED, 403);
    expect(f, (struct ask){.path = "/w/blue/pipelines/p"}, PST_DENY, PST_R_NO_CREDENTIAL, 401);
    expect(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "nobody-knows"}, PST_DENY,
           PST_R_UNKNOWN_USER, 403);
    expect(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "gone"}, PST_DENY,
           PST_R_USER_DISABLED, 403);
    expect(
        f,
        (struct ask){.path = "/w/blue/pipelines/p", .subject = "alice", .issuer = "https://evil/"},
        PST_DENY, PST_R_BAD_CREDENTIAL, 401);
    expect(f, (struct ask){.path = "/elsewhere", .subject = "alice"}, PST_DENY, PST_R_NO_ROUTE,
           404);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice", .host = "other.example"},
           PST_DENY, PST_R_UNKNOWN_HOST, 421);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice", .host = "app.example:8080"},
           PST_ALLOW, PST_R_GRANTED, 200);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice", .method = "BREW"}, PST_DENY,
           PST_R_METHOD, 405);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice", .upgrade = true}, PST_DENY,
           PST_R_UPGRADE, 403);
}

static void a_group_gives_its_role(void **state)
{
    struct fixture *f = *state;

    expect(f, (struct ask){.path = "/w/red/pipelines/p", .subject = "mallory", .group = "readers"},
           PST_ALLOW, PST_R_GRANTED, 200);
    expect(f,
           (struct ask){.path = "/w/red/pipelines/p",
                        .subject = "mallory",
                        .group = "readers",
                        .method = "DELETE"},
           PST_DENY, PST_R_NOT_GRANTED, 403);
    expect(f, (struct ask){.path = "/w/red/pipelines/p", .subject = "mallory", .group = "writers"},
           PST_DENY, PST_R_NOT_GRANTED, 403);
}

static void an_unknown_user_is_made_where_the_issuer_may(void **state)
{
    struct fixture *f = *state;
    char user[64];

    struct pst_decision d =
        ask(f, (struct ask){.path = "/w/red/x", .subject = "dora", .issuer = "https://new.test/"},
            user);
    assert_int_equal(d.verdict, PST_ALLOW);
    assert_string_equal(user, "dora");
    expect(
        f,
        (struct ask){
            .path = "/w/red/x", .subject = "dora", .issuer = "https://new.test/", .method = "POST"},
        PST_DENY, PST_R_NOT_GRANTED, 403);
    expect(f, (struct ask){.path = "/w/red/x", .subject = "System", .issuer = "https://new.test/"},
           PST_DENY, PST_R_UNKNOWN_USER, 403);
    /* Nobody gets somebody else's account by choosing a name. */
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice", .issuer = "https://new.test/"},
           PST_DENY, PST_R_UNKNOWN_USER, 403);
}

static void a_change_is_seen_by_the_next_decision_after_its_news(void **state)
{
    struct fixture *f = *state;
    struct pst_error e;

    expect(f, (struct ask){.path = "/w/blue/x", .subject = "mallory"}, PST_DENY, PST_R_NOT_GRANTED,
           403);
    apply(f, "bindings: [{user: mallory, role: all, workspace: blue}]\n");
    assert_int_equal(pst_local_poll(f->local, &e), PST_OK);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "mallory"}, PST_ALLOW, PST_R_GRANTED,
           200);
    apply(f, "users: [{name: mallory, disabled: true, identities: [{issuer: "
             "'https://postern.local/', subject: mallory}]}]\n");
    assert_int_equal(pst_local_poll(f->local, &e), PST_OK);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "mallory"}, PST_DENY,
           PST_R_USER_DISABLED, 403);
}

static void without_a_lease_nothing_is_decided(void **state)
{
    struct fixture *f = *state;

    pst_local_lose_lease(f->local);
    expect(f, (struct ask){.path = "/w/blue/x", .subject = "alice"}, PST_DENY, PST_R_STALE, 503);
}

static void shadow_forwards_what_policy_refuses_and_says_so(void **state)
{
    struct fixture *f = *state;
    char user[64];

    struct pst_decision d =
        ask(f, (struct ask){.path = "/w/red/pipelines/p", .subject = "alice"}, user);
    assert_int_equal(d.verdict, PST_DENY);
    assert_true(d.shadowed && d.forward);
    assert_int_equal(d.reason, PST_R_NOT_GRANTED);
    d = ask(f, (struct ask){.path = "/w/red/pipelines/p"}, user);
    assert_true(d.shadowed && d.forward);
    d = ask(f, (struct ask){.path = "/login", .subject = "alice"}, user);
    assert_true(d.shadowed && d.forward); /* nor does the app break where the profile has gaps */
    d = ask(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "alice"}, user);
    assert_true(d.forward && !d.shadowed);
    d = ask(f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "alice", .upgrade = true},
            user);
    assert_false(d.forward); /* what nobody looked into is never passed on */
    d = ask(
        f, (struct ask){.path = "/w/blue/pipelines/p", .subject = "alice", .host = "other.example"},
        user);
    assert_false(d.forward);
}

/* MLflow's clients make their exception of the error code. */
static void a_refusal_bears_the_code_that_mlflow_gives(void **state)
{
    static const struct {
        enum pst_reason reason;
        const char *code;
    } cases[] = {
        {PST_R_BAD_ID, "INVALID_PARAMETER_VALUE"},
        {PST_R_NO_CREDENTIAL, "UNAUTHENTICATED"},
        {PST_R_NOT_GRANTED, "PERMISSION_DENIED"},
        {PST_R_UNKNOWN_WORKSPACE, "RESOURCE_DOES_NOT_EXIST"},
        {PST_R_ROUTE_CLOSED, "PERMISSION_DENIED"},
        {PST_R_WORKSPACES_OFF, "FEATURE_DISABLED"},
        {PST_R_INTERNAL, "INTERNAL_ERROR"},
        {PST_R_STALE, "TEMPORARILY_UNAVAILABLE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_decision d = {.form = PST_FORM_MLFLOW,
                                 .reason = cases[i].reason,
                                 .status = pst_reason_status(cases[i].reason)};
        char space[2048], begin[80];
        struct pst_buf body = pst_buf_of(space, sizeof(space));
        const char *type;
        pst_engine_refusal_body(&d, &body, &type);
        int n = snprintf(begin, sizeof(begin), "{\"error_code\":\"%s\",", cases[i].code);
        assert_true(pst_bytes_starts(pst_buf_bytes(&body), pst_bytes_of(begin, (size_t)n)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_a_grant_lets_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_group_gives_its_role, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_user_is_made_where_the_issuer_may, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_change_is_seen_by_the_next_decision_after_its_news,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_lease_nothing_is_decided, set_up, tear_down),
        cmocka_unit_test(a_refusal_bears_the_code_that_mlflow_gives),
        cmocka_unit_test_setup_teardown(shadow_forwards_what_policy_refuses_and_says_so,
                                        set_up_shadow, tear_down),
    };
    return cmocka_run_group_tests_name("authz/engine", tests, NULL, NULL);
}
