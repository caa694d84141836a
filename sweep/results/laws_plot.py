"""The laws of runs as one SVG: each with its interval, what lies beyond, and its residuals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from model.files import replaced
from sweep.format import count_text
from sweep.results.efficiency_plot import STYLE
from sweep.results.laws import BEYOND, EPOCHS, MEMBERS, Law, Measured
from sweep.results.laws_of_runs import LawsOfRuns
from sweep.results.laws_report import HEADS, formula, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
PLACES = 120  # along each curve


def draw_laws(laws: LawsOfRuns, path: Path) -> None:
    """Write a column for each law to `path` as SVG. Raises OSError."""
    with matplotlib.rc_context(STYLE):
        count = len(laws.laws)
        figure = Figure(figsize=(max(5.0, 4.6 * count), 5.4), layout="constrained")
        axes = figure.subplots(2, count, squeeze=False, sharex="col", height_ratios=[3, 1])
        for column, law in enumerate(laws.laws):
            _law(axes[0][column], law)
            _residuals(axes[1][column], law)
        figure.suptitle(f"{', '.join(laws.names)}: the best recipe at each value")
        with replaced(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})


def _curves(law: Law) -> list[tuple[float, list[Measured]]]:
    """Points by unique tokens, where a law is over both; else all of them."""
    if law.quantity != EPOCHS:
        return [(0.0, list(law.points))]
    budgets = sorted({point.tokens for point in law.points})
    return [(tokens, [p for p in law.points if p.tokens == tokens]) for tokens in budgets]


def _law(axes: Axes, law: Law) -> None:
    last = max(point.x for point in law.points)
    first = min(point.x for point in law.points)
    inside = np.geomspace(first, last, PLACES)
    outside = np.geomspace(last, BEYOND[-1] * last, PLACES // 3)
    curves = _curves(law)
    for index, (tokens, points) in enumerate(curves):
        color = COLORS[index % len(COLORS)]
        label = f"{count_text(tokens)} unique tokens" if tokens else "best recipes"
        axes.plot([p.x for p in points], [p.loss for p in points], "o", color=color, label=label)
        for along, style in ((inside, "-"), (outside, "--")):
            losses = law.at(along, tokens)
            axes.plot(along, [c.value for c in losses], style, color=color, lw=1.2)
            low, high = [c.low for c in losses], [c.high for c in losses]
            axes.fill_between(along, low, high, color=color, alpha=0.15, lw=0)
    axes.axvspan(last, BEYOND[-1] * last, color="0.95", zorder=0)
    axes.text(0.99, 0.98, "beyond the data", transform=axes.transAxes, ha="right", va="top")
    if law.quantity != EPOCHS:
        axes.axhline(law.floor.value, color="0.4", lw=0.8, ls=":", label="floor")
    what = HEADS[EPOCHS] if law.quantity == EPOCHS else title(law)  # the legend has the rest
    axes.set(title=f"{what}\n{formula(law)}", ylabel="val loss (nats/token)")
    axes.title.set_fontsize(8)
    _limit(axes, law)
    axes.legend(fontsize=7, loc="best")


def _limit(axes: Axes, law: Law) -> None:
    """Show what was measured and a floor near it; a floor far below would flatten the points."""
    losses = [point.loss for point in law.points]
    room = max(max(losses) - min(losses), 1e-3)
    lowest = min(constant.value for _, constant in law.beyond)
    axes.set_ylim(max(lowest, min(losses) - 1.5 * room) - 0.1 * room, max(losses) + 0.15 * room)


def _residuals(axes: Axes, law: Law) -> None:
    for index, (_, points) in enumerate(_curves(law)):
        off = [p.loss - law.at([p.x], p.tokens)[0].value for p in points]
        axes.plot([p.x for p in points], off, "o-", color=COLORS[index % len(COLORS)], lw=0.7, ms=4)
    axes.axhspan(-2 * law.sd, 2 * law.sd, color="0.9", zorder=0)
    axes.axhline(0, color="0.4", lw=0.8)
    axes.set_xscale("log")
    x = sorted({point.x for point in law.points})
    small = law.quantity in (EPOCHS, MEMBERS)
    texts = [f"{value:g}" if small else count_text(float(f"{value:.3g}")) for value in x]
    axes.set_xticks(x, texts, fontsize=7)
    axes.set_xticks([], minor=True)
    axes.set(xlabel=law.quantity, ylabel="off the law")
    axes.margins(y=0.2)
