"""Documents to tokens on disk: in parallel, in order, in bounded memory.

N documents.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from model.data.corpus import Piece
from model.data.scratch import Spool

AT_ONCE = 1 << 18  # characters that one thread is given
AHEAD = 3  # such lots per thread that wait or are worked on
KEY = 16  # bytes
COMPRESSION = 1  # zlib's fastest: documents are only compared with each other

Encoded = tuple[np.ndarray, int]  # tokens of a piece, and its compressed bytes
Watch = Callable[[int, int], None]  # told characters and tokens so far


class Documents:
    """How long each document is, and a hash of its text; grows as they are read."""

    def __init__(self) -> None:
        self.lengths = array("q")  # tokens, separator included
        self.characters = 0  # of all
        self.bytes = array("q")  # of each one's text, as UTF-8
        self.compressed = array("q")  # the same, compressed
        self.keys = bytearray()  # first 16 bytes of each SHA-256 over UTF-8
        self.digest = hashlib.sha256()  # of the document that is being read

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, piece: Piece, tokens: int, compressed: int = 0) -> None:
        """Count a piece of `tokens`; a document that begins has one more, its separator."""
        if piece.begins:
            self.end()
            self.lengths.append(1)
            self.bytes.append(0)
            self.compressed.append(0)
        text = piece.text.encode()
        self.digest.update(text)
        self.bytes[-1] += len(text)
        self.compressed[-1] += compressed
        self.lengths[-1] += tokens
        self.characters += len(piece.text)

    def end(self) -> None:
        """The document that is being read, if there is one, ends here."""
        if KEY * len(self.lengths) > len(self.keys):
            self.keys += self.digest.digest()[:KEY]
            self.digest = hashlib.sha256()

    @property
    def length_N(self) -> np.ndarray:
        """Tokens of each, int64."""
        return np.array(self.lengths, dtype=np.int64)

    @property
    def compression_N(self) -> np.ndarray:
        """Compressed size of each, as a share of its size, float32."""
        size_N = np.array(self.bytes, dtype=np.float32)
        return np.array(self.compressed, dtype=np.float32) / np.maximum(size_N, 1)

    @property
    def key_N(self) -> np.ndarray:
        """Hashes as (high, low) pairs of numbers, (N, 2), which sort as their bytes do."""
        return np.frombuffer(bytes(self.keys), dtype=">u8").reshape(-1, 2).astype(np.uint64)


def tokenise(
    pieces: Iterable[Piece],
    encode: Callable[[str], np.ndarray],
    separator: int,
    spool: Spool,
    watch: Watch,
    enough: Callable[[Documents], bool] = lambda documents: False,
) -> Documents:
    """Append every document's tokens to `spool`, each after a separator, until there are enough.

    A few documents more than enough may follow. tiktoken works without Python's lock, so threads
    do. Raises what reading `pieces` raises.
    """
    documents, before = Documents(), np.array([separator], dtype=spool.dtype)
    for lot, encoded in _in_parallel(pieces, encode):
        tokens = []
        for piece, (piece_tokens, compressed) in zip(lot, encoded, strict=True):
            documents.add(piece, len(piece_tokens), compressed)
            if piece.begins:
                tokens.append(before)
            tokens.append(piece_tokens.astype(spool.dtype, copy=False))
        spool.append(np.concatenate(tokens))
        watch(documents.characters, spool.length)
        if enough(documents):
            break
    documents.end()
    return documents


def _in_parallel(
    pieces: Iterable[Piece], encode: Callable[[str], np.ndarray]
) -> Iterator[tuple[list[Piece], list[Encoded]]]:
    """Lots of pieces with their tokens and compressed sizes, in order."""

    def work(lot: list[Piece]) -> list[Encoded]:
        return [
            (encode(piece.text), len(zlib.compress(piece.text.encode(), COMPRESSION)))
            for piece in lot
        ]

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    waiting: deque[tuple[list[Piece], Future[list[Encoded]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        lots = _lots(pieces)
        try:
            while True:
                for lot in islice(lots, AHEAD * (threads or 1) - len(waiting)):
                    waiting.append((lot, pool.submit(work, lot)))
                if not waiting:
                    return
                lot, future = waiting.popleft()
                yield lot, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _lots(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    lot: list[Piece] = []
    size = 0
    for piece in pieces:
        lot.append(piece)
        size += len(piece.text)
        if size >= AT_ONCE:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot
