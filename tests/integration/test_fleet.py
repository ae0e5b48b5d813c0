"""Two nodes, one PostgreSQL, one Redis: changes arrive at once and the barrier tells when, callers are never led back, nodes
come and go, a start is quick."""
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, keys, paths, proc, threads, world  # noqa: E402
from lib.fault_proxy import Link  # noqa: E402
from lib.fleet import Session  # noqa: E402
from lib.node import Failed, Node, cli  # noqa: E402
from lib.postgres import Postgres  # noqa: E402
from lib.recorder import Recorder  # noqa: E402
from lib.redis import Redis  # noqa: E402

BOUND = 3
EXTRA = """
profile: extra
combining: deny-overrides
errors: postern
ids: uuid
workspace:
  headers: [X-Workspace]
  name: {chars: a-z, edges: a-z, min: 1, max: 63}
routes:
  - {path: "/extra/stale/{entity}", methods: {GET: list, HEAD: list}, stale_allow_s: 4, need: $entity $op,
     ids: {entity: {from: path entity, form: name}}}
  - under: [/extra/a, /extra/b]
    stream_grace_s: 4
    routes:
      - {GET: "/{entity}", need: $entity list, ids: {entity: {from: path entity, form: name}}}
  - {GET: "/extra/plain/{entity}", need: $entity list, ids: {entity: {from: path entity, form: name}}}
"""


class Fleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="postern-case-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.pg = Postgres(bouncer=False)
        cls.addClassCleanup(cls.pg.stop)
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)
        cls.recorder = Recorder()
        cls.signer = keys.Signer(cls.folder)
        cls.token = cls.signer.token("alice", size=400)

    def setUp(self):
        self.name = "f%d" % time.monotonic_ns()
        self.pg.sql("postgres", "CREATE DATABASE " + self.name)
        self.url = self.pg.url(self.name)
        cli("db", "migrate", "--store", self.url, check=True)
        self.nodes = []
        self.tree = {**world.declarations(self.signer.issuer), "max_staleness_s": BOUND}

    def tearDown(self):
        for node in self.nodes:
            self.assertEqual(node.stop(), 0, node.child.err()[-2000:])

    def make(self, name, **more):
        folder = os.path.join(self.folder, self.name, name)
        os.makedirs(folder)
        config = world.config(self.signer, "127.0.0.1:%d" % self.recorder.port)
        config["profiles"]["rest"].pop("default_workspace")
        config.update({"node": name, "store": {"url": self.url}, "workers": 2,
                       "sync": {"redis": {"addresses": ["127.0.0.1:%d" % self.redis.port],
                                          "channel": self.name}, "publish": True}, **more})
        return Node(config, folder)

    def start(self, name, **more):
        node = self.make(name, **more)
        node.start()
        self.nodes.append(node)
        return node

    def two(self):
        first = self.make("n0")
        first.apply(self.tree)
        return self.start("n1"), self.start("n2")

    def ask(self, node, fields=(), door="proxy", target="/w/blue/x"):
        credential = [("Authorization", "Bearer " + self.token)]
        if door == "proxy":
            return http1.ask(node.address("proxy"), "GET", target, credential + list(fields))
        return http1.ask(node.address("auth_request"), "GET", "/_postern/auth", credential + list(fields) +
                         [("X-Original-URI", target), ("X-Original-Method", "GET")])

    def declared(self):
        path = os.path.join(self.folder, "declared.yaml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(self.tree, f)
        return path

    def disable(self, node, disabled, *options):
        """The report of the change."""
        self.tree["users"][0]["disabled"] = disabled
        path = os.path.join(self.folder, "change.yaml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"users": [self.tree["users"][0]]}, f)
        done = cli("apply", "--config", node.path, "-f", path, "--json", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def rows(self):
        return json.loads(cli("nodes", "--store", self.url, "--json").stdout)["nodes"]

    def listed(self):
        return {n["node"][:-9]: n for n in self.rows()}

    def publishes(self):
        return self.pg.sql(self.name, "SELECT node FROM publisher").strip()[:-9]

    def heartbeats(self, nodes, limit=5):
        return proc.wait_until(lambda: all(n.metrics()["postern_publishers"] >= 1 for n in nodes), limit)

    def test_the_barrier_returns_when_it_is_in_force_everywhere(self):
        nodes = self.two()
        self.assertTrue(self.heartbeats(nodes))
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        waited = []
        for i in range(8):
            report = self.disable(nodes[0], i % 2 == 0, "--wait")
            for node in nodes:  # the first request after it, on each node
                self.assertEqual(self.ask(node).status, 403 if i % 2 == 0 else 200, (i, report))
            self.assertEqual((report["enforced"]["nodes"], report["enforced"]["pending"]), (2, 0), report)
            waited.append(report["enforced"]["waited_ms"])
        self.assertLess(sorted(waited)[4], 500 * paths.slack(), waited)

    def test_a_node_that_does_not_answer_is_waited_out_and_not_longer(self):
        nodes = self.two()
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        nodes[1].child.signal(19)  # SIGSTOP
        try:
            began = time.monotonic()
            report = self.disable(nodes[0], True, "--wait")
            took = time.monotonic() - began
        finally:
            nodes[1].child.signal(18)
        self.assertEqual(report["enforced"]["pending"], 1, report)
        self.assertGreater(report["enforced"]["waited_ms"], BOUND * 1000 - 50)
        self.assertLess(took, BOUND + 2 * paths.slack())
        for node in nodes:
            self.assertEqual(self.ask(node).status, 403)

    def test_a_worker_that_is_busy_is_waited_for(self):
        nodes = self.two()
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        worker = threads.looping(nodes[1].child.p.pid)[0]
        with threads.stopped(worker):  # it decides by what was before when it goes on
            report = self.disable(nodes[0], True, "--wait")
        self.assertEqual(report["enforced"]["pending"], 1, report)
        self.assertGreater(report["enforced"]["waited_ms"], BOUND * 1000 - 50)
        report = self.disable(nodes[0], False, "--wait")
        self.assertEqual(report["enforced"]["pending"], 0, report)

    def test_who_may_stand_there_as_asleep_registers_before_it_decides(self):
        link = Link(self.pg.port)
        self.addCleanup(link.stop)
        cli("apply", "--store", self.url, "-f", self.declared(), check=True)
        node = self.start("n1", store={"url": self.url.replace(":%d/" % self.pg.port, ":%d/" % link.port)},
                          sync={"redis": {"addresses": ["127.0.0.1:%d" % self.redis.port]}, "publish": False})
        self.assertEqual(self.ask(node).status, 200)
        time.sleep(BOUND + 1)  # the last renewal, and its lease goes on for a while
        link.partition("down")  # what it says arrives, what it is answered does not
        asleep = proc.wait_until(lambda: self.listed()["n1"]["state"] == "asleep", 4 * BOUND * paths.slack())
        self.assertTrue(asleep, self.listed())
        time.sleep(0.5)
        other = Session(self.pg, "postgres", self.name)
        self.addCleanup(other.close)
        other.ask("BEGIN; LOCK TABLE nodes IN EXCLUSIVE MODE")
        link.heal()
        time.sleep(0.2)
        for _ in range(5):  # nobody would wait for it
            self.assertEqual(self.ask(node).status, 503)
        self.assertEqual(self.listed()["n1"]["state"], "asleep")
        other.ask("COMMIT")
        self.assertTrue(proc.wait_until(lambda: self.ask(node).status == 200, 5))
        self.assertIn("awake", [n["state"] for n in self.rows()])  # under another name, and the one before goes
        self.assertTrue(proc.wait_until(lambda: [n["state"] for n in self.rows()] == ["awake"], 5), self.rows())

    def test_word_that_it_sleeps_may_arrive_when_it_is_awake_again(self):
        link = Link(self.pg.port)
        self.addCleanup(link.stop)
        cli("apply", "--store", self.url, "-f", self.declared(), check=True)
        node = self.start("n1", store={"url": self.url.replace(":%d/" % self.pg.port, ":%d/" % link.port)},
                          sync={"redis": {"addresses": ["127.0.0.1:%d" % self.redis.port]}, "publish": False})
        self.assertEqual(self.ask(node).status, 200)
        time.sleep(BOUND + 1)  # the last renewal, and its lease goes on for a while
        link.slow(4 * BOUND, "up")  # what a network that comes back delivers although its sender has closed
        time.sleep(BOUND + 1)
        self.assertEqual(self.ask(node).status, 503)
        link.slow(0, "up")
        self.assertTrue(proc.wait_until(lambda: self.ask(node).status == 200, 5))
        asleep, end = 0, time.monotonic() + 4 * BOUND
        while time.monotonic() < end:  # who commits and looks now has to wait for it
            self.assertEqual(self.ask(node).status, 200)
            asleep += not any(n["state"] == "awake" for n in self.rows())
        self.assertEqual(asleep, 0)
        self.assertEqual([n["state"] for n in self.rows()], ["awake"])

    def test_idle_nodes_sleep_and_nobody_waits_for_them(self):
        nodes = self.two()
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        self.assertEqual({n["state"] for n in self.listed().values()}, {"awake"})
        asleep = proc.wait_until(lambda: {n["state"] for n in self.listed().values()} == {"asleep"},
                                 4 * BOUND * paths.slack(), 0.2)
        self.assertTrue(asleep, self.listed())
        reads = [n.metrics()["postern_log_reads_total"] for n in nodes]
        report = self.disable(nodes[0], True, "--wait")
        self.assertEqual(report["enforced"]["nodes"], 0, report)
        self.assertLess(report["enforced"]["waited_ms"], 500 * paths.slack())
        time.sleep(1)
        self.assertEqual([n.metrics()["postern_log_reads_total"] for n in nodes], reads)
        for node, before in zip(nodes, reads):  # and yet the first request sees it, for one read of the log
            self.assertEqual(self.ask(node).status, 403)
            self.assertEqual(node.metrics()["postern_log_reads_total"], before + 1)
        self.assertEqual({n["state"] for n in self.listed().values()}, {"awake"})

    def test_two_of_one_name_have_a_row_each_whatever_the_databases_clock_does(self):
        one = self.make("n1")
        one.apply(self.tree)
        first = one.start()
        self.nodes.append(first)
        other = world.config(self.signer, "127.0.0.1:%d" % self.recorder.port)
        second = Node({**one.config, "listeners": other["listeners"],
                       "state_dir": os.path.join(self.folder, self.name, "other")}, name="other").start()
        rows = [n for n in json.loads(cli("nodes", "--store", self.url, "--json").stdout)["nodes"]]
        self.assertEqual([n["node"][:-9] for n in rows], ["n1", "n1"])
        for node in (first, second):
            self.assertEqual(self.ask(node).status, 200)
        self.assertEqual(self.disable(first, True, "--wait")["enforced"]["nodes"], 2)
        for hours in (-5, 10):  # it was set
            self.pg.sql(self.name, "UPDATE nodes SET reported = reported + %d" % (hours * 3600000))
            self.start("n3%d" % hours, node="n1")  # which is ready, and so has a lease
            self.assertEqual(self.disable(first, hours < 0, "--wait")["enforced"]["nodes"], 3 if hours < 0 else 4)
            self.assertEqual({self.ask(n).status for n in (first, second)}, {403 if hours < 0 else 200})
        self.assertEqual(second.stop(), 0)

    def test_who_leaves_is_gone_and_who_sends_heartbeats_is_followed(self):
        nodes = self.two()
        self.assertTrue(self.heartbeats(nodes))
        first = self.publishes()
        self.assertIn(first, ("n1", "n2"))
        leaver = next(n for n in self.nodes if n.config["node"] == first)
        self.nodes.remove(leaver)
        self.assertEqual(leaver.stop(), 0)
        self.assertNotIn(first, self.listed())
        stays = self.nodes[0]
        self.assertTrue(proc.wait_until(lambda: self.publishes() == stays.config["node"], 8 * paths.slack()))
        self.assertEqual(self.ask(stays).status, 200)

    def test_a_revision_leads_nobody_back(self):
        nodes = self.two()
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        self.redis.child.signal(19)  # nobody is told, and the next poll is half a second away
        try:
            for i in range(6):
                for door in ("proxy", "auth_request"):
                    token = self.disable(nodes[0], i % 2 == 0)["revision_token"]
                    for node in nodes:
                        answer = self.ask(node, [("Postern-Min-Revision", token)], door)
                        self.assertEqual(answer.status, 403 if i % 2 == 0 else 200, (i, door))
        finally:
            self.redis.child.signal(18)

    def test_what_the_app_is_told_may_come_back(self):
        one, other = self.two()
        answer = self.ask(one, door="auth_request")
        self.assertEqual(answer.status, 200, answer.fields)
        token = answer.value(b"X-Postern-Revision").decode()
        self.assertRegex(token, r"^[0-9a-f]{16}-[0-9]+\.[0-9a-f]{32}$")
        self.assertEqual(self.ask(other, [("Postern-Min-Revision", token)]).status, 200)
        epoch, _, rest = token.partition("-")
        forged = "%s-%d.%s" % (epoch, 10 ** 9, rest.partition(".")[2])
        began = time.monotonic()
        self.assertEqual(self.ask(other, [("Postern-Min-Revision", forged)]).status, 200)  # ignored
        self.assertLess(time.monotonic() - began, 0.2 * paths.slack())
        twice = [("Postern-Min-Revision", token)] * 2
        self.assertEqual(self.ask(other, twice).status, 400)
        done = cli("db", "restored", "--store", self.url)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = self.ask(other, [("Postern-Min-Revision", token)])
        self.assertTrue(proc.wait_until(
            lambda: self.ask(other, [("Postern-Min-Revision", token)]).status == 412, BOUND + 2), answer.status)
        self.assertEqual(self.ask(other).status, 200)
        figures = other.metrics()
        self.assertGreaterEqual(figures["postern_histories_total"], 1)
        self.assertEqual(figures["postern_change_log_rows"], int(self.pg.sql(self.name, "SELECT count(*) FROM change_log")))
        self.assertEqual(figures["postern_lease_state"], 1)

    def test_a_start_that_fails_takes_nobodys_row(self):
        node = self.start("n1")
        other = self.make("n2")
        other.config["node"] = "n1"
        other.config["listeners"][0]["address"] = node.config["listeners"][0]["address"]
        other.write()
        done = cli("serve", "--config", other.path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("n1", self.listed(), done.stderr)

    def test_it_stops_while_the_database_is_silent(self):
        with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
            node = self.make("n1", store={"url": "postgresql://u@127.0.0.1:%d/x" % silent.getsockname()[1]})
            child = proc.Child([paths.binary(), "serve", "--config", node.path], out_dir=node.folder, name="silent",
                               cwd=paths.ROOT)
            time.sleep(3)
            self.assertTrue(child.alive(), child.err()[-2000:])
            self.assertEqual(child.stop(30), 0, child.err()[-2000:])

    def test_a_database_that_is_far_away_is_reached(self):
        link = Link(self.pg.port)
        self.addCleanup(link.stop)
        link.slow(0.08)  # a connection takes more than the 200 ms that an answer may
        cli("apply", "--store", self.url, "-f", self.declared(), check=True)
        far = self.start("n1", store={"url": self.url.replace(":%d/" % self.pg.port, ":%d/" % link.port)})
        # an answer takes 160 ms of the 200: a busy machine may need a second question
        self.assertTrue(proc.wait_until(lambda: self.ask(far).status == 200, 5))
        link.cut()
        self.assertTrue(proc.wait_until(lambda: self.ask(far).status == 200, 5))

    def test_reports_that_wait_for_a_lock_hold_up_no_decision(self):
        node = self.two()[0]
        self.assertEqual(self.ask(node).status, 200)
        other = Session(self.pg, "postgres", self.name)
        self.addCleanup(other.close)
        other.ask("BEGIN; LOCK TABLE nodes IN EXCLUSIVE MODE")
        self.disable(node, False)
        self.tree["users"][0]["email"] = "a@x.test"
        self.disable(node, False)  # something to report
        end, statuses = time.monotonic() + 4 * BOUND, []
        while time.monotonic() < end:
            statuses.append(self.ask(node).status)
            time.sleep(0.02)
        other.ask("COMMIT")
        self.assertLess(len([s for s in statuses if s != 200]), len(statuses) // 100, statuses)
        self.assertTrue(proc.wait_until(lambda: self.listed()["n1"]["applied"] == self.listed()["n2"]["applied"], 5))

    def test_a_row_that_somebody_takes_away_comes_back_before_anything_is_decided(self):
        nodes = self.two()
        self.assertEqual(self.ask(nodes[0]).status, 200)
        gone = self.pg.sql(self.name, "DELETE FROM nodes WHERE node LIKE 'n1.%' RETURNING 1")
        self.assertEqual(gone, "1")  # and it may be there again before anybody could look
        self.disable(nodes[0], False)
        self.disable(nodes[0], True)  # the next report finds no row
        self.assertTrue(proc.wait_until(lambda: self.listed().get("n1", {}).get("state") == "awake", 5))
        self.assertEqual(self.ask(nodes[0]).status, 403)

    def test_who_was_forgotten_stands_there_again_with_the_next_renewal(self):
        node = self.two()[0]
        self.assertTrue(self.heartbeats(self.nodes))  # nothing but the lease makes it read
        self.assertEqual(self.ask(node).status, 200)
        self.pg.sql(self.name, "DELETE FROM nodes WHERE node LIKE 'n1.%'")
        began = time.monotonic()
        while "n1" not in self.listed() and time.monotonic() < began + 3 * BOUND:
            self.assertEqual(self.ask(node).status, 200)
            time.sleep(0.05)
        self.assertLess(time.monotonic() - began, BOUND / 2 + paths.slack())  # its report comes after ten seconds
        self.assertEqual(self.disable(node, True, "--wait")["enforced"]["pending"], 0)
        self.assertEqual(self.ask(node).status, 403)

    def test_forgotten_is_only_who_cannot_decide_any_more(self):
        node = self.two()[0]
        self.assertEqual(self.ask(node).status, 200)
        names = {n: row["node"] for n, row in self.listed().items()}
        killed = self.nodes.pop()
        killed.child.signal(9)
        killed.child.p.wait()
        # the database's clock is of no use for it: it may have been set ahead, or back
        self.pg.sql(self.name, "UPDATE nodes SET reported = reported - 36000000 WHERE node LIKE 'n1.%'",
                    "UPDATE nodes SET reported = reported + 36000000 WHERE node LIKE 'n2.%'")
        done, began = {}, time.monotonic()

        def forget(name):
            done[name] = cli("nodes", "forget", names[name], "--store", self.url, timeout=60)
        both = [threading.Thread(target=forget, args=(name,)) for name in names]
        for t in both:
            t.start()
        while any(t.is_alive() for t in both):
            self.assertEqual(self.ask(node).status, 200)  # at work
            time.sleep(0.1)
        self.assertGreater(time.monotonic() - began, BOUND + 10)
        self.assertNotEqual(done["n1"].returncode, 0)
        self.assertIn("may still decide", done["n1"].stderr)  # a barrier would not wait for it
        self.assertEqual(done["n2"].returncode, 0, done["n2"].stderr)
        self.assertEqual(list(self.listed()), ["n1"])
        none = cli("nodes", "forget", names["n1"][:-1], "--store", self.url)
        self.assertNotEqual(none.returncode, 0)
        self.assertIn("no node of that name", none.stderr)

    def bound_to(self, seconds, *options):
        self.tree["max_staleness_s"] = seconds
        done = cli("apply", "--store", self.url, "-f", self.declared(), "--json", *options, check=True)
        return json.loads(done.stdout)

    def test_a_longer_bound_is_used_when_the_row_says_so(self):
        link = Link(self.pg.port)
        self.addCleanup(link.stop)
        self.bound_to(1)
        node = self.start("n1", store={"url": self.url.replace(":%d/" % self.pg.port, ":%d/" % link.port)})
        self.assertEqual(self.ask(node).status, 200)
        self.assertTrue(proc.wait_until(lambda: self.listed()["n1"]["bound_ms"] == 1000, 5))
        other = Session(self.pg, "postgres", self.name)
        self.addCleanup(other.close)
        other.ask("BEGIN; LOCK TABLE nodes IN EXCLUSIVE MODE")  # it reads, and cannot report
        revision = self.bound_to(6)["revision"]
        known = proc.wait_until(lambda: self.ask(node).status and node.metrics()["postern_applied_rev"] ==
                                int(revision.partition("-")[2]), 5)
        self.assertTrue(known)
        time.sleep(0.6)  # and reads once more
        self.assertEqual(self.ask(node).status, 200)
        link.partition()
        self.bound_to(1)  # a barrier would wait for a second
        time.sleep(1.1)
        self.assertEqual(self.ask(node).status, 503)
        self.assertEqual(self.listed()["n1"]["bound_ms"], 1000)
        other.ask("COMMIT")
        link.heal()
        self.bound_to(6)

        def uses_it():
            self.ask(node)
            return self.listed()["n1"]["bound_ms"] == 6000
        self.assertTrue(proc.wait_until(uses_it, 5), self.listed())
        for _ in range(15):  # at work: it renews
            self.ask(node)
            time.sleep(0.1)
        self.assertTrue(proc.wait_until(lambda: self.ask(node).status == 200, 5))
        link.partition()
        time.sleep(2)
        self.assertEqual(self.ask(node).status, 200)
        self.tree["users"][0]["disabled"] = True
        report = self.bound_to(1, "--wait")  # it goes on for as long as its row says
        self.assertEqual(report["enforced"]["pending"], 1, report)
        self.assertGreater(report["enforced"]["waited_ms"], 6000 - 50)

    def test_a_shorter_bound_stands_in_the_row_when_all_workers_have_taken_it(self):
        node = self.two()[1]
        self.assertEqual(self.ask(node).status, 200)
        worker = threads.looping(node.child.p.pid)[0]
        with threads.stopped(worker):
            self.bound_to(1)
            time.sleep(1)  # more than a poll and a report
            self.assertEqual(self.listed()["n2"]["bound_ms"], BOUND * 1000)
        self.assertTrue(proc.wait_until(lambda: self.listed()["n2"]["bound_ms"] == 1000, 5), self.listed())

    def test_what_a_reload_changes_is_reported_at_once(self):
        node = self.start("n1") if self.make("n0").apply(self.tree) else None
        self.assertEqual(self.ask(node).status, 200)
        self.assertEqual(self.listed()["n1"]["bound_ms"], BOUND * 1000)
        node.config["max_staleness_s"] = 2
        node.write()
        node.reload()
        self.assertTrue(proc.wait_until(lambda: self.ask(node).status and self.listed()["n1"]["bound_ms"] == 2000, 3))

    def test_routes_that_the_bound_does_not_bind_are_named(self):
        nodes = self.two()
        for node in nodes:
            self.assertEqual(self.ask(node).status, 200)
        report = self.disable(nodes[0], True, "--wait")["enforced"]
        self.assertEqual((report["exempt"], report["exempt_routes"]), (0, []), report)
        profile = os.path.join(self.folder, self.name, "extra.yaml")
        with open(profile, "w", encoding="utf-8") as f:
            f.write(EXTRA)
        for node in nodes:
            node.config["profiles"]["extra"] = {"file": profile}
            node.config["listeners"][0]["mounts"].append(
                {**node.config["listeners"][0]["mounts"][0], "prefix": "/extra/", "profile": "extra"})
            node.write()
            node.reload()
        self.assertTrue(proc.wait_until(lambda: {n["exempt"] for n in self.listed().values()} == {3}, 5), self.listed())
        report = self.disable(nodes[0], False, "--wait")["enforced"]
        self.assertEqual(report["exempt"], 2, report)
        self.assertEqual(report["exempt_routes"], ["extra GET,HEAD /extra/stale/{entity}", "extra GET /extra/a/{entity}",
                                                   "extra GET /extra/b/{entity}"])
        said = cli("apply", "--store", self.url, "-f", self.declared(), "--wait", check=True).stdout
        self.assertIn("on 2 nodes:\n  extra GET,HEAD /extra/stale/{entity}\n  extra GET /extra/a/", said)

    def test_a_start_needs_the_tail_only_and_trusts_no_file(self):
        self.tree["roles"].append({"name": "many", "permissions": [
            {"entity": "thing", "id": "thing-%d" % i, "allow": ["detail"]} for i in range(12000)]})
        node = self.start("n1") if self.make("n0").apply(self.tree) else None
        path = os.path.join(node.config["state_dir"], "policy.snapshot")
        self.assertTrue(proc.wait_until(lambda: os.path.exists(path), 10), node.child.err())
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

        def again():
            self.assertEqual(node.stop(), 0)
            node.start()
            self.assertEqual(self.ask(node).status, 200)
            return node.metrics()["postern_reloads_total"], node.child.err()

        reloads, said = again()
        self.assertEqual(reloads, 0)
        self.assertIn("snapshot.loaded", said)
        self.assertEqual(node.stop(), 0)
        self.disable(node, True)  # while it is away
        node.start()
        self.assertEqual(self.ask(node).status, 403)
        self.assertEqual(node.metrics()["postern_reloads_total"], 0)
        self.disable(node, False, "--wait")
        self.assertEqual(node.stop(), 0)
        # the file grants nothing: without the database nothing is decided
        url, node.config["store"]["url"] = self.url, "postgresql://postgres@127.0.0.1:%d/x" % proc.free_port()
        node.write()
        with self.assertRaises(Failed):
            node.start(timeout=1.5 / paths.slack())
        self.assertIn("snapshot.loaded", node.child.err())
        node.config["store"]["url"] = url
        node.write()
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([byte[0] ^ 1]))
        node.start()
        self.assertIn("snapshot.refused", node.child.err())
        self.assertEqual(node.metrics()["postern_reloads_total"], 1)
        self.assertEqual(self.ask(node).status, 200)

    def test_one_connection_a_node(self):
        nodes = self.two()
        for node in nodes:
            for who in range(5):
                self.assertEqual(self.ask(node).status, 200)
        time.sleep(0.3)
        count = int(self.pg.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = '%s'"
                                " AND pid <> pg_backend_pid()" % self.name))
        self.assertEqual(count, 2)


if __name__ == "__main__":
    unittest.main()
