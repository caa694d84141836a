"""What verbs say of the text that is read, and how they count it where all of it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from model.config import ConfigError
from sweep.errors import SweepError
from sweep.space import Space, corpus


def text_line(space: Space) -> str:
    """Which text, and how many of its tokens. Raises SweepError if it is not there or too short."""
    try:
        return str(corpus.corpus(space))
    except ConfigError as error:
        raise SweepError("the data cannot be used", error.problems) from None


def at_most(fixed: Mapping[str, object]) -> int:
    """Training tokens there are; by the size of files, with a note, if nobody has counted them."""
    tokens, counted = corpus.count_all(fixed)
    if not counted:
        click.echo(
            f"note: data.train_tokens: all is taken for {tokens:,}, the most that the files can "
            "hold; `sweep data prepare` counts them",
            err=True,
        )
    return tokens


def with_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the shape and the digest of the weights that `gpt.init` names.

    Published ones that are not here are downloaded. Raises ConfigError for what does not fit.
    """
    from model.pretrained import fill_in, pin

    return pin(fill_in(settings))


def counted(fixed: Mapping[str, object]) -> int:
    """Training tokens there are, which prepares the text if nobody has. Raises ConfigError."""
    from model.data.batches import open_table
    from model.data.prepare import table_path

    data = corpus.with_any_tokens(fixed)
    if not table_path(data).exists():
        click.echo(f"preparing tokens of {data.path or 'the embedded corpus'} (once)", err=True)
    return len(open_table(data).train)
