"""How fast networks read: tokens a second of forward passes alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from model.data.batches import windows
from model.training.device import Runtime
from model.training.trained import Trained

TOKENS_AT_ONCE = 4096
ROUNDS = 5


@torch.no_grad()
def forward_speeds(networks: Sequence[Trained], tokens: np.ndarray, where: Runtime) -> list[float]:
    """Tokens a second of each network, the fastest of some rounds in which they take turns.

    So what else the machine does meanwhile hits all of them alike.
    """
    best = [0.0] * len(networks)
    for turn in range(1 + ROUNDS):  # the first warms up
        for number, its in enumerate(networks):
            context = min(its.config.gpt.reach, len(tokens) - 1)
            starts = np.arange(max(1, min(TOKENS_AT_ONCE, len(tokens) - 1) // context)) * context
            x_BT, _ = windows(tokens, starts, context)
            x = torch.from_numpy(x_BT).to(where.device)
            with where.autocast():
                began = time.perf_counter()
                # Read back, so that a device has done it.
                float(its.gpt(x)[0, 0, 0])
                seconds = time.perf_counter() - began
            if turn and seconds:
                best[number] = max(best[number], x_BT.size / seconds)
    return best
