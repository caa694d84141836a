"""Trials and their evaluations as pandas tables. Losses are nats per token, times seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from model.progress import WHOLE
from sweep.records import Role
from sweep.results import report
from sweep.results.ranking import Gap, gaps, ranking
from sweep.view import TrialView, View

# Of a trial's last evaluation; not a number where it has none.
MEASURED = ("val_loss", "val_loss_error", "bits_per_byte", "train_loss", "raw_loss", "ema_loss")
TRIAL = (
    "run",
    "trial",
    "role",
    "outcome",
    "reason",
    "progress",
    *MEASURED,
    "worse_by",
    "worse_by_error",
    "tied",
    "data_efficiency",
    "data_efficiency_side",
    "unique_tokens",
    "epoch",
    "tokens",
    "seconds",
    "flops",
)
CURVE = (
    "run",
    "trial",
    "role",
    "fraction",
    "step",
    "epoch",
    "tokens",
    "seconds",
    "train_loss",
    "val_loss",
    "raw_loss",
    "ema_loss",
    "lr",
)


def trial_table(run: str, view: View, roles: Iterable[Role]) -> pd.DataFrame:
    """One row for each trial of `roles`, in the order they began; settings are the last columns."""
    behind = _behind(view)
    wanted = set(roles)
    trials = [trial for trial in view.trials.values() if trial.role in wanted]
    settings = dict.fromkeys(name for trial in trials for name in trial.settings)
    rows = [{**_trial(run, view, t, behind.get(t.name)), **t.settings} for t in trials]
    return pd.DataFrame(rows, columns=[*TRIAL, *settings])


def curve_table(run: str, view: View) -> pd.DataFrame:
    """One row for each evaluation of each trial."""
    rows = [
        {
            "run": run,
            "trial": trial.name,
            "role": str(trial.role),
            "fraction": event["basis_points"] / WHOLE,
            **{name: _number(event.get(name)) for name in CURVE[4:]},
        }
        for trial in view.trials.values()
        for event in trial.observations
    ]
    table = pd.DataFrame(rows, columns=list(CURVE))
    return table.astype({"step": "int64", "tokens": "int64"})


def baseline_table(run: str, view: View) -> pd.DataFrame:
    """The plain baseline's curve: validation loss by unique tokens; empty before it is measured."""
    points = view.baseline or []
    rows = [{"run": run, "tokens": int(tokens), "val_loss": loss} for tokens, loss in points]
    return pd.DataFrame(rows, columns=["run", "tokens", "val_loss"])


def _trial(run: str, view: View, trial: TrialView, gap: Gap | None) -> dict[str, Any]:
    last = trial.last or {}
    worth = report.efficiency_of(view, trial) if trial.role is Role.SEARCH else None
    best = gap is None and trial.name in _best(view)
    return {
        "run": run,
        "trial": trial.name,
        "role": str(trial.role),
        "outcome": str(trial.outcome) if trial.outcome else "running",
        "reason": trial.reason,
        "progress": trial.done,
        **{name: _number(last.get(name)) for name in MEASURED},
        "worse_by": gap.difference if gap else 0.0 if best else math.nan,
        "worse_by_error": gap.error if gap else math.nan,
        "tied": bool(gap and gap.tied),
        "data_efficiency": worth.value if worth else math.nan,
        "data_efficiency_side": worth.side if worth else "",
        "unique_tokens": view.train_tokens(trial),
        "epoch": _number(last.get("epoch")),
        "tokens": int(last.get("tokens", 0)),
        "seconds": trial.seconds,
        "flops": trial.flops * trial.trained,
    }


def _behind(view: View) -> dict[str, Gap]:
    """How far each complete trial's recipe is behind the best one."""
    judged = {gap.name: gap for gap in gaps(view)}
    return {
        trial.name: judged[recipe.name]
        for recipe in ranking(view)
        if recipe.name in judged
        for trial in recipe.trials
    }


def _best(view: View) -> set[str]:
    """The trials of the recipe with the lowest mean loss."""
    ranked = ranking(view)
    return {trial.name for trial in ranked[0].trials} if ranked else set()


def _number(value: Any) -> float:
    return math.nan if value is None else value
