/*
 * field.h - one HTTP field line (RFC 9110 5), as every door and the policy see it.
 */
#ifndef POSTERN_BASE_FIELD_H
#define POSTERN_BASE_FIELD_H

#include "postern/base/bytes.h"

struct pst_field {
    struct pst_bytes name;  /* a token, in the case it was sent in */
    struct pst_bytes value; /* OWS cut off; no CTL but HTAB */
};

#endif
