"""MLflow in one process for all tests: importing it takes seconds and changes the importer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# What mlflow prints must not come between the answers.
LOOP = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    asked = json.loads(line)
    names = asked["arguments"]
    try:
        exec(asked["code"], names)
        said = {"answer": names.get("answer")}
    except Exception:
        said = {"error": traceback.format_exc()}
    print(json.dumps(said), file=answers, flush=True)
"""

PUBLISH = """
from pathlib import Path
from sweep.tracking.__main__ import Follower
follower = Follower(Path(folder), uri, artifacts or None)
answer = follower.look() and follower.leave_interrupted()
"""

READ = """
from mlflow import MlflowClient
client = MlflowClient(uri)
answer = []
for experiment in client.search_experiments(filter_string="name = 'fake'"):
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        curves = {}
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            curves[name] = [(metric.step, metric.value) for metric in history]
        datasets = []
        for used in run.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in used.tags}
            datasets.append((used.dataset.name, used.dataset.digest, tags))
        answer.append(dict(id=run.info.run_id, name=run.info.run_name, status=run.info.status,
                           tags=run.data.tags, params=run.data.params, curves=curves,
                           datasets=datasets))
"""


class MLflowProcess:
    """Runs the code that a test hands it; what the code assigns to `answer` comes back as JSON."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", LOOP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def run(self, code: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"code": code, "arguments": arguments}), file=self._process.stdin, flush=True
        )
        line = self._process.stdout.readline()
        assert line, f"the process ended:\n{self._log.read_text()}"
        said = json.loads(line)
        assert "error" not in said, said["error"]
        return said["answer"]

    def publish(self, folder: Path, uri: str, artifacts: str) -> None:
        """Do what the publisher's process does when its driver has ended."""
        done = self.run(PUBLISH, folder=str(folder), uri=uri, artifacts=artifacts)
        assert done, self._log.read_text()

    def runs(self, uri: str) -> list[dict[str, Any]]:
        """All runs of the experiment `fake`, with their curves as (step, value) pairs."""
        return list(self.run(READ, uri=uri))

    def close(self) -> None:
        self._process.communicate()
