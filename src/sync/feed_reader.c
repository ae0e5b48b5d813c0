/*
 * hiredis parses; what it found is kept in one reply of fixed size, not in its tree: a server can
 * announce an array of a billion elements in twelve bytes.
 */
#include "feed_internal.h"

#include <hiredis/read.h>

#define REPLY_BYTES_MAX  65536
#define ARRAY_MAX        64
#define NOT_A_ROOT(task) ((task)->parent != NULL)

static struct pst_bytes keep(struct feed_reply *reply, const char *text, size_t len)
{
    if (len > sizeof(reply->space) - reply->used)
        return (struct pst_bytes){0};
    char *at = reply->space + reply->used;
    if (len > 0)
        memcpy(at, text, len);
    reply->used += len;
    return pst_bytes_of(at, len);
}

static struct feed_reply *begin(const redisReadTask *task, enum feed_reply_kind kind)
{
    struct feed_reply *reply = task->privdata;

    if (!NOT_A_ROOT(task)) {
        reply->kind = kind;
        reply->text = (struct pst_bytes){0};
        memset(reply->items, 0, sizeof(reply->items));
        reply->count = 0;
        reply->used = 0;
    }
    return reply;
}

static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct feed_reply *reply = begin(task, task->type == REDIS_REPLY_ERROR    ? FEED_ERROR
                                           : task->type == REDIS_REPLY_STATUS ? FEED_STATUS
                                                                              : FEED_STRING);
    if (!NOT_A_ROOT(task))
        reply->text = keep(reply, text, len);
    else if (!NOT_A_ROOT(task->parent) && task->idx < FEED_ITEMS)
        reply->items[task->idx] = keep(reply, text, len);
    return reply;
}

static void *on_array(const redisReadTask *task, int elements)
{
    struct feed_reply *reply = begin(task, FEED_ARRAY);

    if (elements > ARRAY_MAX)
        return NULL; /* ends the reader, as lack of memory would */
    if (!NOT_A_ROOT(task))
        reply->count = elements;
    return reply;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    (void)value;
    return begin(task, FEED_INTEGER);
}

static void *on_nil(const redisReadTask *task)
{
    return begin(task, FEED_NIL);
}

static void on_free(void *object)
{
    (void)object; /* is part of the reader */
}

static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};

enum pst_status feed_reader_open(struct feed_reader *reader)
{
    reader->fed = 0;
    reader->reader = redisReaderCreateWithFunctions(&functions);
    if (reader->reader == NULL)
        return PST_E_NOMEM;
    reader->reader->privdata = &reader->reply;
    return PST_OK;
}

void feed_reader_close(struct feed_reader *reader)
{
    if (reader->reader != NULL)
        redisReaderFree(reader->reader);
    reader->reader = NULL;
}

enum pst_status feed_reader_feed(struct feed_reader *reader, struct pst_bytes bytes)
{
    reader->fed += bytes.len;
    return redisReaderFeed(reader->reader, bytes.ptr, bytes.len) == REDIS_OK ? PST_OK : PST_E_NOMEM;
}

enum pst_status feed_reader_next(struct feed_reader *reader)
{
    void *found = NULL;

    if (redisReaderGetReply(reader->reader, &found) != REDIS_OK)
        return PST_E_INVALID;
    if (found == NULL)
        return reader->fed > REPLY_BYTES_MAX ? PST_E_LIMIT : PST_PENDING;
    reader->fed = reader->reader->len - reader->reader->pos;
    return PST_OK;
}
