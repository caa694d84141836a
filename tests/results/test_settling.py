"""When a search has settled, by what its proposals expected and what seeds differ by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import SIX_RECIPES, noisy_train
from sweeps import make_space, session_in

from model.config import Value
from sweep.folder import JOURNAL
from sweep.journal import read_events
from sweep.records import Ending
from sweep.results import report
from sweep.results.settling import PATIENCE, settled, settling_text
from sweep.run import local
from sweep.run.console import describe
from sweep.run.interrupt import Interrupt
from sweep.search import Suggestion
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space import BudgetConfig, SamplerConfig, Space
from sweep.view import View

LITTLE = 0.0005  # nats: less than a quarter of the 0.004 that seeds are assumed to differ by


def view_of(
    gains: Sequence[float | None],
    losses: Mapping[int, float] | None = None,
    noise: float = 0.0,
    settings: Mapping[int, dict[str, Value]] | None = None,
) -> View:
    """A search whose proposals expected so much; `losses` and settings by number of the trial."""
    view, losses = View(), losses or {}
    view.apply({"event": "sweep", "time": 0, "noise": noise, "train_tokens": 1, "trials": 99})
    for number, gain in enumerate(gains):
        of = (settings or {}).get(number, {"train.epochs": number})
        event = {"event": "trial", "time": 1, "trial": f"{number:04d}", "role": "search"}
        event |= {"searched": of, "settings": of}
        view.apply(event if gain is None else event | {"expected_gain": gain})
    for number, loss in losses.items():
        trial = {"trial": f"{number:04d}", "time": 2}
        last = {"basis_points": 10_000, "val_loss": loss, "val_loss_error": 0.0, "seconds": 1.0}
        view.apply({"event": "observation", **trial, **last})
        view.apply({"event": "outcome", **trial, "outcome": "complete", "reason": ""})
    return view


def test_a_search_has_settled_once_eight_proposals_in_a_row_expected_next_to_nothing() -> None:
    assert settled(view_of([0.1] + [LITTLE] * (PATIENCE - 1))) is None

    its = settled(view_of([0.1] + [LITTLE] * (PATIENCE - 1) + [0.0001], {0: 3.0}))

    assert its is not None
    assert (its.proposals, its.gain, its.first) == (PATIENCE, LITTLE, "0001")
    assert str(its) == (
        "settled: no trial since 0001 was expected to gain more than 0.0005 nats; "
        "seeds differ by 0.0040 (assumed: little was repeated)"
    )


def test_one_proposal_that_expects_more_begins_the_count_anew() -> None:
    assert settled(view_of([LITTLE] * 7 + [0.01] + [LITTLE] * 7)) is None


def test_proposals_that_expected_nothing_in_particular_do_not_count() -> None:
    """The space's own points and repeats of seeds, which no surface proposed."""
    its = settled(view_of([LITTLE, None] * PATIENCE, {0: 3.0}))

    assert its is not None
    assert its.proposals == PATIENCE


def test_what_is_next_to_nothing_is_measured_by_what_seeds_differ_by() -> None:
    gains = [0.1, None, None, None, None] + [0.002] * PATIENCE
    losses = {0: 3.0, 1: 3.02, 2: 3.0, 3: 3.02, 4: 3.01}
    seeds: dict[int, dict[str, Value]] = {n: {"train.seed": n} for n in losses}
    repeated = view_of(gains, losses, settings=seeds)

    assert settled(view_of(gains, losses)) is None
    assert settled(view_of(gains, {0: 3.0, 1: 3.02}, settings=seeds)) is None
    measured, told = settled(repeated), settled(view_of(gains, {0: 3.0}, noise=0.01))

    assert measured is not None
    assert told is not None
    assert (measured.floor, measured.source) == (pytest.approx(0.01), "measured")
    assert (told.floor, told.source) == (0.01, "told by baseline.noise")


def test_reports_say_what_was_expected_last_and_when_the_best_was_found() -> None:
    assert settling_text(view_of([None] * 9, {0: 3.0})) == ""
    assert settling_text(view_of([0.1, 0.02], {0: 3.0})) == (
        "The latest proposal was expected to gain up to 0.02 nats; seeds differ by 0.0040 "
        "(assumed: little was repeated). The search has not settled."
    )
    assert settling_text(view_of([0.1, LITTLE, LITTLE], {0: 3.0})).endswith(
        "The search has not settled: 8 proposals in a row that expect so little would settle it, "
        "so far there are 2."
    )
    text = settling_text(view_of([LITTLE] * PATIENCE, {0: 3.0, 1: 2.9}))
    assert "Its best, 0001, was the 2nd of 8 trials. More are unlikely to find better." in text


def test_nothing_is_said_to_have_settled_where_no_trial_is_complete() -> None:
    assert settling_text(view_of([0.59], {})) == ""
    assert settling_text(view_of([LITTLE] * PATIENCE, {})) == ""


def test_a_best_trial_among_the_last_is_said_to_be_so_whatever_proposed_it() -> None:
    """Runs of one command and seed ended at other recipes, each with its best found last."""
    falling = view_of([None] * 8, {n: 3.0 - n / 10 for n in range(8)})

    assert settling_text(falling) == (
        "Its best, 0007, was the very last of 8 trials: more trials may find better."
    )
    assert "was the 7th of 8" in settling_text(view_of([0.2] * 8, {0: 3, 1: 3, 2: 3, 6: 2.5}))


def test_a_late_best_that_is_tied_with_an_early_trial_is_no_news() -> None:
    assert settling_text(view_of([None] * 8, {0: 2.5001, 1: 3, 2: 3, 7: 2.5})) == ""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """Of ranges, so that proposals do not run out."""
    text = SIX_RECIPES.replace("gpt.dropout: [0.0, 0.1]", "gpt.dropout: {min: 0.0, max: 0.5}")
    return replace(make_space(tmp_path, text), sampler=SamplerConfig(name="surface"))


@pytest.fixture
def expecting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the surface expects of its next proposals, in turn; after the last, of each."""
    gains = [0.1]

    def suggest(space: Space, seen: Sequence[Any], rng: Any, earlier: Any = ()) -> Suggestion:
        gain = gains.pop(0) if len(gains) > 1 else gains[0]
        return Suggestion({"train.epochs": 2, "gpt.dropout": 0.01 * len(seen)}, gain)

    monkeypatch.setattr("sweep.session.samplers.propose", suggest)
    return gains


def drive(session: Session, folder: Path) -> View:
    with Interrupt() as interrupt:
        local.run(session, noisy_train, folder, interrupt)
    session.close(session.end)
    return session.journal.view


def test_a_settled_search_stops_where_it_is_asked_to_and_else_only_says_so(
    space: Space, tmp_path: Path, expecting: list[float]
) -> None:
    expecting[:] = [math.nan, 0.1, LITTLE]
    storage = open_storage(None)
    stops = replace(space, budget=BudgetConfig(trials=14, settled="stop"))

    stopped = drive(session_in(tmp_path, stops, storage), tmp_path)

    assert stopped.end is not None
    assert stopped.end.ending is Ending.SETTLED
    assert stopped.end.ending.well
    assert len(stopped.searches()) == 2 + PATIENCE
    assert [trial.expected_gain for trial in stopped.searches()[:3]] == [None, 0.1, LITTLE]
    assert "The search has settled: no trial since 0002" in report.result(stopped, tmp_path)
    assert report.sweep_data(stopped, False)["settled"]["gain"] == LITTLE

    same = drive(session_in(tmp_path, stops, storage), tmp_path)
    assert len(same.searches()) == 2 + PATIENCE
    goes_on = replace(space, budget=BudgetConfig(trials=14))
    whole = drive(session_in(tmp_path, goes_on, storage), tmp_path)
    assert len(whole.searches()) == 14
    assert whole.end is not None
    assert whole.end.ending is Ending.TRIALS_SPENT


def test_a_settled_search_still_repeats_the_seeds_it_owes(
    space: Space, tmp_path: Path, expecting: list[float]
) -> None:
    expecting[:] = [LITTLE]
    stops = replace(space, budget=BudgetConfig(trials=99, settled="stop"), repeat=2)

    view = drive(session_in(tmp_path, stops, open_storage(None)), tmp_path)

    recipes = report.ranking(view)
    assert {len(recipe.trials) for recipe in recipes} == {2}
    assert view.end is not None
    assert view.end.ending is Ending.SETTLED


def test_the_live_view_says_once_that_the_search_has_settled(
    space: Space, tmp_path: Path, expecting: list[float]
) -> None:
    expecting[:] = [0.1, LITTLE]
    going_on = replace(space, budget=BudgetConfig(trials=14))
    drive(session_in(tmp_path, going_on, open_storage(None)), tmp_path)

    view, said = View(), list[str]()
    for event, _ in read_events(tmp_path / JOURNAL):
        view.apply(event)
        said.append(describe(view, event))

    (line,) = [text for text in said if "settled" in text]
    assert line.startswith("0008 starts: ")
    assert "with --set budget.settled=stop it ends itself" in line
