"""The search's study, rewritten for the space as it is now.

Optuna fixes the choices of a categorical parameter, and whether a range is logarithmic, when it
first sees them. So a study of a space that grew is written anew, trial for trial with the same
numbers, in one storage: the sampler then knows every old trial in the wider space. The newest whole
study counts; one that a crash left half written is written again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from model.config import Value
from sweep.records import Role
from sweep.session.distributions import distribution
from sweep.session.enqueue import INFEASIBLE, REJECTED_ATTR, SETTINGS_ATTR
from sweep.space import Space
from sweep.space.compatibility import Outside, place

OBJECTIVE = "val_loss"
SPACE_ATTR = "space"  # what a study searches and what it leaves fixed; set when it is whole


def open_study(storage: BaseStorage, role: Role, space: Space) -> optuna.Study:
    """The study of `role`, made or rewritten if need be.

    Raises Outside if a trial has no place in `space`; `sweep.space.compatibility` says so before.
    """
    if role is not Role.SEARCH:
        return _named(storage, role.value)
    definition = {key: space.resolved()[key] for key in ("search", "fixed")}
    name, version = _newest(storage, role.value)
    study = _named(storage, name)
    before = study.user_attrs.get(SPACE_ATTR)
    if before is None:  # a new study, or one that a crash left before this was set
        study.set_user_attr(SPACE_ATTR, definition)
    elif before != definition:
        if before["search"] != definition["search"]:
            name = f"{role.value} {version + 1}"
            study = _rewritten(storage, study, name, before["fixed"], space)
        study.set_user_attr(SPACE_ATTR, definition)
    return study


def _named(storage: BaseStorage, name: str) -> optuna.Study:
    """The study of this name, whose objective has a name too: optuna-dashboard shows it."""
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    if study.metric_names != [OBJECTIVE]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([OBJECTIVE])
    return study


def _newest(storage: BaseStorage, name: str) -> tuple[str, int]:
    """The latest study that is whole, and its version; those after it are deleted."""
    studies = {study.study_name: study for study in storage.get_all_studies()}
    version = 1
    while f"{name} {version + 1}" in studies:
        version += 1
    while version > 1:
        latest = studies[f"{name} {version}"]
        if SPACE_ATTR in latest.user_attrs:
            return latest.study_name, version
        storage.delete_study(latest._study_id)
        version -= 1
    return name, version


def _rewritten(
    storage: BaseStorage, study: optuna.Study, name: str, fixed: Mapping[str, Value], space: Space
) -> optuna.Study:
    wider = _named(storage, name)
    for trial in study.get_trials(deepcopy=False):
        wider.add_trial(_rewritten_trial(trial, fixed, space))
    return wider


def _rewritten_trial(trial: FrozenTrial, fixed: Mapping[str, Value], space: Space) -> FrozenTrial:
    """`trial` with the parameters that the space as it is now would have given it."""
    if trial.state is TrialState.WAITING:
        # It was enqueued by the old names of parameters; it is enqueued again, by the new.
        reason = {REJECTED_ATTR: "waited while the space grew"}
        return create_trial(state=TrialState.FAIL, user_attrs=reason)
    chosen: dict[str, Value] = {}
    if SETTINGS_ATTR in trial.user_attrs:  # else a crash came before its settings were noted
        try:
            chosen = place(space.hyperparameters, {**fixed, **trial.user_attrs[SETTINGS_ATTR]})
        except Outside as error:
            trained = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            if trained and INFEASIBLE not in trial.user_attrs:
                raise
            # Nothing was learned from it; only its number stays taken.
            attrs = {**trial.user_attrs, REJECTED_ATTR: f"had {error}"}
            return create_trial(state=TrialState.FAIL, user_attrs=attrs)
    active = [hp for hp in space.hyperparameters if chosen and hp.active(chosen)]
    user_attrs: dict[str, Any] = dict(trial.user_attrs)
    if chosen:  # what no hyperparameter chose stays, as a seed that the sweep counted up
        user_attrs[SETTINGS_ATTR] = {**trial.user_attrs[SETTINGS_ATTR], **chosen}
    rewritten = create_trial(
        state=trial.state,
        values=trial.values,
        params={hp.parameter: chosen[hp.setting] for hp in active},
        distributions={hp.parameter: distribution(hp) for hp in active},
        user_attrs=user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )
    rewritten.datetime_start = trial.datetime_start
    rewritten.datetime_complete = trial.datetime_complete
    return rewritten
