#include "postern/base/status.h"

const char *pst_status_name(enum pst_status status)
{
    switch (status) { /* no default: -Wswitch reports a status left out */
    case PST_OK:
        return "ok";
    case PST_E_NOMEM:
        return "no-memory";
    case PST_E_INVALID:
        return "invalid";
    case PST_E_LIMIT:
        return "limit";
    case PST_E_ABSENT:
        return "absent";
    case PST_E_EXISTS:
        return "exists";
    case PST_E_IO:
        return "io";
    case PST_E_BUSY:
        return "busy";
    case PST_PENDING:
        return "pending";
    }
    return "unknown";
}
