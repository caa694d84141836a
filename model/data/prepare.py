"""A corpus to a token table, made once: fixed splits, digests, what the tokens mean."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from model.config import ConfigError, DataConfig
from model.data.corpus import is_remote
from model.data.encode import Watch
from model.data.from_text import Ingested, from_text
from model.data.from_tokens import from_import
from model.data.scratch import Workspace
from model.data.split import choose_slice
from model.data.table import SPLITS, Digest, read_table, write_table
from model.data.token_files import (
    NO_TEXT,
    VOCABULARY,
    files_by_split,
    find_import,
)
from model.files import cache_folder, lock, part_of, replaced
from model.secrets import has_secret

FORMAT = 4  # raise it when the same input would give another table
TABLE_SUFFIX = ".arrow"
ARROW_FILE = b"ARROW1"  # what an Arrow file begins with; those of Hugging Face datasets are streams
SECRET_IN_PATH = (
    "data.path: it has a password or a key, and settings are written into journals and MLflow; "
    "leave it to the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, HF_TOKEN, ...) or "
    "download the text"
)
UNWATCHED: Watch = lambda characters, tokens: None  # noqa: E731


def table_path(data: DataConfig) -> Path:
    """Where the token table for `data` lies or will lie. It does not depend on train_tokens.

    Tokens whose digest is asked for are those of any table in the cache that has it: then the text
    may be gone. Raises ConfigError where it is, and there is none.
    """
    if is_table(data.path):
        return Path(data.path).expanduser()
    try:
        path = _own_path(data)
    except ConfigError:
        kept = kept_table(data.digest)
        if kept is None:
            raise
        return kept
    return path if path.exists() else kept_table(data.digest) or path


def kept_table(digest: str) -> Path | None:
    """The token table in the cache that has this digest, whatever text it was made of."""
    for path in sorted(cache_folder().glob(f"*{TABLE_SUFFIX}")) if digest else ():
        with suppress(ConfigError):
            if read_table(path).digest == digest:
                return path
    return None


def is_gone(path: str) -> bool:
    """Whether there is nothing at `path` on this machine."""
    return bool(path) and not is_remote(path) and not os.path.lexists(os.path.expanduser(path))


def _own_path(data: DataConfig) -> Path:
    """Where the table of this very text lies, whose files have these sizes and times."""
    identity = {
        "format": FORMAT,
        "source": _source_identity(data.path),
        "column": data.column,
        "tokenizer": [data.tokenizer, data.vocabulary if data.tokenizer == "bpe" else 0],
        "splits": [data.splits, data.pool_tokens],
        "val_tokens": data.val_tokens,
        "test_tokens": data.test_tokens,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{key}{TABLE_SUFFIX}"


def is_table(path: str) -> bool:
    """Whether `path` is a token table of ours, made elsewhere or earlier."""
    file = os.path.expanduser(path)
    if is_remote(path) or not path.endswith(TABLE_SUFFIX) or not os.path.isfile(file):
        return False
    import pyarrow as pa

    try:
        return b"sweep" in (pa.ipc.open_file(pa.memory_map(file)).schema.metadata or {})
    except pa.ArrowException:
        with open(file, "rb") as damaged:  # reading the table says so
            return damaged.read(len(ARROW_FILE)) == ARROW_FILE
    except OSError:
        return False


def _source_identity(path: str) -> object:
    """Changes whenever the corpus could have: names, sizes and times of its files.

    What is elsewhere is known by its URI alone, so that a prepared table needs no network;
    `data.digest` tells whether it is still the same.
    """
    if not path:
        import sys

        return ["stdlib", sys.version]
    if is_remote(path):
        if has_secret(path):
            raise ConfigError([SECRET_IN_PATH])
        return ["uri", path, os.environ.get("HF_ENDPOINT", "")]
    try:
        root = Path(path).expanduser().resolve()
        regular = root.is_file() or root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError([f"data.path: cannot look at {path[:200]!r}: {error}"]) from None
    if not regular:
        raise ConfigError(
            [
                f"data.path: {path} is neither a file nor a folder"
                if os.path.lexists(root)
                else f"data.path: no such file or folder: {path}"
            ]
        )
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    if root.suffix in NO_TEXT:  # val is beside train; so may be what runs write
        beside = files_by_split(root.parent)
        files = [root.parent / VOCABULARY, *(path for name in beside for path in beside[name])]
    return [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
        if file.is_file()
    ]


def prepare(data: DataConfig, watch: Watch = UNWATCHED) -> Path:
    """The token table for `data`, made if it is not there yet.

    Raises ConfigError if the corpus cannot be read or is too small for its splits. A table is
    written beside its place and moved there whole; who comes second waits for who came first.
    """
    path = table_path(data)
    if path.exists():
        return path
    try:
        with _alone(path) as file:
            if file is not None:
                with Workspace(path.parent) as work:
                    _write(file, _ingest(data, work, watch), work)
    except OSError as error:
        raise ConfigError(
            [
                f"cannot write the token table {path}: {error.strerror or error}; set SWEEP_CACHE "
                "to a folder with room"
            ]
        ) from None
    return path


def _ingest(data: DataConfig, work: Workspace, watch: Watch) -> Ingested:
    imported = (
        None if not data.path or is_remote(data.path) else find_import(Path(data.path).expanduser())
    )
    return from_import(imported, data, work, watch) if imported else from_text(data, work, watch)


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO | None]:
    """The file to write the table to, moved to `path` at the end; None if another made it.

    All who prepare this table write to one file beside it, which they lock. What a killed process
    leaves is written over by the next, and never taken for a table. Who waited for the lock may
    have got that of a file that was moved to `path` meanwhile: then the table is there.
    """
    part = part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(part, math.inf):
        if path.exists():
            part.unlink(missing_ok=True)
            yield None
            return
        try:
            with replaced(path), part.open("wb") as file:
                yield file
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _write(file: BinaryIO, made: Ingested, work: Workspace) -> None:
    """Put the splits in order, hash them on the way, and write the table."""
    digest, lengths = Digest(), made.tokenizer.lengths
    spools, text_bytes = {}, dict.fromkeys(SPLITS, 0)
    for name in SPLITS:
        split = made.splits[name]
        spools[name] = work.tokens(made.tokenizer.dtype)
        digest.begin(name, split.tokens)
        for block in made.spool.gather(split.start_N, split.length_N):
            tokens = made.final(block).astype(made.tokenizer.dtype, copy=False)
            spools[name].append(tokens)
            digest.update(name, tokens)
            counted = lengths[tokens] if made.bytes_of is None else made.bytes_of(block)
            text_bytes[name] += int(counted.sum())
    documents = {name: np.cumsum([0, *made.splits[name].length_N]) for name in SPLITS}
    recorded = {
        **digest.as_data(),
        **made.recorded,
        "tokens": {name: made.splits[name].tokens for name in SPLITS},
        "documents": {name: len(made.splits[name].start_N) for name in SPLITS},
        "text_bytes": text_bytes,
        "choose": choose_slice(made.splits["val"].tokens),
    }
    if made.tokenizer.unknown is not None:
        recorded["unknown"] = made.tokenizer.unknown
    arrays = {name: spools[name].array() for name in SPLITS}
    recorded |= made.facts(arrays, documents)
    compression = {
        name: None if made.compression_N is None else made.compression_N[split.document_N]
        for name, split in made.splits.items()
    }
    write_table(file, spools, documents, compression, recorded, made.tokenizer)
