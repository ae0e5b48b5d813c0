/*
 * profile.c - from a path and a method to a route.
 *
 * The path decides first, then the method: a path that is known by another method is 405, never a
 * less special route. Oddities of the path are judged before anything is said about routes.
 */
#include "profile_internal.h"

static const struct {
    struct pst_bytes name;
    enum profile_method method;
} methods[METHODS] = {
    {{.ptr = "GET", .len = 3}, METHOD_GET},         {{.ptr = "HEAD", .len = 4}, METHOD_HEAD},
    {{.ptr = "POST", .len = 4}, METHOD_POST},       {{.ptr = "PUT", .len = 3}, METHOD_PUT},
    {{.ptr = "PATCH", .len = 5}, METHOD_PATCH},     {{.ptr = "DELETE", .len = 6}, METHOD_DELETE},
    {{.ptr = "OPTIONS", .len = 7}, METHOD_OPTIONS},
};

static enum profile_method method_of(struct pst_bytes name)
{
    for (unsigned m = 0; m < METHODS; m++)
        if (pst_short_equal(name, methods[m].name))
            return methods[m].method;
    return METHODS;
}

static bool has_field(const struct pst_request *request, struct pst_bytes name)
{
    for (uint32_t i = 0; i < request->field_count; i++)
        if (pst_bytes_equal_nocase(request->fields[i].name, name))
            return true;
    return false;
}

static bool is_preflight(const struct pst_route *route, const struct pst_request *request)
{
    switch (route->preflight) {
    case PREFLIGHT_NONE:
        return false;
    case PREFLIGHT_ANY:
        return true;
    case PREFLIGHT_CORS:
        break;
    }
    return has_field(request, PST_LIT("origin")) &&
           has_field(request, PST_LIT("access-control-request-method"));
}

static void no_route(const struct pst_profile *profile, struct pst_routed *out)
{
    out->refuse = profile->closed ? PST_R_ROUTE_CLOSED : PST_R_NO_ROUTE;
    out->refuse_after_identity = true;
    out->admin_sees_404 = profile->closed;
    out->shadow = out->shadow || profile->shadow_unmatched;
}

static struct pst_bytes captured(const struct pst_request *request, const struct pst_routed *routed,
                                 uint32_t capture)
{
    return pst_bytes_of(request->path.ptr + routed->captures[capture].at,
                        routed->captures[capture].len);
}

static const struct profile_entity *named(const struct pst_profile *profile,
                                          const struct pst_route *route,
                                          const struct pst_request *request,
                                          const struct pst_routed *routed, uint32_t var)
{
    return profile_fold(profile, captured(request, routed, route->vars[var].capture));
}

/* Segments that name an entity must name one of the profile's. */
static bool entities_known(const struct pst_profile *profile, const struct pst_route *route,
                           const struct pst_request *request, const struct pst_routed *routed)
{
    const struct profile_entity *entity = NULL, *parent = NULL;

    if (route->entity_var == PROFILE_VARS)
        return true;
    entity = named(profile, route, request, routed, route->entity_var);
    if (route->parent_var == PROFILE_VARS || entity == NULL)
        return entity != NULL;
    parent = named(profile, route, request, routed, route->parent_var);
    return parent != NULL && !pst_bytes_equal(parent->name, entity->not_under);
}

static void take_route(const struct pst_profile *profile, const struct pst_route *route,
                       const struct pst_request *request, struct pst_routed *out)
{
    out->route = route;
    out->is_public = route->is_public;
    out->shadow = route->shadow;
    out->inspect_body = route->body == BODY_INSPECT;
    out->inspect_limit = route->inspect_limit;
    out->body_limit = route->body_limit;
    out->stream_grace_s = (uint32_t)route->stream_grace_s;
    out->stale_allow_s = (uint32_t)route->stale_allow_s;
    if (route->refuse != PST_R_INTERNAL) {
        out->refuse = route->refuse;
        out->refuse_after_identity = true;
    } else if (!entities_known(profile, route, request, out)) {
        no_route(profile, out);
    }
}

/* Also of a request that is refused for its method, or for a slash at its end. */
static void find_secret(const struct pst_profile *profile, struct pst_bytes path,
                        const struct profile_node *node, struct pst_routed *out)
{
    if (node == NULL && path.len > 1 && path.ptr[path.len - 1] == '/')
        node =
            profile_trie_match(profile->root, pst_bytes_of(path.ptr, path.len - 1), out->captures);
    const struct pst_route *route = node == NULL ? NULL : node->some;
    if (route != NULL && route->secret != 0)
        memcpy(out->secret, &out->captures[route->secret - 1], sizeof(out->secret));
}

void pst_profile_route(const struct pst_profile *profile, const struct pst_request *request,
                       struct pst_routed *out)
{
    enum profile_method method = method_of(request->method);

    memset(out, 0, offsetof(struct pst_routed, captures)); /* those are told by the route */
    const struct profile_node *node =
        profile_trie_match(profile->root, request->path, out->captures);
    const struct pst_route *any = node == NULL ? NULL : node->some;
    find_secret(profile, request->path, node, out);
    if ((request->oddities & ~(any == NULL ? 0 : any->accept)) != 0) {
        out->refuse = PST_R_BAD_TARGET;
        return;
    }
    if (any == NULL) {
        no_route(profile, out);
        return;
    }
    const struct pst_route *route = method == METHODS ? NULL : node->routes[method];
    if (route != NULL) {
        take_route(profile, route, request, out);
    } else if (method == METHOD_OPTIONS && is_preflight(any, request)) {
        out->route = any;
        out->preflight = true;
        out->shadow = any->shadow;
    } else {
        out->refuse = PST_R_METHOD;
        out->allow = node->allow;
        out->shadow = any->shadow;
    }
}
