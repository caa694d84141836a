"""What becomes of a journal's events, with a store in memory instead of MLflow's."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.folder import JOURNAL
from sweep.journal import Journal
from sweep.records import Ending


class Store:
    """Takes what an MLflow client sends; a run's id is its name."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self.status: dict[str, str] = {}
        self.params: dict[str, dict[str, str]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.names: dict[str, str] = {}
        self.views: list[str] = []

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, *about: object) -> str:
        return "1"

    def search_runs(self, *about: object, **more: object) -> Any:
        class Page(list[object]):
            token = None

        return Page()

    def create_run(self, experiment: str, when: int, tags: dict[str, str], name: str) -> Any:
        self.names[tags["sweep.trial"]] = name
        return SimpleNamespace(info=SimpleNamespace(run_id=tags["sweep.trial"]))

    def log_batch(
        self,
        run: str,
        metrics: tuple[Any, ...] = (),
        params: tuple[Any, ...] = (),
        tags: tuple[Any, ...] = (),
    ) -> None:
        self.params.setdefault(run, {}).update({param.key: param.value for param in params})
        self.tags.setdefault(run, {}).update({tag.key: tag.value for tag in tags})
        for metric in metrics:
            curve = self.metrics.setdefault(run, {}).setdefault(metric.key, [])
            curve.append((metric.step, metric.value))

    def set_terminated(self, run: str, status: str, when: int | None = None) -> None:
        self.status[run] = status

    def log_inputs(self, *about: object, **more: object) -> None: ...

    def set_tag(self, run: str, key: str, text: str) -> None:
        self.tags.setdefault(run, {})[key] = text

    def set_experiment_tag(self, experiment: str, tag: str, value: str) -> None:
        packed = json.loads(value)["state"].removeprefix("deflate;")
        self.views.append(zlib.decompress(base64.b64decode(packed)).decode())


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr("sweep.tracking.publisher.MlflowClient", lambda tracking_uri: store)
    return store


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / JOURNAL)
    journal.append("sweep", id="1", name="fake", data="d1", train_tokens=100, trials=2)
    yield journal
    journal.close()


def train(
    journal: Journal,
    name: str,
    devices: float,
    *evaluations: tuple[float, float],
    role: str = "search",
    searched: dict[str, Any] | None = None,
) -> None:
    """A trial that ends complete; evaluations are (val_loss, seconds so far)."""
    about: dict[str, Any] = {"trial": name, "searched": searched or {"train.epochs": 1}}
    journal.append("trial", role=role, settings={}, devices=devices, **about)
    for number, (loss, seconds) in enumerate(evaluations, 1):
        seen = {"step": 10 * number, "epoch": float(number), "basis_points": number}
        seen["val_loss_error"] = 0.01
        journal.append("observation", trial=name, val_loss=loss, seconds=seconds, **seen)
    journal.append("outcome", trial=name, outcome="complete", ending="finished", reason="")


def publish(folder: Path) -> None:
    from sweep.tracking.publisher import Publisher

    Publisher(folder, "http://nowhere", None).publish()


def test_the_cost_of_the_best_is_the_seconds_of_all_trials_times_their_devices(
    store: Store, journal: Journal, tmp_path: Path
) -> None:
    """Two devices for 30 s, then one for 50 s: 60 and 110; seconds are told so far."""
    train(journal, "0000", 2, (4.0, 10.0), (3.5, 20.0), (3.0, 30.0))
    train(journal, "0001", 1, (4.0, 20.0), (2.5, 50.0))

    publish(tmp_path)

    parent = store.metrics["sweep"]
    assert parent["sweep/best_val_loss_by_device_seconds"] == [(60, 3.0), (110, 2.5)]
    assert parent["sweep/best_val_loss_by_ended_trials"] == [(1, 3.0), (2, 2.5)]


def test_a_confirming_run_has_the_settings_and_the_name_of_what_it_runs_again(
    store: Store, journal: Journal, tmp_path: Path
) -> None:
    """Before, it was the first row of the table by final loss, and all dashes."""
    journal.append("baseline", source="measured", points=[[100, 4.0], [400, 2.0]])
    train(journal, "0000", 1, (3.0, 1.0), searched={"optim.name": "muon", "train.epochs": 8})
    journal.append("confirm", finalists=["0000"], seeds=2, until_separated=False)
    for seed, loss in ((1, 3.1), (2, 3.3)):
        run = {"finalist": "0000", "seed": seed}
        train(journal, f"0000-s{seed}", 1, (loss, 1.0), role="confirm", searched=run)
    journal.append("confirmed", trial="0000", mean=3.2, runs=2, tied=[], over=True)

    publish(tmp_path)

    assert store.names["0000-s1"] == "0000-s1 muon 8ep"
    expected = {"optim.name": "muon", "train.epochs": "8", "finalist": "0000", "seed": "1"}
    assert store.params["0000-s1"] == expected
    assert store.metrics["0000-s1"]["final/data_efficiency"][0][1] == pytest.approx(2.35)
    for run in ("0000", "sweep"):
        assert store.metrics[run]["confirmed/val_loss"] == [(0, pytest.approx(3.2))]
        assert store.metrics[run]["confirmed/data_efficiency"] == [(0, pytest.approx(2.2))]
    assert store.tags["0000"]["sweep.confirmed"] == "3.2000 of 2 fresh seeds, best"


@pytest.mark.parametrize(
    ("loss", "text", "name", "value"),
    [
        (1.5, ">4x", "final/data_efficiency_at_least", 4.0),
        (4.5, "<1x", "final/data_efficiency_at_most", 1.0),
        (3.0, "2.50x", "final/data_efficiency", 2.5),
    ],
)
def test_what_lies_beyond_the_baseline_is_no_number_among_those_that_were_measured(
    loss: float,
    text: str,
    name: str,
    value: float,
    store: Store,
    journal: Journal,
    tmp_path: Path,
) -> None:
    """Before, less than 1x was 1 and more than 4x was 4, as if measured."""
    journal.append("baseline", source="measured", points=[[100, 4.0], [400, 2.0]])
    train(journal, "0000", 1, (loss, 1.0))

    publish(tmp_path)

    worth = {key: p for key, p in store.metrics["0000"].items() if "data_efficiency" in key}
    assert worth.pop(name) == [(0, pytest.approx(value))]
    assert set(worth) == ({"curves/data_efficiency"} if name == "final/data_efficiency" else set())
    assert store.tags["0000"]["sweep.data_efficiency"] == text
    assert ("sweep/best_data_efficiency_by_device_seconds" in store.metrics["sweep"]) == bool(worth)


def test_before_the_first_trial_the_page_shows_the_baseline_and_what_will_be_searched(
    store: Store, tmp_path: Path
) -> None:
    """Before, the address named no view, and the page said that there are no charts."""
    journal = Journal(tmp_path / JOURNAL)
    header = {"id": "1", "name": "fake", "data": "d1", "train_tokens": 100, "trials": 2}
    searched = {"searched": ["optim.lr", "train.epochs"], "log_scaled": ["optim.lr"]}
    journal.append("sweep", **header, **searched)
    baseline = {"multiple": 1}
    train(journal, "baseline-1x", 1, (4.0, 1.0), role="baseline", searched=baseline)
    publish(tmp_path)
    train(journal, "0000", 1, (4.0, 1.0), searched={"optim.lr": 0.01, "train.epochs": 1})
    publish(tmp_path)
    journal.close()

    before, after = store.views
    assert "params.`optim.lr`" in before
    assert ("!= 'baseline'" in before, "!= 'baseline'" in after) == (False, True)
    # MLflow has no logarithmic axis for settings.
    assert '"xaxis":{"key":"log10/optim.lr","type":"METRIC"}' in after
    assert '"xaxis":{"key":"train.epochs","type":"PARAM"}' in after
    assert store.metrics["0000"]["log10/optim.lr"] == [(0, pytest.approx(-2))]
    assert "log10/optim.lr" not in store.metrics["baseline-1x"]


def test_the_best_epoch_is_that_of_the_lowest_loss_and_final_is_the_last(
    store: Store, journal: Journal, tmp_path: Path
) -> None:
    """A trial that learned its corpus by heart after its second epoch."""
    train(journal, "0000", 1, (4.0, 1.0), (3.0, 2.0), (3.7, 3.0))

    publish(tmp_path)

    shown = {name: points[0][1] for name, points in store.metrics["0000"].items()}
    assert (shown["best/val_loss"], shown["best/epoch"]) == (3.0, 2.0)
    assert shown["final/val_loss"] == 3.7


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (Ending.TRIALS_SPENT, "FINISHED"),
        (Ending.BUDGET_SPENT, "FINISHED"),
        (Ending.NOTHING_FITS, "FINISHED"),
        (Ending.TARGET_REACHED, "FINISHED"),
        (Ending.NOTHING_LEFT, "FINISHED"),
        (Ending.CONFIRMED, "FINISHED"),
        (Ending.RUNS_FAILED, "FAILED"),
        (Ending.GAVE_UP, "FAILED"),
        (Ending.DISK_FULL, "FAILED"),
        (Ending.CRASHED, "FAILED"),
    ],
)
def test_a_sweep_that_did_its_work_is_shown_as_finished(
    ending: Ending, status: str, store: Store, journal: Journal, tmp_path: Path
) -> None:
    train(journal, "0000", 1, (4.0, 1.0))
    journal.append("end", ending=ending, reason=str(ending))

    publish(tmp_path)

    assert store.status["sweep"] == status
