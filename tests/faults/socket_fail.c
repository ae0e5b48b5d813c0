/* socket_fail.c - a library to be preloaded: of the process's sends and receives on TCP over IPv4
 * one in POSTERN_TEAR_EACH is refused as after a reset, one as at a full or empty buffer, and one
 * moves less than it could. What it does at which call depends on POSTERN_TEAR_SEED and on the
 * order of the calls. */
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum tear { NOTHING, RESET, EMPTY, SHORT };

static unsigned long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtoul(text, NULL, 10);
}

/* splitmix64 over a counter. */
static unsigned long dice(void)
{
    static _Atomic unsigned long calls;
    unsigned long z =
        (atomic_fetch_add(&calls, 1) + number("POSTERN_TEAR_SEED") * 7919) * 0x9e3779b97f4a7c15ul;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static bool is_tcp4(int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    return getsockname(fd, (struct sockaddr *)&name, &len) == 0 && name.ss_family == AF_INET;
}

static enum tear tear(int fd)
{
    unsigned long each = number("POSTERN_TEAR_EACH"), side = each == 0 ? 0 : dice() % each;

    return each == 0 || side > SHORT || !is_tcp4(fd) ? NOTHING : (enum tear)side;
}

/* Whether the call fails; else *len is what it may move. */
static bool fails(int fd, size_t *len)
{
    switch (*len == 0 ? NOTHING : tear(fd)) {
    case NOTHING:
        return false;
    case RESET:
        (void)shutdown(fd, SHUT_RDWR);
        errno = ECONNRESET;
        return true;
    case EMPTY:
        errno = EAGAIN;
        return true;
    case SHORT:
        *len = 1 + dice() % *len;
        return false;
    }
    return false;
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int);

    *(void **)&real = dlsym(RTLD_NEXT, "send");
    return fails(fd, &len) ? -1 : real(fd, bytes, len, flags);
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    ssize_t (*real)(int, void *, size_t, int);

    *(void **)&real = dlsym(RTLD_NEXT, "recv");
    return fails(fd, &len) ? -1 : real(fd, bytes, len, flags);
}

/* Postern asks the kernel itself. */
long syscall(long call, ...)
{
    long (*real)(long, ...), at[6];
    va_list args;

    va_start(args, call);
    for (int i = 0; i < 6; i++)
        at[i] = va_arg(args, long);
    va_end(args);
    if (call == SYS_sendto && at[4] == 0)
        return send((int)at[0], (const void *)at[1], (size_t)at[2], (int)at[3]);
    if (call == SYS_recvfrom && at[4] == 0)
        return recv((int)at[0], (void *)at[1], (size_t)at[2], (int)at[3]);
    *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(call, at[0], at[1], at[2], at[3], at[4], at[5]);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*real)(int, const struct msghdr *, int);
    size_t all = message->msg_iovlen > 0 ? message->msg_iov[0].iov_len : 0, len = all;

    *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    if (fails(fd, &len))
        return -1;
    return len < all ? send(fd, message->msg_iov[0].iov_base, len, flags)
                     : real(fd, message, flags);
}
