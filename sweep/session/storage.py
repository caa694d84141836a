"""Where studies are kept: SQLite, or memory."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container
from functools import lru_cache
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState


def open_storage(path: Path | None) -> BaseStorage:
    """SQLite at `path`, or memory. One driver writes; readers may look on meanwhile."""
    if path is None:
        return InMemoryStorage()
    return QuickStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )


class QuickStorage(RDBStorage):  # type: ignore[misc]
    """Optuna's storage, but trials are read by plain rows: it makes an object of each value.

    A study of 1,500 trials has 60,000 values, which was most of what it took to continue a sweep;
    and those of trials under way are read several times for each proposal.
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
