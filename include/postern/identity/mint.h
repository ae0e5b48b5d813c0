/*
 * mint.h - making tokens and keys, and looking into a token without believing it. Cold code.
 *
 * Purpose  `postern token`, the own signing key of the embedded default, and tests.
 *
 * Memory   Texts are written into the caller's arena; private keys are read from the text given and
 *          freed within the call.
 */
#ifndef POSTERN_IDENTITY_MINT_H
#define POSTERN_IDENTITY_MINT_H

#include "postern/base/arena.h"
#include "postern/base/error.h"
#include "postern/identity/alg.h"

struct pst_mint_key {
    enum pst_alg alg;
    struct pst_bytes kid;    /* may be empty */
    struct pst_bytes pem;    /* private key; of HS*: unused */
    struct pst_bytes secret; /* of HS*: at least as long as the hash */
};

struct pst_mint_claims {
    struct pst_bytes issuer, subject, audience;
    int64_t iat_s, exp_s;           /* nbf is iat */
    struct pst_bytes jti;           /* empty: none */
    struct pst_bytes email;         /* empty: none; told as verified */
    const struct pst_bytes *groups; /* claim "groups"; none when the count is 0 */
    uint32_t groups_count;
    struct pst_bytes
        extra_json; /* empty, or an object whose members are added; they may not name the above */
};

/* Whether they can be written, before there is a key. */
PST_MUST_USE enum pst_status pst_mint_check(const struct pst_mint_claims *claims,
                                            struct pst_error *error);
PST_MUST_USE enum pst_status pst_mint_token(const struct pst_mint_key *key,
                                            const struct pst_mint_claims *claims,
                                            struct pst_arena *arena, struct pst_bytes *token,
                                            struct pst_error *error);
/* Signs this header and payload as they are: for tests of the verifier. */
PST_MUST_USE enum pst_status pst_mint_raw(const struct pst_mint_key *key, struct pst_bytes header,
                                          struct pst_bytes payload, struct pst_arena *arena,
                                          struct pst_bytes *token);

/* A new private key for `alg` as PEM (PKCS#8), and its public document, with a kid made of the
 * thumbprint. The caller writes the first with mode 0600. RS* and PS*: 2048 bits. */
PST_MUST_USE enum pst_status pst_mint_key_new(enum pst_alg alg, struct pst_arena *arena,
                                              struct pst_bytes *pem, struct pst_bytes *jwks,
                                              struct pst_bytes *kid, struct pst_error *error);
/* The public document (and kid) of a private key. kid_in empty: made of the thumbprint. */
PST_MUST_USE enum pst_status pst_mint_jwks(struct pst_bytes pem, enum pst_alg alg,
                                           struct pst_bytes kid_in, struct pst_arena *arena,
                                           struct pst_bytes *jwks, struct pst_bytes *kid,
                                           struct pst_error *error);

/* Header and payload of a token as indented JSON. Nothing is verified. */
PST_MUST_USE enum pst_status pst_mint_inspect(struct pst_bytes token, struct pst_arena *arena,
                                              struct pst_bytes *header, struct pst_bytes *payload,
                                              struct pst_error *error);

#endif
