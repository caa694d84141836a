"""The loss surface of a run, asked with tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from model.config import SETTINGS, ConfigError, Value
from sweep.errors import SweepError
from sweep.search import Surface
from sweep.space.compatibility import Outside, place
from sweep.view import TrialView


@dataclass(frozen=True, eq=False)
class LossSurface:
    """What the trials of a run say of settings that none of them had."""

    surface: Surface
    best: TrialView  # gives the settings that a table leaves out

    @property
    def noise(self) -> float:
        """Standard deviation of a run about the surface, nats per token, as trials taught it."""
        return self.surface.noise

    def predict(self, settings: pd.DataFrame) -> pd.DataFrame:
        """Mean and standard deviation of the final loss for each row, nats per token.

        settings   columns are searched settings, such as train.epochs; what is left out, or is
                   missing in a row, is as the best trial has it
        Raises SweepError for a column that is not searched and a value that the space lacks.
        """
        searched = self.surface.space.searched
        if unknown := [name for name in settings.columns if name not in searched]:
            raise SweepError(
                f"not searched: {', '.join(map(str, unknown))}",
                hint=f"The surface knows {', '.join(searched)}.",
            )
        points, problems = [], []
        for index, row in zip(settings.index, settings.to_dict("records"), strict=True):
            try:
                points.append(self._point(row))
            except (Outside, ConfigError) as error:
                problems.append(f"row {index}: {error}")
        if problems:
            raise SweepError(
                "the space of this run does not have these points",
                problems[:5] + ["..."] * (len(problems) > 5),
                hint="A setting whose range depends on another needs a value of its own.",
            )
        mean, deviation = self.surface.predict(points)
        return pd.DataFrame({"mean": mean, "sd": deviation}, index=settings.index)

    def _point(self, row: Mapping[Any, Any]) -> Mapping[str, Value]:
        """The point of a row. Raises Outside, or ConfigError for what its setting cannot be."""
        given = {str(name): value for name, value in row.items() if not pd.isna(value)}
        checked = {
            name: SETTINGS[name].check(value.item() if hasattr(value, "item") else value)
            for name, value in given.items()
        }
        return place(self.surface.space.hyperparameters, {**self.best.settings, **checked})
