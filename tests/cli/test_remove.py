"""Room on the disk: nothing goes without being said, and nothing while a driver is at work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import fake_train
from sweeps import finished

from model.training.release import CHECKPOINT
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TEACHERS, TRIALS, locked
from sweep.journal import Journal, read_view
from sweep.records import FinalistRun, Role
from sweep.results import report
from sweep.session.session import Session
from sweep.space.space import Space

Open = Callable[..., Session]


@pytest.fixture
def folder(space: Space, open_session: Open, tmp_path: Path) -> Path:
    """A run folder of 12 trials with checkpoints of 1 kB."""
    session = open_session(space)
    folder = tmp_path / "runs" / "fake"
    (folder / TRIALS).mkdir(parents=True)
    view = finished(session, fake_train, folder / TRIALS)
    (tmp_path / JOURNAL).rename(folder / JOURNAL)
    for name in view.trials:
        (folder / TRIALS / name / CHECKPOINT).write_bytes(b"0" * 1000)
    return folder


def sweep_remove(*words: object) -> str:
    result = CliRunner().invoke(cli, ["remove", *map(str, words)])
    if result.exception is not None:
        assert isinstance(result.exception, SweepError)
        assert result.exception.code in (2, 4)
        return str(result.exception)
    return result.stderr


def names(folder: Path) -> set[str]:
    """Trials that have a checkpoint."""
    return {path.parent.name for path in folder.glob(f"{TRIALS}/*/{CHECKPOINT}")}


def test_without_yes_it_says_what_would_go_and_removes_nothing(folder: Path) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    best = report.winner(read_view(folder / JOURNAL))
    assert best is not None

    told = sweep_remove(folder)

    assert "nothing was removed: without --yes this only says what would go" in told
    assert "14 trials that took" in told
    assert f"its best, trial {best.name}" in told
    assert {*before, "driver.lock"} == {path.name for path in folder.rglob("*")}


def test_a_run_folder_is_removed_as_a_whole(folder: Path) -> None:
    told = sweep_remove(folder, "--yes")

    assert told.startswith("removed ")
    assert not folder.exists()
    assert folder.parent.exists()


def test_checkpoints_of_all_but_the_best_are_removed_and_results_stay(folder: Path) -> None:
    view = read_view(folder / JOURNAL)
    best = report.winner(view)
    assert best is not None

    told = sweep_remove(folder, "--checkpoints", "--yes")

    assert "checkpoints of 13 trials: 13 kB" in told
    assert f"those of {best.name} (the best) stay" in told
    assert names(folder) == {best.name}
    assert report.sweep_data(read_view(folder / JOURNAL), False) == report.sweep_data(view, False)
    assert "there is nothing of that to remove" not in told


def test_checkpoints_of_a_trial_of_several_networks_are_those_of_each(folder: Path) -> None:
    for member in ("member-1", "member-2"):
        (folder / TRIALS / "0003" / member).mkdir()
        (folder / TRIALS / "0003" / member / CHECKPOINT).write_bytes(b"0" * 1000)

    told = sweep_remove(folder, "--checkpoints", "--trial", "3", "--yes")

    assert told.startswith("removed 3 kB")
    assert not list((folder / TRIALS / "0003").rglob(CHECKPOINT))


def test_those_who_teach_an_unfinished_student_keep_their_checkpoints(folder: Path) -> None:
    teacher = folder / TEACHERS / "0000-d1.json"
    teacher.parent.mkdir()
    teacher.write_text(json.dumps({"members": [{"folder": "../trials/0005", "weight": 1.0}]}))
    journal = Journal(folder / JOURNAL)
    searched = FinalistRun("0000-d1", 1).searched
    settings = {"train.teacher": str(teacher)}
    of = {"role": Role.CONFIRM, "searched": searched, "settings": settings}
    journal.append("trial", trial="0000-d1-s1", **of)
    journal.close()

    told = sweep_remove(folder, "--checkpoints", "--yes")

    assert "0005 (teaches 0000-d1)" in told
    assert "0005" in names(folder)


def test_the_files_of_a_trial_are_removed_by_its_name(folder: Path) -> None:
    told = sweep_remove(folder, "--trial", "3", "--trial", "baseline-2x", "--yes")

    assert f"{folder / TRIALS / '0003'}: " in told
    assert "complete, val loss" in told
    assert not (folder / TRIALS / "0003").exists()
    assert not (folder / TRIALS / "baseline-2x").exists()
    assert "0003" in read_view(folder / JOURNAL).trials
    assert "no such trial" in sweep_remove(folder, "--trial", "99", "--yes")


def test_nothing_is_removed_while_a_driver_is_at_work(folder: Path) -> None:
    with locked(folder):
        told = sweep_remove(folder, "--yes")

    assert "is being run by another process" in told
    assert (folder / JOURNAL).exists()


def test_what_is_no_run_folder_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()

    assert "is no run folder" in sweep_remove(tmp_path / "book", "--yes")
    assert (tmp_path / "book").exists()
