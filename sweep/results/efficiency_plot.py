"""The data-efficiency curves of a sweep as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from model.files import replaced
from sweep.format import count
from sweep.results.efficiency_report import Figures, Worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE, TRIALS, BEST = "black", "tab:gray", "tab:red"
TIMES = "data efficiency\n(baseline tokens needed / unique tokens)"
# Text stays text, and the same sweep gives the same file.
STYLE: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "sweep", "font.size": 9}


def draw_figures(found: Figures, path: Path) -> None:
    """Write the curves of `found` to `path` as SVG. Raises OSError."""
    with matplotlib.rc_context(STYLE):
        wide = len(found.recipes) > 1
        figure = Figure(figsize=(11, 8 if wide else 4.2), layout="constrained")
        axes = figure.subplots(2 if wide else 1, 2 if wide else 3).flatten()
        _losses(axes[0], found)
        _epochs(axes[1], found)
        _hours(axes[2], found)
        if wide:
            _unique_tokens(axes[3], found)
        figure.suptitle(f"{found.name}: data efficiency against a plain baseline ({found.source})")
        with replaced(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})


def _losses(axes: Axes, found: Figures) -> None:
    """Validation loss by unique tokens: what the multiplier is read off."""
    tokens, losses = zip(*found.baseline.curve, strict=True)
    axes.errorbar(
        tokens, losses, 2 * found.noise.sd, fmt="o-", color=BASELINE, label="plain baseline", ms=4
    )
    law = found.baseline.law
    if law:
        along = np.geomspace(tokens[0], tokens[-1], 100)
        line = [law.loss(float(t)) for t in along]
        axes.plot(along, line, ":", color=BASELINE, label=f"its law {law}")
    for index, (own, loss) in enumerate(found.points.values()):
        axes.plot(own, loss, ".", color=TRIALS, label="" if index else "complete trials")
    if found.trials:
        best = found.trials[0]
        axes.plot(
            best.tokens, best.val_loss, "*", color=BEST, ms=10, label=f"lowest loss: {best.name}"
        )
        reach = best.lines.point.value * best.tokens
        axes.plot([best.tokens, reach], [best.val_loss] * 2, "--", color=BEST, lw=1)
        middle = (best.tokens * reach) ** 0.5
        about = f"{best.lines.point}\n({best.lines.low} to {best.lines.high})"
        axes.annotate(about, (middle, best.val_loss), color=BEST, va="top", ha="center")
    _token_axis(axes, tokens)
    axes.set(title="Loss by data", xlabel="unique training tokens", ylabel="val loss (nats/token)")
    axes.legend(fontsize=7)


def _epochs(axes: Axes, found: Figures) -> None:
    """The multiplier as each trial trains; what is outside the baseline is not drawn."""
    best = found.trials[0].name if found.trials else ""
    names = sorted(found.epochs, key=lambda name: name == best)  # the best is drawn last
    for index, name in enumerate(names):
        inside = [(epoch, m.value) for epoch, m in found.epochs[name] if not m.side]
        if not inside:
            continue
        label = f"lowest loss: {name}" if name == best else "trials" if not index else ""
        color, width = (BEST, 1.8) if name == best else (TRIALS, 0.7)
        axes.plot(*zip(*inside, strict=True), ".-", color=color, lw=width, ms=4, label=label)
    _times(axes, "While trials train", "epoch (passes over the unique tokens)")
    axes.legend(fontsize=7)


def _hours(axes: Axes, found: Figures) -> None:
    """The best multiplier that so much training had found."""
    if found.spent:
        hours = [hours for hours, _ in found.spent]
        best = [worth.lines.point.value for _, worth in found.spent]
        axes.step([*hours, found.total_hours], [*best, best[-1]], where="post", color=BEST)
        _points(axes, hours, [worth for _, worth in found.spent], "best trial so far, 95 %")
        axes.legend(fontsize=7)
    _times(axes, "While the sweep runs", f"{found.hour} of training (search trials)")


def _unique_tokens(axes: Axes, found: Figures) -> None:
    """What the recipe is worth at each budget."""
    tokens = [worth.tokens for worth in found.recipes]
    axes.plot(tokens, [w.lines.point.value for w in found.recipes], "-", color=BEST, lw=1)
    _points(axes, tokens, found.recipes, "best recipe at each budget, 95 %")
    _token_axis(axes, tokens)
    _times(axes, "By data", "unique training tokens")
    axes.legend(fontsize=7)


def _token_axis(axes: Axes, tokens: Sequence[float]) -> None:
    """A log scale with its marks where something was measured."""
    axes.set_xscale("log")
    axes.set_xticks(list(tokens), [count(t) for t in tokens])
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
