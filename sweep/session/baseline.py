"""The plain baseline of a sweep, from its runs, earlier ones, or a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from sweep.records import BaselinePoint, BaselineRun, Outcome
from sweep.results.efficiency import best_of_sizes
from sweep.space import Space
from sweep.space.baseline import SLOWRUN, baseline_points, table_runs
from sweep.view import View

SETTLED = (Outcome.COMPLETE, Outcome.PRUNED)


def curve(space: Space, view: View) -> dict[str, Any] | None:
    """Once every baseline run has ended, their losses become the curve to measure against.

    A point that failed twice is left out; a table from the space needs no runs. None if
    runs are missing or the journal has the curve already: of a sweep that got more multiples it has
    a shorter one, until they are measured.
    """
    points, table = baseline_points(space), space.baseline.table
    if view.baseline is not None and (table or not points):
        return None
    trials = [
        (trial, trial.kind)
        for trial in view.trials.values()
        if isinstance(trial.kind, BaselinePoint)
    ]
    settled = {p.first for t, p in trials if t.outcome in SETTLED or (p.attempt > 1 and t.outcome)}
    settled |= view.recalled.keys()
    if table:
        runs, source = table_runs(table), SLOWRUN if SLOWRUN in table else "table"
    elif points and settled == set(points):
        complete = [t for t, _ in trials if t.outcome is Outcome.COMPLETE]
        runs = [BaselineRun.of(t.settings, t.val_loss) for t in complete]
        runs += view.recalled.values()
        source = "measured"
    else:
        return None
    if view.baseline is not None and len(runs) <= len(view.baseline_runs):
        return None
    return {
        "source": source,
        "runs": [[run.tokens, run.loss, run.size] for run in runs],
        "points": [list(point) for point in best_of_sizes(runs)],
    }


class Fate(Enum):
    """Whether a run that was to measure a point did so."""

    MEASURED = auto()  # or under way
    FAILED = auto()
    REJECTED = auto()  # it did not fit in what was left of the budget


def missing(
    points: Sequence[BaselinePoint], tried: Iterable[tuple[BaselinePoint, Fate]]
) -> list[BaselinePoint]:
    """Points that nobody has measured or is measuring, each as its next attempt.

    Those that failed least, then the largest: the longest run must not be the last to start.
    """
    attempts = dict.fromkeys(points, 1)
    rejected = dict.fromkeys(points, 0)
    for run, fate in tried:
        point = run.first
        if point not in attempts:
            continue
        if fate is Fate.REJECTED:
            rejected[point] += 1
        elif fate is Fate.FAILED:
            attempts[point] += 1
        else:
            del attempts[point]
    left = sorted(attempts, key=lambda point: (attempts[point], rejected[point], -_work(point)))
    return [replace(point, attempt=attempts[point]) for point in left]


def _work(point: BaselinePoint) -> float:
    """How long a baseline point takes, in units that are the same for all points."""
    return point.multiple * (1.0 if point.scale is None else point.scale)
