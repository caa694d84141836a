from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data import overlap
from model.data.batches import open_table
from model.data.overlap import PASSAGE, near_duplicates, share_of_val_in_train


def random_tokens(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50_000, count).astype(np.uint16)


def test_texts_that_share_nothing_do_not_overlap() -> None:
    assert share_of_val_in_train(random_tokens(100_000, 0), random_tokens(10_000, 1)) == 0


@given(st.lists(st.integers(0, 40), max_size=12, unique=True), st.integers(0, 3000))
def test_passages_are_found_wherever_train_has_them(copied: list[int], at: int) -> None:
    """Also across the blocks train is searched in, and from both ends of it."""
    val = random_tokens(41 * PASSAGE, 1)
    parts = [random_tokens(at, 2)] if at else []
    for passage in copied:
        parts += [val[passage * PASSAGE : (passage + 1) * PASSAGE], random_tokens(7, passage)]
    train = np.concatenate([*parts, random_tokens(64, 3)])
    before, overlap.BLOCK = overlap.BLOCK, 500
    try:
        assert share_of_val_in_train(train, val) == len(copied) / 41
    finally:
        overlap.BLOCK = before


def test_a_passage_that_val_repeats_is_counted_each_time() -> None:
    licence = random_tokens(PASSAGE, 0)
    val = np.concatenate([licence, random_tokens(PASSAGE, 1), licence, licence])

    assert share_of_val_in_train(np.concatenate([random_tokens(9, 2), licence]), val) == 0.75


def texts() -> list[str]:
    words = [f"word{n}" for n in np.random.default_rng(0).integers(0, 3000, 30 * 200)]
    return [" ".join(words[i * 200 : (i + 1) * 200]) for i in range(30)]


def stream_table(folder: Path, documents: list[str]) -> object:
    for number, text in enumerate(documents):
        (folder / f"{number:03}.txt").write_text(text)
    return open_table(
        DataConfig(
            path=str(folder), splits="stream", train_tokens=9, val_tokens=3000, test_tokens=2000
        )
    )


def test_exact_duplicates_across_splits_are_counted(tmp_path: Path) -> None:
    """Slowrun's rule keeps them, so that its tokens stay what they are."""
    documents = texts()
    table = stream_table(tmp_path, [*documents, documents[0], documents[1], documents[0]])

    assert table.recorded["duplicates"] == {"train-val": 2, "train-test": 0, "val-test": 0}


def test_exact_duplicates_are_dropped_where_documents_are_split_by_hash(tmp_path: Path) -> None:
    for number, text in enumerate([*texts(), *texts()[:5]]):
        (tmp_path / f"{number:03}.txt").write_text(text)
    data = DataConfig(path=str(tmp_path), train_tokens=9, val_tokens=3000, test_tokens=2000)

    assert open_table(data).recorded["duplicates"] == {"dropped": 5}


def test_documents_that_are_nearly_the_same_are_found(tmp_path: Path) -> None:
    documents = texts()
    nearly = documents[1].replace("word1", "sword1", 3)
    table = stream_table(tmp_path, [*documents, nearly])
    splits = {name: getattr(table, name) for name in ("train", "val", "test")}

    found = near_duplicates(splits, table.documents, 0.5)

    assert [(pair.split, pair.document) for pair in found] == [("val", 1)]
    assert found[0].train_document == len(table.documents["train"]) - 2
    assert 0.5 <= found[0].similarity < 1


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)

    with pytest.raises(ConfigError, match=r"pip install 'sweep\[near\]'"):
        near_duplicates({}, {}, 0.5)
