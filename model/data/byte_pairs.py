"""Byte pairs as GPT-2's own files have them: vocab.json and merges.txt."""

from __future__ import annotations

from itertools import pairwise

from model.data.tokenizer import END_OF_TEXT, Tokenizer, bytes_by_letter

NAMES = ("gpt2", "bpe")  # of tokenizers that cut text by GPT-2's pattern and merge by rank


def vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    """The id of each token, in the letters that stand for bytes."""
    letter = {value: c for c, value in bytes_by_letter().items()}
    ids = {
        "".join(letter[b] for b in piece): i for i, piece in enumerate(tokenizer.pieces) if piece
    }
    return ids if tokenizer.separator is None else {**ids, END_OF_TEXT: tokenizer.separator}


def merges(tokenizer: Tokenizer) -> list[str]:
    """The two halves of each token that merging makes, in order of rank.

    A rank says what is merged, not of what: the halves are those left when the token's bytes are
    merged by all earlier ranks.
    """
    letter = {value: c for c, value in bytes_by_letter().items()}
    ranks = {piece: rank for rank, piece in enumerate(tokenizer.pieces) if piece}
    lines = []
    for piece, rank in ranks.items():
        if len(piece) > 1:
            halves = _merged(piece, ranks, rank)
            lines.append(" ".join("".join(letter[b] for b in half) for half in halves))
    return lines


def _merged(piece: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """`piece` cut into bytes and merged by ranks below `below`."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        pairs = [ranks.get(a + b, below) for a, b in pairwise(parts)]
        best = min(pairs, default=below)
        if best >= below:
            return parts
        at = pairs.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
