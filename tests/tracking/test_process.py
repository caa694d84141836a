"""Publishing as far as it goes without MLflow: addresses, and what `sweep publish` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.secrets import without_password
from sweep.cli.main import cli
from sweep.errors import UNREACHABLE, SweepError
from sweep.folder import JOURNAL, TRACKING_LOG
from sweep.journal import Journal
from sweep.tracking import process


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a", "http://me:***@host:5000/a"),
        ("postgresql://me:sec:r@t@host/db", "postgresql://me:***@host/db"),
        ("http://:secret@host", "http://:***@host"),
        ("http://me@host:5000", "http://me@host:5000"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
        ("http://[no-address", "http://[no-address"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password_whatever_it_is(uri: str, shown: str) -> None:
    """A sweep must not end in an error because the address that it was given is none."""
    assert without_password(uri) == shown


def journal_in(folder: Path) -> Path:
    folder.mkdir()
    journal = Journal(folder / JOURNAL)
    journal.append("sweep", id="1", name="fake")
    journal.close()
    return folder


def test_a_damaged_journal_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    folder = journal_in(tmp_path / "fake")
    with (folder / JOURNAL).open("a") as file:
        file.write("{\n")

    done = CliRunner().invoke(cli, ["publish", str(folder), "--to", "http://127.0.0.1:9"])

    assert isinstance(done.exception, SweepError)
    assert "journal.jsonl is damaged at byte" in str(done.exception)
    assert done.exception.code == 1


def test_publish_tells_what_was_said_now_and_not_what_an_earlier_attempt_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = journal_in(tmp_path / "fake")
    log = folder / TRACKING_LOG
    log.write_text("yesterday the store at http://old did not take it: away\n")

    def start(folder: Path, uri: str, how: str) -> subprocess.Popen[bytes]:
        code = f"open({str(log)!r}, 'a').write('no driver for it\\n'); raise SystemExit(1)"
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)

    monkeypatch.setattr(process, "start", start)

    done = CliRunner().invoke(cli, ["publish", str(folder), "--to", "postgresql://new"])

    assert isinstance(done.exception, SweepError)
    assert "no driver for it" in str(done.exception)
    assert "yesterday" not in str(done.exception)
    assert done.exception.code == UNREACHABLE


def test_the_stores_password_is_not_written_down_but_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "postgresql://me:secret@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    shown = without_password(uri)

    assert "secret" not in shown
    assert process.with_password(shown, tmp_path) == uri
    assert process.with_password("sqlite:///other.db", tmp_path) == "sqlite:///other.db"
