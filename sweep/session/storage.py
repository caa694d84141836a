"""Where studies are kept: SQLite, or memory."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Container, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, _CachedStorage
from optuna.trial import FrozenTrial, TrialState

BY_NUMBER = attrgetter("number")


def open_storage(path: Path | None) -> BaseStorage:
    """SQLite at `path`, or memory. One driver writes; readers may look on meanwhile."""
    if path is None:
        return InMemoryStorage()
    return Mirrored(
        QuickStorage(
            f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
    )


class Mirrored(_CachedStorage):  # type: ignore[misc]
    """Optuna's storage with every trial in memory too, read once: the one driver is who writes.

    Optuna reads whatever has not ended anew at each question. With 1,000 workers that is 1,000
    trials with all their losses, several times an evaluation. Written is the file first, then
    memory; trials are replaced and never changed, as whoever asked before holds them.
    """

    def __init__(self, backend: QuickStorage) -> None:
        super().__init__(backend)
        self._mirrors: dict[int, _Mirror] = {}

    def close(self) -> None:
        """Let go of the file."""
        self._backend.remove_session()
        self._backend.engine.dispose()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        mirror = self._mirror(study_id)
        trial_id = int(super().create_new_trial(study_id, template_trial))
        _, number = self._trial_id_to_study_id_and_number[trial_id]
        mirror.put(self._studies[study_id].trials[number])
        return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        its = self._held(trial_id)
        value = distribution.to_external_repr(param_value_internal)
        self._replace(
            its,
            params={**its.params, param_name: value},
            distributions={**its.distributions, param_name: distribution},
        )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if not super().set_trial_state_values(trial_id, state, values):
            return False
        changes: dict[str, Any] = {"state": state}
        if values is not None:
            changes["values"] = list(values)
        if state is TrialState.RUNNING:
            changes["datetime_start"] = datetime.now()
        if state.is_finished():
            changes["datetime_complete"] = datetime.now()
        self._replace(self._held(trial_id), **changes)
        return True

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        its = self._held(trial_id)
        self._replace(
            its, intermediate_values={**its.intermediate_values, step: intermediate_value}
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        its = self._held(trial_id)
        self._replace(its, user_attrs={**its.user_attrs, key: _as_stored(value)})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        its = self._held(trial_id)
        self._replace(its, system_attrs={**its.system_attrs, key: _as_stored(value)})

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._trial_id_to_study_id_and_number:
            return super().get_trial(trial_id)
        its = copy.copy(self._held(trial_id))
        for name in ("params", "distributions", "user_attrs", "system_attrs"):
            setattr(its, name, dict(getattr(its, name)))
        its.intermediate_values = dict(its.intermediate_values)
        return its  # Optuna's trials write into what they get

    def _held(self, trial_id: int) -> FrozenTrial:
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        return self._mirror(study_id).trials[number]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = self._mirror(study_id).having(states)
        return copy.deepcopy(trials) if deepcopy else trials

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)
        self._mirrors.pop(study_id, None)

    def _mirror(self, study_id: int) -> _Mirror:
        if study_id not in self._mirrors:
            self._mirrors[study_id] = mirror = _Mirror()
            for trial in super().get_all_trials(study_id, deepcopy=False):
                mirror.put(trial)
        return self._mirrors[study_id]

    def _replace(self, before: FrozenTrial, **changes: Any) -> FrozenTrial:
        """Put a changed copy where `before` was."""
        its = copy.copy(before)
        for name, value in changes.items():
            setattr(its, name, value)
        study_id, _ = self._trial_id_to_study_id_and_number[its._trial_id]
        self._mirror(study_id).put(its)
        return its


class _Mirror:
    """The trials of one study by number, and by state."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        self._by_state: dict[TrialState, dict[int, FrozenTrial]] = {s: {} for s in TrialState}

    def put(self, trial: FrozenTrial) -> None:
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self._by_state[self.trials[trial.number].state].pop(trial.number)
            self.trials[trial.number] = trial
        self._by_state[trial.state][trial.number] = trial

    def having(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """Those in one of `states`, or all, by number."""
        if states is None:
            return self.trials.copy()
        chosen = [t for state in TrialState if state in states for t in self._of(state)]
        return sorted(chosen, key=BY_NUMBER)

    def _of(self, state: TrialState) -> list[FrozenTrial]:
        return list(self._by_state[state].values())


def _as_stored(value: Any) -> Any:
    """As the file gives it back: a tuple as a list, an enumeration as its text."""
    return json.loads(json.dumps(value))


class QuickStorage(RDBStorage):  # type: ignore[misc]
    """Optuna's storage, but trials are read by plain rows: it makes an object of each value.

    A study of 1,500 trials has 60,000 values, which was most of what it took to continue a sweep.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            trials: list[FrozenTrial] = super()._get_trials(
                study_id, states, included_trial_ids, trial_id_greater_than
            )
            return trials
        return self._trials(study_id, included_trial_ids, trial_id_greater_than)

    def _trials(self, study_id: int, among: set[int], after: int) -> list[FrozenTrial]:
        """The trials `among` and those whose id is above `after`."""
        from optuna.storages._rdb import models
        from sqlalchemy import or_, select

        trials, number_type = models.TrialModel, models.TrialIntermediateValueModel
        read_value = models.TrialValueModel.stored_repr_to_value
        read_loss = number_type.stored_repr_to_intermediate_value
        distribution = lru_cache(maxsize=None)(json_to_distribution)
        asked = trials.study_id == study_id
        if after > -1:
            early = [number for number in among if number <= after]
            asked &= or_(trials.trial_id > after, trials.trial_id.in_(early))

        with self.engine.connect() as connection:

            def rows(model: Any, *names: str) -> dict[int, list[Any]]:
                """The columns `names` of what belongs to each trial, in the order of writing."""
                columns = [getattr(model, name) for name in ("trial_id", *names)]
                chosen = select(*columns).join(trials, trials.trial_id == model.trial_id)
                by_trial: dict[int, list[Any]] = defaultdict(list)
                key = next(iter(model.__table__.primary_key.columns))
                for row in connection.execute(chosen.where(asked).order_by(key)):
                    by_trial[row[0]].append(row[1:])
                return by_trial

            of_study = select(trials.__table__).where(asked)
            heads = connection.execute(of_study.order_by(trials.trial_id)).all()
            params = rows(models.TrialParamModel, "param_name", "param_value", "distribution_json")
            values = rows(models.TrialValueModel, "objective", "value", "value_type")
            losses = rows(number_type, "step", "intermediate_value", "intermediate_value_type")
            noted = rows(models.TrialUserAttributeModel, "key", "value_json")
            internal = rows(models.TrialSystemAttributeModel, "key", "value_json")
        return [
            FrozenTrial(
                number=head.number,
                state=head.state,
                value=None,
                values=[read_value(v, kind) for _, v, kind in sorted(values[head.trial_id])]
                or None,
                datetime_start=head.datetime_start,
                datetime_complete=head.datetime_complete,
                params={
                    name: distribution(text).to_external_repr(value)
                    for name, value, text in params[head.trial_id]
                },
                distributions={name: distribution(text) for name, _, text in params[head.trial_id]},
                user_attrs={key: json.loads(text) for key, text in noted[head.trial_id]},
                system_attrs={key: json.loads(text) for key, text in internal[head.trial_id]},
                intermediate_values={
                    step: read_loss(loss, kind) for step, loss, kind in losses[head.trial_id]
                },
                trial_id=head.trial_id,
            )
            for head in heads
        ]
