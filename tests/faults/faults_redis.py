"""Redis fails. It only makes things fast: whatever becomes of it, the log and the leases keep the promise."""
import time

from harness import boot_ns, fault, proc
from lib.fault_proxy import Lossy
from lib.redis import Connection, Failed, Redis, encode

FLOOD_EPOCH = "00000000deadbeef"


def few_errors(run, load, since, share=0.02):
    """Clients notice nothing."""
    probes = run.during(load, since, boot_ns())
    bad = [p for p in probes if p.status in (0, 503)]
    run.verdict.that(len(bad) <= max(2, len(probes) * share), "%d of %d questions were not decided" % (
        len(bad), len(probes)))


@fault()
def f01_redis_killed(run):
    """kill -9 of Redis, which comes back empty"""
    with run.load() as load:
        time.sleep(0.5)
        began = boot_ns()
        run.fleet.redis.kill()
        time.sleep(run.long(run.past_bound(0.5), 15))
        run.fleet.redis.start()
        run.over()
        few_errors(run, load, began)
        run.settle(load)
    run.judge(load)


@fault()
def f02_redis_stopped(run):
    """SIGSTOP of Redis; afterwards old messages arrive late"""
    with run.load() as load:
        time.sleep(0.5)
        began = boot_ns()
        run.fleet.redis.pause()
        time.sleep(run.long(run.past_bound(0.5), 60))
        run.fleet.redis.resume()
        run.over()
        few_errors(run, load, began)
        run.settle(load)
    run.judge(load)


@fault()
def f03_messages_lost(run):
    """a tenth, a half, all of the pub/sub messages are lost on their way to the nodes"""
    def missed():
        return sum(node.metrics()["postern_gaps_total"] for node in run.fleet.nodes)
    with run.load() as load:
        before = missed()
        for share in run.long((0.5, 1.0), (0.1, 0.5, 1.0)):
            losses = [Lossy(seed=run.seed + i, drop=share) for i in range(len(run.fleet.nodes))]
            for link, loss in zip(run.fleet.each("redis"), losses):
                link.messages = loss
            time.sleep(run.long(run.fleet.bound + 0.3, 4 * run.fleet.bound))
            run.verdict.notes["lost_%d%%" % (100 * share)] = sum(one.counts["dropped"] for one in losses)
            if share == 0.5:                             # of all that are lost nothing tells but silence
                run.verdict.notes["gaps_noticed"] = int(missed() - before)
        run.fleet.heal()
        run.over()
        run.settle(load)
    run.verdict.that(run.verdict.notes["lost_100%"] > 0, "there was no message to lose")
    run.verdict.that(run.verdict.notes["gaps_noticed"] > 0, "nobody noticed that messages were missing")
    run.judge(load)


@fault()
def f04_messages_disordered(run):
    """messages come twice, out of order, again after a long time, and from an epoch that is over"""
    with run.load() as load:
        games = [Lossy(seed=run.seed + i, duplicate=0.5, replay=0.5, late=0.5) for i in range(len(run.fleet.nodes))]
        for link, game in zip(run.fleet.each("redis"), games):
            link.messages = game
        end = time.monotonic() + run.long(run.past_bound(0.5), 20)
        while time.monotonic() < end:
            n = run.fleet.writer.entries[-1].n
            for text in ("v1 %s %d %d c old" % (FLOOD_EPOCH, n, n + 1), "v1 %s %d %d h old" % (FLOOD_EPOCH, n, n)):
                run.fleet.redis.ask("PUBLISH", "postern", text)
            time.sleep(0.05)
        run.fleet.heal()
        run.over()
        run.settle(load)
    run.verdict.that(sum(g.counts["replayed"] + g.counts["late"] for g in games) > 10, "too few messages to disorder")
    run.judge(load)


def flood(port, epoch, until):
    """Forged messages as fast as Redis takes them: of this epoch far ahead, of another, and no messages at all."""
    count = 0
    connection = Connection(port)
    while time.monotonic() < until:
        words = []
        for i in range(200):
            n = 1000000 + count + i
            words.append(("v1 %s %d %d c forger" % (epoch, n - 1, n), "v1 %s %d %d h forger" % (FLOOD_EPOCH, n, n),
                          "v1 %s 1 1 h forger" % epoch, "x" * 300)[i % 4])
        connection.sock.sendall(b"".join(encode("PUBLISH", "postern", w) for w in words))
        for _ in words:
            connection.read()
        count += len(words)
    connection.close()
    return count


@fault()
def f05_messages_forged(run):
    """somebody may publish and does so without end: more log reads, at most 20 a second and node, and nothing else"""
    fleet = run.fleet
    with run.load() as load:
        before, began = log_reads(fleet), time.monotonic()
        since = boot_ns()
        count = flood(fleet.redis.port, fleet.writer.entries[-1].epoch, began + run.long(run.past_bound(0.5), 20))
        reads, seconds = log_reads(fleet) - before, time.monotonic() - began
        run.over()
        few_errors(run, load, since, 0.05)
        run.settle(load)
    limit = (20 * seconds + 5) * len(fleet.nodes) + load.writes
    run.verdict.that(count > 1000, "only %d messages were forged" % count)
    run.verdict.that(reads <= limit, "%d log reads in %.1f s, more than %d" % (reads, seconds, limit))
    run.verdict.notes.update(forged_per_s=int(count / seconds), log_reads_per_node_and_s=round(reads / seconds / 3, 1))
    run.judge(load)


def log_reads(fleet):
    """Log reads that PostgreSQL was sent, by its own count."""
    return int(fleet.pg.sql("postern", "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE "
                            "'%s.schema_oldest_reader%c.stamp%'"))


@fault()
def f06_subscription_cut(run):
    """Redis cuts its subscribers off: by hand, and because their output buffer is full; and pauses its clients"""
    fleet = run.fleet
    with run.load() as load:
        end = time.monotonic() + run.long(run.past_bound(0.5), 15)
        fleet.redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 4096 2048 1")
        for link in fleet.each("redis", (0,)):
            link.slow(0.5)                               # a reader that does not keep up
        while time.monotonic() < end:
            fleet.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
            fleet.redis.ask("PUBLISH", "postern", "x" * 60000)
            time.sleep(0.2)
            fleet.redis.ask("CLIENT", "PAUSE", "100", "ALL")
            time.sleep(0.2)
        fleet.heal()
        fleet.redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")
        run.over()
        run.settle(load)
    run.judge(load)


@fault()
def f07_redis_failover(run):
    """another Redis takes over; meanwhile nodes are connected to a replica, and to nobody"""
    fleet = run.fleet
    with Redis("--replicaof", "127.0.0.1 %d" % fleet.redis.port) as second, run.load() as load:
        proc.wait_until(lambda: b"master_link_status:up" in second.ask("INFO", "replication"), 5)
        for link in fleet.each("redis"):                 # the address leads to the replica already
            link.target = second.port
            link.cut()
        time.sleep(0.7)
        fleet.redis.kill()
        time.sleep(run.long(0.5, 5))
        try:
            second.ask("REPLICAOF", "NO", "ONE")
        except Failed as e:
            run.verdict.that(False, "promotion: %s" % e)
        fleet.writer.publisher.port = second.port
        time.sleep(run.long(0.7, 10))
        fleet.redis.start()
        fleet.writer.publisher.port = fleet.redis.port
        for link in fleet.each("redis"):
            link.target = fleet.redis.port
            link.cut()
        run.over()
        run.settle(load)
    run.judge(load)


@fault()
def f14_crash_before_publish(run):
    """writers commit and never publish"""
    with run.load() as load:
        run.fleet.writer.publisher.off = True
        time.sleep(run.long(run.past_bound(0.5), 20))
        run.fleet.writer.publisher.off = False
        run.over()
        run.settle(load)
    run.judge(load)
