"""Which recipe of a search is best, and which cannot be told from it.

A recipe is what a trial was trained with, its seeds left out: a search that repeats seeds has
several runs of one. Losses are nats per token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from model.clusters import Clusters, Variance
from model.config import Value
from sweep.records import SEEDS
from sweep.results.bootstrap import ASSUMED_SD
from sweep.results.confirmation import clusters_of, losses_of
from sweep.results.paired import text_in_seeds, text_of_pairs, text_of_recipes, total
from sweep.results.significance import NoiseFloor, may_be_best, noise_floor
from sweep.view import TrialView, View

POOLED = 16  # recipes, the best ones, whose repeats tell the noise: one far behind has its own
TOLD = 10**9  # degrees of freedom of a noise floor that was not measured
# What a gap is judged by. Of seeds: differences over those that both have, a noise floor, or what
# others measured. Of text: differences of losses by documents, or, where these were not kept, the
# errors of both losses, which are far too large, as both are of one text.
PAIRED, FLOOR, ASSUMED = "paired", "floor", "assumed"
TEXT, EVALUATION = "text", "evaluation"


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

    @cached_property
    def clusters(self) -> Mapping[int, Clusters]:
        """The same by stretches of text; empty if a run has not kept them."""
        kept = {hash(_seeds(trial)): trial.clusters for trial in self.trials}
        return {} if None in kept.values() else {s: its for s, its in kept.items() if its}


@dataclass(frozen=True)
class Gap:
    """How far a recipe is behind the best of the ranking."""

    name: str
    difference: float
    error: float  # standard, of the difference
    by: tuple[str, ...]  # what the error was taken from
    tied: bool


@dataclass(frozen=True)
class Repeats:
    """What runs that differ in their seeds alone tell of a sweep's noise."""

    floor: NoiseFloor | None = None
    text: float = 0.0  # how much of the floor's variance is in it because a text is short


def ranking(view: View) -> list[Recipe]:
    """Recipes by mean loss, lowest first.

    A trial with the recipe and the seeds of an earlier one is the same run again, not another.
    """
    return [*view.once("ranking", _ranking)]


def _ranking(view: View) -> list[Recipe]:
    groups: dict[str, dict[tuple[Value, ...], TrialView]] = {}
    for trial in sorted(view.ranked(), key=lambda trial: trial.name):
        recipe = {name: v for name, v in trial.settings.items() if name not in SEEDS}
        group = groups.setdefault(json.dumps(recipe, sort_keys=True), {})
        group.setdefault(_seeds(trial), trial)
    recipes = [Recipe(tuple(group.values())) for group in groups.values()]
    return sorted(recipes, key=lambda recipe: recipe.loss)


def _seeds(trial: TrialView) -> tuple[Value, ...]:
    return tuple(trial.settings.get(name, 0) for name in SEEDS)


def repeats_of(view: View, ranked: Sequence[Recipe]) -> Repeats:
    """The noise between seeds: of finalists and of recipes that the search repeated.

    Where nothing of these was repeated, what the space has told. Repeats of the baseline do not
    count: in the quickstart they differ by 0.052, runs of one finalist by 0.011.
    """
    best = [recipe for recipe in ranked[:POOLED] if len(recipe.trials) > 1]
    groups = [list(losses.values()) for losses in losses_of(view).values()]
    groups = [group for group in groups if all(map(math.isfinite, group))]
    floor = noise_floor([*groups, *([t.val_loss for t in recipe.trials] for recipe in best)])
    if floor is not None:
        kept = [list(runs.values()) for runs in clusters_of(view).values()]
        return Repeats(
            floor, text_in_seeds([*kept, *(list(recipe.clusters.values()) for recipe in best)])
        )
    if told := view.header.get("noise", 0.0):  # journals of earlier versions lack it
        return Repeats(NoiseFloor(told, told, told, TOLD))
    return Repeats()


def gaps(view: View) -> list[Gap]:
    """How far each other recipe is behind the best, and which cannot be told from it."""
    return [*view.once("gaps", _gaps)]


def _gaps(view: View) -> list[Gap]:
    ranked = ranking(view)
    repeats = repeats_of(view, ranked)
    judged = []
    for other in ranked[1:]:
        parts = variances(ranked, other, repeats)
        variance = total(*parts.values())
        difference, error = other.loss - ranked[0].loss, math.sqrt(variance.value)
        apart = difference / error if error else math.inf if difference else 0.0
        largest = max(parts, key=lambda by: parts[by].value)
        pooled = largest in (PAIRED, FLOOR, ASSUMED)
        same = may_be_best(apart, len(ranked) - 1, variance.freedom, pooled)
        judged.append(Gap(other.name, difference, error, tuple(parts), same))
    return judged


def variances(ranked: Sequence[Recipe], other: Recipe, repeats: Repeats) -> dict[str, Variance]:
    """The parts of the error of how far `other` is behind the first of `ranked`: seeds and text."""
    best, floor = ranked[0], repeats.floor
    shared = best.by_seed.keys() & other.by_seed.keys()
    runs = 1 / len(best.trials) + 1 / len(other.trials)
    kept = list(best.clusters.values()), list(other.clusters.values())
    if len(shared) > 1:
        pooled = [*ranked[:POOLED], *([] if other in ranked[:POOLED] else [other])]
        by, seeds = PAIRED, _over_shared(pooled, shared)
        text = text_of_pairs(best.clusters, other.clusters)
    elif floor is not None:
        by, seeds = FLOOR, Variance(floor.deviation**2 * runs, floor.freedom)
        text = text_of_recipes(*kept, repeats.text)
    else:
        by, seeds = ASSUMED, Variance(ASSUMED_SD**2 * runs, math.inf)
        text = text_of_recipes(*kept)
    if text is not None and math.isfinite(text.value):
        return {by: seeds, TEXT: text}
    errors = best.error**2 + other.error**2
    if by != ASSUMED or not math.isfinite(errors):  # a loop outside may tell a loss alone
        return {by: seeds}
    return {by: seeds, EVALUATION: Variance(errors, math.inf)}


def _over_shared(recipes: Sequence[Recipe], seeds: Set[int]) -> Variance:
    """Of the difference of two recipes' means over `seeds`, pooled over recipes that have them.

    What is left once each recipe and each seed has its mean: two recipes alone give the paired
    t-test.
    """
    rows = [[its[s] for s in seeds] for r in recipes if seeds <= (its := r.by_seed).keys()]
    seed_means = [fmean(column) for column in zip(*rows, strict=True)]
    left = [[x - m for x, m in zip(row, seed_means, strict=True)] for row in rows]
    squares = math.fsum((x - fmean(row)) ** 2 for row in left for x in row)
    freedom = (len(rows) - 1) * (len(seeds) - 1)
    return Variance(2 * squares / freedom / len(seeds), freedom)


def tied(judged: Iterable[Gap]) -> list[str]:
    """Those that cannot be told from the best."""
    return [gap.name for gap in judged if gap.tied]


def judged_by(view: View, judged: Sequence[Gap]) -> str:
    """What gaps were judged by, in words, and what that leaves out."""
    by = {kind for gap in judged for kind in gap.by}
    repeats = repeats_of(view, ranking(view))
    sigma = f"{repeats.floor.deviation:.4f}" if repeats.floor else ""
    words = {
        TEXT: f"paired differences of loss by {_stretches(view)}",
        EVALUATION: "the standard errors of evaluation",
        PAIRED: "differences over shared seeds",
        FLOOR: f"the noise floor ({sigma} over seeds)",
        ASSUMED: f"a noise between seeds of {ASSUMED_SD:g}, which is assumed: it may be more",
    }
    return " and ".join(words[kind] for kind in words if kind in by)


def _stretches(view: View) -> str:
    """What losses are compared by, with their number: 33 documents."""
    clusters = next((t.clusters for t in view.ranked() if t.clusters), None)
    return f"{len(clusters.tokens)} {clusters.kind} of val" if clusters else ""
