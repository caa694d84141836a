"""Several networks that predict as one.

Shapes: B sequences, T tokens each, V vocabulary, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig
from model.network.gpt import GPT
from model.network.loss import cross_entropy

PROBABILITIES, LOGITS = "probabilities", "logits"  # what is averaged


class Mixture(nn.Module):
    """The weighted mean of what networks of one vocabulary predict; a teacher, or a model to use.

    Of probabilities, or of logits, which is the geometric mean of probabilities, scaled to sum
    to 1. One network computes after another, and no more than two distributions are in memory.
    """

    def __init__(
        self, gpts: Sequence[GPT | Mixture], weights: Sequence[float], average: str = PROBABILITIES
    ) -> None:
        """weights: of each network, above 0; they are scaled to sum to 1."""
        super().__init__()
        self.members = nn.ModuleList(gpts)
        self.weights = [weight / math.fsum(weights) for weight in weights]
        self.average = average
        # No more is read at once than each of them can.
        self.config: GPTConfig = min((gpt.config for gpt in gpts), key=lambda config: config.reach)

    @property
    def reads_on(self) -> bool:
        """Whether it reads a text of any length."""
        return all(bool(gpt.reads_on) for gpt in self.members)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Log-probabilities (B, T, V) in fp32 of the token after each of `tokens_BT`."""
        total_BTV: Tensor | None = None
        for gpt, weight in zip(self.members, self.weights, strict=True):
            own_BTV = F.log_softmax(gpt(tokens_BT), dim=-1)
            if self.average == LOGITS:
                own_BTV = own_BTV * weight
                total_BTV = own_BTV if total_BTV is None else total_BTV + own_BTV
            else:
                own_BTV = own_BTV + math.log(weight)
                total_BTV = own_BTV if total_BTV is None else torch.logaddexp(total_BTV, own_BTV)
        assert total_BTV is not None
        return F.log_softmax(total_BTV, dim=-1) if self.average == LOGITS else total_BTV

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of every target token, (B, T) nats."""
        if self.average == LOGITS:
            return cross_entropy(self(tokens_BT), targets_BT)
        terms = [
            math.log(weight) - _losses(gpt, tokens_BT, targets_BT)
            for gpt, weight in zip(self.members, self.weights, strict=True)
        ]
        return -torch.logsumexp(torch.stack(terms), dim=0)


def _losses(gpt: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
    assert isinstance(gpt, GPT | Mixture)
    return gpt.losses(tokens_BT, targets_BT)
