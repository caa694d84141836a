"""What a run folder holds by kind, what of it can go, and why the rest stays: for `sweep gc`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.training import log_probs
from model.training.release import BEFORE, CHECKPOINT, releasable, release
from sweep.errors import SweepError
from sweep.folder import (
    CURSOR,
    EARLIER,
    EXTERNAL,
    JOURNAL,
    LEDGER,
    REPAIRS,
    TRACKING_LOG,
    TRIALS,
    TRUNKS,
    size,
)
from sweep.journal import read_view
from sweep.records import Role
from sweep.run import kept
from sweep.run.log_probs import useless
from sweep.run.removal import require_inside
from sweep.session import read_ledger
from sweep.space import KeepConfig, TrialConfig
from sweep.view import View

PART = ".part"  # of a file that a killed process was writing
WEIGHTS, BEFORE_THEM, TEXT = "weights", "checkpoints before the latest", "log-probabilities"
STRAY = "folders of no trial"
# Files by kind: the first whose names they have, or whose folder they are in.
KINDS = {
    "journal": (JOURNAL, EXTERNAL, EARLIER),
    "ledger": (LEDGER, f"{LEDGER}-journal", f"{LEDGER}-wal", f"{LEDGER}-shm"),
    "MLflow": (CURSOR, TRACKING_LOG),
    "reports": ("report", "report.html", "report.md"),
    "trunks": (TRUNKS,),
    "what a repair replaced": (REPAIRS,),
}


@dataclass(frozen=True)
class Item:
    """Something that can go."""

    path: Path
    kind: str
    bytes: int
    why: str
    released: bool = False  # the file stays, without what only going on needs


@dataclass(frozen=True)
class Contents:
    """What a run folder holds; files and bytes by kind, the largest first."""

    kinds: dict[str, tuple[int, int]]
    goes: tuple[Item, ...]
    stays: dict[str, tuple[int, str]]  # trials that keep their weights: bytes, and why
    over: int = 0  # bytes of weights beyond keep.max_gb that nevertheless stay

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.kinds.values())

    @property
    def freed(self) -> int:
        return sum(item.bytes for item in self.goes)


def contents(folder: Path, keep: KeepConfig, trial: TrialConfig) -> Contents:
    """Look through `folder`. Raises SweepError if the journal cannot be read."""
    view = read_view(folder / JOURNAL)
    bytes_of = {
        name: taken
        for name, its in view.trials.items()
        if its.outcome is not None and (taken := kept.weight(folder, name))
    }
    weights = kept.sort_out(folder, view, keep, bytes_of)
    goes: list[Item] = []
    for its in weights.goes:
        for path in kept.checkpoints(folder / TRIALS / its.name):
            goes += _file(path, WEIGHTS, f"{its.outcome}, val loss {its.val_loss:.4f}")
    goes += _left_by_kills(folder, view, {its.name for its in weights.goes})
    for its in useless(view, trial.keep_log_probs):
        path = folder / TRIALS / its.name / log_probs.NAME
        goes += _file(path, TEXT, f"not among the best {trial.keep_log_probs}")
    strays = _strays(folder, view)
    goes += [
        Item(path, STRAY, size(path), "neither journal nor ledger knows such a trial")
        for path in strays
        if not kept.checkpoints(path)
    ]
    if trunks := _useless_trunks(folder, view):
        goes.append(trunks)
    stays = {name: (bytes_of[name], why) for name, why in weights.stays.items()}
    for path in strays:
        if taken := kept.weight(folder, path.name):
            stays[path.name] = taken, "no trial known here: sweep doctor moves it aside"
    for its in view.running():
        if taken := kept.weight(folder, its.name):
            stays[its.name] = taken, "unfinished"
    return Contents(_kinds(folder), tuple(goes), stays, weights.over)


def _kinds(folder: Path) -> dict[str, tuple[int, int]]:
    kinds: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                kind, taken = _kind(path.relative_to(folder)), path.stat().st_size
                files, total = kinds.get(kind, (0, 0))
                kinds[kind] = files + 1, total + taken
    return dict(sorted(kinds.items(), key=lambda item: -item[1][1]))


def _kind(path: Path) -> str:
    if path.parts[0] == TRIALS:
        by_name = {CHECKPOINT: WEIGHTS, BEFORE: BEFORE_THEM, log_probs.NAME: TEXT}
        return by_name.get(path.name, "other files of trials")
    return next((kind for kind, names in KINDS.items() if path.parts[0] in names), "the rest")


def _file(path: Path, kind: str, why: str) -> Iterator[Item]:
    """It, unless it is gone: a driver may be at work while this only looks."""
    with suppress(FileNotFoundError):
        yield Item(path, kind, path.stat().st_size, why)


def _left_by_kills(folder: Path, view: View, gone: set[str]) -> Iterator[Item]:
    """What drivers would have removed, had nobody killed them."""
    for path in sorted(folder.rglob(f"*{PART}")):
        yield from _file(path, "unfinished files", "a killed process was writing it")
    for its in view.trials.values():
        if its.outcome is None or its.name in gone:
            continue
        for path in kept.checkpoints(folder / TRIALS / its.name):
            if path.name == BEFORE:
                yield from _file(path, BEFORE_THEM, "its trial has ended")
            elif state := releasable(path.parent):
                why = "its trial has ended and never goes on"
                yield Item(path, "state of optimizers", state, why, released=True)


def _strays(folder: Path, view: View) -> list[Path]:
    """Folders of trials that neither the journal nor the ledger knows.

    None where the ledger is lost or damaged: it may be all that knew them, as sweep doctor says.
    """
    below = folder / TRIALS
    strange = [p for p in sorted(below.glob("*")) if p.is_dir() and p.name not in view.trials]
    if not strange:
        return []
    try:
        ledger = read_ledger(folder / LEDGER)
    except SweepError:
        return []
    return [path for path in strange if path.name not in ledger] if ledger else []


def _useless_trunks(folder: Path, view: View) -> Item | None:
    """All trunks, once the search is over: only other trials of it would begin from them."""
    path = folder / TRUNKS
    searching = view.end is None or not view.end.ending.well
    if not path.exists() or view.role is not Role.SEARCH or searching or view.running():
        return None
    return Item(
        path, "trunks", size(path), "the search is over; a longer one trains those steps again"
    )


def remove(holds: Contents, folder: Path) -> None:
    """Remove what can go. Raises SweepError where the system refuses, or a link leads elsewhere.

    Each file by itself: whoever is killed meanwhile leaves less of the same.
    """
    require_inside((item.path for item in holds.goes), folder)
    for item in holds.goes:
        try:
            if item.released:
                release(item.path.parent)
            elif item.path.is_dir() and not item.path.is_symlink():
                shutil.rmtree(item.path)
            else:
                item.path.unlink(missing_ok=True)
        except OSError as error:
            raise SweepError(
                f"cannot remove {item.path}: {error.strerror or error}", code=1
            ) from None
