"""The journal as MLflow runs. A process of its own, so that no trial ever waits for a server.

    python -m sweep.tracking RUN_FOLDER

It follows the journal while its standard input is open, then sends what is left and ends. What is
sent carries the journal's own times, so sending it twice leaves one copy: MLflow drops a point that
it has. The cursor moves only after the store has the points.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Read when mlflow is imported. A store that is down must be noticed soon, not after four minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

if __name__ == "__main__":
    os.nice(10)  # before the slow import: training comes first

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from sweep import journal
from sweep.efficiency import multiplier
from sweep.errors import SweepError
from sweep.publisher import CURSOR, LOCK, lock
from sweep.records import Event, Outcome, Role, TrialView, View, title

PARENT = "sweep"
STORE_LOCK = "mlflow.lock"
METRICS_AT_ONCE = 1000  # MLflow's limit for one batch
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_DRAIN = float(os.environ.get("SWEEP_DRAIN_SECONDS", "20"))
# What of an observation becomes a curve; the step is the optimizer's. MLflow draws one section for
# each prefix and those without one last, so that what people compare is seen first. Its page for
# comparing runs begins with the metric that was logged first.
CURVES = {
    "val_loss": "curves/val_loss",
    "train_loss": "curves/train_loss",
    "bits_per_byte": "curves/bits_per_byte",
    "raw_loss": "curves/raw_loss",
    "ema_loss": "curves/ema_loss",
    "weights_loss": "curves/weights_loss",
    "probabilities_loss": "curves/probabilities_loss",
    "gap": "curves/gap",
    "epoch": "epoch",
    "tokens": "tokens",
    "seconds": "seconds",
    "lr": "lr",
}
# How the reason begins for which a sweep that did its work stopped.
ENDED_WELL = ("budget spent", "target loss", "confirmed", "nothing left")
EFFICIENCY = "curves/data_efficiency"
# Without it MLflow opens the experiment as one about language-model applications.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
STATUS = {
    None: "RUNNING",
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.FAILED: "FAILED",
}


@dataclass
class Cursor:
    """How far one store has been told; kept in the run folder."""

    uri: str
    experiment: str = ""
    offset: int = 0  # bytes of the journal that the store has
    runs: dict[str, str] = field(default_factory=dict)  # trial name, or PARENT -> MLflow run id

    def save(self, folder: Path) -> None:
        beside = folder / f"{CURSOR}.part"
        beside.write_text(json.dumps(asdict(self)))
        os.replace(beside, folder / CURSOR)


class Publisher:
    """Sends one run folder's journal to one store."""

    def __init__(self, folder: Path, uri: str, artifacts: str | None) -> None:
        self._folder = folder
        self._client = MlflowClient(tracking_uri=uri)
        self._artifacts = artifacts
        self._view = View()
        self._read = 0
        self._cursor = self._load_cursor(uri)
        self._experiment = ""
        self._pending: dict[str, list[Metric]] = {}

    def publish(self) -> None:
        """Bring the store up to date with the journal. Raises MlflowException if it cannot."""
        path = self._folder / journal.NAME
        if not self._experiment and self._cursor.offset and not self._is_complete(path):
            self._cursor.offset = 0  # somebody deleted runs of ours: they are made again
        for event, offset in journal.read_events(path, self._read):
            self._view.apply(event)
            self._read = offset
            if offset > self._cursor.offset:
                if not self._experiment:
                    self._learn_runs(self._view)
                self._take(event)
        if self._read > self._cursor.offset:
            self._flush()
            self._cursor.offset = self._read
            self._cursor.save(self._folder)

    def _is_complete(self, path: Path) -> bool:
        """Whether the store still has a run for each trial it was told of."""
        told = View()
        for event, offset in journal.read_events(path):
            if offset <= self._cursor.offset:
                told.apply(event)
        self._learn_runs(told)
        return {PARENT, *told.trials} <= set(self._cursor.runs)

    def leave_interrupted(self) -> None:
        """The driver is gone without a word: show no run as running."""
        if self._view.end is None and self._cursor.runs:
            self._mark_interrupted()

    def _load_cursor(self, uri: str) -> Cursor:
        path = self._folder / CURSOR
        if path.exists():
            with suppress(ValueError, TypeError):  # a damaged cursor is none: all is sent again
                cursor = Cursor(**json.loads(path.read_text()))
                if cursor.uri == uri:
                    return cursor
        return Cursor(uri)

    def _take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "sweep":
            self._open(event)
        elif kind == "trial":
            self._open_trial(self._view.trials[event["trial"]])
        elif kind == "observation":
            trial = self._view.trials[event["trial"]]
            self._observe(trial, event)
            self._observe_efficiency(trial, event)
        elif kind == "outcome":
            self._end_trial(self._view.trials[event["trial"]])
            self._note_best(self._view.trials[event["trial"]])
        elif kind == "baseline":
            self._take_baseline(event)
        elif kind == "end":
            self._end(event)

    def _learn_runs(self, view: View) -> None:
        """Find or make the experiment, and learn which of our runs it has, whoever made them."""
        header = view.header
        found = self._client.get_experiment_by_name(header["name"])
        self._experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(header["name"], self._artifacts, EXPERIMENT_TAGS)
        )
        self._cursor.experiment = self._experiment
        ours = f"tags.`sweep.id` = '{header['id']}'"
        if found and found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        known = self._client.search_runs([self._experiment], ours, max_results=50_000)
        self._cursor.runs = {run.data.tags["sweep.trial"]: run.info.run_id for run in known}

    def _open(self, event: Event) -> None:
        if PARENT not in self._cursor.runs:
            tags = {"sweep.id": event["id"], "sweep.trial": PARENT, "sweep.data": event["data"]}
            name = f"sweep {event['name']}"
            run = self._client.create_run(self._experiment, event["time"], tags, name)
            self._cursor.runs[PARENT] = run.info.run_id
            fixed = [Param(name, str(value)) for name, value in event["fixed"].items()]
            self._client.log_batch(run.info.run_id, params=fixed)
        self._status(PARENT, "RUNNING")

    def _open_trial(self, trial: TrialView) -> None:
        parent = self._cursor.runs[PARENT]
        if trial.name in self._cursor.runs:  # an earlier driver left it unfinished
            again = [RunTag("sweep.state", "running"), RunTag("mlflow.parentRunId", parent)]
            self._client.log_batch(self._cursor.runs[trial.name], tags=again)
            self._status(trial.name, "RUNNING")
            return
        header = self._view.header
        tags = {
            "sweep.id": header["id"],
            "sweep.trial": trial.name,
            "sweep.role": trial.role,
            "sweep.state": "running",
            "sweep.data": header["data"],
            "mlflow.parentRunId": parent,
            "mlflow.note.content": title(trial.searched),
        }
        run = self._client.create_run(self._experiment, trial.started, tags, trial.name)
        self._cursor.runs[trial.name] = run.info.run_id
        params = [Param(name, str(value)) for name, value in trial.searched.items()]
        self._client.log_batch(run.info.run_id, params=params)

    def _observe(self, trial: TrialView, event: Event) -> None:
        for key, name in CURVES.items():
            if event[key] is not None:  # an average that there is not, or not yet
                self._metric(trial.name, name, event[key], event["time"], event["step"])

    def _observe_efficiency(self, trial: TrialView, event: Event) -> None:
        """How much data the baseline would need for this loss; clamped to what was measured."""
        baseline = self._view.baseline
        if baseline and trial.role is Role.SEARCH:
            value = multiplier(event["val_loss"], baseline, self._view.train_tokens(trial)).value
            self._metric(trial.name, EFFICIENCY, value, event["time"], event["step"])

    def _end_trial(self, trial: TrialView) -> None:
        self._flush_run(trial.name)
        tags = {"sweep.state": str(trial.outcome)}
        if trial.reason:
            tags["sweep.reason"] = trial.reason
        baseline = self._view.baseline
        if baseline and trial.role is Role.SEARCH:
            found = multiplier(trial.val_loss, baseline, self._view.train_tokens(trial))
            tags["sweep.data_efficiency"] = str(found)
        self._client.log_batch(
            self._cursor.runs[trial.name], tags=[RunTag(k, v[:5000]) for k, v in tags.items()]
        )
        self._status(trial.name, STATUS[trial.outcome], trial.ended)

    def _note_best(self, trial: TrialView) -> None:
        """The sweep's own curve: the best loss after so many ended trials."""
        if self._view.ranked()[:1] != [trial]:
            return
        assert trial.ended is not None
        done = sum(t.outcome is not None for t in self._view.searches())
        self._metric(PARENT, "best_val_loss", trial.val_loss, trial.ended, done)
        if self._view.baseline:
            found = multiplier(trial.val_loss, self._view.baseline, self._view.train_tokens(trial))
            self._metric(PARENT, "best_data_efficiency", found.value, trial.ended, done)

    def _take_baseline(self, event: Event) -> None:
        """The curve is known now: draw it, and give every earlier point its multiplier."""
        for tokens, loss in event["points"]:
            self._metric(PARENT, "baseline_val_loss", loss, event["time"], int(tokens))
        for trial in self._view.searches():
            for observation in trial.observations:
                self._observe_efficiency(trial, observation)
            if trial.outcome is not None:
                self._end_trial(trial)
        for best in self._view.ranked()[:1]:
            self._note_best(best)

    def _end(self, event: Event) -> None:
        if self._view.running():
            self._mark_interrupted()
        else:
            self._flush()
            done = event["reason"].startswith(ENDED_WELL)
            self._status(PARENT, "FINISHED" if done else "FAILED", event["time"])

    def _mark_interrupted(self) -> None:
        self._flush()
        for trial in self._view.running():
            self._client.set_tag(self._cursor.runs[trial.name], "sweep.state", "interrupted")
            self._status(trial.name, "KILLED")
        self._status(PARENT, "KILLED")

    def _metric(self, run: str, name: str, value: float, when: int, step: int) -> None:
        if math.isfinite(value):
            self._pending.setdefault(run, []).append(Metric(name, float(value), when, step))

    def _flush(self) -> None:
        for run in list(self._pending):
            self._flush_run(run)

    def _flush_run(self, run: str) -> None:
        metrics = self._pending.get(run, [])
        while metrics:
            self._client.log_batch(self._cursor.runs[run], metrics=metrics[:METRICS_AT_ONCE])
            del metrics[:METRICS_AT_ONCE]

    def _status(self, run: str, status: str, when: int | None = None) -> None:
        run_id = self._cursor.runs[run]
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status, when)


def follow(folder: Path, uri: str, artifacts: str | None) -> int:
    """Publish until standard input closes and the journal is sent, or the store stays away."""
    publisher, deadline, driver_lives = None, math.inf, True
    while time.monotonic() < deadline:
        if driver_lives:
            readable, _, _ = select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)
            if readable and not os.read(sys.stdin.fileno(), 1):
                driver_lives, deadline = False, time.monotonic() + SECONDS_TO_DRAIN
        try:
            if publisher is None:
                # Two processes that make one fresh database at once would break it.
                with lock(folder.parent / STORE_LOCK, wait=True):
                    publisher = Publisher(folder, uri, artifacts)
                    publisher.publish()
            publisher.publish()
            if not driver_lives:
                publisher.leave_interrupted()
                return 0
        except (MlflowException, OSError, SweepError) as error:
            logging.warning("the store at %s did not take it: %s", uri, error)
            publisher = None  # what it had in hand is read from the journal again
            if not driver_lives:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    return 1


def main(arguments: list[str]) -> int:
    folder, uri, artifacts = Path(arguments[0]), arguments[1], arguments[2] or None
    logging.basicConfig(filename=folder / "tracking.log", format="%(asctime)s %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the driver decides when we end
    with lock(folder / LOCK, wait=True):
        return follow(folder, uri, artifacts)


def _log_crash(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    logging.error("stopped by an error of ours", exc_info=(kind, error, trace))


if __name__ == "__main__":
    sys.excepthook = _log_crash
    sys.exit(main(sys.argv[1:]))
