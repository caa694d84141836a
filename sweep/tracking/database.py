"""MLflow's database beside the run folders: there whole or not at all.

MLflow makes its tables one after another. Where the disk is full in between, or the process is
killed, it never again opens what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model.files import part_of, replaced

SQLITE = "sqlite:///"


def make_whole(uri: str, make: Callable[[str], object]) -> None:
    """Have `make` make the database at `uri`, if it is a file that is not there yet.

    make   takes the URI of a file beside it, which becomes the database once all is in it
    Raises what `make` raises, or OSError; then there is none.
    """
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or "?" in uri or path.exists() or not path.parent.is_dir():
        return
    part = part_of(path)
    part.unlink(missing_ok=True)
    try:
        with replaced(path):
            make(f"{SQLITE}{part}")
    finally:
        part.unlink(missing_ok=True)
