"""Means, paired tests and noise, against what is known and against chance."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sweep.results.significance import (
    chi_square_quantile,
    compare,
    detectable,
    holm,
    mean,
    noise_floor,
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
    average = mean([3.1, 3.2, 3.3])

    assert average.value == pytest.approx(3.2)
    assert average.high - average.value == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert mean([3.1]).high == math.inf


def test_five_runs_know_their_deviation_to_a_factor_of_three() -> None:
    """0.6 to 2.9, as the literature has it."""
    floor = noise_floor([[1.0, 2.0, 3.0, 4.0, 5.0]])

    assert floor is not None
    assert floor.low / floor.deviation == pytest.approx(0.599, abs=1e-3)
    assert floor.high / floor.deviation == pytest.approx(2.874, abs=1e-3)


def test_a_difference_that_can_be_seen_shrinks_with_seeds() -> None:
    """With sigma 0.0038 and many degrees of freedom: 0.0061 for three, 0.0047 for five."""
    deviation = math.sqrt(2) * 0.0038

    assert detectable(deviation, 3, 10**6) == pytest.approx(0.0061, abs=5e-5)
    assert detectable(deviation, 5, 10**6) == pytest.approx(0.0047, abs=5e-5)
    assert detectable(deviation, 5, 4) > detectable(deviation, 5, 10**6)
    assert detectable(deviation, 5, 4, power=0.8) > detectable(deviation, 5, 4)


@pytest.mark.parametrize(
    ("rising_p", "passes"),
    [
        ([0.01, 0.03, 0.04], [True, False, False]),  # 0.03 > 5 % / 2 ends it, though 0.04 <= 5 %
        ([0.01, 0.02, 0.2], [True, True, False]),  # 0.02 <= 5 % / 2, where Bonferroni asks 5 % / 3
        ([0.02, 0.02, 0.04], [False, False, False]),  # 0.02 > 5 % / 3
        ([0.01, 0.02, 0.04], [True, True, True]),
        ([], []),
    ],
)
def test_holm_asks_less_of_each_next_test_and_ends_with_the_first_that_fails(
    rising_p: list[float], passes: list[bool]
) -> None:
    steps = holm(rising_p, 0.05)

    assert [passed for _, passed in steps] == passes
    assert [level for level, _ in steps] == pytest.approx([0.05 / 3, 0.05 / 2, 0.05][: len(steps)])


@pytest.mark.parametrize(
    ("b", "c", "p", "separated"),
    [
        ((50, 35, 44), (14, 12, 23), {"ab": 0.0101, "bc": 0.0297, "ac": 0.0403}, {"ab"}),
        ((19, 8, -2), (112, 109, 69), {"bc": 0.0102, "ac": 0.0199, "ab": 0.3031}, {"bc", "ac"}),
    ],
)
def test_three_finalists_are_told_apart_as_the_table_by_hand_says(
    b: tuple[int, ...], c: tuple[int, ...], p: dict[str, float], separated: set[str]
) -> None:
    """Thousandths of a nat above `a`, by seed. With two degrees p = 1 - |t| / sqrt(t^2 + 2)."""
    losses = {
        "a": dict.fromkeys((1, 2, 3), 3.0),
        "b": {seed: 3.0 + more / 1000 for seed, more in enumerate(b, 1)},
        "c": {seed: 3.0 + more / 1000 for seed, more in enumerate(c, 1)},
    }

    comparisons = compare(losses)

    assert {its.a + its.b: its.p for its in comparisons} == pytest.approx(p, abs=5e-5)
    assert {its.a + its.b for its in comparisons if its.separated} == separated
    for its in comparisons:  # an interval without zero is another word for separated
        assert its.low < its.difference < its.high
        assert (its.low > 0 or its.high < 0) == (its.separated or its.a + its.b == "ac")


@given(st.lists(st.tuples(st.floats(2, 4), st.floats(2, 4)), min_size=3, max_size=8))
def test_the_paired_test_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    from scipy.stats import ttest_rel

    a, b = zip(*pairs, strict=True)
    differences = [y - x for x, y in pairs]
    assume(max(differences) - min(differences) > 1e-3)

    (comparison,) = compare({"a": dict(enumerate(a)), "b": dict(enumerate(b))})

    theirs = ttest_rel(b, a)
    interval = theirs.confidence_interval(0.95)
    assert comparison.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert (comparison.low, comparison.high) == pytest.approx((interval.low, interval.high))


def test_equal_differences_are_certain_and_none_are_none() -> None:
    """Where no seed contradicts another there is no deviation to divide by."""
    by_seed = {"a": {1: 3.0, 2: 3.0}, "b": {1: 3.5, 2: 3.5}, "c": {1: 3.0, 2: 3.0}}

    p = {its.a + its.b: its.p for its in compare(by_seed)}

    assert p == {"ab": 0.0, "bc": 0.0, "ac": 1.0}


def test_only_shared_seeds_are_compared() -> None:
    (comparison,) = compare({"a": {1: 3.0, 2: 3.1, 9: 99.0}, "b": {1: 3.1, 2: 3.3, 5: 0.0}})

    assert comparison.seeds == 2
    assert comparison.difference == pytest.approx(0.15)


@pytest.mark.parametrize("finalists", [2, 3, 5])
def test_without_a_difference_at_most_one_in_twenty_is_called_separated(finalists: int) -> None:
    rng, tries = random.Random(finalists), 600
    same = dict.fromkeys("abcde"[:finalists], 3.0)

    false = sum(any(p.separated for p in compare(upto(draw(rng, same), 5))) for _ in range(tries))

    assert false / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


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
