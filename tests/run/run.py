#!/usr/bin/env python3
"""`make run`: an app, Postern in front of it, three users' tokens and lines to paste. Ctrl-C stops both.

What stays behind is the state directory build/run/state (one folder an app and port): database, keys, app data."""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import apps, keys, node, paths, proc, venv  # noqa: E402

ISSUER = "https://demo.postern.test/"
TWELVE_HOURS = 12 * 3600
RUN = os.path.join(paths.ROOT, "build", "run")


def configuration(app, signer, port, state):
    return {
        "state_dir": os.path.join(state, "postern"),
        "identity": {"issuers": [{"issuer": ISSUER, "audiences": ["postern"], "algorithms": ["ES256"],
                                  "keys": {"jwks_file": signer.jwks}, "claims": {"user": "sub"},
                                  "unknown_users": "refuse"}]},
        "listeners": [
            {"name": "proxy", "kind": "proxy", "address": "127.0.0.1:%d" % port, "mounts": app.mounts()},
            {"name": "ops", "kind": "ops", "address": "127.0.0.1:%d" % proc.free_port()},
        ],
        "upstreams": {"app": app.upstream()},
        "profiles": app.profiles(),
        "log": {"level": "info", "events": "stderr", "access": os.path.join(state, "access.log"),
                "decisions": os.path.join(state, "decisions.log")},
    }


def lines(app, url, tokens):
    """[(status, why, curl arguments)], three allowed, three refused."""
    def bearer(who):
        return "-H 'Authorization: Bearer %s' " % tokens[who]
    if app.name == "demo":
        create = "-H 'Content-Type: application/json' -d '{\"name\": \"weekly\"}' "
        at = url + "/w/blue/pipelines"
        return [(200, "alice lists the pipelines of blue", bearer("alice") + at),
                (201, "alice, editor of blue, creates one", bearer("alice") + create + at),
                (200, "bob, viewer of blue, reads one", bearer("bob") + at + "/daily"),
                (403, "bob may read blue, not create in it", bearer("bob") + create + at),
                (403, "carol holds nothing in blue", bearer("carol") + at),
                (401, "nobody without a token", at)]
    if app.name == "mlflow":
        at = url + "/api/2.0/mlflow/experiments/"
        team = "-H 'X-MLFLOW-WORKSPACE: %s' "
        body = "-H 'Content-Type: application/json' -d '{\"name\": \"%s\"}' "
        return [(200, "editor lists the experiments of team-a",
                 bearer("editor") + team % "team-a" + "'" + at + "search?max_results=5'"),
                (200, "editor creates one (a second time the app itself answers 400: the name is taken)",
                 bearer("editor") + team % "team-a" + body % ("try-%d" % time.time()) + at + "create"),
                (200, "reader reads team-a", bearer("reader") + team % "team-a" + "'" + at + "search?max_results=5'"),
                (403, "reader may not start a run in it", bearer("reader") + team % "team-a" +
                 "-H 'Content-Type: application/json' -d '{\"experiment_id\": \"1\"}' " + url +
                 "/api/2.0/mlflow/runs/create"),
                (403, "team-b is for admin alone",
                 bearer("editor") + team % "team-b" + body % "theirs" + at + "create"),
                (403, "stranger holds nothing", bearer("stranger") + team % "team-a" + body % "other" + at + "create")]
    at = url + "/api/pipelines"
    body = "-H 'Content-Type: application/json' -d '{\"pipeline\": {\"name\": \"%s\"}}' "
    return [(200, "viewer lists the pipelines", bearer("viewer") + at),
            (200, "editor creates one", bearer("editor") + body % "from editor" + at),
            (200, "owner lists the pipelines", bearer("owner") + at),
            (403, "viewer may not create", bearer("viewer") + body % "from viewer" + at),
            (403, "stranger holds no role", bearer("stranger") + at),
            (401, "nobody without a token", at)]


def write_whole(path, tree):
    """A reader finds the old file or the new one, never half of it."""
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as f:
        json.dump(tree, f, indent=1)
    os.replace(draft, path)


def remove_if_ours(path, url):
    try:
        with open(path, encoding="utf-8") as f:
            ours = json.load(f).get("url") == url
        if ours:
            os.remove(path)
    except (OSError, ValueError):
        pass


def show(app, url, tokens):
    out = ["", "Postern is at %s, in front of %s. Ctrl-C stops both." % (url, app.name), ""]
    for name, token in tokens.items():
        out += ["token of %s:" % name, "    " + token]
    out.append("")
    for status, why, arguments in lines(app, url, tokens):
        out += ["# -> %d %s" % (status, why), "curl -sS -i %s" % arguments, ""]
    print("\n".join(out), flush=True)


def end_once(*_):
    """The first signal ends the run, wherever it is; later ones do not disturb the cleaning up."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--app", choices=sorted(apps.KINDS), default="demo")
    p.add_argument("--port", type=int, default=8080)
    p.add_argument("--build", default="build/release")
    a = p.parse_args()
    os.environ["POSTERN_BUILD"] = os.path.abspath(a.build)
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, end_once)
    if proc.connects("127.0.0.1", a.port):
        print("port %d is taken; try: make run PORT=%d" % (a.port, a.port + 1), file=sys.stderr)
        return 1

    os.makedirs(os.path.join(RUN, "state"), mode=0o700, exist_ok=True)
    state = os.path.join(RUN, "state", "%s-%d" % (a.app, a.port))
    os.makedirs(state, mode=0o700, exist_ok=True)
    logs = tempfile.mkdtemp(prefix="postern-run-")
    os.environ["TMPDIR"] = logs     # what the app leaves among temporary files goes with them
    url, note = "http://127.0.0.1:%d" % a.port, os.path.join(RUN, "demo.json")
    signer = keys.Signer(state, issuer=ISSUER, kid="demo-1")
    app = apps.KINDS[a.app](a.app, os.path.join(state, "app"))
    front = None
    try:
        app.start()
        front = node.Node(configuration(app, signer, a.port, state), logs)
        files, tree = apps.declarations(app, ISSUER)
        front.apply(tree, *files)
        front.start()
        tokens = {n: signer.token(n, lifetime=TWELVE_HOURS) for n in app.people}
        write_whole(note, {"app": a.app, "url": url, "tokens": tokens, "allowed_path": app.allowed_path,
                           "workspaces": app.workspaces})
        show(app, url, tokens)
        while True:
            time.sleep(0.5)
            for child in (app.child, front.child):
                if not child.alive():
                    print("%s has ended: %s" % (child.name, child.err()[-1500:]), file=sys.stderr)
                    return 1
    except KeyboardInterrupt:
        return 0
    except (apps.Failed, node.Failed, venv.NotInstalled) as e:
        print(e, file=sys.stderr)
        return 1
    finally:
        remove_if_ours(note, url)
        if front:
            front.stop(10)
        app.stop()
        shutil.rmtree(logs, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
