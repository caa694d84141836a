"""The MLflow runs of a sweep: a parent, and a child for each trial."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

from model.config import AS_THERE_IS, SETTINGS, Value
from sweep.format import short_names, three_digits
from sweep.records import Event, Outcome
from sweep.tracking.cursor import PARENT, Cursor
from sweep.view import TrialView, View

# Without it MLflow opens the experiment as one about language-model applications.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
STATUS = {
    None: "RUNNING",
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.FAILED: "FAILED",
}
SOURCE = {"mlflow.source.name": "sweep", "mlflow.source.type": "LOCAL"}
# MLflow's charts call every hyperparameter of steps "Step".
PARENT_NOTE = """The search as a whole: its trials are the child runs, its files under Artifacts.

- `sweep/..._by_device_seconds`: the best so far; a step is a second of training on one device
- `sweep/..._by_ended_trials`: the same; a step is a trial that ended
- `sweep/expected_gain_by_proposals`: nats that any trial was expected to gain at most
- `baseline/val_loss_by_tokens`: the plain recipe; a step is a token of its training data

Losses are nats per token, data efficiencies how many times the data the plain recipe would need."""
LONGEST_TAG = 5000  # characters; the databases of older servers hold no more
LONGEST_LABEL = 100
LONGEST_DIGEST = 36  # MLflow's limit; the whole digest is in the profile
PLAIN_WORD = re.compile(r"(?!(yes|no)$)[a-z][\w-]*")  # tells which setting it is of by itself


def label(searched: Mapping[str, Value]) -> str:
    """What makes a trial different, short enough for a legend: `muon wd=2.8 8ep`.

    Words come first: pages cut the end off.
    """
    words, numbers = [], []
    for name, word in short_names(list(searched)).items():
        value = searched[name]
        if isinstance(value, str) and PLAIN_WORD.fullmatch(value):
            words.append(value)
        elif word == "epochs":
            numbers.append(f"{value}ep")
        else:
            numbers.append(f"{word}={three_digits(value)}")
    text = " ".join(words + numbers)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 3]}..."


class Runs:
    """Makes, finds and ends the runs of one sweep in one store."""

    def __init__(self, client: MlflowClient, cursor: Cursor, artifacts: str | None) -> None:
        self._client, self._cursor, self._artifacts = client, cursor, artifacts

    def run_id(self, name: str) -> str:
        """MLflow's id of a trial's run, or of the sweep's own."""
        return self._cursor.runs[name]

    def learn(self, header: Event) -> None:
        """Find or make the experiment, and learn which of our runs it has, whoever made them."""
        experiment = self._client.get_experiment_by_name(header["name"])
        self._cursor.experiment = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(header["name"], self._artifacts, EXPERIMENT_TAGS)
        )
        if experiment and experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        ours = f"tags.`sweep.id` = '{header['id']}'"
        experiments, token = [self._cursor.experiment], None
        run_ids: dict[str, str] = {}
        while True:
            page = self._client.search_runs(experiments, ours, max_results=1000, page_token=token)
            run_ids |= {run.data.tags["sweep.trial"]: run.info.run_id for run in page}
            token = page.token
            if not token:
                break
        self._cursor.runs = run_ids

    def delete(self, name: str) -> None:
        """Delete the run of a trial, or the sweep's own; MLflow can still restore it."""
        self._client.delete_run(self._cursor.runs.pop(name))

    def has_all(self, view: View) -> bool:
        """Whether the store has a run for each trial of `view`."""
        return {PARENT, *view.trials} <= set(self._cursor.runs)

    def open_parent(self, event: Event) -> None:
        """Make the sweep's own run, or show it as running again."""
        if PARENT in self._cursor.runs:
            return self.status(PARENT, "RUNNING")
        tags = {
            "sweep.id": event["id"],
            "sweep.trial": PARENT,
            "sweep.data": event["data"],
            "mlflow.note.content": PARENT_NOTE,
            **SOURCE,
        }
        run = self._client.create_run(
            self._cursor.experiment, event["time"], tags, f"sweep {event['name']}"
        )
        self._cursor.runs[PARENT] = run.info.run_id
        return None

    def open_trial(self, header: Event, trial: TrialView, recipe: Mapping[str, Value]) -> None:
        """Make a trial's run, or show it as running again if an earlier driver left it.

        recipe   the searched settings that it trains: of a confirming run those of its finalist
        """
        parent = self._cursor.runs[PARENT]
        if trial.name in self._cursor.runs:
            again = [RunTag("sweep.state", "running"), RunTag("mlflow.parentRunId", parent)]
            self._client.log_batch(self._cursor.runs[trial.name], tags=again)
            return self.status(trial.name, "RUNNING")
        tags = {
            "sweep.id": header["id"],
            "sweep.trial": trial.name,
            "sweep.role": str(trial.role),
            "sweep.state": "running",
            "sweep.data": header["data"],
            "mlflow.parentRunId": parent,
            "mlflow.note.content": str(trial.kind),
            **SOURCE,
        }
        name = f"{trial.name} {label(recipe)}" if recipe else trial.name
        run = self._client.create_run(self._cursor.experiment, trial.started, tags, name.strip())
        self._cursor.runs[trial.name] = run.info.run_id
        params = [Param(name, str(value)) for name, value in {**recipe, **trial.searched}.items()]
        self._client.log_batch(run.info.run_id, params=params)
        self._client.log_inputs(run.info.run_id, datasets=[dataset(header, trial.settings)])
        return None

    def end_trial(self, trial: TrialView, more: Mapping[str, str]) -> None:
        """Say how a trial ended: tags, and what MLflow calls its status."""
        tags = {"sweep.state": str(trial.outcome), "sweep.ending": str(trial.ending), **more}
        if trial.reason:
            tags["sweep.reason"] = trial.reason
        self._client.log_batch(
            self._cursor.runs[trial.name],
            tags=[RunTag(k, v[:LONGEST_TAG]) for k, v in tags.items()],
        )
        self.status(trial.name, STATUS[trial.outcome], trial.ended)

    def tag(self, name: str, key: str, text: str) -> None:
        """Tag a trial's run."""
        self._client.set_tag(self._cursor.runs[name], key, text[:LONGEST_TAG])

    def interrupt(self, names: list[str]) -> None:
        """Show these trials and the sweep as stopped in the middle."""
        for name in names:
            self._client.set_tag(self._cursor.runs[name], "sweep.state", "interrupted")
            self.status(name, "KILLED")
        self.status(PARENT, "KILLED")

    def status(self, name: str, status: str, when: int | None = None) -> None:
        """Set MLflow's own status, and the end in milliseconds since 1970 where there is one."""
        if status == "RUNNING":
            self._client.update_run(self._cursor.runs[name], status=status)
        else:
            self._client.set_terminated(self._cursor.runs[name], status, when)


def dataset(header: Event, settings: Mapping[str, Value]) -> DatasetInput:
    """What a trial trains on, as MLflow's dataset: where it is from, its digest, how much of it."""
    values = {name: settings.get(name, SETTINGS[name].default) for name in SETTINGS}
    path, tokens = str(values["data.path"]), str(values["data.train_tokens"])
    kind, source = _source(path)
    digest = str(header["data"])
    profile = {
        "digest": digest,
        "tokenizer": values["data.tokenizer"],
        "val_tokens": values["data.val_tokens"],
    }
    if values["data.test_tokens"] != AS_THERE_IS:
        profile["test_tokens"] = values["data.test_tokens"]
    entity = Dataset(
        name=PurePath(urlsplit(path).path).name or "python-standard-library",
        digest=digest[:LONGEST_DIGEST],
        source_type=kind,
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    # A dataset is logged once for the experiment; what differs between trials are tags of its use.
    tags = {"mlflow.data.context": "training", "train_tokens": tokens}
    return DatasetInput(entity, [InputTag(key, value) for key, value in tags.items()])


def _source(path: str) -> tuple[str, dict[str, object]]:
    """MLflow's kind of source, and what that kind consists of."""
    if not path:
        return "code", {"tags": {"mlflow.source.name": "the standard library of this Python"}}
    scheme = urlsplit(path).scheme
    if scheme in ("http", "https"):
        return "http", {"url": path}
    if scheme == "hf":
        return "hf", {"path": path}
    return scheme or "local", {"uri": path}
