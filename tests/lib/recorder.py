"""A recording upstream that answers in a default way or plays the script of a case.

The script is played on the connection that brings the first byte after `begin`, whether new or pooled; every other
connection gets the default. All bytes are kept per connection, so that a case can be judged by what arrived."""
import codecs
import select
import socket
import struct
import threading
import time

from . import http1

MLFLOW = b"/api/2.0/mlflow/"


def unescape(text):
    r"""The encoding of the case files: \r \n \t \\ \xNN, every other character one byte."""
    return codecs.decode(text.encode("latin-1"), "unicode_escape").encode("latin-1")


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Connection:
    def __init__(self, sock, peer):
        self.sock, self.peer = sock, peer
        self.data = bytearray()
        self.start = 0            # where the bytes of the present case begin
        self.peer_closed = False
        self.done = False
        self.after_script = 0     # bytes that were there when the script ended

    def has_news(self):
        """Bytes or an end that nobody has read yet."""
        try:
            ready = select.poll()
            ready.register(self.sock, select.POLLIN)
            return bool(ready.poll(0))
        except (OSError, ValueError):     # closed by its own thread
            return False


class Recorder:
    def __init__(self, step_timeout=3.0):
        self.lock = threading.Lock()
        self.live, self.seen = set(), []
        self.script = self.pool = self.scripted = None
        self.script_ended = threading.Event()
        self.closed_in_time = None
        self.bytewise = False
        self.step_timeout = step_timeout
        self.port = 0
        self.listener = None
        self.open()

    def open(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", self.port))
        s.listen(512)
        self.port, self.listener = s.getsockname()[1], s
        threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def refuse(self):
        """Nothing listens from now on, and what is connected is closed."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            old = list(self.live)
        for c in old:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self, listener):
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c = Connection(sock, peer)
            with self.lock:
                self.live.add(c)
                self.seen.append(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def begin(self, script=None, pool=None, bytewise=False):
        """From here on, what arrives belongs to the next case."""
        with self.lock:
            self.seen = [c for c in self.seen if c in self.live]
            for c in self.seen:
                c.start, c.after_script = len(c.data), 0
            self.script, self.pool, self.scripted = script, pool, None
            self.script_ended.clear()
            self.closed_in_time, self.bytewise = None, bytewise

    def drain(self, limit):
        """Waits until what was sent to this upstream up to now has been read, at most `limit` seconds.

        Connections are accepted in order: one of our own comes after all that were made before it."""
        end = time.monotonic() + limit
        try:
            probe = socket.create_connection(("127.0.0.1", self.port), limit)
        except OSError:
            return
        with probe:
            name = probe.getsockname()
            while time.monotonic() < end:
                with self.lock:
                    here = any(c.peer == name for c in self.live)
                    if here and not any(c.has_news() for c in self.live):
                        return
                time.sleep(0.002)

    def traffic(self):
        """[(connection, bytes of this case)], those without bytes left out."""
        with self.lock:
            return [(c, bytes(c.data[c.start:])) for c in self.seen if len(c.data) > c.start]

    def _receive(self, c):
        c.sock.recv(1, socket.MSG_PEEK)      # waits; what is taken is noted in the same breath
        with self.lock:
            data = c.sock.recv(1 << 18)
            if not data:
                c.peer_closed = True
                return data
            c.data += data
            if self.script is not None and self.scripted is None:
                self.scripted = c
        return data

    def _serve(self, c):
        buf = b""
        played = None
        try:
            c.sock.settimeout(90)
            while True:
                data = self._receive(c)
                if not data:
                    return
                buf += data
                if self.scripted is c and played is not self.script:
                    played = self.script
                    buf = self._play(c, buf)
                    if buf is None:
                        return
                while buf:
                    msg = http1.read_request(buf)
                    if not msg.complete:
                        break
                    buf = buf[msg.size:]
                    self._answer(c, msg)
        except OSError:
            c.peer_closed = True
        finally:
            with self.lock:
                self.live.discard(c)
            c.done = True
            if self.scripted is c:
                self.script_ended.set()
            try:
                c.sock.close()
            except OSError:
                pass

    @staticmethod
    def _answer(c, msg):
        mlflow = msg.target.startswith(MLFLOW)
        head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Type: application/json\r\n" if mlflow else b"")
        head += b"Content-Length: 2\r\n\r\n"
        c.sock.sendall(head + (b"" if msg.method == b"HEAD" else b"{}" if mlflow else b"ok"))

    def _send(self, c, data):
        if not self.bytewise:
            c.sock.sendall(data)
            return
        step = 1 if len(data) <= 2048 else 61
        for at in range(0, len(data), step):
            c.sock.sendall(data[at:at + step])

    def _read_step(self, c, what, buf):
        """The bytes after what was to be read; None when the peer closed before that."""
        while True:
            if isinstance(what, int):
                size = what if len(buf) >= what else None
            elif what == "head":
                at = buf.find(b"\r\n\r\n")
                size = at + 4 if at >= 0 else None
            else:
                msg = http1.read_request(buf)
                size = msg.size if msg.complete else None
            if size is not None:
                return buf[size:]
            data = self._receive(c)
            if not data:
                return None
            buf += data

    def _gone(self, c, limit):
        """True when the peer closes within `limit` seconds; what still comes is recorded and dropped."""
        end = time.monotonic() + limit
        try:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                c.sock.settimeout(left)
                if not self._receive(c):
                    return True
        except socket.timeout:
            return False
        except OSError:
            c.peer_closed = True
            return True

    def _play(self, c, buf):
        for step in self.script:
            word = step[0]
            if word == "read":
                buf = self._read_step(c, step[1], buf)
                if buf is None:
                    return None
            elif word == "send":
                self._send(c, unescape(step[1]) * (step[2] if len(step) > 2 else 1))
            elif word == "wait":
                time.sleep(step[1])
            elif word == "fin":
                c.sock.shutdown(socket.SHUT_WR)
            elif word == "rst":
                reset(c.sock)
                c.peer_closed = True
                return None
            elif word == "expect_close":
                self.closed_in_time = self._gone(c, self.step_timeout)
                return None
        c.after_script = len(c.data)
        if self.pool == "close":
            self.closed_in_time = self._gone(c, 1.0)
            return None
        self.script_ended.set()
        return buf
