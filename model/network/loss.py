"""What training minimises: cross-entropy of the next token, and of later ones on request.

Beside the text a teacher's predictions can be learned.
"""

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


def distillation(logits_BTV: Tensor, teacher_BTV: Tensor, temperature: float) -> Tensor:
    """How far predictions are from the teacher's, (B, T) nats: 0 where both are the same.

    teacher_BTV   its logits or log-probabilities
    temperature   softens both; the square that it is multiplied by keeps its gradient about as
                  large as that of the text (Hinton et al. 2015, 1503.02531)
    """
    own_BTV = F.log_softmax(logits_BTV / temperature, dim=-1)
    its_BTV = F.log_softmax(teacher_BTV / temperature, dim=-1)
    apart_BTV = F.kl_div(own_BTV, its_BTV, reduction="none", log_target=True)
    return temperature**2 * apart_BTV.sum(-1)
