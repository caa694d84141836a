"""Size, speed and loss of one shrinking as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from model.files import replaced
from sweep.format import count_text
from sweep.shrinking.outcome import CUT, ORIGINAL, TUNED, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {ORIGINAL: "black", CUT: "tab:blue", TUNED: "tab:red"}
# Text stays text, and the same outcome gives the same file.
STYLE: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "sweep", "font.size": 9}


def draw(outcome: Outcome, path: Path) -> None:
    """Write charts to `path`: loss by size, by speed, and the plans tried. Raises OSError."""
    with matplotlib.rc_context(STYLE):
        several = len(outcome.attempts) > 1
        figure = Figure(figsize=(11 if several else 7.5, 3.8), layout="constrained")
        axes = figure.subplots(1, 3 if several else 2)
        _rows(axes[0], outcome, "parameters")
        _rows(axes[1], outcome, "tokens_per_second")
        if several:
            _attempts(axes[2], outcome)
        figure.suptitle(f"{outcome.model} made smaller: {outcome.strategy}")
        with replaced(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})


def _rows(axes: Axes, outcome: Outcome, by: str) -> None:
    """Loss of the original, of what is left and of that fine-tuned, with the share kept beside."""
    for row in outcome.rows:
        x = getattr(row, by)
        axes.plot([x], [row.val_loss], "o", color=COLORS[row.stage], label=row.stage)
        axes.annotate(
            f"{row.quality:.1%}", (x, row.val_loss), xytext=(6, 4), textcoords="offset points"
        )
    label = "parameters" if by == "parameters" else "tokens/s, forward"
    largest = max(getattr(row, by) for row in outcome.rows)
    axes.set_xlim(0, 1.25 * largest)
    axes.xaxis.set_major_formatter(lambda value, _: count_text(value))
    axes.set(title=f"Loss by {label}", xlabel=label, ylabel="val loss (nats/token)")
    axes.legend(fontsize=7)


def _attempts(axes: Axes, outcome: Outcome) -> None:
    """The plans by how many layers they leave."""
    for label, color, tuned in (
        (CUT, COLORS[CUT], False),
        (f"{TUNED} a while", "tab:orange", True),
    ):
        points = [
            (one.layers, one.tuned_loss if tuned else one.loss)
            for one in outcome.attempts
            if not tuned or one.tuned_loss is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), ".", color=color, label=label)
    axes.axhline(outcome.held_back_loss, color=COLORS[ORIGINAL], lw=1, label=ORIGINAL)
    axes.set_xticks(sorted({one.layers for one in outcome.attempts}))
    axes.set(
        title=f"{len(outcome.attempts)} plans tried",
        xlabel="layers left",
        ylabel="loss on held-back training tokens",
    )
    axes.legend(fontsize=7)
