"""Which run folder is meant where none is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, begun, latest, locked, run_folder
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


@pytest.mark.xdist_group("trained runs")
def test_verbs_that_read_make_no_file_and_take_no_lock(trained_runs: Path, tmp_path: Path) -> None:
    """So they work in a folder that cannot be written to, and beside a driver."""
    run = Path(shutil.copytree(trained_runs / "quickstart", tmp_path / "runs" / "quickstart"))
    here = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    runs = ["--runs", run.parent]

    with locked(run):
        for words in (
            ["status", run],
            ["best", run],
            ["list", *runs],
            ["report", run, "--output", tmp_path / "report.html"],
            ["report", run, "--markdown"],
            ["efficiency", run],
            ["doctor", run],
            ["compare", "0000", "0001", *runs],
            ["sample", run, "--prompt", "1", "--tokens", "2"],
        ):
            done = CliRunner().invoke(cli, [*map(str, words)])
            assert done.exit_code == 0, (words, done.exception)

    there = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    there.pop(run / "driver.lock", None)
    assert {p: t for p, t in there.items() if p != run} == {
        p: t for p, t in here.items() if p not in (run, run / "driver.lock")
    }
