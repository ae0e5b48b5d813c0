/*
 * access.h - the bits of a permission, the operations, the reasons of a decision.
 *
 * Bits 0-30 are Mage's with Mage's values, so that a Mage database imports without loss; from bit
 * 32 they are Postern's own.
 */
#ifndef POSTERN_POLICY_ACCESS_H
#define POSTERN_POLICY_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "postern/base/bytes.h"

#define PST_A_OWNER                 (UINT64_C(1) << 0)
#define PST_A_ADMIN                 (UINT64_C(1) << 1)
#define PST_A_EDITOR                (UINT64_C(1) << 2)
#define PST_A_VIEWER                (UINT64_C(1) << 3)
#define PST_A_LIST                  (UINT64_C(1) << 4)
#define PST_A_DETAIL                (UINT64_C(1) << 5)
#define PST_A_CREATE                (UINT64_C(1) << 6)
#define PST_A_UPDATE                (UINT64_C(1) << 7)
#define PST_A_DELETE                (UINT64_C(1) << 9)
#define PST_A_OPERATION_ALL         (UINT64_C(1) << 10)
#define PST_A_QUERY                 (UINT64_C(1) << 11)
#define PST_A_QUERY_ALL             (UINT64_C(1) << 12)
#define PST_A_READ                  (UINT64_C(1) << 13)
#define PST_A_READ_ALL              (UINT64_C(1) << 14)
#define PST_A_WRITE                 (UINT64_C(1) << 15)
#define PST_A_WRITE_ALL             (UINT64_C(1) << 16)
#define PST_A_ALL                   (UINT64_C(1) << 17)
#define PST_A_DISABLE_LIST          (UINT64_C(1) << 18)
#define PST_A_DISABLE_DETAIL        (UINT64_C(1) << 19)
#define PST_A_DISABLE_CREATE        (UINT64_C(1) << 20)
#define PST_A_DISABLE_UPDATE        (UINT64_C(1) << 21)
#define PST_A_DISABLE_DELETE        (UINT64_C(1) << 22)
#define PST_A_DISABLE_OPERATION_ALL (UINT64_C(1) << 23)
#define PST_A_DISABLE_QUERY         (UINT64_C(1) << 24)
#define PST_A_DISABLE_QUERY_ALL     (UINT64_C(1) << 25)
#define PST_A_DISABLE_READ          (UINT64_C(1) << 26)
#define PST_A_DISABLE_READ_ALL      (UINT64_C(1) << 27)
#define PST_A_DISABLE_WRITE         (UINT64_C(1) << 28)
#define PST_A_DISABLE_WRITE_ALL     (UINT64_C(1) << 29)
#define PST_A_UNLESS_CONDITIONS     (UINT64_C(1) << 30)
#define PST_A_USE                   (UINT64_C(1) << 32)
#define PST_A_MANAGE                (UINT64_C(1) << 33)
#define PST_A_DISABLE_USE           (UINT64_C(1) << 34)
#define PST_A_DISABLE_MANAGE        (UINT64_C(1) << 35)
#define PST_A_SPEAKS                (UINT64_C(1) << 36) /* MLflow NO_PERMISSIONS: a row that grants nothing */
#define PST_A_ATTRIBUTES_ONLY       (UINT64_C(1) << 37)
#define PST_A_KNOWN                 ((UINT64_C(1) << 38) - 1 - (UINT64_C(1) << 8) - (UINT64_C(1) << 31))

/* What is asked of a key. */
enum pst_op {
    PST_OP_NONE = 0, /* never granted */
    PST_OP_LIST,
    PST_OP_DETAIL,
    PST_OP_CREATE,
    PST_OP_UPDATE,
    PST_OP_DELETE,
    PST_OP_USE,
    PST_OP_MANAGE,
    PST_OP_NOT_DENIED, /* most-specific only: a pure veto (mlflow 3.6) */
    PST_OPS,
};

enum pst_attribute_kind { PST_ATTR_QUERY, PST_ATTR_WRITE, PST_ATTR_READ, PST_ATTR_KINDS };

/* Bits of conditions. */
#define PST_COND_NOTEBOOK_EDIT (1u << 0) /* HAS_NOTEBOOK_EDIT_ACCESS */
#define PST_COND_PIPELINE_EDIT (1u << 1) /* HAS_PIPELINE_EDIT_ACCESS */
#define PST_COND_OWNS_ENTITY   (1u << 2) /* USER_OWNS_ENTITY */

/* Zero denies: memory that nobody filled is a refusal. */
enum pst_verdict { PST_DENY = 0, PST_ALLOW = 1 };

/* Why. One list for engine, log, metrics and answers; the texts stand in one table (reason.c).
 * Client status: pst_reason_status. Add at the end of a group; the number is never stored. */
enum pst_reason {
    PST_R_INTERNAL = 0, /* 500 an error of Postern's own: always a refusal */
    /* allowed */
    PST_R_PUBLIC, /* the route asks nobody */
    PST_R_GRANTED,
    PST_R_OWNER,     /* OWNER bit, or MANAGE on the workspace */
    PST_R_LEVEL,     /* permissions are off and the level table allows */
    PST_R_AUTH_OFF,  /* authentication is switched off */
    PST_R_PREFLIGHT, /* CORS preflight passed on */
    /* the request itself */
    PST_R_BAD_REQUEST, /* 400 malformed in a way that no other reason names */
    PST_R_BAD_TARGET,  /* 400 path or query that readers could disagree on (H7) */
    PST_R_AMBIGUOUS,   /* 400 one value named twice, differently (H8) */
    PST_R_BAD_ID,      /* 400 an id that the app would fold to another, or no id where one is due */
    PST_R_BAD_BODY,    /* 400 body that is to be inspected is no JSON object, or has doubled keys */
    PST_R_BODY_TOO_LARGE, /* 413 */
    PST_R_BAD_WORKSPACE,  /* 400 no valid workspace name, or none given */
    PST_R_UNKNOWN_HOST,   /* 421 */
    PST_R_NO_ROUTE,       /* 404 */
    PST_R_METHOD,         /* 405 */
    PST_R_UPGRADE,        /* 403 upgrade to a protocol that is not passed on */
    PST_R_WORKSPACES_OFF, /* 500, as MLflow: a workspace is named, but the app is run without */
    /* identity */
    PST_R_NO_CREDENTIAL,    /* 401 */
    PST_R_BAD_CREDENTIAL,   /* 401 the token does not hold; the detail goes to the log only */
    PST_R_TWO_CREDENTIALS,  /* 400 */
    PST_R_KEYS_UNAVAILABLE, /* 503 no key set of that issuer could be had yet */
    PST_R_UNKNOWN_USER,     /* 403 */
    PST_R_USER_DISABLED,    /* 403 */
    /* policy */
    PST_R_UNKNOWN_WORKSPACE, /* 404 */
    PST_R_NOT_GRANTED,       /* 403 nothing speaks for it */
    PST_R_DENIED,            /* 403 a deny speaks against it */
    PST_R_ATTRIBUTE,         /* 403 the operation is granted, an attribute is not */
    PST_R_CONDITION,         /* 403 a condition of the only grants does not hold */
    PST_R_LEVEL_TOO_LOW,     /* 403 permissions are off and the level table refuses */
    PST_R_NEEDS_LOOKUP,      /* 403 the decision hangs on an upstream look-up */
    PST_R_NEEDS_FILTER,      /* 403 the answer would have to be filtered */
    PST_R_ADMIN_ONLY,        /* 403 */
    PST_R_OTHERS_ONLY,       /* 403 self or admin, and the caller is neither */
    PST_R_ROUTE_CLOSED,      /* 403 the profile refuses this route to everybody */
    /* freshness and faults */
    PST_R_STALE, /* 503 the lease is lost, or the revision that is asked for not reached */
    PST_R_UNKNOWN_REVISION, /* 412 the revision that is asked for is of another history */
    PST_R_UNAVAILABLE,      /* 503 facts could not be had in time */
    PST_R_OVERLOAD,         /* 503 */
    PST_R_DRAINING,         /* 503 */
    PST_R_UNTRUSTED_PEER,   /* 403 a door that only declared peers may ask */
    PST_REASONS,
};

/* A short constant name, such as "not-granted". Never NULL. */
const char *pst_reason_name(enum pst_reason reason);
/* One sentence for people: what it means. Never NULL. */
const char *pst_reason_text(enum pst_reason reason);
/* What to do about it, one sentence. Never NULL. */
const char *pst_reason_advice(enum pst_reason reason);
/* The HTTP status of the refusal; 200 for the allowing ones. */
unsigned pst_reason_status(enum pst_reason reason);

/* "list", "detail", ... Never NULL. */
const char *pst_op_name(enum pst_op op);
/* PST_OP_NONE when there is no such operation. */
enum pst_op pst_op_of(struct pst_bytes name);
/* One name of a bit ("OPERATION_ALL"), 0 when unknown; and the name of one bit, NULL when none. */
uint64_t pst_access_of(struct pst_bytes name);
const char *pst_access_name(uint64_t bit);

#endif
