"""What more members bring: the loss of K of them, and where it ends.

The curve is of any K of n members, alike weighted: its mean over many choices. Were they drawn
from endlessly many of their kind, that is an unbiased estimate of what K of these come to
(Hoeffding 1948). What is averaged away falls as 1 / K; Kim et al. (2509.14786) measured exponents
of 1.02. Arrays: n members, N targets, C clusters, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.clusters import clusters

DRAWS = 2000
FEWEST = 3  # members, for a line through two numbers to be asked anything
ORDERS = 4  # of the members; each is turned round so that every one is the first as often
MANY = 1 << 22  # tokens, of which one order says as much as several of fewer


@dataclass(frozen=True)
class MemberCurve:
    """Losses in nats per token, on the tokens that nothing was chosen on."""

    members: tuple[str, ...]
    losses: tuple[float, ...]  # of 1, 2, ... n of them
    limit: float  # what endlessly many would come to
    fall: float  # the fitted curve is limit + fall / K
    misfit: float  # how far it is from the loss it fits worst
    # 95 % intervals by bootstrap over stretches of text, of differences on the same text
    gain: tuple[float, float]  # of the limit over one member
    left: tuple[float, float]  # of the limit over all of them

    def at(self, members: int) -> float:
        """The fitted loss of so many."""
        return self.limit + self.fall / members


def member_curve(
    names: Sequence[str], log_probs_KN: np.ndarray, offsets_D: np.ndarray
) -> MemberCurve | None:
    """The curve of these members; None if they are too few for one.

    offsets_D   where each document of the targets begins, and last the end
    """
    n = len(names)
    if n < FEWEST:
        return None
    _, begin_C = clusters(offsets_D, log_probs_KN.shape[1])
    token_C = np.diff(np.append(begin_C, log_probs_KN.shape[1]))
    loss_nC = _losses(log_probs_KN, begin_C) / token_C
    loss_n = loss_nC @ token_C / token_C.sum()
    limit, fall = _fit(loss_n[:, None])[:, 0]
    drawn_DC = np.random.default_rng(0).multinomial(
        len(token_C), np.full(len(token_C), 1 / len(token_C)), DRAWS
    )
    weight_DC = drawn_DC * token_C
    loss_nD = loss_nC @ (weight_DC / weight_DC.sum(axis=1, keepdims=True)).T
    limit_D = _fit(loss_nD)[0]
    return MemberCurve(
        tuple(names),
        tuple(map(float, loss_n)),
        float(limit),
        float(fall),
        float(np.abs(limit + fall / np.arange(1, n + 1) - loss_n).max()),
        _interval(loss_nD[0] - limit_D),
        _interval(loss_nD[-1] - limit_D),
    )


def _losses(log_probs_KN: np.ndarray, begin_C: np.ndarray) -> np.ndarray:
    """Summed losses (n, C) of the first 1 to n members, mean over orders of them."""
    n, tokens = log_probs_KN.shape
    random, sum_nC, orders = np.random.default_rng(0), np.zeros((n, len(begin_C))), 0
    for _ in range(max(1, min(ORDERS, MANY // tokens))):
        order = random.permutation(n)
        for turn in range(n):
            total_N = np.full(tokens, -np.inf)
            for place, member in enumerate(np.roll(order, turn)):
                np.logaddexp(total_N, log_probs_KN[member], out=total_N)
                mixed_N = np.log(place + 1) - total_N
                sum_nC[place] += np.add.reduceat(mixed_N, begin_C)
            orders += 1
    return sum_nC / orders


def _fit(loss_nD: np.ndarray) -> np.ndarray:
    """Limit and fall (2, D) of the least squares through each column."""
    n = len(loss_nD)
    design_n2 = np.column_stack([np.ones(n), 1 / np.arange(1, n + 1)])
    return np.asarray(np.linalg.lstsq(design_n2, loss_nD, rcond=None)[0])


def _interval(values_D: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values_D, [0.025, 0.975])
    return float(low), float(high)
