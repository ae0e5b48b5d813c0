/*
 * upstreams and listeners: where requests come in, where they go.
 */
#include "config_internal.h"

#include <string.h>

#include "postern/http/host.h"

static enum pst_status read_workspace_map(struct pst_config_reader *r, const struct pst_node *map,
                                          struct pst_upstream_config *u)
{
    void *room;

    if (map == NULL)
        return PST_OK;
    if (map->kind != PST_NODE_MAP)
        return pst_node_fail(r->tree, map, r->error, "expected a map of workspace: address");
    enum pst_status status =
        pst_config_array(r, map->count, sizeof(struct pst_workspace_address), &room);
    if (status != PST_OK)
        return status;
    struct pst_workspace_address *at = room;
    u->workspaces = at;
    for (const struct pst_node *n = map->first; n != NULL; n = n->next) {
        struct pst_address address;
        struct pst_host_port parts;
        if (n->kind != PST_NODE_SCALAR || pst_address_parse(n->text, &address, &parts) != PST_OK)
            return pst_node_fail(r->tree, n, r->error,
                                 "expected an address: host:port or unix:/path");
        at[u->workspace_count++] =
            (struct pst_workspace_address){.workspace = n->key, .address = n->text};
    }
    return PST_OK;
}

#define PLACE "{workspace}"

/* Whether an address, with a name in each place where one goes, is an address. */
static bool is_address(struct pst_config_reader *r, struct pst_bytes text)
{
    struct pst_address address;
    struct pst_host_port parts;
    struct pst_buf filled = pst_buf_of(pst_arena_alloc(&r->config->arena, text.len + 1), text.len);

    if (filled.data == NULL)
        return false;
    while (text.len > 0) {
        bool place = pst_bytes_starts(text, PST_LIT(PLACE));
        pst_buf_char(&filled, place ? 'w' : text.ptr[0]);
        text = pst_bytes_from(text, place ? sizeof(PLACE) - 1 : 1);
    }
    return pst_address_parse(pst_buf_bytes(&filled), &address, &parts) == PST_OK;
}

static enum pst_status read_upstream(struct pst_config_reader *r, const struct pst_node *n,
                                     struct pst_upstream_config *u)
{
    static const char *const KEYS[] = {
        "address",      "workspaces",      "host",        "authorization", "idle_s", "connect_s",
        "first_byte_s", "response_head_s", "idle_body_s", "max_idle",      NULL};
    static const char *const HOSTS[] = {"upstream", "client", NULL};
    static const char *const AUTHORIZATION[] = {"drop", "pass", NULL};
    const struct pst_node *limits = pst_node_get(r->tree->root, "limits");
    unsigned host = 0, authorization = 0;

    *u = (struct pst_upstream_config){.name = n->key,
                                      .idle_s = 4,
                                      .connect_s = 1,
                                      .first_byte_s = 60,
                                      .response_head_s = 60,
                                      .idle_body_s = 60,
                                      .max_idle = 64};
    enum pst_status status = pst_node_only(r->tree, n, KEYS, r->error);
    const struct {
        const char *key;
        uint32_t *at;
    } times[] = {
        {"connect_s", &u->connect_s},
        {"first_byte_s", &u->first_byte_s},
        {"response_head_s", &u->response_head_s},
        {"idle_body_s", &u->idle_body_s},
    };
    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "address", &u->address, r->error);
    for (size_t i = 0; i < 4 && status == PST_OK;
         i++) { /* the limits are the default of all upstreams */
        status = pst_config_u32(r, limits, times[i].key, 1, 86400, times[i].at);
        if (status == PST_OK)
            status = pst_config_u32(r, n, times[i].key, 1, 86400, times[i].at);
    }
    if (status == PST_OK)
        status = pst_config_u32(r, n, "idle_s", 0, 3600, &u->idle_s);
    if (status == PST_OK)
        status = pst_config_u32(r, n, "max_idle", 0, 100000, &u->max_idle);
    if (status == PST_OK)
        status = pst_node_enum(r->tree, n, "host", HOSTS, &host, r->error);
    if (status == PST_OK)
        status =
            pst_node_enum(r->tree, n, "authorization", AUTHORIZATION, &authorization, r->error);
    u->host_client = host == 1;
    u->authorization_pass = authorization == 1;
    if (status == PST_OK)
        status = read_workspace_map(r, pst_node_get(n, "workspaces"), u);
    if (status != PST_OK)
        return status;
    if (u->address.len == 0 && u->workspace_count == 0)
        return pst_node_fail(r->tree, n, r->error,
                             "an upstream needs an address, or workspaces with addresses");
    if (u->address.len > 0 && !is_address(r, u->address))
        return pst_node_fail(r->tree, pst_node_get(n, "address"), r->error,
                             "\"%s\" is no address: host:port, [v6]:port or unix:/path, with "
                             "{workspace} where its name goes",
                             u->address.ptr);
    return PST_OK;
}

static enum pst_status default_upstream(struct pst_config_reader *r)
{
    static const struct pst_upstream_config APP = {.name = {"app", 3},
                                                   .address = {"127.0.0.1:9000", 14},
                                                   .idle_s = 4,
                                                   .connect_s = 1,
                                                   .first_byte_s = 60,
                                                   .response_head_s = 60,
                                                   .idle_body_s = 60,
                                                   .max_idle = 64};

    r->config->upstreams = &APP;
    r->config->upstream_count = 1;
    return PST_OK;
}

enum pst_status pst_config_upstreams(struct pst_config_reader *r, const struct pst_node *map)
{
    void *room;

    if (map == NULL || map->kind == PST_NODE_NULL)
        return default_upstream(r);
    if (map->kind != PST_NODE_MAP)
        return pst_node_fail(r->tree, map, r->error, "expected a map of upstreams by name");
    enum pst_status status =
        pst_config_array(r, map->count, sizeof(struct pst_upstream_config), &room);
    struct pst_upstream_config *upstreams = room;
    r->config->upstreams = upstreams;
    for (const struct pst_node *n = map->first; n != NULL && status == PST_OK; n = n->next)
        status = read_upstream(r, n, &upstreams[r->config->upstream_count++]);
    return status;
}

static enum pst_status find_upstream(struct pst_config_reader *r, const struct pst_node *mount,
                                     uint32_t *out)
{
    struct pst_bytes name = {0};
    enum pst_status status = pst_node_text(r->tree, mount, "upstream", &name, r->error);

    *out = UINT32_MAX;
    if (status != PST_OK || name.len == 0)
        return status;
    for (uint32_t i = 0; i < r->config->upstream_count; i++)
        if (pst_bytes_equal(r->config->upstreams[i].name, name)) {
            *out = i;
            return PST_OK;
        }
    return pst_node_fail(r->tree, pst_node_get(mount, "upstream"), r->error,
                         "there is no upstream \"%s\"", name.ptr);
}

static enum pst_status read_mount(struct pst_config_reader *r, const struct pst_node *n, bool proxy,
                                  struct pst_mount_source *m)
{
    static const char *const KEYS[] = {"host", "prefix", "profile", "upstream", NULL};
    enum pst_status status = pst_node_only(r->tree, n, KEYS, r->error);

    *m = (struct pst_mount_source){.host = PST_LIT("*"), .prefix = PST_LIT("/"), .at = n};
    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "host", &m->host, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "prefix", &m->prefix, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, n, "profile", &m->profile, r->error);
    if (status == PST_OK)
        status = find_upstream(r, n, &m->upstream);
    if (status != PST_OK)
        return status;
    if (m->profile.len == 0)
        return pst_node_fail(r->tree, n, r->error, "a mount needs a profile");
    if (proxy && m->upstream == UINT32_MAX)
        return pst_node_fail(r->tree, n, r->error, "a mount of a proxy listener needs an upstream");
    if (m->prefix.len == 0 || m->prefix.ptr[0] != '/')
        return pst_node_fail(r->tree, n, r->error, "a prefix begins with /");
    for (size_t i = 0; i < m->host.len; i++)
        if (m->host.ptr[i] >= 'A' && m->host.ptr[i] <= 'Z')
            return pst_node_fail(r->tree, pst_node_get(n, "host"), r->error,
                                 "write the host in lower case");
    char space[PST_HOST_MAX];
    struct pst_host host;
    if (!pst_bytes_equal(m->host, PST_LIT("*")) &&
        (!pst_host_parse(m->host, space, &host) || !pst_bytes_equal(host.text, m->host)))
        return pst_node_fail(r->tree, pst_node_get(n, "host"), r->error,
                             "expected a host as requests name it, or \"*\" for any");
    return PST_OK;
}

/* Longest prefix first; of equal ones a named host before "*". */
static bool goes_before(const struct pst_mount_source *a, const struct pst_mount_source *b)
{
    bool a_any = pst_bytes_equal(a->host, PST_LIT("*")),
         b_any = pst_bytes_equal(b->host, PST_LIT("*"));

    return a->prefix.len != b->prefix.len ? a->prefix.len > b->prefix.len : !a_any && b_any;
}

static enum pst_status read_mounts(struct pst_config_reader *r, const struct pst_node *listener,
                                   struct pst_listener_source *l)
{
    const struct pst_node *list = pst_node_get(listener, "mounts");
    void *room;

    if (list == NULL || list->kind != PST_NODE_LIST || list->count == 0)
        return pst_node_fail(r->tree, listener, r->error, "a listener that decides needs mounts");
    enum pst_status status =
        pst_config_array(r, list->count, sizeof(struct pst_mount_source), &room);
    struct pst_mount_source *mounts = room;
    l->mounts = mounts;
    for (const struct pst_node *n = list->first; n != NULL && status == PST_OK; n = n->next) {
        struct pst_mount_source m;
        status = read_mount(r, n, l->kind == PST_DOOR_PROXY, &m);
        uint32_t at = l->mount_count;
        for (; status == PST_OK && at > 0 && goes_before(&m, &mounts[at - 1]); at--)
            mounts[at] = mounts[at - 1];
        if (status == PST_OK)
            mounts[at] = m;
        l->mount_count++;
    }
    return status;
}

/* A path that no request can have, or a field that none can have, would refuse everything. */
static enum pst_status check_auth_request(struct pst_config_reader *r, const struct pst_node *n,
                                          const struct pst_listener_source *l)
{
    const struct pst_node *path = pst_node_get(n, "path");
    bool good = l->path.len > 0 && l->path.ptr[0] == '/';

    for (size_t i = 0; i < l->path.len; i++)
        good = good && l->path.ptr[i] > ' ' && l->path.ptr[i] < 0x7f && l->path.ptr[i] != '?' &&
               l->path.ptr[i] != '#';
    if (!good)
        return pst_node_fail(r->tree, path == NULL ? n : path, r->error,
                             "expected a path such as /_postern/auth");
    if (l->target_from.len == 0 || l->method_from.len == 0)
        return pst_node_fail(r->tree, n, r->error,
                             "target_from and method_from name the fields of the request");
    enum pst_status status = pst_config_field(r, pst_node_get(n, "target_from"), l->target_from);
    return status != PST_OK ? status
                            : pst_config_field(r, pst_node_get(n, "method_from"), l->method_from);
}

/* It stands in log lines as it is. */
static bool is_plain(struct pst_bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] < ' ' || name.ptr[i] >= 0x7f || name.ptr[i] == '"' || name.ptr[i] == '\\')
            return false;
    return name.len > 0 && name.len <= 64;
}

static enum pst_status read_listener(struct pst_config_reader *r, const struct pst_node *n,
                                     struct pst_listener_source *l)
{
    static const char *const KEYS[] = {"name",          "kind",        "address",
                                       "path",          "target_from", "method_from",
                                       "trusted_peers", "mounts",      NULL};
    static const char *const KINDS[] = {"proxy", "auth_request", "ops", NULL};
    unsigned kind = 0;
    struct pst_host_port parts;
    enum pst_status status = pst_node_only(r->tree, n, KEYS, r->error);

    *l = (struct pst_listener_source){.path = PST_LIT("/_postern/auth"),
                                      .target_from = PST_LIT("X-Original-URI"),
                                      .method_from = PST_LIT("X-Original-Method")};
    if (status == PST_OK)
        status = pst_node_enum(r->tree, n, "kind", KINDS, &kind, r->error);
    l->kind = (enum pst_door_kind)kind;
    l->name = n->key.len > 0 ? n->key : pst_bytes_of(KINDS[kind], strlen(KINDS[kind]));
    struct pst_bytes *const texts[] = {&l->name, &l->address_text, &l->path, &l->target_from,
                                       &l->method_from};
    static const char *const TEXT_KEYS[] = {"name", "address", "path", "target_from",
                                            "method_from"};
    for (size_t i = 0; i < 5 && status == PST_OK; i++)
        status = pst_node_text(r->tree, n, TEXT_KEYS[i], texts[i], r->error);
    if (status == PST_OK)
        status = pst_config_cidrs(r, n, "trusted_peers", &l->trusted, &l->trusted_count);
    if (status != PST_OK)
        return status;
    if (!is_plain(l->name))
        return pst_node_fail(
            r->tree, pst_node_get(n, "name"), r->error,
            "a listener's name is 1 to 64 printable ASCII characters but \" and \\");
    if (pst_address_parse(l->address_text, &l->address, &parts) != PST_OK || parts.is_name)
        return pst_node_fail(
            r->tree, n, r->error,
            "a listener needs an address: 127.0.0.1:8080, [::1]:8080 or unix:/path");
    if (l->kind == PST_DOOR_AUTH_REQUEST)
        status = check_auth_request(r, n, l);
    return status != PST_OK || l->kind == PST_DOOR_OPS ? status : read_mounts(r, n, l);
}

static enum pst_status default_listeners(struct pst_config_reader *r)
{
    static const struct pst_mount_source MOUNT[] = {
        {.host = {"*", 1}, .prefix = {"/", 1}, .profile = {"rest", 4}}};
    void *room;
    struct pst_host_port parts;

    if (r->config->upstream_count == 0)
        return pst_node_fail(
            r->tree, pst_node_get(r->tree->root, "upstreams"), r->error,
            "there is none for the proxy, which listens unless listeners say else");
    enum pst_status status = pst_config_array(r, 2, sizeof(struct pst_listener_source), &room);
    if (status != PST_OK)
        return status;
    struct pst_listener_source *l = room;
    l[0] = (struct pst_listener_source){.name = PST_LIT("proxy"),
                                        .address_text = PST_LIT("127.0.0.1:8080"),
                                        .mounts = MOUNT,
                                        .mount_count = 1};
    l[1] = (struct pst_listener_source){
        .name = PST_LIT("ops"), .kind = PST_DOOR_OPS, .address_text = PST_LIT("127.0.0.1:8082")};
    for (size_t i = 0; i < 2 && status == PST_OK; i++)
        status = pst_address_parse(l[i].address_text, &l[i].address, &parts);
    r->config->listeners = l;
    r->config->listener_count = 2;
    return status;
}

/* Port 0 is another one each time. */
static bool is_one_place(const struct pst_listener_source *a, const struct pst_listener_source *b)
{
    size_t len = a->address_text.len;
    bool any = len > 2 && memcmp(a->address_text.ptr + len - 2, ":0", 2) == 0;

    return !any && pst_bytes_equal(a->address_text, b->address_text);
}

enum pst_status pst_config_listeners(struct pst_config_reader *r, const struct pst_node *list)
{
    struct pst_config *c = r->config;
    void *room;

    if (list == NULL || list->kind == PST_NODE_NULL)
        return default_listeners(r);
    if (list->kind != PST_NODE_LIST || list->count == 0)
        return pst_node_fail(r->tree, list, r->error, "expected a list of listeners");
    enum pst_status status =
        pst_config_array(r, list->count, sizeof(struct pst_listener_source), &room);
    struct pst_listener_source *listeners = room;
    c->listeners = listeners;
    for (const struct pst_node *n = list->first; n != NULL && status == PST_OK; n = n->next) {
        status = read_listener(r, n, &listeners[c->listener_count]);
        for (uint32_t i = 0; i < c->listener_count && status == PST_OK; i++)
            if (pst_bytes_equal(listeners[i].name, listeners[c->listener_count].name))
                status = pst_node_fail(r->tree, n, r->error,
                                       "two listeners are named \"%s\": give each a name",
                                       listeners[i].name.ptr);
            else if (is_one_place(&listeners[i], &listeners[c->listener_count]))
                status = pst_node_fail(r->tree, pst_node_get(n, "address"), r->error,
                                       "listener \"%s\" has this address", listeners[i].name.ptr);
        c->listener_count++;
    }
    return status;
}
