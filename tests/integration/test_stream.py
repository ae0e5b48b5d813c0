"""Bodies stream: 1 GiB each way without growing, back-pressure both ways, Expect, early answers, half-close."""
import os
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402

GIB = 1 << 30
BLOCK = bytes(range(256)) * 1024
GROWTH_KIB = 256


class Source:
    """An upstream that sends what the target asks for and counts what it gets: /w/blue/x/{down|up|hold}/BYTES."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.sent = self.received = 0
        self.go = threading.Event()
        threading.Thread(target=self.accepting, daemon=True).start()

    def accepting(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        buf = b""
        try:
            while True:
                while b"\r\n\r\n" not in buf:
                    data = s.recv(65536)
                    if not data:
                        return
                    buf += data
                head, _, buf = buf.partition(b"\r\n\r\n")
                parts = head.split(b" ")[1].split(b"/")
                what, count = parts[4], int(parts[5])
                if what == b"down":
                    self.down(s, count)
                elif what == b"chunked":
                    self.chunked(s, count)
                else:
                    if what == b"hold":
                        self.go.wait(60)
                    buf = self.up(s, head, buf)
        except OSError:
            pass
        finally:
            s.close()

    def down(self, s, count):
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        while count:
            n = min(count, len(BLOCK))
            s.sendall(BLOCK[:n])
            self.sent += n
            count -= n

    def chunked(self, s, count):
        s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while count:
            n = min(count, len(BLOCK))
            s.sendall(b"%x\r\n" % n + BLOCK[:n] + b"\r\n")
            count -= n
        s.sendall(b"0\r\n\r\n")

    def up(self, s, head, buf):
        low = head.lower()
        total = 0
        if b"transfer-encoding: chunked" in low:
            while not buf.endswith(b"0\r\n\r\n"):
                data = s.recv(1 << 18)
                if not data:
                    return b""
                total += len(data)
                buf = (buf + data)[-16:]
            self.received = total
            left = b""
        else:
            need = int(low.split(b"content-length:")[1].split(b"\r\n")[0])
            total = len(buf)
            while total < need:
                data = s.recv(1 << 18)
                if not data:
                    return b""
                total += len(data)
                self.received = total
            left = b""
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d" % (len(str(total)), total))
        return left


class Stream(WorldCase):
    workers = 1     # so that what was warmed is what is measured

    @classmethod
    def make_upstream(cls):
        cls.source = Source()
        return cls.source.port

    def setUp(self):
        # warm: buffers, caches and the allocator's arenas are there before memory is compared
        for target in ("/w/blue/x/down/8388608", "/w/blue/x/chunked/8388608"):
            self.download(target)
        self.upload(8 << 20)
        self.before = self.node.child.rss_kib()

    def request(self, method, target, *lines):
        head = ["%s %s HTTP/1.1" % (method, target), "Host: app.example",
                "Authorization: Bearer " + self.tokens["alice"], *lines]
        return ("\r\n".join(head) + "\r\n\r\n").encode()

    def download(self, target, watch=None):
        s = http1.connect(self.proxy, 60)
        s.sendall(self.request("GET", target, "Connection: close"))
        total, head = 0, b""
        while True:
            data = s.recv(1 << 18)
            if not data:
                break
            if len(head) < 4096:
                head += data[:4096]
            total += len(data)
            if watch and total // (1 << 26) != (total - len(data)) // (1 << 26):
                watch()
        s.close()
        at = head.find(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200"), head[:200])
        return total - at - 4

    def upload(self, count, watch=None):
        s = http1.connect(self.proxy, 60)
        s.sendall(self.request("POST", "/w/blue/x/up/0", "Content-Length: %d" % count, "Connection: close"))
        left = count
        while left:
            n = min(left, len(BLOCK))
            s.sendall(BLOCK[:n])
            left -= n
            if watch and left % (1 << 26) < n:
                watch()
        data = b""
        while True:
            part = s.recv(65536)
            if not part:
                break
            data += part
        s.close()
        answer = http1.read_answer(data, eof=True)
        self.assertEqual(answer.status, 200, data[:300])
        return int(answer.body)

    def highest(self, work):
        """The value of work(watch) and the highest growth of resident memory that it saw, in KiB."""
        seen = [0]

        def watch():
            seen[0] = max(seen[0], self.node.child.rss_kib() - self.before)
        value = work(watch)
        watch()
        return value, seen[0]

    def assertGrowth(self, kib):
        if not paths.sanitized():
            self.assertLessEqual(kib, GROWTH_KIB)

    def size(self):
        return GIB // 16 if paths.sanitized() else GIB

    def test_down(self):
        got, growth = self.highest(lambda w: self.download("/w/blue/x/down/%d" % self.size(), w))
        self.assertEqual(got, self.size())
        self.assertGrowth(growth)

    def test_down_chunked(self):
        got, growth = self.highest(lambda w: self.download("/w/blue/x/chunked/%d" % (self.size() // 4), w))
        self.assertGreater(got, self.size() // 4)
        self.assertGrowth(growth)

    def test_up(self):
        got, growth = self.highest(lambda w: self.upload(self.size(), w))
        self.assertEqual(got, self.size())
        self.assertGrowth(growth)

    def test_a_client_that_does_not_read_stops_the_upstream(self):
        self.source.sent = 0
        s = http1.connect(self.proxy, 30)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        s.sendall(self.request("GET", "/w/blue/x/down/%d" % (256 << 20)))
        time.sleep(1.5)
        first = self.source.sent
        time.sleep(1.0)
        self.assertEqual(self.source.sent, first, "the upstream goes on while nobody reads")
        self.assertLess(first, 64 << 20)
        self.assertGrowth(self.node.child.rss_kib() - self.before)
        s.close()

    def test_an_upstream_that_does_not_read_stops_the_client(self):
        self.source.go.clear()
        s = http1.connect(self.proxy, 30)
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        count = 192 << 20  # more than the kernel's own buffers may grow to: 32 MiB for each of two receivers
        s.setblocking(True)
        s.sendall(self.request("POST", "/w/blue/x/hold/0", "Content-Length: %d" % count))
        s.setblocking(False)
        sent, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            try:
                sent += s.send(BLOCK[:65536])
            except BlockingIOError:
                time.sleep(0.02)
        self.assertLess(sent, 96 << 20, "the client could send it all")
        self.assertGrowth(self.node.child.rss_kib() - self.before)
        self.source.go.set()
        s.setblocking(True)
        s.settimeout(60)
        while sent < count:
            n = min(count - sent, len(BLOCK))
            s.sendall(BLOCK[:n])
            sent += n
        data = s.recv(65536)
        self.assertTrue(data.startswith(b"HTTP/1.1 200"), data[:200])
        s.close()

    def test_expect_100(self):
        s = http1.connect(self.proxy, 10)
        s.sendall(self.request("POST", "/w/blue/x/up/0", "Content-Length: 5", "Expect: 100-continue"))
        first = s.recv(65536)
        self.assertTrue(first.startswith(b"HTTP/1.1 100 "), first[:100])
        s.sendall(b"hello")
        data = first.partition(b"\r\n\r\n")[2]
        while b"\r\n\r\n" not in data:
            data += s.recv(65536)
        self.assertTrue(data.startswith(b"HTTP/1.1 200"), data[:200])
        s.close()

    def test_expect_100_of_a_refused_request_gets_its_refusal_at_once(self):
        s = http1.connect(self.proxy, 10)
        s.sendall(self.request("POST", "/w/red/x/up/0", "Content-Length: 5", "Expect: 100-continue"))
        first = s.recv(65536)
        self.assertTrue(first.startswith(b"HTTP/1.1 403"), first[:100])
        s.close()

    def test_a_client_that_has_sent_all_may_close_its_sending_side(self):
        s = http1.connect(self.proxy, 20)
        s.sendall(self.request("GET", "/w/blue/x/down/1000000", "Connection: close"))
        s.shutdown(socket.SHUT_WR)
        total = b""
        while True:
            data = s.recv(1 << 18)
            if not data:
                break
            total += data
        s.close()
        self.assertEqual(len(total.partition(b"\r\n\r\n")[2]), 1000000)

    def test_many_at_once_stay_small(self):
        threads = [threading.Thread(target=self.download, args=("/w/blue/x/down/%d" % (16 << 20),))
                   for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        # two buffers of 64 KiB a connection at most, and what the allocator keeps
        if not paths.sanitized():
            self.assertLess(self.node.child.rss_kib() - self.before, 8 * 2 * 64 + GROWTH_KIB)


assert proc

if __name__ == "__main__":
    unittest.main()
