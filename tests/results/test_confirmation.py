"""A confirmation driven as a user drives it, over a trainer whose noise depends on the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from pathlib import Path

import pytest
from fakes import NOISE, SIX_RECIPES, noisy_train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeps import make_space, session_in

from model.config.config import Config
from model.config.cost import trial_flops
from model.progress import Progress
from sweep.folder import JOURNAL
from sweep.journal import Journal
from sweep.records import SEEDS, Ending, Outcome, Role, Trial
from sweep.results import report
from sweep.results.budget import spent
from sweep.results.confirmation import ConfirmationPlan, Rounds
from sweep.results.confirmation_report import (
    confirmation_text,
    confirmed,
    drawn,
    verdict,
)
from sweep.results.significance import Mean
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.enqueue import SEEDS_ON, seed
from sweep.session.roles import Confirming, FinalistTrials
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.language.reader import MOST_SEEDS
from sweep.space.settings import BudgetConfig
from sweep.space.space import Space
from sweep.view import View


class Vanish(BaseException):
    """As kill -9 looks from inside."""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return make_space(tmp_path, SIX_RECIPES)


def drive(session: Session, folder: Path, train: local.Train = noisy_train) -> View:
    with Interrupt() as interrupt:
        local.run(session, train, folder / "trials", interrupt)
    return session.journal.view


@pytest.fixture
def searched(space: Space, tmp_path: Path) -> View:
    """A search of all six recipes, in the journal of `tmp_path`."""
    storage = open_storage(None)
    for trials in range(6, 60, 6):
        session = session_in(tmp_path, replace(space, budget=BudgetConfig(trials=trials)), storage)
        view = drive(session, tmp_path)
        session.close(session.end)
        if len(report.ranking(view)) == 6:
            break
    return view


class Sweep:
    """One ledger and one journal, many drivers."""

    def __init__(self, space: Space, folder: Path) -> None:
        self.space, self.folder, self.storage = space, folder, open_storage(None)

    def __call__(
        self,
        plan: ConfirmationPlan,
        train: local.Train = noisy_train,
        budget: BudgetConfig | None = None,
        driver: Callable[[Session, Path], object] | None = None,
    ) -> Session:
        space = replace(self.space, budget=budget or BudgetConfig(trials=10**6))
        journal = Journal(self.folder / JOURNAL)
        journal.append("sweep", **_header(journal))
        settings = {trial.name: trial.settings for trial in journal.view.ranked()}
        finalists = FinalistTrials(self.storage, space, settings)
        session = Session(space, Confirming(finalists, Rounds(plan, settings)), journal)
        session.note("confirm", **vars(plan))
        try:
            if driver is None:
                drive(session, self.folder, train)
            else:
                driver(session, self.folder)
            session.close(session.end)
        except Vanish:
            journal.close()
        return session


def _header(journal: Journal) -> dict[str, object]:
    about = {k: v for k, v in journal.view.header.items() if k not in ("event", "time")}
    return {**about, "role": "confirm"}


@pytest.fixture
def confirm(searched: View, space: Space, tmp_path: Path) -> Sweep:
    return Sweep(space, tmp_path)


def names(view: View, **wanted: object) -> tuple[str, ...]:
    """Recipes of the search with these settings."""
    return tuple(
        recipe.name
        for recipe in report.ranking(view)
        if all(recipe.trials[0].searched[k.replace("__", ".")] == v for k, v in wanted.items())
    )


def test_the_truly_best_is_found_and_its_twin_is_called_tied(
    confirm: Sweep, searched: View
) -> None:
    best, second = names(searched, train__epochs=4), names(searched, train__epochs=2)
    plan = ConfirmationPlan((*second, *best), 16, until_separated=True)

    session = confirm(plan)

    now = confirmed(session.journal.view)
    assert now is not None
    assert now.leader in best
    assert set(now.tied) == set(best) - {now.leader}
    assert {verdict(now, name) for name in second} == {"worse"}
    assert len(now.losses[best[0]]) == 16
    assert len(now.losses[second[0]]) < 16
    assert session.end.ending is Ending.CONFIRMED
    assert "runs, some are tied" in confirmation_text(session.journal.view)


def test_finalists_run_with_the_same_fresh_seeds(confirm: Sweep, searched: View) -> None:
    finalists = names(searched)[:3]

    view = confirm(ConfirmationPlan(finalists, 4, until_separated=False)).journal.view

    runs = [t for t in view.trials.values() if t.role is Role.CONFIRM]
    assert [t.name for t in runs[:6]] == [f"{c}-s{seed}" for seed in (1, 2) for c in finalists]
    assert len(runs) == 12
    seeds = {
        c: [(t.settings["train.seed"], t.settings["train.data_seed"]) for t in runs if c in t.name]
        for c in finalists
    }
    longest = max(seeds.values(), key=len)
    assert len(set(longest)) == len(longest)
    assert all(its == longest[: len(its)] for its in seeds.values())
    used = {t.settings.get("train.seed", 0) for t in view.searches()}
    assert not used & {seed for seed, _ in seeds[finalists[0]]}
    for run in runs:
        own = {k: v for k, v in run.settings.items() if "seed" not in k}
        assert own.items() >= view.trials[run.name[:4]].searched.items()


def test_a_killed_confirmation_ends_as_one_that_never_stopped(
    confirm: Sweep, searched: View, space: Space, tmp_path: Path
) -> None:
    plan = ConfirmationPlan(names(searched)[:3], 8, until_separated=True)
    journal = (tmp_path / JOURNAL).read_bytes()
    whole = confirmed(confirm(plan).journal.view)
    (tmp_path / JOURNAL).write_bytes(journal)
    again = Sweep(space, tmp_path)

    for after in (3, 7, 2, 9):
        countdown = iter(range(after))

        def vanishing(
            config: Config, folder: Path, countdown: Iterator[int] = countdown
        ) -> Iterator[Progress]:
            for progress in noisy_train(config, folder):
                if next(countdown, None) is None:
                    raise Vanish
                yield progress

        again(plan, vanishing)
    view = again(plan).journal.view

    assert confirmed(view) == whole
    runs = [t for t in view.trials.values() if t.role is Role.CONFIRM]
    seen = [(t.name, o["basis_points"]) for t in runs for o in t.observations]
    assert len(seen) == len(set(seen))
    assert all(t.outcome is Outcome.COMPLETE for t in runs)


def test_a_finished_confirmation_runs_nothing_and_more_seeds_run_only_those(
    confirm: Sweep, searched: View
) -> None:
    finalists = names(searched)[:2]
    before = len(confirm(ConfirmationPlan(finalists, 3, until_separated=False)).journal.view.trials)

    same = confirm(ConfirmationPlan(finalists, 3, until_separated=False)).journal.view
    assert len(same.trials) == before
    more = confirm(ConfirmationPlan(finalists, 5, until_separated=False)).journal.view
    assert len(more.trials) == before + 2 * 2


def test_a_seed_is_begun_only_if_all_finalists_can_run_with_it(
    confirm: Sweep, searched: View
) -> None:
    finalists = names(searched)[:3]
    row = sum(trial_flops(searched.trials[name].settings) for name in finalists)

    session = confirm(
        ConfirmationPlan(finalists, 9, until_separated=True),
        budget=BudgetConfig(trials=99, flops=1.9 * row),
    )

    now = confirmed(session.journal.view)
    assert now is not None
    assert {len(its) for its in now.losses.values()} == {1}
    assert spent(session.journal.view, (Role.CONFIRM,)).flops == pytest.approx(row)
    assert session.end.ending is Ending.NOTHING_FITS
    assert not now.over


class Clock:
    """Time that passes while trials train: an epoch takes ten minutes."""

    def __init__(self) -> None:
        self.now = 1e9

    def train(self, config: Config, folder: Path) -> Iterator[Progress]:
        """`noisy_train`, with the seconds that its epochs take; the caller lets them pass."""
        for progress in noisy_train(config, folder):
            seconds = 600 * config.train.epochs * progress.seconds
            yield Progress(**{**progress.to_dict(), "seconds": seconds})

    def pass_while_training(self, config: Config, folder: Path) -> Iterator[Progress]:
        """One trial after another."""
        before = 0.0
        for progress in self.train(config, folder):
            self.now += progress.seconds - before
            before = progress.seconds
            yield progress

    def drive(self, session: Session, folder: Path, slots: int) -> None:
        """So many trials at once."""
        session.queue.budget.slots = slots
        coming: list[tuple[float, int, Trial, Progress]] = []
        begun = 0
        while True:
            under_way = {trial.name for _, _, trial, _ in coming}
            while len(under_way) < slots and (trial := session.next_trial()):
                config = Config.from_settings(trial.settings)
                for progress in self.train(config, folder / trial.name):
                    begun += 1
                    heappush(coming, (self.now + progress.seconds, begun, trial, progress))
                under_way.add(trial.name)
            if not coming:
                return
            self.now, _, trial, progress = heappop(coming)
            session.observe(trial, progress)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: clock.now)
    return clock


@pytest.fixture
def timed(clock: Clock, space: Space, tmp_path: Path) -> View:
    """A search of six recipes whose trials took the time of their epochs."""
    space = replace(space, budget=BudgetConfig(trials=60))
    session = session_in(tmp_path, space, open_storage(None))
    view = drive(session, tmp_path, clock.pass_while_training)
    session.close(session.end)
    return view


def test_a_seed_is_begun_only_if_there_is_time_for_all_one_after_another(
    timed: View, clock: Clock, space: Space, tmp_path: Path
) -> None:
    """Finalists of 4, 4 and 2 epochs: ten for each seed. In seventeen no second one can end."""
    finalists = names(timed)[:3]
    epochs = [timed.trials[name].settings["train.epochs"] for name in finalists]
    assert epochs == [4, 4, 2]

    session = Sweep(space, tmp_path)(
        ConfirmationPlan(finalists, 9, until_separated=False),
        clock.pass_while_training,
        BudgetConfig(trials=99, hours=17 * 600 / 3600),
    )

    view = session.journal.view
    now = confirmed(view)
    assert now is not None
    assert {len(its) for its in now.losses.values()} == {1}
    assert spent(view, (Role.CONFIRM,)).seconds == pytest.approx(10 * 600)
    assert session.end.ending is Ending.NOTHING_FITS


def test_a_seed_that_was_begun_goes_on_though_its_first_run_took_longer_than_expected(
    timed: View, clock: Clock, space: Space, tmp_path: Path
) -> None:
    """Of 11.5 epochs' time the first run took six, not four: the next four fit, two more do not."""
    finalists = names(timed)[:3]

    def slow_at_first(config: Config, folder: Path) -> Iterator[Progress]:
        before, slower = 0.0, 1.5 if folder.name == f"{finalists[0]}-s1" else 1.0
        for progress in clock.train(config, folder):
            seconds = slower * progress.seconds
            clock.now += seconds - before
            before = seconds
            yield Progress(**{**progress.to_dict(), "seconds": seconds})

    session = Sweep(space, tmp_path)(
        ConfirmationPlan(finalists, 9, until_separated=False),
        slow_at_first,
        BudgetConfig(trials=99, hours=11.5 * 600 / 3600),
    )

    assert session.journal.view.trials.keys() - timed.trials.keys() == {
        f"{name}-s1" for name in finalists[:2]
    }
    assert session.end.ending is Ending.NOTHING_FITS


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(hours=st.floats(0.3, 6), slots=st.integers(1, 4), finalists=st.integers(2, 6))
def test_a_confirmation_never_begins_a_seed_that_not_all_can_end(
    hours: float,
    slots: int,
    finalists: int,
    timed: View,
    clock: Clock,
    space: Space,
    tmp_path: Path,
) -> None:
    journal = (tmp_path / JOURNAL).read_bytes()
    plan = ConfirmationPlan(names(timed)[:finalists], 2, until_separated=False)
    confirming = Sweep(space, tmp_path)

    view = confirming(
        plan, budget=BudgetConfig(trials=999, hours=hours), driver=partial(clock.drive, slots=slots)
    ).journal.view
    (tmp_path / JOURNAL).write_bytes(journal)

    runs = [t for t in view.trials.values() if t.role is Role.CONFIRM]
    seeds = Counter(str(t.searched["finalist"]) for t in runs)
    assert len({seeds[name] for name in plan.finalists}) == 1
    assert all(t.outcome is Outcome.COMPLETE for t in runs)
    assert spent(view, (Role.CONFIRM,)).seconds <= hours * 3600 + 0.001


@pytest.mark.parametrize(("hours", "slots"), [(5.3, 1), (4.1, 3)])
def test_a_confirmation_spends_no_more_than_its_hours_whoever_gets_the_runs(
    hours: float, slots: int, timed: View, clock: Clock, space: Space, tmp_path: Path
) -> None:
    plan = ConfirmationPlan(names(timed), 9, until_separated=False)

    view = Sweep(space, tmp_path)(
        plan, budget=BudgetConfig(trials=999, hours=hours), driver=partial(clock.drive, slots=slots)
    ).journal.view

    runs = [t for t in view.trials.values() if t.role is Role.CONFIRM]
    assert len(runs) > 6
    assert all(t.outcome is Outcome.COMPLETE for t in runs)
    assert spent(view, (Role.CONFIRM,)).seconds <= hours * 3600 + 0.001


def test_a_run_that_no_longer_fits_does_not_make_a_confirmation(
    confirm: Sweep, searched: View
) -> None:
    """It was begun by a driver that vanished, and the next one may spend less."""
    finalists = names(searched)[:2]
    plan = ConfirmationPlan(finalists, 2, until_separated=False)

    def vanishing(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in noisy_train(config, folder):
            yield progress
            if folder.name == f"{finalists[1]}-s2":
                raise Vanish

    confirm(plan, vanishing)
    gone = spent(
        confirm(plan, budget=BudgetConfig(trials=99, flops=1)).journal.view, (Role.CONFIRM,)
    )
    session = confirm(plan, budget=BudgetConfig(trials=99, flops=gone.flops * 1.001))

    assert session.end.ending is Ending.NOTHING_FITS


def test_a_run_that_fails_is_made_up_for_by_the_next_driver(confirm: Sweep, searched: View) -> None:
    finalists = names(searched)[:2]
    plan = ConfirmationPlan(finalists, 3, until_separated=False)

    def failing(config: Config, folder: Path) -> Iterator[Progress]:
        if folder.name == f"{finalists[0]}-s2":
            raise RuntimeError("a cosmic ray")
        return noisy_train(config, folder)

    failed = confirm(plan, failing)
    first, second = failed.journal.view, confirm(plan).journal.view

    assert failed.end.ending is Ending.RUNS_FAILED
    assert first.trials[f"{finalists[0]}-s2"].outcome is Outcome.FAILED
    assert f"{finalists[0]}-s3" in first.trials  # its first attempt: another seed failed
    assert set(second.trials) - {f"{finalists[0]}-s2-2"} <= set(first.trials)
    now = confirmed(second)
    assert now is not None
    assert now.over
    assert {len(its) for its in now.losses.values()} == {3}


def test_reports_tell_the_confirmed_mean_first_and_never_the_lowest_loss_alone(
    confirm: Sweep, searched: View, tmp_path: Path
) -> None:
    lowest = searched.ranked()[0]
    unconfirmed = report.result(searched, tmp_path)
    assert f"sweep confirm {tmp_path}" in unconfirmed
    assert "tied: cannot be told from" in unconfirmed
    assert "the standard errors of evaluation and a noise between seeds" in report.winner_line(
        searched
    )
    assert f"{lowest.val_loss:.4f} ± 0.0100" in report.winner_line(searched)

    view = confirm(ConfirmationPlan(names(searched)[:3], 5, until_separated=False)).journal.view

    text, now = report.result(view, tmp_path), confirmed(view)
    assert now is not None
    assert text.startswith("Confirmed with fresh seeds: 15 runs, some are tied")
    assert text.index("Noise floor of this setup") < text.index("What the search saw")
    line = report.winner_line(view)
    assert line.startswith(f"trial {now.leader}: val loss mean ")
    assert f"of {len(now.losses[now.leader])} fresh seeds" in line
    assert f"{view.trials[now.leader].val_loss:.4f}" not in line
    assert report.winner(view) is view.trials[now.leader]
    data = report.sweep_data(view, False)["confirmed"]
    assert data["winner"] == now.leader
    assert data["noise_floor"]["deviation"] == pytest.approx(NOISE, rel=0.6)
    assert "by the noise floor" in report.leaderboard(view)


def test_a_search_has_nothing_confirmed(searched: View) -> None:
    assert confirmation_text(searched) == ""
    assert report.sweep_data(searched, False)["confirmed"] is None


def test_intervals_are_drawn_over_one_scale() -> None:
    means = [("0007", Mean(5, 3.0, 2.9, 3.1)), ("0012", Mean(5, 3.2, 3.1, 3.3))]

    assert drawn(means, width=17) == (
        "0007  ├───●───┤\n0012          ├───●───┤\n      2.9000     3.3000"
    )


def test_repeated_seeds_of_a_search_are_one_recipe(tmp_path: Path) -> None:
    text = SIX_RECIPES.replace("gpt.dropout: [0.0, 0.1]", "train.seed: [0, 1, 2]")
    session = session_in(
        tmp_path, make_space(tmp_path, text, "budget.trials=40"), open_storage(None)
    )
    view = drive(session, tmp_path)
    session.close(session.end)

    best, *others = report.ranking(view)

    assert len(others) == 2
    assert len(best.trials) == 3  # of many: the same seed again is no other run
    assert {t.settings["train.epochs"] for t in best.trials} == {4}
    assert "runs" in report.leaderboard(view)
    assert "by differences over shared seeds" in report.leaderboard(view)


def test_fresh_seeds_are_none_that_a_search_counts_up_to() -> None:
    """The losses of a seed that chose a finalist must not confirm it."""
    space = Space("fresh", (), {"train.seed": 7}, repeat=MOST_SEEDS)
    counted = {seed({SEEDS_ON: on}, space) for on in range(MOST_SEEDS)}
    finalists = FinalistTrials(open_storage(None), space, {"0000": space.fixed})

    runs = [finalists.ask("0000", fresh).settings for fresh in range(1, 1001)]

    fresh_seeds = [{run[name] for name in SEEDS} for run in runs]
    assert all(len(seeds) == 1 for seeds in fresh_seeds)
    assert len(set.union(*fresh_seeds)) == 1000
    assert not set.union(*fresh_seeds) & (counted | {0})
