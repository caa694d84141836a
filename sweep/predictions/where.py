"""Where two runs differ: on rare or frequent tokens, early or late in the context, in which text.

Arrays: N targets, C clusters. Target i is token i + 1 of the split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.clusters import clustered
from model.data.clusters import clusters

if TYPE_CHECKING:
    from model.data.table import TokenTable

EXCERPT = 24  # tokens of a document that are judged, and shown, together
LONGEST = 60  # characters of an excerpt
DOCUMENTS = 3  # shown for each of the two


@dataclass(frozen=True)
class Band:
    """Targets of one kind."""

    name: str
    tokens: int
    mean: float  # of b - a, nats per token
    error: float  # standard, over stretches of text; infinite if only one has such tokens


@dataclass(frozen=True)
class Passage:
    """A document of the split on which the two differ."""

    number: int  # from 1, in the order of the split
    tokens: int
    mean: float  # of b - a, nats per token
    part: float  # what it adds to the mean difference of the split
    excerpt: str  # of its text, where they differ most


def by_frequency(difference_N: np.ndarray, table: TokenTable, train_tokens: int) -> list[Band]:
    """By how often the target's token comes in the text that was trained on, in decades."""
    count_V = np.bincount(table.train[:train_tokens], minlength=table.vocabulary)
    decade_V = np.where(count_V > 0, np.floor(np.log10(np.maximum(count_V, 1))) + 1, 0)
    decade_N = decade_V[table.val[1:]].astype(np.int64)
    names = {0: "never"} | {
        d: f"{10 ** (d - 1):,} to {10**d - 1:,} times" for d in range(1, decade_N.max() + 1)
    }
    return list(_bands(difference_N, decade_N, names, table))


def by_position(difference_N: np.ndarray, table: TokenTable, context: int) -> list[Band]:
    """By how many tokens of its window came before the target, in powers of two.

    Windows lie side by side; the last is moved back until it is full (model/training/evaluate.py).
    """
    targets = len(difference_N)
    context = min(context, targets)
    seen_N = np.arange(targets) % context + 1
    left_over = targets - (math.ceil(targets / context) - 1) * context
    seen_N[targets - left_over :] = np.arange(context - left_over, context) + 1
    power_N = np.floor(np.log2(seen_N)).astype(np.int64)
    names = {
        p: _counts(2**p, min(2 ** (p + 1) - 1, context)) for p in range(int(power_N.max()) + 1)
    }
    return list(_bands(difference_N, power_N, names, table))


def _counts(low: int, high: int) -> str:
    if low == high:
        return f"{low:,} token{'s' * (low > 1)}"
    return f"{low:,} to {high:,} tokens"


def _bands(
    difference_N: np.ndarray, band_N: np.ndarray, names: dict[int, str], table: TokenTable
) -> Iterator[Band]:
    _, begin_C = clusters(np.asarray(table.documents["val"]), len(difference_N))
    for band, name in names.items():
        is_in_N = band_N == band
        if not is_in_N.any():
            continue
        token_C = np.add.reduceat(is_in_N, begin_C, dtype=np.int64)
        sum_C = np.add.reduceat(np.where(is_in_N, difference_N, 0.0), begin_C, dtype=np.float64)
        there = token_C > 0
        variance = clustered(sum_C[there] / token_C[there], token_C[there])
        mean = float(sum_C.sum() / token_C.sum())
        yield Band(name, int(token_C.sum()), mean, math.sqrt(variance.value))


def passages(difference_N: np.ndarray, table: TokenTable) -> list[Passage]:
    """Documents by what they add to the difference, those best for b first; none if it is one."""
    offsets_D = np.asarray(table.documents["val"])
    begin_D = np.unique(np.maximum(offsets_D[:-1] - 1, 0))
    begin_D = begin_D[begin_D < len(difference_N)]
    if len(begin_D) < 2:
        return []
    end_D = np.append(begin_D[1:], len(difference_N))
    sum_D = np.add.reduceat(difference_N, begin_D, dtype=np.float64)
    order = np.argsort(sum_D, kind="stable")
    most = min(DOCUMENTS, len(order) // 2)
    shown = [*order[:most], *order[len(order) - most :]]
    ends_V = np.cumsum(table.token_lengths)
    found = []
    for d in map(int, shown):
        begin, end = int(begin_D[d]), int(end_D[d])
        excerpt = _excerpt(difference_N[begin:end], table.val[begin + 1 : end + 1], table, ends_V)
        mean, part = sum_D[d] / (end - begin), sum_D[d] / len(difference_N)
        found.append(Passage(d + 1, end - begin, float(mean), float(part), excerpt))
    return found


def _excerpt(
    difference_T: np.ndarray, tokens_T: np.ndarray, table: TokenTable, ends_V: np.ndarray
) -> str:
    """The tokens in a row that add most to the difference of their document, as text in a line."""
    length = min(EXCERPT, len(tokens_T))
    sums = np.convolve(difference_T, np.ones(length), "valid")
    sums = sums if difference_T.sum() > 0 else -sums
    first = int(np.argmax(sums))
    pieces = [
        table.pieces[ends_V[token] - table.token_lengths[token] : ends_V[token]]
        for token in tokens_T[first : first + length]
    ]
    return " ".join(b"".join(pieces).decode(errors="replace").split())[:LONGEST]
