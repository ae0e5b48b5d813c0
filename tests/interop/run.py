#!/usr/bin/env python3
"""`make interop`: the outside world. Each program is a scenario of its own; closes with `N passed, N failed`.

What cannot be installed or started is a failed test that says so."""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from lib import paths  # noqa: E402

SCENARIOS = ("test_mlflow.py", "test_mage.py")
LIMIT = 1100     # seconds, an installation from PyPI included


def scenario(name):
    """(passed, failed) of one program; its output is passed on as it comes."""
    child = subprocess.Popen([sys.executable, os.path.join(HERE, name)], stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
    signal.alarm(LIMIT)
    last = ""
    for line in child.stdout:
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ passed, \d+ failed", line) else last
    code = child.wait()
    signal.alarm(0)
    m = re.search(r"(\d+) passed, (\d+) failed", last)
    if not m:
        print("FAIL  %s: ended with %d and without a total" % (name, code))
        return 0, 1
    failed = int(m[2])
    return int(m[1]), failed if failed or code == 0 else 1


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default="build/release")
    p.add_argument("--only", nargs="*", default=SCENARIOS)
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="postern-interop-", ignore_cleanup_errors=True) as left:
        os.environ["TMPDIR"] = left     # what the programs leave among temporary files goes with them
        for name in a.only:
            print("== %s" % name, flush=True)
            p, f = scenario(name)
            passed, failed = passed + p, failed + f
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    assert paths.ROOT
    sys.exit(main())
