"""A comparison as text, and as data for --json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sweep.format import finite_or_none, table
from sweep.predictions.comparison import Comparison, Detail, Pair
from sweep.predictions.difference import BY_LOSSES, SAME, TOP, Difference, Interval
from sweep.predictions.where import Band

WORDS = {True: "worse", False: "better"}


def comparison_text(its: Comparison) -> str:
    """All runs in a table; where two were named, where and how they differ too."""
    first = its.first
    rows = [["run", "val loss", "± s.e.", f"less {first.name}", "± s.e.", "95 %", "by blocks", ""]]
    rows.append([first.name, f"{first.val_loss:.4f}", f"{first.error:.4f}", *"----", ""])
    for pair in its.pairs:
        source, difference = pair.source, pair.difference
        rows.append(
            [
                source.name,
                f"{source.val_loss:.4f}",
                f"{source.error:.4f}",
                f"{difference.mean:+.4f}",
                f"{difference.interval.error:.4f}",
                _interval(difference.interval),
                f"± {difference.bootstrap.error:.4f}" if difference.bootstrap else "-",
                WORDS[difference.mean > 0] if difference.apart else "not told apart",
            ]
        )
    parts = [
        f"{its.tokens:,} validation tokens, {its.digest[:16]}; losses in nats per token",
        table(rows),
        "\n".join([*map(_how, _distinct(its.pairs)), *its.notes, ONE_EACH]),
    ]
    if len(its.pairs) == 1 and its.pairs[0].detail:
        parts += _detail(first.name, its.pairs[0], its.pairs[0].detail)
    elif len(its.pairs) > 1:
        parts.append("Where two of them differ: name these two.")
    return "\n\n".join(parts)


ONE_EACH = (
    "These are networks, not recipes: what other seeds would give is not in the intervals (sweep "
    "confirm)."
)


def _distinct(pairs: Sequence[Pair]) -> list[Difference]:
    """One difference of each way it was taken."""
    return list({(p.difference.by, p.difference.stretches): p.difference for p in pairs}.values())


def _how(difference: Difference) -> str:
    """What an error was taken from."""
    if difference.by == BY_LOSSES:
        return (
            "By the standard errors of both losses, as if they were of different text: far too "
            "large, but nothing else was kept."
        )
    text = f"Errors are those of paired differences over {difference.stretches} of val"
    if difference.bootstrap:
        return f"{text}; beside them those of a block bootstrap."
    return f"{text}, whose losses the journal has."


def _interval(its: Interval) -> str:
    return f"{its.low:+.4f} to {its.high:+.4f}"


def _detail(first: str, pair: Pair, its: Detail) -> list[str]:
    name, mean, spread = pair.source.name, pair.difference.mean, its.spread
    alike = 1 - spread.better - spread.worse
    quantiles = ", ".join(f"{100 * q:g} %: {value:+.3f}" for q, value in spread.quantiles.items())
    share = f", {spread.top / mean:.0%} of it" if mean and spread.top / mean > 0 else ""
    parts = [
        f"Token by token {name} is better on {spread.better:.1%}, worse on {spread.worse:.1%} and "
        f"alike (within {SAME:g}) on {alike:.1%}.\n"
        f"Quantiles of its loss less that of {first}: {quantiles}\n"
        f"The {TOP:.0%} of tokens that differ most add {spread.top:+.4f} to the difference of "
        f"{mean:+.4f}{share}.",
        f"By how often the token comes in the {its.train_tokens:,} tokens trained on:\n"
        + _bands(its.by_frequency),
        f"By how much of the context ({its.context:,}) was seen before it:\n"
        + _bands(its.by_position),
    ]
    if its.passages:
        rows = [["document", "tokens", "difference", "adds", "where it differs most"]]
        rows += [
            [str(p.number), f"{p.tokens:,}", f"{p.mean:+.4f}", f"{p.part:+.4f}", p.excerpt]
            for p in its.passages
        ]
        parts.append(f"Documents best and worst for {name}:\n{table(rows)}")
    return parts


def _bands(bands: Sequence[Band]) -> str:
    total = sum(band.tokens for band in bands)
    rows = [["", "of tokens", "difference", "± s.e."]]
    for band in bands:
        error = finite_or_none(band.error)
        told = "-" if error is None else f"{error:.4f}"
        rows.append([band.name, f"{band.tokens / total:.1%}", f"{band.mean:+.4f}", told])
    return table(rows)


def comparison_data(its: Comparison) -> dict[str, Any]:
    """Everything as plain data. Losses in nats per token; differences are a run's less the first's.

    Intervals are at 95 %; null stands for what is not finite.
    """
    return {
        "tokens": its.tokens,
        "data": its.digest,
        "first": _run_data(its.first.name, its.first.val_loss, its.first.error),
        "others": [
            {
                **_run_data(pair.source.name, pair.source.val_loss, pair.source.error),
                "difference": plain(asdict(pair.difference)),
                "apart": pair.difference.apart,
                **(plain(asdict(pair.detail)) if pair.detail else {}),
            }
            for pair in its.pairs
        ],
        "notes": its.notes,
    }


def _run_data(name: str, loss: float, error: float) -> dict[str, Any]:
    return {"run": name, "val_loss": finite_or_none(loss), "error": finite_or_none(error)}


def plain(value: Any) -> Any:
    """`value` with text keys, and None for numbers that are not finite."""
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
