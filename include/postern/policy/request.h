/*
 * request.h - what a decision may look at of a request, whichever door it came through.
 *
 * Memory  All borrowed from the door for the length of the decision.
 */
#ifndef POSTERN_POLICY_REQUEST_H
#define POSTERN_POLICY_REQUEST_H

#include <stdint.h>

#include "postern/base/field.h"
#include "postern/base/oddity.h"

struct pst_request {
    struct pst_bytes method; /* upper-case token */
    struct pst_bytes host;   /* canonical, lower case, with a port only when it was sent */
    struct pst_bytes path;   /* canonical (H7): unreserved escapes decoded, begins with '/' */
    struct pst_bytes query;  /* as sent, without '?' */
    uint32_t oddities;       /* PST_ODD_* of the path */
    const struct pst_field *fields;
    uint32_t field_count;
    struct pst_bytes min_revision; /* to be decided at, or later; as sent, empty: none */
    bool has_body;                 /* the request announces a body (also of length 0: false) */
    bool is_upgrade;               /* asks for another protocol */
    bool body_given;               /* `body` is the whole body */
    struct pst_bytes body;
};

#endif
