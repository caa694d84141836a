"""MLflow's database is made beside its place; without MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.tracking.database import make_whole


def test_a_database_that_could_not_be_made_is_not_there(tmp_path: Path) -> None:
    """Before, a full disk left one that MLflow could not open, also once there was room."""
    path = tmp_path / "mlflow.db"

    def fill(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make_whole(f"sqlite:///{path}", fill)
    assert not [*tmp_path.iterdir()]

    made: list[str] = []

    def make(uri: str) -> None:
        made.append(uri)
        Path(uri.removeprefix("sqlite:///")).write_text("whole")

    for uri in (f"sqlite:///{path}", f"sqlite:///{path}", "http://host", "sqlite:////nowhere/a.db"):
        make_whole(uri, make)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "whole"
    assert len(made) == 1
