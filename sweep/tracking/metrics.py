"""Journal events as MLflow metrics, and the batches in which these are sent.

Every point carries the journal's own time, so that sending it twice leaves one copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric

from model.config import Value
from sweep.records import Event, Outcome
from sweep.results.efficiency import Multiplier
from sweep.view import TrialView

METRICS_AT_ONCE = 1000  # MLflow's limit for one batch
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
EFFICIENCY = "curves/data_efficiency"
FINAL_EFFICIENCY = "final/data_efficiency"
# Beyond the baseline a multiplier has a side, and no number that others can be compared with.
BEYOND = {">": "final/data_efficiency_at_least", "<": "final/data_efficiency_at_most"}
CONFIRMED_LOSS, CONFIRMED_EFFICIENCY = "confirmed/val_loss", "confirmed/data_efficiency"
CONFIRMED_RUNS = "confirmed/runs"
# MLflow has no logarithmic axis for settings: where factors matter, charts get the exponents of 10.
LOG10 = "log10/"
# What the table of trials is sorted by. Only a complete trial has what is final.
FINAL = ("val_loss", "bits_per_byte", "train_loss", "raw_loss", "gap", "seconds")
# Of the whole sweep, on its parent run. A step is an integer, so seconds and not hours.
BEST_BY_COST = "sweep/best_val_loss_by_device_seconds"
EFFICIENCY_BY_COST = "sweep/best_data_efficiency_by_device_seconds"
BEST_BY_TRIALS = "sweep/best_val_loss_by_ended_trials"
EXPECTED_GAIN = "sweep/expected_gain_by_proposals"
BASELINE = "baseline/val_loss_by_tokens"
SYSTEM = "system/"  # MLflow shows these on a page of their own


class MetricPoint(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    when: int  # milliseconds since 1970
    step: int


Points = Iterator[MetricPoint]


def of_observation(event: Event) -> Points:
    """The curves of a trial at one evaluation, and what it used of its machine."""
    when, step = event["time"], event["step"]
    for key, name in CURVES.items():
        if event.get(key) is not None:  # an average that there is not, or not yet
            yield MetricPoint(name, event[key], when, step)
    for key, value in event.get("usage", {}).items():
        yield MetricPoint(SYSTEM + key, value, when, step)


def of_steps(event: Event) -> Points:
    """The train loss and the speed of a single run between its evaluations."""
    for name in ("train_loss", "tokens_per_second"):
        yield MetricPoint(f"steps/{name}", event[name], event["time"], event["step"])


def of_settings(trial: TrialView, searched: Mapping[str, Value], log: Collection[str]) -> Points:
    """The exponents of settings that are searched on a logarithmic scale, for charts."""
    for name in log:
        value = searched.get(name)
        if isinstance(value, float | int) and value > 0:
            yield MetricPoint(LOG10 + name, math.log10(value), trial.started, 0)


def of_worth(worth: Multiplier, when: int) -> MetricPoint:
    """What a trial is worth in data; what lies beyond the baseline is under another name."""
    return MetricPoint(BEYOND.get(worth.side, FINAL_EFFICIENCY), worth.value, when, 0)


def of_outcome(trial: TrialView) -> Points:
    """One number each for how a trial did, to sort by.

    At step 0, or MLflow would draw a line of one point where bars can be compared.
    """
    if trial.last is None or trial.ended is None:
        return
    when, last = trial.ended, trial.last
    losses = [float(event["val_loss"]) for event in trial.observations]
    finite = [loss for loss in losses if math.isfinite(loss)]
    if trial.outcome is Outcome.COMPLETE:
        for key in FINAL:
            if last.get(key) is not None:
                yield MetricPoint(f"final/{key}", last[key], when, 0)
        if last.get("trunk_of"):  # beside `seconds`, which are the trial's own
            yield MetricPoint("final/trunk_seconds", last["trunk_seconds"], when, 0)
    if finite:
        best = min(finite)
        yield MetricPoint("best/val_loss", best, when, 0)
        yield MetricPoint("best/epoch", trial.observations[losses.index(best)]["epoch"], when, 0)
    if last.get("ema_loss") is not None:
        yield MetricPoint("ema/val_loss", last["ema_loss"], when, 0)


class Batches:
    """Metrics on their way to one store, by run."""

    def __init__(self, client: MlflowClient, run_id: Callable[[str], str]) -> None:
        self._client, self._run_id = client, run_id
        self._pending: dict[str, list[Metric]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pending.values()))

    def add(self, run: str, point: MetricPoint) -> None:
        """Take in a point; one that is no number is left out: MLflow cannot draw it."""
        if math.isfinite(point.value):
            metric = Metric(point.name, float(point.value), point.when, point.step)
            self._pending.setdefault(run, []).append(metric)

    def flush(self) -> None:
        """Send all of it."""
        for run in list(self._pending):
            self.flush_run(run)

    def flush_run(self, run: str) -> None:
        """Send what is of `run`, and forget what was sent."""
        metrics = self._pending.get(run, [])
        while metrics:
            self._client.log_batch(self._run_id(run), metrics=metrics[:METRICS_AT_ONCE])
            del metrics[:METRICS_AT_ONCE]
        self._pending.pop(run, None)
