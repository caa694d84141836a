"""How far a loss will still fall: a Gaussian process whose relevances the trials decide.

The drop from the loss now to the final one is linear in the trial's coordinates and in the loss
now, with a bend and a smooth residual for what is not. Each coordinate has a relevance, by marginal
likelihood with a prior (Rasmussen & Williams 2006, 5.4; relevance: MacKay 1994), the overall scale
is integrated out: so an error is of a Student t, wide after few trials. What ends far above the
best is known to a share of that distance: over-fitting walls are no reason to doubt good trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MEAN = 4.0  # prior variance of the mean drop, in variances of the drops
FREEDOM = 3.0  # trials' worth of the prior guess that drops vary as much as they do
# Prior medians of standard deviations, in standard deviations of the drops, and how many e-folds
# they may be off: of coordinates and the loss now; of bend, residual, noise and walls.
RELEVANCE, RELEVANCE_FOLDS = 0.5, 0.4
OTHERS = np.log([0.3, 0.3, 0.1, 0.1])
OTHERS_FOLDS = np.array([0.7, 0.7, 1.0, 0.7])
LOWEST, HIGHEST = -4.0, 2.5  # e-folds from the prior
SEEDS_DIFFER = 0.004  # nats: no final loss is known better, as runs that differ in seeds alone show
STEPS = 60  # of the search for the likeliest, at most


@dataclass(frozen=True)
class Examples:
    """N finished trials; nats per token."""

    x_ND: Array  # coordinates
    now_N: Array  # loss at this fraction of the schedule
    final_N: Array

    @property
    def drops_N(self) -> Array:
        return self.final_N - self.now_N


@dataclass(frozen=True)
class Kernel:
    """Prior standard deviations, in standard deviations of the drops."""

    axes_D: Array  # of a slope along each coordinate, and of a length in the residual its inverse
    now: float
    bend: float  # of products of coordinates
    residual: float
    noise: float
    wall: float  # share of the distance above the best

    def covariance(self, x_AD: Array, now_A: Array, x_BD: Array, now_B: Array) -> Array:
        """(A, B), without noise; the losses now are standardised."""
        x_AD, x_BD = x_AD * self.axes_D, x_BD * self.axes_D
        dot = x_AD @ x_BD.T
        apart = (x_AD**2).sum(axis=1)[:, None] + (x_BD**2).sum(axis=1) - 2 * dot
        smooth = self.residual**2 * np.exp(-np.maximum(apart, 0.0) / 2)
        loss = self.now**2 * np.outer(now_A, now_B)
        return np.asarray(MEAN + dot + loss + self.bend**2 * dot**2 / 2 + smooth)


@dataclass(frozen=True)
class Drops:
    """What finished trials teach of the drop that remains."""

    kernel: Kernel
    scale: _Scale
    examples: Examples
    inverse_NN: Array
    weights_N: Array
    variance: float  # overall, as integrated

    def expect(self, x_D: Array, now: float) -> tuple[float, float]:
        """Expected drop of a trial and the error of that, in nats per token."""
        scale, kernel = self.scale, self.kernel
        at, loss = x_D[None, :], np.array([(now - scale.now) / scale.now_spread])
        losses_N = (self.examples.now_N - scale.now) / scale.now_spread
        across_N = kernel.covariance(at, loss, self.examples.x_ND, losses_N)[0]
        own = kernel.covariance(at, loss, at, loss)[0, 0]
        drop = scale.drop + scale.spread * float(across_N @ self.weights_N)
        unsure = max(0.0, float(own - across_N @ self.inverse_NN @ across_N))
        above = max(0.0, now + drop - scale.best) / scale.spread
        variance = self.variance * (unsure + kernel.noise**2 + (kernel.wall * above) ** 2)
        # One kernel stands for all that are likely: a relevance of each axis came from few trials.
        variance *= 1 + len(x_D) / len(losses_N)
        freedom = FREEDOM + len(losses_N)
        spread = scale.spread * math.sqrt(variance * freedom / (freedom - 2))
        return drop, math.hypot(spread, SEEDS_DIFFER)


@dataclass(frozen=True)
class _Scale:
    """By which drops and losses are standardised; nats per token."""

    drop: float
    spread: float
    now: float
    now_spread: float
    best: float  # lowest final loss

    @property
    def seeds(self) -> float:
        """How far seeds differ, in standard deviations of the drops."""
        return SEEDS_DIFFER / self.spread


def _scale(examples: Examples) -> _Scale:
    drops_N, now_N = examples.drops_N, examples.now_N
    spreads = (max(float(column.std()), 1e-9) for column in (drops_N, now_N))
    spread, now_spread = spreads
    best = float(examples.final_N.min())
    return _Scale(float(drops_N.mean()), spread, float(now_N.mean()), now_spread, best)


def learn(examples: Examples, kernel: Kernel) -> Drops:
    """The posterior under `kernel`."""
    scale = _scale(examples)
    x_ND, losses_N = examples.x_ND, (examples.now_N - scale.now) / scale.now_spread
    own_NN = kernel.covariance(x_ND, losses_N, x_ND, losses_N)
    above_N = (examples.final_N - scale.best) / scale.spread
    own_NN[np.diag_indices(len(own_NN))] += (
        kernel.noise**2 + scale.seeds**2 + (kernel.wall * above_N) ** 2
    )
    inverse_NN: Array = np.asarray(np.linalg.inv(own_NN), dtype=np.float64)
    target_N = (examples.drops_N - scale.drop) / scale.spread
    weights_N: Array = inverse_NN @ target_N
    variance = (FREEDOM + float(target_N @ weights_N)) / (FREEDOM + len(target_N))
    return Drops(kernel, scale, examples, inverse_NN, weights_N, variance)


def likeliest(examples: Examples) -> Kernel:
    """The kernel under which these drops are least surprising, given the prior."""
    from scipy.optimize import minimize  # not before a forecast: it takes a while to import

    evidence = _Evidence(examples)
    start = evidence.prior
    bounds = list(zip(start + LOWEST, start + HIGHEST, strict=True))
    found = minimize(
        evidence, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": STEPS}
    )
    *axes, now, bend, residual, noise, wall = np.exp(found.x)
    return Kernel(np.array(axes), now, bend, residual, noise, wall)


class _Evidence:
    """Negative log posterior of a kernel's logarithms, with its gradient."""

    def __init__(self, examples: Examples) -> None:
        scale, x_ND = _scale(examples), examples.x_ND
        now_N = (examples.now_N - scale.now) / scale.now_spread
        self._target_N = (examples.drops_N - scale.drop) / scale.spread
        self._walls_N = ((examples.final_N - scale.best) / scale.spread) ** 2
        self._seeds = scale.seeds**2
        self._products_DNN = x_ND.T[:, :, None] * x_ND.T[:, None, :]
        self._apart_DNN = (x_ND.T[:, :, None] - x_ND.T[:, None, :]) ** 2
        self._now_NN = np.outer(now_N, now_N)
        relevances = x_ND.shape[1] + 1
        self.prior = np.concatenate([np.full(relevances, math.log(RELEVANCE)), OTHERS])
        self._folds = np.concatenate([np.full(relevances, RELEVANCE_FOLDS), OTHERS_FOLDS])

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """Marginal likelihood with the overall variance integrated out (inverse gamma)."""
        squares, count = np.exp(2 * logs), len(self._target_N)
        axes_D, (now, bend, residual, noise, wall) = squares[:-5], squares[-5:]
        dot_NN = np.tensordot(axes_D, self._products_DNN, 1)
        smooth_NN = residual * np.exp(-np.tensordot(axes_D, self._apart_DNN, 1) / 2)
        own_NN = MEAN + dot_NN + now * self._now_NN + bend * dot_NN**2 / 2 + smooth_NN
        own_NN[np.diag_indices(count)] += noise + wall * self._walls_N + self._seeds
        lower_NN = np.linalg.cholesky(own_NN)
        inverse_NN = np.linalg.inv(own_NN)
        weights_N = inverse_NN @ self._target_N
        size = FREEDOM + float(self._target_N @ weights_N)
        folds = (logs - self.prior) / self._folds
        value = (FREEDOM + count) / 2 * math.log(size) + np.log(np.diag(lower_NN)).sum()
        # The derivative by each entry of the covariance, then by the logarithms, which double.
        by_NN = inverse_NN - (FREEDOM + count) / size * np.outer(weights_N, weights_N)
        along_NN, smooth_NN = by_NN * (1 + bend * dot_NN), by_NN * smooth_NN
        diagonal_N = np.diag(by_NN)
        gradient = [
            *axes_D
            * (
                np.tensordot(self._products_DNN, along_NN, 2)
                - np.tensordot(self._apart_DNN, smooth_NN, 2) / 2
            ),
            now * (self._now_NN * by_NN).sum(),
            bend * (by_NN * dot_NN**2).sum() / 2,
            smooth_NN.sum(),
            noise * diagonal_N.sum(),
            wall * (diagonal_N @ self._walls_N),
        ]
        return float(value + (folds**2).sum() / 2), np.array(gradient) + folds / self._folds
