"""Tokens that others prepared on their way into a table: checked, cut into splits, not changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.config import AS_THERE_IS, TEXT_TEST_TOKENS, ConfigError, DataConfig
from model.data.encode import Watch
from model.data.from_text import Ingested, source_facts
from model.data.overlap import share_of_val_in_train
from model.data.scratch import Workspace
from model.data.slowrun_files import file_digest
from model.data.split import Stretches
from model.data.token_files import Import
from model.data.tokenizer import Tokenizer, get_tokenizer

TOO_ALIKE = 0.5  # of val's passages; a split that was cut by mistake, not boilerplate


def from_import(imported: Import, data: DataConfig, work: Workspace, watch: Watch) -> Ingested:
    """Tokens that others prepared, as they are. Raises ConfigError if they do not fit `data`.

    Val and train are the first of each file. Test is the first of a file of its own. Where there is
    no such file, it is val's last tokens if `data.test_tokens` asks for some, and else empty.
    """
    tokenizer = imported.tokenizer or _named(data, imported)
    spool = work.tokens(tokenizer.dtype)
    bounds = {}
    for name in ("train", "val", "test"):
        begin = spool.length
        for block in imported.tokens(name):
            _check_ids(block, tokenizer, imported, name)
            spool.append(block)
            watch(0, spool.length)
        bounds[name] = (begin, spool.length)
    # Shards cut documents, but the first file of all begins with one.
    firsts = [spool.array()[begin:end][:1] for begin, end in bounds.values()]
    leads = tokenizer.separator in np.concatenate(firsts)
    splits = {
        name: _documents(spool.array(), *limits, tokenizer.separator, leads)
        for name, limits in _limits(bounds, data, imported).items()
    }

    def facts(arrays: Mapping[str, np.ndarray], *_: object) -> dict[str, Any]:
        return {"val_passages_in_train": _overlap(arrays, data)}

    recorded = {
        **source_facts(data, tokenizer),
        "rule": "as imported",
        "imported": imported.kind,
        "files": {
            path.name: file_digest(path) for paths in imported.files.values() for path in paths
        },
    }
    return Ingested(spool, splits, tokenizer, recorded, facts=facts)


def _overlap(arrays: Mapping[str, np.ndarray], data: DataConfig) -> float:
    share = share_of_val_in_train(arrays["train"], arrays["val"])
    if share > TOO_ALIKE:
        raise ConfigError(
            [
                f"data.path: val and train overlap: {share:.0%} of val's passages are also in "
                f"train; cut {data.path} anew"
            ]
        )
    return share


def _named(data: DataConfig, imported: Import) -> Tokenizer:
    if data.tokenizer in ("chars", "bpe"):
        raise ConfigError(
            [
                f"data.tokenizer: the {imported.kind} files at {data.path} are tokens already, and "
                f"nothing there says which; name their encoding, as in gpt2, not {data.tokenizer}"
            ]
        )
    return get_tokenizer(data.tokenizer)


def _check_ids(block: np.ndarray, tokenizer: Tokenizer, imported: Import, split: str) -> None:
    if not len(block):
        return
    low, high = int(block.min()), int(block.max())
    if low < 0 or high >= tokenizer.vocabulary:
        hint = (
            "name the encoding they were made with, as in data.tokenizer=gpt2"
            if imported.tokenizer is None
            else "its meta.pkl is of other files"
        )
        raise ConfigError(
            [
                f"data.path: {imported.files[split][0]} holds token {high if low >= 0 else low}, "
                f"but {tokenizer.name} has {tokenizer.vocabulary:,} tokens; {hint}"
            ]
        )


def _limits(
    bounds: Mapping[str, tuple[int, int]], data: DataConfig, imported: Import
) -> dict[str, tuple[int, int]]:
    """Where each split begins and ends in the spool."""
    begin, end = bounds["train"]
    val, val_end = bounds["val"]
    first, last = bounds["test"]
    own = bool(imported.files.get("test"))
    tests = data.test_tokens
    if tests == AS_THERE_IS:
        tests = min(TEXT_TEST_TOKENS, last - first)  # none without a file
    if val_end - val < data.val_tokens + (0 if own else tests):
        also = f", and data.test_tokens for {tests:,} more" if tests and not own else ""
        less = "them (data.test_tokens=0: no test split)" if also else "it"
        raise ConfigError(
            [
                f"data.val_tokens: the val file has {val_end - val:,} tokens, data.val_tokens asks "
                f"for {data.val_tokens:,}{also}; lower {less}"
            ]
        )
    if own and last - first < tests:
        raise ConfigError(
            [
                f"data.test_tokens: the test file has {last - first:,} tokens, {tests:,} are asked "
                "for; lower it, or leave it out to take those there are"
            ]
        )
    return {
        "train": (begin, min(end, begin + data.pool_tokens) if data.pool_tokens else end),
        "val": (val, val + data.val_tokens),
        "test": (first, first + tests) if own else (val_end - tests, val_end),
    }


def _documents(
    tokens: np.ndarray, begin: int, end: int, separator: int | None, leads: bool
) -> Stretches:
    """Documents between separators, which may lead (llm.c) or follow (nanoGPT) their text."""
    if begin == end:
        return Stretches(*(np.array([], dtype=np.int64) for _ in range(3)))
    separator_N = np.array([], dtype=np.int64)
    if separator is not None:
        separator_N = begin + np.flatnonzero(tokens[begin:end] == separator)
    start_N = np.union1d([begin], separator_N + (0 if leads else 1)).astype(np.int64)
    start_N = start_N[start_N < end]
    return Stretches(start_N, np.diff(np.append(start_N, end)), np.arange(len(start_N)))
