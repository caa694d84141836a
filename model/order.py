"""Which tokens a step reads: the order of an epoch is a pure function of (seed, epoch).

B sequences, T tokens each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.table import TokenTable

DOCUMENTS = 1  # keeps the draws for documents apart from those for sequences


@lru_cache(maxsize=1)
def epoch_order(sequences: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(sequences) that depends on nothing but the arguments.

    Read-only, and remembered: every step of an epoch asks for the same one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(sequences)
    order.flags.writeable = False
    return order


@dataclass(frozen=True, eq=False)
class Stream:
    """Documents of a split, joined in another order than the file's; no token is copied."""

    starts: np.ndarray  # (N,) where each document begins in the split
    bounds: np.ndarray  # (N + 1,) where it begins in the stream; last, the stream's length

    def positions(self, first_B: np.ndarray, length: int) -> np.ndarray:
        """Where in the split the stretches of `length` lie that begin at `first_B`: (B, length).

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
    offsets = table.documents["train"]
    count = int(np.searchsorted(offsets, tokens, "left"))  # those that begin within the budget
    order = np.random.default_rng([seed, epoch, DOCUMENTS]).permutation(count)
    starts = offsets[:count][order]
    lengths = np.minimum(offsets[1 : count + 1], tokens)[order] - starts
    return Stream(starts, np.concatenate([[0], np.cumsum(lengths)]))
