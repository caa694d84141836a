"""What a bank of curves says, computed: `python benchmarks/bank.py describe` prints it.

Grid runs are those of the lowest seed; other seeds serve the noise floor alone. Losses are nats per
token, intervals hold 95 %.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, median
from typing import Any

from bank_ranking import (
    EPOCHS,
    OPTIMIZER,
    RATE,
    SCALE,
    inversion_rows,
    ranking_rows,
    regret_rows,
    strata,
)

from model.config.config import MULTIPLIER
from model.config.setting import Value
from sweep.format import table
from sweep.noise import pooled_deviation
from sweep.replay.curves import Curve

SEED = "train.seed"
TOP = 8
DECIDED = 1.96 * math.sqrt(2)  # SDs between seeds by which two runs must differ

Key = tuple[tuple[str, Value], ...]


def cell_of(curve: Curve) -> Key:
    """What the run has in common with its other seeds."""
    return tuple((name, value) for name, value in curve.settings.items() if name != SEED)


def by_cell(curves: Sequence[Curve]) -> dict[Key, list[Curve]]:
    """Runs by cell, lowest seed first."""
    cells: dict[Key, list[Curve]] = defaultdict(list)
    for curve in sorted(curves, key=lambda c: int(c.settings[SEED])):  # type: ignore[arg-type]
        cells[cell_of(curve)].append(curve)
    return dict(cells)


@dataclass(frozen=True)
class SeedDeviation:
    """How far final losses of one cell lie apart between its seeds, pooled over cells."""

    sd: float  # standard deviation, nats per token
    freedom: int  # degrees of freedom
    cells: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, if losses are normal and equally noisy in all cells."""
        low, high = (chi_square_quantile(p, self.freedom) for p in (0.975, 0.025))
        return self.sd * math.sqrt(self.freedom / low), self.sd * math.sqrt(self.freedom / high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.sd:.4f} ({low:.4f} to {high:.4f}), {self.cells} cells, df {self.freedom}"


def chi_square_quantile(p: float, freedom: int) -> float:
    """Wilson and Hilferty's approximation (1931), within 1 % from 5 degrees of freedom on."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + NormalDist().inv_cdf(p) * math.sqrt(spread)) ** 3


def seed_deviation(cells: Sequence[Sequence[Curve]]) -> SeedDeviation | None:
    """Of the cells with several seeds, none of which diverged; None if there is no such cell."""
    finals = [[c.final for c in cell] for cell in cells if len(cell) > 1]
    finals = [losses for losses in finals if all(map(math.isfinite, losses))]
    deviation, freedom = pooled_deviation(finals)
    return SeedDeviation(deviation, freedom, len(finals)) if freedom else None


def noise_lines(cells: Mapping[Key, list[Curve]]) -> Iterator[str]:
    groups = {"all repeated cells": list(cells.values())}
    best = sorted(cells.values(), key=lambda cell: cell[0].final)
    groups["of them in the best tenth"] = best[: len(best) // 10]
    for epochs in sorted({dict(key)[EPOCHS] for key in cells}, key=float):  # type: ignore[arg-type]
        groups[f"{epochs} epochs"] = [c for key, c in cells.items() if dict(key)[EPOCHS] == epochs]
    for name, group in groups.items():
        yield f"  {name}: {seed_deviation(group) or 'no cell with two seeds'}"


def best_rows(cells: Mapping[Key, list[Curve]]) -> list[list[str]]:
    order = sorted(cells.items(), key=lambda entry: entry[1][0].final)[:TOP]
    rows = [["final", "mean of seeds", "gap", "EFLOPs", *(name for name, _ in order[0][0])]]
    for key, runs in order:
        first = runs[0]
        average = f"{mean(r.final for r in runs):.4f} of {len(runs)}" if len(runs) > 1 else "-"
        gap = f"{first.final - first.train[-1]:.2f}"
        cost = f"{first.flops / 1e18:.2g}"
        rows.append([f"{first.final:.4f}", average, gap, cost, *(f"{v}" for _, v in key)])
    return rows


def epoch_rows(grid: Sequence[Curve]) -> list[list[str]]:
    """The final loss by epochs at each decay: mean over sizes, of each size's best recipe.

    The last columns count, over sizes, optimizers and rates, where the best epoch count lies.
    """
    lengths = sorted({int(c.settings[EPOCHS]) for c in grid})  # type: ignore[arg-type]
    decays = sorted({float(c.settings[MULTIPLIER]) for c in grid})  # type: ignore[arg-type]
    heads = [f"{n} epochs" for n in lengths]
    rows = [["decay", *heads, *(f"best at {n}" for n in lengths), "gap at the most"]]
    for decay in decays:
        alike = [c for c in grid if c.settings[MULTIPLIER] == decay]
        row = []
        for n in lengths:
            sizes = strata([c for c in alike if c.settings[EPOCHS] == n], (SCALE,))
            row.append(f"{mean(min(c.final for c in s) for s in sizes):.3f}" if sizes else "-")
        groups = [g for g in strata(alike, (OPTIMIZER, RATE, SCALE)) if len(g) == len(lengths)]
        winners: list[Any] = [min(g, key=lambda c: c.final).settings[EPOCHS] for g in groups]
        counts = [f"{winners.count(n)} of {len(winners)}" for n in lengths]
        gaps = [c.final - c.train[-1] for c in alike if c.settings[EPOCHS] == lengths[-1]]
        rows.append([f"{decay:g}", *row, *counts, f"{median(gaps):.2f}" if gaps else "-"])
    return rows


def cost_line(curves: Sequence[Curve]) -> str:
    flops, seconds = [c.flops for c in curves], [c.seconds for c in curves]
    low, high = min(flops), max(flops)
    return (
        f"{len(curves)} runs of {low:.2g} to {high:.2g} FLOPs ({high / low:.0f} times), "
        f"{sum(flops):.3g} in all; {min(seconds):.0f} to {max(seconds):.0f} s, "
        f"{sum(seconds) / 3600:.1f} hours in all"
    )


def describe(curves: Sequence[Curve]) -> str:
    """All of it, as text."""
    cells = by_cell(curves)
    grid, floor = [runs[0] for runs in cells.values()], seed_deviation(list(cells.values()))
    parts = [
        f"Costs: {cost_line(curves)}",
        "Noise floor, SD of final losses between seeds:\n" + "\n".join(noise_lines(cells)),
        f"Best of {len(grid)} cells (the lowest of many flatters itself; see the means):\n"
        + table(best_rows(cells)),
        "Final loss, best recipe of each size, mean over sizes; where the best epoch count lies:\n"
        + table(epoch_rows(grid)),
        "Spearman of the loss at a fraction of the schedule with the final one, mean over strata:\n"
        + table(ranking_rows(grid)),
        "Wrongly ranked at a fraction, of pairs alike but in decay that differ beyond noise:\n"
        + table(inversion_rows(grid, DECIDED * floor.sd if floor else 0.0)),
        "Final loss above the best, had only the leader at that fraction been finished:\n"
        + table(regret_rows(grid)),
    ]
    return "\n\n".join(parts)
