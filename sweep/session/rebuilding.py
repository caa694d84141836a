"""The ledger written anew from the journal, event for event, where its file was lost.

Trials get their numbers, settings, reports and ends; whatever the pruner and the constraints noted
follows from these. Numbers that the journal does not have are of proposals which were never begun:
they stay taken, so that the next proposal is the one it would have been. Which trial was one of the
space's points or another's repeat follows from its settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from model.progress import Progress
from sweep.errors import SweepError
from sweep.records import SEED, SEEDS, Event, Outcome, Role, Trial, TrialEnding, read_kind
from sweep.session.distributions import distribution
from sweep.session.enqueue import (
    OPEN_ATTR,
    POINT,
    REJECTED_ATTR,
    REPEATS,
    SEEDS_ON,
    SETTINGS_ATTR,
    seed,
)
from sweep.session.ledger import Ledger
from sweep.session.migration import open_study
from sweep.session.pruner import compared_loss, make_pruner
from sweep.session.roles import GAIN_ATTR
from sweep.session.storage import Mirrored, open_storage
from sweep.space import Space
from sweep.space.compatibility import Outside, place
from sweep.space.constraint import SECONDS, projected_seconds, violations
from sweep.view import TrialView, View, trial_ending

FIELDS = [field.name for field in fields(Progress)]
LOST = "the ledger was lost, and it was never begun"


def rebuild(path: Path, space: Space, view: View, events: Sequence[Event]) -> None:
    """Write the ledger of a run folder to `path`, which must not be there yet.

    space    that the folder searches
    events   of its journal, and the `view` they come to
    Raises SweepError if a trial is none that the space could have proposed.
    """
    grown = {
        role: _replayed(role, space, trials, events)
        for role in Role
        if (trials := [t for t in view.trials.values() if t.role is role])
        or role is not Role.CONFIRM
    }
    storage = open_storage(path)
    assert isinstance(storage, Mirrored)
    for role, frozen in grown.items():
        study = open_study(storage, role, space)
        for trial in frozen:
            study.add_trial(trial)
    storage.close()


def _replayed(
    role: Role, space: Space, trials: Sequence[TrialView], events: Iterable[Event]
) -> list[FrozenTrial]:
    """The study of `role` as the journal's events let it grow."""
    study = open_study(open_storage(None), role, space)
    study.pruner = make_pruner(space.prune)

    def as_trial(number: int, searched: Mapping[str, Any]) -> Trial:
        return Trial(number, read_kind(role, searched), {**space.fixed, **searched})

    ledger = Ledger(study, as_trial)
    numbers = {trial.name: at for at, trial in enumerate(trials)}
    if role is Role.SEARCH:
        numbers = {trial.name: int(trial.name) for trial in trials}
        _add_searches(study, space, {int(trial.name): trial for trial in trials}, events)
    else:
        for _ in trials:
            study.add_trial(create_trial(state=TrialState.RUNNING))
    frozen, begun = ledger.trials(), {}
    for past in trials:
        live = ledger.reopen(frozen[numbers[past.name]])
        begun[past.name] = past, ledger.begin(live, dict(past.searched))
    for event in events:
        if event.get("trial") not in begun:
            continue
        past, trial = begun[event["trial"]]
        if event["event"] == "observation":
            ledger.report(trial, event["basis_points"], _compared(event, space.prune.signal))
            if role is Role.SEARCH:
                ledger.live(trial).should_prune()  # rules that go by rungs note them
        elif event["event"] == "outcome":
            _end(ledger, trial, past, event, space)
    frozen = [*study.get_trials()]
    for past in trials:  # pages that show studies go by these
        its = frozen[numbers[past.name]]
        its.datetime_start = datetime.fromtimestamp(past.started / 1000)
        if past.ended is not None:
            its.datetime_complete = datetime.fromtimestamp(past.ended / 1000)
    return frozen


def _add_searches(
    study: optuna.Study, space: Space, trials: Mapping[int, TrialView], events: Iterable[Event]
) -> None:
    """Add every search trial as it was proposed, by number; what was never begun as rejected."""
    marks, beside = _marks(space, trials), _beside(trials, events)
    for number in range(max(trials, default=-1) + 1):
        if number not in trials:
            study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={REJECTED_ATTR: LOST}))
            continue
        trial = trials[number]
        settings = {**space.fixed, **trial.searched}
        try:
            chosen = place(space.hyperparameters, settings)
        except Outside as error:
            raise SweepError(
                f"the ledger cannot be written anew: trial {trial.name} had {error}",
                hint="resolved.yaml and journal.jsonl are of different sweeps; put a copy back.",
            ) from None
        active = [hp for hp in space.hyperparameters if hp.active(chosen)]
        attrs: dict[str, Any] = {SETTINGS_ATTR: dict(trial.searched), **marks[number]}
        attrs |= {OPEN_ATTR: beside[number]} if beside.get(number) else {}
        attrs |= {} if trial.expected_gain is None else {GAIN_ATTR: trial.expected_gain}
        limits = space.constraints
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={hp.parameter: chosen[hp.setting] for hp in active},
                distributions={hp.parameter: distribution(hp) for hp in active},
                user_attrs=attrs,
                constraints=violations(settings, limits) if limits else None,
            )
        )


def _marks(space: Space, trials: Mapping[int, TrialView]) -> dict[int, dict[str, int]]:
    """Which trials are points of the space, and which repeat others with another seed."""
    marks: dict[int, dict[str, int]] = {number: {} for number in trials}
    first = seed({}, space)
    for number, trial in sorted(trials.items()):
        on = int(trial.searched.get(SEED, first)) - first  # type: ignore[arg-type]
        if space.repeat > 1 and on > 0:
            same = [n for n in trials if n < number and _proposal(trials[n]) == _proposal(trial)]
            taken = {m[REPEATS] for m in marks.values() if m.get(SEEDS_ON) == on}
            left = [n for n in same if not marks[n] and n not in taken]
            marks[number] = {REPEATS: (left or same or [number])[0], SEEDS_ON: on}
    for at, point in enumerate(space.points):
        for number in sorted(trials):
            settings = {**space.fixed, **trials[number].searched}
            fits = all(settings.get(name, value) == value for name, value in point.items())
            if fits and not marks[number]:
                marks[number] = {POINT: at}
                break
    return marks


def _proposal(trial: TrialView) -> dict[str, Any]:
    return {name: value for name, value in trial.searched.items() if name not in SEEDS}


def _beside(trials: Mapping[int, TrialView], events: Iterable[Event]) -> dict[int, dict[str, int]]:
    """Of each trial, those that ran when it began and how far they were, in basis points."""
    names = {trial.name: number for number, trial in trials.items()}
    running: dict[str, int] = {}
    beside: dict[int, dict[str, int]] = {}
    for event in events:
        number = names.get(event.get("trial", ""))
        if number is None:
            continue
        if event["event"] == "trial" and number not in beside:
            beside[number] = dict(running)
            running[str(number)] = 0
        elif event["event"] == "observation":
            running[str(number)] = event["basis_points"]
        elif event["event"] == "outcome":
            running.pop(str(number), None)
    return beside


def _compared(event: Event, signal: str) -> float:
    """The loss that the ledger had for an observation."""
    if event.get("diverged_step") is not None:
        return math.inf
    told: dict[str, Any] = {name: event.get(name, math.nan) for name in FIELDS}
    return compared_loss(Progress(**told), signal)


def _end(ledger: Ledger, trial: Trial, past: TrialView, event: Event, space: Space) -> None:
    ending = trial_ending(event)
    limits = [limit for limit in space.constraints if limit.quantity == SECONDS]
    beyond: dict[str, float] = {}
    if trial.role is Role.SEARCH and limits and ending.outcome is not Outcome.FAILED:
        seconds = [
            (its["basis_points"], its["seconds"] + its.get("trunk_seconds", 0.0))
            for its in past.observations
        ]
        projected = projected_seconds(seconds) if seconds else 0.0
        beyond = {str(limit): limit.violation(projected) for limit in limits}
    loss = past.val_loss if ending is TrialEnding.FINISHED else None
    ledger.tell(trial, ending, event["reason"], loss, beyond)
