"""Learning rate, weight decay and momentum as pure functions of the fraction of the run done.

A step takes what holds where it begins: the step after `n` of `N` has done n / N of the run.
"""

from __future__ import annotations

import math
from itertools import pairwise

from model.config import OptimConfig

CYCLE_FLOOR = 0.05  # of the peak: where each cycle of the tail ends (slowrun #56)
ROUNDING = 1e-6  # of an epoch, far less than a step: 18/22 x 22 need not be 18 in floating point


def rate(optim: OptimConfig, done: float, epochs: int, one_step: float = 0.0) -> float:
    """Share of the peak rate at fraction `done` of a run of `epochs`, in [0, 1].

    one_step  of the run, as a fraction

    Rises linearly over `optim.warmup` or `optim.warmup_epochs`, then falls to `optim.final_rate` at
    the end. That is zero unless asked otherwise: a floor costs about 0.03 nats in multi-epoch runs,
    as published logs show. The rise counts the step that begins, (n + 1) / (W + 1) for W steps of
    warmup, as nanoGPT has it: so no step has rate 0, neither the first nor, as the fall counts from
    `done`, the last. schedule_free has no fall; its average takes the fall's place (arXiv
    2405.15682).
    """
    rounding = ROUNDING / epochs if optim.warmup_epochs else 0.0
    if done < optim.rise(epochs) - rounding:
        return _risen(optim, done, epochs, one_step)
    if optim.name == "schedule_free":
        return 1.0
    base = optim.final_rate + (1 - optim.final_rate) * _left(optim, done, epochs)
    if optim.cycle_epochs and done * epochs >= epochs - optim.cycle_epochs - ROUNDING:
        return _cycle(base, done * epochs)
    return base


def _risen(optim: OptimConfig, done: float, epochs: int, one_step: float) -> float:
    """The rate before the end of the warmup.

    One in epochs is computed in whole steps: runs of other lengths, which begin alike, must come to
    the same number to the last bit.
    """
    if not (optim.warmup_epochs and one_step):
        rise = optim.rise(epochs)
        return (done + one_step) / (rise + one_step)
    per_epoch = round(1 / (one_step * epochs))
    return (round(done / one_step) + 1) / (optim.warmup_epochs * per_epoch + 1)


def _left(optim: OptimConfig, done: float, epochs: int) -> float:
    """What is left of the fall: 1 before it, 0 at the end."""
    rise = optim.rise(epochs)
    since_warmup = (done - rise) / (1 - rise)
    of_warmdown = min(1.0, (1 - done) / optim.warmdown)
    match optim.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * since_warmup))
        case "linear":
            return 1 - since_warmup
        case "cyclic":
            cycle = min(math.floor(done * optim.cycles + ROUNDING), optim.cycles - 1)
            if cycle == 0:  # what of it is left after the warmup
                return 1 - (done - rise) / (1 / optim.cycles - rise)
            return 1 - max(0.0, done * optim.cycles - cycle)
        case "constant_linear":
            return of_warmdown
        case "constant_1-sqrt":
            return 1 - math.sqrt(1 - of_warmdown)
        case "constant_sqrt":
            return math.sqrt(of_warmdown)
    return 1.0


def _cycle(base: float, epoch: float) -> float:
    """Half a cosine in each epoch, from `base` to a floor: every epoch ends in a quiet place.

    The checkpoints of those ends are what averaging takes (slowrun #56). `epoch` is the passes
    done; a whole number begins a cycle.
    """
    position = max(0.0, epoch - math.floor(epoch + ROUNDING))
    top = max(base, CYCLE_FLOOR)
    return CYCLE_FLOOR + (top - CYCLE_FLOOR) * (1 + math.cos(math.pi * position)) / 2


def decay(optim: OptimConfig, done: float, epochs: int) -> float:
    """Multiple of `optim.weight_decay` at fraction `done`; the rate is not part of it."""
    match optim.decay_schedule:
        case "piecewise":
            return _between(optim.decay_curve, done)
        case "rising":
            floor = min(optim.final_rate, 1 - ROUNDING)
            above = (rate(optim, done, epochs) - floor) / (1 - floor)  # 1 at the peak, 0 at the end
            return 1 - (1 - optim.decay_low) * max(0.0, above)
    return 1.0


def _between(curve: tuple[tuple[float, float], ...], done: float) -> float:
    """The curve at `done`: straight lines between its points, level outside them."""
    if done <= curve[0][0]:
        return curve[0][1]
    for (at_a, a), (at_b, b) in pairwise(curve):
        if done <= at_b:
            return a + (b - a) * (done - at_a) / (at_b - at_a)
    return curve[-1][1]


def momentum(optim: OptimConfig, done: float) -> float:
    """Muon's momentum: rises linearly from its start over `optim.momentum_warmup`."""
    if done >= optim.momentum_warmup:
        return optim.momentum
    risen = done / optim.momentum_warmup
    return optim.momentum_start + risen * (optim.momentum - optim.momentum_start)
