"""How sure a multiplier is: the baseline and the trial are drawn again together.

A parametric bootstrap: every baseline run and the trial get noise of their own, the best size is
chosen again, the lines and the law are drawn again. Carrying one side only would halve the interval
(Kim et al. give none for four nested fits). The validation sample is shared by both
sides, so its error cancels and is left out.

Arrays: B draws, P token counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from sweep.records import BaselineRun
from sweep.results.efficiency import (
    BaselineCurve,
    Multiplier,
    best_of_sizes,
    falling,
    multiplier,
    within,
)
from sweep.results.power_law import PowerLaw, fit_law, fit_laws
from sweep.results.significance import CONFIDENCE

DRAWS = 500
# Nats between two runs that differ in their seed, or only in where they ran: 0.0038 in recorded
# multi-epoch runs of one recipe, 0.0002 to 0.005 between Slowrun's authors and its maintainers.
ASSUMED_SD = 0.004


@dataclass(frozen=True)
class Noise:
    """The standard deviation of a final loss between seeds."""

    sd: float | None  # nats per token; None: nobody has measured it, so there are no intervals
    freedom: int = 0  # degrees of freedom it was measured with; 0: stated by the user
    source: str = "stated"

    def __str__(self) -> str:
        if self.sd is None:
            return (
                "between seeds not measured, so there are no intervals. `repeat: 2` in the space, "
                "`baseline: {seeds: 2}` or sweep confirm measures it"
            )
        if self.freedom:
            return f"{self.sd:.4f} nats between seeds, from {self.freedom} repeats"
        return f"{self.sd:.4f} nats between seeds, {self.source}"


@dataclass(frozen=True)
class Estimate:
    """A multiplier with its interval; without one where the noise was not measured."""

    point: Multiplier
    low: Multiplier | None
    high: Multiplier | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return str(self.point)
        if self.low == self.high == self.point:  # outside the baseline for certain
            return str(self.point)
        return f"{self.point} ({self.low} to {self.high})"


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline curve, its law, and both as they might have come out as well."""

    curve: BaselineCurve  # best of sizes
    law: PowerLaw | None
    tokens_P: np.ndarray
    losses_BP: np.ndarray  # never rising
    laws_B: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # floor, scale, exponent
    trial_B: np.ndarray  # nats to add to a trial's loss
    noise_known: bool = True  # without, draws are all alike and multipliers have no interval


def draw(
    runs: Sequence[BaselineRun], noise: Noise, seed: int = 0, of_trials: Noise | None = None
) -> Baseline:
    """The baseline through `runs`, drawn again `DRAWS` times under `noise`.

    of_trials   the noise of the trials measured against it, where it is another

    A standard deviation from few repeats is itself drawn, which makes intervals as wide as
    Student's t makes them.
    """
    runs = [run for run in runs if math.isfinite(run.loss)]
    curve = best_of_sizes(runs)
    random = np.random.default_rng(seed)
    sd_B = drawn_deviations(noise, DRAWS, random)
    of_trials_B = sd_B if of_trials is None else drawn_deviations(of_trials, DRAWS, random)
    trial_B = of_trials_B * random.standard_normal(DRAWS)
    best_BP = np.full((DRAWS, len(curve)), np.inf)
    column = {tokens: p for p, (tokens, _) in enumerate(curve)}
    cells: dict[tuple[float, float], list[float]] = {}
    for run in runs:
        cells.setdefault((run.tokens, run.size), []).append(run.loss)
    for (tokens, _), losses in sorted(cells.items()):
        drawn_B = fmean(losses) + sd_B * random.standard_normal(DRAWS) / math.sqrt(len(losses))
        best_BP[:, column[tokens]] = np.minimum(best_BP[:, column[tokens]], drawn_B)
    tokens_P = np.array([tokens for tokens, _ in curve])
    law = fit_law(curve)
    laws_B = fit_laws(tokens_P, np.maximum(best_BP, 1e-6)) if law else None
    falling_BP = np.minimum.accumulate(best_BP, axis=1)
    return Baseline(curve, law, tokens_P, falling_BP, laws_B, trial_B, noise.sd is not None)


def drawn_deviations(noise: Noise, draws: int, random: np.random.Generator) -> np.ndarray:
    """What the standard deviation may be, nats per token: (B,); zero where nobody knows."""
    sd = noise.sd or 0.0
    if not noise.freedom:
        return np.full(draws, sd)
    return np.asarray(sd * np.sqrt(noise.freedom / random.chisquare(noise.freedom, draws)))


def by_lines(loss: float, baseline: Baseline, train_tokens: int, repeats: float = 1) -> Estimate:
    """Slowrun's multiplier of `loss`, the mean of `repeats` runs, with its interval."""
    point = multiplier(loss, baseline.curve, train_tokens)
    if not baseline.noise_known:
        return Estimate(point, None, None)
    loss_B = loss + baseline.trial_B / math.sqrt(repeats)
    tokens_P, losses_BP = baseline.tokens_P, baseline.losses_BP
    row_B = np.arange(len(loss_B))
    passed_B = (losses_BP > loss_B[:, None]).sum(axis=1)  # points the trial is better than
    a_B, b_B = np.maximum(passed_B - 1, 0), np.minimum(passed_B, len(tokens_P) - 1)
    drop_B = losses_BP[row_B, a_B] - losses_BP[row_B, b_B]
    share_B = (losses_BP[row_B, a_B] - loss_B) / np.where(drop_B > 0, drop_B, 1.0)
    needed_B = tokens_P[a_B] + share_B * (tokens_P[b_B] - tokens_P[a_B])
    needed_B = np.where(loss_B > losses_BP[:, 0], -np.inf, needed_B)
    needed_B = np.where(passed_B == len(tokens_P), np.inf, needed_B)
    return _estimate(point, needed_B, baseline, train_tokens)


def by_law(
    loss: float, baseline: Baseline, train_tokens: int, repeats: float = 1
) -> Estimate | None:
    """Kim et al.'s multiplier: the baseline's fitted law, inverted; None where there is no law.

    Outside the measured token counts it is cut off like the other: the law may go on, nobody has
    looked.
    """
    if baseline.law is None or baseline.laws_B is None:
        return None
    point = within(baseline.law.reach(loss), baseline.curve, train_tokens)
    if not baseline.noise_known:
        return Estimate(point, None, None)
    floor_B, scale_B, exponent_B = baseline.laws_B
    above_B = loss + baseline.trial_B / math.sqrt(repeats) - floor_B
    with np.errstate(over="ignore", divide="ignore"):
        ratio_B = scale_B / np.where(above_B > 0, above_B, 1.0)
        needed_B = np.where(above_B > 0, ratio_B ** (1 / exponent_B), np.inf)
    return _estimate(point, needed_B, baseline, train_tokens)


def widened(lines: Estimate, law: Estimate | None) -> Estimate:
    """`lines` with an interval that holds the law's as well, where there is a law.

    Losses fall along a curve, so lines between measured points lie above it and read too much:
    1.5x as 1.6x between 1x and 2x, as 2.0x between 1x and 4x, on Kim et al.'s curve. Noise knows
    nothing of that. benchmarks/coverage.py simulates how often either interval holds the truth.
    """
    if law is None or not (lines.low and lines.high and law.low and law.high):
        return lines
    low, high = min(lines.low, law.low, key=_place), max(lines.high, law.high, key=_place)
    return Estimate(lines.point, low, high)


def _estimate(
    point: Multiplier, needed_B: np.ndarray, baseline: Baseline, train_tokens: int
) -> Estimate:
    """`point` with the range that holds CONFIDENCE of the draws `needed_B` (tokens), and the point.

    Choosing the best size again pulls draws below the curve, so the point can leave their range.
    """
    if math.isnan(point.value) or not len(falling(baseline.curve)):
        return Estimate(point, point, point)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(needed_B, [tail, 1 - tail], method="closest_observation")
    ends = [within(float(end), baseline.curve, train_tokens) for end in (low, high)]
    return Estimate(point, min(ends[0], point, key=_place), max(ends[1], point, key=_place))


def _place(worth: Multiplier) -> tuple[float, int]:
    """Sorts multipliers, those of equal value by their side."""
    return worth.value, {"<": -1, "": 0, ">": 1}[worth.side]
