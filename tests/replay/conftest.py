"""The writer of banks, which is part of the benchmark that makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def write_curves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bank_file

    writer: Callable[..., None] = bank_file.write_curves
    return writer
