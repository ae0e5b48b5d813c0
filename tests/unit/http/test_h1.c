/* The head parser, whole and byte by byte (see feed.h). */
#include "../test.h"

#include <stdio.h>

#include "feed.h"

#include "../../../src/http/chars_internal.h"

#define HOST "Host: app.example\r\n"

struct refusal {
    struct pst_bytes text;
    int status;
};

#define REFUSED(status, text)                                                                      \
    {                                                                                              \
        {"" text, sizeof(text) - 1}, status                                                        \
    }
#define FIELD(status, line) REFUSED(status, "GET / HTTP/1.1\r\n" HOST line "\r\n\r\n")
#define LINE(status, line)  REFUSED(status, line "\r\n" HOST "\r\n")

static void assert_refused(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct feed *f = feed_request(cases[i].text);

        if (f->result != PST_H1_FAIL || f->fault.status != cases[i].status)
            fail_msg("case %zu: result %d, status %d: %.*s", i, (int)f->result,
                     f->result == PST_H1_FAIL ? f->fault.status : 0, (int)cases[i].text.len,
                     cases[i].text.ptr);
    }
}

#define ASSERT_REFUSED(cases) assert_refused(cases, sizeof(cases) / sizeof((cases)[0]))

static const struct pst_head *accepted(struct pst_bytes text)
{
    struct feed *f = feed_request(text);

    if (f->result != PST_H1_DONE)
        fail_msg("result %d (%s): %.*s", (int)f->result,
                 f->result == PST_H1_FAIL ? f->fault.reason : "more", (int)text.len, text.ptr);
    return &f->head;
}

static void assert_text(struct pst_bytes got, const char *want)
{
    feed_same_text(got, pst_bytes_of(want, strlen(want)));
}

static void test_request_is_read(void **state)
{
    (void)state;
    const struct pst_head *h =
        accepted(PST_LIT("POST /w/blue/x?a=b HTTP/1.1\r\n" HOST "Accept:\t */* \t\r\nX-Empty:\r\n"
                         "aUTHORIZATION:Bearer x\r\nContent-Length: 5\r\n\r\nhello"));

    assert_int_equal(h->method, PST_METHOD_POST);
    assert_text(h->method_text, "POST");
    assert_text(h->target, "/w/blue/x?a=b");
    assert_text(h->host, "app.example");
    assert_int_equal(h->version_minor, 1);
    assert_int_equal(h->count, 5);
    assert_int_equal(h->ids[0], PST_FIELD_HOST);
    assert_int_equal(h->ids[1], PST_FIELD_ACCEPT);
    assert_text(h->fields[1].value, "*/*");
    assert_int_equal(h->ids[2], PST_FIELD_OTHER);
    assert_text(h->fields[2].name, "X-Empty");
    assert_int_equal(h->fields[2].value.len, 0);
    assert_int_equal(h->ids[3], PST_FIELD_AUTHORIZATION);
    assert_text(h->fields[3].value, "Bearer x");
    assert_int_equal(h->framing, PST_FRAMING_LENGTH);
    assert_int_equal(h->content_length, 5);
    assert_true(h->keep_alive);
    assert_int_equal(h->size, sizeof("POST /w/blue/x?a=b HTTP/1.1\r\n" HOST
                                     "Accept:\t */* \t\r\nX-Empty:\r\naUTHORIZATION:Bearer x\r\n"
                                     "Content-Length: 5\r\n\r\n") -
                                  1);
}

static void test_request_line_is_exact(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        LINE(400, " GET / HTTP/1.1"),
        LINE(400, "GET  / HTTP/1.1"),
        LINE(400, "GET /  HTTP/1.1"),
        LINE(400, "GET\t/\tHTTP/1.1"),
        LINE(400, "GET / HTTP/1.1 "),
        LINE(400, "GET /a b HTTP/1.1"),
        LINE(400, "GET /"),
        LINE(400, "GET"),
        LINE(400, "get / HTTP/1.1"),
        LINE(400, "GeT / HTTP/1.1"),
        LINE(400, "G:T / HTTP/1.1"),
        LINE(501, "M-SEARCH / HTTP/1.1"),
        LINE(501, "GET1 / HTTP/1.1"),
        LINE(405, "CONNECT a:1 HTTP/1.1"),
        LINE(405, "TRACE / HTTP/1.1"),
        LINE(405, "TRACK / HTTP/1.1"),
        LINE(505, "GET / HTTP/1.2"),
        LINE(505, "GET / HTTP/2.0"),
        LINE(505, "GET / HTTP/0.9"),
        LINE(400, "GET / HTTP/1.10"),
        LINE(400, "GET / HTTP/1."),
        LINE(400, "GET / HTTP/1"),
        LINE(400, "GET / HTTP/11.1"),
        LINE(400, "GET / http/1.1"),
        LINE(400, "GET / HTTP/1.1x"),
        LINE(400, "GET / HTTP/1,1"),
        LINE(400, "GET / ICY/1.1"),
        LINE(400, "GET /\x01 HTTP/1.1"),
        LINE(400, "GET /\x7f HTTP/1.1"),
        LINE(400, "GET /\xc3\xa9 HTTP/1.1"),
        LINE(400, "GET /\0 HTTP/1.1"),
        LINE(400, "\x01GET / HTTP/1.1"),
        LINE(400, "\r\n\r\nGET / HTTP/1.1"),
        REFUSED(400, "GET / HTTP/1.1\n" HOST "\r\n"),
        REFUSED(400, "GET / HTTP/1.1\rX" HOST "\r\n"),
        REFUSED(400, "\n"),
        REFUSED(501, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        REFUSED(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    };

    ASSERT_REFUSED(cases);
    assert_int_equal(accepted(PST_LIT("DEBUG / HTTP/1.1\r\n" HOST "\r\n"))->method,
                     PST_METHOD_OTHER);
    assert_int_equal(accepted(PST_LIT("\r\nGET / HTTP/1.1\r\n" HOST "\r\n"))->method,
                     PST_METHOD_GET);
}

static void test_field_lines_are_exact(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        FIELD(400, "X : y"),
        FIELD(400, "X\t: y"),
        FIELD(400, " X: y"),
        FIELD(400, "X Y: z"),
        FIELD(400, ": y"),
        FIELD(400, ":"),
        FIELD(400, "foobar"),
        FIELD(400, "X: a\r\n b"),
        FIELD(400, "X: a\r\n\tb"),
        FIELD(400, "X: a\rb"),
        FIELD(400, "X: a\nY: b"),
        FIELD(400, "X: a\0b"),
        FIELD(400, "X: a\x0b"),
        FIELD(400, "X: a\x7f"),
        FIELD(400, "X: \x1b"),
        FIELD(400, "X\0Y: a"),
        FIELD(400, "X\x85: a"),
        FIELD(400, "X(Y: a"),
        FIELD(400, "X@Y: a"),
        FIELD(400, "X/Y: a"),
        FIELD(400, "X\"Y: a"),
        FIELD(400, "X[Y: a"),
        FIELD(400, "X{Y: a"),
        FIELD(400, "X;Y: a"),
        FIELD(400, "X,Y: a"),
        FIELD(400, "X=Y: a"),
        FIELD(400, "X: a\r\r"),
        FIELD(400, "Transfer\r-Encoding: chunked"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST "\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST "\r\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n " HOST "\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\nX-A-Long-Field-Name-Of-32-Bytes\x80: a\r\n" HOST "\r\n"),
    };

    ASSERT_REFUSED(cases);
    /* Everything else passes: all bytes from 0x80 on, tabs inside, every tchar. */
    const struct pst_head *h =
        accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "!#$%&'*+-.^_`|~09azAZ: \x80\xff a\tb\r\n\r\n"));
    assert_text(h->fields[1].value, "\x80\xff a\tb");
}

/* A forbidden byte is refused when it is seen, wherever in a block of sixteen it stands. */
static void test_bad_bytes_are_refused_at_once(void **state)
{
    (void)state;
    char text[256];

    for (size_t at = 0; at < 40; at++) {
        static const char bad[] = {0, 1, 8, '\n', 0x0b, 0x1f, 0x7f};

        for (size_t b = 0; b < sizeof(bad); b++) {
            int head = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST "X:");
            size_t len = (size_t)head + at;

            memset(text + head, 'a', at);
            text[len++] = bad[b];
            struct feed *f = feed_request(pst_bytes_of(text, len));
            assert_int_equal(f->result, PST_H1_FAIL);
            assert_int_equal(f->fault.status, 400);
            assert_int_equal(f->seen, len);
        }
    }
}

static void test_one_valid_host(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        REFUSED(400, "GET / HTTP/1.1\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.0\r\n\r\n"),
        FIELD(400, "Host: app.example"),
        FIELD(400, "host: other"),
        REFUSED(400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    };

    ASSERT_REFUSED(cases);
}

static void test_canonical_host_is_marked(void **state)
{
    (void)state;
    const struct pst_head *h =
        accepted(PST_LIT("GET / HTTP/1.1\r\nHost: app.example:8080\r\n\r\n"));
    assert_int_equal(h->host_name_len, 11);
    assert_int_equal(h->host_port, 8080);
    h = accepted(PST_LIT("GET / HTTP/1.1\r\nHost: app\r\n\r\n"));
    assert_int_equal(h->host_name_len, 3);
    assert_int_equal(h->host_port, 0);
    static const char *const others[] = {"App.example", "app.", "app:", "[0::1]"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char text[64];
        int len = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", others[i]);
        assert_int_equal(accepted(pst_bytes_of(text, (size_t)len))->host_name_len, 0);
    }
}

static void test_request_has_one_framing(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        FIELD(400, "Content-Length: 5\r\nContent-Length: 5"),
        FIELD(400, "Content-Length: 5\r\nContent-Length: 6"),
        FIELD(400, "Content-Length: 5, 5"),
        FIELD(400, "Content-Length:"),
        FIELD(400, "Content-Length: +5"),
        FIELD(400, "Content-Length: -0"),
        FIELD(400, "Content-Length: 0x5"),
        FIELD(400, "Content-Length: 5.0"),
        FIELD(400, "Content-Length: 5 0"),
        FIELD(400, "Content-Length: 5;a"),
        FIELD(400, "Content-Length: \2405"),
        FIELD(400, "Content-Length: 9223372036854775808"),
        FIELD(400, "Content-Length: 00000000000000000005"),
        FIELD(400, "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        FIELD(400, "Transfer-Encoding: chunked\r\nContent-Length: 0"),
        FIELD(400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        FIELD(400, "Transfer-Encoding:"),
        FIELD(400, "Transfer-Encoding: chunked,"),
        FIELD(400, "Transfer-Encoding: chunked;"),
        FIELD(400, "Transfer-Encoding: identity"),
        FIELD(400, "Transfer-Encoding: gzip, chunked"),
        FIELD(400, "Transfer-Encoding: \"chunked\""),
        FIELD(400, "Transfer-Encoding: chunked\xff"),
        REFUSED(400, "GET / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
    };

    ASSERT_REFUSED(cases);
    assert_int_equal(accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "\r\n"))->framing,
                     PST_FRAMING_NONE);
    assert_int_equal(
        accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding:\t cHunKed \r\n\r\n"))
            ->framing,
        PST_FRAMING_CHUNKED);
    const struct pst_head *h =
        accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775807\r\n\r\n"));
    assert_int_equal(h->framing, PST_FRAMING_LENGTH);
    assert_int_equal(h->content_length, INT64_MAX);
    /* Content_Length is another field. */
    h = accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Content_Length: 5\r\n\r\n"));
    assert_int_equal(h->framing, PST_FRAMING_NONE);
    assert_int_equal(h->ids[1], PST_FIELD_OTHER);
}

static void test_connection_options(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive, names;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", true, false},
        {"GET / HTTP/1.0\r\n" HOST "\r\n", false, false},
        {"GET / HTTP/1.0\r\n" HOST "Connection: Keep-Alive\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\n" HOST "Connection: keep-alive, close\r\n\r\n", false, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: te\r\nConnection: , CLOSE ,\r\n\r\n", false, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n\r\n", true, true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: x-a\r\n\r\n", true, true},
        {"GET / HTTP/1.1\r\n" HOST "Connection:\r\n\r\n", true, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct pst_head *h = accepted(pst_bytes_of(cases[i].text, strlen(cases[i].text)));

        assert_int_equal(h->keep_alive, cases[i].keep_alive);
        assert_int_equal(h->connection_names, cases[i].names);
    }
    static const struct refusal refused[] = {FIELD(400, "Connection: a b"),
                                             FIELD(400, "Connection: \"close\"")};
    ASSERT_REFUSED(refused);
}

static void test_expectations(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        FIELD(417, "Expect: 200-maybe"),
        FIELD(417, "Expect:"),
        FIELD(417, "Expect: 100-continue, 100-continue"),
        FIELD(417, "Expect: 100-continue\r\nExpect: 100-continue"),
        FIELD(400, "Expect:\r\n 100-continue"),
        REFUSED(400, "GET / HTTP/1.1\r\nExpect: x\r\n\r\n"),
    };

    ASSERT_REFUSED(cases);
    assert_true(accepted(PST_LIT("PUT / HTTP/1.1\r\n" HOST
                                 "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"))
                    ->expect_continue);
    assert_true(accepted(PST_LIT("PUT / HTTP/1.1\r\n" HOST
                                 "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"))
                    ->expect_continue);
    assert_false(accepted(PST_LIT("PUT / HTTP/1.0\r\n" HOST
                                  "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"))
                     ->expect_continue);
    assert_false(accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n"))
                     ->expect_continue);
}

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"
#define UP  "Connection: Upgrade\r\nUpgrade: websocket\r\n"

static void test_upgrades(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP V13 "\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY "\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY KEY V13 "\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY "Sec-WebSocket-Version: 8\r\n\r\n"),
        REFUSED(400, "POST / HTTP/1.1\r\n" HOST UP KEY V13 "Content-Length: 0\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY V13 "Content-Length: 1\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY V13 "Transfer-Encoding: chunked\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP V13 "Sec-WebSocket-Key: abc\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP V13
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ.==\r\n\r\n"),
        REFUSED(400, "GET / HTTP/1.1\r\n" HOST UP KEY V13 "Upgrade: tls/1.0\r\n\r\n"),
    };

    ASSERT_REFUSED(cases);
    assert_int_equal(accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST UP KEY V13 "\r\n"))->upgrade,
                     PST_UPGRADE_WEBSOCKET);
    assert_int_equal(accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\n"
                                      "Upgrade: h2c, WebSocket\r\n" KEY V13 "\r\n"))
                         ->upgrade,
                     PST_UPGRADE_WEBSOCKET);
    assert_int_equal(
        accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"))
            ->upgrade,
        PST_UPGRADE_OTHER);
    assert_int_equal(
        accepted(PST_LIT("GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n\r\n"))->upgrade,
        PST_UPGRADE_NONE);
    assert_int_equal(accepted(PST_LIT("GET / HTTP/1.0\r\n" HOST UP "\r\n"))->upgrade,
                     PST_UPGRADE_NONE);
}

/* A request whose one long part has exactly `n` bytes; then one more. */
static void assert_limit(const char *before, const char *after, size_t n, int status)
{
    static char text[40000];
    size_t b = strlen(before), a = strlen(after);

    for (size_t more = 0; more < 2; more++) {
        memcpy(text, before, b);
        memset(text + b, 'a', n + more);
        memcpy(text + b + n + more, after, a);
        struct feed *f = feed_request(pst_bytes_of(text, b + n + more + a));
        assert_int_equal(f->result, more == 0 ? PST_H1_DONE : PST_H1_FAIL);
        if (more > 0) {
            assert_int_equal(f->fault.status, status);
            assert_true(f->seen <= b + n + more); /* no later than at the byte too many */
        }
    }
}

static void test_limits_are_exact(void **state)
{
    (void)state;
    static const char end[] = "\r\n\r\n";

    assert_limit("GET /", " HTTP/1.1\r\n" HOST "\r\n", 8191, 414);
    assert_limit("GET / HTTP/1.1\r\n" HOST "X:", end, 8190, 431);
    assert_limit("GET / HTTP/1.1\r\n" HOST "Authorization:", end, 16384 - 14, 431);
    assert_limit("GET / HTTP/1.1\r\n" HOST "cookie:", end, 16384 - 7, 431);
}

static void test_head_limit(void **state)
{
    (void)state;
    struct pst_h1_limits limits = pst_h1_limits_default;
    const struct pst_bytes text = PST_LIT("GET / HTTP/1.1\r\n" HOST "\r\n");

    limits.head_bytes = (uint32_t)text.len;
    assert_int_equal(feed_all(text, &limits, false, 0)->result, PST_H1_DONE);
    limits.head_bytes--;
    struct feed *f = feed_all(text, &limits, false, 0);
    assert_int_equal(f->result, PST_H1_FAIL);
    assert_int_equal(f->fault.status, 431);
    assert_int_equal(f->seen, text.len - 1);
}

static void test_field_count(void **state)
{
    (void)state;
    static char text[2048];
    size_t len = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST);

    for (size_t i = 1; i < 100; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "X-%zu: y\r\n", i);
    memcpy(text + len, "\r\n", 2);
    assert_int_equal(accepted(pst_bytes_of(text, len + 2))->count, 100);
    memcpy(text + len, "A:\r\n\r\n", 6);
    struct feed *f = feed_request(pst_bytes_of(text, len + 6));
    assert_int_equal(f->result, PST_H1_FAIL);
    assert_int_equal(f->fault.status, 431);
    assert_int_equal(f->seen, len + 1);
}

static void test_body_limit(void **state)
{
    (void)state;
    struct pst_h1_limits limits = pst_h1_limits_default;

    limits.body_bytes = 5;
    assert_int_equal(
        feed_all(PST_LIT("PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n"), &limits, false, 0)
            ->result,
        PST_H1_DONE);
    struct feed *f =
        feed_all(PST_LIT("PUT / HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\n"), &limits, false, 0);
    assert_int_equal(f->result, PST_H1_FAIL);
    assert_int_equal(f->fault.status, 413);
}

/* A long target is 414, but not if what is seen of it is refused anyway. */
static void test_long_target_with_dots(void **state)
{
    (void)state;
    static char text[10000];

    memset(text, 'a', sizeof(text));
    memcpy(text, "GET /x/../", 10);
    struct feed *f = feed_request(pst_bytes_of(text, sizeof(text)));
    assert_int_equal(f->fault.status, 400);
    memcpy(text, "GET /%zz?/", 10);
    assert_int_equal(feed_request(pst_bytes_of(text, sizeof(text)))->fault.status, 400);
    memcpy(text, "GET /x/bb/", 10);
    assert_int_equal(feed_request(pst_bytes_of(text, sizeof(text)))->fault.status, 414);
}

static bool is_field(const char *line, size_t len)
{
    size_t name = 0, text;

    while (name < len && char_is(line[name], CHAR_TOKEN))
        name++;
    for (text = name + 1; text < len && is_text(line[text]);)
        text++;
    return name > 0 && name < len && line[name] == ':' && text == len;
}

/* Lines that are whole are read 32 bytes at once: every byte at every place of one, and names and
 * values around that length, are taken as in pieces (which feed_request compares), and as the rules
 * say. */
static void test_every_byte_of_a_line(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "A: b",
        "Authorization: x y",
        "X-Original-Method:GET",
        "Sec-Fetch-Mode: cors",
        "Accept-Language: en-GB,en;q=0.80",
        "X-A-Name-Of-30-Bytes-And-No-Id: c",
        "X-A-Name-Of-31-Bytes-And-No-Id-: ",
        "X-A-Name-Of-32-Bytes-And-No-Id--: c",
        "Referer: https://app.example/a/page/of/some/length?and=more#than/64 bytes",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char text[256];
        size_t from = strlen("GET / HTTP/1.1\r\n" HOST), line = strlen(lines[i]);
        size_t len = (size_t)snprintf(
            text, sizeof(text), "GET / HTTP/1.1\r\n" HOST "%s\r\nCookie: a=b; c=d; e=f\r\n\r\n",
            lines[i]);
        for (size_t at = 0; at < line; at++) {
            char was = text[from + at];

            for (int c = 0; c < 256; c++) {
                text[from + at] = (char)c;
                struct feed *f = feed_request(pst_bytes_of(text, len));
                if ((f->result == PST_H1_DONE) != is_field(text + from, line))
                    fail_msg("line %zu, byte %d at %zu: %d", i, c, at, (int)f->result);
            }
            text[from + at] = was;
        }
    }
}

static void test_faults_are_final(void **state)
{
    (void)state;
    struct pst_h1_parser p;
    static struct pst_head head;

    pst_h1_init_request(&p, &pst_h1_limits_default);
    assert_int_equal(pst_h1_parse(&p, PST_LIT("get"), &head), PST_H1_FAIL);
    assert_int_equal(pst_h1_parse(&p, PST_LIT("get / HTTP/1.1\r\n" HOST "\r\n"), &head),
                     PST_H1_FAIL);
    assert_int_equal(p.fault.status, 400);
}

/* --- responses ----------------------------------------------------------------------------- */

static void assert_answer(enum pst_method asked, struct pst_bytes text, int framing,
                          bool keep_alive)
{
    struct feed *f = feed_response(text, asked);

    if (framing < 0) {
        if (f->result != PST_H1_FAIL || f->fault.status != 502)
            fail_msg("not refused: %.*s", (int)text.len, text.ptr);
        return;
    }
    if (f->result != PST_H1_DONE)
        fail_msg("result %d: %.*s", (int)f->result, (int)text.len, text.ptr);
    assert_int_equal(f->head.framing, framing);
    assert_int_equal(f->head.keep_alive, keep_alive);
}

#define ANSWER(asked, framing, keep, text) assert_answer(asked, PST_LIT(text), (int)(framing), keep)
#define GET_ANSWER(framing, keep, text)    ANSWER(PST_METHOD_GET, framing, keep, text)
#define FAULTY(text)                       ANSWER(PST_METHOD_GET, -1, false, text)

static void test_response_is_read(void **state)
{
    (void)state;
    struct feed *f = feed_response(
        PST_LIT("HTTP/1.1 404 Not\tFound \xe9\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc"),
        PST_METHOD_GET);

    assert_int_equal(f->result, PST_H1_DONE);
    assert_int_equal(f->head.status, 404);
    assert_text(f->head.reason, "Not\tFound \xe9");
    assert_int_equal(f->head.count, 2);
    assert_int_equal(f->head.ids[0], PST_FIELD_SERVER);
    assert_int_equal(f->head.content_length, 3);
    f = feed_response(PST_LIT("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), PST_METHOD_GET);
    assert_int_equal(f->result, PST_H1_DONE);
    assert_int_equal(f->head.reason.len, 0);
}

static void test_response_framing(void **state)
{
    (void)state;
    GET_ANSWER(PST_FRAMING_LENGTH, true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    GET_ANSWER(PST_FRAMING_CHUNKED, true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    GET_ANSWER(PST_FRAMING_UNTIL_CLOSE, false, "HTTP/1.1 200 OK\r\n\r\n");
    GET_ANSWER(PST_FRAMING_UNTIL_CLOSE, false, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n");
    GET_ANSWER(PST_FRAMING_LENGTH, false,
               "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
    GET_ANSWER(PST_FRAMING_LENGTH, false, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n");
    GET_ANSWER(PST_FRAMING_LENGTH, true,
               "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n");
    GET_ANSWER(PST_FRAMING_NONE, true, "HTTP/1.1 100 Continue\r\n\r\n");
    GET_ANSWER(PST_FRAMING_NONE, true, "HTTP/1.1 204 No\r\n\r\n");
    GET_ANSWER(PST_FRAMING_NONE, true, "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n");
    GET_ANSWER(PST_FRAMING_NONE, true, "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n");
    ANSWER(PST_METHOD_HEAD, PST_FRAMING_NONE, true, "HTTP/1.1 200 OK\r\n\r\n");
    ANSWER(PST_METHOD_HEAD, PST_FRAMING_NONE, true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    ANSWER(PST_METHOD_HEAD, PST_FRAMING_NONE, true,
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void test_doubtful_responses_are_refused(void **state)
{
    (void)state;
    FAULTY("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
    FAULTY("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n");
    FAULTY("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n");
    FAULTY("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n");
    FAULTY("HTTP/1.1 101 Up\r\nContent-Length: 5\r\n\r\n");
    ANSWER(PST_METHOD_HEAD, -1, false,
           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n");
    FAULTY("HTTP/1.1 20 OK\r\n\r\n");
    FAULTY("HTTP/1.1 2000 OK\r\n\r\n");
    FAULTY("HTTP/1.1 000 OK\r\n\r\n");
    FAULTY("HTTP/1.1 099 OK\r\n\r\n");
    FAULTY("HTTP/1.1 600 OK\r\n\r\n");
    FAULTY("HTTP/1.1  200 OK\r\n\r\n");
    FAULTY("HTTP/2.0 200 OK\r\n\r\n");
    FAULTY("HTTP/1.1\r\n\r\n");
    FAULTY("ICY 200 OK\r\n\r\n");
    FAULTY("\r\nHTTP/1.1 200 OK\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\nContent-Length: 2\n\n");
    FAULTY("HTTP/1.1 200 O\rK\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nX : a\r\n\r\n");
    FAULTY("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n");
}

static void test_switching_protocols(void **state)
{
    (void)state;
    struct feed *f = feed_response(
        PST_LIT("HTTP/1.1 101 Up\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n"),
        PST_METHOD_GET);

    assert_int_equal(f->head.upgrade, PST_UPGRADE_WEBSOCKET);
    f = feed_response(PST_LIT("HTTP/1.1 101 Up\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
                      PST_METHOD_GET);
    assert_int_equal(f->head.upgrade, PST_UPGRADE_OTHER);
    f = feed_response(PST_LIT("HTTP/1.1 101 Up\r\nUpgrade: websocket\r\n\r\n"), PST_METHOD_GET);
    assert_int_equal(f->head.upgrade, PST_UPGRADE_OTHER);
    f = feed_response(
        PST_LIT(
            "HTTP/1.1 200 OK\r\nUpgrade: h2\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"),
        PST_METHOD_GET);
    assert_int_equal(f->head.upgrade, PST_UPGRADE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_is_read),
        cmocka_unit_test(test_request_line_is_exact),
        cmocka_unit_test(test_field_lines_are_exact),
        cmocka_unit_test(test_bad_bytes_are_refused_at_once),
        cmocka_unit_test(test_one_valid_host),
        cmocka_unit_test(test_canonical_host_is_marked),
        cmocka_unit_test(test_request_has_one_framing),
        cmocka_unit_test(test_connection_options),
        cmocka_unit_test(test_expectations),
        cmocka_unit_test(test_upgrades),
        cmocka_unit_test(test_limits_are_exact),
        cmocka_unit_test(test_head_limit),
        cmocka_unit_test(test_field_count),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_long_target_with_dots),
        cmocka_unit_test(test_every_byte_of_a_line),
        cmocka_unit_test(test_faults_are_final),
        cmocka_unit_test(test_response_is_read),
        cmocka_unit_test(test_response_framing),
        cmocka_unit_test(test_doubtful_responses_are_refused),
        cmocka_unit_test(test_switching_protocols),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
