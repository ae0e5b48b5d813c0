"""What a server costs: its CPU clock around a counted load, and whether the machine let us see it.

The figure is the CPU time of all processes of the server (user and kernel, nanoseconds) divided by
the answers that the generator counted. Wall-clock throughput says who was faster on an idle
machine; CPU per request also tells it when the generator is the bottleneck.
"""
import json
import math
import os
import random
import statistics
import subprocess
import time

SERVER_CORE = 0
GENERATOR_CORE = 1
BUSY_LIMIT = 1.12      # busy time of the server's core / CPU of the server: more means company
WIDTH_LIMIT = 0.10     # of the interval in which the median of a ratio is, over that median
IDLE_SHARE = 0.90      # of both cores, before a round starts
IDLE_WAIT_S = 20       # before one round
IDLE_BUDGET_S = 180    # of all waiting in one bench: on a machine that is never idle it still ends
TURN_MS = 200          # one server, before the next one's turn
SPARE_ROUNDS = 4       # of one comparison, for those in which somebody had company
CONNECTIONS = 64
WARMUP = 10 * CONNECTIONS   # answers before each count
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
    """The generator with its connections, held before and after what is counted.

    with Load(...) as load:      # connections are open and warm, nothing is under way
        result = load.go()       # the counted part
        load.again()             # warm once more, for another one
    """

    def __init__(self, tool, port, requests, amount, warmup=WARMUP, connections=CONNECTIONS):
        self.command = [tool, "--hold", "--connections", str(connections), "--warmup", str(warmup),
                        *amount, str(port), requests]
        self.process = None

    def open(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        preexec_fn=pinned(GENERATOR_CORE))
        self.expect("ready\n")

    def expect(self, wanted=None):
        line = self.process.stdout.readline()
        if not line or line != (wanted or line):
            raise BenchError(f"the generator ended: {self.process.communicate()[1].strip()}")
        return line

    def tell(self, word):
        self.process.stdin.write(word)
        self.process.stdin.flush()

    def again(self):
        self.tell("again\n")
        self.expect("ready\n")

    def go(self):
        self.tell("go\n")
        line = self.expect()
        result = json.loads(line)
        if result["errors"] or not result["requests"]:
            raise BenchError(f"bad answers under load: {line.strip()}")
        return result

    def close(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        self.process = None

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()


class Subject:
    """A server under test and the generator that drives it."""

    def __init__(self, tool, server, requests):
        self.server = server
        self.load = Load(tool, server.port, requests, ["--ms", str(TURN_MS)])

    def turn(self):
        """One turn. What fails is tried again with new connections, twice at most."""
        for left in (2, 1, 0):
            try:
                return self.count()
            except BenchError:
                self.load.close()
                if left == 0:
                    raise

    def count(self):
        """What the generator says of one turn, with the CPU clock (ns) of the server and the busy
        ticks of its core."""
        if self.load.process is None:
            self.load.open()
        else:
            self.load.again()
        pids = descendants(self.server.pid)
        busy, cpu = core_ticks(SERVER_CORE)[0], cpu_ns(pids)
        result = self.load.go()
        cpu, busy = cpu_ns(pids) - cpu, core_ticks(SERVER_CORE)[0] - busy
        for path in self.server.access_logs:  # or it goes to the disk while others are measured
            os.truncate(path, 0)
        return {**result, "cpu_ns": cpu, "busy_ticks": busy}


def add_up(turns, idle):
    """A round of one server: CPU per request in us, and how far to believe it."""
    total = {key: sum(turn[key] for turn in turns)
             for key in ("requests", "reopened", "seconds", "cpu_ns", "busy_ticks")}
    cpu, busy = total["cpu_ns"] / 1e9, total["busy_ticks"] / os.sysconf("SC_CLK_TCK")
    return {
        "us_per_request": cpu * 1e6 / total["requests"],
        "requests_per_s": total["requests"] / total["seconds"],
        "utilization": cpu / total["seconds"],
        "busy_ratio": busy / cpu,
        "p50_us": statistics.median(turn["p50_us"] for turn in turns),
        "p99_us": statistics.median(turn["p99_us"] for turn in turns),
        "reopened": total["reopened"],
        "clean": idle and busy <= BUSY_LIMIT * cpu,
    }


def measure_round(subjects, count):
    """{name: run}, {name: why there is none}: every server `count` turns, in another order each
    time, so that what slows the machine for a second slows all of them."""
    turns, failures = {name: [] for name in subjects}, {}
    idle = wait_for_idle()
    for _ in range(count):
        for name in random.sample(list(turns), len(turns)):
            try:
                turns[name].append(subjects[name].turn())
            except BenchError as error:
                failures[name] = str(error)
                del turns[name]
    return {name: add_up(taken, idle) for name, taken in turns.items()}, failures


def measure_in_turns(tool, servers, rounds, seconds, say):
    """{name: [run per round]}, {name: why there is none}.

    A round in which somebody had company on the core is taken again by all, as long as there are
    spare ones; then what was not alone stays marked. A server that fails is left out, the rest goes on."""
    subjects = {name: Subject(tool, *server) for name, server in servers.items()}
    runs, failed, spare = {name: [] for name in servers}, {}, SPARE_ROUNDS
    number = 1
    while number <= rounds and subjects:
        taken, failures = measure_round(subjects, max(1, round(seconds * 1000 / TURN_MS)))
        for name, why in failures.items():
            say(f"  round {number}: {name:<22} FAILED: {why}")
            del subjects[name]         # its generator has ended
        failed.update(failures)
        for name, run in taken.items():
            say(f"  round {number}: {name:<22} {run['us_per_request']:7.2f} us/request "
                f"{run['requests_per_s'] / 1000:6.1f} k/s  core {run['utilization']:.2f} "
                f"p99 {run['p99_us']:.0f} us{'' if run['clean'] else '  (not alone on the core)'}")
        if spare > 0 and not all(run["clean"] for run in taken.values()):
            spare -= 1
            continue
        for name, run in taken.items():
            runs[name].append({**run, "round": number})
        number += 1
    for subject in subjects.values():
        subject.load.close()
    return {name: taken for name, taken in runs.items() if name not in failed}, failed


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def counted(runs):
    """The runs that count and a sentence when they do not suffice. Three clean ones suffice."""
    clean = [run for run in runs if run["clean"]]
    if len(clean) < min(3, len(runs)):
        return runs, f"only {len(clean)} of {len(runs)} runs were alone on the core"
    return clean, None


def interval(values):
    """(low, high) between which the median of all rounds that this hour could give is, in at least
    95 of 100 cases, whatever the noise looks like, if one round does not depend on another: by how
    likely so many of the values are all on one side of it. None: too few."""
    values, count = sorted(values), len(values)
    tail, cut = 0.0, 0
    while cut < count and tail + math.comb(count, cut) / 2 ** count <= 0.025:
        tail += math.comb(count, cut) / 2 ** count
        cut += 1
    return (values[cut - 1], values[-cut]) if cut else None


def ratio(over, under):
    """The ratio of two servers, round by round, so that what slows a round slows both sides.

    {median, min, max, interval, noisy}: noisy says why the figure must not be quoted, or is absent;
    interval is absent where nothing is sure."""
    over, over_why = counted(over)
    under, under_why = counted(under)
    by_round = {run["round"]: run["us_per_request"] for run in under}
    ratios = [run["us_per_request"] / by_round[run["round"]]
              for run in over if run["round"] in by_round]
    if not ratios:
        raise BenchError("no round in which both sides ran alone")
    result = summary(ratios)
    company = [why for why in (over_why, under_why) if why]
    sure = interval(ratios)
    if company:
        result["noisy"] = "; ".join(company)
    elif sure is None:
        result["noisy"] = f"{len(ratios)} rounds do not tell the noise"
    else:
        result["interval"] = sure
        if sure[1] - sure[0] > WIDTH_LIMIT * result["median"]:
            result["noisy"] = f"all that is sure is {sure[0]:.3g} - {sure[1]:.3g}"
    return result
