"""What a fault is injected into: a fleet under questions and changes, and what must be true of it afterwards."""
import json
import os
import random
import re
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, paths, proc  # noqa: E402
from lib.fleet import RESOURCES, Upstream, boot_ns  # noqa: E402
import oracle  # noqa: E402
from oracle import NS, Probe  # noqa: E402

RECOVERY_S = 2.0          # I5
ANSWER_S = 3.0
REASON = re.compile(rb'(?:X-Postern-Reason: |"reason":")([a-z_-]+)')
FAULTS = {}               # id -> Fault


class Fault:
    """`short`: of `make test`, too. `own`: it starts what it needs. `preload`: it puts a library before the node's,
    where a sanitizer wants to be the first."""

    def __init__(self, act, short, own, preload):
        self.act, self.short, self.own, self.preload = act, short, own, preload
        self.id = name_of(act)
        self.text = act.__doc__.strip().split("\n")[0]


def name_of(act):
    """F08 of f08_partitions, SELF-CLOCK of self_clock."""
    words = act.__name__.upper().split("_")
    return "SELF-" + words[1] if words[0] == "SELF" else words[0]


def fault(short=True, own=False, preload=False):
    def take(act):
        FAULTS[name_of(act)] = Fault(act, short, own, preload)
        return act
    return take


def revision_of(text):
    """(epoch, n) of what a node tells, with or without its MAC; None: it tells none."""
    epoch, _, rest = text.decode("latin-1").partition("-")
    n = rest.partition(".")[0]
    return (epoch, int(n)) if len(epoch) == 16 and n.isdigit() else None


class Prober(threading.Thread):
    """Asks one door of one node, one question after the other, at a steady pace. The door "body" is the proxy's, asked by
    a body that comes after its head, sometimes longer than B after it: nobody is let in before it is there, but a
    disabled user is refused at the head."""

    def __init__(self, load, node, door, seed):
        super().__init__(daemon=True)
        self.load, self.node, self.door, self.dice = load, node, door, random.Random(seed)
        self.probes, self.sock, self.count, self.seed = [], None, 0, seed

    def question(self, user, resource):
        target = "/w/blue/things/%s?nonce=%d-%d" % (resource, self.seed, self.count)
        head = "Host: app.example\r\nAuthorization: Bearer %s\r\n" % self.load.fleet.tokens[user]
        if self.door == "body":
            return "POST /b/blue/things?nonce=%d-%d HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d" \
                "\r\n\r\n" % (self.seed, self.count, head, len(self.body(resource)))
        if self.door == "auth":
            return "GET /auth HTTP/1.1\r\n%sX-Original-URI: %s\r\nX-Original-Method: GET\r\n\r\n" % (head, target)
        return "GET %s HTTP/1.1\r\n%s\r\n" % (target, head)

    @staticmethod
    def body(resource):
        return b'{"id":"%s"}' % resource.encode()

    def hold(self):
        """Between the head and its body."""
        longest = 1.2 * self.load.fleet.bound if self.dice.random() < 0.1 else 0.05
        end = time.monotonic() + longest * self.dice.random()
        while time.monotonic() < end and not self.load.ended:
            time.sleep(0.005)

    def read(self):
        buf = b""
        while True:
            data = self.sock.recv(16384)
            if not data:
                raise OSError("closed")
            buf += data
            answer = http1.read_answer(buf)
            if answer and answer.complete:
                return answer

    def look(self, answer, user):
        """(revision, fault, reason) of an answer."""
        if answer.status != 200:
            reason = REASON.search(answer.head + answer.body)
            return None, None, reason and reason[1].decode()
        if self.door == "auth":
            if answer.value(b"x-postern-user") != user.encode():
                return None, "asked for %s, told %r" % (user, answer.value(b"x-postern-user")), None
            return revision_of(answer.value(b"x-postern-revision") or b""), None, None
        text, _, mark = answer.body.rpartition(b" ")
        words = text.split(b" ")
        if Upstream.sign(text) != mark or len(words) != 3:
            return None, "an answer that the app did not sign: %r" % answer.body[:80], None
        if words[0] != b"%d-%d" % (self.seed, self.count) or words[1] != user.encode():
            return None, "asked %d-%d for %s, got %r" % (self.seed, self.count, user, text), None
        return revision_of(words[2]), None, None

    def ask(self, user, resource):
        self.count += 1
        sent = boot_ns()
        try:
            if self.sock is None:
                door = "auth" if self.door == "auth" else "proxy"
                self.sock = http1.connect(self.load.fleet.nodes[self.node].address(door), ANSWER_S)
                sent = boot_ns()
            self.sock.sendall(self.question(user, resource).encode())
            if self.door == "body":
                self.hold()
                asked = boot_ns()
                self.sock.sendall(self.body(resource))
            answer = self.read()
            if self.door == "body" and answer.status == 200:
                sent = asked
        except OSError:
            if self.sock:
                self.sock.close()
            self.sock = None
            self.probes.append(Probe(sent, boot_ns(), self.node, self.door, user, resource, 0))
            time.sleep(0.02)
            return None
        came = boot_ns()
        self.probes.append(Probe(sent, came, self.node, self.door, user, resource, answer.status,
                                 *self.look(answer, user)))
        if (answer.value(b"connection") or b"").lower() == b"close":
            self.sock.close()
            self.sock = None
        return answer

    def run(self):
        load = self.load
        while not load.ended:
            began = time.monotonic()
            if load.users:                               # what was changed lately is where mistakes would show
                fresh = load.fresh[-6:]
                user = self.dice.choice(fresh) if fresh and self.dice.random() < 0.6 else self.dice.choice(load.users)
                self.ask(user, self.dice.choice(RESOURCES))
            time.sleep(max(0.0, load.pause - (time.monotonic() - began)))
        if self.sock:
            self.sock.close()


class Load:
    """Questions at every node and door, and changes. `pace`: questions a second and door; `churn`: changes a second."""

    def __init__(self, fleet, pace=40, churn=10, seed=1, doors=("proxy", "auth", "body")):
        self.fleet, self.pause, self.churn, self.seed = fleet, 1.0 / pace, churn, seed
        self.users, self.fresh, self.ended = fleet.users, [], False
        self.first = len(fleet.writer.entries) - 1
        self.failed_writes = self.writes = 0
        self.probers = [Prober(self, i, d, seed * 1000 + i * 10 + k) for i in range(len(fleet.nodes))
                        for k, d in enumerate(doors)]
        self.others = []                                 # probers that a fault asks with by itself
        self.writer = threading.Thread(target=self.writing, daemon=True)
        self.quiet = threading.Event()                   # set: no changes for now

    def __enter__(self):
        for t in [*self.probers, self.writer]:
            t.start()
        return self

    def __exit__(self, *exc):
        self.ended = True
        for t in [*self.probers, self.writer]:
            t.join(60)
        for t in self.others:
            if t.sock:
                t.sock.close()

    def probes(self):
        return [p for t in self.probers + self.others for p in t.probes]

    def writing(self):
        dice = random.Random(self.seed + 77)
        denied = set()
        while not self.ended:
            began = time.monotonic()
            if not self.quiet.is_set():
                self.change(dice, denied)
            time.sleep(max(0.0, 1.0 / self.churn - (time.monotonic() - began)))
        for what in denied:                              # the next load finds things as this one did
            proc.wait_until(lambda w=what: self.fleet.writer.change("undeny", None, w), 30, 0.2)

    def change(self, dice, denied):
        user, roll = dice.choice(self.users), dice.random()
        if roll < 0.1:
            what = dice.choice(RESOURCES)
            kind = "undeny" if what in denied else "deny"
            entry = self.fleet.writer.change(kind, None, what)
            if entry:
                (denied.discard if kind == "undeny" else denied.add)(what)
            elif kind == "deny":
                denied.add(what)                         # it may have happened
        else:
            kind = "disable" if roll < 0.15 else "enable" if roll < 0.25 else "grant" if roll < 0.65 else "revoke"
            entry = self.fleet.writer.change(kind, user)
            self.fresh.append(user)
        self.writes += 1
        self.failed_writes += entry is None
        return entry


class Verdict:
    """Of one fault: what broke, and figures worth printing."""

    def __init__(self, name):
        self.name, self.broken, self.notes = name, [], {}

    def that(self, good, text):
        if not good:
            self.broken.append(text)
        return good


class Run:
    """A fault's surroundings: its fleet, how long things last, and the checks that belong to every fault."""

    def __init__(self, fleet, full, seed=1):
        self.fleet, self.full, self.seed = fleet, full, seed
        self.verdict = None
        self.ended_at = None
        self.recovery = RECOVERY_S * paths.slack()

    def long(self, short, full):
        """Seconds, counts: of `make test`, of `make freshness`."""
        return full if self.full else short

    def past_bound(self, extra=1.0):
        """So long that a lease of before has run out."""
        return self.fleet.bound + extra

    def load(self, **more):
        return Load(self.fleet, seed=self.seed, **more)

    def over(self):
        """The fault ends here: recovery is counted from now."""
        self.ended_at = boot_ns()

    def settle(self, load):
        """After the fault: time for recovery, and for the judge to see that it came."""
        if self.ended_at is None:
            self.over()
        end = time.monotonic() + self.recovery + 3
        nodes = range(len(self.fleet.nodes))
        while time.monotonic() < end:
            gaps = oracle.lease_gaps(load.probes(), self.ended_at, boot_ns())
            if all(gaps.get(i) is not None for i in nodes):
                break
            time.sleep(0.05)
        time.sleep(0.3)

    def judge(self, load, monotonic=True):
        v, fleet = self.verdict, self.fleet
        with fleet.writer.lock:
            v.that(proc.wait_until(fleet.writer.settle, 30, 0.1), "what became of a change is not known")
        probes = load.probes()
        entries = fleet.writer.entries
        for probe, wrong in oracle.judge(entries, probes, fleet.bound, monotonic and fleet.workers == 1)[:5]:
            v.that(False, "%s (%r, %.3f s into it)" % (wrong, probe, (probe.sent - probes[0].sent) / NS))
        answered = [p for p in probes if p.status not in (0, 503)]
        v.that(len(answered) > 10, "only %d questions were decided of %d" % (len(answered), len(probes)))
        gaps = oracle.lease_gaps(probes, self.ended_at, boot_ns())
        for i in range(len(fleet.nodes)):
            gap = gaps.get(i)
            v.that(gap is not None and gap <= self.recovery, "I5: node %d decides %s s after the fault; it said %s" % (
                i, gap, fleet.nodes[i].child.err()[-1500:]))
        extra = fleet.database.audit_gap()
        v.that(extra == 0, "I6: %d audit rows too many or too few" % extra)
        self.alive()
        v.notes.update(questions=len(probes), decided=len(answered),
                       allowed=sum(p.status == 200 for p in probes), changes=len(entries) - load.first - 1,
                       stale=sum(p.status == 503 for p in probes),
                       recovery_s=max([g or 99 for g in gaps.values()] or [0]))
        return probes

    def alive(self):
        for node in self.fleet.nodes:
            self.verdict.that(node.child.alive(), "I4: %s ended: %s" % (node.name, node.child.err()[-500:]))

    def during(self, load, since, until=None):
        """The probes of a stretch of time (BOOTTIME ns)."""
        return [p for p in load.probes() if p.sent >= since and (until is None or p.sent <= until)]


def sizes(fleet):
    """[(open files, RSS in KiB)] of the nodes."""
    return [(len(os.listdir("/proc/%d/fd" % n.child.pid)), n.child.rss_kib()) for n in fleet.nodes]


def unlogged(fleet):
    """I3: decision ids that the app saw and no decision log calls allowed. Lines of a killed node may be lost."""
    allowed = set()
    for node in fleet.nodes:
        try:
            with open(node.config["log"]["decisions"], "rb") as f:
                for line in f:
                    if b'"verdict":"allow"' in line:
                        try:
                            allowed.add(json.loads(line)["id"].encode())
                        except ValueError:
                            pass                         # the last line of a killed node
        except OSError:
            pass
    return [d for at, d in fleet.upstream.seen if d not in allowed and
            not any(k - 2 * NS < at < k + NS for k in fleet.kills)]
