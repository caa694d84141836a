"""How many times more data a plain baseline would need to reach a loss.

The metric is NanoGPT Slowrun's: straight lines, in tokens, between measured baseline points.
`power_law` reads the same off a fitted curve, `bootstrap` says how sure either is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

from sweep.records import BaselineRun

BaselineCurve = Sequence[tuple[float, float]]  # (tokens, nats per token), tokens rising


@dataclass(frozen=True)
class Multiplier:
    """A data-efficiency multiplier, and whether it lies beyond what was measured."""

    value: float  # clamped to the measured range
    side: str = ""  # "<" below it, ">" above it, "" inside

    def __str__(self) -> str:
        return f"{self.side}{self.value:.3g}x" if self.side else f"{self.value:.2f}x"


def multiplier(loss: float, baseline: BaselineCurve, train_tokens: int) -> Multiplier:
    """Tokens the baseline needs for `loss` (nats per token), over `train_tokens`.

    Outside the measured points the nearest one is given with its side, never an extrapolation: a
    multiplier read off a line nobody measured is the first number that would be quoted.
    """
    return read_off(loss, falling(baseline), train_tokens)


def read_off(loss: float, points: BaselineCurve, train_tokens: int) -> Multiplier:
    """The same, of `falling` points: for many losses."""
    (least_tokens, highest), (most_tokens, lowest) = points[0], points[-1]
    if not loss <= highest:  # a loss that is not a number lands here too
        return Multiplier(least_tokens / train_tokens, "<")
    if loss < lowest:
        return Multiplier(most_tokens / train_tokens, ">")
    for (tokens_a, loss_a), (tokens_b, loss_b) in pairwise(points):
        if loss_b <= loss < loss_a:
            share = (loss_a - loss) / (loss_a - loss_b)
            return Multiplier((tokens_a + share * (tokens_b - tokens_a)) / train_tokens)
    return Multiplier(least_tokens / train_tokens)


def within(tokens: float, baseline: BaselineCurve, train_tokens: int) -> Multiplier:
    """`tokens` of the baseline over `train_tokens`, clamped to the measured token counts."""
    least, most = baseline[0][0], baseline[-1][0]
    if not tokens >= least:
        return Multiplier(least / train_tokens, "<")
    if tokens > most:
        return Multiplier(most / train_tokens, ">")
    return Multiplier(tokens / train_tokens)


def falling(baseline: BaselineCurve) -> list[tuple[float, float]]:
    """The baseline with noise upwards removed: with more data it could always use less of it."""
    lowest = accumulate((loss for _, loss in baseline), min)
    return [(tokens, loss) for (tokens, _), loss in zip(baseline, lowest, strict=True)]


def best_of_sizes(runs: Iterable[BaselineRun]) -> list[tuple[float, float]]:
    """The baseline curve: at each token count the best size, each size the mean of its repeats.

    A plain recipe may choose its size, as in Slowrun's table. Runs that diverged are left out.
    """
    cells: dict[tuple[float, float], list[float]] = {}
    for run in runs:
        if math.isfinite(run.loss):
            cells.setdefault((run.tokens, run.size), []).append(run.loss)
    best: dict[float, float] = {}
    for (tokens, _), losses in cells.items():
        best[tokens] = min(best.get(tokens, math.inf), fmean(losses))
    return sorted(best.items())
