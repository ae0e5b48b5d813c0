/* tool.h - what the three bench tools share: numbers, loopback sockets, message framing
 *
 * Purpose: load, relay and responder are the yardsticks of `make bench`. They do as little as a
 *   program can do, so that what a real server adds is seen; they are no servers to be used.
 * Framing: end of head and Content-Length, nothing else. No chunked coding, no HEAD, no 1xx: the
 *   bench sends none of them, and a yardstick that parsed more would be a worse yardstick.
 * Failure: set-up errors end the program with one line on standard error and exit code 2.
 * Threads: one. */
#ifndef POSTERN_BENCH_TOOL_H
#define POSTERN_BENCH_TOOL_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOOL_EVENTS 64

static volatile sig_atomic_t tool_stopped;

static inline void tool_on_term(int sig)
{
    (void)sig;
    tool_stopped = 1;
}

/* Without SA_RESTART, so that epoll_wait returns. */
static inline void tool_stop_on_term(void)
{
    struct sigaction action = {.sa_handler = tool_on_term};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

__attribute__((noreturn)) static inline void tool_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno != 0 ? strerror(errno) : "bad value");
    exit(2);
}

/* Decimal digits up to max; anything else ends the program. */
static inline uint64_t tool_number(const char *text, uint64_t max)
{
    uint64_t value = 0;
    errno = 0;
    if (text[0] == '\0')
        tool_die("empty number");
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || value > (max - (uint64_t)(*at - '0')) / 10)
            tool_die(text);
        value = value * 10 + (uint64_t)(*at - '0');
    }
    return value;
}

static inline struct sockaddr_in tool_loopback(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static inline void tool_nodelay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* A listening socket on 127.0.0.1; prints "port N" (port 0 picks a free one). */
static inline int tool_listen(uint16_t port)
{
    struct sockaddr_in address = tool_loopback(port);
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        tool_die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        tool_die("bind");
    if (listen(fd, 1024) < 0)
        tool_die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        tool_die("getsockname");
    printf("port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* A connected, non-blocking socket to 127.0.0.1, or -1. The connect itself blocks: on loopback it
 * is done at once. */
static inline int tool_connect(uint16_t port)
{
    struct sockaddr_in address = tool_loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        close(fd);
        return -1;
    }
    tool_nodelay(fd);
    return fd;
}

static inline void tool_watch(int epoll, int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        tool_die("epoll_ctl");
}

static inline bool tool_is_content_length(const char *line, size_t size)
{
    static const char name[] = "content-length:";
    if (size < sizeof name - 1 || (line[0] | 0x20) != 'c')
        return false;
    for (size_t i = 0; i < sizeof name - 1; i++)
        if ((line[i] | (name[i] == '-' || name[i] == ':' ? 0 : 0x20)) != name[i])
            return false;
    return true;
}

/* Size of the whole first message in bytes (head and body by Content-Length), or 0 while its head
 * is not complete. */
static inline size_t tool_message_size(const char *bytes, size_t size)
{
    size_t body = 0;
    const char *line = bytes;
    const char *end = bytes + size;
    const char *feed;
    while ((feed = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        size_t length = (size_t)(feed - line);
        if (length == 1 && line[0] == '\r')
            return (size_t)(feed + 1 - bytes) + body;
        if (tool_is_content_length(line, length))
            for (size_t i = sizeof "content-length:" - 1; i < length; i++)
                if (line[i] >= '0' && line[i] <= '9')
                    body = body * 10 + (size_t)(line[i] - '0');
        line = feed + 1;
    }
    return 0;
}

#endif
