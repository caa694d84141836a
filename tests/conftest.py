"""Small corpora and spaces; every test has its own cache and run folders."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

# Read when torch, numpy or mlflow are imported, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"  # tiny matrices gain from no more, and tests share the cores
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # a test needs no network
# Else each `mlflow server` starts about eight processes more, for jobs that nobody sends it.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


IN_MEMORY = "/dev/shm"
ROOM_IN_MEMORY = 4 << 30  # bytes; the whole suite leaves a tenth of that
with suppress(OSError):
    if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM_IN_MEMORY:
        # Every commit of a ledger waits for the disk, a hundred times longer than for its work.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", IN_MEMORY)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a script started with &. What a test starts and interrupts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Callable, Iterator
from pathlib import Path

import fakes
import pytest
import tiktoken
import toy_encoding
from click.testing import CliRunner
from hypothesis import settings
from optuna.storages import BaseStorage
from sweeps import TRAINED, make_space, session_in, without_tracking, write_texts

from model.files import lock
from sweep.cli.main import cli
from sweep.records import Event
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.space import Space

# A busy machine is slow, which is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, or one worker would end alone, waiting for a server."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(params=["toy", "real"] if toy_encoding.REAL.exists() else ["toy"])
def gpt2(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    """What tiktoken gives by that name: one of 300 ranks, and GPT-2's own where its files are."""
    if request.param == "toy":
        monkeypatch.setitem(tiktoken.registry.ENCODINGS, "gpt2", toy_encoding.toy_gpt2())
    else:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(toy_encoding.REAL))
    return tiktoken.get_encoding("gpt2")


@pytest.fixture
def toy_gpt2(monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    """The smaller of these alone, where tokens are never text."""
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "gpt2", toy_encoding.toy_gpt2())
    return tiktoken.get_encoding("gpt2")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Forty short documents, 40 KB."""
    return write_texts(tmp_path / "corpus")


@pytest.fixture
def small(corpus: Path) -> dict[str, object]:
    """Settings of a run that takes a fraction of a second."""
    return {
        "data.path": str(corpus),
        "data.train_tokens": 2049,
        "data.val_tokens": 1025,
        "data.test_tokens": 1025,
        "gpt.layers": 1,
        "gpt.width": 16,
        "gpt.context": 32,
        "train.batch_tokens": 256,
        "train.precision": "fp32",  # numbers that are the same whatever the CPU can do
        "train.evals": 4,
        "train.epochs": 2,
        "train.device": "cpu",
    }


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """The space of fakes.SPACE."""
    return make_space(tmp_path, fakes.SPACE)


@pytest.fixture
def storage() -> BaseStorage:
    """A ledger that outlives its drivers."""
    return open_storage(None)


@pytest.fixture
def open_session(tmp_path: Path, storage: BaseStorage) -> Iterator[Callable[..., Session]]:
    """Open the session of a space as each new driver does, over one ledger and one journal."""
    opened = []

    def open_(space: Space, watch: Callable[[Event], None] = lambda event: None) -> Session:
        session = session_in(tmp_path, space, storage, watch)
        opened.append(session)
        return session

    yield open_
    for session in opened:
        session.journal.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, which takes seconds: made once, copied beside run folders."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / "mlflow.db"
    with lock(shared / "mlflow.lock", math.inf):
        if not path.exists():
            part = path.with_name("part.db")
            code = "import mlflow, sys; mlflow.MlflowClient(sys.argv[1]).search_experiments()"
            command = [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{part}"]
            subprocess.run(command, capture_output=True, check=True)
            part.rename(path)
    return path


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run folder `quickstart`, of tiny networks that were really trained."""
    home = tmp_path_factory.mktemp("notebook")
    corpus = write_texts(home / "corpus")
    (home / "quickstart.yaml").write_text(TRAINED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(home / "cache"))
        without_tracking(patch)
        words = ["run", str(home / "quickstart.yaml"), "--here", "--plain"]
        done = CliRunner().invoke(
            cli, [*words, "--runs", str(home / "runs"), "--set", f"data.path={corpus}"]
        )
    assert done.exit_code == 0, done.output
    return home / "runs"
