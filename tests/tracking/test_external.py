"""Imported runs in a real MLflow store: SQLite through MLflow's own client."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow_process import MLflowProcess

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]
CODE = """
from mlflow import MlflowClient
from sweep.results.external_reader import ExternalRun
from sweep.tracking.external import publish_external

client = MlflowClient(tracking_uri=uri)
experiment = client.create_experiment("fake")
client.create_run(experiment, 1, {"sweep.id": "7", "sweep.trial": "0000", "sweep.role": "search"})
curve = [(step, 4.0 - step / 1000) for step in range(1500)]
runs = [
    ExternalRun("a", curve[-1][1], {f"p{i}": "1" for i in range(150)}, curve, "a.csv"),
    ExternalRun("b", 3.0, {}, [], "a.csv"),
]
made = [publish_external(client, experiment, "7", runs, 1000) for _ in range(2)]
runs[1] = ExternalRun("b", 2.5, {}, [], "later.csv")
made.append(publish_external(client, experiment, "7", runs, 2000))
assert made == [2, 0, 1], made
found = {r.info.run_name: r for r in client.search_runs([experiment])}
assert set(found) - {"external a", "external b"} and len(found) == 3, found
a, b = found["external a"], found["external b"]
assert len(a.data.params) == 150 and a.info.status == "FINISHED"
assert len(client.get_metric_history(a.info.run_id, "curves/val_loss")) == 1500
assert b.data.metrics == {"curves/val_loss": 2.5, "final/val_loss": 2.5}
assert b.data.tags["sweep.role"] == "external"
ours = client.search_runs([experiment], "tags.`sweep.role` = 'search'")
assert len(ours) == 1
"""


def test_imported_runs_are_marked_and_published_once(
    tmp_path: Path, mlflow_process: MLflowProcess, empty_store: Path
) -> None:
    mlflow_process.run(CODE, uri=f"sqlite:///{shutil.copy(empty_store, tmp_path)}")
