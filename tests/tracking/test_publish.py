"""Against a real MLflow server on loopback that is down, slow, killed, restarted or another one."""

from __future__ import annotations

import math
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import fake_train
from mlflow_server import MLflowServer, wait_until
from sweeps import session_in

from model.config.config import Config
from sweep.cli.main import cli
from sweep.errors import UNREACHABLE, SweepError
from sweep.folder import JOURNAL, TRACKING_LOG
from sweep.journal import read_events, read_view
from sweep.records import End, Ending
from sweep.run.driver import Job, Options, search
from sweep.run.driver import drive as drive_job
from sweep.session.storage import open_storage
from sweep.space.space import Space
from sweep.tracking import process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]


@pytest.fixture
def server(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MLflowServer]:
    server = MLflowServer(tmp_path / "server")
    shutil.copy(empty_store, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "fake"
    path.mkdir(parents=True)
    return path


def assert_all_there_once(folder: Path, server: MLflowServer) -> None:
    """Every observation of the journal is one point of the store, and the other way round."""
    runs = {tag(run, "sweep.trial"): run for run in server.runs("fake")}
    trials = read_view(folder / JOURNAL).trials
    assert len(server.runs("fake")) == len(runs) == len(trials) + 1
    for name, trial in trials.items():
        for key in ("val_loss", "train_loss"):
            noted = [(e["step"], e[key]) for e in trial.observations]
            there = server.history(runs[name]["info"]["run_id"], f"curves/{key}")
            assert sorted(there) == sorted(noted), name


def tag(run: dict[str, Any], key: str) -> str:
    return {t["key"]: t["value"] for t in run["data"]["tags"]}.get(key, "")


def test_a_server_down_at_first_then_killed_and_restarted_loses_and_doubles_nothing(
    folder: Path, space: Space, server: MLflowServer
) -> None:
    """The sweep pauses halfway, where this test wants it, and for nothing else."""
    half, go_on = threading.Event(), threading.Event()

    def run() -> None:
        session = session_in(folder, space, open_storage(None))
        while (trial := session.next_trial()) is not None:
            for progress in fake_train(Config.from_settings(trial.settings), folder / trial.name):
                if session.observe(trial, progress).stop:
                    break
            if trial.name == "0005":
                half.set()
                assert go_on.wait(600)
        session.close(End(Ending.TRIALS_SPENT))

    publishing = process.start(folder)  # nothing listens yet
    sweep = threading.Thread(target=run)
    sweep.start()
    assert half.wait(600)
    server.start()
    wait_until(lambda: len(server.runs("fake")) > 3, "the first runs")
    server.kill()
    go_on.set()
    sweep.join()
    server.start()

    assert process.finish(publishing, seconds=None), (folder / TRACKING_LOG).read_text()
    assert_all_there_once(folder, server)


def test_a_store_gone_at_the_end_leaves_the_exit_code_and_gets_all_later_as_does_a_second(
    tmp_path: Path,
    space: Space,
    server: MLflowServer,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "1")
    folder = tmp_path / "runs" / "fake"
    (folder / "trials").mkdir(parents=True)
    (folder / "resolved.yaml").write_text("name: fake\n")
    pinned = space.pinned("data.digest", "0" * 64)

    job, options = (
        Job(pinned, folder, search(pinned, folder)),
        Options(tmp_path / "runs", here=True),
    )

    assert drive_job(job, options, fake_train) == 0

    away = CliRunner().invoke(cli, ["publish", str(folder)])
    assert isinstance(away.exception, SweepError)
    assert away.exception.code == UNREACHABLE
    assert "did not take" in str(away.exception)

    server.start()
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "300")
    there = CliRunner().invoke(cli, ["publish", str(folder)], catch_exceptions=False)
    assert there.exit_code == 0
    assert_all_there_once(folder, server)
    parent = next(run for run in server.runs("fake") if tag(run, "sweep.trial") == "sweep")
    listed = server.get(f"artifacts/list?run_id={parent['info']['run_id']}")["files"]
    assert {"resolved.yaml", "environment.json", "report"} >= {f["path"] for f in listed}
    told = server.get(f"artifacts/list?run_id={parent['info']['run_id']}&path=report")["files"]
    names = {"report.md", "data_efficiency.svg", "report.html"}
    assert {f["path"] for f in told} == {f"report/{name}" for name in names}
    assert tag(parent, "mlflow.note.content").startswith("- **Winner.** Trial ")
    assert tag(parent, "sweep.edges")

    first = process.cursor_path(folder, server.uri)
    before = first.read_text()
    other = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'other.db')}"
    second = CliRunner().invoke(cli, ["publish", str(folder), "--to", other])
    assert second.exit_code == 0, second.output
    assert first.read_text() == before
    assert process.cursor_path(folder, other) != first
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        query = "select count(*) from metrics where key = 'curves/val_loss'"
        ((count,),) = database.execute(query).fetchall()
    noted = [e for e, _ in read_events(folder / JOURNAL) if e["event"] == "observation"]
    assert count == sum(math.isfinite(e["val_loss"]) for e in noted)
