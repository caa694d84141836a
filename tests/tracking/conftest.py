"""One MLflow for all tests of this room, and one empty database that they copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_process import MLflowProcess


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowProcess]:
    process = MLflowProcess(tmp_path_factory.mktemp("mlflow") / "mlflow.log")
    yield process
    process.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory, mlflow_process: MLflowProcess) -> Path:
    """A database as MLflow makes it, which takes seconds: made once, copied for each test."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    assert mlflow_process.runs(f"sqlite:///{path}") == []
    return path


@pytest.fixture(autouse=True)
def _patient_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a busy machine is slow, which is no failure."""
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "300")
