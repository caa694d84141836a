"""Proposals that are made before there is a slot for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fakes import SPACE, fake_curves, fake_train
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from sweeps import make_space, session_in

from model.config import Config
from model.progress import Progress
from sweep.journal import Journal
from sweep.records import Ending, Trial
from sweep.replay.bank import make_bank
from sweep.replay.simulator import replay
from sweep.session import trial_queue
from sweep.session.enqueue import OPEN_ATTR
from sweep.session.roles import Searching, SearchTrials
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.settings import PruneConfig, SamplerConfig
from sweep.space.space import Space

NO_BASELINE = ("baseline.multiples=", "prune.rule=none", "sampler.name=surface")


class Workers:
    """Two trials that run at once; each `train` makes one evaluation more of one of them."""

    def __init__(self, session: Session, folder: Path) -> None:
        session.queue.budget.slots = 2
        self.session, self.folder = session, folder
        self.training: dict[str, tuple[Trial, list[Progress]]] = {}

    def begin(self) -> str:
        trial = self.session.next_trial()
        assert trial is not None
        evaluations = list(fake_train(Config.from_settings(trial.settings), self.folder / "x"))
        self.training[trial.name] = trial, evaluations
        return trial.name

    def train(self, name: str, evaluations: int) -> None:
        trial, left = self.training[name]
        for _ in range(evaluations):
            self.session.observe(trial, left.pop(0))
            self.session.ask_ahead()


@pytest.fixture
def begin(tmp_path: Path, storage: BaseStorage) -> Iterator[Callable[..., Workers]]:
    """Begins a driver of two workers; the one before it vanishes as if killed."""
    drivers: list[Workers] = []

    def start(*overrides: str) -> Workers:
        for driver in drivers:
            driver.session.journal.close()
        space = make_space(tmp_path, SPACE, *NO_BASELINE, *overrides)
        drivers.append(Workers(session_in(tmp_path, space, storage), tmp_path))
        return drivers[-1]

    yield start
    drivers[-1].session.journal.close()


def proposed(storage: BaseStorage) -> list[FrozenTrial]:
    """Every trial of the search that the ledger has."""
    return optuna.load_study(study_name="search", storage=storage).trials


def test_the_next_trial_is_proposed_once_another_is_about_to_end(
    begin: Callable[..., Workers], storage: BaseStorage
) -> None:
    two = begin()
    first, second = two.begin(), two.begin()

    two.train(first, 6)
    assert len(proposed(storage)) == 2
    two.train(first, 1)
    two.train(second, 1)
    assert len(proposed(storage)) == 3
    assert proposed(storage)[2].user_attrs[OPEN_ATTR] == {"0": 8750, "1": 0}
    two.train(first, 1)
    assert two.begin() == "0002"
    assert len(proposed(storage)) == 3


def test_nobody_reads_of_a_trial_before_it_begins(begin: Callable[..., Workers]) -> None:
    two = begin()
    first, _ = two.begin(), two.begin()

    two.train(first, 7)
    assert list(two.session.journal.view.trials) == ["0000", "0001"]
    two.train(first, 1)
    two.begin()
    assert list(two.session.journal.view.trials) == ["0000", "0001", "0002"]


def test_nothing_is_proposed_ahead_while_a_slot_is_free(
    begin: Callable[..., Workers], storage: BaseStorage
) -> None:
    """That slot would wait for it."""
    two = begin()
    first = two.begin()

    two.train(first, 7)

    assert len(proposed(storage)) == 1


@pytest.mark.parametrize("sampler", ["coordinate", "surface"])
def test_what_depends_on_the_last_result_is_not_proposed_ahead_of_it(
    begin: Callable[..., Workers], storage: BaseStorage, sampler: str
) -> None:
    """Neither a step of coordinate descent, nor anything where one trial runs at a time."""
    driver = begin(f"sampler.name={sampler}")
    driver.session.queue.budget.slots = 2 if sampler == "coordinate" else 1
    running = [driver.begin() for _ in range(driver.session.queue.budget.slots)]

    driver.train(running[0], 7)

    assert len(proposed(storage)) == len(running)


def test_a_trial_proposed_ahead_by_a_killed_driver_is_run_by_the_next_once(
    begin: Callable[..., Workers], storage: BaseStorage
) -> None:
    two = begin("budget.trials=4")
    first, second = two.begin(), two.begin()
    two.train(first, 7)
    ahead = proposed(storage)[2].params

    two = begin("budget.trials=4")
    names = [two.begin(), two.begin()]
    two.train(first, 8)
    names.append(two.begin())
    two.train(second, 8)
    names.append(two.begin())
    for name in names[2:]:
        two.train(name, 8)

    assert names == ["0000", "0001", "0002", "0003"]
    assert two.session.next_trial() is None
    assert two.session.end.ending is Ending.TRIALS_SPENT
    assert proposed(storage)[2].params == ahead


def test_a_trial_proposed_ahead_does_not_begin_once_the_target_is_reached(
    begin: Callable[..., Workers], storage: BaseStorage
) -> None:
    """Neither by the driver that proposed it nor by the next."""
    two = begin("budget.target_loss=4.9")
    first, second = two.begin(), two.begin()
    two.train(first, 7)
    assert len(proposed(storage)) == 3

    two.train(first, 1)
    assert two.session.next_trial() is None
    two.train(second, 8)
    assert two.session.end.ending is Ending.TARGET_REACHED

    two = begin("budget.target_loss=4.9")
    assert two.session.next_trial() is None
    assert two.session.end.ending is Ending.TARGET_REACHED
    assert list(two.session.journal.view.trials) == ["0000", "0001"]


def test_a_trial_proposed_ahead_does_not_begin_once_the_search_has_settled(
    begin: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = begin("budget.settled=stop")
    first, _ = two.begin(), two.begin()
    two.train(first, 8)

    monkeypatch.setattr(trial_queue, "settled", lambda view: "settled")

    assert two.session.next_trial() is None
    assert two.session.end.ending is Ending.SETTLED
    monkeypatch.undo()
    assert two.begin() == "0002"


def test_what_the_budget_rejects_ahead_is_not_asked_again_before_a_trial_ends(
    begin: Callable[..., Workers], storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = begin()
    first, _ = two.begin(), two.begin()
    monkeypatch.setattr(two.session.queue.budget, "misfit", lambda trial, running: "needs more")

    two.train(first, 7)
    for _ in range(5):
        two.session.ask_ahead()

    assert len(proposed(storage)) == 3
    monkeypatch.undo()
    two.train(first, 1)
    assert two.begin() == "0003"


def as_it_was(storage: BaseStorage, number: int, space: Space) -> SearchTrials:
    """The ledger as it was when the trial of that number was proposed, by what that trial notes."""
    past = SearchTrials(InMemoryStorage(), space)
    trials = proposed(storage)
    seen = trials[number].user_attrs.get(OPEN_ATTR, {})
    for trial in trials[:number]:
        if str(trial.number) in seen:
            trial.state, trial.values, trial.datetime_complete = TrialState.RUNNING, None, None
            trial.intermediate_values = {
                step: loss
                for step, loss in trial.intermediate_values.items()
                if step <= seen[str(trial.number)]
            }
        past.ledger.study.add_trial(trial)
    return past


@pytest.mark.parametrize("name", ["surface", "tpe"])
def test_every_proposal_can_be_made_again_from_what_the_ledger_says_it_had_seen(name: str) -> None:
    bank = make_bank(fake_curves())
    sampler = SamplerConfig(name=name, startup_trials=4, seed=5)
    space = replace(bank.space(sampler, PruneConfig(startup_trials=3), 16), points=())
    storage = open_storage(None)
    session = Session(space, Searching.open(storage, space), Journal(None))
    session.queue.budget.slots = 3

    replay(session, bank, bank.repetition(5), workers=3, between=session.ask_ahead)

    trials = [t for t in proposed(storage) if t.state.is_finished()]
    late = [max(t.user_attrs.get(OPEN_ATTR, {"": 0}).values()) >= 8000 for t in trials]
    assert sum(late) >= 3
    again = [as_it_was(storage, t.number, space).ask().searched for t in trials]
    assert again == [t.user_attrs["settings"] for t in trials]
