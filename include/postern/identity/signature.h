/*
 * signature.h - does this signature hold under this key? Nothing else.
 *
 * The caller has chosen key and algorithm, and the algorithm is among the key's (checked again
 * here). Signatures have their exact length: RSA that of the modulus, ECDSA r and s of the curve's
 * width (RFC 7518 3.4), Ed25519 64 bytes, HMAC that of the hash. HMAC is compared in constant time.
 *
 * Threads  A pst_signature and the pst_key_use of each key belong to one thread; keys are shared.
 *
 * Cost     RS256 (2048) about 17 us, ES256 about 60 us. The OpenSSL contexts are kept between
 * calls: setting one up costs more than the hash of a token.
 */
#ifndef POSTERN_IDENTITY_SIGNATURE_H
#define POSTERN_IDENTITY_SIGNATURE_H

#include "postern/identity/keyset.h"

struct pst_signature; /* opaque: a thread's hash contexts */

/* The kept context of one key in one thread; zero it before the first use. */
struct pst_key_use {
    void *ctx_;
    enum pst_alg alg_;
};

PST_MUST_USE enum pst_status pst_signature_create(struct pst_signature **out);
void pst_signature_destroy(struct pst_signature *signature);
void pst_key_use_fini(struct pst_key_use *use);

/* False for everything that is not a valid signature, an algorithm that the key may not verify and
 * memory shortage among them. */
PST_MUST_USE bool pst_signature_holds(struct pst_signature *signature, const struct pst_key *key,
                                      struct pst_key_use *use, enum pst_alg alg,
                                      struct pst_bytes message, struct pst_bytes sig);

#endif
