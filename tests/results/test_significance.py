"""The statistics of a confirmation, against what is known and against chance."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sweep.results.confirmation import ConfirmationPlan, state_of
from sweep.results.confirmation_report import noise_text
from sweep.results.significance import (
    chi_square_quantile,
    compare,
    detectable,
    holm,
    leader,
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


def test_the_finalist_of_the_lowest_mean_leads_and_of_equals_the_first() -> None:
    assert leader({"a": {1: 3.0, 2: 3.4}, "b": {1: 3.1, 2: 3.1}, "c": {}}) == "b"
    assert leader({"a": {1: 3.0}, "b": {1: 3.0}}) == "a"


def test_each_interim_look_spends_its_share_of_the_level() -> None:
    """1 / 2, 1 / 6 and 1 / 12 of 5 %."""
    plan = ConfirmationPlan(("a", "b"), 64, until_separated=True)

    assert [plan.level(look) for look in (1, 2, 3)] == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert plan.looks[:3] == (3, 4, 6)


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
        state = state_of(plan, draw(rng, dict.fromkeys(plan.finalists, 3.0)))
        false += any(pair.separated for pair in state.comparisons)

    assert false / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


def test_a_true_difference_is_found_with_few_seeds() -> None:
    plan = ConfirmationPlan(("a", "b", "c"), 64, until_separated=True)

    state = state_of(plan, draw(random.Random(3), {"a": 3.05, "b": 3.0, "c": 3.1}))

    assert (state.leader, state.tied) == ("b", ())
    assert len(state.losses["b"]) <= 16


def test_those_told_apart_get_no_more_seeds() -> None:
    plan = ConfirmationPlan(("a", "b", "c"), 64, until_separated=True)
    losses = draw(random.Random(3), {"a": 3.0, "b": 3.0, "c": 3.5})
    losses = {**upto(losses, 6), "c": upto(losses, 4)["c"]}

    state = state_of(plan, losses)

    assert {name for name, _ in state.wanted} == {"a", "b"}
    against_c = state.against_leader("c")
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

    state = state_of(ConfirmationPlan(("a", "b"), 3, until_separated=False), losses)

    assert (state.leader, state.diverged, state.over) == ("b", ("a",), True)


def test_looks_spend_five_per_cent_together() -> None:
    plan = ConfirmationPlan(("a",), 64, until_separated=True)

    assert plan.looks[-1] == 64
    assert sum(map(plan.level, range(1, 1000))) <= 0.05
    assert ConfirmationPlan(("a",), 64, until_separated=False).level(1) == pytest.approx(0.05)
