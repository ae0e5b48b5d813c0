#!/usr/bin/env python3
"""`make test`: unit tests, vector suites, integration tests and models of one build; closes with `N passed, N failed`.

One PostgreSQL, with pgbouncer before it, serves the unit tests of the whole run, each in a database of its own.
Unit tests and then the models run two at a time, and beside them two of the integration files, which wait for most
of their time; those that measure (memory, system calls, time) run alone behind all others."""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from lib import paths, postgres  # noqa: E402
import run_vectors  # noqa: E402
import vectors_sync  # noqa: E402

UNIT_LIMIT = 180
FILE_LIMIT = 240
MODEL_LIMIT = 300
FAULTS_LIMIT = 300
ALONE = {"test_stream.py", "test_syscalls.py", "test_apply_live.py", "test_reload.py"}
LONG = ("test_streams.py", "test_postgres.py", "test_fleet.py")     # begun first, so that none is left over
CMOCKA = re.compile(r"^\[  (PASSED|FAILED)  \] (\d+) test", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.M)
TOTAL = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)
BAD_LINE = re.compile(r"FAIL|ERROR|rror:|^       [^ ~^]|exit status|no end after|Sanitizer|Expired")
UNITTEST_BAD = re.compile(r"^FAILED \((.*)\)$", re.M)


class Result:
    def __init__(self, name, passed, failed, text, seconds):
        self.name, self.passed, self.failed, self.text, self.seconds = name, passed, failed, text, seconds


def execute(argv, limit):
    """(exit status or None on timeout, text). The child has a session of its own, and on timeout that is ended."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                             cwd=paths.ROOT, start_new_session=True)
    try:
        text, _ = child.communicate(timeout=limit)
        return child.returncode, text.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        import signal
        os.killpg(child.pid, signal.SIGTERM)
        try:
            text, _ = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            text, _ = child.communicate()
        return None, text.decode("utf-8", "replace") + "\nno end after %d s" % limit


def unit(path):
    began = time.monotonic()
    code, text = execute([path], UNIT_LIMIT * paths.slack())
    counts = {"PASSED": 0, "FAILED": 0}
    for word, number in CMOCKA.findall(text):
        counts[word] += int(number)
    failed = counts["FAILED"]
    if code != 0 and not failed:
        failed, text = 1, text + "\nexit status %s" % code
    if code == 0 and not counts["PASSED"]:
        failed, text = 1, text + "\nno test was run"
    name = os.path.relpath(path, paths.build_dir())
    return Result(name, counts["PASSED"], failed, text, time.monotonic() - began)


def integration(path):
    began = time.monotonic()
    code, text = execute([sys.executable, "-m", "unittest", "-v", os.path.relpath(path, paths.ROOT)],
                         FILE_LIMIT * paths.slack())
    ran = UNITTEST.search(text)
    bad = UNITTEST_BAD.search(text)
    failed = sum(int(n) for n in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", bad[1])) if bad else 0
    # a skipped test has not passed: tests here do not skip
    failed += sum(int(n) for n in re.findall(r"skipped=(\d+)", text.splitlines()[-1] if text else ""))
    total = int(ran[1]) if ran else 0
    if (code != 0 or not total) and not failed:
        failed, text = 1, text + "\nexit status %s, %d tests" % (code, total)
    return Result("integration/" + os.path.basename(path), max(0, total - failed), failed, text,
                  time.monotonic() - began)


def models():
    """They know nothing of the build, and use both processors themselves."""
    began = time.monotonic()
    code, text = execute([sys.executable, os.path.join(HERE, "model", "run.py")], MODEL_LIMIT)
    total = TOTAL.search(text)
    passed, failed = (int(total[1]), int(total[2])) if total else (0, 0)
    if (code != 0 or not passed) and not failed:
        failed, text = 1, text + "\nexit status %s" % code
    return Result("models", passed, failed, text, time.monotonic() - began)


def faults():
    """The quick ones, on two fleets at a time."""
    began = time.monotonic()
    code, text = execute([sys.executable, os.path.join(HERE, "faults", "run.py"), "--short"],
                         FAULTS_LIMIT * paths.slack())
    total = TOTAL.search(text)
    passed, failed = (int(total[1]), int(total[2])) if total else (0, 0)
    if (code != 0 or not passed) and not failed:
        failed, text = 1, text + "\nexit status %s" % code
    return Result("faults", passed, failed, text, time.monotonic() - began)


def show(result):
    text = "%-52s %4d passed, %d failed  %5.1f s\n" % (result.name, result.passed, result.failed, result.seconds)
    if result.failed:
        text += "%s\n--- end of %s\n" % (result.text.strip()[-12000:], result.name)
    sys.stdout.write(text)      # in one piece: two threads show
    sys.stdout.flush()


def reasons(text):
    """The lines that say what went wrong; of a text that has none, all."""
    lines = text.strip().splitlines()
    return [line for line in lines if BAD_LINE.search(line)] or lines


def run_tests(build):
    units = sorted(f for f in glob.glob(os.path.join(build, "unit", "*", "test_*")) if not f.endswith(".d"))
    files = sorted(glob.glob(os.path.join(HERE, "integration", "test_*.py")),
                   key=lambda f: (os.path.basename(f) not in LONG, f))
    shared = [f for f in files if os.path.basename(f) not in ALONE]
    results = []

    def computing():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield from pool.map(unit, units)
        yield models()

    def waiting():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield from pool.map(integration, shared)

    def follow(some):
        for result in some:
            results.append(result)
            show(result)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for ended in [pool.submit(follow, some()) for some in (computing, waiting)]:
            ended.result()
    follow([faults()])
    follow(map(integration, [f for f in files if f not in shared]))
    return results


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default="build/release")
    a = p.parse_args()
    build = os.path.abspath(a.build)
    os.environ["POSTERN_BUILD"] = build
    began = time.monotonic()
    sys.argv = [sys.argv[0], "--check"]
    vectors_sync.main()

    with postgres.Postgres() as database:
        os.environ.update(database.environment())
        results = run_tests(build)

    print("vectors:", flush=True)
    passed, failed = run_vectors.run(build, paths.VECTORS)
    passed += sum(r.passed for r in results)
    failed += sum(r.failed for r in results)
    bad = [r for r in results if r.failed]
    for r in bad:                                   # again, where somebody looks first
        print("failed: %s\n%s" % (r.name, "\n".join("    " + line for line in reasons(r.text)[-20:])))
    print("%.0f s" % (time.monotonic() - began))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
