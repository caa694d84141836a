"""Who holds a file locked, asked by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import files
from sweep import folder as run_folder
from sweep.errors import SweepError


def test_to_ask_for_a_lock_that_nobody_took_leaves_no_file(tmp_path: Path) -> None:
    assert not files.is_locked(tmp_path / "lock")
    assert not list(tmp_path.iterdir())


def test_a_lock_is_seen_by_who_may_not_write_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.lock(path):
        path.chmod(0o444)
        assert files.is_locked(path)

    assert not files.is_locked(path)
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_run_folder_that_cannot_be_locked_is_explained(tmp_path: Path) -> None:
    (tmp_path / run_folder.DRIVER_LOCK).mkdir()  # as unwritable to root as to anybody

    with (
        pytest.raises(SweepError, match=f"cannot lock {tmp_path}: Is a directory"),
        run_folder.locked(tmp_path),
    ):
        pass
