"""A strict HTTP/1.1 reader of our own for judging bytes, and a small client.

Written apart from the parser under test, so that both must be wrong in the same way to agree on a mistake."""
import re
import select
import socket
import time

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])")
CTL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
HEX = re.compile(rb"[0-9A-Fa-f]{1,16}")


class Message:
    """One request as it was found in a stream of bytes."""

    def __init__(self):
        self.method = self.target = b""
        self.minor = 1
        self.fields = []      # (name, value) in order
        self.body = b""
        self.complete = False
        self.faults = []      # why the bytes are not what a careful sender writes
        self.size = 0

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]


def _read_fields(lines, msg):
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            msg.faults.append("field line %r" % line[:60])
            continue
        value = value.strip(b" \t")
        if CTL.search(value):
            msg.faults.append("control byte in %r" % line[:60])
        msg.fields.append((name, value))


def _read_chunked(data, at, msg):
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return
        size = data[at:end]
        if not HEX.fullmatch(size):
            msg.faults.append("chunk size %r" % size[:40])
            return
        count, at = int(size, 16), end + 2
        if count == 0:
            if data[at:at + 2] == b"\r\n":
                msg.body, msg.size, msg.complete = body, at + 2, True
            else:
                close = data.find(b"\r\n\r\n", at)
                if close >= 0:
                    msg.faults.append("trailer section")
                    msg.body, msg.size, msg.complete = body, close + 4, True
            return
        if len(data) < at + count + 2:
            return
        body += data[at:at + count]
        if data[at + count:at + count + 2] != b"\r\n":
            msg.faults.append("chunk not ended by CRLF")
            return
        at += count + 2


def read_request(data):
    """The first request in `data`, complete or not; its faults by the strict reading."""
    msg = Message()
    end = data.find(b"\r\n\r\n")
    if end < 0:
        msg.size = len(data)
        return msg
    lines = data[:end].split(b"\r\n")
    line = REQUEST_LINE.fullmatch(lines[0])
    if line:
        msg.method, msg.target, msg.minor = line[1], line[2], int(line[3])
    else:
        msg.faults.append("request line %r" % lines[0][:80])
    _read_fields(lines[1:], msg)
    lengths, codings = msg.values(b"content-length"), msg.values(b"transfer-encoding")
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"0|[1-9][0-9]{0,18}", lengths[0])):
        msg.faults.append("Content-Length %r" % lengths)
    if len(codings) > 1 or (codings and codings[0].lower() != b"chunked"):
        msg.faults.append("Transfer-Encoding %r" % codings)
    if lengths and codings:
        msg.faults.append("Content-Length and Transfer-Encoding")
    if codings:
        msg.size = len(data)
        _read_chunked(data, end + 4, msg)
        return msg
    count = int(lengths[0]) if lengths and lengths[0].isdigit() else 0
    msg.complete = len(data) >= end + 4 + count
    msg.body = data[end + 4:end + 4 + count]
    msg.size = min(len(data), end + 4 + count)
    return msg


def read_requests(data):
    out = []
    while data:
        msg = read_request(data)
        out.append(msg)
        if not msg.complete:
            break
        data = data[msg.size:]
    return out


class Answer:
    def __init__(self, status, head, fields):
        self.status, self.head, self.fields = status, head, fields
        self.body, self.complete, self.size = b"", False, 0

    def value(self, name):
        for n, v in self.fields:
            if n.lower() == name.lower():
                return v
        return None

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def text(self):
        return self.body.decode("utf-8", "replace")


def read_answer(data, head=False, eof=False):
    """The first final answer in `data` (1xx other than 101 are passed over); None before its head is there."""
    at = 0
    while True:
        end = data.find(b"\r\n\r\n", at)
        line = re.match(rb"HTTP/1\.[01] ([0-9]{3})[ \r]", data[at:at + 13])
        if end < 0 or not line:
            return None
        status = int(line[1])
        lines = data[at:end].split(b"\r\n")[1:]
        fields = [(n, v.strip(b" \t")) for n, _, v in (part.partition(b":") for part in lines)]
        answer = Answer(status, data[at:end + 4], fields)
        at = end + 4
        if status >= 200 or status == 101:
            break
    if head or status in (101, 204, 304):
        answer.complete, answer.size = True, at
        return answer
    if answer.values(b"transfer-encoding"):
        body = Message()
        _read_chunked(data, at, body)
        answer.complete, answer.body, answer.size = body.complete, body.body, body.size
        return answer
    length = answer.value(b"content-length")
    if length is not None and length.isdigit():
        answer.body = data[at:at + int(length)]
        answer.complete, answer.size = len(data) >= at + int(length), at + int(length)
        return answer
    answer.body, answer.complete, answer.size = data[at:], eof, len(data)
    return answer


def connect(where, timeout=5.0, source=None):
    """`where`: (host, port) or the path of a unix socket."""
    s = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    try:
        s.settimeout(timeout)
        if source:
            s.bind((source, 0))
        s.connect(where)
        if not isinstance(where, str):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        s.close()
        raise
    return s


class Client:
    """One keep-alive connection. Answers are read whole; nothing is retried."""

    def __init__(self, where, timeout=10.0, source=None):
        self.where, self.timeout = where, timeout
        self.sock = connect(where, timeout, source)
        self.buf = b""

    def ask(self, method, target, fields=(), body=None, host="app.example"):
        head = ["%s %s HTTP/1.1" % (method, target), "Host: " + host]
        head += ["%s: %s" % pair for pair in fields]
        if body is not None:
            head.append("Content-Length: %d" % len(body))
        self.sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b""))
        return self.read(method == "HEAD")

    def read(self, head=False):
        end = time.monotonic() + self.timeout
        eof = False
        while True:
            answer = read_answer(self.buf, head, eof)
            if answer and answer.complete:
                self.buf = self.buf[answer.size:]
                return answer
            if eof:
                raise ConnectionError("connection closed in the middle of an answer: %r" % self.buf[:200])
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            data = self.sock.recv(1 << 18)
            eof = not data
            self.buf += data

    def readable(self, seconds=0.0):
        return bool(select.select([self.sock], [], [], seconds)[0])

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def ask(where, method, target, fields=(), body=None, host="app.example", timeout=10.0, source=None):
    """One request on a connection of its own."""
    with Client(where, timeout, source) as c:
        return c.ask(method, target, fields, body, host)
