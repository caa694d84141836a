"""What sweeps there are, and any trial of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import diverging_train, fake_train
from sweeps import finished

from sweep.cli.main import cli
from sweep.folder import JOURNAL, SWEEP_ID
from sweep.session.session import Session
from sweep.space.space import Space

Open = Callable[..., Session]


@pytest.fixture
def runs(space: Space, open_session: Open, tmp_path: Path) -> list[str]:
    """Options that name a folder with one sweep of 12 trials, some of them pruned."""
    finished(open_session(space), diverging_train, tmp_path)
    (tmp_path / "runs" / "fake").mkdir(parents=True)
    (tmp_path / JOURNAL).rename(tmp_path / "runs" / "fake" / JOURNAL)
    return ["--runs", str(tmp_path / "runs")]


def test_sweeps_are_listed_with_what_they_found_and_take_of_the_disk(
    runs: list[str], tmp_path: Path
) -> None:
    fake, damaged = tmp_path / "runs" / "fake", tmp_path / "runs" / "damaged"
    damaged.mkdir()
    (damaged / JOURNAL).write_text("{no event}\n")
    (damaged / SWEEP_ID).write_bytes(b"0" * 5000)

    listed = json.loads(CliRunner().invoke(cli, ["list", *runs, "--json"]).stdout)
    text = CliRunner().invoke(cli, ["list", *runs]).stdout

    by_name = {sweep["name"]: sweep for sweep in listed}
    its = by_name["fake"]
    best = json.loads(CliRunner().invoke(cli, ["best", str(fake), "--json"]).stdout)
    assert (its["best"], its["val_loss"]) == (best["trial"], best["val_loss"])
    assert its["trials"] == "12/12"
    assert its["state"] == "trials spent"
    assert its["data_efficiency"] == ">2x"
    assert its["bytes"] == (fake / JOURNAL).stat().st_size
    assert "is damaged at byte 0" in by_name["damaged"]["problem"]
    assert by_name["damaged"]["bytes"] > 5000
    assert text.splitlines()[0].split()[:4] == ["run", "folder", "begun", "trials"]
    assert len(text.splitlines()) == 3


def test_the_command_of_any_trial_is_printed_by_its_name(runs: list[str], tmp_path: Path) -> None:
    from sweep.journal import read_view

    trials = read_view(tmp_path / "runs" / "fake" / JOURNAL).trials
    pruned = next(trial for trial in trials.values() if trial.outcome == "pruned")
    short = str(int(pruned.name))

    one = CliRunner().invoke(cli, ["best", str(tmp_path / "runs" / "fake"), short])
    turned = CliRunner().invoke(cli, ["best", short, str(tmp_path / "runs" / "fake")])
    same = CliRunner().invoke(cli, ["best", pruned.name, *runs])
    data = CliRunner().invoke(cli, ["best", "baseline-2x", "--json", *runs])

    assert one.stdout == turned.stdout == same.stdout
    assert f"--set optim.lr={pruned.settings['optim.lr']}" in one.stdout
    assert f"trial {pruned.name}: pruned (diverged" in one.stderr
    assert json.loads(data.stdout)["trial"] == "baseline-2x"


def test_a_word_that_is_neither_a_folder_nor_a_trial_is_told(runs: list[str]) -> None:
    result = CliRunner().invoke(cli, ["best", "0099", *runs])

    assert "0099: no such trial in" in str(result.exception)


def test_a_lower_budget_is_not_called_a_share(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """`16/4 trials` is what a sweep of 16 said after `--trials 4`."""
    from sweep.results import report

    session = open_session(space)
    finished(session, fake_train, tmp_path)
    view = session.journal.view

    assert report.counts(view).startswith("12/12 trials: ")
    view.header = {**view.header, "trials": 4}
    assert report.counts(view).startswith("12 trials: ")
