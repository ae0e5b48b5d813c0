/*
 * flow.h - a server on a worker of its own thread, a fake engine, and blocking sockets for the
 * client's and the upstream's part. The test is client and upstream at once, so every order can be
 * forced.
 */
#ifndef POSTERN_TESTS_UNIT_PROXY_FLOW_H
#define POSTERN_TESTS_UNIT_PROXY_FLOW_H

#include "postern/proxy/server.h"

struct flow {
    struct pst_worker *worker;
    struct pst_server *server;
    struct pst_server_config config;
    struct pst_listener_config listener;
    struct pst_upstream_config upstream;
    struct pst_cidr trusted;
    char upstream_text[64];
    int upstream_listener;
    uint16_t port;
    _Atomic int released, drained, held;
    _Atomic bool cut; /* what is held is cut at once */
};

/* Fake engine, by the path's beginning:
 *   /deny /unauth /wait (allowed after a message) /inspect (wants the body, 1000 bytes) /small
 * (body of at most 10 bytes) /shadow /template (workspace "red")   everything else is allowed */
struct pst_metrics *flow_metrics(void);

void flow_start(struct flow *f);
void flow_stop(struct flow *f);

int flow_connect(const struct flow *f);
int flow_accept(struct flow *f);             /* waits at most 2 s; -1 */
bool flow_no_accept(struct flow *f, int ms); /* nobody connects within that time */
void flow_send(int fd, const char *text);
void flow_send_bytes(int fd, const void *bytes, size_t len);
/* Reads until `end` was seen or 2 s have gone by; static memory, NUL-terminated. */
const char *flow_read_until(int fd, const char *end);
const char *flow_read_head(int fd); /* up to and with the empty line, byte by byte */
bool flow_is_closed(int fd,
                    int ms); /* end or reset comes within that time, other bytes are dropped */
bool flow_is_quiet(int fd, int ms); /* nothing comes within that time */

#endif
