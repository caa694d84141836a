"""Fair pruning: a trial is compared at the same fraction of its own schedule, among its peers.

Fairness lives here and the rule stays Optuna's: the study is narrowed to the peers, then asked.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from model.progress import WHOLE
from sweep.sections import PruneConfig

# The study's parameters have names of their own; the settings a trial got are kept here.
SETTINGS_ATTR = "settings"


class FairPruner(BasePruner):  # type: ignore[misc]
    """Asks `rule` about a study in which only peers exist.

    Peers agree in the settings named by `peers`. Steps are basis points of each trial's own
    schedule, so that equal steps are equal phases whatever the number of epochs.
    """

    def __init__(self, rule: BasePruner, peers: tuple[str, ...] = ()) -> None:
        self._rule, self._peers = rule, peers

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if not self._peers:
            return bool(self._rule.prune(study, trial))
        kind = self._stratum(trial)
        peers = [t for t in study.get_trials(deepcopy=False) if self._stratum(t) == kind]
        return bool(self._rule.prune(cast(Study, _Peers(study, peers)), trial))

    def _stratum(self, trial: FrozenTrial) -> tuple[Any, ...]:
        settings = trial.user_attrs.get(SETTINGS_ATTR, {})
        return tuple(settings.get(name) for name in self._peers)


class _Peers:
    """A study that knows only some of its trials."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study, self.trials = study, trials

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self.trials if states is None or t.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def make_pruner(config: PruneConfig) -> BasePruner:
    """The pruner that `config` asks for."""
    rules: dict[str, optuna.pruners.BasePruner] = {
        "none": NopPruner(),
        "median": MedianPruner(
            n_startup_trials=config.startup_trials, n_warmup_steps=round(config.grace * WHOLE)
        ),
    }
    return FairPruner(rules[config.rule], config.peers)
