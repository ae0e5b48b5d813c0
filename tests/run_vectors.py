#!/usr/bin/env python3
"""Runs every vector suite on a folder of case files and prints what passed, failed and does not apply yet.

    run_vectors.py --build build/release --dir tests/vectors

The suites build/BUILD/suites/*/suite_* are programs that take the folder; the HTTP cases have a runner in Python,
because they need sockets on both sides. A file that the folder lacks is named as absent."""
import argparse
import collections
import concurrent.futures
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import paths  # noqa: E402

EXPECTED = ["http_cases.json", "jwt_cases.json", "wycheproof", "mage_cases.json", "mage_policies.json",
            "mage_default_roles.json", "mlflow_cases.json", "mlflow_routes.json"]
LIMIT = 300
TOTALS = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) not applicable)?")
OF_FILE = re.compile(r"^(\S+): (\d+) passed, (\d+) failed, \d+ not applicable \((.*)\)$")


def totals(text):
    """(passed, failed) of the closing lines; of lines that name a file where there are any, else the last line."""
    lines = [line for line in text.splitlines() if TOTALS.search(line)]
    closing = [line for line in lines if line.startswith("suite ")]
    counted = closing[-1:] or lines[-1:]
    passed = failed = 0
    for line in counted:
        m = TOTALS.search(line)
        passed, failed = passed + int(m[1]), failed + int(m[2])
    return (passed, failed) if counted else None


class Files:
    """The totals of each file, which more than one suite may read."""

    def __init__(self):
        self.rows = {}

    def take(self, text):
        """What of a suite's text is no total of a file."""
        rest = []
        for line in text.splitlines():
            m = OF_FILE.match(line)
            if m is None:
                if not line.startswith("suite ") or not TOTALS.search(line):
                    rest.append(line)
                continue
            row = self.rows.setdefault(m[1], [0, 0, collections.Counter()])
            row[0], row[1] = row[0] + int(m[2]), row[1] + int(m[3])
            for reason in m[4].split(", ") if m[4] != "none" else ():
                why, _, number = reason.rpartition(": ")
                row[2][why] += int(number)
        return "\n".join(rest).strip()

    def lines(self):
        for name, (passed, failed, absent) in sorted(self.rows.items()):
            reasons = ", ".join("%s: %d" % pair for pair in sorted(absent.items())) or "none"
            yield "%s: %d passed, %d failed, %d not applicable (%s)" % (name, passed, failed, sum(absent.values()), reasons)


def run_one(argv, name):
    """(text, passed, failed): a program that prints no total, is killed or lies about its status has failed."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=LIMIT * paths.slack(), stdin=subprocess.DEVNULL, cwd=paths.ROOT)
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as e:
        text = (e.stdout or b"").decode("utf-8", "replace") if isinstance(e.stdout, bytes) else (e.stdout or "")
        text, code = text + "\n%s: no end after %d s" % (name, LIMIT * paths.slack()), -1
    found = totals(text)
    if found is None:
        return text + "\nsuite %s: printed no total (exit status %d)" % (name, code), 0, 1
    passed, failed = found
    if code != 0 and failed == 0:
        return text + "\nsuite %s: exit status %d" % (name, code), passed, 1
    return text, passed, failed


def run(build, folder):
    """(passed, failed) over all suites; prints their lines."""
    os.environ["POSTERN_BUILD"] = os.path.abspath(build)
    folder = os.path.abspath(folder)
    absent = [name for name in EXPECTED if not os.path.exists(os.path.join(folder, name))]
    for name in absent:
        print("%s: absent from %s" % (name, folder))
    if len(absent) == len(EXPECTED):
        print("there is no case in %s" % folder)
        return 0, 1
    jobs = [([p, folder], os.path.relpath(p, os.path.join(build, "suites")))
            for p in sorted(glob.glob(os.path.join(build, "suites", "*", "suite_*"))) if os.access(p, os.X_OK)]
    if os.path.exists(os.path.join(folder, "http_cases.json")):
        runner = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_http_cases.py")
        jobs.append(([sys.executable, runner, "--build", build, "--dir", folder], "http_cases"))
    passed = failed = 0
    files = Files()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for text, p, f in pool.map(lambda job: run_one(*job), jobs):
            said = files.take(text)
            if said:
                print(said, flush=True)
            passed, failed = passed + p, failed + f
    for line in files.lines():
        print(line)
    if not files.rows:
        print("no suite has counted anything: are they built?")
        failed += 1
    return passed, failed


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/release")
    p.add_argument("--dir", default=paths.VECTORS)
    a = p.parse_args()
    if not os.path.isdir(a.dir):
        print("no folder %s" % a.dir)
        return 1
    passed, failed = run(os.path.abspath(a.build), a.dir)
    print("vectors: %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
