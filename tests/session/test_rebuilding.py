"""A ledger that was lost is written anew from the journal, and the search goes on as it would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import SPACE, fake_train, noisy_train
from sweeps import make_space, session_in

from model.config.config import Config
from sweep.folder import JOURNAL
from sweep.journal import read_events, read_view
from sweep.records import End, Ending
from sweep.session.ledger_file import disagreements, read_ledger
from sweep.session.rebuilding import rebuild
from sweep.session.storage import open_storage
from sweep.space.space import Space
from sweep.view import TrialView

ASHA = SPACE + "prune: {rule: asha, startup_trials: 2, grace: 0.1}\n"
MIXED = """
name: mixed
search:
  train.epochs: [1, 2, 4]
  gpt.dropout: [0.0, 0.1, 0.2]
points: [{gpt.dropout: 0.2}, {train.epochs: 2, gpt.dropout: 0.1}]
repeat: 2
constraints: [train.seconds <= 100, gpt.parameters <= 1G]
budget: {trials: 9}
sampler: {name: random, seed: 3}
prune: {rule: none}
fixed: {train.evals: 4}
baseline: {multiples: [1]}
"""
SURFACE = SPACE.replace("name: tpe", "name: surface")
TEXTS = {"tpe": SPACE, "asha": ASHA, "mixed": MIXED, "surface": SURFACE}


def drive(folder: Path, space: Space, trials: int) -> dict[str, TrialView]:
    """Go on until so many have begun; the last of them is left at its second evaluation."""
    session = session_in(folder, space, open_storage(folder / "study.db"))
    train = noisy_train if space.repeat > 1 else fake_train
    for left in reversed(range(trials)):
        trial = session.next_trial()
        if trial is None:
            break
        config = Config.from_settings(trial.settings)
        for number, progress in enumerate(train(config, folder / trial.name), 1):
            if session.observe(trial, progress).stop:
                break
            if not left and number == 2:
                session.journal.close()
                return session.journal.view.trials
    session.close(End(Ending.TRIALS_SPENT))
    return session.journal.view.trials


def summary(trials: dict[str, TrialView]) -> list[tuple[object, ...]]:
    return [(t.name, t.outcome, t.reason, t.val_loss, dict(t.searched)) for t in trials.values()]


def studies(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All that the ledger has of each trial, but for times and what the storage calls it."""
    storage = open_storage(path)
    return {
        name: [
            {
                "state": t.state,
                "values": t.values,
                "params": t.params,
                "losses": t.intermediate_values,
                "noted": t.user_attrs,
                "rungs": {k: v for k, v in t.system_attrs.items() if "rung" in k},
                "constraints": t.constraints,
            }
            for t in optuna.load_study(study_name=name, storage=storage).trials
        ]
        for name in optuna.get_all_study_names(storage)
    }


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_ledger_written_anew_is_the_one_that_was_lost_and_the_search_ends_alike(
    text: str, tmp_path: Path
) -> None:
    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    space = make_space(tmp_path, text)
    drive(tmp_path / "whole", space, 7)
    whole = drive(tmp_path / "whole", space, 99)
    folder = tmp_path / "lost"
    drive(folder, space, 7)
    before = studies(folder / "study.db")
    (folder / "study.db").unlink()
    view = read_view(folder / JOURNAL)

    assert len(disagreements(view, read_ledger(folder / "study.db"))) == len(view.trials) == 7
    events = [event for event, _ in read_events(folder / JOURNAL)]
    rebuild(folder / "study.db", space, view, events)

    assert disagreements(view, read_ledger(folder / "study.db")) == []
    assert studies(folder / "study.db") == before
    assert summary(drive(folder, space, 99)) == summary(whole)
