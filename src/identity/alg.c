#include "postern/identity/alg.h"

struct row {
    const char *name;
    unsigned hash_bytes;
};

static const struct row rows[] = {
    [PST_ALG_UNKNOWN] = {"unknown", 0}, [PST_ALG_RS256] = {"RS256", 32},
    [PST_ALG_RS384] = {"RS384", 48},    [PST_ALG_RS512] = {"RS512", 64},
    [PST_ALG_PS256] = {"PS256", 32},    [PST_ALG_PS384] = {"PS384", 48},
    [PST_ALG_PS512] = {"PS512", 64},    [PST_ALG_ES256] = {"ES256", 32},
    [PST_ALG_ES384] = {"ES384", 48},    [PST_ALG_ES512] = {"ES512", 64},
    [PST_ALG_EDDSA] = {"EdDSA", 64},    [PST_ALG_HS256] = {"HS256", 32},
    [PST_ALG_HS384] = {"HS384", 48},    [PST_ALG_HS512] = {"HS512", 64},
};

enum pst_alg pst_alg_find(struct pst_bytes name)
{
    for (unsigned i = PST_ALG_RS256; i <= PST_ALG_HS512; i++) /* all names have five letters */
        if (name.len == 5 && memcmp(name.ptr, rows[i].name, 5) == 0)
            return (enum pst_alg)i;
    return PST_ALG_UNKNOWN;
}

const char *pst_alg_name(enum pst_alg alg)
{
    return rows[(unsigned)alg <= PST_ALG_HS512 ? alg : PST_ALG_UNKNOWN].name;
}

unsigned pst_alg_hash_bytes(enum pst_alg alg)
{
    return rows[(unsigned)alg <= PST_ALG_HS512 ? alg : PST_ALG_UNKNOWN].hash_bytes;
}
