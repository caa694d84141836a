"""Points of a search space: its corners, and random ones as a random sampler would draw them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from model.config.setting import Value
from sweep.space.hyperparameter import Axis, Choice, Range


def corners(
    axes: Sequence[Axis], chosen: dict[str, Value] | None = None
) -> Iterator[dict[str, Value]]:
    """Combinations of listed values and ends of ranges, as far as conditions let them meet."""
    chosen = chosen or {}
    if not axes:
        yield chosen
        return
    axis, rest = axes[0], axes[1:]
    if not axis.active(chosen):
        yield from corners(rest, chosen)
        return
    for value in ends(axis.domain):
        yield from corners(rest, {**chosen, axis.setting: value})


def ends(domain: Choice | Range) -> tuple[Value, ...]:
    """The values of a list; the ends of a range, and of one with steps the first step too."""
    if isinstance(domain, Choice):
        return domain.values
    inner = (domain.low + domain.step,) if domain.step else ()
    found = (domain.low, *inner, domain.high)
    return tuple(map(int, found)) if domain.whole else found


def draws(axes: Sequence[Axis], count: int, seed: int = 0) -> list[dict[str, Value]]:
    """`count` points, each axis drawn on its own: evenly, or evenly in the logarithm."""
    source = random.Random(seed)
    found = []
    for _ in range(count):
        chosen: dict[str, Value] = {}
        for axis in axes:
            if axis.active(chosen):
                chosen[axis.setting] = _draw(axis.domain, source)
        found.append(chosen)
    return found


def _draw(domain: Choice | Range, source: random.Random) -> Value:
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
