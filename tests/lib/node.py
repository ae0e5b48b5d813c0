"""A Postern under test: its configuration, its declarations, its life."""
import json
import os
import signal
import subprocess
import tempfile

from . import http1, paths, proc


def cli(*args, check=False, data=None, timeout=60, env=None):
    """Runs one subcommand; a CompletedProcess with text output."""
    return subprocess.run([paths.binary(), *map(str, args)], input=data, text=True, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=check,
                          env={**os.environ, **env} if env else None)


class Failed(Exception):
    """The node did not do what every test needs (start, apply); the text holds its own words."""


class Node:
    """One `postern serve` in a folder of its own. `config` is the tree of the configuration file."""

    def __init__(self, config, folder=None, name="postern"):
        self.folder = folder or tempfile.mkdtemp(prefix="postern-node-")
        self.config = {"state_dir": os.path.join(self.folder, "state"), "workers": 1, **config}
        self.config.setdefault("log", {"level": "info", "events": "stderr", "access": "off",
                                       "decisions": "off"})
        self.path = os.path.join(self.folder, name + ".yaml")
        self.name = name
        self.child = None
        self.write()

    def write(self):
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump(self.config, f, indent=1)

    def address(self, name):
        """(host, port) or socket path of the listener `name`."""
        for listener in self.config["listeners"]:
            if listener["name"] == name:
                where = listener["address"]
                if where.startswith("unix:"):
                    return where[5:]
                host, _, port = where.rpartition(":")
                return host, int(port)
        raise KeyError(name)

    def apply(self, tree, *more_files):
        """Applies a tree of declarations (and files before it) to the state of this node."""
        path = os.path.join(self.folder, "declarations.yaml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(tree, f, indent=1)
        files = [part for one in (*more_files, path) for part in ("-f", one)]
        done = cli("apply", "--config", self.path, *files)
        if done.returncode != 0:
            raise Failed("apply failed (%d): %s%s" % (done.returncode, done.stdout, done.stderr))
        return done

    def start(self, timeout=15.0, wrapper=(), env=None):
        self.child = proc.Child([*wrapper, paths.binary(), "serve", "--config", self.path],
                                out_dir=self.folder, name=self.name, cwd=paths.ROOT,
                                env={**os.environ, **env} if env else None)
        if not proc.wait_until(self.ready, timeout * paths.slack()):
            text = self.child.err()[-3000:]
            self.stop()
            raise Failed("not ready after %.0f s: %s" % (timeout * paths.slack(), text))
        return self

    def ready(self):
        if not self.child.alive():
            raise Failed("serve ended with %s: %s" % (self.child.p.returncode, self.child.err()[-3000:]))
        try:
            return http1.ask(self.address("ops"), "GET", "/readyz", timeout=2).status == 200
        except OSError:
            return False

    def metrics(self):
        """{name with labels: value} of /metrics."""
        out = {}
        for line in http1.ask(self.address("ops"), "GET", "/metrics").text().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def reload(self):
        self.child.signal(signal.SIGHUP)

    def stop(self, timeout=35.0):
        """The exit status; a sanitizer's report or a crash shows as one that is not 0."""
        code = self.child.stop(timeout) if self.child else None
        return code

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
