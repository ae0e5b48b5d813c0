#!/usr/bin/env python3
"""Injects faults into fleets and judges them: `--short` as in `make test`, else whole; or those that are named.

    python3 tests/faults/run.py [--short] [--build DIR] [--seed N] [F01 ...]"""
import argparse
import os
import random
import re
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, HERE)
from lib import paths  # noqa: E402
import harness  # noqa: E402
import faults_node  # noqa: E402,F401
import faults_postgres  # noqa: E402,F401
import faults_redis  # noqa: E402,F401
import selftest  # noqa: E402,F401
from harness import FAULTS, Run, Verdict  # noqa: E402
from lib.fleet import Fleet  # noqa: E402

TOTAL = re.compile(r"(\d+) passed, (\d+) failed")
PARTS = 2                 # fleets that run beside each other
STATEMENTS = ("shared_preload_libraries=pg_stat_statements",)


def make_fleet(full):
    fleet = Fleet(bound=5 if full else 1, settings=STATEMENTS)
    fleet.pg.sql("postern", "CREATE EXTENSION pg_stat_statements")
    return fleet


def one(fault, fleet, full, seed):
    """Runs a fault. A fleet that is no longer what it was is made anew by the caller."""
    verdict, began = Verdict(fault.id), time.monotonic()
    run = Run(fleet, full, seed)
    run.verdict = verdict
    try:
        fault.act(run)
    except Exception:
        verdict.that(False, traceback.format_exc())
    seconds = time.monotonic() - began
    print("%-6s %s  %5.1f s  %s  %s" % (fault.id, "FAIL" if verdict.broken else "pass", seconds, fault.text,
                                        " ".join("%s=%s" % (k, round(v, 2) if isinstance(v, float) else v)
                                                 for k, v in verdict.notes.items())), flush=True)
    for text in verdict.broken:
        print("       %s" % text, flush=True)
    return not verdict.broken


def settling_kib():
    """What grows with use at first is memory of the allocator: a leak in a run of minutes is more than that. A
    sanitizer keeps what was freed, up to 256 MiB; and looks for leaks by itself."""
    return 262144 if paths.sanitized() else 16384


def close(fleet):
    """What is only known at the end: I3, exit statuses, I4."""
    good = True
    sizes = harness.sizes(fleet)
    codes = fleet.stop_nodes()
    lost = harness.unlogged(fleet)
    if any(codes):
        good = False
        print("       I4: exit statuses %s" % codes, flush=True)
    if lost:
        good = False
        print("       I3: %d of %d requests reached the app without an allow in a decision log"
              % (len(lost), len(fleet.upstream.seen)), flush=True)
    for (fds, rss), (fds_before, rss_before) in zip(sizes, fleet.sizes):
        text = "%d files and %d KiB at first, %d and %d at last" % (fds_before, rss_before, fds, rss)
        if fds > fds_before * 1.05 + 12 or rss > rss_before * 1.05 + settling_kib():
            good = False
            text = "I4: " + text
        print("       " + text, flush=True)
    fleet.stop()
    return good


def series(names, full, seed):
    """(passed, failed) of faults one after the other, on one fleet for those that share."""
    passed, failed, fleet = 0, 0, None
    for name in names:
        fault = FAULTS[name]
        if fleet is None and not fault.own:
            fleet = make_fleet(full)
            fleet.sizes = harness.sizes(fleet)
        good = one(fault, None if fault.own else fleet, full, seed)
        if not good and not fault.own:
            good = close(fleet) and good                 # the next one shall not suffer
            fleet = None
        passed, failed = passed + good, failed + (not good)
    if fleet is not None:
        good = close(fleet)
        passed, failed = passed + good, failed + (not good)
        print("%-6s %s  nothing reached the app that no decision log allows; nothing leaks, nobody crashed"
              % ("I3 I4", "pass" if good else "FAIL"), flush=True)
    return passed, failed


def split(names, parts):
    """Deals out in turn, so that long and short ones mix."""
    return [p for p in (names[i::parts] for i in range(parts)) if p]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default=os.environ.get("POSTERN_BUILD", os.path.join("build", "release")))
    p.add_argument("--short", action="store_true")
    p.add_argument("--part", action="store_true", help="one fleet, in this process")
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 30))
    p.add_argument("faults", nargs="*")
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    names = a.faults or sorted(n for n, f in FAULTS.items() if (f.short or not a.short) and
                               not (f.preload and paths.sanitized()))
    unknown = [n for n in names if n not in FAULTS]
    if unknown:
        p.error("there is no fault " + ", ".join(unknown))
    if not a.part:
        print("seed %d" % a.seed, flush=True)
    passed, failed = series(names, not a.short, a.seed) if a.part else beside(names, a.short, a.seed)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


def beside(names, short, seed):
    """The parts as processes of their own, each with its interpreter and its fleet. What they say is told at once."""
    argv = [sys.executable, os.path.abspath(__file__), "--part", "--build", paths.build_dir(), "--seed", str(seed)]
    totals = []

    def follow(part):
        child = subprocess.Popen(argv + ["--short"] * short + part, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT)
        found = None
        for line in child.stdout:
            found = TOTAL.fullmatch(line.strip())
            if not found:
                print(line, end="", flush=True)
        child.wait()
        totals.append((int(found[1]), int(found[2])) if found else (0, 1))
    threads = [threading.Thread(target=follow, args=(part,)) for part in split(names, PARTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(p for p, _ in totals), sum(f for _, f in totals)


if __name__ == "__main__":
    sys.exit(main())
