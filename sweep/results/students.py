"""Networks that learn from a teacher, as a plan that a session follows like `Rounds`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from model.config import Value
from sweep.records import Ending
from sweep.results.confirmation import ConfirmationPlan, FreshRun, losses_of
from sweep.view import View


@dataclass
class Students:
    """Fresh runs of recipes that have a teacher each; in a chain that is the run before."""

    runs: tuple[FreshRun, ...]
    settings: Mapping[str, Mapping[str, Value]]  # of every recipe that runs again, by its name
    _begun: set[FreshRun] = field(default_factory=set)
    ending = Ending.DISTILLED

    @property
    def plan(self) -> ConfirmationPlan:
        """Whose runs these are."""
        return ConfirmationPlan(tuple(name for name, _ in self.runs), 1, until_separated=False)

    def wanted(self, view: View) -> tuple[FreshRun, ...]:
        """The next run, once the one before it has ended well; none if that diverged or failed."""
        losses = losses_of(view)
        for name, seed in self.runs:
            loss = losses.get(name, {}).get(seed)
            if loss is None:
                return () if (name, seed) in self._begun else ((name, seed),)
            if not math.isfinite(loss):
                return ()
        return ()

    def over(self, view: View) -> bool:
        """Whether the last of them has ended well."""
        losses = losses_of(view)
        ends = [losses.get(name, {}).get(seed, math.inf) for name, seed in self.runs]
        return all(math.isfinite(loss) for loss in ends)

    def begun(self, trial: str, seed: int) -> None:
        """Remember that this driver has begun the run."""
        self._begun.add((trial, seed))
