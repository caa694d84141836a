"""The journal as MLflow runs. A process of its own, so that no trial ever waits for a server.

    python -m sweep.tracking RUN_FOLDER ARTIFACT_ROOT follow|once

The store is the one that $MLFLOW_TRACKING_URI names.

It follows the journal while its standard input is open, then sends what is left and ends. What is
sent carries the journal's own times, so sending it twice leaves one copy: MLflow drops a point that
it has. The cursor moves only after the store has the points.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sweep.tracking.process import MLFLOW_ENVIRONMENT

os.environ.update({**MLFLOW_ENVIRONMENT, **os.environ})  # read when mlflow is imported

if __name__ == "__main__":
    os.nice(10)  # before the slow import: training comes first

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from model.files import is_locked, lock
from model.secrets import redacted, without_password
from sweep.errors import SweepError
from sweep.folder import DRIVER_LOCK, TRACKING_LOG
from sweep.tracking.database import make_whole
from sweep.tracking.process import FOLLOW, STORE, lock_path
from sweep.tracking.publisher import Publisher

# A database that cannot be opened raises an error of SQLAlchemy, which MLflow hands on.
NOT_TAKEN = (MlflowException, SQLAlchemyError, OSError, SweepError)
STORE_LOCK = "mlflow.lock"
SECONDS_BETWEEN_LOOKS = 1.0
LONGEST_BETWEEN_LOOKS = 16.0  # at a store that is away
SECONDS_TO_DRAIN = float(os.environ.get("SWEEP_DRAIN_SECONDS", "20"))


class Follower:
    """Sends the journal to one store each time it is asked, and logs why the store did not take it.

    After a failure it begins again from the journal, and waits longer until the next look.
    """

    def __init__(self, folder: Path, uri: str, artifacts: str | None) -> None:
        self._folder, self._uri, self._artifacts = folder, uri, artifacts
        self._publisher: Publisher | None = None
        self._failures = 0  # in a row
        self._logged = ""  # the last message
        self.sent = 0  # bytes of the journal that the store has

    @property
    def seconds_to_next_look(self) -> float:
        return float(min(LONGEST_BETWEEN_LOOKS, SECONDS_BETWEEN_LOOKS * 2**self._failures))

    def look(self) -> bool:
        """Bring the store up to date; whether it has everything now."""
        try:
            if self._publisher is None:
                # Two processes that make one fresh database at once would break it.
                with lock(self._folder.parent / STORE_LOCK, math.inf):
                    make_whole(self._uri, lambda uri: MlflowClient(uri).search_experiments())
                    self._publisher = Publisher(self._folder, self._uri, self._artifacts)
                    self._publisher.publish()
            self._publisher.publish()
            self._failures = 0
        except NOT_TAKEN as error:
            self._note("it", error)
        finally:
            if self._publisher is not None:
                self.sent = self._publisher.cursor.offset
        if self._failures:
            self._publisher = None  # what it had in hand is read from the journal again
            return False
        return self._look_at_files()

    def _look_at_files(self) -> bool:
        assert self._publisher is not None
        try:
            self._publisher.publish_files()
        except Exception as error:  # each place for artifacts has errors of its own
            self._note("the files", error)
            return False
        return True

    def _note(self, what: str, error: Exception) -> None:
        self._failures += 1
        message = f"the store at {without_password(self._uri)} did not take {what}: {error}"
        if message != self._logged:
            logging.warning("%s", message)
        self._logged = message

    def leave_interrupted(self) -> bool:
        """Show the sweep's running runs as interrupted; whether the store took it."""
        if self._publisher is None:
            return False
        try:
            self._publisher.leave_interrupted()
        except NOT_TAKEN as error:
            self._note("it", error)
            return False
        return True


def follow(follower: Follower) -> int:
    """Publish until standard input closes and the journal is sent, or the store stays away."""
    while not _is_closed(sys.stdin.fileno(), follower.seconds_to_next_look):
        follower.look()
    deadline, left = time.monotonic() + SECONDS_TO_DRAIN, False
    while time.monotonic() < deadline:
        complete = follower.look()
        left = left or follower.leave_interrupted()  # once: soon another driver may be at work
        if complete and left:
            return 0
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return 1


def _is_closed(pipe: int, seconds: float) -> bool:
    """Whether the other end of `pipe` is closed, within so many seconds."""
    readable, _, _ = select.select([pipe], [], [], seconds)
    return bool(readable) and not os.read(pipe, 1)


def send_once(follower: Follower, folder: Path) -> int:
    """Publish as far as the journal goes, as long as the store takes more of it in time."""
    sent, deadline = 0, time.monotonic() + SECONDS_TO_DRAIN
    while time.monotonic() < deadline:
        complete = follower.look()
        if (is_locked(folder / DRIVER_LOCK) or follower.leave_interrupted()) and complete:
            return 0
        if follower.sent > sent:
            sent, deadline = follower.sent, time.monotonic() + SECONDS_TO_DRAIN
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return 1


def main(arguments: list[str]) -> int:
    folder, artifacts, how = Path(arguments[0]), arguments[1] or None, arguments[2]
    uri = os.environ[STORE]
    log = logging.FileHandler(folder / TRACKING_LOG)
    log.setFormatter(Redacted("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[log])
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # Follower logs once that a store is away
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the driver decides when we end
    with lock(lock_path(folder, uri), math.inf):
        follower = Follower(folder, uri, artifacts)
        return follow(follower) if how == FOLLOW else send_once(follower, folder)


class Redacted(logging.Formatter):
    """Lines without secrets: what a store says of itself may name its password."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def _log_crash(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    logging.error("stopped by an error of ours", exc_info=(kind, error, trace))


if __name__ == "__main__":
    sys.excepthook = _log_crash
    sys.exit(main(sys.argv[1:]))
