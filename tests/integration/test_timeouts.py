"""Every time limit ends what it is there to end, soon after it is due, and nothing else."""
import os
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, node, paths  # noqa: E402
from lib.base import WorldCase  # noqa: E402

SLACK = 4.0 * paths.slack()      # a busy machine is late; a limit that is forgotten is far later
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstream:
    """Plays by the last segment of the path."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.closed_after = []       # seconds that a connection stayed open behind its last answer
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        s.settimeout(30)
        try:
            with s:
                self.talk(s)
        except OSError:
            pass

    def talk(self, s):
        data, since = b"", None
        while True:
            piece = s.recv(65536)
            if not piece:
                if since is not None:
                    self.closed_after.append(time.monotonic() - since)
                return
            data += piece
            if b"\r\n\r\n" not in data:
                continue
            what = data.split(b" ")[1].rsplit(b"/", 1)[1]
            if what == b"late":
                time.sleep(1.2)
            elif what in (b"silent", b"upload"):        # the body is more than it will ever get
                while s.recv(65536) and what == b"upload":
                    continue
                return
            elif what == b"drip":
                for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100:
                    s.sendall(bytes([byte]))
                    time.sleep(0.2)
                return
            elif what == b"half":
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                s.recv(1)
                return
            elif what == b"slow":
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
                for _ in range(4):
                    time.sleep(0.6)
                    s.sendall(b"ab")
                data = b""
                continue
            elif what == b"big":
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                for _ in range(1000):
                    s.sendall(b"x" * 100000)
                return
            s.sendall(OK)
            data, since = b"", time.monotonic()


class Timeouts(WorldCase):
    workers = 1
    limits = {"request_head_s": 1, "keepalive_idle_s": 1, "write_stall_s": 1, "body_rate_bytes": 1000,
              "body_rate_after_s": 1}

    @classmethod
    def make_upstream(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.listener.close)
        return cls.upstream.port

    @classmethod
    def adjust(cls, config):
        # nobody accepts here, and there is room for one connection: the next one gets no answer to its SYN
        cls.hole = socket.create_server(("127.0.0.1", 0), backlog=0)
        cls.addClassCleanup(cls.hole.close)
        cls.filling = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(cls.hole.getsockname())
            cls.filling.append(s)
            cls.addClassCleanup(s.close)
        config["upstreams"]["app"].update(connect_s=1, first_byte_s=2, response_head_s=1, idle_body_s=1, idle_s=1)
        config["upstreams"]["hole"] = {"address": "127.0.0.1:%d" % cls.hole.getsockname()[1], "connect_s": 1}
        config["listeners"][0]["mounts"].append(
            {"host": "app.example", "prefix": "/w/blue/hole/", "profile": "rest", "upstream": "hole"})

    def connect(self):
        s = http1.connect(self.proxy)
        s.settimeout(15)
        self.addCleanup(s.close)
        return s

    def head(self, target, method="GET", *more):
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: app.example", "Authorization: Bearer " + self.tokens["alice"],
                 *more, "", ""]
        return "\r\n".join(lines).encode()

    def to_the_end(self, s):
        """What comes until the connection ends."""
        out = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                return out
            if not piece:
                return out
            out += piece

    def takes(self, least, began):
        took = time.monotonic() - began
        self.assertGreater(took, least - 0.2)
        self.assertLess(took, least + SLACK)

    def test_connect(self):
        began = time.monotonic()
        self.assertEqual(self.get("/w/blue/hole/x", timeout=15).status, 504)
        self.takes(1, began)

    def test_a_node_that_does_not_answer(self):
        began = time.monotonic()
        done = node.cli("check", "--node", "%s:%d" % self.hole.getsockname(), "/w/blue/x", timeout=20)
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertIn("cannot be reached: Connection timed out", done.stderr)
        self.takes(5, began)

    def test_first_byte(self):
        self.assertEqual(self.get("/w/blue/late").status, 200)
        began = time.monotonic()
        self.assertEqual(self.get("/w/blue/silent", timeout=15).status, 504)
        self.takes(2, began)

    def test_head_of_the_answer(self):
        began = time.monotonic()
        self.assertEqual(self.get("/w/blue/drip", timeout=15).status, 504)
        self.takes(1, began)

    def test_body_of_the_answer(self):
        s = self.connect()
        s.sendall(self.head("/w/blue/half"))
        began = time.monotonic()
        said = self.to_the_end(s)
        self.assertTrue(said.endswith(b"half"), said)
        self.takes(1, began)
        self.assertEqual(self.get("/w/blue/slow", timeout=15).body, b"abababab")      # slow is not silent

    def test_a_pooled_connection_ends_before_the_apps_own_patience(self):
        self.upstream.closed_after.clear()
        self.assertEqual(self.get("/w/blue/pooled").status, 200)
        end = time.monotonic() + 1 + SLACK
        while not self.upstream.closed_after and time.monotonic() < end:
            time.sleep(0.05)
        self.assertTrue(self.upstream.closed_after)

    def test_head_of_the_request(self):
        for begun in (b"", b"GET /w/blue/x HTTP/1.1\r\nHost"):
            s = self.connect()
            s.sendall(begun)
            began = time.monotonic()
            said = self.to_the_end(s)
            self.assertEqual(said[:13] if begun else said, b"HTTP/1.1 408 " if begun else b"")
            self.takes(1, began)

    def test_body_of_the_request(self):
        s = self.connect()
        s.sendall(self.head("/w/blue/upload", "POST", "Content-Length: 100000"))
        began, said = time.monotonic(), b""
        s.settimeout(0.1)
        while time.monotonic() < began + 1 + 2 * SLACK and not said:
            try:
                s.sendall(b"0123456789")
                said = s.recv(4096)
            except socket.timeout:
                continue
            except OSError:
                break
        self.assertIn(said[:13], (b"HTTP/1.1 408 ", b""))
        self.takes(1, began)

    def test_the_next_request(self):
        s = self.connect()
        s.sendall(self.head("/w/blue/x"))
        began = time.monotonic()
        self.assertTrue(self.to_the_end(s).endswith(b"ok"))
        self.takes(1, began)

    def test_a_client_that_does_not_read(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(self.proxy)
        self.addCleanup(s.close)
        s.sendall(self.head("/w/blue/big"))
        began = time.monotonic()
        while self.node.metrics()["postern_upstream_busy"] == 0 and time.monotonic() < began + SLACK:
            time.sleep(0.02)
        while self.node.metrics()["postern_upstream_busy"] > 0 and time.monotonic() < began + 1 + SLACK:
            time.sleep(0.05)
        self.assertEqual(self.node.metrics()["postern_upstream_busy"], 0)
        self.takes(1, began)
        s.settimeout(15)
        self.assertLess(len(self.to_the_end(s)), 50000000)


if __name__ == "__main__":
    unittest.main()
