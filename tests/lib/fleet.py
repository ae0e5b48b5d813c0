"""A fleet as it is run: PostgreSQL with pgbouncer, Redis, nodes, each with fault links of its own; an app behind all.

The database is set up as deploy/postgres/README.md says. Users u0, u1, ... may be given the role `reader` in the
workspace blue, which lets them see blue/things/r0, r1, ...; the schema `test` beside Postern's own changes that by
numbered changes and holds the evaluator that the nodes are judged by."""
import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from . import http1, paths, proc
from .fault_proxy import Link
from .node import Node, cli
from .postgres import Postgres
from .redis import Connection, Redis
from .redis import Failed as RedisFailed

DEPLOY = os.path.join(paths.ROOT, "deploy", "postgres")
ISSUER, AUDIENCE, KID = "https://fleet.test/", "postern", "fleet-1"
SECRET = b"only for tests: thirty-two bytes and a few more"
DETAIL, DENY_DETAIL = 1 << 5, 1 << 19
RESOURCES = ("r0", "r1", "r2")

# The same things, named by a body that is read before anything is decided.
INSPECTED = """
profile: inspected
combining: deny-overrides
errors: postern
ids: uuid
workspace: {name: {chars: a-z, edges: a-z, min: 1, max: 63}}
routes:
  - {path: "/b/{workspace}/things", methods: {POST: detail}, ids: {workspace: {from: path workspace, form: exact}, thing: body id},
     need: "things:$thing detail"}
"""

SCHEMA = """
CREATE SCHEMA test;
-- Who may see what, by the rows alone: an active user with a grant for it in the workspace, and no deny.
CREATE VIEW test.decision AS
SELECT u.name AS who, r.what,
       u.disabled = 0 AND coalesce(bool_or(p.access & %(grant)d <> 0), false)
       AND NOT coalesce(bool_or(p.access & %(deny)d <> 0), false) AS allowed
    FROM public.users u CROSS JOIN unnest(ARRAY[%(resources)s]) r (what)
    LEFT JOIN public.bindings b ON b.user_id = u.id
        AND (b.workspace_id IS NULL OR b.workspace_id = (SELECT id FROM public.workspaces WHERE name = 'blue'))
    LEFT JOIN public.permissions p ON p.role_id = b.role_id AND p.entity IN ('*', 'things')
        AND (p.entity_id IS NULL OR p.entity_id = r.what)
    WHERE u.name ~ '^u[0-9]{1,2}$' GROUP BY u.name, u.disabled, r.what;
CREATE FUNCTION test.look() RETURNS text LANGUAGE sql AS $$
    SELECT s.epoch || '-' || s.n || '-' || s.timeline || '|' || coalesce((SELECT string_agg(who || '/' || what, ',')
        FROM test.decision WHERE allowed), '') FROM public.state s
$$;
CREATE FUNCTION test.change(kind text, who text, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    u bigint := (SELECT id FROM public.users WHERE name = who);
    r bigint := (SELECT id FROM public.roles WHERE name = 'reader');
    w bigint := (SELECT id FROM public.workspaces WHERE name = 'blue');
    touched text := '["user:' || u || '"]';
    now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
    UPDATE public.log_head SET n = n + 1, open = 1 WHERE id = 1 RETURNING n INTO number;
    INSERT INTO public.change_log (n, stamp, at, actor)
        VALUES (number, replace(gen_random_uuid()::text, '-', ''), now_ms, 'test');
    CASE kind
    WHEN 'grant' THEN
        INSERT INTO public.bindings (user_id, role_id, workspace_id) VALUES (u, r, w) ON CONFLICT DO NOTHING;
    WHEN 'revoke' THEN DELETE FROM public.bindings WHERE user_id = u AND role_id = r;
    WHEN 'disable' THEN UPDATE public.users SET disabled = 1 WHERE id = u;
    WHEN 'enable' THEN UPDATE public.users SET disabled = 0 WHERE id = u;
    WHEN 'deny' THEN
        INSERT INTO public.permissions (role_id, entity, entity_id, access) VALUES (r, 'things', what, %(deny)d);
        touched := '["role:' || r || '"]';
    WHEN 'undeny' THEN
        DELETE FROM public.permissions WHERE role_id = r AND entity_id = what AND access = %(deny)d;
        touched := '["role:' || r || '"]';
    WHEN 'bulk' THEN
        INSERT INTO public.permissions (role_id, entity, entity_id, access)
            SELECT b.id, 'things', 'bulk-' || i, %(grant)d FROM generate_series(1, what::integer) i,
                (SELECT id FROM public.roles WHERE name = 'bulk') b;
        DELETE FROM public.bindings WHERE user_id = u AND role_id = r;
        INSERT INTO public.bindings (user_id, role_id, workspace_id)
            SELECT o.id, r, w FROM public.users o WHERE o.id <> u AND o.name ~ '^u[0-9]{1,2}$' ON CONFLICT DO NOTHING;
        touched := 'all';
    WHEN 'bound' THEN
        UPDATE public.meta SET max_staleness_s = what::integer;
        touched := '[]';
    END CASE;
    UPDATE public.change_log SET keys = touched WHERE n = number;
    UPDATE public.log_head SET open = 0 WHERE id = 1;
    INSERT INTO public.audit (time, actor, action, detail) VALUES (now_ms, 'test', kind, coalesce(who, what, ''));
    RETURN test.look();
END $$;
GRANT USAGE ON SCHEMA test TO postern_manage, postern_data;
GRANT SELECT ON test.decision TO postern_manage, postern_data;
""" % {"grant": DETAIL, "deny": DENY_DETAIL, "resources": ", ".join("'%s'" % r for r in RESOURCES)}


def boot_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def token(subject, lifetime=7200):
    """HS256: Python can make a hundred thousand of them."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    now = int(time.time())
    text = part(json.dumps({"alg": "HS256", "kid": KID, "typ": "JWT"}).encode()) + b"." + part(json.dumps(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now - 5, "exp": now + lifetime}).encode())
    return (text + b"." + part(hmac.new(SECRET, text, hashlib.sha256).digest())).decode("ascii")


class Upstream:
    """Says of each request who asked and which nonce it carried, and signs that. Remembers decision ids."""

    KEY = b"the app's own"

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.seen = []                                   # (instant, decision id)
        threading.Thread(target=self.accepting, daemon=True).start()

    def accepting(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    @classmethod
    def sign(cls, text):
        return hmac.new(cls.KEY, text, hashlib.sha256).hexdigest()[:32].encode()

    def serve(self, s):
        buf = b""
        try:
            while True:
                end = buf.find(b"\r\n\r\n")
                if end < 0:
                    data = s.recv(65536)
                    if not data:
                        return
                    buf += data
                    continue
                lines, buf = buf[:end].split(b"\r\n"), buf[end + 4:]
                fields = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in lines[1:])}
                while len(buf) < int(fields.get(b"content-length", 0)):
                    data = s.recv(65536)
                    if not data:
                        return
                    buf += data
                buf = buf[int(fields.get(b"content-length", 0)):]
                nonce = lines[0].partition(b"nonce=")[2].partition(b" ")[0]
                self.seen.append((boot_ns(), fields.get(b"x-postern-decision-id", b"")))
                text = b"%s %s %s" % (nonce, fields.get(b"x-postern-user", b"-"),
                                      fields.get(b"x-postern-revision", b"-"))
                body = text + b" " + self.sign(text)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except OSError:
            pass
        finally:
            s.close()

    def stop(self):
        self.listener.close()


class Database:
    """PostgreSQL with Postern's schema, roles and grants, and the schema `test`."""

    def __init__(self, users=12, settings=(), bouncer=True, bound=None):
        self.pg = Postgres(settings=settings, bouncer=bouncer)
        self.settled = 0
        try:
            self.make(users, bound)
        except BaseException:
            self.pg.stop()
            raise

    def make(self, users, bound):
        pg = self.pg
        pg.sql("postgres", "CREATE DATABASE postern TEMPLATE template0")
        pg.file("postern", os.path.join(DEPLOY, "roles.sql"))
        cli("db", "migrate", "--store", self.url("migrate"), check=True)
        pg.file("postern", os.path.join(DEPLOY, "grants.sql"), role="postern_migrate")
        with open(os.path.join(pg.folder, "test.sql"), "w", encoding="utf-8") as f:
            f.write(SCHEMA)
        pg.file("postern", f.name)
        self.apply(self.tree(users))
        if bound:
            pg.sql("postern", "SELECT test.change('bound', NULL, '%d')" % bound)
        # what came before has its own audit rows; from here on one for each change
        self.settled = int(pg.sql("postern", "SELECT (SELECT count(*) FROM audit) - n FROM log_head"))

    @staticmethod
    def tree(users):
        """The role is so large that nodes follow its changes row by row (src/store/load.c)."""
        names = ["u%d" % i for i in range(users)]
        rights = [{"entity": "things", "allow": ["list", "detail"]}]
        rights += [{"entity": "things", "id": "other-%d" % i, "allow": ["list"]} for i in range(300)]
        return {"workspaces": [{"name": "blue", "kind": "project"}],
                "roles": [{"name": "bulk"}, {"name": "reader", "permissions": rights}],
                "users": [{"name": n, "identities": [{"issuer": ISSUER, "subject": n}]} for n in names],
                "bindings": [{"user": n, "role": "reader", "workspace": "blue"} for n in names[::2]]}

    def url(self, role, port=None):
        base = self.pg.url("postern", "postern_" + role)
        return base.replace(":%d/" % self.pg.port, ":%d/" % port) if port else base

    def apply(self, tree, check=True, timeout=60):
        """`postern apply` of a tree. Readable by its maker alone."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as f:
            json.dump(tree, f)
            f.flush()
            done = cli("apply", "--store", self.url("manage"), "-f", f.name, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError("apply: " + done.stdout + done.stderr)
        return done

    def audit_gap(self):
        """Audit rows beyond one for each change; not 0 is a violation of I6."""
        return int(self.pg.sql("postern", "SELECT (SELECT count(*) FROM audit) - n - %d FROM log_head" % self.settled))


class Session:
    """psql as a coprocess: one statement after the other on one connection."""

    END = "=end="

    def __init__(self, pg, role="postern_manage", database="postern"):
        self.argv = [os.path.join(pg.bin, "psql"), "-X", "-q", "-A", "-t", "-h", pg.folder, "-p", str(pg.port),
                     "-U", role, "-d", database]
        self.p = None

    def open(self):
        if self.p is None or self.p.poll() is not None:
            self.p = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True, bufsize=1, start_new_session=True)
        return self.p

    def ask(self, sql):
        """The lines of the answer; None: the server did not say that it was done."""
        p = self.open()
        try:
            p.stdin.write(sql + ";\n\\echo " + self.END + "\n")
            p.stdin.flush()
            lines = []
            for line in p.stdout:
                if line.rstrip("\n") == self.END:
                    return lines
                lines.append(line.rstrip("\n"))
        except OSError:
            pass
        self.close()
        return None

    def close(self):
        if self.p is not None:
            self.p.kill()
            self.p.wait()
            for f in (self.p.stdin, self.p.stdout):
                try:
                    f.close()
                except OSError:
                    pass
            self.p = None


class Entry:
    """A revision: when its commit was sent and known (BOOTTIME ns), and whom it lets see what."""

    __slots__ = ("epoch", "n", "sent", "ack", "allowed")

    def __init__(self, text, sent, ack):
        revision, _, pairs = text.partition("|")
        epoch, n, timeline = revision.split("-")
        line = int(timeline) if int(timeline) > 1 else 0  # a promotion is another history of the same epoch
        self.epoch = "%016x" % (int(epoch, 16) ^ (line * 0x9e3779b97f4a7c15) & (1 << 64) - 1)
        self.n, self.sent, self.ack = int(n), sent, ack
        self.allowed = frozenset(pairs.split(",")) if pairs else frozenset()


class Publisher(threading.Thread):
    """Says changes on Redis behind the commit, as the management plane does. Losing them is allowed."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.queue, self.wake, self.ended = port, [], threading.Event(), False
        self.off = False
        self.start()

    def say(self, entry, prev):
        if not self.off:
            self.queue.append("v1 %s %d %d c test-writer" % (entry.epoch, prev, entry.n))
            self.wake.set()

    def run(self):
        connection = None
        while not self.ended:
            self.wake.wait(1)
            self.wake.clear()
            while self.queue:
                text = self.queue.pop(0)
                try:
                    connection = connection or Connection(self.port, 1)
                    connection.ask("PUBLISH", "postern", text)
                except (OSError, RedisFailed):
                    if connection:
                        connection.close()
                    connection = None


class Writer:
    """Numbered changes on one connection, each with the instant of its acknowledgement. `entries` is the history."""

    def __init__(self, pg, redis=None):
        self.session, self.lock = Session(pg), threading.Lock()
        self.publisher = Publisher(redis.port) if redis else None
        self.entries, self.lost = [], None
        sent = boot_ns()
        self.entries.append(Entry(self.session.ask("SELECT test.look()")[0], sent, sent))

    def note(self, text, sent, ack):
        entry = Entry(text, sent, ack)
        prev = self.entries[-1].n
        self.entries.append(entry)
        if self.publisher:
            self.publisher.say(entry, prev)
        return entry

    def settle(self):
        """What became of a change whose commit was not answered. False while the database says nothing."""
        if self.lost is None:
            return True
        lines = self.session.ask("SELECT test.look()")
        if not lines:
            return False
        last, now = self.entries[-1], Entry(lines[0], self.lost, boot_ns())
        if (now.epoch, now.n) != (last.epoch, last.n):
            self.note(lines[0], self.lost, now.ack)
        self.lost = None
        return True

    def change(self, kind, who=None, what=None):
        """The entry, or None when it failed or nobody knows yet."""
        def text(value):
            return "NULL" if value is None else "'%s'" % value
        with self.lock:
            if not self.settle():
                return None
            sent = boot_ns()
            lines = self.session.ask("SELECT test.change(%s, %s, %s)" % (text(kind), text(who), text(what)))
            if not lines:
                self.lost = sent
                return None
            return self.note(lines[0], sent, boot_ns())

    def beside(self, act):
        """Has something else change the database (apply, a restore), and notes what it made of it."""
        with self.lock:
            if not proc.wait_until(self.settle, 30, 0.1):
                raise RuntimeError("the database does not come back")
            sent = boot_ns()
            done = act()
            known = boot_ns()
            lines = None
            end = time.monotonic() + 60
            while not lines and time.monotonic() < end:
                lines = self.session.ask("SELECT test.look()")
            entry = Entry(lines[0], sent, known)
            if (entry.epoch, entry.n) != (self.entries[-1].epoch, self.entries[-1].n):
                self.note(lines[0], sent, known)
            return done

    def close(self):
        if self.publisher:
            self.publisher.ended = True
            self.publisher.wake.set()
        self.session.close()


class Fleet:
    """`adjust(config, index)` changes a node's configuration; `wrapper` and `env` are of its command line."""

    def __init__(self, nodes=3, redis=True, users=12, bound=1, workers=1, links=True, bouncer=True, settings=(),
                 adjust=None, wrapper=(), env=None):
        self.folder = tempfile.mkdtemp(prefix="postern-fleet-")
        self.bound, self.workers, self.adjust, self.wrapper, self.env = bound, workers, adjust, wrapper, env
        self.kills = []                                  # instants at which a node was ended without a word
        self.nodes, self.links = [], []
        self.redis = self.upstream = self.database = self.writer = None
        try:
            self.upstream = Upstream()
            self.redis = Redis() if redis else None
            self.database = Database(users, settings, bouncer, bound)
            self.pg = self.database.pg
            self.writer = Writer(self.pg, self.redis)
            self.users = ["u%d" % i for i in range(users)]
            self.tokens = {u: token(u) for u in self.users}
            self.secret = os.path.join(self.folder, "secret")
            with open(os.open(self.secret, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as f:
                f.write(SECRET)
            self.inspected = os.path.join(self.folder, "inspected.yaml")
            with open(self.inspected, "w", encoding="ascii") as f:
                f.write(INSPECTED)
            for i in range(nodes):
                self.add(i, links)
            for node in self.nodes:
                self.start_node(node)
        except BaseException:
            self.stop()
            raise

    def add(self, index, links=True):
        folder = os.path.join(self.folder, "n%d" % index)
        os.makedirs(folder)
        pg_port = self.pg.bouncer_port if self.pg.bouncer else self.pg.port
        redis_port = self.redis.port if self.redis else None
        pair = {}
        if links:
            pair["pg"] = Link(pg_port, "n%d-pg" % index)
            pg_port = pair["pg"].port
            if self.redis:
                pair["redis"] = Link(redis_port, "n%d-redis" % index)
                redis_port = pair["redis"].port
        self.links.append(pair)
        config = self.config(folder, pg_port, redis_port)
        if self.adjust:
            self.adjust(config, index)
        self.nodes.append(Node(config, folder, "n%d" % index))
        return self.nodes[-1]

    def config(self, folder, pg_port, redis_port):
        def local():
            return "127.0.0.1:%d" % proc.free_port()
        mounts = [{"host": "app.example", "prefix": "/w/", "profile": "rest", "upstream": "app"},
                  {"host": "app.example", "prefix": "/b/", "profile": "inspected", "upstream": "app"}]
        config = {
            "node": os.path.basename(folder),
            "workers": self.workers,
            "profiles": {"inspected": {"file": self.inspected}},
            "store": {"url": self.database.url("data", pg_port) + ("?pgbouncer=true" if self.pg.bouncer else "")},
            "identity": {"issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["HS256"],
                                      "keys": {"secrets": [{"kid": KID, "alg": "HS256", "file": self.secret}]},
                                      "claims": {"user": "sub"}, "unknown_users": "refuse"}]},
            "listeners": [
                {"name": "proxy", "kind": "proxy", "address": local(), "mounts": mounts},
                {"name": "auth", "kind": "auth_request", "address": local(), "path": "/auth",
                 "target_from": "X-Original-URI", "method_from": "X-Original-Method",
                 "trusted_peers": ["127.0.0.1/32"],
                 "mounts": [{k: v for k, v in m.items() if k != "upstream"} for m in mounts]},
                {"name": "ops", "kind": "ops", "address": local()}],
            "upstreams": {"app": {"address": "127.0.0.1:%d" % self.upstream.port, "host": "client"}},
            "log": {"level": "info", "events": "stderr", "access": "off",
                    "decisions": os.path.join(folder, "decisions.log")},
        }
        if redis_port:
            config["sync"] = {"redis": {"addresses": ["127.0.0.1:%d" % redis_port]}}
        return config

    def start_node(self, node):
        return node.start(wrapper=self.wrapper, env=self.env)

    def kill_node(self, node):
        self.kills.append(boot_ns())
        node.child.signal(signal.SIGKILL)
        node.child.wait(5)

    def heal(self):
        for pair in self.links:
            for link in pair.values():
                link.heal()

    def each(self, kind, indexes=None):
        """The links of that kind ("pg", "redis") of some nodes, or of all."""
        return [pair[kind] for i, pair in enumerate(self.links) if indexes is None or i in indexes]

    def ready(self, node):
        try:
            return http1.ask(node.address("ops"), "GET", "/readyz", timeout=2).status == 200
        except OSError:
            return False

    def stop_nodes(self):
        """Exit statuses; anything but 0 is a crash or a sanitizer's report."""
        for node in self.nodes:
            if node.child:
                node.child.signal(signal.SIGCONT)
                node.child.signal(signal.SIGTERM)
        for node in self.nodes:                          # asked once: the second time means "at once"
            if node.child:
                node.child.wait(20)
        codes = [node.stop(1) if node.child else None for node in self.nodes]
        return codes

    def stop(self):
        self.stop_nodes()
        for pair in self.links:
            for link in pair.values():
                link.stop()
        if self.writer:
            self.writer.close()
        if self.database:
            self.database.pg.stop()
        if self.redis:
            self.redis.stop()
        if self.upstream:
            self.upstream.stop()
        shutil.rmtree(self.folder, True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
