"""What to try next by the loss surface: the largest expected gain for its training FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.search.candidates import Candidates, Source
from sweep.search.coordinates import pool_of
from sweep.search.earlier import EarlierSweep, lessons
from sweep.search.kernel import Array
from sweep.search.prior import squares_away
from sweep.search.seen import Seen, learn
from sweep.search.surrogate import Surrogate
from sweep.space import Point, Space

BEST = 4  # trials, or candidates, around which others are looked for
NEAR = 8  # candidates around each
MANY = 7  # hyperparameters, from which on the surface is a guess far from any trial
LEADERS, AROUND = 2, 24  # trials around which alone most proposals look then, candidates of each
ANYWHERE = 4  # of so many proposals one looks all over the space all the same
ROUNDS = 2  # of looking around the best candidates
WEIGHED = 96  # candidates of which is asked what they would teach
SURPRISES = np.array([-2.2, -1.4, -0.8, -0.25, 0.25, 0.8, 1.4, 2.2])  # standard deviations
WEIGHTS = np.exp(-(SURPRISES**2) / 2) / np.exp(-(SURPRISES**2) / 2).sum()


@dataclass(frozen=True)
class Suggestion:
    """A point to try, and what the surface expects at most of any trial now."""

    point: Point
    gain: float  # nats by which a trial may be expected to beat the best; nan before any ended


def propose(
    space: Space,
    seen: Sequence[Seen],
    rng: np.random.Generator,
    earlier: tuple[EarlierSweep, ...] = (),
) -> Suggestion | None:
    """The point to try next; None if no candidate can be trained.

    earlier   sweeps whose trials inform the surface
    A share of proposals, `sampler.explore`, is random, drawn in inverse proportion to cost.
    In many dimensions a surface promises most in corners far from any trial. There most proposals
    are looked for around the best trials alone, as in a trust region (Eriksson et al. 1910.01739).
    """
    taught = lessons(space, earlier) if earlier else None
    pool, weight = taught.pool if taught else pool_of(space), space.sampler.cost_weight
    source = Source(space, pool, seen)
    finished = sorted((s for s in seen if s.loss is not None), key=lambda s: s.loss or 0.0)
    best = [s.point for s in finished]
    if taught:
        best += taught.centres[: max(0, BEST - len(best))]
    candidates = source.pool()
    around = source.moves and _looks_around(space, seen, len(finished))
    centres, count = (LEADERS, AROUND) if around else (BEST, NEAR)
    if source.moves:
        steps = source.near(best[:centres], count, rng) + source.siblings(best)
        around = around and len(steps) > 0
    explored = rng.random() < space.sampler.explore
    if source.moves:
        candidates = steps if around and not explored else candidates + steps
    if not len(candidates):
        return None
    cost = _cost(candidates, weight)
    random = candidates.points[rng.choice(len(cost), p=(1 / cost) / (1 / cost).sum())]
    if not seen and not (
        taught and sum(taught.trials)
    ):  # the middle of the cheap, near where the user expects the best
        off = np.abs(candidates.places.x_ND).sum(axis=1)
        off += squares_away(candidates.points, pool.stated)
        middle = int(np.argmin((1 + off) * cost))
        return Suggestion(random if explored else candidates.points[middle], math.nan)
    surrogate = learn(space, pool, seen, taught.evidence if taught else None)
    improvement = _improvement(surrogate, candidates)
    for _ in range(ROUNDS if source.moves else 0):
        top = np.argsort(-improvement / _cost(candidates, weight), kind="stable")[:BEST]
        nearer = source.near([candidates.points[n] for n in top], NEAR, rng)
        improvement = np.concatenate([improvement, _improvement(surrogate, nearer)])
        candidates += nearer
    cost = _cost(candidates, weight)
    gain, most = expected_gain(surrogate, candidates, cost)
    point = random if explored else candidates.points[int(np.argmax(gain / cost))]
    return Suggestion(point, most if surrogate.ended else math.nan)


def _looks_around(space: Space, seen: Sequence[Seen], ended: int) -> bool:
    """Whether the next trial is looked for around the best ones alone."""
    dimensions = len(space.hyperparameters)
    return dimensions >= MANY and ended >= dimensions and len(seen) % ANYWHERE > 0


def _cost(candidates: Candidates, weight: float) -> Array:
    return np.asarray((candidates.flops_C / candidates.flops_C.min()) ** weight)


def _improvement(surrogate: Surrogate, candidates: Candidates) -> Array:
    mean, variance, _ = surrogate.mean_and_variance(candidates.places)
    return expected_improvement(surrogate.best, mean, np.sqrt(variance))


def expected_improvement(best: float, mean: Array, sd: Array) -> Array:
    """By how much a loss is expected to be below `best`, nats (Jones et al. 1998)."""
    from scipy.special import ndtr  # not before a trial is proposed: it takes a while to import

    better = (best - mean) / sd
    density = np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(sd * (better * ndtr(better) + density))


def expected_gain(
    surrogate: Surrogate, candidates: Candidates, cost_C: Array
) -> tuple[Array, float]:
    """What a trial at each of C candidates is expected to gain (C,), in nats.

    Expected improvement, that the trial itself is the new best, and knowledge gradient, that what
    it teaches moves the expected best elsewhere (Frazier et al. 2009). The second lets a cheap
    trial be worth running though it cannot win; it is asked of candidates that improvement or
    doubt make likely. Returned too is the most improvement that any trial promises.
    """
    mean, variance, solved = surrogate.mean_and_variance(candidates.places)
    sd = np.sqrt(variance)
    improvement = expected_improvement(surrogate.best, mean, sd)
    weighed = _weighed(improvement, mean, sd, cost_C)
    covariance = surrogate.between(candidates.places[weighed], solved[:, weighed])
    # (C, C): how far the mean at each row moves with a surprise of one sd at the column.
    moves = covariance / np.sqrt(variance[weighed] + surrogate.scales.noise**2)
    rows = mean[weighed]
    learned = np.zeros(len(weighed))
    for surprise, weight in zip(SURPRISES, WEIGHTS, strict=True):
        learned += weight * (rows.min() - (rows[:, None] + surprise * moves).min(axis=0))
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
