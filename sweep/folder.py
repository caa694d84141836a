"""The folder that a sweep leaves behind: what its files are called, and how commands find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from model import files
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.journal import read_view
from sweep.view import View

JOURNAL = "journal.jsonl"  # every event, one JSON object a line
LEDGER = "study.db"  # Optuna's studies
TRIALS = "trials"  # a folder with a folder for each trial
ERROR = "error.txt"  # the traceback of a trial that failed
TRUNKS = "trunks"  # first steps of trials that others share, by recipe and step
SWEEP_ID = "id"  # random: another sweep of the same name is another sweep
SPACE = "space.yaml"  # as the user wrote it
RESOLVED = "resolved.yaml"  # what defines the sweep, defaults included
ENVIRONMENT = "environment.json"  # versions of what last drove it
SEALED = "sealed.json"  # every look at the test split, for people and for other sweeps to see
ENSEMBLE = "ensemble.json"  # who is in it, with what weight, and what more members bring
TEACHERS = "teachers"  # who learns from which networks, a file for each recipe that has a teacher
EXTERNAL = "external.jsonl"  # runs of others that were imported
EARLIER = "earlier.jsonl"  # trials of earlier sweeps that inform this one
DRIVER_LOCK = "driver.lock"  # held by who drives the sweep
CURSOR = "tracking.json"  # how much of the journal the first MLflow store has
REPAIRS = "repairs"  # what `sweep doctor --repair` replaced, a folder for each repair
TRACKING_LOG = "tracking.log"
QUICKSTART = "search_spaces/quickstart.yaml"  # of our repository: not there in other folders


def run_folders(runs: Path) -> list[Path]:
    """Every run folder under `runs`, the one written to last at the end; SweepError if none."""
    journals = sorted(runs.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime)
    if not journals:
        here = Path(QUICKSTART).exists()
        begin = f"sweep run {QUICKSTART}" if here else "sweep init, then sweep run space.yaml"
        raise SweepError(f"no sweep under {runs}", hint=f"Begin one: {begin}")
    return [path.parent for path in journals]


def latest(runs: Path) -> Path:
    """The run folder under `runs` that was written to last. Raises SweepError if there is none."""
    return run_folders(runs)[-1]


def size(folder: Path) -> int:
    """Bytes of the files below `folder`; one that is deleted meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def run_folder(folder: Path | None, runs: Path) -> Path:
    """`folder`, by default the latest under `runs`. Raises SweepError if it is no run folder."""
    folder = folder or latest(runs)
    if not (folder / JOURNAL).exists():
        raise SweepError(f"{folder} is no run folder: it has no {JOURNAL}")
    return folder


def begun(folder: Path | None, runs: Path) -> tuple[Path, View]:
    """The run folder and what its journal tells. Raises SweepError if nothing has begun in it."""
    folder = run_folder(folder, runs)
    view = read_view(folder / JOURNAL)
    if not view.header:
        raise SweepError(f"the sweep in {folder} has not begun", code=1)
    return folder, view


def is_driven(folder: Path) -> bool:
    """Whether a driver is at work in `folder`."""
    return files.is_locked(folder / DRIVER_LOCK)


@contextmanager
def locked(folder: Path, seconds: float = 0.0) -> Iterator[None]:
    """Keep `folder` to this driver. Raises SweepError if another is at work there.

    seconds   to wait for the other one
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(files.lock(folder / DRIVER_LOCK, seconds))
        except files.Locked:
            raise SweepError(
                f"{folder} is being run by another process",
                hint="Wait for it, stop it, or give this one another --name.",
                code=REFUSED_TO_CONTINUE,
            ) from None
        except OSError as error:
            raise SweepError(f"cannot lock {folder}: {error.strerror or error}") from None
        yield
