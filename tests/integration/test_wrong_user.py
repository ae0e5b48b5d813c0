"""Nobody ever gets another's answer: an upstream that fails in every way, clients that give up at any byte.

Each request carries a nonce and each good answer echoes nonce and user as the upstream saw them."""
import os
import random
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402
from lib.upstream import Upstream  # noqa: E402
from lib.world import declarations  # noqa: E402

REQUESTS = 20000
CLIENTS = 8


class Faulty(Upstream):
    """Answers with nonce and user; one time in ten it fails: reset, half an answer, two answers, late bytes, ..."""

    def answer(self, s, msg, dice):
        nonce = msg.target.rsplit(b"/", 1)[1]
        user = (msg.values(b"x-postern-user") or [b"nobody"])[0]
        if msg.method == b"POST":
            with self.lock:
                self.posts[nonce] = self.posts.get(nonce, 0) + 1
        body = b"nonce=%s user=%s" % (nonce, user) + b"." * dice.choice((0, 10, 3000))
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        fault = dice.randrange(100)
        if fault == 0:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == 1:
            s.sendall(whole[:dice.randrange(1, len(whole))])
            return False
        if fault == 2:
            s.sendall(whole + whole)                       # an answer that nobody asked for
            return True
        if fault == 3:
            s.sendall(b"HTTP/1.1 2x0 OK\r\n\r\n")
            return False
        if fault == 4:
            s.sendall(whole + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            return False
        if fault == 5:
            s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + whole)
            return True
        if fault == 6:
            chunk = b"%x\r\n%s\r\n" % (len(body), body)
            s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")
            return True
        if fault == 7:
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef")
            return False
        if fault == 8:
            return False
        at = dice.randrange(len(whole)) if fault < 20 else len(whole)
        s.sendall(whole[:at])
        if at < len(whole):
            s.sendall(whole[at:])
        return True


class WrongUser(WorldCase):
    @classmethod
    def adjust(cls, config):
        config["upstreams"]["app"]["max_idle"] = 4

    @classmethod
    def make_upstream(cls):
        cls.upstream = Faulty()
        return cls.upstream.port

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # bob may do what alice may, so that both get answers of their own
        tree = declarations()
        tree["users"].append({"name": "bob", "identities": [{"issuer": cls.world.signer.issuer, "subject": "bob"}]})
        tree["bindings"].append({"user": "bob", "role": "rest-all", "workspace": "blue"})
        cls.node.apply(tree)
        cls.tokens["bob"] = cls.world.signer.token("bob")
        bob = [("Authorization", "Bearer " + cls.tokens["bob"])]
        assert proc.wait_until(lambda: http1.ask(cls.proxy, "GET", "/w/blue/n/0-0", bob).status != 403, 5)

    def client(self, number, count, told):
        dice = random.Random(1000 + number)
        s = None
        done = good = failed = 0
        while done < count:
            who = dice.choice(("alice", "bob", "mallory"))
            method = dice.choice(("GET", "GET", "GET", "POST", "HEAD"))
            nonce = "%d-%d" % (number, done)
            body = b"x" * dice.choice((0, 5, 2000)) if method == "POST" else None
            head = "%s /w/blue/n/%s HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\n" % (
                method, nonce, self.tokens[who])
            data = (head + ("Content-Length: %d\r\n" % len(body) if body is not None else "") + "\r\n").encode()
            data += body or b""
            done += 1
            try:
                if s is None:
                    s = http1.connect(self.proxy, 20)
                if dice.random() < 0.1:                    # gives up in the middle of asking
                    s.sendall(data[:dice.randrange(1, len(data))])
                    self.drop(s, dice)
                    s = None
                    continue
                s.sendall(data)
                if dice.random() < 0.1:                    # gives up in the middle of the answer
                    s.settimeout(0.02)
                    try:
                        s.recv(dice.randrange(1, 200))
                    except OSError:
                        pass
                    self.drop(s, dice)
                    s = None
                    continue
                s.settimeout(20)
                buf = b""
                while True:
                    answer = http1.read_answer(buf, method == "HEAD")
                    if answer and answer.complete:
                        break
                    part = s.recv(65536)
                    if not part:
                        answer = http1.read_answer(buf, method == "HEAD")
                        break
                    buf += part
            except OSError:
                failed += 1
                s = None
                continue
            if answer is None or not answer.complete:
                # the head was relayed and the upstream broke off: what did come must still be ours
                answer = answer or http1.Answer(0, b"", [])
                s.close()
                s = None
                failed += 1
            if answer.complete and len(buf) > answer.size:
                told.append("bytes behind the answer to %s: %r" % (nonce, buf[answer.size:][:80]))
            mine = b"nonce=%s user=%s" % (nonce.encode(), who.encode())
            same = answer.body[:len(mine)] == mine[:len(answer.body)]
            if answer.status == 200 and method != "HEAD" and answer.complete:
                if not same or len(answer.body) < len(mine):
                    told.append("%s asked for %s and got %r" % (who, nonce, answer.body[:80]))
                good += 1
            elif answer.status == 200 and not same:
                told.append("%s asked for %s and got a part of %r" % (who, nonce, answer.body[:80]))
            if who == "mallory" and answer.status not in (0, 403):
                told.append("mallory got %d" % answer.status)
            if s and answer.complete and (answer.value(b"connection") or b"").lower() == b"close":
                s.close()
                s = None
        if s:
            s.close()
        self.counts.append((good, failed))

    @staticmethod
    def drop(s, dice):
        if dice.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    def test_nobody_gets_another_ones_answer(self):
        told, self.counts = [], []
        total = REQUESTS // 10 if paths.sanitized() else REQUESTS
        threads = [threading.Thread(target=self.client, args=(i, total // CLIENTS, told)) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(220 * paths.slack())
        self.assertFalse(any(t.is_alive() for t in threads), "a client hangs")
        self.assertEqual(told[:20], [])
        good = sum(g for g, _ in self.counts)
        self.assertGreater(good, total // 4)
        twice = [n for n, times in self.upstream.posts.items() if times > 1]
        self.assertEqual(twice, [], "POST sent twice")
        self.assertTrue(self.node.child.alive())
        self.assertEqual(self.get("/w/blue/n/1-1", "mallory").status, 403)


if __name__ == "__main__":
    unittest.main()
