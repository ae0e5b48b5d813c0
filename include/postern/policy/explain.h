/*
 * explain.h - a decision in words: what decided, or what is missing and how to get it.
 *
 * Remedy   All that has to change, and each other way was tried out on the whole request: a remedy
 *          that is followed allows the request. Only the ids of objects that nobody knows stay
 * open.
 *
 * Cost     Cold: asks the evaluator once for each step and each role. Never on the path of an
 *          allowed request.
 */
#ifndef POSTERN_POLICY_EXPLAIN_H
#define POSTERN_POLICY_EXPLAIN_H

#include "postern/base/buf.h"
#include "postern/policy/eval.h"

/* One to three lines for people, each closed by a line feed. */
void pst_explain_text(const struct pst_question *question, enum pst_verdict verdict,
                      const struct pst_eval_detail *detail, struct pst_buf *out);

/* One JSON object: {"decision","reason","text","advice","requirement":{...},"binding","role":{...},
 * "permission","on":{...},"bit","missing":[...],"remedy"}; members that do not apply are left out.
 * "on" is the entity and id of the permission. */
void pst_explain_json(const struct pst_question *question, enum pst_verdict verdict,
                      const struct pst_eval_detail *detail, struct pst_buf *out);

/* The remedy alone: the smallest change that would allow the request, one sentence without a line
 * feed; nothing when no change of the policy could (a malformed request, a closed route). */
void pst_explain_remedy(const struct pst_question *question, const struct pst_eval_detail *detail,
                        struct pst_buf *out);

#endif
