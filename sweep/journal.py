"""The append-only record of every observation, one JSON object a line.

JSON has no word for what a diverged trial reports: null stands for a number that is not finite.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sweep.errors import SweepError
from sweep.format import without_infinity
from sweep.records import Event
from sweep.view import View

# Numbers of an evaluation, or of steps, that are never missing: null there was not finite.
MEASURED = ("train_loss", "val_loss", "val_loss_error", "bits_per_byte", "raw_loss", "gap", "lr")


class Journal:
    """Open for appending. A line torn by a crash is dropped first: nobody has acted on it.

    Without a path it only folds events into its view, for a sweep that is simulated.
    """

    def __init__(self, path: Path | None) -> None:
        self.view = View()
        self._file: IO[bytes] | None = None
        if path is None:
            return
        path.touch()
        whole = 0
        for event, after in read_events(path):
            self.view.apply(event)
            whole = after
        self._file = path.open("r+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event, stamped with the time in milliseconds, and hand it to the system."""
        record: Event = {"event": event, "time": int(time.time() * 1000), **fields}
        if self._file is not None:
            line = json.dumps(without_infinity(record), allow_nan=False)
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        self.view.apply(record)
        return record

    def sync(self) -> None:
        """Return once what was appended is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back; what was appended stays."""
        if self._file is not None:
            self._file.close()


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Whole events from byte `offset` on, each with the offset after it.

    Raises SweepError at a line that is no event.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or "event" not in event:
                raise SweepError(f"{path} is damaged at byte {offset}", code=1)
            offset += len(line)
            yield _with_nan(event), offset


def _with_nan(event: Event) -> Event:
    """An event as it was read, with nan for what was measured and was no number."""
    if event["event"] in ("observation", "steps"):
        return event | {name: math.nan for name in MEASURED if event.get(name, 0.0) is None}
    return event


def read_view(path: Path) -> View:
    """The sweep that the journal at `path` tells of."""
    view = View()
    for event, _ in read_events(path):
        view.apply(event)
    return view
