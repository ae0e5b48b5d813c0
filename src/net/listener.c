#include "postern/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32
#define BACKLOG          4096

struct pst_acceptor {
    struct pst_worker *worker;
    const struct pst_acceptor_ops *ops;
    void *owner;
    int fd, spare_fd;
    bool nodelay, closed;
    struct event event;
    struct pst_timer rest;
    struct pst_grave grave;
};

/* ---- the socket ---- */

/* A socket file that refuses connections was left behind by a process that is gone. Any other file
 * refuses them too, and is none of ours. */
static void remove_stale(const struct pst_address *address)
{
    struct stat st;

    if (lstat(address->sa.unix_.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return;
    if (connect(fd, &address->sa.any, address->len) != 0 && errno == ECONNREFUSED)
        unlink(address->sa.unix_.sun_path);
    close(fd);
}

static enum pst_status fail(int fd, const struct pst_address *address, const char *what,
                            struct pst_error *error)
{
    char text[PST_ADDRESS_TEXT_MAX + 1] = "";
    struct pst_buf where = pst_buf_of(text, sizeof(text) - 1);
    int number = errno;

    pst_address_text(address, &where);
    if (fd >= 0)
        close(fd);
    return pst_error_set(error, PST_E_IO, text, "%s: error %d (%s)", what, number,
                         strerrordesc_np(number));
}

enum pst_status pst_listen(const struct pst_address *address, int *out, struct pst_address *bound,
                           struct pst_error *error)
{
    int on = 1;
    int family = address->sa.any.sa_family;

    *out = -1;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(fd, address, "socket", error);
    if (family == AF_UNIX) {
        remove_stale(address);
    } else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
               setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
        return fail(fd, address, "setsockopt", error);
    }
    if (bind(fd, &address->sa.any, address->len) != 0)
        return fail(fd, address, "bind", error);
    if (listen(fd, BACKLOG) != 0)
        return fail(fd, address, "listen", error);
    if (bound != NULL) {
        *bound = *address;
        bound->len = sizeof(bound->sa);
        if (family == AF_UNIX || getsockname(fd, &bound->sa.any, &bound->len) != 0)
            *bound = *address;
    }
    *out = fd;
    return PST_OK;
}

enum pst_status pst_listen_is_free(const struct pst_address *address, struct pst_error *error)
{
    int on = 1;
    int family = address->sa.any.sa_family;

    if (family == AF_UNIX)
        return PST_OK;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(fd, address, "socket", error);
    /* Without SO_REUSEPORT a bind fails while anybody listens; SO_REUSEADDR: not for what only
     * lingers. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
        return fail(fd, address, "setsockopt", error);
    if (bind(fd, &address->sa.any, address->len) != 0)
        return fail(fd, address, "bind", error);
    close(fd);
    return PST_OK;
}

/* ---- the acceptor ---- */

/* Out of descriptors: what waits is taken with the spare one and closed, so that its client learns
 * of it at once and the backlog does not fill with the dead. */
static void shed_one(struct pst_acceptor *a)
{
    close(a->spare_fd);
    int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void rest(struct pst_acceptor *a)
{
    event_del(&a->event);
    pst_timer_set(a->worker, &a->rest, pst_worker_now(a->worker) + PST_TICK_NS);
}

static void rested(struct pst_timer *timer)
{
    struct pst_acceptor *a = pst_container_of(timer, struct pst_acceptor, rest);

    event_add(&a->event, NULL);
}

/* One connection. False when there is none, or none can be had. */
static bool accept_one(struct pst_acceptor *a)
{
    struct pst_address peer = {.len = sizeof(peer.sa)};
    int on = 1;
    int client = accept4(a->fd, &peer.sa.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            shed_one(a);
            rest(a);
            return false;
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    if (a->nodelay)
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    a->ops->accepted(a->owner, client, &peer);
    return true;
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct pst_acceptor *a = arg;

    (void)fd, (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN && !a->closed && accept_one(a); i++)
        continue;
}

void pst_acceptor_flush(struct pst_acceptor *a)
{
    for (int i = 0; i < 2 * BACKLOG && !a->closed && accept_one(a); i++)
        continue;
}

enum pst_status pst_acceptor_open(struct pst_worker *worker, int fd,
                                  const struct pst_acceptor_ops *ops, void *owner,
                                  struct pst_acceptor **out)
{
    struct pst_address self = {.len = sizeof(self.sa)};

    *out = NULL;
    struct pst_acceptor *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        close(fd);
        return PST_E_NOMEM;
    }
    *a = (struct pst_acceptor){.worker = worker, .ops = ops, .owner = owner, .fd = fd};
    a->rest.fire = rested;
    a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    a->nodelay = getsockname(fd, &self.sa.any, &self.len) == 0 && self.sa.any.sa_family != AF_UNIX;
    if (event_assign(&a->event, worker->base, fd, EV_READ | EV_PERSIST, on_ready, a) != 0 ||
        event_add(&a->event, NULL) != 0) {
        pst_acceptor_close(a);
        return PST_E_IO;
    }
    *out = a;
    return PST_OK;
}

static void free_acceptor(struct pst_grave *grave)
{
    free(pst_container_of(grave, struct pst_acceptor, grave));
}

void pst_acceptor_close(struct pst_acceptor *a)
{
    if (a == NULL)
        return;
    a->closed = true;
    pst_timer_cancel(&a->rest);
    if (event_initialized(&a->event))
        event_del(&a->event);
    close(a->fd);
    if (a->spare_fd >= 0)
        close(a->spare_fd);
    pst_worker_bury(a->worker, &a->grave, free_acceptor);
}
