"""Where the field found the best, as what to expect of a point before any trial has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sweep.search.features import EPOCHS, PARAMETERS, TAU, TOKENS
from sweep.search.kernel import Array
from sweep.search.surrogate import TALL

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


def expectation(placed: Sequence[Mapping[str, float]]) -> tuple[Array, Array]:
    """What to expect of N points before any trial, by their features.

    Nats above the best, (N,): a bowl; 0 where there are more tokens per parameter than in any
    published optimum of this regime. And (N, 3), by how much that may be off together: one standard
    deviation of how steep the bowl is, and of where its bottom lies, in decay and in epochs. All
    walls are lowered as those of the losses are.
    """
    rows, doubts = [], []
    for at in placed:
        scarce = at[TOKENS] - at[PARAMETERS] <= math.log2(MOST_TOKENS)
        decay = min(max(at[TAU] - BEST_TIMESCALE, -FARTHEST), FARTHEST)
        short = min(max(0.0, ENOUGH_EPOCHS - at[EPOCHS]), FARTHEST)
        rise = STEEPNESS * (decay**2 + short**2) * scarce
        lowered = 1 / (1 + rise / TALL)
        slope = 2 * STEEPNESS * scarce * lowered
        rows.append(TALL * math.log1p(rise / TALL))
        doubts.append([rise * lowered * AMPLITUDE, slope * decay * SHIFT, slope * short * SHIFT])
    return np.array(rows, dtype=float), np.array(doubts, dtype=float).reshape(len(placed), 3)
