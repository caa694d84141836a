"""The process that publishes to MLflow, as its driver sees it. Imports no mlflow."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from model.secrets import without_password
from sweep.folder import CURSOR

# What mlflow reads when it is imported, unless the user's environment says otherwise: a store that
# is down must be noticed soon, not after four minutes.
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
}
STORE = "MLFLOW_TRACKING_URI"  # in the environment
FOLLOW, ONCE = "follow", "once"  # until the driver ends, or as far as the journal goes now
SECONDS_TO_WAIT = 60  # for the last points; making a fresh database takes ten on a busy machine


def store_uri(runs: Path) -> str:
    """Where runs are logged: $MLFLOW_TRACKING_URI, else a SQLite file beside the run folders."""
    return os.environ.get(STORE) or f"sqlite:///{runs.absolute() / 'mlflow.db'}"


def artifact_root(runs: Path, uri: str) -> str:
    """Where artifacts go: beside the runs, or empty where a server decides."""
    served = uri.startswith(("http://", "https://"))
    return "" if served else (runs.absolute() / "mlartifacts").as_uri()


def with_password(uri: str, runs: Path) -> str:
    """The address written down as `uri`: with its password if it is the store of `runs`."""
    own = store_uri(runs)
    return own if without_password(own) == uri else uri


def cursor_path(folder: Path, uri: str) -> Path:
    """Where `folder` keeps what the store at `uri` has of it: each store has its own file.

    The first has the plain name.
    """
    shown = without_password(uri)
    first = _read(folder / CURSOR)
    if first.get("uri", shown) == shown:
        return folder / CURSOR
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12]
    return folder / f"tracking-{digest}.json"


def _read(path: Path) -> dict[str, str]:
    """A cursor as data; a damaged one is none: all is sent again."""
    try:
        cursor = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return cursor if isinstance(cursor, dict) else {}


def lock_path(folder: Path, uri: str) -> Path:
    """Held by the one process that publishes `folder` to the store at `uri`."""
    digest = hashlib.sha256(without_password(uri).encode()).hexdigest()[:12]
    return folder / f"tracking-{digest}.lock"


def curves_path(folder: Path, uri: str) -> str:
    """Where in MLflow's pages the sweep in `folder` is: its own columns and charts, best first."""
    cursor = _read(cursor_path(folder, uri))
    if not cursor.get("experiment"):
        return ""
    # What else could be in the address would make the page forget the view that is named.
    query = {
        "viewStateShareKey": cursor.get("view", ""),
        "compareRunsMode": "CHART",
        "workflowType": "machine_learning",  # or the menu is that of language-model applications
    }
    return f"/#/experiments/{cursor['experiment']}/runs?{urlencode(query, quote_via=quote)}"


def start(folder: Path, uri: str = "", how: str = FOLLOW) -> subprocess.Popen[bytes]:
    """Start publishing `folder`. The process ends once our end of its pipe closes."""
    uri = uri or store_uri(folder.parent)
    arguments = [str(folder), artifact_root(folder.parent, uri), how]
    ours, *others = str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")
    return subprocess.Popen(
        # -P: not what lies where the user happens to be, such as a model.py of theirs
        [sys.executable, "-P", "-m", "sweep.tracking", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [ours, *others])),
            STORE: uri,  # not among the arguments, which everybody on this machine can read
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C is for the driver alone
    )


def close(process: subprocess.Popen[bytes]) -> None:
    """Tell the process that nothing more will come."""
    assert process.stdin is not None
    process.stdin.close()


def finish(process: subprocess.Popen[bytes], seconds: float | None = SECONDS_TO_WAIT) -> bool:
    """Wait for the last points, at most `seconds`; whether the store has them all."""
    close(process)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
