"""The token table: an Arrow file, memory-mapped, with a row for each document of each split.

A column of lists is how Arrow keeps ragged rows: one buffer of tokens, one of offsets. So a split
is one flat array, its documents are stretches of it, and nothing is copied when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.setting import ConfigError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Memory-mapped splits and what was recorded about them."""

    digest: str
    vocabulary: int
    token_lengths: np.ndarray  # bytes of text per token id
    train: np.ndarray  # uint16, all the corpus has left for training
    val: np.ndarray
    test: np.ndarray
    # per split, where each document begins; last, the split's length
    documents: Mapping[str, np.ndarray] = field(default_factory=dict)


def digest_of(splits: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the token bytes of train, val and test, whatever file they came in."""
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(f"{name}:{len(splits[name])}:".encode())
        digest.update(np.ascontiguousarray(splits[name], dtype="<u2").tobytes())
    return digest.hexdigest()


def write_table(
    path: Path,
    splits: Mapping[str, np.ndarray],
    documents: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
) -> None:
    """Write beside `path`, then move there whole. Raises OSError, leaving nothing behind."""
    kind = pa.large_list(pa.field("token", pa.uint16(), nullable=False))
    schema = pa.schema([("tokens", kind)], metadata={"sweep": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as beside:
        try:
            with pa.ipc.new_file(beside, schema) as writer:
                for name in SPLITS:
                    lists = pa.LargeListArray.from_arrays(
                        documents[name].astype(np.int64), pa.array(splits[name]), type=kind
                    )
                    writer.write_batch(pa.record_batch([lists], schema=schema))
            beside.flush()
            os.fsync(beside.fileno())
            os.replace(beside.name, path)
        except BaseException:
            os.unlink(beside.name)
            raise


def read_table(path: Path) -> TokenTable:
    """The table at `path`. Raises ConfigError if it is damaged."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        about = json.loads(reader.schema.metadata[b"sweep"])
        lists = {name: reader.get_batch(index).column(0) for index, name in enumerate(SPLITS)}
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ConfigError(
            [f"the token table {path} is damaged ({error}); delete it and it is made again"]
        ) from None
    return TokenTable(
        about["digest"],
        about["vocabulary"],
        np.array(about["token_lengths"], dtype=np.int64),
        **{name: lists[name].values.to_numpy(zero_copy_only=True) for name in SPLITS},
        documents={name: lists[name].offsets.to_numpy(zero_copy_only=True) for name in SPLITS},
    )
