"""How well a loss in the middle of a run ranks the final ones, for several signals and peers.

Rank correlations are Spearman's, intervals hold 95 %, losses are nats per token.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import mean

import numpy as np

from model.config.config import MULTIPLIER
from model.config.setting import Value
from sweep.replay.curves import Curve

EPOCHS, OPTIMIZER, RATE, SCALE = "train.epochs", "optim.name", "optim.lr", "gpt.scale"
FRACTIONS = (2_500, 5_000, 7_500, 9_000)  # basis points of a schedule
DRAWS = 1_000  # of the bootstrap
FEW_STRATA = 10  # fewer are not resampled, but the runs in them


def ranks(values: Sequence[float]) -> np.ndarray:
    """From 0, the mean of their ranks for equal values; infinities are equal to each other."""
    array = np.asarray(values)
    return (array[:, None] > array).sum(1) + ((array[:, None] == array).sum(1) - 1) / 2


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; not a number if either is all the same."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size else math.nan


def at(curve: Curve, losses: Sequence[float], mark: int) -> float:
    """The last of `losses` at or before `mark`; inf once the run has diverged."""
    seen = [loss for m, loss in zip(curve.marks, losses, strict=True) if m <= mark]
    return seen[-1] if seen and not math.isnan(seen[-1]) else math.inf


SIGNALS: Mapping[str, Callable[[Curve, int], float]] = {
    "raw": lambda curve, mark: at(curve, curve.raw, mark),
    "EMA": lambda curve, mark: at(curve, curve.ema, mark),
}
STRATA: Mapping[str, tuple[str, ...]] = {
    "whole grid": (),
    "equal epochs": (EPOCHS,),
    "equal epochs and optimizer": (EPOCHS, OPTIMIZER),
    "all equal but decay": (EPOCHS, OPTIMIZER, RATE, SCALE),
}


def strata(grid: Sequence[Curve], names: Sequence[str]) -> list[list[Curve]]:
    """Runs that are alike in the settings `names`."""
    groups: dict[tuple[Value, ...], list[Curve]] = defaultdict(list)
    for curve in grid:
        groups[tuple(curve.settings[name] for name in names)].append(curve)
    return [group for group in groups.values() if len(group) > 1]


def mean_spearman(groups: Sequence[Sequence[Curve]], signal: str, mark: int) -> float:
    """Of the signal at `mark` with the final loss, the mean over strata."""
    rhos = [
        spearman([SIGNALS[signal](c, mark) for c in group], [c.final for c in group])
        for group in groups
    ]
    rhos = [rho for rho in rhos if not math.isnan(rho)]
    return mean(rhos) if rhos else math.nan


def gain(groups: Sequence[Sequence[Curve]], mark: int) -> tuple[float, float, float]:
    """How much better the EMA ranks than the last weights, and its bootstrap interval.

    Strata are resampled; where they are few, the runs in each of them.
    """

    def difference(drawn: Sequence[Sequence[Curve]]) -> float:
        return mean_spearman(drawn, "EMA", mark) - mean_spearman(drawn, "raw", mark)

    draw = np.random.default_rng(0)
    if len(groups) >= FEW_STRATA:
        each = np.array([difference([group]) for group in groups])
        each = each[~np.isnan(each)]
        means = draw.choice(each, (DRAWS, len(each))).mean(1)
    else:
        means = np.array(
            [
                difference([[g[i] for i in draw.integers(0, len(g), len(g))] for g in groups])
                for _ in range(DRAWS)
            ]
        )
    defined = means[~np.isnan(means)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (math.nan, math.nan)
    return difference(groups), float(low), float(high)


def ranking_rows(grid: Sequence[Curve]) -> list[list[str]]:
    rows = [["strata", "signal", *(f"{mark / 100:g} %" for mark in FRACTIONS)]]
    for name, settings in STRATA.items():
        groups = strata(grid, settings)
        for signal in SIGNALS:
            values = [mean_spearman(groups, signal, mark) for mark in FRACTIONS]
            rows.append([f"{name} ({len(groups)})", signal, *(f"{v:+.2f}" for v in values)])
        gains = [gain(groups, mark) for mark in FRACTIONS]
        cells = [f"{value:+.2f} ({low:+.2f} to {high:+.2f})" for value, low, high in gains]
        rows.append(["", "EMA - raw", *cells])
    return rows


def regret_rows(grid: Sequence[Curve]) -> list[list[str]]:
    """What is lost by finishing only the run that leads at a fraction of its schedule."""
    best = min(curve.final for curve in grid)
    rows = [["leader finished", *(f"{mark / 100:g} %" for mark in FRACTIONS)]]
    for signal, loss in SIGNALS.items():
        leaders = [min(grid, key=lambda c, m=mark: loss(c, m)) for mark in FRACTIONS]  # type: ignore[misc]
        rows.append([signal, *(f"{leader.final - best:+.4f}" for leader in leaders)])
    return rows


def inversion_rows(grid: Sequence[Curve], least: float) -> list[list[str]]:
    """Of pairs alike but in decay, how many a signal ranks wrongly.

    least  nats per token that their final losses must differ by, so that the order is no luck
    """
    rows = [["of pairs where", "signal", *(f"{mark / 100:g} %" for mark in FRACTIONS)]]
    pairs = [
        sorted(pair, key=lambda c: float(c.settings[MULTIPLIER]))  # type: ignore[arg-type]
        for group in strata(grid, STRATA["all equal but decay"])
        for pair in combinations(group, 2)
    ]
    ends = {
        "the stronger decay ends better": [(s, w) for w, s in pairs if s.final < w.final - least],
        "the weaker decay ends better": [(w, s) for w, s in pairs if w.final < s.final - least],
    }
    for name, decided in ends.items():
        for signal, loss in SIGNALS.items():
            wrong = [sum(loss(a, m) > loss(b, m) for a, b in decided) for m in FRACTIONS]
            shares = [f"{count / len(decided):.0%}" if decided else "-" for count in wrong]
            rows.append([f"{name} ({len(decided)})", signal, *shares])
    return rows
