"""The loss surface of a search for people to read: bands, differences, draws, what is left to gain.

Losses are in nats per token, with walls as high as they are where it is not said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweep.search.acquisition import propose
from sweep.search.coordinates import flops_of
from sweep.search.kernel import Array
from sweep.search.surface import Surface, seen_in, surface_through
from sweep.search.surrogate import hardened
from sweep.space import Point, Space
from sweep.view import View

LEAST = 4  # finished trials, below which a surface shows what was expected before any
CERTAIN = 1e-9  # share of the largest variance that keeps a covariance positive
OF_95 = 1.96  # standard deviations to either side of a mean


@dataclass(frozen=True, eq=False)
class Landscape:
    """A surface, and what it expects of trials to come."""

    surface: Surface
    gain: float  # nats by which any further trial is expected to beat the best, at most

    @property
    def space(self) -> Space:
        return self.surface.space

    def can_train(self, point: Point) -> bool:
        """Whether a trial at `point` would be trained: constraints hold, and the trainer can."""
        return flops_of(self.space, point) > 0

    def band(self, points: Sequence[Point]) -> tuple[Array, Array, Array]:
        """Expected loss at C points, and the 95 % band of it: (C,) each.

        Of the surface, not of one run: the noise between seeds comes on top. The expectation is
        the median, which walls made lower do not move.
        """
        places = self.surface.pool.place(points)
        mean, variance, _ = self.surface.surrogate.mean_and_variance(places)
        half, lowest = OF_95 * np.sqrt(variance), self.surface.lowest
        return hardened(mean, lowest), hardened(mean - half, lowest), hardened(mean + half, lowest)

    def behind(self, points: Sequence[Point], centre: Point) -> tuple[Array, Array]:
        """How far C points are expected behind `centre`, and the standard deviation of that.

        With walls made lower, which near the best makes no difference.
        """
        places = self.surface.pool.place([centre, *points])
        mean, _, solved = self.surface.surrogate.mean_and_variance(places)
        covariance = self.surface.surrogate.between(places, solved)
        own = np.diag(covariance)
        variance = own[1:] + own[0] - 2 * covariance[0, 1:]
        return mean[1:] - mean[0], np.sqrt(np.maximum(variance, 0.0))

    def draws(self, points: Sequence[Point], count: int, rng: np.random.Generator) -> Array:
        """(count, C): surfaces that the trials leave possible, at C points, walls made lower."""
        places = self.surface.pool.place(points)
        mean, variance, solved = self.surface.surrogate.mean_and_variance(places)
        covariance = self.surface.surrogate.between(places, solved)
        covariance += np.eye(len(mean)) * CERTAIN * max(float(variance.max()), 1e-6)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(mean + rng.standard_normal((count, len(mean))) @ root.T)


def landscape(space: Space, view: View) -> Landscape | None:
    """The landscape of the search in `view`; None before enough of its trials have finished."""
    if len(view.ranked()) < LEAST:
        return None
    seen = seen_in(space, view)
    surface = surface_through(space, seen)
    if surface is None or not surface.pool.points:
        return None
    greedy = replace(space, sampler=replace(space.sampler, explore=0.0))
    suggestion = propose(greedy, seen, np.random.default_rng(0))
    return Landscape(surface, suggestion.gain if suggestion else math.nan)
