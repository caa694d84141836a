"""The process that publishes to MLflow, as its driver sees it. Imports no mlflow."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

CURSOR = "tracking.json"
LOCK = "tracking.lock"
SECONDS_TO_WAIT = 60  # for the last points; making a fresh database takes ten on a busy machine


def store_uri(runs: Path) -> str:
    """Where runs are logged: $MLFLOW_TRACKING_URI, else a SQLite file beside the run folders."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs.absolute() / 'mlflow.db'}"


def artifact_root(runs: Path) -> str:
    """Where artifacts go with the default store; empty where the server decides."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    return (runs.absolute() / "mlartifacts").as_uri()


def curves_path(folder: Path) -> str:
    """Where in MLflow's pages the curves of the sweep in `folder` are, its best trial first."""
    cursor = folder / CURSOR
    if not cursor.exists():
        return ""
    try:
        experiment = json.loads(cursor.read_text())["experiment"]
    except (ValueError, TypeError, KeyError):
        return ""
    # Only the search trials: MLflow hides children as long as their parent is listed too.
    query = {
        "searchFilter": "tags.`sweep.role` = 'search'",
        "orderByKey": "metrics.`curves/val_loss`",
        "orderByAsc": "true",
        "compareRunsMode": "CHART",
    }
    return f"/#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start publishing `folder`. Our end of the pipe tells the process that we live."""
    runs = folder.parent
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.tracking", folder, store_uri(runs), artifact_root(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C is for the driver alone
    )


def close(process: subprocess.Popen[bytes]) -> None:
    """Tell the process that nothing more will come."""
    assert process.stdin is not None
    process.stdin.close()


def finish(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the last points; whether the store has them all."""
    close(process)
    try:
        return process.wait(SECONDS_TO_WAIT) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


class Locked(Exception):
    """Somebody else holds the lock."""


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold `path` locked; the system lets go when the process ends, however it ends."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Locked from None
        yield
