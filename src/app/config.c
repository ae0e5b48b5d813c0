/*
 * Order: file, environment, then the sections; upstreams before listeners, because mounts name
 * them. What the file leaves out stays at the default that was filled in first.
 */
#include "config_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/yaml.h"
#include "postern/base/secret.h"
#include "postern/http/filter.h"
#include "postern/store/nodes.h"

#define NODE_MAX         (PST_FEED_PUBLISHER_MAX - 1 - PST_NODE_OWN_DIGITS)
#define CONFIG_BYTES_MAX (UINT64_C(16) << 20)

static const char *const ROOT_KEYS[] = {
    "state_dir",
    "workers",
    "store",
    "authentication",
    "permissions",
    "notebook_edit",
    "max_staleness_s",
    "policies_dir",
    "node",
    "identity",
    "listeners",
    "upstreams",
    "identity_headers",
    "workspace_headers",
    "profiles",
    "limits",
    "log",
    "sync",
    NULL,
};

enum pst_status pst_config_u32(struct pst_config_reader *r, const struct pst_node *map,
                               const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value = *out;
    enum pst_status status = pst_node_u64(r->tree, map, key, min, max, &value, r->error);

    if (status == PST_OK)
        *out = (uint32_t)value;
    return status;
}

enum pst_status pst_config_array(struct pst_config_reader *r, size_t count, size_t size, void **out)
{
    *out = pst_arena_array(&r->config->arena, count, size);
    return *out != NULL ? PST_OK
                        : pst_error_set(r->error, PST_E_NOMEM, r->tree->name.ptr,
                                        "the configuration is too large");
}

enum pst_status pst_config_texts(struct pst_config_reader *r, const struct pst_node *map,
                                 const char *key, const struct pst_bytes **out, uint32_t *count)
{
    const struct pst_node *list = pst_node_get(map, key);
    void *room;

    if (list == NULL || list->kind == PST_NODE_NULL)
        return PST_OK;
    if (list->kind != PST_NODE_LIST)
        return pst_node_fail(r->tree, list, r->error, "expected a list");
    enum pst_status status = pst_config_array(r, list->count, sizeof(struct pst_bytes), &room);
    if (status != PST_OK)
        return status;
    struct pst_bytes *texts = room;
    *out = texts;
    *count = 0;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        if (n->kind != PST_NODE_SCALAR)
            return pst_node_fail(r->tree, n, r->error, "expected a text");
        texts[(*count)++] = n->text;
    }
    return PST_OK;
}

enum pst_status pst_config_cidrs(struct pst_config_reader *r, const struct pst_node *map,
                                 const char *key, const struct pst_cidr **out, uint32_t *count)
{
    const struct pst_bytes *texts = NULL;
    void *room = NULL;
    uint32_t text_count = 0;
    enum pst_status status = pst_config_texts(r, map, key, &texts, &text_count);

    if (status == PST_OK)
        status = pst_config_array(r, text_count, sizeof(struct pst_cidr), &room);
    if (status != PST_OK)
        return status;
    struct pst_cidr *cidrs = room;
    *out = cidrs;
    for (uint32_t i = 0; i < text_count; i++)
        if (pst_cidr_parse(texts[i], &cidrs[(*count)++]) != PST_OK)
            return pst_node_fail(r->tree, pst_node_get(map, key), r->error,
                                 "\"%s\" is no network: 10.0.0.0/8, ::1/128 or unix", texts[i].ptr);
    return PST_OK;
}

/* Fields that frame a message, or that Postern writes by rules of their own. */
static bool is_spoken_for(struct pst_bytes name)
{
    static const char *const NAMES[] = {
        "host",         "content-length", "transfer-encoding",
        "connection",   "keep-alive",     "upgrade",
        "te",           "trailer",        "expect",
        "cookie",       "set-cookie",     "proxy-connection",
        "x-request-id", "traceparent",    "tracestate",
        "forwarded",
    };

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        if (pst_bytes_equal_nocase(name, pst_bytes_of(NAMES[i], strlen(NAMES[i]))))
            return true;
    return name.len >= 12 &&
           pst_bytes_equal_nocase(pst_bytes_of(name.ptr, 12), PST_LIT("x-forwarded-"));
}

enum pst_status pst_config_field(struct pst_config_reader *r, const struct pst_node *at,
                                 struct pst_bytes name)
{
    struct pst_filter filter;

    pst_filter_init(&filter);
    if (name.len > 0 && (is_spoken_for(name) || pst_filter_add(&filter, name) != PST_OK))
        return pst_node_fail(r->tree, at, r->error,
                             "\"%.*s\" cannot be the name of a header field of this kind",
                             (int)name.len, name.ptr);
    return PST_OK;
}

/* Two under one name would be two fields of that name upstream. */
static enum pst_status check_names(struct pst_config_reader *r, const struct pst_node *map,
                                   const char *const *keys, struct pst_bytes *const *fields)
{
    enum pst_status status = PST_OK;

    for (size_t i = 0; keys[i] != NULL && status == PST_OK; i++) {
        status = pst_config_field(r, pst_node_get(map, keys[i]), *fields[i]);
        for (size_t k = 0; k < i && status == PST_OK; k++)
            if (fields[i]->len > 0 && pst_bytes_equal_nocase(*fields[i], *fields[k]))
                status = pst_node_fail(r->tree, map, r->error, "%s and %s have one name", keys[k],
                                       keys[i]);
    }
    return status;
}

static enum pst_status read_names(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"user",        "roles",    "workspace",
                                       "decision_id", "revision", NULL};
    struct pst_identity_names *n = &r->config->names;
    struct pst_bytes *const fields[] = {&n->user, &n->roles, &n->workspace, &n->decision_id,
                                        &n->revision};
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    for (size_t i = 0; KEYS[i] != NULL && status == PST_OK; i++) {
        const struct pst_node *node = pst_node_get(map, KEYS[i]);
        if (node != NULL && node->kind == PST_NODE_NULL)
            *fields[i] = (struct pst_bytes){0}; /* null: not sent */
        else
            status = pst_node_text(r->tree, map, KEYS[i], fields[i], r->error);
    }
    return status != PST_OK ? status : check_names(r, map, KEYS, fields);
}

struct limit {
    const char *key;
    uint32_t min, max;
    uint32_t *at;
};

static enum pst_status read_limits(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"request_head_bytes",
                                       "field_bytes",
                                       "authorization_bytes",
                                       "cookie_bytes",
                                       "fields",
                                       "target_bytes",
                                       "body_bytes",
                                       "chunk_extension_bytes",
                                       "framing_overhead_bytes",
                                       "interim_responses",
                                       "drain_bytes",
                                       "drain_s",
                                       "request_head_s",
                                       "connect_s",
                                       "first_byte_s",
                                       "response_head_s",
                                       "idle_body_s",
                                       "write_stall_s",
                                       "keepalive_idle_s",
                                       "inspect_body_bytes",
                                       "drain_total_s",
                                       "connections",
                                       "body_rate_bytes",
                                       "body_rate_after_s",
                                       "inspect_memory_bytes",
                                       NULL};
    struct pst_server_limits *l = &r->config->limits;
    const struct limit limits[] = {
        {"request_head_bytes", 1024, 49152, &l->head.head_bytes},
        {"field_bytes", 256, 65536, &l->head.field_bytes},
        {"authorization_bytes", 256, 65536, &l->head.authorization_bytes},
        {"cookie_bytes", 256, 65536, &l->head.cookie_bytes},
        {"fields", 8, PST_FIELDS_MAX, &l->head.fields},
        {"target_bytes", 256, 65536, &l->head.target_bytes},
        {"chunk_extension_bytes", 0, 65536, &l->body.extension_bytes},
        {"framing_overhead_bytes", 1024, 1u << 30, &l->body.overhead_bytes},
        {"interim_responses", 0, 1000, &l->interim_responses},
        {"drain_bytes", 0, 1u << 30, &l->drain_bytes},
        {"drain_s", 0, 60, &l->drain_s},
        {"request_head_s", 1, 3600, &l->request_head_s},
        {"write_stall_s", 1, 3600, &l->write_stall_s},
        {"keepalive_idle_s", 1, 86400, &l->keepalive_idle_s},
        {"drain_total_s", 1, 3600, &l->drain_total_s},
        {"connections", 0, 10000000, &l->connections},
        {"body_rate_bytes", 0, 1u << 30, &l->body_rate_bytes},
        {"body_rate_after_s", 1, 3600, &l->body_rate_after_s},
        {"inspect_memory_bytes", 1u << 20, 1u << 31, &l->inspect_memory_bytes},
    };
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]) && status == PST_OK; i++)
        status = pst_config_u32(r, map, limits[i].key, limits[i].min, limits[i].max, limits[i].at);
    if (status == PST_OK)
        status = pst_node_u64(r->tree, map, "body_bytes", 1, INT64_MAX, &r->config->body_bytes,
                              r->error);
    if (status == PST_OK)
        status = pst_node_u64(r->tree, map, "inspect_body_bytes", 0, 64u << 20,
                              &r->config->inspect_body_bytes, r->error);
    return status;
}

static enum pst_status read_log(struct pst_config_reader *r, const struct pst_node *map)
{
    static const char *const KEYS[] = {"level", "events", "access", "decisions", NULL};
    static const char *const LEVELS[] = {"debug", "info", "warn", "error", NULL};
    struct pst_log_config *log = &r->config->log;
    unsigned level = log->level;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_enum(r->tree, map, "level", LEVELS, &level, r->error);
    log->level = (enum pst_log_level)level;
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "events", &log->paths[PST_LOG_EVENTS], r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "access", &log->paths[PST_LOG_ACCESS], r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "decisions", &log->paths[PST_LOG_DECISIONS], r->error);
    return status;
}

static enum pst_status read_profile_settings(struct pst_config_reader *r,
                                             const struct pst_node *map,
                                             struct pst_profile_source *p)
{
    static const char *const KEYS[] = {"workspaces", "default_permission",
                                       "grant_default_workspace_access", "project_uuid", NULL};
    bool workspaces = !p->options.mlflow_workspaces_off;
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "workspaces", &workspaces, r->error);
    p->options.mlflow_workspaces_off = !workspaces;
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "default_permission", &p->mlflow_default_permission,
                               r->error);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "grant_default_workspace_access",
                               &p->mlflow_grant_default, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "project_uuid", &p->project_uuid, r->error);
    return status;
}

static enum pst_status read_profile(struct pst_config_reader *r, const struct pst_node *map,
                                    struct pst_profile_source *p)
{
    static const char *const KEYS[] = {"file", "default_workspace", "shadow", "settings", NULL};
    enum pst_status status = pst_node_only(r->tree, map, KEYS, r->error);

    p->name = map->key;
    p->line = map->line;
    p->mlflow_default_permission = PST_LIT("READ");
    p->options.workspace_headers = r->config->workspace_headers;
    p->options.workspace_header_count = r->config->workspace_header_count;
    const char *off = getenv("MLFLOW_ENABLE_WORKSPACES");
    p->options.mlflow_workspaces_off =
        off != NULL && (pst_bytes_equal_nocase(pst_bytes_of(off, strlen(off)), PST_LIT("false")) ||
                        pst_bytes_equal(pst_bytes_of(off, strlen(off)), PST_LIT("0")));
    const struct pst_node *workspace = pst_node_get(map, "default_workspace");
    if (workspace != NULL && workspace->kind == PST_NODE_NULL)
        p->options.default_workspace = PST_LIT(""); /* null: there is none */
    else if (status == PST_OK)
        status = pst_node_text(r->tree, map, "default_workspace", &p->options.default_workspace,
                               r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, map, "file", &p->file, r->error);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, map, "shadow", &p->options.shadow, r->error);
    return status != PST_OK ? status : read_profile_settings(r, pst_node_get(map, "settings"), p);
}

/* Every profile that a mount names, configured or not, and every configured one. */
static const struct pst_bytes SHIPPED[] = {{"rest", 4}, {"mage", 4}, {"mlflow", 6}};

/* A name that was mistyped would set something of no profile at all, shadow for one. */
static enum pst_status check_profile_name(struct pst_config_reader *r, const struct pst_node *n,
                                          const struct pst_profile_source *p)
{
    bool found = p->file.len > 0 || r->config->policies_dir.len > 0;

    for (size_t i = 0; i < sizeof(SHIPPED) / sizeof(SHIPPED[0]); i++)
        found = found || pst_bytes_equal(p->name, SHIPPED[i]);
    return found ? PST_OK
                 : pst_node_fail(r->tree, n, r->error,
                                 "none of that name is shipped: it needs a file");
}

static enum pst_status read_profiles(struct pst_config_reader *r, const struct pst_node *map)
{
    static const struct pst_node BARE = {.kind = PST_NODE_MAP};
    struct pst_config *c = r->config;
    void *room;

    if (map != NULL && map->kind != PST_NODE_MAP)
        return pst_node_fail(r->tree, map, r->error, "expected a map of profiles by name");
    enum pst_status status = pst_config_array(r, (map == NULL ? 0 : map->count) + 3,
                                              sizeof(struct pst_profile_source), &room);
    if (status != PST_OK)
        return status;
    struct pst_profile_source *profiles = room;
    c->profiles = profiles;
    for (const struct pst_node *n = map == NULL ? NULL : map->first; n != NULL && status == PST_OK;
         n = n->next) {
        struct pst_profile_source *p = &profiles[c->profile_count++];
        status = read_profile(r, n, p);
        if (status == PST_OK)
            status = check_profile_name(r, n, p);
    }
    for (size_t i = 0; i < 3 && status == PST_OK; i++) {
        if (pst_node_get(map, SHIPPED[i].ptr) != NULL)
            continue;
        struct pst_node bare = BARE;
        bare.key = SHIPPED[i];
        status = read_profile(r, &bare, &profiles[c->profile_count++]);
    }
    return status;
}

static enum pst_status check_mount_profiles(struct pst_config_reader *r)
{
    const struct pst_config *c = r->config;

    for (uint32_t l = 0; l < c->listener_count; l++)
        for (uint32_t m = 0; m < c->listeners[l].mount_count; m++) {
            const struct pst_mount_source *mount = &c->listeners[l].mounts[m];
            uint32_t p = 0;
            while (p < c->profile_count && !pst_bytes_equal(c->profiles[p].name, mount->profile))
                p++;
            if (p == c->profile_count)
                return pst_node_fail(r->tree, pst_node_get(mount->at, "profile"), r->error,
                                     "there is no profile \"%s\"", mount->profile.ptr);
        }
    return PST_OK;
}

/* A pooler before PostgreSQL is a parameter of the url, which is all that the store is given. */
static enum pst_status read_store(struct pst_config_reader *r, const struct pst_node *root)
{
    static const char *const KEYS[] = {"url", "pgbouncer", NULL};
    const struct pst_node *store = pst_node_get(root, "store");
    struct pst_config *c = r->config;
    bool pgbouncer = false;

    enum pst_status status = pst_node_only(r->tree, store, KEYS, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, store, "url", &c->store_url, r->error);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, store, "pgbouncer", &pgbouncer, r->error);
    if (status != PST_OK || !pgbouncer)
        return status;
    if (!pst_bytes_starts(c->store_url, PST_LIT("postgres")))
        return pst_node_fail(r->tree, pst_node_get(store, "pgbouncer"), r->error,
                             "stands before PostgreSQL only: the url is another database's");
    bool more = pst_bytes_find(c->store_url, '?') < c->store_url.len;
    c->store_url = pst_arena_printf(&c->arena, "%.*s%cpgbouncer=true", (int)c->store_url.len,
                                    c->store_url.ptr, more ? '&' : '?');
    return c->store_url.len > 0 ? PST_OK
                                : pst_error_set(r->error, PST_E_NOMEM, NULL, "out of memory");
}

static enum pst_status read_general(struct pst_config_reader *r, const struct pst_node *root)
{
    struct pst_config *c = r->config;
    enum pst_status status = pst_node_only(r->tree, root, ROOT_KEYS, r->error);

    if (status == PST_OK)
        status = pst_node_text(r->tree, root, "state_dir", &c->state_dir, r->error);
    if (status == PST_OK && c->state_dir.len == 0)
        return pst_node_fail(r->tree, pst_node_get(root, "state_dir"), r->error, "expected a path");
    if (status == PST_OK)
        status = pst_node_text(r->tree, root, "policies_dir", &c->policies_dir, r->error);
    if (status == PST_OK)
        status = pst_node_text(r->tree, root, "node", &c->node, r->error);
    /* Its row and its heartbeats add to the name what is this process's own. */
    if (status == PST_OK && c->node.len > 0 &&
        (c->node.len > NODE_MAX || !pst_feed_publisher_ok(c->node)))
        return pst_node_fail(r->tree, pst_node_get(root, "node"), r->error,
                             "a node's name is 1 to %d of A-Z a-z 0-9 . _ : -", NODE_MAX);
    if (status == PST_OK)
        status = pst_config_u32(r, root, "workers", 1, 256, &c->workers);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, root, "authentication", &c->authentication, r->error);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, root, "permissions", &c->permissions, r->error);
    if (status == PST_OK)
        status = pst_config_u32(r, root, "notebook_edit", 0, 2, &c->notebook_edit);
    if (status == PST_OK)
        status = pst_config_u32(r, root, "max_staleness_s", 1, 60, &c->max_staleness_s);
    if (status == PST_OK)
        status = read_store(r, root);
    if (status == PST_OK)
        status = pst_config_texts(r, root, "workspace_headers", &c->workspace_headers,
                                  &c->workspace_header_count);
    const struct pst_node *header = pst_node_get(root, "workspace_headers");
    for (header = header == NULL ? NULL : header->first; header != NULL && status == PST_OK;
         header = header->next)
        status = header->text.len == 0 ? pst_node_fail(r->tree, header, r->error, "expected a name")
                                       : pst_config_field(r, header, header->text);
    return status;
}

static void fill_defaults(struct pst_config *c)
{
    static const struct pst_bytes WORKSPACE_HEADERS[] = {{"X-Workspace", 11},
                                                         {"X-Mlflow-Workspace", 18}};
    static const struct pst_bytes RESERVED[] = {
        {"*", 1}, {"anonymous", 9}, {"postern", 7}, {"system", 6}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    c->state_dir = PST_LIT("postern-state");
    c->workers = cores < 1 ? 1 : cores > 256 ? 256 : (uint32_t)cores;
    c->authentication = c->permissions = true;
    c->identity = pst_identity_config_default();
    c->credentials = (struct pst_credential_config){.header = PST_LIT("Authorization"),
                                                    .cookie = PST_LIT("postern_token")};
    c->reserved_names = RESERVED;
    c->reserved_name_count = 4;
    c->token_cache = 10000;
    c->fact_cache = 10000;
    c->workspace_headers = WORKSPACE_HEADERS;
    c->workspace_header_count = 2;
    c->names = (struct pst_identity_names){
        .user = PST_LIT("X-Postern-User"),
        .roles = PST_LIT("X-Postern-Roles"),
        .workspace = PST_LIT("X-Postern-Workspace"),
        .decision_id = PST_LIT("X-Postern-Decision-Id"),
        .revision = PST_LIT("X-Postern-Revision"),
    };
    c->limits = pst_server_limits_default;
    c->body_bytes = UINT64_C(4294967296);
    c->inspect_body_bytes = 1u << 20;
    c->sync.feed.publish = true;
    c->log = (struct pst_log_config){.level = PST_LOG_INFO};
    c->log.paths[PST_LOG_EVENTS] = PST_LIT("stderr");
    c->log.paths[PST_LOG_ACCESS] = PST_LIT("stdout");
    c->log.paths[PST_LOG_DECISIONS] = PST_LIT("off");
}

static enum pst_status read_all(struct pst_config_reader *r)
{
    const struct pst_node *root = r->tree->root;
    enum pst_status status = read_general(r, root);

    if (status == PST_OK)
        status = pst_config_identity(r, pst_node_get(root, "identity"));
    if (status == PST_OK)
        status = read_limits(r, pst_node_get(root, "limits"));
    if (status == PST_OK)
        status = read_names(r, pst_node_get(root, "identity_headers"));
    if (status == PST_OK)
        status = pst_config_upstreams(r, pst_node_get(root, "upstreams"));
    if (status == PST_OK)
        status = pst_config_listeners(r, pst_node_get(root, "listeners"));
    if (status == PST_OK)
        status = read_profiles(r, pst_node_get(root, "profiles"));
    if (status == PST_OK)
        status = check_mount_profiles(r);
    if (status == PST_OK)
        status = read_log(r, pst_node_get(root, "log"));
    if (status == PST_OK)
        status = pst_config_sync(r, pst_node_get(root, "sync"));
    return status;
}

static struct pst_bytes dir_of(struct pst_bytes path)
{
    while (path.len > 0 && path.ptr[path.len - 1] != '/')
        path.len--;
    return path;
}

/* A file, or a section of it, whose lines are all comments says nothing. */
static void take_blank_as_empty(const struct pst_tree *tree)
{
    static const char *const SECTIONS[] = {
        "identity", "identity_headers", "limits", "log", "profiles", "store", "sync"};

    if (tree->root->kind == PST_NODE_NULL)
        tree->root->kind = PST_NODE_MAP;
    for (struct pst_node *n = tree->root->first; n != NULL; n = n->next)
        for (size_t i = 0; i < sizeof(SECTIONS) / sizeof(SECTIONS[0]); i++)
            if (n->kind == PST_NODE_NULL &&
                pst_bytes_equal(n->key, pst_bytes_of(SECTIONS[i], strlen(SECTIONS[i]))))
                n->kind = PST_NODE_MAP;
}

/* Takes `c`, whose tree is loaded when status is PST_OK. */
static enum pst_status finish_load(struct pst_config *c, enum pst_status status,
                                   struct pst_bytes dir, struct pst_config **out,
                                   struct pst_error *error)
{
    struct pst_config_reader r = {.config = c, .tree = &c->tree, .error = error};

    if (status == PST_OK)
        status = pst_arena_copy(&c->arena, dir, &c->dir);
    if (status == PST_OK)
        take_blank_as_empty(&c->tree);
    if (status == PST_OK)
        status = pst_config_environment(&c->tree, error);
    if (status == PST_OK)
        status = read_all(&r);
    if (status != PST_OK) {
        pst_config_free(c);
        return status;
    }
    *out = c;
    return PST_OK;
}

static struct pst_config *new_config(struct pst_error *error)
{
    struct pst_config *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
        return NULL;
    }
    pst_arena_init(&c->arena, 16384, CONFIG_BYTES_MAX);
    fill_defaults(c);
    return c;
}

enum pst_status pst_config_load_text(struct pst_bytes name, struct pst_bytes text,
                                     struct pst_bytes dir, struct pst_config **out,
                                     struct pst_error *error)
{
    struct pst_config *c = *out = new_config(error);

    if (c == NULL)
        return PST_E_NOMEM;
    *out = NULL;
    return finish_load(c, pst_yaml_load_text(name, text, &c->tree, error), dir, out, error);
}

enum pst_status pst_config_load(const char *path, struct pst_config **out, struct pst_error *error)
{
    if (path == NULL)
        return pst_config_load_text(PST_LIT("(embedded default)"), PST_LIT("{}"), PST_LIT(""), out,
                                    error);
    struct pst_config *c = *out = new_config(error);
    if (c == NULL)
        return PST_E_NOMEM;
    *out = NULL;
    return finish_load(c, pst_yaml_load_file(path, &c->tree, error),
                       dir_of(pst_bytes_of(path, strlen(path))), out, error);
}

void pst_config_free(struct pst_config *config)
{
    if (config == NULL)
        return;
    pst_tree_fini(&config->tree);
    pst_arena_fini(&config->arena);
    free(config);
}

void pst_config_blame(const struct pst_config *config, const struct pst_node *at,
                      struct pst_error *error)
{
    char message[sizeof(error->where) + sizeof(error->message) + 4];

    if (error == NULL || at == NULL)
        return;
    enum pst_status status = error->status;
    (void)snprintf(message, sizeof(message), "%s%s%s", error->where,
                   error->where[0] != '\0' ? ": " : "", error->message);
    (void)pst_node_fail(&config->tree, at, error, "%s", message);
    error->status = status;
}

struct pst_bytes pst_config_path(const struct pst_config *config, struct pst_arena *arena,
                                 struct pst_bytes path)
{
    if (path.len > 0 && path.ptr[0] == '/')
        return pst_arena_printf(arena, "%.*s", (int)path.len, path.ptr);
    return pst_arena_printf(arena, "%.*s%.*s", (int)config->dir.len, config->dir.ptr, (int)path.len,
                            path.ptr);
}

enum pst_status pst_config_secret(const struct pst_config *config, struct pst_arena *arena,
                                  struct pst_bytes source, struct pst_bytes *out,
                                  struct pst_error *error)
{
    if (pst_bytes_starts(source, PST_LIT("env:"))) {
        const char *value = getenv(source.ptr + 4);
        if (value == NULL || value[0] == '\0')
            return pst_error_set(error, PST_E_ABSENT, source.ptr,
                                 "the environment variable is not set");
        return pst_arena_copy(arena, pst_bytes_of(value, strlen(value)), out);
    }
    struct pst_bytes text;
    enum pst_status status =
        pst_file_read(pst_config_path(config, arena, source).ptr, 65536, &text, error);
    if (status != PST_OK)
        return status;
    struct pst_bytes bare = text; /* an editor's line end is no part of a secret */
    while (bare.len > 0 && (bare.ptr[bare.len - 1] == '\n' || bare.ptr[bare.len - 1] == '\r'))
        bare.len--;
    status = pst_arena_copy(arena, bare, out);
    pst_secret_wipe((void *)(uintptr_t)text.ptr, text.len);
    free((void *)(uintptr_t)text.ptr);
    return status;
}
