"""Child processes of a test run. Everything started here is stopped here, by its own id."""
import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

_ALIVE = set()
_LOCK = threading.Lock()
_HANDED_OUT = set()


def _server_ports():
    """Below those that the kernel gives to outgoing connections: between free_port and whoever listens, none takes it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        low = int(f.read().split()[0])
    return range(10240, low) if low > 14336 else range(0, 1)


def free_port(host="127.0.0.1"):
    """A TCP port that was free a moment ago and was not handed out before by this process."""
    while True:
        with socket.socket() as s:
            try:
                s.bind((host, random.SystemRandom().choice(_server_ports())))
            except OSError:
                continue
            port = s.getsockname()[1]
        with _LOCK:
            if port not in _HANDED_OUT:
                _HANDED_OUT.add(port)
                return port


class Child:
    """One child in a session of its own, its output in files so that no pipe can fill up."""

    def __init__(self, argv, cwd=None, env=None, out_dir=None, name=None, preexec=None):
        self.name = name or os.path.basename(argv[0])
        base = out_dir or tempfile.mkdtemp(prefix="postern-test-")
        self.out_path = os.path.join(base, self.name + ".out")
        self.err_path = os.path.join(base, self.name + ".err")
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.p = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                      stderr=err, start_new_session=True, preexec_fn=preexec)
        self.pid = self.p.pid
        with _LOCK:
            _ALIVE.add(self)

    def alive(self):
        return self.p.poll() is None

    def out(self):
        with open(self.out_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def err(self):
        with open(self.err_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def signal(self, sig):
        if self.alive():
            os.kill(self.pid, sig)

    def wait(self, timeout):
        try:
            return self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout=10.0, group=False):
        """SIGTERM, then SIGKILL after `timeout`. `group`: the whole session (programs that fork)."""
        def send(sig):
            try:
                os.killpg(self.pid, sig) if group else os.kill(self.pid, sig)
            except ProcessLookupError:
                pass
        if self.alive() or group:
            send(signal.SIGTERM)
            if self.wait(timeout) is None:
                send(signal.SIGKILL)
                self.wait(5)
            if group:
                time.sleep(0.2)
                send(signal.SIGKILL)
        with _LOCK:
            _ALIVE.discard(self)
        return self.p.returncode

    def rss_kib(self):
        with open("/proc/%d/status" % self.pid, encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0


def wait_until(check, timeout, step=0.02):
    """Calls `check` until it is true; its last value."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


def connects(host, port):
    try:
        socket.create_connection((host, port), 0.5).close()
        return True
    except OSError:
        return False


@atexit.register
def stop_all():
    with _LOCK:
        left = list(_ALIVE)
    for child in left:
        child.stop(3, group=True)


if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    # so that a test that is told to end still ends what it started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
