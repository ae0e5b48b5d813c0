"""The figures of `make freshness`: how soon a revocation is felt, what freshness costs, who gets another's answer.

Each function returns figures for results.json and leaves what it saw in build/freshness/."""
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import threading
import time

from faults_redis import log_reads
from harness import Load, Prober, paths, proc
from lib.fleet import Fleet, token
from selftest import built

STATEMENTS = ("shared_preload_libraries=pg_stat_statements",)
EVERY_S = 0.005


def folder():
    out = os.path.join(paths.ROOT, "build", "freshness")
    os.makedirs(out, exist_ok=True)
    return out


def keep(name, data):
    with open(os.path.join(folder(), name + ".json"), "w", encoding="ascii") as f:
        json.dump(data, f)


def share(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def histogram(name, values, unit="ms"):
    """Powers of two, one line each."""
    rows = {}
    for v in values:
        edge = 0.25
        while v > edge:
            edge *= 2
        rows[edge] = rows.get(edge, 0) + 1
    print("%s (%d): p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f %s" % (
        name, len(values), share(values, .5), share(values, .9), share(values, .99), share(values, .999),
        max(values or [0]), unit), flush=True)
    for edge in sorted(rows):
        print("  <= %8.2f %s %6d %s" % (edge, unit, rows[edge], "#" * (1 + 50 * rows[edge] // len(values))), flush=True)


# ---- from the commit to the first refusal ----

class Watcher(threading.Thread):
    """Asks one node for one user every 5 ms until he is refused."""

    def __init__(self, prober, user, out):
        super().__init__(daemon=True)
        self.prober, self.user, self.out = prober, user, out

    def run(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            began = time.monotonic()
            answer = self.prober.ask(self.user, "r0")
            if answer is not None and answer.status == 403:
                self.out.append(self.prober.probes[-1].came)
                return
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))


def revocations(count, redis, nodes=2):
    """Milliseconds from each acknowledgement to the first refusal, of each node."""
    waits = []
    with Fleet(nodes=nodes, redis=redis, users=50, bound=5, links=False) as fleet:
        load = Load(fleet)
        probers = [Prober(load, i, "auth", i + 1) for i in range(nodes)]
        done = 0
        while done < count:
            for user in fleet.users:
                fleet.writer.change("grant", user)
            for p in probers:                            # everybody is in memory, and allowed
                for user in fleet.users:
                    proc.wait_until(lambda p=p, user=user: (a := p.ask(user, "r0")) and a.status == 200, 10, 0.01)
            for user in fleet.users[:count - done]:
                began, came = time.monotonic(), []
                watchers = [Watcher(p, user, came) for p in probers]
                for w in watchers:
                    w.start()
                time.sleep(random.random() * (0.05 if redis else 0.5))   # not in step with the polling
                ack = fleet.writer.change("revoke", user).ack
                for w in watchers:
                    w.join()
                waits += [max(0.0, (at - ack) / 1e6) for at in came]
                if len(came) != nodes:
                    raise RuntimeError("%s was not refused within 30 s" % user)
                time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
                done += 1
    return waits


def latency(count):
    out = {}
    for name, redis in (("with_redis", True), ("without_redis", False)):
        waits = revocations(count, redis)
        keep("revocations_" + name, [round(w, 3) for w in waits])
        histogram("commit to first refusal, " + name.replace("_", " "), waits)
        out.update({name + "_p50_ms": round(share(waits, .5), 2), name + "_p99_ms": round(share(waits, .99), 2),
                    name + "_p999_ms": round(share(waits, .999), 2), name + "_max_ms": round(max(waits), 2)})
    return out


# ---- log reads ----

def statements(fleet):
    return int(fleet.pg.sql("postern", "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"))


def reads(nodes, seconds):
    """Of that many idle nodes in so many seconds, and of one at work in each second."""
    settings = STATEMENTS + ("max_connections=%d" % (2 * nodes + 60),)
    with Fleet(nodes=1, redis=True, bound=5, links=False, settings=settings) as fleet:
        fleet.pg.sql("postern", "CREATE EXTENSION pg_stat_statements")
        load = Load(fleet, pace=20, doors=("auth",))
        load.quiet.set()
        with load:
            time.sleep(6)
            before, began = log_reads(fleet), time.monotonic()
            time.sleep(min(seconds, 30))
            busy = (log_reads(fleet) - before) / (time.monotonic() - began)
        for i in range(1, nodes):
            fleet.start_node(fleet.add(i, links=False))
        time.sleep(3 * fleet.bound)                      # until the last of them sleeps
        before, all_before = log_reads(fleet), statements(fleet)
        time.sleep(seconds)
        idle, everything = log_reads(fleet) - before, statements(fleet) - all_before - 2
    print("log reads: %d of %d idle nodes in %d s (%d statements of all kinds); one at work %.2f/s" % (
        idle, nodes, seconds, everything, busy), flush=True)
    return {"idle_log_reads": idle, "idle_nodes": nodes, "idle_seconds": seconds, "idle_statements": everything,
            "busy_log_reads_per_s": round(busy, 3)}


# ---- wrong user ----

def wrong_user(count, seed):
    port = proc.free_port()

    def four(config, index):
        config["upstreams"]["app"].update(address="127.0.0.1:%d" % port, max_idle=4)
        config["log"]["decisions"] = "off"
    with Fleet(nodes=1, redis=False, bound=60, links=False, adjust=four) as fleet:
        for user in ("u0", "u2"):
            fleet.writer.change("grant", user)
        rights = [{"entity": "things", "allow": ["list", "detail", "create"]}]
        fleet.writer.beside(lambda: fleet.database.apply({"roles": [{"name": "reader", "permissions": rights}]}))
        people = os.path.join(fleet.folder, "people")
        with open(people, "w", encoding="ascii") as f:
            f.writelines("%s %s %d\n" % (u, fleet.tokens[u], u != "u1") for u in ("u0", "u2", "u1"))
        node = fleet.nodes[0]
        check = Prober(Load(fleet), 0, "auth", 1)
        proc.wait_until(lambda: (a := check.ask("u2", "r0")) and a.status == 200, 10, 0.05)
        time.sleep(1)
        done = subprocess.run([built("storm"), str(count), "8", str(seed), str(port), str(node.address("proxy")[1]),
                               people], stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        alive = node.child.alive()
    keep("wrong_user", figures)
    print("wrong user: %s" % figures, flush=True)
    return {"wrong_user": figures["wrong_user"], "wrong_user_requests": figures["requests"],
            "wrong_user_good": figures["good"], "wrong_user_broken": done.returncode != 0 or not alive}


# ---- cost ----

def cpu_ns(pid):
    """Processor time of all threads of a process."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError), open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def requests_file(path, users, tokens):
    with open(path, "w", encoding="ascii") as f:
        for u in users:
            f.write("GET /auth HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\nX-Original-URI: "
                    "/w/blue/things/r0\r\nX-Original-Method: GET\r\n\r\n" % tokens[u])


def pinned(core, argv):
    return ["taskset", "-c", str(core), *argv] if shutil.which("taskset") and os.cpu_count() > 1 else argv


def drive(node, path, count, *options):
    """(processor ns of the node for each request, the tool's own figures)."""
    before = cpu_ns(node.child.pid)
    done = subprocess.run(pinned(1, [os.path.join(paths.build_dir(), "bench", "tools", "load"), "--connections", "8",
                                     *options, "--count", str(count), str(node.address("auth")[1]), path]),
                          stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["errors"]:
        raise RuntimeError("load: %s" % figures)
    return (cpu_ns(node.child.pid) - before) / count, figures


def many_users(fleet, count):
    """So many more users who may what readers may; one change."""
    fleet.pg.sql("postern", """DO $$
DECLARE number bigint;
BEGIN
    UPDATE log_head SET n = n + 1, open = 1 RETURNING n INTO number;
    INSERT INTO change_log (n, stamp, at, actor) VALUES (number, replace(gen_random_uuid()::text, '-', ''), 0, 'test');
    INSERT INTO users (name) SELECT 'many-' || i FROM generate_series(1, %d) i;
    INSERT INTO identities (issuer, subject, user_id)
        SELECT 'https://fleet.test/', name, id FROM users WHERE name LIKE 'many-%%';
    INSERT INTO bindings (user_id, role_id, workspace_id) SELECT u.id, r.id, w.id FROM users u, roles r, workspaces w
        WHERE u.name LIKE 'many-%%' AND r.name = 'reader' AND w.name = 'blue';
    UPDATE change_log SET keys = 'all' WHERE n = number;
    UPDATE log_head SET open = 0;
    INSERT INTO audit (time, actor, action, detail) VALUES (0, 'test', 'many', '');
END $$""" % count, "ANALYZE")


HOT, CACHE, ROUND, CHUNKS, ROUNDS = 480, 1024, 4096, 5, 7
COLD = ROUND // 100 * CHUNKS * ROUNDS + 100     # each of them comes once
AFTER = 2000                                    # so many more push them out of memory


def misses(users, probes):
    """Latency of a fact miss, and the processor's work at 1 % misses against none."""
    def small(config, index):
        config["identity"].update(fact_cache=CACHE, token_cache=8192)
        config["log"]["decisions"] = "off"
    with Fleet(nodes=1, redis=False, bound=60, links=False, bouncer=False, adjust=small) as fleet:
        many_users(fleet, users)
        dice, node = random.Random(7), fleet.nodes[0]
        names = ["many-%d" % i for i in dice.sample(range(1, users + 1), HOT + probes + COLD + AFTER)]
        tokens = {n: token(n) for n in names}
        fleet.tokens.update(tokens)
        prober = Prober(Load(fleet), 0, "auth", 1)
        proc.wait_until(lambda: (a := prober.ask(names[0], "r0")) and a.status == 200, 20, 0.05)
        first, second = [], []
        for n in names[HOT:HOT + probes]:
            for waits in (first, second):
                answer = prober.ask(n, "r0")
                if answer is None or answer.status != 200:
                    raise RuntimeError("%s: %s" % (n, answer and answer.status))
                waits.append((prober.probes[-1].came - prober.probes[-1].sent) / 1000)
        base = share(second, .5)
        cost = [max(0.0, w - base) for w in first]
        keep("misses", {"first_us": first, "second_us": second})
        histogram("fact miss beyond a hit, %d users" % users, [c / 1000 for c in cost])
        return {"miss_p50_us": round(share(cost, .5)), "miss_p99_us": round(share(cost, .99)),
                "hit_p50_us": round(base), **miss_cpu(fleet, node, names[:HOT], names[HOT + probes:], tokens)}


def miss_cpu(fleet, node, hot, cold, tokens):
    strangers = iter(cold)

    def chunk(name, share_of):
        path = os.path.join(fleet.folder, name)
        requests_file(path, [next(strangers) if share_of and i % 100 == 50 else hot[i % HOT] for i in range(ROUND)],
                      tokens)
        return path
    hits = chunk("hits", 0)
    subprocess.run(["taskset", "-acp", "0", str(node.child.pid)], stdout=subprocess.DEVNULL)
    # tokens are verified before, so that a miss is one of facts alone; users of the hot set stay in memory
    every = os.path.join(fleet.folder, "every")
    requests_file(every, cold, tokens)
    drive(node, every, len(cold))
    drive(node, hits, 4 * ROUND)
    quiet, loaded = [], []
    before = node.metrics()["postern_fact_cache_misses_total"]
    for _ in range(ROUNDS * CHUNKS):
        mixed = chunk("mixed", 0.01)
        quiet.append(drive(node, hits, ROUND)[0])
        loaded.append(drive(node, mixed, ROUND)[0])
    missed = (node.metrics()["postern_fact_cache_misses_total"] - before) / len(loaded) / ROUND
    ratio = statistics.median(loaded) / statistics.median(quiet)
    keep("miss_cpu", {"hit_ns": quiet, "mixed_ns": loaded, "miss_share": missed})
    print("processor time for each request: %.2f us all hits, %.2f us with %.2f %% misses: %.3f" % (
        statistics.median(quiet) / 1000, statistics.median(loaded) / 1000, 100 * missed, ratio), flush=True)
    return {"miss_cpu_ratio": round(ratio, 3), "miss_share": round(missed, 4)}


DECISIONS = "--connections", "64", "--rate", "20000"


def change_stream(rate, rounds):
    """Processor's work of a decision while policy changes so often, against quiet: at so many decisions a second.

    A generator that asks as fast as it can asks more slowly while the database works on its core, and a node that has
    less to do sleeps between two answers: this costs it more than the changes do, whoever makes the core busy
    (`change_stream_saturated_ratio`, told beside it)."""
    def plain(config, index):
        config["log"]["decisions"] = "off"
    with Fleet(nodes=1, redis=True, bound=5, links=False, bouncer=False, adjust=plain) as fleet:
        many_users(fleet, 10000)
        for u in fleet.users:
            fleet.writer.change("grant", u)
        # plpgsql keeps its plans: what shares a core with the clients shall spend it on changes
        fleet.pg.sql("postern", """CREATE FUNCTION test.tick(who bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    UPDATE public.log_head SET n = n + 1, open = 1 RETURNING n INTO number;
    INSERT INTO public.change_log (n, stamp, at, actor)
        VALUES (number, replace(gen_random_uuid()::text, '-', ''), 0, 'tick');
    UPDATE public.users SET email = '' WHERE id = who;
    UPDATE public.change_log SET keys = '["user:' || who || '"]' WHERE n = number;
    UPDATE public.log_head SET open = 0;
    INSERT INTO public.audit (time, actor, action, detail) VALUES (0, 'tick', 'tick', '');
END $$""")
        script, path = os.path.join(fleet.pg.folder, "tick.sql"), os.path.join(fleet.folder, "hits")
        with open(script, "w", encoding="ascii") as f:
            f.write("\\set who random(100, 9000)\nSELECT test.tick(:who);\n")
        requests_file(path, fleet.users * 40, fleet.tokens)
        node = fleet.nodes[0]
        subprocess.run(["taskset", "-acp", "0", str(node.child.pid)], stdout=subprocess.DEVNULL)
        for pid in fleet.pg.family():
            subprocess.run(["taskset", "-acp", "1", str(pid)], stdout=subprocess.DEVNULL)
        drive(node, path, 20000)
        quiet, busy, rates, flat_out = [], [], [], ([], [])
        for _ in range(rounds):
            flat_out[0].append(drive(node, path, 100000)[0])
            quiet.append(drive(node, path, 100000, *DECISIONS)[0])
            head, began = head_of(fleet), time.monotonic()
            argv = [os.path.join(fleet.pg.bin, "pgbench"), "-n", "-h", fleet.pg.folder, "-p", str(fleet.pg.port), "-U",
                    "postgres", "-f", script, "-c", "1", "-M", "prepared", "-R", str(rate), "-T", "600", "postern"]
            writer = subprocess.Popen(pinned(1, argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      preexec_fn=fleet.pg.become)
            try:
                time.sleep(0.5)
                busy.append(drive(node, path, 100000, *DECISIONS)[0])
                flat_out[1].append(drive(node, path, 100000)[0])
                rates.append((head_of(fleet) - head) / (time.monotonic() - began))
            finally:
                writer.terminate()
                writer.wait()
            time.sleep(0.7)
    ratio = statistics.median(busy) / statistics.median(quiet)
    saturated = statistics.median(flat_out[1]) / statistics.median(flat_out[0])
    keep("change_stream", {"quiet_ns": quiet, "busy_ns": busy, "changes_per_s": rates, "saturated_ns": flat_out})
    print("processor time for each decision: %.2f us quiet, %.2f us at %d changes/s: %.3f (saturated: %.3f)" % (
        statistics.median(quiet) / 1000, statistics.median(busy) / 1000, statistics.median(rates), ratio, saturated),
        flush=True)
    return {"change_stream_ratio": round(ratio, 3), "change_stream_per_s": round(statistics.median(rates)),
            "change_stream_saturated_ratio": round(saturated, 3)}


def head_of(fleet):
    return int(fleet.pg.sql("postern", "SELECT n FROM log_head"))
