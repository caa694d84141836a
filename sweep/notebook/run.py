"""One run folder, or several, as Python sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from model.config import did_you_mean
from sweep.errors import SweepError
from sweep.folder import RESOLVED, TRIALS, begun
from sweep.notebook.surface import LossSurface
from sweep.notebook.tables import baseline_table, curve_table, trial_table
from sweep.notebook.trained import Model, open_model
from sweep.records import Role
from sweep.results import report
from sweep.search import surface_of
from sweep.space import Space
from sweep.space.language import saved_space
from sweep.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("curves", "efficiency")


@dataclass(frozen=True, eq=False)
class Run:
    """A sweep as its journal told it when it was opened; open it again to see what came since."""

    folder: Path
    view: View

    def __repr__(self) -> str:
        return f"<sweep run {self.folder}: {report.counts(self.view)}>"

    @property
    def name(self) -> str:
        """The name of the sweep."""
        return str(self.view.header["name"])

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each search trial, in the order they began; settings are the last columns."""
        return self._trials.copy()

    @cached_property
    def _trials(self) -> pd.DataFrame:
        return trial_table(self.name, self.view, [Role.SEARCH])

    @property
    def all_trials(self) -> pd.DataFrame:
        """The same with the runs of the plain baseline and of a confirmation; `role` tells."""
        return trial_table(self.name, self.view, Role)

    @property
    def curves(self) -> pd.DataFrame:
        """One row for each evaluation of each trial, whatever its role."""
        return curve_table(self.name, self.view)

    @property
    def baseline(self) -> pd.DataFrame:
        """Loss of the plain baseline by unique tokens, which multipliers are read off."""
        return baseline_table(self.name, self.view)

    @property
    def best(self) -> pd.Series:
        """The row of the trial to train again: the confirmed one, else the lowest loss.

        Raises SweepError before any trial is complete.
        """
        return self._trials.set_index("trial", drop=False).loc[self._winner]

    @property
    def _winner(self) -> str:
        winner = report.winner(self.view)
        if winner is None:
            raise SweepError(f"{self.name} has no complete trial yet", code=1)
        return winner.name

    @cached_property
    def space(self) -> Space:
        """What is searched, as the run was last driven. Raises SweepError if that is lost."""
        space = saved_space(self.folder)
        if space is None:
            raise SweepError(
                f"{self.folder / RESOLVED} is missing, damaged or of another version",
                hint="Restore it; tables and figures need only the journal.",
            )
        return space

    @cached_property
    def surface(self) -> LossSurface:
        """The loss surface through the trials. Raises SweepError before any is complete."""
        surface = surface_of(self.space, self.view)
        if surface is None:
            raise SweepError(f"{self.name} has no complete trial yet", code=1)
        return LossSurface(surface, self.view.trials[self._winner])

    def figure(self, name: str) -> Figure:
        """A matplotlib figure: "curves" of the trials, or their data "efficiency".

        Raises SweepError for another name, and for efficiency without a baseline.
        """
        if name == "curves":
            from sweep.results.curves_plot import curves_figure

            return curves_figure(self.view)
        if name == "efficiency":
            from sweep.results.efficiency_plot import efficiency_figure
            from sweep.results.efficiency_report import figures_of

            return efficiency_figure(figures_of(self.view))
        hint = did_you_mean(name, FIGURES)
        raise SweepError(f"no figure {name!r}{hint}", hint=f"There are {' and '.join(FIGURES)}.")

    def model(self, trial: str | int | None = None) -> Model:
        """The network that `trial` trained, by name or number; by default that of the best.

        Raises SweepError if there is no such trial, or nothing of it is kept.
        """
        name = self._winner if trial is None else trial
        name = f"{name:04d}" if isinstance(name, int) else name
        if name not in self.view.trials:
            raise SweepError(
                f"{self.name} has no trial {name}{did_you_mean(name, self.view.trials)}"
            )
        return open_model(name, self.folder / TRIALS / name)


@dataclass(frozen=True, eq=False)
class Runs:
    """Several sweeps; their tables are one below the other, and `run` tells them apart."""

    runs: tuple[Run, ...]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, number: int) -> Run:
        return self.runs[number]

    @property
    def trials(self) -> pd.DataFrame:
        """The search trials of all runs; a setting that a run lacks is missing there."""
        return pd.concat([run.trials for run in self.runs], ignore_index=True)

    @property
    def curves(self) -> pd.DataFrame:
        """The evaluations of all runs."""
        return pd.concat([run.curves for run in self.runs], ignore_index=True)


def open_run(folder: str | Path) -> Run:
    """The sweep in `folder`, also while it runs. Raises SweepError if it is no run folder."""
    return Run(*begun(Path(folder), Path(folder).parent))


def open_runs(folders: Iterable[str | Path]) -> Runs:
    """The sweeps in several folders. Raises SweepError as `open_run`, and if none is given."""
    runs = tuple(open_run(folder) for folder in folders)
    if not runs:
        raise SweepError("no run folder was given")
    return Runs(runs)
