/*
 * sync: where the Redis is that tells of changes at once. Without it the change log is polled.
 */
#include "config_internal.h"

#define PORT_DEFAULT ":6379"

static bool is_unix(struct pst_bytes address)
{
    return pst_bytes_starts(address, PST_LIT("unix:"));
}

static enum pst_status check_address(struct pst_config_reader *r, const struct pst_node *node,
                                     struct pst_bytes text)
{
    struct pst_address address;
    struct pst_host_port parts;

    if (pst_address_parse(text, &address, &parts) != PST_OK)
        return pst_node_fail(r->tree, node, r->error,
                             "\"%.*s\" is no address: host:port, [v6]:port or unix:/path",
                             (int)text.len, text.len == 0 ? "" : text.ptr);
    return PST_OK;
}

static enum pst_status read_addresses(struct pst_config_reader *r, const struct pst_node *map)
{
    struct pst_feed_config *feed = &r->config->sync.feed;
    const struct pst_node *list = pst_node_get(map, "addresses");
    enum pst_status status =
        pst_config_texts(r, map, "addresses", &feed->addresses, &feed->address_count);

    if (status == PST_OK && feed->address_count == 0)
        return pst_node_fail(r->tree, list == NULL ? map : list, r->error,
                             "expected a list of addresses");
    for (const struct pst_node *n = list == NULL ? NULL : list->first;
         n != NULL && status == PST_OK; n = n->next)
        status = check_address(r, n, n->text);
    return status;
}

/* redis://host:port, rediss://host:port (TLS), unix:/path. */
static enum pst_status read_url(struct pst_config_reader *r, const struct pst_node *map)
{
    struct pst_feed_config *feed = &r->config->sync.feed;
    const struct pst_node *node = pst_node_get(map, "url");
    struct pst_bytes url = {0};
    enum pst_status status = pst_node_text(r->tree, map, "url", &url, r->error);

    if (status != PST_OK)
        return status;
    bool tls = pst_bytes_starts(url, PST_LIT("rediss://"));
    bool tcp = tls || pst_bytes_starts(url, PST_LIT("redis://"));
    struct pst_bytes at = tcp ? pst_bytes_from(url, tls ? 9 : 8) : url;
    if (pst_bytes_find(at, '@') < at.len)
        return pst_node_fail(r->tree, node, r->error,
                             "no secrets here: username and password_file are keys of their own");
    if (!tcp && !is_unix(url))
        return pst_node_fail(r->tree, node, r->error,
                             "expected redis://host:port, rediss://host:port or unix:/path");
    if (tcp && at.len > 0 && at.ptr[at.len - 1] == '/')
        at.len--;
    struct pst_bytes host = at; /* a colon within brackets is none of a port */
    size_t bracket = pst_bytes_find(at, ']');
    if (bracket < at.len)
        host = pst_bytes_from(at, bracket);
    if (tcp && pst_bytes_find(host, ':') == host.len)
        at = pst_arena_printf(&r->config->arena, "%.*s" PORT_DEFAULT, (int)at.len, at.ptr);
    struct pst_bytes *one = pst_arena_array(&r->config->arena, 1, sizeof(*one));
    if (one == NULL)
        return pst_error_set(r->error, PST_E_NOMEM, r->tree->name.ptr, "no memory");
    *one = at;
    feed->addresses = one;
    feed->address_count = 1;
    feed->tls = tls;
    return check_address(r, node, at);
}

static enum pst_status read_sentinel(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"addresses", "master", "username", "password_file", NULL};
    struct pst_sync_source *s = &r->config->sync;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = read_addresses(r, map);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "master", &s->feed.master, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "username", &s->feed.sentinel_user, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "password_file", &s->sentinel_password_file, r->error);
    if (status == PST_OK && s->feed.master.len == 0)
        return pst_node_fail(r->tree, map, r->error, "needs the name of the master");
    return status;
}

static enum pst_status read_tls(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"ca_file", "cert_file", "key_file", "server_name", NULL};
    struct pst_feed_config *feed = &r->config->sync.feed;
    struct pst_bytes *const texts[] = {&feed->ca_file, &feed->cert_file, &feed->key_file,
                                       &feed->server_name};
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    feed->tls = feed->tls || map != NULL;
    for (size_t i = 0; KEYS[i] != NULL && status == PST_OK; i++)
        status = pst_node_text(r->tree, map, KEYS[i], texts[i], r->error);
    if (status != PST_OK || !feed->tls || feed->server_name.len > 0)
        return status;
    for (uint32_t i = 0; i < feed->address_count; i++)
        if (is_unix(feed->addresses[i]))
            return pst_node_fail(r->tree, map, r->error,
                                 "TLS over a unix socket needs server_name");
    return PST_OK;
}

/* The one of addresses, url and sentinel that says where. */
static enum pst_status read_place(struct pst_config_reader *r, const struct pst_node *map)
{
    const struct pst_node *sentinel = pst_node_get(map, "sentinel");
    bool has_url = pst_node_get(map, "url") != NULL;
    int found = (pst_node_get(map, "addresses") != NULL) + has_url + (sentinel != NULL);

    if (found != 1)
        return pst_node_fail(r->tree, map, r->error, "name one of addresses, url and sentinel");
    if (sentinel != NULL)
        return read_sentinel(r, sentinel);
    return has_url ? read_url(r, map) : read_addresses(r, map);
}

static enum pst_status read_redis(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"addresses",     "url", "sentinel", "username",
                                       "password_file", "tls", "channel",  NULL};
    struct pst_sync_source *s = &r->config->sync;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = read_place(r, map);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "username", &s->feed.user, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "password_file", &s->password_file, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "channel", &s->feed.channel, r->error);
    if (status != PST_OK)
        return status;
    if (s->feed.user.len > 0 && s->password_file.len == 0)
        return pst_node_fail(r->tree, pst_node_get(map, "username"), r->error,
                             "a user needs password_file (a path, or env:NAME)");
    return read_tls(r, pst_node_get(map, "tls"));
}

enum pst_status pst_config_sync(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"redis", "publish", NULL};
    const struct pst_node *redis = pst_node_get(map, "redis");
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "publish", &r->config->sync.feed.publish, r->error);
    if (status != PST_OK || redis == NULL || redis->kind == PST_NODE_NULL)
        return status;
    return read_redis(r, redis);
}

static enum pst_status read_password(const struct pst_config *config, struct pst_arena *arena,
                                     struct pst_bytes source, struct pst_bytes *out,
                                     struct pst_error *error)
{
    return source.len == 0 ? PST_OK : pst_config_secret(config, arena, source, out, error);
}

enum pst_status pst_config_feed(const struct pst_config *config, struct pst_arena *arena,
                                struct pst_feed_config *out, struct pst_error *error)
{
    struct pst_bytes *const files[] = {&out->ca_file, &out->cert_file, &out->key_file};

    *out = config->sync.feed;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i]->len > 0)
            *files[i] = pst_config_path(config, arena, *files[i]);
    enum pst_status status =
        read_password(config, arena, config->sync.password_file, &out->password, error);
    if (status == PST_OK)
        status = read_password(config, arena, config->sync.sentinel_password_file,
                               &out->sentinel_password, error);
    return status;
}
