"""The validation curves of a sweep's trials as one figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure

from model.progress import WHOLE
from sweep.records import Event, Outcome
from sweep.results.ranking import ranking
from sweep.view import TrialView, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 5  # of the best trials; the others are gray
COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue", "tab:purple")
GRAY = "tab:gray"
# What curves are drawn against: a label, and its value at an evaluation.
ALONG: dict[str, Callable[[Event], float]] = {
    "fraction of its own schedule": lambda event: event["basis_points"] / WHOLE,
    "epoch (passes over the unique tokens)": lambda event: event["epoch"],
    "seconds of training": lambda event: event["seconds"],
}


def curves_figure(view: View) -> Figure:
    """Validation loss of the search trials by fraction, epoch and time; the best are named.

    Trials that were stopped are dotted.
    """
    best = [recipe.trials[0].name for recipe in ranking(view)[:NAMED]]
    trials = [trial for trial in view.searches() if trial.observations]
    last = {name: number for number, name in enumerate(reversed(best))}
    trials.sort(key=lambda trial: last.get(trial.name, -1))  # the best are drawn over the others
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        panels = figure.subplots(1, len(ALONG), sharey=True)
        for axes, (label, along) in zip(panels, ALONG.items(), strict=True):
            for trial in trials:
                _curve(axes, trial, best, along)
            axes.set(xlabel=label)
        panels[0].set(ylabel="val loss (nats/token)")
        handles = {line.get_label(): line for line in panels[0].get_lines()}
        shown = [handles[label] for label in [*best, "others", "stopped"] if label in handles]
        if shown:
            panels[0].legend(handles=shown, fontsize=7, title="lowest loss first", title_fontsize=7)
        figure.suptitle(f"{view.header['name']}: validation curves of {len(trials)} trials")
    return figure


def _curve(axes: Axes, trial: TrialView, best: list[str], along: Callable[[Event], float]) -> None:
    stopped = trial.outcome in (Outcome.PRUNED, Outcome.FAILED)
    x = [along(event) for event in trial.observations]
    y = [event["val_loss"] for event in trial.observations]
    if trial.name in best:
        axes.plot(x, y, ".-", color=COLOURS[best.index(trial.name)], lw=1.6, label=trial.name)
        return
    style, label = (":", "stopped") if stopped else ("-", "others")
    axes.plot(x, y, style, color=GRAY, lw=0.8, label=label)
