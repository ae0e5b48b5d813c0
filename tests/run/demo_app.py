#!/usr/bin/env python3
"""A small app that trusts whoever is in front of it: pipelines per workspace, and who Postern said is asking.

    GET    /w/{workspace}/pipelines           list
    POST   /w/{workspace}/pipelines           create: {"name": ...}
    GET    /w/{workspace}/pipelines/{id}      read
    PUT    /w/{workspace}/pipelines/{id}      update
    DELETE /w/{workspace}/pipelines/{id}      delete

Every answer carries `seen`, the identity headers as they arrived. It asks for no credential of its own: that is the
job of what stands in front of it."""
import argparse
import json
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = re.compile(r"/w/([^/?]+)/pipelines(?:/([^/?]+))?(?:\?.*)?")
LIMIT = 1 << 20


class Pipelines:
    def __init__(self):
        self.lock = threading.Lock()
        self.rows = {"blue": {"daily": {"name": "daily", "runs": 3}, "hourly": {"name": "hourly", "runs": 72}},
                     "red": {"secret": {"name": "secret", "runs": 1}}}

    def list(self, workspace):
        with self.lock:
            return sorted(self.rows.get(workspace, {}))

    def get(self, workspace, name):
        with self.lock:
            return self.rows.get(workspace, {}).get(name)

    def put(self, workspace, name, row):
        with self.lock:
            known = name in self.rows.setdefault(workspace, {})
            self.rows[workspace][name] = {**row, "name": name}
            return known

    def delete(self, workspace, name):
        with self.lock:
            return self.rows.get(workspace, {}).pop(name, None) is not None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pipelines = Pipelines()
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def seen(self):
        return {name: value for name, value in self.headers.items() if name.lower().startswith("x-postern-")}

    def answer(self, status, tree):
        body = (json.dumps({**tree, "seen": self.seen()}, indent=1) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while True:
                size = int(self.rfile.readline(40).split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline(4)
                if size == 0:
                    return data
        return self.rfile.read(min(LIMIT, int(self.headers.get("Content-Length") or 0)))

    def handle_one(self):
        body = self.body()
        found = PATH.fullmatch(self.path)
        if not found:
            return self.answer(404, {"error": "no such page"})
        workspace, name = found[1], found[2]
        if self.command in ("GET", "HEAD"):
            if name is None:
                return self.answer(200, {"workspace": workspace, "pipelines": self.pipelines.list(workspace)})
            row = self.pipelines.get(workspace, name)
            return self.answer(200 if row else 404, {"workspace": workspace, "pipeline": row})
        if self.command == "DELETE":
            return self.answer(200 if name and self.pipelines.delete(workspace, name) else 404, {"deleted": name})
        try:
            row = json.loads(body or b"{}")
            name = name or row["name"]
        except (ValueError, KeyError, TypeError):
            return self.answer(400, {"error": "a JSON object with a name is expected"})
        known = self.pipelines.put(workspace, str(name), row)
        return self.answer(200 if known and self.command != "POST" else 201, {"workspace": workspace, "pipeline": name})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--port", type=int, default=0)
    server = Server(("127.0.0.1", p.parse_args().port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("demo app on %d" % server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
