"""Two runs on the same tokens: how far apart, how sure that is, and on which tokens.

Differences are b - a in nats per token, so that below zero `b` is better. Tokens of one document
differ alike, so errors are those of the mean over documents, or blocks where they are too few
(model/data/clusters.py), as reports of a sweep have them; a block bootstrap stands beside it.
Arrays: N targets, C clusters, D draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model.clusters import clustered
from model.data.clusters import BLOCKS_AT_MOST, clusters
from sweep.errors import SweepError
from sweep.models import Source
from sweep.results import paired
from sweep.results.significance import CONFIDENCE, t_quantile

DRAWS = 2000
# A log-probability is kept as float16, which moves one of 2 to 4 nats by up to 0.001.
SAME = 0.001  # nats
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
TOP = 0.01  # of tokens, those that differ most
BY_TOKENS, BY_STRETCHES, BY_LOSSES = "tokens", "stretches", "losses"


@dataclass(frozen=True)
class Interval:
    """Around a mean difference, at 95 %."""

    error: float  # standard
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much worse `b` is than `a`."""

    mean: float  # of b - a, nats per token
    interval: Interval
    by: str  # what it was taken from: see BY_TOKENS
    stretches: str  # 33 documents, or 32 blocks
    bootstrap: Interval | None = None  # by blocks of consecutive tokens, where there are tokens

    @property
    def apart(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Spread:
    """How the differences of single tokens are distributed."""

    better: float  # share of tokens on which b is better
    worse: float
    quantiles: dict[float, float]  # nats
    top: float  # how much of the mean difference the 1 % of tokens that differ most make up, nats


def by_tokens(difference_N: np.ndarray, offsets_D: np.ndarray) -> Difference:
    """From the differences of all targets of a split whose documents begin at `offsets_D`."""
    kind, begin_C = clusters(np.asarray(offsets_D), len(difference_N))
    token_C = np.diff(np.append(begin_C, len(difference_N)))
    mean_C = np.add.reduceat(difference_N, begin_C, dtype=np.float64) / token_C
    variance = clustered(mean_C, token_C)
    mean = float(difference_N.mean(dtype=np.float64))
    return Difference(
        mean,
        around(mean, math.sqrt(variance.value), variance.freedom),
        BY_TOKENS,
        f"{len(token_C)} {kind}",
        block_bootstrap(difference_N),
    )


def around(mean: float, error: float, freedom: float) -> Interval:
    """Student's t interval."""
    if not math.isfinite(error):
        return Interval(error, -math.inf, math.inf)
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    return Interval(error, mean - half, mean + half)


def block_bootstrap(difference_N: np.ndarray, seed: int = 0) -> Interval:
    """Of the mean over tokens in circular blocks (Politis and Romano 1992).

    As many blocks as a text of few documents is cut into, which model/data/clusters.py measured:
    shorter ones take what is alike for independent.
    """
    tokens = len(difference_N)
    length = max(1, tokens // BLOCKS_AT_MOST)
    blocks = max(1, tokens // length)
    around_the_end_N = np.concatenate([difference_N, difference_N[:length]])
    sums_N = np.concatenate([[0.0], np.cumsum(around_the_end_N, dtype=np.float64)])
    start_DB = np.random.default_rng(seed).integers(0, tokens, (DRAWS, blocks))
    mean_D = (sums_N[start_DB + length] - sums_N[start_DB]).sum(axis=1) / (blocks * length)
    low, high = np.quantile(mean_D, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(mean_D.std(ddof=1)), float(low), float(high))


def by_journal(a: Source, b: Source) -> Difference:
    """Without log-probabilities: by the losses of stretches, else by both losses as they stand.

    Raises SweepError where neither has an error.
    """
    mean = b.val_loss - a.val_loss
    if a.clusters and b.clusters:
        variance = paired.text_of_pairs({0: a.clusters}, {0: b.clusters})
        if variance is not None and math.isfinite(variance.value):
            interval = around(mean, math.sqrt(variance.value), variance.freedom)
            stretches = f"{len(a.clusters.tokens)} {a.clusters.kind}"
            return Difference(mean, interval, BY_STRETCHES, stretches)
    error = math.hypot(a.error, b.error)
    if not math.isfinite(error):  # a loop outside tells a loss alone
        raise SweepError(
            f"{a.name} and {b.name} cannot be compared",
            [
                f"{run.name}: of what it predicted only the loss {run.val_loss:.4f} is known, "
                "without an error"
                for run in (a, b)
                if not math.isfinite(run.error)
            ],
            hint="sweep status tells how far the trials of a sweep are apart, by the noise between "
            "seeds.",
        )
    return Difference(mean, around(mean, error, math.inf), BY_LOSSES, "")


def spread(difference_N: np.ndarray) -> Spread:
    """The distribution of the differences."""
    tokens = len(difference_N)
    quantiles = np.quantile(difference_N, QUANTILES)
    most = max(1, round(TOP * tokens))
    top = np.argpartition(np.abs(difference_N), tokens - most)[tokens - most :]
    return Spread(
        better=float((difference_N < -SAME).mean()),
        worse=float((difference_N > SAME).mean()),
        quantiles=dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        top=float(difference_N[top].sum(dtype=np.float64)) / tokens,
    )
