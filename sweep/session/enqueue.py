"""Proposals that need no sampler: the space's own points, and other seeds of earlier ones.

Each waits in the study, marked, before it is asked: a driver that dies in between leaves it to the
next, which asks it and enqueues none twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from model.config import SETTINGS, Value
from sweep.space import Choice, Hyperparameter, Space

Point = Mapping[str, Value]
SEED = "train.seed"
POINT = "point"  # which of the space's points a trial is
REPEATS = "repeats"  # the trial whose proposal it trains again
SEEDS_ON = "seeds_on"  # how far its seed is from the first
INFEASIBLE = "infeasible"  # the constraints that a proposal breaks; it was never trained
POINT_TRIES = 20  # completions of a point that break a constraint, before it is given up
REPEATED = (TrialState.COMPLETE, TrialState.RUNNING)


def enqueue_next(study: Study, space: Space) -> None:
    """Let the next trial be a point not asked yet, else a seed that an earlier proposal lacks."""
    trials = study.get_trials(deepcopy=False)
    if any(trial.state is TrialState.WAITING for trial in trials):
        return
    times = Counter(t.user_attrs.get(POINT) for t in trials)
    turned_down = Counter(t.user_attrs.get(POINT) for t in trials if INFEASIBLE in t.user_attrs)
    for number, point in enumerate(space.points):
        # What the sampler put beside it may have broken a constraint, which is no fault of its own.
        if times[number] == turned_down[number] < POINT_TRIES:
            study.enqueue_trial(
                parameters(point, space.hyperparameters), user_attrs={POINT: number}
            )
            return
    if missing := _missing_seed(trials, space.repeat):
        study.enqueue_trial(*missing)


def _missing_seed(
    trials: list[FrozenTrial], seeds: int
) -> tuple[dict[str, Any], dict[str, int]] | None:
    """Parameters and marks of the next repeat. What was pruned or failed is not worth others."""
    had = Counter(trial.user_attrs.get(REPEATS) for trial in trials)
    for trial in trials:
        first = REPEATS not in trial.user_attrs and trial.state in REPEATED
        if first and had[trial.number] < seeds - 1:
            marks = {REPEATS: trial.number, SEEDS_ON: had[trial.number] + 1}
            return dict(trial.params), marks
    return None


def seed(user_attrs: Mapping[str, Any], space: Space) -> int:
    """The seed of a trial: the space's own for the first with its proposal, then counted up."""
    first: Any = space.fixed.get(SEED, SETTINGS[SEED].default)
    return int(first) + int(user_attrs.get(SEEDS_ON, 0))


def parameters(point: Point, hyperparameters: Sequence[Hyperparameter]) -> dict[str, Value]:
    """The point by the study's names: of alternatives, all that could take its value.

    Where only some conditions let it have its values, it gets what they ask for.
    """
    point = _with_conditions(point, hyperparameters)
    return {
        hp.parameter: point[hp.setting]
        for hp in hyperparameters
        if hp.setting in point and hp.possible(point) and hp.domain.has(point[hp.setting])
    }


def _with_conditions(point: Point, hyperparameters: Sequence[Hyperparameter]) -> Point:
    """`point` with the parents without which one of its values would go unused."""
    chosen = dict(point)
    for name, value in [*point.items()]:
        fitting = [
            a
            for a in hyperparameters
            if a.setting == name and a.possible(chosen) and a.domain.has(value)
        ]
        for parent, allowed in fitting[0].when if fitting else ():
            may = {v for hp in fitting for v in dict(hp.when).get(parent, ())}
            anywhere = all(
                isinstance(hp.domain, Choice) and may >= set(hp.domain.values)
                for hp in hyperparameters
                if hp.setting == parent
            )
            if parent not in chosen and not anywhere:
                chosen[parent] = allowed[0]
    return chosen
