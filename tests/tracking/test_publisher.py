"""Against a real MLflow store: SQLite through MLflow's own client."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import diverging_train, failing_train, fake_train
from mlflow_process import MLflowProcess
from mlflow_server import free_port
from sweeps import make_space, session_in

from sweep.folder import CURSOR, JOURNAL
from sweep.journal import Journal, read_view
from sweep.records import End, Ending
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.storage import open_storage
from sweep.space.space import Space
from sweep.tracking import process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path) -> Path:
    path = tmp_path / "runs" / "fake"
    path.mkdir(parents=True)
    shutil.copy(empty_store, path.parent)
    return path


MODELS = """
from mlflow import MlflowClient
client = MlflowClient(uri)
found = client.search_experiments(filter_string="name = 'fake'")[0].experiment_id
models = client.search_logged_models([found])
(model,) = [model for model in models if model.name.startswith("fake-")]  # the ensemble apart
metrics = {metric.key: metric.value for metric in model.metrics}
answer = (model.name, model.params, metrics, model.tags)
"""


def drive(
    folder: Path, space: Space, train: local.Train, ending: Ending = Ending.TRIALS_SPENT
) -> None:
    session = session_in(folder, space, open_storage(None))
    with Interrupt() as interrupt:
        local.run(session, train, folder / "trials", interrupt)
    session.close(End(Ending.TRIALS_SPENT))


def publish_in_a_process(folder: Path) -> None:
    """Start the publisher as a driver does, and end it as a driver does."""
    publishing = process.start(folder)
    assert process.finish(publishing, seconds=None), (folder / "tracking.log").read_text()


@dataclass(frozen=True)
class Store:
    """What MLflow holds: runs by the trial they show, and how many runs there are."""

    runs: dict[str, dict[str, Any]]
    count: int


class MLflow:
    """Publishes run folders to the store beside them, and reads it."""

    def __init__(self, process: MLflowProcess) -> None:
        self.process = process

    def publish(self, folder: Path) -> None:
        uri = process.store_uri(folder.parent)
        self.process.publish(folder, uri, process.artifact_root(folder.parent, uri))

    def store(self, folder: Path) -> Store:
        runs = self.process.runs(process.store_uri(folder.parent))
        return Store({run["tags"]["sweep.trial"]: run for run in runs}, len(runs))


@pytest.fixture
def mlflow(mlflow_process: MLflowProcess) -> MLflow:
    return MLflow(mlflow_process)


def test_a_sweep_becomes_a_parent_and_a_child_per_trial(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)

    mlflow.publish(folder)

    store = mlflow.store(folder)
    parent = store.runs["sweep"]
    children = [run for name, run in store.runs.items() if name != "sweep"]
    assert parent["status"] == "FINISHED"
    assert len(children) == 12 + 2
    assert {run["tags"]["mlflow.parentRunId"] for run in children} == {parent["id"]}
    statuses = {run["tags"]["sweep.state"]: run["status"] for run in children}
    assert statuses == {"complete": "FINISHED", "pruned": "KILLED"}


def test_every_trial_has_its_curves_and_only_searched_settings_as_params(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)

    mlflow.publish(folder)

    run = mlflow.store(folder).runs["0000"]
    curves = run["curves"]
    compared = ("train_loss", "val_loss", "raw_loss", "ema_loss", "gap")
    assert {f"curves/{name}" for name in compared} | {"tokens", "epoch"} <= set(curves)
    assert len(curves["curves/ema_loss"]) == 7  # it had none at first
    assert not {"curves/weights_loss", "curves/probabilities_loss"} & set(curves)
    assert {round(gap, 6) for _, gap in curves["curves/gap"]} == {0.12}
    assert len(curves["curves/val_loss"]) == 8
    assert [step for step, _ in curves["curves/val_loss"]] == sorted(
        {s for s, _ in curves["curves/val_loss"]}
    )
    multipliers = [value for _, value in curves.get("curves/data_efficiency", [])]
    assert multipliers == sorted(multipliers)
    assert all(1 <= value <= 2 for value in multipliers)
    assert set(run["params"]) == {
        "optim.name",
        "optim.lr",
        "optim.weight_decay_multiplier",
        "train.epochs",
    }


def test_what_the_table_is_sorted_by_is_there_once_for_each_trial(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)

    mlflow.publish(folder)

    store = mlflow.store(folder)
    for run in (run for name, run in store.runs.items() if name != "sweep"):
        has = {name for name in run["curves"] if name.startswith(("final/", "best/", "ema/"))}
        assert has >= {"best/val_loss", "best/epoch", "ema/val_loss"}
        assert ("final/val_loss" in has) == (run["status"] == "FINISHED")
        searching = run["tags"]["sweep.role"] == "search"
        beyond = {f"final/data_efficiency{side}" for side in ("", "_at_least", "_at_most")}
        assert len(beyond & has) == ("final/val_loss" in has and searching)
        assert {len(run["curves"][name]) for name in has} == {1}
        ((name, digest, tags),) = run["datasets"]
        assert (name, digest) == ("python-standard-library", "0")
        assert tags["mlflow.data.context"] == "training"
        assert "system/cpu_percent" in run["curves"]
    assert re.fullmatch(r"0000 (adamw|muon) wd=\S+ [124]ep lr=\S+", store.runs["0000"]["name"])


def test_the_parent_shows_the_best_so_far_by_cost_and_by_trials(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)

    mlflow.publish(folder)

    parent = mlflow.store(folder).runs["sweep"]
    assert parent["params"] == {}
    by_trials = parent["curves"]["sweep/best_val_loss_by_ended_trials"]
    by_cost = parent["curves"]["sweep/best_val_loss_by_device_seconds"]
    assert [step for step, _ in by_trials] == list(range(1, 13))
    losses = [loss for _, loss in by_trials]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == read_view(folder / JOURNAL).ranked()[0].val_loss
    seconds = sum(t.last["seconds"] for t in read_view(folder / JOURNAL).searches() if t.last)
    assert max(step for step, _ in by_cost) == round(seconds)
    efficiency = parent["curves"].get("sweep/best_data_efficiency_by_device_seconds", [])
    assert all(1 <= worth <= 2 for _, worth in efficiency)
    assert [step for step, _ in parent["curves"]["baseline/val_loss_by_tokens"]] == [65536, 131072]


def test_what_a_later_version_writes_into_the_journal_is_passed_over(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)
    journal = Journal(folder / JOURNAL)
    journal.append("sealed", trial="0000", test_loss=3.1)
    journal.append("weather", sun=True)
    journal.close()

    mlflow.publish(folder)

    assert mlflow.store(folder).count == 15


def test_the_best_network_and_an_ensemble_are_models_that_write_text_and_give_losses(
    folder: Path, mlflow: MLflow, tmp_path: Path, small: dict[str, object]
) -> None:
    """Loaded in a process that has only what was logged, and no pickle among it."""
    fixed = {name: value for name, value in small.items() if name != "train.epochs"}
    text = yaml.safe_dump({"name": "fake", "search": {"train.epochs": [2, 3]}, "fixed": fixed})
    drive(folder, make_space(tmp_path, text, "budget.trials=2"), local.shared_trainer)

    mlflow.publish(folder)

    uri = process.store_uri(folder.parent)
    model = mlflow.store(folder).runs["sweep"]["tags"]["sweep.model"]
    log = """
import sys
from pathlib import Path
from sweep.tracking.ensemble import log_ensemble
folder = Path(sys.argv[1])
runs = [(name, folder / "trials" / name, 0.5) for name in ("0000", "0001")]
print(log_ensemble(folder, runs, {"val_loss": 3.0}))
"""
    ensemble = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", log, folder], text=True
    )
    ensemble = ensemble.strip()
    assert mlflow.store(folder).runs["sweep"]["tags"]["sweep.ensemble"] == ensemble
    code = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
found = mlflow.pyfunc.load_model(sys.argv[2])
said = found.predict(pandas.DataFrame({"prompt": ["7 1"]}),
                     params={"max_new_tokens": 20, "temperature": 0.0})
costs = found.predict(pandas.DataFrame({"text": ["30 40", ""]}))
both = mlflow.pyfunc.load_model(sys.argv[3]).predict(pandas.DataFrame({"text": ["30 40", ""]}))
import model
print(json.dumps([said["continuation"].tolist(), costs["loss"].isna().tolist(), model.__file__,
                  [costs["loss"][0], both["loss"][0]]]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, uri, model, ensemble],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    (said,), missing, where, losses = json.loads(done.stdout)
    assert len(said) > 5
    assert missing == [False, True]
    assert "mlartifacts" in where
    assert losses[0] != losses[1] > 0
    shown = mlflow.process.run(MODELS, uri=uri)
    (name, params, metrics, tags) = shown
    trial = tags["sweep.trial"]
    assert (name, list(params)) == (f"fake-{trial}", ["train.epochs"])
    assert metrics["final/val_loss"] == pytest.approx(float(tags["sweep.val_loss"]), abs=1e-4)
    assert tags["sweep.usage"].startswith(f'mlflow.pyfunc.load_model("{model}").predict(')
    assert not [p for p in (folder.parent / "mlartifacts").rglob("*") if p.suffix == ".pkl"]


def test_publishing_twice_or_after_losing_the_cursor_leaves_one_copy(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)
    mlflow.publish(folder)
    once = mlflow.store(folder).runs

    mlflow.publish(folder)
    (folder / CURSOR).unlink()
    mlflow.publish(folder)

    again = mlflow.store(folder)
    assert again.count == len(once)
    assert again.runs == once


def test_failed_trials_are_failed_and_diverged_ones_killed(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, failing_train)
    mlflow.publish(folder)
    runs = mlflow.store(folder).runs.values()
    failed = [run for run in runs if run["tags"].get("sweep.state") == "failed"]

    assert failed
    assert {run["status"] for run in failed} == {"FAILED"}
    assert failed[0]["tags"]["sweep.reason"] == "RuntimeError: no Muon today"

    other = folder.parent / "other"
    other.mkdir()
    drive(other, space, diverging_train)
    mlflow.publish(other)
    runs = mlflow.store(folder).runs.values()
    diverged = [r for r in runs if "diverged at step" in r["tags"].get("sweep.reason", "")]
    assert diverged
    assert {run["status"] for run in diverged} == {"KILLED"}


def test_an_interrupted_sweep_is_killed_until_it_goes_on(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    journal = Journal(folder / JOURNAL)
    header = {"id": "7", "name": "fake", "trials": 1, "fixed": {}, "data": "0"}
    trial = {"trial": "0000", "role": "search", "searched": {}, "settings": {}}
    journal.append("sweep", train_tokens=1, **header)
    journal.append("trial", **trial)
    mlflow.publish(folder)  # its driver ends without a word, as after SIGKILL
    killed = mlflow.store(folder).runs

    journal.append("sweep", train_tokens=1, **header)
    journal.append("trial", **trial)
    journal.append("outcome", trial="0000", outcome="pruned", reason="diverged")
    journal.append("end", reason="budget spent")
    journal.close()
    mlflow.publish(folder)

    gone_on = mlflow.store(folder).runs
    assert [killed[name]["status"] for name in ("sweep", "0000")] == ["KILLED", "KILLED"]
    assert killed["0000"]["tags"]["sweep.state"] == "interrupted"
    assert gone_on["sweep"]["status"] == "FINISHED"
    assert gone_on["0000"]["tags"]["sweep.reason"] == "diverged"
    assert gone_on["0000"]["id"] == killed["0000"]["id"]


def test_a_store_that_is_away_costs_the_points_nothing(
    folder: Path, space: Space, mlflow: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens there: the publisher says so, and a later one sends everything."""
    drive(folder, space, fake_train)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "1")

    assert not process.finish(process.start(folder), seconds=None)
    assert "did not take it" in (folder / "tracking.log").read_text()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    mlflow.publish(folder)
    assert mlflow.store(folder).count == 15


def test_two_sweeps_that_begin_together_share_a_fresh_store(folder: Path, space: Space) -> None:
    (folder.parent / "mlflow.db").unlink()
    other = folder.parent / "other"
    other.mkdir()
    for each in (folder, other):
        drive(each, space, fake_train)

    both = [process.start(each) for each in (folder, other)]

    assert [process.finish(publishing, seconds=None) for publishing in both] == [True, True]


def test_runs_that_somebody_deleted_are_made_again(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)
    mlflow.publish(folder)
    before = mlflow.store(folder)
    gone = [before.runs["sweep"]["id"], before.runs["0003"]["id"]]
    delete = "import mlflow; [mlflow.MlflowClient(uri).delete_run(run) for run in runs]"
    mlflow.process.run(delete, uri=process.store_uri(folder.parent), runs=gone)

    journal = Journal(folder / JOURNAL)
    journal.append("end", reason="budget spent")
    journal.close()
    mlflow.publish(folder)

    after = mlflow.store(folder)
    assert set(after.runs) == set(before.runs)
    assert after.runs["0003"]["curves"] == before.runs["0003"]["curves"]
    assert not {run["id"] for run in after.runs.values()} & set(gone)
    parents = {run["tags"].get("mlflow.parentRunId") for run in after.runs.values()}
    assert parents == {None, after.runs["sweep"]["id"]}


def test_a_journal_put_back_from_a_copy_is_sent_from_its_beginning(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    """The cursor is of a longer one: what is new lies before it."""
    drive(folder, space, fake_train)
    mlflow.publish(folder)
    path = folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: lines.index(next(x for x in lines if b'"0000"' in x)) + 3]))
    journal = Journal(path)
    journal.append("outcome", trial="0000", outcome="pruned", reason="put back")
    journal.append("end", reason="budget spent")
    journal.close()

    mlflow.publish(folder)

    run = mlflow.store(folder).runs["0000"]
    assert (run["status"], run["tags"]["sweep.reason"]) == ("KILLED", "put back")


def test_points_whose_lines_a_crash_took_from_the_journal_are_no_longer_shown(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    """The lost evaluation was trained again, and MLflow had two points at its step."""
    drive(folder, space, fake_train)
    path = folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lost = [n for n, line in enumerate(lines) if b'"observation"' in line][2]
    path.write_bytes(b"".join(lines[: lost + 1]))
    mlflow.publish(folder)
    before = mlflow.store(folder)
    event = json.loads(lines[lost])
    again = json.dumps(event | {"time": event["time"] + 1}).encode() + b"\n"  # of the same length
    assert len(again) == len(lines[lost])
    path.write_bytes(b"".join([*lines[:lost], again]))

    mlflow.publish(folder)

    after = mlflow.store(folder)
    assert after.count == before.count
    assert {name: run["curves"] for name, run in after.runs.items()} == {
        name: run["curves"] for name, run in before.runs.items()
    }
    changed = {name for name, run in after.runs.items() if run["id"] != before.runs[name]["id"]}
    assert changed == {event["trial"]}

    path.write_bytes(
        b"".join(lines[: lost + 1])
    )  # as it was before; and nobody knows what was sent
    (folder / CURSOR).unlink()
    mlflow.publish(folder)

    assert (
        mlflow.store(folder).runs[event["trial"]]["curves"] == before.runs[event["trial"]]["curves"]
    )


def test_without_a_place_for_artifacts_nothing_is_shown_as_running_that_is_not(
    folder: Path, mlflow: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DRAIN_SECONDS", "1")
    (folder.parent / "mlartifacts").write_text("in the way")
    (folder / "space.yaml").write_text("name: fake\n")
    journal = Journal(folder / JOURNAL)
    header = {"id": "7", "name": "fake", "trials": 1, "fixed": {}, "data": "0"}
    journal.append("sweep", train_tokens=1, **header)
    journal.append("trial", trial="0000", role="search", searched={}, settings={})
    journal.close()

    for how in (process.FOLLOW, process.ONCE):
        assert not process.finish(process.start(folder, how=how), seconds=None)

        runs = mlflow.store(folder).runs.values()
        assert {run["status"] for run in runs} == {"KILLED"}


def test_a_database_that_cannot_be_opened_is_asked_again(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    """MLflow raises SQLAlchemy's own error there, after a minute and a half of attempts."""
    drive(folder, space, fake_train)
    code = """
import logging
from pathlib import Path
from unittest.mock import patch
from mlflow.store.db import utils
from sweep.tracking.__main__ import Follower
follower, said = Follower(Path(folder), f"sqlite:///{folder}", None), logging.Handler()
messages = []
said.emit = lambda record: messages.append(record.getMessage())
logging.getLogger().addHandler(said)
with patch.object(utils, "MAX_RETRY_COUNT", 1):
    answer = [follower.look(), follower.seconds_to_next_look, messages]
logging.getLogger().removeHandler(said)
"""

    complete, seconds_to_next_look, messages = mlflow.process.run(code, folder=str(folder))

    assert (complete, seconds_to_next_look) == (False, 2.0)
    assert any("did not take it: " in message for message in messages)


def test_modules_where_the_user_happens_to_be_are_not_ours(
    folder: Path, space: Space, mlflow: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a checkout of nanoGPT, which has a model.py."""
    drive(folder, space, fake_train)
    (tmp_path / "model.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)

    publish_in_a_process(folder)

    assert mlflow.store(folder).count == 15


def test_the_server_shows_the_sweep_on_loopback_only(
    folder: Path, space: Space, mlflow: MLflow
) -> None:
    drive(folder, space, fake_train)
    mlflow.publish(folder)
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "sweep", "ui", "--runs", folder.parent, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stderr is not None
        lines = [server.stderr.readline() for _ in range(3)]
        address = lines[1].removeprefix("Curves: ").strip()
        # Printed only when it answers, so that nobody opens a page that is not there.
        found = ask(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name")
        listening = listeners(port)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        more = server.communicate()[1]

    assert (server.returncode, more.strip()) == (0, "stopped")
    assert not listeners(port)
    experiment = found["experiment"]["experiment_id"]
    assert address.startswith(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?")
    assert "viewStateShareKey=sweep-1" in address
    assert listening == {"0100007F"}  # 127.0.0.1, as the kernel writes it


def ask(url: str) -> dict[str, Any]:
    """The server's answer about experiment `fake`."""
    with urllib.request.urlopen(f"{url}?experiment_name=fake", timeout=60) as response:
        return dict(json.load(response))


def listeners(port: int) -> set[str]:
    """Addresses on which somebody listens at `port`, from the kernel's table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, number in listening if int(number, 16) == port}
