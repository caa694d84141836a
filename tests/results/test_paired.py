"""How often intervals of differences miss the truth, simulated, and formulas worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from model.clusters import Clusters, Variance, clustered
from sweep.results.paired import (
    text_in_seeds,
    text_of_pairs,
    text_of_recipes,
    total,
)
from sweep.results.significance import chance_behind, may_be_best, t_quantile

DRAWS = 1000
# A rate of 5 % in so many draws is between these in 99.9 of 100.
RARELY, OFTEN = 0.027, 0.073


def run(losses: np.ndarray | list[float], tokens: np.ndarray | list[int]) -> Clusters:
    return Clusters("documents", tuple(map(int, tokens)), tuple(map(float, losses)))


def misses(difference: float, variance: Variance) -> bool:
    """Whether the 95 % interval around `difference` leaves out none."""
    return abs(difference) > t_quantile(0.975, variance.freedom) * math.sqrt(variance.value)


def share(draw: Callable[[np.random.Generator], bool], draws: int = DRAWS) -> float:
    rng = np.random.default_rng(0)
    return sum(draw(rng) for _ in range(draws)) / draws


def test_equal_clusters_have_the_textbook_error_of_a_mean() -> None:
    """Of 1, 2, 3 and 6 the deviation is sqrt(14 / 3)."""
    variance = clustered(np.array([1.0, 2.0, 3.0, 6.0]), np.full(4, 50))

    assert variance.value == pytest.approx(14 / 3 / 4)
    assert variance.freedom == pytest.approx(3)


def test_one_cluster_tells_nothing_and_a_long_one_among_short_ones_little() -> None:
    assert clustered(np.array([1.0]), np.array([50])).value == math.inf
    assert clustered(np.ones(30), np.array([1000, *[10] * 29])).freedom < 2


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0], ids=["equal", "alike", "unequal"])
@pytest.mark.parametrize("alike", [True, False], ids=["alike inside", "independent tokens"])
def test_intervals_of_a_paired_difference_miss_one_time_in_twenty(
    spread: float, alike: bool
) -> None:
    """40 documents, whose tokens share a deviation or have one each."""

    def draw(rng: np.random.Generator) -> bool:
        tokens_C = np.round(300 * np.exp(rng.normal(0, spread, 40)))
        mean_C = rng.normal(0, 1, 40) / (1 if alike else np.sqrt(tokens_C))
        variance = clustered(mean_C, tokens_C)
        return misses(float(np.average(mean_C, weights=tokens_C)), variance)

    assert RARELY <= share(draw) <= OFTEN


def test_tokens_taken_one_by_one_would_claim_what_is_not_there() -> None:
    """Here 100 tokens of a document differ alike: the usual error misses eight times in ten."""

    def draw(rng: np.random.Generator) -> bool:
        tokens_N = np.repeat(rng.normal(0, 1, 40), 100) + rng.normal(0, 1, 4000)
        return misses(tokens_N.mean(), Variance(tokens_N.var() / 4000, 3999))

    assert share(draw, 200) > 0.7


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("noise", [(0.0, 0.05), (0.01, 0.05), (0.02, 0.0)])
def test_intervals_with_seeds_and_text_cover_both(seeds: int, noise: tuple[float, float]) -> None:
    """noise: of each seed, and of each document; that of both together is 0.05."""
    tokens_C = np.full(33, 500)

    def draw(rng: np.random.Generator) -> tuple[float, Variance, Variance]:
        losses_SC = rng.normal(0, noise[0], (seeds, 1)) + rng.normal(0, noise[1], (1, 33))
        losses_SC = losses_SC + rng.normal(0, 0.05, (seeds, 33))
        a = {seed: run(np.zeros(33), tokens_C) for seed in range(seeds)}
        b = {seed: run(losses_C, tokens_C) for seed, losses_C in enumerate(losses_SC)}
        text, by_seed = text_of_pairs(a, b), losses_SC.mean(axis=1)
        assert text is not None
        alone = Variance(by_seed.var(ddof=1) / seeds, seeds - 1)
        return float(by_seed.mean()), alone, total(alone, text)

    def both(rng: np.random.Generator) -> bool:
        difference, _, variance = draw(rng)
        return misses(difference, variance)

    def seeds_alone(rng: np.random.Generator) -> bool:
        difference, variance, _ = draw(rng)
        return misses(difference, variance)

    assert 0.01 <= share(both, 500) <= 0.085
    if seeds == 5 and noise[1]:
        assert share(seeds_alone, 200) > 0.1


def test_what_seeds_show_of_the_text_is_taken_off_and_never_below_nothing() -> None:
    """Runs of one recipe that differ by document, and alike in the mean."""
    runs = [run([1.0, 3.0], [10, 10]), run([3.0, 1.0], [10, 10])]
    within = text_in_seeds([runs, [runs[0]]])

    text = text_of_recipes([runs[0]], [runs[1]], within)

    assert within == pytest.approx(2.0)  # each 1 from their mean in each: (1 + 1) / 4 x 2, twice
    assert text is not None
    assert text.value == 0.0


def test_runs_that_kept_nothing_or_by_other_stretches_are_not_compared_by_text() -> None:
    ten, twenty = run([1.0, 3.0], [10, 10]), run([1.0, 3.0], [20, 20])

    assert text_of_recipes([ten], [twenty]) is None
    assert text_of_recipes([ten], []) is None
    assert text_of_pairs({1: ten}, {2: ten}) is None


@pytest.mark.parametrize("trials", [2, 12])
def test_the_truly_best_is_among_the_tied_19_times_in_20(trials: int) -> None:
    """The hardest case: all are equal, so that any of them may look best."""

    def left_out(rng: np.random.Generator) -> bool:
        losses_KC = rng.normal(3, 0.5, (1, 33)) + rng.normal(0, 0.05, (trials, 33))
        best = int(losses_KC.mean(axis=1).argmin())
        difference_C = losses_KC[0] - losses_KC[best]
        variance = clustered(difference_C, np.full(33, 500))
        gap = difference_C.mean() / math.sqrt(variance.value) if best else 0.0
        return chance_behind(gap, trials - 1, variance.freedom) <= 0.05

    assert 0.02 <= share(left_out, 500) <= 0.08


@pytest.mark.parametrize(
    ("others", "freedom", "pooled", "gap"),
    [(1, 20, True, 1.725), (1, 20, False, 1.725), (4, 20, True, 2.30), (9, math.inf, True, 2.42)],
)
def test_gaps_are_those_of_dunnetts_table(
    others: int, freedom: float, pooled: bool, gap: float
) -> None:
    """One-sided, 5 % (Dunnett, 1955, table 1a); of one, Student's t."""
    assert chance_behind(gap, others, freedom, pooled) == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("others", [1, 20, 9999])
@pytest.mark.parametrize("freedom", [1.0, 3.0, 30.0, math.inf])
@pytest.mark.parametrize("pooled", [True, False])
def test_who_is_told_apart_quickly_is_who_is_told_apart(
    others: int, freedom: float, pooled: bool
) -> None:
    for gap in (0.1, 1.0, 2.0, 3.0, 4.0, 6.0, 12.0, 100.0):
        likely = chance_behind(gap, others, freedom, pooled) > 0.05
        assert may_be_best(gap, others, freedom, pooled) == likely
