"""Finalists with unequal runs: their effects, and tests that hold however long one goes on."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.results.confirmation import ConfirmationPlan, state_of, states_of
from sweep.results.confirmation_report import noise_text
from sweep.results.sequential import compare_anytime, effects, means_anytime, share
from sweep.results.significance import BySeed, Comparison, compare, t_quantile

SEEDS = range(1, 65)
Losses = dict[str, dict[int, float]]


def draw(
    rng: random.Random, means: dict[str, float], noise: float = 0.01, shared: float = 0.01
) -> Losses:
    """Losses whose seeds have something in common."""
    common = {seed: rng.gauss(0, shared) for seed in SEEDS}
    return {
        name: {seed: value + common[seed] + rng.gauss(0, noise) for seed in SEEDS}
        for name, value in means.items()
    }


def upto(losses: Losses, seeds: dict[str, int]) -> Losses:
    return {n: {s: v for s, v in losses[n].items() if s <= many} for n, many in seeds.items()}


def compared(losses: Losses) -> list[Comparison]:
    return compare_anytime(losses, effects(losses))


def test_the_looks_after_all_numbers_of_runs_spend_the_level_once() -> None:
    assert sum(map(share, range(2, 10_000))) == pytest.approx(1, abs=1e-3)
    assert all(share(runs) > share(runs + 1) for runs in range(3, 100))


def test_easy_seeds_do_not_make_a_good_finalist() -> None:
    """Seeds 1 and 2 are easy; `b`, which has no others, is worse by 0.1 on both."""
    losses = {"a": {1: 3.0, 2: 3.0, 3: 3.5, 4: 3.5}, "b": {1: 3.1, 2: 3.1}, "c": {1: 3.2, 2: 3.2}}

    its = effects(losses)

    assert its.leader == "a"
    assert its.level["b"] - its.level["a"] == pytest.approx(0.1)
    assert its.level["c"] - its.level["b"] == pytest.approx(0.1)
    assert its.noise.deviation == pytest.approx(0, abs=1e-12)
    assert its.noise.freedom == 2  # 8 losses, 3 finalists, 4 seeds


def test_of_equals_the_first_leads_and_nobody_has_no_effects() -> None:
    assert effects({"b": {1: 3.0, 2: 3.0}, "a": {1: 3.0, 2: 3.0}}).leader == "b"
    assert effects({}).level == {}


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 999))
def test_effects_over_equal_seeds_are_those_of_an_analysis_of_variance(
    finalists: int, seeds: int, seed: int
) -> None:
    losses = upto(
        draw(random.Random(seed), {str(n): 3 + n / 100 for n in range(finalists)}),
        {str(n): seeds for n in range(finalists)},
    )
    means = {name: sum(its.values()) / seeds for name, its in losses.items()}
    by_seed = {s: sum(its[s] for its in losses.values()) / finalists for s in range(1, seeds + 1)}
    middle = sum(means.values()) / finalists
    squares = sum(
        (loss - means[name] - by_seed[seed] + middle) ** 2
        for name, its in losses.items()
        for seed, loss in its.items()
    )

    its = effects(losses)

    assert its.level == pytest.approx({n: mean - middle for n, mean in means.items()}, abs=1e-9)
    assert its.noise.freedom == (finalists - 1) * (seeds - 1)
    assert its.noise.deviation == pytest.approx((squares / its.noise.freedom) ** 0.5)


def test_two_finalists_are_compared_by_the_paired_test_at_the_share_of_its_look() -> None:
    losses: dict[str, BySeed] = {
        "a": {1: 3.0, 2: 3.1, 3: 3.05, 4: 2.9},
        "b": {1: 3.2, 2: 3.25, 3: 3.3},
    }

    (anytime,) = compare_anytime(losses, effects(losses))
    (once,) = compare(losses, level=0.05 * share(3))

    assert anytime.seeds == 3
    assert anytime.p == pytest.approx(once.p / share(3))
    assert (anytime.low, anytime.high) == pytest.approx((once.low, once.high))


def test_a_pair_that_is_noisier_than_the_others_is_judged_by_its_own_noise() -> None:
    steady = {1: 3.0, 2: 3.01, 3: 3.0, 4: 3.01}
    losses = {
        "a": steady,
        "b": {seed: loss + 0.001 * (-1) ** seed for seed, loss in steady.items()},
        "c": {1: 3.5, 2: 3.1, 3: 3.6, 4: 3.0},
    }

    its = {pair.a + pair.b: pair for pair in compared(losses)}
    (alone,) = compare({"a": steady, "c": losses["c"]}, level=0.05 * share(4))

    assert its["ac"].high - its["ac"].low > (alone.high - alone.low) / 3
    assert not its["ac"].separated
    assert its["ab"].high > 0.01  # two losses of a thousandth apart do not make a quiet pair


def test_one_run_of_each_tells_nobody_apart() -> None:
    losses = {"a": {1: 3.0}, "b": {1: 9.0}, "c": {1: 3.0, 2: 3.1}}

    assert not any(pair.separated for pair in compared(losses))
    assert means_anytime(losses)["a"].high == math.inf


@pytest.mark.parametrize("finalists", [2, 4])
def test_looking_after_every_round_separates_equals_falsely_once_in_twenty(finalists: int) -> None:
    """Until they are separated or have 12 seeds: more seeds after a look are looks like others."""
    rng, tries = random.Random(finalists), 150
    plan = ConfirmationPlan(tuple("abcd"[:finalists]), 12, until_separated=True)
    false = 0

    for _ in range(tries):
        losses = draw(rng, dict.fromkeys(plan.finalists, 3.0))
        false += any(pair.separated for now in states_of(plan, losses) for pair in now.comparisons)

    assert false / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


def test_the_means_of_all_finalists_lie_in_their_intervals_at_every_look() -> None:
    rng, tries = random.Random(5), 150
    true = {"a": 3.0, "b": 3.0, "c": 3.01, "d": 3.03}
    plan = ConfirmationPlan(tuple(true), 6, until_separated=False)
    missed = 0

    for _ in range(tries):
        losses = draw(rng, true, shared=0)
        means = [means_anytime(now.losses) for now in states_of(plan, losses)]
        missed += any(
            not m[name].low <= value <= m[name].high for m in means for name, value in true.items()
        )

    assert missed / tries < 0.05 + 2 * math.sqrt(0.05 * 0.95 / tries)


def test_the_difference_that_is_promised_is_one_that_would_be_called_separated() -> None:
    """Of three finalists the clearest pair is tested at a third of what this look may spend."""
    noise = {1: 0.01, 2: -0.01, 3: 0.02, 4: -0.02, 5: 0.0}
    losses = {
        "a": dict.fromkeys(noise, 3.0),
        "b": {seed: 3.01 + its for seed, its in noise.items()},
        "c": {seed: 3.02 - its for seed, its in noise.items()},
    }
    now = state_of(ConfirmationPlan(("a", "b", "c"), 5, until_separated=False), losses)

    seeds = len(now.losses[now.leader])
    level = 0.05 * share(seeds) / 3
    deviation = math.sqrt(2) * now.effects.noise.deviation
    least = t_quantile(1 - level / 2, now.effects.noise.freedom) * deviation / math.sqrt(seeds)
    text = noise_text(now)
    assert f"{seeds} shared seeds show a difference of {least:.4f} half the time" in text


def test_sharing_seeds_takes_out_what_they_have_in_common() -> None:
    losses = draw(random.Random(0), {"a": 3.0, "b": 3.0}, noise=0.001, shared=0.1)

    assert effects(losses).noise.deviation < 0.01
    low, high = means_anytime(losses)["a"].low, means_anytime(losses)["a"].high
    assert high - low > 0.05
