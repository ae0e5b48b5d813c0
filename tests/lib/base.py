"""What integration tests start from: one world (alice, mallory, blue, red) with a recording upstream per class."""
import os
import shutil
import tempfile
import unittest

from . import http1
from .recorder import Recorder
from .world import World


class WorldCase(unittest.TestCase):
    """`limits` and `adjust` of a subclass change the node before it starts."""
    limits = None

    @classmethod
    def adjust(cls, config):
        """Changes the configuration tree in place."""

    @classmethod
    def make_upstream(cls):
        cls.recorder = Recorder()
        return cls.recorder.port

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="postern-case-")
        cls.world = World(os.path.join(cls.folder, "node"), cls.make_upstream(), cls.limits, adjust=cls.adjust)
        cls.node, cls.tokens = cls.world.node, cls.world.tokens
        cls.proxy, cls.auth = cls.node.address("proxy"), cls.node.address("auth_request")

    @classmethod
    def tearDownClass(cls):
        code = cls.node.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        if code != 0:
            raise AssertionError("serve ended with %s" % code)

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
