/*
 * secret.h - bytes that must not be compared, kept or drawn carelessly.
 */
#ifndef POSTERN_BASE_SECRET_H
#define POSTERN_BASE_SECRET_H

#include "postern/base/bytes.h"
#include "postern/base/hash.h"
#include "postern/base/status.h"

/* Time depends on the lengths only. */
bool pst_secret_equal(struct pst_bytes a, struct pst_bytes b);
void pst_secret_wipe(void *ptr, size_t len);
/* From the operating system's generator; aborts when there is none (start-up cannot go on). */
void pst_random(void *out, size_t len);
struct pst_hash_key pst_random_hash_key(void);

/* HMAC-SHA256 of bytes that come piece by piece. */
#define PST_MAC_LEN     32
#define PST_MAC_KEY_LEN 32
struct pst_mac; /* opaque */

/* NULL: no memory. The key is copied. */
struct pst_mac *pst_mac_create(const unsigned char key[PST_MAC_KEY_LEN]);
void pst_mac_destroy(struct pst_mac *mac); /* accepts NULL */
void pst_mac_add(struct pst_mac *mac, struct pst_bytes bytes);
/* Once, at the end. False when any step failed: `out` is no MAC then. */
PST_MUST_USE bool pst_mac_end(struct pst_mac *mac, unsigned char out[PST_MAC_LEN]);

#endif
