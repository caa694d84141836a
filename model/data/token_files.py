"""Tokens that other projects prepared, read as they are: which files they are, and what is in them.

nanoGPT      train.bin, val.bin: bare uint16; meta.pkl, if there is one, says what they stand for
llm.c        shards with a header of 256 int32, as modded-nanogpt uses them too
slowrun      fineweb_train.pt, fineweb_val.pt, in both of its formats
hugging face Parquet or Arrow files with a column input_ids
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.config import ConfigError
from model.data.tokenizer import Tokenizer, of_list

SUFFIXES = {".bin", ".pt", ".arrow", ".parquet"}
NO_TEXT = {".bin", ".pt"}  # a file of these stands for all tokens in its folder
VOCABULARY = "meta.pkl"  # nanoGPT's
SPLIT = re.compile(r"(?<![a-z])(train|val|validation|valid|test)(?![a-z])")
SPLIT_NAMES = {"validation": "val", "valid": "val"}
HEADER = 256  # int32 values
# magic number -> version, type of a token: GPT-2's and Llama 3's in llm.c
LLM_C: dict[int, tuple[int, np.dtype[Any]]] = {
    20240520: (1, np.dtype("<u2")),
    20240801: (7, np.dtype("<u4")),
}
META_LIMIT = 64 << 20  # bytes; a vocabulary is far smaller
BLOCK = 1 << 22  # tokens at once
COLUMN = "input_ids"

Blocks = Callable[[Path, str], Iterator[np.ndarray]]  # of a file and the split it belongs to


@dataclass(frozen=True)
class Import:
    """Files of one format, by split, and how each is read."""

    kind: str
    files: Mapping[str, list[Path]]
    blocks: Blocks
    tokenizer: Tokenizer | None = None  # if the files say which it was

    def tokens(self, split: str) -> Iterator[np.ndarray]:
        """The tokens of a split, in blocks of bounded size."""
        for path in self.files.get(split, []):
            try:
                yield from self.blocks(path, split)
            except OSError as error:
                raise ConfigError([f"data.path: cannot read {path}: {error}"]) from None


def find_import(root: Path) -> Import | None:
    """What `root` holds, if that is tokens and not text. Raises ConfigError if it is damaged."""
    try:
        return _find(root)
    except OSError as error:
        raise ConfigError([f"data.path: cannot read {root}: {error}"]) from None


def _find(root: Path) -> Import | None:
    named = root.is_file() and root.suffix in NO_TEXT
    if named:
        root = root.parent
    files = files_by_split(root) if root.is_dir() else {}
    if "train" not in files:
        if named or any(path.suffix in NO_TEXT for paths in files.values() for path in paths):
            raise ConfigError(
                [f"data.path: {root} has no file of tokens to train on; call it train.bin"]
            )
        return None
    suffix = files["train"][0].suffix
    files = {
        name: [path for path in paths if path.suffix == suffix] for name, paths in files.items()
    }
    if suffix in (".arrow", ".parquet") and not _has_tokens(files["train"][0]):
        return None
    if not files.get("val"):
        raise ConfigError(
            [f"data.path: {root} has {files['train'][0].name} to train on, but no val file"]
        )
    if suffix == ".pt":
        from model.data.slowrun_files import blocks

        return Import("slowrun", files, blocks)
    if suffix == ".bin":
        headed = {path: _magic(path) in LLM_C for paths in files.values() for path in paths}
        if any(headed.values()):
            return Import("llm.c", files, _llm_c)
        meta = root / VOCABULARY
        return Import("nanoGPT", files, _bare, read_meta(meta) if meta.exists() else None)
    return Import("hugging face", files, _columns)


def files_by_split(root: Path) -> dict[str, list[Path]]:
    """Files of a known suffix by the split that their name, or else their folder's, tells."""
    files: dict[str, list[Path]] = {}
    for path in sorted([*root.glob("*"), *root.glob("*/*")]):
        if path.suffix in SUFFIXES and path.is_file():
            named = SPLIT.search(path.name) or SPLIT.search(str(path.relative_to(root)))
            if named:
                name = SPLIT_NAMES.get(named[1], named[1])
                files.setdefault(name, []).append(path)
    return files


def _magic(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little")


def _bare(path: Path, split: str) -> Iterator[np.ndarray]:
    size = path.stat().st_size
    if size == 0 or size % 2:
        raise ConfigError(
            [
                f"data.path: {path} is damaged: {size:,} bytes are "
                f"{'no tokens' if size == 0 else 'no whole number of uint16 tokens'}"
            ]
        )
    tokens = np.memmap(path, dtype="<u2", mode="r")
    head = tokens[: 1 << 16]
    if len(head) > 3 and not head[1::2].any():  # 0 is rarely every other token
        raise ConfigError(
            [
                f"data.path: {path} holds wider numbers than uint16 (every other one is 0); save "
                "it as nanoGPT does, with dtype=np.uint16"
            ]
        )
    yield from _in_blocks(tokens)


def _llm_c(path: Path, split: str) -> Iterator[np.ndarray]:
    size = path.stat().st_size
    if size < 4 * HEADER:
        raise ConfigError([f"data.path: {path} is damaged: {size:,} bytes hold no llm.c header"])
    magic, version, count = (int(n) for n in np.fromfile(path, dtype="<i4", count=3))
    if magic not in LLM_C:
        raise ConfigError(
            [
                f"data.path: {path} begins with {magic}, not with llm.c's "
                f"{' or '.join(map(str, LLM_C))}, as other shards beside it do"
            ]
        )
    expected, dtype = LLM_C[magic]
    if version != expected:
        raise ConfigError([f"data.path: {path} has version {version}, expected {expected}"])
    held = (size - 4 * HEADER) / dtype.itemsize
    if count < 1 or held != count:
        raise ConfigError(
            [
                f"data.path: the header of {path} promises {count:,} tokens, but the file holds "
                f"{held:,.10g}; download it again"
            ]
        )
    yield from _in_blocks(np.memmap(path, dtype=dtype, mode="r", offset=4 * HEADER))


def _in_blocks(tokens: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(tokens), BLOCK):
        yield tokens[begin : begin + BLOCK]


class _OnlyPlain(pickle.Unpickler):
    """Reads dictionaries, numbers and text; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would import {module}.{name}")


def read_meta(path: Path) -> Tokenizer:
    """The characters of nanoGPT's meta.pkl, without running what a pickle may hold."""
    try:
        if path.stat().st_size > META_LIMIT:
            raise ValueError("it is far too large")
        meta = _OnlyPlain(io.BytesIO(path.read_bytes())).load()
        size, text_of = meta["vocab_size"], meta["itos"]
        characters = [text_of[token] for token in range(size)]
        if not all(isinstance(c, str) and c for c in characters):
            raise ValueError("itos does not give text")
    except Exception as error:  # damaged pickles raise whatever they like
        raise ConfigError(
            [
                f"data.path: {path} is no vocabulary as nanoGPT writes it ({error}); remove it and "
                "name the tokenizer in data.tokenizer"
            ]
        ) from None
    return of_list(characters)


def _has_tokens(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path) if path.suffix == ".parquet" else _arrow(path).schema
    except (pa.ArrowException, OSError):
        return path.suffix == ".arrow"  # no text file has that name: what is wrong comes later
    return COLUMN in schema.names


def _arrow(path: Path) -> Any:
    """Reader of an Arrow file or stream; datasets writes streams."""
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return pa.RecordBatchReader.from_batches(
            reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        )


def _columns(path: Path, split: str) -> Iterator[np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
            schema, batches = file.schema_arrow, file.iter_batches(256, columns=[COLUMN])
        else:
            batches = _arrow(path)
            schema = batches.schema
        if COLUMN not in schema.names:
            raise ConfigError([f"data.path: {path} has no column {COLUMN}"])
        kind = schema.field(COLUMN).type
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        listed = listed or pa.types.is_fixed_size_list(kind)
        if not (listed and pa.types.is_integer(kind.value_type)):
            raise ConfigError(
                [f"data.path: column {COLUMN} of {path} holds {kind}, not lists of whole numbers"]
            )
        for batch in batches:
            tokens = batch.column(COLUMN).flatten()
            if tokens.null_count:
                raise ConfigError([f"data.path: column {COLUMN} of {path} has missing tokens"])
            yield tokens.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError([f"data.path: {path} is damaged, perhaps cut short: {error}"]) from None
