/*
 * h1.h - the strict HTTP/1.1 head parser, for requests and for responses.
 *
 * Purpose  One parser, one truth: what it accepts has exactly one reading, whatever stands in front
 *          of Postern or behind it. Where others are lenient it refuses: CRLF is the only line end,
 *          names are tokens without a blank before the colon, no line is folded, no CTL passes, a
 *          body has one Content-Length or one `Transfer-Encoding: chunked`, a request one valid
 *          Host.
 *
 * How      The caller collects bytes in one buffer, from the first byte of the head on, and calls
 *          with all of them after every read. The parser goes on where it stopped, so that a head
 *          costs the same however it was cut, and a forbidden byte is refused when it is seen. The
 *          buffer may move between two calls; its content may not change.
 *
 * Failure  Never allocates, never fails for lack of anything. A fault is final: the connection
 *          cannot be read any further, so answer with fault.status and close (a fault of a response
 * is 502).
 *
 * Threads  None; a parser belongs to one connection.
 */
#ifndef POSTERN_HTTP_H1_H
#define POSTERN_HTTP_H1_H

#include "postern/base/status.h"
#include "postern/http/message.h"

enum pst_h1_result {
    PST_H1_FAIL = 0, /* see parser->fault */
    PST_H1_MORE,     /* all of the input is seen, the head is not complete */
    PST_H1_DONE      /* the head is filled; head->size bytes of the input are used */
};

/* What is wrong with a message. */
struct pst_fault {
    uint16_t status;    /* what to answer; 502 for responses */
    const char *reason; /* a constant for logs, such as "line feed without carriage return" */
};

struct pst_h1_limits {
    uint32_t head_bytes;          /* the whole head */
    uint32_t field_bytes;         /* one field line without its CRLF */
    uint32_t authorization_bytes; /* the same for Authorization */
    uint32_t cookie_bytes;        /* the same for Cookie */
    uint32_t fields;              /* at most PST_FIELDS_MAX; a higher value counts as that */
    uint32_t target_bytes;
    uint64_t body_bytes; /* largest Content-Length; 0 for any (the route's limit is the body's) */
};

/* 32 KiB, 8 KiB, 16 KiB, 16 KiB, 100, 8 KiB, any. */
extern const struct pst_h1_limits pst_h1_limits_default;

struct pst_h1_parser {
    struct pst_h1_limits limits;
    struct pst_fault fault;
    enum pst_method asked_; /* responses: the request's method */
    uintptr_t base_;        /* where the input was at the last call */
    uint32_t at_;           /* bytes seen */
    uint32_t mark_;         /* start of the line, or of the word, that is being read */
    uint32_t value_;        /* start of the value that is being read */
    uint32_t line_max_;     /* limit of the line that is being read */
    uint8_t state_;
    uint16_t seen_; /* what the fields have said */
    bool response_;
};

/* Ready for the next request. `limits` is copied. To be called again before every head. */
void pst_h1_init_request(struct pst_h1_parser *parser, const struct pst_h1_limits *limits);

/* Ready for the next response to a request with this method; also after an interim one. */
void pst_h1_init_response(struct pst_h1_parser *parser, const struct pst_h1_limits *limits,
                          enum pst_method asked);

/*
 * Takes all bytes from the head's first on. `head` is the same at every call of one head and is
 * whole only after PST_H1_DONE; the parser keeps its progress in both.
 *
 * A request may follow one empty line. Requests get these faults beside 400: 405 for CONNECT, TRACE
 * and TRACK, 501 for a token that is no method Postern can name (M-SEARCH; small letters are 400),
 * 505 for HTTP/x.y, 414 for a long target (400 if what is seen of it is refused in any length), 431
 * for what else is too long, 413 for limits.body_bytes, 417 for an expectation that is not one
 * 100-continue in a head that is correct otherwise. A handshake for websocket that is not complete
 * (GET, no body, key, version 13) is refused; other protocols are not.
 *
 * A response with status 1xx or 204, or to HEAD, or 304 has no body. 101 is told like any other:
 * the caller compares head->upgrade with what it offered. Without Content-Length and chunked the
 * body lasts until the end of the connection and keep_alive is false.
 */
PST_MUST_USE enum pst_h1_result pst_h1_parse(struct pst_h1_parser *parser, struct pst_bytes input,
                                             struct pst_head *head);

#endif
