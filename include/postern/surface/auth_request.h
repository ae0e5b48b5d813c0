/*
 * auth_request.h - the dialect of nginx's auth_request.
 *
 * Purpose   Reads the original request out of the check, and writes the answer that nginx
 * understands: 200 lets pass, 401 and 403 refuse, and none of them ever has a body (with one, nginx
 * opens a new connection for every check).
 *
 * Trust     The original target and method stand in one configured field each, which only nginx may
 * have written: a peer that is not declared gets 403 and learns nothing.  Other fields that name a
 *           target are not looked at.  With the name X-Original-URL the value is an absolute URL,
 * and its authority is the host that is asked for; with any other name it is a path.
 *
 * Status    What the request did wrong (4xx; 501 and 505: method, version) becomes 403, because
 * nginx turns everything but 2xx, 401 and 403 into 500; the status that it stands for is in
 * X-Postern-Status. When Postern cannot decide (5xx) the answer is 503, so that nginx says 500 and
 * not "forbidden".
 *
 * Memory    Borrowed from the check and its arena.
 *
 * Use       The functions fit struct pst_door of the connection code: self is the struct.
 */
#ifndef POSTERN_SURFACE_AUTH_REQUEST_H
#define POSTERN_SURFACE_AUTH_REQUEST_H

#include "postern/authz/engine.h"
#include "postern/http/host.h"
#include "postern/http/message.h"

struct pst_auth_request {
    struct pst_bytes path;        /* "/_postern/auth" */
    struct pst_bytes target_from; /* "X-Original-URI" */
    struct pst_bytes method_from; /* "X-Original-Method" */
    enum pst_field_id target_id;  /* of target_from; PST_FIELD_OTHER if it has none */
    enum pst_field_id method_id;  /* of method_from */
    /* Names of the fields of an answer 200; an empty one is not sent. */
    struct pst_bytes user, roles, workspace, decision_id, revision;
};

/* PST_R_INTERNAL (0): *out is to be decided; else the reason to refuse. */
enum pst_reason pst_auth_request_read(const void *self, const struct pst_head *head,
                                      const struct pst_host *host, bool trusted,
                                      struct pst_arena *arena, struct pst_request *out);
/* The status, and the field lines to `fields`. */
unsigned pst_auth_request_answer(const void *self, const struct pst_decision *decision,
                                 struct pst_buf *fields);

#endif
