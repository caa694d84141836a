"""Which run folder is meant where none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.folder import JOURNAL, begun, latest, run_folder
from sweep.journal import Journal


def journal_in(folder: Path, written: int, *events: str) -> Path:
    folder.mkdir(parents=True)
    journal = Journal(folder / JOURNAL)
    for event in events:
        journal.append(event)
    journal.close()
    os.utime(folder / JOURNAL, (written, written))
    return folder


def test_the_run_that_was_written_to_last_is_meant_unless_another_is_named(tmp_path: Path) -> None:
    """Neither the last by name nor the one whose folder is the newest."""
    first = journal_in(tmp_path / "b", 100)
    last = journal_in(tmp_path / "a", 300)
    journal_in(tmp_path / "c", 200)
    (tmp_path / "d").mkdir()  # without a journal: no run

    assert latest(tmp_path) == last
    assert run_folder(None, tmp_path) == last
    assert run_folder(first, tmp_path) == first


def test_a_folder_without_a_run_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="no sweep under .*\n.*Begin one: sweep run"):
        latest(tmp_path)
    with pytest.raises(SweepError, match=r"is no run folder: it has no journal\.jsonl"):
        run_folder(tmp_path, tmp_path)


def test_a_run_that_was_killed_before_its_header_has_not_begun(tmp_path: Path) -> None:
    folder = journal_in(tmp_path / "a", 100)

    with pytest.raises(SweepError, match="has not begun") as refused:
        begun(None, tmp_path)

    assert refused.value.code == 1
    assert run_folder(None, tmp_path) == folder
