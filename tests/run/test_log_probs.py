"""Which trials' log-probabilities a driver keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.config.setting import Value
from model.training import log_probs
from sweep.records import BaselinePoint, FinalistRun, Kind, Proposal, TrialEnding
from sweep.run.log_probs import LogProbs
from sweep.view import TrialView, View

OUTCOME = {"event": "outcome"}


def ended(
    folder: Path,
    view: View,
    name: str,
    loss: float,
    kind: Kind | None = None,
    ending: TrialEnding | None = TrialEnding.FINISHED,
    **settings: Value,
) -> None:
    kind = kind or Proposal({})
    view.trials[name] = TrialView(name, kind, settings, 0, [{"val_loss": loss}], ending)
    (folder / name).mkdir()
    log_probs.add(folder / name, log_probs.FINAL, np.array([-loss]))


def kept(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{log_probs.NAME}"))


def test_log_probabilities_of_the_best_trials_are_kept_as_a_sweep_goes_on(tmp_path: Path) -> None:
    view = View()
    files = LogProbs(tmp_path, view, most=2)

    for number, loss in enumerate([3.0, 2.0, 4.0, 1.0]):
        ended(tmp_path, view, f"{number:04}", loss)
        files.take(OUTCOME)

    assert kept(tmp_path) == ["0001", "0003"]


def test_those_of_baseline_runs_finalists_and_running_trials_are_kept(tmp_path: Path) -> None:
    view = View(confirm={"finalists": ["0001"]})
    ended(tmp_path, view, "0000", 1.0)
    ended(tmp_path, view, "0001", 2.0)
    ended(tmp_path, view, "0002", 3.0)
    ended(tmp_path, view, "0003", 4.0, ending=None)
    ended(tmp_path, view, "0001-s1", 5.0, FinalistRun("0001", 1))
    ended(tmp_path, view, "baseline-1x", 6.0, BaselinePoint(1))

    LogProbs(tmp_path, view, most=1).make_room()

    assert kept(tmp_path) == ["0000", "0001", "0001-s1", "0003", "baseline-1x"]


@pytest.mark.parametrize("each", ["epochs", "cycles"])
def test_those_of_every_epoch_or_cycle_were_asked_for_and_stay(tmp_path: Path, each: str) -> None:
    view = View()
    ended(tmp_path, view, "0000", 1.0, **{"train.log_probs": each})

    LogProbs(tmp_path, view, most=0).make_room()

    assert kept(tmp_path) == ["0000"]


def test_a_driver_makes_the_room_that_a_killed_one_did_not(tmp_path: Path) -> None:
    view = View()
    for number in range(3):
        ended(tmp_path, view, f"{number:04}", float(number))

    LogProbs(tmp_path, view, most=1).make_room()

    assert kept(tmp_path) == ["0000"]


@pytest.mark.parametrize("event", ["trial", "observation", "end"])
def test_nothing_is_deleted_while_no_trial_ends(tmp_path: Path, event: str) -> None:
    view = View()
    ended(tmp_path, view, "0000", 1.0)

    LogProbs(tmp_path, view, most=0).take({"event": event})

    assert kept(tmp_path) == ["0000"]


def test_files_that_are_elsewhere_or_cannot_be_deleted_stop_no_sweep(tmp_path: Path) -> None:
    view = View()
    ended(tmp_path, view, "0000", 1.0)
    (tmp_path / "0000" / log_probs.NAME).unlink()
    (tmp_path / "0000" / log_probs.NAME).mkdir()
    view.trials["0001"] = TrialView(
        "0001", Proposal({}), {}, 0, [{"val_loss": 2.0}], TrialEnding.FINISHED
    )

    LogProbs(tmp_path, view, most=0).make_room()

    assert kept(tmp_path) == ["0000"]
