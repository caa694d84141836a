"""How much of one split is in another: exact passages, exact documents, near duplicates.

N tokens; M passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from model.config import ConfigError

PASSAGE = 64  # tokens; long enough that two texts rarely share one by chance
BLOCK = 1 << 22  # tokens at once
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
SHINGLE = 5  # tokens; documents are compared as sets of these
PERMUTATIONS = 128  # of MinHash; the standard error of a similarity is below 0.05


def share_of_val_in_train(train: np.ndarray, val: np.ndarray) -> float:
    """Share of val's passages of 64 tokens, laid side by side, that also occur in train.

    Train is searched at every position, by a rolling hash: the sum of token x FACTOR^position is a
    difference of two prefix sums, moved to position 0 by the inverse of FACTOR^position. Hits are
    compared token by token.
    """
    passages = len(val) // PASSAGE
    if not passages or len(train) < PASSAGE:
        return 0.0
    val_MP = np.asarray(val[: passages * PASSAGE]).reshape(passages, PASSAGE)
    powers = _powers(FACTOR, PASSAGE)
    hash_M = (val_MP.astype(np.uint64) * powers).sum(axis=1, dtype=np.uint64)
    wanted = np.unique(hash_M)
    met = np.zeros(passages, dtype=bool)
    order = np.argsort(hash_M, kind="stable")
    for at_N, hash_N in _rolling(train, wanted):
        first = np.searchsorted(hash_M[order], hash_N, "left")
        last = np.searchsorted(hash_M[order], hash_N, "right")
        passage = order[first]  # equal passages are met together below
        same = (train[at_N[:, None] + np.arange(PASSAGE)] == val_MP[passage]).all(axis=1)
        for begin, end in set(zip(first[same].tolist(), last[same].tolist(), strict=True)):
            met[order[begin:end]] = True
    return float(met.mean())


def _rolling(train: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions in train whose passage may be wanted, and its hash, block by block."""
    inverse = np.uint64(pow(int(FACTOR), -1, 1 << 64))
    power_N, inverse_N = _powers(FACTOR, BLOCK + PASSAGE), _powers(inverse, BLOCK)
    low = np.zeros(1 << 16, dtype=bool)  # most are told apart by 16 bits, without a search
    low[(wanted >> np.uint64(48)).astype(np.int64)] = True
    for begin in range(0, len(train) - PASSAGE + 1, BLOCK):
        block = np.asarray(train[begin : begin + BLOCK + PASSAGE - 1]).astype(np.uint64)
        sums = np.concatenate([[np.uint64(0)], np.cumsum(block * power_N[: len(block)])])
        count = len(block) - PASSAGE + 1
        hash_N = (sums[PASSAGE:] - sums[:count]) * inverse_N[:count]
        at_N = np.flatnonzero(low[(hash_N >> np.uint64(48)).astype(np.int64)])
        at_N = at_N[np.isin(hash_N[at_N], wanted)]
        if len(at_N):
            # A hundred copies of a licence are one passage: each hash is looked at once per block.
            _, once = np.unique(hash_N[at_N], return_index=True)
            at_N = at_N[once]
            yield begin + at_N, hash_N[at_N]


def _powers(factor: np.uint64, count: int) -> np.ndarray:
    """1, factor, factor^2, ... modulo 2^64."""
    steps = np.full(count, factor, dtype=np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)


class NearDuplicate(NamedTuple):
    """A held-out document and a training document that are alike; both by their number."""

    split: str  # the held-out document's
    document: int
    train_document: int
    similarity: float  # Jaccard's of their shingles, estimated


def duplicates_across(key_NK: np.ndarray, document_N: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Documents of one split whose text is also a document of another, by pair of splits."""
    keys = {name: {tuple(key) for key in key_NK[at].tolist()} for name, at in document_N.items()}
    names = [name for name in ("train", "val", "test") if name in keys]
    return {f"{a}-{b}": len(keys[a] & keys[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def near_duplicates(
    splits: Mapping[str, np.ndarray], documents: Mapping[str, np.ndarray], threshold: float
) -> list[NearDuplicate]:
    """Held-out documents that are at least about as like a training document as `threshold`.

    Documents are sets of five-token shingles, compared by MinHash (Broder 1997). Raises ConfigError
    if datasketch is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise ConfigError(
            ["near duplicates are found by the datasketch library: pip install 'sweep[near]'"]
        ) from None
    sketches = {
        (split, number): _sketch(MinHash, splits[split][begin:end])
        for split in ("val", "test")
        for number, (begin, end) in enumerate(_stretches(documents[split]))
    }
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    for key, sketch in sketches.items():
        index.insert(key, sketch)
    alike = []
    for number, (begin, end) in enumerate(_stretches(documents["train"])):
        sketch = _sketch(MinHash, splits["train"][begin:end])
        for split, held_out in index.query(sketch):
            similarity = sketch.jaccard(sketches[split, held_out])
            if similarity >= threshold:
                alike.append(NearDuplicate(split, held_out, number, float(similarity)))
    return sorted(alike, key=lambda pair: -pair.similarity)


def _stretches(offsets: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def _sketch(min_hash: Any, tokens: np.ndarray) -> Any:
    """MinHash of the document's shingles; a shorter document is one shingle."""
    width = min(SHINGLE, len(tokens))
    rows = np.lib.stride_tricks.sliding_window_view(tokens.astype(np.uint64), width)
    hashes = np.unique((rows * _powers(FACTOR, width)).sum(axis=1, dtype=np.uint64))
    sketch = min_hash(num_perm=PERMUTATIONS, hashfunc=int)
    sketch.update_batch((hashes >> np.uint64(32)).tolist())
    return sketch
