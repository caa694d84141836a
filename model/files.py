"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, moved onto it once the writing is done and on the disk.

    A crash at any moment leaves `path` as it was or as it was to be. Raises OSError where the disk
    does not take it, also if the writer is safetensors, which has an error of its own for that.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        yield beside
    except SafetensorError as error:
        raise OSError(f"cannot write {beside}: {error}") from error
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


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


def is_locked(path: Path) -> bool:
    """Whether somebody holds `path` locked."""
    try:
        with lock(path):
            return False
    except Locked:
        return True


def cache_folder() -> Path:
    """Where token tables are kept: $SWEEP_CACHE, else the user's cache folder."""
    chosen = os.environ.get("SWEEP_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sweep"
