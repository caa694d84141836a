"""`sweep ensemble --train`: fresh members of one recipe in a finished search's run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import noisy_train

from model.config.config import Config
from model.progress import Progress
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.records import Ending, Role
from sweep.results import report
from sweep.run.confirmation import Request, confirm
from sweep.run.driver import Options
from sweep.run.members import train_members
from sweep.space.settings import BudgetConfig

HERE = Options(here=True, plain=True)
ANY = BudgetConfig(trials=99)


def fresh(folder: Path) -> list[str]:
    trials = read_view(folder / JOURNAL).trials.values()
    return [trial.name for trial in trials if trial.role is Role.CONFIRM and trial.outcome]


def test_members_are_fresh_seeds_of_the_winner_and_not_in_the_ranking(folder: Path) -> None:
    before = read_view(folder / JOURNAL)
    winner = report.winner(before)
    assert winner is not None

    assert train_members(folder, 5, ANY, HERE, train=noisy_train) == 0

    view = read_view(folder / JOURNAL)
    assert fresh(folder) == [f"{winner.name}-s{seed}" for seed in range(1, 6)]
    assert [t.name for t in view.ranked()] == [t.name for t in before.ranked()]
    assert view.end is not None
    assert view.end.ending is Ending.MEMBERS_TRAINED
    assert report.result(view, folder).startswith("6/6 trials")
    seeds = {view.trials[name].settings["train.seed"] for name in fresh(folder)}
    assert len(seeds) == 5


def test_more_members_later_and_a_confirmation_find_those_that_are_there(folder: Path) -> None:
    first = read_view(folder / JOURNAL).ranked()[0].name
    train_members(folder, 2, ANY, HERE, first, noisy_train)

    train_members(folder, 3, ANY, HERE, first, noisy_train)
    asked = Request(1, 3, until_separated=False, budget=ANY, test=False)
    confirm(folder, asked, HERE, noisy_train)

    assert fresh(folder) == [f"{first}-s{seed}" for seed in (1, 2, 3)]


def test_a_driver_that_was_killed_leaves_its_members_to_the_next(folder: Path) -> None:
    def killed(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in noisy_train(config, folder):
            yield progress
            if folder.name.endswith("-s2"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(folder, 3, ANY, HERE, train=killed)
    assert len(fresh(folder)) == 1

    assert train_members(folder, 3, ANY, HERE, train=noisy_train) == 0

    assert len(fresh(folder)) == 3


def test_a_budget_leaves_members_out_and_says_so(folder: Path) -> None:
    train_members(folder, 3, BudgetConfig(trials=2), HERE, train=noisy_train)

    end = read_view(folder / JOURNAL).end
    assert len(fresh(folder)) == 2
    assert end is not None
    assert end.ending is Ending.TRIALS_SPENT


def test_members_of_a_trial_that_is_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(SweepError, match="no complete search trial 0099") as refused:
        train_members(folder, 3, ANY, HERE, "0099", noisy_train)
    assert refused.value.code == 2

    done = CliRunner().invoke(cli, ["ensemble", str(folder), "--of", "0001"])

    assert isinstance(done.exception, SweepError)
    assert "for what --train, --distill or --chain trains" in str(done.exception)
