/* The words and steps the flow tests share. */
#ifndef TEST_FLOW_STEPS_H
#define TEST_FLOW_STEPS_H

#include "flow_body.h"

#define GET(path)                                                                                  \
    "GET " path " HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer secret\r\n\r\n"
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static inline void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("missing \"%s\" in:\n%s", part, text);
}

static inline void lacks(const char *text, const char *part)
{
    if (strcasestr(text, part) != NULL)
        fail_msg("unwanted \"%s\" in:\n%s", part, text);
}

static inline int serve_one(struct flow *f, int up, const char *answer)
{
    if (up < 0)
        up = flow_accept(f);
    assert_true(up >= 0);
    flow_read_head(up);
    flow_send(up, answer);
    return up;
}

#endif
