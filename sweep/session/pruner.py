"""Fair pruning: a trial is compared at the same fraction of its own schedule, among its peers.

Fairness lives here and the rule stays Optuna's: the study is narrowed to the peers, what they
reported is replaced by the signal to compare, and then the rule is asked.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Container, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from model.progress import WHOLE, Progress
from sweep.search import cycles_of
from sweep.session.enqueue import SETTINGS_ATTR
from sweep.session.peers import Peers, reporting
from sweep.space import PruneConfig

FORECASTS = ("corrected", "predicted")  # the second is the older name of a forecast from everything
ALONE = ("threshold", "patient")  # rules that look at no other trial, and so at no forecast


def compared_loss(progress: Progress, signal: str) -> float:
    """The loss of an evaluation that trials are compared by, nats per token.

    The EMA's is that of the last weights until there is an EMA. Forecasts start from `val_loss`.
    """
    if signal == "raw":
        return progress.raw_loss
    if signal == "ema":
        return progress.raw_loss if progress.ema_loss is None else progress.ema_loss
    return progress.val_loss


class FairPruner(BasePruner):  # type: ignore[misc]
    """Hands `rule` a study that holds only the trial's peers, with comparable losses alone.

    Peers agree in the settings named by `config.peers`, and in how often the rate falls: in the
    middle of a cycle a trial is behind any that has none. Steps are basis points of each trial's
    own schedule, so that equal steps are equal phases whatever the number of epochs. Before
    `config.grace` and with fewer than `config.startup_trials` complete peers none is stopped; nor
    is ever the one that leads its peers, and so neither the only one of its kind.
    """

    def __init__(self, rule: BasePruner, config: PruneConfig) -> None:
        self._rule, self._config = rule, config
        self._forecasts = config.signal in FORECASTS and config.rule not in ALONE
        self._peers = Peers(self._stratum)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < round(self._config.grace * WHOLE):
            return False
        self._peers.look(study)
        kind = self._stratum(trial)
        ended = self._peers.ended(kind)
        running = [peer for peer in self._peers.open(kind) if peer.number != trial.number]
        complete = [p for p in ended.complete if step in p.intermediate_values]
        if len(complete) < self._config.startup_trials:
            return False
        if self._forecasts:
            forecast = ended.expectation.of(trial)
            if forecast is None:  # none that finished was like it
                return False
            in_its_favour = forecast.loss - self._config.confidence * forecast.error
            trial = reporting(trial, step, in_its_favour)
            rivals = [float(p.value) for p in complete]
        else:
            seen = [p.intermediate_values for p in (*ended.trials, *running)]
            rivals = [values[step] for values in seen if step in values]
        if trial.intermediate_values[step] <= min(rivals):
            return False
        past = ended.levelled(step) if self._forecasts else ended.trials
        narrowed = copy.copy(study)
        narrowed._storage = _Narrowed(study._storage, [*past, *running, trial])
        return bool(self._rule.prune(narrowed, trial))

    def _stratum(self, trial: FrozenTrial) -> tuple[Any, ...]:
        settings = trial.user_attrs.get(SETTINGS_ATTR, {})
        return (cycles_of(settings), *(settings.get(name) for name in self._config.peers))


class _Narrowed:
    """A storage that knows only some trials: rules that make a study of their own keep to them."""

    def __init__(self, storage: Any, trials: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._trials = sorted(trials, key=lambda trial: trial.number)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._trials if states is None or t.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def make_pruner(config: PruneConfig) -> BasePruner:
    """The pruner that `config` asks for. Resources are explicit: Optuna's guesses change."""
    first = max(1, round(config.grace * WHOLE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        rules: dict[str, BasePruner] = {
            "none": NopPruner(),
            "best": PercentilePruner(0.0, n_startup_trials=config.startup_trials),
            "median": MedianPruner(n_startup_trials=config.startup_trials),
            "percentile": PercentilePruner(
                config.percentile, n_startup_trials=config.startup_trials
            ),
            "asha": SuccessiveHalvingPruner(min_resource=first, reduction_factor=config.reduction),
            "hyperband": HyperbandPruner(
                min_resource=first, max_resource=WHOLE, reduction_factor=config.reduction
            ),
            "threshold": ThresholdPruner(upper=config.upper),
            "patient": PatientPruner(None, config.patience),
        }
    if config.rule == "none":
        return rules["none"]
    return FairPruner(rules[config.rule], config)
