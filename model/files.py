"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, moved onto it once the writing is done and on the disk.

    A crash at any moment leaves `path` as it was or as it was to be.
    """
    beside = path.with_name(f"{path.name}.part")
    yield beside
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
