"""PostgreSQL fails, or what lies between. It is the truth: without it a node may decide for B, and then says 503."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

from harness import NS, RESOURCES, Prober, boot_ns, fault, paths, proc
from lib import http1
from lib.fleet import Entry, Session
from lib.node import cli
from lib.postgres import Postgres

GRACE_NS = NS // 5        # C3: what a question may wait for a lease


def only_stale(run, load, cut, nodes):
    """C3: later than B after the cut these nodes decide nothing. At least one question shows it."""
    since = cut + int(run.fleet.bound * NS) + GRACE_NS // 10
    proc.wait_until(lambda: any(p.status == 503 and p.node in nodes for p in run.during(load, since)), 5, 0.05)
    until = boot_ns()
    probes = [p for p in run.during(load, since, until) if p.node in nodes and p.came < until]
    decided = [p for p in probes if p.status not in (0, 503)]
    run.verdict.that(not decided, "C3: decided without a lease, %s s after the cut: %r" % (
        [round((p.sent - cut) / NS, 3) for p in decided[:3]], decided[:3]))
    run.verdict.that(any(p.status == 503 for p in probes), "C3: no 503 of nodes %s" % (nodes,))
    return probes


def quick_refusals(run, probes):
    """A 503 comes in 200 ms; what a busy machine adds is not the node's."""
    waits = sorted((p.came - p.sent) / NS for p in probes if p.status == 503)
    if waits:
        middle = waits[len(waits) // 2]
        run.verdict.notes["refused_p50_ms"] = 1000 * middle
        run.verdict.that(middle < 0.35 * paths.slack(), "C3: refusals take %.2f s" % middle)


@fault()
def f08_partitions(run):
    """one node is cut off from Redis, from PostgreSQL, from both; in both directions or in one"""
    fleet = run.fleet
    cases = [(("pg",), ("up",)), (("pg", "redis"), ("up", "down"))] if not run.full else [
        (kinds, ways) for kinds in (("redis",), ("pg",), ("pg", "redis"))
        for ways in (("up", "down"), ("up",), ("down",))]
    for number, (kinds, ways) in enumerate(cases):
        with run.load() as load:
            time.sleep(0.4)
            for kind in kinds:
                fleet.links[0][kind].partition(*ways)
            cut = boot_ns()
            time.sleep(run.past_bound(run.long(0.6, 3)))
            if "pg" in kinds:
                quick_refusals(run, only_stale(run, load, cut, (0,)))
            fleet.heal()
            run.over()
            run.settle(load)
        run.judge(load)
        run.seed += number + 1


@fault()
def f09_postgres_killed(run):
    """kill -9 of PostgreSQL and all its processes"""
    fleet = run.fleet
    for down in run.long((run.past_bound(0.7),), (1, 10, 60)):
        with run.load() as load:
            time.sleep(0.4)
            fleet.pg.signal_all(signal.SIGKILL)
            fleet.pg.server.wait(5)
            cut = boot_ns()
            time.sleep(down)
            if down > fleet.bound + 0.5:
                only_stale(run, load, cut, (0, 1, 2))
            fleet.pg.start()
            run.over()
            run.settle(load)
        run.judge(load)


@fault()
def f10_postgres_stopped(run):
    """SIGSTOP of PostgreSQL: connected, and silent"""
    fleet = run.fleet
    with run.load() as load:
        time.sleep(0.4)
        fleet.pg.signal_all(signal.SIGSTOP)
        cut = boot_ns()
        time.sleep(run.past_bound(run.long(0.7, 10)))
        quick_refusals(run, only_stale(run, load, cut, (0, 1, 2)))
        fleet.pg.signal_all(signal.SIGCONT)
        run.over()
        run.settle(load)
    run.judge(load)


def share(waits, part):
    return sorted(waits)[int(len(waits) * part)] if waits else 0


def waits_of(prober, seconds):
    """Latencies of the same user's question, again and again."""
    out, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answer = prober.ask("u0", "r0")
        if answer and answer.status != 503:
            out.append((prober.probes[-1].came - prober.probes[-1].sent) / NS)
        time.sleep(0.002)
    return out


@fault()
def f11_postgres_slow(run):
    """each answer of PostgreSQL comes late; all tables are locked: what is in memory is decided as fast as before"""
    fleet = run.fleet
    with run.load() as load:
        one = Prober(load, 0, "auth", 424242)
        load.quiet.set()
        time.sleep(0.3)
        calm = waits_of(one, run.long(0.6, 5))
        for delay in run.long((0.05,), (0.05, 0.2, 1.0)):
            for link in fleet.each("pg"):
                link.slow(delay)
            slow = waits_of(one, run.long(0.8, 10))
            limit = max(2 * share(calm, 0.99), 0.02 * paths.slack())
            if delay < 0.2:                              # beyond it a log read is given up, and leases run out
                run.verdict.that(share(slow, 0.9) <= limit, "at %d ms: p90 %.1f ms, before %.1f ms" % (
                    1000 * delay, 1000 * share(slow, 0.9), 1000 * share(calm, 0.9)))
            run.verdict.notes["p99_ms_at_%d" % (1000 * delay)] = 1000 * share(slow, 0.99)
            load.quiet.clear()
            time.sleep(run.long(0.6, 10))                # with changes: what is decided must still be true
            load.quiet.set()
            for link in fleet.each("pg"):
                link.slow(0)
        locker = Session(fleet.pg, "postgres")
        locker.ask("BEGIN")
        locker.ask("LOCK TABLE bindings, users, roles, permissions, workspaces, identities IN ACCESS EXCLUSIVE MODE")
        slow = waits_of(one, run.long(0.8, 10))
        run.verdict.that(share(slow, 0.9) <= limit, "locked: p90 %.1f ms, before %.1f ms" % (
            1000 * share(slow, 0.9), 1000 * share(calm, 0.9)))
        locker.ask("ROLLBACK")
        locker.close()
        load.quiet.clear()
        run.over()
        run.settle(load)
    run.verdict.notes["p99_ms_calm"] = 1000 * share(calm, 0.99)
    run.judge(load)


def tiny_volume(folder, owner):
    """A volume of 4 MiB in memory, where the kernel lets us mount one."""
    return os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700,uid=%d,gid=%d" % owner, "tmpfs", folder],
        stderr=subprocess.DEVNULL).returncode == 0


def fill(path):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while os.write(fd, b"x" * 4096) > 0:
            pass
    except OSError:
        pass
    finally:
        os.close(fd)


@fault()
def f12_disk_full(run):
    """the database's disk is full, then it is read-only: writes fail whole, decisions go on"""
    fleet, pg = run.fleet, run.fleet.pg
    folder = tempfile.mkdtemp(prefix="postern-tiny-")
    stat = os.stat(pg.data)
    mounted = tiny_volume(folder, (stat.st_uid, stat.st_gid))
    run.verdict.notes["volume"] = "tmpfs" if mounted else "none:mount-refused"
    try:
        with run.load(churn=60) as load:
            if mounted:
                pg.sql("postern", "CREATE TABLESPACE tiny LOCATION '%s'" % folder)
                pg.sql("postern", "ALTER TABLE audit SET TABLESPACE tiny")
                fill(os.path.join(folder, "filler"))
                full(run, load, "no space", lambda: os.unlink(os.path.join(folder, "filler")))
                pg.sql("postern", "ALTER TABLE audit SET TABLESPACE pg_default", "DROP TABLESPACE tiny")
            pg.sql("postern", "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
            time.sleep(0.2)
            full(run, load, "read-only", lambda: pg.sql("postern", "SET default_transaction_read_only = off",
                                                        "ALTER SYSTEM RESET default_transaction_read_only",
                                                        "SELECT pg_reload_conf()"))
            run.over()
            run.settle(load)
        run.judge(load)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder])
        shutil.rmtree(folder, True)


def full(run, load, name, cure):
    """Writes fail until `cure`, each of them whole; a node's decisions come as before."""
    since, end = boot_ns(), time.monotonic() + 20
    failed = load.failed_writes
    while load.failed_writes < failed + run.long(3, 20) and time.monotonic() < end:
        time.sleep(0.05)                                 # the last page of the table is filled first
    run.verdict.that(load.failed_writes >= failed + 3, "%s: writes go on" % name)
    run.verdict.that(run.fleet.database.audit_gap() == 0, "%s: a half of a change" % name)
    late = {"users": [{"name": "late-%d" % since}]}
    done = run.fleet.writer.beside(lambda: run.fleet.database.apply(late, check=False))
    # apply asks for a transaction that writes, whatever the default is
    run.verdict.that(done.returncode == (3 if name == "no space" else 0), "%s: apply says %d" % (name, done.returncode))
    probes = run.during(load, since)
    bad = [p for p in probes if p.status in (0, 503)]
    run.verdict.that(len(bad) <= max(2, len(probes) // 50), "%s: %d of %d not decided" % (name, len(bad), len(probes)))
    cure()


@fault()
def f13_crash_inside_a_change(run):
    """a writer ends between its rows and its log row: rolled back, killed, in a deadlock"""
    fleet = run.fleet
    with run.load() as load:
        time.sleep(0.3)
        load.quiet.set()
        time.sleep(0.3)
        for end in ("rollback", "deadlock", "terminate", "kill"):
            with fleet.writer.lock:
                settled = proc.wait_until(fleet.writer.settle, 20, 0.1)
                before = fleet.writer.session.ask("SELECT test.look()")
                half_a_change(run, end)
                run.verdict.that(proc.wait_until(fleet.pg.answers, 20, 0.1), "PostgreSQL does not come back")
                after = proc.wait_until(lambda: fleet.writer.session.ask("SELECT test.look()"), 20, 0.1)
            run.verdict.that(settled and before == after, "%s: %s, then %s" % (end, before, after))
        load.quiet.clear()
        run.over()
        time.sleep(run.long(0.3, 3))
        run.settle(load)
    run.judge(load)


def half_a_change(run, end):
    pg = run.fleet.pg
    first, second = Session(pg), Session(pg)
    first.ask("BEGIN")
    pid = int(first.ask("SELECT pg_backend_pid()")[0])
    if end == "deadlock":
        second.ask("BEGIN")
        second.ask("SELECT 1 FROM users WHERE name = 'u1' FOR UPDATE")
    first.ask("UPDATE log_head SET n = n + 1, open = 1")
    first.ask("INSERT INTO change_log (n, stamp, at, actor) SELECT n, repeat('0', 32), 0, 'half' FROM log_head")
    first.ask("DELETE FROM bindings")
    if end == "rollback":
        first.ask("ROLLBACK")
    elif end == "deadlock":
        second.open().stdin.write("UPDATE log_head SET n = n + 1, open = 1;\n")
        second.p.stdin.flush()
        first.ask("UPDATE users SET disabled = 1")       # waits for the second, which waits for it
        first.ask("ROLLBACK")
    elif end == "terminate":
        pg.sql("postern", "SELECT pg_terminate_backend(%d)" % pid)
    else:
        os.kill(pid, signal.SIGKILL)                     # PostgreSQL ends all its processes and recovers
        time.sleep(0.3)
    first.close()
    second.close()


@fault()
def f15_commits_out_of_order(run):
    """a change is held open while another one waits: their order is that of their numbers"""
    fleet = run.fleet
    with run.load() as load:
        time.sleep(0.3)
        load.quiet.set()
        time.sleep(0.3)
        held = Session(fleet.pg, "postgres")             # its role has no time limits
        with fleet.writer.lock:
            held.ask("BEGIN")
            first = held.ask("SELECT test.change('revoke', 'u0', NULL)")
            time.sleep(run.long(0.5, 30))
            waiting = Session(fleet.pg, "postgres")
            sent = boot_ns()
            waiting.open().stdin.write("SELECT test.change('grant', 'u1', NULL);\n\\echo =end=\n")
            waiting.p.stdin.flush()
            time.sleep(run.long(0.5, 5))
            committed = boot_ns()
            held.ask("COMMIT")
            known = boot_ns()
            second = waiting.p.stdout.readline().strip()
            for text, since, until in ((first[0], committed, known), (second, sent, boot_ns())):
                fleet.writer.note(text, since, until)
        run.verdict.that(Entry(second, 0, 0).n == Entry(first[0], 0, 0).n + 1, "numbers: %s, then %s" % (first, second))
        held.close()
        waiting.close()
        load.quiet.clear()
        run.over()
        time.sleep(0.3)
        run.settle(load)
    run.judge(load)


def told_revision(run, node):
    """The revision that the app is told, as a caller may bring it back; None when nothing is allowed just now."""
    for user in run.fleet.users:
        fields = [("Authorization", "Bearer " + run.fleet.tokens[user])]
        for what in RESOURCES:
            answer = http1.ask(node.address("proxy"), "GET", "/w/blue/things/%s?nonce=0-0" % what, fields)
            if answer.status == 200:
                return user, answer.body.split(b" ")[2].decode("latin-1")
    return None


def min_revision(run, node, user, revision):
    """The status for a question that names it. 503 is that of a node that could not read the log in time: asked again."""
    def ask():
        status = http1.ask(node.address("proxy"), "GET", "/w/blue/things/r0?nonce=0-0", [
            ("Authorization", "Bearer " + run.fleet.tokens[user]), ("Postern-Min-Revision", revision)]).status
        return status if status != 503 else None
    return proc.wait_until(ask, 10, 0.05) or 503


@fault()
def f16_restored_from_a_backup(run):
    """an older dump is restored, and the log grows past where nodes were: another epoch, and 412 for the old one"""
    fleet, pg = run.fleet, run.fleet.pg
    dump = os.path.join(pg.folder, "dump")
    with run.load() as load:
        time.sleep(0.3)
        where = ["-h", pg.folder, "-p", str(pg.port), "-U", "postgres"]
        fleet.writer.beside(lambda: pg.run("pg_dump", *where, "-Fc", "-f", dump, "postern"))
        time.sleep(run.long(1.0, 5))
        told = proc.wait_until(lambda: told_revision(run, fleet.nodes[0]), 10, 0.1)   # all may be denied for a moment
        load.quiet.set()
        time.sleep(0.2)
        before = fleet.writer.entries[-1].n

        def restore():
            fleet.writer.session.close()
            pg.sql("postgres", "ALTER DATABASE postern ALLOW_CONNECTIONS false")   # pgbouncer is back at once, else
            pg.sql("postgres", "DROP DATABASE postern WITH (FORCE)")
            began = boot_ns()
            pg.sql("postgres", "CREATE DATABASE postern TEMPLATE template0")
            pg.run("pg_restore", *where, "-d", "postern", dump)
            fleet.writer.note(fleet.writer.session.ask("SELECT test.look()")[0], began, boot_ns())
            fleet.writer.session.close()
            done = cli("db", "restored", "--store", fleet.database.url("migrate"))
            run.verdict.that(done.returncode == 0, "db restored: " + done.stderr)
        fleet.writer.beside(restore)
        while fleet.writer.entries[-1].n <= before:      # what follows is numbered as what is gone was
            if not fleet.writer.change("grant", "u1"):
                time.sleep(0.1)
        load.quiet.clear()
        run.over()
        run.settle(load)
        run.verdict.that(told is not None, "nothing was allowed before the restore")
        if told:
            status = min_revision(run, fleet.nodes[0], *told)
            run.verdict.that(status == 412, "a revision of the old epoch: %d" % status)
    run.judge(load)


class Standby(Postgres):
    """A streaming replica of another one, under the same roof of settings."""

    def __init__(self, primary):
        self.folder = tempfile.mkdtemp(prefix="postern-pg-")
        self.become, self.bin = primary.become, primary.bin
        stat = os.stat(primary.data)
        os.chown(self.folder, stat.st_uid, stat.st_gid)
        self.data = os.path.join(self.folder, "data")
        self.port = proc.free_port()
        self.settings = [s for s in primary.settings if not s.startswith(("port=", "unix_socket"))] + [
            "port=%d" % self.port, "unix_socket_directories=" + self.folder]
        self.server = self.bouncer = None
        self.run("pg_basebackup", "-h", primary.folder, "-p", str(primary.port), "-U", "postgres", "-D", self.data,
                 "-X", "stream", "-R", "-c", "fast")
        self.start()


@fault(short=False)
def f16s_standby_and_promotion(run):
    """nodes land on a replica: no lease. It is promoted while it lags behind: another history"""
    fleet, pg = run.fleet, run.fleet.pg
    with Standby(pg) as standby, run.load() as load:
        time.sleep(0.3)
        bouncer = pg.bouncer_port
        link = fleet.links[0]["pg"]
        link.target = standby.port
        link.cut()
        cut = boot_ns()
        time.sleep(run.past_bound(0.6))
        only_stale(run, load, cut, (0,))
        standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        time.sleep(run.long(0.5, 5))                     # changes that the replica will not have
        load.quiet.set()
        time.sleep(0.2)

        def promote():
            fleet.writer.session.close()
            for one in fleet.each("pg"):
                one.refuse()
            pg.signal_all(signal.SIGKILL)                # the old one is fenced before the new one speaks
            pg.server.wait(5)
            standby.sql("postgres", "SELECT pg_promote(true, 30)")
            fleet.writer.session.argv[fleet.writer.session.argv.index("-p") + 1] = str(standby.port)
            fleet.writer.session.argv[fleet.writer.session.argv.index("-h") + 1] = standby.folder
        lost = fleet.writer.entries[-1]
        fleet.writer.beside(promote)
        now = fleet.writer.entries[-1]
        run.verdict.that(now.epoch != lost.epoch and now.n < lost.n, "nothing was lost: %s-%d, then %s-%d" % (
            lost.epoch, lost.n, now.epoch, now.n))
        for one in fleet.each("pg"):
            one.target = standby.port
        fleet.heal()
        load.quiet.clear()
        run.over()
        run.settle(load)
        load.quiet.set()
        time.sleep(0.2)

        def back():
            fleet.writer.session.close()
            standby.sql("postgres", "CHECKPOINT")
            standby.signal_all(signal.SIGKILL)
            standby.server.wait(5)
            pg.start()
            fleet.writer.session.argv[fleet.writer.session.argv.index("-p") + 1] = str(pg.port)
            fleet.writer.session.argv[fleet.writer.session.argv.index("-h") + 1] = pg.folder
            cli("db", "restored", "--store", fleet.database.url("migrate"))
        fleet.writer.beside(back)                        # the first one is the fleet's again, as after a restore
        for one in fleet.each("pg"):
            one.target = bouncer
            one.cut()
        load.quiet.clear()
        run.over()
        run.settle(load)
    run.judge(load)


@fault()
def f17_maintenance(run):
    """a snapshot is held open, tables are vacuumed and their indexes built anew, the schema is migrated"""
    fleet, pg = run.fleet, run.fleet.pg
    with run.load() as load:
        reader = Session(pg, "postgres")
        reader.ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.ask("SELECT 1 FROM organizations")
        end, since = time.monotonic() + run.long(run.past_bound(0.5), 30), boot_ns()
        longest = 0.0
        while time.monotonic() < end:
            pg.sql("postern", "VACUUM (FULL, ANALYZE) bindings", "VACUUM ANALYZE", "REINDEX TABLE users",
                   "REINDEX TABLE change_log")
            began = time.monotonic()
            done = cli("db", "migrate", "--store", fleet.database.url("migrate"))
            longest = max(longest, time.monotonic() - began)
            run.verdict.that(done.returncode == 0, "db migrate: " + done.stderr)
        reader.ask("COMMIT")
        reader.close()
        probes = run.during(load, since)
        bad = [p for p in probes if p.status in (0, 503)]
        run.verdict.that(len(bad) <= max(2, len(probes) // 20), "%d of %d not decided" % (len(bad), len(probes)))
        run.verdict.that(longest < 1.0 * paths.slack(), "a migration took %.1f s" % longest)
        run.over()
        run.settle(load)
    run.judge(load)
