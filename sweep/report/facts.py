"""Everything that a report is written from: a run folder, read once."""

from __future__ import annotations

import json
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
