"""Which recipe of a search is best, and which cannot be told from it.

A recipe is what a trial was trained with, its seeds left out: a search that repeats seeds has
several runs of one. Losses are nats per token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from model.config import Value
from sweep.records import SEEDS
from sweep.results.confirmation import losses_of
from sweep.results.significance import (
    SIGNIFICANCE,
    NoiseFloor,
    compare,
    noise_floor,
    t_quantile,
)
from sweep.view import TrialView, View

NORMAL_95 = 1.96
PAIRED, FLOOR, EVALUATION = "paired", "floor", "evaluation"


@dataclass(frozen=True)
class Recipe:
    """The complete search trials of one recipe, each with other seeds, earliest first."""

    trials: tuple[TrialView, ...]

    @property
    def name(self) -> str:
        return self.trials[0].name

    @property
    def loss(self) -> float:
        return fmean(trial.val_loss for trial in self.trials)

    @property
    def error(self) -> float:
        """Standard error of the loss: over seeds, or of one run's evaluation."""
        if len(self.trials) > 1:
            return stdev(t.val_loss for t in self.trials) / math.sqrt(len(self.trials))
        assert self.trials[0].last is not None
        return float(self.trials[0].last["val_loss_error"])

    @property
    def by_seed(self) -> Mapping[int, float]:
        """Losses by the seeds of the run, told as one number."""
        return {hash(_seeds(trial)): trial.val_loss for trial in self.trials}


def ranking(view: View) -> list[Recipe]:
    """Recipes by mean loss, lowest first.

    A trial with the recipe and the seeds of an earlier one is the same run again, not another.
    """
    groups: dict[str, dict[tuple[Value, ...], TrialView]] = {}
    for trial in sorted(view.ranked(), key=lambda trial: trial.name):
        recipe = {name: v for name, v in trial.settings.items() if name not in SEEDS}
        group = groups.setdefault(json.dumps(recipe, sort_keys=True), {})
        group.setdefault(_seeds(trial), trial)
    recipes = [Recipe(tuple(group.values())) for group in groups.values()]
    return sorted(recipes, key=lambda recipe: recipe.loss)


def _seeds(trial: TrialView) -> tuple[Value, ...]:
    return tuple(trial.settings.get(name, 0) for name in SEEDS)


def floor_of(view: View) -> NoiseFloor | None:
    """The noise floor that confirming runs have measured."""
    groups = [list(losses.values()) for losses in losses_of(view).values()]
    return noise_floor([group for group in groups if all(map(math.isfinite, group))])


def tie(best: Recipe, other: Recipe, floor: NoiseFloor | None) -> tuple[bool, str]:
    """Whether `other` cannot be told from `best`, and what that was judged by.

    By the paired difference where both have run with the same seeds, else by the noise floor, else
    by the standard errors of evaluation. These say nothing of seeds, and count the text that both
    were evaluated on twice.
    """
    if len(best.by_seed.keys() & other.by_seed.keys()) > 1:
        (comparison,) = compare({"best": best.by_seed, "other": other.by_seed})
        return not comparison.separated, PAIRED
    difference = other.loss - best.loss
    if floor is not None:
        runs = 1 / len(best.trials) + 1 / len(other.trials)
        reach = t_quantile(1 - SIGNIFICANCE / 2, floor.freedom) * floor.deviation * math.sqrt(runs)
        return difference <= reach, FLOOR
    return difference <= NORMAL_95 * math.hypot(best.error, other.error), EVALUATION


def tied(view: View) -> tuple[list[str], str]:
    """Recipes that the search cannot tell from its best, and what that was judged by."""
    ranked, floor = ranking(view), floor_of(view)
    judged = [(other.name, *tie(ranked[0], other, floor)) for other in ranked[1:]]
    by = {kind for _, _, kind in judged}
    sigma = f"the noise floor ({floor.deviation:.4f} over seeds)" if floor else ""
    words = {
        PAIRED: "the difference over shared seeds",
        FLOOR: sigma,
        EVALUATION: "the standard error of evaluation alone; seeds may differ by more",
    }
    return [name for name, same, _ in judged if same], " and ".join(words[k] for k in sorted(by))
