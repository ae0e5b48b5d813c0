"""A node beside others: keys from a URL, a port that is taken, a log that nobody reads, a short lease."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, node, paths, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402
from lib.jwks_server import JwksServer  # noqa: E402


class KeysFromAUrl(WorldCase):
    @classmethod
    def adjust(cls, config):
        issuer = config["identity"]["issuers"][0]
        with open(issuer["keys"]["jwks_file"], "rb") as f:
            cls.server = JwksServer(cls.folder, f.read())
        cls.addClassCleanup(cls.server.close)
        cls.server.status = 500
        issuer["keys"] = {"jwks_url": cls.server.url(), "ca_file": cls.server.ca_file,
                          "allow_addresses": ["127.0.0.1/32"]}

    @classmethod
    def setUpClass(cls):
        original = node.Node.ready

        def ready(self):
            """The server recovers once it has refused: only a node that asks again becomes ready."""
            if cls.server.answers > 0 and proc.connects(*self.address("ops")):
                cls.server.status = 200
            return original(self)
        node.Node.ready = ready
        try:
            super().setUpClass()
        finally:
            node.Node.ready = original

    def ready(self):
        return http1.ask(self.node.address("ops"), "GET", "/readyz").status == 200

    def test_a_failed_fetch_is_tried_again_and_a_reload_keeps_what_is_held(self):
        self.assertGreaterEqual(self.server.fetches, 2)
        self.assertEqual(self.check("/w/blue/x").status, 200)
        self.server.status = 500
        before = self.server.fetches
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: self.server.fetches > before, 5 * paths.slack()))
        for _ in range(20):
            self.assertTrue(self.ready(), "a reload lost the keys")
            self.assertEqual(self.check("/w/blue/x").status, 200)
            time.sleep(0.02)
        self.assertTrue(proc.wait_until(lambda: self.server.fetches > before + 1, 10 * paths.slack()),
                        "a failed fetch was not tried again")


class Ports(WorldCase):
    def test_a_second_instance_on_the_same_port_is_refused(self):
        done = node.cli("serve", "--config", self.node.path, timeout=20)
        self.assertEqual(done.returncode, 3)
        host, port = self.node.address("proxy")
        self.assertIn("%s:%d" % (host, port), done.stderr)
        self.assertEqual(self.get().status, 200)

    def test_a_listener_may_get_another_name_and_keep_its_address(self):
        listener = next(l for l in self.node.config["listeners"] if l["name"] == "proxy")
        listener["name"] = "renamed"
        self.node.write()
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: "config.reloaded" in self.node.child.err(), 5 * paths.slack()),
                        self.node.child.err())
        self.assertTrue(proc.wait_until(self.answers, 5))
        listener["name"] = "proxy"
        self.node.write()

    def answers(self):
        try:
            return self.get().status == 200
        except OSError:
            return False


class Reader(WorldCase):
    @classmethod
    def adjust(cls, config):
        config["log"] = {"level": "info", "events": "stderr", "access": "stdout", "decisions": "stdout"}

    def test_a_log_reader_that_stops_stops_nothing(self):
        self.node.stop()
        read, write = os.pipe()
        with open(os.path.join(self.folder, "err"), "wb") as err:
            child = subprocess.Popen([paths.binary(), "serve", "--config", self.node.path], stdout=write, stderr=err)
        os.close(write)
        try:
            self.assertTrue(proc.wait_until(self.node_ready, 15 * paths.slack()))
            client = http1.Client(self.auth, 10)
            fields = self.bearer() + [("X-Original-URI", "/w/blue/" + "x" * 3000), ("X-Original-Method", "GET")]
            for _ in range(900):  # more than a pipe and a worker's 2 MiB hold
                self.assertEqual(client.ask("GET", "/_postern/auth", fields).status, 200)
            client.close()
            child.send_signal(signal.SIGHUP)
            time.sleep(1.5)
            self.assertEqual(self.check("/w/blue/x").status, 200)
            drops = http1.ask(self.node.address("ops"), "GET", "/metrics", timeout=5).text()
            self.assertRegex(drops, r"postern_log_drops_total [1-9]")
            child.terminate()
            self.assertEqual(child.wait(15 * paths.slack()), 0)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            os.close(read)

    def node_ready(self):
        try:
            return http1.ask(self.node.address("ops"), "GET", "/readyz", timeout=2).status == 200
        except OSError:
            return False


class Stop(unittest.TestCase):
    def test_an_impatient_operator_does_not_break_a_clean_stop(self):
        folder = tempfile.mkdtemp(prefix="postern-case-")
        self.addCleanup(shutil.rmtree, folder, True)
        one = node.Node({"listeners": [{"name": "ops", "kind": "ops", "address": "127.0.0.1:%d" % proc.free_port()}]},
                        folder)
        for _ in range(12):
            one.start()
            while one.child.alive():
                one.child.signal(signal.SIGTERM)
                time.sleep(0.001)
            self.assertEqual(one.child.p.returncode, 0, one.child.err()[-1000:])


class Lease(WorldCase):
    @classmethod
    def adjust(cls, config):
        config["max_staleness_s"] = 1 if not paths.sanitized() else 4

    def test_a_short_bound_is_kept_without_a_refusal(self):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.assertEqual(self.check("/w/blue/x").status, 200)
            time.sleep(0.01)


if __name__ == "__main__":
    unittest.main()
