"""A fleet's database: nodes on PostgreSQL, direct and through pgbouncer, with roles that may do no more than they need."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, keys, paths, proc, world  # noqa: E402
from lib.node import Failed, Node, cli  # noqa: E402
from lib.postgres import Postgres  # noqa: E402
from lib.recorder import Recorder  # noqa: E402

DEPLOY = os.path.join(paths.ROOT, "deploy", "postgres")
BOUND = 2  # seconds of max_staleness_s


class Database(unittest.TestCase):
    """Set up as deploy/postgres/README.md says."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="postern-case-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.pg = Postgres()
        cls.addClassCleanup(cls.pg.stop)
        cls.pg.sql("postgres", "CREATE DATABASE postern TEMPLATE template0")
        cls.pg.file("postern", os.path.join(DEPLOY, "roles.sql"))
        cls.pg.file("postern", os.path.join(DEPLOY, "roles.sql"))
        cls.migrated = cli("db", "migrate", "--store", cls.url("migrate"), check=True)
        cls.pg.file("postern", os.path.join(DEPLOY, "grants.sql"), role="postern_migrate")

    @classmethod
    def url(cls, role):
        return cls.pg.url("postern", "postern_" + role)

    def db(self, action, role="migrate", *more):
        return cli("db", action, "--store", self.url(role), *more)


class Rights(Database):
    def refused(self, role, *statements):
        done = self.pg.sql("postern", *statements, role="postern_" + role, check=False)
        self.assertNotEqual(done.returncode, 0, statements)
        self.assertRegex(done.stderr, "permission denied|must be owner", statements)

    def test_each_role_may_do_what_it_needs_and_no_more(self):
        self.assertIn("postgresql", self.migrated.stdout)
        tree = os.path.join(self.folder, "tree.yaml")
        with open(tree, "w", encoding="utf-8") as f:
            f.write("users: [{name: zoe}]\nroles: [{name: r, permissions: [{entity: x, allow: [list]}]}]\n"
                    "bindings: [{user: zoe, role: r}]\n")
        done = cli("apply", "--store", self.url("data"), "-f", tree)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("may not do this", done.stderr)
        done = cli("apply", "--store", self.url("manage"), "-f", tree)
        self.assertEqual(done.returncode, 0, done.stderr)
        export = cli("export", "--store", self.url("data"))
        self.assertIn("zoe", export.stdout, export.stderr)
        for table in ("users", "roles", "permissions", "bindings", "identities", "workspaces", "organizations",
                      "change_log", "log_head", "meta", "audit", "nodes", "publisher", "fleet"):
            self.refused("data", "DELETE FROM " + table)
            self.refused("data", "TRUNCATE " + table)
        self.refused("data", "INSERT INTO users (name) VALUES ('eve')")
        self.refused("data", "UPDATE log_head SET n = n + 1, open = 1")
        self.refused("data", "UPDATE bindings SET role_id = 1")
        self.refused("data", "CREATE TEMPORARY TABLE log_head (n bigint)")
        self.refused("data", "CREATE TABLE x (a integer)")
        self.refused("data", "SET session_replication_role = replica")
        self.refused("manage", "UPDATE meta SET epoch = '0000000000000000'")
        self.refused("manage", "UPDATE audit SET actor = 'x'")
        self.refused("manage", "UPDATE change_log SET stamp = repeat('0', 32)")
        self.refused("manage", "ALTER TABLE users DISABLE TRIGGER ALL")
        self.refused("manage", "DROP TABLE users")
        self.refused("manage", "TRUNCATE users CASCADE")
        self.assertEqual(self.pg.sql("postern", "SELECT node_register('n', '1', repeat('0', 16), 0, 0, 0, 0, 0)",
                                     "SELECT node_unregister('n'), publisher_claim('n', 1000)",
                                     role="postern_data"), "1\n1|1")
        # a function of the owner's is not led elsewhere by its caller
        self.assertEqual(self.pg.sql("postern", "SELECT proname FROM pg_proc WHERE prosecdef AND "
                                     "pronamespace = 'public'::regnamespace AND proconfig IS NULL"), "")
        self.assertEqual(self.db("check").stdout.strip(), "ok")

    def test_only_db_migrate_makes_a_schema(self):
        tree = os.path.join(self.folder, "one.yaml")
        with open(tree, "w", encoding="utf-8") as f:
            f.write("users: [{name: zoe}]\n")
        self.pg.sql("postgres", "CREATE DATABASE bare TEMPLATE template0")
        self.pg.sql("bare", "GRANT ALL ON SCHEMA public TO postern_migrate, postern_manage")
        for role in ("migrate", "manage"):     # it would be the owner, of tables without grants
            done = cli("apply", "--store", self.pg.url("bare", "postern_" + role), "-f", tree)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("migrate it first", done.stderr)
        self.assertEqual(cli("db", "migrate", "--store", self.pg.url("bare", "postern_migrate")).returncode, 0)
        done = cli("apply", "--store", self.pg.url("bare", "postern_manage"), "-f", tree)
        self.assertIn("grants.sql", done.stderr)

    def test_restored_is_another_epoch_and_not_for_everyone(self):
        before = self.db("status").stdout
        done = self.db("restored", "manage")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("may not do this", done.stderr)
        self.assertEqual(self.db("status").stdout, before)
        done = self.db("restored")
        self.assertEqual(done.returncode, 0, done.stderr)
        after = self.db("status").stdout
        self.assertNotEqual(after, before)
        epoch = self.pg.sql("postern", "SELECT epoch FROM state")
        self.assertIn(epoch, done.stdout)
        self.assertIn(epoch, after)


class Encrypted(unittest.TestCase):
    """TLS is libpq's: the url says how, and a wrong authority is refused."""

    def test_verified_and_refused(self):
        folder = tempfile.mkdtemp(prefix="postern-case-")
        self.addCleanup(shutil.rmtree, folder, True)
        for name in ("own", "other"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-days", "2", "-subj", "/CN=db", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                            os.path.join(folder, name + ".key"), "-out", os.path.join(folder, name + ".crt")],
                           check=True, stderr=subprocess.DEVNULL)
        pg = Postgres(bouncer=False, certificate=os.path.join(folder, "own"))
        self.addCleanup(pg.stop)

        def migrate(name, host="127.0.0.1"):
            return cli("db", "migrate", "--store", pg.url("postgres").replace("127.0.0.1", host) +
                       "?sslmode=verify-full&sslrootcert=" + os.path.join(folder, name + ".crt"))
        done = migrate("other")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("certificate", done.stderr)
        done = migrate("own", "localhost")     # the name that was asked for counts, not the address that it has
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('does not match host name "localhost"', done.stderr)
        done = migrate("own")
        self.assertEqual(done.returncode, 0, done.stderr)
        tree = os.path.join(folder, "t.yaml")
        with open(tree, "w", encoding="utf-8") as f:
            json.dump({"users": [{"name": "user-%d" % i} for i in range(3000)]}, f)
        url = pg.url("postgres") + "?sslmode=require"
        self.assertEqual(cli("apply", "--store", url, "-f", tree).returncode, 0)
        self.assertEqual(cli("export", "--store", url).stdout.count("user-"), 3000)


class Replica(Database):
    """A replica proves nothing; a promotion is another history."""

    def test_recovery_and_promotion(self):
        self.pg.sql("postgres", "SELECT 1 FROM pg_create_physical_replication_slot('s')")
        standby, port = os.path.join(self.pg.folder, "standby"), proc.free_port()
        self.pg.run("pg_basebackup", "-D", standby, "-R", "-X", "stream", "-c", "fast", "-S", "s", "-h",
                    self.pg.folder, "-p", str(self.pg.port), "-U", "postgres")
        child = self.pg.child([os.path.join(self.pg.bin, "postgres"), "-D", standby, "-c", "port=%d" % port, "-c",
                               "unix_socket_directories=" + self.pg.folder, "-c", "listen_addresses=127.0.0.1",
                               "-c", "fsync=off", "-c", "max_connections=200"], "standby")
        self.addCleanup(child.stop, 5, True)
        self.addCleanup(child.signal, signal.SIGQUIT)
        on_standby = "postgresql://postern_data@127.0.0.1:%d/postern" % port
        self.assertTrue(proc.wait_until(lambda: cli("export", "--store", on_standby).returncode == 0, 20), child.err())

        # a node there is never ready: its log reads prove nothing
        folder = os.path.join(self.folder, "standby-node")
        os.makedirs(folder)
        settings = world.config(keys.Signer(folder), "127.0.0.1:1")
        settings["store"] = {"url": on_standby}
        node = Node(settings, folder)
        with self.assertRaisesRegex(Failed, "in recovery"):
            node.start(timeout=2)

        # of several hosts, the one that takes writes
        tree = os.path.join(self.folder, "t.yaml")
        with open(tree, "w", encoding="utf-8") as f:
            f.write("roles: [{name: r2}]\n")
        both = "postgresql://postern_manage@127.0.0.1:%d,127.0.0.1:%d/postern" % (port, self.pg.port)
        done = cli("apply", "--store", both, "-f", tree)
        self.assertEqual(done.returncode, 0, done.stderr)

        before = self.db("status", "data").stdout
        self.pg.server.signal(signal.SIGQUIT)  # the fence
        self.assertIsNotNone(self.pg.server.wait(10))
        self.pg.run("pg_ctl", "promote", "-D", standby, "-w")
        done = cli("apply", "--store", both, "-f", tree)
        self.assertEqual(done.returncode, 0, done.stderr)
        after = cli("db", "status", "--store", both.replace("manage", "data")).stdout
        revision = [line for line in before.splitlines() if line.startswith("revision")]
        self.assertTrue(revision)
        self.assertNotIn(revision[0], after)


class Nodes(Database):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.recorder = Recorder()
        cls.signer = keys.Signer(cls.folder)
        cls.token = cls.signer.token("alice")
        first = cls.make("first", cls.url("manage"))
        first.apply(world.declarations())
        cls.nodes = [cls.make("direct", cls.url("data")),
                     cls.make("pooled", cls.pg.bouncer_url("postern", "postern_data").replace("?pgbouncer=true", ""),
                              pgbouncer=True)]
        for node in cls.nodes:
            node.start()
            cls.addClassCleanup(cls.end, node)

    @classmethod
    def make(cls, name, url, **more):
        folder = os.path.join(cls.folder, name)
        os.makedirs(folder)
        settings = world.config(cls.signer, "127.0.0.1:%d" % cls.recorder.port)
        settings.update(store={"url": url, **more}, max_staleness_s=BOUND)
        return Node(settings, folder)

    @staticmethod
    def end(node):
        code = node.stop()
        if code != 0:
            raise AssertionError("serve ended with %s: %s" % (code, node.child.err()[-3000:]))

    def ask(self, node):
        return http1.ask(node.address("proxy"), "GET", "/w/blue/x", [("Authorization", "Bearer " + self.token)],
                         timeout=20).status

    def all_answer(self, status, within):
        for node in self.nodes:
            self.assertTrue(proc.wait_until(lambda: self.ask(node) == status, within * paths.slack()),
                            "%s answers %s" % (node.folder, self.ask(node)))

    def bind(self, prune):
        tree = world.declarations()
        if prune:
            tree["bindings"] = [{"user": "mallory", "role": "rest-all", "workspace": "blue"}]
        path = os.path.join(self.folder, "bind.yaml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(tree, f)
        done = cli("apply", "--store", self.url("manage"), "-f", path, *(["--prune"] if prune else []))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_change_reaches_every_node(self):
        self.all_answer(200, 1)
        self.bind(prune=True)
        done = time.monotonic()
        self.all_answer(403, BOUND)
        self.assertLess(time.monotonic() - done, BOUND * paths.slack())
        self.bind(prune=False)
        self.all_answer(200, BOUND)

    def test_it_says_what_is_wrong_each_time_and_leaves_no_row(self):
        functions = self.pg.sql("postern", "SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc WHERE proname "
                                "LIKE 'node\\_%' AND pronamespace = 'public'::regnamespace")
        self.pg.sql("postern", "CREATE ROLE half LOGIN", "GRANT USAGE ON SCHEMA public TO half",
                    "GRANT CONNECT ON DATABASE postern TO half")
        self.addCleanup(self.pg.sql, "postern", "DROP OWNED BY half", "DROP ROLE half")
        node = self.make("half", self.pg.url("postern", "half"))
        node.child = proc.Child([paths.binary(), "serve", "--config", node.path], out_dir=node.folder, name=node.name,
                                cwd=paths.ROOT)
        try:
            for grants, says in (((), "permission denied for table meta"),
                                 (("GRANT SELECT ON meta, log_head, nodes TO half",), "permission denied for function"),
                                 (("GRANT EXECUTE ON FUNCTION %s TO half" % functions,), "permission denied for view state")):
                self.pg.sql("postern", *grants)
                self.assertTrue(proc.wait_until(lambda: says in node.child.err(), 10 * paths.slack()), node.child.err())
                self.assertIn("grants.sql", node.child.err())
            self.assertLess(node.child.err().count("store.unreadable"), 8)
            time.sleep(0.5)
        finally:
            self.assertEqual(node.stop(), 0)
        listed = json.loads(cli("nodes", "--store", self.url("data"), "--json").stdout)["nodes"]
        self.assertEqual(len(listed), len(self.nodes), listed)

    def test_a_silent_server_ends_leases_and_holds_nobody(self):
        self.all_answer(200, 1)
        self.pg.signal_all(signal.SIGSTOP)
        try:
            # what is remembered serves until the bound, then all is refused, and always soon
            self.all_answer(503, BOUND + 3)
            for node in self.nodes:
                began = time.monotonic()
                self.assertEqual(self.ask(node), 503)
                self.assertLess(time.monotonic() - began, 2 * paths.slack())
                answer = http1.ask(node.address("ops"), "GET", "/healthz", timeout=5)
                self.assertEqual(answer.status, 200)
        finally:
            self.pg.signal_all(signal.SIGCONT)
        self.all_answer(200, 15)

    def test_a_server_that_was_killed_comes_back(self):
        self.all_answer(200, 1)
        self.pg.server.signal(signal.SIGQUIT)
        self.assertIsNotNone(self.pg.server.wait(10))
        self.all_answer(503, BOUND + 3)
        self.pg.start()
        self.all_answer(200, 20)


del Database  # only its subclasses are tests

if __name__ == "__main__":
    unittest.main()
