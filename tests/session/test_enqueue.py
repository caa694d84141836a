"""What is asked besides the sampler's proposals, and what is never trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from fakes import SPACE, fake_train
from optuna.storages import BaseStorage
from sweeps import make_space

from model.config import trial_flops
from model.config.config import Config
from model.progress import Progress
from sweep.errors import SweepError
from sweep.records import Ending, Outcome, Role
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.session import Session
from sweep.space.constraint import violations
from sweep.space.space import Space
from sweep.view import TrialView

Open = Callable[[Space], Session]
SCALES = """
search:
  gpt.scale: {min: 0.5, max: 8, log: true}
  train.epochs: [1, 2]
budget: {trials: 10}
prune: {rule: none}
sampler: {name: tpe, startup_trials: 4}
"""


def searched(session: Session, folder: Path, train: local.Train = fake_train) -> list[TrialView]:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    return session.journal.view.searches()


def study(storage: BaseStorage) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=storage)


def test_points_are_asked_first_and_the_sampler_gives_the_rest(
    open_session: Open, tmp_path: Path
) -> None:
    text = SPACE + "points: [{train.epochs: 4, optim.name: muon, optim.lr: 0.03}, {optim.lr: 2e-3}]"
    space = make_space(tmp_path, text)

    first, second, *others = searched(open_session(space), tmp_path)

    asked = {"train.epochs": 4, "optim.name": "muon", "optim.lr": 0.03}
    assert first.searched.items() >= asked.items()
    assert "optim.weight_decay_multiplier" in first.searched
    if second.searched["optim.name"] == "adamw":
        assert second.searched["optim.lr"] == 2e-3
    assert len(others) == 10


def test_a_point_gets_the_alternative_that_has_its_value(
    open_session: Open, tmp_path: Path
) -> None:
    """Whatever the sampler would have chosen: with another optimizer the rate went unused."""
    points = "points: [{optim.lr: 2e-3}, {optim.lr: 2.1e-3}, {optim.lr: 0.08}, {optim.lr: 0.09}]"

    trials = searched(open_session(make_space(tmp_path, SPACE + points)), tmp_path)

    assert [trial.searched["optim.lr"] for trial in trials[:4]] == [2e-3, 2.1e-3, 0.08, 0.09]


def test_a_point_is_asked_again_if_what_was_drawn_beside_it_breaks_a_constraint(
    open_session: Open, tmp_path: Path
) -> None:
    points = "points: [{train.epochs: 2}, {train.epochs: 1}, {train.epochs: 2}]"
    text = f"{SCALES}{points}\nconstraints: [gpt.block_parameters <= 120k]"
    for seed in range(3):
        space = make_space(tmp_path, text, f"sampler.seed={seed}", "sampler.name=random")

        trials = searched(open_session(space), tmp_path / str(seed))

        assert [trial.searched["train.epochs"] for trial in trials[:3]] == [2, 1, 2]


def test_a_driver_that_dies_before_asking_a_point_loses_and_doubles_none(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    from sweep.session.enqueue import enqueue_next

    space = make_space(tmp_path, SCALES + "points: [{train.epochs: 2}, {train.epochs: 1}]")
    session = open_session(space)
    enqueue_next(study(storage), space)
    enqueue_next(study(storage), space)
    assert len(study(storage).trials) == 1

    trials = searched(session, tmp_path)

    assert [trial.searched["train.epochs"] for trial in trials[:2]] == [2, 1]
    assert len(trials) == 10
    assert [t.user_attrs["point"] for t in study(storage).trials if "point" in t.user_attrs] == [
        0,
        1,
    ]


def test_each_proposal_is_trained_with_so_many_seeds(open_session: Open, tmp_path: Path) -> None:
    space = make_space(tmp_path, SCALES + "repeat: {seeds: 3}\nfixed: {train.seed: 7}")

    trials = searched(open_session(space), tmp_path)

    proposals = Counter(trial.searched["gpt.scale"] for trial in trials)
    assert sorted(proposals.values()) == [1, 3, 3, 3]
    assert [trial.settings["train.seed"] for trial in trials[:4]] == [7, 8, 9, 7]


def test_what_was_pruned_is_not_repeated(open_session: Open, tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE + "repeat: 2")

    trials = searched(open_session(space), tmp_path)

    pruned = [t for t in trials if t.outcome is Outcome.PRUNED and t.settings["train.seed"] == 0]
    assert pruned
    for trial in pruned:
        decay = trial.searched["optim.weight_decay_multiplier"]
        assert sum(t.searched["optim.weight_decay_multiplier"] == decay for t in trials) == 1


def test_a_proposal_that_breaks_a_constraint_is_never_trained(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    space = make_space(tmp_path, SCALES + "constraints: [gpt.block_parameters <= 250k]")

    trials = searched(open_session(space), tmp_path)

    assert len(trials) == 10
    assert all(violations(t.settings, space.constraints).popitem()[1] <= 0 for t in trials)
    turned_down = [t for t in study(storage).trials if "infeasible" in t.user_attrs]
    assert turned_down
    assert all(t.state.name == "PRUNED" and max(t.constraints.values()) > 0 for t in turned_down)
    assert not {f"{t.number:04d}" for t in turned_down} & {t.name for t in trials}


def test_a_continued_sweep_knows_what_was_turned_down(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    text = SCALES + "constraints: [gpt.block_parameters <= 250k]"
    searched(open_session(make_space(tmp_path, text, "budget.trials=8")), tmp_path)
    assert any("infeasible" in t.user_attrs for t in study(storage).trials)

    trials = searched(open_session(make_space(tmp_path, text)), tmp_path)

    assert len(trials) == 10


def test_a_proposal_left_between_asking_and_turning_down_is_turned_down(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    space = make_space(tmp_path, SCALES + "constraints: [gpt.block_parameters <= 250k]")
    open_session(space)
    study(storage).enqueue_trial({"gpt.scale": 8.0})
    left = study(storage).ask()
    left.suggest_float("gpt.scale", 0.5, 8, log=True)

    trials = searched(open_session(space), tmp_path)

    assert len(trials) == 10
    assert "infeasible" in study(storage).trials[left.number].user_attrs


def test_a_space_that_proposals_never_enter_is_an_error_that_says_so(
    open_session: Open, tmp_path: Path
) -> None:
    """A corner keeps the constraint, so the check passes; no random proposal does."""
    text = """
search: {train.epochs: {min: 1, max: 100000}}
constraints: [train.steps >= 6_300_000]
sampler: {name: random}
"""
    session = open_session(make_space(tmp_path, text))

    with pytest.raises(SweepError, match="200 proposals in a row break a constraint"):
        searched(session, tmp_path)


def slow_train(config: Config, folder: Path) -> list[Progress]:
    """A hundred seconds for each epoch, and fifty of compiling before."""
    return [
        Progress(
            **{**p.to_dict(), "seconds": 50 + 100 * config.train.epochs * p.basis_points / 1e4}
        )
        for p in fake_train(config, folder)
    ]


def test_a_trial_is_stopped_as_soon_as_its_projected_time_breaks_the_limit(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    space = make_space(tmp_path, SCALES + "constraints: [train.seconds <= 3min]")

    trials = searched(open_session(space), tmp_path, lambda c, f: iter(slow_train(c, f)))

    slow = [t for t in trials if t.settings["train.epochs"] == 2]
    assert slow
    assert {t.reason for t in slow} == {"would take 250 s: train.seconds <= 180"}
    assert {len(t.observations) for t in slow} == {2}
    assert all(t.outcome is Outcome.COMPLETE for t in trials if t not in slow)
    beyond = {t.constraints["train.seconds <= 180"] for t in study(storage).trials}
    assert sorted(beyond) == pytest.approx([150 / 180 - 1, 250 / 180 - 1])


def test_the_baseline_keeps_no_constraint(open_session: Open, tmp_path: Path) -> None:
    text = SCALES + "constraints: [train.seconds <= 2min]\nbaseline: {multiples: [1]}"
    session = open_session(make_space(tmp_path, text))

    searched(session, tmp_path, lambda c, f: iter(slow_train(c, f)))

    (plain,) = [t for t in session.journal.view.trials.values() if t.role is Role.BASELINE]
    assert plain.outcome is Outcome.COMPLETE


LIMITED = """
search:
  train.epochs: [1, 2, 32]
  gpt.dropout: {min: 0.0, max: 0.5}
prune: {rule: none}
sampler: {name: random}
"""
EPOCH = trial_flops({"train.epochs": 1})


def within(epochs: float, trials: int) -> list[str]:
    """Overrides: FLOPs for so many epochs, and so many trials."""
    return [f"budget.flops={epochs * EPOCH}", f"budget.trials={trials}"]


def test_a_point_that_did_not_fit_the_budget_is_asked_once_it_does(
    open_session: Open, tmp_path: Path
) -> None:
    text = LIMITED + "points: [{train.epochs: 32, gpt.dropout: 0.25}]"
    small = searched(open_session(make_space(tmp_path, text, *within(4.5, 9))), tmp_path)
    assert small
    assert 32 not in {trial.searched["train.epochs"] for trial in small}

    trials = searched(open_session(make_space(tmp_path, text, *within(900, 9))), tmp_path)

    assert trials[len(small)].searched == {"train.epochs": 32, "gpt.dropout": 0.25}


def test_a_point_that_does_not_fit_leaves_room_for_those_that_do(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    """It is rejected once, and not again at each proposal."""
    text = LIMITED + "points: [{train.epochs: 32}, {train.epochs: 2}]"

    trials = searched(open_session(make_space(tmp_path, text, *within(4.5, 9))), tmp_path)

    assert trials[0].searched["train.epochs"] == 2
    assert [t.user_attrs["point"] for t in study(storage).trials if "point" in t.user_attrs] == [
        0,
        1,
    ]


def test_a_point_that_did_not_fit_beside_a_trial_is_asked_when_that_ends(
    open_session: Open, tmp_path: Path
) -> None:
    text = LIMITED.replace("[1, 2, 32]", "[2]") + "points: [{gpt.dropout: 0.1}, {gpt.dropout: 0.2}]"
    session = open_session(make_space(tmp_path, text, *within(3.5, 9)))
    first = session.next_trial()
    assert first is not None
    assert session.next_trial() is None

    session.fail(first, "RuntimeError: at once")

    second = session.next_trial()
    assert second is not None
    assert second.searched["gpt.dropout"] == 0.2


def test_repeats_that_did_not_fit_the_budget_are_trained_once_they_do(
    open_session: Open, tmp_path: Path
) -> None:
    text = LIMITED.replace("[1, 2, 32]", "[2]") + "repeat: 3"
    assert len(searched(open_session(make_space(tmp_path, text, *within(3, 6))), tmp_path)) == 1

    trials = searched(open_session(make_space(tmp_path, text, *within(900, 6))), tmp_path)

    proposals = Counter(trial.searched["gpt.dropout"] for trial in trials)
    assert sorted(proposals.values()) == [3, 3]
    assert [trial.settings["train.seed"] for trial in trials] == [0, 1, 2, 0, 1, 2]


def test_asking_a_session_how_it_stands_changes_nothing_in_the_storage(
    open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    """A grid is through while a seed of its last point is still to be trained."""
    text = "search: {train.epochs: [1, 2]}\nsampler: {name: grid}\nrepeat: 2\nprune: {rule: none}"
    session = open_session(make_space(tmp_path, text))
    for _ in range(3):
        assert session.next_trial() is not None
    before = stored(storage)

    answers = session.has_work, session.end, session.gave_up, session.certificate()

    assert answers[0]
    assert stored(storage) == before
    last = session.next_trial()
    assert last is not None
    assert last.settings["train.seed"] == 1
    assert session.end.ending is Ending.NOTHING_LEFT


def stored(storage: BaseStorage) -> list[object]:
    return [
        (study.study_name, study.user_attrs, storage.get_all_trials(study._study_id))
        for study in storage.get_all_studies()
    ]
