/*
 * error.h - what went wrong, where, and what to do, for people.
 *
 * Purpose  Cold code (configuration, policy files, the command line, the store) fills one; hot code
 *          returns enums instead.  `where` is file:line:key, or empty.
 *
 * Memory   Fixed size, copied by value; overlong texts are cut.
 */
#ifndef POSTERN_BASE_ERROR_H
#define POSTERN_BASE_ERROR_H

#include "postern/base/status.h"

struct pst_error {
    enum pst_status status;
    char where[192];
    char message[384];
};

/* Fills *error (which may be NULL) and returns `status`, so that `return pst_error_set(...)` reads
 * well. `where` may be NULL. */
enum pst_status pst_error_set(struct pst_error *error, enum pst_status status, const char *where,
                              const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
