/*
 * short.h - comparing short texts without a call. Private to this layer.
 *
 * Names and ids are a few words long: memcmp costs 20 instructions before it compares anything.
 */
#ifndef POSTERN_POLICY_SHORT_H
#define POSTERN_POLICY_SHORT_H

#include "postern/base/bytes.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline uint64_t pst_load_8(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t pst_load_4(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* The same as pst_bytes_equal: words, of which the last overlaps the one before. */
static inline bool pst_short_equal(struct pst_bytes a, struct pst_bytes b)
{
    size_t len = a.len, last;

    if (len != b.len)
        return false;
    if (len >= 8) {
        last = len - 8;
        for (size_t i = 0; i < last; i += 8)
            if (pst_load_8(a.ptr + i) != pst_load_8(b.ptr + i))
                return false;
        return pst_load_8(a.ptr + last) == pst_load_8(b.ptr + last);
    }
    if (len >= 4) {
        last = len - 4;
        return pst_load_4(a.ptr) == pst_load_4(b.ptr) &&
               pst_load_4(a.ptr + last) == pst_load_4(b.ptr + last);
    }
    return len == 0 || (a.ptr[0] == b.ptr[0] && a.ptr[len / 2] == b.ptr[len / 2] &&
                        a.ptr[len - 1] == b.ptr[len - 1]);
}

#ifdef __SSE2__
static inline __m128i pst_load_16(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline bool pst_equal_16_(const char *a, const char *b)
{
    return _mm_movemask_epi8(_mm_cmpeq_epi8(pst_load_16(a), pst_load_16(b))) == 0xffff;
}
#endif

/* The same of longer texts, such as ids: sixteen bytes at once. */
static inline bool pst_long_equal(struct pst_bytes a, struct pst_bytes b)
{
#ifdef __SSE2__
    if (a.len == b.len && a.len >= 16) {
        size_t last = a.len - 16;
        for (size_t i = 0; i < last; i += 16)
            if (!pst_equal_16_(a.ptr + i, b.ptr + i))
                return false;
        return pst_equal_16_(a.ptr + last, b.ptr + last);
    }
#endif
    return pst_short_equal(a, b);
}

#endif
