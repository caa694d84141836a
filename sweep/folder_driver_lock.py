"""One driver at a time in a run folder; the kernel lets go when it ends, however it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model import files
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import DRIVER_LOCK


def is_driven(folder: Path) -> bool:
    """Whether a driver is at work in `folder`."""
    return files.is_locked(folder / DRIVER_LOCK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep `folder` to this driver. Raises SweepError if another is at work there."""
    try:
        with files.lock(folder / DRIVER_LOCK):
            yield
    except files.Locked:
        raise SweepError(
            f"{folder} is being run by another process",
            hint="Wait for it, stop it, or give this one another --name.",
            code=REFUSED_TO_CONTINUE,
        ) from None
