"""What to try next by the loss surface: the largest expected gain for its training FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.search.coordinates import Pool, flops_of, pool_of
from sweep.search.kernel import Array, Places, Scales
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
from sweep.space.points import drawn, key, share_of
from sweep.space.trunks import kept_trunks, siblings, spared

NEAR = 12  # candidates around each of the best few trials
BEST = 4
SHARING = 16  # best trials whose other epoch counts are candidates where trunks are shared
LEAST_TRAINED = 0.02  # of a schedule: an evaluation and what a trial costs beside training
LOST = 64  # trials without a final loss that speak against their places, the latest
UNSURE = 0.05  # nats: how sure that is
WEIGHED = 96  # candidates of which is asked what they would teach
SURPRISES = np.array([-2.2, -1.4, -0.8, -0.25, 0.25, 0.8, 1.4, 2.2])  # standard deviations
WEIGHTS = np.exp(-(SURPRISES**2) / 2) / np.exp(-(SURPRISES**2) / 2).sum()


@dataclass(frozen=True)
class Seen:
    """A trial as the surface needs it."""

    point: Point
    loss: float | None  # final, nats per token; None: stopped early, diverged or still running
    running: bool = False
    error: float = 0.0  # standard error of `loss`, where it is a forecast
    done: float = 1.0  # fraction of its schedule that is trained: how far a trunk of it goes


@dataclass(frozen=True)
class Suggestion:
    """A point to try, and what the surface expects at most of any trial now."""

    point: Point
    gain: float  # nats by which a trial may be expected to beat the best; nan before any ended


def propose(space: Space, seen: Sequence[Seen], rng: np.random.Generator) -> Suggestion | None:
    """The point to try next; None if no candidate can be trained.

    A share of proposals, `sampler.explore`, is random, drawn in inverse proportion to cost.
    """
    sampler = space.sampler
    pool = pool_of(space)
    candidates, flops, places = _candidates(space, pool, seen, rng)
    if not candidates:
        return None
    flops = flops * _to_train(space, candidates, seen)
    cost = (flops / flops.min()) ** sampler.cost_weight
    explored = rng.random() < sampler.explore
    drawn_at = rng.choice(len(candidates), p=(1 / cost) / (1 / cost).sum())
    if not seen:  # the middle of the cheap
        middle = int(np.argmin((1 + np.abs(places.x_ND).sum(axis=1)) * cost))
        return Suggestion(candidates[drawn_at if explored else middle], math.nan)
    surrogate, pending = _surrogate(space, pool, seen)
    gain, most = _expected_gain(surrogate, pending, places, cost)
    chosen = drawn_at if explored else int(np.argmax(gain / cost))
    return Suggestion(candidates[chosen], most if surrogate.ended else math.nan)


def _surrogate(space: Space, pool: Pool, seen: Sequence[Seen]) -> tuple[Surrogate, Places]:
    """The surface through what has ended or is forecast, and where trials are running."""
    told = [s for s in seen if s.loss is not None and math.isfinite(s.loss)]
    finished = [s for s in told if not s.error]
    first = finished[: _rung(len(finished))]
    scales = _scales(_evidence(space, pool, _kept(first, LIKELIHOOD)))
    evidence = _evidence(space, pool, _kept(finished, USED) + [s for s in told if s.error])
    surrogate = fit(evidence, scales)
    lost = _trainable(space, [s for s in seen if s.loss is None and not s.running])[-LOST:]
    if lost:
        at = pool.place([s.point for s in lost])
        middle = float(np.median(evidence.losses_N)) if len(evidence.losses_N) else 0.0
        believed = np.maximum(surrogate.mean(at), middle)
        surrogate = fit(evidence + Evidence(at, believed, np.full(len(at), UNSURE)), scales)
    running = _trainable(space, [s for s in seen if s.running])
    return surrogate, pool.place([s.point for s in running])


def _trainable(space: Space, trials: Sequence[Seen]) -> list[Seen]:
    """Points asked for by hand or taken over need not be."""
    return [s for s in trials if flops_of(space, s.point) > 0]


def _evidence(space: Space, pool: Pool, trials: Sequence[Seen]) -> Evidence:
    """Trials with a loss, whose walls are made lower."""
    trials = _trainable(space, trials)
    losses = softened(np.array([s.loss for s in trials], dtype=float))
    errors = np.array([s.error for s in trials], dtype=float)
    return Evidence(pool.place([s.point for s in trials]), losses, errors)


def _kept(trials: Sequence[Seen], most: int) -> list[Seen]:
    """Up to `most` trials: half of them the best, the others evenly from the rest."""
    if len(trials) <= most:
        return list(trials)
    order = np.argsort([s.loss for s in trials], kind="stable")
    rest = np.sort(order[most // 2 :])
    evenly = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return [trials[n] for n in sorted([*order[: most // 2].tolist(), *evenly.tolist()])]


def _scales(evidence: Evidence) -> Scales:
    """The scales that these trials make likely; of so few that none speaks, the usual."""
    places = evidence.places
    if len(places) < 2:
        return usual_scales(places.x_ND.shape[1], places.kinds_NG.shape[1])
    return likeliest(evidence)


def _rung(count: int) -> int:
    """How many of `count` trials decide the scales, anew at each rung of a ladder."""
    rung = 24
    if count <= rung:
        return count
    while int(rung * 1.12) <= count:
        rung = int(rung * 1.12)
    return rung


def _candidates(
    space: Space, pool: Pool, seen: Sequence[Seen], rng: np.random.Generator
) -> tuple[list[Point], Array, Places]:
    """Points that can be trained and were not: a small space, or the pool and near the best."""
    tried = {key(s.point) for s in seen}
    fresh = [n for n, point in enumerate(pool.points) if key(point) not in tried]
    if pool.whole:
        fresh = fresh or list(range(len(pool.points)))
        return [pool.points[n] for n in fresh], pool.flops_N[fresh], pool.places[fresh]
    count = len(space.hyperparameters)
    finished = sorted((s for s in seen if s.loss is not None), key=lambda s: s.loss or 0.0)
    shares: list[list[float]] = []
    for best in finished[:BEST]:
        centre = np.array(
            [
                share_of(hp.domain, best.point[hp.setting]) if hp.active(best.point) else 0.5
                for hp in space.hyperparameters
            ]
        )
        width = rng.choice([0.03, 0.1, 0.25], size=(NEAR, 1))
        moved = centre + width * rng.standard_normal((NEAR, count))
        # A hyperparameter in four stays, and of a list most: a step of its share is another value.
        keep = rng.random((NEAR, count)) < 0.25
        shares += np.clip(np.where(keep, centre, moved), 0, 1 - 1e-9).tolist()
    near = {key(p): p for p in (drawn(space.hyperparameters, share) for share in shares)}
    if space.trial.share_trunks:  # draws alone never come to the same recipe again
        cheap = (p for best in finished[:SHARING] for p in siblings(space, best.point))
        near |= {key(p): p for p in cheap}
    near_points = [p for k, p in near.items() if k not in tried and flops_of(space, p) > 0]
    flops = np.array([flops_of(space, p) for p in near_points])
    return (
        [pool.points[n] for n in fresh] + near_points,
        np.concatenate([pool.flops_N[fresh], flops]),
        pool.places[fresh] + pool.place(near_points),
    )


def _to_train(space: Space, points: Sequence[Point], seen: Sequence[Seen]) -> Array:
    """The fraction of each point's schedule that no trunk of the trials `seen` spares it."""
    if not space.trial.share_trunks:
        return np.ones(len(points))
    kept = kept_trunks(space, (({**space.fixed, **s.point}, s.done) for s in seen))
    return np.array(
        [max(LEAST_TRAINED, 1 - spared(space, {**space.fixed, **p}, kept)) for p in points]
    )


def _expected_gain(
    surrogate: Surrogate, pending: Places, at: Places, cost: Array
) -> tuple[Array, float]:
    """What a trial at each of C candidates is expected to gain (C,), in nats, and the most of it.

    Expected improvement, that the trial itself is the new best (Jones et al. 1998), and knowledge
    gradient, that what it teaches moves the expected best elsewhere (Frazier et al. 2009). The
    second lets a cheap trial be worth running though it cannot win. It is asked of the candidates
    that improvement or doubt make likely. What is `pending` takes part as the surface
    expects it: someone is there already ("kriging believer", Ginsbourg et al. 2010).
    """
    from scipy.special import ndtr  # not before a trial is proposed: it takes a while to import

    both = pending + at
    mean, variance, solved = surrogate.mean_and_variance(both)
    noise = surrogate.scales.noise**2
    if len(pending):
        first = len(pending)
        own = surrogate.between(pending, solved[:, :first]) + noise * np.eye(first)
        across = surrogate.across(pending, both, solved[:, :first], solved)
        lower = np.linalg.cholesky(own + 1e-9 * np.eye(first))
        told = np.linalg.solve(lower, across)
        variance = np.maximum(variance - (told**2).sum(axis=0), 1e-10)
        mean, variance, solved, told = (
            mean[first:],
            variance[first:],
            solved[:, first:],
            told[:, first:],
        )
    sd = np.sqrt(variance)
    better = (surrogate.best - mean) / sd
    density = np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi)
    improvement = sd * (better * ndtr(better) + density)
    weighed = _weighed(improvement, mean, sd, cost)
    covariance = surrogate.between(at[weighed], solved[:, weighed])
    if len(pending):
        covariance -= told[:, weighed].T @ told[:, weighed]
    # (C, C): how far the mean at each row moves with a surprise of one sd at the column.
    moves = covariance / np.sqrt(variance[weighed] + noise)
    rows = mean[weighed]
    lowest = rows.min()
    learned = np.zeros(len(weighed))
    for surprise, weight in zip(SURPRISES, WEIGHTS, strict=True):
        learned += weight * (lowest - (rows[:, None] + surprise * moves).min(axis=0))
    gain = improvement.copy()
    gain[weighed] += np.maximum(learned, 0.0)
    return gain, float(improvement.max())


def _weighed(improvement: Array, mean: Array, sd: Array, cost: Array) -> NDArray[np.int64]:
    """Up to WEIGHED candidates: that may win for their cost, may be lowest, or are in doubt."""
    if len(mean) <= WEIGHED:
        return np.arange(len(mean))
    orders = [-improvement / cost, mean, mean - 2 * sd, -sd / cost]
    ranked = np.stack([np.argsort(order, kind="stable") for order in orders], axis=1).ravel()
    return np.array(list(dict.fromkeys(ranked.tolist()))[:WEIGHED])
