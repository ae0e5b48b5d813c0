/*
 * credential.h - finds the one token of a request (rule J8).
 *
 * Purpose  A token may stand in the Authorization field (scheme Bearer), in one named cookie, in
 * one other named field, or, when that is switched on, in the subprotocol list of a WebSocket
 *          handshake.  A request carries at most one: the same twice is as ambiguous as two.
 *          Query strings and bodies are never looked at.
 *
 * Memory   The token is a view into the fields.
 *
 * Threads  A pure function.
 */
#ifndef POSTERN_IDENTITY_CREDENTIAL_H
#define POSTERN_IDENTITY_CREDENTIAL_H

#include "postern/base/field.h"
#include "postern/identity/reason.h"

struct pst_credential_config {
    /* Empty: this source is off. */
    struct pst_bytes header; /* "Authorization": with a scheme; any other: the bare token */
    struct pst_bytes cookie;
    struct pst_bytes websocket_protocol; /* offered right before the token */
};

enum pst_credential_source {
    PST_CREDENTIAL_NONE = 0,
    PST_CREDENTIAL_HEADER,
    PST_CREDENTIAL_COOKIE,
    PST_CREDENTIAL_WEBSOCKET,
};

struct pst_credential {
    enum pst_credential_source source; /* NONE: see reason */
    enum pst_identity_reason reason;   /* NO_, MALFORMED_ or AMBIGUOUS_CREDENTIAL */
    struct pst_bytes token;
};

/* fields: all of the request, in their order. */
struct pst_credential pst_credential_find(const struct pst_credential_config *config,
                                          const struct pst_field *fields, size_t count);

/* In two steps, for callers that know most tokens already: the first finds the only credential
 * without looking at its characters, the second tells whether they are a token's. Whoever takes the
 * first without the second compares the token with one that passed it. */
struct pst_credential pst_credential_seek(const struct pst_credential_config *config,
                                          const struct pst_field *fields, size_t count);
bool pst_credential_is_token(struct pst_bytes token);

#endif
