"""The final loss to expect of a trial: from its loss now, and from trials that have finished.

A loss in mid-run misleads where trials differ in weight decay or epochs: strong decay looks worse
until the rate has fallen, and a longer schedule is behind at every fraction but the last. What is
learned here is the drop that remains, as a function of the settings, by ridge regression in log
coordinates. Learning-curve prediction usually extrapolates the curve itself (LC-PFN, 2310.20447);
after a schedule's end there is nothing left to extrapolate, and finished trials know the drop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.config import Value
from sweep.space import is_number

Array = NDArray[np.float64]
PENALTIES = (0.03, 0.3, 3.0, 30.0, 300.0)  # on standardised terms; the best at leaving one out
# What shifts a curve against its end: the decay timescale (rate x decay), the schedule's length.
SHIFTING = (
    "optim.name",
    "optim.lr",
    "optim.weight_decay_multiplier",
    "optim.decay_timescale",
    "train.epochs",
)


@dataclass(frozen=True)
class Snapshot:
    """A trial at one fraction of its schedule; nats per token."""

    settings: Mapping[str, Value]
    now: float
    final: float = math.nan  # of a finished trial


@dataclass(frozen=True)
class Forecast:
    loss: float  # expected final loss, nats per token
    error: float  # its standard error, nats per token


def correct(trial: Snapshot, finished: Sequence[Snapshot]) -> Forecast:
    """The loss now, less the drop that remains for trials of such decay and schedule."""
    return _forecast(trial, finished, quadratic=False)


def predict(trial: Snapshot, finished: Sequence[Snapshot]) -> Forecast:
    """The final loss from all settings, quadratic in their logarithms, and from the loss now."""
    return _forecast(trial, finished, quadratic=True)


def _forecast(trial: Snapshot, finished: Sequence[Snapshot], quadratic: bool) -> Forecast:
    """Raises ValueError with fewer than two finished trials."""
    usable = [peer for peer in finished if math.isfinite(peer.now + peer.final)]
    if len(usable) < 2:
        raise ValueError(f"a forecast needs two finished trials, got {len(usable)}")
    if not math.isfinite(trial.now):
        return Forecast(math.inf, 0.0)
    everyone = [*usable, trial]
    terms = _cached(tuple(_Frozen(one.settings) for one in everyone), quadratic)
    if quadratic:
        now = np.array([[one.now] for one in everyone])
        terms = np.hstack([terms, now])
    drops = np.array([peer.final - peer.now for peer in usable])
    mean, error = ridge(terms[:-1], drops, terms[-1])
    return Forecast(trial.now + mean, error)


class _Frozen:
    """Settings told apart by which object they are: those of a trial never change."""

    def __init__(self, settings: Mapping[str, Value]) -> None:
        self.settings = settings

    def __hash__(self) -> int:
        return id(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self.settings is other.settings


@lru_cache(maxsize=32)
def _cached(everyone: tuple[_Frozen, ...], quadratic: bool) -> Array:
    """`coordinates`; between two evaluations of a trial its peers are mostly the same."""
    every = [one.settings for one in everyone]
    if not quadratic:
        every = [{name: v for name, v in one.items() if name in SHIFTING} for one in every]
    return coordinates(every, quadratic)


def coordinates(settings: Sequence[Mapping[str, Value]], quadratic: bool) -> Array:
    """Settings of N trials as (N, K) terms: numbers by logarithm, other values by indicator.

    Settings equal in all trials have no term. Logarithms have mean 0 and variance 1; `quadratic`
    adds their squares and products.
    """
    names = sorted({name for one in settings for name in one})
    numbers, indicators = [], []
    for name in names:
        values = [one.get(name) for one in settings]
        if len(set(values)) == 1:
            continue
        if all(value is None or is_number(value) for value in values):
            numbers.append(_logarithms([float(v) if is_number(v) else None for v in values]))
        else:
            indicators += [
                [float(v == level) for v in values] for level in sorted(set(values), key=str)
            ]
    linear = standardised(np.array(numbers).T.reshape(len(settings), len(numbers)))
    columns = [linear, np.array(indicators).T.reshape(len(settings), len(indicators))]
    if quadratic and numbers:
        i, j = np.triu_indices(len(numbers))
        columns.append(linear[:, i] * linear[:, j])
    return np.hstack(columns)


def _logarithms(values: Sequence[float | None]) -> list[float]:
    """Logarithms; 0 as half the least above it; what a condition left out as the mean."""
    numbers = [v for v in values if v is not None]
    least = min((v for v in numbers if v > 0), default=1.0)
    logs = [None if v is None else math.log(max(v, least / 2)) for v in values]
    mean = math.fsum(v for v in logs if v is not None) / len(numbers)
    return [mean if v is None else v for v in logs]


def standardised(columns: Array) -> Array:
    """Each column with mean 0 and variance 1; a constant one as zeros."""
    spread = columns.std(axis=0) if columns.size else np.ones(columns.shape[1])
    centred = columns - columns.mean(axis=0)
    return np.asarray(centred / np.where(spread > 0, spread, 1.0))


def ridge(x_NK: Array, y_N: Array, at_K: Array) -> tuple[float, float]:
    """Ridge regression's value at a new point and the standard error of an observation there.

    x (N, K), y (N,), at (K,). The penalty is the one best at leaving one out, whose residuals
    also give the noise: with few trials they are honest where those of the fit are not.
    """
    centre, spread = x_NK.mean(axis=0), x_NK.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    x_NK, at_K = (x_NK - centre) / spread, (at_K - centre) / spread
    mean, count = y_N.mean(), len(y_N)
    u_NR, s_R, v_RK = np.linalg.svd(x_NK, full_matrices=False)
    fitted_R = u_NR.T @ (y_N - mean)
    tried = []
    for penalty in PENALTIES:
        shrink_R = s_R**2 / (s_R**2 + penalty)
        residuals_N = y_N - mean - u_NR @ (shrink_R * fitted_R)
        left_out_N = residuals_N / (1 - 1 / count - (u_NR**2 * shrink_R).sum(axis=1))
        tried.append((float(np.mean(left_out_N**2)), penalty))
    variance, penalty = min(tried)
    at_R = v_RK @ at_K
    value = mean + at_R @ (s_R / (s_R**2 + penalty) * fitted_R)
    unseen = max(0.0, float(at_K @ at_K - at_R @ at_R)) / penalty  # directions no trial varied
    leverage = 1 / count + float((at_R**2 / (s_R**2 + penalty)).sum()) + unseen
    return float(value), math.sqrt(variance * (1 + leverage))
