"""Whether the Ray that we use still lives. Without being asked Ray waits for it for ever.

Or, where the GCS died, for a minute: then it ends our process with a text of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Protocol

SECONDS_BETWEEN_CHECKS = 0.5
SECONDS_TO_ANSWER = 5.0
SECONDS_A_LOOK = 6.0  # at most; whoever was stopped for an hour has asked nobody meanwhile
SECONDS_UNANSWERED = 15.0  # after which a cluster counts as lost; Ray itself gives up after 60
SECONDS_TO_NOTICE = 10.0  # for a main thread that may wait in a call of Ray that never returns


class ClusterLost(BaseException):
    """Raised between two steps. Not an Exception: Tune would stop workers that are gone first."""


class NoAnswer(Exception):
    """Ray's processes said nothing in time."""


class AttachedNode(Protocol):
    """The node of a cluster that our process is attached to."""

    def dead_process(self) -> str:
        """Which process that we started has ended, and how; empty if none has."""

    def answer(self, seconds: float) -> str:
        """Empty if the cluster counts the node as alive, else what it says of it.

        Raises NoAnswer if that takes more than so many seconds.
        """


class Health:
    """Watches a node from a thread of its own, while asked to."""

    def __init__(
        self,
        node: AttachedNode,
        abandon: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[Event, float], bool] = Event.wait,
    ) -> None:
        """abandon: ends this process, for the reason given, when its main thread hears nothing."""
        self._node, self._abandon, self._clock, self._wait = node, abandon, clock, wait
        self._lost = ""
        self._over, self._noticed, self._found = Event(), Event(), Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, the node is watched, and `check` has to be called every few seconds."""
        thread = Thread(target=self.watch, name="Ray's health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._noticed.set()
            thread.join(SECONDS_TO_ANSWER)

    def check(self) -> None:
        """Raise ClusterLost, with the reason, once the cluster is lost."""
        lost = self._lost or self._node.dead_process()
        if lost:
            self._noticed.set()
            raise ClusterLost(lost)

    def dies_within(self, seconds: float) -> str:
        """Why the cluster is lost, if that shows in so many seconds: Ray has raised an error."""
        self._found.wait(seconds)
        return self._lost

    def watch(self) -> None:
        """Return when nobody watches any more, or after the cluster was lost and that noticed."""
        silent, before = 0.0, self._clock()
        while not self._wait(self._over, SECONDS_BETWEEN_CHECKS):
            lost = self._node.dead_process()
            if not lost:
                try:
                    lost, silent = self._node.answer(SECONDS_TO_ANSWER), 0.0
                except NoAnswer:
                    silent += min(self._clock() - before, SECONDS_A_LOOK)
                    lost = f"its GCS gives no answer for {silent:.0f} s"
                    lost = lost if silent >= SECONDS_UNANSWERED else ""
            before = self._clock()
            if lost and not self._over.is_set():
                self._lost = lost
                self._found.set()
                if not self._wait(self._noticed, SECONDS_TO_NOTICE):
                    self._abandon(lost)
                return
