"""The harness itself: a node that breaks the promise must be found out, and a judge must know right from wrong."""
import os
import subprocess
import time

import oracle
from harness import NS, Run, Verdict, boot_ns, fault, paths, proc
from lib.fleet import Entry, Fleet
from oracle import Probe


def built(name):
    """What the Makefile builds from a source beside this file."""
    out = os.path.join(paths.build_dir(), "faults", name)
    if not os.path.exists(out):                          # run without make
        subprocess.run(["make", "-s", "BUILD=" + paths.build_dir(), out], cwd=paths.ROOT, check=True)
    return out


@fault(own=True)
def self_judge(run):
    """the judge: made-up histories and answers, right and wrong"""
    v = run.verdict
    entries = [Entry("00000000000000aa-%d-1|%s" % (n, "u1/r0" if n % 2 else ""), t * NS, t * NS)
               for n, t in ((1, 0), (2, 10), (3, 20))]
    history = oracle.History(entries)
    for sent, status, good in ((5, 200, True), (5, 403, False), (12, 200, True), (12, 403, True), (14.9, 200, True),
                               (15.1, 200, False), (15.1, 403, True), (15.1, 503, True), (24, 403, True),
                               (26, 403, False)):
        probe = Probe(int(sent * NS), int(sent * NS), 0, "auth", "u1", "r0", status)
        v.that((history.judge(probe, 5 * NS) is None) == good, "at %s: %d" % (sent, status))
    wrong = Probe(12 * NS, 12 * NS, 0, "auth", "u1", "r0", 200, ("00000000000000aa", 2))
    v.that(history.judge(wrong, 5 * NS) is not None, "an allow by a revision that denies")
    back = [Probe(t * NS, t * NS + 1, 0, "auth", "u1", "r0", 200, ("00000000000000aa", n))
            for t, n in ((21, 3), (22, 1))]
    v.that(len(history.monotonic(back)) == 1, "a node went back")
    v.that(history.monotonic(back[::-1][1:]) == [], "one answer goes nowhere")


def in_memory(load, users):
    """Everybody was decided about since the last change: who is not in memory would wait for ever."""
    since = boot_ns()

    def all_decided():
        return {p.user for p in load.probes() if p.sent > since and p.status in (200, 403)} >= set(users)
    if not proc.wait_until(all_decided, 30, 0.1):
        raise RuntimeError("not everybody was decided about")


@fault(own=True, preload=True)
def self_clock(run):
    """a node whose clock stands still, so that its lease never ends, is found out"""
    flag = os.path.join(paths.build_dir(), "faults", "stopped-%d" % os.getpid())
    env = {"LD_PRELOAD": built("clock_stop.so"), "POSTERN_CLOCK_STOP": flag}
    with Fleet(nodes=1, redis=False, bound=1, env=env) as fleet:
        inner = Run(fleet, False)
        inner.verdict = Verdict("stopped clock")
        try:
            with inner.load() as load:
                load.quiet.set()
                time.sleep(1.0)
                in_memory(load, fleet.users)
                open(flag, "w", encoding="ascii").close()
                fleet.links[0]["pg"].partition()
                for user in fleet.users:
                    fleet.writer.change("revoke", user)
                time.sleep(inner.past_bound(1.0))
                inner.over()
            inner.judge(load)
        finally:
            os.unlink(flag)
            fleet.kill_node(fleet.nodes[0])              # it would drain until its clock says that it is late
        found = [b for b in inner.verdict.broken if b.startswith("I1")]
        run.verdict.notes["violations_found"] = len(inner.verdict.broken)
        run.verdict.that(found, "nobody noticed: %s" % inner.verdict.broken)
