"""The training run of `make pgo`: what a request goes through most, done by an instrumented build.

    python3 bench/train.py --build build/pgo

The program writes what it counted when it ends. Its layout is all that follows from it: which
branches are taken, which functions stand together.
"""
import argparse
import http.client
import os
import sys
import tempfile

import measure
import servers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOT, MIXED, REFUSED = 60000, 20000, 500     # requests


def refuse(port, path, headers, status):
    """Requests that are not allowed, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(REFUSED):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != status:
            raise measure.BenchError(f"{path}: {answer.status} where {status} was to come")
    connection.close()


def train(build, directory):
    tools = os.path.join(build, "bench", "tools")
    issuer = servers.Issuer(directory)
    requests = servers.write_requests(directory, issuer)
    upstream = servers.start_tool(tools, "responder", "0", directory=directory)
    postern = None
    try:
        postern = servers.Postern("postern", ROOT, os.path.join(build, "postern"), directory, issuer,
                                  upstream.port)
        for door, name, count in (("auth", "auth", HOT), ("proxy", "proxy", HOT),
                                  ("proxy", "users", MIXED)):
            with measure.Load(os.path.join(tools, "load"), postern.face(door).port, requests[name],
                              ["--count", str(count)]) as load:
                load.go()
        port = postern.face("proxy").port
        known = {"Authorization": f"Bearer {issuer.token(servers.HOT_ROLE)}"}
        refuse(port, servers.entity_path(servers.PERMISSIONS), known, 403)
        refuse(port, servers.entity_path(1), {}, 401)
        refuse(port, "/elsewhere", known, 404)
    finally:
        for server in (postern, upstream):
            if server is not None:
                server.stop()


def main():
    parser = argparse.ArgumentParser(description="the training run of make pgo")
    parser.add_argument("--build", default="build/pgo", help="build directory")
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        measure.GENERATOR_CORE = measure.SERVER_CORE
    with tempfile.TemporaryDirectory(prefix="postern-train-") as directory:
        try:
            train(os.path.abspath(arguments.build), directory)
        except measure.BenchError as error:
            print(f"train: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
