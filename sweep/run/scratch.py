"""Where Tune keeps what nobody reads, while one driver is at work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".ray-"


@contextmanager
def scratch(run: Path) -> Iterator[Path]:
    """A folder in the run folder `run`, gone once it is left.

    Those of drivers that were killed go first: whoever is here holds the run folder alone.
    """
    for left in run.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=run))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
