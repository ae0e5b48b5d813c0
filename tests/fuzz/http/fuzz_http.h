/*
 * fuzz_http.h - what the fuzz targets of this layer share: a check that stops, cuts that follow
 * from the input, and the head parser fed whole and in pieces.
 */
#ifndef POSTERN_TESTS_FUZZ_HTTP_H
#define POSTERN_TESTS_FUZZ_HTTP_H

#include <stdio.h>
#include <stdlib.h>

#include "postern/http/h1.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Memory of exactly this size, so that a sanitizer sees the first byte too far. */
static inline char *exact_copy(const void *from, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    CHECK(copy != NULL);
    if (len > 0)
        memcpy(copy, from, len);
    return copy;
}

/* Small steps that depend on the input alone. */
static inline size_t next_cut(uint32_t *seed, size_t left)
{
    *seed = *seed * 1664525u + 1013904223u;
    size_t step = (*seed >> 24) % 4 == 0 ? 1 + (*seed >> 8) % 300 : 1 + (*seed >> 8) % 7;

    return step < left ? step : left;
}

static inline uint32_t seed_of(const uint8_t *data, size_t len)
{
    uint32_t seed = 2166136261u;

    for (size_t i = 0; i < len; i++)
        seed = (seed ^ data[i]) * 16777619u;
    return seed;
}

static inline bool is_within(struct pst_bytes text, const char *from, size_t len)
{
    return text.len == 0 ||
           (text.ptr >= from && text.len <= len && text.ptr - from <= (ptrdiff_t)(len - text.len));
}

static inline void check_same(struct pst_bytes a, struct pst_bytes b)
{
    CHECK(pst_bytes_equal(a, b));
}

/* Every text of a complete head lies inside the head and holds no byte that it may not. */
static inline void check_head(const struct pst_head *h, const char *from)
{
    CHECK(is_within(h->method_text, from, h->size) && is_within(h->target, from, h->size));
    CHECK(is_within(h->host, from, h->size) && is_within(h->reason, from, h->size));
    CHECK(h->count <= PST_FIELDS_MAX);
    for (size_t i = 0; i < h->count; i++) {
        const struct pst_field *f = &h->fields[i];

        CHECK(f->name.len > 0 && is_within(f->name, from, h->size));
        CHECK(is_within(f->value, from, h->size));
        CHECK(pst_field_id_of(f->name) == (enum pst_field_id)h->ids[i]);
        CHECK(pst_head_find(h, (enum pst_field_id)h->ids[i], i) == i);
        CHECK(pst_bytes_trim(f->value).len == f->value.len);
        for (size_t k = 0; k < f->name.len; k++)
            CHECK(f->name.ptr[k] > ' ' && f->name.ptr[k] < 0x7f && f->name.ptr[k] != ':');
        for (size_t k = 0; k < f->value.len; k++)
            CHECK(((unsigned char)f->value.ptr[k] >= ' ' && f->value.ptr[k] != 0x7f) ||
                  f->value.ptr[k] == '\t');
    }
    CHECK(from[h->size - 1] == '\n' && from[h->size - 2] == '\r');
}

static inline void check_same_heads(const struct pst_head *a, const struct pst_head *b)
{
    CHECK(a->size == b->size && a->count == b->count && a->framing == b->framing);
    CHECK(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
    CHECK(a->upgrade == b->upgrade && a->expect_continue == b->expect_continue);
    CHECK(a->status == b->status && a->method == b->method);
    check_same(a->target, b->target);
    check_same(a->host, b->host);
    check_same(a->reason, b->reason);
    for (size_t i = 0; i < a->count; i++) {
        CHECK(a->ids[i] == b->ids[i]);
        check_same(a->fields[i].name, b->fields[i].name);
        check_same(a->fields[i].value, b->fields[i].value);
    }
}

/* Parses `text` at once; then, from the same start, in pieces and in moving memory. The answers
 * have to be the same. *head points into `text`. */
static inline enum pst_h1_result parse_both(const struct pst_h1_parser *start,
                                            struct pst_bytes text, uint32_t seed,
                                            struct pst_head *head)
{
    static struct pst_head pieces;
    struct pst_h1_parser whole = *start, cut = *start;
    enum pst_h1_result want = pst_h1_parse(&whole, text, head), got = PST_H1_MORE;
    char *now = NULL;

    for (size_t at = 0; at < text.len && got == PST_H1_MORE;) {
        at += next_cut(&seed, text.len - at);
        char *next = exact_copy(text.ptr, at);
        got = pst_h1_parse(&cut, pst_bytes_of(next, at), &pieces);
        free(now);
        now = next;
    }
    CHECK(want == got);
    if (want == PST_H1_FAIL)
        CHECK(whole.fault.status == cut.fault.status && whole.fault.reason == cut.fault.reason);
    if (want == PST_H1_DONE) {
        check_head(head, text.ptr);
        check_same_heads(head, &pieces);
    }
    free(now);
    return want;
}

#endif
