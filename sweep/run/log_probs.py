"""Room for log-probabilities: of a long sweep, the best trials' are kept and the others' deleted.

What a run predicted is 2 bytes a validation token, 20 MB of ten million. Whoever mixes runs wants
those of the best; the differences that reports judge by are in the journal for all.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from model.training import log_probs
from sweep.records import Event
from sweep.view import TrialView, View

TO_MIX = ("epochs", "cycles")  # each of which ends with predictions of its own


class LogProbs:
    """The files under `folder`, a folder with one for each trial.

    It only ever deletes what a journal of ended trials says is of no use, and begins with all of
    it: after a crash the next driver deletes what that one did not.
    """

    def __init__(self, folder: Path, view: View, most: int) -> None:
        """most: search trials that keep theirs."""
        self._folder, self._view, self._most = folder, view, most
        self._deleted: set[str] = set()

    def take(self, event: Event) -> None:
        """Make room once a trial has ended."""
        if event["event"] == "outcome":
            self.make_room()

    def make_room(self) -> None:
        """Delete those of complete search trials that are neither among the best nor finalists."""
        for trial in useless(self._view, self._most):
            if trial.name not in self._deleted:
                with suppress(OSError):  # room is a wish: a trial must not fail for it
                    log_probs.forget(self._folder / trial.name)
                self._deleted.add(trial.name)


def useless(view: View, most: int) -> list[TrialView]:
    """Complete search trials beyond the best `most` that are no finalists.

    Those that were asked for at each epoch or cycle stay: someone will mix them.
    """
    finalists = (view.confirm or {}).get("finalists") or ()
    return [
        trial
        for trial in view.ranked()[most:]
        if trial.name not in finalists and trial.settings.get("train.log_probs") not in TO_MIX
    ]
