"""What networks keep of the ensemble that taught them, for real: `sweep ensemble --distill`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sweeps import without_tracking

from model.training import log_probs
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS
from sweep.journal import read_view
from sweep.predictions import mixture
from sweep.predictions.ensemble import ensemble_of
from sweep.predictions.students import TOGETHER, taught, taught_text


@pytest.fixture(autouse=True)
def _nobody_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_tracking(monkeypatch)


def distilled(folder: Path, *arguments: str) -> dict[str, object]:
    command = ["ensemble", str(folder), "--here", "--plain", "--json", *arguments]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_a_student_is_told_beside_the_best_and_the_ensemble_and_never_joins_it(
    run_folder: Path,
) -> None:
    before = distilled(run_folder)

    after = distilled(run_folder, "--distill", "--teacher-weight", "0.8")

    assert after["candidates"] == before["candidates"] == distilled(run_folder)["candidates"]
    (student,) = after["students"]  # type: ignore[misc]
    assert student["name"].endswith("-d1-s1")  # type: ignore[index]
    its = ensemble_of(run_folder, view := read_view(run_folder / JOURNAL))
    (same,) = taught(view, its, [student["name"]])  # type: ignore[index]
    kept_N = log_probs.read(run_folder / TRIALS / same.name)["final"][: its.tokens]
    assert same.loss == pytest.approx(-kept_N.mean()) == student["loss"]  # type: ignore[index]
    gain, whole = -same.against_best.mean, -its.chosen.against_best.mean
    assert same.kept == pytest.approx(gain / whole if whole > 0 else math.nan, nan_ok=True)
    assert same.name in taught_text(its, [same])
    assert json.loads((run_folder / "teachers" / f"{its.best}-d1.json").read_text())["members"]


def test_links_of_a_chain_are_told_each_and_together(run_folder: Path) -> None:
    students = distilled(run_folder, "--chain", "2")["students"]

    names = [student["name"] for student in students]  # type: ignore[attr-defined,index]
    assert names[-1] == TOGETHER
    kept_KN = np.stack([log_probs.read(run_folder / TRIALS / n)["final"] for n in names[:-1]])
    mixed_N = mixture.mixed(kept_KN, mixture.uniform(kept_KN))
    assert students[-1]["loss"] == pytest.approx(-mixed_N[:3072].mean())  # type: ignore[index]


def test_words_that_do_not_go_together_are_refused(run_folder: Path) -> None:
    for words, why in [
        (["--distill", "--chain", "2"], "exclude each other"),
        (["--temperature", "2"], "are for --distill and --chain"),
        (["--of", "0001"], "for what --train, --distill or --chain trains"),
    ]:
        done = CliRunner().invoke(cli, ["ensemble", str(run_folder), *words])
        assert isinstance(done.exception, SweepError)
        assert why in str(done.exception)
        assert done.exception.code == 2
