"""Coordinate descent on a grid, until a certificate: no point one step away is better.

As Kim et al. tune (2509.14786, after Wen et al., 2509.02046), with what their certificate lacks: a
margin for noise, and no certificate for an optimum at the edge of the grid, where the missing
neighbour might have been better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sweep.format import three_digits
from sweep.space import Point
from sweep.space.grid import (
    Line,
    Neighbour,
    neighbours,
    on_grid,
)
from sweep.space.points import Key, key

Losses = dict[Key, float]
Finished = tuple[Point, float]  # final loss in nats per token; infinite: diverged or stopped early


@dataclass(frozen=True)
class Certificate:
    """What is known around the best point: a certificate only if nothing speaks against it."""

    centre: Point
    loss: float
    neighbours: tuple[tuple[Neighbour, float | None], ...]  # None: not finished
    edges: tuple[str, ...]  # settings whose best value is the last of the grid
    margin: float

    @property
    def missing(self) -> int:
        return sum(loss is None for _, loss in self.neighbours)

    @property
    def tied(self) -> list[Neighbour]:
        """Neighbours within the margin, which one run each cannot tell from the centre."""
        return [n for n, loss in self.neighbours if loss is not None and loss <= self._highest_tie]

    @property
    def _highest_tie(self) -> float:
        """The loss up to which a neighbour counts as equal, in nats per token."""
        return self.loss + self.margin

    @property
    def certified(self) -> bool:
        return not self.missing and not self.edges

    def lines(self) -> list[str]:
        """The certificate as people read it."""
        settings = " ".join(f"{name}={three_digits(value)}" for name, value in self.centre.items())
        if self.certified:
            head = f"certified: no neighbour is better by more than {self.margin:g}"
        else:
            edges = [f"edge in {name}" for name in self.edges]
            missing = [f"{self.missing} neighbours not run"] if self.missing else []
            head = f"uncertified: {', '.join(edges + missing)}"
        lines = [head, f"  {self.loss:.4f}  {settings}"]
        for neighbour, loss in sorted(self.neighbours, key=lambda pair: pair[1] or math.inf):
            state = "not run" if loss is None else f"{loss:.4f}" if loss < math.inf else "stopped"
            tied = "  tied" if neighbour in self.tied else ""
            lines.append(f"  {state}  {neighbour.step}{tied}")
        return lines


def next_point(
    lines: Sequence[Line], finished: Sequence[Finished], running: Sequence[Point], margin: float
) -> Point | None:
    """The point to try next, or None when none is left around the best.

    Neighbours of the centre come first; while all of those are running, more workers look around
    the next best points. Without any trial yet, the middle of the grid.
    """
    losses = _mean_losses(lines, finished)
    pending = {key(on_grid(lines, point)): on_grid(lines, point) for point in running}
    if not losses and not pending:
        return on_grid(lines, {})
    tried = losses.keys() | pending.keys()
    ranked = sorted(losses, key=lambda k: losses[k])
    centre = _centre(lines, losses, margin)
    around = ([key(centre)] if centre else []) + ranked + list(pending)
    for base in around:
        for neighbour in neighbours(lines, dict(base)):
            if key(neighbour.point) not in tried:
                return neighbour.point
        settled = all(key(n.point) in losses for n in neighbours(lines, dict(base)))
        if centre and base == key(centre) and settled:
            return None
    return None


def certificate(
    lines: Sequence[Line], finished: Sequence[Finished], margin: float
) -> Certificate | None:
    """What the finished trials say about the best of them; None if none has a finite loss."""
    losses = _mean_losses(lines, finished)
    centre = _centre(lines, losses, margin)
    if centre is None:
        return None
    around = tuple((n, losses.get(key(n.point))) for n in neighbours(lines, centre))
    edges = [
        line.hyperparameter.setting
        for line in lines
        if line.hyperparameter.active(centre) and line.open_end(centre[line.hyperparameter.setting])
    ]
    return Certificate(centre, losses[key(centre)], around, tuple(edges), margin)


def _mean_losses(lines: Sequence[Line], finished: Sequence[Finished]) -> Losses:
    by_point: dict[Key, list[float]] = {}
    for point, loss in finished:
        by_point.setdefault(key(on_grid(lines, point)), []).append(loss)
    return {point: fmean(losses) for point, losses in by_point.items()}


def _centre(lines: Sequence[Line], losses: Losses, margin: float) -> Point | None:
    """The best point; of those within the margin of it, the one with most neighbours finished.

    Without that the centre would wander among equals and need new neighbours at each step.
    """
    best = min(losses.values(), default=math.inf)
    if best == math.inf:
        return None

    def order(point: Key) -> tuple[int, float]:
        around = neighbours(lines, dict(point))
        return -sum(key(n.point) in losses for n in around), losses[point]

    close: list[Key] = [point for point, loss in losses.items() if loss <= best + margin]
    nearest: Key = min(close, key=order)
    return dict(nearest)
