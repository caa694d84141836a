"""Where the field found the best, and where the user expects it: what a point promises untried.

Both are bowls of doubtful steepness and place, so that the trials decide how much they count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.config import MULTIPLIER
from model.config.presets import TIMESCALE
from sweep.search.features import EPOCHS, PARAMETERS, TAU, TOKENS
from sweep.search.kernel import Array
from sweep.search.surrogate import TALL
from sweep.space import Hyperparameter, Point

# Where the field found the best, in what travels between networks and corpora: the decay
# timescale of Kim et al. at the peak rate (geometric mean of their 16 optima, all within an
# octave), and at least 8 to 16 epochs. How steeply losses rise from there: nats per octave squared
# of decay, from sweeps on 100M tokens (bentherien's fork of NanoGPT Slowrun, resume.md).
BEST_TIMESCALE = math.log2(0.29)  # epochs
ENOUGH_EPOCHS = 3.5  # log2
STEEPNESS = 0.064
FARTHEST = 4.0  # octaves, from where on nothing is known
MOST_TOKENS = 11.0  # per parameter, in those optima
AMPLITUDE = 0.7  # share by which the bowl may be steeper or flatter, one standard deviation
SHIFT = 1.0  # octaves by which its bottom may lie elsewhere
DECAYS = {MULTIPLIER, TIMESCALE}
# Of what users state, in units of their `within`.
STATED_RISE = 0.05  # nats, one away
STATED_FARTHEST = 4.0
STATED_AMPLITUDE, STATED_SHIFT = 1.0, 1.0


@dataclass(frozen=True)
class Bowl:
    """How far above its bottom one point lies, before walls are lowered."""

    rise: float  # nats
    doubts: tuple[float, ...]  # one standard deviation of that, nats, in independent ways


def expectation(
    placed: Sequence[Mapping[str, float]],
    points: Sequence[Point] = (),
    stated: Sequence[Hyperparameter] = (),
    searched: Sequence[str] = (),
    field: bool = True,
) -> tuple[Array, Array]:
    """What to expect of N points before any trial: nats above the best (N,), and its doubts (N, B).

    placed   their features
    stated   hyperparameters with a prior, whose values `points` have
    searched settings of the space
    field    whether the best is expected where the field found it, too

    All walls are lowered as those of the losses are.
    """
    replaced = {hp.setting for hp in stated}
    if "optim.lr" in replaced and not DECAYS & set(searched):
        replaced |= DECAYS  # where decay is not searched, its timescale is the rate's alone
    bowls_N = [[_field(at, replaced)] if field else [] for at in placed]
    for bowls, point in zip(bowls_N, points, strict=False):
        bowls += [_stated(hp, point) for hp in stated]
    rise_N = np.array([sum(bowl.rise for bowl in bowls) for bowls in bowls_N], dtype=float)
    rows = [[doubt for bowl in bowls for doubt in bowl.doubts] for bowls in bowls_N]
    doubts_NB = np.array(rows, dtype=float).reshape(len(placed), 3 * field + 2 * len(stated))
    return TALL * np.log1p(rise_N / TALL), doubts_NB / (1 + rise_N / TALL)[:, None]


def squares_away(points: Sequence[Point], stated: Sequence[Hyperparameter]) -> Array:
    """How far N points lie from where the user expects the best, in squares of `within`: (N,)."""
    rises = [sum(_stated(hp, point).rise for hp in stated) for point in points]
    return np.array(rises, dtype=float) / STATED_RISE


def _field(at: Mapping[str, float], replaced: set[str]) -> Bowl:
    """The field's bowl, without what the user's word replaces.

    Flat where there are more tokens per parameter than in any published optimum of this regime. In
    doubt are how steep it is, and where its bottom lies, in decay and in epochs.
    """
    scarce = at[TOKENS] - at[PARAMETERS] <= math.log2(MOST_TOKENS)
    decay = min(max(at[TAU] - BEST_TIMESCALE, -FARTHEST), FARTHEST)
    decay *= not replaced & DECAYS
    short = min(max(0.0, ENOUGH_EPOCHS - at[EPOCHS]), FARTHEST) * ("train.epochs" not in replaced)
    rise = STEEPNESS * (decay**2 + short**2) * scarce
    slope = 2 * STEEPNESS * scarce
    return Bowl(rise, (rise * AMPLITUDE, slope * decay * SHIFT, slope * short * SHIFT))


def _stated(hp: Hyperparameter, point: Point) -> Bowl:
    """The bowl that the prior of `hp` means; flat where the point has no value of it."""
    if hp.prior is None or not hp.active(point) or hp.setting not in point:
        return Bowl(0.0, (0.0, 0.0))
    away = min(max(hp.prior.away(point[hp.setting]), -STATED_FARTHEST), STATED_FARTHEST)
    rise = STATED_RISE * away**2
    # What has no order has one step and nowhere to shift to.
    slope = 2 * STATED_RISE * bool(hp.prior.within)
    return Bowl(rise, (rise * STATED_AMPLITUDE, slope * away * STATED_SHIFT))
