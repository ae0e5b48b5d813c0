"""SIGHUP takes a good configuration and refuses a bad one; SIGTERM drains; logs are reopened."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths, proc  # noqa: E402
from lib.base import Load, WorldCase  # noqa: E402
from lib.recorder import Recorder  # noqa: E402


class Reload(WorldCase):
    def load(self, last=False):
        threads = [Load(self, last) for _ in range(4)]
        for t in threads:
            t.start()
        return threads

    def end(self, threads):
        for t in threads:
            t.halt.set()
        for t in threads:
            t.join(20)
        return sum(t.good for t in threads), [b for t in threads for b in t.bad]

    def events(self):
        return self.node.child.err()

    def test_a_good_configuration_takes_effect_under_load(self):
        threads = self.load()
        time.sleep(0.3)
        self.assertEqual(self.get("/w/blue/x", fields=[("X-Long", "a" * 3000)]).status, 200)
        self.node.config["limits"]["field_bytes"] = 2048
        self.node.write()
        self.node.reload()
        took = proc.wait_until(lambda: self.get("/w/blue/x", fields=[("X-Long", "a" * 3000)]).status == 431, 5)
        time.sleep(0.3)
        good, bad = self.end(threads)
        self.node.config["limits"].pop("field_bytes")
        self.node.write()
        self.node.reload()
        self.assertTrue(took, self.events()[-1500:])
        self.assertEqual(bad, [])
        self.assertGreater(good, 20)
        self.assertTrue(proc.wait_until(
            lambda: self.get("/w/blue/x", fields=[("X-Long", "a" * 3000)]).status == 200, 5))

    def test_a_bad_configuration_is_refused_and_the_old_one_stays(self):
        with open(self.node.path, encoding="utf-8") as f:
            good = f.read()
        for broken in ("{", good.replace('"listeners"', '"listenerz"'), good.replace(paths.PROFILES, "nowhere"),
                       good.replace('"state_dir"', '"node": "other", "state_dir"'),
                       good.replace('"workers": 2', '"workers": 3'), good.replace('"level": "info"', '"level": "debug"'),
                       good.replace('"decisions": "off"', '"decisions": "stdout"'),
                       good.replace('"field_bytes"', '"x"').replace('"workers": 2', '"workers": "many"')):
            self.assertNotEqual(broken, good)
            with open(self.node.path, "w", encoding="utf-8") as f:
                f.write(broken)
            before = self.events().count("\n")
            threads = self.load()
            self.node.reload()
            told = proc.wait_until(lambda: self.events().count("\n") > before, 5)
            time.sleep(0.2)
            count, bad = self.end(threads)
            self.assertTrue(told, "nothing was said about the bad file")
            self.assertEqual(bad, [])
            self.assertGreater(count, 5)
            self.assertTrue(self.node.child.alive())
        self.node.write()
        self.node.reload()
        self.assertEqual(self.get().status, 200)

    def test_many_reloads_lose_nothing(self):
        threads = self.load()
        for _ in range(10):
            self.node.reload()
            time.sleep(0.1)
        good, bad = self.end(threads)
        self.assertEqual(bad, [])
        self.assertGreater(good, 50)


class HeadAcrossReload(WorldCase):
    """A head that begins under one configuration and ends under the next."""
    workers = 1

    @classmethod
    def adjust(cls, config):
        cls.other = Recorder()
        app = config["upstreams"]["app"]
        config["upstreams"] = {"app": app, "other": dict(app, address="127.0.0.1:%d" % cls.other.port)}
        config["listeners"].append(dict(config["listeners"][0], name="extra",
                                        address="127.0.0.1:%d" % proc.free_port()))

    def ask_across(self, listener, change):
        self.recorder.begin()
        self.other.begin()
        client = http1.Client(self.node.address(listener), 15)
        client.sock.sendall(b"GET /w/blue/x HTTP/1.1\r\nHost: app.exa")
        time.sleep(0.2)
        change(self.node.config)
        self.node.write()
        before = self.node.child.err().count("config.reloaded")
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: self.node.child.err().count("config.reloaded") > before, 5))
        time.sleep(0.2)
        try:
            client.sock.sendall(("mple\r\nAuthorization: Bearer %s\r\n\r\n" % self.tokens["alice"]).encode())
            answer = client.read()
        except OSError:
            answer = None
        client.close()
        return answer

    def test_it_goes_where_its_mount_says_now(self):
        def turn(config):
            config["upstreams"] = dict(reversed(config["upstreams"].items()))
        answer = self.ask_across("proxy", turn)
        self.assertEqual(self.other.traffic(), [])
        self.assertEqual(len(self.recorder.traffic()), 1)
        self.assertEqual(answer.status, 200)

    def test_nothing_is_decided_for_a_listener_that_is_gone(self):
        extra = next(l for l in self.node.config["listeners"] if l["name"] == "extra")
        answer = self.ask_across("extra", lambda config: config["listeners"].remove(extra))
        self.assertIsNone(answer)
        self.assertEqual(self.recorder.traffic() + self.other.traffic(), [])
        self.assertEqual(self.get().status, 200)


class Drain(WorldCase):
    def test_sigterm_finishes_what_has_begun(self):
        self.recorder.begin([["read", "message"], ["wait", 1.0],
                             ["send", "HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nlate"]], "ok")
        slow = http1.Client(self.proxy, 15)
        head = "GET /w/blue/slow HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\n\r\n"
        slow.sock.sendall((head % self.tokens["alice"]).encode())
        self.assertTrue(proc.wait_until(lambda: self.recorder.traffic(), 5))
        began = time.monotonic()
        self.node.child.signal(signal.SIGTERM)
        not_ready = proc.wait_until(self.not_ready, 0.8, 0.01)
        answer = slow.read()
        slow.close()
        code = self.node.child.wait(20)
        self.assertEqual((answer.status, answer.body), (200, b"late"))
        self.assertEqual((answer.value(b"connection") or b"").lower(), b"close")
        self.assertTrue(not_ready, "/readyz went on saying ready")
        self.assertEqual(code, 0)
        self.assertLess(time.monotonic() - began, 10 * paths.slack())

    def not_ready(self):
        try:
            return http1.ask(self.node.address("ops"), "GET", "/readyz", timeout=1).status == 503
        except OSError:
            return True


class DrainUnderLoad(WorldCase):
    def test_no_request_fails(self):
        threads = [Load(self, last=True) for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        self.node.child.signal(signal.SIGTERM)
        code = self.node.child.wait(20)
        for t in threads:
            t.join(5)
            t.halt.set()
        self.assertEqual([b for t in threads for b in t.bad], [])
        self.assertGreater(sum(t.good for t in threads), 20)
        self.assertEqual(code, 0)


class Logs(WorldCase):
    @classmethod
    def adjust(cls, config):
        cls.log_path = os.path.join(cls.folder, "access.log")
        config["log"] = {"level": "info", "events": "stderr", "access": cls.log_path, "decisions": "off"}

    def text(self, path):
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def test_sighup_reopens_the_file(self):
        self.get("/w/blue/before")
        self.assertTrue(proc.wait_until(lambda: "/w/blue/before" in self.text(self.log_path), 5))
        moved = self.log_path + ".1"
        os.rename(self.log_path, moved)
        self.get("/w/blue/between")
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: os.path.exists(self.log_path), 5))
        self.get("/w/blue/after")
        self.assertTrue(proc.wait_until(lambda: "/w/blue/after" in self.text(self.log_path), 5))
        self.assertIn("/w/blue/between", self.text(moved) + self.text(self.log_path))
        self.assertNotIn("/w/blue/after", self.text(moved))


if __name__ == "__main__":
    unittest.main()
