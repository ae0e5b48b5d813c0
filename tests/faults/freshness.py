#!/usr/bin/env python3
"""`make freshness`: every fault whole, the nemesis, the figures; build/freshness/results.json says how it went.

    freshness.py [--build DIR] [--seed N] [--quick] [faults|nemesis|latency|reads|wrong|misses|stream|large ...]

Some parts alone keep the other figures that results.json has. --quick: a tenth of everything, to see that it works."""
import argparse
import json
import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, HERE)
import measure  # noqa: E402
import measure_large  # noqa: E402
import nemesis  # noqa: E402
import run  # noqa: E402
from harness import FAULTS  # noqa: E402

PARTS = ("faults", "nemesis", "latency", "reads", "wrong", "misses", "stream", "large")
LIMITS = {"with_redis_p99_ms": 100, "without_redis_p99_ms": 1000, "nemesis_max_ms": 5000, "idle_log_reads": 0,
          "busy_log_reads_per_s": 0.4, "wrong_user": 0, "miss_cpu_ratio": 1.3, "change_stream_ratio": 1.1,
          "user_change_ms": 10, "role_change_ms": 10, "turn_cpu_ms": 5, "whole_change_ms": 2500, "cold_start_ms": 1000,
          "invariant_violations": 0}


def part(name, a, figures):
    few = 10 if a.quick else 1
    if name == "faults":
        passed, failed = run.beside(sorted(FAULTS), a.quick, a.seed)
        figures.update(faults_passed=passed, faults_failed=failed)
    elif name == "nemesis":
        verdict, found = nemesis.storm(a.seed, 180 // few)
        for text in verdict.broken:
            print("FAIL  " + text)
        figures.update(nemesis_max_ms=found["nemesis_max_ms"], nemesis_seed=a.seed, nemesis_broken=len(verdict.broken))
    else:
        figures.update({"latency": lambda: measure.latency(1000 // few),
                        "reads": lambda: measure.reads(100 // few, 60 // few),
                        "wrong": lambda: measure.wrong_user(1000000 // few, a.seed),
                        "misses": lambda: measure.misses(100000 // few, 5000 // few),
                        "stream": lambda: measure.change_stream(1000, 2 if a.quick else 7),
                        "large": lambda: measure_large.large(1000000 // few, 100000 // few)}[name]())


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default=os.environ.get("POSTERN_BUILD", os.path.join("build", "release")))
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 30))
    p.add_argument("--quick", action="store_true")
    p.add_argument("parts", nargs="*", default=[])
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    print("seed %d" % a.seed, flush=True)
    path, figures = os.path.join(measure.folder(), "results.json"), {}
    if a.parts and os.path.exists(path):
        with open(path, encoding="ascii") as f:
            figures = json.load(f)
    for name in a.parts or PARTS:
        print("== %s" % name, flush=True)
        began = time.monotonic()
        part(name, a, figures)
        figures.setdefault("seconds", {})[name] = round(time.monotonic() - began)
        figures["invariant_violations"] = figures.get("faults_failed", 0) + figures.get("nemesis_broken", 0)
        with open(path, "w", encoding="ascii") as f:
            json.dump(figures, f, indent=1, sort_keys=True)
            f.write("\n")
    print(json.dumps(figures, indent=1, sort_keys=True))
    over = [k for k, limit in LIMITS.items() if figures.get(k, 0) > limit] + \
        ["wrong_user_broken"] * bool(figures.get("wrong_user_broken"))
    print("over the limit: " + ", ".join(over) if over else "all within their limits")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
