"""The judge: was each answer one that the promise allows?

A decision for a question asked at t must be that of a revision whose successor was acknowledged later than t - B (C1),
and whose commit had been sent when the answer came. Refusing for want of a lease (503) is always allowed, at the price
of I5."""
import bisect
import heapq

NS = 1000000000
REFUSED = (401, 403, 404)


class Probe:
    """One question and its answer. `status` 0: none came."""

    __slots__ = ("sent", "came", "node", "door", "user", "resource", "status", "revision", "fault", "reason")

    def __init__(self, sent, came, node, door, user, resource, status, revision=None, fault=None,
                 reason=None):
        self.sent, self.came, self.node, self.door = sent, came, node, door
        self.user, self.resource, self.status, self.revision, self.fault = user, resource, status, revision, fault
        self.reason = reason

    def __repr__(self):
        return "n%d %s %s/%s %d %s" % (self.node, self.door, self.user, self.resource, self.status,
                                       self.reason or self.revision)


class History:
    """Revisions in their order. Whoever acknowledges a revision acknowledges those before it.

    A restored database has the same revisions once more until `db restored` gives it an epoch of its own."""

    def __init__(self, entries):
        self.entries = entries = list(entries)
        self.index = {}
        for i, e in enumerate(entries):
            self.index.setdefault((e.epoch, e.n), []).append(i)
        self.acks = [e.ack for e in self.entries]
        for i in range(len(self.acks) - 2, -1, -1):
            self.acks[i] = min(self.acks[i], self.acks[i + 1])

    def window(self, sent, came, bound_ns):
        """(first, last) index of the revisions that may have decided."""
        first = max(0, bisect.bisect_right(self.acks, sent - bound_ns) - 1)
        last = len(self.entries) - 1
        while last > first and self.entries[last].sent > came:
            last -= 1
        return first, last

    def allows(self, i, probe):
        return probe.user + "/" + probe.resource in self.entries[i].allowed

    def judge(self, probe, bound_ns):
        """None, or what is wrong with the answer."""
        if probe.fault:
            return "I2: " + probe.fault
        if probe.status in (0, 503):
            return None
        if probe.status not in (200, *REFUSED):
            return "an answer that nobody expects: %d" % probe.status
        first, last = self.window(probe.sent, probe.came, bound_ns)
        said = probe.status == 200
        if not any(self.allows(i, probe) == said for i in range(first, last + 1)):
            return "I1: allowed past B" if said else "I7: refused past B, and the database was there"
        if probe.revision is None:
            return None
        if probe.revision not in self.index:
            return "a revision that was never written: %s-%d" % probe.revision
        named = [i for i in self.index[probe.revision] if first <= i <= last]
        if not named:
            return "C1: decided at revision %s-%d, which is not of %s-%d..%s-%d" % (
                *probe.revision, self.entries[first].epoch, self.entries[first].n, self.entries[last].epoch,
                self.entries[last].n)
        if not any(self.allows(i, probe) == said for i in named):
            return "C7: the revision that it names decides otherwise"
        return None

    def monotonic(self, probes):
        """C8: a question that is asked behind an answer is not decided at an older revision on the same node."""
        told, open_answers, newest = [], [], {}
        for p in sorted((p for p in probes if p.revision in self.index), key=lambda p: p.sent):
            while open_answers and open_answers[0][0] < p.sent:
                _, node, at = heapq.heappop(open_answers)
                newest[node] = max(newest.get(node, -1), at)
            back = newest.get(p.node, -1)
            at = next((i for i in self.index[p.revision] if i >= back), self.index[p.revision][-1])
            if at < back:
                told.append((p, "C8: the node went back from revision %d" % self.entries[back].n))
            heapq.heappush(open_answers, (p.came, p.node, at))
        return told


def judge(entries, probes, bound_s, monotonic=True):
    """[(probe, what is wrong)]"""
    history = History(entries)
    told = [(p, wrong) for p in probes for wrong in [history.judge(p, int(bound_s * NS))] if wrong]
    return told + (history.monotonic(probes) if monotonic else [])


def lease_gaps(probes, since, until):
    """How long after `since` each node gave its first answer that was a decision, in seconds; None: it gave none."""
    first = {}
    nodes = set()
    for p in probes:
        if since <= p.sent <= until:
            nodes.add(p.node)
            if p.status not in (0, 503):
                first[p.node] = min(first.get(p.node, p.came), p.came)
    return {n: (first[n] - since) / NS if n in first else None for n in nodes}
