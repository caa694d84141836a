"""A loss by stretches of text, and how sure a mean over such stretches is. C clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Clusters:
    """The loss of a run by stretches of text: all that its errors and comparisons need.

    Tokens of one text are alike, so a run does equally well on them, and two runs differ on them
    alike: what is independent is the text.
    """

    kind: str  # what a stretch is: see model/data/clusters.py
    tokens: tuple[int, ...]  # targets in each
    losses: tuple[float, ...]  # their mean, nats per token

    @property
    def standard_error(self) -> float:
        """Of the loss over all tokens."""
        return math.sqrt(clustered(self.losses, self.tokens).value)


def read_clusters(clusters: Mapping[str, Any]) -> Clusters:
    """Clusters from what a checkpoint or a journal has of them."""
    return Clusters(clusters["kind"], tuple(clusters["tokens"]), tuple(clusters["losses"]))


@dataclass(frozen=True)
class Variance:
    """Of an estimate, and with how many degrees of freedom it is known."""

    value: float
    freedom: float


def clustered(mean_C: Sequence[float], tokens_C: Sequence[int]) -> Variance:
    """Of the mean over all tokens, from the mean in each cluster.

    A deviation is divided by sqrt(1 - the cluster's share of tokens), and the freedom is what makes
    a chi-square of such a sum: CR2 with the degrees of freedom of Bell and McCaffrey (Survey
    Methodology, 2002), which Cameron and Miller (2015, section VI.D) advise where clusters are few
    or unequal. For a mean both have a closed form; with equal clusters they are C / (C - 1) and
    C - 1. One cluster alone tells nothing: the variance is infinite.
    """
    tokens = sum(tokens_C)
    if len(tokens_C) < 2:
        return Variance(math.inf, 1.0)
    mean = math.fsum(m * n for m, n in zip(mean_C, tokens_C, strict=True)) / tokens
    share_C = [n / tokens for n in tokens_C]
    value = math.fsum((h * (m - mean)) ** 2 / (1 - h) for m, h in zip(mean_C, share_C, strict=True))
    squares = math.fsum(h**2 for h in share_C)
    fourth = math.fsum(h**4 / (1 - h) ** 2 for h in share_C)
    across = math.fsum(h**2 / (1 - h) for h in share_C)
    return Variance(value, 1 / (squares + across**2 - fourth))
