"""The access and decision logs are JSON, complete and without secrets; the same holds for the metrics."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402

SECRET_QUERY = "s3cr3t-query-value"
SECRET_COOKIE = "s3cr3t-cookie-value"
SECRET_BODY = "s3cr3t-body-value"


class Logs(WorldCase):
    @classmethod
    def adjust(cls, config):
        cls.access = os.path.join(cls.folder, "access.log")
        cls.decisions = os.path.join(cls.folder, "decisions.log")
        config["log"] = {"level": "debug", "events": "stderr", "access": cls.access, "decisions": cls.decisions}

    def read(self, path):
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def lines(self, path, mark, count=1):
        def found():
            if not os.path.exists(path):
                return []
            out = [json.loads(line) for line in self.read(path).splitlines() if mark in line]
            return out if len(out) >= count else []
        return proc.wait_until(found, 5)

    def test_every_request_has_one_json_line(self):
        for who, target, status in (("alice", "/w/blue/log-a", 200), ("mallory", "/w/blue/log-b", 403),
                                    (None, "/w/blue/log-c", 401), ("alice", "/w/red/log-d", 403)):
            self.assertEqual(self.get(target, who).status, status)
            found = self.lines(self.access, target)
            self.assertEqual(len(found), 1, (target, found))
            line = json.dumps(found[0])
            self.assertIn(str(status), line)
            if who:
                self.assertIn(who, line)

    def test_times_of_the_upstream_are_told_where_one_was_asked(self):
        http1.ask(self.auth, "GET", "/_postern/auth", [("Authorization", "Bearer " + self.tokens["alice"]),
                                                       ("X-Original-URI", "/w/blue/time-a"), ("X-Original-Method", "GET")])
        self.get("/w/red/time-b", "alice")
        self.get("/w/blue/time-c", "alice")
        for mark, status, asked in (("time-a", 200, False), ("time-b", 403, False), ("time-c", 200, True)):
            line = self.lines(self.access, mark)[0]
            self.assertEqual((line["status"], "decide_us" in line, "total_us" in line), (status, True, True))
            self.assertEqual(("connect_us" in line, "first_byte_us" in line), (asked, asked), line)

    def test_a_decision_line_says_who_what_and_why(self):
        answer = self.get("/w/red/decided", "alice")
        self.assertEqual(answer.status, 403)
        found = self.lines(self.decisions, "not-granted")
        self.assertTrue(found)
        line = json.dumps(found[-1])
        for word in ("alice", "red", "not-granted"):
            self.assertIn(word, line)
        self.assertEqual(self.get("/w/blue/decided", "alice").status, 200)
        rule = self.lines(self.decisions, '"entity":"decided","operation":"list","rule"')[-1]["rule"]
        self.assertEqual((rule["name"], rule["bit"]), ("rest-all", "LIST"), rule)

    def test_the_id_in_the_answer_is_the_one_in_the_log(self):
        answer = self.get("/w/red/traced", "alice")
        told = (answer.value(b"x-postern-decision-id") or b"").decode()
        self.assertRegex(told, r"^[0-9a-f]{32}$")
        self.assertIn(told, answer.text())
        self.assertTrue(self.lines(self.decisions, told), told)

    def test_no_secret_is_written_anywhere(self):
        token = self.tokens["alice"]
        broken = token[:-6] + "AAAAAA"
        for fields in ([("Authorization", "Bearer " + token)], [("Authorization", "Bearer " + broken)],
                       [("Cookie", "postern_token=%s; other=%s" % (token, SECRET_COOKIE))],
                       [("Authorization", "Basic " + token)], [("X-Token", token)],
                       [("Authorization", "Bearer " + token), ("Cookie", "postern_token=" + token)]):
            for target in ("/w/blue/secrets?token=%s&q=%s" % (token, SECRET_QUERY),
                           "/w/red/secrets?password=" + SECRET_QUERY, "/nowhere?x=" + SECRET_QUERY,
                           "/w/blue/%zz?x=" + SECRET_QUERY):
                http1.ask(self.proxy, "POST", target, fields, SECRET_BODY.encode())
                http1.ask(self.auth, "GET", "/_postern/auth",
                          fields + [("X-Original-URI", target), ("X-Original-Method", "GET")])
        s = http1.connect(self.proxy)
        s.sendall(("GET /w/blue/x?q=%s HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\nBad line %s\r\n\r\n"
                   % (SECRET_QUERY, token, SECRET_COOKIE)).encode())
        s.recv(4096)
        s.close()
        self.get("/w/blue/last")
        self.assertTrue(self.lines(self.access, "/w/blue/last"))
        metrics = http1.ask(self.node.address("ops"), "GET", "/metrics").text()
        signature = token.rsplit(".", 1)[1]
        for name, text in (("access", self.read(self.access)), ("decisions", self.read(self.decisions)),
                           ("events", self.node.child.err()), ("output", self.node.child.out()),
                           ("metrics", metrics)):
            for secret in (signature[:40], token.split(".")[1][:60], SECRET_QUERY, SECRET_COOKIE, SECRET_BODY):
                self.assertNotIn(secret, text, "in %s" % name)

    def test_ids_are_logged_from_the_path_alone(self):
        """A query value and a field of a body stay what they are when they name what was asked for."""
        fields = [("X-Mlflow-Workspace", "blue"), ("Content-Type", "application/json")]
        secrets = ["s3cr3t-q%d" % i for i in range(4)]
        at = "/api/2.0/mlflow/"
        self.get(at + "experiments/get?experiment_id=" + secrets[0], "mallory", fields)
        self.get(at + "registered-models/get?name=" + secrets[1], "mallory", fields)
        told = self.get(at + "experiments/delete", "mallory", fields, "POST", json.dumps({"experiment_id": secrets[2]}).encode())
        self.assertIn(secrets[2], told.text())          # who sent it may read it
        self.get("/w/blue/pipelines?pipeline_uuid=" + secrets[3], "mallory")
        self.get("/w/blue/pipelines/in-the-path", "mallory")
        self.assertTrue(self.lines(self.decisions, "detail pipelines/in-the-path"))
        self.assertTrue(self.lines(self.decisions, "delete experiment/*"))
        for text in (self.read(self.access), self.read(self.decisions), self.node.child.err()):
            for secret in secrets:
                self.assertNotIn(secret, text)

    def test_a_line_cannot_be_forged(self):
        target = "/w/blue/x%0a%7b%22forged%22%3a1%7d"
        self.get(target)
        self.get("/w/blue/x", fields=[("User-Agent", 'a"} {"forged": "\\" \x80\xff')])
        self.get("/w/blue/after-forgery")
        self.assertTrue(self.lines(self.access, "after-forgery"))
        for path in (self.access, self.decisions):
            for line in self.read(path).splitlines():
                tree = json.loads(line)
                self.assertIsInstance(tree, dict)
                self.assertNotIn("forged", tree)

    def test_metrics_count_by_outcome_and_reason(self):
        def total(text, *words):
            return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
                       if not line.startswith("#") and all(w in line for w in words))

        def text():
            return http1.ask(self.node.address("ops"), "GET", "/metrics").text()
        before = text()
        for _ in range(5):
            self.get("/w/blue/m")
            self.get("/w/red/m")
        after = text()
        for reason in ('"granted"', '"not-granted"'):
            self.assertEqual(total(after, "requests", reason) - total(before, "requests", reason), 5, reason)
        self.assertIn("_bucket{", after)
        for word in ("HELP", "TYPE"):
            self.assertIn("# " + word, after)

    def test_refusals_carry_the_fields_that_their_status_owes(self):
        """RFC 9110: Allow with 405, a challenge with 401, a date with both; wherever it was refused."""
        ops = self.node.address("ops")
        for where, method, target, allow in (
                (ops, "POST", "/healthz", "GET, HEAD"), (ops, "PUT", "/none", "GET, HEAD"), (ops, "TRACE", "/", "GET, HEAD"),
                (self.proxy, "TRACE", "/w/blue/x", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                (self.proxy, "PUT", "/api/2.0/mlflow/runs/log-metric", "POST")):
            answer = http1.ask(where, method, target, self.bearer())
            self.assertEqual((answer.status, answer.value(b"allow")), (405, allow.encode()), (method, target))
            self.assertTrue(answer.value(b"date"))
        answer = self.get(who=None)
        self.assertEqual(answer.status, 401)
        self.assertIn(b"realm=", answer.value(b"www-authenticate"))
        self.assertTrue(answer.value(b"date"))

    def test_health_and_readiness(self):
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/w/blue/x", 404)):
            self.assertEqual(http1.ask(self.node.address("ops"), "GET", path).status, status, path)
        for path in ("/healthz", "/readyz", "/metrics"):
            self.assertGreaterEqual(self.get(path).status, 400, "%s on the proxy's listener" % path)


if __name__ == "__main__":
    unittest.main()
