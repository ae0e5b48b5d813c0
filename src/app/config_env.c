/*
 * The environment over the file: POSTERN_ and the path of a setting in capitals, dots as
 * underscores (POSTERN_LOG_LEVEL is log.level), for every setting that is one value; and the names
 * that the apps' own switches have.  Other variables that begin with POSTERN_ are left alone:
 * Kubernetes makes some.
 */
#include "config_internal.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const SETTINGS[] = {
    "state_dir",
    "workers",
    "authentication",
    "permissions",
    "notebook_edit",
    "max_staleness_s",
    "policies_dir",
    "node",
    "store.url",
    "store.pgbouncer",
    "identity.leeway_s",
    "identity.max_lifetime_s",
    "identity.max_token_bytes",
    "identity.typ_required",
    "identity.missing_kid",
    "identity.token_cache",
    "identity.fact_cache",
    "identity.credentials.header",
    "identity.credentials.cookie",
    "identity_headers.user",
    "identity_headers.roles",
    "identity_headers.workspace",
    "identity_headers.decision_id",
    "identity_headers.revision",
    "limits.request_head_bytes",
    "limits.field_bytes",
    "limits.authorization_bytes",
    "limits.cookie_bytes",
    "limits.fields",
    "limits.target_bytes",
    "limits.body_bytes",
    "limits.inspect_body_bytes",
    "limits.inspect_memory_bytes",
    "limits.chunk_extension_bytes",
    "limits.framing_overhead_bytes",
    "limits.interim_responses",
    "limits.drain_bytes",
    "limits.drain_s",
    "limits.request_head_s",
    "limits.connect_s",
    "limits.first_byte_s",
    "limits.response_head_s",
    "limits.idle_body_s",
    "limits.write_stall_s",
    "limits.keepalive_idle_s",
    "limits.body_rate_bytes",
    "limits.body_rate_after_s",
    "limits.drain_total_s",
    "limits.connections",
    "sync.publish",
    "sync.redis.url",
    "sync.redis.username",
    "sync.redis.password_file",
    "sync.redis.channel",
    "sync.redis.tls.ca_file",
    "sync.redis.tls.cert_file",
    "sync.redis.tls.key_file",
    "sync.redis.tls.server_name",
    "sync.redis.sentinel.master",
    "sync.redis.sentinel.username",
    "sync.redis.sentinel.password_file",
    "log.level",
    "log.events",
    "log.access",
    "log.decisions",
    NULL,
};

static const char *const ALIASES[][2] = {
    {"REQUIRE_USER_AUTHENTICATION", "authentication"},
    {"REQUIRE_USER_PERMISSIONS", "permissions"},
    {"DISABLE_NOTEBOOK_EDIT_ACCESS", "notebook_edit"},
    {"MAGE_DATABASE_CONNECTION_URL", "store.url"},
    {"POSTERN_DATABASE_URL", "store.url"},
    {NULL, NULL},
};

/* The map or value at a dotted path, made where it is missing. */
static struct pst_node *reach(struct pst_tree *tree, struct pst_bytes path)
{
    struct pst_node *at = tree->root;

    while (path.len > 0) {
        size_t dot = pst_bytes_find(path, '.');
        struct pst_bytes key = pst_bytes_of(path.ptr, dot);
        bool last = dot == path.len;
        path = pst_bytes_from(path, last ? dot : dot + 1);
        if (at->kind != PST_NODE_MAP)
            return NULL;
        struct pst_node *next = at->first;
        while (next != NULL && !pst_bytes_equal(next->key, key))
            next = next->next;
        if (next == NULL)
            next = pst_tree_add(tree, at, last ? PST_NODE_SCALAR : PST_NODE_MAP, key,
                                (struct pst_bytes){0}, 0);
        if (next == NULL)
            return NULL;
        at = next;
    }
    return at;
}

static enum pst_status set(struct pst_tree *tree, const char *variable, const char *path,
                           struct pst_bytes value, struct pst_error *error)
{
    struct pst_node *node = reach(tree, pst_bytes_of(path, strlen(path)));

    if (node == NULL || pst_arena_copy(&tree->arena, value, &node->text) != PST_OK)
        return pst_error_set(error, PST_E_INVALID, variable,
                             "cannot override %s: the file has another kind of value there", path);
    node->kind = PST_NODE_SCALAR;
    node->line = 0; /* no line of the file: messages say "environment" and the key */
    return PST_OK;
}

/* The originals take true, t and 1 in any case for yes and everything else for no: a "YES" would
 * switch authentication off. Here what is neither is left to be refused. */
static struct pst_bytes as_bool(const char *value)
{
    struct pst_bytes v = pst_bytes_of(value, strlen(value));
    static const struct pst_bytes YES[] = {{"true", 4}, {"t", 1}, {"1", 1}};
    static const struct pst_bytes NO[] = {{"false", 5}, {"f", 1}, {"0", 1}};

    for (size_t i = 0; i < sizeof(YES) / sizeof(YES[0]); i++) {
        if (pst_bytes_equal_nocase(v, YES[i]))
            return YES[0];
        if (pst_bytes_equal_nocase(v, NO[i]))
            return NO[0];
    }
    return v;
}

/* A value that is no number counts as 1, as in the original. */
static struct pst_bytes as_notebook_edit(const char *value)
{
    struct pst_bytes v = pst_bytes_of(value, strlen(value));
    uint64_t n;

    if (!pst_bytes_u63(v, &n))
        return PST_LIT("1");
    return n > 2 ? PST_LIT("2") : v;
}

static void variable_name(const char *path, char *out, size_t cap)
{
    int n = snprintf(out, cap, "POSTERN_%s", path);

    for (int i = 0; i < n && (size_t)i < cap; i++)
        out[i] = out[i] == '.'
                     ? '_'
                     : (char)(out[i] >= 'a' && out[i] <= 'z' ? out[i] - 'a' + 'A' : out[i]);
}

enum pst_status pst_config_environment(struct pst_tree *tree, struct pst_error *error)
{
    enum pst_status status = PST_OK;
    char name[128];

    for (size_t i = 0; ALIASES[i][0] != NULL && status == PST_OK; i++) {
        const char *value = getenv(ALIASES[i][0]), *path = ALIASES[i][1];
        if (value == NULL || value[0] == '\0')
            continue;
        struct pst_bytes path_bytes = pst_bytes_of(path, strlen(path));
        struct pst_bytes text =
            pst_bytes_equal(path_bytes, PST_LIT("store.url")) ? pst_bytes_of(value, strlen(value))
            : pst_bytes_equal(path_bytes, PST_LIT("notebook_edit")) ? as_notebook_edit(value)
                                                                    : as_bool(value);
        status = set(tree, ALIASES[i][0], path, text, error);
    }
    for (size_t i = 0; SETTINGS[i] != NULL && status == PST_OK; i++) {
        variable_name(SETTINGS[i], name, sizeof(name));
        const char *value = getenv(name);
        if (value != NULL)
            status = set(tree, name, SETTINGS[i], pst_bytes_of(value, strlen(value)), error);
    }
    return status;
}
