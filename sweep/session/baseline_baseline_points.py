"""Which points of the plain baseline are still to be measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto

from model.config.setting import Value
from sweep.records import ATTEMPT, MULTIPLE, baseline_point


class Fate(Enum):
    """What became of a run that was to measure a point."""

    MEASURED = auto()  # or under way
    FAILED = auto()
    HANDED_BACK = auto()  # it did not fit in what was left of the budget


def missing(
    points: Sequence[Mapping[str, Value]], tried: Iterable[tuple[Mapping[str, Value], Fate]]
) -> list[dict[str, Value]]:
    """Points that nobody has measured or is measuring, each as its next attempt.

    Those that failed least, then the largest: the longest run must not be the last to start.
    """
    attempts = {baseline_point(point): 1 for point in points}
    refused = dict.fromkeys(attempts, 0)
    for searched, fate in tried:
        point = baseline_point(searched)
        if point not in attempts:
            continue
        if fate is Fate.HANDED_BACK:
            refused[point] += 1
        elif fate is Fate.FAILED:
            attempts[point] += 1
        else:
            del attempts[point]
    left = [p for p in points if baseline_point(p) in attempts]
    left.sort(key=lambda p: (attempts[k := baseline_point(p)], refused[k], -_work(p)))
    again = [attempts[baseline_point(p)] for p in left]
    return [{**p, **({ATTEMPT: n} if n > 1 else {})} for p, n in zip(left, again, strict=True)]


def _work(point: Mapping[str, Value]) -> float:
    """How long a baseline point takes, up to a factor."""
    return float(point[MULTIPLE]) * float(point.get("gpt.scale", 1.0))  # type: ignore[arg-type]
