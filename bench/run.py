#!/usr/bin/env python3
"""make bench: Postern beside what it replaces, in one run on one machine.

    python3 bench/run.py --build build/release [--quick] [--rounds N] [--seconds S]

Prints a table with the goal beside each figure and writes build/bench/results.json. README.md
beside this file says how to read it. Exit code 0: everything was measured (whether or not a goal is
met), 1: a figure is missing, and the table says why.
"""
import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

import measure
import servers
import syscalls
from measure import BenchError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# key, what it says, unit, goal ("<=" or ">=" and a number) or None
FIGURES = [
    ("proxy_vs_nginx", "proxy / nginx proxy_pass without authorization", "x", ("<=", 0.75)),
    ("proxy_vs_relay", "proxy / bare epoll relay", "x", ("<=", 1.20)),
    ("proxy_vs_envoy_plain", "proxy / Envoy as a plain proxy", "x", None),
    ("envoy_rbac_vs_proxy", "Envoy jwt_authn + rbac / proxy", "x", (">=", 7.0)),
    ("envoy_rbac_vs_relay", "the same / bare relay: no proxy can be above it", "x", None),
    ("auth_request_vs_nginx", "auth_request / nginx return 200", "x", ("<=", 0.80)),
    ("auth_request_vs_responder", "auth_request / bare epoll responder", "x", ("<=", 1.20)),
    ("proxy_users_vs_proxy", "proxy, 100 users in turn / one hot user", "x", None),
    ("syscalls_per_proxied", "system calls per proxied request", "", ("<=", 4.1)),
    ("syscalls_per_answer", "system calls per auth_request answer", "", ("<=", 2.1)),
    ("permissions_1e6_vs_1e2", "decision at 10^6 / at 10^2 permissions", "x", ("<=", 1.5)),
    ("decision_ns", "decision alone", "ns", None),
    ("bytes_per_permission", "memory per permission", "B", None),
    ("rss_idle_mib", "resident memory, idle, 30,000 permissions", "MiB", None),
    ("rss_loaded_mib", "resident memory after the load", "MiB", None),
    ("rss_empty_mib", "resident memory, idle, empty store", "MiB", None),
    ("binary_bytes", "size of the binary, stripped", "B", None),
    ("start_ms", "start to /readyz, 30,000 permissions", "ms", None),
    ("start_empty_ms", "start to /readyz, empty store", "ms", None),
]

# key: (server over the line, server under it)
RATIOS = {
    "proxy_vs_nginx": ("postern", "nginx"),
    "proxy_vs_relay": ("postern", "relay"),
    "proxy_vs_envoy_plain": ("postern", "envoy_plain"),
    "envoy_rbac_vs_proxy": ("envoy_rbac", "postern"),
    "envoy_rbac_vs_relay": ("envoy_rbac", "relay"),
    "proxy_users_vs_proxy": ("postern_users", "postern"),
    "auth_request_vs_nginx": ("postern_auth", "nginx_return"),
    "auth_request_vs_responder": ("postern_auth", "responder"),
}


def say(text):
    print(text, flush=True)


class Bench:
    """One run: the servers that could be started, the figures that could be had, and why not."""

    def __init__(self, arguments):
        self.build = os.path.abspath(arguments.build)
        self.tools = os.path.join(self.build, "bench", "tools")
        self.load = os.path.join(self.tools, "load")
        self.binary = os.path.join(self.build, "postern")
        self.output = os.path.join(ROOT, "build", "bench")
        self.directory = os.path.join(self.output, "work")
        self.rounds = arguments.rounds or (2 if arguments.quick else 9)
        self.seconds = arguments.seconds or (1 if arguments.quick else 2)
        self.started = []
        self.failures = {}   # server or figure: why it is missing
        self.figures = {}    # key: number, {median, min, max, noisy} or an object by count
        self.runs = {}
        self.postern = None

    def attempt(self, name, action):
        """What the action gives, or None and a failure that is told at once and in the table."""
        try:
            return action()
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            self.failures[name] = str(error)
            say(f"FAILED {name}: {error}")
            return None

    def start(self, name, action):
        server = self.attempt(name, action)
        for one in server if isinstance(server, tuple) else (server,):
            if isinstance(one, servers.Server):
                self.started.append(one)
        return server

    def stop_all(self):
        for server in reversed(self.started):
            server.stop()

    # ---- servers side by side

    def start_servers(self):
        directory, tools = self.directory, self.tools
        issuer = servers.Issuer(directory)
        self.requests = servers.write_requests(directory, issuer)
        upstream = servers.start_tool(tools, "responder", "0", directory=directory,
                                      core=measure.GENERATOR_CORE)
        self.started.append(upstream)
        port = upstream.port
        self.issuer, self.upstream_port = issuer, port
        proxies, answers = {}, {}
        self.postern = self.start("postern", lambda: servers.Postern(
            "postern", ROOT, self.binary, directory, issuer, port))
        if self.postern:
            time.sleep(0.5)
            self.figures["rss_idle_mib"] = self.postern.resident_mib()
            proxies["postern"] = self.postern, self.requests["proxy"]
            proxies["postern_users"] = self.postern, self.requests["users"]
            answers["postern_auth"] = self.postern.face("auth"), self.requests["auth"]
        relay = self.start("relay", lambda: servers.start_tool(
            tools, "relay", "0", str(port), directory=directory))
        if relay:
            proxies["relay"] = relay, self.requests["proxy"]
        responder = self.start("responder", lambda: servers.start_tool(
            tools, "responder", "--empty", "0", directory=directory))
        if responder:
            answers["responder"] = responder, self.requests["auth"]
        nginx = self.start("nginx", lambda: servers.start_nginx(directory, port))
        if nginx:
            proxies["nginx"] = nginx[0], self.requests["proxy"]
            answers["nginx_return"] = nginx[1], self.requests["auth"]
        self.start_envoys(proxies)
        return proxies, answers

    def start_envoys(self, proxies):
        binary = self.attempt("envoy", lambda: servers.envoy_binary(ROOT))
        if binary is None:
            self.failures["envoy_plain"] = self.failures["envoy_rbac"] = self.failures["envoy"]
            return
        bearer = {"Authorization": f"Bearer {self.issuer.token(servers.HOT_ROLE)}"}
        for name, filters in (("envoy_plain", []),
                              ("envoy_rbac", servers.envoy_filters(self.issuer.jwks))):
            envoy = self.start(name, lambda name=name, filters=filters: servers.start_envoy(
                name, binary, self.directory, self.upstream_port, filters, bearer))
            if envoy:
                proxies[name] = envoy, self.requests["proxy"]

    # ---- figures

    def compare(self, title, group):
        say(f"\n{title}: {self.rounds} rounds of {self.seconds} s each, in turns of "
            f"{measure.TURN_MS} ms")
        runs, failures = measure.measure_in_turns(self.load, group, self.rounds, self.seconds, say)
        self.runs.update(runs)
        self.failures.update(failures)

    def compute_ratios(self):
        for key, (over, under) in RATIOS.items():
            missing = [name for name in (over, under) if name not in self.runs]
            if missing:
                self.failures[key] = "; ".join(
                    f"{name}: {self.failures.get(name, 'did not run')}" for name in missing)
            else:
                figure = self.attempt(key, lambda o=over, u=under: measure.ratio(
                    self.runs[o], self.runs[u]))
                if figure:
                    self.figures[key] = figure

    def count_syscalls(self):
        for key, kind in (("syscalls_per_proxied", "proxy"), ("syscalls_per_answer", "auth")):
            if self.postern is None:
                self.failures[key] = self.failures["postern"]
                continue
            counts = self.attempt(key, lambda kind=kind: syscalls.count_syscalls(
                self.load, self.postern.face(kind), self.requests[kind], self.directory))
            if counts:
                self.figures[key] = counts["per_request"]
                self.runs[key] = counts
                say(f"{key}: {counts['per_request']:.3f}: {syscalls.describe(counts)}")

    def measure_decision(self):
        """bench_eval prints `decision_ns COUNT NS` by number of permissions, and
        `bytes_per_permission N`."""
        program = os.path.join(self.build, "bench", "micro", "policy", "bench_eval")
        samples, sizes = {}, []
        for _ in range(self.rounds):
            measure.wait_for_idle()
            text = servers.run_tool("taskset", "-c", str(measure.SERVER_CORE), program).decode()
            for words in map(str.split, text.splitlines()):
                if len(words) == 3 and words[0] == "decision_ns":
                    samples.setdefault(str(int(float(words[1]))), []).append(float(words[2]))
                elif len(words) == 2 and words[0] == "bytes_per_permission":
                    sizes.append(float(words[1]))
        if not {"100", "1000000"} <= samples.keys() or not sizes:
            raise BenchError(f"bench_eval said nothing of 100 and 1000000 permissions: {text!r}")
        self.runs["decision_ns"] = samples
        self.figures["decision_ns"] = {n: statistics.median(v) for n, v in samples.items()}
        self.figures["bytes_per_permission"] = statistics.median(sizes)
        self.figures["permissions_1e6_vs_1e2"] = measure.summary(
            [big / small for big, small in zip(samples["1000000"], samples["100"])])

    def measure_starts(self):
        """Another Postern with the same policy, and one with an empty store, each started anew
        several times while nothing else runs."""
        times = {"start_ms": [], "start_empty_ms": []}
        for number in range(self.rounds):
            for key, policy in (("start_ms", True), ("start_empty_ms", False)):
                postern = servers.Postern(f"start-{number}", ROOT, self.binary, self.directory,
                                          self.issuer, self.upstream_port, policy=policy)
                times[key].append(postern.ready_s * 1000)
                if not policy:
                    time.sleep(0.3)
                    self.figures["rss_empty_mib"] = postern.resident_mib()
                postern.stop()
        for key, values in times.items():
            self.figures[key] = measure.summary(values)

    def measure_binary(self):
        stripped = os.path.join(self.directory, "postern.stripped")
        servers.run_tool("strip", "-o", stripped, self.binary)
        self.figures["binary_bytes"] = os.path.getsize(stripped)

    # ---- the whole run

    def run(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        try:
            proxies, answers = self.start_servers()
            self.compare("Proxied requests", proxies)
            self.compare("Answers without an upstream", answers)
            self.compute_ratios()
            if self.postern:
                self.figures["rss_loaded_mib"] = self.postern.resident_mib()
            say("")
            self.count_syscalls()
            self.attempt("decision_ns", self.measure_decision)
            if self.postern:
                self.attempt("start_ms", self.measure_starts)
                self.attempt("binary_bytes", self.measure_binary)
        finally:
            self.stop_all()
        self.write()
        return self.print_table()

    def write(self):
        results = {key: self.number(key) for key, *_ in FIGURES}
        results["spread"] = {key: value for key, value in self.figures.items()
                             if isinstance(value, dict) and "median" in value}
        results["us_per_request"] = {
            name: measure.summary([run["us_per_request"] for run in measure.counted(runs)[0]])
            for name, runs in self.runs.items() if isinstance(runs, list) and runs}
        results["failures"] = self.failures
        results["raw"] = self.runs
        results["run"] = {"rounds": self.rounds, "seconds": self.seconds,
                          "turn_ms": measure.TURN_MS, "connections": measure.CONNECTIONS,
                          "request_bytes": servers.REQUEST_BYTES,
                          "token_bytes": servers.TOKEN_BYTES,
                          "roles": servers.ROLES, "permissions_of_a_role": servers.PERMISSIONS,
                          "kernel": platform.release(), "cores": os.cpu_count(),
                          "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        path = os.path.join(self.output, "results.json")
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
        os.replace(path + ".new", path)

    def number(self, key):
        value = self.figures.get(key)
        return value["median"] if isinstance(value, dict) and "median" in value else value

    def verdict(self, key, goal):
        value = self.number(key)
        if value is None:
            why = self.failures.get(key) or self.failures.get("decision_ns") \
                if key.startswith(("decision", "bytes", "permissions")) else self.failures.get(key)
            return f"FAILED: {why or self.failures.get('postern', 'not measured')}"
        figure = self.figures[key] if isinstance(self.figures[key], dict) else {}
        noise = f"TOO NOISY TO COUNT: {figure['noisy']}" if "noisy" in figure else ""
        if goal is None or noise and "interval" not in figure:
            return noise
        low, high = figure.get("interval", (value, value))
        if low < goal[1] < high:
            return noise or f"{self.side(value, goal)}, but not surely: {low:.3g} - {high:.3g}"
        return self.side(value, goal) + (f" ({low:.3g} - {high:.3g})" if noise else "")

    @staticmethod
    def side(value, goal):
        return "met" if (value <= goal[1] if goal[0] == "<=" else value >= goal[1]) else "MISSED"

    def print_table(self):
        say(f"\n{'CPU per request':<24}{'median us':>10}{'min':>8}{'max':>8}{'k/s':>8}{'core':>6}")
        for name, runs in self.runs.items():
            if isinstance(runs, list) and runs:
                used, _ = measure.counted(runs)
                cost = measure.summary([run["us_per_request"] for run in used])
                say(f"{name:<24}{cost['median']:>10.2f}{cost['min']:>8.2f}{cost['max']:>8.2f}"
                    f"{statistics.median(r['requests_per_s'] for r in used) / 1000:>8.1f}"
                    f"{statistics.median(r['utilization'] for r in used):>6.2f}")
        say(f"\n{'figure':<52}{'median':>12}  {'min - max':<16}{'goal':<9}")
        for key, title, unit, goal in FIGURES:
            value = self.figures.get(key)
            if key == "decision_ns" and value:
                for count, ns in value.items():
                    say(f"{title + ', ' + count + ' permissions':<52}{ns:>9.1f} ns")
                continue
            spread = f"{value['min']:.3g} - {value['max']:.3g}" \
                if isinstance(value, dict) and "median" in value else ""
            text = "-" if value is None else f"{self.number(key):.10g}" \
                if unit == "B" else f"{self.number(key):.2f}"
            goal_text = f"{goal[0]} {goal[1]}" if goal else ""
            say(f"{title:<52}{text:>8} {unit:<3}  {spread:<16}{goal_text:<9}"
                f"{self.verdict(key, goal)}".rstrip())
        say(f"\nwritten: {os.path.relpath(os.path.join(self.output, 'results.json'))}")
        missing = [key for key, *_ in FIGURES if self.number(key) is None]
        if missing:
            say(f"{len(missing)} figures are missing: {', '.join(missing)}")
        return 1 if missing else 0


def main():
    parser = argparse.ArgumentParser(description="the comparisons of Postern")
    parser.add_argument("--build", default="build/release", help="build directory")
    parser.add_argument("--quick", action="store_true",
                        help="2 rounds of 1 s: to see that it runs, not to quote")
    parser.add_argument("--rounds", type=int, help="rounds of each group (9)")
    parser.add_argument("--seconds", type=int, help="seconds of each run (2)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))   # so that what was started is stopped
    if len(os.sched_getaffinity(0)) < 2:
        say("the bench needs two cores: one for the server, one for what drives it")
        return 1
    return Bench(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
