"""Postern in front of one of the real apps, as the interop tests want it: users, tokens, live changes."""
import json
import os
import shutil
import tempfile

from . import apps, http1, keys, proc
from .node import Node

ISSUER = "https://interop.postern.test/"


class Front:
    def __init__(self, kind):
        self.folder = tempfile.mkdtemp(prefix="postern-interop-")
        self.signer = keys.Signer(self.folder, issuer=ISSUER)
        self.app = apps.KINDS[kind](kind, os.path.join(self.folder, "app"))
        self.node = None

    def start(self):
        self.app.start()
        self.port = proc.free_port()
        self.node = Node({
            "identity": {"issuers": [{"issuer": ISSUER, "audiences": ["postern"], "algorithms": ["ES256"],
                                      "keys": {"jwks_file": self.signer.jwks}, "claims": {"user": "sub"},
                                      "unknown_users": "refuse"}]},
            "listeners": [
                {"name": "proxy", "kind": "proxy", "address": "127.0.0.1:%d" % self.port, "mounts": self.app.mounts()},
                {"name": "ops", "kind": "ops", "address": "127.0.0.1:%d" % proc.free_port()},
            ],
            "upstreams": {"app": self.app.upstream()},
            "profiles": self.app.profiles(),
            "log": {"level": "info", "events": "stderr", "access": "stdout", "decisions": "off"},
        }, self.folder)
        self.files, self.tree = apps.declarations(self.app, ISSUER)
        self.node.apply(self.tree, *self.files)
        self.node.start()
        self.url = "http://127.0.0.1:%d" % self.port
        self.tokens = {n: self.signer.token(n) for n in self.app.people}
        return self

    def ask(self, who, method, path, tree=None, fields=(), timeout=30):
        """An answer through Postern as `who` (None: without a token)."""
        fields = list(fields)
        if who:
            fields.append(("Authorization", "Bearer " + self.tokens[who]))
        body = None
        if tree is not None:
            body = json.dumps(tree).encode()
            fields.append(("Content-Type", "application/json"))
        return http1.ask(("127.0.0.1", self.port), method, path, fields, body,
                         host="127.0.0.1:%d" % self.port, timeout=timeout)

    def stop(self):
        code = self.node.stop() if self.node else None
        self.app.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


class Checks:
    """Named yes-or-no results of a scenario, printed as they come."""

    def __init__(self):
        self.passed = self.failed = 0

    def that(self, name, good, detail=""):
        if good:
            self.passed += 1
            print("pass  %s" % name, flush=True)
        else:
            self.failed += 1
            print("FAIL  %s: %s" % (name, str(detail)[:800]), flush=True)
        return good
