"""A second process changes policy; the running node follows within a second, without losing a request."""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths, proc  # noqa: E402
from lib.base import Load, WorldCase  # noqa: E402
from lib.world import ALL, declarations  # noqa: E402

LIMIT = 1.0


class Live(WorldCase):
    def followed(self, expected, target="/w/blue/x", who="alice", method="GET"):
        """Seconds from the end of apply to the first answer with the status `expected`."""
        began = time.monotonic()
        seen = proc.wait_until(lambda: self.get(target, who, method=method).status == expected, 5, 0.005)
        self.assertTrue(seen, "no %d within 5 s" % expected)
        return time.monotonic() - began

    def apply(self, tree):
        return self.node.apply(tree)

    def test_a_grant_and_its_end(self):
        self.assertEqual(self.get("/w/red/x").status, 403)
        times = []
        for _ in range(5):
            self.apply({"roles": [{"name": "guest", "workspace": "red",
                                   "permissions": [{"entity": "x", "allow": ["list"]}]}],
                        "bindings": [{"user": "alice", "role": "guest", "workspace": "red"}]})
            times.append(self.followed(200, "/w/red/x"))
            self.apply({"roles": [{"name": "guest", "workspace": "red",
                                   "permissions": [{"entity": "other", "allow": ["list"]}]}]})
            times.append(self.followed(403, "/w/red/x"))
        self.assertLess(max(times), LIMIT * paths.slack(), times)

    def test_a_disabled_user(self):
        tree = declarations()
        tree["users"][0]["disabled"] = True
        self.apply({"users": [tree["users"][0]]})
        slow = self.followed(403)
        tree["users"][0]["disabled"] = False
        self.apply({"users": [tree["users"][0]]})
        again = self.followed(200)
        self.assertLess(max(slow, again), LIMIT * paths.slack())

    def test_a_body_that_comes_slowly_is_judged_by_what_holds_at_its_end(self):
        body = b'{"experiment_id": "1", "new_name": "x"}'
        head = ("POST /api/2.0/mlflow/experiments/update HTTP/1.1\r\nHost: app.example\r\nX-Mlflow-Workspace: blue\r\n"
                "Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n")
        tree = declarations()
        statuses = []
        for disabled in (False, True, False):
            tree["users"][0]["disabled"] = False
            self.apply({"users": [tree["users"][0]]})
            self.followed(200)
            with http1.Client(self.proxy, 15) as client:
                client.sock.sendall((head % (self.tokens["alice"], len(body))).encode() + body[:10])
                time.sleep(0.2)
                tree["users"][0]["disabled"] = disabled
                self.apply({"users": [tree["users"][0]]})
                self.followed(403 if disabled else 200)
                client.sock.sendall(body[10:])
                statuses.append(client.read().status)
        self.assertEqual(statuses, [200, 403, 200])

    def test_a_deny_on_one_id(self):
        target = "/w/blue/reports/33333333-3333-4333-8333-333333333333"
        self.assertEqual(self.get(target).status, 200)
        self.apply({"roles": [{"name": "no report", "workspace": "blue", "permissions":
                               [{"entity": "reports", "id": target.rsplit("/", 1)[1], "deny": ALL}]}],
                    "bindings": [{"user": "alice", "role": "no report", "workspace": "blue"}]})
        self.assertLess(self.followed(403, target), LIMIT * paths.slack())
        self.assertEqual(self.get("/w/blue/reports/44444444-4444-4444-8444-444444444444").status, 200)

    def test_the_revision_grows_and_is_told_upstream(self):
        def revision():
            self.recorder.begin()
            self.assertEqual(self.get("/w/blue/x").status, 200)
            data = self.recorder.traffic()[0][1]
            for line in data.split(b"\r\n"):
                if line.lower().startswith(b"x-postern-revision:"):
                    return line.split(b":", 1)[1].strip()
            return None
        before = revision()
        self.apply({"workspaces": [{"name": "green-%d" % time.time(), "kind": "project"}]})
        self.assertTrue(proc.wait_until(lambda: revision() != before, LIMIT * paths.slack()))

    def test_load_loses_nothing_while_policy_changes(self):
        threads = [Load(self) for _ in range(2)]
        for t in threads:
            t.start()
        for i in range(6):
            self.apply({"workspaces": [{"name": "w%d" % i, "kind": "project"}],
                        "roles": [{"name": "r%d" % i, "workspace": "w%d" % i,
                                   "permissions": [{"entity": "*", "allow": ALL}]}],
                        "bindings": [{"user": "alice", "role": "r%d" % i, "workspace": "w%d" % i}]})
        for t in threads:
            t.halt.set()
        for t in threads:
            t.join(10)
        self.assertEqual([b for t in threads for b in t.bad], [])
        self.assertEqual(proc.wait_until(lambda: self.get("/w/w5/x").status == 200, LIMIT * paths.slack()), True)


if __name__ == "__main__":
    unittest.main()
