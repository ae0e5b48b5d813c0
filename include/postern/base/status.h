/*
 * status.h - why a call could not do what was asked.
 *
 * A status says whether the machinery worked; it never says whether a request
 * is allowed.  That answer is an enum pst_verdict (policy/verdict.h), whose zero
 * value is DENY.  No function returns both in one integer.
 */
#ifndef POSTERN_BASE_STATUS_H
#define POSTERN_BASE_STATUS_H

enum pst_status {
    PST_OK = 0,
    PST_E_NOMEM,   /* an allocation whose size depends on input or config failed */
    PST_E_INVALID, /* an argument or a file breaks a documented rule */
    PST_E_LIMIT,   /* a configured bound would be exceeded */
    PST_E_ABSENT,  /* what was named does not exist */
    PST_E_EXISTS,  /* what was to be made exists already */
    PST_E_IO,      /* a file, a socket or a database failed */
    PST_E_BUSY,    /* somebody else holds it; trying later may work */
    PST_PENDING,   /* not an error: the answer comes later, by callback */
};

/* On every function whose status matters: ignoring it is a compile error. */
#define PST_MUST_USE __attribute__((warn_unused_result))

/* A short constant name for logs, such as "limit".  Never NULL. */
const char *pst_status_name(enum pst_status status);

#endif
