"""MLflow 3.17.2 behind Postern, used by its own unmodified client: what an editor, a reader and a stranger can do."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import paths, venv  # noqa: E402
from lib.front import Checks, Front  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


class Users:
    """Sessions of the client, and the truth as the app's owner sees it past Postern."""

    def __init__(self, front, programs):
        self.front, self.programs, self.run_id = front, programs, "-"

    def session(self, who, workspace, *steps):
        """{step: what the client told}"""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        env.update(MLFLOW_TRACKING_URI=self.front.url, MLFLOW_TRACKING_TOKEN=self.front.tokens[who],
                   MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
                   MLFLOW_HTTP_REQUEST_TIMEOUT="30", GIT_PYTHON_REFRESH="quiet")
        done = subprocess.run([os.path.join(self.programs, "python"), os.path.join(HERE, "mlflow_client.py"),
                               workspace, self.run_id, *steps], env=env, timeout=180, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("STEP ")]
        out = {t["step"]: t for t in told}
        for step in steps:
            out.setdefault(step, {"ok": None, "text": "the client ended: " + done.stderr[-800:]})
        return out

    def experiments(self, workspace):
        _, body = self.front.app.direct("GET", "/api/2.0/mlflow/experiments/search?max_results=100",
                                        headers={"X-MLFLOW-WORKSPACE": workspace})
        return sorted(e["name"] for e in json.loads(body).get("experiments", []))

    def run(self):
        _, body = self.front.app.direct("GET", "/api/2.0/mlflow/runs/get?run_id=" + self.run_id,
                                        headers={"X-MLFLOW-WORKSPACE": "team-a"})
        return json.loads(body)["run"]


def denied(told):
    """Refused in the client's own words."""
    return told["ok"] is False and told.get("mlflow") and told.get("code") == "PERMISSION_DENIED"


def refused_transfer(told):
    """A refused artifact transfer surfaces as the HTTP library's error, or as the client's own."""
    return told["ok"] is False and (told.get("http") == 403 or denied(told))


def scenario(front, programs, check):
    users = Users(front, programs)
    editor = users.session("editor", "team-a", "create", "log")
    check.that("editor creates an experiment in team-a", editor["create"]["ok"], editor["create"])
    check.that("editor logs a run with params, metrics and an artifact", editor["log"]["ok"], editor["log"])
    users.run_id = editor["log"].get("run", "none")
    back = users.session("editor", "team-a", "read", "search")
    read = back["read"]
    check.that("editor reads it back", read["ok"] and read["params"] == {"alpha": "0.5", "depth": "3"} and
               read["metrics"] == {"loss": 0.125} and read["history"] == 2, read)
    check.that("the artifact comes back unchanged", read["ok"] and read["same"] and
               read["artifacts"] == ["note.txt"], read)
    check.that("editor finds it by searching", back["search"]["ok"] and
               "interop experiment" in back["search"]["names"], back["search"])
    before, names = users.run(), users.experiments("team-a")
    check.that("the app's owner sees experiment and run", "interop experiment" in names and
               {m["key"] for m in before["data"]["metrics"]} == {"loss"}, names)

    # USE on a workspace lets its members create (MLflow since 3.12): what a reader may not do is change what is there
    writes = ("create_run", "rename_experiment", "delete_experiment", "write_metric", "write_tag", "write_artifact",
              "delete_run")
    reader = users.session("reader", "team-a", "search", "read", "get_experiment", *writes)
    check.that("reader searches team-a", reader["search"]["ok"] and
               "interop experiment" in reader["search"]["names"], reader["search"])
    check.that("reader reads run and artifact", reader["read"]["ok"] and reader["read"]["same"], reader["read"])
    check.that("reader reads the experiment", reader["get_experiment"]["ok"], reader["get_experiment"])
    for step in writes:
        good = refused_transfer(reader[step]) if step == "write_artifact" else denied(reader[step])
        check.that("reader is refused %s" % step, good, reader[step])

    stranger = users.session("stranger", "team-a", "search", "read", "get_experiment", "create_other", *writes)
    for step in ("search", "read", "get_experiment", "create_other", *writes):
        good = refused_transfer(stranger[step]) if step == "write_artifact" else denied(stranger[step])
        check.that("stranger is refused %s" % step, good, stranger[step])
    check.that("nothing of the refused writes has happened", users.run() == before and
               users.experiments("team-a") == names, (users.run(), users.experiments("team-a")))

    other = users.experiments("team-b")
    for who in ("editor", "reader", "stranger"):
        told = users.session(who, "team-b", "search", "create_other")
        check.that("%s does not reach team-b reading" % who, denied(told["search"]), told["search"])
        check.that("%s does not reach team-b writing" % who, denied(told["create_other"]), told["create_other"])
        crossed = users.session(who, "team-b", "read", "write_artifact")
        check.that("%s does not reach a run of team-a through team-b" % who, denied(crossed["read"]) and
                   refused_transfer(crossed["write_artifact"]), crossed)
    check.that("team-b is as it was", users.experiments("team-b") == other, users.experiments("team-b"))

    admin = users.session("admin", "team-b", "search", "create_other")
    check.that("admin reaches team-b", admin["search"]["ok"] and admin["create_other"]["ok"], admin)
    check.that("the app's owner sees what admin made", len(users.experiments("team-b")) == len(other) + 1,
               users.experiments("team-b"))
    check.that("nobody without a token", front.ask(None, "GET", front.app.allowed_path).status == 401)


def main():
    check = Checks()
    front = Front("mlflow")
    try:
        programs = venv.ensure(venv.MLFLOW)
        front.start()
        scenario(front, programs, check)
    except Exception as e:  # not installed, not started: a failed test that says so
        check.that("MLflow behind Postern", False, "%s: %s" % (type(e).__name__, e))
    finally:
        code = front.stop()
        check.that("Postern ended well", code == 0, code)
    print("mlflow: %d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed else 0


if __name__ == "__main__":
    os.environ.setdefault("POSTERN_BUILD", paths.build_dir())
    sys.exit(main())
