"""What a finished or running sweep has to say, as text."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.setting import Value
from sweep.efficiency import Multiplier, multiplier
from sweep.records import Outcome, Role, TrialView, View, short
from sweep.seeds import Proposal, by_proposal

LEADERS = 10
# What --json gives of a trial's last observation.
MEASURED = (
    "val_loss",
    "val_loss_error",
    "bits_per_byte",
    "train_loss",
    "gap",
    "raw_loss",
    "ema_loss",
    "weights_loss",
    "probabilities_loss",
    "diverged_step",
)


def efficiency_of(view: View, trial: TrialView) -> Multiplier | None:
    """The trial's data-efficiency multiplier, once the baseline is measured."""
    if not view.baseline or trial.last is None:
        return None
    return multiplier(trial.val_loss, view.baseline, view.train_tokens(trial))


def leaderboard(view: View) -> str:
    """The best complete trials as a table, lowest validation loss first."""
    ranked = view.ranked()[:LEADERS]
    if not ranked:
        return "No trial is complete yet."
    if len(proposals := by_proposal(view.ranked())) < len(view.ranked()):
        return _by_mean(proposals[:LEADERS])
    searched = list(dict.fromkeys(name for trial in ranked for name in trial.searched))
    rows = [["trial", "val loss", "± s.e.", "bits/byte", "data", *searched]]
    for trial in ranked:
        assert trial.last is not None
        rows.append(
            [
                trial.name,
                f"{trial.val_loss:.4f}",
                f"{trial.last['val_loss_error']:.4f}",
                f"{trial.last['bits_per_byte']:.4f}",
                str(efficiency_of(view, trial) or "-"),
                *(short(trial.searched.get(name, "-")) for name in searched),
            ]
        )
    return table(rows)


def _by_mean(proposals: list[Proposal]) -> str:
    """The best proposals by the mean over their seeds; ± is the deviation from seed to seed."""
    searched = list(dict.fromkeys(name for proposal in proposals for name in proposal.searched))
    rows = [["mean val loss", "± seeds", "n", "trials", *searched]]
    for found in proposals:
        deviation = f"{found.deviation:.4f}" if len(found.trials) > 1 else "-"
        names = " ".join(sorted(trial.name for trial in found.trials))
        values = [short(found.searched.get(name, "-")) for name in searched]
        rows.append([f"{found.mean:.4f}", deviation, str(len(found.trials)), names, *values])
    return table(rows)


def table(rows: list[list[str]]) -> str:
    """Columns as wide as they need to be; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def counts(view: View) -> str:
    """How the search trials stand, in a line."""
    unfinished = sum(t.outcome is None for t in view.searches())
    parts = ", ".join(f"{view.count(outcome)} {outcome}" for outcome in Outcome)
    done = view.count(Outcome.COMPLETE) + view.count(Outcome.PRUNED)
    return f"{done}/{view.header['trials']} trials: {parts}, {unfinished} unfinished"


def train_command(settings: Mapping[str, Value]) -> str:
    """A `sweep train` command that trains these settings again."""
    parts = [f"--set {shlex.quote(f'{name}={value}')}" for name, value in settings.items()]
    return " \\\n    ".join(["sweep train", *parts])


def baseline_line(view: View) -> str:
    """The measured baseline in a line."""
    if not view.baseline:
        return "No baseline was measured."
    points = ", ".join(f"{int(tokens):,}: {loss:.4f}" for tokens, loss in view.baseline)
    return f"Plain baseline, val loss by training tokens: {points}"


def result(view: View, folder: Path) -> str:
    """The end of a sweep: leaderboard, what the best is worth, how to get it, where to look."""
    parts = [counts(view), leaderboard(view)]
    ranked = view.ranked()
    if ranked:
        best = ranked[0]
        found = efficiency_of(view, best)
        if found is not None:
            parts.append(
                f"{baseline_line(view)}\nTrial {best.name} does with 1x what the plain baseline "
                f"needs {found} the data for. How sure that is: sweep efficiency {folder}"
            )
        parts.append(
            "The lowest of several validation losses flatters itself, and one seed is one seed: "
            "small differences may be luck.\nTo train the best settings again:\n\n"
            f"  {train_command(best.settings)}"
        )
    parts.append(f"Curves: sweep ui --runs {folder.parent}    Everything else: {folder}")
    return "\n\n".join(parts)


def state(view: View, driven: bool) -> str:
    """What the sweep does now, or why it stopped."""
    if driven:
        return "running"
    return "its driver vanished" if view.end is None else str(view.end["reason"])


def as_data(view: View, driven: bool) -> dict[str, Any]:
    """The sweep as plain data, for --json."""
    return {
        "name": view.header["name"],
        "state": state(view, driven),
        "budget": view.header["trials"],
        "data": view.header["data"],
        "baseline": view.baseline,
        "trials": [_trial_as_data(view, trial) for trial in view.trials.values()],
    }


def _finite(value: float | None) -> float | None:
    """JSON has no word for what a diverged trial reports."""
    return value if value is not None and math.isfinite(value) else None


def _trial_as_data(view: View, trial: TrialView) -> dict[str, Any]:
    last = trial.last or {}
    found = efficiency_of(view, trial) if trial.role is Role.SEARCH else None
    return {
        "trial": trial.name,
        "role": trial.role,
        "outcome": trial.outcome,
        "reason": trial.reason,
        "settings": trial.settings,
        "progress": last.get("basis_points", 0) / 10_000,
        **{key: _finite(last.get(key)) for key in MEASURED},
        "data_efficiency": str(found) if found else None,
    }
