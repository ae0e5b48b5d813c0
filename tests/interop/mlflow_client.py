"""Runs inside the environment of MLflow: one user's session with the unmodified client, told as JSON lines.

    mlflow_client.py WORKSPACE STEP...      (MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN in the environment)

A line is {"step", "ok"} plus what the step saw, or {"step", "ok": false, "class", "code", "http", "text"}."""
import json
import os
import sys
import tempfile

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

NAME = "interop experiment"
TEXT = "artifact written by the editor\n"


def artifact():
    path = os.path.join(tempfile.mkdtemp(), "note.txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(TEXT)
    return path


class Session:
    def __init__(self, run_id):
        self.client, self.run_id = MlflowClient(), run_id

    def create(self):
        return {"experiment": mlflow.create_experiment(NAME)}

    def create_other(self):
        return {"experiment": mlflow.create_experiment("of %s" % os.getpid())}

    def log(self):
        experiment = self.client.get_experiment_by_name(NAME)
        with mlflow.start_run(experiment_id=experiment.experiment_id) as run:
            mlflow.log_params({"alpha": 0.5, "depth": 3})
            mlflow.log_metrics({"loss": 0.25})
            mlflow.log_metric("loss", 0.125, step=1)
            mlflow.set_tag("by", "editor")
            mlflow.log_artifact(artifact())
        return {"run": run.info.run_id}

    def read(self):
        run = self.client.get_run(self.run_id)
        names = [f.path for f in self.client.list_artifacts(self.run_id)]
        with open(self.client.download_artifacts(self.run_id, "note.txt"), encoding="utf-8") as f:
            text = f.read()
        return {"params": run.data.params, "metrics": run.data.metrics, "artifacts": names, "same": text == TEXT,
                "history": len(self.client.get_metric_history(self.run_id, "loss"))}

    def search(self):
        return {"names": sorted(e.name for e in mlflow.search_experiments())}

    def create_run(self):
        return {"made": self.client.create_run(self.client.get_experiment_by_name(NAME).experiment_id).info.run_id}

    def rename_experiment(self):
        self.client.rename_experiment(self.client.get_experiment_by_name(NAME).experiment_id, "mine now")
        return {}

    def delete_experiment(self):
        self.client.delete_experiment(self.client.get_experiment_by_name(NAME).experiment_id)
        return {}

    def write_metric(self):
        self.client.log_metric(self.run_id, "loss", 9.0)
        return {}

    def write_tag(self):
        self.client.set_tag(self.run_id, "by", "somebody else")
        return {}

    def write_artifact(self):
        self.client.log_artifact(self.run_id, artifact(), "other")
        return {}

    def delete_run(self):
        self.client.delete_run(self.run_id)
        return {}

    def get_experiment(self):
        return {"experiment": self.client.get_experiment_by_name(NAME).experiment_id}


def main():
    workspace, run_id, steps = sys.argv[1], sys.argv[2], sys.argv[3:]
    mlflow.set_workspace(workspace)
    session = Session(run_id)
    for step in steps:
        line = {"step": step}
        try:
            line.update(getattr(session, step)(), ok=True)
            session.run_id = line.get("run", session.run_id)
        except Exception as e:
            answer = getattr(e, "response", None)
            line.update(ok=False, **{"class": type(e).__name__, "mlflow": isinstance(e, MlflowException),
                                     "code": getattr(e, "error_code", None),
                                     "http": getattr(answer, "status_code", None), "text": str(e)[:300]})
        print("STEP " + json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
