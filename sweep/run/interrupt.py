"""Ctrl-C and SIGTERM as a request that is honoured between two steps, never inside a write."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """Raised where stopping is safe. Not an Exception: nothing on the way may swallow it."""


class Interrupt:
    """Catches SIGINT and SIGTERM while entered; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raise_at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = self.install()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> dict[int, Any]:
        """Take both signals, again if a library took them meanwhile; the handlers before."""
        caught = (signal.SIGINT, signal.SIGTERM)
        return {number: signal.signal(number, self._on_signal) for number in caught}

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, as shells have it."""
        return 128 + (self.signal or 0)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signal is not None:
            raise Interrupted

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted at once: for long work that may be cut anywhere."""
        self.check()
        self._raise_at_once = True
        try:
            yield
        finally:
            self._raise_at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        if self._raise_at_once:
            raise Interrupted
