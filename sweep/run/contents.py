"""What a run folder holds by kind, what of it can go, and why the rest stays: for `sweep gc`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.config import ConfigError
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
    RESOLVED,
    TRACKING_LOG,
    TRIALS,
    TRUNKS,
)
from sweep.journal import read_view
from sweep.records import Role
from sweep.run import kept
from sweep.run.log_probs import useless
from sweep.run.manifest import read_resolved
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


def settings(folder: Path) -> tuple[KeepConfig, TrialConfig]:
    """What the folder's own space says of room. Raises SweepError if it cannot be read."""
    resolved = read_resolved(folder / RESOLVED)
    try:
        return KeepConfig(**resolved.get("keep", {})), TrialConfig(**resolved["trial"])
    except (TypeError, ConfigError) as error:
        raise SweepError(
            f"{folder / RESOLVED} is damaged: trial or keep: {error}", hint="Put a copy of it back."
        ) from None


def contents(folder: Path, keep: KeepConfig, trial: TrialConfig) -> Contents:
    """Look through `folder`. Raises SweepError if the journal cannot be read."""
    view = read_view(folder / JOURNAL)
    bytes_of = {
        name: size
        for name, its in view.trials.items()
        if its.outcome is not None and (size := kept.weight(folder, name))
    }
    weights = kept.sort_out(folder, view, keep, bytes_of)
    goes = [
        Item(path, WEIGHTS, path.stat().st_size, f"{its.outcome}, val loss {its.val_loss:.4f}")
        for its in weights.goes
        for path in kept.checkpoints(folder / TRIALS / its.name)
    ]
    goes += _left_by_kills(folder, view, {its.name for its in weights.goes})
    for its in useless(view, trial.keep_log_probs):
        path = folder / TRIALS / its.name / log_probs.NAME
        if path.exists():
            why = f"not among the best {trial.keep_log_probs}"
            goes.append(Item(path, TEXT, path.stat().st_size, why))
    goes += _stray(folder, view)
    if trunks := _useless_trunks(folder, view):
        goes.append(trunks)
    stays = {name: (bytes_of[name], why) for name, why in weights.stays.items()}
    for its in view.running():
        if size := kept.weight(folder, its.name):
            stays[its.name] = size, "unfinished"
    return Contents(_kinds(folder), tuple(goes), stays, weights.over)


def _kinds(folder: Path) -> dict[str, tuple[int, int]]:
    kinds: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                kind, size = _kind(path.relative_to(folder)), path.stat().st_size
                files, total = kinds.get(kind, (0, 0))
                kinds[kind] = files + 1, total + size
    return dict(sorted(kinds.items(), key=lambda item: -item[1][1]))


def _kind(path: Path) -> str:
    if path.parts[0] == TRIALS:
        by_name = {CHECKPOINT: WEIGHTS, BEFORE: BEFORE_THEM, log_probs.NAME: TEXT}
        return by_name.get(path.name, "other files of trials")
    return next((kind for kind, names in KINDS.items() if path.parts[0] in names), "the rest")


def _left_by_kills(folder: Path, view: View, gone: set[str]) -> Iterator[Item]:
    """What drivers would have removed, had nobody killed them."""
    for path in sorted(folder.rglob(f"*{PART}")):
        yield Item(path, "unfinished files", path.stat().st_size, "a killed process was writing it")
    for its in view.trials.values():
        if its.outcome is None or its.name in gone:
            continue
        for path in kept.checkpoints(folder / TRIALS / its.name):
            if path.name == BEFORE:
                yield Item(path, BEFORE_THEM, path.stat().st_size, "its trial has ended")
            elif size := releasable(path.parent):
                why = "its trial has ended and never goes on"
                yield Item(path, "state of optimizers", size, why, released=True)


def _stray(folder: Path, view: View) -> Iterator[Item]:
    """Folders of trials that neither the journal nor the ledger knows."""
    below = folder / TRIALS
    strange = [p for p in sorted(below.glob("*")) if p.is_dir() and p.name not in view.trials]
    if not strange:
        return
    try:
        ledger = read_ledger(folder / LEDGER)
    except SweepError:
        return  # sweep doctor says what is wrong with it
    for path in strange:
        if path.name not in ledger:
            size = sum(its.stat().st_size for its in path.rglob("*") if its.is_file())
            yield Item(path, STRAY, size, "neither journal nor ledger knows such a trial")


def _useless_trunks(folder: Path, view: View) -> Item | None:
    """All trunks, once the search is over: only other trials of it would begin from them."""
    path = folder / TRUNKS
    searching = view.end is None or not view.end.ending.well
    if not path.exists() or view.role is not Role.SEARCH or searching or view.running():
        return None
    size = sum(its.stat().st_size for its in path.rglob("*") if its.is_file())
    return Item(path, "trunks", size, "the search is over; a longer one trains those steps again")


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
