"""The plain baseline of a sweep, from its runs, earlier ones, or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from model.config import Value
from sweep.records import (
    ATTEMPT,
    MULTIPLE,
    BaselineRun,
    Outcome,
    Role,
    View,
    baseline_point,
)
from sweep.results.efficiency import best_of_sizes
from sweep.space import Space
from sweep.space.baseline import SLOWRUN, table_runs

SETTLED = (Outcome.COMPLETE, Outcome.PRUNED)


def curve(space: Space, view: View) -> dict[str, Any] | None:
    """Once every baseline run has ended, their losses become the curve to measure against.

    A point that failed twice is left out; a table that is given needs no runs. None where there is
    nothing new to say.
    """
    points, table = space.baseline_points, space.baseline.table
    trials = [t for t in view.trials.values() if t.role is Role.BASELINE]
    settled = {baseline_point(t.searched) for t in trials if t.outcome in SETTLED}
    settled |= {baseline_point(t.searched) for t in trials if ATTEMPT in t.searched and t.outcome}
    settled |= {baseline_point(event["searched"]) for event in view.recalled}
    if view.baseline is not None:
        return None
    if table:
        runs, source = table_runs(table), SLOWRUN if SLOWRUN in table else "table"
    elif points and settled == {baseline_point(point) for point in points}:
        complete = [t for t in trials if t.outcome is Outcome.COMPLETE]
        runs = [_run(t.settings, t.val_loss) for t in complete]
        runs += [_run(event["settings"], event["val_loss"]) for event in view.recalled]
        source = "measured"
    else:
        return None
    return {
        "source": source,
        "runs": [[run.tokens, run.loss, run.size] for run in runs],
        "points": [list(point) for point in best_of_sizes(runs)],
    }


def _run(settings: Mapping[str, Value], val_loss: float) -> BaselineRun:
    tokens, size = settings["data.train_tokens"], settings.get("gpt.scale", 1.0)
    return BaselineRun(int(tokens), val_loss, float(size))  # type: ignore[arg-type]


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
