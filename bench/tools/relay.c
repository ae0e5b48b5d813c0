/* relay.c - a bare epoll relay: the floor of a proxied request
 *
 *   relay PORT UPSTREAM_PORT        PORT 0 picks a free port; prints "port N"; SIGTERM ends it
 *
 * A request leases an upstream connection from a pool, its bytes go over unread but for their
 * framing, and so does the answer: recv, send, recv, send, which is 4.0 system calls per request
 * and all that a proxy cannot avoid. What it leaves out is what a proxy is for.
 *
 *   client side --peer--> upstream side       while a request is under way
 *   pool -> upstream -> upstream -> ...       idle ones, the last used first
 *
 * I1  A side with a peer has a request under way; an upstream without one lies in the pool.
 * I2  A closed side has fd -1 and lives until the batch of events that closed it is done, because
 *     the batch may still hold an event of it. */
#include "tool.h"

struct side {
    int fd;
    bool is_upstream;
    size_t used; /* bytes of an incomplete head */
    size_t rest; /* bytes of the message under way that are still to come */
    struct side *peer;
    struct side *next; /* in the pool or in the graveyard */
    char bytes[65536];
};

static int epoll;
static uint16_t upstream_port;
static struct side *pool;
static struct side *graveyard;

static struct side *create_side(int fd, bool is_upstream)
{
    struct side *side = malloc(sizeof *side);
    if (side == NULL)
        tool_die("malloc");
    side->fd = fd;
    side->is_upstream = is_upstream;
    side->used = 0;
    side->rest = 0;
    side->peer = NULL;
    side->next = NULL;
    tool_watch(epoll, fd, side);
    return side;
}

static void bury(struct side *side)
{
    close(side->fd);
    side->fd = -1;
    side->next = graveyard;
    graveyard = side;
}

static void leave_pool(struct side *side)
{
    for (struct side **at = &pool; *at != NULL; at = &(*at)->next) {
        if (*at == side) {
            *at = side->next;
            return;
        }
    }
}

static void end_side(struct side *side)
{
    if (side->peer != NULL)
        bury(side->peer);
    else if (side->is_upstream)
        leave_pool(side);
    bury(side);
}

static struct side *lease_upstream(void)
{
    struct side *side = pool;
    if (side != NULL) {
        pool = side->next;
        return side;
    }
    int fd = tool_connect(upstream_port);
    return fd < 0 ? NULL : create_side(fd, true);
}

static void release_upstream(struct side *side)
{
    side->peer->peer = NULL;
    side->peer = NULL;
    side->next = pool;
    pool = side;
}

/* Sends what was read to the other side; a socket that does not take it whole ends both, for a
 * floor needs no back-pressure. */
static bool pass_on(struct side *side, size_t size)
{
    if (side->peer == NULL) {
        side->peer = side->is_upstream ? NULL : lease_upstream();
        if (side->peer == NULL)
            return false;
        side->peer->peer = side;
    }
    if (send(side->peer->fd, side->bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        return false;
    if (side->rest == 0 && side->is_upstream)
        release_upstream(side);
    return true;
}

static bool read_side(struct side *side)
{
    ssize_t got = recv(side->fd, side->bytes + side->used, sizeof side->bytes - side->used, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    size_t size = side->used + (size_t)got;
    if (side->rest == 0) {
        size_t message = tool_message_size(side->bytes, size);
        if (message == 0) {
            side->used = size;
            return size < sizeof side->bytes;
        }
        side->rest = message;
    }
    if (size > side->rest)
        return false; /* pipelining: the bench does none */
    side->used = 0;
    side->rest -= size;
    return pass_on(side, size);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        tool_nodelay(fd);
        create_side(fd, false);
    }
}

static void empty_graveyard(void)
{
    while (graveyard != NULL) {
        struct side *side = graveyard;
        graveyard = side->next;
        free(side);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: relay PORT UPSTREAM_PORT\n");
        return 2;
    }
    tool_stop_on_term();
    upstream_port = (uint16_t)tool_number(argv[2], UINT16_MAX);
    int listener = tool_listen((uint16_t)tool_number(argv[1], UINT16_MAX));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        tool_die("epoll_create1");
    tool_watch(epoll, listener, NULL);
    while (!tool_stopped) {
        struct epoll_event events[TOOL_EVENTS];
        int count = epoll_wait(epoll, events, TOOL_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (side == NULL)
                accept_all(listener);
            else if (side->fd >= 0 && !read_side(side))
                end_side(side);
        }
        empty_graveyard();
    }
    return 0;
}
