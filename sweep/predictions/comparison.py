"""Runs compared with the first of them, on the tokens that all of them predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import SweepError
from sweep.models import Source, find
from sweep.predictions.difference import Difference, Spread, by_journal, by_tokens, spread
from sweep.predictions.predicted import Predicted, predicted, shared_table
from sweep.predictions.where import Band, Passage, by_frequency, by_position, passages


@dataclass(frozen=True)
class Detail:
    """What only the predictions of each token tell."""

    spread: Spread
    by_frequency: list[Band]
    by_position: list[Band]
    passages: list[Passage]
    train_tokens: int  # of the text whose tokens were counted
    context: int  # whose windows positions are of


@dataclass(frozen=True, eq=False)
class Pair:
    """One run against the first."""

    source: Source
    difference: Difference
    detail: Detail | None  # None where predictions are missing


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several runs on one validation split."""

    first: Source
    pairs: list[Pair]
    tokens: int  # targets of the split
    digest: str  # of the token table
    notes: list[str]  # what was not kept, and what differs beside the runs


def compare(words: Sequence[str], runs: Path) -> Comparison:
    """Compare what the user named with the first of it.

    Raises SweepError if that is not two runs that ended, if they predicted different tokens, or if
    what they predicted is damaged.
    """
    sources = find(words, runs)
    if len({source.folder.resolve() for source in sources}) < len(sources) or len(sources) < 2:
        raise SweepError(
            "expected two runs or more, each once",
            [f"found {', '.join(source.name for source in sources)}"],
            hint="sweep compare 0012 0014",
        )
    table = shared_table(sources)
    first = predicted(sources[0], table)
    notes = _notes(first)
    pairs = []
    for source in sources[1:]:
        other = predicted(source, table)
        notes += _notes(other)
        if first.log_probs_N is None or other.log_probs_N is None:
            pairs.append(Pair(source, by_journal(first.source, source), None))
            continue
        difference_N = first.log_probs_N - other.log_probs_N  # of losses, b - a
        configs = first.source.config, source.config
        train_tokens = min(config.data.train_tokens for config in configs)
        context = configs[0].gpt.reach
        if configs[1].gpt.reach != context:
            notes.append(
                f"{source.name} reads {configs[1].gpt.reach:,} tokens at once, "
                f"{first.name} {context:,}: positions are those of {first.name}"
            )
        detail = Detail(
            spread(difference_N),
            by_frequency(difference_N, table, train_tokens),
            by_position(difference_N, table, context),
            passages(difference_N, table),
            train_tokens,
            context,
        )
        pairs.append(Pair(source, by_tokens(difference_N, table.documents["val"]), detail))
    return Comparison(first.source, pairs, len(table.val) - 1, table.digest, notes)


def _notes(run: Predicted) -> list[str]:
    if run.log_probs_N is None:
        return [f"{run.name}: {run.how}, so it is compared by what the journal has of its loss"]
    return [f"{run.name}: {run.how}"] if run.how != "kept" else []
