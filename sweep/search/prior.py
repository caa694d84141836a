"""Where the field found the best, as what to expect of a point before any trial has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweep.search.features import (
    EPOCHS,
    PARAMETERS,
    TAU,
    TOKENS,
    features,
)
from sweep.space import Point, Space

# Where the field found the best, in what travels between networks and corpora: the decay
# timescale of Kim et al. at the peak rate (geometric mean of their 16 optima, all within an
# octave), and at least 8 to 16 epochs. How steeply losses rise from there: nats per octave squared
# of decay, from sweeps on 100M tokens (bentherien's fork of NanoGPT Slowrun, resume.md).
BEST_TIMESCALE = math.log2(0.29)  # epochs
ENOUGH_EPOCHS = 3.5  # log2
STEEPNESS = 0.064
FARTHEST = 4.0  # octaves, from where on nothing is known
MOST_TOKENS = 11.0  # per parameter, in those optima


def expected_rise(space: Space, points: Sequence[Point]) -> list[float]:
    """How far each point is expected to be above the best, in nats, before any trial: a bowl.

    0 where there are more tokens per parameter than in any published optimum of this regime.
    """
    rises = []
    for point in points:
        at = features({**space.fixed, **point})
        scarce = at[TOKENS] - at[PARAMETERS] <= math.log2(MOST_TOKENS)
        decay = min(abs(at[TAU] - BEST_TIMESCALE), FARTHEST)
        short = min(max(0.0, ENOUGH_EPOCHS - at[EPOCHS]), FARTHEST)
        rises.append(STEEPNESS * (decay**2 + short**2) if scarce else 0.0)
    return rises
