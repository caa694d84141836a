"""Which tokens a step reads: the order of an epoch is a pure function of (seed, epoch).

B sequences, T tokens each; N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from model.config import ConfigError
from model.data.table import TokenTable

# Keep the draws for documents and for offsets apart from those for sequences.
DOCUMENTS, OFFSETS = 1, 2


@lru_cache(maxsize=1)
def epoch_order(sequences: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(sequences) that depends on nothing but the arguments.

    Read-only, and remembered: every step of an epoch asks for the same one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(sequences)
    order.flags.writeable = False
    return order


def random_starts(places: int, size: int, seed: int, step: int) -> np.ndarray:
    """Where the sequences of a step begin: (size,) draws from range(places), with replacement.

    So nanoGPT's get_batch draws them. The step, counted from 0, is part of the seed: a run that is
    continued reads what it would have read.
    """
    return np.random.default_rng([seed, step, OFFSETS]).integers(places, size=size)


@dataclass(frozen=True, eq=False)
class Stream:
    """Documents of a split, joined in another order than the file's; no token is copied."""

    starts: np.ndarray  # (N,) int64, where in the split each document begins, in stream order
    bounds: np.ndarray  # (N + 1,) int64, where in the stream it begins; last, the stream's length

    def positions(self, first_B: np.ndarray, length: int) -> np.ndarray:
        """Where in the split each token of some stretches of the stream lies: (B, length) int64.

        first_B  where in the stream each stretch begins
        A stretch is made of as many segments as it touches documents; all are found at once.
        """
        last_B = first_B + length
        before_B = np.searchsorted(self.bounds, first_B, "right") - 1
        count_B = np.searchsorted(self.bounds, last_B, "left") - before_B
        row = np.repeat(np.arange(len(first_B)), count_B)  # of each segment
        document = np.arange(len(row)) - (np.cumsum(count_B) - count_B - before_B)[row]
        begin = np.maximum(self.bounds[document], first_B[row])
        end = np.minimum(self.bounds[document + 1], last_B[row])
        into = row * length + begin - first_B[row]
        shift = self.starts[document] + begin - self.bounds[document] - into
        at = np.repeat(shift, end - begin) + np.arange(len(first_B) * length)
        return at.reshape(len(first_B), length)


@lru_cache(maxsize=1)
def shuffled_documents(table: TokenTable, tokens: int, seed: int, epoch: int) -> Stream:
    """The documents of the first `tokens` training tokens in an order of this epoch's own.

    The last document is cut at the budget. Remembered, like the order of sequences.
    """
    random = np.random.default_rng([seed, epoch, DOCUMENTS])
    return _joined(table, tokens, random.permutation(_documents(table, tokens)))


@lru_cache(maxsize=1)
def easiest_first(table: TokenTable, tokens: int, curriculum: str, reference: str) -> Stream:
    """The documents of the first `tokens` training tokens by what `curriculum` calls easy.

    Equally easy ones stay in the file's order. Raises ConfigError if the table or the file
    `reference` does not tell.
    """
    count = _documents(table, tokens)
    if curriculum == "shortest":
        hardness_N = np.diff(table.documents["train"])
    elif curriculum == "compression":
        hardness_N = table.compression
        if not len(hardness_N):
            raise ConfigError(
                [
                    "data.curriculum: imported tokens have no text whose compression could be "
                    "measured; choose shortest or reference"
                ]
            )
    else:
        hardness_N = _read_losses(Path(reference), len(table.documents["train"]) - 1)
    return _joined(table, tokens, np.argsort(hardness_N[:count], kind="stable"))


def _read_losses(path: Path, documents: int) -> np.ndarray:
    try:
        losses_N = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError([f"data.reference: cannot read {path}: {error}"]) from None
    if losses_N.shape != (documents,) or losses_N.dtype.kind != "f" or np.isnan(losses_N).any():
        raise ConfigError(
            [
                f"data.reference: {path} holds {losses_N.dtype} {losses_N.shape}, expected a loss "
                f"for each of {documents:,} documents; make it with `sweep data score`"
            ]
        )
    return np.asarray(losses_N)


def _documents(table: TokenTable, tokens: int) -> int:
    """How many documents begin within the first `tokens` training tokens."""
    return int(np.searchsorted(table.documents["train"], tokens, "left"))


def _joined(table: TokenTable, tokens: int, order: np.ndarray) -> Stream:
    offsets = table.documents["train"]
    starts = offsets[order]
    lengths = np.minimum(offsets[order + 1], tokens) - starts
    return Stream(starts, np.concatenate([[0], np.cumsum(lengths)]))
