"""The data-efficiency curves of a sweep as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from model.files import replaced
from sweep.format import count_text
from sweep.results.efficiency_report import Figures, Worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE, TRIALS, BEST = "black", "tab:gray", "tab:red"
TIMES = "data efficiency\n(baseline tokens needed / unique tokens)"
# Text stays text, and the same sweep gives the same file.
STYLE: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "sweep", "font.size": 9}


def draw_figures(figures: Figures, path: Path) -> None:
    """Write the curves of `figures` to `path` as SVG. Raises OSError."""
    with matplotlib.rc_context(STYLE):
        wide = len(figures.recipes) > 1
        figure = Figure(figsize=(11, 8 if wide else 4.2), layout="constrained")
        axes = figure.subplots(2 if wide else 1, 2 if wide else 3).flatten()
        _losses(axes[0], figures)
        _epochs(axes[1], figures)
        _hours(axes[2], figures)
        if wide:
            _unique_tokens(axes[3], figures)
        figure.suptitle(
            f"{figures.name}: data efficiency against a plain baseline ({figures.source})"
        )
        with replaced(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})


def _losses(axes: Axes, figures: Figures) -> None:
    """Validation loss by unique tokens: what the multiplier is read off."""
    tokens, losses = zip(*figures.baseline.curve, strict=True)
    axes.errorbar(
        tokens, losses, 2 * figures.noise.sd, fmt="o-", color=BASELINE, label="plain baseline", ms=4
    )
    law = figures.baseline.law
    if law:
        along = np.geomspace(tokens[0], tokens[-1], 100)
        line = [law.loss(float(t)) for t in along]
        axes.plot(along, line, ":", color=BASELINE, label=f"its law {law}")
    for index, (own, loss) in enumerate(figures.points.values()):
        axes.plot(own, loss, ".", color=TRIALS, label="" if index else "complete trials")
    if figures.trials:
        best = figures.trials[0]
        axes.plot(
            best.tokens, best.val_loss, "*", color=BEST, ms=10, label=f"lowest loss: {best.name}"
        )
        reach = best.lines.point.value * best.tokens
        axes.plot([best.tokens, reach], [best.val_loss] * 2, "--", color=BEST, lw=1)
        middle = (best.tokens * reach) ** 0.5
        interval = f"{best.lines.point}\n({best.lines.low} to {best.lines.high})"
        axes.annotate(interval, (middle, best.val_loss), color=BEST, va="top", ha="center")
    _token_axis(axes, tokens)
    axes.set(title="Loss by data", xlabel="unique training tokens", ylabel="val loss (nats/token)")
    axes.legend(fontsize=7)


def _epochs(axes: Axes, figures: Figures) -> None:
    """The multiplier as each trial trains; what is outside the baseline is not drawn."""
    best = figures.trials[0].name if figures.trials else ""
    names = sorted(figures.epochs, key=lambda name: name == best)  # the best is drawn last
    for index, name in enumerate(names):
        inside = [(epoch, m.value) for epoch, m in figures.epochs[name] if not m.side]
        if not inside:
            continue
        label = f"lowest loss: {name}" if name == best else "trials" if not index else ""
        color, width = (BEST, 1.8) if name == best else (TRIALS, 0.7)
        axes.plot(*zip(*inside, strict=True), ".-", color=color, lw=width, ms=4, label=label)
    _times(axes, "While trials train", "epoch (passes over the unique tokens)")
    axes.legend(fontsize=7)


def _hours(axes: Axes, figures: Figures) -> None:
    """The best multiplier that so much training had come to."""
    if figures.spent:
        hours = [hours for hours, _ in figures.spent]
        best = [worth.lines.point.value for _, worth in figures.spent]
        axes.step([*hours, figures.total_hours], [*best, best[-1]], where="post", color=BEST)
        _points(axes, hours, [worth for _, worth in figures.spent], "best trial so far, 95 %")
        axes.legend(fontsize=7)
    _times(axes, "While the sweep runs", f"{figures.hour} of training (search trials)")


def _unique_tokens(axes: Axes, figures: Figures) -> None:
    """What the recipe is worth at each budget."""
    tokens = [worth.tokens for worth in figures.recipes]
    axes.plot(tokens, [w.lines.point.value for w in figures.recipes], "-", color=BEST, lw=1)
    _points(axes, tokens, figures.recipes, "best recipe at each budget, 95 %")
    _token_axis(axes, tokens)
    _times(axes, "By data", "unique training tokens")
    axes.legend(fontsize=7)


def _token_axis(axes: Axes, tokens: Sequence[float]) -> None:
    """A log scale with its marks where something was measured."""
    axes.set_xscale("log")
    axes.set_xticks(list(tokens), [count_text(t) for t in tokens])
    axes.set_xticks([], minor=True)


def _points(axes: Axes, x: list[Any], shown: list[Worth], label: str) -> None:
    """Multipliers with their intervals; a triangle where the baseline ends before the loss."""
    y = [worth.lines.point.value for worth in shown]
    below = [worth.lines.point.value - worth.lines.low.value for worth in shown]
    above = [worth.lines.high.value - worth.lines.point.value for worth in shown]
    axes.errorbar(x, y, [below, above], fmt="o", color=BEST, ms=4, capsize=2, label=label)
    cut = [(at, v) for at, v, w in zip(x, y, shown, strict=True) if w.lines.point.side == ">"]
    if cut:
        axes.plot(*zip(*cut, strict=True), "^", color=BEST, ms=9, label="more than was measured")


def _times(axes: Axes, title: str, xlabel: str) -> None:
    axes.axhline(1, color=BASELINE, lw=1, label="plain baseline")
    axes.set(title=title, xlabel=xlabel, ylabel=TIMES)
