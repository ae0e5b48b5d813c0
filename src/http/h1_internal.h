/*
 * h1_internal.h - what the reading of a head (h1.c) and its meaning (h1_meaning.c) share.
 */
#ifndef POSTERN_HTTP_H1_INTERNAL_H
#define POSTERN_HTTP_H1_INTERNAL_H

#include "postern/http/h1.h"

/* Those of the first line come first. */
enum state {
    S_START,
    S_START_LF,
    S_METHOD,
    S_TARGET,
    S_VERSION,
    S_R_STATUS,
    S_R_REASON,
    S_LINE_LF,
    S_LINE,
    S_NAME,
    S_VALUE,
    S_VALUE_LF,
    S_END_LF,
    S_DONE,
    S_FAILED,
};

/* Sets the fault. */
enum pst_h1_result pst_h1_fail_(struct pst_h1_parser *p, uint16_t status, const char *reason);

/* What a field with this id says to the parser, if it is one that says something. FAIL, or MORE. */
enum pst_h1_result pst_h1_take_known_(struct pst_h1_parser *p, struct pst_head *head,
                                      enum pst_field_id id, struct pst_bytes value);

/* The head is whole. DONE or FAIL. */
enum pst_h1_result pst_h1_finish_(struct pst_h1_parser *p, struct pst_head *head);

#endif
