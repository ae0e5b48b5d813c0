/* app/config and app/yaml: what is taken, what is refused, and that messages name file, line and
 * key. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/app/config.h"
#include "postern/app/yaml.h"

static enum pst_status load(const char *text, struct pst_config **out, struct pst_error *error)
{
    *error = (struct pst_error){0};
    return pst_config_load_text(PST_LIT("t.yaml"), pst_bytes_of(text, strlen(text)),
                                PST_LIT("/etc/postern/"), out, error);
}

static void refused(const char *text, const char *where, const char *word)
{
    struct pst_config *c;
    struct pst_error e;

    assert_int_equal(load(text, &c, &e), PST_E_INVALID);
    assert_null(c);
    if (strcmp(e.where, where) != 0 || strstr(e.message, word) == NULL)
        fail_msg("%s\n  said \"%s\" \"%s\"\n  expected \"%s\" and \"%s\"", text, e.where, e.message,
                 where, word);
}

static void the_embedded_default_is_complete(void **state)
{
    (void)state;
    struct pst_config *c;
    struct pst_error e;

    assert_int_equal(pst_config_load(NULL, &c, &e), PST_OK);
    assert_true(c->authentication && c->permissions);
    assert_int_equal(c->listener_count, 2);
    assert_true(pst_bytes_equal(c->listeners[0].address_text, PST_LIT("127.0.0.1:8080")));
    assert_int_equal(c->identity.issuers_count, 1);
    assert_int_equal(c->sources[0].kind, PST_KEYS_OWN);
    assert_int_equal(c->profile_count, 3);
    assert_int_equal(c->body_bytes, UINT64_C(4294967296));
    pst_config_free(c);
}

static void a_whole_file_is_read(void **state)
{
    (void)state;
    struct pst_config *c;
    struct pst_error e;
    const char *text =
        "workers: 3\n"
        "identity:\n"
        "  issuers:\n"
        "    - issuer: https://idp.test/\n"
        "      audiences: [postern]\n"
        "      algorithms: [ES256]\n"
        "      keys: {jwks_url: 'https://idp.test/jwks', allow_addresses: [127.0.0.0/8]}\n"
        "      claims: {user: email, groups: groups}\n"
        "      group_roles: {data: viewer, ops: admin}\n"
        "      unknown_users: create\n"
        "upstreams: {app: {address: 'unix:/run/{workspace}.sock', host: client}}\n"
        "listeners:\n"
        "  - {name: in, address: '[::1]:80', trusted_peers: [10.0.0.0/8, unix], mounts: [\n"
        "      {prefix: /, profile: rest, upstream: app}, {host: a.example, prefix: /api/, "
        "profile: mlflow, upstream: app}]}\n"
        "limits: {fields: 50, body_bytes: 1000}\n"
        "log: {level: warn, access: 'off'}\n";

    assert_int_equal(load(text, &c, &e), PST_OK);
    assert_int_equal(c->workers, 3);
    assert_int_equal(c->identity.issuers[0].user_claim, PST_USER_EMAIL);
    assert_int_equal(c->sources[0].kind, PST_KEYS_JWKS_URL);
    assert_int_equal(c->sources[0].allow_count, 1);
    assert_true(c->sources[0].create_users);
    assert_int_equal(c->group_count, 2);
    assert_true(c->upstreams[0].host_client);
    assert_int_equal(c->listeners[0].mounts[0].prefix.len,
                     5); /* the longest prefix is asked first */
    assert_int_equal(c->listeners[0].trusted_count, 2);
    assert_int_equal(c->limits.head.fields, 50);
    assert_int_equal(c->body_bytes, 1000);
    assert_int_equal(c->log.level, PST_LOG_WARN);
    pst_config_free(c);
}

static void what_is_not_understood_is_named(void **state)
{
    (void)state;
    refused("a: 1\n", "t.yaml:1:a", "unknown key");
    refused("limits:\n  fieldz: 3\n", "t.yaml:2:limits.fieldz", "unknown key");
    refused("workers: many\n", "t.yaml:1:workers", "whole number");
    refused("workers: 0\n", "t.yaml:1:workers", "from 1 to 256");
    refused("authentication: maybe\n", "t.yaml:1:authentication", "true or false");
    refused("listeners: [{address: nowhere}]\n", "t.yaml:1:listeners[0]", "address");
    refused("listeners: [{address: '127.0.0.1:1'}]\n", "t.yaml:1:listeners[0]", "mounts");
    refused("listeners:\n - {address: '127.0.0.1:1', mounts: [{profile: nix, upstream: app}]}\n",
            "t.yaml:2:listeners[0].mounts[0].profile", "no profile");
    refused("listeners:\n - {address: '127.0.0.1:1', mounts: [{profile: rest, upstream: nix}]}\n",
            "t.yaml:2:listeners[0].mounts[0].upstream", "no upstream");
    refused("listeners:\n - {address: '127.0.0.1:1', mounts: [{profile: rest}]}\n",
            "t.yaml:2:listeners[0].mounts[0]", "needs an upstream");
    refused("upstreams: {}\n", "t.yaml:1:upstreams", "there is none for the proxy");
    refused("upstreams: {a: {}}\n", "t.yaml:1:upstreams.a", "needs an address");
    refused("upstreams: {a: {address: 'x'}}\n", "t.yaml:1:upstreams.a.address", "no address");
    refused("identity: {issuers: [{issuer: i, audiences: [a], algorithms: [none]}]}\n",
            "t.yaml:1:identity.issuers[0].algorithms[0]", "no signature algorithm");
    refused("identity: {issuers: [{issuer: i, audiences: [a], keys: {jwks_url: 'http://x/'}}]}\n",
            "t.yaml:1:identity.issuers[0].keys.jwks_url", "https://");
    refused(
        "identity: {issuers: [{issuer: i, audiences: [a], keys: {jwks_file: a, pem_file: b}}]}\n",
        "t.yaml:1:identity.issuers[0].keys", "name one of");
    refused("log: {level: loud}\n", "t.yaml:1:log.level", "debug, info, warn, error");
}

/* What would be found out by the first request, or never. */
static void what_cannot_work_is_refused(void **state)
{
    static const char *const NAMES[] = {"Content-Length",  "transfer-encoding", "HOST", "Cookie",
                                        "X-Forwarded-For", "X-Request-Id",      "a b",  "-"};
    static const char *const URLS[] = {"https://", "https:///x", "https://a b/", "https://u:p@a/",
                                       "https://a/#x"};
    char text[160];
    (void)state;

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        (void)snprintf(text, sizeof(text), "identity_headers: {user: '%s'}\n", NAMES[i]);
        refused(text, "t.yaml:1:identity_headers.user", "cannot be the name");
        (void)snprintf(text, sizeof(text), "workspace_headers: [X-A, '%s']\n", NAMES[i]);
        refused(text, "t.yaml:1:workspace_headers[1]", "cannot be the name");
        (void)snprintf(text, sizeof(text), "identity: {credentials: {header: '%s'}}\n", NAMES[i]);
        refused(text, "t.yaml:1:identity.credentials.header", "cannot be the name");
    }
    refused("identity_headers: {user: X-A, roles: x-a}\n", "t.yaml:1:identity_headers", "one name");
    for (size_t i = 0; i < sizeof(URLS) / sizeof(URLS[0]); i++) {
        (void)snprintf(
            text, sizeof(text),
            "identity: {issuers: [{issuer: i, audiences: [a], keys: {jwks_url: '%s'}}]}\n",
            URLS[i]);
        refused(text, "t.yaml:1:identity.issuers[0].keys.jwks_url", "without user name");
    }
    refused("[]\n", "t.yaml:1", "map of keys");
    refused("identity: {credentials: {cookie: 'a=b'}}\n", "t.yaml:1:identity.credentials.cookie",
            "name of a cookie");
    refused("identity: {issuers: [{issuer: i, audiences: [a], group_roles: {a: ''}}]}\n",
            "t.yaml:1:identity.issuers[0].group_roles.a", "name of a role");
    refused("identity: {issuers: [{issuer: i, audiences: [a], keys: {jwks_url: 'https://h/', alg: "
            "ES256}}]}\n",
            "t.yaml:1:identity.issuers[0].keys.alg", "for pem_file only");
    refused(
        "identity: {issuers: [{issuer: i, audiences: [a], keys: {jwks_file: f, ca_file: c}}]}\n",
        "t.yaml:1:identity.issuers[0].keys.ca_file", "for jwks_url only");
    refused("profiles: {mlfow: {shadow: true}}\n", "t.yaml:1:profiles.mlfow", "needs a file");
    refused("listeners: [{name: 'a\"b', kind: ops, address: '127.0.0.1:1'}]\n",
            "t.yaml:1:listeners[0].name", "printable");
    refused("listeners: [{name: '', kind: ops, address: '127.0.0.1:1'}]\n",
            "t.yaml:1:listeners[0].name", "printable");
    refused("state_dir: ''\n", "t.yaml:1:state_dir", "path");
    refused("upstreams: {a: {address: '{workspace}.svc'}}\n", "t.yaml:1:upstreams.a.address",
            "no address");
    refused("upstreams: {a: {address: 'x {workspace}:80'}}\n", "t.yaml:1:upstreams.a.address",
            "no address");
    refused("listeners:\n - {name: a, kind: ops, address: '127.0.0.1:1'}\n"
            " - {name: b, kind: ops, address: '127.0.0.1:1'}\n",
            "t.yaml:3:listeners[1].address", "\"a\" has this address");
    refused("listeners:\n - {kind: auth_request, address: '127.0.0.1:1', path: auth,\n"
            "    mounts: [{profile: rest}]}\n",
            "t.yaml:2:listeners[0].path", "path");
    refused("listeners:\n - {kind: auth_request, address: '127.0.0.1:1', target_from: 'a b',\n"
            "    mounts: [{profile: rest}]}\n",
            "t.yaml:2:listeners[0].target_from", "cannot be the name");
    refused("listeners:\n - {kind: auth_request, address: '127.0.0.1:1', method_from: '',\n"
            "    mounts: [{profile: rest}]}\n",
            "t.yaml:2:listeners[0]", "method_from");
    refused("listeners:\n - {address: '127.0.0.1:1', mounts: [{host: '*.example', profile: rest,\n"
            "    upstream: app}]}\n",
            "t.yaml:2:listeners[0].mounts[0].host", "host");
}

static void what_works_is_taken(void **state)
{
    struct pst_config *c;
    struct pst_error e;
    (void)state;

    assert_int_equal(load("identity_headers: {user: X-A, roles: null}\nworkspace_headers: []\n"
                          "upstreams: {app: {address: 'unix:/run/{workspace}.sock'}}\n"
                          "listeners:\n - {name: a, kind: ops, address: '127.0.0.1:0'}\n"
                          " - {name: b, kind: ops, address: '127.0.0.1:0'}\n"
                          " - {name: c, address: '127.0.0.1:1', mounts: [\n"
                          "     {host: 'app.example:8080', profile: rest, upstream: app},\n"
                          "     {host: '[::1]', profile: rest, upstream: app}]}\n",
                          &c, &e),
                     PST_OK);
    pst_config_free(c);
    /* sections whose lines are all comments; names of profiles in a folder of one's own */
    assert_int_equal(load("identity:\nidentity_headers:\nlimits:\nlog:\nprofiles:\nstore:\nsync:\n"
                          "upstreams:\nlisteners:\nworkers:\nstate_dir:\n",
                          &c, &e),
                     PST_OK);
    assert_int_equal(c->listener_count, 2);
    pst_config_free(c);
    assert_int_equal(load("policies_dir: p\nprofiles: {shelf: {shadow: true}}\n", &c, &e), PST_OK);
    pst_config_free(c);
    assert_int_equal(setenv("MLFLOW_ENABLE_WORKSPACES", "0", 1), 0);
    assert_int_equal(load("{}", &c, &e), PST_OK);
    for (uint32_t i = 0; i < c->profile_count; i++)
        assert_true(c->profiles[i].options.mlflow_workspaces_off);
    pst_config_free(c);
    assert_int_equal(unsetenv("MLFLOW_ENABLE_WORKSPACES"), 0);
}

static void yaml_that_readers_disagree_on_is_refused(void **state)
{
    (void)state;
    refused("workers: 1\nworkers: 2\n", "t.yaml:2", "\"workers\" stands twice");
    refused("a: &x 1\n", "t.yaml:1", "anchors");
    refused("a: *x\n", "t.yaml:1", "");
    refused("a: !!python/object 1\n", "t.yaml:1", "tags");
    refused("a: &x [1]\n", "t.yaml:1", "anchors");
    refused("a: !include {b: 1}\n", "t.yaml:1", "tags");
    refused("workers: 1\n\"wor\\0kers\": 2\n", "t.yaml:2", "NUL");
    refused("workers: 1\nnode: \xe9\n", "t.yaml:2", "UTF-8");
    refused("a: 1\n---\nb: 2\n", "t.yaml:2", "more than one document");
    refused("a: [1, 2\n", "t.yaml:2", "");
    refused("? {a: 1}\n: 2\n", "t.yaml:1", "key");
}

static void the_environment_wins_over_the_file(void **state)
{
    (void)state;
    struct pst_config *c;
    struct pst_error e;

    assert_int_equal(setenv("POSTERN_LIMITS_FIELDS", "40", 1), 0);
    assert_int_equal(setenv("REQUIRE_USER_PERMISSIONS", "0", 1), 0);
    assert_int_equal(setenv("DISABLE_NOTEBOOK_EDIT_ACCESS", "yes", 1), 0);
    assert_int_equal(setenv("MAGE_DATABASE_CONNECTION_URL", "sqlite:////x.db", 1), 0);
    assert_int_equal(setenv("POSTERN_PORT", "tcp://10.0.0.1:80", 1), 0); /* Kubernetes makes such */
    assert_int_equal(load("limits: {fields: 50}\npermissions: true\n", &c, &e), PST_OK);
    assert_int_equal(c->limits.head.fields, 40);
    assert_false(c->permissions);
    assert_int_equal(c->notebook_edit, 1);
    assert_true(pst_bytes_equal(c->store_url, PST_LIT("sqlite:////x.db")));
    pst_config_free(c);

    assert_int_equal(setenv("POSTERN_LIMITS_FIELDS", "many", 1), 0);
    assert_int_equal(load("{}", &c, &e), PST_E_INVALID);
    assert_non_null(strstr(e.where, "limits.fields"));
    assert_int_equal(setenv("POSTERN_LIMITS_FIELDS", "40", 1), 0);
    assert_int_equal(setenv("REQUIRE_USER_PERMISSIONS", "False", 1), 0);
    assert_int_equal(load("{}", &c, &e), PST_OK);
    assert_false(c->permissions);
    pst_config_free(c);
    assert_int_equal(setenv("REQUIRE_USER_PERMISSIONS", "YES", 1),
                     0); /* nobody means "off" by it */
    assert_int_equal(load("{}", &c, &e), PST_E_INVALID);
    assert_string_equal(e.where, "environment:permissions");
    assert_int_equal(unsetenv("POSTERN_LIMITS_FIELDS") | unsetenv("REQUIRE_USER_PERMISSIONS") |
                         unsetenv("DISABLE_NOTEBOOK_EDIT_ACCESS") |
                         unsetenv("MAGE_DATABASE_CONNECTION_URL") | unsetenv("POSTERN_PORT"),
                     0);
}

static void a_pooler_is_part_of_the_stores_url(void **state)
{
    struct pst_config *c;
    struct pst_error e;
    (void)state;

    assert_int_equal(load("store: {url: 'postgresql://h/d', pgbouncer: true}\n", &c, &e), PST_OK);
    assert_true(pst_bytes_equal(c->store_url, PST_LIT("postgresql://h/d?pgbouncer=true")));
    pst_config_free(c);
    assert_int_equal(
        load("store: {url: 'postgres://h/d?sslmode=require', pgbouncer: true}\n", &c, &e), PST_OK);
    assert_true(
        pst_bytes_equal(c->store_url, PST_LIT("postgres://h/d?sslmode=require&pgbouncer=true")));
    pst_config_free(c);
    assert_int_equal(load("store: {url: 'postgres://h/d', pgbouncer: false}\n", &c, &e), PST_OK);
    assert_true(pst_bytes_equal(c->store_url, PST_LIT("postgres://h/d")));
    pst_config_free(c);
    refused("store: {url: 'sqlite:////x.db', pgbouncer: true}\n", "t.yaml:1:store.pgbouncer",
            "PostgreSQL");
    refused("store: {pgbouncer: true}\n", "t.yaml:1:store.pgbouncer", "PostgreSQL");
}

/* What other programs write as JSON is read as it is meant: escapes, tabs, no blanks. */
static void json_is_read(void **state)
{
    (void)state;
    struct pst_tree tree;
    struct pst_error e = {0};
    static const char TEXT[] =
        "{\r\n\t\"a\":\"\\ud83d\\uDE00 \\\\ud83d\\\\ude00 \\u00e9\\/\\\"\",\n"
        "\"\\uD83D\\ude00\":[1,true,null,{}]}\n";

    assert_int_equal(
        pst_yaml_load_text(PST_LIT("t.json"), pst_bytes_of(TEXT, sizeof(TEXT) - 1), &tree, &e),
        PST_OK);
    const struct pst_node *a = tree.root->first, *b = a->next;
    assert_string_equal(a->text.ptr, "\xf0\x9f\x98\x80 \\ud83d\\ude00 \xc3\xa9/\"");
    assert_string_equal(b->key.ptr, "\xf0\x9f\x98\x80");
    assert_int_equal(b->line, 3);
    assert_int_equal(b->count, 4);
    pst_tree_fini(&tree);
    /* half a character is none, and YAML that is no JSON has no such escape */
    refused("{\"a\": 1,\n\"b\": \"\\ud83d\"}", "t.yaml:2", "Unicode");
    refused("a: '\\ud83d\\ude00'\nb: \"\\ud83d\\ude00\"\n", "t.yaml:2", "Unicode");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_embedded_default_is_complete),
        cmocka_unit_test(a_whole_file_is_read),
        cmocka_unit_test(what_is_not_understood_is_named),
        cmocka_unit_test(what_cannot_work_is_refused),
        cmocka_unit_test(what_works_is_taken),
        cmocka_unit_test(a_pooler_is_part_of_the_stores_url),
        cmocka_unit_test(yaml_that_readers_disagree_on_is_refused),
        cmocka_unit_test(json_is_read),
        cmocka_unit_test(the_environment_wins_over_the_file),
    };
    return cmocka_run_group_tests_name("app/config", tests, NULL, NULL);
}
