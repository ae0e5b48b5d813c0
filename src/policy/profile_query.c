/*
 * profile_query.c - the query string, read so that no other reader can read it differently unseen.
 *
 * Pairs are split at '&' and at ';'. Readers disagree about ';', so a pair beside one is marked,
 * and a key that the profile reads is refused when it stands in such a pair. "name[]" is "name".
 */
#include "profile_internal.h"

/* How many pieces there may be; *escaped: some byte stands for another. */
static uint32_t count_pieces(struct pst_bytes query, bool *escaped)
{
    uint32_t count = 1;

    *escaped = false;
    for (size_t i = 0; i < query.len; i++) {
        char c = query.ptr[i];
        if (c > ';') /* nearly all */
            continue;
        count += c == '&' || c == ';';
        *escaped = *escaped || c == '%' || c == '+';
    }
    return count;
}

static size_t piece_end(struct pst_bytes query, size_t at)
{
    while (at < query.len && query.ptr[at] != '&' && query.ptr[at] != ';')
        at++;
    return at;
}

static enum pst_status read_pair(struct pst_arena *arena, struct pst_bytes piece, bool escaped,
                                 struct profile_pair *pair)
{
    size_t eq = pst_bytes_find(piece, '=');
    enum pst_status status = PST_OK;

    pair->whole = pst_bytes_of(piece.ptr, eq);
    pair->value = eq == piece.len ? pst_bytes_of("", 0) : pst_bytes_from(piece, eq + 1);
    if (escaped)
        status = profile_decode(arena, pair->whole, true, &pair->whole);
    if (escaped && status == PST_OK)
        status = profile_decode(arena, pair->value, true, &pair->value);
    pair->key = pair->whole;
    if (pair->key.len > 2 && pair->key.ptr[pair->key.len - 2] == '[' &&
        pair->key.ptr[pair->key.len - 1] == ']')
        pair->key.len -= 2;
    return status;
}

enum pst_status profile_query_read(struct pst_arena *arena, struct pst_bytes query,
                                   struct profile_query *out)
{
    bool escaped;
    size_t size;

    *out = (struct profile_query){0};
    if (query.len == 0)
        return PST_OK;
    if (__builtin_mul_overflow(count_pieces(query, &escaped), sizeof(*out->pairs), &size))
        return PST_E_NOMEM;
    out->pairs = pst_arena_alloc(arena, size); /* each is written as it is counted */
    if (out->pairs == NULL)
        return PST_E_NOMEM;

    for (size_t at = 0; at <= query.len;) {
        size_t end = piece_end(query, at);
        if (end > at) {
            struct profile_pair *pair = &out->pairs[out->count];
            enum pst_status status =
                read_pair(arena, pst_bytes_of(query.ptr + at, end - at), escaped, pair);
            if (status != PST_OK)
                return status;
            pair->doubtful =
                (at > 0 && query.ptr[at - 1] == ';') || (end < query.len && query.ptr[end] == ';');
            out->count++;
        }
        at = end + 1;
    }
    return PST_OK;
}
