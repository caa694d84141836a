"""Trials so far, and the surface that they teach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sweep.search.coordinates import Pool, flops_of
from sweep.search.surrogate import (
    LIKELIHOOD,
    USED,
    Evidence,
    Surrogate,
    fit,
    likeliest,
    softened,
    usual_scales,
)
from sweep.space import Point, Space

JUDGING = 3  # trials that can tell whether earlier sweeps mislead
OPEN = 64  # trials of which nothing is known but where they are, the latest
UNSURE = 0.05  # nats: how sure it is that what was lost is no better than the middle


@dataclass(frozen=True)
class Seen:
    """A trial as the surface needs it."""

    point: Point
    loss: float | None  # final, nats per token; None: stopped early, diverged or still running
    running: bool = False
    error: float = 0.0  # standard error of `loss`, where it is a forecast
    done: float = 1.0  # fraction of its schedule that is trained: how far a trunk of it goes


def learn(
    space: Space, pool: Pool, seen: Sequence[Seen], earlier: Evidence | None = None
) -> Surrogate:
    """The surface through what has ended or is forecast, and through trials of `earlier` sweeps.

    What is running takes part as the surface expects it: someone is there already ("kriging
    believer", Ginsbourg et al. 2010). What was lost counts as no better than the middle.
    """
    told = [s for s in seen if s.loss is not None and math.isfinite(s.loss)]
    finished = [s for s in told if not s.error]
    first = finished[: _rung(len(finished))]
    deciding = _evidence(space, pool, _kept(first, LIKELIHOOD))
    own = _evidence(space, pool, _kept(finished, USED) + [s for s in told if s.error])
    surrogate, evidence = _surface(own, deciding), own
    if earlier is not None and len(earlier.places):
        informed, count = _surface(earlier + own, earlier + deciding), len(own.places)
        # Misleading sweeps make what was seen here less likely than it is without them.
        if count < JUDGING or informed.surprise(count) <= surrogate.surprise(count):
            surrogate, evidence = informed, earlier + own
    scales = surrogate.scales
    latest = (s for s in reversed(seen) if s.running or s.loss is None)
    open_ = [*islice((s for s in latest if flops_of(space, s.point) > 0), OPEN)][::-1]
    if open_:
        at = pool.place([s.point for s in open_])
        middle = float(np.median(own.losses_N)) if len(own.losses_N) else 0.0
        lost = np.array([not s.running for s in open_])
        believed = surrogate.mean(at)
        believed = np.where(lost, np.maximum(believed, middle), believed)
        surrogate = fit(evidence + Evidence(at, believed, np.where(lost, UNSURE, 0.0)), scales)
    return surrogate


def _surface(evidence: Evidence, deciding: Evidence) -> Surrogate:
    """The surface through the evidence, under the scales that `deciding` trials make likeliest."""
    at = deciding.places
    sweeps = int(at.sweeps_N.max(initial=0))
    usual = usual_scales(at.x_ND.shape[1], at.kinds_NG.shape[1], sweeps)
    return fit(evidence, likeliest(deciding) if len(at) > 1 else usual)


def _rung(count: int) -> int:
    """How many of `count` trials decide the scales, anew at each rung of a ladder."""
    rung = 24
    if count <= rung:
        return count
    while int(rung * 1.12) <= count:
        rung = int(rung * 1.12)
    return rung


def _kept(trials: Sequence[Seen], most: int) -> list[Seen]:
    """Up to `most` trials: half of them the best, the others evenly from the rest."""
    if len(trials) <= most:
        return list(trials)
    order = np.argsort(_losses(trials), kind="stable")
    rest = np.sort(order[most // 2 :])
    evenly = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return [trials[n] for n in sorted([*order[: most // 2].tolist(), *evenly.tolist()])]


def _losses(trials: Sequence[Seen]) -> np.ndarray:
    return np.array([s.loss for s in trials], dtype=float)


def _trainable(space: Space, trials: Sequence[Seen]) -> list[Seen]:
    """Those of `trials` that can be trained: points asked for by hand need not be."""
    return [s for s in trials if flops_of(space, s.point) > 0]


def _evidence(space: Space, pool: Pool, trials: Sequence[Seen]) -> Evidence:
    """Trials with a loss, whose walls are made lower."""
    trials = _trainable(space, trials)
    errors = np.array([s.error for s in trials], dtype=float)
    return Evidence(pool.place([s.point for s in trials]), softened(_losses(trials)), errors)
