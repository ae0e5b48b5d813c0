/*
 * The texts of a decision. Order and completeness are checked by tests/unit/policy/test_access.c:
 * a reason without a row would read "internal".
 */
#include "postern/policy/access.h"

struct reason {
    unsigned status;
    const char *name, *text, *advice;
};

static const struct reason REASONS[PST_REASONS] = {
    [PST_R_INTERNAL] = {500, "internal", "Postern met an error of its own and refused.",
                        "Try again; if it stays, give the decision id to whoever runs Postern."},
    [PST_R_PUBLIC] = {200, "public", "The route is open to everybody.", "Nothing to do."},
    [PST_R_GRANTED] = {200, "granted", "A permission grants it.", "Nothing to do."},
    [PST_R_OWNER] = {200, "owner", "The caller owns it, or manages the workspace.",
                     "Nothing to do."},
    [PST_R_LEVEL] = {200, "level", "Permissions are switched off and the caller's level is enough.",
                     "Nothing to do."},
    [PST_R_AUTH_OFF] = {200, "auth-off", "Authentication is switched off.",
                        "Switch authentication on before anybody else can reach this address."},
    [PST_R_PREFLIGHT] = {200, "preflight", "A CORS preflight is passed on.", "Nothing to do."},
    [PST_R_BAD_REQUEST] = {400, "bad-request", "The request is malformed.",
                           "Send a well-formed HTTP request."},
    [PST_R_BAD_TARGET] =
        {400, "bad-target", "The path or query could be read in more than one way.",
         "Send the path without dot segments, doubled, encoded or trailing slashes "
         "and control characters."},
    [PST_R_AMBIGUOUS] = {400, "ambiguous", "One value is given more than once, differently.",
                         "Give it once, or the same each time."},
    [PST_R_BAD_ID] = {400, "bad-id",
                      "An id is missing, or is one that the app would take for another.",
                      "Name the object by its exact id."},
    [PST_R_BAD_BODY] = {400, "bad-body",
                        "The body has to be a JSON object in which no key stands twice.",
                        "Send one JSON object with Content-Type application/json."},
    [PST_R_BODY_TOO_LARGE] =
        {413, "body-too-large", "The body is larger than what may be inspected.",
         "Send less in one request, or have limits.inspect_body_bytes raised."},
    [PST_R_BAD_WORKSPACE] = {400, "bad-workspace", "No valid workspace name is given.",
                             "Name the workspace where the route expects it: lower-case letters, "
                             "digits and hyphens."},
    [PST_R_UNKNOWN_HOST] = {421, "unknown-host", "This host name is not served here.",
                            "Use the host name of the configured mount."},
    [PST_R_NO_ROUTE] = {404, "no-route", "No route of the profile matches the path.",
                        "Check the path; if the app has this route, add it to the profile."},
    [PST_R_METHOD] = {405, "method", "The route does not take this method.",
                      "Use a method that Allow names."},
    [PST_R_UPGRADE] = {403, "upgrade", "Upgrades to this protocol are not passed on.",
                       "Use the app's HTTP interface."},
    [PST_R_WORKSPACES_OFF] = {500, "workspaces-off",
                              "A workspace is named, but this app is run without workspaces.",
                              "Leave the workspace out, or switch workspaces on."},
    [PST_R_NO_CREDENTIAL] = {401, "no-credential", "The request carries no credential.",
                             "Sign in and send the token, usually as Authorization: Bearer."},
    [PST_R_BAD_CREDENTIAL] = {401, "bad-credential", "The credential does not hold.",
                              "Get a new token; the log tells what is wrong with this one."},
    [PST_R_TWO_CREDENTIALS] = {400, "two-credentials", "More than one credential is given.",
                               "Send exactly one token, in one place."},
    [PST_R_KEYS_UNAVAILABLE] = {503, "keys-unavailable",
                                "The signing keys of the token's issuer could not be had yet.",
                                "Try again in a moment."},
    [PST_R_UNKNOWN_USER] = {403, "unknown-user", "The token is valid, its user is not known here.",
                            "Ask an administrator to add the user."},
    [PST_R_USER_DISABLED] = {403, "user-disabled", "The user is disabled.",
                             "Ask an administrator to enable the user."},
    [PST_R_UNKNOWN_WORKSPACE] = {404, "unknown-workspace", "There is no such workspace.",
                                 "Check the workspace name."},
    [PST_R_NOT_GRANTED] = {403, "not-granted", "No permission of the caller grants it.",
                           "Ask for a role that grants it in this workspace."},
    [PST_R_DENIED] = {403, "denied", "A permission of the caller denies it.",
                      "Ask an administrator to lift the deny; a further grant does not help."},
    [PST_R_ATTRIBUTE] = {403, "attribute",
                         "The operation is granted, one of the attributes it touches is not.",
                         "Leave the attribute out, or ask for a permission that lists it."},
    [PST_R_CONDITION] = {403, "condition", "The only grants have a condition that does not hold.",
                         "Meet the condition, or ask for a grant without it."},
    [PST_R_LEVEL_TOO_LOW] = {403, "level-too-low",
                             "Permissions are switched off and the caller's level is too low.",
                             "Ask for a higher level."},
    [PST_R_NEEDS_LOOKUP] =
        {403, "needs-lookup", "The decision hangs on what the app knows about the object.",
         "Ask for a grant on all objects of the kind, or name the object itself."},
    [PST_R_NEEDS_FILTER] = {403, "needs-filter", "The answer would have to be filtered.",
                            "Ask for a grant on all objects of the kind, or ask for one object."},
    [PST_R_ADMIN_ONLY] = {403, "admin-only", "Administrators only.",
                          "Ask an administrator to do it."},
    [PST_R_OTHERS_ONLY] = {403, "others-only", "Only for the user itself or an administrator.",
                           "Use your own user name, or ask an administrator."},
    [PST_R_ROUTE_CLOSED] = {403, "route-closed", "The profile refuses this to everybody.",
                            "Use another route of the app."},
    [PST_R_STALE] = {503, "stale", "Postern cannot prove that what it knows is current.",
                     "Try again in a moment."},
    [PST_R_UNKNOWN_REVISION] = {412, "unknown-revision",
                                "The revision asked for belongs to another history of the policy.",
                                "Forget the revision, and look at what there is now."},
    [PST_R_UNAVAILABLE] = {503, "unavailable", "What the decision needs could not be had in time.",
                           "Try again in a moment."},
    [PST_R_OVERLOAD] = {503, "overload", "Postern is at its limits.", "Try again in a moment."},
    [PST_R_DRAINING] = {503, "draining", "This node is shutting down.", "Try again."},
    [PST_R_UNTRUSTED_PEER] = {403, "untrusted-peer", "This address answers declared peers only.",
                              "Declare the peer in trusted_peers of the listener."},
};

static const struct reason *reason_of(enum pst_reason reason)
{
    bool known = (unsigned)reason < PST_REASONS && REASONS[reason].name != NULL;

    return &REASONS[known ? reason : PST_R_INTERNAL];
}

const char *pst_reason_name(enum pst_reason reason)
{
    return reason_of(reason)->name;
}

const char *pst_reason_text(enum pst_reason reason)
{
    return reason_of(reason)->text;
}

const char *pst_reason_advice(enum pst_reason reason)
{
    return reason_of(reason)->advice;
}

unsigned pst_reason_status(enum pst_reason reason)
{
    return reason_of(reason)->status;
}
