"""Documents to a token table: an Arrow file with fixed splits and a digest, made once.

Splits are cut by whole documents, ordered by the hash of their text: the order looks random, is the
same on every machine, and puts exact duplicates side by side, where all but one are dropped, so no
document is in two splits. A held-out split takes a bounded stretch from the middle of each of its
documents, so that one long file does not decide its loss. A corpus of a single document is cut into
contiguous stretches instead. Training subsets nest: n tokens are always the train split's first n.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tiktoken

from model.config import DataConfig
from model.corpus import documents
from model.setting import ConfigError
from model.table import SPLITS, digest_of, write_table
from model.tokenizer import END_OF_TEXT, get_encoding, token_lengths

FORMAT = 2  # raise it when the same input would give another table
HELD_OUT_DOCUMENTS = 32  # a held-out split has at least so many, if the corpus can spare them


def cache_folder() -> Path:
    """Where token tables are kept: $SWEEP_CACHE, else the user's cache folder."""
    chosen = os.environ.get("SWEEP_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sweep"


def table_path(data: DataConfig) -> Path:
    """Where the token table for `data` lies or will lie. It does not depend on train_tokens."""
    identity = {
        "format": FORMAT,
        "source": _source_identity(data.path),
        "tokenizer": data.tokenizer,
        "val_tokens": data.val_tokens,
        "test_tokens": data.test_tokens,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{key}.arrow"


def _source_identity(path: str) -> object:
    """Changes whenever the corpus could have: names, sizes and times of its files."""
    if not path:
        import sys

        return ["stdlib", sys.version]
    try:
        root = Path(path).expanduser().resolve()
        regular = root.is_file() or root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError([f"data.path: cannot look at {path[:200]!r}: {error}"]) from None
    if not regular:
        raise ConfigError(
            [f"data.path: nothing at {path} that is a text file, a directory or a Parquet file"]
        )
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    return [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
        if file.is_file()
    ]


def prepare(data: DataConfig) -> Path:
    """The token table for `data`, made if it is not there yet.

    Raises ConfigError if the corpus cannot be read or is too small to hold val, test and a train
    split. A table is written beside its place and moved there whole.
    """
    path = table_path(data)
    if not path.exists():
        cut, encoding = _tokenize(data)
        splits = {name: np.concatenate(cut[name]) for name in SPLITS}
        documents = {name: np.cumsum([0, *map(len, cut[name])]) for name in SPLITS}
        about = {
            "digest": digest_of(splits),
            "source": data.path or "Python standard library",
            "tokenizer": data.tokenizer,
            "vocabulary": encoding.n_vocab,
            "token_lengths": token_lengths(encoding),
        }
        try:
            write_table(path, splits, documents, about)
        except OSError as error:
            raise ConfigError(
                [
                    f"cannot write the token table {path}: {error.strerror}; set SWEEP_CACHE to a "
                    "folder with room"
                ]
            ) from None
    return path


def _tokenize(data: DataConfig) -> tuple[dict[str, list[np.ndarray]], tiktoken.Encoding]:
    """The documents of each split, and what their tokens stand for."""
    encoding = get_encoding(data.tokenizer)
    if encoding.n_vocab > 2**16:
        raise ConfigError([f"data.tokenizer: {data.tokenizer} has more than 65,536 tokens"])
    texts = {hashlib.sha256(text.encode()).digest(): text for text in documents(data.path) if text}
    ordered = [texts[key] for key in sorted(texts)]
    separator = encoding.encode_single_token(END_OF_TEXT)
    tokens = [
        np.array([separator, *encoding.encode_ordinary(text)], dtype=np.uint16) for text in ordered
    ]
    return _split(tokens, data), encoding


def _split(documents: list[np.ndarray], data: DataConfig) -> dict[str, list[np.ndarray]]:
    """val, then test, then train from `documents`; what a held-out cut leaves over is dropped."""
    total = sum(map(len, documents))
    needed = data.val_tokens + data.test_tokens
    if total <= needed:
        raise ConfigError(
            [
                f"data.path: the corpus has {total:,} tokens, but data.val_tokens and "
                f"data.test_tokens ask for {needed:,} before any are left to train on"
            ]
        )
    if len(documents) == 1:
        (only,) = documents
        train, val, test = np.split(only, [total - needed, total - data.test_tokens])
        return {"train": [train], "val": [val], "test": [test]}
    splits, rest = {}, iter(documents)
    share = max(1, min(HELD_OUT_DOCUMENTS, len(documents) // 4))
    for name, size in (("val", data.val_tokens), ("test", data.test_tokens)):
        splits[name] = _hold_out(rest, size, math.ceil(size / share))
    left = list(rest)
    short = (
        sum(map(len, splits["val"])) < data.val_tokens
        or sum(map(len, splits["test"])) < data.test_tokens
    )
    if short or not left:
        raise ConfigError(
            [
                f"data.path: {len(documents)} documents are too few to give val "
                f"({data.val_tokens:,} tokens) and test ({data.test_tokens:,}) documents of their "
                "own; lower data.val_tokens and data.test_tokens"
            ]
        )
    return {"train": left, **splits}


def _hold_out(documents: Iterator[np.ndarray], size: int, most: int) -> list[np.ndarray]:
    """`size` tokens, at most `most` of each document, or all there are."""
    taken: list[np.ndarray] = []
    missing = size
    while missing and (document := next(documents, None)) is not None:
        length = min(len(document), most, missing)
        start = (len(document) - length) // 2
        taken.append(document[start : start + length])
        missing -= length
    return taken
