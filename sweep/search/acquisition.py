"""What to try next by the loss surface: the largest expected gain for its training FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.config import ConfigError, trial_flops
from sweep.search.features import (
    RATE,
    features,
    in_octaves,
    is_kind,
)
from sweep.search.prior import expected_rise
from sweep.search.surrogate import (
    Array,
    Surface,
    expected_gain,
    fit,
    softened,
)
from sweep.space import Choice, Constraint, Point, Space
from sweep.space.constraint import violations
from sweep.space.points import Key, drawn, ends, every_point, key, share_of, spread

LISTED = 1024  # spaces of lists with at most so many points are weighed whole
DRAWN = 320  # candidates from all over the space, where ranges make it endless
NEAR = 24  # candidates around each of the best few trials
BEST = 4
# Octaves: a hyperparameter of half that width matters less, and no more is expected of it.
NARROW = 1.5


@dataclass(frozen=True)
class Seen:
    """A trial as the surface needs it."""

    point: Point
    loss: float | None  # final, nats per token; None: stopped early, diverged or still running
    running: bool = False


@dataclass(frozen=True)
class Coordinates:
    """Features of N points as numbers."""

    x: Array  # (N, F): features with an order, scaled to about [-1, 1]
    kinds: Array  # (N, K): 1 where a value without order is that of the column, else 0
    rise: Array  # (N,): nats above the best that the field's knowledge expects


def propose(space: Space, seen: Sequence[Seen], rng: np.random.Generator) -> Point | None:
    """The point to try next; None if no candidate can be trained.

    A share of proposals, `sampler.explore`, is random, drawn in inverse proportion to cost.
    """
    sampler = space.sampler
    landmarks = _landmarks(space)
    candidates = _candidates(space, landmarks, seen, rng)
    if not candidates:
        return None
    flops = np.array([_flops(space, point) for point in candidates])
    cost = (flops / flops.min()) ** sampler.cost_weight
    if rng.random() < sampler.explore:
        return candidates[rng.choice(len(candidates), p=(1 / cost) / (1 / cost).sum())]
    trials = [s for s in seen if _flops(space, s.point) > 0]
    points = [*(s.point for s in trials), *candidates]
    at = _coordinates(space, landmarks, points)
    if not trials:  # the middle of the cheap
        return candidates[int(np.argmin((1 + np.abs(at.x).sum(axis=1)) * cost))]
    gain = expected_gain(_surface(trials, at))
    return candidates[int(np.argmax(gain / cost))]


def _surface(seen: Sequence[Seen], at: Coordinates) -> Surface:
    """The surface at all candidates, which follow the trials `seen` in `at`.

    What has no final loss takes part as the surface expects it, so that it teaches nothing new but
    that someone is there already ("kriging believer", Ginsbourg et al. 2010); what was stopped or
    diverged counts as no better than the middle of the finished.
    """
    ended = [n for n, s in enumerate(seen) if s.loss is not None]
    open_ = [n for n, s in enumerate(seen) if s.loss is None]
    losses = softened(np.array([seen[n].loss for n in ended], dtype=float))
    if open_:
        believed = _fit(at, ended, losses, open_).mean
        if len(losses):
            middle = float(np.median(losses))
            stopped = np.array([not seen[n].running for n in open_])
            believed = np.where(stopped, np.maximum(believed, middle), believed)
        losses, ended = np.concatenate([losses, believed]), ended + open_
    return _fit(at, ended, losses, list(range(len(seen), len(at.x))))


def _fit(at: Coordinates, ended: Sequence[int], losses: Array, to: Sequence[int]) -> Surface:
    """The surface at the points `to` after `losses` at the points `ended`."""
    trials, candidates = list(ended), list(to)
    return fit(
        at.x[trials],
        at.kinds[trials],
        losses,
        at.x[candidates],
        at.kinds[candidates],
        at.rise[trials],
        at.rise[candidates],
    )


def _candidates(
    space: Space, landmarks: Sequence[Point], seen: Sequence[Seen], rng: np.random.Generator
) -> list[Point]:
    """Points that can be trained and were not: all of a small grid, or draws and near the best."""
    tried = {key(s.point) for s in seen}
    if _is_listed(space):
        fresh = [point for point in landmarks if key(point) not in tried]
        return fresh or list(landmarks)
    count = len(space.hyperparameters)
    shares = spread(DRAWN, count, seed=int(rng.integers(1 << 30)))
    finished = sorted((s for s in seen if s.loss is not None), key=lambda s: s.loss or 0.0)
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
    points = {key(p): p for p in (drawn(space.hyperparameters, share) for share in shares)}
    return [p for k, p in points.items() if k not in tried and _flops(space, p) > 0]


def _is_listed(space: Space) -> bool:
    combinations = 1
    for hp in space.hyperparameters:
        if not isinstance(hp.domain, Choice):
            return False
        combinations *= len(hp.domain.values)
    return combinations <= LISTED


def _landmarks(space: Space) -> tuple[Point, ...]:
    """Points that show how far the features reach, the same for every proposal."""
    if _is_listed(space):
        points = list(every_point(space.hyperparameters, lambda hp: ends(hp.domain)))
    else:
        points = [
            drawn(space.hyperparameters, share)
            for share in spread(DRAWN, len(space.hyperparameters), seed=0)
        ]
    return tuple(point for point in points if _flops(space, point) > 0)


def _coordinates(space: Space, landmarks: Sequence[Point], points: Sequence[Point]) -> Coordinates:
    """Coordinates of `points`, on scales that the landmarks span."""
    searched = space.searched
    spanned = [features({**space.fixed, **point}, searched) for point in landmarks]
    placed = [features({**space.fixed, **point}, searched) for point in points]
    names = list(dict.fromkeys(name for at in spanned for name in at))
    kinds = [name for name in names if is_kind(name)]
    columns = []
    for name in (name for name in names if not is_kind(name)):
        centres = _centres(spanned, name)
        spans = [abs(_off(at, name, centres)) for at in spanned]
        if max(spans) > 0:
            half = max(*spans, NARROW / 2 if in_octaves(name) else 0.0)
            columns.append([_off(at, name, centres) / half for at in placed])
    indicators = [[at.get(kind, 0.0) for kind in kinds] for at in placed]
    rise = expected_rise(space, points) if space.sampler.expect else [0.0] * len(points)
    return Coordinates(
        x=np.array(columns, dtype=float).reshape(len(columns), len(points)).T,
        kinds=np.array(indicators, dtype=float).reshape(len(points), len(kinds)),
        rise=np.array(rise, dtype=float),
    )


def _centres(spanned: Sequence[Mapping[str, float]], name: str) -> dict[str, float]:
    """The middle of a feature; of the rate by optimizer, whose ranges are the user's knowledge."""
    groups: dict[str, list[float]] = {}
    for at in spanned:
        groups.setdefault(_group(at, name), []).append(at[name])
    return {group: (min(numbers) + max(numbers)) / 2 for group, numbers in groups.items()}


def _off(at: Mapping[str, float], name: str, centres: Mapping[str, float]) -> float:
    return at[name] - centres.get(_group(at, name), at[name])


def _group(at: Mapping[str, float], name: str) -> str:
    if name != RATE:
        return ""
    return next((kind for kind in at if kind.startswith("optim.name=")), "")


def _flops(space: Space, point: Point) -> float:
    """Training FLOPs of a trial at `point`; 0 if it cannot be trained or breaks a constraint."""
    return _flops_of(tuple(sorted({**space.fixed, **point}.items())), space.constraints)


@lru_cache(maxsize=1 << 16)
def _flops_of(settings: Key, constraints: tuple[Constraint, ...]) -> float:
    try:
        flops = trial_flops(dict(settings))
    except ConfigError:
        return 0.0
    broken = any(beyond > 0 for beyond in violations(dict(settings), constraints).values())
    return 0.0 if broken else flops
