"""How much each searched setting matters: its share in the variance of the loss surface.

The space's own scales make a distribution (ranges evenly, log ranges evenly in the logarithm,
listed values alike), and the variance of the expected final loss over it has parts by settings
(functional ANOVA of hyperparameters: Hutter, Hoos & Leyton-Brown, ICML 2014). Two shares of each
setting: what vanishes once it alone is known, and what stays until it is known, interactions
included (Sobol 1993; estimators of Jansen, Computer Physics Communications 117, 1999, on the radial
design of Saltelli et al. 2010). Intervals are of surfaces drawn from the posterior, each on
resampled points. Walls of over-fitting count by their logarithm, as the surrogate sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.search import Landscape
from sweep.space import Point
from sweep.space.points import drawn

POINTS = 900  # at which surfaces are drawn, at most
LEAST = 16  # rows of the design that can be trained with, fewer of which tell nothing
SURFACES = 200


@dataclass(frozen=True)
class Importance:
    """Shares of the variance by one setting, as (low, median, high) of 95 %."""

    setting: str
    alone: tuple[float, float, float]
    total: tuple[float, float, float]


def importances(surface: Landscape, seed: int = 0) -> list[Importance]:
    """The settings of the surface's space, the most important first; none where few can train."""
    hps = surface.space.hyperparameters
    settings = surface.space.searched
    rng = np.random.default_rng(seed)
    rows = max(LEAST, POINTS // (len(settings) + 2))
    a, b = rng.random((2, rows, len(hps)))
    designs = [a, b]
    for setting in settings:
        of_b = np.array([hp.setting == setting for hp in hps])
        designs.append(np.where(of_b, b, a))
    points = [[drawn(hps, shares) for shares in design.tolist()] for design in designs]
    trained = _trained(surface, points)
    if len(trained) < LEAST:
        return []
    flat = [points[d][row] for d in range(len(designs)) for row in trained]
    losses = surface.draws(flat, SURFACES, rng).reshape(SURFACES, len(designs), len(trained))
    alone, total = np.zeros((2, SURFACES, len(settings)))
    for n, loss_DR in enumerate(losses):
        resampled = loss_DR[:, rng.integers(0, len(trained), len(trained))]
        variance = max(float(resampled[:2].var()), 1e-12)
        to_a, to_b = (((resampled[2:] - one) ** 2).mean(axis=1) / 2 for one in resampled[:2])
        # What a setting does alone is a part of all it does; estimates need not keep to that.
        total[n] = to_a / variance
        alone[n] = np.minimum(1 - to_b / variance, total[n])
    shares = [
        Importance(setting, _interval(alone[:, place]), _interval(total[:, place]))
        for place, setting in enumerate(settings)
    ]
    return sorted(shares, key=lambda its: -its.total[1])


def _trained(surface: Landscape, points: Sequence[Sequence[Point]]) -> list[int]:
    """Rows of the design of which every point can be trained."""
    rows = range(len(points[0]))
    return [row for row in rows if all(surface.can_train(design[row]) for design in points)]


def _interval(shares: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.clip(np.quantile(shares, [0.025, 0.5, 0.975]), 0.0, 1.0)
    return float(low), float(middle), float(high)
