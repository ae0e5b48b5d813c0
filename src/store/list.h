/*
 * list.h - the lists in text columns: JSON arrays of strings without blanks and without escapes.
 *
 * The store writes them and refuses names that would need an escape, so reading is a scan that
 * copies nothing.  Anything else in such a column is an error, never a guess.
 */
#ifndef POSTERN_STORE_LIST_H
#define POSTERN_STORE_LIST_H

#include "postern/base/bytes.h"

/* The next element, or false at the end or at a fault: *at is empty at a proper end. Start with the
 * whole text in *at. */
bool pst_text_list_next(struct pst_bytes *at, struct pst_bytes *item);

/* Fills at most `max` items. False when the text is no such list or holds more. */
bool pst_list_read(struct pst_bytes text, struct pst_bytes *items, uint32_t max, uint32_t *count);

#endif
