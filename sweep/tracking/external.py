"""Imported runs as MLflow runs of the sweep's experiment, marked external."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from sweep.tracking.process import MLFLOW_ENVIRONMENT

os.environ.update({**MLFLOW_ENVIRONMENT, **os.environ})  # read when mlflow is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from sweep.folder import CURSOR, EXTERNAL
from sweep.results.external_reader import ExternalRun
from sweep.tracking.metrics import METRICS_AT_ONCE
from sweep.tracking.process import with_password

PREFIX = "external "
ROLE = "external"
FINAL = "final/val_loss"  # likewise, in the table
CURVE = "curves/val_loss"  # where the sweep's own trials have theirs, so that charts show both
PARAMS_AT_ONCE = 100  # MLflow's limit for one batch
LONGEST_PARAM = 6000  # characters, MLflow's limit


def publish_external(
    client: MlflowClient, experiment: str, sweep: str, runs: Sequence[ExternalRun], when: int
) -> int:
    """Bring the external runs of one sweep up to date in `experiment`; how many were made.

    sweep   its id, as its own runs carry it
    when    milliseconds since 1970 that their points get: exports have times of other clocks
    A run that is there with the same digest is left alone; one that was imported otherwise since
    is replaced. Raises MlflowException if the store cannot take them.
    """
    ours = f"tags.`sweep.id` = '{sweep}' and tags.`sweep.role` = '{ROLE}'"
    there: dict[str, str] = {}
    for published in client.search_runs([experiment], ours, max_results=50_000):
        there[published.data.tags["sweep.digest"]] = published.info.run_id
        its = next((r for r in runs if r.digest == published.data.tags["sweep.digest"]), None)
        if its is not None and FINAL not in published.data.metrics:  # of an earlier version
            _log_final(client, published.info.run_id, its, when)
    for run_id in [i for digest, i in there.items() if digest not in {r.digest for r in runs}]:
        client.delete_run(run_id)
    new = [run for run in runs if run.digest not in there]
    for run in new:
        _create(client, experiment, sweep, run, when)
    return len(new)


def _create(client: MlflowClient, experiment: str, sweep: str, run: ExternalRun, when: int) -> None:
    """One run. Its digest is tagged last: without it, it counts as not there and is made again."""
    name = f"{PREFIX}{run.name}"
    tags = {
        "sweep.id": sweep,
        "sweep.trial": name,
        "sweep.role": ROLE,
        "sweep.source": run.source,
        "sweep.digest": "",
        "mlflow.note.content": f"imported from {run.source}; measured by its authors",
    }
    created = client.create_run(experiment, when, tags, name).info.run_id
    params = [Param(key, value[:LONGEST_PARAM]) for key, value in run.params.items()]
    for begin in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(created, params=params[begin : begin + PARAMS_AT_ONCE])
    points = run.curve or [(0, run.val_loss)]
    metrics = [Metric(CURVE, loss, when, step) for step, loss in points]
    for begin in range(0, len(metrics), METRICS_AT_ONCE):
        client.log_batch(created, metrics=metrics[begin : begin + METRICS_AT_ONCE])
    _log_final(client, created, run, when)
    client.set_tag(created, "sweep.digest", run.digest)
    client.set_terminated(created, "FINISHED", when)


def _log_final(client: MlflowClient, run_id: str, run: ExternalRun, when: int) -> None:
    """What the table of trials is sorted by."""
    if math.isfinite(run.val_loss):
        client.log_batch(run_id, metrics=[Metric(FINAL, run.val_loss, when, 0)])


def publish_kept(folder: Path, sweep: str, runs: Sequence[ExternalRun]) -> str:
    """Publish to the store that has the sweep in `folder`; why it could not, or nothing."""
    cursor = json.loads((folder / CURSOR).read_text())
    when = int((folder / EXTERNAL).stat().st_mtime * 1000)
    try:
        client = MlflowClient(tracking_uri=with_password(cursor["uri"], folder.parent))
        publish_external(client, cursor["experiment"], sweep, runs, when)
    except (MlflowException, OSError) as error:
        return str(error).splitlines()[0]
    return ""
