"""How long workers say nothing, as far as anybody listened."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

SECONDS_A_STEP = 5.0  # of a driver; one that was stopped for an hour has heard nobody meanwhile
SECONDS_BETWEEN_CHECKS = 1.0


class Listener:
    """Tells which trials have been silent for more than their limit."""

    def __init__(
        self,
        limit: Callable[[str], float],
        least: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """How long a trial may say nothing.

        limit  seconds for the trial of this name; it looks at all trials there are
        least  seconds that any limit has, before which none is asked for
        """
        self._limit, self._least, self._clock = limit, least, clock
        self._before = self._checked = clock()
        self._silent: dict[str, float] = {}

    def heard(self, name: str) -> None:
        """The trial said something, or another worker has it."""
        self._silent.pop(name, None)

    def beyond(self, training: Collection[str]) -> dict[str, float]:
        """Seconds of silence of those beyond their limit, among the trials that have a worker."""
        now = self._clock()
        passed, self._before = min(now - self._before, SECONDS_A_STEP), now
        silent = self._silent
        self._silent = {name: silent[name] + passed if name in silent else 0.0 for name in training}
        if now - self._checked < SECONDS_BETWEEN_CHECKS:
            return {}
        self._checked = now
        long = {name: its for name, its in self._silent.items() if its > self._least}
        return {name: its for name, its in long.items() if its > self._limit(name)}
