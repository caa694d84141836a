"""Points of a space as a surrogate sees them, and what training at each would cost.

A pool of points that fill the space, the same for every proposal, says how far each coordinate
reaches; in a space of few points it is all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from model.config import ConfigError, Value, config_flops
from sweep.search.features import RATE, config_of, features, in_octaves, is_kind
from sweep.search.kernel import Array, Places
from sweep.search.prior import expectation
from sweep.space import Choice, Constraint, Hyperparameter, Point, Space
from sweep.space.constraint import violations
from sweep.space.points import Key, drawn, ends, every_point, key, spread

LISTED = 1024  # spaces of lists with at most so many points are weighed whole
DRAWN = 320  # points of the pool where ranges make a space endless
# Octaves: a hyperparameter of half that width matters less, and no more is expected of it.
NARROW = 1.5


@dataclass(frozen=True, eq=False)
class Pool:
    """Points all over a space that can be trained, and the scales that they span."""

    points: tuple[Point, ...]
    flops_N: Array
    whole: bool  # these are all points that the space has
    axes: tuple[str, ...]
    centres: Mapping[str, Mapping[str, float]]  # of each axis, by group
    halves: Mapping[str, float]
    levels: Mapping[str, Mapping[str, int]]  # of each group of kinds, values by number
    searched: tuple[str, ...]
    fixed: Mapping[str, Value]
    stated: tuple[Hyperparameter, ...]  # those with a prior of the user
    expects: bool  # the best where the field found it

    @cached_property
    def places(self) -> Places:
        return self.place(self.points)

    def place(self, points: Sequence[Point]) -> Places:
        """Where `points` lie. Raises ConfigError for one that cannot be trained."""
        return self.place_settings([{**self.fixed, **point} for point in points], points)

    def place_settings(
        self, settings: Sequence[Mapping[str, Value]], points: Sequence[Point] | None = None
    ) -> Places:
        """Where trials with all these settings lie, tried in this sweep or elsewhere.

        points   their searched settings, where they have others too
        """
        points = settings if points is None else points
        placed = [features(one, self.searched) for one in settings]
        x_ND = np.array([[self._along(at, axis) for axis in self.axes] for at in placed])
        kinds = [[_level(at, levels) for levels in self.levels.values()] for at in placed]
        expected_N, doubt_NB = expectation(placed, points, self.stated, self.searched, self.expects)
        shape = len(placed), len(self.levels)
        return Places(
            x_ND.reshape(len(placed), len(self.axes)),
            np.array(kinds, dtype=np.int64).reshape(shape),
            expected_N,
            doubt_NB,
        )

    def _along(self, at: Mapping[str, float], axis: str) -> float:
        centres = self.centres[axis]
        return (at[axis] - centres.get(_group(at, axis), at[axis])) / self.halves[axis]


def pool_of(space: Space) -> Pool:
    """The pool of a space; made once."""
    return _pool(space.hyperparameters, key(space.fixed), space.constraints, space.sampler.expect)


@lru_cache(maxsize=8)
def _pool(
    hyperparameters: tuple[Hyperparameter, ...],
    fixed: Key,
    constraints: tuple[Constraint, ...],
    expects: bool,
) -> Pool:
    whole = _is_listed(hyperparameters)
    if whole:
        points = list(every_point(hyperparameters, lambda hp: ends(hp.domain)))
    else:
        shares = spread(DRAWN, len(hyperparameters), seed=0)
        points = [drawn(hyperparameters, share) for share in shares]
    settings = [{**dict(fixed), **point} for point in points]
    costs = [_flops_of(key(one), constraints) for one in settings]
    points = [point for point, flops in zip(points, costs, strict=True) if flops > 0]
    searched = tuple(dict.fromkeys(hp.setting for hp in hyperparameters))
    spanned = [features({**dict(fixed), **point}, searched) for point in points]
    names = list(dict.fromkeys(name for at in spanned for name in at))
    centres, halves = {}, {}
    for name in (name for name in names if not is_kind(name)):
        centres[name] = _centres(spanned, name)
        reach = max(abs(at[name] - centres[name][_group(at, name)]) for at in spanned)
        if reach > 0:
            halves[name] = max(reach, NARROW / 2 if in_octaves(name) else 0.0)
    levels: dict[str, dict[str, int]] = {}
    for name in filter(is_kind, names):
        group = levels.setdefault(name.partition("=")[0], {})
        group[name] = len(group)
    return Pool(
        points=tuple(points),
        flops_N=np.array([flops for flops in costs if flops > 0]),
        whole=whole,
        axes=tuple(halves),
        centres=centres,
        halves=halves,
        levels=levels,
        searched=searched,
        fixed=dict(fixed),
        stated=tuple(hp for hp in hyperparameters if hp.prior),
        expects=expects,
    )


def _is_listed(hyperparameters: Sequence[Hyperparameter]) -> bool:
    combinations = 1
    for hp in hyperparameters:
        if not isinstance(hp.domain, Choice):
            return False
        combinations *= len(hp.domain.values)
    return combinations <= LISTED


def _centres(spanned: Sequence[Mapping[str, float]], name: str) -> dict[str, float]:
    """The middle of a feature; of the rate by optimizer, whose ranges are the user's knowledge."""
    groups: dict[str, list[float]] = {}
    for at in spanned:
        groups.setdefault(_group(at, name), []).append(at[name])
    return {group: (min(numbers) + max(numbers)) / 2 for group, numbers in groups.items()}


def _group(at: Mapping[str, float], name: str) -> str:
    if name != RATE:
        return ""
    return next((kind for kind in at if kind.startswith("optim.name=")), "")


def _level(at: Mapping[str, float], levels: Mapping[str, int]) -> int:
    return next((level for name, level in levels.items() if name in at), -1)


def flops_of(space: Space, point: Point) -> float:
    """Training FLOPs of a trial at `point`; 0 if it cannot be trained or breaks a constraint."""
    return _flops_of(key({**space.fixed, **point}), space.constraints)


@lru_cache(maxsize=1 << 16)
def _flops_of(settings: Key, constraints: tuple[Constraint, ...]) -> float:
    try:
        flops = config_flops(config_of(settings))
    except ConfigError:
        return 0.0
    broken = any(beyond > 0 for beyond in violations(dict(settings), constraints).values())
    return 0.0 if broken else flops
