"""A loss surface through finished trials: a Gaussian process whose scales the data decide.

The scales have the largest posterior density: marginal likelihood times a prior wide enough for any
setting (Rasmussen & Williams 2006, 5.4; that dimensions need such priors: Hvarfner et al.
2402.02229). Near the best trial the surface must be exact, far off it need only be high: a point's
noise grows with its distance from the best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.search.kernel import (
    Array,
    Kernel,
    Places,
    Scales,
    covariance,
    level,
    likeness,
    variance,
)

FAR = 0.08  # a point so many nats above the best is known to that share of its distance
TALL = 0.3  # nats above the best, beyond which height counts by its logarithm
# Medians and log standard deviations of the scales before any trial.
HEIGHT, RESIDUAL, NOISE, REACH = (0.25, 0.8), (0.25, 0.8), (0.008, 0.7), (0.8, 0.5)
AXIS, GROUP = (1.6, 0.7), (0.4, 0.8)  # of an axis by the root of their number (2402.02229)
# Of an earlier sweep: its surface is as alike as exp(-UNLIKE), and its own noise.
UNLIKE, NOISE_EARLIER = (0.07, 1.2), (0.012, 0.9)
LIKELIHOOD = 128  # trials that decide the scales at most
USED = 192  # trials that the surface goes through at most
STEPS = 40  # of the optimiser
NEAREST = 1e-6  # share of the height squared that keeps a matrix positive


def softened(losses_N: Array) -> Array:
    """Losses with walls made lower: over-fitting costs nats, and no bowl should have to rise so."""
    above = losses_N - losses_N.min(initial=np.inf)
    return np.asarray(losses_N - above + TALL * np.log1p(above / TALL))


def hardened(softened_N: Array, lowest: float) -> Array:
    """Losses as they would be measured, from those with walls made lower: the inverse."""
    above = softened_N - lowest
    raised = TALL * np.expm1(np.minimum(above / TALL, 20.0))
    return np.asarray(lowest + np.where(above > 0, raised, above))


@dataclass(frozen=True)
class Surrogate:
    """What N trials have taught."""

    scales: Scales
    places: Places
    offset: float
    lower_NN: Array  # Cholesky factor of the trials' covariance with their noise
    white_N: Array

    def mean(self, at: Places) -> Array:
        return self._mean(at, self._solved(at))

    def _solved(self, at: Places) -> Array:
        from scipy.linalg import solve_triangular

        across = covariance(self.scales, self.places, at)
        return np.asarray(solve_triangular(self.lower_NN, across, lower=True, check_finite=False))

    def _mean(self, at: Places, solved: Array) -> Array:
        return np.asarray(solved.T @ self.white_N + self.offset + at.expected_N)

    def mean_and_variance(self, at: Places) -> tuple[Array, Array, Array]:
        """Posterior mean and variance at C points, and what a covariance between them needs."""
        solved = self._solved(at)
        left = variance(self.scales, at) - (solved**2).sum(axis=0)
        return self._mean(at, solved), np.maximum(left, 1e-10), solved

    def between(self, at: Places, solved_NC: Array) -> Array:
        """Posterior covariance (C, C) of the losses at C points."""
        return self.across(at, at, solved_NC, solved_NC)

    def across(self, a: Places, b: Places, solved_NA: Array, solved_NB: Array) -> Array:
        """Posterior covariance (A, B) of the losses at two sets of points."""
        return np.asarray(covariance(self.scales, a, b) - solved_NA.T @ solved_NB)

    @property
    def ended(self) -> int:
        """Trials of this sweep."""
        return int((self.places.sweeps_N == 0).sum())

    def surprise(self, last: int) -> float:
        """Negative log density of the losses of the `last` trials, given those before them."""
        begin = len(self.white_N) - last
        spreads = np.log(np.diag(self.lower_NN)[begin:])
        return float(0.5 * self.white_N[begin:] @ self.white_N[begin:] + spreads.sum())

    @cached_property
    def best(self) -> float:
        """The lowest posterior mean at a trial; before any, where an earlier sweep had one."""
        if not len(self.places):
            return 0.0
        at = self.places[self.places.sweeps_N == 0] if self.ended else self.places
        return float(self.mean(replace(at, sweeps=np.zeros(len(at), dtype=np.int64))).min())


def fit(evidence: Evidence, scales: Scales) -> Surrogate:
    """The surface through the evidence, under these scales."""
    from scipy.linalg import solve_triangular

    places = evidence.places
    target, offset = _target(evidence)
    own = covariance(scales, places, places)
    own += np.diag(_noise(scales, evidence) + NEAREST * scales.height**2)
    lower = np.linalg.cholesky(own)
    white = solve_triangular(lower, target, lower=True, check_finite=False)
    return Surrogate(scales, places, offset, np.asarray(lower), np.asarray(white))


def _target(evidence: Evidence) -> tuple[Array, float]:
    """Losses less what was expected and less the middle of each sweep (N,); this sweep's middle."""
    target, sweeps_N = evidence.losses_N - evidence.places.expected_N, evidence.places.sweeps_N
    middles = {n: float(np.median(target[sweeps_N == n])) for n in set(sweeps_N.tolist())}
    return target - np.array([middles[n] for n in sweeps_N.tolist()]), middles.get(0, 0.0)


def _noise(scales: Scales, evidence: Evidence) -> Array:
    """The variance of each loss about the surface."""
    noise_N = scales.noise_of(evidence.places.sweeps_N)
    return np.asarray(noise_N**2 + (FAR * evidence.above_N) ** 2 + evidence.errors_N**2)


def usual_scales(axes: int, groups: int, earlier: int = 0) -> Scales:
    """The scales before any trial."""
    medians, _ = _prior(axes, groups, earlier)
    return Scales.from_logs(medians, axes, earlier)


def _prior(axes: int, groups: int, earlier: int) -> tuple[Array, Array]:
    axis = AXIS[0] / max(1, axes) ** 0.5, AXIS[1]
    rows = [HEIGHT, RESIDUAL, NOISE, REACH, *[axis] * axes, *[GROUP] * groups]
    rows += [UNLIKE] * earlier + [NOISE_EARLIER] * earlier
    return np.log([median for median, _ in rows]), np.array([sd for _, sd in rows])


@dataclass(frozen=True, eq=False)
class Evidence:
    """N trials that have ended: where, losses in nats and their standard errors."""

    places: Places
    losses_N: Array
    errors_N: Array

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Evidence:
        return Evidence(self.places[rows], self.losses_N[rows], self.errors_N[rows])

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.places + other.places,
            np.concatenate([self.losses_N, other.losses_N]),
            np.concatenate([self.errors_N, other.errors_N]),
        )

    @property
    def above_N(self) -> Array:
        """Nats above the best of the same sweep."""
        losses_N, sweeps_N = self.losses_N, self.places.sweeps_N
        best = {n: losses_N[sweeps_N == n].min() for n in set(sweeps_N.tolist())}
        return np.asarray(losses_N - np.array([best[n] for n in sweeps_N.tolist()], dtype=float))

    def __hash__(self) -> int:
        return hash((self.places.x_ND.tobytes(), self.losses_N.tobytes(), self.errors_N.tobytes()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and all(
            np.array_equal(mine, theirs)
            for mine, theirs in zip(self._arrays, other._arrays, strict=True)
        )

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        at = self.places
        doubts = at.expected_N, at.doubt_NB
        return at.x_ND, at.kinds_NG, *doubts, at.sweeps_N, self.losses_N, self.errors_N


@lru_cache(maxsize=64)  # between two rungs of the ladder every proposal asks the same
def likeliest(evidence: Evidence) -> Scales:
    """The scales of the largest posterior density."""
    from scipy.linalg import cho_solve
    from scipy.optimize import minimize

    places, sweeps_N = evidence.places, evidence.places.sweeps_N
    axes, groups, earlier = places.x_ND.shape[1], places.kinds_NG.shape[1], int(sweeps_N.max())
    medians, sds = _prior(axes, groups, earlier)
    target, _ = _target(evidence)
    doubt = places.doubt_NB @ places.doubt_NB.T
    levels = level(places, places)
    of_sweep = [sweeps_N == n for n in range(earlier + 1)]

    def surprise(off: Array) -> tuple[float, Array]:
        """Negative log posterior density and its slope, by logs in prior standard deviations."""
        scales = Scales.from_logs(medians + sds * off, axes, earlier)
        kernel = Kernel(scales, places, places)
        alike = likeness(scales, places, places)
        shared = (kernel.covariance + doubt) * alike
        own = shared + levels
        diagonal = _noise(scales, evidence) + NEAREST * scales.height**2
        try:
            lower = np.linalg.cholesky(own + np.diag(diagonal))
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(off)
        inverse = cho_solve((lower, True), np.eye(len(target)), check_finite=False)
        solved = inverse @ target
        value = 0.5 * target @ solved + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        weight = 0.5 * (inverse - np.outer(solved, solved))
        slopes = kernel.slopes(weight * alike)
        noises = [
            2 * noise**2 * np.diag(weight)[rows].sum()
            for noise, rows in zip([scales.noise, *scales.noises_S], of_sweep, strict=True)
        ]
        unlike = [
            -2 * apart * (weight[rows][:, ~rows] * shared[rows][:, ~rows]).sum()
            for apart, rows in zip(scales.unlike_S, of_sweep[1:], strict=True)
        ]
        # The order of the logs: height, residual, noise, reach, axes, groups, earlier sweeps.
        slope = np.array([slopes[0], slopes[1], noises[0], *slopes[2:], *unlike, *noises[1:]])
        return float(value), slope * sds + off

    start = np.zeros(len(medians))
    done = minimize(
        surprise,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS},
        bounds=[(-3.5, 3.5)] * len(start),
    )
    return Scales.from_logs(medians + sds * done.x, axes, earlier)
