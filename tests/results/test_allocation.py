"""Which finalists get the next runs, and what follows for the rounds of a confirmation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.results.allocation import next_runs
from sweep.results.confirmation import ConfirmationPlan, plan_of, state_of, states_of
from sweep.results.sequential import Effects
from sweep.results.significance import Noise
from sweep.view import View

NAMES = tuple("abcdef")
Losses = dict[str, dict[int, float]]


def draw(seed: int, finalists: int = 6, gap: float = 0.01) -> Losses:
    """Losses of 40 seeds with a noise of 0.01 nats."""
    rng = random.Random(seed)
    return {
        name: {s: 3 + number * gap + rng.gauss(0, 0.01) for s in range(1, 41)}
        for number, name in enumerate(NAMES[:finalists])
    }


def level(*levels: float, deviation: float = 0.01) -> Effects:
    return Effects(dict(zip(NAMES, levels, strict=False)), Noise(deviation, 10))


def given_to(plan: ConfirmationPlan, losses: Losses) -> dict[str, int]:
    return {name: len(its) for name, its in state_of(plan, losses).losses.items()}


def test_rivals_get_runs_by_the_square_of_their_gap_and_the_leader_as_many_as_any() -> None:
    """Gaps of 1, 1, 2 and 4: one run of the last for sixteen of each of the first."""
    runs = next_runs(level(0.0, 0.01, 0.01, 0.02, 0.04), dict.fromkeys("abcde", 0), 53, 99)

    assert [runs.count(name) for name in "abcde"] == [16, 16, 16, 4, 1]


def test_rivals_that_nothing_could_tell_from_the_leader_share_alike() -> None:
    """A gap of a hundredth of the noise does not take all runs from one of a tenth."""
    runs = next_runs(level(0.0, 0.0001, 0.001, 0.5), dict.fromkeys("abcd", 0), 30, 99)

    assert [runs.count(name) for name in "abcd"] == [10, 10, 10, 0]


def test_nobody_gets_more_runs_than_the_most() -> None:
    runs = next_runs(level(0.0, 0.01, 0.5), {"a": 3, "b": 2, "c": 2}, 10, 4)

    assert sorted(runs) == ["a", "b", "b", "c", "c"]


def test_without_noise_equal_finalists_share_alike() -> None:
    assert sorted(next_runs(level(0.0, 0.0, deviation=0.0), {"a": 2, "b": 2}, 4, 9)) == list("aabb")


def test_the_budget_is_seeds_for_each_on_average_and_goes_where_it_decides() -> None:
    runs = given_to(ConfirmationPlan(NAMES, 4, until_separated=False), draw(1))

    assert sum(runs.values()) <= 24
    assert runs["a"] > 4
    assert runs["f"] == 2


def test_runs_end_early_once_the_best_is_told_apart() -> None:
    runs = given_to(ConfirmationPlan(NAMES, 9, until_separated=False), draw(1, gap=0.2))

    assert sum(runs.values()) == 12


def test_a_single_finalist_gets_all_its_seeds() -> None:
    assert given_to(ConfirmationPlan(("a",), 7, until_separated=False), draw(0)) == {"a": 7}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(2, 6))
def test_the_order_in_which_runs_end_changes_nothing(seed: int, finalists: int, seeds: int) -> None:
    """However many workers there are, whoever was killed: the runs and the result are the same."""
    losses = draw(seed, finalists)
    plan = ConfirmationPlan(NAMES[:finalists], seeds, until_separated=False)
    rng = random.Random(seed)
    ended: Losses = {name: {} for name in plan.finalists}

    while wanted := state_of(plan, ended).wanted:
        name, fresh = rng.choice(wanted)
        ended[name][fresh] = losses[name][fresh]

    assert state_of(plan, ended) == state_of(plan, losses)
    assert sum(map(len, ended.values())) <= plan.runs


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(2, 5), st.integers(1, 4))
def test_more_seeds_later_go_on_as_if_they_had_been_asked_for_at_once(
    seed: int, finalists: int, seeds: int, more: int
) -> None:
    losses, names = draw(seed, finalists, gap=0.002), NAMES[:finalists]
    first = state_of(ConfirmationPlan(names, seeds, until_separated=False), losses)
    plan = ConfirmationPlan(names, seeds + more, until_separated=False)
    ended = {name: dict(its) for name, its in first.losses.items()}

    while wanted := state_of(plan, ended).wanted:
        for name, fresh in wanted:
            ended[name][fresh] = losses[name][fresh]

    assert {n: len(its) for n, its in ended.items()} == given_to(plan, losses)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6))
def test_whoever_is_called_worse_is_told_from_the_leader_of_the_end(
    seed: int, finalists: int
) -> None:
    """Not from an earlier one, whose place another has taken since."""
    plan = ConfirmationPlan(NAMES[:finalists], 12, until_separated=True)

    for now in states_of(plan, draw(seed, finalists, gap=0.01)):
        for name in set(plan.finalists) - {now.leader, *now.tied}:
            against = now.against_leader(name)
            assert against is not None
            assert against.separated
            assert against.low > 0


def test_a_finalist_that_lost_the_lead_is_compared_with_the_one_that_has_it() -> None:
    """With two seeds `a` leads by luck; `c`, far behind it, is not far behind `b`."""
    losses = draw(3, 3, gap=0.0)
    for name, off in (("a", 0.03), ("b", 0.0), ("c", 0.005)):
        losses[name] = {s: loss + off for s, loss in losses[name].items()}
    losses["a"] |= {1: 2.9, 2: 2.9}
    first, *_, last = states_of(ConfirmationPlan(("a", "b", "c"), 30, False), losses)

    assert first.leader == "a"
    assert last.leader == "b"
    assert "c" in last.tied


def test_a_finalist_that_diverged_does_not_win_and_gets_no_more_seeds() -> None:
    losses = {"a": {1: 2.0, 2: math.inf}, **{n: its for n, its in draw(0).items() if n in "bc"}}
    plan = ConfirmationPlan(("a", "b", "c"), 4, until_separated=False)

    state = state_of(plan, losses)

    assert (state.diverged, state.over) == (("a",), True)
    assert state.leader in "bc"
    assert state.order[-1] == "a"
    assert sum(map(len, state.losses.values())) == plan.runs


def test_where_all_diverged_it_is_over_with_the_first_as_leader() -> None:
    losses = {"a": {1: math.inf, 2: math.inf}, "b": {1: math.inf, 2: math.inf}}

    state = state_of(ConfirmationPlan(("a", "b"), 4, until_separated=False), losses)

    assert (state.leader, state.over, state.diverged) == ("a", True, ("a", "b"))


def asked(**more: object) -> View:
    view = View()
    view.apply(
        {"event": "confirm", "time": 1, "finalists": ["a", "b"], "seeds": 5}
        | {"until_separated": False, **more}
    )
    view.apply({"event": "confirmed", "time": 2, "over": True, "trial": "a"})
    return view


@pytest.mark.parametrize("runs", [{"a": 5, "b": 5}, {"a": 8, "b": 3}])
def test_a_confirmation_that_an_earlier_version_ended_wants_no_more_runs(
    runs: dict[str, int],
) -> None:
    plan = plan_of(asked())
    losses = {n: {s: v for s, v in draw(0)[n].items() if s <= many} for n, many in runs.items()}

    assert plan is not None
    state = state_of(plan, losses)
    assert state.over
    assert {name: len(its) for name, its in state.losses.items()} == runs


def test_what_this_version_asked_is_not_closed_by_an_earlier_end() -> None:
    plan = plan_of(asked(allocation="optimal"))

    assert plan is not None
    assert state_of(plan, {}).wanted == (("a", 1), ("b", 1), ("a", 2), ("b", 2))
