"""Files that are there whole or not at all."""

from __future__ import annotations

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
