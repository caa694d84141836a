"""A data law fitted to baseline points: loss = floor + scale / tokens^exponent.

Kim et al. (2509.14786) measure data efficiency by inverting it. Fitted as Hoffmann et al.
(2203.15556) fit theirs: Huber's loss on the relative residual, so that one odd point does not bend
the curve. Given the exponent the law is linear in the other two, so only the exponent is searched.

Arrays: B curves, G exponents tried, P points of a curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweep.results.efficiency import BaselineCurve

FEWEST_POINTS = 3  # as many as the law has constants
HUBER = 1e-3  # relative residual from which a point pulls no harder
EXPONENTS = (0.02, 4.0)  # published data laws lie between 0.1 and 0.6
TRIED_AT_ONCE, REFINEMENTS, REWEIGHTINGS = 24, 8, 10


@dataclass(frozen=True)
class DataLaw:
    """What a recipe's loss does as it gets more unique data."""

    floor: float  # nats per token with endless data
    scale: float  # nats per token above it at one token
    exponent: float

    def loss(self, tokens: float) -> float:
        """Nats per token with `tokens` of data."""
        return float(self.floor + self.scale * tokens**-self.exponent)

    def tokens(self, loss: float) -> float:
        """Data needed for `loss`; infinite at the floor and below."""
        if not loss > self.floor:
            return math.inf if loss <= self.floor else math.nan
        return float((self.scale / (loss - self.floor)) ** (1 / self.exponent))

    def __str__(self) -> str:
        at_million = self.scale * 1e6**-self.exponent
        return f"{self.floor:.3f} + {at_million:.3g} / (tokens/1M)^{self.exponent:.3g}"


def misfit(law: DataLaw, baseline: BaselineCurve) -> float:
    """How far the law is from the point it fits worst, nats per token."""
    return max(abs(law.loss(tokens) - loss) for tokens, loss in baseline)


def fit_law(baseline: BaselineCurve) -> DataLaw | None:
    """The law nearest to the points; None if they are too few, or do not fall."""
    if len(baseline) < FEWEST_POINTS or baseline[-1][1] >= baseline[0][1]:
        return None
    tokens_P, losses_P = np.array(baseline, dtype=float).T
    floor_B, scale_B, exponent_B = fit_laws(tokens_P, losses_P[None])
    return DataLaw(float(floor_B[0]), float(scale_B[0]), float(exponent_B[0]))


def fit_laws(
    tokens_P: np.ndarray, losses_BP: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floor, scale and exponent (B,) of the law nearest to each curve of `losses_BP`."""
    unit = float(np.exp(np.log(tokens_P).mean()))  # keeps powers near 1
    low_B, high_B = (np.full(len(losses_BP), math.log(limit)) for limit in EXPONENTS)
    share_G = np.linspace(0, 1, TRIED_AT_ONCE)
    row_B = np.arange(len(losses_BP))
    for _ in range(REFINEMENTS):
        tried_BG = np.exp(low_B[:, None] + share_G * (high_B - low_B)[:, None])
        floor_BG, scale_BG, cost_BG = _at(tried_BG, tokens_P / unit, losses_BP)
        best_B = cost_BG.argmin(axis=1)
        low_B = np.log(tried_BG[row_B, np.maximum(best_B - 1, 0)])
        high_B = np.log(tried_BG[row_B, np.minimum(best_B + 1, TRIED_AT_ONCE - 1)])
    floor_B, exponent_B = floor_BG[row_B, best_B], tried_BG[row_B, best_B]
    return floor_B, scale_BG[row_B, best_B] * unit**exponent_B, exponent_B


def _at(
    exponent_BG: np.ndarray, tokens_P: np.ndarray, losses_BP: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best floor and scale at each exponent, and Huber's loss there: each (B, G)."""
    x_BGP = tokens_P ** -exponent_BG[:, :, None]
    y_B1P = losses_BP[:, None]
    weight_BGP = np.broadcast_to(y_B1P**-2.0, x_BGP.shape)  # residuals relative to the loss
    for _ in range(REWEIGHTINGS):
        floor_BG, scale_BG = _line(x_BGP, y_B1P, weight_BGP)
        off_BGP = np.abs(floor_BG[..., None] + scale_BG[..., None] * x_BGP - y_B1P) / y_B1P
        weight_BGP = y_B1P**-2.0 * np.minimum(1, HUBER / np.maximum(off_BGP, 1e-300))
    near_BGP = np.minimum(off_BGP, HUBER)
    return floor_BG, scale_BG, (near_BGP * (off_BGP - near_BGP / 2)).sum(axis=2)


def _line(
    x_BGP: np.ndarray, y_B1P: np.ndarray, weight_BGP: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares y = floor + scale x with floor >= 0: no text has negative entropy."""
    total_BG = weight_BGP.sum(axis=2)
    x_BG = (weight_BGP * x_BGP).sum(axis=2) / total_BG
    y_BG = (weight_BGP * y_B1P).sum(axis=2) / total_BG
    dx_BGP = x_BGP - x_BG[..., None]
    spread_BG = (weight_BGP * dx_BGP**2).sum(axis=2)
    scale_BG = (weight_BGP * dx_BGP * (y_B1P - y_BG[..., None])).sum(axis=2) / spread_BG
    scale_BG = np.maximum(scale_BG, 0.0)
    floor_BG = y_BG - scale_BG * x_BG
    through_zero_BG = (weight_BGP * x_BGP * y_B1P).sum(axis=2) / (weight_BGP * x_BGP**2).sum(axis=2)
    below = floor_BG < 0
    return np.where(below, 0.0, floor_BG), np.where(below, through_zero_BG, scale_BG)
