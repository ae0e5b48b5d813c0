/* The body decoder: tables, and all short inputs against a decoder written in the plainest way. */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/http/body.h"

struct outcome {
    enum pst_body_result result;
    int status;  /* of the fault */
    size_t used; /* bytes taken, with PST_BODY_DONE */
    size_t len;  /* of the data */
    char data[8192];
};

static struct pst_head head_of(enum pst_framing framing, uint64_t length)
{
    return (struct pst_head){.framing = framing, .content_length = length};
}

/* Feeds the text in steps of `step` bytes, each in memory that ends with it. */
static const struct outcome *feed(const struct pst_head *head, const struct pst_body_limits *limits,
                                  struct pst_bytes text, size_t step)
{
    static struct outcome out;
    struct pst_body body;

    out = (struct outcome){.result = PST_BODY_MORE};
    pst_body_init(&body, head, limits);
    if (pst_body_is_done(&body))
        out.result = PST_BODY_DONE;
    for (size_t at = 0; at < text.len && out.result == PST_BODY_MORE; at += step) {
        size_t len = text.len - at < step ? text.len - at : step, taken = 0;
        char *piece = malloc(len);

        memcpy(piece, text.ptr + at, len);
        while (taken < len && out.result == PST_BODY_MORE) {
            struct pst_bytes data;
            size_t used;

            out.result =
                pst_body_feed(&body, pst_bytes_of(piece + taken, len - taken), &used, &data);
            assert_true(used <= len - taken);
            if (out.result == PST_BODY_MORE)
                assert_true(used > 0);
            if (data.len > 0) {
                assert_true(data.ptr >= piece + taken &&
                            data.ptr + data.len <= piece + taken + used);
                if (out.len + data.len <= sizeof(out.data))
                    memcpy(out.data + out.len, data.ptr, data.len);
                out.len += data.len;
            }
            taken += used;
        }
        free(piece);
        out.used += taken;
    }
    out.status = out.result == PST_BODY_FAIL ? body.fault.status : 0;
    assert_int_equal(pst_body_is_done(&body), out.result == PST_BODY_DONE);
    if (head->framing == PST_FRAMING_CHUNKED)
        assert_int_equal(pst_body_ends_here(&body), out.result == PST_BODY_DONE);
    return &out;
}

/* In one piece; byte by byte it has to be the same. */
static const struct outcome *feed_both(const struct pst_head *head,
                                       const struct pst_body_limits *limits, struct pst_bytes text)
{
    struct outcome whole = *feed(head, limits, text, text.len + 1);
    const struct outcome *steps = feed(head, limits, text, 1);

    assert_int_equal(whole.result, steps->result);
    assert_int_equal(whole.status, steps->status);
    assert_int_equal(whole.len, steps->len);
    if (whole.result == PST_BODY_DONE)
        assert_int_equal(whole.used, steps->used);
    if (whole.len <= sizeof(whole.data))
        assert_memory_equal(whole.data, steps->data, whole.len);
    return steps;
}

static const struct outcome *chunked(struct pst_bytes text)
{
    struct pst_head head = head_of(PST_FRAMING_CHUNKED, 0);

    return feed_both(&head, &pst_body_limits_default, text);
}

static void assert_data(const struct outcome *got, const char *data, size_t used)
{
    assert_int_equal(got->result, PST_BODY_DONE);
    assert_int_equal(got->len, strlen(data));
    assert_memory_equal(got->data, data, got->len);
    assert_int_equal(got->used, used);
}

static void test_chunks_are_decoded(void **state)
{
    (void)state;
    assert_data(chunked(PST_LIT("5\r\nhello\r\n0\r\n\r\n")), "hello", 15);
    assert_data(chunked(PST_LIT("0\r\n\r\nGET / HTTP/1.1")), "", 5);
    assert_data(
        chunked(PST_LIT("000000000000000A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n")),
        "01234567890123456789", 52);
    assert_data(chunked(PST_LIT("2\r\n\r\n\r\n0\r\n\r\n")), "\r\n", 12);
    assert_int_equal(chunked(PST_LIT("5\r\nhel"))->result, PST_BODY_MORE);
    assert_int_equal(chunked(PST_LIT("5\r\nhello\r\n0\r\n"))->result, PST_BODY_MORE);
}

static void test_extensions_and_trailers_are_dropped(void **state)
{
    (void)state;
    assert_data(chunked(PST_LIT("1;a\r\nx\r\n0;b=c;d=\"\\\"\t;\\\x80\"\r\n\r\n")), "x", 28);
    assert_data(chunked(PST_LIT("0\r\nX-Sum: 1\r\nHost:evil\r\nY:\r\n\r\n")), "", 30);
    assert_data(chunked(PST_LIT("0\r\nX:POST / HTTP/1.1\r\n\r\n")), "", 24);
}

static void test_bad_chunks_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\t\r\n",
        "0_1\r\n",
        "1\n",
        "1\rx",
        "1\r\r",
        "00000000000000001\r\n",
        "1;\r\n",
        "1;;a\r\n",
        "1;=b\r\n",
        "1;a=\r\n",
        "1;a=;\r\n",
        "1; a\r\n",
        "1 ;a\r\n",
        "1;a \r\n",
        "1;a =b\r\n",
        "1;(\r\n",
        "1;a=(\r\n",
        "1;a\n",
        "1;\n",
        "1;a\r\r",
        "1;a\rb",
        "1;a=\"b\r\n",
        "1;a=\"b\n",
        "1;a=\"b\"c\r\n",
        "1;a=\"\\\r",
        "1;a=b\"\r\n",
        "1;a=\"\x01\"\r\n",
        "1;a=\x80\r\n",
        "1\r\nxx",
        "1\r\nx\n",
        "1\r\nx\rx",
        "1\r\nx0\r\n",
        "1\r\nx\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\n",
        "0\r\n X: y\r\n",
        "0\r\n: y\r\n",
        "0\r\nX y: z\r\n",
        "0\r\nX : y\r\n",
        "0\r\nX\r\n",
        "0\r\nX: \x01\r\n",
        "0\r\nX: a\n",
        "0\r\nX: a\rb",
        "0\r\nX: a\r\n b\r\n",
        "0\r\nX: \x7f\r\n",
        "0\r\nGET / HTTP/1.1\r\n",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct outcome *o = chunked(pst_bytes_of(cases[i], strlen(cases[i])));

        if (o->result != PST_BODY_FAIL)
            fail_msg("case %zu not refused: %s", i, cases[i]);
        assert_int_equal(o->status, 400);
    }
    assert_int_equal(chunked(PST_LIT("1\r\nx\0"))->result, PST_BODY_FAIL);
    assert_int_equal(chunked(PST_LIT("1\0"))->result, PST_BODY_FAIL);
    assert_int_equal(chunked(PST_LIT("FFFFFFFFFFFFFFFF\r\nx"))->status, 413);
    assert_int_equal(chunked(PST_LIT("100000001\r\nx"))->status, 413);
}

static void test_body_limit(void **state)
{
    (void)state;
    struct pst_body_limits limits = pst_body_limits_default;
    struct pst_head head = head_of(PST_FRAMING_CHUNKED, 0);

    limits.body_bytes = 3;
    assert_data(feed_both(&head, &limits, PST_LIT("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")), "abc", 18);
    const struct outcome *o = feed_both(&head, &limits, PST_LIT("1\r\na\r\n3\r\nbcd\r\n"));
    assert_int_equal(o->status, 413);
    assert_int_equal(o->len, 1); /* nothing of the chunk that is too large */
    limits.body_bytes = 0;
    o = feed_both(&head, &limits, PST_LIT("7FFFFFFFFFFFFFFF\r\nx"));
    assert_int_equal(o->result, PST_BODY_MORE);
    assert_int_equal(feed_both(&head, &limits, PST_LIT("8000000000000000\r\nx"))->status, 413);

    limits.body_bytes = 3;
    head = head_of(PST_FRAMING_LENGTH, 4);
    assert_int_equal(feed_both(&head, &limits, PST_LIT("a"))->status, 413);
    head = head_of(PST_FRAMING_UNTIL_CLOSE, 0);
    assert_int_equal(feed_both(&head, &limits, PST_LIT("abc"))->result, PST_BODY_MORE);
    assert_int_equal(feed(&head, &limits, PST_LIT("abcd"), 1)->status, 413);
    assert_int_equal(feed(&head, &limits, PST_LIT("abcd"), 4)->status, 413);
}

/* A route's own limit is known only after the head was read. */
static void test_limits_may_change(void **state)
{
    (void)state;
    struct pst_body_limits limits = pst_body_limits_default;
    struct pst_head head = head_of(PST_FRAMING_LENGTH, 6);
    struct pst_body body;
    struct pst_bytes data;
    size_t used;

    limits.body_bytes = 3;
    pst_body_init(&body, &head, &limits);
    body.limits.body_bytes = 0;
    assert_int_equal(pst_body_feed(&body, PST_LIT("abcd"), &used, &data), PST_BODY_MORE);
    assert_int_equal(data.len, 4);
    body.limits.body_bytes = 3;
    assert_int_equal(pst_body_feed(&body, PST_LIT("e"), &used, &data), PST_BODY_FAIL);
    assert_int_equal(body.fault.status, 413);
}

static void test_length(void **state)
{
    (void)state;
    struct pst_head head = head_of(PST_FRAMING_LENGTH, 5);

    assert_data(feed_both(&head, &pst_body_limits_default, PST_LIT("helloGET")), "hello", 5);
    assert_int_equal(feed_both(&head, &pst_body_limits_default, PST_LIT("hell"))->result,
                     PST_BODY_MORE);
    head = head_of(PST_FRAMING_LENGTH, 0);
    assert_data(feed_both(&head, &pst_body_limits_default, PST_LIT("GET")), "", 0);
    head = head_of(PST_FRAMING_NONE, 0);
    assert_data(feed_both(&head, &pst_body_limits_default, PST_LIT("GET")), "", 0);
}

static void test_end_of_connection(void **state)
{
    (void)state;
    struct pst_body body;
    struct pst_bytes data;
    struct pst_head head = head_of(PST_FRAMING_UNTIL_CLOSE, 0);
    size_t used;

    pst_body_init(&body, &head, &pst_body_limits_default);
    assert_int_equal(pst_body_feed(&body, PST_LIT("abc"), &used, &data), PST_BODY_MORE);
    assert_int_equal(data.len, 3);
    assert_true(pst_body_ends_here(&body));
    assert_false(pst_body_is_done(&body));
    head = head_of(PST_FRAMING_LENGTH, 2);
    pst_body_init(&body, &head, &pst_body_limits_default);
    assert_int_equal(pst_body_feed(&body, PST_LIT("a"), &used, &data), PST_BODY_MORE);
    assert_false(pst_body_ends_here(&body));
    assert_int_equal(pst_body_feed(&body, PST_LIT("b"), &used, &data), PST_BODY_DONE);
    assert_true(pst_body_ends_here(&body));
}

static void test_faults_are_final(void **state)
{
    (void)state;
    struct pst_body body;
    struct pst_bytes data;
    struct pst_head head = head_of(PST_FRAMING_CHUNKED, 0);
    size_t used;

    pst_body_init(&body, &head, &pst_body_limits_default);
    assert_int_equal(pst_body_feed(&body, PST_LIT("g"), &used, &data), PST_BODY_FAIL);
    assert_int_equal(pst_body_feed(&body, PST_LIT("0\r\n\r\n"), &used, &data), PST_BODY_FAIL);
    assert_int_equal(data.len, 0);
    assert_false(pst_body_ends_here(&body));
}

/* `before`, n times x, `after`: accepted with `max`, refused with one more. */
static void assert_limit(const char *before, const char *after, size_t max)
{
    static char text[70000];
    size_t b = strlen(before), a = strlen(after);

    for (size_t more = 0; more < 2; more++) {
        memcpy(text, before, b);
        memset(text + b, 'x', max + more);
        memcpy(text + b + max + more, after, a);
        assert_int_equal(chunked(pst_bytes_of(text, b + max + more + a))->result,
                         more == 0 ? PST_BODY_DONE : PST_BODY_FAIL);
    }
}

static void test_limits_of_framing(void **state)
{
    (void)state;
    static char text[200000];
    size_t len = 0;

    assert_limit("0;", "\r\n\r\n", 256);
    assert_limit("0;a=\"", "\"\r\n\r\n", 252);
    assert_limit("0;b;", "\r\n\r\n", 256); /* each extension on its own */
    assert_limit("0\r\nX:", "\r\n\r\n", 8190);

    for (size_t n = 0; n < 100; n++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%sX:y\r\n", n == 0 ? "0\r\n" : "");
    memcpy(text + len, "\r\n", 2);
    assert_int_equal(chunked(pst_bytes_of(text, len + 2))->result, PST_BODY_DONE);
    memcpy(text + len, "X:y\r\n\r\n", 7);
    assert_int_equal(chunked(pst_bytes_of(text, len + 7))->result, PST_BODY_FAIL);

    /* Four lines of 8 KiB are too many for the section. */
    len = (size_t)snprintf(text, sizeof(text), "0\r\n");
    for (size_t n = 0; n < 4; n++) {
        memset(text + len, 'x', 8192);
        text[len + 1] = ':';
        memcpy(text + len + 8192, "\r\n", 2);
        len += 8194;
    }
    assert_int_equal(chunked(pst_bytes_of(text, len))->result, PST_BODY_FAIL);
}

/* Chunks of one byte have six bytes of framing: the budget ends after 100 KiB / 5 of them. */
static void test_framing_budget(void **state)
{
    (void)state;
    static char text[6 * 21000];
    struct pst_head head = head_of(PST_FRAMING_CHUNKED, 0);
    size_t chunks = 0;

    for (size_t at = 0; at < sizeof(text); at += 6)
        memcpy(text + at, "1\r\nx\r\n", 6);
    const struct outcome *o =
        feed(&head, &pst_body_limits_default, pst_bytes_of(text, sizeof(text)), sizeof(text));
    assert_int_equal(o->result, PST_BODY_MORE); /* 5 of framing to 1 of data: 84000 above */
    static char more[6 * 26000];
    for (size_t at = 0; at < sizeof(more); at += 6)
        memcpy(more + at, "1\r\nx\r\n", 6);
    o = feed(&head, &pst_body_limits_default, pst_bytes_of(more, sizeof(more)), sizeof(more));
    assert_int_equal(o->result, PST_BODY_FAIL);
    assert_int_equal(o->status, 400);
    chunks = o->len;
    assert_true(chunks >= 25600 && chunks <= 25601);
}

/* --- the oracle ---------------------------------------------------------------------------- */

/* Where the plain decoder is. NO: the text is wrong; END: it stops in the middle. */
enum verdict { NO, END, YES };

struct plain {
    const char *at, *end;
    char *data;
    size_t len;
};

static bool is_tchar(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'X';
}

static enum verdict plain_eat(struct plain *p, const char *text)
{
    for (; *text != 0; text++, p->at++) {
        if (p->at == p->end)
            return END;
        if (*p->at != *text)
            return NO;
    }
    return YES;
}

static enum verdict plain_token(struct plain *p)
{
    const char *from = p->at;

    while (p->at < p->end && is_tchar(*p->at))
        p->at++;
    return p->at == p->end ? END : p->at > from ? YES : NO;
}

static enum verdict plain_quoted(struct plain *p)
{
    p->at++;
    while (p->at < p->end && *p->at != '"') {
        if (*p->at == '\\' && ++p->at == p->end)
            return END;
        if (*p->at == '\r' || *p->at == '\n')
            return NO;
        p->at++;
    }
    if (p->at == p->end)
        return END;
    return ++p->at == p->end ? END : YES;
}

static enum verdict plain_extensions(struct plain *p)
{
    while (p->at < p->end && *p->at == ';') {
        p->at++;
        enum verdict v = plain_token(p);

        if (v == YES && *p->at == '=') {
            p->at++;
            v = p->at == p->end ? END : *p->at == '"' ? plain_quoted(p) : plain_token(p);
        }
        if (v != YES)
            return v;
    }
    return plain_eat(p, "\r\n");
}

static enum verdict plain_trailers(struct plain *p)
{
    for (;;) {
        if (p->at == p->end)
            return END;
        if (*p->at == '\r')
            return plain_eat(p, "\r\n");
        enum verdict v = plain_token(p);
        if (v != YES || (v = plain_eat(p, ":")) != YES)
            return v;
        while (p->at < p->end && *p->at != '\r' && *p->at != '\n')
            p->at++;
        v = plain_eat(p, "\r\n");
        if (v != YES)
            return v;
    }
}

static enum verdict plain_decode(struct plain *p)
{
    for (;;) {
        size_t size = 0, digits = 0;

        for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++, digits++)
            size = size * 16 + (size_t)(*p->at - '0');
        if (p->at == p->end)
            return END;
        enum verdict v = digits == 0 ? NO : plain_extensions(p);
        if (v != YES)
            return v;
        if (size == 0)
            return plain_trailers(p);
        for (; size > 0; size--) {
            if (p->at == p->end)
                return END;
            p->data[p->len++] = *p->at++;
        }
        v = plain_eat(p, "\r\n");
        if (v != YES)
            return v;
    }
}

static void check_against_oracle(struct pst_bytes text)
{
    char data[256];
    struct plain p = {.at = text.ptr, .end = text.ptr + text.len, .data = data};
    enum verdict v = plain_decode(&p);
    struct pst_head head = head_of(PST_FRAMING_CHUNKED, 0);

    for (size_t step = 1; step < 4; step += 2) {
        const struct outcome *o =
            feed(&head, &pst_body_limits_default, text, step == 3 ? 99 : step);

        if ((int)o->result != (int)(v == NO    ? PST_BODY_FAIL
                                    : v == END ? PST_BODY_MORE
                                               : PST_BODY_DONE))
            fail_msg("result %d, oracle %d: %.*s", (int)o->result, (int)v, (int)text.len, text.ptr);
        if (v == YES)
            assert_int_equal(o->used, p.at - text.ptr);
        if (v != NO) {
            assert_int_equal(o->len, p.len);
            assert_memory_equal(o->data, data, p.len);
        }
    }
}

static void test_every_short_body(void **state)
{
    (void)state;
    static const char *const starts[] = {"", "1\r\nx", "2\r\n", "0\r\n", "0;"};
    static const char *const pieces[] = {"\r\n", "0", "1", "\r", "\n", ";",
                                         "X",    ":", "=", "\"", "\\"};
    const size_t count = sizeof(pieces) / sizeof(pieces[0]);
    size_t all = 1;

    for (size_t len = 1; len <= 5; len++) {
        all *= count;
        for (size_t n = 0; n < all * 5; n++) {
            char text[64];
            size_t code = n / 5, at = strlen(starts[n % 5]);

            memcpy(text, starts[n % 5], at);
            for (size_t i = 0; i < len; i++, code /= count) {
                size_t piece = strlen(pieces[code % count]);

                memcpy(text + at, pieces[code % count], piece);
                at += piece;
            }
            check_against_oracle(pst_bytes_of(text, at));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_are_decoded),
        cmocka_unit_test(test_extensions_and_trailers_are_dropped),
        cmocka_unit_test(test_bad_chunks_are_refused),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_limits_may_change),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_end_of_connection),
        cmocka_unit_test(test_faults_are_final),
        cmocka_unit_test(test_limits_of_framing),
        cmocka_unit_test(test_framing_budget),
        cmocka_unit_test(test_every_short_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
