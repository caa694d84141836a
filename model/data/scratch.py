"""Tokens on their way to a table: appended to a nameless file, then read by stretches.

Memory stays bounded however many there are, and a process that is killed leaves nothing behind.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from model.data.corpus import Piece

BLOCK = 1 << 22  # tokens at once


class Spool:
    """An array on disk. Raises OSError when the disk is full."""

    def __init__(self, file: BinaryIO, dtype: np.dtype) -> None:
        self.file = file
        self.dtype = np.dtype(dtype)
        self.length = 0
        self.map: mmap.mmap | None = None

    def append(self, tokens: np.ndarray) -> None:
        """Add `tokens` at the end; they must fit the type."""
        self.file.write(tokens.astype(self.dtype, copy=False).tobytes())
        self.length += len(tokens)

    def array(self) -> np.ndarray:
        """All of it, memory-mapped and read-only. Nothing is appended afterwards."""
        if self.length == 0:
            return np.array([], dtype=self.dtype)
        if self.map is None:
            self.file.flush()
            self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(self.map, dtype=self.dtype)

    def forget(self) -> None:
        """Let pages that were read leave this process's memory; they are read again at need."""
        if self.map is not None:
            self.map.madvise(mmap.MADV_DONTNEED)

    def gather(self, start_N: np.ndarray, length_N: np.ndarray) -> Iterator[np.ndarray]:
        """The tokens of N stretches joined, in blocks of bounded size."""
        array = self.array()
        end_N = np.cumsum(length_N)
        total = int(end_N[-1]) if len(end_N) else 0
        shift_N = start_N - (end_N - length_N)  # from joined to spooled position
        as_spooled = len(start_N) > 0 and bool((shift_N == shift_N[0]).all())
        for begin in range(0, total, BLOCK):
            end = min(begin + BLOCK, total)
            if as_spooled:
                yield array[begin + shift_N[0] : end + shift_N[0]]
                self.forget()
                continue
            first, last = np.searchsorted(end_N, [begin, end - 1], "right")
            touched = slice(first, last + 1)
            until = np.minimum(end_N[touched], end)
            since = np.maximum(end_N[touched] - length_N[touched], begin)
            yield array[np.repeat(shift_N[touched], until - since) + np.arange(begin, end)]
            self.forget()


class TextSpool:
    """Pieces of documents on disk, for a tokenizer that reads its text twice."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sizes, self.begins = array("q"), bytearray()

    def append(self, piece: Piece) -> int:
        """Keep `piece`; its bytes."""
        data = piece.text.encode()
        self.file.write(data)
        self.sizes.append(len(data))
        self.begins.append(piece.begins)
        return len(data)

    def pieces(self) -> Iterator[Piece]:
        """All that was kept, in order."""
        self.file.seek(0)
        for size, begins in zip(self.sizes, self.begins, strict=True):
            yield Piece(self.file.read(size).decode(), bool(begins))


class Workspace:
    """Makes spools in `folder`, and closes them when the table is written or cannot be."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.opened = folder, ExitStack()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.close()

    def tokens(self, dtype: DTypeLike) -> Spool:
        """An empty spool."""
        return Spool(self._file(), np.dtype(dtype))

    def text(self) -> TextSpool:
        """An empty spool of text."""
        return TextSpool(self._file())

    def _file(self) -> BinaryIO:
        return self.opened.enter_context(tempfile.TemporaryFile(dir=self.folder))
