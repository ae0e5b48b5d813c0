"""What integration tests start from: one world (alice, mallory, blue, red) with a recording upstream per class."""
import os
import shutil
import tempfile
import threading
import unittest

from . import http1
from .recorder import Recorder
from .world import World


class WorldCase(unittest.TestCase):
    """`limits`, `workers` and `adjust` of a subclass change the node before it starts."""
    limits = None
    workers = 2

    @classmethod
    def adjust(cls, config):
        """Changes the configuration tree in place."""

    @classmethod
    def settle(cls, config):
        config["workers"] = cls.workers
        cls.adjust(config)

    @classmethod
    def make_upstream(cls):
        cls.recorder = Recorder()
        return cls.recorder.port

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="postern-case-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.world = World(os.path.join(cls.folder, "node"), cls.make_upstream(), cls.limits, adjust=cls.settle)
        cls.node, cls.tokens = cls.world.node, cls.world.tokens
        cls.proxy, cls.auth = cls.node.address("proxy"), cls.node.address("auth_request")

    @classmethod
    def tearDownClass(cls):
        code = cls.node.stop()
        if code != 0:
            raise AssertionError("serve ended with %s: %s" % (code, cls.node.child.err()[-6000:]))

    def bearer(self, who="alice"):
        return [("Authorization", "Bearer " + self.tokens[who])]

    def get(self, target="/w/blue/x", who="alice", fields=(), method="GET", body=None, **more):
        credential = self.bearer(who) if who else []
        return http1.ask(self.proxy, method, target, credential + list(fields), body, **more)

    def check(self, target, method="GET", who="alice", fields=()):
        """The auth_request listener's answer about a request."""
        credential = self.bearer(who) if who else []
        return http1.ask(self.auth, "GET", "/_postern/auth", credential + list(fields) +
                         [("X-Original-URI", target), ("X-Original-Method", method)])


class Load(threading.Thread):
    """Keep-alive clients that ask one after the other and count what is not answered with 200.

    With `last` the server ends meanwhile: a refused connection is the client's end, everything else still counts."""

    def __init__(self, case, last=False):
        super().__init__(daemon=True)
        self.case, self.good, self.bad, self.halt, self.last = case, 0, [], threading.Event(), last

    def run(self):
        client = None
        while not self.halt.is_set():
            try:
                if client is None:
                    client = http1.Client(self.case.proxy, 15)
            except OSError as e:
                if not self.last:
                    self.bad.append("connect: %s" % e)
                return
            try:
                answer = client.ask("GET", "/w/blue/load", self.case.bearer())
                if answer.status != 200:
                    self.bad.append("%d %r" % (answer.status, answer.body[:100]))
                self.good += 1
                if (answer.value(b"connection") or b"").lower() == b"close":
                    client.close()
                    client = None
            except OSError as e:
                self.bad.append("%s: %s" % ("half an answer" if client.buf else "no answer", e))
                client.close()
                client = None
        if client:
            client.close()
