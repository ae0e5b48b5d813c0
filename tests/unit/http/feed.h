/*
 * feed.h - one way into the head parser for all tests: the text at once, and again byte by byte in
 * a buffer that moves at every byte and ends exactly where the input ends. Both must agree.
 */
#ifndef POSTERN_TESTS_UNIT_HTTP_FEED_H
#define POSTERN_TESTS_UNIT_HTTP_FEED_H

#include <stdlib.h>

#include "postern/http/h1.h"

struct feed {
    enum pst_h1_result result;
    struct pst_fault fault;
    size_t seen; /* bytes after which the answer was there, byte by byte */
    struct pst_head head;
    char *text; /* what the head points into */
};

static inline void feed_init(struct pst_h1_parser *p, const struct pst_h1_limits *limits,
                             bool response, enum pst_method asked)
{
    if (response)
        pst_h1_init_response(p, limits, asked);
    else
        pst_h1_init_request(p, limits);
}

static inline char *feed_copy(struct pst_bytes text)
{
    char *copy = malloc(text.len);

    assert_non_null(copy);
    memcpy(copy, text.ptr, text.len);
    return copy;
}

static inline void feed_same_text(struct pst_bytes a, struct pst_bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.ptr, b.ptr, a.len);
}

static inline void feed_same_head(const struct pst_head *a, const struct pst_head *b)
{
    feed_same_text(a->method_text, b->method_text);
    feed_same_text(a->target, b->target);
    feed_same_text(a->host, b->host);
    feed_same_text(a->reason, b->reason);
    assert_int_equal(a->method, b->method);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->version_minor, b->version_minor);
    assert_int_equal(a->framing, b->framing);
    assert_int_equal(a->content_length, b->content_length);
    assert_int_equal(a->keep_alive, b->keep_alive);
    assert_int_equal(a->expect_continue, b->expect_continue);
    assert_int_equal(a->upgrade, b->upgrade);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->last, b->last, sizeof(a->last));
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->ids[i], b->ids[i]);
        assert_int_equal(pst_head_find(a, (enum pst_field_id)a->ids[i], i), i);
        assert_int_equal(pst_head_find(b, (enum pst_field_id)b->ids[i], i), i);
        feed_same_text(a->fields[i].name, b->fields[i].name);
        feed_same_text(a->fields[i].value, b->fields[i].value);
    }
}

/* The answer of the whole text, after checking that byte by byte it is the same. */
static inline struct feed *feed_all(struct pst_bytes text, const struct pst_h1_limits *limits,
                                    bool response, enum pst_method asked)
{
    static struct feed whole, bytewise;
    struct pst_h1_parser p;

    free(whole.text);
    memset(&whole, 0xee, sizeof(whole));
    memset(&bytewise, 0xee, sizeof(bytewise));
    whole.text = feed_copy(text);
    feed_init(&p, limits, response, asked);
    whole.result = pst_h1_parse(&p, pst_bytes_of(whole.text, text.len), &whole.head);
    whole.fault = p.fault;

    char *now = NULL;
    feed_init(&p, limits, response, asked);
    bytewise.result = PST_H1_MORE;
    for (whole.seen = 0; whole.seen < text.len && bytewise.result == PST_H1_MORE;) {
        char *next = feed_copy(pst_bytes_of(text.ptr, ++whole.seen));

        bytewise.result = pst_h1_parse(&p, pst_bytes_of(next, whole.seen), &bytewise.head);
        free(now);
        now = next;
    }
    assert_int_equal(whole.result, bytewise.result);
    if (whole.result == PST_H1_FAIL) {
        assert_int_equal(whole.fault.status, p.fault.status);
        assert_string_equal(whole.fault.reason, p.fault.reason);
    } else if (whole.result == PST_H1_DONE) {
        feed_same_head(&whole.head, &bytewise.head);
    }
    free(now);
    return &whole;
}

/* A request under the default limits. */
static inline struct feed *feed_request(struct pst_bytes text)
{
    return feed_all(text, &pst_h1_limits_default, false, PST_METHOD_OTHER);
}

/* A response to a request with this method, under the default limits. */
static inline struct feed *feed_response(struct pst_bytes text, enum pst_method asked)
{
    return feed_all(text, &pst_h1_limits_default, true, asked);
}

#endif
