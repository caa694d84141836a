"""One driver at a time in a run folder; the kernel lets go when it ends, however it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep import publisher
from sweep.errors import REFUSED_TO_CONTINUE, SweepError


def is_driven(folder: Path) -> bool:
    """Whether a driver is at work in `folder`."""
    return publisher.is_locked(folder / publisher.DRIVER_LOCK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep `folder` to this driver. Raises SweepError if another is at work there."""
    try:
        with publisher.lock(folder / publisher.DRIVER_LOCK):
            yield
    except publisher.Locked:
        raise SweepError(
            f"{folder} is being run by another process",
            hint="Wait for it, stop it, or give this one another --name.",
            code=REFUSED_TO_CONTINUE,
        ) from None
