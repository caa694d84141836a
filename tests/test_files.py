"""Files that are there whole or not at all, and who holds one locked, asked by others."""

from __future__ import annotations

import os
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


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut may leave the new name with nothing in it."""
    path, steps = tmp_path / "id", []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        steps.append(("on the disk", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        sync(descriptor)

    def note_replace(part: Path, whole: Path) -> None:
        steps.append(("in its place", part.stat().st_ino, part.stat().st_size))
        replace(part, whole)

    monkeypatch.setattr("model.files.os.fsync", note_sync)
    monkeypatch.setattr("model.files.os.replace", note_replace)

    files.write_text(path, "twelve bytes")

    inode = path.stat().st_ino
    assert steps == [("on the disk", inode, 12), ("in its place", inode, 12)]
    assert path.read_text() == "twelve bytes"
    assert not files.part_of(path).exists()
