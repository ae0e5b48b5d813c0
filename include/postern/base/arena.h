/*
 * arena.h - memory that lives as long as one request, given back all at once.
 *
 * Purpose  Everything a request needs beyond its connection comes from here, so that nothing leaks
 *          and nothing is freed piece by piece.
 *
 * Memory   A list of chunks.  reset keeps the first one and frees the rest, so that a steady load
 *          allocates nothing.  `limit` bounds the sum: past it alloc returns NULL.
 *
 * Threads  None: one owner.
 *
 * Failure  NULL when the limit or the machine's memory is reached; the request ends with 503.
 */
#ifndef POSTERN_BASE_ARENA_H
#define POSTERN_BASE_ARENA_H

#include <stdalign.h>
#include <stddef.h>

#include "postern/base/bytes.h"
#include "postern/base/status.h"

struct pst_arena_chunk;

struct pst_arena {
    struct pst_arena_chunk *chunks_; /* newest first; the last one is kept by reset */
    char *at_, *end_;                /* free part of the newest chunk */
    size_t chunk_size_, used_, limit_;
};

/* chunk_size: bytes taken at a time (>= 256). limit: bytes in all. Nothing is allocated yet. */
void pst_arena_init(struct pst_arena *arena, size_t chunk_size, size_t limit);
void pst_arena_fini(struct pst_arena *arena);
void pst_arena_reset(struct pst_arena *arena);

#define PST_ARENA_ALIGN_ (alignof(max_align_t))

/* The same when the newest chunk has no room. */
void *pst_arena_alloc_slow_(struct pst_arena *arena, size_t size);

/* Aligned for any type, not cleared. NULL at the limit. size 0 gives a valid pointer. */
static inline void *pst_arena_alloc(struct pst_arena *arena, size_t size)
{
    size_t left =
        (size_t)(arena->end_ - arena->at_); /* a multiple of the alignment, or the end of a chunk */

    if (size == 0 || size > left || left - size < PST_ARENA_ALIGN_)
        return pst_arena_alloc_slow_(arena, size);
    void *out = arena->at_;
    arena->at_ += (size + PST_ARENA_ALIGN_ - 1) / PST_ARENA_ALIGN_ * PST_ARENA_ALIGN_;
    return out;
}
/* The same, cleared. */
static inline void *pst_arena_zalloc(struct pst_arena *arena, size_t size)
{
    void *out = pst_arena_alloc(arena, size);

    if (out != NULL)
        memset(out, 0, size);
    return out;
}
/* count * size with an overflow check, cleared. */
void *pst_arena_array(struct pst_arena *arena, size_t count, size_t size);

/* A copy in the arena, followed by a NUL that the length does not count. */
PST_MUST_USE enum pst_status pst_arena_copy(struct pst_arena *arena, struct pst_bytes bytes,
                                            struct pst_bytes *out);
/* printf into the arena; empty bytes when it does not fit. Cold paths only. */
struct pst_bytes pst_arena_printf(struct pst_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
