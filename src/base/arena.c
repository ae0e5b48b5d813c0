#include "postern/base/arena.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct pst_arena_chunk {
    struct pst_arena_chunk *older;
    size_t size; /* of data */
    alignas(max_align_t) char data[];
};

#define ALIGN PST_ARENA_ALIGN_

void pst_arena_init(struct pst_arena *arena, size_t chunk_size, size_t limit)
{
    *arena = (struct pst_arena){.chunk_size_ = chunk_size, .limit_ = limit};
}

static void enter_chunk(struct pst_arena *arena, struct pst_arena_chunk *chunk)
{
    arena->chunks_ = chunk;
    arena->at_ = chunk == NULL ? NULL : chunk->data;
    arena->end_ = chunk == NULL ? NULL : chunk->data + chunk->size;
}

void pst_arena_reset(struct pst_arena *arena)
{
    struct pst_arena_chunk *chunk = arena->chunks_;

    while (chunk != NULL && chunk->older != NULL) {
        struct pst_arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    enter_chunk(arena, chunk);
    arena->used_ = chunk == NULL ? 0 : chunk->size;
}

void pst_arena_fini(struct pst_arena *arena)
{
    pst_arena_reset(arena);
    free(arena->chunks_);
    enter_chunk(arena, NULL);
    arena->used_ = 0;
}

static bool grow(struct pst_arena *arena, size_t size)
{
    size_t want = size > arena->chunk_size_ ? size : arena->chunk_size_;

    if (want > arena->limit_ - arena->used_) { /* used_ never passes limit_ */
        want = size;
        if (want > arena->limit_ - arena->used_)
            return false;
    }
    struct pst_arena_chunk *chunk = malloc(sizeof(*chunk) + want);
    if (chunk == NULL)
        return false;
    chunk->older = arena->chunks_;
    chunk->size = want;
    arena->used_ += want;
    enter_chunk(arena, chunk);
    return true;
}

void *pst_arena_alloc_slow_(struct pst_arena *arena, size_t size)
{
    if (size > SIZE_MAX - ALIGN)
        return NULL;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (size == 0)
        size = ALIGN;
    if (size > (size_t)(arena->end_ - arena->at_) && !grow(arena, size))
        return NULL;

    void *out = arena->at_;
    arena->at_ += size;
    return out;
}

void *pst_arena_array(struct pst_arena *arena, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return pst_arena_zalloc(arena, total);
}

enum pst_status pst_arena_copy(struct pst_arena *arena, struct pst_bytes bytes,
                               struct pst_bytes *out)
{
    *out = (struct pst_bytes){0};
    if (bytes.len == SIZE_MAX)
        return PST_E_LIMIT;
    char *copy = pst_arena_alloc(arena, bytes.len + 1);
    if (copy == NULL)
        return PST_E_NOMEM;
    if (bytes.len > 0)
        memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = '\0';
    *out = pst_bytes_of(copy, bytes.len);
    return PST_OK;
}

struct pst_bytes pst_arena_printf(struct pst_arena *arena, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);

    char *text = len < 0 ? NULL : pst_arena_alloc(arena, (size_t)len + 1);
    if (text == NULL)
        return (struct pst_bytes){0};
    va_start(args, format);
    (void)vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return pst_bytes_of(text, (size_t)len);
}
