"""What training minimises: cross-entropy of the next token, and of later ones on request."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.config import GPTConfig

OFFSETS = 2  # tokens beyond the next that the same logits predict (slowrun #93)


def offset_weights(config: GPTConfig, done: float) -> list[float]:
    """Loss weights of the second and third token ahead at fraction `done` (slowrun #93).

    The farthest fades out over the first half of `mtp_until`, the next over the second half.
    """
    weights = []
    for offset in range(1, OFFSETS + 1):
        span = config.mtp_until / OFFSETS
        begins = (OFFSETS - offset) * span
        left = min(1.0, max(0.0, 1 - (done - begins) / span))
        weights.append(config.mtp_weight**offset * left)
    return weights


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """(B, T) nats."""
    flat = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
    return flat.view_as(targets_BT)
