/*
 * words.h - the words that explanations and remedies share. Private to this layer.
 */
#ifndef POSTERN_POLICY_WORDS_H
#define POSTERN_POLICY_WORDS_H

#include "judge.h"
#include "postern/base/buf.h"

/* NULL: the detail names none. */
const struct pst_requirement *pst_word_requirement(const struct pst_question *question,
                                                   const struct pst_eval_detail *detail);
const struct pst_key *pst_word_key(const struct pst_question *question,
                                   const struct pst_eval_detail *detail);

/* Where a permission stands: declarations have no numbers. */
struct pst_named_row {
    struct pst_bytes entity, id;
    bool has_id;
};
/* False when the role does not have the permission any more, or it is a built-in one. */
bool pst_word_row(const struct pst_question *question, const struct pst_eval_detail *detail,
                  struct pst_named_row *row);

void pst_word(struct pst_buf *out, const char *text);
/* Pipeline/p1, or Pipeline */
void pst_word_object(struct pst_buf *out, const struct pst_key *key);
/* role "a" of workspace blue */
void pst_word_role(struct pst_buf *out, const struct pst_question *question, uint32_t id);
/* permission 7 on Pipeline/p1 */
void pst_word_permission(struct pst_buf *out, const struct pst_question *question,
                         const struct pst_eval_detail *detail);
void pst_word_bits(struct pst_buf *out, uint64_t bits, const char *between);
/* " in workspace blue" */
void pst_word_place(struct pst_buf *out, const struct pst_question *question);

#endif
