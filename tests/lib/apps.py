"""The apps that Postern is put in front of, as make run and the tests start them: demo, MLflow, Mage AI."""
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from . import paths, proc, venv

MLFLOW_TYPES = ["experiment", "registered_model", "prompt", "gateway_secret", "gateway_endpoint",
                "gateway_model_definition", "mcp_server"]
ALL = ["list", "detail", "create", "update", "delete"]


class Failed(Exception):
    """An app did not start; the text holds its own words."""


class App:
    """One app: its process, its configuration in front (mounts, upstream, profiles), its users."""

    def __init__(self, name, folder):
        self.name, self.folder, self.port, self.child = name, folder, proc.free_port(), None
        os.makedirs(folder, exist_ok=True)

    def direct(self, method, path, body=None, headers=None, timeout=20):
        """(status, bytes) of a request to the app itself, past Postern."""
        data = None if body is None else json.dumps(body).encode()
        r = urllib.request.Request("http://127.0.0.1:%d%s" % (self.port, path), data=data, method=method,
                                   headers={"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(r, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def answers(self, path):
        if not self.child.alive():
            raise Failed("%s ended: %s" % (self.name, (self.child.err() + self.child.out())[-2000:]))
        try:
            return self.direct("GET", path, timeout=2)[0] == 200
        except OSError:
            return False

    def wait(self, path, limit):
        if not proc.wait_until(lambda: self.answers(path), limit, 0.1):
            raise Failed("%s did not answer %s within %d s: %s" %
                         (self.name, path, limit, (self.child.err() + self.child.out())[-2000:]))

    def stop(self):
        if self.child:
            self.child.stop(15, group=True)

    def upstream(self):
        return {"address": "127.0.0.1:%d" % self.port}


class Demo(App):
    workspaces = ["blue", "red"]
    allowed_path = "/w/blue/pipelines"
    people = ["alice", "bob", "carol"]

    def start(self):
        script = os.path.join(paths.ROOT, "tests", "run", "demo_app.py")
        self.child = proc.Child([sys.executable, script, "--port", str(self.port)], out_dir=self.folder, name="app")
        self.wait("/w/blue/pipelines", 15)
        return self

    def mounts(self):
        return [{"host": "*", "prefix": "/w/", "profile": "rest", "upstream": "app"}]

    def profiles(self):
        return {"rest": {"file": os.path.join(paths.PROFILES, "rest.yaml"), "default_workspace": None}}

    def declarations(self):
        return [], {
            "workspaces": [{"name": w, "kind": "project"} for w in self.workspaces],
            "roles": [{"name": "editor", "workspace": w, "permissions": [{"entity": "pipelines", "allow": ALL}]}
                      for w in self.workspaces] +
                     [{"name": "viewer", "workspace": "blue",
                       "permissions": [{"entity": "pipelines", "allow": ["list", "detail"]}]}],
            "bindings": [{"user": "alice", "role": "editor", "workspace": "blue"},
                         {"user": "bob", "role": "viewer", "workspace": "blue"},
                         {"user": "carol", "role": "editor", "workspace": "red"}],
        }


class MLflow(App):
    workspaces = ["team-a", "team-b"]
    allowed_path = "/api/2.0/mlflow/experiments/search?max_results=5"
    people = ["admin", "editor", "reader", "stranger"]

    def start(self):
        programs = venv.ensure(venv.MLFLOW)
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
               "PATH": programs + os.pathsep + os.environ.get("PATH", "")}
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_WORKSPACE"):
            env.pop(name, None)
        self.child = proc.Child(
            [os.path.join(programs, "mlflow"), "server", "--host", "127.0.0.1", "--port", str(self.port),
             "--workers", "1", "--backend-store-uri", "sqlite:///" + os.path.join(self.folder, "mlflow.db"),
             "--serve-artifacts", "--artifacts-destination", os.path.join(self.folder, "art"),
             "--enable-workspaces"], cwd=self.folder, env=env, out_dir=self.folder, name="app")
        self.wait("/health", 180)
        for name in self.workspaces:
            status, body = self.direct("POST", "/api/3.0/mlflow/workspaces", {"name": name})
            if status not in (200, 201) and b"ALREADY_EXISTS" not in body:
                raise Failed("MLflow did not create the workspace %s: %d %r" % (name, status, body[:300]))
        return self

    def mounts(self):
        return [{"host": "*", "prefix": "/", "profile": "mlflow", "upstream": "app"}]

    def profiles(self):
        return {"mlflow": {"file": os.path.join(paths.PROFILES, "mlflow.yaml"), "default_workspace": "default",
                           "settings": {"workspaces": True}}}

    def upstream(self):
        return {"address": "127.0.0.1:%d" % self.port, "host": "upstream", "idle_s": 4}

    def declarations(self):
        def role(name, level):
            return {"name": name, "workspace": "team-a", "permissions":
                    [{"entity": "workspace", "level": "USE"}] + [{"entity": e, "level": level} for e in MLFLOW_TYPES]}
        return [], {
            "workspaces": [{"name": "default", "kind": "default"}] +
                          [{"name": w, "kind": "project"} for w in self.workspaces],
            "roles": [role("editor", "EDIT"), role("reader", "READ"),
                      {"name": "server-admin", "permissions": [{"entity": "workspace", "level": "MANAGE"}]}],
            "bindings": [{"user": "admin", "role": "server-admin"},
                         {"user": "editor", "role": "editor", "workspace": "team-a"},
                         {"user": "reader", "role": "reader", "workspace": "team-a"}],
        }


class Mage(App):
    workspaces = ["default"]
    allowed_path = "/api/pipelines"
    people = ["owner", "editor", "viewer", "stranger"]
    VIEWER = "Viewer default permissions"
    EDITOR = ["Editor default permissions", "Editor with notebook edit access", "Editor with pipeline edit access"]

    def start(self):
        programs = venv.ensure(venv.MAGE)
        home = os.path.join(self.folder, "home")
        os.makedirs(home, exist_ok=True)
        env = {**os.environ, "HOME": home, "DISABLE_AUTO_BROWSER_OPEN": "1", "REQUIRE_USER_AUTHENTICATION": "0",
               "PATH": programs + os.pathsep + os.environ.get("PATH", "")}
        for name in ("REQUIRE_USER_PERMISSIONS", "MAGE_DATABASE_CONNECTION_URL", "DISABLE_NOTEBOOK_EDIT_ACCESS"):
            env.pop(name, None)
        project = os.path.join(self.folder, "proj")
        mage = os.path.join(programs, "mage")
        if not os.path.isdir(project):
            done = subprocess.run([mage, "init", "proj"], cwd=self.folder, env=env, timeout=120,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                raise Failed("mage init: %s" % done.stdout.decode("utf-8", "replace")[-1500:])
        metadata = os.path.join(project, "metadata.yaml")
        with open(metadata, encoding="utf-8") as f:
            text = f.read()
        with open(metadata, "w", encoding="utf-8") as f:
            f.write(text.replace("help_improve_mage: true", "help_improve_mage: false"))
        self.child = proc.Child([mage, "start", "proj", "--host", "127.0.0.1", "--port", str(self.port)],
                                cwd=self.folder, env=env, out_dir=self.folder, name="app")
        self.wait("/api/status", 120)
        self.wait("/api/pipelines", 60)
        self.wait("/api/status", 20)
        return self

    def mounts(self):
        return [{"host": "*", "prefix": "/", "profile": "mage", "upstream": "app"}]

    def profiles(self):
        return {"mage": {"file": os.path.join(paths.PROFILES, "mage.yaml"), "default_workspace": "default"}}

    def declarations(self):
        return [os.path.join(paths.ROLES, "mage.yaml")], {
            "workspaces": [{"name": "default", "kind": "default"}],
            "roles": [{"name": "built-in owner", "permissions": [{"entity": "*", "access": ["OWNER"]}]}],
            "bindings": [{"user": "owner", "role": "built-in owner"}] +
                        [{"user": "editor", "role": r} for r in [self.VIEWER, *self.EDITOR]] +
                        [{"user": "viewer", "role": self.VIEWER}],
        }


KINDS = {"demo": Demo, "mlflow": MLflow, "mage": Mage}


def declarations(app, issuer):
    """(files, tree) to apply: the app's own and its users, known by `issuer`."""
    files, tree = app.declarations()
    tree["users"] = [{"name": n, "identities": [{"issuer": issuer, "subject": n}]} for n in app.people]
    return files, tree
