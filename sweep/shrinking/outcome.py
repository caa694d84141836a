"""What shrinking came to: size, speed and loss before and after, and the plans that were tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.files import write_text
from sweep.errors import SweepError
from sweep.format import count_text, table

if TYPE_CHECKING:
    from sweep.shrinking.search import Tried

FOLDER = "report"  # of the run folder, whose files go to MLflow too
NAME = "shrink.json"
ORIGINAL, CUT, TUNED = "original", "as cut", "fine-tuned"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the table."""

    stage: str
    parameters: int
    share: float  # of the original's parameters
    block_share: float  # of those outside embeddings and head
    tokens_per_second: float  # forward
    val_loss: float  # nats per token
    quality: float  # share kept of the original's gain over a unigram model


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A plan that was tried; losses are on training tokens held back, nats per token."""

    strategy: str
    share: float
    layers: int
    alone: bool  # one strategy by itself
    loss: float  # as cut
    tuned_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that is told of one shrinking."""

    model: str  # as the user named it
    request: dict[str, Any]
    strategy: str  # of the chosen plan
    left: str  # what is left of each layer, in words
    kept: dict[str, list[list[int]]]  # heads and units by layer, by their numbers in the original
    unigram_loss: float  # of the training tokens' frequencies, on validation, nats per token
    held_back_loss: float  # of the original on the tokens held back
    rows: tuple[Row, ...]
    attempts: tuple[Attempt, ...]
    ended: bool  # whether its fine-tune is over, or it has none

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def attempts_of(tried: Sequence[Tried]) -> tuple[Attempt, ...]:
    """What the search tried, in its order."""
    return tuple(
        Attempt(
            strategy=one.plan.strategy,
            share=one.plan.share,
            layers=one.plan.layers,
            alone=one.plan.alone,
            loss=one.loss,
            tuned_loss=one.tuned_loss,
        )
        for one in tried
    )


def quality(loss: float, original: float, unigram: float) -> float:
    """The share of the original's gain over a unigram model that a network of `loss` keeps."""
    gain = unigram - original
    return (unigram - loss) / gain if gain else float("nan")


def write(outcome: Outcome, folder: Path) -> None:
    """Write it into the run folder `folder`."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_text(folder / FOLDER / NAME, json.dumps(outcome.to_dict(), indent=2))


def read(folder: Path) -> Outcome | None:
    """What `folder` tells of a shrinking that ended or goes on; None if there was none.

    Raises SweepError if that is damaged.
    """
    path = folder / FOLDER / NAME
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["rows"] = tuple(Row(**row) for row in data["rows"])
        data["attempts"] = tuple(Attempt(**attempt) for attempt in data["attempts"])
        return Outcome(**data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{path} is damaged: {error}", hint="Choose another --out.") from None


def text(outcome: Outcome, width: int | None = None) -> str:
    """Its tables, and what was taken out."""
    rows = [
        [
            "",
            "parameters",
            "share",
            "of blocks",
            "tokens/s",
            "val loss",
            "nats more",
            "quality kept",
        ]
    ]
    before = outcome.rows[0].val_loss
    for row in outcome.rows:
        rows.append(
            [
                row.stage,
                count_text(row.parameters),
                f"{row.share:.1%}",
                f"{row.block_share:.1%}",
                f"{row.tokens_per_second:,.0f}",
                f"{row.val_loss:.4f}",
                "-" if row is outcome.rows[0] else f"{row.val_loss - before:+.4f}",
                f"{row.quality:.1%}",
            ]
        )
    parts = [
        table(rows, width),
        f"taken out of {outcome.model}: {outcome.strategy}\nleft of each layer: {outcome.left}\n"
        f"quality: share of the gain over a unigram model, whose val loss is "
        f"{outcome.unigram_loss:.4f}",
    ]
    if len(outcome.attempts) > 1:
        parts.append(_attempts(outcome, width))
    return "\n\n".join(parts)


def _attempts(outcome: Outcome, width: int | None) -> str:
    """Plans that were fine-tuned for a while, and each strategy alone."""
    shown = [one for one in outcome.attempts if one.alone or one.tuned_loss is not None]
    shown = shown or list(outcome.attempts[:1])
    rows = [["plan", "share", "layers", "as cut", "fine-tuned a while"]]
    for one in shown:
        tuned = "-" if one.tuned_loss is None else f"{one.tuned_loss:.4f}"
        rows.append([one.strategy, f"{one.share:.1%}", str(one.layers), f"{one.loss:.4f}", tuned])
    return (
        f"{len(outcome.attempts)} plans; losses on training tokens held back, where the original's "
        f"is {outcome.held_back_loss:.4f}:\n{table(rows, width)}"
    )
