"""Which documents, and how much of each, go to which split: rules, not chance.

hash     Whole documents, ordered by the hash of their text: the order looks random, is the same on
         every machine, and puts exact duplicates side by side, where all but one are dropped, so no
         document is in two splits. A held-out split takes a bounded stretch from the middle of each
         of its documents, so that one long file does not decide its loss. A corpus of a single
         document is cut into contiguous stretches instead.
stream   In the order they come: val, then, where `data.pool_tokens` says how long train is, train
         and test; else test and train, which is all the rest. Each split begins with a document of
         its own and cuts its last: NanoGPT Slowrun's rule. Duplicates stay, and are counted.

N documents. Training subsets nest: n tokens are always the train split's first n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from model.config import ConfigError, DataConfig

HELD_OUT_DOCUMENTS = 32  # a held-out split has at least so many, if the corpus can spare them
CHOOSE_SHARE = 4  # the last of so many equal stretches of val is for choosing ensemble members


class Stretches(NamedTuple):
    """What a split is made of, in order: stretches of the spool, each of one document."""

    start_N: np.ndarray
    length_N: np.ndarray
    document_N: np.ndarray  # which document it is of

    @property
    def tokens(self) -> int:
        return int(self.length_N.sum())


Splits = Mapping[str, Stretches]


def choose_slice(val_tokens: int) -> tuple[int, int]:
    """Where the part of val lies that ensemble members are chosen on, and results not reported."""
    return val_tokens - val_tokens // CHOOSE_SHARE, val_tokens


def by_hash(length_N: np.ndarray, key_N: np.ndarray, data: DataConfig) -> tuple[Splits, int]:
    """The splits by the rule `hash`, and how many duplicates were dropped.

    Documents without text (a separator alone) are left out. Raises ConfigError if val, test and a
    train split do not all get documents.
    """
    start_N = np.cumsum(length_N) - length_N
    order = np.lexsort((key_N[:, 1], key_N[:, 0]))
    order = order[length_N[order] > 1]
    key_N = key_N[order]
    again = np.concatenate([[False], (key_N[1:] == key_N[:-1]).all(axis=1)])[: len(order)]
    order, dropped = order[~again], int(again.sum())
    total, needed = int(length_N[order].sum()), data.val_tokens + data.test_tokens
    if total <= needed:
        raise too_small(total, data)
    if len(order) == 1:
        cuts = np.array([0, total - needed, total - data.test_tokens, total]) + start_N[order]
        return {
            name: Stretches(cuts[i : i + 1], np.diff(cuts[i : i + 2]), order)
            for i, name in enumerate(("train", "val", "test"))
        }, dropped
    splits: dict[str, Stretches] = {}
    share, taken = max(1, min(HELD_OUT_DOCUMENTS, len(order) // 4)), 0
    for name, size in (("val", data.val_tokens), ("test", data.test_tokens)):
        most = math.ceil(size / share)
        splits[name] = _hold_out(start_N, length_N, order[taken:], size, most)
        taken += len(splits[name].start_N)
        if splits[name].tokens < size:
            raise _too_few(len(order), data)
    left = order[taken:]
    if not len(left):
        raise _too_few(len(order), data)
    return {"train": Stretches(start_N[left], length_N[left], left), **splits}, dropped


def _hold_out(
    start_N: np.ndarray, length_N: np.ndarray, order: np.ndarray, size: int, most: int
) -> Stretches:
    """`size` tokens, at most `most` of the middle of each document, or all there are."""
    taken_N = np.minimum(length_N[order], most)
    before_N = np.cumsum(taken_N) - taken_N
    order, taken_N, before_N = (a[before_N < size] for a in (order, taken_N, before_N))
    taken_N = np.minimum(taken_N, size - before_N)
    return Stretches(start_N[order] + (length_N[order] - taken_N) // 2, taken_N, order)


def by_stream(length_N: np.ndarray, data: DataConfig) -> Splits:
    """The splits by the rule `stream`. Raises ConfigError if the documents do not reach."""
    budgets = _budgets(data)
    stretches = _cut(length_N, list(budgets.values()))
    if stretches is None:
        total = int(length_N.sum())
        raise ConfigError(
            [
                f"data.path: {len(length_N):,} documents of {total:,} tokens in all do not "
                f"fill {', '.join(f'{name} ({size:,})' for name, size in budgets.items())}, "
                "each of which begins with a document of its own; lower data.pool_tokens, "
                "data.val_tokens or data.test_tokens, or use data.splits=hash"
            ]
        )
    splits = dict(zip(budgets, stretches, strict=True))
    if "train" not in splits:
        begun = sum(len(split.start_N) for split in splits.values())
        start_N = np.cumsum(length_N) - length_N
        left = np.arange(begun, len(length_N))
        splits["train"] = Stretches(start_N[left], length_N[left], left)
        if not len(left):
            raise too_small(int(length_N.sum()), data)
    return splits


def stream_is_enough(length_N: Sequence[int], tokens: int, data: DataConfig) -> bool:
    """Whether the documents so far, `tokens` long, fill every split by the rule `stream`."""
    budgets = _budgets(data)
    if "train" not in budgets or tokens < sum(budgets.values()):
        return False
    return _cut(np.array(length_N, dtype=np.int64), list(budgets.values())) is not None


def _budgets(data: DataConfig) -> dict[str, int]:
    if data.pool_tokens:
        return {"val": data.val_tokens, "train": data.pool_tokens, "test": data.test_tokens}
    return {"val": data.val_tokens, "test": data.test_tokens}


def _cut(length_N: np.ndarray, budgets: Sequence[int]) -> list[Stretches] | None:
    """Budgets filled one after the other, each with documents of its own; None if they lack."""
    end_N = np.cumsum(length_N)
    start_N, stretches, first = end_N - length_N, [], 0
    for budget in budgets:
        begin = int(start_N[first]) if first < len(start_N) else int(end_N[-1]) if first else 0
        last = int(np.searchsorted(end_N, begin + budget, "left")) if budget else first - 1
        if last >= len(end_N):
            return None
        taken = np.arange(first, last + 1)
        lengths = np.minimum(end_N[taken], begin + budget) - start_N[taken]
        stretches.append(Stretches(start_N[taken], lengths, taken))
        first = last + 1
    return stretches


def too_small(total: int, data: DataConfig) -> ConfigError:
    """The corpus cannot fill the splits."""
    asked = [f"data.val_tokens ({data.val_tokens:,})", f"data.test_tokens ({data.test_tokens:,})"]
    if data.pool_tokens:
        asked.append(f"data.pool_tokens ({data.pool_tokens:,})")
    return ConfigError(
        [
            f"data.path: the corpus has {total:,} tokens, but {', '.join(asked)} "
            "ask for more, or leave none to train on; lower them"
        ]
    )


def _too_few(documents: int, data: DataConfig) -> ConfigError:
    return ConfigError(
        [
            f"data.path: {documents} documents are too few to give val "
            f"({data.val_tokens:,} tokens) and test ({data.test_tokens:,}) documents of their "
            "own; lower data.val_tokens and data.test_tokens"
        ]
    )
