"""`sweep confirm` in a run folder: the seal of the test split, refusals, kills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from fakes import SIX_RECIPES, noisy_train
from sweeps import make_space

from model.config.config import Config
from model.config.setting import ConfigError
from model.progress import Progress
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, RESOLVED
from sweep.journal import read_view
from sweep.records import Role
from sweep.results import report
from sweep.run.confirmation import Request, confirm
from sweep.run.driver import (
    Job,
    Options,
    drive,
    search,
)
from sweep.space.settings import BudgetConfig

ASKED = Request(2, 3, until_separated=False, budget=BudgetConfig(trials=99))
HERE = Options(here=True, plain=True)


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

    view = read_view(folder / JOURNAL)
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
    text = report.result(read_view(folder / JOURNAL), folder)
    assert "It was looked at 2 times; the first, 3.0200" in text


def test_deleting_the_record_does_not_seal_the_split_again(folder: Path) -> None:
    evaluate = Evaluator()
    confirm(folder, ASKED, HERE, noisy_train, evaluate)
    (folder / "sealed.json").unlink()

    confirm(folder, ASKED, HERE, noisy_train, evaluate)

    assert len(evaluate.asked) == 3
    assert (folder / "sealed.json").exists()  # a crash may have come before it was written


def test_the_split_stays_sealed_while_runs_are_left_or_it_is_asked_to(folder: Path) -> None:
    evaluate = Evaluator()
    short = replace(ASKED, budget=BudgetConfig(trials=3))

    confirm(folder, short, HERE, noisy_train, evaluate)
    confirm(folder, replace(ASKED, test=False), HERE, noisy_train, evaluate)

    assert evaluate.asked == []
    assert not (folder / "sealed.json").exists()


def test_without_a_test_split_nothing_is_looked_at_and_the_confirmation_says_so(
    tmp_path: Path, search_in: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search_in(SIX_RECIPES.replace("evals: 2", "evals: 2, data.test_tokens: 0"))
    evaluate = Evaluator()

    assert confirm(folder, ASKED, HERE, noisy_train, evaluate) == 0
    with pytest.raises(SweepError, match="no test split to look at: the data has none"):
        confirm(folder, replace(ASKED, test=True), HERE, noisy_train, evaluate)
    with pytest.raises(SystemExit) as exited:
        cli(["confirm", str(folder), "--top=2", "--seeds=3", "--here"], standalone_mode=False)

    assert exited.value.code == 0
    assert "The data has no test split, so nothing is sealed." in capsys.readouterr().out
    assert evaluate.asked == []
    assert not (folder / "sealed.json").exists()


def test_another_look_does_not_come_before_the_plan_is_through(folder: Path) -> None:
    """`--again` allows a second look; it does not ask for an early one."""
    evaluate = Evaluator()
    short = replace(ASKED, budget=BudgetConfig(trials=3))

    confirm(folder, replace(short, again=True), HERE, noisy_train, evaluate)

    assert evaluate.asked == []


def test_a_spent_disk_keeps_the_split_sealed_even_if_a_look_was_asked_for(folder: Path) -> None:
    """That look could not be written down."""
    evaluate = Evaluator()

    def spent(config: Config, folder: Path) -> Iterator[Progress]:
        if folder.name.endswith("-s2"):
            raise OSError(28, "No space left on device")
        return noisy_train(config, folder)

    with pytest.raises(SweepError, match="no space left"):
        confirm(folder, replace(ASKED, test=True), HERE, spent, evaluate)

    assert evaluate.asked == []


def test_a_record_that_cannot_be_read_is_told_and_costs_no_look(folder: Path) -> None:
    for name, text in (("torn", "["), ("odd", "[3]")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "sealed.json").write_text(text)

    assert confirm(folder, ASKED, HERE, noisy_train, Evaluator()) == 0

    told = report.result(read_view(folder / JOURNAL), folder)
    assert "odd (perhaps: its record is damaged), torn (perhaps: its record is damaged)." in told


def test_a_lost_description_of_the_sweep_is_told(folder: Path) -> None:
    (folder / RESOLVED).unlink()

    with pytest.raises(SweepError, match="resolved.yaml is missing or damaged"):
        confirm(folder, ASKED, HERE, noisy_train, Evaluator())


def test_the_folder_one_stands_in_has_its_neighbours_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks of other sweeps and the MLflow store are found from the folder's parent."""
    asked = []

    def note(path: Path, request: Request, options: Options) -> int:
        asked.append((path, options.runs))
        return 0

    monkeypatch.setattr("sweep.run.confirm", note)
    monkeypatch.chdir(folder)

    with pytest.raises(SystemExit):
        cli(["confirm", "."], standalone_mode=False)

    assert asked == [(folder, folder.parent)]


@pytest.mark.parametrize(
    ("words", "seeds"),
    [([], 4), (["--until-separated"], 64), (["--until-separated", "--seeds=8"], 8)],
)
def test_seeds_are_four_or_until_separated_at_most_64_unless_others_are_asked_for(
    words: list[str], seeds: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(path: Path, request: Request, options: Options) -> int:
        asked.append((request.seeds, request.until_separated))
        return 0

    monkeypatch.setattr("sweep.run.confirm", note)

    with pytest.raises(SystemExit):
        cli(["confirm", str(folder), *words], standalone_mode=False)

    assert asked == [(seeds, "--until-separated" in words)]


def test_more_seeds_than_anyone_trains_are_refused() -> None:
    with pytest.raises(click.BadParameter, match="not in the range"):
        cli(["confirm", "nowhere", "--seeds", "100000000"], standalone_mode=False)


def test_looks_of_other_sweeps_at_the_same_tokens_are_told(folder: Path) -> None:
    for name, data in (("older", "d1"), ("unlike", "d2")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "sealed.json").write_text(json.dumps([{"data": data}]))

    confirm(folder, ASKED, HERE, noisy_train, Evaluator())

    text = report.result(read_view(folder / JOURNAL), folder)
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
    before = report.winner_line(read_view(folder / JOURNAL))
    space = make_space(folder.parent.parent, SIX_RECIPES, "budget.trials=9")
    space = replace(space, fixed={**space.fixed, "data.digest": "d1"})

    drive(Job(space, folder, search(space, folder)), HERE, noisy_train)

    view = read_view(folder / JOURNAL)
    assert len(view.searches()) == 9
    assert report.winner_line(view) == before
    assert report.counts(view).startswith("9/9 trials")
    assert sum(t.role is Role.CONFIRM for t in view.trials.values()) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "hour=2"], "hour=2: no such setting; did you mean hours"),
        (["--budget", "flops=many"], "--budget flops: expected a number, got 'many'"),
    ],
)
def test_a_budget_that_is_not_understood_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        cli(["confirm", "nowhere", *words], standalone_mode=False)
