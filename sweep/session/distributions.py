"""Hyperparameters as distributions of Optuna's, and drawing values from them."""

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
from sweep.space import Choice, Hyperparameter


def distribution(hp: Hyperparameter) -> BaseDistribution:
    """Optuna's distribution of the hyperparameter's values."""
    domain = hp.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if domain.whole:
        low, high, step = int(domain.low), int(domain.high), int(domain.step) or 1
        return IntDistribution(low, high, log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step or None)


def suggest(trial: optuna.Trial, hyperparameters: tuple[Hyperparameter, ...]) -> dict[str, Value]:
    """Values of the hyperparameters whose conditions hold, by setting."""
    chosen: dict[str, Any] = {}
    spacing: dict[str, Any]
    for hp in hyperparameters:
        if not hp.active(chosen):
            continue
        domain = hp.domain
        if isinstance(domain, Choice):
            value = trial.suggest_categorical(hp.parameter, list(domain.values))
        elif domain.whole:
            low, high = int(domain.low), int(domain.high)
            spacing = {"step": int(domain.step) or 1, "log": domain.log}
            value = trial.suggest_int(hp.parameter, low, high, **spacing)
        else:
            spacing = {"step": domain.step or None, "log": domain.log}
            value = trial.suggest_float(hp.parameter, domain.low, domain.high, **spacing)
        chosen[hp.setting] = value
    return chosen
