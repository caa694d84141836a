"""A loss surface through finished trials: one bowl for all, shifted and tilted by kind.

Bayesian regression on few points: a quadratic in log coordinates whose curvature all kinds
(optimizers, ...) share, with priors that hold each coefficient to the size it can have in nats,
and a smooth residual for what no quadratic has. It is written as a Gaussian process, because trials
are fewer than coefficients (Rasmussen & Williams 2006, 2.7). Near the best trial it must be
exact, far off it need only be high: a point's noise grows with its distance from the best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Prior standard deviations, as shares of the surface's height (`Scales.height`).
LINEAR, SQUARE, CROSS = 1.0, 0.75, 0.35
KIND, KIND_TILT = 0.7, 0.35
FAR = 0.08  # a point so many nats above the best is known to that share of its distance
HEIGHTS = (0.1, 0.3, 1.0)  # nats
RESIDUALS = (0.1, 0.3, 0.6)  # share of the height
REACHES = (0.5, 1.0)  # of the residual, where features span 2
NOISES = (0.003, 0.01, 0.03)  # nats
TALL = 0.3  # nats above the best, beyond which height counts by its logarithm
UNKNOWN = 0.3  # nats: the height before any trial has ended
SURPRISES = np.array([-2.2, -1.4, -0.8, -0.25, 0.25, 0.8, 1.4, 2.2])  # standard deviations
WEIGHTS = np.exp(-(SURPRISES**2) / 2) / np.exp(-(SURPRISES**2) / 2).sum()


@dataclass(frozen=True)
class Scales:
    """Sizes that the data decide: nats, but of the residual a share of the height and a length."""

    height: float
    residual: float
    reach: float
    noise: float


@dataclass(frozen=True)
class Surface:
    """Posterior over candidates: mean (C,) and covariance (C, C) in nats, without noise."""

    mean: Array
    covariance: Array
    noise: float
    best: float  # lowest posterior mean among the finished trials


def kernel(
    x_AD: Array, y_BD: Array, kinds_AK: Array, kinds_BK: Array, residual: float, reach: float
) -> Array:
    """Prior covariance (A, B) of unit height between points with features in about [-1, 1]."""
    dot = x_AD @ y_BD.T
    squares = (x_AD**2) @ (y_BD**2).T
    crosses = (dot**2 - squares) / 2  # sum over pairs i < j of x_i x_j y_i y_j
    same = kinds_AK @ kinds_BK.T
    bowl = 1.0 + LINEAR**2 * dot + SQUARE**2 * squares + CROSS**2 * crosses
    kind = same * (KIND**2 + KIND_TILT**2 * dot)
    apart = (x_AD**2).sum(1)[:, None] + (y_BD**2).sum(1)[None, :] - 2 * dot
    unlike = (kinds_AK**2).sum(1)[:, None] + (kinds_BK**2).sum(1)[None, :] - 2 * same
    smooth = residual**2 * np.exp(-apart / (2 * reach**2) - unlike / 4)
    return np.asarray(bowl + kind + smooth)


def softened(losses_N: Array) -> Array:
    """Losses with walls made lower: over-fitting costs nats, and no bowl should have to rise so."""
    above = losses_N - losses_N.min(initial=np.inf)
    return np.asarray(losses_N - above + TALL * np.log1p(above / TALL))


def fit(
    x_ND: Array,
    kinds_NK: Array,
    losses_N: Array,
    x_CD: Array,
    kinds_CK: Array,
    rise_N: Array,
    rise_C: Array,
) -> Surface:
    """The surface at C candidates after N trials with finite losses in nats.

    `rise` is what a point was expected to be above the best before any trial: what is modelled is
    the difference. Where no trial has ended the surface is the prior's, about a loss of 0.
    """
    rise_N, rise_C = (TALL * np.log1p(rise / TALL) for rise in (rise_N, rise_C))
    scales = Scales(UNKNOWN, RESIDUALS[0], REACHES[-1], NOISES[-1])
    if not len(losses_N):
        prior = _covariance(scales, x_CD, x_CD, kinds_CK, kinds_CK)
        return Surface(rise_C, prior, scales.noise, best=0.0)
    offset, above = float(np.median(losses_N - rise_N)), losses_N - losses_N.min()
    target, doubts = losses_N - rise_N - offset, (FAR * above) ** 2
    scales = _likeliest(x_ND, kinds_NK, target, doubts)
    own = _covariance(scales, x_ND, x_ND, kinds_NK, kinds_NK)
    across = _covariance(scales, x_ND, x_CD, kinds_NK, kinds_CK)
    lower = np.linalg.cholesky(own + np.diag(scales.noise**2 + doubts))
    white, solved = np.linalg.solve(lower, target), np.linalg.solve(lower, across)
    return Surface(
        mean=solved.T @ white + offset + rise_C,
        covariance=_covariance(scales, x_CD, x_CD, kinds_CK, kinds_CK) - solved.T @ solved,
        noise=scales.noise,
        best=float((np.linalg.solve(lower, own).T @ white + rise_N).min() + offset),
    )


def _covariance(
    scales: Scales, x_AD: Array, y_BD: Array, kinds_AK: Array, kinds_BK: Array
) -> Array:
    """Prior covariance (A, B) in nats squared."""
    unit = kernel(x_AD, y_BD, kinds_AK, kinds_BK, scales.residual, scales.reach)
    return scales.height**2 * unit


def _likeliest(x_ND: Array, kinds_NK: Array, target_N: Array, doubts_N: Array) -> Scales:
    """The scales under which the losses are the least surprising (largest marginal likelihood)."""
    tried: list[tuple[float, Scales]] = []
    for residual, reach in product(RESIDUALS, REACHES):
        unit = kernel(x_ND, x_ND, kinds_NK, kinds_NK, residual, reach)
        for height, noise in product(HEIGHTS, NOISES):
            lower = np.linalg.cholesky(height**2 * unit + np.diag(noise**2 + doubts_N))
            white = np.linalg.solve(lower, target_N)
            evidence = -0.5 * white @ white - np.log(np.diag(lower)).sum()
            tried.append((float(evidence), Scales(height, residual, reach, noise)))
    return max(tried, key=lambda pair: pair[0])[1]


def expected_gain(surface: Surface) -> Array:
    """What a trial at each candidate is expected to gain (C,), in nats.

    Expected improvement, that the trial itself is the new best (Jones et al. 1998), and knowledge
    gradient, that what it teaches moves the expected best elsewhere (Frazier et al. 2009). The
    second lets a cheap trial be worth running though it cannot win.
    """
    from scipy.special import ndtr  # not before a trial is proposed: it takes a while to import

    variance = np.maximum(np.diag(surface.covariance), 1e-10)
    sd = np.sqrt(variance)
    better = (surface.best - surface.mean) / sd
    density = np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi)
    improvement = sd * (better * ndtr(better) + density)
    # (C, C): how far the mean at each row moves with a surprise of one sd at the column.
    moves = surface.covariance / np.sqrt(variance + surface.noise**2)
    lowest = surface.mean.min()
    learned = np.zeros(len(sd))
    for surprise, weight in zip(SURPRISES, WEIGHTS, strict=True):
        learned += weight * (lowest - (surface.mean[:, None] + surprise * moves).min(axis=0))
    return np.asarray(improvement + np.maximum(learned, 0.0))
