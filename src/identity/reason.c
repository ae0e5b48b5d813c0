#include "postern/identity/reason.h"

static const char *const names[PST_ID_REASONS] = {
    [PST_ID_MALFORMED] = "malformed",
    [PST_ID_TOO_LARGE] = "too_large",
    [PST_ID_ALG_NOT_ALLOWED] = "alg_not_allowed",
    [PST_ID_UNKNOWN_KID] = "unknown_kid",
    [PST_ID_KEY_TYPE_MISMATCH] = "key_type_mismatch",
    [PST_ID_KEY_ALG_MISMATCH] = "key_alg_mismatch",
    [PST_ID_KEY_ISSUER_MISMATCH] = "key_issuer_mismatch",
    [PST_ID_BAD_KEY] = "bad_key",
    [PST_ID_WEAK_KEY] = "weak_key",
    [PST_ID_BAD_SIGNATURE] = "bad_signature",
    [PST_ID_CRIT] = "crit",
    [PST_ID_TYP] = "typ",
    [PST_ID_TIME] = "time",
    [PST_ID_MISSING_CLAIM] = "missing_claim",
    [PST_ID_ISS] = "iss",
    [PST_ID_AUD] = "aud",
    [PST_ID_SUB] = "sub",
    [PST_ID_BINDING] = "binding",
    [PST_ID_UNKNOWN_USER] = "unknown_user",
    [PST_ID_USER_DISABLED] = "user_disabled",
    [PST_ID_REVOKED] = "revoked",
    [PST_ID_NO_CREDENTIAL] = "no_credential",
    [PST_ID_MALFORMED_CREDENTIAL] = "malformed_credential",
    [PST_ID_AMBIGUOUS_CREDENTIAL] = "ambiguous_credential",
    [PST_ID_KEYS_UNAVAILABLE] = "keys_unavailable",
};

const char *pst_identity_reason_name(enum pst_identity_reason reason)
{
    return (unsigned)reason < PST_ID_REASONS ? names[reason] : "unknown";
}
