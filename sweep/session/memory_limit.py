"""How much memory trials of this sweep may need: less than those that ran out of it.

Amounts are the estimate of `model/config/memory.py`, by which trials are compared with each other
and not with a machine. Everything follows from the journal, so a continued sweep knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config import ConfigError, trial_cost
from sweep.format import bytes_text
from sweep.records import Outcome, TrialEnding
from sweep.space import Constraint
from sweep.view import TrialView, View

MEMORY = "train.memory"
# The estimate is within a quarter. Once several run out in a row, what is closer than that to the
# last is not worth a try before something smaller has fitted.
CLOSE = 0.75


class MemoryLimit:
    """What trials that ran out of memory tell about those not begun yet."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._bytes: dict[str, float] = {}  # by trial

    def needs(self, settings: Mapping[str, Any]) -> float:
        """Bytes that were too many for a trial that ran out of memory; 0 if size does not tell.

        It does not if one as large has trained, nor of settings that our trainer would refuse.
        """
        bytes_ = _bytes(settings)
        return bytes_ if bytes_ > self._largest_that_fitted() else 0.0

    def constraints(self) -> tuple[Constraint, ...]:
        """What a proposal has to keep to; empty while none ran out of memory."""
        smallest = self.smallest()
        if smallest is None:
            return ()
        below = self._of(smallest) * CLOSE ** (self._in_a_row() - 1) * (1 - 1e-9)
        return (Constraint(MEMORY, max(below, self._largest_that_fitted())),)

    def misfit(self, settings: Mapping[str, Any]) -> str:
        """Why a trial is not begun; empty if it may fit."""
        smallest = self.smallest()
        needs = _bytes(settings)
        if smallest is None or needs < self._of(smallest):
            return ""
        ran_out = f"trial {smallest.name} ran out of it with {bytes_text(self._of(smallest))}"
        return f"needs about {bytes_text(needs)} of memory, and {ran_out}"

    def smallest(self) -> TrialView | None:
        """The smallest trial that ran out of memory and is larger than all that fitted."""
        fitted = self._largest_that_fitted() if self._out() else 0.0
        return min((t for t in self._out() if self._of(t) > fitted), key=self._of, default=None)

    def __str__(self) -> str:
        """What did not fit and what to do, in a sentence."""
        smallest = self.smallest()
        if smallest is None:
            return ""
        return (
            f"the smallest trial that ran out, {smallest.name}, needs about "
            f"{bytes_text(self._of(smallest))}: {smallest.reason}"
        )

    def _out(self) -> list[TrialView]:
        ended = TrialEnding.OUT_OF_MEMORY
        return [t for t in self._view.trials.values() if t.ending is ended]

    def _fitted(self) -> list[TrialView]:
        trials = self._view.trials.values()
        return [t for t in trials if t.outcome in (Outcome.COMPLETE, Outcome.PRUNED) and t.last]

    def _largest_that_fitted(self) -> float:
        return max(map(self._of, self._fitted()), default=0.0)

    def _in_a_row(self) -> int:
        """How many ran out of memory since one last fitted."""
        latest = max((t.ended or 0 for t in self._fitted()), default=-1)
        return max(1, sum((t.ended or 0) > latest for t in self._out()))

    def _of(self, trial: TrialView) -> float:
        if trial.name not in self._bytes:
            self._bytes[trial.name] = _bytes(trial.settings)
        return self._bytes[trial.name]


def _bytes(settings: Mapping[str, Any]) -> float:
    """Estimated bytes at the peak; 0 of settings that the trainer will refuse."""
    try:
        return trial_cost(settings).memory
    except ConfigError:
        return 0.0
