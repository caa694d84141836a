"""Several networks that predict as one.

Shapes: B sequences, T tokens each, V vocabulary, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig
from model.network.cache import Cache
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
        return self._mean(gpt(tokens_BT) for gpt in self.members)

    def after(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        """Log-probabilities (B, V) of the token after all that `cache` has read and `tokens_BT`."""
        return self._mean(
            _after(gpt, tokens_BT, cache.member(number)) for number, gpt in enumerate(self.members)
        )

    def _mean(self, logits: Iterable[Tensor]) -> Tensor:
        """Log-probabilities (..., V) of the mixture, for logits (..., V) of each member."""
        total: Tensor | None = None
        for its, weight in zip(logits, self.weights, strict=True):
            own = F.log_softmax(its, dim=-1)
            if self.average == LOGITS:
                own = own * weight
                total = own if total is None else total + own
            else:
                own = own + math.log(weight)
                total = own if total is None else torch.logaddexp(total, own)
        assert total is not None
        return F.log_softmax(total, dim=-1) if self.average == LOGITS else total

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of every target token, (B, T) nats."""
        if self.average == LOGITS:
            return cross_entropy(self(tokens_BT), targets_BT)
        terms = [
            math.log(weight) - _losses(gpt, tokens_BT, targets_BT)
            for gpt, weight in zip(self.members, self.weights, strict=True)
        ]
        return -torch.logsumexp(torch.stack(terms), dim=0)


def _after(gpt: nn.Module, tokens_BT: Tensor, cache: Cache) -> Tensor:
    assert isinstance(gpt, GPT | Mixture)
    return gpt.after(tokens_BT, cache)


def _losses(gpt: nn.Module, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
    assert isinstance(gpt, GPT | Mixture)
    return gpt.losses(tokens_BT, targets_BT)
