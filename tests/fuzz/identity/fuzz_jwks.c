/* fuzz_jwks - any bytes as a key set document, as a PEM file, and as what a JWKS URL answers. */
#include <stdlib.h>

#include "postern/identity/jwks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_set(const struct pst_keyset *set)
{
    enum pst_identity_reason reason;
    bool usable = false;

    for (uint32_t i = 0; i < pst_keyset_count(set); i++) {
        const struct pst_key *key = pst_keyset_at(set, i);
        uint32_t algs = pst_key_algs(key);
        if ((algs & ~pst_key_type_algs(key)) != 0 || (pst_key_refused(key, &reason) && algs != 0) ||
            (algs & PST_ALGS_HS) != 0)
            abort();
        usable = usable || algs != 0;
        /* a kid that verifies is the only one of its name */
        if (algs != 0 && pst_key_kid(key).len > 0 && pst_keyset_find(set, pst_key_kid(key)) != key)
            abort();
    }
    if (!usable)
        abort();
}

static void ignore_fetch(void *ctx, const struct pst_jwks_request *request)
{
    (void)ctx;
    (void)request;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_bytes bytes = pst_bytes_of(data, size);
    struct pst_keyset_report report;
    struct pst_keyset *set;
    struct pst_jwks_limits limits = pst_jwks_limits_default();
    struct pst_jwks_ops ops = {.fetch = ignore_fetch};
    struct pst_keyslot *slot;
    struct pst_jwks *jwks;
    size_t line = pst_bytes_find(bytes, '\n');

    if (pst_keyset_from_jwks(bytes, &set, &report, NULL) == PST_OK) {
        check_set(set);
        pst_keyset_release(set);
    }
    /* OpenSSL's decoders take milliseconds to say no: only what looks like PEM is shown to them. */
    if (pst_bytes_starts(bytes, PST_LIT("-----")) &&
        pst_keyset_from_pem(bytes, PST_LIT("k"), PST_ALG_UNKNOWN, &set, NULL) == PST_OK) {
        check_set(set);
        pst_keyset_release(set);
    }
    (void)pst_jwks_url_ok(bytes);

    struct pst_jwks_source source = {.url = PST_LIT("https://x/")};
    if (pst_keyslot_create(&slot) != PST_OK)
        abort();
    source.slot = slot;
    if (pst_jwks_create(&limits, &source, 1, &ops, &jwks, NULL) != PST_OK)
        abort();
    uint64_t next_ns = pst_jwks_tick(jwks, 0);
    struct pst_jwks_answer answer = {.http_status = 200,
                                     .body = bytes,
                                     .etag = bytes,
                                     .cache_control = pst_bytes_of(bytes.ptr, line)};
    pst_jwks_fetched(jwks, 0, &answer, 0);
    next_ns = pst_jwks_tick(jwks, 0);
    if (next_ns == 0 || next_ns > UINT64_C(3600) * 1000000000)
        abort();
    pst_jwks_destroy(jwks);
    pst_keyslot_destroy(slot);
    return 0;
}
