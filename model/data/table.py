"""The token table: an Arrow file, memory-mapped, with a row for each document of each split.

A column of lists is how Arrow keeps ragged rows: one buffer of tokens, one of offsets. So a split
is one flat array, its documents are stretches of it, and nothing is copied when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from model.config import ConfigError
from model.data.scratch import Spool
from model.data.tokenizer import Tokenizer, from_data, lengths_within

SPLITS = ("train", "val", "test")
# What columns hold: tokens, where documents begin, ratios.
KINDS = {
    pa.uint16(): np.uint16,
    pa.uint32(): np.uint32,
    pa.int64(): np.int64,
    pa.float32(): np.float32,
}
HASHED_AT_ONCE = 1 << 24  # tokens
WRITTEN_AT_ONCE = 1 << 26  # bytes


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Memory-mapped splits and what was recorded about them."""

    digest: str
    vocabulary: int
    token_lengths: np.ndarray  # bytes of text per token id
    train: np.ndarray  # uint16, or uint32 for large vocabularies; all there are to train on
    val: np.ndarray
    test: np.ndarray
    # per split, where each document begins; last, the split's length
    documents: Mapping[str, np.ndarray] = field(default_factory=dict)
    # of each training document, its compressed size as a share of its size; empty if imported
    compression: np.ndarray = field(default_factory=lambda: np.array([]))
    recorded: Mapping[str, Any] = field(default_factory=dict)  # what `sweep data info` shows
    pieces: bytes = b""  # the text of all tokens, joined

    def lengths_in(self, split: str) -> np.ndarray:
        """Bytes of text per token id in `split`: see `lengths_within`."""
        unknown = self.recorded.get("unknown")
        if unknown is None:
            return self.token_lengths
        text_bytes = self.recorded["text_bytes"][split]
        return lengths_within(self.token_lengths, unknown, getattr(self, split), text_bytes)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of its tokens; one of tiktoken's may have to be downloaded."""
        ends = np.cumsum(self.token_lengths)
        cut = [self.pieces[end - n : end] for end, n in zip(ends, self.token_lengths, strict=True)]
        return from_data(self.recorded["tokenizer"], cut)


class Digest:
    """SHA-256 over the token bytes of train, val and test, whatever file they came in."""

    def __init__(self) -> None:
        self.whole, self.splits = hashlib.sha256(), {name: hashlib.sha256() for name in SPLITS}

    def begin(self, split: str, tokens: int) -> None:
        self.whole.update(f"{split}:{tokens}:".encode())

    def update(self, split: str, tokens: np.ndarray) -> None:
        little_endian = np.ascontiguousarray(tokens, dtype=tokens.dtype.newbyteorder("<"))
        self.whole.update(little_endian.data)
        self.splits[split].update(little_endian.data)

    def as_data(self) -> dict[str, Any]:
        """The digest of all, and of each split alone."""
        each = {name: digest.hexdigest() for name, digest in self.splits.items()}
        return {"digest": self.whole.hexdigest(), "digests": each}


def digest_of(table: TokenTable) -> dict[str, Any]:
    """The digests of what `table` holds, read again."""
    digest = Digest()
    for name in SPLITS:
        tokens = getattr(table, name)
        digest.begin(name, len(tokens))
        for begin in range(0, len(tokens), HASHED_AT_ONCE):
            digest.update(name, tokens[begin : begin + HASHED_AT_ONCE])
    return digest.as_data()


class _Forgetful:
    """A file that Arrow writes to without the tokens piling up in this process's memory.

    Arrow hands a whole split to `write` as one buffer, which is a spool's file mapped into memory.
    Every page of it that is read to be copied counts as resident memory of this process, so that a
    corpus would have to fit. So the buffer is written in parts, and after each the spools give back
    what was read (madvise); the system reads it again from the disk if it is needed.
    """

    closed = False

    def __init__(self, file: BinaryIO, spools: Mapping[str, Spool]) -> None:
        self.file, self.spools = file, spools

    def write(self, buffer: Any) -> int:
        view = memoryview(buffer)
        for begin in range(0, len(view), WRITTEN_AT_ONCE):
            self.file.write(view[begin : begin + WRITTEN_AT_ONCE])
            for spool in self.spools.values():
                spool.forget()
        return len(view)

    def flush(self) -> None:
        self.file.flush()

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        """The file stays open: it is moved into its place first."""


def write_table(
    file: BinaryIO,
    spools: Mapping[str, Spool],
    documents: Mapping[str, np.ndarray],
    compression: Mapping[str, np.ndarray | None],
    recorded: Mapping[str, Any],
    tokenizer: Tokenizer,
) -> None:
    """Write the splits in `spools`, whose documents begin at `documents`. Raises OSError."""
    item = pa.uint16() if tokenizer.dtype == np.uint16 else pa.uint32()
    kind = pa.large_list(pa.field("token", item, nullable=False))
    facts = {**recorded, "token_lengths": tokenizer.lengths.tolist()}
    metadata = {b"sweep": json.dumps(facts).encode(), b"pieces": b"".join(tokenizer.pieces)}
    schema = pa.schema([("tokens", kind), ("compression", pa.float32())], metadata=metadata)
    sink = pa.PythonFile(_Forgetful(file, spools), mode="w")
    with pa.ipc.new_file(sink, schema) as writer:
        for name in SPLITS:
            lists = pa.LargeListArray.from_arrays(
                _array(documents[name], pa.int64()), _array(spools[name].array(), item), type=kind
            )
            ratios_N = compression[name]
            ratios = pa.nulls(len(lists), pa.float32())
            if ratios_N is not None:
                ratios = _array(ratios_N, pa.float32())
            writer.write_batch(pa.record_batch([lists, ratios], schema=schema))


def _array(values: np.ndarray, kind: Any) -> Any:
    """`values` as they lie in memory; pa.array would import pandas, if it is installed."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _values(array: Any) -> np.ndarray:
    """The numbers of `array` where they lie, read-only; its to_numpy would import pandas."""
    kind = np.dtype(KINDS[array.type])
    if not len(array):
        return np.empty(0, kind)
    _, numbers = array.buffers()
    return np.frombuffer(numbers, kind, len(array), array.offset * kind.itemsize)


def read_table(path: Path) -> TokenTable:
    """The table at `path`. Raises ConfigError if it is damaged."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        metadata = reader.schema.metadata or {}
        recorded = json.loads(metadata[b"sweep"])
        lengths = np.array(recorded.pop("token_lengths"), dtype=np.int64)
        batches = {name: reader.get_batch(index) for index, name in enumerate(SPLITS)}
        lists = {name: batch.column("tokens") for name, batch in batches.items()}
        ratios = batches["train"].column("compression")
        splits = {name: _values(lists[name].values) for name in SPLITS}
        documents = {name: _values(lists[name].offsets) for name in SPLITS}
        for name in SPLITS:
            _check_offsets(name, documents[name], len(splits[name]))
        return TokenTable(
            recorded["digest"],
            len(lengths),
            lengths,
            **splits,
            documents=documents,
            compression=np.array([]) if ratios.null_count else _values(ratios),
            recorded=recorded,
            pieces=metadata[b"pieces"],
        )
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(
            [f"the token table {path} is damaged ({error}); delete it and it is made again"]
        ) from None


def _check_offsets(name: str, offsets: np.ndarray, tokens: int) -> None:
    if offsets[0] != 0 or offsets[-1] != tokens or (np.diff(offsets) < 0).any():
        raise ValueError(f"documents of {name} do not fit its {tokens:,} tokens")
