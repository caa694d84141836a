"""Proposals that need no sampler: the space's own points, and other seeds of earlier ones.

Each waits in the study, marked, before it is asked: a driver that dies in between leaves it to the
next, which asks it and enqueues none twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from model.config import SETTINGS, Value
from sweep.records import SEED
from sweep.space import Choice, Hyperparameter, Point, Space

POINT = "point"  # which of the space's points a trial is
REPEATS = "repeats"  # the trial whose proposal it trains again
SEEDS_ON = "seeds_on"  # how far its seed is from the first
REJECTED_ATTR = "handed_back"  # why the budget rejected a proposal; a name that older studies have
OPEN_ATTR = "open"  # trials that ran when this one was proposed, and their basis points then
INFEASIBLE = "infeasible"  # the constraints that a proposal breaks; it was never trained
POINT_TRIES = 20  # completions of a point that break a constraint, before no more are tried
SETTINGS_ATTR = "settings"  # what a trial got: the study's parameters have names of their own
Fits = Callable[[Mapping[str, Value]], bool]
REPEATED = (TrialState.COMPLETE, TrialState.RUNNING)


def anything(settings: Mapping[str, Value]) -> bool:
    """Where there is no budget, all settings fit."""
    return True


def enqueue_next(study: Study, space: Space, fits: Fits = anything) -> None:
    """Let the next trial be a point not asked yet, else a seed that an earlier proposal lacks.

    fits   whether settings fit the budget: what it rejected is asked again once they do
    """
    trials = study.get_trials(deepcopy=False)
    if any(trial.state is TrialState.WAITING for trial in trials):
        return
    chosen = _next_point(trials, space, fits) or _missing_seed(trials, space, fits)
    if chosen:
        study.enqueue_trial(*chosen)


def has_pending(study: Study, space: Space, fits: Fits = anything) -> bool:
    """Whether a point or a seed is still to be asked."""
    trials = study.get_trials(deepcopy=False)
    waiting = any(trial.state is TrialState.WAITING for trial in trials)
    return waiting or bool(_next_point(trials, space, fits) or _missing_seed(trials, space, fits))


Enqueued = tuple[dict[str, Any], dict[str, int]]  # parameters, and marks of the trial


def _next_point(trials: list[FrozenTrial], space: Space, fits: Fits) -> Enqueued | None:
    """The first of the space's points that no trial was begun for."""
    tried: dict[int, list[FrozenTrial]] = {number: [] for number in range(len(space.points))}
    for trial in trials:
        if trial.user_attrs.get(POINT) in tried:
            tried[trial.user_attrs[POINT]].append(trial)
    for number, point in enumerate(space.points):
        # The sampler drew the values that the point leaves open: those may break a constraint.
        infeasible = sum(INFEASIBLE in trial.user_attrs for trial in tried[number])
        rejected = [trial for trial in tried[number] if REJECTED_ATTR in trial.user_attrs]
        begun = len(tried[number]) - infeasible - len(rejected)
        if not begun and infeasible < POINT_TRIES and _fits_now(rejected, space, fits):
            return parameters(point, space.hyperparameters), {POINT: number}
    return None


def _missing_seed(trials: list[FrozenTrial], space: Space, fits: Fits) -> Enqueued | None:
    """The next repeat of a proposal. What was pruned or failed is not worth others."""
    begun: Counter[int] = Counter()
    rejected: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        repeated = trial.user_attrs.get(REPEATS)
        if repeated is not None and REJECTED_ATTR in trial.user_attrs:
            rejected.setdefault(repeated, []).append(trial)
        elif repeated is not None:
            begun[repeated] += 1
    for trial in trials:
        first = REPEATS not in trial.user_attrs and trial.state in REPEATED
        lacking = first and begun[trial.number] < space.repeat - 1
        if lacking and _fits_now(rejected.get(trial.number, []), space, fits):
            marks = {REPEATS: trial.number, SEEDS_ON: begun[trial.number] + 1}
            return dict(trial.params), marks
    return None


def _fits_now(rejected: Sequence[FrozenTrial], space: Space, fits: Fits) -> bool:
    """Whether the last that the budget rejected would fit; true of what it never did."""
    if not rejected:
        return True
    return fits({**space.fixed, **rejected[-1].user_attrs.get(SETTINGS_ATTR, {})})


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
