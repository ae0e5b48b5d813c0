/*
 * Chunked:
 *
 *   SIZE [-> EXT_NAME [-> EXT_VALUE -> EXT_TOKEN | EXT_QUOTED [<-> EXT_ESCAPED] -> EXT_END] ...]
 *        -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *                   -> TRAILER [-> TRAILER_NAME -> TRAILER_VALUE -> TRAILER_LF -> TRAILER ...]
 *                   -> END_LF -> DONE
 *
 * Data is given out in runs; all other bytes go through take_byte one at a time and count as
 * framing.
 */
#include "postern/http/body.h"

#include "chars_internal.h"

#define SIZE_DIGITS_MAX 16

enum state {
    B_DONE = 0, /* pst_body_is_done relies on the value */
    B_FAILED,
    B_LENGTH,
    B_UNTIL_CLOSE,
    B_SIZE,
    B_EXT_NAME,
    B_EXT_VALUE,
    B_EXT_TOKEN,
    B_EXT_QUOTED,
    B_EXT_ESCAPED,
    B_EXT_END,
    B_SIZE_LF,
    B_DATA,
    B_DATA_CR,
    B_DATA_LF,
    B_TRAILER,
    B_TRAILER_NAME,
    B_TRAILER_VALUE,
    B_TRAILER_LF,
    B_END_LF,
};

const struct pst_body_limits pst_body_limits_default = {
    .body_bytes = 4294967296,
    .extension_bytes = 256,
    .overhead_bytes = 102400,
    .field_bytes = 8192,
    .trailer_bytes = 32768,
    .fields = 100,
};

static bool refuse(struct pst_body *b, uint16_t status, const char *reason)
{
    b->fault = (struct pst_fault){.status = status, .reason = reason};
    b->state_ = B_FAILED;
    return false;
}

static bool go(struct pst_body *b, enum state state)
{
    b->state_ = (uint8_t)state;
    return true;
}

static bool is_above_limit(const struct pst_body *b, uint64_t more)
{
    uint64_t max = b->limits.body_bytes;

    return max != 0 && (b->data_bytes > max || more > max - b->data_bytes);
}

void pst_body_init(struct pst_body *body, const struct pst_head *head,
                   const struct pst_body_limits *limits)
{
    *body = (struct pst_body){.limits = *limits, .framing = head->framing};
    switch (head->framing) {
    case PST_FRAMING_NONE:
        go(body, B_DONE);
        break;
    case PST_FRAMING_LENGTH:
        body->left_ = head->content_length;
        go(body, body->left_ > 0 ? B_LENGTH : B_DONE);
        break;
    case PST_FRAMING_CHUNKED:
        go(body, B_SIZE);
        break;
    case PST_FRAMING_UNTIL_CLOSE:
        go(body, B_UNTIL_CLOSE);
        break;
    }
}

static bool take_size(struct pst_body *b, char c)
{
    if (char_is(c, CHAR_HEX)) {
        if (b->digits_ == SIZE_DIGITS_MAX)
            return refuse(b, 400, "chunk size of more than 16 digits");
        b->digits_++;
        b->left_ = b->left_ << 4 | hex_value(c);
        return true;
    }
    if (b->digits_ == 0)
        return refuse(b, 400, "chunk without a size");
    if (c == '\r')
        return go(b, B_SIZE_LF);
    if (c != ';')
        return refuse(b, 400, "chunk size is no hexadecimal number");
    b->line_ = 0;
    return go(b, B_EXT_NAME);
}

/* The size line is complete. */
static bool begin_chunk(struct pst_body *b)
{
    b->digits_ = 0;
    if (b->left_ == 0)
        return go(b, B_TRAILER);
    if (b->left_ > INT64_MAX || is_above_limit(b, b->left_))
        return refuse(b, 413, "body above the limit");
    return go(b, B_DATA);
}

/* After a complete extension: another one or the end of the line. */
static bool end_extension(struct pst_body *b, char c)
{
    if (c == '\r')
        return go(b, B_SIZE_LF);
    if (c != ';')
        return refuse(b, 400, "chunk extension is not valid");
    b->line_ = 0;
    return go(b, B_EXT_NAME);
}

/* Inside a quoted-string, also behind a backslash. */
static bool take_quoted(struct pst_body *b, char c)
{
    if (!is_text(c))
        return refuse(b, 400, "control byte in a chunk extension");
    if (b->state_ == B_EXT_ESCAPED)
        return go(b, B_EXT_QUOTED);
    return go(b, c == '"' ? B_EXT_END : c == '\\' ? B_EXT_ESCAPED : B_EXT_QUOTED);
}

static bool take_extension(struct pst_body *b, char c)
{
    bool quoted = b->state_ == B_EXT_QUOTED || b->state_ == B_EXT_ESCAPED;
    bool ends = !quoted && (c == ';' || c == '\r');

    if (!ends && ++b->line_ > b->limits.extension_bytes)
        return refuse(b, 400, "chunk extension is too long");
    if (quoted)
        return take_quoted(b, c);
    if (b->state_ == B_EXT_VALUE && c == '"')
        return go(b, B_EXT_QUOTED);
    if (b->state_ == B_EXT_VALUE)
        return char_is(c, CHAR_TOKEN) ? go(b, B_EXT_TOKEN)
                                      : refuse(b, 400, "chunk extension without a value");
    if (b->state_ != B_EXT_END && char_is(c, CHAR_TOKEN))
        return true;
    if (b->state_ == B_EXT_NAME && b->line_ == (ends ? 0 : 1))
        return refuse(b, 400, "chunk extension without a name");
    if (b->state_ == B_EXT_NAME && c == '=')
        return go(b, B_EXT_VALUE);
    return end_extension(b, c);
}

static bool begin_trailer(struct pst_body *b, char c)
{
    if (c == '\r')
        return go(b, B_END_LF);
    if (!char_is(c, CHAR_TOKEN))
        return refuse(b, 400, "trailer is no field");
    if (b->fields_++ == b->limits.fields)
        return refuse(b, 400, "too many trailers");
    b->line_ = 1;
    return go(b, B_TRAILER_NAME);
}

/* A byte of a trailer section; the same grammar as in a head, nothing kept. */
static bool take_trailer(struct pst_body *b, char c)
{
    if (++b->trailer_ > b->limits.trailer_bytes)
        return refuse(b, 400, "trailers are too long");
    if (b->state_ == B_TRAILER)
        return begin_trailer(b, c);
    if (b->state_ == B_TRAILER_LF)
        return c == '\n' ? go(b, B_TRAILER) : refuse(b, 400, "carriage return without line feed");
    if (c == '\r' && b->state_ == B_TRAILER_VALUE)
        return go(b, B_TRAILER_LF);
    if (++b->line_ > b->limits.field_bytes)
        return refuse(b, 400, "trailer is too long");
    if (b->state_ == B_TRAILER_NAME) {
        if (c == ':')
            return go(b, B_TRAILER_VALUE);
        return char_is(c, CHAR_TOKEN) || refuse(b, 400, "trailer is no field");
    }
    return is_text(c) || refuse(b, 400, "control byte in a trailer");
}

static bool take_byte(struct pst_body *b, char c)
{
    switch ((enum state)b->state_) {
    case B_SIZE:
        return take_size(b, c);
    case B_SIZE_LF:
        return c == '\n' ? begin_chunk(b) : refuse(b, 400, "chunk size line without line feed");
    case B_DATA_CR:
        return c == '\r' ? go(b, B_DATA_LF) : refuse(b, 400, "chunk is longer than its size");
    case B_DATA_LF:
        return c == '\n' ? go(b, B_SIZE) : refuse(b, 400, "chunk is longer than its size");
    case B_END_LF:
        return c == '\n' ? go(b, B_DONE) : refuse(b, 400, "carriage return without line feed");
    case B_EXT_NAME:
    case B_EXT_VALUE:
    case B_EXT_TOKEN:
    case B_EXT_QUOTED:
    case B_EXT_ESCAPED:
    case B_EXT_END:
        return take_extension(b, c);
    case B_TRAILER:
    case B_TRAILER_NAME:
    case B_TRAILER_VALUE:
    case B_TRAILER_LF:
        return take_trailer(b, c);
    case B_DONE:
    case B_FAILED:
    case B_LENGTH:
    case B_UNTIL_CLOSE:
    case B_DATA:
        break;
    }
    return refuse(b, 400, "internal: no framing is expected here");
}

/* Framing bytes from *used on, as many as there are. False: a fault. */
static bool take_framing(struct pst_body *b, struct pst_bytes input, size_t *used)
{
    while (*used < input.len && b->state_ != B_DATA && b->state_ != B_DONE) {
        b->framing_bytes++;
        if (b->framing_bytes > b->data_bytes + b->limits.overhead_bytes)
            return refuse(b, 400, "more chunk framing than data");
        if (!take_byte(b, input.ptr[(*used)++]))
            return false;
    }
    return true;
}

/* The run of data at `at`. */
static struct pst_bytes take_data(struct pst_body *b, struct pst_bytes input, size_t at)
{
    struct pst_bytes data = pst_bytes_from(input, at);

    if (is_above_limit(b, b->state_ == B_UNTIL_CLOSE ? data.len : b->left_)) {
        refuse(b, 413, "body above the limit");
        return (struct pst_bytes){0};
    }
    if (b->state_ == B_UNTIL_CLOSE) {
        b->data_bytes += data.len;
        return data;
    }
    if (data.len > b->left_)
        data.len = (size_t)b->left_;
    b->left_ -= data.len;
    b->data_bytes += data.len;
    if (b->left_ == 0)
        go(b, b->state_ == B_LENGTH ? B_DONE : B_DATA_CR);
    return data;
}

enum pst_body_result pst_body_feed(struct pst_body *body, struct pst_bytes input, size_t *used,
                                   struct pst_bytes *data)
{
    bool plain = body->state_ == B_LENGTH || body->state_ == B_UNTIL_CLOSE;

    *used = 0;
    *data = (struct pst_bytes){0};
    if (body->state_ == B_FAILED || (!plain && !take_framing(body, input, used)))
        return PST_BODY_FAIL;
    if (*used < input.len && body->state_ != B_DONE) {
        *data = take_data(body, input, *used);
        *used += data->len;
    }
    return body->state_ == B_FAILED ? PST_BODY_FAIL
           : body->state_ == B_DONE ? PST_BODY_DONE
                                    : PST_BODY_MORE;
}

bool pst_body_ends_here(const struct pst_body *body)
{
    return body->state_ == B_DONE || body->state_ == B_UNTIL_CLOSE;
}
