#!/usr/bin/env python3
"""System calls per request at saturation, counted by strace around an exact number of requests.

The generator opens and warms its connections, then holds; strace attaches to all threads of the
server; N requests run; strace detaches. So the counts hold nothing of set-up or tear-down, and are
free of the noise that CPU times have. epoll_wait is counted apart: how many it takes depends on how
many sockets are ready at once, not on what the server does. Everything else is one sum.

As a program: checks the goals (4.1 for a proxied request, 2.1 for an auth_request answer) with a
Postern of its own.   syscalls.py [--build DIR]     exit code 0 met, 1 not met, 2 not measured
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile

import measure
import servers
from measure import BenchError

COUNT = 20000
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "restart_syscall"}
GOALS = {"proxied": 4.1, "answer": 2.1}


def attach(pids, output):
    """strace on every thread of the processes, once it says that it has them all."""
    threads = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)
    command = ["strace", "-c", "-f", "-o", output, *(f"-p{pid}" for pid in pids)]
    try:
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise BenchError("strace is not installed") from None
    attached = 0
    for line in tracer.stderr:
        found = re.search(r"attached(?: with (\d+) threads)?", line)
        if found is None:
            tracer.terminate()
            raise BenchError(f"strace: {line.strip()}")
        attached += int(found.group(1) or 1)
        if attached >= threads:
            return tracer
    tracer.wait()
    raise BenchError("strace ended before it had attached")


def read_counts(output):
    """{system call: count} of a summary of strace -c."""
    counts = {}
    with open(output, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                counts[words[-1]] = int(words[3])
    if not counts:
        raise BenchError("strace counted nothing")
    return counts


def count_syscalls(tool, server, requests, directory, count=COUNT):
    """{per_request, waits_per_request, calls: {name: per request}}"""
    output = os.path.join(directory, "strace.out")
    with measure.Load(tool, server.port, requests, ["--count", str(count)]) as load:
        tracer = attach(measure.descendants(server.pid), output)
        try:
            result = load.go()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
            tracer.stderr.close()
    calls = {name: number / result["requests"] for name, number in read_counts(output).items()}
    return {"per_request": sum(n for name, n in calls.items() if name not in WAITS),
            "waits_per_request": sum(n for name, n in calls.items() if name in WAITS),
            "calls": dict(sorted(calls.items(), key=lambda item: -item[1]))}


def describe(counts):
    return ", ".join(f"{name} {number:.3f}" for name, number in counts["calls"].items()
                     if number >= 0.0005)


def main():
    parser = argparse.ArgumentParser(description="system calls per request of Postern, gated")
    parser.add_argument("--build", default="build/release", help="build directory")
    arguments = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    build = os.path.abspath(arguments.build)
    tools = os.path.join(build, "bench", "tools")
    started, missed = [], False
    with tempfile.TemporaryDirectory(prefix="postern-syscalls-") as directory:
        try:
            issuer = servers.Issuer(directory)
            requests = servers.write_requests(directory, issuer)
            upstream = servers.start_tool(tools, "responder", "0", directory=directory,
                                          core=measure.GENERATOR_CORE)
            started.append(upstream)
            postern = servers.Postern("postern", root, os.path.join(build, "postern"), directory,
                                      issuer, upstream.port)
            started.append(postern)
            for name, kind in (("proxied", "proxy"), ("answer", "auth")):
                counts = count_syscalls(os.path.join(tools, "load"), postern.face(kind),
                                        requests[kind], directory)
                verdict = "ok" if counts["per_request"] <= GOALS[name] else "TOO MANY"
                missed |= verdict != "ok"
                print(f"system calls per {name} request: {counts['per_request']:.3f} (at most "
                      f"{GOALS[name]}) {verdict}: {describe(counts)}")
        except BenchError as error:
            print(f"system calls not counted: {error}", file=sys.stderr)
            return 2
        finally:
            for server in reversed(started):
                server.stop()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
