"""The ledger: the trials of one role in one Optuna study, kept in SQLite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweep.records import Outcome, Trial, TrialEnding
from sweep.session.enqueue import INFEASIBLE, REJECTED_ATTR, SETTINGS_ATTR
from sweep.view import trial_ending

REASON_ATTR = "reason"
ENDING_ATTR = "ending"
STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}
OUTCOMES = {state: outcome for outcome, state in STATES.items()}
NONE_BROKEN: Mapping[str, float] = {}

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Ledger:
    """Trials of one role: begun, reported, ended and read back. Who asks for them is elsewhere."""

    def __init__(
        self, study: optuna.Study, as_trial: Callable[[int, Mapping[str, Any]], Trial]
    ) -> None:
        """as_trial: makes a trial of its number and of what the study notes of it."""
        self.study, self._as_trial = study, as_trial
        self._live: dict[int, optuna.Trial] = {}

    def __len__(self) -> int:
        """Trials ever proposed."""
        return len(self.trials())

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The study's trials in these states, or all of them."""
        trials: list[FrozenTrial] = self.study.get_trials(deepcopy=False, states=states or None)
        return trials

    def spent(self) -> int:
        """Trials that count against the budget: failed ones taught nothing about their settings."""
        unspent = (TrialState.FAIL, TrialState.WAITING)
        trials = self.trials()
        return sum(t.state not in unspent and INFEASIBLE not in t.user_attrs for t in trials)

    def begin(self, live: optuna.Trial, searched: Mapping[str, Any]) -> Trial:
        """Note the settings of `live`, unless they are noted, and expect its reports."""
        self._live[live.number] = live
        if live.user_attrs.get(SETTINGS_ATTR) != searched:
            live.set_user_attr(SETTINGS_ATTR, dict(searched))
        return self._as_trial(live.number, searched)

    def live(self, trial: Trial) -> optuna.Trial:
        """Optuna's handle of a trial that has begun."""
        return self._live[trial.number]

    def reopen(self, frozen: FrozenTrial) -> optuna.Trial:
        """Optuna's handle of a trial that an earlier driver left running."""
        return optuna.Trial(self.study, frozen._trial_id)

    def reject(self, trial: Trial, reason: str) -> None:
        """End a proposal that the budget rejects: it counts nowhere and teaches nothing."""
        self._live.pop(trial.number)
        self.give_up(trial.number, reason)

    def give_up(self, number: int, reason: str) -> None:
        """End a trial that was never begun."""
        self.reopen(self.trials()[number]).set_user_attr(REJECTED_ATTR, reason)
        self.study.tell(number, None, TrialState.FAIL)

    def reported(self, trial: Trial) -> set[int]:
        """Steps, in basis points, that the ledger already has for `trial`."""
        return set(self.trials()[trial.number].intermediate_values)

    def report(self, trial: Trial, basis_points: int, loss: float) -> None:
        """Record one evaluation. A loss that is no number counts as infinitely bad."""
        worst = loss if math.isfinite(loss) else math.inf
        self._live[trial.number].report(worst, basis_points)

    def tell(
        self,
        trial: Trial,
        ending: TrialEnding,
        reason: str,
        loss: float | None,
        violations: Mapping[str, float] = NONE_BROKEN,
    ) -> None:
        """End `trial`.

        reason      in words, for people
        loss        its final one; only a finished trial has it
        violations  by constraint, how far beyond its limit: samplers learn where not to go
        """
        live = self._live.pop(trial.number)
        live.set_user_attr(REASON_ATTR, reason)
        live.set_user_attr(ENDING_ATTR, ending)
        for name, violation in violations.items():
            if name not in live.constraints:  # a driver may have died before it told
                live.set_constraint(name, violation)
        value = loss if ending is TrialEnding.FINISHED else None
        self.study.tell(live.number, value, STATES[ending.outcome])

    def finished(self) -> list[tuple[Trial, TrialEnding, str]]:
        """Every trial that was trained and ended: why it ended, and that in words."""
        return [
            (
                self._as_trial(frozen.number, frozen.user_attrs[SETTINGS_ATTR]),
                _ending(frozen),
                frozen.user_attrs.get(REASON_ATTR, ""),
            )
            for frozen in self.trials(*OUTCOMES)
            if not frozen.user_attrs.keys() & {INFEASIBLE, REJECTED_ATTR}
        ]


def _ending(frozen: FrozenTrial) -> TrialEnding:
    """Why a trial ended; the studies of version 0.1 have it in words alone."""
    words = {"outcome": OUTCOMES[frozen.state], "reason": frozen.user_attrs.get(REASON_ATTR, "")}
    return trial_ending({**words, **frozen.user_attrs})
