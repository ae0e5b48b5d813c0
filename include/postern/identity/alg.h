/*
 * alg.h - the signature algorithms of JWS that exist here. `none` is not among them.
 */
#ifndef POSTERN_IDENTITY_ALG_H
#define POSTERN_IDENTITY_ALG_H

#include <stdint.h>

#include "postern/base/bytes.h"

enum pst_alg {
    PST_ALG_UNKNOWN = 0, /* fits no key, is in no allow-list */
    PST_ALG_RS256,
    PST_ALG_RS384,
    PST_ALG_RS512,
    PST_ALG_PS256,
    PST_ALG_PS384,
    PST_ALG_PS512,
    PST_ALG_ES256,
    PST_ALG_ES384,
    PST_ALG_ES512,
    PST_ALG_EDDSA, /* Ed25519 only */
    PST_ALG_HS256,
    PST_ALG_HS384,
    PST_ALG_HS512,
};

/* A set of algorithms is a uint32_t of these bits. */
#define PST_ALG_BIT(alg) (UINT32_C(1) << (alg))

#define PST_ALGS_RSA                                                                               \
    (PST_ALG_BIT(PST_ALG_RS256) | PST_ALG_BIT(PST_ALG_RS384) | PST_ALG_BIT(PST_ALG_RS512) |        \
     PST_ALG_BIT(PST_ALG_PS256) | PST_ALG_BIT(PST_ALG_PS384) | PST_ALG_BIT(PST_ALG_PS512))
#define PST_ALGS_HS                                                                                \
    (PST_ALG_BIT(PST_ALG_HS256) | PST_ALG_BIT(PST_ALG_HS384) | PST_ALG_BIT(PST_ALG_HS512))
/* What an issuer allows unless it says otherwise. */
#define PST_ALGS_DEFAULT                                                                           \
    (PST_ALG_BIT(PST_ALG_RS256) | PST_ALG_BIT(PST_ALG_PS256) | PST_ALG_BIT(PST_ALG_ES256) |        \
     PST_ALG_BIT(PST_ALG_EDDSA))

static inline bool pst_alg_in(uint32_t set, enum pst_alg alg)
{
    return alg != PST_ALG_UNKNOWN && (set & PST_ALG_BIT(alg)) != 0;
}

/* By its exact name; PST_ALG_UNKNOWN for everything else, "none" included. */
enum pst_alg pst_alg_find(struct pst_bytes name);
/* "RS256"; "unknown" for PST_ALG_UNKNOWN. */
const char *pst_alg_name(enum pst_alg alg);
/* Bytes of the hash that the algorithm takes: 32, 48 or 64 (Ed25519: 64). */
unsigned pst_alg_hash_bytes(enum pst_alg alg);

#endif
