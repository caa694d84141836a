"""Power laws with a floor, fitted to measured losses: loss = floor + scale / x^exponent.

x is what there is more and more of: unique tokens, parameters, members of an ensemble, or tokens
that are worth as much as what is read again. Kim et al. (2509.14786) measure data efficiency by
inverting such a law. Fitted as Hoffmann et al. (2203.15556) and Muennighoff et al. (2305.16264) fit
theirs: Huber's loss on the relative residual, which is that of logarithms where residuals are
small, so that one odd point does not bend the curve. They start an optimizer from many places;
given the exponent the law is linear in the other two, so every exponent is tried instead.

Arrays: B curves, G exponents tried, P points of a curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweep.results.efficiency import BaselineCurve

FEWEST_POINTS = 3  # as many as the law has constants
HUBER = 1e-3  # relative residual from which a point pulls no harder
EXPONENTS = (0.02, 4.0)  # published laws lie between 0.1 and 1.1
REWEIGHTINGS = 10
TRIED, REFINEMENTS = 20, 6  # exponents: the last are 0.01 % apart
COARSE = (12, 4)  # 0.6 % apart, where many laws are fitted for one
WORTH = (0.1, 1000.0)  # times that repeats may be worth; 15.4 in 2305.16264
WORTH_TRIED, WORTH_REFINEMENTS = 8, 4  # the last are 5 % apart, a tenth of the best interval seen

Laws = tuple[np.ndarray, np.ndarray, np.ndarray]  # floor, scale and exponent (B,)


@dataclass(frozen=True)
class PowerLaw:
    """What the loss does as there is more of x."""

    floor: float  # nats per token with endless x
    scale: float  # nats per token above it at x = 1
    exponent: float

    def loss(self, x: float) -> float:
        """Nats per token at `x`."""
        return float(self.floor + self.scale * x**-self.exponent)

    def reach(self, loss: float) -> float:
        """The x at which the law comes to `loss`; infinite at the floor and below."""
        if not loss > self.floor:
            return math.inf if loss <= self.floor else math.nan
        return float((self.scale / (loss - self.floor)) ** (1 / self.exponent))

    def text(self, name: str, unit: float, unit_text: str) -> str:
        """The law in a unit of x near to what was measured: 2.443 + 0.116 / (tokens/1M)^0.23."""
        above = self.scale * unit**-self.exponent
        x = f"({name}/{unit_text})" if unit_text else name
        return f"{self.floor:.3f} + {above:.3g} / {x}^{self.exponent:.3g}"

    def __str__(self) -> str:
        return self.text("tokens", 1e6, "1M")


def misfit(law: PowerLaw, baseline: BaselineCurve) -> float:
    """How far the law is from the point it fits worst, nats per token."""
    return max(abs(law.loss(x) - loss) for x, loss in baseline)


def fit_law(baseline: BaselineCurve) -> PowerLaw | None:
    """The law nearest to the points; None if they are too few, or do not fall."""
    if len(baseline) < FEWEST_POINTS or baseline[-1][1] >= baseline[0][1]:
        return None
    x_P, losses_P = np.array(baseline, dtype=float).T
    return first_law(fit_laws(x_P, losses_P[None]))


def first_law(laws: Laws) -> PowerLaw:
    """The first of `laws` as one law."""
    return PowerLaw(*(float(constant_B[0]) for constant_B in laws))


def fit_laws(
    x: np.ndarray, losses_BP: np.ndarray, tried: int = TRIED, refinements: int = REFINEMENTS
) -> Laws:
    """The law nearest to each curve of `losses_BP`, measured at `x`: (P,), or (B, P)."""
    unit_B1 = np.exp(np.log(x).mean(axis=-1, keepdims=True))  # keeps powers near 1
    x_BP = np.broadcast_to(x / unit_B1, losses_BP.shape)
    low_B, high_B = (np.full(len(losses_BP), math.log(limit)) for limit in EXPONENTS)
    share_G = np.linspace(0, 1, tried)
    row_B = np.arange(len(losses_BP))
    for _ in range(refinements):
        tried_BG = np.exp(low_B[:, None] + share_G * (high_B - low_B)[:, None])
        floor_BG, scale_BG, cost_BG = _at(tried_BG, x_BP, losses_BP)
        best_B = cost_BG.argmin(axis=1)
        low_B = np.log(tried_BG[row_B, np.maximum(best_B - 1, 0)])
        high_B = np.log(tried_BG[row_B, np.minimum(best_B + 1, tried - 1)])
    floor_B, exponent_B = floor_BG[row_B, best_B], tried_BG[row_B, best_B]
    return floor_B, scale_BG[row_B, best_B] * unit_B1[..., 0] ** exponent_B, exponent_B


def losses_at(laws: Laws, x: np.ndarray) -> np.ndarray:
    """Nats per token (B, P) of each of `laws` at x: (P,), or (B, P)."""
    floor_B, scale_B, exponent_B = laws
    return np.asarray(floor_B[:, None] + scale_B[:, None] * x ** -exponent_B[:, None])


def fresh_tokens(tokens: np.ndarray, epochs: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Tokens read once that are worth as much as `tokens` read `epochs` times.

    worth   what endless repeats come to, in times the unique tokens

    Muennighoff et al. (2305.16264), equation 5: D' = U + U R* (1 - exp(-R / R*)), R the repeats.
    """
    return np.asarray(tokens * (1 - worth * np.expm1((1 - epochs) / worth)))


def fit_repeats(
    tokens_P: np.ndarray, epochs_P: np.ndarray, losses_BP: np.ndarray
) -> tuple[Laws, np.ndarray]:
    """The law in fresh tokens nearest to each curve, and what endless repeats are worth (B,).

    tokens_P, epochs_P   unique tokens of each point, and how often they were read
    """
    curves, row_B = len(losses_BP), np.arange(len(losses_BP))
    low_B, high_B = (np.full(curves, math.log(limit)) for limit in WORTH)
    share_W = np.linspace(0, 1, WORTH_TRIED)
    repeated = np.repeat(losses_BP, WORTH_TRIED, axis=0)
    for _ in range(WORTH_REFINEMENTS):
        tried_BW = np.exp(low_B[:, None] + share_W * (high_B - low_B)[:, None])
        x = fresh_tokens(tokens_P, epochs_P, tried_BW.reshape(-1, 1))
        laws = fit_laws(x, repeated, *COARSE)
        cost_BW = _huber(losses_at(laws, x), repeated).reshape(curves, WORTH_TRIED)
        best_B = cost_BW.argmin(axis=1)
        low_B = np.log(tried_BW[row_B, np.maximum(best_B - 1, 0)])
        high_B = np.log(tried_BW[row_B, np.minimum(best_B + 1, WORTH_TRIED - 1)])
    chosen_B = row_B * WORTH_TRIED + best_B
    floor_B, scale_B, exponent_B = (constant[chosen_B] for constant in laws)
    return (floor_B, scale_B, exponent_B), tried_BW[row_B, best_B]


def _huber(fitted_BP: np.ndarray, losses_BP: np.ndarray) -> np.ndarray:
    """Huber's loss (B,) of relative residuals."""
    off_BP = np.abs(fitted_BP - losses_BP) / losses_BP
    near_BP = np.minimum(off_BP, HUBER)
    return np.asarray((near_BP * (off_BP - near_BP / 2)).sum(axis=-1))


def _at(
    exponent_BG: np.ndarray, x_BP: np.ndarray, losses_BP: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best floor and scale at each exponent, and Huber's loss there: each (B, G)."""
    x_BGP = x_BP[:, None] ** -exponent_BG[:, :, None]
    y_B1P = losses_BP[:, None]
    weight_BGP = np.broadcast_to(y_B1P**-2.0, x_BGP.shape)  # residuals relative to the loss
    for _ in range(REWEIGHTINGS):
        floor_BG, scale_BG = _line(x_BGP, y_B1P, weight_BGP)
        fitted_BGP = floor_BG[..., None] + scale_BG[..., None] * x_BGP
        off_BGP = np.abs(fitted_BGP - y_B1P) / y_B1P
        weight_BGP = y_B1P**-2.0 * np.minimum(1, HUBER / np.maximum(off_BGP, 1e-300))
    return floor_BG, scale_BG, _huber(fitted_BGP, y_B1P)


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
