"""Documents: from Python's own standard library, text files, or Parquet files here or elsewhere.

A document comes in pieces, so that a file larger than memory can be read. Text is cut only where
every tokenizer cuts anyway, so that tokens do not depend on it.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from model.config import ConfigError, DataConfig

# Folders of the embedded corpus that are not Python's own text, or not there on every machine
LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
PIECE = 1 << 18  # characters of a piece, about
# Between one line end, which follows text, and a letter or digit: no encoding's pattern joins them.
# (A run of line ends is another matter: what follows decides how GPT-2 groups it.)
CUT = re.compile(r"(?<=\S\n)(?=[^\W_])")


class Piece(NamedTuple):
    """A stretch of one document."""

    text: str
    begins: bool  # whether a document begins with it


def is_remote(path: str) -> bool:
    """Whether `path` is a URI."""
    return "://" in path


def pieces(data: DataConfig) -> Iterator[Piece]:
    """Every document of the corpus at `data.path`; the embedded corpus if that is empty.

    A text file is one document, a directory one per text file, a Parquet file one per row of
    `data.column`. Hidden files and links to directories are left out. Raises ConfigError if
    something there cannot be read.
    """
    if not data.path:
        yield from _files(Path(sysconfig.get_path("stdlib")), data.column, ".py", LEFT_OUT)
    elif is_remote(data.path):
        from model.data.remote import shards

        for shard in shards(data.path)[0]:
            yield from _parquet(shard.name, shard.open, data.column)
    else:
        source = Path(data.path).expanduser()
        yield from (_files(source, data.column) if source.is_dir() else _file(source, data.column))


def text_bytes(data: DataConfig) -> int:
    """About how much text a local corpus holds, for a progress bar; 0 if that is not known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = Path(data.path).expanduser()
    if not data.path or is_remote(data.path) or not root.exists():
        return 0
    size = 0
    for path in root.rglob("*") if root.is_dir() else [root]:
        if path.suffix == ".parquet":
            try:
                metadata = pq.read_metadata(path)
                place = metadata.schema.names.index(data.column)
            except (pa.ArrowException, OSError, ValueError):
                return 0  # what is wrong is told when it is read
            groups = (metadata.row_group(n).column(place) for n in range(metadata.num_row_groups))
            size += sum(group.total_uncompressed_size for group in groups)
        elif path.is_file():
            size += path.stat().st_size
    return size


def _files(
    root: Path, column: str, suffix: str = "", left_out: Collection[str] = ()
) -> Iterator[Piece]:
    def refuse(error: OSError) -> None:
        raise ConfigError([f"data.path: cannot read {error.filename}: {error.strerror}"])

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(f for f in folders if f not in left_out and not f.startswith("."))
        for name in sorted(names):
            if name.endswith(suffix) and not name.startswith("."):
                yield from _file(Path(folder) / name, column)


def _file(path: Path, column: str) -> Iterator[Piece]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for its writer
            raise ConfigError([f"data.path: {path} is neither a file nor a directory; remove it"])
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            yield from _parquet(str(path), lambda: str(path), column)
        else:
            yield from _text(path)
    except OSError as error:
        raise ConfigError([f"data.path: cannot read {path}: {error.strerror or error}"]) from None


def _text(path: Path) -> Iterator[Piece]:
    """A text file in pieces; line ends of other systems become newlines."""
    begins, rest = True, ""
    try:
        with path.open(encoding="utf-8") as file:
            while block := file.read(PIECE):
                searched = max(0, len(rest) - 1)  # nothing there
                rest += block
                cuts = [match.start() for match in CUT.finditer(rest, searched)]
                if cuts and len(rest) >= PIECE:
                    yield Piece(rest[: cuts[-1]], begins)
                    rest, begins = rest[cuts[-1] :], False
    except UnicodeDecodeError:
        raise ConfigError(
            [
                f"data.path: {path} is not UTF-8 text (byte {_first_bad_byte(path)}); "
                "convert or remove it"
            ]
        ) from None
    yield Piece(rest, begins)


def _first_bad_byte(path: Path) -> int:
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(PIECE):
            pending = len(decoder.getstate()[0])  # bytes of a character cut by the last block
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return done - pending + error.start
            done += len(block)
    return done


def _parquet(name: str, open_file: Any, column: str) -> Iterator[Piece]:
    """Rows of one Parquet file, a few at a time: neither it nor a row group is held whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(open_file(), pre_buffer=False, buffer_size=PIECE) as file:
            _check_column(name, file.schema_arrow, column)
            for batch in file.iter_batches(columns=[column], batch_size=64, use_threads=False):
                for text in batch.column(0).to_pylist():
                    if text is not None:
                        yield Piece(text, True)
    except UnicodeDecodeError:
        raise ConfigError(
            [f"data.path: column {column} of {name} is not UTF-8 text; convert it"]
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            [f"data.path: {name} is a damaged Parquet file, perhaps cut short: {error}"]
        ) from None


def _check_column(name: str, schema: Any, column: str) -> None:
    import pyarrow as pa

    if column not in schema.names:
        raise ConfigError(
            [
                f"data.path: {name} has no column {column}, only {', '.join(schema.names)}; "
                "choose one with data.column"
            ]
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ConfigError([f"data.path: column {column} of {name} holds {kind}, not text"])
