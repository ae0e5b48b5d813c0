#!/usr/bin/env python3
"""Runs http_cases.json against a real Postern over real sockets, whole and byte by byte.

Each shard is a process with a node, a recording upstream and the world of `meta` of its own; in a shard one case runs
at a time, so every byte that reaches the upstream belongs to the case at hand or to the control request after it.

    run_http_cases.py --build build/release [--dir tests/vectors] [--only ID ...] [--mode whole|bytes|both] [-v]

`--proxy PORT --upstream PORT` runs the harness against any other proxy (for trying the harness itself)."""
import argparse
import base64
import concurrent.futures
import json
import os
import re
import sys
import tempfile
import time
import urllib.parse
import zlib
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import canonical, http1, paths, proc, wire  # noqa: E402
from lib.recorder import Recorder, unescape  # noqa: E402

OFFERED = {"proxy", "auth_request", "ops", "mlflow"}
LATER = {"forward_auth", "ext_authz_http", "ext_authz_grpc", "h2", "tls", "websocket", "trailers"}
KINDS = {"h1", "upstream"}
UPSTREAM_WORDS = {"none", "none-or-aborted", "clean", "one", "two", "local", "stripped", "no-tunnel", "bounded",
                  "policy", "same-as-policy", "no-double-decode", "one-or-retry"}
EXPECT_WORDS = {"status", "upstream", "close", "normalised", "upstream_lacks", "client_lacks", "answers"}
GIVE_UP = 6          # cases in a row whose control request fails: the node is beyond judging case by case
BURST = 100          # of a `bounded` case: what one connection may have upstream
CLOSED_IN_TIME = "TIMEOUT-CLOSE"
CLIENT_STEPS = {"raw", "send", "read", "wait", "fin", "rst"}
SERVER_STEPS = {"read", "send", "wait", "fin", "rst", "expect_close", "refuse"}
SMUGGLED = b"SMUGGLED"
OWN_PORT = re.compile(rb"app\.example:[1-9][0-9]{0,4}")
OWN_ID = re.compile(rb"(?i)\r\nx-request-id: [0-9a-f]{32}(?=\r\n)")    # random digits spell anything


def raw_bytes(case):
    if "raw" in case:
        return unescape(case["raw"])
    if "raw_b64" in case:
        return base64.b64decode(case["raw_b64"])
    if "raw_zlib_b64" in case:
        return zlib.decompress(base64.b64decode(case["raw_zlib_b64"]))
    return b""


def not_applicable(case):
    """The word that the node lacks, or None."""
    if not isinstance(case.get("needs"), list) or not case["needs"]:
        return "unknown form: no needs"
    for word in case["needs"]:
        if word not in OFFERED:
            return "needs " + word if word in LATER else "unknown form: needs " + word
    return None


def is_status(word):
    return isinstance(word, int) or word == CLOSED_IN_TIME or (isinstance(word, str) and word.endswith("-truncated"))


def is_read(what, side):
    return isinstance(what, int) or what in ("head", "message") + (("answer",) if side == "client" else ())


def unknown_step(step, side, words):
    if not isinstance(step, list) or not step or step[0] not in words:
        return "%s step %s" % (side, step[0] if isinstance(step, list) and step else step)
    if step[0] == "read" and not (len(step) == 2 and is_read(step[1], side)):
        return "%s step %s" % (side, " ".join(map(str, step)))
    return None


def unknown_form(case, settings=()):
    """What this runner has no word for, or None. `settings`: the words that a case's `config` may hold."""
    expect = case.get("expect")
    if case.get("kind") not in KINDS:
        return "kind %s" % case.get("kind")
    if not isinstance(expect, dict):
        return "expect %s" % expect
    for word in expect:
        if word not in EXPECT_WORDS:
            return "expect.%s" % word
    if str(expect.get("upstream")) not in UPSTREAM_WORDS:
        return "upstream %s" % expect.get("upstream")
    if not isinstance(expect.get("status"), list):
        return "status %s" % expect.get("status")
    for status in expect["status"]:
        if not is_status(status):
            return "status %s" % status
    for side, key, words in (("client", "client", CLIENT_STEPS), ("script", "script", SERVER_STEPS)):
        for step in case.get(key, []):
            if unknown_step(step, side, words):
                return unknown_step(step, side, words)
    if not any(key in case for key in ("raw", "raw_b64", "raw_zlib_b64")):
        return "no raw"
    for word in case.get("config", {}):
        if settings and word not in settings:
            return "config %s" % word
    if case.get("pool", "any") not in ("ok", "close", "any"):
        return "pool %s" % case["pool"]
    return None


class Judge:
    """Collects what is wrong with one run of one case."""

    def __init__(self, case, raw):
        self.case, self.raw, self.expect = case, raw, case["expect"]
        self.wrong = []
        self.asked = http1.read_requests(raw)

    def say(self, text):
        self.wrong.append(text)

    def status(self, w):
        need = self.expect.get("answers", 1)
        final = w.statuses[:need]
        wanted = set(self.expect["status"]) | ({0} if CLOSED_IN_TIME in self.expect["status"] else set())
        if len(final) < need or any(s not in wanted for s in final):
            self.say("status %s, expected %s" % (w.statuses, self.expect["status"]))
        count, most = w.count_answers(self.raw.startswith(b"HEAD ")), max(1, len(self.asked))
        if "client" not in self.case and count > most:
            self.say("%d answers to %d requests" % (count, most))
        if self.expect.get("close") and not w.closed:
            self.say("connection left open")
        got = OWN_ID.sub(b"", bytes(w.got)).lower()
        for text in self.expect.get("client_lacks", []):
            if unescape(text).lower() in got:
                self.say("the client received %r" % text)

    def upstream(self, traffic, scripted, recorder):
        """`traffic`: what arrived at the upstream during the case, by connection."""
        complete, partial = [], []
        for conn, data in traffic:
            for msg in http1.read_requests(data):
                early = conn is scripted and not self._reads_message()
                (complete if msg.complete or early else partial).append((conn, msg))
        for _, msg in complete:
            self._canonical(msg)
        self._count(complete, partial)
        self._same(complete)
        self._pool(scripted, recorder)

    def _reads_message(self):
        return ["read", "message"] in self.case.get("script", [["read", "message"]])

    def _canonical(self, msg):
        for fault in canonical.faults(msg):
            self.say("upstream request not canonical: " + fault)
        if SMUGGLED in msg.target or msg.target.startswith(b"/w/red"):
            self.say("upstream got %s %s" % (msg.method.decode(), msg.target.decode("latin-1")))
        for name, value in self.expect.get("upstream_lacks", []):
            for n, v in msg.fields:
                if canonical.fold(n) == canonical.fold(name.encode("latin-1")) and v == value.encode("latin-1"):
                    self.say("upstream got %s: %s" % (name, value))
        for name, value in ((b"x-postern-user", b"alice"), (b"x-postern-workspace", b"blue")):
            if msg.values(name) != [value]:
                self.say("upstream got %s %s" % (name.decode(), msg.values(name)))
        if msg.values(b"host") not in [[h] for h in self._hosts()]:
            self.say("upstream got Host %s" % msg.values(b"host"))

    def _hosts(self):
        """What Host may be upstream: the client's own in canonical form, which keeps a port that it names."""
        asked = [h.lower() for m in self.asked for h in m.values(b"host")]
        return [b"app.example", b"app.example:80"] + [h for h in asked if OWN_PORT.fullmatch(h)]

    def _count(self, complete, partial):
        word, n = self.expect["upstream"], len(complete)
        least, most = {"none": (0, 0), "local": (0, 0), "none-or-aborted": (0, 0), "one": (1, 1), "two": (2, 2),
                       "one-or-retry": (1, 2), "bounded": (0, BURST)}.get(word, (0, 1))
        if not least <= n <= most:
            self.say("%d complete requests upstream, expected %s (%s)" %
                     (n, word, [m.target.decode("latin-1")[:60] for _, m in complete]))
        if partial and word != "none-or-aborted":
            self.say("incomplete request upstream: %r" % [m.target for _, m in partial])
        for conn, _ in partial:
            if not conn.peer_closed:
                self.say("a started request was not aborted")
        if word == "one-or-retry" and n == 2 and (complete[0][1].method, complete[0][1].target) != \
                (complete[1][1].method, complete[1][1].target):
            self.say("the second request is no retry of the first")

    def _same(self, complete):
        """What was forwarded is what was asked, where the request reads the same to everybody."""
        word = self.expect["upstream"]
        plain = [m for m in self.asked if m.complete and not m.faults]
        if word in ("same-as-policy", "no-double-decode") and complete:
            if complete[0][1].target != plain[0].target:
                self.say("target became %r" % complete[0][1].target)
        if len(complete) == len(plain) == len(self.asked) or (word == "one" and len(plain) == len(self.asked) == 1):
            for (_, sent), asked in zip(complete, plain):
                if sent.complete and sent.body != asked.body:
                    self.say("the body changed on its way")
                # what is no byte of a URI may be sent escaped; an escape of the client's is judged by `canonical`
                if b"%" not in asked.target and asked.target.startswith(b"/") and \
                        urllib.parse.unquote_to_bytes(sent.target) != asked.target:
                    self.say("target became %r" % sent.target)
                if sent.method != asked.method:
                    self.say("method became %r" % sent.method)

    def _pool(self, scripted, recorder):
        if scripted is None:
            return
        if recorder.closed_in_time is False:
            self.say("Postern did not close the upstream connection")
        if self.case.get("pool") == "close" and scripted.after_script:
            late = bytes(scripted.data[scripted.after_script:])
            if http1.REQUEST_LINE.match(late.split(b"\r\n")[0]):
                self.say("the upstream connection was used again")


class Runner:
    """One shard: runs cases one after the other against one world."""

    def __init__(self, folder, meta, proxy_port=0, upstream_port=0):
        self.meta, self.folder = meta, folder
        self.slack = paths.slack()
        self.recorder = Recorder(3.0 * self.slack)
        if proxy_port:
            if upstream_port:
                self.recorder.refuse()
                self.recorder.port = upstream_port
                self.recorder.open()
            self.world, self.foreign = None, ("127.0.0.1", proxy_port)
            self.tokens = {n: meta["markers"][n] for n in ("alice", "mallory")}
        else:
            from lib.world import World
            self.world = World(os.path.join(folder, "node"), self.recorder.port)
            self.tokens = self.world.tokens
        self.variants = {}
        self.slow = []

    def node_for(self, case):
        if self.world is None:
            return None
        if "config" not in case:
            return self.world.node
        key = json.dumps(case["config"], sort_keys=True)
        if key not in self.variants:
            folder = os.path.join(self.folder, "variant-%d" % len(self.variants))
            self.variants[key] = self.world.variant(folder, self.recorder.port, case["config"])
        return self.variants[key]

    def fill(self, raw):
        for name in ("alice", "mallory"):
            raw = raw.replace(self.meta["markers"][name].encode(), self.tokens[name].encode())
        return raw

    def one(self, case, bytewise):
        """The faults of one run of one case; empty when it ended as expected."""
        node, raw = self.node_for(case), self.fill(raw_bytes(case))
        where = node.address(case["needs"][0]) if node else self.foreign
        refuse = case.get("script") == [["refuse"]]
        self.recorder.begin(None if refuse else case.get("script"), case.get("pool"), bytewise)
        if refuse:
            self.recorder.refuse()
        judge = Judge(case, raw)
        w = wire.Wire(where, case.get("from"), bytewise, self.slack)
        if CLOSED_IN_TIME in case["expect"]["status"]:
            w.limit = 15.0
        began = time.monotonic()
        try:
            w.run(case.get("client") or self.meta["script"]["client_default"], raw,
                  0 in case["expect"]["status"])
            w.linger(max(1, len([m for m in judge.asked if m.complete])), self.expects_close(case),
                     raw.startswith(b"HEAD "))
        finally:
            w.close()
        judge.status(w)
        self.settle(case)
        judge.upstream(self.recorder.traffic(), self.recorder.scripted, self.recorder)
        if refuse:
            self.recorder.open()
        self.control(node, judge, case["expect"]["upstream"] == "none-or-aborted")
        self.slow.append((time.monotonic() - began, case["id"]))
        return judge.wrong

    @staticmethod
    def expects_close(case):
        return bool(case["expect"].get("close"))

    def settle(self, case):
        """Waits until the upstream's part is over and what was started and given up is closed."""
        scripted = self.recorder.scripted
        if scripted is not None and (case.get("pool") == "close" or
                                     ["expect_close"] in case.get("script", [])):
            self.recorder.script_ended.wait(8 * self.slack)
        end = time.monotonic() + 2.0 * self.slack
        while time.monotonic() < end:
            open_parts = [c for c, data in self.recorder.traffic()
                          if not c.peer_closed and not c.done and c is not scripted
                          and not http1.read_requests(data)[-1].complete]
            if not open_parts:
                return
            time.sleep(0.01)

    def control(self, node, judge, aborted):
        """After every case a plain request on a fresh connection is answered as if nothing had happened.

        `aborted`: what had begun may have been on its way still when it was given up."""
        self.recorder.begin()
        where = node.address("proxy") if node else self.foreign
        target = "/w/blue/control"
        try:
            answer = http1.ask(where, "GET", target, [("Authorization", "Bearer " + self.tokens["alice"])],
                               timeout=3 * self.slack)
        except OSError as e:
            judge.say("control request: %s" % e)
            if node and not node.child.alive():
                judge.say("the node has ended: %s" % node.child.err()[-2000:])
            return
        # what Postern had sent before that answer is this case's, however late it is read
        self.recorder.drain(1.0 * self.slack)
        if answer.status != 200 or answer.body != b"ok":
            judge.say("control request answered %d %r" % (answer.status, answer.body[:80]))
        seen = [m for c, data in self.recorder.traffic() for m in http1.read_requests(data)
                if not (aborted and not m.complete and (c.peer_closed or c.done))]
        if [m.target for m in seen] != [target.encode()]:
            judge.say("with the control request upstream: %s" % [bytes(m.target)[:60] for m in seen])

    def stop(self):
        """Exit statuses that are not 0: a crash or a sanitizer's report."""
        bad = []
        for node in [self.world.node if self.world else None, *self.variants.values()]:
            if node and node.stop() != 0:
                bad.append("a node ended with %s: %s" % (node.child.p.returncode, node.child.err()[-3000:]))
        return bad


def shard(args):
    number, cases, meta, mode, proxy_port, upstream_port, build = args
    os.environ["POSTERN_BUILD"] = build
    out = []
    with tempfile.TemporaryDirectory(prefix="postern-http-") as folder:
        try:
            runner = Runner(os.path.join(folder, str(number)), meta, proxy_port, upstream_port)
        except Exception as e:  # no node: every case of the shard has failed
            proc.stop_all()
            return [(c["id"], ["no node: %s" % e]) for c in cases], []
        lost = 0
        for case in cases:
            wrong = []
            if lost >= GIVE_UP:
                out.append((case["id"], ["not run: control requests have failed %d times in a row" % lost]))
                continue
            for bytewise in (False, True):
                if mode in ("both", "bytes" if bytewise else "whole"):
                    try:
                        found = runner.one(case, bytewise)
                    except Exception as e:
                        found = ["%s: %s" % (type(e).__name__, e)]
                    wrong += ["%s: %s" % ("bytes" if bytewise else "whole", text) for text in found]
            lost = lost + 1 if any("control request" in text for text in wrong) else 0
            out.append((case["id"], wrong))
        for text in runner.stop():
            out.append(("shutdown", [text]))
        proc.stop_all()
        slow = sorted(runner.slow, reverse=True)[:8]
    return out, slow


def run(document, own, mode="both", only=(), shards=4, proxy_port=0, upstream_port=0, verbose=False):
    """(passed, [failing (id, faults)], Counter of reasons for not applicable)."""
    todo, failed, absent = [], [], Counter()
    settings = document["meta"].get("world", {}).get("limits", {})
    for case in document["cases"]:
        if only and case["id"] not in only:
            continue
        lacks = not_applicable(case)
        strange = None if lacks else unknown_form(case, settings)
        if (lacks and lacks.startswith("unknown form") or strange) and own:
            failed.append((case["id"], [lacks or "unknown form: " + strange]))
        elif lacks or strange:
            absent[lacks or "unknown form: " + strange] += 1
        else:
            todo.append(case)
    shards = 1 if proxy_port else max(1, min(shards, len(todo)))
    build = paths.build_dir()
    work = [(i, todo[i::shards], document["meta"], mode, proxy_port, upstream_port, build) for i in range(shards)]
    passed = 0
    # not a Pool: that one ends its workers by SIGTERM, which one that just begins to wait may miss; and waits for ever
    with concurrent.futures.ProcessPoolExecutor(shards) as pool:
        for out, slow in pool.map(shard, work):
            passed += sum(1 for _, wrong in out if not wrong)
            failed += [(i, wrong) for i, wrong in out if wrong]
            if verbose:
                print("slowest:", ", ".join("%s %.1f s" % (i, t) for t, i in slow))
    return passed, failed, absent


def report(passed, failed, absent, name="http_cases.json"):
    for case_id, wrong in sorted(failed):
        print("%s: FAIL %s: %s" % (name, case_id, "; ".join(wrong)[:1500]))
    reasons = ", ".join("%s: %d" % pair for pair in sorted(absent.items())) or "none"
    print("%s: %d passed, %d failed, %d not applicable (%s)" %
          (name, passed, len(failed), sum(absent.values()), reasons))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/release")
    p.add_argument("--dir", default=paths.VECTORS)
    p.add_argument("--mode", choices=("whole", "bytes", "both"), default="both")
    p.add_argument("--only", nargs="*", default=())
    p.add_argument("--shards", type=int, default=4)
    p.add_argument("--proxy", type=int, default=0)
    p.add_argument("--upstream", type=int, default=0)
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    path = os.path.join(a.dir, "http_cases.json")
    if not os.path.exists(path):
        print("http_cases.json: absent from %s" % a.dir)
        return 0
    try:
        with open(path, encoding="utf-8") as f:
            document = json.load(f)
        if not isinstance(document["meta"], dict) or not all(isinstance(c["id"], str) for c in document["cases"]):
            raise ValueError("no meta, or cases without an id")
    except (ValueError, KeyError, TypeError) as e:
        report(0, [("the file", ["%s: %s" % (type(e).__name__, e)])], {})
        return 1
    own = os.path.realpath(a.dir) == os.path.realpath(paths.VECTORS)
    began = time.monotonic()
    passed, failed, absent = run(document, own, a.mode, set(a.only), a.shards, a.proxy, a.upstream, a.v)
    report(passed, failed, absent)
    if a.v:
        print("%.1f s" % (time.monotonic() - began))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
