"""An encoding in the place of GPT-2's, whose files cannot be downloaded everywhere."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import regex
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

SEPARATOR = 50_256
RANKS = 300
REAL = Path(__file__).parents[3] / "shared" / "tiktoken_cache"  # GPT-2's own, where they are kept
TEXT = (
    "Document of the stream, then another document: the words of this text are in that stream. "
    "Whoever writes a sentence for a small encoding had better use more letters than a few."
)


@cache
def toy_gpt2() -> tiktoken.Encoding:
    """GPT-2's pattern, separator and vocabulary, of which only the first few hundred ids are used.

    All bytes, then merges learned from a sentence as BPE does: the commonest pair becomes one.
    """
    words = [
        [bytes([byte]) for byte in word.encode()] for word in regex.findall(r50k_pat_str, TEXT)
    ]
    pieces = [bytes([value]) for value in range(256)]
    while len(pieces) < RANKS:
        counted = Counter(pair for word in words for pair in pairwise(word))
        first, second = max(counted, key=lambda pair: (counted[pair], pair))
        pieces.append(first + second)
        words = [_merged(word, first, second) for word in words]
    return tiktoken.Encoding(
        "gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks={piece: rank for rank, piece in enumerate(pieces)},
        special_tokens={"<|endoftext|>": SEPARATOR},
    )


def _merged(word: list[bytes], first: bytes, second: bytes) -> list[bytes]:
    merged: list[bytes] = []
    for piece in word:
        if merged and (merged[-1], piece) == (first, second):
            merged[-1] = first + second
        else:
            merged.append(piece)
    return merged
