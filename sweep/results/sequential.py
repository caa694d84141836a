"""What fresh seeds say of finalists, however many runs each has and whenever one looks.

Losses are nats per token, by finalist and fresh seed; finalists share seeds and take them in order,
some more than others. Whoever looks, adds runs where they decide and looks again, tests again and
again. So each number m of shared seeds has a share of the level to spend, and the shares sum to
one. As seed s of a finalist has the same loss whenever it is run, it does not matter by which rule
m came about, be it a larger `--seeds` after a look (always-valid p-values: Johari et al.,
Operations Research 2022; here by the union bound over m).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from model.clusters import Variance
from sweep.noise import pooled_deviation
from sweep.results.significance import (
    SIGNIFICANCE,
    BySeed,
    Comparison,
    Mean,
    Noise,
    compare,
    standard_error,
    t_quantile,
)

AFTER_TWO = 0.1
SINGULAR = 1e-9  # eigenvalues below, of counts of runs, are none
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """Finalists with the seeds' own effects taken out: loss = finalist + seed + noise."""

    level: Mapping[str, float]  # of each finalist, nats above the mean of all of them
    noise: Noise  # of one run; not a number where nothing tells it

    @property
    def leader(self) -> str:
        """The lowest; of equals, the first."""
        return min(self.level, key=lambda name: self.level[name])


def effects(losses: Mapping[str, BySeed]) -> Effects:
    """Generalised least squares over finalists, seeds being random blocks (a two-way layout).

    Losses are finite. As far as seeds differ, finalists with fewer are compared as if they had them
    all: the mean of seeds that happen to be easy is not taken for that of a good finalist. How far
    they differ is the variance within finalists less that of the noise.
    """
    if not losses:
        return Effects({}, Noise(math.nan, 0))
    seeds = sorted({seed for its in losses.values() for seed in its})
    loss_KS = np.array([[its.get(seed, math.nan) for seed in seeds] for its in losses.values()])
    ran_KS = np.isfinite(loss_KS)
    runs_S = ran_KS.sum(axis=0)
    off_KS = np.where(ran_KS, loss_KS - np.nanmean(loss_KS), 0.0)
    # First as if seeds had effects of any size: what is left then is the noise alone.
    level_K, rank = _levels(off_KS, ran_KS, np.ones(len(seeds)))
    freedom = int(ran_KS.sum()) - len(seeds) - rank
    left_KS = np.where(ran_KS, off_KS - level_K[:, None], 0.0)
    left_KS -= np.where(ran_KS, left_KS.sum(axis=0) / runs_S, 0.0)
    noise = float((left_KS**2).sum()) / freedom if freedom else math.nan
    if noise > 0:
        within = pooled_deviation(its.values() for its in losses.values())[0] ** 2
        of_seeds_S = runs_S * max(0.0, within - noise)
        level_K, _ = _levels(off_KS, ran_KS, of_seeds_S / (noise + of_seeds_S))
    level = dict(zip(losses, map(float, level_K - level_K.mean()), strict=True))
    return Effects(level, Noise(math.sqrt(noise), freedom))


def _levels(off_KS: Array, ran_KS: NDArray[np.bool_], share_S: Array) -> tuple[Array, int]:
    """Levels of finalists (K,) by the normal equations, and the rank of these.

    share_S   how much of the mean of each seed's losses is the seed's own
    """
    own_S = share_S / ran_KS.sum(axis=0)
    normal_KK = np.diag(ran_KS.sum(axis=1)) - (ran_KS * own_S) @ ran_KS.T
    right_K = off_KS.sum(axis=1) - ran_KS @ (own_S * off_KS.sum(axis=0))
    size_K, vectors_KK = np.linalg.eigh(normal_KK)
    sound_K = size_K > SINGULAR * len(size_K)
    inverse_K = np.where(sound_K, 1 / np.where(sound_K, size_K, 1.0), 0.0)
    return vectors_KK @ (inverse_K * (vectors_KK.T @ right_K)), int(sound_K.sum())


def share(runs: int) -> float:
    """The share of the level that a look after so many runs, 2 or more, may spend.

    Little of it after two, where a finalist that is noisier than the others is not yet seen to be.
    """
    return AFTER_TWO if runs == 2 else (1 - AFTER_TWO) / ((runs - 1) * (runs - 2))


def compare_anytime(
    losses: Mapping[str, BySeed],
    its: Effects,
    texts: Mapping[tuple[str, str], Variance] | None = None,
) -> list[Comparison]:
    """Paired tests of every two finalists, at every look; `its` are the effects in their losses.

    Two seeds say little of their own deviation, and finalists differ little in theirs: the noise of
    a pair is that of all finalists together, or its own where that is larger. The chance that any
    pair without a difference is ever called separated is at most 5 %; with this noise that is no
    theorem but what benchmarks/confirmation.py simulates.
    """
    noise = Noise(math.sqrt(2) * its.noise.deviation, its.noise.freedom)
    return compare(losses, noise=noise if its.noise.freedom else None, share=share, texts=texts)


def means_anytime(losses: Mapping[str, BySeed]) -> dict[str, Mean]:
    """Each finalist's mean, with intervals that hold at 95 % together and at every look.

    So that of the finalist which is picked for its low mean holds too. Where one diverged, the mean
    is infinite and has no interval.
    """
    finite = [its for its in losses.values() if all(map(math.isfinite, its.values()))]
    noise = Noise(*pooled_deviation(its.values() for its in finite))
    means = {}
    for name, by_seed in losses.items():
        its, half = list(by_seed.values()), math.inf
        value, runs = fmean(its) if its else math.nan, len(its)
        if math.isfinite(value) and runs > 1:
            level = SIGNIFICANCE / len(losses) * share(runs)
            half = t_quantile(1 - level / 2, noise.freedom) * standard_error(its, noise)[1]
        means[name] = Mean(runs, value, value - half, value + half)
    return means
