from __future__ import annotations

from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from sweep.session.storage import open_storage


def test_a_study_read_by_plain_rows_is_the_one_that_optuna_reads(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    study = optuna.create_study(storage=open_storage(path), study_name="search")
    for state, value in ((TrialState.COMPLETE, 2.5), (TrialState.FAIL, None)):
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params={"b": "lion", "a": 0.25},
                distributions={
                    "b": CategoricalDistribution(["adamw", "lion"]),
                    "a": FloatDistribution(0.1, 1.0, log=True),
                },
                user_attrs={"settings": {"optim.lr": 0.1}, "reason": "none"},
                system_attrs={"note": [1, 2]},
                intermediate_values={10: 3.0, 5: float("inf"), 20: float("-inf")},
            )
        )
    study.enqueue_trial({"a": 0.5})
    live = study.ask()
    live.report(4.0, 1)
    other = optuna.create_study(storage=open_storage(path), study_name="baseline")
    other.ask()

    for name in ("search", "baseline"):
        ours = optuna.load_study(study_name=name, storage=open_storage(path))
        theirs = optuna.load_study(study_name=name, storage=RDBStorage(f"sqlite:///{path}"))
        assert ours.get_trials() == theirs.get_trials()
        assert [list(t.params) for t in ours.trials] == [list(t.params) for t in theirs.trials]
        assert all(isinstance(t.datetime_start, datetime | None) for t in ours.trials)


def test_what_is_in_memory_is_what_the_file_has_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    study = optuna.create_study(storage=open_storage(path), study_name="search")

    def agree() -> bool:
        theirs = optuna.load_study(study_name="search", storage=RDBStorage(f"sqlite:///{path}"))
        pairs = zip(study.get_trials(), theirs.get_trials(), strict=True)
        names = ("number", "state", "params", "distributions", "user_attrs", "system_attrs")
        names += ("intermediate_values", "values")
        return all(getattr(a, name) == getattr(b, name) for a, b in pairs for name in names)

    study.enqueue_trial({"a": 0.5}, user_attrs={"point": 1})
    live = study.ask()
    held = study.get_trials(deepcopy=False)[0]
    assert live.suggest_float("a", 0.1, 1.0, log=True) == 0.5
    live.suggest_categorical("b", ["adamw", "lion"])
    live.set_user_attr("settings", {"betas": (0.9, 0.99)})
    live.report(float("inf"), 5)
    assert agree()
    assert held.params == {}  # who asked before is not surprised
    study.tell(live, 1.5)
    assert agree()
    study.tell(study.ask(), state=TrialState.FAIL)
    assert agree()
    assert [t.number for t in study.get_trials(states=(TrialState.FAIL,))] == [1]


def test_trials_under_way_are_known_as_they_are_now(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(tmp_path / "study.db"))
    first, second = study.ask(), study.ask()
    study.tell(second, 1.0)  # a later trial ends first
    assert [t.state.name for t in study.get_trials()] == ["RUNNING", "COMPLETE"]

    first.report(2.0, 5)
    third = study.ask()

    assert study.get_trials()[0].intermediate_values == {5: 2.0}
    assert study.get_trials()[third.number].state is TrialState.RUNNING
