"""The client's side of a case: sends bytes whole or one by one and reads answers at the same time."""
import select
import socket
import time

from . import http1
from .recorder import reset, unescape

ANSWER_LIMIT = 3.0


class Wire:
    def __init__(self, where, source=None, bytewise=False, slack=1.0):
        self.sock = http1.connect(where, 5.0, source)
        self.sock.setblocking(False)
        self.got = bytearray()
        self.closed = self.send_failed = False
        self.ended = False           # closed, and not with a reset: the end of an answer without a length
        self.bytewise, self.slack, self.limit = bytewise, slack, ANSWER_LIMIT
        self.at = 0                  # where the answers not yet read begin
        self.statuses = []
        self.poll = select.poll()
        self.poll.register(self.sock, select.POLLIN)

    def _take(self, wait):
        """Reads what is there, waiting up to `wait` seconds for it. False when nothing came."""
        if self.closed or not self.poll.poll(max(0, int(wait * 1000 + 0.999))):
            return False
        try:
            data = self.sock.recv(1 << 18)
            self.ended = not data
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.closed = not data
        self.got += data
        return bool(data)

    def send(self, data):
        step = len(data) or 1
        if self.bytewise:
            step = 1 if len(data) <= 4096 else 509
        at, end = 0, time.monotonic() + 10 * self.slack
        view = memoryview(data)
        while at < len(data) and not self.closed and time.monotonic() < end:
            self._take(0)
            try:
                at += self.sock.send(view[at:at + step])
            except BlockingIOError:
                select.select([self.sock], [self.sock], [], 0.2)
            except OSError:
                self.send_failed = True
                break
        while self.send_failed and not self.closed and self._take(0.2):
            pass

    def read_answer(self, head, may_be_silent=False):
        """`may_be_silent`: where no answer is one of the right answers, the client's own end must bring it out."""
        self._await_answer(head)
        if may_be_silent and self.statuses[-1] == "no-answer":
            self.statuses.pop()
            self._shut()
            self._await_answer(head)

    def _shut(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _await_answer(self, head):
        end = time.monotonic() + self.limit * self.slack
        while True:
            answer = http1.read_answer(bytes(self.got[self.at:]), head, self.ended)
            if answer and answer.complete:
                self.at += answer.size
                self.statuses.append(answer.status)
                return
            left = end - time.monotonic()
            if self.closed or left <= 0:
                if not answer:
                    self.statuses.append(0 if self.closed else "no-answer")
                else:
                    self.statuses.append("%d-%s" % (answer.status, "truncated" if self.closed else "unfinished"))
                return
            self._take(left)

    def read_bytes(self, count):
        end = time.monotonic() + self.limit * self.slack
        while len(self.got) - self.at < count and not self.closed and time.monotonic() < end:
            self._take(end - time.monotonic())
        self.at = min(len(self.got), self.at + count)

    def linger(self, want_answers, want_close, head):
        """After the steps: later answers of a pipeline, the end of the connection where it must come."""
        end = time.monotonic() + (ANSWER_LIMIT if want_close else 1.0) * self.slack
        while not self.closed and time.monotonic() < end:
            if not want_close and self.count_answers(head) >= want_answers:
                break
            if not self._take(end - time.monotonic() if want_close else 0.2 * self.slack) and not want_close:
                break

    def count_answers(self, head=False):
        data, count = bytes(self.got), 0
        while data:
            answer = http1.read_answer(data, head, self.ended)
            if not answer:
                break
            count += 1
            if not answer.complete or not answer.size:
                break
            data = data[answer.size:]
        return count

    def run(self, steps, raw, may_be_silent=False):
        head = raw.startswith(b"HEAD ")
        for step in steps:
            word = step[0]
            if word == "raw":
                self.send(raw)
            elif word == "send":
                self.send(unescape(step[1]) * (step[2] if len(step) > 2 else 1))
            elif word == "wait":
                end = time.monotonic() + step[1]
                while time.monotonic() < end:
                    if not self._take(end - time.monotonic()):
                        time.sleep(max(0.0, min(0.01, end - time.monotonic())))
            elif word == "fin":
                self._shut()
            elif word == "rst":
                reset(self.sock)
                self.closed = True
                self.statuses = self.statuses or [0]
                return
            elif word == "read" and step[1] == "answer":
                self.read_answer(head, may_be_silent)
            elif word == "read":
                self.read_bytes(step[1])

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass
