"""A Redis of the tests' own, and the few words of its protocol that a test needs."""
import shutil
import signal
import socket
import tempfile

from . import proc


class Failed(Exception):
    """It did not start, or said an error."""


def encode(*words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Connection:
    """Asks and reads; not for subscriptions."""

    def __init__(self, port, timeout=2.0):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.sock.makefile("rb")

    def ask(self, *words):
        self.sock.sendall(encode(*words))
        return self.read()

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Failed(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return rest

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    """`settings`: arguments of redis-server. Nothing is kept on disk."""

    def __init__(self, *settings):
        self.folder = tempfile.mkdtemp(prefix="postern-redis-")
        self.port = proc.free_port()
        self.settings = settings
        self.child = None
        self.start()

    def start(self):
        """Starts the server (again, after `kill`), empty."""
        self.child = proc.Child([shutil.which("redis-server") or "redis-server", "--port", str(self.port), "--bind",
                                 "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.folder,
                                 *self.settings], out_dir=self.folder, name="redis")
        if not proc.wait_until(self.answers, 10):
            raise Failed("Redis does not answer: " + self.child.out()[-2000:])
        return self

    def answers(self):
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, Failed):
            return False

    def ask(self, *words):
        connection = Connection(self.port)
        try:
            return connection.ask(*words)
        finally:
            connection.close()

    def kill(self):
        self.child.signal(signal.SIGKILL)
        self.child.wait(5)

    def pause(self):
        self.child.signal(signal.SIGSTOP)

    def resume(self):
        self.child.signal(signal.SIGCONT)

    def stop(self):
        if self.child:
            self.child.signal(signal.SIGCONT)
            self.child.stop(3)
        shutil.rmtree(self.folder, True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
