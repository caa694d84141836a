"""Budgets: what is spent, what fits, and that nothing is begun that does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import BaseStorage
from sweeps import session_in

from model.config.config import Config
from model.config.cost import trial_flops
from model.progress import Progress
from sweep.folder import JOURNAL
from sweep.journal import Journal, read_view
from sweep.records import BaselinePoint, Ending, Outcome, Role
from sweep.results import report
from sweep.results.budget import (
    HOUR,
    Expense,
    Spent,
    exhausted,
    expected_seconds,
    misfit,
    row_expense,
    spending,
    spent,
)
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.roles import SearchTrials
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.baseline import baseline_settings
from sweep.space.settings import BaselineConfig, BudgetConfig
from sweep.space.space import Space
from sweep.view import View

Open = Callable[[Space], Session]
UNSPENT = Spent(0, 0, 0, math.inf)


def run(session: Session, folder: Path, train: local.Train = fake_train) -> View:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    return session.journal.view


def limited(space: Space, **budget: float) -> Space:
    return replace(space, budget=replace(space.budget, **budget))  # type: ignore[arg-type]


def flops_of(view: View) -> float:
    """Counted anew, from the settings."""
    return sum(
        trial_flops(t.settings) * t.last["basis_points"] / 10_000
        for t in view.trials.values()
        if t.last
    )


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(share=st.floats(0.01, 30))
def test_a_sweep_never_exceeds_its_flops(
    share: float, space: Space, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    one = trial_flops({**space.fixed, "train.epochs": 1})
    limit = share * one
    session = session_in(folder, limited(space, flops=limit, trials=1000), open_storage(None))

    view = run(session, folder)
    session.close(session.end)

    assert flops_of(view) <= limit * (1 + 1e-9)
    assert flops_of(view) > min(limit, 2 * one) - one
    assert session.end.ending in (Ending.BUDGET_SPENT, Ending.NOTHING_FITS)
    assert all(t.outcome in (Outcome.COMPLETE, Outcome.PRUNED) for t in view.trials.values())


def test_what_is_handed_back_counts_nowhere(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    limit = 4 * trial_flops({**space.fixed, "train.epochs": 4})

    view = run(open_session(limited(space, flops=limit, trials=1000)), tmp_path)

    names = [int(t.name) for t in view.searches()]
    assert max(names) >= len(names)  # numbers that were handed back are missing
    assert view.count(Outcome.FAILED) == 0
    session = open_session(limited(space, trials=len(names) + 2))
    more = run(session, tmp_path)
    assert len(more.searches()) == len(names) + 2


def test_what_running_trials_still_need_is_not_given_away(space: Space, open_session: Open) -> None:
    """Two fit; a third is not begun beside them, although nothing is spent yet."""
    space = replace(space.pinned("train.epochs", 2), baseline=BaselineConfig())
    limit = 2.5 * trial_flops({"train.epochs": 2})
    session = open_session(limited(space, flops=limit, trials=1000))

    begun = [session.next_trial() for _ in range(3)]

    assert [trial is not None for trial in begun] == [True, True, False]


def test_a_trial_that_ends_early_makes_room(space: Space, open_session: Open) -> None:
    space = replace(space.pinned("train.epochs", 2), baseline=BaselineConfig())
    limit = 1.9 * trial_flops({"train.epochs": 2})
    session = open_session(limited(space, flops=limit, trials=1000))
    first = session.next_trial()
    assert first is not None
    assert session.next_trial() is None

    session.fail(first, "RuntimeError: at once")

    assert session.next_trial() is not None


def test_a_proposal_that_a_crash_left_unbegun_is_handed_back_if_it_does_not_fit(
    space: Space, open_session: Open, storage: BaseStorage
) -> None:
    SearchTrials(storage, space).ask()
    space = replace(space, baseline=BaselineConfig())

    session = open_session(limited(space, flops=1.0))

    assert session.next_trial() is None
    assert SearchTrials(storage, space).unfinished() == []


def test_spent_flops_survive_a_driver_that_vanishes(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    class Vanish(BaseException):
        pass

    def vanishing(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield progress
            if progress.basis_points == 5000 and "0000" in folder.name:
                raise Vanish

    limit = 6.5 * trial_flops({**space.fixed, "train.epochs": 2})
    space = limited(space, flops=limit, trials=1000)
    with pytest.raises(Vanish):
        run(open_session(space), tmp_path / "trials", vanishing)

    view = run(open_session(space), tmp_path / "trials")

    assert flops_of(view) <= limit
    assert view.trials["0000"].outcome is not None


def test_baseline_runs_that_do_not_fit_leave_room_for_those_that_do(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    space = replace(space, baseline=replace(space.baseline, multiples=(1, 2, 64)))
    limit = 8 * trial_flops(baseline_settings(space, BaselinePoint(1)))

    view = run(open_session(limited(space, flops=limit)), tmp_path)

    assert {"baseline-1x", "baseline-2x"} <= set(view.trials)
    assert "baseline-64x" not in view.trials
    more = run(open_session(limited(space, flops=1000 * limit)), tmp_path)
    assert "baseline-64x" in more.trials
    assert more.baseline is not None
    assert len(more.baseline) == 3


def test_no_trial_starts_once_the_target_is_reached(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    session = open_session(limited(space, target_loss=2.59, trials=1000))

    view = run(session, tmp_path)

    losses = [t.val_loss for t in view.searches() if t.outcome is Outcome.COMPLETE]
    assert losses[-1] <= 2.59 < min(losses[:-1])
    assert str(session.end) == "target loss 2.59 reached"
    lower = open_session(limited(space, target_loss=2.52, trials=1000))
    assert len(run(lower, tmp_path).searches()) > len(losses)


def test_device_hours_are_seconds_times_devices(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """The fake takes a second for each trial, whatever it costs."""
    space = replace(space, trial=replace(space.trial, cpus=4))
    hours = 5 * 4 / HOUR  # five trials on four cores
    session = open_session(limited(space, device_hours=hours, trials=1000))

    view = run(session, tmp_path)

    used = spent(view, (Role.SEARCH, Role.BASELINE)).device_seconds / HOUR
    assert {t.devices for t in view.trials.values()} == {4}
    assert used <= hours * 1.5  # the fake's speed differs from trial to trial
    assert session.end.ending in (Ending.BUDGET_SPENT, Ending.NOTHING_FITS)


@pytest.mark.parametrize(("gpus", "devices"), [(2.0, 2.0), (0.5, 0.5), (0.0, 4.0), (-1.0, 4.0)])
def test_devices_are_gpus_or_the_cores_of_a_trial_without_one(
    gpus: float, devices: float, space: Space, open_session: Open, tmp_path: Path
) -> None:
    """Below 0 the runner says whether there is one; this one does not."""
    space = replace(space, trial=replace(space.trial, cpus=4, gpus=gpus))

    view = run(open_session(limited(space, trials=2)), tmp_path)

    used = spent(view, (Role.SEARCH, Role.BASELINE))
    assert {t.devices for t in view.trials.values()} == {devices}
    assert used.device_seconds == devices * sum(t.seconds for t in view.trials.values())


def test_a_trial_longer_than_the_time_left_is_not_begun(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """The first had to tell that the cheapest takes a quarter of an hour."""

    def slow(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield Progress(**{**progress.to_dict(), "seconds": progress.seconds * HOUR})

    space = replace(space, baseline=replace(space.baseline, multiples=()))
    session = open_session(limited(space, hours=0.2, trials=1000))

    view = run(session, tmp_path, slow)

    assert len(view.trials) == 1
    assert str(session.end) == "budget spent: nothing that is left fits"


def test_the_hours_of_earlier_drivers_count_even_of_those_killed(tmp_path: Path) -> None:
    view, trial = View(), {"trial": "0000", "role": "search", "searched": {}, "settings": {}}
    for time, event in [(0, "sweep"), (1, "trial"), (3_000, "end"), (10_000, "sweep")]:
        view.apply({"event": event, "time": time, "reason": "", **trial})
    view.apply({"event": "trial", "time": 11_000, **trial})
    view.apply({"event": "x", "time": 14_000})
    view.apply({"event": "sweep", "role": "confirm", "time": 20_000})
    view.apply({"event": "trial", "time": 20_001, **trial})
    assert view.wall_seconds(Role.CONFIRM, 21_000) == 1
    view.apply({"event": "sweep", "time": 30_000})
    view.apply({"event": "trial", "time": 30_000, **trial})

    assert view.wall_seconds(Role.SEARCH, 32_000) == 3 + 4 + 2
    assert view.wall_seconds(Role.SEARCH) == 3 + 4


def test_expected_seconds_go_by_trials_of_like_cost_and_no_outlier() -> None:
    """Small networks reach less of a machine; one trial here was on a busy one."""
    small = [(1.0 + n / 100, 10.0 + n / 10) for n in range(5)]
    large = [(100.0 + n, 200.0 + 2 * n) for n in range(4)] + [(100.0, 9000.0)]

    assert expected_seconds(1.0, small + large) == pytest.approx(10)
    assert expected_seconds(200.0, small + large) == pytest.approx(400)
    assert math.isnan(expected_seconds(1.0, []))


def hours_of(*seconds: float) -> list[Expense]:
    return [Expense(1, each, 2 * each) for each in seconds]


@pytest.mark.parametrize(
    ("row", "running", "slots", "seconds"),
    [
        ([4, 4, 2], [], 1, 10),  # one after another
        ([4, 4, 2], [], 2, 6),  # the third after either of the first
        ([4, 4, 2], [], 3, 4),  # all at once
        ([4, 4, 2], [3], 2, 7),  # 0 to 4, 3 to 7 and 4 to 6, while another ends at 3
        ([4], [3, 5], 2, 7),  # begins when the first of two has ended
        ([], [3], 2, 0),
    ],
)
def test_a_row_of_runs_takes_as_long_as_its_slots_make_it(
    row: list[float], running: list[float], slots: int, seconds: float
) -> None:
    total = row_expense(hours_of(*row), hours_of(*running), slots)

    assert total == Expense(len(row), seconds, 2 * sum(row))


def test_a_row_with_a_run_of_unknown_length_has_no_known_length() -> None:
    assert math.isnan(row_expense(hours_of(4, math.nan), [], 2).seconds)


def test_a_misfit_says_what_it_needs_and_what_is_left() -> None:
    budget = BudgetConfig(flops=100, hours=2)

    assert misfit(budget, UNSPENT, [], Expense(100, 7200, 0)) == ""
    used = replace(UNSPENT, flops=50)
    running = [Expense(8, 0, 0), Expense(12, 0, 0)]
    assert misfit(budget, used, running, Expense(31, 0, 0)) == ("needs about 31 FLOPs, 30 are left")
    assert "2.5 hours, 2 are left" in misfit(budget, UNSPENT, [], Expense(0, 9000, 0))
    assert misfit(budget, replace(UNSPENT, seconds=7300), [], Expense(0, math.nan, 0))


def test_what_is_spent_is_said_of_each_budget_that_was_given() -> None:
    budget = BudgetConfig(flops=1e15, hours=2, target_loss=3)
    used = Spent(2.5e14, 1800, 0, 3.2)

    assert spending(budget, used) == (
        "spent: 0.5 of 2 hours, 2.5e+14 of 1e+15 FLOPs, best loss 3.2000, target 3"
    )
    assert spending(BudgetConfig(), used) == ""
    assert exhausted(budget, used) is None
    assert str(exhausted(budget, replace(used, seconds=7200))) == "budget spent: 2 of 2 hours"


def test_status_shows_what_is_spent(space: Space, storage: BaseStorage, tmp_path: Path) -> None:
    session = session_in(tmp_path, limited(space, flops=1e13), storage)
    run(session, tmp_path)
    session.close(session.end)
    journal = Journal(tmp_path / JOURNAL)
    journal.close()

    view = read_view(tmp_path / JOURNAL)
    view.budgets[Role.SEARCH] = {"flops": 1e13}

    assert "; spent: " in report.counts(view)
    assert "of 1e+13 FLOPs" in report.counts(view)
    assert report.sweep_data(view, False)["spent"]["flops"] == pytest.approx(flops_of(view))
