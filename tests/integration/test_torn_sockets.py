"""Sends and receives that fail, stop short or take nothing, in the node, at any of them: it lives, what is sent again
is sent whole, a POST goes up once at most, and every answer is the asker's own."""
import hashlib
import os
import random
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths  # noqa: E402
from lib.base import WorldCase  # noqa: E402
from lib.upstream import Upstream  # noqa: E402

REQUESTS = 4000
CLIENTS = 8
EACH = 30            # of so many calls one meets each fault


def body_of(nonce, size):
    return (hashlib.sha256(nonce).hexdigest().encode() * (size // 64 + 1))[:size]


class Honest(Upstream):
    """Answers with the nonce, and remembers whose body was not what its nonce says; ends one connection in thirty."""

    def __init__(self):
        self.wrong = []
        super().__init__()

    def goes_on(self, dice):
        return dice.randrange(30) != 0

    def answer(self, s, msg, dice):
        nonce, _, size = msg.target.rsplit(b"/", 1)[1].partition(b"-")
        with self.lock:
            if msg.method == b"POST":
                self.posts[nonce] = self.posts.get(nonce, 0) + 1
            if msg.faults or msg.body != body_of(nonce, int(size)):
                self.wrong.append((msg.method, nonce, size, len(msg.body), msg.faults))
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(nonce), nonce))
        return True


class TornSockets(WorldCase):
    @classmethod
    def make_upstream(cls):
        cls.upstream = Honest()
        return cls.upstream.port

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node.stop()
        options = os.environ.get("ASAN_OPTIONS", "")
        cls.node.start(env={"LD_PRELOAD": os.path.join(paths.build_dir(), "faults", "socket_fail.so"),
                            "POSTERN_TEAR_EACH": str(EACH), "POSTERN_TEAR_SEED": "1",
                            "ASAN_OPTIONS": options + ":verify_asan_link_order=0"})

    def request(self, dice, nonce):
        """(bytes, whether it is a request that may be answered 200)"""
        size = dice.choice((0, 1, 100, 5000))
        method = "GET" if size == 0 and dice.random() < 0.5 else "POST"
        body, bad = body_of(nonce, size), dice.random() < 0.3
        head = "%s /w/blue/n/%s-%d HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\n" % (
            method, nonce.decode(), size, self.tokens["alice"])
        if method == "POST" and dice.random() < 0.5:
            cuts = sorted(dice.sample(range(size + 1), min(3, size)) + [0, size])
            parts = [body[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)
            return (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunks + \
                (b"zz\r\n" if bad else b"0\r\n\r\n"), not bad
        return (head + "Content-Length: %d\r\n\r\n" % size).encode() + body, True

    def client(self, number, count, told):
        dice = random.Random(number)
        s = None
        for i in range(count):
            nonce = b"n%dx%d" % (number, i)
            data, good = self.request(dice, nonce)
            try:
                s = s or http1.connect(self.proxy, 5 * paths.slack())
                cut = dice.choice((len(data), len(data), dice.randrange(len(data))))
                s.sendall(data[:cut])
                if cut < len(data) and dice.random() < 0.3:     # gives up, with a reset
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    raise OSError
                s.sendall(data[cut:])
                buf, answer = b"", None
                while not (answer and answer.complete):
                    part = s.recv(65536)
                    if not part:
                        raise OSError
                    buf += part
                    answer = http1.read_answer(buf, False)
            except OSError:
                if s:
                    s.close()
                s = None
                continue
            if answer.status == 200 and (not good or answer.body != nonce):
                told.append("%r was answered %r" % (nonce, answer.body[:80]))
            self.good += answer.status == 200
            if (answer.value(b"connection") or b"").lower() == b"close":
                s.close()
                s = None
        if s:
            s.close()

    def test_a_torn_socket_tears_nothing_else(self):
        told, self.good = [], 0
        total = REQUESTS // 4 if paths.sanitized() else REQUESTS
        threads = [threading.Thread(target=self.client, args=(i, total // CLIENTS, told)) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * paths.slack())
        self.assertTrue(self.node.child.alive(), self.node.child.err()[-3000:])
        self.assertFalse(any(t.is_alive() for t in threads), "a client hangs")
        self.assertEqual(told[:20], [])
        self.assertEqual(self.upstream.wrong[:20], [])
        self.assertEqual([n for n, times in self.upstream.posts.items() if times > 1], [], "POST sent twice")
        self.assertGreater(self.good, total // 3)


if __name__ == "__main__":
    unittest.main()
