/*
 * cli_check_internal.h - a request from the command line or a file, read by the real parser.
 */
#ifndef POSTERN_APP_CLI_CHECK_INTERNAL_H
#define POSTERN_APP_CLI_CHECK_INTERNAL_H

#include "cli_internal.h"

#include "postern/app/local.h"
#include "postern/app/site_build.h"

struct pst_check_request {
    struct pst_bytes method, target, host;
    const struct pst_bytes *lines; /* "Name: value" */
    uint32_t line_count;
    struct pst_bytes token, body;
};

/* What is refused before any decision: by the same code, and as every door answers it. */
struct pst_check_refusal {
    enum pst_reason reason;
    unsigned status; /* 0: it is not refused */
    const char *text;
};

/* *out borrows from the arena and from `in`, and is filled unless the request is refused. */
enum pst_status pst_check_parse(const struct pst_check_request *in, struct pst_arena *arena,
                                struct pst_request *out, struct pst_check_refusal *refusal,
                                struct pst_error *error);

#endif
