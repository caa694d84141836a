"""A sweep keeps the weights of what it has trained, and no optimizer state of what has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import SPACE, diverging_train
from sweeps import make_space

from model.config.config import Config
from model.progress import Progress
from model.training import checkpoint
from model.training.checkpoint import RunState
from sweep.folder import JOURNAL, TRIALS
from sweep.journal import read_view
from sweep.run.driver import Job, Options, drive, search


def saving_train(config: Config, folder: Path) -> Iterator[Progress]:
    """As the trainer, whose checkpoint is written before an evaluation is told."""
    for progress in diverging_train(config, folder):
        tree = {"gpt": {"w": torch.ones(64)}, "optimizers": [{"m": torch.ones(64)}]}
        checkpoint.save(folder, RunState(config.settings(), (progress,)), tree)
        yield progress


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    silent = SimpleNamespace(
        start=lambda folder: None, close=lambda process: None, finish=lambda process: True
    )
    monkeypatch.setattr("sweep.run.driver.process", silent)
    space = make_space(tmp_path, SPACE)
    space = replace(space, fixed={**space.fixed, "data.digest": "d1"})
    drive(
        Job(space, tmp_path, search(space, tmp_path)), Options(here=True, plain=True), saving_train
    )
    return tmp_path


def test_trials_that_have_ended_keep_their_weights_alone(folder: Path) -> None:
    trials = read_view(folder / JOURNAL).trials.values()

    assert {trial.outcome for trial in trials} == {"complete", "pruned"}
    for trial in trials:
        tree = checkpoint.restore(folder / TRIALS / trial.name)
        assert tree["optimizers"] is None
        assert torch.equal(tree["gpt"]["w"], torch.ones(64))
