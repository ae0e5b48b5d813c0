/*
 * From the configuration to what the connection code is given: listeners with their dialects,
 * limits, the names that are Postern's own.
 */
#include "postern/app/site_build.h"

#include "postern/surface/auth_request.h"
#include "postern/surface/ops.h"

static enum pst_status auth_request_door(const struct pst_config *config,
                                         const struct pst_listener_source *l,
                                         struct pst_arena *arena, struct pst_door *out)
{
    struct pst_auth_request *self = pst_arena_zalloc(arena, sizeof(*self));

    if (self == NULL)
        return PST_E_NOMEM;
    *self = (struct pst_auth_request){
        .path = l->path,
        .target_from = l->target_from,
        .method_from = l->method_from,
        .target_id = pst_field_id_of(l->target_from),
        .method_id = pst_field_id_of(l->method_from),
        .user = config->names.user,
        .roles = config->names.roles,
        .workspace = config->names.workspace,
        .decision_id = config->names.decision_id,
        .revision = config->names.revision,
    };
    *out = (struct pst_door){
        .self = self, .read = pst_auth_request_read, .answer = pst_auth_request_answer};
    return PST_OK;
}

static enum pst_status build_listener(const struct pst_config *config, uint32_t index,
                                      const struct pst_ops_door *ops, struct pst_arena *arena,
                                      struct pst_listener_config *out)
{
    const struct pst_listener_source *l = &config->listeners[index];

    *out = (struct pst_listener_config){.name = l->name,
                                        .engine_index = index,
                                        .trusted = l->trusted,
                                        .trusted_count = l->trusted_count};
    switch (l->kind) {
    case PST_DOOR_PROXY:
        out->kind = PST_LISTENER_PROXY;
        return PST_OK;
    case PST_DOOR_AUTH_REQUEST:
        out->kind = PST_LISTENER_CHECK;
        return auth_request_door(config, l, arena, &out->door);
    case PST_DOOR_OPS:
        out->kind = PST_LISTENER_LOCAL;
        out->door = (struct pst_door){
            .self = ops, .asks_lease = pst_ops_door_asks_lease, .local = pst_ops_door_answer};
        return PST_OK;
    }
    return PST_E_INVALID;
}

static enum pst_status protect(struct pst_filter *filter, struct pst_bytes name,
                               struct pst_error *error)
{
    if (name.len == 0 || pst_filter_add(filter, name) == PST_OK)
        return PST_OK;
    return pst_error_set(error, PST_E_INVALID, NULL,
                         "\"%.*s\" cannot be the name of a header field", (int)name.len, name.ptr);
}

/* Under these names a client must not tell the upstream anything. */
static enum pst_status build_filter(const struct pst_config *config, struct pst_filter *filter,
                                    struct pst_error *error)
{
    const struct pst_identity_names *n = &config->names;
    const struct pst_bytes names[] = {n->user,        n->roles,    n->workspace,
                                      n->decision_id, n->revision, config->credentials.header};
    enum pst_status status = PST_OK;

    pst_filter_init(filter);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && status == PST_OK; i++)
        status = protect(filter, names[i], error);
    for (uint32_t i = 0; i < config->workspace_header_count && status == PST_OK; i++)
        status = protect(filter, config->workspace_headers[i], error);
    return status;
}

enum pst_status pst_doors_build(const struct pst_config *config, const struct pst_ops_door *ops,
                                struct pst_arena *arena, struct pst_server_config *out,
                                struct pst_error *error)
{
    struct pst_listener_config *listeners =
        pst_arena_array(arena, config->listener_count, sizeof(*listeners));
    enum pst_status status =
        listeners == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    *out = (struct pst_server_config){
        .listeners = listeners,
        .listener_count = config->listener_count,
        .upstreams = config->upstreams,
        .upstream_count = config->upstream_count,
        .limits = config->limits,
        .identity = config->names,
        .credential_cookie = config->credentials.cookie,
    };
    for (uint32_t i = 0; i < config->listener_count && status == PST_OK; i++)
        if (build_listener(config, i, ops, arena, &listeners[i]) != PST_OK)
            status = pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    return status != PST_OK ? status : build_filter(config, &out->filter, error);
}
