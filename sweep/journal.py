"""The append-only record of every observation, one JSON object a line.

JSON has no word for what a diverged trial reports: null stands for a number that is not finite.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from model.secrets import may_hold_secrets, without_secrets
from sweep.errors import SweepError
from sweep.format import without_infinity
from sweep.records import Event
from sweep.view import View

# Numbers of an evaluation, or of steps, that are never missing: null there was not finite.
MEASURED = ("train_loss", "val_loss", "val_loss_error", "bits_per_byte", "raw_loss", "gap", "lr")
TAIL = 4096  # bytes before a reader's place by which it knows that the journal is the same
TRIAL = re.compile(r"\w[\w.+-]*")
OURS = ("event", "trial", "role", "outcome", "ending")  # whose values are words of ours
_NUMBER = (int, float)
# What an event of a kind must have, and of which type, for anybody to read it.
NEEDED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "sweep": {"time": _NUMBER, "name": str},
    "trial": {"time": _NUMBER, "trial": str, "role": str, "searched": dict, "settings": dict},
    "observation": {
        "time": _NUMBER,
        "trial": str,
        "basis_points": _NUMBER,
        "val_loss": _NUMBER,
        "val_loss_error": _NUMBER,
        "step": _NUMBER,
        "seconds": _NUMBER,
    },
    "outcome": {"time": _NUMBER, "trial": str, "outcome": str, "reason": str},
    "end": {"reason": str},
}


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
            fold(self.view, event, path, whole)
            whole = after
        self._file = path.open("r+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event, stamped with the time in milliseconds, and hand it to the system.

        A password in an address, or a key of the environment, is not written: an error names them.
        """
        record: Event = {"event": event, "time": int(time.time() * 1000), **fields}
        if self._file is not None:
            line = json.dumps(without_infinity(record), allow_nan=False)
            if may_hold_secrets(line):
                record = told(record)
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


def told(event: Event) -> Event:
    """`event` without secrets. Words of ours stay, should a variable have one for its value."""
    clean: Event = without_secrets(event)
    return clean | {key: event[key] for key in OURS if key in event}


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Whole events from byte `offset` on, each with the offset after it.

    Raises SweepError at a line that is no event.
    """
    for line, event, wrong in read_lines(path, offset):
        if event is None:
            raise _damaged(path, offset, wrong)
        offset += len(line)
        yield event, offset


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[bytes, Event | None, str]]:
    """Every whole line from byte `offset` on: its event, or None and what is wrong with it."""
    try:
        opened = path.open("rb")
    except PermissionError as error:
        raise SweepError(f"cannot read {path}: {error.strerror}") from None
    with opened as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line.decode())  # of bytes it would guess the encoding
            except ValueError:
                event = None
            wrong = _wrong(event)
            yield line, None if wrong else _with_nan(event), wrong


def _wrong(event: Any) -> str:
    """What an event lacks that everybody reads; empty if nothing."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return "no event stands there"
    for key, kind in NEEDED.get(event["event"], {}).items():
        value = event.get(key)
        missing = key not in event or (value is None and key not in MEASURED)
        if missing or not (value is None or isinstance(value, kind)):
            return f"its {event['event']} has no {key}" if missing else f"{key} is {value!r}"
    # A trial's folder has its name: one with a slash in it would be another folder than that.
    if not TRIAL.fullmatch(str(event.get("trial", "0"))):
        return f"{event['trial']!r} is no name of a trial"
    return ""


def _with_nan(event: Event) -> Event:
    """An event as it was read, with nan for what was measured and was no number."""
    if event["event"] in ("observation", "steps"):
        missing = [name for name in MEASURED if event.get(name, 0.0) is None]
        return event | dict.fromkeys(missing, math.nan) if missing else event
    return event


def mark(path: Path, offset: int) -> str:
    """A digest of the lines that end at byte `offset`: where others stand now, it is another."""
    with path.open("rb") as file:
        file.seek(max(0, offset - TAIL))
        return hashlib.sha256(file.read(min(offset, TAIL))).hexdigest()[:16]


def read_view(path: Path) -> View:
    """The sweep that the journal at `path` tells of."""
    view, offset = View(), 0
    for event, after in read_events(path):
        fold(view, event, path, offset)
        offset = after
    return view


def fold(view: View, event: Event, path: Path, offset: int) -> None:
    """Apply an event that was read at `offset`. Raises SweepError if it does not fit the others."""
    try:
        view.apply(event)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"its {event['event']} does not fit what is before it: {error!r}"
        raise _damaged(path, offset, why) from None


def _damaged(path: Path, offset: int, why: str) -> SweepError:
    return SweepError(
        f"{path} is damaged at byte {offset}: {why}",
        hint=f"sweep doctor {path.parent} shows what is wrong, and repairs it with --repair.",
        code=1,
    )
