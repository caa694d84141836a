"""What runs predicted of the validation tokens. N targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.config import ConfigError
from model.training import log_probs
from model.training.release import CHECKPOINT
from model.training.saved import is_saved
from sweep.errors import SweepError
from sweep.models import Source

if TYPE_CHECKING:
    from model.data.table import TokenTable

AGAIN = "Delete that file: they are made again from the checkpoint beside it."
ABOVE = 0.01  # nats: a certain token's log-probability is 0, or as far above as float32 rounds
KEPT, SCORED = "kept", "scored again from its checkpoint"


@dataclass(frozen=True, eq=False)
class Predicted:
    """A run with what it predicted."""

    source: Source
    log_probs_N: np.ndarray | None  # nats, float32; None: neither kept nor to be made again
    how: str = KEPT  # or why there are none

    @property
    def name(self) -> str:
        return self.source.name


def shared_table(sources: Sequence[Source]) -> TokenTable:
    """The tokens that all of them were evaluated on.

    Raises SweepError if these are not the same for all, or cannot be read.
    """
    from model.data.batches import open_table

    tables: dict[str, TokenTable] = {}  # by the digest of their validation tokens
    who: dict[str, list[str]] = {}
    opened: dict[str, TokenTable] = {}
    for source in sources:
        data = source.config.data
        key = data.digest or repr(data)
        try:
            table = opened.setdefault(key, opened.get(key) or open_table(data))
        except ConfigError as error:
            raise SweepError(
                f"the tokens that {source.name} predicted cannot be read", error.problems
            ) from None
        digest = table.recorded.get("digests", {}).get("val", table.digest)
        tables.setdefault(digest, table)
        who.setdefault(digest, []).append(source.name)
    if len(tables) > 1:
        raise SweepError(
            "these runs predicted different validation tokens, so no difference between them is "
            "of the runs alone",
            [f"{', '.join(names)}: {digest}" for digest, names in who.items()],
            hint="Compare runs of one data.path, data.tokenizer, data.splits and data.val_tokens.",
        )
    return next(iter(tables.values()))


def predicted(source: Source, table: TokenTable, key: str = log_probs.FINAL) -> Predicted:
    """What `source` predicted: as it was kept, or else made again from its checkpoint.

    Raises SweepError if what was kept is damaged, not log-probabilities, or of another number of
    tokens.
    """
    targets = len(table.val) - 1
    try:
        kept = log_probs.read(source.folder).get(key)
    except ConfigError as error:
        raise SweepError(
            f"the predictions of {source.name} cannot be read",
            [error.problems[0].partition(";")[0]],
            hint=AGAIN,
        ) from None
    if kept is not None and len(kept) != targets:
        raise SweepError(
            f"the predictions of {source.name} are not of these tokens",
            [
                f"{source.folder / log_probs.NAME} has {len(kept):,} log-probabilities, the "
                f"validation split {targets:,} targets"
            ],
            hint=AGAIN,
        )
    if kept is not None and not bool(np.all(kept <= ABOVE)):  # nor is NaN
        raise SweepError(
            f"the predictions of {source.name} cannot be read",
            [
                f"{source.folder / log_probs.NAME} has {np.sum(~(kept <= ABOVE)):,} values of "
                f"{targets:,} that are no log-probabilities"
            ],
            hint=AGAIN,
        )
    if kept is not None:
        return Predicted(source, kept)
    is_apart = is_saved(source.folder)
    if not is_apart and not (source.folder / CHECKPOINT).exists():
        return Predicted(source, None, "neither its predictions nor its checkpoint were kept")
    from model.training.predictions import predictions, predictions_of

    read = predictions_of if is_apart else predictions
    try:
        return Predicted(source, read(source.folder, table), SCORED)
    except ConfigError as error:
        return Predicted(source, None, error.problems[0])
