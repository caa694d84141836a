"""How far the preparation of a token table is, on a terminal."""

from __future__ import annotations

import sys
import time

import click

from model.config.config import DataConfig

SHOWN_EVERY = 0.2  # seconds


class Bar:
    """A progress bar on a terminal: of the tokens asked for, else of the text there is."""

    def __init__(self, config: DataConfig) -> None:
        from model.data.corpus import text_bytes

        pool = config.pool_tokens
        self.of_tokens = bool(pool)
        asked = pool + config.val_tokens + config.test_tokens
        self.bar = click.progressbar(
            length=asked if pool else max(1, text_bytes(config)),
            label="tokens" if pool else "text",
            file=sys.stderr,
            show_pos=True,
            hidden=not sys.stderr.isatty(),
        )
        self.done, self.shown = 0, time.monotonic()

    def __enter__(self) -> Bar:
        self.bar.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self.bar.finish()
        self.bar.__exit__(None, None, None)

    def show(self, characters: int, tokens: int) -> None:
        """Told now and then how far it is."""
        now = time.monotonic()
        if now - self.shown >= SHOWN_EVERY:
            at = tokens if self.of_tokens else characters
            self.bar.update(at - self.done)
            self.done, self.shown = at, now
