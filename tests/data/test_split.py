"""The rules that say what is held out, against loops that follow their description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data.split import (
    Stretches,
    by_hash,
    by_stream,
    choose_slice,
    stream_is_enough,
)

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def config(val: int, test: int, pool: int = 0, splits: str = "stream") -> DataConfig:
    return DataConfig(
        splits=splits, val_tokens=val, test_tokens=test, pool_tokens=pool, train_tokens=2
    )


def positions(split: Stretches) -> list[int]:
    pairs = zip(split.start_N.tolist(), split.length_N.tolist(), strict=True)
    return [at for start, length in pairs for at in range(start, start + length)]


def slowruns(lengths: list[int], budgets: list[int]) -> list[list[int]] | None:
    """Documents in order; each budget begins with the next one and cuts its last."""
    found, documents, at = [], iter(lengths), 0
    for budget in budgets:
        taken: list[int] = []
        while len(taken) < budget:
            length = next(documents, None)
            if length is None:
                return None
            taken += range(at, at + length)
            at += length
        found.append(taken[:budget])
    return found


@given(LENGTHS, st.integers(2, 60), st.integers(2, 200), st.integers(0, 40))
def test_a_stream_is_cut_as_slowrun_does(
    lengths: list[int], val: int, pool: int, test: int
) -> None:
    data = config(val, test, pool)
    expected = slowruns(lengths, [val, pool, test])
    assert stream_is_enough(lengths, sum(lengths), data) == (expected is not None)
    if expected is None:
        with pytest.raises(ConfigError, match="begins with a document of its own"):
            by_stream(np.array(lengths), data)
        return

    splits = by_stream(np.array(lengths), data)

    assert [positions(splits[name]) for name in ("val", "train", "test")] == expected


@given(LENGTHS, st.integers(2, 60), st.integers(0, 40))
def test_without_a_pool_train_is_all_that_is_left(lengths: list[int], val: int, test: int) -> None:
    expected = slowruns(lengths, [val, test, 1])
    if expected is None:
        return

    splits = by_stream(np.array(lengths), config(val, test))

    assert [positions(splits[name]) for name in ("val", "test")] == expected[:2]
    first = expected[2][0]
    assert positions(splits["train"]) == list(range(first, sum(lengths)))


@given(LENGTHS, st.integers(2, 30), st.integers(2, 60), st.integers(0, 60))
def test_a_smaller_pool_is_the_beginning_of_a_larger(
    lengths: list[int], val: int, pool: int, more: int
) -> None:
    if slowruns(lengths, [val, pool + more]) is None:
        return

    small, large = (
        positions(by_stream(np.array(lengths), config(val, 0, p))["train"])
        for p in (pool, pool + more)
    )

    assert large[:pool] == small


@given(LENGTHS, st.integers(2, 20), st.integers(0, 20), st.integers(0, 3))
def test_by_hash_no_document_is_in_two_splits_and_none_twice(
    lengths: list[int], val: int, test: int, copies: int
) -> None:
    lengths = lengths + lengths[:copies]
    texts = [*range(len(lengths) - copies), *range(copies)][: len(lengths)]
    key_N = np.random.default_rng(0).integers(0, 1 << 62, (len(lengths), 2), dtype=np.uint64)[texts]
    data = config(val, test, splits="hash")
    try:
        splits, dropped = by_hash(np.array(lengths), key_N, data)
    except ConfigError:
        return

    documents = [splits[name].document_N.tolist() for name in ("train", "val", "test")]
    if len({*documents[0], *documents[1]}) > 1:
        chosen = [texts[document] for split in documents for document in split]
        assert len(chosen) == len(set(chosen))
    assert splits["val"].tokens == val
    assert splits["test"].tokens == test
    everything = [at for split in splits.values() for at in positions(split)]
    assert len(everything) == len(set(everything))
    with_text = [text for text, length in zip(texts, lengths, strict=True) if length > 1]
    assert dropped == len(with_text) - len(set(with_text))


def test_by_hash_a_long_document_does_not_decide_the_held_out_loss() -> None:
    """Each gives an equal stretch of its middle; all of it stays out of train."""
    lengths = np.full(400, 1000)
    key_N = np.arange(800, dtype=np.uint64).reshape(400, 2)

    splits, _ = by_hash(lengths, key_N, config(640, 0, splits="hash"))

    assert splits["val"].length_N.tolist() == [20] * 32
    assert splits["val"].start_N.tolist() == list(range(490, 32_000, 1000))
    assert splits["train"].document_N.tolist() == list(range(32, 400))


def test_the_slice_to_choose_on_is_vals_last_quarter() -> None:
    assert choose_slice(10_000_000) == (7_500_000, 10_000_000)
    assert choose_slice(3) == (3, 3)
