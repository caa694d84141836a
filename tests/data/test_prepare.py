"""A table is whole or not there: killed, full disks, two at once, bad input, bounded memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.data.corpus import pieces
from model.data.prepare import prepare, table_path
from model.data.table import digest_of, read_table
from model.files import part_of

SIZES = {"val_tokens": 500, "test_tokens": 500, "train_tokens": 1000}


def in_another_process(
    data: DataConfig, before: str = "", **environment: str
) -> subprocess.Popen[str]:
    """Prepare `data`, running `before` first; prints 0, 1, ... as documents are read."""
    code = f"""
import dataclasses, os, resource, sys
from model.config.config import DataConfig
from model.data import prepare
{before}
prepare.prepare(
    DataConfig(**{ {f: getattr(data, f) for f in data.__dataclass_fields__}!r}),
    lambda characters, tokens: print(tokens, flush=True),
)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def write_parquet(path: Path, megabytes: int) -> None:
    """Documents of 4 KB, no two alike, that compress no better than text does."""
    random = np.random.default_rng(0)
    words = np.array([f"{n:x}" for n in random.integers(0, 1 << 24, 5000)])
    texts = [" ".join(random.choice(words, 600)) for _ in range(250)]
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for number in range(megabytes):
            numbered = [f"{number} {text}" for text in texts]
            writer.write_table(pa.table({"text": numbered}, schema=schema))


@pytest.mark.slow
@pytest.mark.parametrize("splits", ["hash", "stream"])
def test_a_killed_preparation_leaves_nothing_that_is_taken_for_a_table(
    splits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while reading and while writing; the next run makes the table a third would find."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    write_parquet(tmp_path / "a.parquet", 8)
    data = DataConfig(path=str(tmp_path / "a.parquet"), splits=splits, **SIZES)
    path = table_path(data)
    stop_while_writing = """
import os, signal
from model.data import table
whole = table._Forgetful.write
def write(self, buffer):
    if len(memoryview(buffer)) > 1 << 20:
        buffer = memoryview(buffer)[: 1 << 20]
        whole(self, buffer)
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, buffer)
table._Forgetful.write = write
"""
    for before in ("", stop_while_writing):
        child = in_another_process(data, before)
        assert child.stdout is not None
        child.stdout.readline()
        if not before:
            child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        assert not path.exists()
        assert [p.name for p in path.parent.iterdir()] == [part_of(path).name]
    assert part_of(path).stat().st_size >= 1 << 20

    table = open_table(data)

    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert digest_of(table)["digest"] == table.digest


@pytest.mark.slow
def test_two_who_prepare_the_same_table_make_it_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", 4)
    data = DataConfig(path=str(tmp_path / "a.parquet"), **SIZES)

    children = [in_another_process(data, SWEEP_CACHE=str(tmp_path / "cache")) for _ in range(3)]
    printed = [child.communicate()[0].splitlines() for child in children]

    assert [child.returncode for child in children] == [0, 0, 0]
    assert sum(len(lines) > 1 for lines in printed) == 1  # the others only waited
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Peak resident memory, mapped pages included, below 1 GB for each size and hardly larger."""
    peaks = []
    for megabytes in (20, 120):
        path = tmp_path / f"{megabytes}.parquet"
        write_parquet(path, megabytes)
        for splits in ("hash", "stream"):
            data = DataConfig(path=str(path), splits=splits, **SIZES)
            child = in_another_process(data, SWEEP_CACHE=str(tmp_path / "cache"))
            printed = child.communicate()[0].splitlines()
            assert child.returncode == 0
            peaks.append(int(printed[-1].split()[1]))

    assert max(peaks) < 1000
    assert max(peaks[2:]) < max(peaks[:2]) + 60


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9999])
def test_a_full_disk_is_one_message_and_leaves_nothing(
    share: float, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file may grow beyond a share of the table, which the system enforces: the spool, the
    ordered split, then the last bytes of the table itself.
    """
    data = DataConfig(path=str(corpus), **SIZES)
    limit = int(share * prepare(data).stat().st_size)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ConfigError, match=r"cannot write the token table .*; set SWEEP_CACHE"):
            prepare(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list((tmp_path / "cache").iterdir())
    assert open_table(data).digest


def test_a_cache_that_cannot_be_written_is_explained(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file"))

    with pytest.raises(ConfigError, match="cannot write the token table .* set SWEEP_CACHE"):
        prepare(DataConfig(path=str(corpus), **SIZES))


def test_a_table_that_was_altered_is_found_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    data = DataConfig(path=str(corpus), **SIZES)
    path = prepare(data)
    content, tokens = path.read_bytes(), read_table(path).train[:100].tobytes()
    altered = content.replace(tokens, tokens[:-2] + b"\x00\x00")
    assert altered != content
    path.write_bytes(altered)

    with pytest.raises(ConfigError, match=r"recorded digest [0-9a-f]{64}, .* have [0-9a-f]{64}"):
        open_table(data, verify=True)


def test_a_table_can_be_taken_elsewhere(corpus: Path, tmp_path: Path) -> None:
    data = DataConfig(path=str(corpus), **SIZES)
    moved = tmp_path / "tokens.arrow"
    moved.write_bytes(prepare(data).read_bytes())
    here = DataConfig(path=str(moved), **SIZES)

    assert table_path(here) == moved
    assert open_table(here).digest == open_table(data).digest
    with pytest.raises(ConfigError, match=r"data.val_tokens: .* holds 500, not 400"):
        open_table(DataConfig(path=str(moved), **{**SIZES, "val_tokens": 400}))


def test_a_table_is_not_read_as_tokens_of_another_encoding(corpus: Path, tmp_path: Path) -> None:
    """Its own vocabulary would be trained, under the name and the size of another."""
    moved = tmp_path / "tokens.arrow"
    moved.write_bytes(prepare(DataConfig(path=str(corpus), **SIZES)).read_bytes())

    with pytest.raises(ConfigError, match=r"data.tokenizer: .* tokens of bytes, not of gpt2"):
        open_table(DataConfig(path=str(moved), tokenizer="gpt2", **SIZES))


def test_a_table_at_home_is_found(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    table = prepare(DataConfig(path=str(corpus), **SIZES))
    (tmp_path / "tokens.arrow").write_bytes(table.read_bytes())

    assert open_table(DataConfig(path="~/tokens.arrow", **SIZES)).digest


def test_a_table_that_was_cut_short_is_called_damaged(corpus: Path, tmp_path: Path) -> None:
    table = prepare(DataConfig(path=str(corpus), **SIZES)).read_bytes()
    (tmp_path / "tokens.arrow").write_bytes(table[: len(table) // 2])

    with pytest.raises(ConfigError, match=r"token table .*tokens.arrow is damaged"):
        open_table(DataConfig(path=str(tmp_path / "tokens.arrow"), **SIZES))


@pytest.mark.parametrize(
    "change",
    [
        {"column": "body"},
        {"tokenizer": "chars"},
        {"splits": "stream"},
        {"splits": "stream", "pool_tokens": 2000},
        {"val_tokens": 501},
        {"test_tokens": 501},
    ],
)
def test_what_decides_on_tokens_decides_on_the_table(
    change: dict[str, object], corpus: Path
) -> None:
    data = DataConfig(path=str(corpus), **SIZES)
    others = [data, replace(data, splits="stream")] if len(change) > 1 else [data]

    assert table_path(replace(data, **change)) not in map(table_path, others)  # type: ignore[arg-type]


def test_line_ends_of_other_systems_are_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"line\r\n" * 1000)

    assert b"\r" not in bytes(read_table(prepare(DataConfig(path=str(tmp_path), **SIZES))).train)


def test_what_was_made_is_recorded(corpus: Path) -> None:
    table = open_table(DataConfig(path=str(corpus), **SIZES))

    recorded = table.recorded
    assert recorded["source"] == str(corpus)
    assert recorded["tokens"]["val"] == 500
    assert recorded["text_bytes"]["train"] == int(table.token_lengths[table.train].sum())
    assert recorded["choose"] == [375, 500]
    assert digest_of(table) == {"digest": table.digest, "digests": recorded["digests"]}
    json.dumps(recorded)


def test_compression_is_measured_for_each_training_document(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        repeats = number + 1
        word = "".join(map(chr, random.integers(97, 123, 1200 // repeats)))
        (tmp_path / f"{number}.txt").write_text(word * repeats)

    table = open_table(DataConfig(path=str(tmp_path), **SIZES))

    offsets = table.documents["train"]
    texts = [bytes(table.train[a + 1 : b].astype(np.uint8)) for a, b in pairwise(offsets)]
    sizes = [len(zlib.compress(text, 1)) / len(text) for text in texts]
    assert np.allclose(table.compression, sizes)
    assert np.ptp(table.compression) > 0.3


@pytest.mark.parametrize("splits", ["hash", "stream"])
def test_nothing_in_the_corpus_is_explained(splits: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    (tmp_path / "empty.txt").write_text("")

    for path in (tmp_path / "a.parquet", tmp_path / "empty.txt", tmp_path):
        with pytest.raises(ConfigError, match=f"{path} holds no text"):
            prepare(DataConfig(path=str(path), splits=splits, **SIZES))


def test_text_in_a_column_that_is_not_utf8_is_explained(tmp_path: Path) -> None:
    values = pa.array([b"fine", b"\xff\xfe"], pa.binary()).cast(pa.binary())
    offsets, data = values.buffers()[1:]
    texts = pa.StringArray.from_buffers(2, offsets, data)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")

    with pytest.raises(ConfigError, match="column text of .* is not UTF-8 text"):
        prepare(DataConfig(path=str(tmp_path / "a.parquet"), **SIZES))


def test_the_byte_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(("é" * 700_000).encode() + b"\xff")

    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 1400000\)"):
        prepare(DataConfig(path=str(path), **SIZES))


def test_pieces_of_a_long_text_give_its_tokens(tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" + "\n" * (n % 3) for n in range(200_000))
    (tmp_path / "a.txt").write_text(text)

    table = open_table(DataConfig(path=str(tmp_path), **SIZES))

    joined = np.concatenate([table.train, table.val, table.test])[1:]
    assert joined.astype(np.uint8).tobytes() == text.encode()


def test_a_column_can_be_chosen(tmp_path: Path) -> None:
    texts = [f"document {i} " * 20 for i in range(60)]
    pq.write_table(pa.table({"content": texts}), tmp_path / "a.parquet")

    table = open_table(DataConfig(path=str(tmp_path / "a.parquet"), column="content", **SIZES))

    assert "document" in table.tokenizer.decode(table.train[:50])


def test_a_folder_is_read_whatever_its_subfolders_are_called(tmp_path: Path) -> None:
    for folder in ("test", "tests", "site-packages"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            text = f"{folder} {number} " * 20
            (tmp_path / folder / f"{number}.txt").write_text(text)

    table = open_table(DataConfig(path=str(tmp_path), splits="stream", **SIZES))

    assert sum(table.recorded["documents"].values()) == 60


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match=r"pipe is neither a file nor a directory"):
        prepare(DataConfig(path=str(tmp_path), **SIZES))


def test_a_folder_that_cannot_be_listed_is_not_skipped(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise another user would get another corpus without a word. root may list them all."""
    closed, scandir = corpus / "closed", os.scandir
    closed.mkdir()

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    data = DataConfig(path=str(corpus), **SIZES)
    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(ConfigError, match=r"cannot read .*closed: Permission denied"):
        list(pieces(data))


def test_a_digest_finds_its_table_in_the_cache_where_the_text_is_gone(corpus: Path) -> None:
    data = DataConfig(path=str(corpus), **SIZES)
    table = open_table(data)
    pinned = replace(data, digest=table.digest)
    corpus.rename(corpus.with_name("elsewhere"))

    assert open_table(pinned).digest == table.digest
    with pytest.raises(ConfigError, match="no such file or folder"):
        open_table(data)
    with pytest.raises(ConfigError, match="no such file or folder"):
        open_table(replace(data, digest="another"))


def test_a_text_that_was_only_touched_is_not_prepared_again_where_its_digest_is_known(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    data = DataConfig(path=str(corpus), **SIZES)
    path = prepare(data)
    os.utime(corpus / "00.txt", ns=(1, 1))

    assert table_path(replace(data, digest=read_table(path).digest)) == path
    assert table_path(data) != path
