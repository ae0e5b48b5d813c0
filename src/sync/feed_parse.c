#include "postern/sync/feed.h"

#define EPOCH_DIGITS 16

bool pst_feed_publisher_ok(struct pst_bytes publisher)
{
    if (publisher.len == 0 || publisher.len > PST_FEED_PUBLISHER_MAX)
        return false;
    for (size_t i = 0; i < publisher.len; i++) {
        char c = publisher.ptr[i];
        char lower = pst_lower(c);
        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == ':' || c == '-'))
            return false;
    }
    return true;
}

/* Up to the next blank, which is dropped; the last word ends with the text. */
static struct pst_bytes next_word(struct pst_bytes *rest)
{
    size_t end = pst_bytes_find(*rest, ' ');
    struct pst_bytes word = pst_bytes_of(rest->ptr, end);

    *rest = pst_bytes_from(*rest, end < rest->len ? end + 1 : end);
    return word;
}

static bool parse_epoch(struct pst_bytes word, uint64_t *out)
{
    uint64_t value = 0;

    if (word.len != EPOCH_DIGITS)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

static bool parse_number(struct pst_bytes word, uint64_t *out)
{
    return pst_bytes_u63(word, out) && (word.len == 1 || word.ptr[0] != '0');
}

static bool parse_kind(struct pst_bytes word, enum pst_feed_kind *out)
{
    if (word.len != 1 || (word.ptr[0] != 'h' && word.ptr[0] != 'c'))
        return false;
    *out = word.ptr[0] == 'h' ? PST_FEED_HEARTBEAT : PST_FEED_CHANGE;
    return true;
}

bool pst_feed_parse(struct pst_bytes text, struct pst_feed_message *out)
{
    struct pst_feed_message m = {0};

    *out = (struct pst_feed_message){0};
    if (text.len > PST_FEED_MESSAGE_MAX || !pst_bytes_equal(next_word(&text), PST_LIT("v1")) ||
        !parse_epoch(next_word(&text), &m.epoch) || !parse_number(next_word(&text), &m.prev) ||
        !parse_number(next_word(&text), &m.n) || m.prev > m.n ||
        !parse_kind(next_word(&text), &m.kind) || !pst_feed_publisher_ok(text))
        return false;
    m.publisher = text;
    *out = m;
    return true;
}

void pst_feed_write(const struct pst_feed_message *message, struct pst_buf *out)
{
    pst_buf_lit(out, "v1 ");
    pst_buf_hex(out, message->epoch, EPOCH_DIGITS);
    pst_buf_char(out, ' ');
    pst_buf_u64(out, message->prev);
    pst_buf_char(out, ' ');
    pst_buf_u64(out, message->n);
    pst_buf_put(out, message->kind == PST_FEED_HEARTBEAT ? PST_LIT(" h ") : PST_LIT(" c "));
    pst_buf_put(out, message->publisher);
}
