"""Spaces read from text, sessions over them, and sweeps driven to their end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_server import wait_until
from optuna.storages import BaseStorage

from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import Journal, read_events
from sweep.records import End, Ending, Event
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.search.earlier import EarlierSweep
from sweep.session.roles import Searching
from sweep.session.session import Session
from sweep.space.language.reader import read_space
from sweep.space.space import Space
from sweep.tracking import process
from sweep.view import View

WANDB_FILE = """
program: train.py
project: little-data
method: random
metric: {name: val_loss, goal: minimize}
run_cap: 40
parameters:
  optim.name: {values: [adamw, muon]}
  optim.lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}
  gpt:
    parameters:
      dropout: {distribution: q_uniform, min: 0.0, max: 0.4, q: 0.1}
      layers: {value: 4}
  train.epochs: {min: 1, max: 8}
  train.batch_tokens: {distribution: categorical, values: [512, 1024]}
  data.train_tokens: {distribution: constant, value: 64k}
"""

TRAINED = """
name: quickstart
search:
  train.epochs: [1, 2, 4]
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-1, log: true}
    - {when: {optim.name: muon}, min: 1e-3, max: 1e-1, log: true}
fixed:
  data.train_tokens: 2049
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  gpt.context: 32
  train.batch_tokens: 256
  train.precision: fp32
  train.device: cpu
  train.evals: 4
budget: {trials: 5}
sampler: {name: random, seed: 2}
prune: {rule: none}
baseline: {multiples: [1, 2]}
"""


def make_space(folder: Path, text: str, *overrides: str) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return read_space(path, overrides)


def sharing_space(folder: Path, small: dict[str, object], *overrides: str) -> Space:
    """Two recipes of 1, 2 and 4 epochs that share trunks, in an order that goes up and down.

    Of 8, 16 and 32 steps, 6, 12 and 24 are the trunk's.
    """
    fixed = {
        **{name: v for name, v in small.items() if name != "train.epochs"},
        "optim.schedule": "constant_linear",
        "optim.warmup_epochs": 0.3,
        "optim.warmdown": 0.25,
    }
    text = f"""
name: shared
search:
  train.epochs: [1, 2, 4]
  optim.lr: [0.004, 0.008]
fixed: {json.dumps(fixed)}
trial: {{share_trunks: true}}
sampler: {{name: grid}}
prune: {{rule: none}}
budget: {{trials: 6}}
"""
    return make_space(folder, text, *overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SweepError, match="problem") as caught:
        make_space(folder, text, *overrides)
    assert caught.value.code == 2
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


def without_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give drivers in this process a publisher that takes everything at once and says nothing."""

    def start(folder: Path, uri: str = "", how: str = process.FOLLOW) -> subprocess.Popen[bytes]:
        # It ends when its driver closes the pipe, as the publisher does.
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    monkeypatch.setattr(process, "start", start)


def session_in(
    folder: Path,
    space: Space,
    storage: BaseStorage,
    watch: Callable[[Event], None] = lambda event: None,
    earlier: tuple[EarlierSweep, ...] = (),
) -> Session:
    journal = Journal(folder / JOURNAL)
    about = {"id": "1", "name": space.name, "trials": space.budget.trials, "fixed": {}, "data": "0"}
    journal.append("sweep", train_tokens=space.train_tokens, **about)
    try:
        return Session(space, Searching.open(storage, space, earlier), journal, watch)
    except SweepError:
        journal.close()
        raise


def finished(session: Session, train: local.Train, folder: Path) -> View:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    session.close(End(Ending.TRIALS_SPENT))
    return session.journal.view


def wait_for_observations(
    journal: Path, count: int, driver: subprocess.Popen[str], of: str = ""
) -> None:
    """Return as soon as the journal has `count` observations; fails if the driver ends before.

    of   what the names of the trials that count have in them, such as "-s" of fresh seeds
    """

    def enough() -> bool:
        if driver.poll() is not None:
            output = driver.communicate()[0]
            raise AssertionError(f"too few observations before the driver ended:\n{output}")
        events = [event for event, _ in read_events(journal)] if journal.exists() else []
        return sum(e["event"] == "observation" and of in e["trial"] for e in events) >= count

    wait_until(enough, f"{count} observations")


def write_texts(folder: Path, documents: int = 40) -> Path:
    """Make a folder of so many short documents, a kilobyte each; the folder."""
    folder.mkdir()
    for number in range(documents):
        words = [f"{word} {(word * number) % 97}" for word in range(number, number + 110)]
        (folder / f"{number:02}.txt").write_text("\n".join(words))
    return folder
