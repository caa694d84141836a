"""Means, paired differences, noise, and what could be seen at all, of runs that share seeds.

Losses are nats per token, by seed; an infinite one diverged. The difference of two recipes is taken
seed by seed. Student's t for means and differences; Holm (1979) over all pairs, because which of
them is compared with the others is read off the same losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from statistics import fmean, stdev

import numpy as np

from model.clusters import Variance
from sweep.noise import pooled_deviation

CONFIDENCE = 0.95  # of intervals
SIGNIFICANCE = 1 - CONFIDENCE  # of tests: the chance of a false "separated"

BySeed = Mapping[int, float]
NO_TEXT = Variance(0.0, math.inf)


@dataclass(frozen=True)
class Mean:
    """A mean with its two-sided 95 % interval; infinitely wide for a single run."""

    runs: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How much worse `b` is than `a`, over the seeds that both have."""

    a: str
    b: str
    seeds: int
    difference: float  # mean of b - a
    low: float  # at the level that Holm's procedure asked of this pair
    high: float
    p: float  # two-sided, before the correction
    separated: bool
    text: float = 0.0  # half of the interval that would be left with seeds without end


@dataclass(frozen=True)
class Noise:
    """A standard deviation and its degrees of freedom."""

    deviation: float
    freedom: int


@dataclass(frozen=True)
class NoiseFloor:
    """A standard deviation over seeds, pooled, with its 95 % interval."""

    deviation: float
    low: float
    high: float
    freedom: int  # degrees of


def mean(losses: Sequence[float]) -> Mean:
    """The mean and its t-interval."""
    value, runs = fmean(losses), len(losses)
    if runs < 2 or not math.isfinite(value):
        return Mean(runs, value, -math.inf, math.inf)
    half = t_quantile(1 - SIGNIFICANCE / 2, runs - 1) * stdev(losses) / math.sqrt(runs)
    return Mean(runs, value, value - half, value + half)


def noise_floor(groups: Iterable[Iterable[float]]) -> NoiseFloor | None:
    """The standard deviation within groups, pooled; None where no group has two losses.

    The interval follows from chi-square: five runs alone give x0.6 to x2.9.
    """
    deviation, freedom = pooled_deviation(groups)
    if not freedom:
        return None
    low, high = (
        deviation * math.sqrt(freedom / chi_square_quantile(p, freedom))
        for p in (1 - SIGNIFICANCE / 2, SIGNIFICANCE / 2)
    )
    return NoiseFloor(deviation, low, high, freedom)


def detectable(
    deviation: float, seeds: int, freedom: int, power: float = 0.5, level: float = SIGNIFICANCE
) -> float:
    """The difference that so many seeds show, two-sided, in a share `power` of tries.

    deviation   of the difference of two runs, known with `freedom` degrees of freedom
    level       of the one test: where several are corrected for, its part
    """
    reach = t_quantile(1 - level / 2, freedom) + t_quantile(power, freedom)
    return reach * deviation / math.sqrt(seeds)


def compare(
    losses: Mapping[str, BySeed],
    level: float = SIGNIFICANCE,
    noise: Noise | None = None,
    share: Callable[[int], float] = lambda runs: 1.0,
    texts: Mapping[tuple[str, str], Variance] | None = None,
) -> list[Comparison]:
    """Paired t-tests of every two recipes, smallest p first, corrected by Holm's procedure.

    noise   of the difference of two runs, from more than the pair; its own counts where it is
            larger, or where there is none other
    share   of the level that may be spent after so many shared seeds, 2 or more
    texts   what other text would add to the error of the difference of two recipes

    Without any true difference, the chance that some pair is called separated is at most `level`;
    with a share of 1, if one looks once, after a number of seeds that the losses did not choose.
    """
    tests = []
    for a, b in combinations(losses, 2):
        shared, p = differences(losses[a], losses[b]), 1.0
        its, error = standard_error(shared, noise)
        text = (texts or {}).get((a, b), NO_TEXT)
        reach = Reach(Variance(error**2, its.freedom), share(max(2, len(shared))), text)
        if len(shared) > 1:
            p = reach.p(fmean(shared))
        tests.append((p, a, b, shared, reach))
    tests.sort(key=lambda test: test[0])
    steps = holm([p for p, *_ in tests], level)
    comparisons = []
    for (p, a, b, shared, reach), (own_level, separated) in zip(tests, steps, strict=True):
        seeds, half = len(shared), math.inf
        middle = fmean(shared) if shared else math.nan
        if seeds > 1:
            half = reach.half(own_level)
        ends = middle - half, middle + half
        its_text = reach.of_text(own_level)
        comparisons.append(Comparison(a, b, seeds, middle, *ends, p, separated, its_text))
    return comparisons


@dataclass(frozen=True)
class Reach:
    """How far a difference may be off: for its seeds, at any look, and for its text, which is one.

    The halves of their two intervals add up as squares (Howe, JASA 1974): each keeps its own
    degrees of freedom, and the text is not charged for each look at more seeds.
    """

    seeds: Variance
    share: float  # of the level, that this look at seeds may spend
    text: Variance

    def half(self, level: float) -> float:
        """Half the width of the interval at `level`."""
        return float(self._halves(np.array([level]))[0])

    def _halves(self, levels: np.ndarray) -> np.ndarray:
        from scipy.special import stdtrit

        # The lower tail, where small levels keep their digits; a half is as long on either side.
        of_seeds = stdtrit(self.seeds.freedom, levels * self.share / 2)
        of_text = stdtrit(self.text.freedom, levels / 2)
        halves: np.ndarray = np.hypot(
            of_seeds * math.sqrt(self.seeds.value), of_text * math.sqrt(self.text.value)
        )
        return halves

    def of_text(self, level: float) -> float:
        """The same if it were for the text alone."""
        return t_quantile(1 - level / 2, self.text.freedom) * math.sqrt(self.text.value)

    def p(self, difference: float) -> float:
        """The level whose interval ends at none; at most 1."""
        if not self.text.value:
            error = math.sqrt(self.seeds.value)
            return min(1.0, two_sided_p(difference, error, self.seeds.freedom) / self.share)
        low, high = -60.0, 0.0  # of the level's logarithm to base ten
        for _ in range(5):
            grid = np.linspace(low, high, 33)
            within = self._halves(10**grid) < abs(difference)  # a higher level, a shorter interval
            at = max(1, int(within.argmax())) if within.any() else 32
            low, high = grid[at - 1], grid[at]
        return float(10**high)


def standard_error(numbers: Sequence[float], noise: Noise | None = None) -> tuple[Noise, float]:
    """The noise of `numbers` and the standard error of their mean; infinite of a single one.

    noise   from more than these numbers: their own counts where it is larger
    """
    if len(numbers) < 2:
        return noise or Noise(math.nan, 0), math.inf
    own = Noise(*pooled_deviation([numbers]))
    its = own if noise is None else replace(noise, deviation=max(own.deviation, noise.deviation))
    return its, its.deviation / math.sqrt(len(numbers))


def holm(rising_p: Sequence[float], level: float) -> list[tuple[float, bool]]:
    """Of each test the level that is asked of it, and whether it passes (Holm, 1979).

    rising_p   the p of all tests, smallest first

    The first is asked a share of the level as Bonferroni asks it of all, each next one less, as
    fewer are left. Whatever follows the first that fails, fails.
    """
    steps, passes = [], True
    for place, p in enumerate(rising_p):
        own_level = level / (len(rising_p) - place)
        passes = passes and p <= own_level
        steps.append((own_level, passes))
    return steps


def differences(a: BySeed, b: BySeed) -> list[float]:
    """b - a over the seeds that both have."""
    return [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]


def two_sided_p(middle: float, error: float, freedom: float) -> float:
    """The p of a mean `middle` with that standard error being none.

    As scipy.stats.ttest_rel has it, which takes a second to import and warns of equal differences.
    """
    from scipy.special import stdtr

    if error == 0:
        return float(middle == 0)
    return 2 * float(stdtr(freedom, -abs(middle) / error))


def chance_behind(gap: float, others: int, freedom: float, pooled: bool = False) -> float:
    """The chance that the truly best of several ends so far behind the one that looks best.

    gap       between the two, in standard errors of their difference
    others    how many there are beside the one that looks best
    freedom   degrees of, with which the standard error is known
    pooled    whether it is one for all of them, as a noise floor is, or of each pair alone
    Only what is less likely than 5 % is told from the best, so that with 95 % the best is among
    those that are left (Gupta, Technometrics 1965). It is the distribution of Dunnett (JASA 1955):
    means of equal variance, so that two differences from one of them correlate by 1/2.
    """
    from scipy.special import chdtri, ndtr

    z, weight = _normal_quadrature()
    deviation = np.ones(1)  # of what is believed of it, drawn at 64 quantiles
    if math.isfinite(freedom):
        deviation = np.sqrt(chdtri(freedom, 1 - (np.arange(64) + 0.5) / 64) / freedom)
    below = ndtr(z[:, None] + math.sqrt(2) * gap * deviation)
    none = (below**others).mean(axis=1) if pooled else below.mean(axis=1) ** others
    return float(1 - weight @ none)


def may_be_best(gap: float, others: int, freedom: float, pooled: bool = False) -> bool:
    """Whether one so far behind the one that looks best may yet be the best: `chance_behind`.

    Most of thousands are told apart by the sum of the single chances, which is never less.
    """
    from scipy.special import ndtr, stdtr

    single = stdtr(freedom, -gap) if math.isfinite(freedom) else ndtr(-gap)
    if others * float(single) <= SIGNIFICANCE:
        return False
    return chance_behind(gap, others, freedom, pooled) > SIGNIFICANCE


@cache
def _normal_quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Values of a standard normal variable and weights, whose sum is 1, that stand for all."""
    z, weight = np.polynomial.hermite_e.hermegauss(64)
    return z, weight / weight.sum()


def t_quantile(p: float, freedom: float) -> float:
    """Quantile of Student's t at probability p."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def chi_square_quantile(p: float, freedom: float) -> float:
    """Quantile of chi-square at probability p."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 1 - p))
