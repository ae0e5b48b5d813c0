"""The two doors agree: every case of http_cases.json that a front proxy could pass on is asked at both."""
import json
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths  # noqa: E402
from lib.base import WorldCase  # noqa: E402
import run_http_cases as cases  # noqa: E402

PASSED_ON = re.compile(rb"[!-~\x80-\xff]+")
FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"te", b"trailer",
           b"upgrade", b"keep-alive", b"proxy-connection", b"x-original-uri", b"x-original-method",
           b"x-original-url", b"http2-settings"}


def questions():
    """(id, method, target, fields, body): one request in good form that stands alone, of every such case."""
    with open(os.path.join(paths.VECTORS, "http_cases.json"), encoding="utf-8") as f:
        document = json.load(f)
    for case in document["cases"]:
        if case["kind"] != "h1" or case["needs"][0] != "proxy" or cases.not_applicable(case) or "script" in case:
            continue
        found = http1.read_requests(cases.raw_bytes(case))
        if len(found) != 1 or not found[0].complete or found[0].faults or found[0].minor != 1:
            continue
        msg = found[0]
        names = [n.lower() for n, _ in msg.fields]
        if msg.values(b"host") != [b"app.example"] or not msg.target.startswith(b"/"):
            continue
        # what a front proxy acts on itself never gets as far as the question
        if {b"connection", b"upgrade", b"expect", b"te", b"trailer"} & set(names) or any(b"_" in n for n in names):
            continue
        yield case["id"], document["meta"], msg


class SameDecision(WorldCase):
    def fields(self, msg, meta):
        out = []
        for name, value in msg.fields:
            if name.lower() in FRAMING:
                continue
            for who in ("alice", "mallory"):
                value = value.replace(meta["markers"][who].encode(), self.tokens[who].encode())
            out.append((name.decode("latin-1"), value.decode("latin-1")))
        return out

    def test_proxy_and_auth_request_decide_alike(self):
        asked, differ = 0, []
        for case_id, meta, msg in questions():
            fields = self.fields(msg, meta)
            method, target = msg.method.decode(), msg.target.decode("latin-1")
            try:
                through = http1.ask(self.proxy, method, target, fields, msg.body or None)
            except ConnectionError as e:
                differ.append("%s: proxy: %s" % (case_id, e))
                continue
            at_door = http1.ask(self.auth, "GET", "/_postern/auth", fields +
                                [("X-Original-URI", target), ("X-Original-Method", method)])
            asked += 1
            allowed = through.status < 400
            if allowed != (at_door.status < 300):
                differ.append("%s: proxy %d, auth_request %d" % (case_id, through.status, at_door.status))
            elif (through.status == 401) != (at_door.status == 401):
                differ.append("%s: proxy %d, auth_request %d" % (case_id, through.status, at_door.status))
            elif at_door.body:
                differ.append("%s: auth_request answered with a body" % case_id)
            elif not allowed and at_door.value(b"x-postern-reason") is None:
                differ.append("%s: auth_request gave no reason" % case_id)
        self.assertEqual(differ, [])
        self.assertGreater(asked, 150)

    def test_grants_of_every_kind_decide_alike(self):
        closed = "22222222-2222-4222-8222-222222222222"
        for who in ("alice", "mallory", None):
            for workspace in ("blue", "red", "green"):
                for entity in ("pipelines", "runs", "api", "x"):
                    for tail in ("", "/11111111-1111-4111-8111-111111111111", "/" + closed, "/a/" + closed):
                        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                            target = "/w/%s/%s%s" % (workspace, entity, tail)
                            through = self.get(target, who, method=method)
                            at_door = self.check(target, method, who)
                            self.assertEqual(through.status < 400, at_door.status < 300,
                                             "%s %s %s: %d, %d" % (who, method, target, through.status,
                                                                   at_door.status))


if __name__ == "__main__":
    unittest.main()
