"""Tokens that others prepared: written here as those projects write them, then damaged."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.config import AS_THERE_IS
from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.data.prepare import table_path
from model.data.table import TokenTable
from model.data.token_files import find_import

EOT = 50256
SIZES = {"train_tokens": 100, "val_tokens": 300, "test_tokens": 200}


pytestmark = pytest.mark.usefixtures("toy_gpt2")


def documents(count: int, seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, EOT, random.integers(5, 90)).tolist() for _ in range(count)]


TRAIN, VAL = documents(80, 0), documents(40, 1)


def leading(texts: list[list[int]]) -> np.ndarray:
    return np.array([token for text in texts for token in (EOT, *text)])


def trailing(texts: list[list[int]]) -> np.ndarray:
    return np.array([token for text in texts for token in (*text, EOT)])


def table_of(folder: Path, **settings: object) -> TokenTable:
    return open_table(
        DataConfig(path=str(folder), **{**SIZES, "tokenizer": "gpt2", **settings})  # type: ignore[arg-type]
    )


def write_nanogpt(folder: Path) -> None:
    """data/openwebtext/prepare.py: a memmap of uint16, a separator after each document."""
    for name, texts in (("train", TRAIN), ("val", VAL)):
        tokens = trailing(texts)
        file = np.memmap(folder / f"{name}.bin", dtype=np.uint16, mode="w+", shape=tokens.shape)
        file[:] = tokens
        file.flush()


def write_llm_c(folder: Path) -> None:
    """dev/data: 256 little-endian int32 (magic, version, count), then uint16; two train shards."""
    half = len(TRAIN) // 2
    shards = {"val_000000": VAL, "train_000001": TRAIN[:half], "train_000002": TRAIN[half:]}
    for name, texts in shards.items():
        tokens = leading(texts)
        header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
        (folder / f"fineweb_{name}.bin").write_bytes(header + tokens.astype("<u2").tobytes())


def write_slowrun(folder: Path) -> None:
    for name, texts, seed in (("train", TRAIN, 43), ("val", VAL, 42)):
        tokens = leading(texts).astype(np.uint16)
        starts = np.flatnonzero(tokens == EOT).astype(np.int64)
        about = {"tokens": torch.from_numpy(tokens), "doc_starts": torch.from_numpy(starts)}
        about |= {"bos_id": EOT, "seq_shuffle_seed": seed, "seq_size": 2049}
        torch.save(about, folder / f"fineweb_{name}.pt")


def write_old_slowrun(folder: Path, sequence: int = 33, rows: int = 16) -> None:
    """Rows shuffled once with numpy's global generator, padded to whole chunks."""
    for name, texts, seed in (("train", TRAIN, 43), ("val", VAL, 42)):
        tokens = leading(texts).astype(np.uint16)
        table = tokens[: len(tokens) // sequence * sequence].reshape(-1, sequence)
        np.random.seed(seed)
        np.random.shuffle(table)
        chunks, counts = [], []
        for first in range(0, len(table), rows):
            part = table[first : first + rows]
            chunk = np.zeros((rows, sequence), dtype=np.uint16)
            chunk[: len(part)] = part
            chunks.append(torch.from_numpy(chunk.ravel()))
            counts.append(len(part))
        about = {"chunks": chunks, "valid_counts": counts, "batch_size": rows}
        torch.save({**about, "sequence_size": sequence}, folder / f"fineweb_{name}.pt")


def write_hf_parquet(folder: Path) -> None:
    for name, texts in (("train", TRAIN), ("validation", VAL)):
        rows = [[*text, EOT] for text in texts]
        table = pa.table({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")


def write_hf_arrow(folder: Path) -> None:
    """DatasetDict.save_to_disk: a folder a split, Arrow streams in it."""
    for name, texts in (("train", TRAIN), ("validation", VAL)):
        (folder / name).mkdir()
        rows = pa.array([[*text, EOT] for text in texts], type=pa.list_(pa.int32()))
        table = pa.table({"input_ids": rows})
        path = folder / name / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        (folder / name / "state.json").write_text("{}")


WRITERS = {
    "nanoGPT": (write_nanogpt, trailing),
    "llm.c": (write_llm_c, leading),
    "slowrun": (write_slowrun, leading),
    "hugging face parquet": (write_hf_parquet, trailing),
    "hugging face arrow": (write_hf_arrow, trailing),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_tokens_and_documents_are_as_they_were_written(kind: str, tmp_path: Path) -> None:
    write, joined = WRITERS[kind]
    write(tmp_path)

    table = table_of(tmp_path)

    assert table.train.tolist() == joined(TRAIN).tolist()
    assert table.val.tolist() == joined(VAL)[:300].tolist()
    assert table.test.tolist() == joined(VAL)[-200:].tolist()
    assert np.diff(table.documents["train"]).tolist() == [len(text) + 1 for text in TRAIN]
    assert kind.startswith(table.recorded["imported"])
    assert table.vocabulary == 50257
    assert table.token_lengths[EOT] == 0


def test_documents_begin_at_separators_in_shards_that_cut_them(tmp_path: Path) -> None:
    """dev/data fills shards to the last token: val is the first, and train begins anywhere."""
    tokens = leading([*VAL, *TRAIN])
    for number, name in enumerate(("val", "train", "train")):
        part = tokens[number * 1501 :][: 1501 if number < 2 else None]
        header = struct.pack("<256i", 20240520, 1, len(part), *[0] * 253)
        (tmp_path / f"x_{name}_{number}.bin").write_bytes(header + part.astype("<u2").tobytes())

    table = table_of(tmp_path)

    assert table.train.tolist() == tokens[1501:].tolist()
    for name in ("train", "val", "test"):
        split, starts = getattr(table, name), table.documents[name][1:-1]
        assert (split[starts] == EOT).all()
        assert len(starts) >= 2


def test_slowruns_older_files_give_the_stream_back(tmp_path: Path) -> None:
    """But for the last sequence, which they never held."""
    write_old_slowrun(tmp_path)

    table = table_of(tmp_path)

    stream = leading(TRAIN)
    assert table.train.tolist() == stream[: len(stream) // 33 * 33].tolist()
    assert table.val.tolist() == leading(VAL)[:300].tolist()


def test_a_file_stands_for_its_folder(tmp_path: Path) -> None:
    write_nanogpt(tmp_path)

    assert table_of(tmp_path / "train.bin").digest == table_of(tmp_path).digest


def test_what_else_lies_beside_a_file_does_not_matter(tmp_path: Path) -> None:
    """A sweep writes its runs beside it: each trial would prepare a table of its own."""
    write_nanogpt(tmp_path)
    data = DataConfig(path=str(tmp_path / "train.bin"), tokenizer="gpt2")
    before = table_path(data)
    (tmp_path / "runs" / "trials").mkdir(parents=True)
    (tmp_path / "runs" / "trials" / "journal.jsonl").write_text("{}")

    assert table_path(data) == before
    (tmp_path / "meta.pkl").write_bytes(b"")
    assert table_path(data) != before


@pytest.mark.parametrize("name", ["val.bin", "mytokens.bin"])
def test_tokens_without_a_train_file_are_not_called_text(name: str, tmp_path: Path) -> None:
    trailing(VAL).astype(np.uint16).tofile(tmp_path / name)

    with pytest.raises(ConfigError, match=r"has no file of tokens to train on; call it train.bin"):
        table_of(tmp_path / name)


def test_a_test_split_of_its_own_is_used(tmp_path: Path) -> None:
    write_nanogpt(tmp_path)
    own = trailing(documents(40, 2))
    own.astype(np.uint16).tofile(tmp_path / "test.bin")

    assert table_of(tmp_path).test.tolist() == own[:200].tolist()


@pytest.mark.parametrize("kind", WRITERS)
def test_without_a_test_file_nothing_is_sealed_unless_it_is_asked_for(
    kind: str, tmp_path: Path
) -> None:
    """As its author left it: val is whole, though it is as long as what is asked of it."""
    write, joined = WRITERS[kind]
    write(tmp_path)
    val = joined(VAL)
    data = DataConfig(path=str(tmp_path), tokenizer="gpt2", train_tokens=100, val_tokens=len(val))

    table = open_table(data)

    assert table.val.tolist() == val.tolist()
    assert len(table.test) == 0
    with pytest.raises(ConfigError, match=r"and data.test_tokens for 7 more; lower them"):
        open_table(replace(data, test_tokens=7))


def test_a_test_file_is_sealed_as_far_as_it_goes(tmp_path: Path) -> None:
    write_nanogpt(tmp_path)
    own = trailing(documents(40, 2))
    own.astype(np.uint16).tofile(tmp_path / "test.bin")
    data = DataConfig(path=str(tmp_path), tokenizer="gpt2", train_tokens=100, val_tokens=300)

    assert open_table(data).test.tolist() == own.tolist()
    with pytest.raises(ConfigError, match=r"the test file has .* tokens, 90,000 are asked for"):
        open_table(replace(data, test_tokens=90_000))


def test_a_longer_test_file_gives_as_much_as_text_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.data.from_tokens.TEXT_TEST_TOKENS", 50)
    write_nanogpt(tmp_path)
    own = trailing(documents(40, 2))
    own.astype(np.uint16).tofile(tmp_path / "test.bin")

    assert table_of(tmp_path, test_tokens=AS_THERE_IS).test.tolist() == own[:50].tolist()


def test_nanogpts_characters_are_read_from_meta_pkl(tmp_path: Path) -> None:
    """data/shakespeare_char/prepare.py, in which an id is a character's place."""
    random = np.random.default_rng(0)
    text = "".join("abcdé"[n] for n in random.integers(0, 5, 3000))
    characters = sorted(set(text))
    stoi = {c: i for i, c in enumerate(characters)}
    for name, part in (("train", text[:2000]), ("val", text[2000:])):
        np.array([stoi[c] for c in part], dtype=np.uint16).tofile(tmp_path / f"{name}.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))

    table = open_table(DataConfig(path=str(tmp_path), **{**SIZES, "val_tokens": 60}))

    assert table.vocabulary == len(characters)
    assert table.tokenizer.decode(table.train) == text[:2000]
    assert table.tokenizer.encode("dé").tolist() == [stoi["d"], stoi["é"]]
    assert table.token_lengths[stoi["é"]] == 2


def test_meta_pkl_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    write_nanogpt(tmp_path)
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 1, "itos": Trap()}))

    with pytest.raises(ConfigError, match=r"meta.pkl is no vocabulary .* would import posix.mkdir"):
        table_of(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_torch_file_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    write_slowrun(tmp_path)
    torch.save({"tokens": Trap()}, tmp_path / "fineweb_train.pt")

    with pytest.raises(ConfigError, match="fineweb_train.pt is no file that torch can read"):
        table_of(tmp_path)
    assert not (tmp_path / "sprung").exists()


def cut(name: str, keep: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = next(folder.rglob(name))
        path.write_bytes(path.read_bytes()[:keep])

    return damage


def wide(folder: Path) -> None:
    trailing(TRAIN).astype(np.int32).tofile(folder / "train.bin")


def header(*values: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "fineweb_train_000001.bin"
        path.write_bytes(struct.pack(f"<{len(values)}i", *values) + path.read_bytes()[12:])

    return damage


def resave(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "fineweb_train.pt"
        torch.save({**torch.load(path, weights_only=True), **changes}, path)

    return damage


def same(folder: Path) -> None:
    (folder / "train.bin").write_bytes((folder / "val.bin").read_bytes())


@pytest.mark.parametrize(
    ("write", "damage", "message"),
    [
        (write_nanogpt, cut("train.bin", 0), "train.bin is damaged: 0 bytes are no tokens"),
        (write_nanogpt, cut("train.bin", 101), "no whole number of uint16 tokens"),
        (write_nanogpt, cut("val.bin", 400), "the val file has 200 tokens, .*test_tokens=0"),
        (write_nanogpt, wide, "holds wider numbers than uint16"),
        (write_nanogpt, same, "val and train overlap: 100% of val's passages"),
        (
            write_nanogpt,
            lambda f: (f / "val.bin").unlink(),
            "has train.bin to train on, but no val",
        ),
        (write_nanogpt, lambda f: (f / "meta.pkl").write_bytes(b"\x80"), "meta.pkl is no vocabul"),
        (write_llm_c, cut("*_000001.bin", 1500), "promises .* tokens, but the file holds 238"),
        (write_llm_c, cut("*_000001.bin", 1501), "promises .* tokens, but the file holds 238.5"),
        (write_llm_c, cut("*_000001.bin", 100), "100 bytes hold no llm.c header"),
        (write_llm_c, header(7, 1, 9), r"begins with 7, not with llm.c's 20240520"),
        (write_llm_c, header(20240520, 2, 9), "has version 2, expected 1"),
        (write_llm_c, header(20240520, 1, -1), "promises -1 tokens"),
        (write_slowrun, cut("fineweb_train.pt", 900), "is no file that torch can read"),
        (write_slowrun, resave(doc_starts=torch.arange(3)), "doc_starts lists 3 documents"),
        (write_slowrun, resave(tokens=torch.arange(9)), "1-dimensional int64, not flat uint16"),
        (write_slowrun, resave(tokens=[1]), "is damaged or no slowrun file"),
        (write_old_slowrun, resave(valid_counts=[16]), "is damaged or no slowrun file"),
        (write_old_slowrun, resave(sequence_size=34), "is damaged or no slowrun file"),
        (write_hf_parquet, cut("train*", 900), "a damaged Parquet file, perhaps cut short"),
        (write_hf_arrow, cut("data*", 900), "is damaged, perhaps cut short"),
    ],
)
def test_damaged_files_are_explained(
    write: Callable[[Path], None],
    damage: Callable[[Path], object],
    message: str,
    tmp_path: Path,
) -> None:
    write(tmp_path)
    damage(tmp_path)

    with pytest.raises(ConfigError, match=message):
        table_of(tmp_path)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("bytes", "holds token .*, but bytes has 257 tokens; name the encoding"),
        ("chars", "are tokens already, and nothing there says which"),
    ],
)
def test_tokens_of_an_unnamed_encoding_are_refused(
    tokenizer: str, message: str, tmp_path: Path
) -> None:
    write_nanogpt(tmp_path)

    with pytest.raises(ConfigError, match=message):
        table_of(tmp_path, tokenizer=tokenizer)


def test_columns_that_are_no_tokens_are_refused(tmp_path: Path) -> None:
    write_hf_parquet(tmp_path)
    pq.write_table(pa.table({"input_ids": ["a"]}), tmp_path / "train-00000-of-00001.parquet")

    with pytest.raises(ConfigError, match="column input_ids of .* holds string, not lists"):
        table_of(tmp_path)


def test_text_is_not_taken_for_tokens(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("text")
    pq.write_table(pa.table({"text": ["text"]}), tmp_path / "train.parquet")

    assert find_import(tmp_path) is None
