"""What becomes of a journal's events, with a store in memory instead of MLflow's."""

from __future__ import annotations

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

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, *about: object) -> str:
        return "1"

    def search_runs(self, *about: object, **more: object) -> Any:
        class Page(list[object]):
            token = None

        return Page()

    def create_run(self, experiment: str, when: int, tags: dict[str, str], name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=tags["sweep.trial"]))

    def log_batch(self, run: str, metrics: tuple[Any, ...] = (), **more: object) -> None:
        for metric in metrics:
            curve = self.metrics.setdefault(run, {}).setdefault(metric.key, [])
            curve.append((metric.step, metric.value))

    def set_terminated(self, run: str, status: str, when: int | None = None) -> None:
        self.status[run] = status

    def log_inputs(self, *about: object, **more: object) -> None: ...

    def set_experiment_tag(self, *about: object) -> None: ...


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


def train(journal: Journal, name: str, devices: float, *evaluations: tuple[float, float]) -> None:
    """A trial that ends complete; evaluations are (val_loss, seconds so far)."""
    about: dict[str, Any] = {"trial": name, "searched": {"train.epochs": 1}}
    journal.append("trial", role="search", settings={}, devices=devices, **about)
    for number, (loss, seconds) in enumerate(evaluations, 1):
        seen = {"step": 10 * number, "epoch": float(number), "basis_points": number}
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
