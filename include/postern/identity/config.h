/*
 * config.h - what an operator decides about tokens; filled by app/config, read by the verifier.
 *
 * Memory  Borrowed by pst_verifier_create, which copies what it needs.
 */
#ifndef POSTERN_IDENTITY_CONFIG_H
#define POSTERN_IDENTITY_CONFIG_H

#include "postern/base/bytes.h"
#include "postern/identity/alg.h"

enum pst_user_claim { PST_USER_SUB = 0, PST_USER_EMAIL, PST_USER_PREFERRED_USERNAME };
enum pst_missing_kid { PST_MISSING_KID_REFUSE = 0, PST_MISSING_KID_SINGLE };

struct pst_issuer_config {
    struct pst_bytes issuer;           /* compared byte for byte */
    const struct pst_bytes *audiences; /* at least one; a token must name one of them */
    uint32_t audiences_count;
    uint32_t algorithms;            /* of PST_ALG_BIT; 0: PST_ALGS_DEFAULT */
    enum pst_user_claim user_claim; /* e-mail counts only with email_verified true */
    bool email_unverified;          /* accept an e-mail without it */
    struct pst_bytes groups_claim;  /* empty: groups are not read */
};

struct pst_identity_config {
    const struct pst_issuer_config *issuers;
    uint32_t issuers_count;
    uint32_t leeway_s;        /* at most 60 */
    uint32_t max_lifetime_s;  /* bounds exp - iat and exp - now */
    uint32_t max_token_bytes; /* at most 65536 */
    uint32_t max_sub_bytes;
    uint32_t header_max_depth, header_max_members;
    const struct pst_bytes *typ; /* without application/; compared without case */
    uint32_t typ_count;
    bool typ_required;
    enum pst_missing_kid missing_kid;
};

/* The defaults of the configuration file, without issuers. */
static inline struct pst_identity_config pst_identity_config_default(void)
{
    static const struct pst_bytes typ[2] = {{.ptr = "JWT", .len = 3}, {.ptr = "at+jwt", .len = 6}};

    return (struct pst_identity_config){
        .leeway_s = 30,
        .max_lifetime_s = 86400,
        .max_token_bytes = 8192,
        .max_sub_bytes = 255,
        .header_max_depth = 8,
        .header_max_members = 32,
        .typ = typ,
        .typ_count = 2,
        .missing_kid = PST_MISSING_KID_SINGLE,
    };
}

#endif
