/*
 * profile.h - the description of one app: how its requests become requirements.
 *
 * Purpose   A profile is data (policies/profiles/<name>.yaml, language in policies/README.md).  It
 * is compiled into a trie of path segments; matching costs the length of the path, not the number
 *           of routes.  Nothing of it is specific to one request, so it is shared and immutable.
 *
 * Use       pst_profile_route finds the route by path and method.  The engine then identifies the
 *           caller (unless the route is public), has the body collected when the route inspects it,
 *           and calls pst_profile_extract, which reads workspace, ids and attributes from path,
 *           query, fields and body and builds the requirements.
 *
 * Memory    The profile owns what it compiled; results stand in the caller's arena.
 *
 * Threads   Immutable after compile: any.
 *
 * Cost      About 0.1-0.2 us for a route and 0.2-0.4 us for an extraction without a body; a profile
 * takes 64 KiB (rest) to 1.5 MiB (mlflow).
 *
 * Failure   A request that cannot be read for certain is refused with a reason; a profile that
 * cannot be compiled is an error that names file:line:key.
 */
#ifndef POSTERN_POLICY_PROFILE_H
#define POSTERN_POLICY_PROFILE_H

#include "postern/base/tree.h"
#include "postern/policy/request.h"
#include "postern/policy/requirement.h"

struct pst_profile; /* opaque */
struct pst_route;   /* opaque, part of a profile */

/* The form of refusals that the app's clients understand. */
enum pst_error_form { PST_FORM_POSTERN = 0, PST_FORM_MAGE, PST_FORM_MLFLOW };

/* What configuration may change of a shipped profile. */
struct pst_profile_options {
    struct pst_bytes default_workspace; /* .ptr NULL: as the profile says; empty: none */
    bool shadow;                        /* every route: decide, log, forward */
    bool mlflow_workspaces_off;
    const struct pst_bytes *workspace_headers; /* further names that may carry the workspace */
    uint32_t workspace_header_count;
};

/* Compiles the tree of one profile file; `extra` (may be NULL) is the level table that the profile
 * names with `levels:`. Nothing of the trees is needed afterwards. */
PST_MUST_USE enum pst_status pst_profile_compile(const struct pst_tree *tree,
                                                 const struct pst_tree *extra,
                                                 const struct pst_profile_options *options,
                                                 struct pst_profile **out, struct pst_error *error);
void pst_profile_destroy(struct pst_profile *profile);

struct pst_bytes pst_profile_name(const struct pst_profile *profile);
enum pst_combining pst_profile_combining(const struct pst_profile *profile);
enum pst_error_form pst_profile_form(const struct pst_profile *profile);
/* Whether some route only logs what it would refuse: to be told to whoever runs Postern. */
bool pst_profile_shadows(const struct pst_profile *profile);
/* The routes that ask for more than a lease gives (stream_grace_s, stale_allow_s), as "PROFILE
 * METHOD,METHOD PATH"; how many they are. */
typedef void pst_profile_name_fn(void *ctx, struct pst_bytes name);
uint32_t pst_profile_exempt(const struct pst_profile *profile, pst_profile_name_fn *each,
                            void *ctx);
/* The file that `levels:` names, relative to the profile's own; empty when none. */
struct pst_bytes pst_profile_levels_file(const struct pst_tree *tree);

struct pst_span { /* of the path */
    uint32_t at, len;
};

struct pst_routed {
    const struct pst_route *route;
    enum pst_reason refuse; /* PST_R_INTERNAL (0) when there is a route; else NO_ROUTE, METHOD,
                             * BAD_TARGET, BAD_ID, UPGRADE ... */
    bool
        refuse_after_identity; /* the refusal must wait until the caller is known: 401 before 404 */
    bool admin_sees_404; /* with ROUTE_CLOSED: an administrator is told 404 instead of 403 (mlflow)
                          */
    const char *allow;   /* with METHOD: value of the Allow field; NULL otherwise */
    bool is_public;      /* nobody is asked */
    bool preflight;      /* an OPTIONS that the route passes on unasked */
    bool shadow;
    bool inspect_body;      /* extract needs the body */
    uint64_t inspect_limit; /* bytes; 0: the configuration's default */
    uint64_t body_limit; /* of a forwarded body; 0: the configuration's default; UINT64_MAX: none */
    uint32_t stream_grace_s; /* how long an exchange that runs may outlast a lost lease; 0: not */
    uint32_t stale_allow_s;  /* how long it may be decided from memory then; 0: not */
    uint32_t secret[2]; /* (offset, length) of what in the path is a credential of the app's own
                         * (a parameter called {token}), for nobody's log; length 0: nothing */
    struct pst_span captures[8]; /* private: the parameters of the path */
};

/* Never fails: without a route `refuse` says why. A route that is refused to everybody (upgrade,
 * closed) and a path that no route takes have refuse_after_identity set. */
void pst_profile_route(const struct pst_profile *profile, const struct pst_request *request,
                       struct pst_routed *out);

struct pst_extracted {
    enum pst_reason refuse; /* 0: go on */
    struct pst_bytes
        detail; /* with refuse: which key, field or segment; safe to show (no values) */
    struct pst_bytes workspace; /* name after decoding; empty: the route needs none */
    bool workspace_optional;    /* it need not exist: the route needs none, or workspaces are off */
    struct pst_bytes entity;    /* for logs: the first requirement's entity and operation */
    enum pst_op op;
    const struct pst_requirement *requirements;
    uint32_t requirement_count; /* 0 on a route that is not public: authenticated is enough */
    struct pst_bytes forward_workspace_header; /* name of a field to be set to `workspace` upstream;
                                                  empty: none */
};

/* For a route that is public or a preflight it tells the workspace only; its requirements do not
 * count. A request that names one id in two places, of which the app reads one, and differently,
 * has a last requirement that is closed with AMBIGUOUS: 400, but only to a caller who may do the
 * rest. request->body_given must be true when the route inspects the body and the request has one.
 */
void pst_profile_extract(const struct pst_profile *profile, const struct pst_routed *routed,
                         const struct pst_request *request, struct pst_arena *arena,
                         struct pst_extracted *out);

#endif
