"""An axis as Optuna has it: the distribution of a parameter, and drawing from it."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from model.config import Value
from sweep.space import Axis, Choice


def distribution(axis: Axis) -> BaseDistribution:
    """The axis as Optuna has it."""
    domain = axis.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if domain.whole:
        low, high, step = int(domain.low), int(domain.high), int(domain.step) or 1
        return IntDistribution(low, high, log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step or None)


def suggest(trial: optuna.Trial, axes: tuple[Axis, ...]) -> dict[str, Value]:
    """Values of the axes whose conditions hold, by setting."""
    chosen: dict[str, Any] = {}
    about: dict[str, Any]
    for axis in axes:
        if not axis.active(chosen):
            continue
        domain = axis.domain
        if isinstance(domain, Choice):
            value = trial.suggest_categorical(axis.parameter, list(domain.values))
        elif domain.whole:
            low, high = int(domain.low), int(domain.high)
            about = {"step": int(domain.step) or 1, "log": domain.log}
            value = trial.suggest_int(axis.parameter, low, high, **about)
        else:
            about = {"step": domain.step or None, "log": domain.log}
            value = trial.suggest_float(axis.parameter, domain.low, domain.high, **about)
        chosen[axis.setting] = value
    return chosen
