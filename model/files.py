"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

SECONDS_BETWEEN_TRIES = 0.1  # to lock a file that is held


def part_of(path: Path) -> Path:
    """Where `path` is written until it is whole."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, moved onto it once the writing is done and on the disk.

    A crash at any moment leaves `path` as it was or as it was to be. Raises OSError where the disk
    does not take it, also if the writer is safetensors, which has an error of its own for that.
    """
    part = part_of(path)
    try:
        yield part
    except SafetensorError as error:
        raise OSError(f"cannot write {part}: {error}") from error
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """`path` with `text` in it, as UTF-8: after a crash as it was or as it was to be."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


class Locked(Exception):
    """Another process, or another part of this one, holds the lock."""


@contextmanager
def lock(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold the file `path` locked, once who has it lets go; the system lets go for the dead.

    seconds  to wait for it; infinity waits for ever
    Raises Locked if it is still held then.
    """
    from filelock import FileLock, Timeout  # not at the top: `sweep --help` would take 40 ms more

    held = FileLock(
        path,
        poll_interval=SECONDS_BETWEEN_TRIES,
        thread_local=False,  # a generator may be closed by another thread than the one it began in
        fallback_to_soft=False,  # where the system has no locks: one by existence outlives a kill
    )
    try:
        held.acquire(seconds)
    except Timeout:
        raise Locked from None
    try:
        yield
    finally:
        held.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds `path` locked. To look is no reason to write: no file is made."""
    from filelock import lock_descriptor

    mode = "r+b" if os.access(path, os.W_OK) else "rb"  # NFS locks only what may be written
    try:
        with path.open(mode) as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except (FileNotFoundError, PermissionError):  # who may not even read it is not who holds it
        return False


def cache_folder() -> Path:
    """Where token tables are kept: $SWEEP_CACHE, else the user's cache folder.

    Raises OSError for a user without a home.
    """
    chosen = os.environ.get("SWEEP_CACHE")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # neither $HOME nor an entry among the users
        why = "there is no home folder; set SWEEP_CACHE to a folder for token tables"
        raise OSError(errno.EACCES, why, "~/.cache") from None
    return Path(base) / "sweep"
