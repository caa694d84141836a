"""Searches that are over, by the fake trainer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import SIX_RECIPES, noisy_train
from sweeps import make_space

from sweep.run.driver import Job, Options, drive, search
from sweep.run.manifest import write_or_compare


@pytest.fixture
def search_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Search a space to its end; nobody publishes it. Returns the run folder."""
    silent = SimpleNamespace(
        start=lambda folder: None, close=lambda process: None, finish=lambda process: True
    )
    monkeypatch.setattr("sweep.run.driver.process", silent)

    def search_in(text: str) -> Path:
        space = make_space(tmp_path, text)
        space = replace(space, fixed={**space.fixed, "data.digest": "d1"})
        path = tmp_path / "runs" / "fake"
        path.mkdir(parents=True)
        write_or_compare(path, space, text)
        here = Options(here=True, plain=True)
        assert drive(Job(space, path, search(space, path)), here, noisy_train) == 0
        return path

    return search_in


@pytest.fixture
def folder(search_in: Callable[[str], Path]) -> Path:
    """A search that is over."""
    return search_in(SIX_RECIPES)


@pytest.fixture
def store_at_hand(tmp_path: Path, empty_store: Path) -> None:
    """MLflow's database beside the run folders, as after a first sweep: making it takes seconds."""
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs")
