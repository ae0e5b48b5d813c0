/*
 * reason.h - why a credential was refused: the closed list that logs and metrics use.
 *
 * A caller over HTTP learns only "invalid_token"; the reason is for the operator. The zero value is
 * a refusal, like every zero of a type that can mean "no".
 */
#ifndef POSTERN_IDENTITY_REASON_H
#define POSTERN_IDENTITY_REASON_H

enum pst_identity_reason {
    PST_ID_MALFORMED = 0, /* structure, base64url, JSON, types, header members that are refused */
    PST_ID_TOO_LARGE,
    PST_ID_ALG_NOT_ALLOWED,
    PST_ID_UNKNOWN_KID,       /* no key of that kid at that issuer; no kid and several candidates */
    PST_ID_KEY_TYPE_MISMATCH, /* kty or crv does not fit alg */
    PST_ID_KEY_ALG_MISMATCH,  /* the key's own alg, use or key_ops forbids it */
    PST_ID_KEY_ISSUER_MISMATCH, /* the key belongs to another issuer */
    PST_ID_BAD_KEY,             /* key refused when it was loaded */
    PST_ID_WEAK_KEY,            /* the same: too short or known weak */
    PST_ID_BAD_SIGNATURE,
    PST_ID_CRIT,
    PST_ID_TYP,
    PST_ID_TIME, /* exp, nbf, iat, lifetime */
    PST_ID_MISSING_CLAIM,
    PST_ID_ISS,
    PST_ID_AUD,
    PST_ID_SUB,
    PST_ID_BINDING,      /* cnf without its proof */
    PST_ID_UNKNOWN_USER, /* from here to REVOKED: found by those who know the users */
    PST_ID_USER_DISABLED,
    PST_ID_REVOKED,
    PST_ID_NO_CREDENTIAL,
    PST_ID_MALFORMED_CREDENTIAL, /* the field that carries the token */
    PST_ID_AMBIGUOUS_CREDENTIAL, /* two credentials */
    PST_ID_KEYS_UNAVAILABLE,     /* no usable key set: 503, not 401 */
};

#define PST_ID_REASONS (PST_ID_KEYS_UNAVAILABLE + 1)

/* "bad_signature" and the like, for logs. Never NULL. */
const char *pst_identity_reason_name(enum pst_identity_reason reason);

#endif
