"""A loss by stretches of text, and how sure a mean over such stretches is. C clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where it is used: `sweep --help` reaches this module
    import numpy as np


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
        return math.sqrt(clustered(self.loss_C, self.token_C).value)

    @cached_property
    def loss_C(self) -> np.ndarray:
        import numpy as np

        return np.array(self.losses)

    @cached_property
    def token_C(self) -> np.ndarray:
        import numpy as np

        return np.array(self.tokens)


def read_clusters(clusters: Mapping[str, Any]) -> Clusters:
    """Clusters from what a checkpoint or a journal has of them."""
    return Clusters(clusters["kind"], tuple(clusters["tokens"]), tuple(clusters["losses"]))


@dataclass(frozen=True)
class Variance:
    """Of an estimate, and with how many degrees of freedom it is known."""

    value: float
    freedom: float


def clustered(loss_C: np.ndarray, token_C: np.ndarray) -> Variance:
    """Of the mean over all tokens, from the mean in each cluster; of rows (S, C), their mean one.

    A deviation is divided by sqrt(1 - the cluster's share of tokens), and the freedom is what makes
    a chi-square of such a sum: CR2 with the degrees of freedom of Bell and McCaffrey (Survey
    Methodology, 2002), which Cameron and Miller (2015, section VI.D) advise where clusters are few
    or unequal. For a mean both have a closed form; with equal clusters they are C / (C - 1) and
    C - 1. One cluster alone tells nothing: the variance is infinite.
    """
    import numpy as np

    if len(token_C) < 2:
        return Variance(math.inf, 1.0)
    share_C = token_C / token_C.sum()
    off_SC = np.atleast_2d(loss_C)
    off_SC = off_SC - (off_SC @ share_C)[:, None]
    value = float(((off_SC * share_C) ** 2 / (1 - share_C)).sum(axis=1).mean())
    fourth = (share_C**4 / (1 - share_C) ** 2).sum()
    across = (share_C**2 / (1 - share_C)).sum()
    return Variance(value, float(1 / ((share_C**2).sum() + across**2 - fourth)))
