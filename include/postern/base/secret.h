/*
 * secret.h - bytes that must not be compared, kept or drawn carelessly.
 */
#ifndef POSTERN_BASE_SECRET_H
#define POSTERN_BASE_SECRET_H

#include "postern/base/bytes.h"
#include "postern/base/hash.h"

/* Time depends on the lengths only. */
bool pst_secret_equal(struct pst_bytes a, struct pst_bytes b);
void pst_secret_wipe(void *ptr, size_t len);
/* From the operating system's generator; aborts when there is none (start-up cannot go on). */
void pst_random(void *out, size_t len);
struct pst_hash_key pst_random_hash_key(void);

#endif
