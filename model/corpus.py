"""Documents: from Python's own standard library, text files, or a Parquet file."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from model.setting import ConfigError

LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}


def documents(path: str) -> Iterator[str]:
    """Every document of the corpus at `path`; the embedded corpus if `path` is empty.

    `path` must exist. A text file is one document, a directory one per text file, a Parquet file
    one per row of its `text` column. Raises ConfigError if there is nothing readable there.
    """
    if not path:
        yield from _text_files(Path(sysconfig.get_path("stdlib")), ".py")
        return
    source = Path(path).expanduser()
    if source.is_dir():
        yield from _text_files(source, "")
    elif _is_parquet(source):
        yield from _parquet(source)
    else:
        yield _read(source)


def _text_files(root: Path, suffix: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT and not f.startswith("."))
        for name in sorted(names):
            if name.endswith(suffix) and not name.startswith("."):
                yield _read(Path(folder) / name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"data.path: {path} is not UTF-8 text (byte {error.start}); convert or remove it"]
        ) from None
    except OSError as error:
        raise ConfigError([f"data.path: cannot read {path}: {error.strerror}"]) from None


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError([f"data.path: {path} is a damaged Parquet file: {error}"]) from None
    columns = file.schema_arrow.names
    if "text" not in columns:
        raise ConfigError(
            [f"data.path: {path} has no column text, only {', '.join(columns)}; rename one"]
        )
    kind = file.schema_arrow.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ConfigError([f"data.path: column text of {path} holds {kind}, not text"])
    try:
        for batch in file.iter_batches(columns=["text"]):
            yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError([f"data.path: {path} is a damaged Parquet file: {error}"]) from None
