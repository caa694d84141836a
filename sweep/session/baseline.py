"""The plain baseline of a sweep, from its runs, earlier ones, or a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config.setting import Value
from sweep.records import (
    ATTEMPT,
    BaselineRun,
    Outcome,
    Role,
    View,
    baseline_point,
)
from sweep.results.efficiency import best_of_sizes
from sweep.space.baseline import SLOWRUN, table_runs
from sweep.space.space import Space

SETTLED = (Outcome.COMPLETE, Outcome.PRUNED)


def curve(space: Space, view: View) -> dict[str, Any] | None:
    """Once every baseline run has ended, their losses become the curve to measure against.

    A point that failed twice is left out; a table that is given needs no runs. None where there is
    nothing new to say.
    """
    points, table = space.baseline_points, space.reference.table
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
