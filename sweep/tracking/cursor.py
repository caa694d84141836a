"""How much of a sweep a store has: one file for each store, in the run folder."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from model.files import write_text
from model.secrets import without_password
from sweep.tracking.process import cursor_path

PARENT = "sweep"


@dataclass
class Cursor:
    """Moves only after the store has what it counts."""

    uri: str  # without a password
    experiment: str = ""
    offset: int = 0  # bytes of the journal that the store has
    mark: str = ""  # of the journal before that byte
    runs: dict[str, str] = field(default_factory=dict)  # trial name, or PARENT -> MLflow run id
    view: str = ""  # key of the columns and charts that MLflow's pages show
    files: dict[str, str] = field(default_factory=dict)  # artifact -> digest of what was sent
    model: dict[str, str] = field(default_factory=dict)  # the best one: trial, id, state

    def save(self, folder: Path) -> None:
        write_text(cursor_path(folder, self.uri), json.dumps(asdict(self)))


def load_cursor(folder: Path, uri: str) -> Cursor:
    """The cursor of the store at `uri`; a new one if there is none or it is damaged."""
    shown = without_password(uri)
    with suppress(OSError, ValueError, TypeError):  # damaged is none: all is sent again
        cursor = Cursor(**json.loads(cursor_path(folder, uri).read_text()))
        if cursor.uri == shown:
            return cursor
    return Cursor(shown)
