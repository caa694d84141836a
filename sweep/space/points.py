"""Points of a search space, and where in its unit cube they lie: a share of each hyperparameter."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from model.config import Value
from sweep.space.hyperparameter import Choice, Hyperparameter, Range, as_number, is_number

Point = Mapping[str, Value]  # by setting; only hyperparameters whose condition holds
Key = tuple[tuple[str, Value], ...]


def key(point: Point) -> Key:
    """The same for equal points, and hashable."""
    return tuple(sorted(point.items()))


def snapped(domain: Choice | Range, value: Value) -> Value | None:
    """The domain's value nearest to `value`; None where values have no order and it is not one."""
    if domain.has(value):
        return value
    if not is_number(value):
        return None
    if isinstance(domain, Range):
        return _on_steps(domain, min(max(value, domain.low), domain.high))
    numbers = [v for v in domain.values if is_number(v)]
    return min(numbers, key=lambda v: _apart(float(v), float(value)), default=None)


def drawn(hyperparameters: Sequence[Hyperparameter], shares: Sequence[float]) -> Point:
    """The point at these shares of the domains, one in [0, 1) for each hyperparameter."""
    point: dict[str, Value] = {}
    for hp, share in zip(hyperparameters, shares, strict=True):
        if hp.active(point):
            point[hp.setting] = at_share(hp.domain, share)
    return point


def at_share(domain: Choice | Range, share: float) -> Value:
    """The value at a share in [0, 1] of the domain; of a log range, of its logarithm."""
    if isinstance(domain, Choice):
        return domain.values[min(int(share * len(domain.values)), len(domain.values) - 1)]
    # Whole numbers get equal parts of the range, so its ends are half a number further out.
    half = 0.5 if domain.whole else 0.0
    low, high = domain.low - half, domain.high + half
    if domain.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return _on_steps(domain, min(max(value, domain.low), domain.high))


def _on_steps(domain: Range, value: float) -> Value:
    """The range's value nearest to a number within it."""
    if domain.step:
        value = domain.low + domain.step * round((value - domain.low) / domain.step)
        value = value if value <= domain.high else value - domain.step
    return round(value) if domain.whole else value


def share_of(domain: Choice | Range, value: Value) -> float:
    """Where in its domain `value` lies: the inverse of `at_share`, for a list its place."""
    if isinstance(domain, Choice):
        return (domain.values.index(value) + 0.5) / len(domain.values)
    half = 0.5 if domain.whole else 0.0
    low, high, number = domain.low - half, domain.high + half, as_number(value)
    if domain.log:
        return math.log(number / low) / math.log(high / low)
    return (number - low) / (high - low)


def spread(count: int, dimensions: int, seed: int, first: int = 0) -> list[list[float]]:
    """`count` points that fill the unit cube evenly, from number `first` of an endless sequence.

    Roberts' additive recurrence, which unlike Sobol's needs no powers of two: number n is a
    function of n and the seed alone. https://extremelearning.com.au (2018)
    """
    root = 2.0
    for _ in range(50):  # of x^(d + 1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = [root ** -(d + 1) for d in range(dimensions)]
    # Seeds begin at other places; these lie as far apart as the sequence's own points do.
    offsets = [(0.5 + (seed * 7919 % 104729) * step * math.pi) % 1 for step in steps]
    return [
        [(offset + (first + n + 1) * step) % 1 for offset, step in zip(offsets, steps, strict=True)]
        for n in range(count)
    ]


def every_point(
    hyperparameters: Sequence[Hyperparameter],
    values: Callable[[Hyperparameter], Sequence[Value]],
    chosen: Point | None = None,
) -> Iterator[Point]:
    """Every combination of the hyperparameters' `values` that their conditions let meet.

    The first hyperparameter changes slowest; `chosen` is what is decided already.
    """
    chosen = chosen or {}
    if not hyperparameters:
        yield chosen
        return
    hp, rest = hyperparameters[0], hyperparameters[1:]
    if not hp.active(chosen):
        yield from every_point(rest, values, chosen)
        return
    for value in values(hp):
        yield from every_point(rest, values, {**chosen, hp.setting: value})


def _apart(a: float, b: float) -> float:
    return abs(math.log(a / b)) if a > 0 and b > 0 else abs(a - b) * 1e3


def corners(hyperparameters: Sequence[Hyperparameter]) -> Iterator[Point]:
    """Combinations of listed values and ends of ranges, as far as conditions let them meet."""
    return every_point(hyperparameters, lambda hp: ends(hp.domain))


def ends(domain: Choice | Range) -> tuple[Value, ...]:
    """The values of a list; the ends of a range, and of one with steps the first step too."""
    if isinstance(domain, Choice):
        return domain.values
    first_step = (domain.low + domain.step,) if domain.step else ()
    numbers = (domain.low, *first_step, domain.high)
    return tuple(map(int, numbers)) if domain.whole else numbers


def draws(
    hyperparameters: Sequence[Hyperparameter], count: int, seed: int = 0
) -> list[dict[str, Value]]:
    """`count` points, each hyperparameter drawn on its own: evenly, or evenly in the logarithm."""
    source = random.Random(seed)
    points = []
    for _ in range(count):
        point: dict[str, Value] = {}
        for hp in hyperparameters:
            if hp.active(point):
                point[hp.setting] = _draw(hp.domain, source)
        points.append(point)
    return points


def _draw(domain: Choice | Range, source: random.Random) -> Value:
    """A value of the domain, each step as likely; at a share of it the ends would be half so."""
    if isinstance(domain, Choice):
        return source.choice(domain.values)
    low, high = domain.low, domain.high
    if domain.step:
        value = low + domain.step * source.randint(0, round((high - low) / domain.step))
        return int(value) if domain.whole else value
    if domain.whole and domain.log:  # each whole number stands for the span around it
        drawn = math.exp(source.uniform(math.log(low - 0.5), math.log(high + 0.5)))
        return int(min(max(round(drawn), low), high))
    if domain.whole:
        return source.randint(int(low), int(high))
    if domain.log:
        return min(max(math.exp(source.uniform(math.log(low), math.log(high))), low), high)
    return source.uniform(low, high)
