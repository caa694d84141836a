"""Everything that a report is written from: a run folder, read once."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.errors import SweepError
from sweep.folder import ENVIRONMENT
from sweep.records import Outcome
from sweep.results.edges import Edge, edges_of
from sweep.results.efficiency_report import Figures, figures_of
from sweep.results.ranking import Gap, Recipe, gaps, ranking, tied
from sweep.results.report import winner
from sweep.results.settling import noise_floor_of
from sweep.search import Landscape, landscape
from sweep.space import Space
from sweep.space.language import saved_space
from sweep.view import TrialView, View

SHOWN = 600  # trials that charts and tables show of many: a page of 10,000 is slow to open


@dataclass(frozen=True, eq=False)
class Facts:
    """A sweep with at least one finished trial."""

    folder: Path
    view: View
    space: Space | None  # None where this version cannot read it
    best: TrialView  # confirmed, else of the lowest loss
    ranked: list[Recipe]
    behind: list[Gap]
    edges: list[Edge]
    surface: Landscape | None  # None before enough trials have finished
    environment: dict[str, Any]

    @cached_property
    def tied(self) -> list[str]:
        """Trials that cannot be told from the best of the ranking."""
        return tied(self.behind)

    @cached_property
    def tied_names(self) -> frozenset[str]:
        """The same, to look a trial up."""
        return frozenset(self.tied)

    @cached_property
    def shown(self) -> list[TrialView]:
        """The search trials in charts and tables, in the order they began.

        All of them; of more than SHOWN the best half, each that was the best when it ended, and an
        even choice of the others.
        """
        searches = self.view.searches()
        if len(searches) <= SHOWN:
            return searches
        best = self.complete[: SHOWN // 2]
        chosen = {trial.name for trial in [self.best, *best, *self._records()]}
        others = [trial for trial in searches if trial.name not in chosen]
        more = max(0, SHOWN - len(chosen))
        chosen |= {others[n * len(others) // more].name for n in range(more)}
        return [trial for trial in searches if trial.name in chosen]

    @cached_property
    def shown_names(self) -> frozenset[str]:
        """The same, to look a trial up."""
        return frozenset(trial.name for trial in self.shown)

    def _records(self) -> list[TrialView]:
        """Complete trials whose loss was below all that had ended before."""
        records, lowest = list[TrialView](), math.inf
        for trial in sorted(self.complete, key=lambda trial: trial.ended or 0):
            if trial.val_loss < lowest:
                lowest = trial.val_loss
                records.append(trial)
        return records

    @cached_property
    def noise(self) -> tuple[float, str]:
        """The standard deviation between seeds in nats, and how it is known."""
        return noise_floor_of(self.view)

    @cached_property
    def figures(self) -> Figures | None:
        """Data efficiencies; None without a baseline."""
        with suppress(SweepError):
            return figures_of(self.view)
        return None

    @cached_property
    def complete(self) -> list[TrialView]:
        """Complete search trials, lowest loss first."""
        return self.view.ranked()

    @cached_property
    def lost(self) -> list[TrialView]:
        """Search trials that ended otherwise, in the order they began."""
        return [t for t in self.view.searches() if t.outcome in (Outcome.PRUNED, Outcome.FAILED)]


def facts_of(folder: Path, view: View) -> Facts:
    """The facts about the sweep in `folder`. Raises SweepError if no trial has finished."""
    best = winner(view)
    if best is None:
        raise SweepError(
            f"{view.header['name']} has no complete trial yet, so there is nothing to report",
            hint=f"How it stands: sweep status {folder}",
        )
    space = saved_space(folder)
    environment: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    return Facts(
        folder=folder,
        view=view,
        space=space,
        best=best,
        ranked=ranking(view),
        behind=gaps(view),
        edges=edges_of(view, space) if space else [],
        surface=landscape(space, view) if space else None,
        environment=environment if isinstance(environment, dict) else {},
    )
