#include "postern/base/error.h"

#include <stdarg.h>
#include <stdio.h>

enum pst_status pst_error_set(struct pst_error *error, enum pst_status status, const char *where,
                              const char *format, ...)
{
    if (error == NULL)
        return status;

    va_list args;
    va_start(args, format);
    error->status = status;
    (void)snprintf(error->where, sizeof(error->where), "%s", where == NULL ? "" : where);
    (void)vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    return status;
}
