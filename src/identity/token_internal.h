/* token_internal.h - what verifying (token.c) and reading claims (claims.c) share. */
#ifndef POSTERN_IDENTITY_TOKEN_INTERNAL_H
#define POSTERN_IDENTITY_TOKEN_INTERNAL_H

#include <jansson.h>

#include "postern/identity/token.h"

struct pst_issuer {
    struct pst_bytes name;
    const struct pst_bytes *audiences;
    uint32_t audiences_count;
    uint32_t algorithms;
    enum pst_user_claim user_claim;
    bool email_unverified;
    const char *groups_claim; /* NULL: none */
    struct pst_keyslot *slot;
};

struct pst_verifier {
    struct pst_arena arena; /* holds the rest */
    uint64_t generation;
    uint32_t algorithms; /* of any issuer */
    uint32_t issuers_count;
    struct pst_issuer *issuers;
    uint32_t leeway_s, max_lifetime_s, max_token_bytes, max_sub_bytes;
    uint32_t header_max_depth, header_max_members;
    const struct pst_bytes *typ;
    uint32_t typ_count;
    bool typ_required;
    enum pst_missing_kid missing_kid;
};

/* Judges verified claims and copies what is kept into the arena. PST_OK with *good false: refused,
 * *reason says why. */
PST_MUST_USE enum pst_status pst_claims_read(const struct pst_verifier *verifier, uint32_t issuer,
                                             struct pst_bytes payload, int64_t now_s, struct pst_arena *arena,
                                             struct pst_claims *out, enum pst_identity_reason *reason, bool *good);

#endif
