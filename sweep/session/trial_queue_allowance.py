"""What one driver may still spend, as its journal stands."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from model.config.cost import trial_flops
from model.config.setting import ConfigError
from sweep.records import (
    Role,
    Trial,
    TrialView,
    View,
)
from sweep.results import budget
from sweep.results.budget import Cost, Spent
from sweep.space.settings import BudgetConfig, TrialConfig


class Allowance:
    """A budget beside the view that tells what trials of `roles` have cost."""

    def __init__(
        self, config: BudgetConfig, trial: TrialConfig, view: View, roles: Collection[Role]
    ) -> None:
        # What each trial is given; a runner that finds out better says so.
        self.resources = {"cpu": trial.cpus, "gpu": max(0.0, trial.gpus)}
        self._config, self._view, self._roles = config, view, roles

    @property
    def devices(self) -> float:
        """GPUs of a trial, or CPU cores where it has none."""
        return self.resources.get("gpu", 0.0) or self.resources.get("cpu", 1.0)

    @property
    def exhausted(self) -> str:
        """Which budget is spent; empty while a trial may start."""
        return budget.exhausted(self._config, self._used())

    def misfit(self, trial: Trial, running: Collection[str]) -> str:
        """Why `trial` cannot end within the budget beside those `running`; empty if it can."""
        past = self._view.trials.get(trial.name)
        return self._misfit(self._cost(flops(trial.settings), self.devices, past), running)

    def misfit_all(self, settings: list[Mapping[str, Any]], running: Collection[str]) -> str:
        """The same for several new trials, of which all must fit."""
        total = Cost(0.0, 0.0, 0.0)
        for each in settings:
            total += self._cost(flops(each), self.devices, None)
        return self._misfit(total, running)

    def _misfit(self, more: Cost, running: Collection[str]) -> str:
        total = Cost(0.0, 0.0, 0.0)
        for name in running:
            trial = self._view.trials[name]
            total += self._cost(trial.flops, trial.devices, trial)
        return budget.misfit(self._config, self._used(), total, more)

    def _cost(self, whole: float, devices: float, past: TrialView | None) -> Cost:
        return budget.cost_left(self._view, whole, devices, past)

    def _used(self) -> Spent:
        return budget.spent(self._view, self._roles, int(time.time() * 1000))


def flops(settings: Mapping[str, Any]) -> float:
    """Training FLOPs; none for settings that the trainer is about to refuse."""
    try:
        return trial_flops(settings)
    except ConfigError:
        return 0.0
