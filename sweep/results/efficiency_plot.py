"""The data-efficiency curves of a sweep as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from model.files import replaced
from sweep.results.efficiency_report import Figures, Worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE, TRIALS, BEST = "black", "tab:gray", "tab:red"
TIMES = "data efficiency\n(baseline tokens needed / unique tokens)"
# Text stays text, and the same sweep gives the same file.
STYLE: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "sweep", "font.size": 9}


def draw_figures(figures: Figures, path: Path) -> None:
    """Write the curves of `figures` to `path` as SVG. Raises OSError."""
    drawn = efficiency_figure(figures)
    with matplotlib.rc_context(STYLE), replaced(path) as beside:
        drawn.savefig(beside, format="svg", metadata={"Date": None})


def efficiency_figure(figures: Figures) -> Figure:
    """Data efficiency by loss, by epoch, by cost and, where several were tried, by budget."""
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
    return figure


def _losses(axes: Axes, figures: Figures) -> None:
    """Validation loss by unique tokens: what the multiplier is read off."""
    tokens, losses = zip(*figures.baseline.curve, strict=True)
    spread = None if figures.noise.sd is None else 2 * figures.noise.sd
    axes.errorbar(tokens, losses, spread, fmt="o-", color=BASELINE, label="plain baseline", ms=4)
    law = figures.baseline.law
    if law:
        along = np.geomspace(tokens[0], tokens[-1], 100)
        line = [law.loss(float(t)) for t in along]
        axes.plot(along, line, ":", color=BASELINE, label=f"its law {law}")
    for index, (own, loss) in enumerate(figures.points.values()):
        axes.plot(own, loss, ".", color=TRIALS, label="" if index else "complete trials")
    if figures.trials:
        best = figures.trials[0]
        axes.plot(best.tokens, best.val_loss, "*", color=BEST, ms=10, label=_named(best))
        reach = best.lines.point.value * best.tokens
        axes.plot([best.tokens, reach], [best.val_loss] * 2, "--", color=BEST, lw=1)
        middle = (best.tokens * reach) ** 0.5
        # Beside a loss that is the lowest of all, below it would be on the axis.
        lowest = min([*losses, *(loss for _, loss in figures.points.values())])
        above = best.val_loss <= lowest + 0.15 * (max(losses) - lowest)
        axes.annotate(
            str(best.lines).replace(" (", "\n("),
            (middle, best.val_loss),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            color=BEST,
            va="bottom" if above else "top",
            ha="center",
        )
    _token_axis(axes, tokens)
    axes.set(title="Loss by data", xlabel="unique training tokens", ylabel="val loss (nats/token)")
    axes.legend(fontsize=7)


def _epochs(axes: Axes, figures: Figures) -> None:
    """The multiplier as each trial trains; above what was measured it is drawn as a triangle."""
    best = figures.trials[0].name if figures.trials else ""
    names = sorted(figures.epochs, key=lambda name: name == best)  # the best is drawn last
    cut: list[tuple[float, float]] = []
    label = "trials"
    for name in names:
        drawn = [(epoch, m.value) for epoch, m in figures.epochs[name] if m.side != "<"]
        if not drawn:
            continue
        label = f"trial {name}" if name == best else label
        color, width = (BEST, 1.8) if name == best else (TRIALS, 0.7)
        axes.plot(*zip(*drawn, strict=True), ".-", color=color, lw=width, ms=4, label=label)
        label = ""  # once in the legend
        cut += [(epoch, m.value) for epoch, m in figures.epochs[name] if m.side == ">"]
    if cut:
        axes.plot(*zip(*cut, strict=True), "^", color=TRIALS, ms=5, label="more than was measured")
    ends = [curve[-1][0] for curve in figures.epochs.values() if curve]
    _times(axes, "While trials train", "epoch (passes over the unique tokens)")
    axes.set_xlim(0, 1.03 * max(ends, default=1.0))
    axes.legend(fontsize=7)


def _hours(axes: Axes, figures: Figures) -> None:
    """The best multiplier that so much training had come to."""
    if figures.spent:
        hours = [hours for hours, _ in figures.spent]
        best = [worth.lines.point.value for _, worth in figures.spent]
        axes.step([*hours, figures.total_hours], [*best, best[-1]], where="post", color=BEST)
        _points(axes, hours, [worth for _, worth in figures.spent], "best trial so far", "o")
        if figures.trials[0].confirmed:
            _points(axes, [figures.total_hours], figures.trials[:1], _named(figures.trials[0]), "D")
        axes.legend(fontsize=7)
    _times(axes, "While the sweep runs", f"{figures.hour} of training (search trials)")


def _unique_tokens(axes: Axes, figures: Figures) -> None:
    """What the recipe is worth at each budget."""
    tokens = [worth.tokens for worth in figures.recipes]
    axes.plot(tokens, [w.lines.point.value for w in figures.recipes], "-", color=BEST, lw=1)
    _points(axes, tokens, figures.recipes, "best recipe at each budget", "o")
    _token_axis(axes, tokens)
    _times(axes, "By data", "unique training tokens")
    axes.legend(fontsize=7)


def _named(worth: Worth) -> str:
    """The trial, and whether its loss is what chose it."""
    return f"confirmed: {worth.name}" if worth.confirmed else f"lowest loss: {worth.name}"


def _token_axis(axes: Axes, tokens: Sequence[float]) -> None:
    """A log scale with its marks where something was measured."""
    axes.set_xscale("log")
    axes.set_xticks(list(tokens), [token_text(t) for t in tokens])
    axes.set_xticks([], minor=True)


def token_text(tokens: float) -> str:
    """Tokens as people say them: 32k for 32,768, as budgets are powers of two, 100M for 100M."""
    for unit, binary, size in (("M", 1 << 20, 1e6), ("k", 1 << 10, 1e3)):
        if tokens >= size:
            whole = tokens % binary == 0 and tokens % size != 0
            return f"{tokens / (binary if whole else size):.3g}{unit}"
    return f"{tokens:g}"


def _points(axes: Axes, x: list[Any], shown: list[Worth], label: str, mark: str) -> None:
    """Multipliers with their intervals; a triangle where the baseline ends before the loss."""
    y = [worth.lines.point.value for worth in shown]
    ends = [(worth.lines.low, worth.lines.high) for worth in shown]
    bars = [
        [v - low.value, high.value - v]
        for v, (low, high) in zip(y, ends, strict=True)
        if low and high
    ]
    measured = len(bars) == len(y)
    label = f"{label}, 95 %" if measured else label
    spread = list(zip(*bars, strict=True)) if measured else None
    axes.errorbar(x, y, spread, fmt=mark, color=BEST, ms=4, capsize=2, label=label)
    cut = [(at, v) for at, v, w in zip(x, y, shown, strict=True) if w.lines.point.side == ">"]
    if cut:
        axes.plot(*zip(*cut, strict=True), "^", color=BEST, ms=9, label="more than was measured")


def _times(axes: Axes, title: str, xlabel: str) -> None:
    axes.axhline(1, color=BASELINE, lw=1, label="plain baseline")
    axes.set(title=title, xlabel=xlabel, ylabel=TIMES)
