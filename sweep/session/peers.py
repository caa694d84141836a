"""The peers of trials in one study, brought up to date instead of looked up at every evaluation.

A trial that has ended never changes again: it is looked at once, when it has. What remains for each
evaluation are the trials that are open.
"""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.session.expectation import Expectation

Kind = tuple[Any, ...]  # what peers agree in
BY_NUMBER = attrgetter("number")


class Peers:
    """Trials by kind; those that ended apart from those that are open."""

    def __init__(self, kind_of: Callable[[FrozenTrial], Kind]) -> None:
        self._kind_of = kind_of
        self._forget(None, -1)

    def _forget(self, storage: object, study: int) -> None:
        self._of = storage, study
        self._open: list[int] = []
        self._known = 0  # trials looked at, open ones too
        self._ended: dict[Kind, _Ended] = {}
        self._openings: dict[Kind, list[FrozenTrial]] = {}

    def look(self, study: Study) -> None:
        """Take in what changed since the last look."""
        if self._of[0] is not study._storage or self._of[1] != study._study_id:
            self._forget(study._storage, study._study_id)
        trials = study.get_trials(deepcopy=False)
        still, self._openings = [], {}
        for number in [*self._open, *range(self._known, len(trials))]:
            trial = trials[number]
            kind = self._kind_of(trial)
            if trial.state.is_finished():
                self._ended.setdefault(kind, _Ended()).add(trial)
            else:
                still.append(number)
                self._openings.setdefault(kind, []).append(trial)
        self._open, self._known = still, len(trials)

    def open(self, kind: Kind) -> list[FrozenTrial]:
        return self._openings.get(kind, [])

    def ended(self, kind: Kind) -> _Ended:
        return self._ended.setdefault(kind, _Ended())


class _Ended:
    """Trials of one kind that ended, by number."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        self.complete: list[FrozenTrial] = []
        self._expectation: tuple[int, Expectation] | None = None
        self._levelled: dict[int, dict[int, FrozenTrial]] = {}

    def add(self, trial: FrozenTrial) -> None:
        insort(self.trials, trial, key=BY_NUMBER)
        if trial.state is TrialState.COMPLETE:
            insort(self.complete, trial, key=BY_NUMBER)

    @property
    def expectation(self) -> Expectation:
        """What those that completed tell of others' ends."""
        if self._expectation is None or self._expectation[0] != len(self.complete):
            self._expectation = len(self.complete), Expectation(self.complete)
        return self._expectation[1]

    def levelled(self, step: int) -> Sequence[FrozenTrial]:
        """All of them; those that completed as if their end was all they reported, at `step`."""
        made = self._levelled.setdefault(step, {})
        for trial in self.trials if len(made) < len(self.trials) else ():
            if trial.number not in made:
                whole = trial.state is TrialState.COMPLETE
                made[trial.number] = reporting(trial, step, trial.value) if whole else trial
        return list(made.values())


def reporting(trial: FrozenTrial, step: int, value: float) -> FrozenTrial:
    """The trial as if `value` was all it had reported."""
    changed = copy.copy(trial)
    changed.intermediate_values = {step: value}
    return changed
