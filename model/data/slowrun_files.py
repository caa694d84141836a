"""NanoGPT Slowrun's own files and the digests it pins them by.

Its train split is 100M GPT-2 tokens of FineWeb's sample-10BT, its val split the 10M before them.
Since #76 a file keeps the stream and its document starts; before, sequences shuffled once. Both are
read back to the stream: nothing but the last, incomplete sequence is lost in the older one.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.config import ConfigError, DataConfig

FINEWEB = "hf://datasets/HuggingFaceFW/fineweb/sample/10BT"
SEEDS = {"train": 43, "val": 42}  # of the order of sequences
SEQUENCE = 2049
BOS = 50256
TOKENS = {"train": 100_000_000, "val": 10_000_000}
# SHA-256 of the files, which torch.save wrote: their names and torch's container are part of it
DIGESTS = {
    "train": "36e7c95c1e7f6ed952fb002d76a03044e8617fea7e696a68d7dc1ce78465dcaf",
    "val": "6868ed375b289a89c72c2f9df1ecbdcff700c4b9478ca806435d2dbfad8573b1",
}
OLD_DIGESTS = {
    "train": "e7e089aedbccb6865ce76c78453fa473c823969846fccd4000f5f13aef54e70e",
    "val": "80e7e430d3a7d10892c2ff32579370c5b65fbe833579d7ea5d55cbd0504c8462",
}


def is_recipe(data: DataConfig) -> bool:
    """Whether `data` asks for exactly Slowrun's tokens, from FineWeb."""
    return (
        data.path.rstrip("/") == FINEWEB
        and (data.tokenizer, data.splits, data.column) == ("gpt2", "stream", "text")
        and (data.val_tokens, data.pool_tokens) == (TOKENS["val"], TOKENS["train"])
    )


def digest_of_file(split: str, tokens: np.ndarray, starts: np.ndarray) -> str:
    """SHA-256 of the file Slowrun would write for `tokens` whose documents begin at `starts`."""
    import torch

    content = {
        "tokens": torch.from_numpy(tokens.astype(np.uint16)),
        "doc_starts": torch.from_numpy(starts.astype(np.int64)),
        "bos_id": BOS,
        "seq_shuffle_seed": SEEDS[split],
        "seq_size": SEQUENCE,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fineweb_{split}.pt"
        torch.save(content, path)
        return file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of the file at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(digests: Mapping[str, str], path: Path, digest: str) -> list[str]:
    """Why the tokens in the table at `path` are not Slowrun's, with both digests; or nothing.

    digests  of the files Slowrun would write for them
    digest   of the table, which the user may accept
    """
    problems = [
        f"data.path: slowrun's fineweb_{split}.pt has SHA-256 {DIGESTS[split]}, the same file of "
        f"these tokens {ours}: FineWeb or tiktoken changed, or torch writes files otherwise"
        for split, ours in digests.items()
        if ours != DIGESTS[split]
    ]
    hint = (
        f"data.digest: set it to {digest} to take these tokens for what they are, or delete {path} "
        "to make them again"
    )
    return [*problems, hint] if problems else []


def blocks(path: Path, split: str) -> Iterator[np.ndarray]:
    """The stream of one of its files. Raises ConfigError if the file is damaged."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError([f"data.path: {path} is no file that torch can read: {reason}"]) from None
    try:
        if "tokens" in content:
            yield _stream(content)
        elif "chunks" in content:
            yield _unshuffled(content, split)
        else:
            raise ValueError(
                f"it has neither tokens nor chunks, only {', '.join(map(str, content))}"
            )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise ConfigError([f"data.path: {path} is damaged or no slowrun file: {error}"]) from None


def _stream(content: Mapping[str, Any]) -> np.ndarray:
    tokens, starts = content["tokens"].numpy(), content["doc_starts"].numpy()
    if tokens.dtype != np.uint16 or tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"tokens are {tokens.ndim}-dimensional {tokens.dtype}, not flat uint16")
    separator_N = np.flatnonzero(tokens == int(content["bos_id"]))
    if not np.array_equal(separator_N, starts):
        raise ValueError(
            f"doc_starts lists {len(starts):,} documents, the separator begins {len(separator_N):,}"
        )
    return np.asarray(tokens)


def _unshuffled(content: Mapping[str, Any], split: str) -> np.ndarray:
    size, rows = int(content["sequence_size"]), int(content["batch_size"])
    kept = []
    for chunk, valid in zip(content["chunks"], content["valid_counts"], strict=True):
        if not 0 <= valid <= rows:
            raise ValueError(f"a chunk claims {valid} sequences of {rows}")
        kept.append(chunk.numpy().reshape(rows, size)[:valid])
    shuffled = np.concatenate(kept)
    if shuffled.dtype != np.uint16:
        raise ValueError(f"tokens are {shuffled.dtype}, not uint16")
    order = np.random.RandomState(SEEDS.get(split, SEEDS["val"])).permutation(len(shuffled))
    stream = np.empty_like(shuffled)
    stream[order] = shuffled  # row i of the file is row order[i] of the stream
    return stream.ravel()
