"""An upstream with a thread for each connection; what it answers, and which POSTs it counts, its heirs say."""
import random
import socket
import threading

from . import http1


class Upstream:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.posts, self.lock = {}, threading.Lock()
        threading.Thread(target=self.accepting, daemon=True).start()

    def accepting(self):
        n = 0
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            n += 1
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(s, random.Random(n)), daemon=True).start()

    def goes_on(self, dice):
        """False: the connection ends here, before the next request is read."""
        return True

    def answer(self, s, msg, dice):
        """Answers a whole request; False ends the connection."""
        raise NotImplementedError

    def serve(self, s, dice):
        buf = b""
        try:
            while self.goes_on(dice):
                msg = http1.read_request(buf)
                while not msg.complete:
                    data = s.recv(65536)
                    if not data:
                        return
                    buf += data
                    msg = http1.read_request(buf)
                buf = buf[msg.size:]
                if not self.answer(s, msg, dice):
                    return
        except OSError:
            pass
        finally:
            s.close()
