"""What happens between the cycles of a run whose rate falls again and again.

Each cycle ends in a quiet place, a network of its own that `train.average_cycles` takes; the next
one leaves it, with the optimizers' state as it is. Noise on the weights sends it further away, so
that the networks differ more, and the one before may teach the next (slowrun #90).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.config import Config
from model.network import GPT

if TYPE_CHECKING:
    from model.training.teacher import Predecessor


def cycle_begun(config: Config, step: int) -> int:
    """Which cycle begins with step `step`, the cycles counted from 0; 0 if none but the first."""
    cycle, into = divmod(step, config.epochs_per_cycle * config.steps_per_epoch)
    return 0 if into else cycle


def noise_before(config: Config, cycle: int) -> float:
    """Standard deviation of the noise before `cycle`, as a multiple of that of each tensor.

    Half a cosine from `optim.cycle_noise` before cycle 1 to `optim.cycle_noise_last` before the
    last one.
    """
    optim = config.optim
    done = (cycle - 1) / max(1, optim.cycles - 2)
    left = (1 + math.cos(math.pi * done)) / 2
    return optim.cycle_noise_last + left * (optim.cycle_noise - optim.cycle_noise_last)


@torch.no_grad()
def begin_cycle(
    gpt: GPT, config: Config, step: int, predecessor: Predecessor | None = None
) -> None:
    """Put noise on the weights if a cycle begins with step `step`, the first excepted.

    predecessor   becomes what `gpt` is before the noise
    Drawn from (seed, cycle) on the CPU, the same on every device and after every stop. A tensor of
    equal numbers gets none: it has no scale of its own.
    """
    cycle = cycle_begun(config, step)
    if cycle and predecessor:
        predecessor.succeed(gpt, cycle)
    noise = noise_before(config, cycle) if cycle else 0.0
    if not noise:
        return
    seed = np.random.SeedSequence([config.train.seed, cycle]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(seed))
    for parameter in gpt.parameters():
        if parameter.numel() > 1:
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.addcmul_(drawn, noise * parameter.std())
