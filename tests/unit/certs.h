/*
 * certs.h - an authority and what it signs, made by the openssl program.
 */
#ifndef POSTERN_TESTS_UNIT_CERTS_H
#define POSTERN_TESTS_UNIT_CERTS_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>

static inline void run_openssl(const char *dir, const char *arguments)
{
    char command[768];
    int n =
        snprintf(command, sizeof(command), "cd '%s' && openssl %s 2>>openssl.log", dir, arguments);

    assert_true(n > 0 && (size_t)n < sizeof(command));
    if (system(command) != 0)
        fail_msg("failed (is the Debian package openssl installed?): %s", command);
}

/* NAME.pem and NAME.key in `dir`. */
static inline void make_authority(const char *dir, const char *name)
{
    char arguments[512];

    (void)snprintf(arguments, sizeof(arguments),
                   "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
                   "-subj '/CN=%s' -keyout %s.key -out %s.pem",
                   name, name, name);
    run_openssl(dir, arguments);
}

/* Signed by `authority`, for `names` such as DNS:localhost,IP:127.0.0.1; days may be negative. */
static inline void make_certificate(const char *dir, const char *authority, const char *name,
                                    const char *names, int days)
{
    char arguments[512], path[128];

    (void)snprintf(path, sizeof(path), "%s/%s.ext", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "subjectAltName=%s\n", names);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(arguments, sizeof(arguments),
                   "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=%s' "
                   "-keyout %s.key -out %s.csr",
                   name, name, name);
    run_openssl(dir, arguments);
    (void)snprintf(arguments, sizeof(arguments),
                   "x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days %d "
                   "-extfile %s.ext -out %s.pem",
                   name, authority, authority, days, name, name);
    run_openssl(dir, arguments);
}

#endif
