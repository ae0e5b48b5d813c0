"""Routes that ask nobody: what could be read in two ways is refused there too."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import paths, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402


class Public(WorldCase):
    @classmethod
    def adjust(cls, config):
        cls.access = os.path.join(cls.folder, "access.log")
        config["log"] = {"level": "debug", "events": "stderr", "access": cls.access, "decisions": cls.access + ".decisions"}
        config["profiles"]["mage"] = {"file": os.path.join(paths.PROFILES, "mage.yaml")}
        for listener in config["listeners"]:
            for mount in listener.get("mounts", []):
                mount.update(prefix="/", profile="mage")
            listener["mounts"] = listener.get("mounts", [])[:1]
            if not listener["mounts"]:
                listener.pop("mounts")

    def ask(self, target, fields=(), method="GET"):
        self.recorder.begin()
        answer = self.get(target, who=None, fields=fields, method=method)
        return answer.status, len(self.recorder.traffic())

    def test_nobody_is_asked(self):
        self.assertEqual(self.ask("/api/status"), (200, 1))
        self.assertEqual(self.ask("/api/status", [("X-Workspace", "blue")]), (200, 1))
        self.assertEqual(self.ask("/api/pipelines", method="OPTIONS"), (200, 1))
        self.assertEqual(self.ask("/api/pipelines"), (401, 0))

    def test_two_workspaces(self):
        for target, method in (("/api/status", "GET"), ("/api/pipelines", "OPTIONS")):
            for other in ("red", "blue"):
                self.assertEqual(self.ask(target, [("X-Workspace", "blue"), ("X-Workspace", other)], method), (400, 0))
            self.assertEqual(self.ask(target, [("X-Workspace", "blue"), ("X-Mlflow-Workspace", "red")], method), (400, 0))

    def test_a_credential_in_the_path_is_in_no_log(self):
        tokens = []
        for i, (method, target) in enumerate((
                ("POST", "/api/pipeline_schedules/7/pipeline_runs/%s"), ("POST", "/api/runs/%s"),
                ("GET", "/api/downloads/%s.a/b"), ("GET", "/api/pipeline_schedules/7/pipeline_runs/%s"),
                ("POST", "/api/runs/%s/"), ("GET", "/api/downloads/" + "x" * 600 + "%s"))):
            tokens.append("s3cr3t%d" % i)
            self.ask(target % tokens[-1], method=method)
        self.ask("/api/status?last")

        def read():
            with open(self.access, encoding="utf-8") as f:
                return f.read()
        self.assertTrue(proc.wait_until(lambda: '"path":"/api/status"' in read(), 5))
        with open(self.access + ".decisions", encoding="utf-8") as f:
            text = read() + f.read() + self.node.child.err()
        for token in tokens:
            self.assertNotIn(token, text)
        for path in ("/api/pipeline_schedules/7/pipeline_runs/*", "/api/runs/*", "/api/downloads/*"):
            self.assertIn('"path":"%s"' % path, text)

    def test_a_query_that_climbs(self):
        self.assertEqual(self.ask("/files?path=%2e%2e%2Fetc"), (400, 0))
        self.assertEqual(self.ask("/files?path=a..b"), (200, 1))


if __name__ == "__main__":
    unittest.main()
