"""Averages of one run's weights and predictions, evaluated beside its last weights.

An average over the path of training has less noise than its last point, so it pays most where the
rate is still high (EMA), or where each of the last epochs ends at a low rate (slowrun #50, #57).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.config import TrainConfig
from model.network import GPT
from model.training.evaluate import Evaluation

RAW, EMA, WEIGHTS, PROBABILITIES = "raw", "ema", "weights", "probabilities"


def ema_beta(ema_epochs: float, steps_per_epoch: int) -> float:
    """The share of the EMA that a step leaves.

    The horizon is the time in which a weight's share falls to 1/e. A recipe that gives the factor
    left after an epoch instead, as slowrun tiny does with 0.15 (#43), has the horizon
    1 / ln(1 / 0.15) = 0.527 epochs.
    """
    return math.exp(-1 / (ema_epochs * steps_per_epoch))


class Averages:
    """What `train.ema_epochs`, `average_last` and `average_cycles` ask for, as `gpt` trains.

    Each average of weights is one more copy of them; evaluating one takes a second for a while.
    """

    def __init__(
        self, gpt: GPT, train: TrainConfig, steps_per_epoch: int, averaged_epochs: range
    ) -> None:
        """averaged_epochs: counted from 1, whose ends are averaged, as Config has them."""
        self._parameters: list[Tensor] = list(gpt.parameters())
        self._train, self._ends = train, averaged_epochs
        self._beta = ema_beta(train.ema_epochs, steps_per_epoch) if train.ema_epochs else 0.0
        self._followed = 0  # steps taken into the EMA
        # Starts at zero, which the bias correction takes out (1412.6980, section 3).
        self._shadow = self._zeros() if train.ema_epochs else []
        self._counted = 0.0  # sum of the weights of the ends so far
        self._mean = self._zeros() if train.averages_ends else []
        # Natural log of the weighted mean probability of each of the N validation targets.
        self._mixture_N: Tensor | None = None

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(parameter) for parameter in self._parameters]

    @torch.no_grad()
    def follow(self) -> None:
        """Take the weights after a step into their EMA."""
        if self._shadow:
            self._followed += 1
            torch._foreach_lerp_(self._shadow, self._parameters, 1 - self._beta)

    def takes(self, epoch: int) -> bool:
        """Whether the end of `epoch`, counted from 1, is one of those averaged."""
        return epoch in self._ends

    @torch.no_grad()
    def take(self, epoch: int, log_probs_N: np.ndarray) -> None:
        """Take in the end of `epoch`: its weights, and what they predict.

        Both are kept as running means, so that many epochs need no more memory than one.
        """
        place = self._ends.index(epoch) + 1
        weight = float(place if self._train.average_recency else 1)
        self._counted += weight
        share = weight / self._counted
        torch._foreach_lerp_(self._mean, self._parameters, share)
        new_N = torch.from_numpy(log_probs_N) + math.log(share)
        if self._mixture_N is not None:
            new_N = torch.logaddexp(self._mixture_N + math.log(1 - share), new_N)
        self._mixture_N = new_N

    def evaluate(
        self,
        raw: Evaluation,
        evaluate: Callable[[], Evaluation],
        score: Callable[[np.ndarray], Evaluation],
    ) -> dict[str, Evaluation]:
        """`raw`, that of the last weights, and one of each average there is, by name.

        evaluate  of the weights that are in the network
        score     of predictions
        """
        evaluations = {RAW: raw}
        if self._followed:
            with self._in_place_of_weights(self._shadow, 1 - self._beta**self._followed):
                evaluations[EMA] = evaluate()
        if self._mixture_N is not None:
            with self._in_place_of_weights(self._mean, 1.0):
                evaluations[WEIGHTS] = evaluate()
            evaluations[PROBABILITIES] = score(self._mixture_N.numpy())
        return evaluations

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """The network computes with the weights that `train.evaluate` names; its last if none are.

        Averaged probabilities are of no single network. Of epochs the averaged weights come near;
        ends of cycles are far apart, with nothing good between them: there it is the last.
        """
        averaged = (WEIGHTS,) if self._train.average_cycles else (WEIGHTS, PROBABILITIES)
        if name == EMA and self._followed:
            with self._in_place_of_weights(self._shadow, 1 - self._beta**self._followed):
                yield
        elif name in averaged and self._mixture_N is not None:
            with self._in_place_of_weights(self._mean, 1.0):
                yield
        else:
            yield

    @contextmanager
    def _in_place_of_weights(self, average: list[Tensor], divisor: float) -> Iterator[None]:
        """The network computes with `average` / `divisor`; its own weights come back as they were.

        Written into the parameters' own memory, which compiled code may know by address.
        """
        with torch.no_grad():
            kept = [parameter.clone() for parameter in self._parameters]
            for parameter, value in zip(self._parameters, average, strict=True):
                torch.div(value, divisor, out=parameter)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._parameters, kept)

    def state_tree(self) -> dict[str, Any]:
        """All it takes to go on, for the checkpoint."""
        return {
            "followed": self._followed,
            "shadow": self._shadow,
            "counted": self._counted,
            "mean": self._mean,
            "mixture": self._mixture_N,
        }

    @torch.no_grad()
    def load_state_tree(self, tree: dict[str, Any]) -> None:
        """Go on from `state_tree`."""
        self._followed, self._counted = tree["followed"], tree["counted"]
        self._mixture_N = tree["mixture"]
        for name, ours in (("shadow", self._shadow), ("mean", self._mean)):
            for tensor, saved in zip(ours, tree[name], strict=True):
                tensor.copy_(saved)
