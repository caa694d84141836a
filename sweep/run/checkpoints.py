"""Room for checkpoints: the state of optimizers goes once a trial ended, and weights by `keep`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from model.training import release
from sweep.errors import SweepError
from sweep.folder import TRIALS
from sweep.records import Event
from sweep.run import kept
from sweep.space import KeepConfig
from sweep.view import View

KEEP_ALL = KeepConfig()


class Checkpoints:
    """The checkpoints of the trials in the run folder `folder`.

    The trainer leaves the state out when a run ends by itself; of one that was stopped, this takes
    it out, in a thread: rewriting a large file must not keep others from being heard. It begins
    with all that the journal says have ended: after a crash the next driver does what is left.
    """

    def __init__(self, folder: Path, view: View, keep: KeepConfig = KEEP_ALL) -> None:
        self._folder, self._view, self._keep = folder, view, keep
        self._by_policy = bool(keep.best or keep.max_gb)
        self._bytes: dict[str, int] = {}  # of the weights that ended trials have
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        for trial in view.trials.values():
            if trial.outcome is not None:
                self._thread.submit(self._release, trial.name)

    def make_room(self) -> None:
        """Remove the weights that `keep` does not keep, once all that was asked before is done."""
        if self._by_policy:
            self._thread.submit(self._make_room)

    def take(self, event: Event) -> None:
        """Make room once a trial has ended."""
        if event["event"] == "outcome":
            self._thread.submit(self._release, event["trial"])
            self.make_room()

    def close(self) -> None:
        """Return once all that has ended has given its room back."""
        self._thread.shutdown()

    def _release(self, name: str) -> None:
        with suppress(OSError, ValueError, KeyError):  # room is a wish; damage is told by readers
            release.release(self._folder / TRIALS / name)
        if self._by_policy and (size := kept.weight(self._folder, name)):
            self._bytes[name] = size

    def _make_room(self) -> None:
        with suppress(SweepError):  # who is promised theirs cannot be told: nobody loses them
            for trial in kept.sort_out(self._folder, self._view, self._keep, self._bytes).goes:
                kept.remove(self._folder, trial.name)
                del self._bytes[trial.name]
