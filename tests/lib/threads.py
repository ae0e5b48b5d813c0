"""One thread of a child process stopped, while the others go on."""
import contextlib
import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
DETACH, SEIZE, INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000


def looping(pid):
    """The threads that wait in a loop's epoll_wait, but for the first one."""
    found = []
    for tid in sorted(map(int, os.listdir("/proc/%d/task" % pid))):
        with open("/proc/%d/task/%d/wchan" % (pid, tid), encoding="ascii") as f:
            where = f.read()
        if tid != pid and ("epoll_wait" in where or "ep_poll" in where):
            found.append(tid)
    return found


def ptrace(request, tid):
    if LIBC.ptrace(request, tid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace %#x" % request)


@contextlib.contextmanager
def stopped(tid):
    ptrace(SEIZE, tid)
    try:
        ptrace(INTERRUPT, tid)
        os.waitpid(tid, WALL)
        yield
    finally:
        ptrace(DETACH, tid)
