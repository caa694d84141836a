from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data.batches import open_table, windows
from model.data.prepare import prepare, table_path
from model.data.tokenizer import get_tokenizer

SMALL = {"val_tokens": 512, "test_tokens": 512, "train_tokens": 1024}
SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_bytes_round_trip_and_separate_documents() -> None:
    tokenizer = get_tokenizer("bytes")
    text = "naïve\n\t" + "x" * 100

    tokens = tokenizer.encode(text)

    assert tokens.tolist() == list(text.encode())
    assert tokenizer.decode(tokens) == text
    assert tokenizer.separator == 256
    assert tokenizer.lengths.tolist() == [1] * 256 + [0]


def test_the_embedded_corpus_is_the_running_pythons_library() -> None:
    table = open_table(DataConfig())

    assert len(table.train) > 8_000_000
    assert b"def " in bytes(table.val[table.val < 256].astype(np.uint8))
    assert (len(table.val), len(table.test)) == (16_384, 16_384)


def test_the_same_corpus_gives_the_same_digest_anywhere(corpus: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in sorted(corpus.iterdir(), reverse=True):
        (moved / f"other-{file.name}").write_bytes(file.read_bytes())

    a, b = (open_table(DataConfig(path=str(path), **SMALL)) for path in (corpus, moved))

    assert a.digest == b.digest
    assert np.array_equal(a.train, b.train)


def test_a_changed_document_is_refused_where_the_tokens_asked_for_are_gone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_table(DataConfig(path=str(corpus), **SMALL))
    (corpus / "00.txt").write_text("entirely different")
    asked = DataConfig(path=str(corpus), digest=before.digest, **SMALL)

    assert open_table(asked).digest == before.digest
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=f"expected {before.digest}"):
        open_table(asked)


def test_no_document_is_in_two_splits(tmp_path: Path) -> None:
    """Each document repeats one byte of its own; duplicates are dropped."""
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(chr(65 + number % 50) * (200 + number % 50))

    data = DataConfig(path=str(tmp_path), val_tokens=600, test_tokens=600, train_tokens=1024)

    table = open_table(data)

    kinds = [set(split.tolist()) - {256} for split in (table.train, table.val, table.test)]
    assert kinds[0].isdisjoint(kinds[1])
    assert kinds[0].isdisjoint(kinds[2])
    assert kinds[1].isdisjoint(kinds[2])
    assert sum(map(len, kinds)) == 50


def test_a_single_text_is_cut_into_contiguous_stretches(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(chr(32 + i % 90) for i in range(5000)))

    table = open_table(DataConfig(path=str(path), **SMALL))

    joined = np.concatenate([table.train, table.val, table.test])
    assert bytes(joined[1:].astype(np.uint8)) == path.read_bytes()


def test_parquet_is_read_by_its_text_column(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    texts = [f"document {i} " * 20 for i in range(60)]
    pq.write_table(pa.table({"id": list(range(60)), "text": texts}), path)

    table = open_table(DataConfig(path=str(path), **SMALL))

    assert b"document 1" in bytes(table.train[table.train < 256].astype(np.uint8))


if SHARED.exists():  # larger than a repository should hold

    @pytest.mark.parametrize("name", ["tinyshakespeare.txt", "peps.parquet"])
    def test_real_corpora_can_be_trained_on(name: str) -> None:
        table = open_table(DataConfig(path=str(SHARED / name)))

        assert len(table.train) > 900_000


def test_training_subsets_come_from_one_table() -> None:
    """Runs read a prefix of it, which a test of the trainer shows."""
    assert table_path(DataConfig(train_tokens=2)) == table_path(DataConfig(train_tokens=3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("short"), "the corpus has 6 tokens, but"),
        (lambda p: p.write_bytes(b"\xff\xfe" * 5000), "is not UTF-8 text"),
        (lambda p: p.write_bytes(b"PAR1" + b"x" * 50), "is a damaged Parquet file"),
        (lambda p: pq.write_table(pa.table({"words": ["a"]}), p), "has no column text, only words"),
        (lambda p: pq.write_table(pa.table({"text": [1]}), p), "holds int64, not text"),
        (lambda p: p.symlink_to(p), "cannot look at"),
        (os.mkfifo, "is neither a file nor a folder"),
        (lambda p: None, "no such file or folder"),
    ],
)
def test_an_unusable_corpus_is_explained(make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "corpus"
    make(path)

    with pytest.raises(ConfigError, match=message):
        open_table(DataConfig(path=str(path)))


def test_a_budget_above_the_corpus_is_refused(corpus: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data.train_tokens: 10,000,000 asked, but the corpus has"
    ):
        open_table(DataConfig(path=str(corpus), val_tokens=9, test_tokens=9, train_tokens=10**7))


def test_a_failed_write_leaves_no_table_behind(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*about: object) -> None:
        raise OSError(28, "No space left on device")

    data = DataConfig(path=str(corpus), val_tokens=300, test_tokens=300)
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ConfigError, match="No space left on device; set SWEEP_CACHE"):
        prepare(data)

    assert not table_path(data).exists()
    assert not list(table_path(data).parent.glob("*.part"))


def test_a_damaged_table_is_explained(corpus: Path) -> None:
    data = DataConfig(path=str(corpus), val_tokens=400, test_tokens=400)
    path = prepare(data)
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ConfigError, match="is damaged .* delete it"):
        open_table(data)
    path.unlink()


def test_targets_are_the_next_tokens() -> None:
    x_BT, y_BT = windows(np.arange(100, dtype=np.uint16), np.array([0, 40]), 8)

    assert np.array_equal(y_BT, x_BT + 1)
    assert x_BT[1, 0] == 40


def test_each_document_of_a_split_begins_with_the_separator(corpus: Path) -> None:
    table = open_table(DataConfig(path=str(corpus), **SMALL))

    starts = table.documents["train"][:-1]

    assert np.array_equal(starts, np.flatnonzero(table.train == 256))
    assert table.documents["train"][-1] == len(table.train)
    assert table.documents["val"][-1] == 512
