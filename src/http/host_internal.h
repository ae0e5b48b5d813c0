/*
 * host_internal.h - the hosts that need no reading.
 */
#ifndef POSTERN_HTTP_HOST_INTERNAL_H
#define POSTERN_HTTP_HOST_INTERNAL_H

#include "chars_internal.h"

#include "postern/http/host.h"

#ifdef __SSE2__
/* A short name in small letters without a port is canonical as it stands: most are such. */
static inline bool is_canonical_host(struct pst_bytes raw)
{
    struct ordinary o = find_ordinary(raw, _mm_set1_epi8('.'), _mm_setzero_si128());
    uint64_t all = (UINT64_C(1) << (raw.len & 63)) - 1;

    return raw.len > 0 && raw.len < 64 && (o.good & all) == all &&
           (o.separators & (o.separators << 1 | 1 | UINT64_C(1) << (raw.len - 1))) == 0;
}
#else
static inline bool is_canonical_host(struct pst_bytes raw)
{
    (void)raw;
    return false;
}
#endif

#endif
