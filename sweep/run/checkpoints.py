"""Room for checkpoints: a trial that has ended never goes on, so it needs no optimizer state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from model.training import release
from sweep.records import Event
from sweep.view import View


class Checkpoints:
    """The checkpoints under `folder`, a folder with one for each trial.

    The trainer leaves the state out when a run ends by itself; of one that was stopped, this takes
    it out, in a thread: rewriting a large file must not keep others from being heard. It begins
    with all that the journal says have ended: after a crash the next driver does what is left.
    """

    def __init__(self, folder: Path, view: View) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        for trial in view.trials.values():
            if trial.outcome is not None:
                self._release(trial.name)

    def take(self, event: Event) -> None:
        """Make room once a trial has ended."""
        if event["event"] == "outcome":
            self._release(event["trial"])

    def close(self) -> None:
        """Return once all that has ended has given its room back."""
        self._thread.shutdown()

    def _release(self, name: str) -> None:
        self._thread.submit(self._try, self._folder / name)

    def _try(self, folder: Path) -> None:
        with suppress(OSError, ValueError, KeyError):  # room is a wish; damage is told by readers
            release.release(folder)
