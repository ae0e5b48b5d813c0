#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stream_internal.h"

/*
 * send and recv are points at which a thread may be cancelled, for which the C library takes two
 * locked operations a call as soon as there is a second thread. No thread of this program is ever
 * cancelled: the calls are made without it (one in a hundred of a check's time). Sanitizers watch
 * the library's functions.
 */
#if defined(SYS_sendto) && defined(SYS_recvfrom) && !defined(__SANITIZE_ADDRESS__) &&              \
    !defined(__SANITIZE_THREAD__)
ssize_t pst_socket_send_(int fd, const void *bytes, size_t len)
{
    return syscall(SYS_sendto, fd, bytes, len, MSG_NOSIGNAL, NULL, 0);
}

ssize_t pst_socket_recv_(int fd, void *bytes, size_t len)
{
    return syscall(SYS_recvfrom, fd, bytes, len, 0, NULL, NULL);
}
#else
ssize_t pst_socket_send_(int fd, const void *bytes, size_t len)
{
    return send(fd, bytes, len, MSG_NOSIGNAL);
}

ssize_t pst_socket_recv_(int fd, void *bytes, size_t len)
{
    return recv(fd, bytes, len, 0);
}
#endif
