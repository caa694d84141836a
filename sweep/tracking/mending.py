"""Points that a store has and the journal lacks: a crash took lines that had been sent already.

What was lost is trained again at another time, and MLflow keeps both points of a step. So a run
that has such a point is deleted (MLflow keeps deleted runs until `mlflow gc`) and sent anew.
"""

from __future__ import annotations

from mlflow import MlflowClient

from sweep.records import Event
from sweep.tracking.cursor import PARENT, Cursor
from sweep.tracking.metrics import BEST_BY_TRIALS, CURVES
from sweep.tracking.runs import Runs
from sweep.view import View

# A metric that is sent with each event of a kind, at the event's own time: whose event, of whom.
SENT = {"observation": CURVES["val_loss"], "outcome": "best/val_loss"}

Times = dict[tuple[str, str], set[int]]  # of events, by run and metric


def note_time(times: Times, event: Event) -> None:
    """Add when the journal has a point that a store may have."""
    if metric := SENT.get(event["event"]):
        times.setdefault((event["trial"], metric), set()).add(event["time"])
        if event["event"] == "outcome":
            times.setdefault((PARENT, BEST_BY_TRIALS), set()).add(event["time"])


def forget_stale(
    client: MlflowClient, runs: Runs, cursor: Cursor, view: View, times: Times, whole: bool
) -> bool:
    """Delete runs with points that the journal lacks; whether there were any.

    whole  look at every run; else at those of trials that have not ended, which is where a crash
           between sending and noting leaves them
    """
    names = [name for name, trial in view.trials.items() if whole or trial.outcome is None]
    stale = [
        name
        for name in (*names, PARENT)
        if name in cursor.runs and _is_stale(client, cursor.runs[name], name, times)
    ]
    for name in stale:
        runs.delete(name)
    return bool(stale)


def _is_stale(client: MlflowClient, run_id: str, name: str, times: Times) -> bool:
    metrics = [BEST_BY_TRIALS] if name == PARENT else SENT.values()
    return any(
        point.timestamp not in times.get((name, metric), ())
        for metric in metrics
        for point in client.get_metric_history(run_id, metric)
    )
