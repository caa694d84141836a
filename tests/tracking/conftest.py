"""One MLflow for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_process import MLflowProcess


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowProcess]:
    process = MLflowProcess(tmp_path_factory.mktemp("mlflow") / "mlflow.log")
    yield process
    process.close()


@pytest.fixture(autouse=True)
def _patient_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a busy machine is slow, which is no failure."""
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "300")
