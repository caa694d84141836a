"""One thing that is wrong in a run folder, and what can be done about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class Aside:
    """Where a repair keeps what it replaces: a folder of its own in the run folder."""

    def __init__(self, run: Path, into: Path) -> None:
        self.folder, self._run = into, run

    def copy(self, path: Path) -> None:
        """Keep a copy of a file that is about to be replaced."""
        shutil.copy2(path, self._room(path))

    def move(self, path: Path) -> None:
        """Put a file or a folder away."""
        os.replace(path, self._room(path))

    def _room(self, path: Path) -> Path:
        there = self.folder / path.relative_to(self._run)
        there.parent.mkdir(parents=True, exist_ok=True)
        return there


@dataclass(frozen=True)
class Damage:
    """Something that is not as its writers leave it."""

    file: str  # in the run folder
    what: str  # is wrong
    means: str  # for who goes on with the sweep, or reads it
    can: str = ""  # what a repair does; empty if only a copy helps
    repair: Callable[[Aside], None] | None = None

    def to_dict(self) -> dict[str, object]:
        """As plain data, for --json."""
        words = {"file": self.file, "what": self.what, "means": self.means, "can": self.can}
        return {**words, "repairable": self.repair is not None}
