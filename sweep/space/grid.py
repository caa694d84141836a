"""A search space as a grid: lists as they are, ranges in steps, and what is one step apart."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from model.config import MULTIPLIER, SETTINGS, Value
from sweep.errors import SweepError
from sweep.space.hyperparameter import Choice, Hyperparameter, as_number, is_number
from sweep.space.points import (
    Key,
    Point,
    at_share,
    every_point,
    key,
    share_of,
    snapped,
)

RATE = "optim.lr"
GRID_LIMIT = 100_000  # points; no sweep gets through more
FACTORS_IN_LINEAR = 16.0  # a linear range has as many steps as a log one of this ratio
NEAREST_STEP = 0.75  # octaves between the decay wanted at equal timescale and the level taken


@dataclass(frozen=True)
class Line:
    """One hyperparameter with its levels, rising where they have an order."""

    hyperparameter: Hyperparameter
    levels: tuple[Value, ...]
    ordered: bool

    def open_end(self, value: Value) -> bool:
        """Whether `value` is at an end beyond which the setting could go on."""
        setting = SETTINGS.get(self.hyperparameter.setting)
        if not self.ordered or len(self.levels) < 2 or setting is None:
            return False
        lowest, highest = self.levels[0], self.levels[-1]
        return (value == lowest and lowest not in (setting.low, setting.above)) or (
            value == highest and highest != setting.high
        )


@dataclass(frozen=True)
class Neighbour:
    """A point one step away, and the step in words."""

    step: str
    point: Point


def make_grid(hyperparameters: Sequence[Hyperparameter], factor: float) -> tuple[Line, ...]:
    """The grid of a space: log ranges in steps of about `factor`, both ends among them."""
    return tuple(_line(hp, factor) for hp in hyperparameters)


def _line(hp: Hyperparameter, factor: float) -> Line:
    domain = hp.domain
    if isinstance(domain, Choice):
        numbers = tuple(sorted(v for v in domain.values if is_number(v)))
        ordered = len(numbers) == len(domain.values)
        return Line(hp, numbers if ordered else domain.values, ordered)
    ratio = domain.high / domain.low if domain.log else FACTORS_IN_LINEAR
    count = max(1, round(math.log(ratio) / math.log(factor)))
    inner: list[float] = [
        domain.low * ratio ** (n / count)
        if domain.log
        else domain.low + (domain.high - domain.low) * n / count
        for n in range(1, count)
    ]
    levels = sorted({domain.low, *(as_number(snapped(domain, n)) for n in inner), domain.high})
    return Line(hp, tuple(map(int, levels) if domain.whole else levels), ordered=True)


@lru_cache(maxsize=4)
def grid_points(
    hyperparameters: tuple[Hyperparameter, ...], factor: float, seed: int
) -> tuple[Point, ...]:
    """Every point of the grid, in an order that the seed decides.

    Raises SweepError if they are more than any sweep gets through.
    """
    levels = {
        line.hyperparameter.parameter: line.levels for line in make_grid(hyperparameters, factor)
    }
    points = list(
        islice(every_point(hyperparameters, lambda hp: levels[hp.parameter]), GRID_LIMIT + 1)
    )
    if len(points) > GRID_LIMIT:
        raise SweepError(
            f"sampler.name: the grid of this space has more than {GRID_LIMIT:,} points",
            hint="List fewer values, raise sampler.step, or take another sampler.",
        )
    return tuple(random.Random(seed).sample(points, len(points)))


def least_tried(
    hyperparameters: tuple[Hyperparameter, ...], factor: float, seed: int, tried: Sequence[Point]
) -> Point:
    """The first point of the grid of those that were tried least often, so that none is left out
    by what was proposed in between.
    """
    times = _times(hyperparameters, factor, tried)
    return min(grid_points(hyperparameters, factor, seed), key=lambda point: times[key(point)])


def is_through(
    hyperparameters: tuple[Hyperparameter, ...], factor: float, seed: int, tried: Sequence[Point]
) -> bool:
    """Whether every point was tried: once more, the same settings would give the same loss."""
    times = _times(hyperparameters, factor, tried)
    points = grid_points(hyperparameters, factor, seed)
    return len(times) >= len(points) and all(key(point) in times for point in points)


def _times(
    hyperparameters: tuple[Hyperparameter, ...], factor: float, tried: Sequence[Point]
) -> Counter[Key]:
    lines = make_grid(hyperparameters, factor)
    return Counter(key(on_grid(lines, point)) for point in tried)


def on_grid(lines: Sequence[Line], point: Point) -> Point:
    """`point` moved to the nearest levels; what it lacks, or cannot keep, is put in the middle."""
    moved: dict[str, Value] = {}
    for line in lines:
        if line.hyperparameter.active(moved):
            level: Value | None = None
            if line.hyperparameter.setting in point:
                level = snapped(Choice(line.levels), point[line.hyperparameter.setting])
            moved[line.hyperparameter.setting] = (
                line.levels[len(line.levels) // 2] if level is None else level
            )
    return moved


def neighbours(lines: Sequence[Line], point: Point) -> list[Neighbour]:
    """What is one step from `point`: a level up or down, or any other value without order.

    A step of the rate keeps the decay timescale: decay moves the other way, by the nearest level.
    Rate and decay share a valley along their product, which steps along either would cross
    only to climb out of again. At the end of decay's levels the rate moves alone.
    """
    steps = []
    active = {
        line.hyperparameter.setting: line for line in lines if line.hyperparameter.active(point)
    }
    for name, line in active.items():
        value = point[name]
        if line.ordered:
            at = line.levels.index(value)
            others = [
                (f"{name} {way}", line.levels[at + step])
                for way, step in (("down", -1), ("up", 1))
                if 0 <= at + step < len(line.levels)
            ]
        else:
            others = [(f"{name} {level}", level) for level in line.levels if level != value]
        for step_taken, level in others:
            moved = {**point, name: level}
            decay = _decay_to_match(active, point, level) if name == RATE else None
            if decay is not None:
                moved = {**moved, MULTIPLIER: decay}
                step_taken = f"{step_taken} at equal decay timescale"
            steps.append(Neighbour(step_taken, _carried(lines, moved, point)))
    return steps


def _carried(lines: Sequence[Line], moved: Point, before: Point) -> Point:
    """`moved`, each at the share of its levels where it was, if its levels are others now."""
    shares = {
        line.hyperparameter.setting: share_of(
            Choice(line.levels), before[line.hyperparameter.setting]
        )
        for line in lines
        if line.hyperparameter.active(before)
    }
    point: dict[str, Value] = {}
    for line in lines:
        name = line.hyperparameter.setting
        if not line.hyperparameter.active(point):
            continue
        if name in moved and moved[name] in line.levels:
            point[name] = moved[name]
        else:
            point[name] = at_share(Choice(line.levels), shares.get(name, 0.5))
    return point


def _decay_to_match(active: Mapping[str, Line], point: Point, rate: Value) -> Value | None:
    """The decay level that keeps the timescale at another rate; None where no level comes near."""
    line = active.get(MULTIPLIER)
    if line is None or not line.ordered or not point.get(MULTIPLIER):
        return None
    decay = as_number(point[MULTIPLIER])
    wanted = decay * as_number(point[RATE]) / as_number(rate)
    level = snapped(Choice(line.levels), wanted)
    if not level or level == decay:
        return None
    near = abs(math.log2(as_number(level) / wanted)) <= NEAREST_STEP
    return level if near else None
