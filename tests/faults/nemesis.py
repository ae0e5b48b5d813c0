#!/usr/bin/env python3
"""All faults at random: `nemesis.py --minutes N [--seed S]`. The seed, which is printed, makes the same schedule."""
import argparse
import bisect
import json
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, HERE)
import harness  # noqa: E402
from harness import Run, Verdict, proc  # noqa: E402
from lib.fault_proxy import Lossy  # noqa: E402
from lib.fleet import Fleet  # noqa: E402
from oracle import History  # noqa: E402


def partition(fleet, dice):
    links = fleet.each(dice.choice(("pg", "redis")), dice.sample(range(3), dice.randrange(1, 4)))
    ways = dice.choice((("up",), ("down",), ("up", "down")))
    for link in links:
        link.partition(*ways)
    yield
    for link in links:
        link.heal()


def slow(fleet, dice):
    links, delay = fleet.each(dice.choice(("pg", "redis"))), dice.choice((0.02, 0.1, 0.25, 1.0))
    for link in links:
        link.slow(delay, *dice.choice((("up",), ("down",), ("up", "down"))))
    yield
    for link in links:
        link.heal()


def refuse(fleet, dice):
    links = fleet.each(dice.choice(("pg", "redis")), dice.sample(range(3), 2))
    for link in links:
        link.refuse()
    yield
    for link in links:
        link.heal()


def cut(fleet, dice):
    kind, half = dice.choice(("pg", "redis")), dice.random() < 0.4
    way = dice.choice(("up", "down"))
    for link in fleet.each(kind):
        link.half_close(way) if half else link.cut()
    yield


def lossy(fleet, dice):
    for link in fleet.each("redis"):
        link.messages = Lossy(dice.randrange(1 << 30), dice.choice((0.1, 0.5, 1.0)), 0.3, 0.3, 0.3)
    yield
    for link in fleet.each("redis"):
        link.messages = None


def redis_killed(fleet, dice):
    fleet.redis.kill()
    yield
    fleet.redis.start()


def redis_stopped(fleet, dice):
    fleet.redis.pause()
    yield
    fleet.redis.resume()


def postgres_killed(fleet, dice):
    fleet.pg.signal_all(signal.SIGKILL)
    fleet.pg.server.wait(5)
    yield
    fleet.pg.start()


def postgres_stopped(fleet, dice):
    fleet.pg.signal_all(signal.SIGSTOP)
    yield
    fleet.pg.signal_all(signal.SIGCONT)


def node_killed(fleet, dice):
    node = fleet.nodes[dice.randrange(3)]
    fleet.kill_node(node)
    yield
    proc.wait_until(fleet.pg.answers, 20, 0.1)
    node.start(timeout=20)


def node_stopped(fleet, dice):
    node = fleet.nodes[dice.randrange(3)]
    node.child.signal(signal.SIGSTOP)
    yield
    node.child.signal(signal.SIGCONT)


def node_reloaded(fleet, dice):
    for node in fleet.nodes:
        if node.child.alive():
            node.reload()
    yield


def unpublished(fleet, dice):
    fleet.writer.publisher.off = True
    yield
    fleet.writer.publisher.off = False


# what needs PostgreSQL when it ends, or makes it go away, does not overlap with its like
APART = (postgres_killed, postgres_stopped, node_killed)
BESIDE = (partition, slow, refuse, cut, lossy, redis_killed, redis_stopped, node_stopped, node_reloaded, unpublished)


def schedule(seed, seconds):
    """[(faults, dice of each, how long, pause)]: from the seed alone."""
    dice, out, total = random.Random(seed), [], 0.0
    while total < seconds:
        acts = [dice.choice(BESIDE)]
        if dice.random() < 0.4:
            acts = [dice.choice(APART)]
        elif dice.random() < 0.5:
            other = dice.choice(BESIDE)
            acts += [other] if other not in acts and not {other, acts[0]} & {partition, slow, refuse} else []
        long, pause = dice.choice((0.3, 1.0, 2.5, 7.0)), dice.choice((0.1, 0.5, 3.0))
        out.append((acts, [random.Random(dice.randrange(1 << 30)) for _ in acts], long, pause))
        total += long + pause
    return out


def oldest(entries, probes):
    """By how much the most outdated answer was outdated, in ms; what B bounds."""
    history, worst = History(entries), 0
    for p in probes:
        if p.status not in (200, 401, 403, 404):
            continue
        newest = max(0, bisect.bisect_right(history.acks, p.sent) - 1)
        at = history.window(p.sent, p.came, 0)[1]        # what was under way may have been seen, too
        while at > 0 and history.allows(at, p) != (p.status == 200):
            at -= 1
        if at < newest:
            worst = max(worst, p.sent - history.acks[at + 1])
    return worst / 1e6


def storm(seed, seconds, bound=5):
    """(verdict, figures) of one run."""
    verdict, steps = Verdict("nemesis"), schedule(seed, seconds)
    print("seed %d: %d steps in %d s" % (seed, len(steps), seconds), flush=True)
    with Fleet(bound=bound) as fleet:
        fleet.sizes = harness.sizes(fleet)
        run = Run(fleet, True, seed)
        run.verdict, run.recovery = verdict, 3 * run.recovery
        with run.load() as load:
            for number, (acts, dices, long, pause) in enumerate(steps):
                print("  %3d  %.1f s  %s" % (number, long, " ".join(a.__name__ for a in acts)), flush=True)
                going = [act(fleet, dice) for act, dice in zip(acts, dices)]
                for one in going:
                    next(one, None)
                time.sleep(long)
                for one in reversed(going):
                    next(one, None)
                time.sleep(pause)
            fleet.heal()
            run.over()
            run.settle(load)
        probes = run.judge(load)
        worst = oldest(fleet.writer.entries, probes)
        verdict.that(not any(fleet.stop_nodes()), "exit statuses are not 0")
        lost = harness.unlogged(fleet)
        verdict.that(not lost, "I3: %d requests reached the app without an allow in a decision log" % len(lost))
    return verdict, {**verdict.notes, "nemesis_max_ms": round(worst, 1), "seed": seed}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default=os.environ.get("POSTERN_BUILD", os.path.join("build", "release")))
    p.add_argument("--minutes", type=float, default=3.0)
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 30))
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    verdict, figures = storm(a.seed, a.minutes * 60)
    print(json.dumps(figures))
    for text in verdict.broken:
        print("FAIL  " + text)
    print("%d passed, %d failed" % (not verdict.broken, bool(verdict.broken)))
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
