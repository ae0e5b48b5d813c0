/*
 * body.h - where a body's data is and where the body ends.
 *
 * Purpose  Turns the bytes behind a head into data, for all framings. Chunk sizes, extensions and
 *          trailers are checked to the letter and then dropped: nothing of the sender's framing is
 *          passed on, nothing of a trailer is ever a header.
 *
 * How      Feed what was read. Each call takes some bytes from the front of the input, of which at
 *          most one run is data, in place. Call again with the rest until it is empty, or the body
 *          is done. What follows a body is not touched.
 *
 * Memory   Plain state, about 100 bytes. Copies nothing, allocates nothing.
 *
 * Failure  A fault is final: the message cannot be completed.
 */
#ifndef POSTERN_HTTP_BODY_H
#define POSTERN_HTTP_BODY_H

#include "postern/base/status.h"
#include "postern/http/h1.h"
#include "postern/http/message.h"

struct pst_body_limits {
    uint64_t body_bytes;      /* data; 0 for any */
    uint32_t extension_bytes; /* one chunk extension, without its semicolon */
    uint32_t overhead_bytes;  /* chunk framing may exceed the data by this */
    uint32_t field_bytes;     /* one trailer line */
    uint32_t trailer_bytes;   /* all of them */
    uint32_t fields;          /* how many */
};

/* 4 GiB, 256, 100 KiB, 8 KiB, 32 KiB, 100. */
extern const struct pst_body_limits pst_body_limits_default;

enum pst_body_result {
    PST_BODY_FAIL = 0, /* see body->fault */
    PST_BODY_MORE,     /* go on with what is left of the input, then with what is read next */
    PST_BODY_DONE      /* this was the end of the body; the rest of the input is not its */
};

struct pst_body {
    struct pst_body_limits limits;
    struct pst_fault fault; /* 400 or 413 */
    enum pst_framing framing;
    uint64_t data_bytes;    /* given out so far */
    uint64_t framing_bytes; /* chunk framing so far */
    uint64_t left_;         /* of the body, or of the chunk */
    uint32_t line_;         /* bytes of the extension, or of the trailer line */
    uint32_t trailer_;      /* bytes of all trailers */
    uint32_t fields_;
    uint8_t digits_;
    uint8_t state_;
};

/* For the body that this head announces. If it can be seen already that it is too large, the first
 * call of feed fails. A body with no bytes is done from the start (see pst_body_is_done). The
 * limits in *body may be changed between two calls: they hold from the next one on. */
void pst_body_init(struct pst_body *body, const struct pst_head *head,
                   const struct pst_body_limits *limits);

static inline bool pst_body_is_done(const struct pst_body *body)
{
    return body->state_ == 0;
}

/* Takes *used bytes from the front of `input`; `data` is the run of data among them, or empty. With
 * PST_BODY_MORE either the input is used up or *used is at least 1. */
PST_MUST_USE enum pst_body_result pst_body_feed(struct pst_body *body, struct pst_bytes input,
                                                size_t *used, struct pst_bytes *data);

/* The connection ended: was that the end of the body too? If not, the message is incomplete. */
bool pst_body_ends_here(const struct pst_body *body);

#endif
