/* responder.c - a bare epoll responder: the floor of an answer, and the bench's upstream
 *
 *   responder [--empty] PORT        PORT 0 picks a free port; prints "port N"; SIGTERM ends it
 *
 * One recv and one send per request and nothing between them but a look at the last four bytes.
 * A request has no body and is answered before the next one is sent (no pipelining); both hold for
 * the load generator, nginx, Envoy and Postern as the bench uses them. --empty answers without a
 * body, as an auth_request responder must. */
#include "tool.h"

struct conn {
    int fd;
    size_t used;
    char bytes[16384];
};

static const char full_answer[] = "HTTP/1.1 200 OK\r\n"
                                  "Server: bench\r\n"
                                  "Content-Type: application/json\r\n"
                                  "Cache-Control: no-store\r\n"
                                  "Content-Length: 47\r\n"
                                  "\r\n"
                                  "{\"id\":\"00000000-0000-4000-8000-000000000096\"}\r\n";
static const char empty_answer[] = "HTTP/1.1 200 OK\r\n"
                                   "Server: bench\r\n"
                                   "Content-Length: 0\r\n"
                                   "\r\n";
_Static_assert(sizeof "{\"id\":\"00000000-0000-4000-8000-000000000096\"}\r\n" - 1 == 47,
               "Content-Length of full_answer");

static void accept_all(int epoll, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *conn = malloc(sizeof *conn);
        if (conn == NULL) {
            close(fd);
            continue;
        }
        conn->fd = fd;
        conn->used = 0;
        tool_nodelay(fd);
        tool_watch(epoll, fd, conn);
    }
}

/* False: the connection is over. A socket that does not take a whole answer ends it too; a floor
 * needs no back-pressure. */
static bool serve(struct conn *conn, const char *answer, size_t answer_size)
{
    ssize_t got = recv(conn->fd, conn->bytes + conn->used, sizeof conn->bytes - conn->used, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    conn->used += (size_t)got;
    if (conn->used < 4 || memcmp(conn->bytes + conn->used - 4, "\r\n\r\n", 4) != 0)
        return conn->used < sizeof conn->bytes;
    conn->used = 0;
    return send(conn->fd, answer, answer_size, MSG_NOSIGNAL) == (ssize_t)answer_size;
}

int main(int argc, char **argv)
{
    bool empty = argc == 3 && strcmp(argv[1], "--empty") == 0;
    if (argc != 2 && !empty) {
        fprintf(stderr, "usage: responder [--empty] PORT\n");
        return 2;
    }
    const char *answer = empty ? empty_answer : full_answer;
    size_t answer_size = empty ? sizeof empty_answer - 1 : sizeof full_answer - 1;
    tool_stop_on_term();
    int listener = tool_listen((uint16_t)tool_number(argv[argc - 1], UINT16_MAX));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        tool_die("epoll_create1");
    tool_watch(epoll, listener, NULL);
    while (!tool_stopped) {
        struct epoll_event events[TOOL_EVENTS];
        int count = epoll_wait(epoll, events, TOOL_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn == NULL) {
                accept_all(epoll, listener);
            } else if (!serve(conn, answer, answer_size)) {
                close(conn->fd);
                free(conn);
            }
        }
    }
    return 0;
}
