"""A TCP link that can be made to fail while it is in use: one between a node and each of its servers.

    up      what the node sends; down: what the server sends
    pass    as it comes           delay   each piece this many seconds later, in order
    drop    swallowed; both ends think that they are connected
    refuse  (of the link) new connections are reset at once

`messages` of a link looks at each Redis pub/sub message on its way down and says what becomes of it."""
import random
import re
import socket
import struct
import threading
import time

MESSAGE = re.compile(rb"\*3\r\n\$7\r\nmessage\r\n\$(\d+)\r\n")
DIRECTIONS = ("up", "down")


def reset(sock):
    """Closes with RST."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


def split_messages(data):
    """(list of (payload or None, bytes), rest): pub/sub messages whole, everything else as it is."""
    out = []
    while data:
        found = MESSAGE.search(data)
        if not found:
            # the head of a message may be cut: it begins with '*'
            at = data.rfind(b"*")
            if at >= 0 and len(data) - at < 32 and b"*3\r\n$7\r\nmessage\r\n$"[:len(data) - at] == data[at:at + 19]:
                return out + ([(None, data[:at])] if at else []), data[at:]
            return out + [(None, data)], b""
        if found.start():
            out.append((None, data[:found.start()]))
        at = found.end() + int(found[1]) + 2            # the channel
        end = data.find(b"\r\n", at)
        if end < 0 or data[at:at + 1] != b"$":
            return out, data[found.start():]
        stop = end + 2 + int(data[at + 1:end]) + 2
        if len(data) < stop:
            return out, data[found.start():]
        out.append((data[end + 2:stop - 2], data[found.start():stop]))
        data = data[stop:]
    return out, b""


class Lossy:
    """What becomes of messages: shares of them dropped, doubled, said again later, kept back. Counts what it did."""

    def __init__(self, seed=0, drop=0.0, duplicate=0.0, replay=0.0, late=0.0, late_s=0.3):
        self.dice = random.Random(seed)
        self.drop, self.duplicate, self.replay, self.late, self.late_s = drop, duplicate, replay, late, late_s
        self.old = []
        self.counts = {"seen": 0, "dropped": 0, "doubled": 0, "replayed": 0, "late": 0}

    def __call__(self, raw):
        """[(seconds to wait, bytes)]"""
        self.counts["seen"] += 1
        if self.dice.random() < self.drop:
            self.counts["dropped"] += 1
            return []
        out = [(0, raw)]
        if self.dice.random() < self.late:
            self.counts["late"] += 1
            out = [(self.dice.random() * self.late_s, raw)]
        if self.dice.random() < self.duplicate:
            self.counts["doubled"] += 1
            out.append((0, raw))
        if self.old and self.dice.random() < self.replay:
            self.counts["replayed"] += 1
            out.append((0, self.dice.choice(self.old)))
        self.old = (self.old + [raw])[-200:]
        return out


class Pair:
    """One connection of a link: two sockets and a thread for each direction."""

    def __init__(self, link, near):
        self.link, self.near = link, near
        self.far = socket.create_connection(("127.0.0.1", link.target), 2)
        self.far.settimeout(None)
        self.lock = threading.Lock()
        for s in (self.near, self.far):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for direction, source, sink in (("up", self.near, self.far), ("down", self.far, self.near)):
            threading.Thread(target=self.pump, args=(direction, source, sink), daemon=True).start()

    def send(self, sink, data):
        try:
            with self.lock:
                sink.sendall(data)
        except OSError:
            pass

    def pump(self, direction, source, sink):
        held = b""
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                wait = self.link.delay[direction]
                if wait:
                    time.sleep(wait)
                if self.link.mode[direction] == "drop":
                    held = b""
                    continue
                if direction == "down" and self.link.messages:
                    parts, held = split_messages(held + data)
                    for payload, raw in parts:
                        for late, piece in self.link.messages(raw) if payload is not None else [(0, raw)]:
                            if late:
                                threading.Timer(late, self.send, (sink, piece)).start()
                            else:
                                self.send(sink, piece)
                    continue
                self.send(sink, held + data)
                held = b""
        except OSError:
            pass
        if self.link.mode[direction] != "drop":         # a partition tells nobody that the other end is gone
            self.close()

    def close(self):
        for s in (self.near, self.far):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
        self.link.forget(self)


class Link:
    """Listens on `port` and passes on to 127.0.0.1:`target`, which may be changed."""

    def __init__(self, target, name=""):
        self.target, self.name = target, name
        self.mode = dict.fromkeys(DIRECTIONS, "pass")
        self.delay = dict.fromkeys(DIRECTIONS, 0.0)
        self.messages = None
        self.refusing = False
        self.pairs, self.lock = set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accepting, daemon=True).start()

    def accepting(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                reset(near)
                continue
            try:
                pair = Pair(self, near)
            except OSError:
                reset(near)
                continue
            with self.lock:
                self.pairs.add(pair)

    def forget(self, pair):
        with self.lock:
            self.pairs.discard(pair)

    def each(self):
        with self.lock:
            return list(self.pairs)

    def heal(self):
        """As at the beginning. Connections that a partition left half dead are ended, as the hosts' timers would."""
        torn = "drop" in self.mode.values()
        self.mode = dict.fromkeys(DIRECTIONS, "pass")
        self.delay = dict.fromkeys(DIRECTIONS, 0.0)
        self.messages, self.refusing = None, False
        if torn:
            self.cut()

    def partition(self, *directions):
        """Nothing comes through any more, and nobody is told. Without directions: both."""
        for d in directions or DIRECTIONS:
            self.mode[d] = "drop"

    def slow(self, seconds, *directions):
        for d in directions or ("down",):
            self.delay[d] = seconds

    def refuse(self):
        self.refusing = True
        self.cut()

    def cut(self):
        """Every connection ends with RST."""
        for pair in self.each():
            reset(pair.near)
            pair.close()

    def half_close(self, direction):
        """FIN in one direction; the other goes on."""
        for pair in self.each():
            try:
                (pair.far if direction == "up" else pair.near).shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def stop(self):
        self.listener.close()
        self.cut()
