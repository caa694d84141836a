"""`sweep confirm` in a run folder: the seal of the test split, refusals, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import make_space
from test_rounds import TEXT, noisy_train

from model.setting import ConfigError
from sweep import publisher, report
from sweep.cli import cli
from sweep.confirm_run import Request, confirm
from sweep.errors import SweepError
from sweep.identity import RESOLVED, write_or_compare
from sweep.journal import NAME, read_events, read_view
from sweep.records import Role
from sweep.run import Job, Options, drive, search
from sweep.sections import BudgetConfig

ASKED = Request(2, 3, until_separated=False, budget=BudgetConfig(trials=99))
HERE = Options(here=True, plain=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished search by the fake trainer; nobody publishes it."""
    silent = SimpleNamespace(
        start=lambda folder: None,
        close=lambda process: None,
        finish=lambda process: True,
        lock=publisher.lock,
        Locked=publisher.Locked,
    )
    monkeypatch.setattr("sweep.run.publisher", silent)
    space = make_space(tmp_path, TEXT)
    space = replace(space, fixed={**space.fixed, "data.digest": "d1"})
    path = tmp_path / "runs" / "fake"
    path.mkdir(parents=True)
    write_or_compare(path, space, TEXT)
    assert drive(Job(space, path, search(space, path)), HERE, noisy_train) == 0
    return path


class Evaluator:
    """Test losses without weights, and which folders were asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, folder: Path) -> tuple[float, float]:
        self.asked.append(folder.name)
        return 3.0 + 0.01 * len(self.asked), 0.02


def test_the_test_split_is_looked_at_once_for_the_winners_fresh_seeds(folder: Path) -> None:
    evaluate = Evaluator()

    assert confirm(folder, ASKED, HERE, noisy_train, evaluate) == 0
    assert confirm(folder, ASKED, HERE, noisy_train, evaluate) == 0

    view = read_view(folder / NAME)
    winner = report.winner(view)
    assert winner is not None
    assert evaluate.asked == [f"{winner.name}-s{seed}" for seed in (1, 2, 3)]
    (look,) = json.loads((folder / "sealed.json").read_text())
    assert look["losses"] == [3.01, 3.02, 3.03]
    assert "Test split: 3.0200 (2.9952 to 3.0448) nats per token, mean of 3 seeds" in (
        report.result(view, folder)
    )


def test_a_second_look_is_refused_unless_asked_for_and_then_counted(folder: Path) -> None:
    evaluate = Evaluator()
    confirm(folder, ASKED, HERE, noisy_train, evaluate)

    with pytest.raises(SweepError, match="was looked at before: 3.0200 .* seen 20..-") as refused:
        confirm(folder, replace(ASKED, test=True), HERE, noisy_train, evaluate)
    assert refused.value.code == 4
    assert len(evaluate.asked) == 3
    confirm(folder, replace(ASKED, again=True), HERE, noisy_train, evaluate)

    assert len(json.loads((folder / "sealed.json").read_text())) == 2
    text = report.result(read_view(folder / NAME), folder)
    assert "It was looked at 2 times; the first, 3.0200" in text


def test_deleting_the_record_does_not_seal_the_split_again(folder: Path) -> None:
    evaluate = Evaluator()
    confirm(folder, ASKED, HERE, noisy_train, evaluate)
    (folder / "sealed.json").unlink()

    confirm(folder, ASKED, HERE, noisy_train, evaluate)

    assert len(evaluate.asked) == 3


def test_the_split_stays_sealed_while_runs_are_left_or_it_is_asked_to(folder: Path) -> None:
    evaluate = Evaluator()
    short = replace(ASKED, budget=BudgetConfig(trials=3))

    confirm(folder, short, HERE, noisy_train, evaluate)
    confirm(folder, replace(ASKED, test=False), HERE, noisy_train, evaluate)

    assert evaluate.asked == []
    assert not (folder / "sealed.json").exists()


def test_looks_of_other_sweeps_at_the_same_tokens_are_told(folder: Path) -> None:
    for name, data in (("older", "d1"), ("unlike", "d2")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "sealed.json").write_text(json.dumps([{"data": data}]))

    confirm(folder, ASKED, HERE, noisy_train, Evaluator())

    text = report.result(read_view(folder / NAME), folder)
    assert "Other sweeps have looked at the same split: older." in text


def test_what_cannot_be_evaluated_is_told_and_leaves_no_look(folder: Path) -> None:
    def broken(folder: Path) -> tuple[float, float]:
        raise ConfigError([f"{folder.name}: holds no run that has ended"])

    with pytest.raises(SweepError, match="cannot be evaluated\n.*holds no run that has ended"):
        confirm(folder, ASKED, HERE, noisy_train, broken)

    evaluate = Evaluator()
    confirm(folder, ASKED, HERE, noisy_train, evaluate)
    assert len(evaluate.asked) == 3


def test_another_trainer_does_not_confirm(folder: Path) -> None:
    resolved = folder / RESOLVED
    lines = resolved.read_text().splitlines()
    resolved.write_text("\n".join("trainer: '0'" if "trainer:" in x else x for x in lines))

    with pytest.raises(SweepError, match="searched with another trainer"):
        confirm(folder, ASKED, HERE, noisy_train, Evaluator())


def test_a_search_goes_on_after_a_confirmation_and_keeps_its_result(folder: Path) -> None:
    confirm(folder, ASKED, HERE, noisy_train, Evaluator())
    before = report.winner_line(read_view(folder / NAME))
    space = make_space(folder.parent.parent, TEXT, "budget.trials=9")
    space = replace(space, fixed={**space.fixed, "data.digest": "d1"})

    drive(Job(space, folder, search(space, folder)), HERE, noisy_train)

    view = read_view(folder / NAME)
    assert len(view.searches()) == 9
    assert report.winner_line(view) == before
    assert report.counts(view).startswith("9/9 trials")
    assert sum(t.role is Role.CONFIRM for t in view.trials.values()) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "hour=2"], "hour=2: expected KEY=VALUE, KEY one of trials"),
        (["--budget", "flops=many"], "flops=many: expected a number, got 'many'"),
    ],
)
def test_a_budget_that_is_not_understood_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        cli(["confirm", "nowhere", *words], standalone_mode=False)


REAL = """
name: tiny
search:
  train.epochs: [2, 4, 8]
fixed:
  data.train_tokens: 4097
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 256
  train.evals: 8
budget: {trials: 3}
sampler: {name: random}
prune: {rule: none}
"""


@pytest.mark.slow
def test_a_confirmation_survives_kill_9_and_the_trainer_tells_the_test_loss(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(REAL)
    runs = ["--runs", str(tmp_path / "runs"), "--here", "--plain"]
    journal = tmp_path / "runs" / "tiny" / NAME
    found = sweep("run", str(tmp_path / "tiny.yaml"), "--set", f"data.path={corpus}", *runs)
    output = found.communicate()[0]
    assert found.returncode == 0, output
    asked = ["confirm", "--top", "2", "--seeds", "3", *runs]
    for after in (5, 20):
        driver = sweep(*asked)
        wait_for(journal, after, driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()

    last = sweep(*asked)
    output = last.communicate()[0]

    assert last.returncode == 0, output
    events = [event for event, _ in read_events(journal)]
    ours = {e["trial"] for e in events if e["event"] == "trial" and e["role"] == "confirm"}
    seen = [(e["trial"], e["basis_points"]) for e in events if e["event"] == "observation"]
    assert len(ours) == len([1 for e in events if e["event"] == "outcome" and e["trial"] in ours])
    assert len(seen) == len(set(seen))
    assert len(ours) in (3, 6)  # one recipe if the three trials drew the same epochs
    assert "Noise floor of this setup" in output
    assert "●" in output
    assert "Test split: " in output
    refused = sweep(*asked, "--test")
    assert "was looked at before" in refused.communicate()[0]
    assert refused.returncode == 4


def sweep(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(journal: Path, count: int, driver: subprocess.Popen[str]) -> None:
    """Return once confirming runs have made `count` observations; fails if the driver ends."""
    import select

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and driver.poll() is None:
        events = [event for event, _ in read_events(journal)]
        if sum(e["event"] == "observation" and "-s" in e["trial"] for e in events) >= count:
            return
        select.select([], [], [], 0.02)  # there is no event to wait for
    raise AssertionError(driver.communicate()[0])
