"""A run folder in Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import Journal
from sweep.results.ranking import gaps, ranking

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("trained runs")  # they take seconds to train


def test_the_documented_example_runs(
    trained_runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (ROOT / "docs" / "notebook.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "runs").symlink_to(trained_runs)
    monkeypatch.chdir(tmp_path)

    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/notebook.md", "exec"), names)

    assert (tmp_path / "curves.svg").stat().st_size > 1000
    assert "5/5 trials: 5 complete" in capsys.readouterr().out


def test_every_column_of_the_trials_is_documented(trained_runs: Path) -> None:
    text = (ROOT / "docs" / "notebook.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    columns = sweep.open_run(trained_runs / "quickstart").trials.columns

    assert documented == {name for name in columns if "." not in name}


def test_a_row_says_what_the_journal_and_the_ranking_say(trained_runs: Path) -> None:
    run = sweep.open_run(trained_runs / "quickstart")

    rows = run.trials.set_index("trial")

    assert list(rows.index) == [trial.name for trial in run.view.searches()]
    for trial in run.view.searches():
        assert rows.loc[trial.name, "val_loss"] == trial.val_loss
        assert rows.loc[trial.name, "optim.lr"] == trial.settings["optim.lr"]
    for gap in gaps(run.view):
        assert rows.loc[gap.name, "worse_by"] == gap.difference
        assert rows.loc[gap.name, "worse_by_error"] == gap.error
        assert rows.loc[gap.name, "tied"] == gap.tied
    assert run.best["trial"] == ranking(run.view)[0].name
    assert run.best["worse_by"] == 0


def test_tables_are_ones_own(trained_runs: Path) -> None:
    run = sweep.open_run(trained_runs / "quickstart")

    table = run.trials
    table["val_loss"] = 0.0

    assert run.trials.val_loss.min() > 0


def test_runs_of_the_baseline_have_curves_and_are_no_trials_of_the_search(
    trained_runs: Path,
) -> None:
    run = sweep.open_run(trained_runs / "quickstart")

    assert set(run.trials.role) == {"search"}
    assert set(run.all_trials.role) == set(run.curves.role) == {"search", "baseline"}
    assert len(run.curves) == 4 * len(run.all_trials)
    assert list(run.baseline.tokens) == [2049, 4098]
    assert list(run.curves.groupby("trial").fraction.max().unique()) == [1.0]


def test_the_surface_goes_through_the_trials_and_is_unsure_far_from_them(
    trained_runs: Path,
) -> None:
    run = sweep.open_run(trained_runs / "quickstart")
    searched = run.trials[["optim.name", "optim.lr", "train.epochs"]]

    predicted = run.surface.predict(searched)
    alone = run.surface.predict(
        pd.DataFrame({"train.epochs": np.array([1, 2, 4])}, index=[7, 8, 9])
    )

    off = (predicted["mean"] - run.trials.val_loss).abs()
    assert (off < 3 * (predicted["sd"] + run.surface.noise)).all()
    assert list(alone.index) == [7, 8, 9]
    assert (alone["sd"] > 0).all()
    best = run.best["train.epochs"]
    assert alone["sd"].iloc[[1, 2, 4].index(best)] == alone["sd"].min()


def test_bad_questions_get_one_message(trained_runs: Path, tmp_path: Path) -> None:
    run = sweep.open_run(trained_runs / "quickstart")

    with pytest.raises(SweepError, match="not searched: gpt.width"):
        run.surface.predict(pd.DataFrame({"gpt.width": [16]}))
    with pytest.raises(SweepError, match=r"row 1: train.epochs 3, not one of \[1, 2, 4\]"):
        run.surface.predict(pd.DataFrame({"train.epochs": [2, 3]}))
    with pytest.raises(SweepError, match="no figure 'curve'; did you mean curves"):
        run.figure("curve")
    with pytest.raises(SweepError, match="has no trial 0099"):
        run.model(99)
    with pytest.raises(SweepError, match="is no run folder"):
        sweep.open_run(tmp_path)
    with pytest.raises(SweepError, match="no run folder was given"):
        sweep.open_runs([])
    with pytest.raises(AttributeError, match="has no attribute 'open_rum'"):
        sweep.open_rum  # noqa: B018


def test_a_sweep_that_has_just_begun_has_empty_tables(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    journal.append("sweep", id="1", name="new", trials=3, train_tokens=100, data="0", fixed={})
    journal.close()

    run = sweep.open_run(tmp_path)

    assert run.trials.empty
    assert run.curves.empty
    assert "val_loss" in run.curves
    with pytest.raises(SweepError, match="no complete trial yet"):
        run.best  # noqa: B018


def test_a_network_opened_twice_says_the_same_and_leaves_the_random_state(
    trained_runs: Path,
) -> None:
    import torch

    run = sweep.open_run(trained_runs / "quickstart")
    before = torch.get_rng_state()

    texts = {run.model(0).generate("1 2", 8, seed=3) for _ in range(2)}
    texts.add("".join(run.model(0).stream("1 2", 8, seed=3)))

    assert len(texts) == 1
    assert torch.equal(before, torch.get_rng_state())
    assert run.model(0).score("") is None


def test_importing_sweep_imports_nothing_heavy_and_shows_its_names() -> None:
    code = (
        "import sys, sweep\n"
        "heavy = {'pandas', 'numpy', 'torch', 'optuna', 'click', 'yaml', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert {'open_run', 'open_runs', 'Run', 'Runs'} <= set(dir(sweep))\n"
        "from sweep import open_run\n"
        "assert 'torch' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
