/*
 * explain.h - a decision in words: what decided, or what is missing and how to get it.
 *
 * Cost     Cold: looks through roles to find who could be given what. Never on the path of an
 * allowed request.
 */
#ifndef POSTERN_POLICY_EXPLAIN_H
#define POSTERN_POLICY_EXPLAIN_H

#include "postern/base/buf.h"
#include "postern/policy/eval.h"

/* One to three lines for people, each closed by a line feed. */
void pst_explain_text(const struct pst_question *question, enum pst_verdict verdict,
                      const struct pst_eval_detail *detail, struct pst_buf *out);

/* One JSON object: {"decision","reason","text","advice","requirement":{...},"binding","role",
 * "permission","bit","missing":[...],"remedy"}; members that do not apply are left out. */
void pst_explain_json(const struct pst_question *question, enum pst_verdict verdict,
                      const struct pst_eval_detail *detail, struct pst_buf *out);

/* The remedy alone: the smallest change that would allow the request, one sentence without a line
 * feed; nothing when no grant could (a malformed request, a closed route). */
void pst_explain_remedy(const struct pst_question *question, const struct pst_eval_detail *detail,
                        struct pst_buf *out);

#endif
