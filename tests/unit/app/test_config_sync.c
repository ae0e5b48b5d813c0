/* app/config: the section sync, and what becomes of its secrets. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/config.h"
#include "postern/store/nodes.h"

static enum pst_status load(const char *text, struct pst_config **out, struct pst_error *error)
{
    *error = (struct pst_error){0};
    return pst_config_load_text(PST_LIT("t.yaml"), pst_bytes_of(text, strlen(text)),
                                PST_LIT("/etc/postern/"), out, error);
}

static struct pst_config *taken(const char *text)
{
    struct pst_config *c;
    struct pst_error e;

    if (load(text, &c, &e) != PST_OK)
        fail_msg("%s\n  %s %s", text, e.where, e.message);
    return c;
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

static void nothing_is_there_by_itself(void **state)
{
    (void)state;
    struct pst_config *c = taken("{}");
    assert_int_equal(c->sync.feed.address_count, 0);
    assert_true(c->sync.feed.publish);
    pst_config_free(c);
    c = taken("sync: {publish: false}");
    assert_false(c->sync.feed.publish);
    pst_config_free(c);
}

static void a_list_of_addresses(void **state)
{
    (void)state;
    struct pst_config *c = taken("sync:\n"
                                 "  redis:\n"
                                 "    addresses: ['redis-0:6379', '[::1]:7', 'unix:/run/redis']\n"
                                 "    username: feed\n"
                                 "    password_file: env:PW\n"
                                 "    channel: changes\n");
    const struct pst_feed_config *f = &c->sync.feed;
    assert_int_equal(f->address_count, 3);
    assert_true(pst_bytes_equal(f->addresses[1], PST_LIT("[::1]:7")));
    assert_true(pst_bytes_equal(f->user, PST_LIT("feed")));
    assert_true(pst_bytes_equal(c->sync.password_file, PST_LIT("env:PW")));
    assert_true(pst_bytes_equal(f->channel, PST_LIT("changes")));
    assert_false(f->tls);
    assert_int_equal(f->master.len, 0);
    assert_int_equal(f->password.len, 0); /* nothing is read yet */
    pst_config_free(c);
}

static void a_url(void **state)
{
    static const struct {
        const char *url, *address;
        bool tls;
    } cases[] = {
        {"redis://redis.example:7000", "redis.example:7000", false},
        {"redis://redis.example:7000/", "redis.example:7000", false},
        {"rediss://redis.example", "redis.example:6379", true},
        {"redis://[::1]", "[::1]:6379", false},
        {"redis://[::1]:7", "[::1]:7", false},
        {"unix:/run/redis.sock", "unix:/run/redis.sock", false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[160];
        (void)snprintf(text, sizeof(text), "sync: {redis: {url: '%s'}}", cases[i].url);
        struct pst_config *c = taken(text);
        assert_int_equal(c->sync.feed.address_count, 1);
        if (!pst_bytes_equal(c->sync.feed.addresses[0],
                             pst_bytes_of(cases[i].address, strlen(cases[i].address))) ||
            c->sync.feed.tls != cases[i].tls)
            fail_msg("%s", cases[i].url);
        pst_config_free(c);
    }
}

static void sentinels_and_tls(void **state)
{
    (void)state;
    struct pst_config *c =
        taken("sync: {redis: {sentinel: {addresses: ['a:26379', 'b:26379'], master: fleet,\n"
              "  password_file: s}, tls: {ca_file: ca.pem, server_name: redis.test}}}");
    struct pst_feed_config *f = &c->sync.feed;
    assert_int_equal(f->address_count, 2);
    assert_true(pst_bytes_equal(f->master, PST_LIT("fleet")));
    assert_true(f->tls);
    assert_true(pst_bytes_equal(f->server_name, PST_LIT("redis.test")));
    assert_true(pst_bytes_equal(c->sync.sentinel_password_file, PST_LIT("s")));
    pst_config_free(c);
    c = taken("sync: {redis: {addresses: ['a:1'], tls: {}}}");
    assert_true(c->sync.feed.tls);
    pst_config_free(c);
}

/* The longest name, with what the process adds to it, still is one that heartbeats may carry. */
static void a_node_has_a_name(void **state)
{
    char text[128], name[PST_FEED_PUBLISHER_MAX + 1], more[PST_NODE_OWN_DIGITS + 1];
    int longest = PST_FEED_PUBLISHER_MAX - 1 - PST_NODE_OWN_DIGITS;
    (void)state;

    memset(name, 'n', sizeof(name));
    memset(more, '0', sizeof(more));
    (void)snprintf(text, sizeof(text), "node: %.*s", longest, name);
    struct pst_config *c = taken(text);
    assert_int_equal(c->node.len + sizeof(more), PST_FEED_PUBLISHER_MAX);
    pst_config_free(c);
    (void)snprintf(text, sizeof(text), "node: %.*s", longest + 1, name);
    refused(text, "t.yaml:1:node", "1 to 55");
    refused("node: 'a b'", "t.yaml:1:node", "1 to 55");
}

static void what_is_not_understood_is_named(void **state)
{
    (void)state;
    refused("sync: {rediz: 1}", "t.yaml:1:sync.rediz", "unknown key");
    refused("sync: {redis: {}}", "t.yaml:1:sync.redis", "name one of");
    refused("sync:\n  redis: {addresses: ['a:1'], url: 'redis://a'}", "t.yaml:2:sync.redis",
            "name one of");
    refused("sync: {redis: {addresses: []}}", "t.yaml:1:sync.redis.addresses", "list of addresses");
    refused("sync: {redis: {addresses: ['a:1', 'b']}}", "t.yaml:1:sync.redis.addresses[1]",
            "no address");
    refused("sync: {redis: {addresses: ['a:1'], password: x}}", "t.yaml:1:sync.redis.password",
            "unknown key");
    refused("sync: {redis: {addresses: ['a:1'], username: x}}", "t.yaml:1:sync.redis.username",
            "password_file");
    refused("sync: {redis: {url: 'redis://u:p@a'}}", "t.yaml:1:sync.redis.url", "no secrets here");
    refused("sync: {redis: {url: 'http://a'}}", "t.yaml:1:sync.redis.url", "redis://");
    refused("sync: {redis: {url: 'redis://a/3'}}", "t.yaml:1:sync.redis.url", "no address");
    refused("sync: {redis: {url: 'redis://'}}", "t.yaml:1:sync.redis.url", "no address");
    refused("sync: {redis: {sentinel: {addresses: ['a:1']}}}", "t.yaml:1:sync.redis.sentinel",
            "master");
    refused("sync: {redis: {sentinel: {master: a}}}", "t.yaml:1:sync.redis.sentinel",
            "list of addresses");
    refused("sync: {redis: {addresses: ['a:1'], tls: yes}}", "t.yaml:1:sync.redis.tls",
            "map of keys");
    refused("sync: {redis: {addresses: ['a:1'], tls: {verify: false}}}",
            "t.yaml:1:sync.redis.tls.verify", "unknown key");
    refused("sync: {redis: {addresses: ['unix:/a'], tls: {}}}", "t.yaml:1:sync.redis.tls",
            "server_name");
    refused("sync: {publish: perhaps}", "t.yaml:1:sync.publish", "true or false");
}

static void the_environment_wins(void **state)
{
    (void)state;
    assert_int_equal(setenv("POSTERN_SYNC_REDIS_URL", "rediss://cache:1", 1), 0);
    assert_int_equal(setenv("POSTERN_SYNC_REDIS_TLS_CA_FILE", "/ca.pem", 1), 0);
    assert_int_equal(setenv("POSTERN_SYNC_PUBLISH", "false", 1), 0);
    struct pst_config *c = taken("sync: {redis: {url: 'redis://elsewhere'}}");
    assert_true(pst_bytes_equal(c->sync.feed.addresses[0], PST_LIT("cache:1")));
    assert_true(pst_bytes_equal(c->sync.feed.ca_file, PST_LIT("/ca.pem")));
    assert_false(c->sync.feed.publish);
    pst_config_free(c);
    c = taken("{}"); /* and needs no file */
    assert_int_equal(c->sync.feed.address_count, 1);
    pst_config_free(c);
    assert_int_equal(unsetenv("POSTERN_SYNC_REDIS_URL") |
                         unsetenv("POSTERN_SYNC_REDIS_TLS_CA_FILE") |
                         unsetenv("POSTERN_SYNC_PUBLISH"),
                     0);
}

static void secrets_are_read_when_asked_for(void **state)
{
    char path[] = "/tmp/postern-test-XXXXXX", text[256];
    struct pst_arena arena;
    struct pst_feed_config f;
    struct pst_error e = {0};
    (void)state;

    int fd = mkstemp(path);
    assert_int_equal(write(fd, "from a file\r\n", 13), 13);
    close(fd);
    assert_int_equal(setenv("TEST_PW", "from the environment", 1), 0);
    (void)snprintf(text, sizeof(text),
                   "sync: {redis: {sentinel: {addresses: ['a:1'], master: m, password_file: %s}, "
                   "password_file: 'env:TEST_PW', tls: {ca_file: ca.pem, cert_file: /c.pem}}}",
                   path);
    struct pst_config *c = taken(text);
    pst_arena_init(&arena, 1024, 1u << 20);
    assert_int_equal(pst_config_feed(c, &arena, &f, &e), PST_OK);
    assert_true(pst_bytes_equal(f.password, PST_LIT("from the environment")));
    assert_true(pst_bytes_equal(f.sentinel_password, PST_LIT("from a file")));
    assert_true(pst_bytes_equal(f.ca_file, PST_LIT("/etc/postern/ca.pem")));
    assert_true(pst_bytes_equal(f.cert_file, PST_LIT("/c.pem")));
    assert_int_equal(f.key_file.len, 0);
    assert_int_equal(unsetenv("TEST_PW"), 0);
    assert_int_equal(pst_config_feed(c, &arena, &f, &e), PST_E_ABSENT);
    assert_string_equal(e.where, "env:TEST_PW");
    assert_int_equal(setenv("TEST_PW", "x", 1), 0);
    unlink(path);
    assert_true(pst_config_feed(c, &arena, &f, &e) != PST_OK);
    assert_non_null(strstr(e.where, path));
    pst_arena_fini(&arena);
    pst_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_there_by_itself),
        cmocka_unit_test(a_list_of_addresses),
        cmocka_unit_test(a_url),
        cmocka_unit_test(sentinels_and_tls),
        cmocka_unit_test(a_node_has_a_name),
        cmocka_unit_test(what_is_not_understood_is_named),
        cmocka_unit_test(the_environment_wins),
        cmocka_unit_test(secrets_are_read_when_asked_for),
    };
    return cmocka_run_group_tests_name("app/config_sync", tests, NULL, NULL);
}
