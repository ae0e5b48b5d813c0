"""What a server costs: its CPU clock around a counted load, and whether the machine let us see it.

The figure is the CPU time of all processes of the server (user and kernel, nanoseconds) divided by
the answers that the generator counted. Wall-clock throughput says who was faster on an idle
machine; CPU per request also tells it when the generator is the bottleneck.
"""
import json
import os
import statistics
import subprocess
import time

SERVER_CORE = 0
GENERATOR_CORE = 1
BUSY_LIMIT = 1.12      # busy time of the server's core / CPU of the server: more means company
SPREAD_LIMIT = 0.10    # (max - min) / median over the rounds of one server
IDLE_SHARE = 0.90      # of both cores, before a round starts
IDLE_WAIT_S = 20       # before one run
IDLE_BUDGET_S = 180    # of all waiting in one bench: on a machine that is never idle it still ends
NICE = -10


class BenchError(Exception):
    """A figure that cannot be had, and why."""


def pinned(core):
    """A preexec_fn that pins the child to a core and, where allowed, puts it before others."""
    def prepare():
        os.sched_setaffinity(0, {core})
        try:
            os.nice(NICE)
        except PermissionError:
            pass
    return prepare


def descendants(pid):
    """The process and all below it: nginx works in a child of the process that was started."""
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found.append(at)
        try:
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children", encoding="ascii") as file:
                    todo.extend(int(child) for child in file.read().split())
        except FileNotFoundError:
            pass
    return found


def cpu_ns(pids):
    """CPU time of whole processes in ns. The clock id is what clock_getcpuclockid(3) computes:
    the complement of the pid in the upper bits, 2 (= the scheduler's clock) in the lower three."""
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def core_ticks(core):
    """(busy, all) clock ticks of a core since boot; stolen time counts as busy."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"cpu{core} "):
                ticks = [int(word) for word in line.split()[1:9]]
                return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    raise BenchError(f"/proc/stat has no cpu{core}: the bench needs two cores")


_waited_s = 0.0


def wait_for_idle():
    """True when both cores were idle for a fifth of a second, False when that never came."""
    global _waited_s
    start = time.monotonic()
    deadline = start + min(IDLE_WAIT_S, max(0.0, IDLE_BUDGET_S - _waited_s))
    while True:
        before = [core_ticks(core) for core in (SERVER_CORE, GENERATOR_CORE)]
        time.sleep(0.2)
        after = [core_ticks(core) for core in (SERVER_CORE, GENERATOR_CORE)]
        shares = [1 - (b[0] - a[0]) / max(1, b[1] - a[1]) for a, b in zip(before, after)]
        if min(shares) >= IDLE_SHARE or time.monotonic() > deadline:
            _waited_s += time.monotonic() - start
            return min(shares) >= IDLE_SHARE


class Load:
    """One run of the generator, held between its warm-up and its result.

    with Load(...) as load:      # connections are open and warm, nothing is under way
        result = load.go()       # the counted part
    """

    def __init__(self, tool, port, requests, amount, warmup=6400, connections=64):
        self.command = [tool, "--hold", "--connections", str(connections), "--warmup", str(warmup),
                        *amount, str(port), requests]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        preexec_fn=pinned(GENERATOR_CORE))
        if self.process.stdout.readline() != "ready\n":
            why = self.process.communicate()[1].strip()
            raise BenchError(f"the generator could not warm up: {why}")
        return self

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the generator ended: {self.process.communicate()[1].strip()}")
        result = json.loads(line)
        if result["errors"] or not result["requests"]:
            raise BenchError(f"bad answers under load: {line.strip()}")
        return result

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def measure_once(tool, server, requests, seconds):
    """One run against one server: CPU per request in us, and how far to believe it."""
    idle = wait_for_idle()
    with Load(tool, server.port, requests, ["--seconds", str(seconds)]) as load:
        pids = descendants(server.pid)
        busy_before, cpu_before = core_ticks(SERVER_CORE)[0], cpu_ns(pids)
        result = load.go()
        cpu = (cpu_ns(pids) - cpu_before) / 1e9
        busy = (core_ticks(SERVER_CORE)[0] - busy_before) / os.sysconf("SC_CLK_TCK")
    for path in server.access_logs:     # or it goes to the disk while the next one is measured
        os.truncate(path, 0)
    return {
        "us_per_request": cpu * 1e6 / result["requests"],
        "requests_per_s": result["requests"] / result["seconds"],
        "utilization": cpu / result["seconds"],
        "busy_ratio": busy / cpu,
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "reopened": result["reopened"],
        "clean": idle and busy <= BUSY_LIMIT * cpu,
    }


def measure_in_turns(tool, servers, rounds, seconds, say):
    """{name: [run per round]}: every server once a round, the order reversed in every other one.

    A run that failed, or had company on its core, is taken again, twice at most; then it stays
    marked. A server that fails three times in a row is left out, and the rest goes on."""
    runs = {name: [] for name in servers}
    failures = {}
    for number in range(rounds):
        names = [name for name in servers if name not in failures]
        for name in names if number % 2 == 0 else reversed(names):
            server, requests = servers[name]
            run = None
            for _ in range(3):
                try:
                    run = measure_once(tool, server, requests, seconds)
                except BenchError as error:
                    say(f"  round {number + 1}: {name:<22} FAILED: {error}")
                    failures[name] = str(error)
                    continue
                if run["clean"]:
                    break
            if run is None:
                continue
            failures.pop(name, None)
            runs[name].append({**run, "round": number + 1})
            say(f"  round {number + 1}: {name:<22} {run['us_per_request']:7.2f} us/request "
                f"{run['requests_per_s'] / 1000:6.1f} k/s  core {run['utilization']:.2f} "
                f"p99 {run['p99_us']:.0f} us{'' if run['clean'] else '  (not alone on the core)'}")
    return {name: taken for name, taken in runs.items() if name not in failures}, failures


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def counted(runs):
    """The runs that count and a sentence when they do not suffice. Three clean ones suffice."""
    clean = [run for run in runs if run["clean"]]
    if len(clean) < min(3, len(runs)):
        return runs, f"only {len(clean)} of {len(runs)} runs were alone on the core"
    spread = summary([run["us_per_request"] for run in clean])
    share = (spread["max"] - spread["min"]) / spread["median"]
    if share > SPREAD_LIMIT:
        return clean, f"runs spread over {share * 100:.0f} % of their median"
    return clean, None


def ratio(over, under):
    """The ratio of two servers, round by round, so that what slows a round slows both sides.

    {median, min, max, noisy}: noisy says why the figure must not be quoted, or is absent."""
    over, over_why = counted(over)
    under, under_why = counted(under)
    by_round = {run["round"]: run["us_per_request"] for run in under}
    ratios = [run["us_per_request"] / by_round[run["round"]]
              for run in over if run["round"] in by_round]
    if not ratios:
        raise BenchError("no round in which both sides ran alone")
    result = summary(ratios)
    if over_why or under_why:
        result["noisy"] = "; ".join(why for why in (over_why, under_why) if why)
    return result
