"""The statistics of a confirmation, against what is known and against chance."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.results.confirmation import ConfirmationPlan, state_of
from sweep.results.confirmation_report import noise_text
from sweep.results.significance import (
    chi_square_quantile,
    compare,
    detectable,
    mean,
    noise_floor,
    paired_deviation,
    t_quantile,
)

SEEDS = range(1, 65)


def draw(
    rng: random.Random, means: dict[str, float], noise: float = 0.01, shared: float = 0.01
) -> dict[str, dict[int, float]]:
    """Losses whose seeds have something in common."""
    common = {seed: rng.gauss(0, shared) for seed in SEEDS}
    return {
        name: {seed: value + common[seed] + rng.gauss(0, noise) for seed in SEEDS}
        for name, value in means.items()
    }


def upto(losses: dict[str, dict[int, float]], seeds: int) -> dict[str, dict[int, float]]:
    return {n: {s: v for s, v in its.items() if s <= seeds} for n, its in losses.items()}


def test_quantiles_are_those_of_the_tables() -> None:
    assert t_quantile(0.975, 4) == pytest.approx(2.776, abs=1e-3)
    assert chi_square_quantile(0.95, 10) == pytest.approx(18.307, abs=1e-3)


def test_a_mean_has_the_interval_of_a_textbook() -> None:
    found = mean([3.1, 3.2, 3.3])

    assert found.value == pytest.approx(3.2)
    assert found.high - found.value == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert mean([3.1]).high == math.inf


def test_five_runs_know_their_deviation_to_a_factor_of_three() -> None:
    """0.6 to 2.9, as the literature has it."""
    found = noise_floor([[1.0, 2.0, 3.0, 4.0, 5.0]])

    assert found is not None
    assert found.low / found.deviation == pytest.approx(0.599, abs=1e-3)
    assert found.high / found.deviation == pytest.approx(2.874, abs=1e-3)


def test_a_difference_that_can_be_seen_shrinks_with_seeds() -> None:
    """With sigma 0.0038 and many degrees of freedom: 0.0061 for three, 0.0047 for five."""
    deviation = math.sqrt(2) * 0.0038

    assert detectable(deviation, 3, 10**6) == pytest.approx(0.0061, abs=5e-5)
    assert detectable(deviation, 5, 10**6) == pytest.approx(0.0047, abs=5e-5)
    assert detectable(deviation, 5, 4) > detectable(deviation, 5, 10**6)
    assert detectable(deviation, 5, 4, power=0.8) > detectable(deviation, 5, 4)


def test_the_difference_that_is_promised_is_one_that_would_be_called_separated() -> None:
    """Of three finalists the clearest pair is tested at a third of the level."""
    noise = {1: 0.01, 2: -0.01, 3: 0.02, 4: -0.02, 5: 0.0}
    losses = {
        "a": dict.fromkeys(noise, 3.0),
        "b": {seed: 3.5 + its for seed, its in noise.items()},
        "c": {seed: 4.0 - its for seed, its in noise.items()},
    }
    plan = ConfirmationPlan(("a", "b", "c"), 5, until_separated=False)
    now = state_of(plan, losses)

    deviation = paired_deviation(losses) or 0.0
    least = t_quantile(1 - 0.05 / 3 / 2, 4) * deviation / math.sqrt(5)
    assert f"5 shared seeds show a difference of {least:.4f} half the time" in noise_text(now)


def test_sharing_seeds_takes_out_what_they_have_in_common() -> None:
    losses = draw(random.Random(0), {"a": 3.0, "b": 3.0}, noise=0.001, shared=0.1)

    assert (paired_deviation(losses) or 1) < 0.01
    assert (noise_floor([list(its.values()) for its in losses.values()]) or mean([1])).high > 0.05


@pytest.mark.parametrize("finalists", [2, 3, 5])
def test_without_a_difference_at_most_one_in_twenty_is_called_separated(finalists: int) -> None:
    rng, tries = random.Random(finalists), 600
    same = dict.fromkeys("abcde"[:finalists], 3.0)

    false = sum(any(p.separated for p in compare(upto(draw(rng, same), 5))) for _ in range(tries))

    assert false / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


@pytest.mark.parametrize("finalists", [2, 3])
def test_looking_again_and_again_separates_falsely_no_more_often(finalists: int) -> None:
    """Until they are separated or 23 seeds are spent: seven looks, five per cent in all."""
    rng, tries = random.Random(finalists), 300
    plan = ConfirmationPlan(tuple("abc"[:finalists]), 23, until_separated=True)

    false = 0
    for _ in range(tries):
        found = state_of(plan, draw(rng, dict.fromkeys(plan.finalists, 3.0)))
        false += any(pair.separated for pair in found.comparisons)

    assert false / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


def test_a_true_difference_is_found_with_few_seeds() -> None:
    plan = ConfirmationPlan(("a", "b", "c"), 64, until_separated=True)

    found = state_of(plan, draw(random.Random(3), {"a": 3.05, "b": 3.0, "c": 3.1}))

    assert (found.leader, found.tied) == ("b", ())
    assert len(found.losses["b"]) <= 16


def test_those_told_apart_get_no_more_seeds() -> None:
    plan = ConfirmationPlan(("a", "b", "c"), 64, until_separated=True)
    losses = draw(random.Random(3), {"a": 3.0, "b": 3.0, "c": 3.5})
    losses = {**upto(losses, 6), "c": upto(losses, 4)["c"]}

    found = state_of(plan, losses)

    assert {name for name, _ in found.wanted} == {"a", "b"}
    against_c = found.against_leader("c")
    assert against_c is not None
    assert against_c.separated
    assert against_c.difference == pytest.approx(0.5, abs=0.05)


@given(
    st.lists(st.floats(2, 4), min_size=2, max_size=8),
    st.lists(st.floats(2, 4), min_size=2, max_size=8),
)
def test_a_comparison_does_not_depend_on_who_is_named_first(a: list[float], b: list[float]) -> None:
    by_seed = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}

    (one,) = compare(by_seed)
    (other,) = compare(dict(reversed(by_seed.items())))

    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.separated == other.separated


def test_a_finalist_that_diverged_with_one_seed_does_not_win() -> None:
    losses = {"a": {1: 2.0, 2: math.inf, 3: 2.0}, "b": {1: 3.0, 2: 3.1, 3: 3.0}}

    found = state_of(ConfirmationPlan(("a", "b"), 3, until_separated=False), losses)

    assert (found.leader, found.diverged, found.over) == ("b", ("a",), True)


def test_looks_spend_five_per_cent_together() -> None:
    plan = ConfirmationPlan(("a",), 64, until_separated=True)

    assert plan.looks[-1] == 64
    assert sum(map(plan.level, range(1, 1000))) <= 0.05
    assert ConfirmationPlan(("a",), 64, until_separated=False).level(1) == pytest.approx(0.05)
