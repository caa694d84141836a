"""The statistics of a confirmation: means, paired differences, noise, what could be seen at all.

Losses are nats per token, by fresh seed; an infinite one diverged. Finalists share seeds, so that
the difference of two is taken seed by seed. Student's t for means and differences; Holm (1979) over
all pairs, because which of them is compared with the others is read off the same losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import fmean, stdev

import numpy as np

from sweep.noise import pooled_deviation

CONFIDENCE = 0.95  # of intervals
SIGNIFICANCE = 1 - CONFIDENCE  # of tests: the chance of a false "separated"

BySeed = Mapping[int, float]


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


def compare(losses: Mapping[str, BySeed], level: float = SIGNIFICANCE) -> list[Comparison]:
    """Paired t-tests of every two finalists, smallest p first, corrected by Holm's procedure.

    Without any true difference, the chance that some pair is called separated is at most `level`.
    """
    tests = [(a, b, *_paired(losses[a], losses[b])) for a, b in combinations(losses, 2)]
    tests.sort(key=lambda test: test[-1])
    steps = holm([p for *_, p in tests], level)
    comparisons = []
    for (a, b, differences, p), (own_level, separated) in zip(tests, steps, strict=True):
        seeds, half = len(differences), math.inf
        middle = fmean(differences) if differences else math.nan
        if seeds > 1:
            error = stdev(differences) / math.sqrt(seeds)
            half = t_quantile(1 - own_level / 2, seeds - 1) * error
        low, high = middle - half, middle + half
        comparisons.append(Comparison(a, b, seeds, middle, low, high, p, separated))
    return comparisons


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


def paired_deviation(losses: Mapping[str, BySeed]) -> float | None:
    """Standard deviation of differences seed by seed, pooled over pairs; None without two seeds.

    Where it is below sqrt(2) times the noise floor, sharing seeds has paid.
    """
    pairs = combinations(losses.values(), 2)
    deviation, freedom = pooled_deviation(_paired(a, b)[0] for a, b in pairs)
    return deviation if freedom else None


def leader(losses: Mapping[str, BySeed]) -> str:
    """The finalist of the lowest mean; of equals, the first."""
    return min(losses, key=lambda name: fmean(losses[name].values() or [math.inf]))


def _paired(a: BySeed, b: BySeed) -> tuple[list[float], float]:
    """Differences b - a over shared seeds, and the two-sided p of their mean being none.

    As scipy.stats.ttest_rel has it, which takes a second to import and warns of equal differences.
    """
    from scipy.special import stdtr

    differences = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
    if len(differences) < 2:
        return differences, 1.0
    middle, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    if error == 0:
        return differences, float(middle == 0)
    return differences, 2 * float(stdtr(len(differences) - 1, -abs(middle) / error))


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
